"""Random kills of many tasks at once: ``python tests/e2e/chaos.py --help``.

Everything follows from the seed, which is printed, but for how long Airflow takes for each step. In the end nothing
must be left: no operation of a dead task, no live task without its operation, no second operation beside a live one.
A leak is excused only by evidence that Airflow calls no hook there; the exit status is 0 only if all are.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from airflow_lro_provider.demo.local_airflow import LocalAirflowError
from tests.e2e.bed.bed import Bed, BedError
from tests.e2e.bed.chaos_judge import NEVER_RAN, STALLED
from tests.e2e.bed.chaos_life import Lived
from tests.e2e.bed.chaos_plan import TRIGGERERS, Upheaval, life, upheavals
from tests.e2e.bed.deaths import replace_scheduler

Echo = Callable[[str], object]


NOBODYS = ("", NEVER_RAN, STALLED)
TWO_SWEEPS = 150.0
"""Until two more sweeps have ended, in seconds: one is begun every minute."""


class Chaos:
    """Many lives, and upheavals among the parts of Airflow meanwhile.

    :param kills: how many it takes; lives are begun until then.
    :param until: of ``time.monotonic()``: no life is begun after this.
    :param patience: for how long after that they may come to their ends, in seconds.
    """

    def __init__(
        self, bed: Bed, seed: int, *, kills: int, until: float, patience: float = math.inf, echo: Echo
    ) -> None:
        self.bed, self.seed, self.kills_wanted, self.until = bed, seed, kills, until
        self.last = until + patience
        self.lives: list[Lived] = []
        self.down: list[float] = []
        self.outages: list[tuple[float, float]] = []
        self.upheavals: Counter[str] = Counter()
        self.broken: list[str] = []
        self._echo = echo
        self._lock = threading.Lock()
        self._quiet = threading.Event()

    def kills(self) -> Counter[str]:
        """How many of each kind there were."""
        found = Counter(blow.kind for one in self.lives for blow in one.struck if blow.kind != "revived")
        names = {kind: f"triggerer {kind}" for kind in TRIGGERERS}
        return found + Counter({names.get(kind, kind): number for kind, number in self.upheavals.items()})

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
                lived = Lived(self.bed, plan, f"chaos-{plan.number}-{secrets.token_hex(3)}", until=self.last)
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
            self.upheavals[one.kind] += 1
            try:
                self._upset(one)
            except LocalAirflowError as error:
                self.broken.append(f"{one.kind} {one.index}: {error}"[:500])

    def _upset(self, one: Upheaval) -> None:
        airflow = self.bed.airflow
        if one.kind == "scheduler":
            replace_scheduler(self.bed)
        elif one.kind == "api-server":
            begin = time.time()
            airflow.kill("api-server")
            self._quiet.wait(one.seconds)
            airflow.restart("api-server")
            self.outages.append((begin, time.time()))
        else:
            self.down.append(time.time())
            if one.kind == "stall":
                self.bed.stall(one.index)
                self._quiet.wait(one.seconds)
                self.bed.stall(one.index, signal.SIGCONT)
                return
            if one.kind == "kill":
                airflow.kill("triggerer", one.index)
            airflow.restart("triggerer", one.index)

    def report(self) -> dict[str, Any]:
        """What came of it, as plain JSON: nothing of this machine or this day is in it."""
        found = [(one, finding) for one in self.lives for finding in one.findings(self.down, self.outages)]
        defects = [(one, finding) for one, finding in found if not finding.why]
        # The sweep ends also what no hook hears of, but for what was never a task's own.
        unswept = [(one, finding) for one, finding in found if finding.what == "leak" and finding.why not in NOBODYS]
        excused: dict[str, Counter[str]] = {}
        for _, finding in found:
            if finding.why:
                excused.setdefault(finding.what, Counter())[finding.why] += 1
        for one, finding in [*defects, *(unswept if self.bed.sweeps else [])]:
            self._echo(one.account(finding))
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
