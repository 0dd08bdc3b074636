"""The events with which a trigger wakes its task: plain data, written and read in one place.

Standard library and the core only: a worker reads an event without importing any trigger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from airflow_lro_provider.lro.errors import MalformedResponseError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import Deadline, last_poll_failed


@dataclass(frozen=True)
class Finished:
    """The operation has finished."""

    operation: Operation

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        finished = {"status": "finished", "operation": dict(self.operation.raw)}
        return {**finished, "lacks_response": True} if self.operation.lacks_response else finished


@dataclass(frozen=True)
class Gone:
    """There is no such operation (any more)."""

    message: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"status": "gone", "message": self.message}


@dataclass(frozen=True)
class DeadlinePassed:
    """The operation had not finished at a deadline.

    :param cause: which deadline: ``timeout``, ``sensor_timeout`` or ``execution_timeout``.
    :param seconds: how long it was.
    :param cancellation: the result of the cancellation that the trigger requested: REQUESTED (accepted), REFUSED, or
        the outcome that was known already (:attr:`CancelResult.word`). ``None`` if it requested none.
    :param operation: the last poll that did not fail, if there is one.
    :param last_error: why the last one failed, if it did: then it is not known whether the operation runs.
    """

    cause: str
    seconds: float
    cancellation: str | None
    operation: Operation | None
    last_error: str | None = None

    def __str__(self) -> str:
        failed = "" if self.last_error is None else f", {last_poll_failed(self.last_error)}"
        return f"{Deadline(0.0, self.cause, self.seconds)} passed while deferred{failed}"

    @property
    def cancel_requested(self) -> bool:
        """Whether the service has accepted a cancel request."""
        return self.cancellation in ("REQUESTED", "CANCELLED")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "status": "deadline",
            "cause": self.cause,
            "seconds": self.seconds,
            "cancellation": self.cancellation,
            "cancel_requested": self.cancel_requested,  # for a worker of an older release, which knows only this
            "operation": None if self.operation is None else dict(self.operation.raw),
            "last_error": self.last_error,
        }


@dataclass(frozen=True)
class Lost:
    """The operation cannot be polled any more; it may run on."""

    message: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"status": "lost", "message": self.message}


def outline(operation: Operation) -> Operation:
    """An operation without anything that the service says in words: its name, and how it has ended. The rest is still
    to be taken.
    """
    raw: dict[str, Any] = {"name": operation.name, "done": operation.done}
    if operation.error is not None:
        raw["error"] = {"code": operation.error_code}
    return replace(Operation.from_json(raw), lacks_response=True)


Event = Union[Finished, Gone, DeadlinePassed, Lost]  # noqa: UP007 - evaluated at run time on Python 3.10


def read_event(stored: Any) -> Event:
    """Read an event.

    :raises ValueError: for anything else than one of ours. An unknown event fails closed: it is never
        taken for a success.
    """
    try:
        status = stored["status"]
        if status == "finished":
            operation = Operation.from_json(stored["operation"])
            if operation.done:
                return Finished(replace(operation, lacks_response=stored.get("lacks_response") is True))
        if status == "gone":
            return Gone(str(stored["message"]))
        if status == "lost":
            return Lost(str(stored["message"]))
        if status == "deadline":
            raw, cancellation = stored["operation"], stored.get("cancellation")
            if stored["cancel_requested"] is True:
                cancellation = cancellation or "REQUESTED"  # of a trigger of an older release
            return DeadlinePassed(
                str(stored["cause"]),
                float(stored["seconds"]),
                cancellation if isinstance(cancellation, str) else None,
                None if raw is None else Operation.from_json(raw),
                None if (last_error := stored.get("last_error")) is None else str(last_error),
            )
    except (KeyError, TypeError, ValueError, OverflowError, MalformedResponseError):
        pass
    keys = sorted(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
    raise ValueError(f"the trigger sent an event that is not understood (with {keys}); it counts as a failure")


def is_of_an_end(stored: Any) -> bool:
    """Whether an event says that the operation is finished, gone or cancelled. What is no event says nothing."""
    try:
        event = read_event(stored)
    except ValueError:
        return False
    return isinstance(event, (Finished, Gone)) or (isinstance(event, DeadlinePassed) and event.cancel_requested)


def is_for_another(stored: Any, token: str | None) -> bool:
    """Whether an event belongs to another task or try than the one that it woke.

    That happens: a database that gives the id of a deleted trigger to the next one (SQLite does) makes
    Airflow deliver the old one's last event to the new one's task.

    :param token: the owner token that the woken task gave its trigger.
    """
    return isinstance(stored, Mapping) and "owner" in stored and stored["owner"] != token
