"""Conversations of more than one request, driven by hand: what is asked, and what is concluded."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from airflow_lro_provider.lro import flows, protocol
from airflow_lro_provider.lro.errors import (
    ApiError,
    FailedPreconditionError,
    NotFoundError,
    OperationsError,
    PermissionDeniedError,
    TransportError,
    UnavailableError,
    UnimplementedError,
)
from airflow_lro_provider.lro.flows import CancelResult
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.protocol import Request
from airflow_lro_provider.lro.resources.names import read_reference

NAME = "projects/p/locations/us-central1/operations/o"
ENDPOINT = "https://datafusion.googleapis.com"
REFERENCE = read_reference(NAME, "datafusion")
NO_CANCEL = read_reference("projects/p/locations/us-central1/featureGroups/1/operations/2", "aiplatform")

RUNNING = Operation.from_json({"name": NAME, "metadata": {"state": "RUNNING"}})
SUCCEEDED = Operation.from_json({"name": NAME, "done": True, "response": {}})
FAILED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 13, "message": "boom"}})
CANCELLED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 1}})
TAKEN = None


def error(kind: type[ApiError], status: str, http: int) -> ApiError:
    """An error of the API."""
    return kind(service="datafusion", verb="cancel", operation=NAME, http_status=http, status=status, message="m")


PRECONDITION = error(FailedPreconditionError, "FAILED_PRECONDITION", 400)
NOT_FOUND = error(NotFoundError, "NOT_FOUND", 404)
UNIMPLEMENTED = error(UnimplementedError, "UNIMPLEMENTED", 501)
DENIED = error(PermissionDeniedError, "PERMISSION_DENIED", 403)
UNAVAILABLE = error(UnavailableError, "UNAVAILABLE", 503)
LOST = TransportError("no connection")


def drive(flow: Generator[Request, Any, Any], *answers: Any) -> tuple[list[str], Any]:
    """Give the flow these answers, one per request.

    :return: the verbs that it asked for, and what it returned or raised. A flow that asks for more or
        for less than there are answers fails the test.
    """
    asked: list[str] = []
    left = list(answers)
    try:
        request = next(flow)
        while True:
            asked.append(request.verb)
            assert request.reference in (REFERENCE, NO_CANCEL)
            assert request.url.startswith(f"{ENDPOINT}/v1/{request.reference.name}")
            answer = left.pop(0)
            request = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as end:
        result: Any = end.value
    except OperationsError as raised:
        result = raised
    assert left == []
    return asked, result


def had_finished(operation: Operation) -> CancelResult:
    """It had finished before the request."""
    return CancelResult(False, operation.outcome, operation)


def unsupported(before: Operation | None = None) -> CancelResult:
    """The service cannot cancel it."""
    return CancelResult(False, Outcome.CANCEL_UNSUPPORTED, before)


def unknown(before: Operation | None = None) -> CancelResult:
    """The service does not know it."""
    return CancelResult(False, Outcome.NOT_FOUND, before)


REFUSALS: dict[str, tuple[list[Any], list[str], Any]] = {
    "accepted": ([TAKEN], ["cancel"], lambda before: CancelResult(True, None, before)),
    "refused, it had succeeded": ([PRECONDITION, SUCCEEDED], ["cancel", "get"], had_finished(SUCCEEDED)),
    "refused, it had failed": ([PRECONDITION, FAILED], ["cancel", "get"], had_finished(FAILED)),
    "refused, it was cancelled already": ([PRECONDITION, CANCELLED], ["cancel", "get"], had_finished(CANCELLED)),
    "refused, though it runs": ([PRECONDITION, RUNNING], ["cancel", "get"], PRECONDITION),
    "refused, then gone": ([PRECONDITION, NOT_FOUND], ["cancel", "get"], unknown),
    "refused, then no answer": ([PRECONDITION, UNAVAILABLE], ["cancel", "get"], UNAVAILABLE),
    "gone": ([NOT_FOUND], ["cancel"], unknown),
    "unimplemented": ([UNIMPLEMENTED], ["cancel"], unsupported),
    "denied": ([DENIED], ["cancel"], DENIED),
    "unavailable": ([UNAVAILABLE], ["cancel"], UNAVAILABLE),
    "no connection": ([LOST], ["cancel"], LOST),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("poll", ["no time", "just taken", "running", "denied", "unavailable", "no connection"])
def test_cancel(poll: str, case: str) -> None:
    """What the request comes to does not depend on whether there was a poll before it; one that failed is none."""
    answers, asked, result = REFUSALS[case]
    before = RUNNING if poll in ("just taken", "running") else None
    polls = {"running": RUNNING, "denied": DENIED, "unavailable": UNAVAILABLE, "no connection": LOST}
    given = {"look": poll != "no time", "before": RUNNING if poll == "just taken" else None}
    taken = [polls[poll]] if poll in polls else []
    assert drive(flows.cancel(REFERENCE, ENDPOINT, **given), *taken, *answers) == (
        ["get"] * len(taken) + asked,
        result(before) if callable(result) else result,
    )


@pytest.mark.parametrize("operation", [SUCCEEDED, FAILED, CANCELLED])
def test_what_had_finished_is_not_cancelled(operation: Operation) -> None:
    """The poll says so, whether it is taken now or was before: no request, and the operation's own outcome."""
    assert drive(flows.cancel(REFERENCE, ENDPOINT), operation) == (["get"], had_finished(operation))
    for look in (True, False):
        flow = flows.cancel(REFERENCE, ENDPOINT, look=look, before=operation)
        assert drive(flow) == ([], had_finished(operation))


def test_what_is_not_found_is_not_cancelled() -> None:
    """Nothing is sent after it."""
    assert drive(flows.cancel(REFERENCE, ENDPOINT), NOT_FOUND) == (["get"], unknown())


@pytest.mark.parametrize("answer", [RUNNING, DENIED, UNAVAILABLE])
def test_cancel_of_what_has_no_cancel(answer: Any) -> None:
    """Where the table says that there is no cancel, the operation is polled and nothing more is sent."""
    before = answer if isinstance(answer, Operation) else None
    assert drive(flows.cancel(NO_CANCEL, ENDPOINT), answer) == (["get"], unsupported(before))
    assert drive(flows.cancel(NO_CANCEL, ENDPOINT, look=False)) == ([], unsupported())


def test_a_finished_operation_without_cancel_has_its_own_outcome() -> None:
    """What has finished is never called unsupported."""
    assert drive(flows.cancel(NO_CANCEL, ENDPOINT), SUCCEEDED) == (["get"], had_finished(SUCCEEDED))


def test_the_requests_are_those_of_the_protocol() -> None:
    """A flow asks with the protocol's own requests."""
    flow = flows.cancel(REFERENCE, ENDPOINT)
    assert next(flow) == protocol.get(REFERENCE, ENDPOINT)
    assert flow.send(RUNNING) == protocol.cancel(REFERENCE, ENDPOINT)


class Counted(Metrics):
    """Writes down what is counted."""

    def __init__(self) -> None:
        self.cancels: list[tuple[str, str]] = []

    def cancel(self, service: str, outcome: str) -> None:
        """A cancellation."""
        self.cancels.append((service, outcome))


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        ([RUNNING, TAKEN], "REQUESTED"),
        ([SUCCEEDED], "SUCCEEDED"),
        ([RUNNING, PRECONDITION, FAILED], "FAILED"),
        ([NOT_FOUND], "NOT_FOUND"),
        ([RUNNING, UNIMPLEMENTED], "CANCEL_UNSUPPORTED"),
        ([RUNNING, DENIED], "REFUSED"),
        ([DENIED, LOST], "REFUSED"),
    ],
)
def test_each_cancel_is_counted_once(answers: list[Any], word: str) -> None:
    """By its word, once the answer is there: requested is not cancelled."""
    counted = Counted()
    _, result = drive(flows.cancel(REFERENCE, ENDPOINT, metrics=counted), *answers)
    assert counted.cancels == [("datafusion", word)]
    assert isinstance(result, OperationsError) or result.word == word


@pytest.mark.parametrize("later", [RUNNING, SUCCEEDED, FAILED, CANCELLED])
def test_a_later_poll_changes_nothing_that_was_known(later: Operation) -> None:
    """An outcome from before the request stands; of a request that was accepted only the later poll can tell."""
    for known in (had_finished(SUCCEEDED), had_finished(FAILED), unsupported(RUNNING), unknown()):
        assert known.outcome_of(later) is known.outcome
    assert CancelResult(True, None, None).outcome_of(later) is flows.outcome_of_cancel(later)


@pytest.mark.parametrize(
    ("result", "fact"),
    [
        (CancelResult(True, None, RUNNING), "Cancellation requested; the service accepted it"),
        (had_finished(SUCCEEDED), "Not cancelled, already finished (SUCCEEDED)"),
        (had_finished(FAILED), "Not cancelled, already finished (FAILED · boom)"),
        (unsupported(), "Not cancelled, the service does not support it"),
        (unknown(), "Not cancelled, no such operation"),
        (LOST, "Cancellation not accepted, no connection"),
    ],
)
def test_a_cancel_has_one_line(result: Any, fact: str) -> None:
    """The fact first, the reason, and at last the operation, in short."""
    assert flows.cancel_line(REFERENCE, result, "because") == f"{fact} (because): o (datafusion)"
    assert flows.cancel_line(REFERENCE, result) == f"{fact}: o (datafusion)"


@pytest.mark.parametrize(
    ("operation", "outcome"),
    [
        (SUCCEEDED, Outcome.COMPLETED_DESPITE_CANCEL),
        (FAILED, Outcome.FAILED),
        (CANCELLED, Outcome.CANCELLED),
        (RUNNING, Outcome.STILL_RUNNING),
    ],
    ids=["succeeded", "failed", "cancelled", "running"],
)
def test_outcome_of_cancel(operation: Operation, outcome: Outcome) -> None:
    """A later look tells what came of a request that was taken."""
    assert flows.outcome_of_cancel(operation) is outcome
