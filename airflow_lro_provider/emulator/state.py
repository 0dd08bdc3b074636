"""The state machine of one emulated operation.

::

    PENDING ──> RUNNING ──────────────────────> SUCCEEDED | FAILED
        └──────────┴──> CANCELLING ──> CANCELLED
                            └─────────────────> SUCCEEDED | FAILED    completed despite the request

Nothing runs here: an operation advances to the present whenever it is read, and what is due
happens as of the moment at which it was due. A finished one never changes. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from airflow_lro_provider.emulator.failures import FailureList
from airflow_lro_provider.emulator.metadata import Snapshot, metadata_of
from airflow_lro_provider.emulator.responses import RefusedError
from airflow_lro_provider.emulator.script import Script
from airflow_lro_provider.lro.status import CODES

__all__ = ["EmulatedOperation", "OperationView"]

# Without a "value": official clients cannot parse one for Empty.
EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
_MESSAGES = {
    "PENDING": "Waiting to start.",
    "RUNNING": "Running.",
    "CANCELLING": "Cancellation requested.",
    "SUCCEEDED": "Finished.",
    "CANCELLED": "Cancelled.",
}


@dataclass(frozen=True)
class OperationView:
    """An emulated operation as it was when it was read, with what only the emulator knows. Times are in seconds
    since the epoch.

    :param service: the API's discovery name.
    :param operation: the resource, as the API returns it.
    :param state: PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED, even if the system's
        own metadata does not say so.
    :param created_at: when it was started.
    :param done_at: when it finished; ``None`` while it runs.
    :param cancel_requested_at: when the first cancel request arrived, whatever its outcome.
    :param cancel_requests: how many arrived (without those that got a scripted failure).
    :param polls: how often a client requested its state: with a get, a ``:wait``, or a list that shows it.
    :param polled_at: when that was last.
    """

    service: str
    operation: Mapping[str, Any]
    state: str
    created_at: float
    done_at: float | None
    cancel_requested_at: float | None
    cancel_requests: int
    polls: int = 0
    polled_at: float | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.operation["name"])

    @property
    def done(self) -> bool:
        """Whether it has finished."""
        return self.done_at is not None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))


@dataclass
class EmulatedOperation:
    """One operation. Not thread-safe: the store's lock protects it.

    Every method takes the present time, in seconds; it never reads a clock.

    :param service: the API's discovery name.
    :param version: the API version that started it.
    :param name: its name.
    :param order: its position among all operations of the store.
    :param script: how it behaves.
    :param created_at: when it was started.
    :param verb: what it does, for the metadata.
    :param target: the resource that it works on, for the metadata.
    """

    service: str
    version: str
    name: str
    order: int
    script: Script
    created_at: float
    verb: str
    target: str
    cancel_requests: int = 0
    cancel_requested_at: float | None = None
    done_at: float | None = None
    polls: int = 0
    polled_at: float | None = None
    failures: FailureList = field(default_factory=FailureList)
    _cancelling_since: float | None = None
    _result: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take over the failures of the script."""
        for failure in self.script.failures:
            self.failures.add(failure)

    def ends_at(self) -> float:
        """When it will finish if nothing else happens; infinity if never."""
        return min(self._own_end(), self._cancel_end())

    def advance(self, now: float) -> None:
        """Carry out what is due."""
        if self.done_at is not None or now < self.ends_at():
            return
        if self._cancel_end() < self._own_end():
            self._end(self._cancel_end(), error=_cancelled())
        else:
            self._end(self._own_end(), self.script.response, self.script.error)

    def cancel(self, now: float) -> None:
        """Accept a cancel request, or refuse it.

        :raises RefusedError: UNIMPLEMENTED or FAILED_PRECONDITION, as the script says.
        """
        self.advance(now)
        self.cancel_requests += 1
        if self.cancel_requested_at is None:
            self.cancel_requested_at = now
        if self.script.cancel == "unimplemented":
            raise RefusedError("UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled.")
        if self.done_at is not None:
            if self.script.cancel_when_done == "failed_precondition":
                raise RefusedError("FAILED_PRECONDITION", "Operation has already finished.")
            return
        if self._cancelling_since is None:
            self._cancelling_since = now
        self.advance(now)

    def finish(
        self, now: float, response: Mapping[str, Any] | None = None, error: Mapping[str, Any] | None = None
    ) -> None:
        """End it now: with this result, or with the script's if none is given. No-op if it has finished."""
        self.advance(now)
        if self.done_at is not None:
            return
        if response is None and error is None:
            response, error = self.script.response, self.script.error
        self._end(now, response, error)

    def note_poll(self, now: float) -> None:
        """Count a client's request for its state."""
        self.polls += 1
        self.polled_at = now

    def view(self, now: float) -> OperationView:
        """Return its present state. This is not counted as a poll."""
        self.advance(now)
        snapshot = self._snapshot(now)
        resource: dict[str, Any] = {"name": self.name, "metadata": metadata_of(snapshot)}
        if self.done_at is not None:  # proto3 JSON leaves a false `done` out
            resource.update({"done": True, **self._result})
        return OperationView(
            service=self.service,
            operation=resource,
            state=snapshot.state,
            created_at=self.created_at,
            done_at=self.done_at,
            cancel_requested_at=self.cancel_requested_at,
            cancel_requests=self.cancel_requests,
            polls=self.polls,
            polled_at=self.polled_at,
        )

    def _own_end(self) -> float:
        return inf if self.script.duration is None else self.created_at + self.script.duration

    def _cancel_end(self) -> float:
        if self._cancelling_since is None or self.script.cancel != "honour":
            return inf
        return self._cancelling_since + self.script.cancel_delay

    def _end(
        self, at: float, response: Mapping[str, Any] | None = None, error: Mapping[str, Any] | None = None
    ) -> None:
        self.done_at = at
        if error is not None:
            self._result = {"error": dict(error)}
        else:
            self._result = {"response": EMPTY if response is None else dict(response)}

    def _state(self, now: float) -> str:
        if self.done_at is not None:
            error = self._result.get("error")
            if error is None:
                return "SUCCEEDED"
            return "CANCELLED" if error["code"] == CODES["CANCELLED"] else "FAILED"
        if self._cancelling_since is not None:
            return "CANCELLING"
        return "PENDING" if now < self._work_begins() else "RUNNING"

    def _work_begins(self) -> float:
        return self.created_at + self.script.pending

    def _progress(self, now: float) -> float:
        """By time."""
        if self.done_at is not None and "response" in self._result:
            return 1.0
        whole = self._own_end() - self._work_begins()
        if whole in (0.0, inf) or whole < 0:
            return 0.0
        return min(max((now - self._work_begins()) / whole, 0.0), 1.0)

    def _snapshot(self, now: float) -> Snapshot:
        if self.done_at is not None:
            now = self.done_at  # a finished operation does not change, even if the clock jumps back
        state = self._state(now)
        began = self._work_begins()
        started = began if began <= now else None
        moments = (self.created_at, started, self._cancelling_since, self.done_at)
        return Snapshot(
            service=self.service,
            version=self.version,
            state=state,
            progress=self._progress(now),
            verb=self.verb,
            target=self.target,
            message=str(self._result["error"].get("message", "")) if state == "FAILED" else _MESSAGES[state],
            cancel_requested=self._cancelling_since is not None,
            created_at=self.created_at,
            started_at=started,
            updated_at=max(moment for moment in moments if moment is not None),
            ended_at=self.done_at,
        )


def _cancelled() -> dict[str, Any]:
    return {"code": CODES["CANCELLED"], "message": "The operation was cancelled."}
