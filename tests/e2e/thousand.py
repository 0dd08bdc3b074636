"""A thousand mapped sensors on a real Airflow with two triggerers: ``python tests/e2e/thousand.py --help``.

They wait deferred, each for an operation of its own, and run to their end. Then a second run of the same: half of
its tasks are killed (marked failed) while they wait. Their operations must be cancelled, each once; nobody else's.

With ``--celery`` there are two of everything, and while tasks are killed one of each is killed, too, and replaced: a
triggerer, a worker, a scheduler, an API server. Whom no hook hears of then, the sweep does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_lro_provider.airflow_compat import local
from airflow_lro_provider.demo.local_airflow import LocalAirflowError
from tests.e2e.bed.bed import Bed, BedError
from tests.e2e.bed.trial import PARENT
from tools.airflow_environment import run_there

MAPPED = "bed_mapped"
MINUTES = 45
"""So long one step may take."""


class Thousand:
    """One run after the other.

    :param count: how many mapped tasks.
    :param rest: how long all of them just wait at least, in seconds, while requests are counted.
    :param breaks: whether one of each component is killed and replaced while tasks are killed.
    """

    def __init__(
        self, bed: Bed, count: int, rest: float, echo: Callable[[str], object], *, breaks: bool = False
    ) -> None:
        self.breaks = breaks
        self.bed, self.airflow, self.store = bed, bed.airflow, bed.store
        self.count, self.rest, self.echo = count, rest, echo

    def run(self, kill: int) -> dict[str, Any]:
        """One run.

        :param kill: how many of its tasks are killed while they wait.
        """
        run_id = f"kill-{kill}"
        names = [f"{PARENT}/{run_id}-{index}" for index in range(self.count)]
        for name in names:
            self.bed.emulator.create("datafusion", name, duration=None)
        began = time.time()
        self.airflow.trigger(MAPPED, run_id=run_id, conf={"operations": names})
        self._until(lambda: self._states(run_id)["deferred"] == self.count, f"{run_id}: all wait")
        self.echo(f"{run_id}: {self.count} wait after {time.time() - began:.0f} s")
        before, began = Counter(self.store.requests_of), time.monotonic()
        time.sleep(self.rest)
        # On a busy machine the first wait may be so old by now that it is polled less often than they rest.
        self.bed.until(lambda: self.store.requests_of - before, f"{run_id}: they are polled", 90)
        requests, rested = self.store.requests_of - before, time.monotonic() - began
        self.echo(f"{run_id}: requests in {rested:.0f} s: {dict(requests)}")
        killed, alive = names[:kill], names[kill:]
        cancelled_within = self._kill(run_id, killed)
        for name in alive:
            self.store.finish("datafusion", name)
        began = time.time()
        self._until(lambda: not self._states(run_id)["deferred"] and self._is_over(run_id), f"{run_id}: all are over")
        self.echo(f"{run_id}: all are over after {time.time() - began:.0f} s: {dict(self._states(run_id))}")
        cancels = self.store.cancels
        return {
            "tasks": self.count,
            "killed": kill,
            "requests_per_operation_and_minute": sum(requests.values()) / self.count / rested * 60,
            "requests": dict(requests),
            "cancelled_within": cancelled_within,
            "leaks": sum(not cancels[name] for name in killed),
            "cancelled_twice": sum(len(cancels[name]) > 1 for name in killed),
            "false_kills": sum(bool(cancels[name]) for name in alive),
            "states": dict(self._states(run_id)),
        }

    def _kill(self, run_id: str, killed: Sequence[str]) -> float | None:
        """Mark the tasks of these failed; gives how long after the last of them all were cancelled, in seconds."""
        if not killed:
            return None
        with ThreadPoolExecutor(5) as pool:
            breaking = pool.submit(self._break) if self.breaks else None
            list(pool.map(lambda index: self._mark_failed(run_id, index), range(len(killed))))
            if breaking:
                breaking.result()
        began = time.time()
        with contextlib.suppress(BedError):
            self.bed.until(lambda: all(self.store.cancels[name] for name in killed), "all are cancelled", 180)
        last = max((self.store.cancels[name][0] for name in killed if self.store.cancels[name]), default=began)
        return round(max(last - began, 0.0), 1)

    def _break(self) -> None:
        for component in ("triggerer", "worker", "scheduler", local.WEB):
            self.airflow.kill(component, 1)
            self.airflow.restart(component, 1, timeout=180)
            self.echo(f"the second {component} was killed, and there is a new one")

    def _mark_failed(self, run_id: str, index: int) -> None:
        for attempt in range(5):
            try:
                self.airflow.set_task_state(MAPPED, run_id, "it", "failed", map_index=index)
            except LocalAirflowError:
                if attempt == 4:
                    raise
                time.sleep(2.0)
            else:
                return

    def _until(self, question: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + MINUTES * 60
        while not question():
            if time.monotonic() > deadline:
                raise BedError(f"after {MINUTES} minutes still not: {what}")
            time.sleep(3.0)

    def _states(self, run_id: str) -> Counter[str]:
        with contextlib.suppress(LocalAirflowError):
            found = self.airflow.task_instances(MAPPED, run_id)
            return Counter(str(one["state"]) for one in found if one["map_index"] >= 0)
        return Counter({"deferred": -1})

    def _is_over(self, run_id: str) -> bool:
        states = self._states(run_id)
        return states["success"] + states["failed"] == self.count


def is_good(report: dict[str, Any]) -> bool:
    """Whether every operation of a killed task was cancelled once, and every other task came to its end."""
    defects = report["leaks"] or report["false_kills"] or report["cancelled_twice"]
    return not defects and report["states"].get("success", 0) == report["tasks"] - report["killed"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="A thousand mapped sensors; half of them killed.")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="how many mapped tasks (1000)")
    parser.add_argument("--kill", type=int, metavar="N", help="one run only, with N killed (two: with none, with half)")
    parser.add_argument("--rest", type=float, default=60.0, metavar="SECONDS", help="how long all just wait (60)")
    parser.add_argument("--slots", type=int, default=24, metavar="N", help="how many processes side by side (24)")
    parser.add_argument("--airflow", metavar="VERSION", help="on this Airflow, in an environment that is made for it")
    parser.add_argument("--celery", action="store_true", help="two of everything, of which one is killed each; a sweep")
    parser.add_argument("--database", choices=["auto", "postgres", "sqlite"], default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep Airflow's database and logs there")
    given = parser.parse_args(arguments)
    if given.airflow:
        return run_there(given.airflow, __file__, arguments or sys.argv[1:])

    def echo(line: str) -> None:
        print(line, flush=True)

    reports = []
    options = {"slots": given.slots, "home": given.keep, "celery": given.celery, "sweep": given.celery}
    options["task_silence"] = 300  # two cores are busy for half an hour
    with Bed.started(given.database, **options) as bed:
        thousand = Thousand(bed, given.count, given.rest, echo, breaks=given.celery)
        for kill in (0, given.count // 2) if given.kill is None else (given.kill,):
            report = thousand.run(kill)
            reports.append(report)
            echo(
                f"{report['tasks']} tasks, {report['killed']} killed: {report['leaks']} leaks,"
                f" {report['false_kills']} false kills, {report['cancelled_twice']} cancelled twice;"
                f" {report['requests_per_operation_and_minute']:.3f} requests per operation and minute;"
                f" ended: {report['states']}"
            )
    if given.json:
        given.json.write_text(json.dumps(reports, indent=2) + "\n", "utf-8")
    return 0 if all(map(is_good, reports)) else 1


if __name__ == "__main__":
    sys.exit(main())
