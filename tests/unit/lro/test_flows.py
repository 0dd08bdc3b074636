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
    UnknownServiceError,
)
from airflow_lro_provider.lro.flows import Asked
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


@pytest.mark.parametrize(
    ("answers", "asked", "result"),
    [
        ([TAKEN], ["cancel"], None),
        ([PRECONDITION, SUCCEEDED], ["cancel", "get"], SUCCEEDED),
        ([PRECONDITION, FAILED], ["cancel", "get"], FAILED),
        ([PRECONDITION, CANCELLED], ["cancel", "get"], CANCELLED),
        ([PRECONDITION, RUNNING], ["cancel", "get"], PRECONDITION),
        ([PRECONDITION, NOT_FOUND], ["cancel", "get"], NOT_FOUND),
        ([PRECONDITION, UNAVAILABLE], ["cancel", "get"], UNAVAILABLE),
        ([NOT_FOUND], ["cancel"], NOT_FOUND),
        ([UNIMPLEMENTED], ["cancel"], UNIMPLEMENTED),
        ([DENIED], ["cancel"], DENIED),
        ([UNAVAILABLE], ["cancel"], UNAVAILABLE),
    ],
    ids=[
        "taken",
        "refused, it had succeeded",
        "refused, it had failed",
        "refused, it was cancelled already",
        "refused, though it runs",
        "refused, then gone",
        "refused, then no answer",
        "gone",
        "unimplemented",
        "denied",
        "unavailable",
    ],
)
def test_cancel(answers: list[Any], asked: list[str], result: Any) -> None:
    """FAILED_PRECONDITION is looked up: over is no error, running is; every other error is told as it is."""
    assert drive(flows.cancel(REFERENCE, ENDPOINT), *answers) == (asked, result)


def test_cancel_of_what_has_no_cancel_asks_nothing() -> None:
    """A cancel that the service is known not to have is refused before a request."""
    with pytest.raises(UnknownServiceError, match="does not offer cancel"):
        next(flows.cancel(NO_CANCEL, ENDPOINT))


@pytest.mark.parametrize(
    ("answers", "asked", "result"),
    [
        ([RUNNING, TAKEN], ["get", "cancel"], Asked(None, RUNNING, True)),
        ([SUCCEEDED], ["get"], Asked(Outcome.SUCCEEDED, SUCCEEDED, False)),
        ([FAILED], ["get"], Asked(Outcome.FAILED, FAILED, False)),
        ([CANCELLED], ["get"], Asked(Outcome.CANCELLED, CANCELLED, False)),
        ([NOT_FOUND], ["get"], Asked(Outcome.NOT_FOUND, None, False)),
        ([RUNNING, UNIMPLEMENTED], ["get", "cancel"], Asked(Outcome.CANCEL_UNSUPPORTED, RUNNING, False)),
        ([RUNNING, NOT_FOUND], ["get", "cancel"], Asked(Outcome.NOT_FOUND, RUNNING, False)),
        ([RUNNING, PRECONDITION, SUCCEEDED], ["get", "cancel", "get"], Asked(Outcome.SUCCEEDED, SUCCEEDED, False)),
        ([RUNNING, PRECONDITION, FAILED], ["get", "cancel", "get"], Asked(Outcome.FAILED, FAILED, False)),
        ([RUNNING, PRECONDITION, CANCELLED], ["get", "cancel", "get"], Asked(Outcome.CANCELLED, CANCELLED, False)),
        ([RUNNING, PRECONDITION, NOT_FOUND], ["get", "cancel", "get"], Asked(Outcome.NOT_FOUND, RUNNING, False)),
        ([RUNNING, PRECONDITION, RUNNING], ["get", "cancel", "get"], PRECONDITION),
        ([DENIED], ["get"], DENIED),
        ([RUNNING, DENIED], ["get", "cancel"], DENIED),
        ([RUNNING, UNAVAILABLE], ["get", "cancel"], UNAVAILABLE),
    ],
    ids=[
        "taken",
        "succeeded before",
        "failed before",
        "cancelled before",
        "gone before",
        "unsupported",
        "gone between",
        "succeeded between",
        "failed between",
        "cancelled between",
        "gone after a refusal",
        "refused, though it runs",
        "may not look",
        "may not cancel",
        "unavailable",
    ],
)
def test_ask_for_cancel(answers: list[Any], asked: list[str], result: Any) -> None:
    """One look, at most one cancel request, and the truth about what is known after it."""
    assert drive(flows.ask_for_cancel(REFERENCE, ENDPOINT), *answers) == (asked, result)


def test_ask_for_cancel_of_what_has_no_cancel() -> None:
    """Where the table says that there is no cancel, the operation is looked at and nothing more is sent."""
    assert drive(flows.ask_for_cancel(NO_CANCEL, ENDPOINT), RUNNING) == (
        ["get"],
        Asked(Outcome.CANCEL_UNSUPPORTED, RUNNING, False),
    )


def test_a_finished_operation_without_cancel_has_its_own_outcome() -> None:
    """What is over already is never called unsupported."""
    _, result = drive(flows.ask_for_cancel(NO_CANCEL, ENDPOINT), SUCCEEDED)
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("flow", [flows.cancel, flows.ask_for_cancel])
def test_an_error_without_an_answer_ends_the_conversation(flow: Any) -> None:
    """No connection is not an outcome of the operation."""
    lost = TransportError("no connection")
    assert drive(flow(REFERENCE, ENDPOINT), lost)[1] is lost


def test_the_requests_are_those_of_the_protocol() -> None:
    """A flow asks with the protocol's own requests."""
    flow = flows.ask_for_cancel(REFERENCE, ENDPOINT)
    assert next(flow) == protocol.get(REFERENCE, ENDPOINT)
    assert flow.send(RUNNING) == protocol.cancel(REFERENCE, ENDPOINT)


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
