"""Conversations with a service, driven by hand: what is sent, and what is concluded."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_lro_provider.lro import flows, paging, protocol
from airflow_lro_provider.lro.errors import (
    ApiError,
    FailedPreconditionError,
    NotFoundError,
    OperationsError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ResponseTooLargeError,
    StartUnknownError,
    TransportError,
    UnavailableError,
    UnimplementedError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.flows import CancelResult, Flow, Sleep, send
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.paging import MAX_TOKEN_LENGTH, Paging
from airflow_lro_provider.lro.polling import PollSchedule, new_schedule
from airflow_lro_provider.lro.protocol import Page
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

NAME = "projects/p/locations/us-central1/operations/o"
ENDPOINT = "https://datafusion.googleapis.com"
REFERENCE = read_reference(NAME, "datafusion")
NO_CANCEL = read_reference("projects/p/locations/us-central1/featureGroups/1/operations/2", "aiplatform")

RUNNING = Operation.from_json({"name": NAME, "metadata": {"state": "RUNNING"}})
SUCCEEDED = Operation.from_json({"name": NAME, "done": True, "response": {}})
FAILED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 13, "message": "boom"}})
CANCELLED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 1}})
ACCEPTED = None


def error(kind: type[ApiError], status: str, http: int) -> ApiError:
    """An error of the API."""
    return kind(service="datafusion", verb="cancel", operation=NAME, http_status=http, status=status, message="m")


PRECONDITION = error(FailedPreconditionError, "FAILED_PRECONDITION", 400)
NOT_FOUND = error(NotFoundError, "NOT_FOUND", 404)
UNIMPLEMENTED = error(UnimplementedError, "UNIMPLEMENTED", 501)
DENIED = error(PermissionDeniedError, "PERMISSION_DENIED", 403)
UNAVAILABLE = error(UnavailableError, "UNAVAILABLE", 503)
LOST = TransportError("no connection")
UNSENT = TransportError("no connection", sent=False)


class Clock:
    """A clock that stands still between two sleeps."""

    now = 100.0

    def __call__(self) -> float:
        """Its time, in seconds."""
        return self.now


def drive(flow: Flow[Any], *responses: Any, clock: Clock | None = None) -> tuple[list[str | float], Any]:
    """Give the flow these responses, one per request.

    :param clock: the flow's clock, which its sleeps move.
    :return: the verbs that it requested and the seconds that it slept, and what it returned or raised. A flow that
        sends more or fewer requests than there are responses fails the test.
    """
    steps: list[str | float] = []
    left = list(responses)
    try:
        step = next(flow)
        while True:
            if isinstance(step, Sleep):
                steps.append(step.seconds)
                if clock is not None:
                    clock.now += step.seconds
                step = next(flow)
                continue
            steps.append(step.verb)
            assert step.resource in (REFERENCE, NO_CANCEL, METHOD)
            assert step.url.startswith(f"{ENDPOINT}/v1/{step.resource.name}")
            response = left.pop(0)
            step = flow.throw(response) if isinstance(response, Exception) else flow.send(response)
    except StopIteration as end:
        result: Any = end.value
    except OperationsError as raised:
        result = raised
    assert left == []
    return steps, result


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
    "refused, though it runs": ([PRECONDITION, RUNNING], ["cancel", "get"], PRECONDITION),
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
    assert drive(flows.cancel(REFERENCE, ENDPOINT, **given), *taken, *responses) == (
        ["get"] * len(taken) + steps,
        result(before) if callable(result) else result,
    )


@pytest.mark.parametrize("operation", [SUCCEEDED, FAILED, CANCELLED])
def test_what_had_finished_is_not_cancelled(operation: Operation) -> None:
    """The poll says so, whether it is taken now or was before: no request, and the operation's own outcome."""
    assert drive(flows.cancel(REFERENCE, ENDPOINT), operation) == (["get"], had_finished(operation))
    for poll in (True, False):
        flow = flows.cancel(REFERENCE, ENDPOINT, poll=poll, before=operation)
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
    flow = flows.cancel(REFERENCE, ENDPOINT, **arguments, clock=clock)
    taken, result = drive(flow, *responses, clock=clock)
    assert (taken, result.outcome, result.requested) == (steps, Outcome.NOT_FOUND, False)


@pytest.mark.parametrize("lost_for", [1, 2, 3, 4])
@pytest.mark.parametrize("poll", [True, False])
def test_what_is_found_again_is_cancelled(lost_for: int, poll: bool) -> None:
    """Row A3: some 404s of a moment change nothing; each of the two requests has its own."""
    clock = Clock()
    flow = flows.cancel(REFERENCE, ENDPOINT, poll=poll, clock=clock)
    lost = [NOT_FOUND] * lost_for
    taken, result = drive(flow, *([*lost, RUNNING] if poll else []), *lost, ACCEPTED, clock=clock)
    assert (taken.count("get"), taken.count("cancel")) == (poll * (lost_for + 1), lost_for + 1)
    assert result == CancelResult(True, None, RUNNING if poll else None)


def test_other_errors_neither_confirm_nor_refute_a_404() -> None:
    """Row A3: 404, 503, 404 are two, and since the first; a success in between makes the count begin anew."""
    clock = Clock()
    flow = flows.cancel(REFERENCE, ENDPOINT, poll=False, retries=1, clock=clock)
    responses = [NOT_FOUND, UNAVAILABLE, NOT_FOUND, UNAVAILABLE, NOT_FOUND, NOT_FOUND, NOT_FOUND, NOT_FOUND]
    _, result = drive(flow, *responses, clock=clock)
    assert result == unknown()


@pytest.mark.parametrize(("later", "outcome"), [(RUNNING, Outcome.CANCEL_UNSUPPORTED), (SUCCEEDED, Outcome.SUCCEEDED)])
@pytest.mark.parametrize("poll", [True, False])
def test_a_404_of_the_request_is_not_believed_against_a_poll(poll: bool, later: Operation, outcome: Outcome) -> None:
    """What a get finds is there, whatever the cancel is told: its verb does not work, or it has finished."""
    clock = Clock()
    flow = flows.cancel(REFERENCE, ENDPOINT, poll=poll, clock=clock)
    _, result = drive(flow, *([RUNNING] if poll else []), *[NOT_FOUND] * 5, later, clock=clock)
    assert result == CancelResult(False, outcome, later)


def test_a_long_retry_after_does_not_hold_up_an_end() -> None:
    """A cancel that has little time is given up, and not slept for."""
    busy = ResourceExhaustedError(
        service="datafusion",
        verb="cancel",
        operation=NAME,
        http_status=429,
        status="RESOURCE_EXHAUSTED",
        message="m",
        retry_after=3600.0,
    )
    clock = Clock()
    flow = flows.cancel(REFERENCE, ENDPOINT, poll=False, retries=5, patience=60.0, clock=clock)
    assert drive(flow, busy, clock=clock) == (["cancel"], busy)


@pytest.mark.parametrize(("patience", "sent"), [(0.0, 1), (1.0, 2), (3.0, 3), (6.0, 3), (7.0, 4)])
def test_with_little_patience_a_404_is_an_error(patience: float, sent: int) -> None:
    """Row A3: a dying process repeats a cancel while there is time, and concludes nothing."""
    clock = Clock()
    flow = flows.cancel(REFERENCE, ENDPOINT, poll=False, patience=patience, clock=clock)
    taken, result = drive(flow, *[NOT_FOUND] * sent, clock=clock)
    assert (taken.count("cancel"), result) == (sent, NOT_FOUND)


def test_what_is_gone_and_has_no_cancel_is_not_found() -> None:
    """No such operation is worth more than no such verb."""
    clock = Clock()
    taken, result = drive(flows.cancel(NO_CANCEL, ENDPOINT, clock=clock), *[NOT_FOUND] * 5, clock=clock)
    assert (taken, result) == (UNTIL_BELIEVED["get"], unknown())


@pytest.mark.parametrize("problem", [DENIED, UNAVAILABLE, LOST])
@pytest.mark.parametrize("reference", [REFERENCE, NO_CANCEL])
def test_without_the_poll_there_is_no_truth_and_no_request(reference: Any, problem: ApiError) -> None:
    """Nobody could tell afterwards whether the operation had finished before: the error is the poll's."""
    assert drive(flows.cancel(reference, ENDPOINT), problem) == (["get"], problem)


def test_cancel_of_what_has_no_cancel() -> None:
    """Where the table says that there is no cancel, the operation is polled and nothing more is sent."""
    assert drive(flows.cancel(NO_CANCEL, ENDPOINT), RUNNING) == (["get"], unsupported(RUNNING))
    assert drive(flows.cancel(NO_CANCEL, ENDPOINT, poll=False)) == ([], unsupported())


def test_a_finished_operation_without_cancel_has_its_own_outcome() -> None:
    """What has finished is never called unsupported."""
    assert drive(flows.cancel(NO_CANCEL, ENDPOINT), SUCCEEDED) == (["get"], had_finished(SUCCEEDED))


def test_the_requests_are_those_of_the_protocol() -> None:
    """A flow sends the protocol's own requests."""
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
    flow = flows.cancel(REFERENCE, ENDPOINT, metrics=counted, clock=clock)
    _, result = drive(flow, *responses, clock=clock)
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
    """A later poll tells the outcome of a request that was accepted."""
    assert flows.outcome_of_cancel(operation) is outcome


def test_both_requests_of_a_cancel_are_repeated() -> None:
    """An outage of a moment changes neither the request nor what is known of the operation before it."""
    responses = [UNAVAILABLE, UNAVAILABLE, RUNNING, UNAVAILABLE, LOST, ACCEPTED]
    steps, result = drive(flows.cancel(REFERENCE, ENDPOINT, retries=2), *responses)
    assert [step for step in steps if isinstance(step, str)] == ["get"] * 3 + ["cancel"] * 3
    assert result == CancelResult(True, None, RUNNING)


# -- one request ------------------------------------------------------------------------------------------------------

GET = protocol.get(REFERENCE, ENDPOINT)


def test_a_request_is_repeated_after_errors_that_pass() -> None:
    """With pauses that double, to 20 s, and some jitter; the last error is raised."""
    steps, result = drive(send(GET, 8, rng=lambda: 0.0), *[UNAVAILABLE] * 8, RUNNING)
    assert [step for step in steps if step != "get"] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]
    assert steps[::2] == ["get"] * 9
    assert result is RUNNING
    assert drive(send(GET, 1, rng=lambda: 1.0), UNAVAILABLE, LOST) == (["get", 1.0, "get"], LOST)
    assert drive(send(GET), UNAVAILABLE) == (["get"], UNAVAILABLE)


def test_retry_after_is_obeyed() -> None:
    """The pause is never shorter than the API says."""
    busy = ResourceExhaustedError(
        service="datafusion",
        verb="get",
        operation=NAME,
        http_status=429,
        status="RESOURCE_EXHAUSTED",
        message="m",
        retry_after=37.0,
    )
    assert drive(send(GET, 1), busy, RUNNING) == (["get", 37.0, "get"], RUNNING)


@pytest.mark.parametrize("final", [DENIED, NOT_FOUND, PRECONDITION, UNIMPLEMENTED])
def test_other_errors_are_final(final: ApiError) -> None:
    """They would come again."""
    assert drive(send(GET, 5), final) == (["get"], final)


def test_many_retries_do_not_overflow() -> None:
    """A connection may set any number."""
    steps, _ = drive(send(GET, 2000, rng=lambda: 0.0), *[UNAVAILABLE] * 2000, RUNNING)
    assert steps.count("get") == 2001


# -- start ------------------------------------------------------------------------------------------------------------

METHOD = read_method("projects/p/locations/us-central1/instances?instanceId=i", service="datafusion")
REPEATABLE = read_method("projects/p/locations/us-central1/connections?connectionId=c", service="developerconnect")
REQUEST_ID = "b8a8a5a2-8d3c-4f3e-9a4b-000000000001"
STARTED = {"name": NAME}


def test_a_lost_start_is_not_repeated_without_a_request_id() -> None:
    """It is unknown what it started: an error of its own, at once."""
    steps, result = drive(flows.start(METHOD, ENDPOINT, retries=5), LOST)
    assert steps == ["start"]
    assert isinstance(result, StartUnknownError)
    assert result.may_have_happened


@pytest.mark.parametrize("refusal", [UNSENT, UNAVAILABLE])
def test_a_start_that_was_not_carried_out_is_repeated(refusal: OperationsError) -> None:
    """Nothing can be doubled. Once the retries are used up it is the last error."""
    steps, result = drive(flows.start(METHOD, ENDPOINT, retries=1), refusal, STARTED)
    assert ([step for step in steps if isinstance(step, str)], result.operation.name) == (["start", "start"], NAME)
    assert 0.5 <= sum(step for step in steps if not isinstance(step, str)) <= 1.0
    assert drive(flows.start(METHOD, ENDPOINT, retries=1), refusal, refusal)[1] is refusal


def test_a_start_is_given_up_when_its_task_was_killed() -> None:
    """A refused one is not sent again, and the pause before that ends soon after the kill."""
    killed_after = itertools.count()
    flow = flows.start(METHOD, ENDPOINT, retries=5, may_continue=lambda: next(killed_after) < 3)
    steps, result = drive(
        flow,
        ResourceExhaustedError(
            service="datafusion",
            verb="start",
            operation=NAME,
            http_status=429,
            status="RESOURCE_EXHAUSTED",
            message="m",
            retry_after=60.0,
        ),
    )
    assert steps == ["start", 0.5, 0.5, 0.5]
    assert isinstance(result, ResourceExhaustedError)


@pytest.mark.parametrize(("retry_after", "sent"), [(299.0, 2), (301.0, 1), (150.0, 2), (140.0, 3)])
def test_the_last_send_of_a_start_is_near(retry_after: float, sent: int) -> None:
    """Row A5: who looks for what it has started knows until when; a longer wait is for the next try of the task."""
    clock = Clock()
    busy = ResourceExhaustedError(
        service="datafusion",
        verb="start",
        operation=NAME,
        http_status=429,
        status="RESOURCE_EXHAUSTED",
        message="m",
        retry_after=retry_after,
    )
    steps, result = drive(flows.start(METHOD, ENDPOINT, retries=5, clock=clock), *[busy] * sent, clock=clock)
    assert (steps.count("start"), result) == (sent, busy)
    assert clock.now < 100.0 + flows.START_RETRY_SECONDS


@pytest.mark.parametrize("refusal", [DENIED, UNAVAILABLE, UNSENT])
@pytest.mark.parametrize("killed", [False, True])
def test_a_lost_start_stays_lost_when_it_is_refused_later(refusal: OperationsError, killed: bool) -> None:
    """The first one may have started something all the same: the record and its request id must be kept."""
    endpoint = endpoint_of(REPEATABLE)
    flow = flows.start(REPEATABLE, endpoint, request_id=REQUEST_ID, retries=1, may_continue=lambda: not killed)
    next(flow)
    step = flow.throw(LOST)
    while isinstance(step, Sleep):
        step = next(flow)
    assert step.verb == "start"
    with pytest.raises(TransportError, match="response was lost, and sending it again failed") as caught:
        flow.throw(refusal)
    assert caught.value.may_have_happened
    assert caught.value.transient


def test_a_lost_start_is_repeated_even_though_its_task_was_killed() -> None:
    """At once, because there is little time: the response names the operation, which can then be cancelled."""
    endpoint = endpoint_of(REPEATABLE)
    flow = flows.start(REPEATABLE, endpoint, request_id=REQUEST_ID, retries=5, may_continue=lambda: False)
    first = next(flow)
    assert flow.throw(LOST) == first
    with pytest.raises(StopIteration):
        flow.send({"name": "projects/p/locations/us-central1/operations/o"})


# -- list -------------------------------------------------------------------------------------------------------------

PARENT = read_parent("projects/p", "earthengine")


def walk(**arguments: Any) -> Paging:
    """A walk through Earth Engine's operations."""
    return Paging(PARENT, endpoint_of(PARENT), filter="done:false", page_size=5, **arguments)


def query(of: Paging) -> dict[str, list[str]]:
    """The query of the next request."""
    request = next(of.next_page())
    assert not isinstance(request, Sleep)
    return parse_qs(urlsplit(request.url).query)


def turn(of: Paging, *names: str, token: str = "") -> list[str]:
    """The names of the operations that are new on a page with operations of these names."""
    flow = of.next_page()
    next(flow)
    with pytest.raises(StopIteration) as end:
        flow.send(Page(tuple(Operation(name) for name in names), token))
    return [operation.name for operation in end.value.value]


def test_pages_follow_each_other() -> None:
    """Each request carries the filter and the last token; after a page without one there is none."""
    pages = walk()
    assert query(pages) == {"filter": ["done:false"], "pageSize": ["5"]}
    assert turn(pages, "a", "b", token="t/1") == ["a", "b"]
    assert query(pages) == {"filter": ["done:false"], "pageSize": ["5"], "pageToken": ["t/1"]}
    assert not pages.done
    assert turn(pages, "b", "c") == ["c"]
    assert pages.done


def test_a_page_is_requested_again_after_an_error_that_passes() -> None:
    """Each page has its own retries; the walk goes on where it was."""
    pages = walk(retries=1)
    for token in ("t/1", ""):
        flow = pages.next_page()
        first = next(flow)
        assert isinstance(flow.throw(UNAVAILABLE), Sleep)
        assert next(flow) == first
        with pytest.raises(StopIteration):
            flow.send(Page((), token))
    assert pages.done


def test_operations_without_a_name_are_not_duplicates() -> None:
    """Some services leave the name out: those cannot be told apart, and none is kept back."""
    assert turn(walk(), "", "", "a", "a") == ["", "", "a"]


def test_an_empty_page_does_not_end_a_list() -> None:
    """A filter may leave a page empty, with more to come."""
    pages = walk()
    assert turn(pages, token="t") == []
    assert not pages.done


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", "b", "a"]])
def test_the_same_token_twice_is_the_end(tokens: list[str]) -> None:
    """It leads to a page that was there before. The error names service and parent, and is final."""
    pages = walk()
    *good, last = tokens
    for token in good:
        turn(pages, token=token)
    with pytest.raises(ResponseTooLargeError, match=r"earthengine: list projects/p: .*same page token twice") as caught:
        turn(pages, token=last)
    assert not caught.value.transient


def test_a_token_that_fits_into_no_url_is_refused() -> None:
    """It is measured, and not sent."""
    with pytest.raises(ResponseTooLargeError, match="page token of 16385 characters"):
        turn(walk(), token="t" * (MAX_TOKEN_LENGTH + 1))


def test_the_number_of_pages_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new tokens lead to an end all the same, which names the cure."""
    monkeypatch.setattr(paging, "MAX_PAGES", 3)
    pages = walk()
    turn(pages, token="1")
    turn(pages, token="2")
    with pytest.raises(ResponseTooLargeError, match=r"after 3 pages .* filter"):
        turn(pages, token="3")


# -- wait -------------------------------------------------------------------------------------------------------------


def every_second(**arguments: Any) -> PollSchedule:
    """A schedule that polls every second."""
    return PollSchedule(started=0.0, interval=1.0, **arguments)


def test_a_wait_tells_each_poll_and_each_change() -> None:
    """Errors that pass end nothing; the check before a poll comes before each."""
    polls: list[Operation] = []
    lines: list[str] = []
    before = itertools.count()
    flow = flows.wait_until_done(
        REFERENCE,
        ENDPOINT,
        every_second(),
        before_poll=lambda: next(before),
        on_poll=polls.append,
        on_change=lines.append,
        clock=lambda: 0.0,
    )
    steps, result = drive(flow, RUNNING, RUNNING, UNAVAILABLE, SUCCEEDED)
    assert steps == ["get", 1.0, "get", 1.0, "get", 1.0, "get"]
    assert result is SUCCEEDED
    assert polls == [RUNNING, RUNNING, SUCCEEDED]
    assert [line.split()[0] for line in lines] == ["RUNNING", "poll", "SUCCEEDED"]
    assert next(before) == 4


def test_a_poll_that_was_just_taken_is_the_first_one() -> None:
    """It is not repeated, and may be the last."""
    schedule, polls = every_second(), list[Operation]()
    flow = flows.wait_until_done(REFERENCE, ENDPOINT, schedule, seen=SUCCEEDED, on_poll=polls.append)
    assert drive(flow) == ([], SUCCEEDED)
    assert (polls, schedule.polls) == ([SUCCEEDED], 1)
    flow = flows.wait_until_done(REFERENCE, ENDPOINT, every_second(), seen=RUNNING, clock=lambda: 0.0)
    assert drive(flow, SUCCEEDED) == ([1.0, "get"], SUCCEEDED)


def test_what_is_raised_before_a_poll_ends_the_wait() -> None:
    """A kill that was only noted: nothing more is sent."""
    killed = iter([None, None, KeyboardInterrupt()])

    def check() -> None:
        if (error := next(killed)) is not None:
            raise error

    flow = flows.wait_until_done(REFERENCE, ENDPOINT, every_second(), before_poll=check, clock=lambda: 0.0)
    with pytest.raises(KeyboardInterrupt):
        drive(flow, RUNNING, RUNNING)


def test_a_wait_ends_at_its_deadline() -> None:
    """With an error of its own; the last poll is kept."""
    schedule, now = new_schedule(0.0, timeout=2.0, interval=1.0), itertools.count(0.0, 0.75)
    flow = flows.wait_until_done(REFERENCE, ENDPOINT, schedule, clock=lambda: next(now))
    steps, result = drive(flow, RUNNING, RUNNING)
    assert steps == ["get", 1.0, "get"]
    assert isinstance(result, WaitTimeoutError)
    assert schedule.last is RUNNING
