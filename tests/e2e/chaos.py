"""Random kills of many tasks at once: ``python tests/e2e/chaos.py --help``.

Everything follows from the seed, which is printed, but for how long Airflow takes for each step. In the end nothing
must be left: no operation of a dead task, no live task without its operation, no second operation beside a live one.
A leak is excused only by evidence that Airflow calls no hook there; the exit status is 0 only if all are.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bed import Bed, BedError, Task, operation_of
from chaos_judge import NEVER_RAN, Account, Finding, Struck, settle
from chaos_plan import AIRFLOW, Life, life, upheavals
from judge import FINAL, Seen

from airflow_lro_provider.demo.local_airflow import LocalAirflowError

HOOKS = 30.0
"""How long after the last kill a cancel may still come, in seconds."""
LONGEST = 150.0
"""How long a task may take to its next situation, in seconds."""
SIGNALS = {
    "sigterm": ("task", signal.SIGTERM),
    "sigkill": ("task", signal.SIGKILL),
    "sigterm-supervisor": ("supervisor", signal.SIGTERM),
    "sigkill-supervisor": ("supervisor", signal.SIGKILL),
}
Echo = Callable[[str], object]


@dataclass
class Lived:
    """A life that is being led: its task, and what has befallen it."""

    bed: Bed
    life: Life
    key: str
    struck: list[Struck] = field(default_factory=list)
    troubled: set[str] = field(default_factory=set)

    @property
    def dag_id(self) -> str:
        """Its Dag."""
        return "_".join(filter(None, ["bed", self.life.shape, self.life.variant]))

    @property
    def task(self) -> Task:
        """Airflow's view of it."""
        return self.bed.watch.task(self.key)

    @property
    def operations(self) -> list[Seen]:
        """The server's view of its operations, oldest first."""
        return self.bed.seen(self.key)

    def lead(self) -> None:
        """From its start to its last blow, and to an end."""
        name = operation_of(self.key)
        if not self.life.starts:
            self.bed.emulator.create("datafusion", name, **self.life.script)
        self.bed.start(self.dag_id, self.key, operation=name, script=self.life.script)
        for number, blow in enumerate(self.life.blows):
            if number and not self._goes_on():
                break
            if not self._is_there(early=blow.early):
                continue
            self._trouble()
            self.bed.stopping.wait(blow.delay)
            with contextlib.suppress(BedError, LocalAirflowError):  # it was gone already
                self._strike(blow.kind)
        self._end()

    def findings(self, down: Sequence[float]) -> list[Finding]:
        """What is not as it should be, by now."""
        struck = list(self.struck)
        if self.bed.spoiled(self.key):
            struck += [
                Struck("airflow", at, "queued", at, True, at) for at, state, _ in self.task.states if state == "failed"
            ]
        unseen = not self.life.starts and not self.bed.looks(operation_of(self.key))
        return settle(Account(self.operations, self.task.state, struck, down, unseen))

    # Steps

    def _goes_on(self) -> bool:
        """After a blow: whether there is, or will be, another try. A dead task that can start afresh is cleared."""
        before = self.struck[-1].at if self.struck else 0.0
        self._sees(lambda: self.bed.watch.looked_at > before + 1.0, 30)
        rests = self._sees(lambda: self.task.state in FINAL and time.time() - self.task.since > 1.5, 8)
        if not rests:
            return True
        if not self.life.starts:
            return False
        with contextlib.suppress(LocalAirflowError):
            self._strike("revived")
        self._sees(lambda: self.task.state not in FINAL, 30)
        return True

    def _is_there(self, *, early: bool) -> bool:
        """Wait until the task can be killed."""

        def ready() -> bool:
            if self.task.state in FINAL and time.time() - self.task.since > 3:
                return True
            if self.task.state != ("deferred" if self.life.shape in ("deferred", "started") else "running"):
                return False
            operations = self.operations
            waits = operations and operations[-1].is_left and self.bed.looks(operations[-1].name) - looks >= 3
            return early or bool(waits)

        looks = self.bed.looks(self.operations[-1].name) if self.operations else 0
        return self._sees(ready, LONGEST) and self.task.state not in FINAL

    def _trouble(self) -> None:
        """Let the server be difficult about the newest operation."""
        trouble, operations = self.life.trouble, self.operations
        verb, _, kind = trouble.partition("-")
        if not operations or not kind or kind == "slow" or operations[-1].name in self.troubled:
            return
        self.troubled.add(operations[-1].name)
        times = 3 if verb == "get" else 1
        self.bed.emulator.fail(kind, verb=verb, name=operations[-1].name, times=times, after=kind == "reset")

    def _strike(self, kind: str) -> None:
        task, airflow = self.task, self.bed.airflow
        # As it is now: the bed's own watch may be half a second late.
        task.note(airflow.task_instance(self.dag_id, self.key, "it"))
        newest = self.operations[-1:]
        looked = self.bed.looked_at(newest[0].name) if newest else 0.0
        blow = Struck(kind, time.time(), task.state, task.since, task.may_retry, looked)
        if kind != "revived" and task.state in FINAL:
            return
        if kind in ("clear", "revived"):
            airflow.clear(self.dag_id, self.key, ["it"])
        elif kind in ("failed", "success"):
            airflow.set_task_state(self.dag_id, self.key, "it", kind)
        elif kind == "run-failed":
            airflow.set_run_state(self.dag_id, self.key, "failed")
        elif kind == "error":
            if not self.operations:
                return
            self.bed.emulator.fail(403, verb="get", name=self.operations[-1].name)
        elif kind in SIGNALS:
            self.bed.send(self.dag_id, self.key, *SIGNALS[kind])
        self.struck.append(blow)

    def _end(self) -> None:
        """Whatever lives still comes to its natural end."""
        last = self.struck[-1].at if self.struck else 0.0
        self._sees(lambda: self.bed.watch.looked_at > last + 2.0, 30)
        begin = time.monotonic()
        while time.monotonic() - begin < LONGEST and not self.bed.stopping.is_set():
            if self._sees(lambda: self.task.state in FINAL and time.time() - self.task.since > 2, 6):
                break
            newest = self.operations[-1:]
            if newest and newest[0].is_left and self._is_polled():
                self.bed.finish(self.key)
        self._sees(lambda: not any(one.is_left for one in self.operations), HOOKS)

    def _is_polled(self) -> bool:
        name = self.operations[-1].name
        seen = self.bed.looks(name)
        return self._sees(lambda: self.bed.looks(name) > seen + 2 or self.task.state in FINAL, 15)

    def _sees(self, question: Callable[[], Any], timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while not question():
            if time.monotonic() > deadline or self.bed.stopping.is_set():
                return False
            time.sleep(0.2)
        return True


NOBODYS = ("", NEVER_RAN)
TWO_SWEEPS = 150.0
"""Until two more sweeps have ended, in seconds: one is begun every minute."""


class Chaos:
    """Many lives, and upheavals among the triggerers meanwhile.

    :param kills: how many it takes; lives are begun until then.
    :param until: of ``time.monotonic()``: no life is begun after this.
    """

    def __init__(self, bed: Bed, seed: int, *, kills: int, until: float, echo: Echo) -> None:
        self.bed, self.seed, self.kills_wanted, self.until = bed, seed, kills, until
        self.lives: list[Lived] = []
        self.down: list[float] = []
        self.upheavals: Counter[str] = Counter()
        self.broken: list[str] = []
        self._echo = echo
        self._lock = threading.Lock()
        self._quiet = threading.Event()

    def kills(self) -> Counter[str]:
        """How many of each kind there were."""
        found = Counter(blow.kind for one in self.lives for blow in one.struck if blow.kind != "revived")
        return found + Counter({f"triggerer {kind}": number for kind, number in self.upheavals.items()})

    def run(self, side_by_side: int) -> None:
        """Lead lives, so many at a time, until there are enough kills or it is too late."""
        disturber = threading.Thread(target=self._disturb, name="upheavals", daemon=True)
        disturber.start()
        try:
            with ThreadPoolExecutor(side_by_side) as pool:
                for worker in [pool.submit(self._work) for _ in range(side_by_side)]:
                    worker.result()
        except BaseException:
            self.bed.stopping.set()
            raise
        finally:
            self._quiet.set()
            disturber.join()

    def _work(self) -> None:
        while self.kills().total() < self.kills_wanted and time.monotonic() < self.until:
            with self._lock:
                plan = life(self.seed, len(self.lives))
                lived = Lived(self.bed, plan, f"chaos-{plan.number}-{secrets.token_hex(3)}")
                self.lives.append(lived)
            try:
                lived.lead()
            except (BedError, LocalAirflowError) as error:
                self.broken.append(f"life {plan.number}: {error}"[:500])
            if plan.number % 20 == 19:
                self._echo(f"{len(self.lives)} tasks, {self.kills().total()} kills")

    def _disturb(self) -> None:
        for one in upheavals(self.seed, self.bed.triggerers):
            if self._quiet.wait(one.pause):
                return
            assert one.kind in AIRFLOW
            self.down.append(time.time())
            self.upheavals[one.kind] += 1
            try:
                if one.kind == "stall":
                    self.bed.stall(one.index)
                    self._quiet.wait(one.seconds)
                    self.bed.stall(one.index, signal.SIGCONT)
                else:
                    if one.kind == "kill":
                        self.bed.airflow.kill("triggerer", one.index)
                    self.bed.airflow.restart("triggerer", one.index)
            except LocalAirflowError as error:
                self.broken.append(f"{one.kind} of triggerer {one.index}: {error}"[:500])

    def report(self) -> dict[str, Any]:
        """What came of it, as plain JSON: nothing of this machine or this day is in it."""
        found = [(one, finding) for one in self.lives for finding in one.findings(self.down)]
        defects = [(one, finding) for one, finding in found if not finding.why]
        # The sweep ends also what no hook hears of, but for what was never a task's own.
        unswept = [(one, finding) for one, finding in found if finding.what == "leak" and finding.why not in NOBODYS]
        excused: dict[str, Counter[str]] = {}
        for _, finding in found:
            if finding.why:
                excused.setdefault(finding.what, Counter())[finding.why] += 1
        for one, finding in [*defects, *(unswept if self.bed.sweeps else [])]:
            self._echo(_account(one, finding))
        kills = self.kills()
        return {
            "seed": self.seed,
            "database": self.bed.database,
            "tasks": len(self.lives),
            "tries": sum(one.task.tries for one in self.lives),
            "kills": kills.total(),
            "kills_by_kind": dict(sorted(kills.items())),
            "operations": sum(len(one.operations) for one in self.lives),
            "cancelled": sum(op.cancel_requested_at is not None for one in self.lives for op in one.operations),
            "leaks": sum(finding.what == "leak" for _, finding in defects),
            "false_kills": sum(finding.what == "false kill" for _, finding in defects),
            "duplicates": sum(finding.what == "duplicate" for _, finding in defects),
            "green": sum(finding.what == "green" for _, finding in defects),
            "unswept": len(unswept) if self.bed.sweeps else None,
            "without_a_hook": {what: dict(sorted(counts.items())) for what, counts in sorted(excused.items())},
            "failed_by_airflow_itself": sum(self.bed.spoiled(one.key) for one in self.lives),
            "broken": sorted(self.broken),
        }


def _account(lived: Lived, finding: Finding) -> str:
    begin = lived.task.states[0][0] if lived.task.states else 0.0
    blows = ", ".join(
        f"{blow.at - begin:+.1f} s {blow.kind} (it was {blow.state} for {blow.at - blow.since:.1f} s"
        f"{', retry left' if blow.may_retry else ''})"
        for blow in lived.struck
    )
    operations = "\n".join(
        f"  {one.name.rpartition('/')[2]}: {one.state}, started {one.created_at - begin:+.1f} s"
        + (f", cancel {one.cancel_requested_at - begin:+.1f} s" if one.cancel_requested_at else "")
        + (f", over {one.done_at - begin:+.1f} s" if one.done_at else "")
        for one in lived.operations
    )
    life = f"life {lived.life.number}, {lived.life.trouble or 'no trouble'}"
    return (
        f"{finding.what.upper()} of {finding.operation} ({life})\n"
        f"  log: {lived.bed.log_folder(lived.dag_id, lived.key)}\n"
        f"  kills: {blows}\n{operations}\n{lived.bed.story(lived.dag_id, lived.key)}"
    )


def in_words(report: dict[str, Any]) -> str:
    """The report, for a terminal."""
    lines = [
        f"{report['kills']} kills of {report['tasks']} tasks in {report['tries']} tries, seed {report['seed']}:"
        f" {report['leaks']} leaks, {report['false_kills']} false kills, {report['duplicates']} duplicates,"
        f" {report['green']} green by their own kill.",
        f"{report['operations']} operations, {report['cancelled']} of them cancelled.",
        "Kills: " + ", ".join(f"{kind} {number}" for kind, number in report["kills_by_kind"].items()),
    ]
    for what, counts in report["without_a_hook"].items():
        lines += [f"{what}, no hook: {number} ({why})" for why, number in counts.items()]
    lines += [f"Airflow itself has failed {report['failed_by_airflow_itself']} tasks.", *report["broken"]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Kill many tasks at random, and count what is left.")
    parser.add_argument("--minutes", type=float, default=25.0, metavar="N", help="begin no task after these (25)")
    parser.add_argument("--seed", type=int, help="a number; made up if not given")
    parser.add_argument("--kills", type=int, default=500, metavar="N", help="how many it takes (500)")
    parser.add_argument("--slots", type=int, default=20, metavar="N", help="how many tasks side by side (20)")
    parser.add_argument("--database", choices=["auto", "postgres", "sqlite"], default="auto")
    parser.add_argument(
        "--sweep", action="store_true", help="with the ledger and a sweep a minute: nothing may be left"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep Airflow's database and logs there")
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed

    def echo(line: str) -> None:
        print(line, flush=True)

    echo(f"Seed {seed}.")
    with Bed.started(given.database, slots=given.slots, home=given.keep, sweep=given.sweep) as bed:
        chaos = Chaos(bed, seed, kills=given.kills, until=time.monotonic() + given.minutes * 60, echo=echo)
        chaos.run(bed.slots)
        if given.sweep:
            echo("Two sweeps more.")
            bed.stopping.wait(TWO_SWEEPS)
        report = chaos.report()
    report["sweep"] = given.sweep
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    echo(in_words(report))
    if report["kills"] < given.kills:
        echo(f"Only {report['kills']} of {given.kills} kills in {given.minutes:g} minutes.")
        return 1
    if report["unswept"]:
        echo("The sweep has left some of them.")
        return 1
    return 1 if any(report[count] for count in ("leaks", "false_kills", "duplicates", "green")) else 0


if __name__ == "__main__":
    sys.exit(main())
