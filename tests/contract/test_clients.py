"""One contract, kept by the sync and by the async client, over real HTTP against the local server."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.errors import (
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StartUnknownError,
    TransportError,
    UnauthenticatedError,
    UnavailableError,
    UnknownServiceError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Outcome, State
from airflow_lro_provider.lro.polling import new_schedule
from airflow_lro_provider.lro.resources.catalog import SYSTEMS, known_services
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import OperationReference, read_parent, read_reference
from airflow_lro_provider.lro.steps import Renew
from tests.hostile.hostile_server import HostileServer, plain


class Subject:
    """A client of either kind, called in one way. Sleeping is noted and not done."""

    def __init__(self, kind: str, settings: ConnectionSettings, **arguments: Any) -> None:
        self.kind = kind
        self.slept: list[float] = []
        self._settings, self._arguments = settings, {"read_timeout": 5, **arguments}
        self._loop = asyncio.new_event_loop() if kind == "async" else None
        self.client: Any = self._make()

    def _make(self) -> Any:
        if self._loop is None:
            return OperationsClient(self._settings, sleep=self.slept.append, **self._arguments)

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        return self._loop.run_until_complete(
            AsyncOperationsClient.create(self._settings, sleep=sleep, **self._arguments)
        )

    def __getattr__(self, verb: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = getattr(self.client, verb)(*args, **kwargs)
            if self._loop is None:
                return list(result) if verb == "list" else result
            if isinstance(result, AsyncIterator):

                async def collect() -> list[Any]:
                    return [row async for row in result]

                return self._loop.run_until_complete(collect())
            return self._loop.run_until_complete(result)

        return call

    def finish(self) -> None:
        """Close everything."""
        self.close()
        if self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()


@pytest.fixture(params=["sync", "async"])
def subject(request: pytest.FixtureRequest, lro_emulator: Emulator) -> Iterator[Subject]:
    """Both clients, one after the other."""
    subject = Subject(request.param, ConnectionSettings.from_extra(lro_emulator.connection_extra()))
    yield subject
    subject.finish()


def running(emulator: Emulator, service: str = "datafusion", **script: Any) -> OperationReference:
    """An operation on the server, and the reference to it."""
    return read_reference(emulator.create(service, **{"duration": None, **script}), service)


@pytest.mark.parametrize("service", SYSTEMS)
def test_get_reads_each_system(subject: Subject, lro_emulator: Emulator, service: str) -> None:
    """Every system's running operation is read as running, under its own name."""
    reference = running(lro_emulator, service)
    operation = subject.get(reference)
    assert (operation.name, operation.done, operation.outcome) == (reference.name, False, None)
    assert operation.state is State.RUNNING
    assert operation.create_time is not None


@pytest.mark.parametrize("service", SYSTEMS)
def test_cancel_is_a_request_with_an_empty_body(subject: Subject, lro_emulator: Emulator, service: str) -> None:
    """The cancel of every system is POST name:cancel without a body, and its effect is seen by get."""
    reference = running(lro_emulator, service)
    result = subject.cancel(reference, poll=False)
    assert (result.requested, result.outcome, result.operation) == (True, None, None)
    [request] = lro_emulator.requests(verb="cancel", name=reference.name)
    assert request.method == "POST"
    assert request.path.endswith(f"/{reference.version}/{reference.name}:cancel")
    assert request.status == 200
    assert subject.get(reference).outcome is Outcome.CANCELLED


def test_cancel_that_takes_its_time_is_seen_as_cancelling(subject: Subject, lro_emulator: Emulator) -> None:
    """After a cancel that is honoured late, the operation is CANCELLING and not over."""
    reference = running(lro_emulator, "earthengine", cancel_delay=60)
    subject.cancel(reference)
    assert subject.get(reference).state is State.CANCELLING


@pytest.mark.parametrize("response", ["ok", "failed_precondition"])
def test_cancel_of_a_finished_operation_is_no_error(subject: Subject, lro_emulator: Emulator, response: str) -> None:
    """Whether the service responds with 200 or 400 FAILED_PRECONDITION, a finished operation is no failure."""
    reference = running(lro_emulator, cancel_when_done=response)
    lro_emulator.finish("datafusion", reference.name)
    result = subject.cancel(reference, poll=False)
    assert result.requested == (response == "ok")
    assert result.outcome is (None if response == "ok" else Outcome.SUCCEEDED)
    assert subject.get(reference).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("poll", [True, False])
def test_unimplemented_cancel_is_said_so(subject: Subject, lro_emulator: Emulator, poll: bool) -> None:
    """501 UNIMPLEMENTED is an outcome of its own, and is not tried again."""
    reference = running(lro_emulator, cancel="unimplemented")
    result = subject.cancel(reference, poll=poll)
    assert (result.requested, result.outcome) == (False, Outcome.CANCEL_UNSUPPORTED)
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_a_refused_cancel_is_an_error(subject: Subject, lro_emulator: Emulator) -> None:
    """403 is raised, and not tried again; a transient error is tried again, also of the poll before the request."""
    reference = running(lro_emulator)
    lro_emulator.fail(403, verb="cancel")
    with pytest.raises(PermissionDeniedError):
        subject.cancel(reference)
    assert len(lro_emulator.requests(verb="cancel")) == 1
    lro_emulator.fail(403, verb="get")
    with pytest.raises(PermissionDeniedError):
        subject.cancel(reference)
    assert len(lro_emulator.requests(verb="cancel")) == 1
    lro_emulator.fail(503, verb="get")
    lro_emulator.fail(503, verb="cancel")
    assert subject.cancel(reference).requested
    assert len(lro_emulator.requests(verb="cancel")) == 3


@pytest.mark.parametrize(
    ("script", "outcome", "requested"),
    [
        ({}, None, True),
        ({"cancel": "unimplemented"}, Outcome.CANCEL_UNSUPPORTED, False),
    ],
    ids=["accepted", "unsupported"],
)
def test_cancel_says_what_is_known(
    subject: Subject, lro_emulator: Emulator, script: dict[str, Any], outcome: Outcome | None, requested: bool
) -> None:
    """There is a poll first, and what needs no waiting is known at once."""
    result = subject.cancel(running(lro_emulator, **script))
    assert (result.outcome, result.requested) == (outcome, requested)


def test_cancel_of_nothing_and_of_the_finished(
    subject: Subject, lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For an operation that has finished no cancel is sent; for one that is gone, one, before that is said."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.1)
    reference = running(lro_emulator, error={"code": 13, "message": "out of disk"})
    lro_emulator.finish("datafusion", reference.name)
    assert subject.cancel(reference).outcome is Outcome.FAILED
    assert subject.cancel(reference, before=subject.get(reference), poll=False).outcome is Outcome.FAILED
    subject.delete(reference)
    assert subject.cancel(reference).outcome is Outcome.NOT_FOUND
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_list_follows_the_pages_and_filters(subject: Subject, lro_emulator: Emulator) -> None:
    """All pages of a list are read, in as many requests as there are pages, with the filter given."""
    names = {lro_emulator.create("datafusion", duration=None) for _ in range(5)}
    done = lro_emulator.create("datafusion")
    lro_emulator.finish("datafusion", done)
    parent = read_parent(done.rpartition("/operations/")[0], "datafusion")
    assert {operation.name for operation in subject.list(parent, page_size=2)} == {*names, done}
    assert len(lro_emulator.requests(verb="list")) == 3
    assert {operation.name for operation in subject.list(parent, filter="done:true")} == {done}


def test_delete_makes_it_unknown(subject: Subject, lro_emulator: Emulator) -> None:
    """A deleted operation is not found any more, and the error says what to check."""
    reference = running(lro_emulator)
    subject.delete(reference)
    with pytest.raises(NotFoundError, match="Check the name") as caught:
        subject.get(reference)
    assert caught.value.operation == reference.name


@pytest.mark.parametrize("service", [name for name in SYSTEMS if known_services()[name].offers("wait")])
def test_wait_returns_at_the_servers_timeout(subject: Subject, lro_emulator: Emulator, service: str) -> None:
    """`:wait` sends its timeout where the service reads it, and an unfinished operation comes back."""
    reference = running(lro_emulator, service)
    assert subject.wait(reference, timeout=0.05).done is False
    [request] = lro_emulator.requests(verb="wait")
    assert request.status == 200
    assert ("timeout" in request.query) == (known_services()[service].wait == "query")


def test_wait_is_refused_where_there_is_none(subject: Subject, lro_emulator: Emulator) -> None:
    """A service without `:wait` is known before anything is sent."""
    reference = running(lro_emulator, "developerconnect")
    with pytest.raises(UnknownServiceError, match="It offers: get, list, cancel, delete"):
        subject.wait(reference, timeout=1)
    assert lro_emulator.requests() == []


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ({"kind": 503}, UnavailableError),
        ({"kind": 429, "retry_after": 3}, ResourceExhaustedError),
        ({"kind": "reset"}, TransportError),
        ({"kind": 502}, UnavailableError),
    ],
    ids=["503", "429", "reset", "502 in HTML"],
)
def test_transient_failures_are_tried_again(
    subject: Subject, lro_emulator: Emulator, failure: dict[str, Any], error: type[Exception]
) -> None:
    """One bad moment is survived, the API's Retry-After is obeyed, and without retries the error is raised."""
    reference = running(lro_emulator)
    lro_emulator.fail(**failure)
    assert subject.get(reference).done is False
    assert len(lro_emulator.requests(verb="get")) == 2
    # aiohttp itself repeats a GET at once whose kept connection was closed.
    assert len(subject.slept) == 1 or failure["kind"] == "reset"
    assert all(slept >= failure.get("retry_after", 0) for slept in subject.slept)
    lro_emulator.fail(times=2, **failure)
    with pytest.raises(error):
        subject.get(reference, retries=0)


def test_a_token_that_stays_refused_is_told(subject: Subject, lro_emulator: Emulator) -> None:
    """401 is tried once more with a fresh token; a fake one stays as it is, and the error is raised."""
    reference = running(lro_emulator)
    lro_emulator.fail(401, times=None)
    with pytest.raises(UnauthenticatedError, match="Check the key or the account"):
        subject.get(reference)
    assert len(lro_emulator.requests(verb="get")) == 2
    assert subject.slept == []


def test_permanent_errors_are_not_tried_again(subject: Subject, lro_emulator: Emulator) -> None:
    """403 is raised at once, with the reason that the API gives."""
    reference = running(lro_emulator)
    lro_emulator.fail(403)
    with pytest.raises(PermissionDeniedError, match=r"datafusion\.operations\.get") as caught:
        subject.get(reference)
    assert subject.slept == []
    assert caught.value.status == "PERMISSION_DENIED"


def test_an_html_page_is_no_answer(subject: Subject, lro_emulator: Emulator) -> None:
    """What a proxy says in HTML with a good status is not taken for an operation."""
    other = ConnectionSettings.from_extra({"api_endpoint": f"{lro_emulator.url}/emulator", "emulator": True})
    reference = read_reference("projects/p/locations/l/operations/o", "datafusion")
    odd = Subject(subject.kind, other)
    try:
        with pytest.raises((MalformedResponseError, NotFoundError)):
            odd.get(reference, retries=0)
    finally:
        odd.finish()


def test_wait_until_done_polls_with_growing_intervals(subject: Subject, lro_emulator: Emulator) -> None:
    """The loop ends with the operation, reports each change once, and sleeps as the schedule says."""
    reference = running(lro_emulator)
    lines: list[str] = []
    now = iter(range(0, 10_000, 100))
    ticks_seen = 0

    def clock() -> float:
        nonlocal ticks_seen
        ticks_seen += 1
        if ticks_seen > 12:
            lro_emulator.finish("datafusion", reference.name)
        return float(next(now))

    operation = subject.wait_until_done(reference, new_schedule(0.0), on_change=lines.append, clock=clock)
    assert operation.outcome is Outcome.SUCCEEDED
    assert subject.slept[0] < subject.slept[-1] <= 66
    assert lines[0].startswith("RUNNING")
    assert lines[-1].startswith("SUCCEEDED")
    assert len(lines) == 2


@pytest.mark.parametrize("service", ["aiplatform", "automl", "earthengine"])
def test_wait_until_done_uses_the_services_own_wait(subject: Subject, lro_emulator: Emulator, service: str) -> None:
    """After a first poll a `:wait` reports the end, without a sleep; the last request is for the response."""
    reference = running(lro_emulator, service, duration=1.5)
    operation = subject.wait_until_done(reference, new_schedule(time.monotonic()))
    assert operation.outcome is Outcome.SUCCEEDED
    assert [request.verb for request in lro_emulator.requests()] == ["get", "wait", "get"]


def test_a_wait_that_is_refused_leaves_gets(subject: Subject, lro_emulator: Emulator) -> None:
    """Whatever is wrong with `:wait`, the wait goes on with GETs, and an error of the operation is still raised."""
    reference = running(lro_emulator, "automl")
    lro_emulator.fail(403, verb="wait", times=None)
    ticks = iter(range(1, 1000))

    def clock() -> float:
        tick = next(ticks)
        if tick > 30:
            lro_emulator.finish("automl", reference.name)
        return float(tick)

    assert subject.wait_until_done(reference, new_schedule(0.0), clock=clock).done
    assert len(lro_emulator.requests(verb="wait")) == 2
    lro_emulator.fail(403, verb="get", times=None)
    with pytest.raises(PermissionDeniedError):
        subject.wait_until_done(reference, new_schedule(0.0))


def test_wait_until_done_ends_at_the_deadline(subject: Subject, lro_emulator: Emulator) -> None:
    """At the timeout the wait ends, the operation does not."""
    reference = running(lro_emulator)
    moments = iter([1.0, 2.0, 11.0, 12.0, 13.0])
    with pytest.raises(WaitTimeoutError, match="timeout of 10 s"):
        subject.wait_until_done(reference, new_schedule(0.0, timeout=10), clock=lambda: next(moments))
    assert subject.get(reference).done is False
    assert lro_emulator.requests(verb="cancel") == []


def test_transient_errors_never_end_a_wait_before_its_deadline(subject: Subject, lro_emulator: Emulator) -> None:
    """Twenty bad moments in a row are survived by a wait that has time."""
    reference = running(lro_emulator)
    lro_emulator.fail(503, times=20)
    ticks = iter(range(1, 1000))

    def clock() -> float:
        tick = next(ticks)
        if tick > 25:
            lro_emulator.finish("datafusion", reference.name)
        return float(tick)

    assert subject.wait_until_done(reference, new_schedule(0.0, timeout=900), clock=clock).done


def test_names_with_odd_characters_arrive_whole(subject: Subject, lro_emulator: Emulator) -> None:
    """Colons and parentheses of real names survive the way through client, HTTP and server."""
    name = "projects/my-org.com:p/operations/(default):x@1=2/nested"
    reference = read_reference(lro_emulator.create("earthengine", name, duration=None), "earthengine")
    assert subject.get(reference).name == name
    subject.cancel(reference)
    assert subject.get(reference).outcome is Outcome.CANCELLED


# -- start -----------------------------------------------------------------------------------------------

LOCATION = "projects/p/locations/us-central1"
REQUEST_ID = "b8a8a5a2-8d3c-4f3e-9a4b-000000000001"


def test_start_gives_the_operation_and_its_reference(subject: Subject, lro_emulator: Emulator) -> None:
    """The operation can be polled by what the start returned."""
    started = subject.start(read_method(f"{LOCATION}/instances?instanceId=i", service="datafusion"), {"type": "BASIC"})
    assert started.operation.name == started.reference.name
    assert subject.get(started.reference).state is State.RUNNING


@pytest.mark.parametrize("kind", ["reset", 500, 502, 504])
def test_a_lost_start_is_repeated_only_with_a_request_id(
    subject: Subject, lro_emulator: Emulator, kind: str | int
) -> None:
    """With one the same operation comes back; without, the error says that it is unknown. Never two operations."""
    lro_emulator.fail(kind, verb="start", after=True)
    repeatable = read_method(f"{LOCATION}/connections?connectionId=c", service="developerconnect")
    assert subject.start(repeatable, request_id=REQUEST_ID).operation.name
    assert len(lro_emulator.operations("developerconnect")) == 1
    lro_emulator.fail(kind, verb="start", after=True)
    with pytest.raises(StartUnknownError, match="may have"):
        subject.start(read_method(f"{LOCATION}/instances", service="datafusion"), request_id=REQUEST_ID)
    assert len(lro_emulator.operations("datafusion")) == 1


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("retail", "projects/p/locations/global/catalogs/c/branches/0/products:import"),
        ("run", f"{LOCATION}/jobs/j:run"),
        ("datafusion", f"{LOCATION}/instances/i:restart"),
    ],
)
def test_a_request_id_that_a_method_does_not_honour_repeats_nothing(
    subject: Subject, lro_emulator: Emulator, service: str, path: str
) -> None:
    """H5, L4c: neither ours nor the author's; a lost start is sent once."""
    for body, request_id in (({}, REQUEST_ID), ({"requestId": "mine"}, None)):
        lro_emulator.fail("reset", verb="start", after=True)
        with pytest.raises(StartUnknownError, match="may have"):
            subject.start(read_method(path, service=service), body, request_id=request_id)
    assert len(lro_emulator.requests(verb="start")) == 2


@pytest.mark.parametrize("kind", [429, 503])
def test_a_start_that_was_not_carried_out_is_repeated(subject: Subject, lro_emulator: Emulator, kind: int) -> None:
    """Over quota, or refused: nothing was started, so nothing can be doubled."""
    lro_emulator.fail(kind, verb="start")
    subject.start(read_method(f"{LOCATION}/instances", service="datafusion"))
    assert len(lro_emulator.operations("datafusion")) == 1


def test_a_start_without_a_connection_is_repeated(subject: Subject, lro_emulator: Emulator) -> None:
    """Where there was no connection, there was no request."""
    lro_emulator.stop()
    with pytest.raises(TransportError) as caught:
        subject.start(read_method(f"{LOCATION}/instances", service="datafusion"))
    assert not caught.value.may_have_happened
    assert 15.5 <= sum(subject.slept) <= 18  # five pauses


def test_a_start_that_is_refused_says_so(subject: Subject, lro_emulator: Emulator) -> None:
    """403 is the service's own error, and not repeated."""
    lro_emulator.fail(403, verb="start")
    with pytest.raises(PermissionDeniedError):
        subject.start(read_method(f"{LOCATION}/instances", service="datafusion"))
    assert len(lro_emulator.requests(verb="start")) == 1


@pytest.mark.parametrize("refusal", [403, 503])
def test_a_start_that_was_lost_and_then_refused_stays_unknown(
    subject: Subject, lro_emulator: Emulator, refusal: int
) -> None:
    """The first one has started an operation: with the same request id it can still be found."""
    repeatable = read_method(f"{LOCATION}/connections?connectionId=c", service="developerconnect")
    lro_emulator.fail("reset", verb="start", after=True)
    lro_emulator.fail(refusal, verb="start", times=5)
    with pytest.raises(TransportError, match="sending it again failed") as caught:
        subject.start(repeatable, request_id=REQUEST_ID)
    assert caught.value.may_have_happened
    assert len(lro_emulator.operations("developerconnect")) == 1


def test_a_start_is_given_up_when_its_task_was_killed(subject: Subject, lro_emulator: Emulator) -> None:
    """A refused one is not sent again, however long the API wants us to wait."""
    lro_emulator.fail(429, verb="start", retry_after=3600, times=None)
    with pytest.raises(ResourceExhaustedError):
        subject.start(read_method(f"{LOCATION}/instances", service="datafusion"), may_continue=lambda: False)
    assert len(lro_emulator.requests(verb="start")) == 1
    assert subject.slept == []


# -- what is called meanwhile, and what is counted -------------------------------------------------------


def test_a_wait_begins_with_a_poll_that_was_just_taken(subject: Subject, lro_emulator: Emulator) -> None:
    """It counts as the first one; each poll is announced, and shown."""
    reference = running(lro_emulator)
    seen = subject.get(reference)
    announced: list[None] = []
    shown: list[bool] = []
    now = iter(range(1, 1000))

    def announce() -> None:
        announced.append(None)
        if len(announced) == 3:
            lro_emulator.finish("datafusion", reference.name)

    operation = subject.wait_until_done(
        reference,
        new_schedule(0.0),
        seen=seen,
        before_poll=announce,
        on_poll=lambda operation: shown.append(operation.done),
        clock=lambda: float(next(now)),
    )
    assert operation.outcome is Outcome.SUCCEEDED
    assert shown == [False, False, True]
    assert len(announced) == 3
    assert len(lro_emulator.requests(verb="get")) == 4  # the one before, two polls, and the response


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_every_cancel_is_counted(kind: str, lro_emulator: Emulator) -> None:
    """By what it came to, once the response is there; requested is not cancelled."""
    counted: list[tuple[str, str]] = []

    class Counter(Metrics):
        def cancel(self, service: str, outcome: str) -> None:
            counted.append((service, outcome))

    subject = Subject(kind, ConnectionSettings.from_extra(lro_emulator.connection_extra()), metrics=Counter())
    try:
        reference = running(lro_emulator)
        subject.cancel(reference)
        subject.cancel(reference)
        subject.cancel(running(lro_emulator, cancel="unimplemented"), poll=False)
        lro_emulator.fail(403, verb="cancel")
        with pytest.raises(PermissionDeniedError):
            subject.cancel(running(lro_emulator))
    finally:
        subject.finish()
    words = ["REQUESTED", "CANCELLED", "CANCEL_UNSUPPORTED", "REFUSED"]
    assert counted == [("datafusion", word) for word in words]


def test_a_cancel_in_a_hurry_imports_nothing(lro_emulator: Emulator) -> None:
    """A kill may interrupt an import: after the guard's first poll, everything that a cancel needs is there."""
    reference = running(lro_emulator)
    code = (
        "import sys\n"
        "from airflow_lro_provider.lro import ConnectionSettings, OperationReference, OperationsClient\n"
        f"reference = OperationReference.from_dict({reference.to_dict()!r})\n"
        f"client = OperationsClient(ConnectionSettings.from_extra({lro_emulator.connection_extra()!r}))\n"
        "client.get(reference)\n"
        "before = set(sys.modules)\n"
        "result = client.cancel(reference, poll=False, urgent=True)\n"
        "print(result.word, sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "REQUESTED []"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("code", [403, 400])
def test_a_quota_ends_no_wait(kind: str, code: int) -> None:
    """B5: a wait outlasts a quota that is not said with a 429, for as long as it takes."""
    running = json.dumps({"name": "operations/o", "metadata": {}}).encode()
    errors = [{"domain": "usageLimits", "reason": "quotaExceeded", "message": "No more."}]
    quota = json.dumps({"error": {"code": code, "message": "No more.", "errors": errors}}).encode()
    done = json.dumps({"name": "operations/o", "done": True, "response": {}}).encode()
    plays = [plain(running), *[plain(quota, f"{code} No")] * 6, plain(done), plain(done)]  # the last is the response
    moments = itertools.count(0.0, 20.0)
    lines: list[str] = []
    with HostileServer(*plays) as server:
        subject = Subject(kind, ConnectionSettings.from_extra({"api_endpoint": server.url, "is_anonymous": True}))
        reference = read_reference("projects/p/locations/l/operations/o", "datafusion")
        schedule = new_schedule(0.0, interval=5.0)
        assert subject.wait_until_done(reference, schedule, on_change=lines.append, clock=lambda: next(moments)).done
        subject.finish()
        assert len(server.heard) == len(plays)
    assert subject.slept.count(60.0) == 6  # and not the interval: such a quota does not come back in a second
    assert [line.partition(":")[0] for line in lines] == ["RUNNING", "poll failed, will try again", "SUCCEEDED"]
    assert "permission" not in lines[1]


LARGE = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"large": "x" * (9 * 2**20)}}


@pytest.mark.parametrize("field_mask", ["honour", "ignore", "reject"])
def test_a_result_that_is_too_large_costs_the_result_only(
    subject: Subject, lro_emulator: Emulator, field_mask: str
) -> None:
    """B11: a poll, a wait and a get all show the success, whatever the service does with a field mask."""
    reference = running(lro_emulator, duration=0, response=LARGE, field_mask=field_mask)
    polled = subject.poll(reference)
    ended = subject.wait_until_done(reference, new_schedule(time.monotonic(), timeout=60))
    got = subject.get(reference)
    assert {one.outcome for one in (polled, ended, got)} == {Outcome.SUCCEEDED}
    assert polled.lacks_response is (field_mask == "honour")
    for operation in (ended, got):
        assert "response" not in operation.raw
        assert "is too large to be taken" in operation.response_missing
        assert f"{lro_emulator.url}/datafusion/v1/{reference.name}" in operation.response_missing
        assert operation.metadata
    assert subject.cancel(reference).outcome is Outcome.SUCCEEDED
    assert not lro_emulator.requests(verb="cancel")
    assert subject.slept == []


@pytest.mark.parametrize(
    ("field_mask", "masked", "statuses"),
    [("honour", 3, [200] * 4), ("ignore", 1, [200] * 3), ("reject", 1, [400] + [200] * 3)],
)
def test_a_mask_is_sent_once_where_it_does_not_work(
    subject: Subject, lro_emulator: Emulator, field_mask: str, masked: int, statuses: list[int]
) -> None:
    """B11: and where it works, the response is taken once, at the end."""
    reference = running(lro_emulator, duration=0, response={"a": 1}, field_mask=field_mask)
    assert not subject.poll(reference).error
    assert not subject.poll(reference).error
    ended = subject.wait_until_done(reference, new_schedule(time.monotonic(), timeout=60))
    assert ended.response == {"a": 1}
    requests = lro_emulator.requests("get")
    assert [request.status for request in requests] == statuses
    assert sum("fields=" in request.query for request in requests) == masked


def test_a_list_is_searched_without_results(subject: Subject, lro_emulator: Emulator) -> None:
    """B11: ten results of a megabyte each do not fit into a page, and nobody who polls needs them."""
    parent = read_parent("projects/p/locations/us-central1", "datafusion")
    for number in range(10):
        name = f"{parent.name}/operations/{number}"
        lro_emulator.create("datafusion", name, duration=0, response={"a": "x" * 2**20})
    listed = subject.list(parent, include_response=False)
    assert [(operation.outcome, operation.response) for operation in listed] == [(Outcome.SUCCEEDED, None)] * 10
    assert len(subject.list(parent, page_size=2)) == 10


def test_a_renewal_that_has_ended_is_what_was_waited_for() -> None:
    """A10: of several flows that share a client, a third one may begin the next renewal before the second goes on."""

    async def run() -> list[bool]:
        settings, go_on = ConnectionSettings.from_extra({"is_anonymous": True}), asyncio.Event()

        async def read() -> ConnectionSettings:
            await go_on.wait()
            return settings

        async with await AsyncOperationsClient.create(settings, read_settings=read) as client:
            step = Renew(read_reference("projects/p/locations/l/operations/o", "datafusion"), None)
            flows = [asyncio.ensure_future(client._recover(step))]
            await asyncio.sleep(0)
            assert client._renewal is not None
            client._renewal.add_done_callback(lambda _: flows.append(asyncio.ensure_future(client._recover(step))))
            flows.append(asyncio.ensure_future(client._recover(step)))
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.gather(*flows)
            return [renewed.is_same for renewed in await asyncio.gather(*flows)]

    assert asyncio.run(run()) == [True, True, True]
