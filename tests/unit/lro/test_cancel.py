"""How an operation is cancelled, driven by hand: what is sent, and what is concluded."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.cancel import CancelResult, cancel, cancel_line, outcome_of_cancel
from airflow_lro_provider.lro.errors import (
    ApiError,
    OperationsError,
    UnreachableError,
)
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.resources.catalog import find_service
from tests.unit.lro.driver import (
    ACCEPTED,
    CANCELLED,
    DENIED,
    ENDPOINT,
    FAILED,
    LOST,
    NO_CANCEL,
    NO_KEY,
    NO_ROUTE,
    NOT_FOUND,
    PRECONDITION,
    REFERENCE,
    RUNNING,
    SUCCEEDED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    UNSENT,
    Clock,
    busy_for,
    drive,
)


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
    "accepted": ([ACCEPTED], ["cancel"], lambda before: CancelResult(True, None, before)),
    "refused, it had succeeded": ([PRECONDITION, SUCCEEDED], ["cancel", "get"], had_finished(SUCCEEDED)),
    "refused, it had failed": ([PRECONDITION, FAILED], ["cancel", "get"], had_finished(FAILED)),
    "refused, it was cancelled already": ([PRECONDITION, CANCELLED], ["cancel", "get"], had_finished(CANCELLED)),
    "refused, then no response": ([PRECONDITION, UNAVAILABLE], ["cancel", "get"], UNAVAILABLE),
    "unimplemented": ([UNIMPLEMENTED], ["cancel"], unsupported),
    "denied": ([DENIED], ["cancel"], DENIED),
    "unavailable": ([UNAVAILABLE], ["cancel"], UNAVAILABLE),
    "no connection": ([LOST], ["cancel"], LOST),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("poll", ["no time", "just taken", "running"])
def test_cancel(poll: str, case: str) -> None:
    """What the request comes to does not depend on whether there was a poll before it."""
    responses, steps, result = REFUSALS[case]
    before = RUNNING if poll in ("just taken", "running") else None
    given = {"poll": poll != "no time", "before": RUNNING if poll == "just taken" else None}
    taken = [RUNNING] if poll == "running" else []
    assert drive(cancel(REFERENCE, ENDPOINT, **given), *taken, *responses) == (
        ["get"] * len(taken) + steps,
        result(before) if callable(result) else result,
    )


@pytest.mark.parametrize("operation", [SUCCEEDED, FAILED, CANCELLED])
def test_what_had_finished_is_not_cancelled(operation: Operation) -> None:
    """The poll says so, whether it is taken now or was before: no request, and the operation's own outcome."""
    assert drive(cancel(REFERENCE, ENDPOINT), operation) == (["get"], had_finished(operation))
    for poll in (True, False):
        flow = cancel(REFERENCE, ENDPOINT, poll=poll, before=operation)
        assert drive(flow) == ([], had_finished(operation))


UNTIL_BELIEVED: dict[str, list[Any]] = {
    verb: [verb, 1.0, verb, 2.0, verb, 4.0, verb, 3.0, verb] for verb in ("get", "cancel")
}
"""What is sent, and how long is slept, until a 404 is believed."""


@pytest.mark.parametrize(
    ("arguments", "responses", "steps"),
    [
        ({}, [NOT_FOUND] * 6, [*UNTIL_BELIEVED["get"], "cancel"]),
        ({"poll": False}, [NOT_FOUND] * 6, [*UNTIL_BELIEVED["cancel"], "get"]),
        ({"before": RUNNING}, [NOT_FOUND] * 6, [*UNTIL_BELIEVED["cancel"], "get"]),
        ({"before": RUNNING}, [PRECONDITION, *[NOT_FOUND] * 6], ["cancel", *UNTIL_BELIEVED["get"], "get"]),
        ({}, [RUNNING, *[NOT_FOUND] * 6], ["get", *UNTIL_BELIEVED["cancel"], "get"]),
    ],
    ids=["the poll", "the request, at once", "the request, after a poll before", "a refusal's poll", "since a poll"],
)
def test_one_404_is_not_believed(arguments: dict[str, Any], responses: list[Any], steps: list[Any]) -> None:
    """Row A3: gone is what was not found for ten seconds and three times, and whose cancellation was requested."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, **arguments, clock=clock)
    taken, result = drive(flow, *responses, clock=clock)
    assert (taken, result.outcome, result.requested) == (steps, Outcome.NOT_FOUND, False)


@pytest.mark.parametrize("lost_for", [1, 2, 3, 4])
@pytest.mark.parametrize("poll", [True, False])
def test_what_is_found_again_is_cancelled(lost_for: int, poll: bool) -> None:
    """Row A3: some 404s of a moment change nothing; each of the two requests has its own."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=poll, clock=clock)
    lost = [NOT_FOUND] * lost_for
    taken, result = drive(flow, *([*lost, RUNNING] if poll else []), *lost, ACCEPTED, clock=clock)
    assert (taken.count("get"), taken.count("cancel")) == (poll * (lost_for + 1), lost_for + 1)
    assert result == CancelResult(True, None, RUNNING if poll else None)


def test_other_errors_neither_confirm_nor_refute_a_404() -> None:
    """Row A3: 404, 503, 404 are two, and since the first; a success in between makes the count begin anew."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=False, retries=1, clock=clock)
    responses = [NOT_FOUND, UNAVAILABLE, NOT_FOUND, UNAVAILABLE, NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND]
    _, result = drive(flow, *responses, clock=clock)
    assert result == unknown()


@pytest.mark.parametrize(
    ("responses", "steps", "result"),
    [
        ([NO_ROUTE] * 5, UNTIL_BELIEVED["cancel"], unsupported(RUNNING)),
        ([NO_ROUTE, NO_ROUTE, ACCEPTED], ["cancel", 1.0, "cancel", 2.0, "cancel"], CancelResult(True, None, RUNNING)),
        (
            [PRECONDITION, RUNNING] * 5,
            ["cancel", "get", 1.0, "cancel", "get", 2.0, "cancel", "get", 4.0, "cancel", "get", 3.0, "cancel", "get"],
            PRECONDITION,
        ),
        (
            [PRECONDITION, RUNNING, ACCEPTED],
            ["cancel", "get", 1.0, "cancel"],
            CancelResult(True, None, RUNNING),
        ),
        (
            [NO_ROUTE, PRECONDITION, SUCCEEDED],
            ["cancel", 1.0, "cancel", "get"],
            CancelResult(False, Outcome.SUCCEEDED, SUCCEEDED),
        ),
    ],
    ids=["no route", "no route for a moment", "refused", "refused for a moment", "both"],
)
def test_one_refusal_is_not_believed(responses: list[Any], steps: list[Any], result: Any) -> None:
    """A page of a front end, and a state that does not allow it yet, may be those of a moment."""
    clock = Clock()
    assert drive(cancel(REFERENCE, ENDPOINT, before=RUNNING, clock=clock), *responses, clock=clock) == (steps, result)


@pytest.mark.parametrize("refusal", [[NO_ROUTE], [PRECONDITION, RUNNING]])
def test_with_little_patience_a_refusal_is_an_error(refusal: list[Any]) -> None:
    """A dying process concludes nothing of it."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=False, patience=1.5, clock=clock)
    _, result = drive(flow, *refusal, *refusal, clock=clock)
    assert result is refusal[0]


def test_trouble_of_our_own_is_waited_out() -> None:
    """A cancel without credentials is requested again with what the connection says then, as long as there is time."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=False, trouble_patience=60.0, clock=clock)
    assert drive(flow, NO_KEY, NO_KEY, ACCEPTED, clock=clock) == (
        ["cancel", "renew", 1.0, "cancel", "renew", 2.0, "cancel"],
        CancelResult(True, None, None),
    )
    flow = cancel(REFERENCE, ENDPOINT, poll=False, trouble_patience=2.0, clock=clock)
    assert drive(flow, NO_KEY, NO_KEY, NO_KEY, clock=clock) == (
        ["cancel", "renew", 1.0, "cancel", "renew", 1.0, "cancel"],
        NO_KEY,
    )
    assert drive(cancel(REFERENCE, ENDPOINT, poll=False), NO_KEY) == (["cancel"], NO_KEY)  # somebody waits for it


@pytest.mark.parametrize(("later", "outcome"), [(RUNNING, Outcome.CANCEL_UNSUPPORTED), (SUCCEEDED, Outcome.SUCCEEDED)])
@pytest.mark.parametrize("poll", [True, False])
def test_a_404_of_the_request_is_not_believed_against_a_poll(poll: bool, later: Operation, outcome: Outcome) -> None:
    """What a get finds is there, whatever the cancel is told: its verb does not work, or it has finished."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=poll, clock=clock)
    _, result = drive(flow, *([RUNNING] if poll else []), *[NOT_FOUND] * 5, later, clock=clock)
    assert result == CancelResult(False, outcome, later)


def test_a_long_retry_after_does_not_hold_up_an_end() -> None:
    """It is cut short: the cancel is sent once more when its time is up, and then given up."""
    busy = busy_for(3600.0)
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=False, retries=5, patience=60.0, clock=clock)
    assert drive(flow, busy, busy, clock=clock) == (["cancel", 60.0, "cancel"], busy)
    flow = cancel(REFERENCE, ENDPOINT, poll=False, retries=5, patience=0.0, clock=clock)
    assert drive(flow, busy, clock=clock) == (["cancel"], busy)


def test_at_an_end_the_connections_retries_do_not_count() -> None:
    """Found by simulated time: with `num_retries` 0, one 503 ended the only cancel that there was."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=False, retries=0, patience=60.0, clock=clock)
    taken, result = drive(flow, *[UNAVAILABLE] * 4, ACCEPTED, clock=clock)
    assert (taken.count("cancel"), result) == (5, CancelResult(True, None, None))


def test_at_an_end_one_certificate_is_not_believed() -> None:
    """B4: a certificate that is not trusted is final, and still no reason to give up the only cancel that there is."""
    untrusted, clock = UnreachableError("not trusted"), Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=False, retries=5, patience=60.0, clock=clock)
    assert drive(flow, untrusted, ACCEPTED, clock=clock) == (["cancel", 1.0, "cancel"], CancelResult(True, None, None))
    assert drive(cancel(REFERENCE, ENDPOINT, poll=False, retries=5), untrusted) == (["cancel"], untrusted)


@pytest.mark.parametrize(("patience", "sent"), [(0.0, 1), (1.0, 2), (3.0, 3), (6.0, 3), (7.0, 4)])
def test_with_little_patience_a_404_is_an_error(patience: float, sent: int) -> None:
    """Row A3: a dying process repeats a cancel while there is time, and concludes nothing."""
    clock = Clock()
    flow = cancel(REFERENCE, ENDPOINT, poll=False, patience=patience, clock=clock)
    taken, result = drive(flow, *[NOT_FOUND] * sent, clock=clock)
    assert (taken.count("cancel"), result) == (sent, NOT_FOUND)


def test_what_is_gone_and_has_no_cancel_is_not_found() -> None:
    """No such operation is worth more than no such verb."""
    clock = Clock()
    taken, result = drive(cancel(NO_CANCEL, ENDPOINT, clock=clock), *[NOT_FOUND] * 5, clock=clock)
    assert (taken, result) == (UNTIL_BELIEVED["get"], unknown())


@pytest.mark.parametrize("problem", [DENIED, UNAVAILABLE, LOST])
@pytest.mark.parametrize("reference", [REFERENCE, NO_CANCEL])
def test_without_the_poll_there_is_no_truth_and_no_request(reference: Any, problem: ApiError) -> None:
    """Nobody could tell afterwards whether the operation had finished before: the error is the poll's."""
    assert drive(cancel(reference, ENDPOINT), problem) == (["get"], problem)


def test_cancel_of_what_has_no_cancel() -> None:
    """Where the table says that there is no cancel, the operation is polled and nothing more is sent."""
    assert drive(cancel(NO_CANCEL, ENDPOINT), RUNNING) == (["get"], unsupported(RUNNING))
    assert drive(cancel(NO_CANCEL, ENDPOINT, poll=False)) == ([], unsupported())


def test_a_finished_operation_without_cancel_has_its_own_outcome() -> None:
    """What has finished is never called unsupported."""
    assert drive(cancel(NO_CANCEL, ENDPOINT), SUCCEEDED) == (["get"], had_finished(SUCCEEDED))


def test_the_requests_are_those_of_the_protocol() -> None:
    """A flow sends the protocol's own requests."""
    flow = cancel(REFERENCE, ENDPOINT)
    assert next(flow) == protocol.poll(REFERENCE, ENDPOINT)
    assert flow.send(RUNNING) == protocol.cancel(REFERENCE, ENDPOINT)


class Counted(Metrics):
    """Writes down what is counted."""

    def __init__(self) -> None:
        self.cancels: list[tuple[str, str]] = []

    def cancel(self, service: str, outcome: str) -> None:
        """A cancellation."""
        self.cancels.append((service, outcome))


@pytest.mark.parametrize(
    ("responses", "word"),
    [
        ([RUNNING, ACCEPTED], "REQUESTED"),
        ([SUCCEEDED], "SUCCEEDED"),
        ([RUNNING, PRECONDITION, FAILED], "FAILED"),
        ([NOT_FOUND] * 6, "NOT_FOUND"),
        ([RUNNING, UNIMPLEMENTED], "CANCEL_UNSUPPORTED"),
        ([RUNNING, DENIED], "REFUSED"),
        ([DENIED], "REFUSED"),
    ],
)
def test_each_cancel_is_counted_once(responses: list[Any], word: str) -> None:
    """By its word, once the response is there: requested is not cancelled."""
    counted, clock = Counted(), Clock()
    flow = cancel(REFERENCE, ENDPOINT, metrics=counted, clock=clock)
    _, result = drive(flow, *responses, clock=clock)
    assert counted.cancels == [("datafusion", word)]
    assert isinstance(result, OperationsError) or result.word == word


@pytest.mark.parametrize("later", [RUNNING, SUCCEEDED, FAILED, CANCELLED])
def test_a_later_poll_changes_nothing_that_was_known(later: Operation) -> None:
    """An outcome from before the request stands; of a request that was accepted only the later poll can tell."""
    for known in (had_finished(SUCCEEDED), had_finished(FAILED), unsupported(RUNNING), unknown()):
        assert known.outcome_of(later) is known.outcome
    assert CancelResult(True, None, None).outcome_of(later) is outcome_of_cancel(later)


@pytest.mark.parametrize(
    ("result", "fact"),
    [
        (CancelResult(True, None, RUNNING), "Cancellation requested; the service accepted it"),
        (had_finished(SUCCEEDED), "Not cancelled, already finished (SUCCEEDED)"),
        (had_finished(FAILED), "Not cancelled, already finished (FAILED · boom)"),
        (had_finished(CANCELLED), "Was cancelled already (CANCELLED)"),  # C11: not "not cancelled: CANCELLED"
        (unsupported(), "Not cancelled, the service cannot cancel it"),
        (unknown(), "Not cancelled, no such operation"),
        (LOST, "Cancellation not accepted, no connection"),
        (NO_KEY, "Cancellation could not be sent, no key"),  # C11: not "requested … refused"
        (UNSENT, "Cancellation could not be sent, no connection"),
    ],
)
def test_a_cancel_has_one_line(result: Any, fact: str) -> None:
    """The fact first, the reason, and at last the operation, in short."""
    assert cancel_line(REFERENCE, result, "because") == f"{fact} (because): o (datafusion)"
    assert cancel_line(REFERENCE, result) == f"{fact}: o (datafusion)"


def test_a_service_that_has_no_cancel_is_named() -> None:
    """C11: the API is named, where it is known that it cannot cancel."""
    line = cancel_line(NO_CANCEL, unsupported())
    assert line.startswith(f"Not cancelled, {find_service(NO_CANCEL.service).title} cannot cancel it: ")


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
    """A later poll tells the outcome of a request that was accepted."""
    assert outcome_of_cancel(operation) is outcome


def test_both_requests_of_a_cancel_are_repeated() -> None:
    """An outage of a moment changes neither the request nor what is known of the operation before it."""
    responses = [UNAVAILABLE, UNAVAILABLE, RUNNING, UNAVAILABLE, LOST, ACCEPTED]
    steps, result = drive(cancel(REFERENCE, ENDPOINT, retries=2), *responses)
    assert [step for step in steps if isinstance(step, str)] == ["get"] * 3 + ["cancel"] * 3
    assert result == CancelResult(True, None, RUNNING)
