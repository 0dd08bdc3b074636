"""The rows of the demo: one task and its operation each, what happened to both, and whether that is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Row", "plan", "table"]

SLOW_CANCEL_SECONDS = 5.0
"""A cancel that comes later than this after its kill is right, but is called slow."""
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
_HEADER = ("SYSTEM", "OPERATION", "WAITS", "KILLED WHILE", "TASK ENDED", "OPERATION ENDED", "CANCELLED AFTER", "")


@dataclass
class Row:
    """One task of the demo's Dag, and its operation.

    :param service: the system's discovery name
    :param title: its name for people
    :param kind: what happens to the task: ``left_alone``, ``poke`` (killed while running), ``deferred`` (killed
        while deferred) or ``cancel`` (its purpose is to cancel the operation)
    :param waits: how the task waits: ``poke``, ``deferred`` or ``operator``
    :param operation: the operation's name
    :param waits_since: when the task was seen to wait; this and the other moments are seconds since the epoch
    :param finished_at: when the demo let the operation succeed
    :param killed_at: the moment just before the task was marked as failed
    :param ended_at: when the task was first seen to have ended
    :param cancelled_at: when the server got the (first) cancel request
    :param task_state: Airflow's state of the task, as last seen
    :param operation_state: the server's state of the operation, as last seen
    :param outcome: what the task returned
    :param polls: how often the operation was polled, as last seen
    """

    service: str
    title: str
    kind: str
    waits: str
    operation: str = ""
    waits_since: float | None = None
    finished_at: float | None = None
    killed_at: float | None = None
    ended_at: float | None = None
    cancelled_at: float | None = None
    task_state: str | None = None
    operation_state: str = "RUNNING"
    outcome: str | None = None
    polls: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"task": self.task_id, **asdict(self), "problem": self.problem}

    @property
    def task_id(self) -> str:
        """The task's id in the Dag."""
        return f"{self.service}.{self.kind}"

    @property
    def short_name(self) -> str:
        """The last part of the operation's name."""
        return self.operation.rpartition("/")[2]

    @property
    def to_kill(self) -> bool:
        """Whether the demo kills the task."""
        return self.kind in ("poke", "deferred")

    @property
    def waiting_state(self) -> str:
        """Airflow's state of the task while it waits."""
        return "deferred" if self.waits == "deferred" else "running"

    @property
    def task_is_finished(self) -> bool:
        """Whether the task has ended."""
        return self.task_state in ("success", "failed", "skipped", "upstream_failed", "removed")

    @property
    def was_killed(self) -> bool:
        """Whether the task was killed while it waited: a task that has failed by itself may have cancelled before."""
        return self.killed_at is not None and (self.cancelled_at is None or self.cancelled_at >= self.killed_at)

    @property
    def cancelled_after(self) -> float | None:
        """Seconds from the kill to the cancel request; ``None`` if one of them did not happen."""
        if self.killed_at is None or self.cancelled_at is None or not self.was_killed:
            return None
        return self.cancelled_at - self.killed_at

    def is_finished(self, now: float, patience: float) -> bool:
        """Whether nothing more will happen: task and operation have ended, or the operation has had its time.

        :param now: seconds since the epoch
        :param patience: seconds that an operation may take to end, after its task was killed or has ended
        """
        if not self.task_is_finished:
            return False
        return self.operation_state in _ENDED or now - (self.killed_at or self.ended_at or now) > patience

    @property
    def problem(self) -> str | None:
        """Why it is not as it has to be, as a sentence without a full stop; ``None`` if it is."""
        return self.wrong or self.not_shown

    @property
    def not_shown(self) -> str | None:
        """Why it shows nothing, good or bad, though nothing is wrong with it; ``None`` if it does."""
        ended = self.to_kill and self.task_is_finished and not self.was_killed
        if not ended or self.operation_state != "CANCELLED":
            return None
        return f"its task ended ({self.task_state}) before it could be killed; its operation was cancelled"

    @property
    def wrong(self) -> str | None:
        """What is wrong with it, as a sentence without a full stop; ``None`` if nothing is."""
        if self.to_kill:
            return self._wrong_kill()
        if self.task_state != "success":
            return f"its task should have succeeded, but is {self.task_state}"
        expected = "CANCELLED" if self.kind == "cancel" else "SUCCEEDED"
        if self.operation_state != expected:
            return f"its operation should have ended {expected}, but is {self.operation_state}"
        if self.outcome != expected:
            return f"its task should have reported {expected}, but reported {self.outcome}"
        if self.kind == "left_alone" and self.cancelled_at is not None:
            return "its operation was asked to cancel, though nobody killed the task"
        return None

    def _wrong_kill(self) -> str | None:
        if not self.was_killed:
            if not self.task_is_finished:
                return f"its task could not be killed while {self.waiting_state}: it is {self.task_state}"
            if self.operation_state != "CANCELLED":
                ended = f"its task ended ({self.task_state}) before it could be killed"
                return f"{ended}, and its operation should have ended CANCELLED, but is {self.operation_state}"
            return None
        if self.cancelled_at is None:
            return "the server saw no cancel request for its operation after the kill"
        if self.operation_state != "CANCELLED":
            return f"its operation should have ended CANCELLED, but is {self.operation_state}"
        if self.task_state != "failed":
            return f"its task was marked failed, but is {self.task_state}"
        return None

    @property
    def remark(self) -> str:
        """What the table's last column says."""
        if self.wrong:
            return "WRONG"
        if self.not_shown:
            return "NOT SHOWN"
        return "ok, but slow" if (self.cancelled_after or 0) > SLOW_CANCEL_SECONDS else "ok"

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        waits = {"poke": "poke", "deferred": "deferrable", "operator": "operator"}[self.waits]
        killed = self.waiting_state if self.was_killed else "-"
        after = "-" if self.cancelled_after is None else f"{self.cancelled_after:.1f} s"
        if self.kind == "cancel":
            after = "by the task"
        task = self.task_state or "(not started)"
        return (self.title, self.short_name, waits, killed, task, self.operation_state, after, self.remark)


def plan(titles: dict[str, str]) -> list[Row]:
    """The rows of all systems.

    :param titles: the systems' names for people, by discovery name
    """
    rows = []
    for number, (service, title) in enumerate(titles.items()):
        rows.append(Row(service, title, "left_alone", "poke" if number % 2 else "deferred"))
        rows.append(Row(service, title, "poke", "poke"))
        rows.append(Row(service, title, "deferred", "deferred"))
        if service == "datafusion":
            rows.append(Row(service, title, "cancel", "operator"))
    return rows


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as aligned lines of text, the header first."""
    lines = [_HEADER, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
