"""One repetition of one cell of the kill matrix: bring a task into its situation, kill it, see what becomes of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.e2e.bed.bed import Bed, BedError
from tests.e2e.bed.cells import HOOKS, Cell, Column, Row
from tests.e2e.bed.ctrl_c import end, launch
from tests.e2e.bed.judge import FINAL, History, Judgement, Seen, judge
from tests.e2e.bed.store import operation_of
from tests.e2e.bed.watch import Task

__all__ = ["PARENT", "TWO_SWEEPS", "Trial", "waits"]

PARENT = "projects/p/locations/us-central1/operations"
"""Of operations that are looked at together, with a list."""
TWO_SWEEPS = 120.0
"""Within so many seconds after the end of its task, as Airflow sees it, the sweep ends an operation."""


@dataclass
class Trial:
    """One repetition.

    :param number: which one, from 0 on.
    :param key: by which its run and its operations are found.
    :param killed_at: when it was killed, in seconds since the epoch.
    :param process: of a test run: its process.
    :param closed: of an operation that was left: whether the next try, or the sweep, ended it, if that was tried.
    :param swept: how long after the death of its task, as Airflow sees it, the sweep has ended it, in seconds.
    :param note: what is worth knowing.
    :param faults: what is wrong, besides what the judge sees.
    :param begun: when it began.
    """

    bed: Bed
    row: Row
    column: Column
    number: int
    key: str
    killed_at: float | None = None
    marked_success: bool = False
    process: subprocess.Popen[bytes] | None = None
    closed: bool | None = None
    swept: float | None = None
    note: str = ""
    faults: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.time)

    @property
    def cell(self) -> Cell:
        """What is expected."""
        cell = self.row.cells[self.column.name]
        assert isinstance(cell, Cell)
        return cell

    @property
    def dag_id(self) -> str:
        """The Dag."""
        variant = self.row.variant if self.cell.variant is None else self.cell.variant
        return "_".join(filter(None, ["bed", self.column.name, variant]))

    @property
    def task(self) -> Task:
        """Airflow's view."""
        return self.bed.watch.task(self.key)

    @property
    def state(self) -> str | None:
        """Airflow's state of the task; of a test run, whether it is over."""
        if self.process is not None:
            return "running" if self.process.poll() is None else "failed"
        return self.task.state

    @property
    def operations(self) -> list[Seen]:
        """The server's view, oldest first."""
        return self.bed.seen(self.key)

    @property
    def script(self) -> dict[str, Any]:
        """How its operations behave."""
        return {"duration": None, **self.column.script, **self.row.script}

    def looks(self) -> int:
        """How often its newest operation was looked at."""
        return self.bed.looks(self.operations[-1].name) if self.operations else 0

    # The three steps

    def prepare(self) -> None:
        """Bring the task into its situation.

        :raises BedError: if it does not get there.
        """
        name = operation_of(self.key)
        if not self.column.starts:
            self.bed.emulator.create(self.row.service or "datafusion", name, **self.script)
        if self.row.test_run:
            self.process = launch(self, name)
        else:
            self.bed.start(self.dag_id, self.key, operation=name, script=self.script, service=self.row.service)
        (self.row.situation or waits)(self)

    def strike(self) -> None:
        """Kill it."""
        if self.row.act is not None:
            self.row.act(self)

    def settle(self) -> Judgement:
        """Wait for what is expected, and judge what came."""
        _SETTLE[self.cell.expect](self)
        judgement = self.judge()
        if self.bed.sweeps and self.cell.is_swept:
            self._note_the_sweep()
        elif judgement.leaks and self.cell.closes == "the next try":
            self.closed = self._is_closed_by_the_next_try()
        return replace(judgement, problems=(*judgement.problems, *self.faults))

    def tidy(self) -> None:
        """Leave nothing behind that takes a worker's time."""
        self.bed.finish(self.key)
        if self.process is not None:
            end(self.process)
        elif self.task.latest and self.state not in FINAL:
            self.bed.airflow.set_run_state(self.dag_id, self.key, "failed")

    def judge(self) -> Judgement:
        """Judge what is there now."""
        history = History(
            operations=self.operations,
            state=self.state,
            tries=self.task.tries if self.process is None else 1,
            killed_at=self.killed_at,
            marked_success=self.marked_success,
            owns=self.column.owns,
        )
        ends = self.cell.ends or {self.state}
        cell = self.cell
        return judge(history, cell.expect, ends, within=self.row.within, tries=cell.tries, late=cell.late)

    # For those that act and wait

    def kill(self, how: Callable[[], Any]) -> None:
        """Do it, and note when."""
        if self.killed_at is None:
            self.killed_at = time.time()
        how()

    def until(self, question: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
        """Ask until the answer is true; gives up at once if the task is dead.

        :raises BedError: if it is not, in time.
        """

        def ask() -> Any:
            if answer := question():
                return answer
            if self.state in FINAL and time.time() - self.task.since > 3:
                raise BedError(f"{self.dag_id} {self.key} is {self.state} before {what}")
            return None

        return self.bed.until(ask, f"{self.dag_id} {self.key}: {what}", timeout)

    def sees(self, question: Callable[[], Any], timeout: float) -> bool:
        """Wait for it; whether it came."""
        deadline = time.monotonic() + timeout
        while not question():
            if time.monotonic() > deadline or self.bed.stopping.is_set():
                return False
            time.sleep(0.1)
        return True

    def is_polled_again(self, timeout: float = 90.0) -> bool:
        """Wait until somebody goes on looking at its newest operation, or the task ends."""
        seen = self.looks()
        return self.sees(lambda: self.looks() > seen + 2 or self.state in FINAL, timeout)

    def is_final(self, timeout: float = 60.0) -> bool:
        """Wait until Airflow's task rests in a final state."""

        def rests() -> bool:
            if self.process is not None:
                return self.process.poll() is not None
            there = self.state in FINAL and self.task.tries >= self.cell.tries
            return there and time.time() - self.task.since > 1.5 and self.bed.watch.looked_at > self.task.since

        return self.sees(rests, timeout)

    def _note_the_sweep(self) -> None:
        """Note how long it took, and whether that is what it promises."""
        cancels = [one.cancel_requested_at for one in self.operations]
        asked = [at for at in cancels if at is not None]
        self.closed = bool(asked) and len(asked) == len(cancels)
        if asked:
            self.swept = max(0.0, max(asked) - self.task.since)
            self.closed = self.closed and self.swept <= TWO_SWEEPS

    def _is_closed_by_the_next_try(self) -> bool:
        """Clear the task: whether its next try cancels what this one left."""
        left = [operation.name for operation in self.operations if operation.is_left]
        self.bed.airflow.clear(self.dag_id, self.key, "it")
        return self.sees(lambda: all(not one.is_left for one in self.operations if one.name in left), 90)


def waits(trial: Trial) -> None:
    """The situation of most rows: well into the wait that the column is about."""
    column = trial.column
    if column.name == "completing":
        _waits_deferred(trial)
        trial.bed.finish(trial.key)
        trial.until(lambda: trial.bed.has_told(trial.key, "completing"), "completes")
    elif column.deferred and not trial.row.test_run:
        _waits_deferred(trial)
    elif not column.owns:
        trial.until(lambda: trial.operations[0].cancel_requested_at, "asks for the cancel")
        trial.until(lambda: trial.looks() >= 4, "waits for the end")
    else:
        looks = 3 if not column.deferred else 5
        trial.until(lambda: trial.looks() >= looks, "polls its operation", 90)


def _waits_deferred(trial: Trial) -> None:
    trial.until(lambda: trial.state == "deferred", "is deferred", 90)
    seen = trial.looks()
    trial.until(lambda: trial.looks() >= seen + 2, "is polled by a triggerer")


def _settle_cancelled(trial: Trial) -> None:
    trial.sees(lambda: trial.operations and not any(one.is_left for one in trial.operations), trial.row.within + 5)
    trial.is_final(60 + trial.script.get("cancel_delay", 0))  # a next try waits for its end


def _settle_replaced(trial: Trial) -> None:
    trial.sees(lambda: len(trial.operations) > 1 and trial.looks() >= 2, 120)
    trial.bed.finish(trial.key)
    trial.is_final(90)


def _settle_adopted(trial: Trial) -> None:
    # The next try comes after SIGKILL of a supervisor only when Airflow misses its heartbeat.
    trial.sees(lambda: trial.task.tries >= 2 and trial.state in {"running", "deferred", *FINAL}, 120)
    trial.is_polled_again(60)
    trial.bed.finish(trial.key)
    trial.is_final(90)


def _settle_alive(trial: Trial) -> None:
    trial.is_polled_again()
    trial.bed.finish(trial.key)
    trial.is_final(120)


def _settle_over(trial: Trial) -> None:
    trial.is_final(90)
    trial.sees(lambda: False, 4)


def _settle_nothing(trial: Trial) -> None:
    trial.is_final()
    trial.sees(lambda: False, 8)


def _settle_left(trial: Trial) -> None:
    trial.is_final()
    patience = TWO_SWEEPS + 30 if trial.bed.sweeps and trial.cell.is_swept else HOOKS
    trial.sees(lambda: not any(one.is_left for one in trial.operations), patience)


_SETTLE: dict[str, Callable[[Trial], None]] = {
    "cancelled": _settle_cancelled,
    "replaced": _settle_replaced,
    "adopted": _settle_adopted,
    "alive": _settle_alive,
    "over": _settle_over,
    "nothing": _settle_nothing,
    "left": _settle_left,
}
