"""Conversations with a service, driven by hand: what is sent, and what is concluded."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_lro_provider.lro import flows, paging, protocol
from airflow_lro_provider.lro.errors import (
    ApiError,
    MalformedResponseError,
    OperationsError,
    ResourceExhaustedError,
    ResponseTooLargeError,
    StartUnknownError,
    TransportError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.flows import RESPONSE_PATIENCE_SECONDS, send
from airflow_lro_provider.lro.http.messages import Request
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.paging import MAX_TOKEN_LENGTH, Paging
from airflow_lro_provider.lro.polling import NOT_FOUND_SECONDS, PollSchedule, new_schedule
from airflow_lro_provider.lro.protocol import Page
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent
from airflow_lro_provider.lro.steps import Flow, Renew, Renewed, Sleep
from tests.unit.lro.driver import (
    DENIED,
    ENDPOINT,
    FAILED,
    INVALID,
    LOST,
    NAME,
    NO_KEY,
    NOT_FOUND,
    POLLED,
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
    busy = busy_for(37.0)
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
        busy_for(60.0),
    )
    assert steps == ["start", 0.5, 0.5, 0.5]
    assert isinstance(result, ResourceExhaustedError)


@pytest.mark.parametrize(("retry_after", "sent"), [(299.0, 2), (301.0, 1), (150.0, 2), (140.0, 3)])
def test_the_last_send_of_a_start_is_near(retry_after: float, sent: int) -> None:
    """Row A5: who looks for what it has started knows until when; a longer wait is for the next try of the task."""
    clock = Clock()
    busy = busy_for(retry_after)
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


def test_trouble_of_our_own_ends_no_wait() -> None:
    """Rows A2, A10: the connection is read again before each further try, and a poll makes the pauses short again."""
    clock, polls = Clock(), list[Operation]()
    schedule = PollSchedule(started=clock.now, interval=10.0)
    flow = flows.wait_until_done(REFERENCE, ENDPOINT, schedule, seen=RUNNING, on_poll=polls.append, clock=clock)
    steps, result = drive(flow, NO_KEY, NO_KEY, RUNNING, NO_KEY, SUCCEEDED, clock=clock)
    again = ["get", "renew", 1.0]
    assert steps == [10.0, *again, "get", "renew", 2.0, "get", 10.0, *again, "get"]
    assert (result, polls) == (SUCCEEDED, [RUNNING, RUNNING, SUCCEEDED])


def test_trouble_of_our_own_ends_with_the_deadline() -> None:
    """The error is that of the time, which is up; nothing is slept for longer."""
    clock = Clock()
    schedule = new_schedule(clock.now, timeout=2.5, interval=1.0)
    steps, result = drive(flows.wait_until_done(REFERENCE, ENDPOINT, schedule, clock=clock), *[NO_KEY] * 3, clock=clock)
    assert steps == ["get", "renew", 1.0, "get", "renew", 1.5, "get"]
    assert isinstance(result, WaitTimeoutError)


def test_a_page_waits_trouble_of_our_own_out() -> None:
    """As long as its patience lasts; by default none."""
    pages = walk(patience=60.0)
    page = Page((RUNNING,), "")
    assert drive(pages.next_page(), NO_KEY, page) == (["list", "renew", 1.0, "list"], [RUNNING])
    assert drive(walk().next_page(), NO_KEY) == (["list"], NO_KEY)


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


# -- the response -----------------------------------------------------------------------------------------------------


def test_a_mask_that_is_rejected_is_left_out_once_and_for_all() -> None:
    """B11: the same request without it shows that it is the mask that is to blame."""
    request = protocol.poll(REFERENCE, ENDPOINT)
    flow = send(request)
    assert next(flow) is request
    assert flow.throw(INVALID) is request.unmasked
    with pytest.raises(StopIteration) as end:
        flow.send(RUNNING)
    assert end.value.value is RUNNING
    assert protocol.poll(REFERENCE, ENDPOINT) == request.unmasked


def test_a_mask_is_not_to_blame_for_what_is_rejected_without_it() -> None:
    """B11: then that is the error, and other requests go on with masks."""
    assert drive(send(protocol.poll(REFERENCE, ENDPOINT)), INVALID, DENIED) == (["get", "get"], DENIED)
    assert protocol.poll(REFERENCE, ENDPOINT).unmasked is not None


@pytest.mark.parametrize("denial", [DENIED, PRECONDITION, NOT_FOUND])
def test_a_denial_may_be_about_the_mask(denial: OperationsError) -> None:
    """B11: what is in doubt is requested again without one, there, and only for a while."""
    masked = protocol.poll(REFERENCE, ENDPOINT)
    assert drive(send(masked), denial) == (["get"], denial)
    assert [protocol.poll(REFERENCE, ENDPOINT) for _ in range(100)] == [masked.unmasked] * 100
    assert protocol.poll(REFERENCE, ENDPOINT) == masked
    assert drive(send(masked), denial) == (["get"], denial)
    elsewhere = protocol.poll(REFERENCE, "https://other.example")
    assert elsewhere.unmasked is not None


def test_an_error_that_a_mask_has_left_out_is_believed_once_it_stays() -> None:
    """B11: a success by a poll with a mask is none, if the whole operation has failed."""
    clock = Clock()
    flow = flows.take_response(REFERENCE, ENDPOINT, POLLED, clock=clock)
    _, operation = drive(flow, *[FAILED] * 11, clock=clock)
    assert operation is FAILED
    assert clock.now - 100.0 == pytest.approx(NOT_FOUND_SECONDS)
    assert protocol.poll(REFERENCE, ENDPOINT).unmasked is None  # it is not honoured as it should be


@pytest.mark.parametrize("whole", [FAILED, SUCCEEDED], ids=["failed", "succeeded"])
def test_a_success_of_which_a_mask_leaves_nothing_else_is_looked_at_without_one(whole: Operation) -> None:
    """B11: whoever polls, and whether or not the response is needed: the error may have been left out."""
    masked = protocol.poll(REFERENCE, ENDPOINT)
    assert drive(send(masked), replace(SUCCEEDED, lacks_response=True), whole) == (["get", "get"], whole)
    assert drive(send(masked), POLLED) == (["get"], POLLED)


def test_what_contradicts_a_success_at_another_server_is_not_believed() -> None:
    """B11: the connection is read again first; if it leads elsewhere, the response is taken there."""
    clock = Clock()
    flow = flows.take_response(REFERENCE, ENDPOINT, POLLED, clock=clock)
    step = next(flow)
    while not isinstance(step, Renew):
        clock.now += step.seconds if isinstance(step, Sleep) else 0.0
        step = flow.send(None if isinstance(step, Sleep) else FAILED)
    assert isinstance(flow.send(Renewed("https://right.example", is_same=False)), Sleep)
    request = next(flow)
    assert isinstance(request, Request)
    assert request.url.startswith("https://right.example/")
    with pytest.raises(StopIteration) as end:
        flow.send(SUCCEEDED)
    assert end.value.value is SUCCEEDED
    assert protocol.poll(REFERENCE, ENDPOINT).unmasked is not None


@pytest.mark.parametrize("error", [UNAVAILABLE, MalformedResponseError("it has no field of an operation")], ids=str)
def test_what_passes_is_tried_once_without_a_mask(error: OperationsError) -> None:
    """B11: a gateway that answers masks with 500 or {} holds up every second poll, and not all of them."""
    masked = protocol.poll(REFERENCE, ENDPOINT)
    assert drive(send(masked), error) == (["get"], error)
    assert [protocol.poll(REFERENCE, ENDPOINT) for _ in range(2)] == [masked.unmasked, masked]
    assert drive(send(masked), LOST) == (["get"], LOST)  # there was no response
    assert protocol.poll(REFERENCE, ENDPOINT) == masked


def test_a_response_that_is_too_large_does_not_hide_a_success() -> None:
    """B11: whatever was sent: a poll without a mask, or somebody's get."""
    start = b'{"name": "%s", "done": true, "response": {"a": "x' % NAME.encode()
    steps, operation = drive(send(GET), ResponseTooLargeError("it is too large", start))
    assert (steps, operation.outcome, operation.name) == (["get"], Outcome.SUCCEEDED, NAME)
    assert operation.response_missing
    error = ResponseTooLargeError("it is too large", b"{}")
    assert drive(send(GET), error) == (["get"], error)


def test_a_wait_takes_the_response_once_at_the_end() -> None:
    """B11: and only for those who need it, and of a success that lacks it."""

    def wait(**arguments: Any) -> Flow[Operation]:
        return flows.wait_until_done(REFERENCE, ENDPOINT, every_second(), clock=lambda: 0.0, **arguments)

    assert drive(wait(), RUNNING, POLLED, SUCCEEDED) == (["get", 1.0, "get", "get"], SUCCEEDED)
    assert drive(wait(include_response=False), RUNNING, POLLED) == (["get", 1.0, "get"], POLLED)
    assert drive(wait(), FAILED) == (["get"], FAILED)
    assert drive(wait(), SUCCEEDED) == (["get"], SUCCEEDED)


@pytest.mark.parametrize(
    ("responses", "slept", "why"),
    [
        ([SUCCEEDED], 0.0, ""),
        ([LOST, UNAVAILABLE, SUCCEEDED], None, ""),
        ([NO_KEY, SUCCEEDED], 1.0, ""),
        ([NOT_FOUND, DENIED, SUCCEEDED], None, ""),
        ([RUNNING, SUCCEEDED], 1.0, ""),  # a replica that lags behind
        ([NOT_FOUND] * 5, NOT_FOUND_SECONDS, "could not be taken (datafusion: cancel"),
        ([DENIED] * 5, NOT_FOUND_SECONDS, "could not be taken (datafusion: cancel"),
        ([ResponseTooLargeError("it is too large")], 0.0, "could not be taken (it is too large)"),
        ([RUNNING] * 301, RESPONSE_PATIENCE_SECONDS, "(the service returns it as RUNNING"),
        ([FAILED, SUCCEEDED], 1.0, ""),  # one odd response
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_goes_wrong_with_the_response_costs_only_that(responses: list[Any], slept: float | None, why: str) -> None:
    """B11: an error that passes is waited out, a 404 or 403 is doubted; and then the success says what is missing."""
    clock = Clock()
    flow = flows.take_response(REFERENCE, ENDPOINT, POLLED, clock=clock)
    steps, operation = drive(flow, *responses, clock=clock)
    assert set(steps) - {"get", "renew"} == {step for step in steps if isinstance(step, float)}
    assert slept is None or clock.now - 100.0 == pytest.approx(slept)
    assert (operation.outcome, operation.name) == (Outcome.SUCCEEDED, NAME)
    assert why in operation.response_missing
    if why:
        assert operation.metadata == {"a": 1}
        assert f'print-access-token)" {ENDPOINT}/v1/{NAME}' in operation.response_missing
    else:
        assert operation is SUCCEEDED


@pytest.mark.parametrize(("error", "sends"), [(UNAVAILABLE, 20), (NO_KEY, 11)], ids=["down", "no key"])
def test_an_outage_at_the_end_costs_the_response_at_last(
    error: OperationsError, sends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B11: nobody waits for it for ever, nor does it become a failure."""
    monkeypatch.setattr(flows, "retry_delay", lambda error, tries, rng: 16.0)
    clock = Clock()
    flow = flows.take_response(REFERENCE, ENDPOINT, POLLED, clock=clock)
    _, operation = drive(flow, *itertools.repeat(error, sends), clock=clock)
    assert clock.now - 100.0 <= RESPONSE_PATIENCE_SECONDS
    assert operation.outcome is Outcome.SUCCEEDED
    assert str(error) in operation.response_missing
