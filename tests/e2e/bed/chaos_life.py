"""One task's life in the chaos: what was planned for it is done to it, and noted."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from airflow_lro_provider.demo.local_airflow import LocalAirflowError
from tests.e2e.bed.bed import Bed, BedError
from tests.e2e.bed.chaos_judge import Account, Finding, Struck, settle
from tests.e2e.bed.chaos_plan import Life
from tests.e2e.bed.judge import FINAL, Seen
from tests.e2e.bed.store import operation_of
from tests.e2e.bed.watch import Task

__all__ = ["Lived"]

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


@dataclass
class Lived:
    """A life that is being led: its task, and what has befallen it.

    :param until: of ``time.monotonic()``: nothing is waited for after this.
    """

    bed: Bed
    life: Life
    key: str
    until: float = math.inf
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
        self._begin(name)
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

    def findings(self, down: Sequence[float], outages: Sequence[tuple[float, float]] = ()) -> list[Finding]:
        """What is not as it should be, by now."""
        struck = list(self.struck)
        if self.bed.spoiled(self.key):
            struck += [
                Struck("airflow", at, "queued", at, True, at) for at, state, _ in self.task.states if state == "failed"
            ]
        unseen = not self.life.starts and not self.bed.looks(operation_of(self.key))
        may_retry = self.life.variant == "retries"
        run_state = None
        if self.task.state is None:
            with contextlib.suppress(LocalAirflowError):
                run_state = self.bed.airflow.run_state(self.dag_id, self.key)
        return settle(Account(self.operations, self.task.state, struck, down, outages, may_retry, unseen, run_state))

    def account(self, finding: Finding) -> str:
        """All that is known of a finding."""
        begin = self.task.states[0][0] if self.task.states else 0.0
        blows = ", ".join(
            f"{blow.at - begin:+.1f} s {blow.kind} (it was {blow.state} for {blow.at - blow.since:.1f} s"
            f"{', retry left' if blow.may_retry else ''})"
            for blow in self.struck
        )
        operations = "\n".join(
            f"  {one.name.rpartition('/')[2]}: {one.state}, started {one.created_at - begin:+.1f} s"
            + (f", cancel {one.cancel_requested_at - begin:+.1f} s" if one.cancel_requested_at else "")
            + (f", over {one.done_at - begin:+.1f} s" if one.done_at else "")
            for one in self.operations
        )
        life = f"life {self.life.number}, {self.life.trouble or 'no trouble'}"
        return (
            f"{finding.what.upper()} of {finding.operation} ({life})\n"
            f"  log: {self.bed.log_folder(self.dag_id, self.key)}\n"
            f"  kills: {blows}\n{operations}\n{self.bed.story(self.dag_id, self.key)}"
        )

    # Steps

    def _begin(self, name: str) -> None:
        """Start its run, if need be when the API server is back."""
        end = time.monotonic() + LONGEST
        while True:
            try:
                return self.bed.start(self.dag_id, self.key, operation=name, script=self.life.script)
            except LocalAirflowError:
                if self.task.latest:  # only the response was lost
                    return None
                if time.monotonic() > end or self.bed.stopping.wait(3):
                    raise

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
        # Three 404s are believed if they come over ten seconds: the process may stand still between them.
        times = {"get-404": 2, "get-403": 1}.get(trouble, 3 if verb == "get" else 1)
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
            airflow.clear(self.dag_id, self.key, "it")
        elif kind in ("failed", "success"):
            airflow.set_task_state(self.dag_id, self.key, "it", kind)
        elif kind == "run-failed":
            airflow.set_run_state(self.dag_id, self.key, "failed")
        elif kind == "error":
            if not self.operations:
                return
            self.bed.emulator.fail(403, verb="get", name=self.operations[-1].name, times=12)  # it is believed then
        elif kind in SIGNALS:
            self.bed.send(self.dag_id, self.key, *SIGNALS[kind])
        elif kind == "freeze":
            self._freeze()
        self.struck.append(blow)

    def _freeze(self) -> None:
        """Its process and its supervisor stand still, perhaps until another try runs, and go on."""
        pids = self.bed.airflow.task_pids(self.dag_id, self.key, "it")[-1:]
        with contextlib.suppress(psutil.NoSuchProcess):
            tasks = [psutil.Process(pid) for pid in pids]
            frozen = [*tasks, *(parent for task in tasks if (parent := task.parent()) is not None)]
            for process in frozen:
                process.suspend()
            self.bed.stopping.wait(8.0 if self.life.number % 2 else 40.0)
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def _end(self) -> None:
        """Whatever lives still comes to its natural end."""
        last = self.struck[-1].at if self.struck else 0.0
        self._sees(lambda: self.bed.watch.looked_at > last + 2.0, 30)
        begin = time.monotonic()
        while time.monotonic() < min(begin + LONGEST, self.until) and not self.bed.stopping.is_set():
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
        deadline = min(time.monotonic() + timeout, self.until)
        while not question():
            if time.monotonic() > deadline or self.bed.stopping.is_set():
                return False
            time.sleep(0.2)
        return True
