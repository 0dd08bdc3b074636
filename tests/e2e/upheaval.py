"""The sweep among the living: ``python tests/e2e/upheaval.py --help``.

A hundred mapped tasks and two dozen others wait, of all shapes. One after the other, every part of Airflow is
restarted, tasks are killed and go on with their operations, are cleared and start afresh; and after each of it there
is a whole sweep. No operation of a living task may be cancelled. Others fall to SIGKILL, and in the end a third of
the mapped ones while no triggerer is up: their operations must be, within two sweeps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_lro_provider.demo.local_airflow import LocalAirflowError
from tests.e2e.bed.bed import Bed, BedError
from tests.e2e.bed.judge import FINAL
from tests.e2e.bed.trial import PARENT, TWO_SWEEPS

MAPPED = "bed_mapped"
SWEEP = "bed_sweep"
STARTING = ("started", "running_retries")
WAITING = ("poke", "poke_retries", "deferred")
EACH = 5
SCRIPT = {"duration": None}


class Upheaval:
    """The tasks, and what is done to them.

    :param mapped: how many mapped tasks.
    """

    def __init__(self, bed: Bed, mapped: int, echo: Callable[[str], object]) -> None:
        self.bed, self.airflow, self.echo = bed, bed.airflow, echo
        self.names = [f"{PARENT}/mapped-{index}" for index in range(mapped)]
        self.keys = {f"{shape}-{number}": f"bed_{shape}" for shape in STARTING + WAITING for number in range(EACH)}
        self.rounds: list[dict[str, Any]] = []
        self.checked = self.false_kills = 0
        self._states: dict[int, str] = {}
        self._asked = 0.0

    def run(self) -> dict[str, Any]:
        """All of it.

        :return: what was seen, as plain JSON.
        """
        self._begin()
        self._round("nothing at all", lambda: None)
        self._round("api-server restarted", lambda: self.airflow.restart("api-server"))
        for index in range(self.bed.triggerers):
            self._round(f"triggerer {index} restarted", lambda index=index: self.airflow.restart("triggerer", index))
        self._round("SIGKILL of tasks that have a retry", self._kill_those_with_a_retry)
        self._round("tasks cleared that start afresh", self._clear)
        # LocalExecutor's tasks are the scheduler's own processes.
        self._end_those_with_a_retry()
        dead = self._kill_those_without()
        self._round("scheduler restarted", lambda: self.airflow.restart("scheduler"))
        dead += self._kill_a_third()
        begin = time.time()
        left = self._wait_for_cancels(dead)
        self._round("a third of the mapped tasks killed while there was no triggerer", lambda: None)
        ended = self._finish()
        return {
            "database": self.bed.database,
            "mapped": len(self.names),
            "others": len(self.keys),
            "rounds": self.rounds,
            "living_operations_checked": self.checked,
            "false_kills": self.false_kills,
            "killed_without_a_hook": len(dead),
            "left": len(left),
            "cancelled_within": None if left else round(max(0.0, self._last_cancel(dead) - begin), 1),
            "ended_well": ended,
        }

    # Steps

    def _begin(self) -> None:
        for name in self.names:
            self.bed.emulator.create("datafusion", name, **SCRIPT)
        self.airflow.trigger(MAPPED, run_id=MAPPED, conf={"operations": self.names})
        for key, dag_id in self.keys.items():
            name = f"{PARENT}/{key}"
            if dag_id.removeprefix("bed_") not in STARTING:
                self.bed.emulator.create("datafusion", name, **SCRIPT)
            self.bed.start(dag_id, key, operation=name, script=SCRIPT)
        try:
            self.bed.until(lambda: self._deferred() == len(self.names), "all mapped tasks wait", 300)
        except BedError:
            self.echo(f"the mapped tasks: {self._counts()}")
            raise
        self.bed.until(lambda: all(self._waits(key) for key in self.keys), "all others wait", 180)

    def _round(self, what: str, act: Callable[[], object]) -> None:
        """Do it, let a whole sweep go by, and look whether everybody's operation is there."""
        act()
        report = self._a_whole_sweep()
        living = [name for key in self.keys for name in self._living(key)]
        living += [name for name in self.names if self._is_waiting(name)]
        hurt = [name for name in living if self.bed.store.cancels[name]]
        self.checked += len(living)
        self.false_kills += len(hurt)
        counts = {word: number for word, number in report.items() if word != "operations"}
        self.rounds.append({"what": what, "living": len(living), "false_kills": len(hurt), "sweep": counts})
        self.echo(f"{what}: {len(living)} living operations, {len(hurt)} cancelled; sweep: {counts}")
        for name in hurt:
            self.echo(f"FALSE KILL of {name}")

    def _kill_those_with_a_retry(self) -> None:
        for key, dag_id in self.keys.items():
            if dag_id.endswith("_retries"):
                self.bed.send(dag_id, key, "task", signal.SIGKILL)

    def _clear(self) -> None:
        for key, dag_id in self.keys.items():
            if dag_id == "bed_started":
                self.airflow.clear(dag_id, key, "it")

    def _end_those_with_a_retry(self) -> None:
        ending = [key for key, dag_id in self.keys.items() if dag_id.endswith("_retries")]
        for key in ending:
            self.bed.finish(key)
        self.bed.until(lambda: all(self.bed.watch.task(key).state == "success" for key in ending), "they end well", 120)
        for key in ending:
            del self.keys[key]

    def _kill_those_without(self) -> list[str]:
        dying = [key for key, dag_id in self.keys.items() if dag_id == "bed_poke"]
        for key in dying:
            self.bed.send(self.keys[key], key, "task", signal.SIGKILL)
        self.bed.until(lambda: all(self.bed.watch.task(key).state in FINAL for key in dying), "they fail", 120)
        for key in dying:
            del self.keys[key]
        return [f"{PARENT}/{key}" for key in dying]

    def _kill_a_third(self) -> list[str]:
        third = self.names[: len(self.names) // 3]
        for index in range(self.bed.triggerers):
            self.airflow.kill("triggerer", index)
        for index in range(len(third)):
            self.airflow.set_task_state(MAPPED, MAPPED, "it", "failed", map_index=index)
        for index in range(self.bed.triggerers):
            self.airflow.restart("triggerer", index)
        return third

    def _wait_for_cancels(self, dead: Sequence[str]) -> list[str]:
        with contextlib.suppress(BedError):
            self.bed.until(lambda: all(self.bed.store.cancels[name] for name in dead), "cancelled", TWO_SWEEPS)
        return [name for name in dead if not self.bed.store.cancels[name]]

    def _last_cancel(self, dead: Sequence[str]) -> float:
        return max(self.bed.store.cancels[name][0] for name in dead)

    def _finish(self) -> bool:
        """Whether every living task ends well."""
        for name in self.names:
            self.bed.store.finish("datafusion", name)
        for key in self.keys:
            self.bed.finish(key)
        try:
            self.bed.until(lambda: all(self.bed.watch.task(key).state == "success" for key in self.keys), "end", 180)
            self.bed.until(lambda: self._counts().get("deferred", 0) == 0 and self._quiet(), "the mapped end", 240)
        except BedError as error:
            self.echo(str(error))
            return False
        return self._counts().get("success", 0) == len(self.names) - len(self.names) // 3

    # Looking

    def _counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for task in self._mapped():
            found[str(task["state"])] = found.get(str(task["state"]), 0) + 1
        return found

    def _mapped(self) -> list[dict[str, Any]]:
        with contextlib.suppress(LocalAirflowError):
            return [one for one in self.airflow.task_instances(MAPPED, MAPPED) if one["map_index"] >= 0]
        return []

    def _deferred(self) -> int:
        return self._counts().get("deferred", 0)

    def _quiet(self) -> bool:
        return all(state in FINAL for state in self._counts())

    def _is_waiting(self, name: str) -> bool:
        if time.time() - self._asked > 5:
            self._states = {one["map_index"]: one["state"] for one in self._mapped()}
            self._asked = time.time()
        return self._states.get(self.names.index(name)) in ("deferred", "running", "queued", "scheduled")

    def _living(self, key: str) -> list[str]:
        """The newest operation of a task that lives."""
        operations = self.bed.seen(key)
        return [operations[-1].name] if operations and self.bed.watch.task(key).state not in FINAL else []

    def _waits(self, key: str) -> bool:
        operations = self.bed.seen(key)
        return bool(operations) and self.bed.looks(operations[-1].name) >= 3

    def _a_whole_sweep(self) -> dict[str, Any]:
        """Wait for a sweep that has begun after now, and for its report."""
        begin = time.time()

        def swept() -> Any:
            with contextlib.suppress(LocalAirflowError):
                runs = self.airflow.api("GET", f"dags/{SWEEP}/dagRuns", params={"order_by": "-start_date", "limit": 5})
                for run in runs["dag_runs"]:
                    started = _seconds(run["start_date"])
                    if run["state"] == "success" and started is not None and started > begin:
                        return self.airflow.xcom(SWEEP, run["dag_run_id"], "sweep")
            return None

        report: dict[str, Any] = self.bed.until(swept, "a sweep", 200)
        return report


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Sweep while every part of Airflow is restarted.")
    parser.add_argument("--mapped", type=int, default=100, metavar="N", help="how many mapped tasks (100)")
    parser.add_argument("--database", choices=["auto", "postgres", "sqlite"], default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep Airflow's database and logs there")
    given = parser.parse_args(arguments)

    def echo(line: str) -> None:
        print(line, flush=True)

    with Bed.started(given.database, slots=30, home=given.keep, sweep=True) as bed:
        report = Upheaval(bed, given.mapped, echo).run()
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    echo(
        f"{report['living_operations_checked']} looks at operations of living tasks in {len(report['rounds'])} rounds:"
        f" {report['false_kills']} false kills. {report['killed_without_a_hook']} killed without a hook:"
        f" {report['left']} left, the last one cancelled after {report['cancelled_within']} s."
        f" The others ended {'well' if report['ended_well'] else 'badly'}."
    )
    return 0 if not report["false_kills"] and not report["left"] and report["ended_well"] else 1


if __name__ == "__main__":
    sys.exit(main())
