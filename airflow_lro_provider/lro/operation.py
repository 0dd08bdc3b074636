"""An operation: ``google.longrunning.Operation``, read from the JSON that Google sends.

The resource has five fields (https://google.aip.dev/151): ``name``, ``done``, ``error`` or ``response``, and a
free-form ``metadata`` in which every API reports progress in its own form. :class:`Operation` reads the first four
strictly, and the last one leniently: unknown metadata never raises, and what cannot be read is ``None``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_lro_provider.lro.details import MAX_TEXT, describe, read_details, shorten
from airflow_lro_provider.lro.errors import MalformedResponseError
from airflow_lro_provider.lro.redaction import hide_known, legible, without_credentials
from airflow_lro_provider.lro.status import CODES

RESPONSE_MISSING = "responseMissing"
"""The field that stands for a response that could not be taken; see :attr:`Operation.response_missing`."""


class State(str, enum.Enum):
    """The state of a running operation. A finished one has an :class:`Outcome` instead."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"


class Outcome(str, enum.Enum):
    """How an operation ended, or the outcome of a cancel request.

    The first three are facts about a finished operation. The others are outcomes of a cancel request or of a wait,
    and are never read from an operation alone.
    """

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    COMPLETED_DESPITE_CANCEL = "COMPLETED_DESPITE_CANCEL"
    CANCEL_UNSUPPORTED = "CANCEL_UNSUPPORTED"
    NOT_FOUND = "NOT_FOUND"
    STILL_RUNNING = "STILL_RUNNING"


@dataclass(frozen=True)
class Operation:
    """A long-running operation, as it was when it was read.

    :param name: its name, unique only within its service.
    :param done: whether it has finished; a missing ``done`` means that it has not.
    :param error: ``google.rpc.Status`` as a dict (``code``, ``message``, ``details``) if it failed or was cancelled.
    :param response: its result, if it succeeded.
    :param metadata: the service's own description of it, as sent.
    :param raw: the whole resource, unknown fields included.
    """

    name: str
    done: bool = False
    error: Mapping[str, Any] | None = None
    response: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    lacks_response: bool = False
    """Whether its response, or what its error says, is still to be taken: polls need none."""

    @classmethod
    def from_json(cls, raw: Any) -> Operation:
        """Read the resource.

        :raises MalformedResponseError: for anything that is not an operation. An unknown shape never passes for a
            finished or a successful one.
        """
        if not isinstance(raw, Mapping):
            raise MalformedResponseError(f"expected an operation, got {type(raw).__name__}")
        name, done, error = raw.get("name", ""), raw.get("done", False), raw.get("error")
        if not isinstance(name, str) or not isinstance(done, bool):
            raise MalformedResponseError("`name` or `done` of the operation has the wrong type")
        if error is not None and not isinstance(error, Mapping):
            raise MalformedResponseError("`error` of the operation is not a google.rpc.Status")
        if not any(key in raw for key in ("name", "done", "error", "response", "metadata")):
            raise MalformedResponseError("it has no field of an operation")
        metadata = raw.get("metadata")
        return cls(
            name=name,
            done=done,
            error=error,
            response=raw.get("response"),
            metadata=metadata if isinstance(metadata, Mapping) else {},
            raw=raw,
        )

    @property
    def outcome(self) -> Outcome | None:
        """SUCCEEDED, FAILED or CANCELLED; ``None`` while it runs.

        Done with neither error nor response is success: an empty response may be left out of proto3 JSON.
        """
        if not self.done:
            return None
        if self.error is None:
            return Outcome.SUCCEEDED
        return Outcome.CANCELLED if self.error_code == CODES["CANCELLED"] else Outcome.FAILED

    @property
    def is_husk(self) -> bool:
        """Whether it succeeded, and a field mask has left nothing else of it that could be said of an operation."""
        return self.lacks_response and not self.metadata

    @property
    def response_missing(self) -> str:
        """Why its response could not be taken, and how to get it; empty if nothing is missing."""
        text = self.raw.get(RESPONSE_MISSING)
        return text if isinstance(text, str) else ""

    def without_response(self, missing: str = "") -> Operation:
        """The same operation with its response left out.

        :param missing: says why it could not be taken.
        """
        raw = {key: value for key, value in self.raw.items() if key not in ("response", RESPONSE_MISSING)}
        if missing:
            raw[RESPONSE_MISSING] = missing
        return Operation.from_json({"done": self.done, **raw})

    def without(self, secrets: Collection[str]) -> Operation:
        """The same operation without what the request that began it has sent, should its words quote that.

        Words are its error, and what its metadata says to people. Names, results and other data stay as they are.

        :param secrets: see :func:`~airflow_lro_provider.lro.redaction.secrets_in`.
        """
        if not secrets:
            return self
        hidden: dict[str, Any] = {"metadata": hide_known(secrets, self.metadata, _WORDS)}
        if self.error is not None:
            hidden["error"] = hide_known(secrets, self.error)
        if self.hidden_failure is not None:
            hidden["response"] = hide_known(secrets, self.response, _WORDS)
        raw = {key: hidden.get(key, value) for key, value in self.raw.items()}
        return replace(self, raw=raw, **hidden)

    @property
    def state(self) -> State | None:
        """PENDING, RUNNING or CANCELLING; ``None`` once it has finished."""
        if self.done:
            return None
        return self._stated or (State.CANCELLING if self.cancel_requested else State.RUNNING)

    @property
    def _stated(self) -> State | None:
        """The state that the metadata names, if it is one of ours."""
        word = next(self._find("state", "operationState", "status.state"), None)
        return _STATES.get(word.upper().removeprefix("OPERATION_STATE_")) if isinstance(word, str) else None

    @property
    def error_code(self) -> int | None:
        """The ``google.rpc.Code`` number of the error (not an HTTP code)."""
        if self.error is None:
            return None
        code = _number(self.error.get("code", 0))
        return None if code is None else int(code)

    @property
    def error_message(self) -> str:
        """The error's message, or the name of its code if it has none."""
        if self.error is None:
            return ""
        message = self.error.get("message")
        return message if isinstance(message, str) and message else self._code_name

    @property
    def failure(self) -> str:
        """All that its error says: the name of its code, its message, and its details in words."""
        if self.error is None:
            return ""
        message = shorten(" ".join(self.error_message.split()), MAX_TEXT).rstrip(". ")
        code = "" if message == self._code_name else f"{self._code_name}: "
        details = (*read_details(self.error.get("details")), *read_details(self.error.get("errors")))
        more = describe(details, message)
        return f"{code}{message}{f'. {more}' if more else ''}"

    @property
    def _code_name(self) -> str:
        code = self.error_code
        if code == CODES["OK"]:  # an error all the same
            return "an error without a code"
        stated = shorten(str((self.error or {}).get("code"))[:100], 100)
        return next((name for name, number in CODES.items() if number == code or name == stated), f"code {stated}")

    @property
    def hidden_failure(self) -> str | None:
        """What has failed although the operation is done without an error, in words; ``None`` if nothing is known.

        ================================  =========================================================================
        type of response or metadata      a failure
        ================================  =========================================================================
        ``google.cloud.run….Execution``   fewer tasks succeeded than there are: some failed, or it was cancelled
                                          (https://github.com/apache/airflow/issues/57791); or its condition
                                          ``Completed`` says so (v2: ``CONDITION_FAILED``, v1: ``False``, with counts
                                          in ``status``)
        ``…storagetransfer.v1.            ``status`` is FAILED or ABORTED (https://cloud.google.com/storage-transfer/
        TransferOperation``               docs/reference/rest/v1/transferOperations)
        ================================  =========================================================================

        An operation that cancels or deletes an execution responds with the same; one that is deleted says so. One that
        cancels has nothing that tells it from the one that ran the job: only who started it knows.
        """
        if self.outcome is not Outcome.SUCCEEDED:
            return None
        for part in (self.response, self.metadata):
            if isinstance(part, Mapping):
                for kind, failure_of in _HIDDEN_FAILURES.items():
                    if str(part.get("@type", "")).endswith(kind):
                        return failure_of(part)
        return None

    @property
    def partial_failures(self) -> str:
        """What has failed although it succeeded, in words: files that could not be read, and the like.

        They stand in the metadata of Vertex AI, AutoML, Dialogflow and others (``partialFailures``). Empty if there are
        none, or if it has not succeeded.
        """
        if self.outcome is not Outcome.SUCCEEDED:
            return ""
        statuses = next(filter(None, map(read_details, self._find("partialFailures"))), ())
        words = [Operation("", done=True, error=status).failure for status in statuses[:3]]
        more = f"; and {len(statuses) - 3} more" if len(statuses) > 3 else ""
        return "; ".join(words) + more

    @property
    def cancel_requested(self) -> bool:
        """Whether the metadata says that its cancellation was requested."""
        if self._stated is State.CANCELLING or next(self._find(*_CANCEL_FLAGS), False) is True:
            return True
        return any(isinstance(time, str) and time for time in self._find("cancelTime"))

    @property
    def progress(self) -> float | None:
        """Its progress, from 0 to 1; ``None`` if the service does not report it in a known form."""
        for percent in self._find("progressPercent", "progressPercentage", "percentComplete"):
            if (value := _fraction(_number(percent), 100)) is not None:
                return value
        for progress in self._find("progress", "progressDocuments", "progressBytes"):
            if (value := self._read_progress(progress)) is not None:
                return value
        return None

    def _read_progress(self, progress: Any) -> float | None:
        if isinstance(progress, Mapping):
            done, total = _number(progress.get("completedWork")), _number(progress.get("estimatedWork"))
            if done is not None and total:
                return _fraction(done, total)
            return _fraction(_number(progress.get("progressPercent")), 100)
        value = _number(progress)
        if value is None:
            return None
        # The same field is a fraction in Earth Engine and a percentage elsewhere.
        if "earthengine" in str(self.metadata.get("@type", "")).lower():
            return _fraction(value, 1)
        if isinstance(progress, float) and 0 < value < 1:
            return value
        return None if value == 1 and "@type" not in self.metadata else _fraction(value, 100)

    @property
    def message(self) -> str | None:
        """The service's status message."""
        return next((text for text in self._find(*_MESSAGE) if isinstance(text, str) and text), None)

    @property
    def target(self) -> str | None:
        """The resource that it works on, or the place that it writes to."""
        for target in self._find("target", "destinationUris", "resource"):
            if isinstance(target, list) and target:
                target = target[0]
            if isinstance(target, str) and target:
                return target
        return None

    @property
    def create_time(self) -> datetime | None:
        """When it was created (or started, if the service does not report its creation)."""
        return _first_time(self._find("createTime", "startTime", "progress.startTime"))

    @property
    def update_time(self) -> datetime | None:
        """When its metadata last changed."""
        return _first_time(self._find("updateTime", "lastUpdateTime"))

    @property
    def end_time(self) -> datetime | None:
        """When it ended."""
        return _first_time(self._find("endTime", "doneTime", "progress.endTime"))

    def summary(self, *, words: bool = True) -> str:
        """One short line for a log: state or outcome, progress, and (with ``words``) the service's message."""
        word = self.outcome or self.state
        parts = [word.value if word else "?"]
        if not self.done and (progress := self.progress) is not None:
            parts.append(f"{progress:.0%}")
        text = (self.error_message if self.error is not None else self.message) or ""
        text = legible(without_credentials(" ".join(text[:1000].splitlines()))).rstrip(". ") if words else ""
        if text and text.upper() not in parts:
            parts.append(text if len(text) <= 300 else text[:297] + "...")
        return " · ".join(parts)

    def _find(self, *paths: str) -> Iterator[Any]:
        """All values at these dotted paths, in the metadata and in a wrapped one."""
        for root in (self.metadata, *(self.metadata.get(wrapper) for wrapper in _WRAPPERS)):
            for path in paths:
                value: Any = root
                for key in path.split("."):
                    value = value.get(key) if isinstance(value, Mapping) else None
                if value is not None:
                    yield value


# Vertex AI wraps the common part in `genericMetadata`, Document AI in `commonMetadata`.
_WRAPPERS = ("genericMetadata", "commonMetadata")
_STATES = {
    **dict.fromkeys(("PENDING", "QUEUED", "CREATED", "ACCEPTED", "WAITING", "INITIALIZING"), State.PENDING),
    **dict.fromkeys(("CANCELLING", "CANCELING", "CANCEL_PENDING"), State.CANCELLING),
}
# Canonical shape A says requestedCancellation, shape B cancelRequested.
_CANCEL_FLAGS = ("requestedCancellation", "cancelRequested", "cancellationRequested", "isCancellationRequested")
_MESSAGE = ("statusMessage", "statusDetail", "stateMessage", "progressMessage", "status.details", "description")
_WORDS = {*(path.rpartition(".")[2] for path in _MESSAGE), "message", "error", "errors", "partialFailures"}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def _failure_of_execution(execution: Mapping[str, Any]) -> str | None:
    if execution.get("deleteTime"):
        return None
    for part in ("spec", "status"):  # of v1, discovery's run.v1
        below = execution.get(part)
        execution = {**execution, **below} if isinstance(below, Mapping) else execution
    tasks, succeeded, failed, cancelled = (
        int(_number(execution.get(f"{word}Count")) or 0) for word in ("task", "succeeded", "failed", "cancelled")
    )
    tasks = max(tasks, succeeded + failed + cancelled)
    if succeeded < tasks:
        return f"{succeeded} of {tasks} tasks of the execution succeeded ({failed} failed, {cancelled} cancelled)"
    for condition in read_details(execution.get("conditions")):
        state = str(condition.get("state", condition.get("status")))
        if condition.get("type") == "Completed" and state in ("CONDITION_FAILED", "False"):
            message = condition.get("message")
            return f"the execution is not completed{f': {shorten(message, 300)}' if isinstance(message, str) else ''}"
    return None


def _failure_of_transfer(transfer: Mapping[str, Any]) -> str | None:
    status = transfer.get("status")
    return f"the transfer's status is {status}" if status in ("FAILED", "ABORTED") else None


RESPONSES_WITH_FAILURES = ("run",)
"""The APIs whose responses may have a :attr:`Operation.hidden_failure`, and so have to be seen."""
_HIDDEN_FAILURES = {
    "google.cloud.run.v1.Execution": _failure_of_execution,
    "google.cloud.run.v2.Execution": _failure_of_execution,
    "google.storagetransfer.v1.TransferOperation": _failure_of_transfer,
}


def _number(value: Any) -> float | None:
    """A JSON number; int64 arrive as strings."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e18 else None


def _fraction(value: float | None, whole: float) -> float | None:
    return value / whole if value is not None and 0 <= value <= whole else None


def _first_time(values: Iterator[Any]) -> datetime | None:
    for value in values:
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            continue
        day, fraction, zone = match.groups()
        offset = "+00:00" if zone == "Z" else zone
        try:
            moment = datetime.fromisoformat(day + offset).astimezone(timezone.utc)
        except (ValueError, OverflowError):
            continue
        return moment + timedelta(microseconds=int((fraction or "0")[:6].ljust(6, "0")))
    return None
