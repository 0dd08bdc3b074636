"""Tasks that start an operation, in one process, against the local server: started once, guarded, adopted.

Airflow's side of it (the task instance, the task state store) is played; the end-to-end tests have the real one.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_lro_provider.attempt import adoption
from airflow_lro_provider.attempt.canceller import Canceller
from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.attempt.record import KEY, AttemptRecord
from airflow_lro_provider.attempt.role import Role
from airflow_lro_provider.decorators.operation import OperationDecoratedOperator
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import (
    OperationFailedError,
    OperationInputError,
    OperationOrphaned,
    OperationRunningError,
    OperationStartError,
    OperationWaitError,
)
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.auth import settings
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.errors import ApiError, PermissionDeniedError, TransportError, UnavailableError
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.ownership.decisions import Decision, Evidence, TaskState
from airflow_lro_provider.sweep import ledger
from tests.airflow.played import (
    Killable,
    OutdatedStore,
    PlayedTry,
    Store,
    TakenStore,
    Variables,
    alarm,
    during_the_start,
    handling,
    replace_the_key,
)
from tests.airflow.versions import (
    ExceptionRetryPolicy,
    Killed,
    RetryAction,
    RetryRule,
    may_execute,
    sigterm_of,
    since_3,
    since_3_3,
)

LOCATION = "projects/p/locations/us-central1"
REPEATABLE = f"{LOCATION}/connections?connectionId=c"  # Developer Connect takes a request id there
EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
PLAIN = f"{LOCATION}/instances?instanceId=i"  # Data Fusion does not
STARTER = Role(
    gcp_conn_id=None,
    impersonation_chain=None,
    cancel_on_kill=True,
    cancel_on_failure=True,
    lets_go=False,
    keeps_record=True,
    needs_record=True,
    retry_policy=None,
)


class Try(PlayedTry):
    """A try of a task with a RunOperationOperator."""

    def operator(self, **arguments: Any) -> RunOperationOperator:
        """Make the operator."""
        given = {"poll_interval": 0.02, "method": REPEATABLE, "service": "developerconnect", **arguments}
        made = RunOperationOperator(task_id="t", **given)
        may_execute(made)
        return made

    def run(self, **arguments: Any) -> Any:
        """Execute it as the task runner does."""
        return self.operator(**arguments).execute(self.context)

    @property
    def started(self) -> list[Any]:
        """The operations that there are at the server, oldest first."""
        return self.emulator.operations()

    @property
    def running(self) -> list[Any]:
        """Those that run and that nobody has asked to end."""
        return [view for view in self.started if not view.operation.get("done") and not view.cancel_requests]

    @property
    def starts(self) -> int:
        """How many start requests the server saw."""
        return len(self.emulator.requests(verb="start"))

    @property
    def cancels(self) -> int:
        """How many cancel requests the server saw."""
        return len(self.emulator.requests(verb="cancel"))


@pytest.fixture
def a_try(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Try]:
    """Make tries; those of one test share their store."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    lro_emulator.script(duration=None)
    shared = Store()

    def make(number: int = 1, max_tries: int = 0, store: Store | None = None) -> Try:
        return Try(lro_emulator, shared if store is None else store, number, max_tries)

    return make


def crash(this: Try, **arguments: Any) -> None:
    """Let a try start its operation and vanish, as SIGKILL does it: all that stays is its record."""
    with pytest.raises(TaskDeferred):
        this.run(deferrable=True, **arguments)


# -- starting --------------------------------------------------------------------------------------------


def test_the_response_is_the_result(a_try: Callable[..., Try]) -> None:
    """Started once, waited for, and its response returned; nothing is left behind."""
    this = a_try()
    this.emulator.script(duration=0.1, response={"name": "connection"})
    assert this.run(body={"labels": {"a": "b"}}) == {"name": "connection"}
    assert (this.starts, this.cancels, this.store) == (1, 0, {})


def test_the_whole_operation_is_the_result_if_asked_for(a_try: Callable[..., Try]) -> None:
    """With return_operation the name and the metadata come with it."""
    this = a_try()
    this.emulator.script(duration=0.1)
    result = this.run(return_operation=True)
    assert result["name"] == this.started[0].operation["name"]
    assert result["done"] is True


@pytest.mark.parametrize("http_method", ["POST", "PUT", "PATCH", "delete"])
def test_every_way_to_start(a_try: Callable[..., Try], http_method: str) -> None:
    """All four HTTP methods, in small letters as well, and a full URL."""
    this = a_try()
    this.emulator.script(duration=0)
    url = "https://earthengine.googleapis.com/v1/projects/p/assets/a"  # no discovery document: any method will do
    assert this.run(method=url, service=None, http_method=http_method) == EMPTY
    [request] = this.emulator.requests(verb="start")
    assert (request.method, request.path) == (http_method.upper(), "/earthengine/v1/projects/p/assets/a")


def test_an_operation_that_is_over_at_once_is_done(a_try: Callable[..., Try]) -> None:
    """No guard, no poll, no record for what is finished when it is answered."""
    this = a_try()
    this.emulator.script(duration=0)
    assert this.run() == EMPTY
    assert this.emulator.requests(verb="get") == []
    assert this.store == {}


def test_without_waiting_the_operation_is_returned(a_try: Callable[..., Try]) -> None:
    """The task ends with the start, and the operation is nobody's: not cancelled, not recorded."""
    this = a_try()
    result = this.run(wait_for_completion=False)
    assert result["name"] == this.running[0].operation["name"]
    assert this.store == {}


@pytest.mark.parametrize("code", [13, 1])
def test_a_failed_or_cancelled_operation_fails_the_task_and_may_be_retried(
    a_try: Callable[..., Try], code: int
) -> None:
    """An ordinary failure: the retry starts another operation, because no record is left."""
    this = a_try()
    this.emulator.script(duration=0.1, error={"code": code, "message": "no luck"})
    with pytest.raises(OperationFailedError, match="no luck") as caught:
        this.run()
    assert not isinstance(caught.value, AirflowFailException)
    assert this.store == {}
    this.emulator.script(duration=0)
    a_try(number=2, max_tries=1).run()
    assert this.starts == 2


def test_a_result_check_can_refuse_a_success(a_try: Callable[..., Try]) -> None:
    """A failure inside a successful response fails the task."""
    this = a_try()
    this.emulator.script(duration=0, response={"bad": 3})
    with pytest.raises(OperationFailedError, match="3 are bad"):
        this.run(result_check=lambda operation: f"{operation['response']['bad']} are bad")


def test_a_resource_instead_of_an_operation_fails_unless_it_is_allowed(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain resource is not taken for a success; with allow_resource it is the result."""
    resource = {"name": f"{LOCATION}/connections/c", "etag": "1"}
    monkeypatch.setattr(OperationsClient, "_send_once", lambda self, request, headers: dict(resource))
    this = a_try()
    with pytest.raises(OperationStartError, match="allow_resource=True"):
        this.run()
    assert this.store == {}
    assert a_try().run(allow_resource=True) == resource


def test_an_operation_of_an_unknown_kind_fails_and_is_named(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operation that this service is not known to have cannot be guarded: fail closed, and say which."""
    odd = {"name": "tenants/t/operations/o", "done": False}
    monkeypatch.setattr(OperationsClient, "_send_once", lambda self, request, headers: dict(odd))
    with pytest.raises(OperationStartError, match="tenants/t/operations/o"):
        a_try().run(allow_resource=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "../x"}, "has the part '..'"),
        ({"method": f"{LOCATION}/connections#x"}, "is not a path of a method"),
        ({"method": f"{LOCATION}/connections?a=b c"}, "percent-encoded"),
        ({"method": f"{LOCATION}/connections?access_token=x"}, "must not have 'access_token'"),
        ({"method": "https://evil.example/v1/projects/p", "service": None}, "not a known Google API"),
        ({"method": "https://evil.example/v1/projects/p"}, "neither a host of"),
        ({"method": "https://datafusion.googleapis.com/v1/projects/p"}, "is at Data Fusion"),
        ({"http_method": "GET"}, "must be one of POST"),
        ({"body": "{'a': 1}"}, "Did Jinja turn a dict into a string"),
        ({"body": {"a": object}}, "has no form in JSON"),
    ],
)
def test_bad_input_sends_nothing(a_try: Callable[..., Try], arguments: dict[str, Any], words: str) -> None:
    """Refused at once, in words, and without a retry."""
    this = a_try()
    operator = this.operator()
    for key, value in arguments.items():
        setattr(operator, key, value)
    with pytest.raises(OperationInputError, match=words):
        operator.execute(this.context)
    assert this.emulator.requests() == []


def test_a_literal_is_checked_when_the_dag_is_parsed(a_try: Callable[..., Try]) -> None:
    """What can never be right does not wait for a run; what is not literal does."""
    with pytest.raises(ValueError, match="has the part"):
        a_try().operator(method="projects/p/../q")
    with pytest.raises(ValueError, match="Did you mean 'developerconnect'"):
        a_try().operator(service="devconnect")
    a_try().operator(method="projects/{{ params.p }}/locations/l/connections", body={"name": "{{ ds }}"})


# -- a start whose answer was lost -----------------------------------------------------------------------


def test_a_lost_answer_is_asked_for_again_with_the_same_request_id(a_try: Callable[..., Try]) -> None:
    """The connection breaks after the start was carried out: one operation, two requests, one id."""
    this = a_try()
    this.emulator.fail("reset", verb="start", after=True)
    crash(this)
    assert (len(this.started), this.starts) == (1, 2)
    ids = {request.query for request in this.emulator.requests(verb="start")}
    assert len(ids) == 1
    given = ids.pop().partition("requestId=")[2]
    assert uuid.UUID(given).version == 4


def test_a_lost_answer_that_cannot_be_asked_for_again_is_not_repeated(a_try: Callable[..., Try]) -> None:
    """Without a request id a second start could be a second operation: it fails at once, and says so."""
    this = a_try(max_tries=3)
    this.emulator.fail("reset", verb="start", after=True)
    with pytest.raises(OperationStartError, match="may have started an operation"):
        this.run(method=PLAIN, service="datafusion")
    assert (len(this.started), this.starts) == (1, 1)


def test_a_refused_start_is_sent_again(a_try: Callable[..., Try]) -> None:
    """503 means that nothing was started, so nothing can be doubled."""
    this = a_try()
    this.emulator.fail(503, verb="start")
    this.emulator.script(duration=0)
    this.run(method=PLAIN, service="datafusion")
    assert (this.starts, len(this.started)) == (2, 1)


def test_a_lost_start_that_is_refused_when_it_is_repeated_is_not_forgotten(a_try: Callable[..., Try]) -> None:
    """The first request may have been carried out: the next try sends the same request id, and finds the operation."""
    first = a_try(max_tries=1)
    first.emulator.fail("reset", verb="start", after=True)
    first.emulator.fail(403, verb="start")
    with pytest.raises(TransportError, match="a start with the same request id"):
        first.run()
    assert first.store[KEY]["request_id"]
    second = a_try(number=2, max_tries=1)
    crash(second)
    assert (second.starts, len(second.started)) == (3, 1)
    assert second.store[KEY]["reference"]["name"] == second.running[0].operation["name"]


@pytest.mark.parametrize(("kind", "error"), [(403, PermissionDeniedError), (500, OperationStartError)])
def test_a_start_that_fails(a_try: Callable[..., Try], kind: int, error: type[Exception]) -> None:
    """What was refused may be retried; what an internal error left behind nobody knows, so its record stays (A13)."""
    this = a_try()
    this.emulator.fail(kind, verb="start")
    with pytest.raises(error):
        this.run(method=PLAIN, service="datafusion")
    assert (this.starts, this.started, bool(this.store)) == (1, [], kind == 500)


@pytest.mark.parametrize("refusal", [403, 409, 503])
def test_a_lost_start_stays_unknown_whatever_a_later_try_is_told(
    a_try: Callable[..., Try], without_retries: None, refusal: int
) -> None:
    """Row A13: the record and its request id stay until a send is answered; then the first operation is found."""
    first = a_try(max_tries=2)
    first.emulator.fail("reset", verb="start", after=True)
    with pytest.raises(TransportError):
        first.run()
    request_id = first.store[KEY]["request_id"]
    first.emulator.fail(refusal, verb="start")
    with pytest.raises(ApiError):
        a_try(number=2, max_tries=2).run()
    assert (first.store[KEY]["request_id"], first.store[KEY]["reference"]) == (request_id, None)
    third = a_try(number=3, max_tries=2)
    crash(third)
    assert (third.starts, len(third.started)) == (3, 1)
    assert third.store[KEY]["reference"]["name"] == third.running[0].operation["name"]


def test_a_person_kills_although_airflow_is_slow_to_say_so(
    a_try: Callable[..., Try], killable: Killable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A1: a retry is left, and Airflow takes longer than the signal handler waits: its late answer counts."""
    this = a_try(max_tries=1)
    this.emulator.script(duration=None, cancel_delay=0)
    operator = this.operator()

    def slow(key: Any) -> str:
        time.sleep(1.5 if operator._get_guard().killed else 0.0)
        return "failed" if operator._get_guard().killed else "running"

    monkeypatch.setattr(evidence, "read_task_state", slow)
    killable(operator, lambda: this.emulator.requests(verb="get"))
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert this.running == []
    assert this.store[KEY]["killed"]


@pytest.mark.parametrize("state", ["running", "success", "deferred", Evidence.UNKNOWN])
def test_what_another_try_has_is_left_to_it_however_often_that_is_asked(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, state: TaskState
) -> None:
    """Row A1: a process that was frozen is told to stop, and asks twice; each time Airflow rejects its record (404)."""
    store = TakenStore()
    this = a_try(max_tries=1, store=store)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: state)
    record = AttemptRecord(this.context, logging.getLogger(__name__), STARTER)
    record.read()
    reference = read_reference(f"{LOCATION}/operations/o", "datafusion")
    record.write(reference)
    store.taken = True
    assert [record.decide(reference) for _ in range(3)] == [Decision.ADOPT] * 3
    other = read_reference(f"{LOCATION}/operations/other", "datafusion")
    assert record.decide(other) is Decision.CANCEL  # no record has ever named it


def test_what_is_being_replaced_is_left_to_nobody(
    a_try: Callable[..., Try], killable: Killable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A1: a worker shuts down while a cleared task sees the old operation to its end: no retry adopts that."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    first = a_try(max_tries=1)
    method = {"method": f"{LOCATION}/endpoints", "service": "aiplatform"}  # shows no CANCELLING
    first.emulator.script(duration=3.0, cancel="ignore", response={"of": "the cleared try"})
    crash(first, **method)
    second = a_try(number=2, max_tries=3)
    operator = second.operator(**method)
    killable(operator, lambda: second.cancels)
    with pytest.raises(Killed):
        operator.execute(second.context)
    assert second.store[KEY]["killed"]
    second.emulator.script(duration=0, response={"of": "a fresh one"})
    assert a_try(number=3, max_tries=3).run(**method) == {"of": "a fresh one"}


@pytest.mark.parametrize("refusal", [400, 401, 403, 404, 409])
def test_a_lost_start_of_a_cleared_task_is_not_forgotten(
    a_try: Callable[..., Try], without_retries: None, refusal: int
) -> None:
    """Row A13: what it has started is not known while nobody may ask: the record stays, and nothing new is started."""
    first = a_try(max_tries=0)
    first.emulator.fail("reset", verb="start", after=True)
    with pytest.raises(TransportError):
        first.run()
    first.emulator.fail(refusal, verb="start", times=None)
    with pytest.raises(OperationWaitError, match="No other is started beside it"):
        a_try(number=2, max_tries=1).run()
    assert first.store[KEY]["request_id"]
    first.emulator.store._failures.clear()
    first.emulator.script(cancel_delay=0, duration=None)
    third = a_try(number=3, max_tries=1)
    crash(third)
    assert (len(third.started), len(third.running)) == (2, 1)


def test_credentials_that_are_refused_while_it_waits_end_nothing(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A10: the operation is not lost; the connection is read again, and its new key is used, also by the guard."""
    this = a_try()
    this.emulator.script(duration=1.0)
    replace_the_key(this.emulator, monkeypatch)
    this.run()
    assert (this.starts, this.cancels, this.store) == (1, 0, {})


def test_after_an_execution_timeout_nothing_is_started(a_try: Callable[..., Try]) -> None:
    """Row A11: a start that was refused waits for its retry; the timeout ends the task, and the retries with it."""
    this = a_try()
    this.emulator.fail(503, verb="start", retry_after=1.0)
    with handling(signal.SIGALRM, alarm):
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        with pytest.raises(AirflowTaskTimeout):
            this.run()
    assert (this.starts, this.started, this.store) == (1, [], {})


@pytest.mark.parametrize(("start_timeout", "starts"), [(None, 2), (0.6, 2), (20.0, 1)])
def test_how_long_the_response_to_a_start_is_awaited(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, start_timeout: float | None, starts: int
) -> None:
    """Row A13: as the task says, else as the connection does; what is not awaited is sent again."""
    this = a_try()
    extra = {**this.emulator.connection_extra(), "start_timeout": 1}
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    this.emulator.script(duration=0.0, latency=1.5)
    real = this.emulator.store.latency

    def only_once(*arguments: Any) -> float:
        return 0.0 if this.starts > 1 else real(*arguments)

    monkeypatch.setattr(this.emulator.store, "latency", only_once)
    this.run(start_timeout=start_timeout)
    assert (this.starts, len(this.started)) == (starts, 1)


def test_the_earth_engine_takes_the_id_in_the_body(a_try: Callable[..., Try]) -> None:
    """Where a service wants its request id is known to the table of services."""
    this = a_try()
    this.emulator.fail("reset", verb="start", after=True)
    this.emulator.script(duration=0.1)
    this.run(method="projects/p/image:export", service="earthengine", body={"description": "x"})
    assert (len(this.started), this.starts) == (1, 2)


def test_a_request_id_of_the_author_stays(a_try: Callable[..., Try]) -> None:
    """One that is written into the method is not replaced."""
    this = a_try()
    this.emulator.script(duration=0)
    this.run(method=f"{REPEATABLE}&requestId=mine")
    [request] = this.emulator.requests(verb="start")
    assert request.query == "connectionId=c&requestId=mine"


@pytest.mark.parametrize(("max_tries", "ends"), [(1, [False]), (2, [True, False])], ids=["a retry", "a clear"])
@pytest.mark.parametrize("where", ["method", "body"])
def test_a_start_is_sent_again_with_the_id_that_was_sent(
    a_try: Callable[..., Try], where: str, max_tries: int, ends: list[bool]
) -> None:
    """An author's id that every try makes anew (a template with uuid4) is no other operation: it is found and owned."""

    def how(own: str) -> dict[str, Any]:
        if where == "method":
            return {"method": f"{REPEATABLE}&requestId={own}"}
        return {"method": "projects/p/table:export", "service": "earthengine", "body": {"requestId": own}}

    first = a_try(max_tries=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OperationsClient, "_send", die_after(OperationsClient._send))
        with pytest.raises(SystemExit):
            first.run(**how("one"))
    assert first.store[KEY]["request_id"] == "one"
    second = a_try(number=2, max_tries=max_tries)
    crash(second, **how("two"))
    assert [view.cancel_requests > 0 for view in second.started] == ends


def test_an_id_of_the_author_that_never_changes_is_named(
    a_try: Callable[..., Try], capsys: pytest.CaptureFixture[str]
) -> None:
    """After a clear the service gives the operation that was just cancelled once more: the log says why."""
    first = a_try()
    crash(first, method=f"{REPEATABLE}&requestId=always")
    second = a_try(number=2, max_tries=1)
    with pytest.raises(OperationFailedError, match="was cancelled"):
        second.run(method=f"{REPEATABLE}&requestId=always")
    assert "with the same request id (always) a service gives the same operation once more" in capsys.readouterr().out


def test_what_nobody_expects_in_the_middle_of_a_start_leaves_its_record(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A13: it may have started something, so it is not started again."""

    def break_off(*_: Any, **__: Any) -> Any:
        raise OverflowError("timeout doesn't fit into C timeval")

    monkeypatch.setattr(OperationsClient, "start", break_off)
    this = a_try(max_tries=1)
    with pytest.raises(OperationStartError, match=r"connections: OverflowError\. It may have started an operation"):
        this.run()
    assert this.store[KEY]["reference"] is None


def test_an_execution_timeout_in_the_middle_of_a_start_loses_nothing(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGALRM waits for the answer: the operation is known then, and cancelled."""
    this = a_try()
    this.emulator.script(duration=None)
    during_the_start(monkeypatch, lambda: signal.raise_signal(signal.SIGALRM))
    with handling(signal.SIGALRM, alarm), pytest.raises(AirflowTaskTimeout):
        this.run(method=PLAIN, service="datafusion")
    assert (len(this.started), this.cancels, this.running) == (1, 1, [])


# -- kills -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["start", "get"], ids=["while it starts", "while it waits"])
@pytest.mark.parametrize(
    ("method", "service"), [(REPEATABLE, "developerconnect"), (PLAIN, "datafusion")], ids=["with id", "without"]
)
def test_a_kill_cancels_what_was_started(
    a_try: Callable[..., Try], killable: Killable, verb: str, method: str, service: str
) -> None:
    """In the middle of the start request or of the wait: one operation, one cancel, and a marked record."""
    this = a_try()
    this.emulator.script(duration=None, latency=0.4)
    operator = this.operator(method=method, service=service)
    killable(operator, lambda: this.started if verb == "start" else this.emulator.requests(verb="get"))
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert (len(this.started), this.cancels, this.running) == (1, 1, [])
    assert this.store[KEY]["killed"]


@pytest.mark.filterwarnings("ignore:.*cannot cancel its operations:UserWarning")
def test_a_kill_that_cannot_cancel_is_a_warning(
    a_try: Callable[..., Try], killable: Killable, capsys: pytest.CaptureFixture[str]
) -> None:
    """C4: the start of an operation that cannot be cancelled is one, too."""
    this = a_try()
    operator = this.operator(method=f"{LOCATION}/jobs/j:run", service="run")
    killable(operator, lambda: this.emulator.requests(verb="get"))
    with pytest.raises(Killed):
        operator.execute(this.context)
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line.lower()]
    assert [
        words
        for words in ("(run) cannot cancel its operations", "Not cancelled, Cloud Run cannot cancel it")
        if not any(words in line for line in warnings)
    ] == []
    assert this.cancels == 0


def test_a_start_that_was_refused_is_not_sent_again_after_a_kill(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it started then would have 5 seconds to be known and cancelled."""
    this = a_try()
    this.emulator.fail(503, verb="start", times=3)
    operator, send = this.operator(), OperationsClient._send_once

    def killed_meanwhile(*arguments: Any) -> Any:
        try:
            return send(*arguments)
        finally:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(OperationsClient, "_send_once", killed_meanwhile)
    with handling(signal.SIGTERM, sigterm_of(operator)), pytest.raises((UnavailableError, Killed)):
        operator.execute(this.context)
    assert (this.starts, this.started, this.store) == (1, [], {})


def test_a_start_whose_answer_was_lost_is_asked_for_also_after_a_kill(
    a_try: Callable[..., Try], killable: Killable
) -> None:
    """Only so it is known what to cancel."""
    this = a_try()
    this.emulator.fail("reset", verb="start", after=True)
    operator = this.operator()
    killable(operator, lambda: this.starts)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert (len(this.started), this.starts, this.running) == (1, 2, [])


def test_a_kill_in_the_moment_in_which_the_guard_is_made_is_not_lost(a_try: Callable[..., Try]) -> None:
    """The handler makes a guard too, and notes the kill there: that one is kept."""
    this = a_try()

    class Interrupted(RunOperationOperator):
        @property
        def log(self) -> Any:
            if "_guard" not in self.__dict__ and not self.__dict__.get("interrupted"):
                self.__dict__["interrupted"] = True
                self.on_kill()
            return super().log

    operator = Interrupted(task_id="t", method=REPEATABLE, service="developerconnect")
    may_execute(operator)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert this.starts == 0


def test_what_cannot_be_guarded_does_not_run(a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread or descriptor is left for the guard: the operation is cancelled at once, and the task fails."""

    def no_thread(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Canceller, "start", no_thread)
    this = a_try()
    with pytest.raises(RuntimeError, match="new thread"):
        this.run()
    assert (len(this.started), this.running) == (1, [])


def test_a_kill_before_the_start_starts_nothing(a_try: Callable[..., Try]) -> None:
    """A kill that came before execute is remembered: no start request is sent."""
    this = a_try()
    operator = this.operator()
    operator.on_kill()
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert this.emulator.requests(verb="start") == []


def test_a_kill_of_one_who_does_not_cancel_ends_the_task_only(a_try: Callable[..., Try], killable: Killable) -> None:
    """With cancel_on_kill=False the operation runs on, and a retry goes on with it."""
    this = a_try(max_tries=1)
    operator = this.operator(cancel_on_kill=False)
    killable(operator, lambda: this.emulator.requests(verb="get"))
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert len(this.running) == 1
    this.emulator.finish("developerconnect", this.started[0].operation["name"])
    a_try(number=2, max_tries=1).run(cancel_on_kill=False)
    assert (this.starts, this.cancels) == (1, 0)


@since_3
def test_a_kill_just_after_the_start_of_one_who_does_not_cancel_loses_no_name(
    a_try: Callable[..., Try], killable: Killable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the answer to the start and the record of it: the retry knows which operation runs on."""
    this = a_try(max_tries=1)
    operator = this.operator(cancel_on_kill=False)
    answered, start = threading.Event(), Canceller.start
    killable(operator, answered.is_set)

    def killed(canceller: Canceller) -> None:
        answered.set()
        while not operator._get_guard().killed:
            time.sleep(0.005)
        start(canceller)

    monkeypatch.setattr(Canceller, "start", killed)
    with pytest.raises(Killed):
        operator.execute(this.context)
    monkeypatch.setattr(Canceller, "start", start)
    this.emulator.finish("developerconnect", this.started[0].operation["name"])
    a_try(number=2, max_tries=1).run(cancel_on_kill=False)
    assert (this.starts, this.cancels) == (1, 0)


def test_its_own_timeout_cancels_and_the_retry_starts_anew(a_try: Callable[..., Try]) -> None:
    """`timeout`: cancelled, marked, and not adopted."""
    this = a_try(max_tries=1)
    with pytest.raises(OperationRunningError):
        this.run(timeout=0.1)
    assert (this.cancels, this.running) == (1, [])
    this.emulator.script(duration=0)
    a_try(number=2, max_tries=1).run()
    assert this.starts == 2


@pytest.mark.parametrize(
    ("max_tries", "arguments", "cancels"),
    [
        (0, {}, 1),
        (0, {"cancel_on_failure": False}, 0),
        (1, {}, 0),
        (1, {"durable": False}, 1),
        (1, {"durable": False, "cancel_on_failure": False}, 0),
    ],
    ids=["no retry", "no retry, not on failure", "a retry adopts", "a retry cannot adopt", "nor on failure"],
)
def test_lost_permission(a_try: Callable[..., Try], max_tries: int, arguments: dict[str, Any], cancels: int) -> None:
    """An error that ends the task cancels by policy; not if a retry will go on with the operation."""
    this = a_try(max_tries=max_tries)
    this.emulator.fail(403, verb="get", times=None)
    with pytest.raises(PermissionDeniedError):
        this.run(**arguments)
    assert this.cancels == cancels


@pytest.mark.parametrize("shape", ["waiting", "deferred"])
def test_a_retry_that_will_find_no_record_is_no_reason_to_leave_the_operation(
    a_try: Callable[..., Try], shape: str
) -> None:
    """The store took only the announcement: the retry would start a second one beside it, or nothing at all."""

    class Refusing(Store):
        def set(self, key: str, value: Any, **_: Any) -> None:
            if value["reference"] is not None:
                raise RuntimeError("507")
            super().set(key, value)

    this = a_try(max_tries=1, store=Refusing())
    how = {"method": PLAIN, "service": "datafusion"}
    if shape == "waiting":
        this.emulator.fail(403, verb="get", times=None)
        with pytest.raises(PermissionDeniedError):
            this.run(**how)
    else:
        operator, deferral = deferred(this, **how)
        told = event(deferral, status="lost", message="403")
        with pytest.raises(OperationWaitError):
            operator.execute_complete(this.context, told, **deferral.kwargs)
    assert this.cancels == 1


@since_3_3
@pytest.mark.parametrize("cancel_on_failure", [True, False])
def test_a_retry_policy_that_ends_the_task_leaves_no_operation(
    a_try: Callable[..., Try], cancel_on_failure: bool
) -> None:
    """Airflow 3.3 asks it whether to retry after this error: if not, no next try goes on with the operation."""
    this = a_try(max_tries=3)
    this.emulator.fail(403, verb="get", times=None)
    rule = RetryRule(exception=PermissionDeniedError, action=RetryAction.FAIL)
    with pytest.raises(PermissionDeniedError):
        this.run(retry_policy=ExceptionRetryPolicy(rules=[rule]), cancel_on_failure=cancel_on_failure)
    assert this.cancels == cancel_on_failure


@since_3_3
@pytest.mark.parametrize("action", ["FAIL", "RETRY"])
def test_a_retry_policy_is_asked_about_a_kill_too(
    a_try: Callable[..., Try], killable: Killable, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """A worker that shuts down leaves the operation to a retry only if the policy lets one follow: Airflow asks it."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    this = a_try(max_tries=1)
    rule = RetryRule(exception=SystemExit, action=getattr(RetryAction, action))
    operator = this.operator(retry_policy=ExceptionRetryPolicy(rules=[rule]))
    killable(operator, lambda: len(this.emulator.requests("get")) > 1)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert this.cancels == (action == "FAIL")


@since_3_3
def test_a_start_whose_record_is_rejected_says_who_has_the_task(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody told this process to stop: another try of its task runs by now, and it is that one's state."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    this = a_try(max_tries=1, store=(store := TakenStore()))
    during_the_start(monkeypatch, lambda: setattr(store, "taken", True))
    with pytest.raises(Killed, match="Airflow has another try of this task by now"):
        this.run(method=PLAIN, service="datafusion")


@since_3_3
def test_a_retry_policy_that_cannot_be_asked_changes_nothing(a_try: Callable[..., Try]) -> None:
    """As Airflow does with one that raises: the number of retries decides."""

    class Broken(ExceptionRetryPolicy):
        def evaluate(self, **_: Any) -> Any:
            raise RuntimeError

    this = a_try(max_tries=1)
    this.emulator.fail(403, verb="get", times=None)
    with pytest.raises(PermissionDeniedError):
        this.run(retry_policy=Broken(rules=[]))
    assert this.cancels == 0


class Counting(ExceptionRetryPolicy):
    """A policy with a memory: it writes down what it is asked about."""

    asked: list[str]

    def evaluate(self, *, exception: BaseException, **given: Any) -> Any:
        """Leave it to the retries."""
        self.asked.append(type(exception).__name__)
        return super().evaluate(exception=exception, **given)


@since_3_3
def test_no_retry_policy_is_asked_where_nothing_may_be(a_try: Callable[..., Try]) -> None:
    """A decision without Airflow may be made in the signal handler: no import, and no code of others there."""
    policy = Counting(rules=[])
    policy.asked = []
    this = a_try(max_tries=1)
    this.emulator.fail(403, verb="get", times=None)
    operator = this.operator(retry_policy=policy)
    with pytest.raises(PermissionDeniedError):
        operator.execute(this.context)
    policy.asked.clear()
    assert operator.attempt is not None
    assert operator.attempt.reference is not None
    operator.attempt.record.decide(operator.attempt.reference, may_ask=False)
    assert policy.asked == []
    operator.attempt.record.decide(operator.attempt.reference)
    assert policy.asked == ["OperationKilled"]


@since_3_3
@pytest.mark.parametrize(("max_tries", "asked"), [(1, ["PermissionDeniedError"]), (0, [])])
def test_a_retry_policy_is_asked_once_and_where_it_matters(
    a_try: Callable[..., Try], max_tries: int, asked: list[str]
) -> None:
    """A14: after the last try it changes nothing, and each question changes a policy that counts."""
    policy = Counting(rules=[])
    policy.asked = []
    this = a_try(max_tries=max_tries)
    this.emulator.fail(403, verb="get", times=None)
    with pytest.raises(PermissionDeniedError):
        this.run(retry_policy=policy)
    assert policy.asked == asked


# -- surviving -------------------------------------------------------------------------------------------


def test_a_retry_after_a_crash_goes_on_with_the_running_operation(a_try: Callable[..., Try]) -> None:
    """SIGKILL and a retry: no second start, no cancel, and the first one's response."""
    crash(a_try(max_tries=1))
    second = a_try(number=2, max_tries=1)
    threading.Timer(
        0.3,
        second.emulator.finish,
        ("developerconnect", second.started[0].operation["name"]),
        {"response": {"a": 1}},
    ).start()
    assert second.run() == {"a": 1}
    assert (second.starts, second.cancels, second.store) == (1, 0, {})


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_was_adopted_and_then_cancelled_is_started_anew_once(a_try: Callable[..., Try], deferrable: bool) -> None:
    """The late kill of the lost try has cancelled it (A1): that is no result. A second cancellation is one."""
    first = a_try(max_tries=1)
    crash(first)
    old = first.started[0].operation["name"]
    second = a_try(number=2, max_tries=1)
    if deferrable:
        operator, deferral = deferred(second)
        first.emulator.script(duration=0, response={"a": 1})
        told = event(deferral, status="finished", operation={"name": old, "done": True, "error": {"code": 1}})
        assert operator.execute_complete(second.context, told, **deferral.kwargs) == {"a": 1}
    else:
        first.emulator.script(duration=0, response={"a": 1})
        threading.Timer(0.3, first.emulator.finish, ("developerconnect", old), {"error": {"code": 1}}).start()
        assert second.run() == {"a": 1}
    assert (first.starts, first.cancels, second.store) == (2, 0, {})
    third = a_try(number=3, max_tries=2)
    first.emulator.script(duration=None)
    operator, deferral = deferred(third)
    told = event(deferral, status="finished", operation={"name": old, "done": True, "error": {"code": 1}})
    with pytest.raises(OperationFailedError):
        operator.execute_complete(third.context, told, **deferral.kwargs)


def test_one_that_finished_between_crash_and_retry_is_the_result(a_try: Callable[..., Try]) -> None:
    """Its response is taken, and nothing is started."""
    first = a_try(max_tries=1)
    crash(first)
    first.emulator.finish("developerconnect", first.started[0].operation["name"], response={"a": 1})
    assert a_try(number=2, max_tries=1).run() == {"a": 1}
    assert first.starts == 1


def test_a_rerun_after_a_success_starts_afresh(a_try: Callable[..., Try]) -> None:
    """A normal end leaves no record."""
    this = a_try()
    this.emulator.script(duration=0.1)
    this.run()
    a_try(number=2, max_tries=1).run()
    assert this.starts == 2


def test_a_clear_cancels_the_old_one_and_starts_a_fresh_one_after_its_end(a_try: Callable[..., Try]) -> None:
    """Never two side by side: the second start is sent when the first operation is over."""
    first = a_try()
    first.emulator.script(duration=None, cancel_delay=0.5)
    crash(first)
    first.emulator.script(duration=0)
    a_try(number=2, max_tries=1).run()
    assert (first.starts, first.cancels, len(first.started)) == (2, 1, 2)
    old, new = first.started
    ended = first.emulator.requests(verb="cancel")[0].time + 0.5
    assert first.emulator.requests(verb="start")[1].time >= ended - 0.01
    assert (old.operation["error"]["code"], new.operation["done"]) == (1, True)


def test_an_old_one_that_does_not_end_is_not_doubled(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ignores its cancellation keeps the fresh one from being started; the task says so."""
    monkeypatch.setattr(adoption, "REPLACE_TIMEOUT_SECONDS", 0.3)
    first = a_try()
    first.emulator.script(duration=None, cancel="ignore")
    crash(first)
    with pytest.raises(OperationRunningError, match="no second one is started beside it"):
        a_try(number=2, max_tries=1).run()
    assert first.starts == 1


@pytest.mark.parametrize("max_tries", [1, 2], ids=["a retry", "a clear"])
def test_one_that_is_not_found_at_once_is_not_taken_for_gone(a_try: Callable[..., Try], max_tries: int) -> None:
    """A new operation may not be found everywhere yet: no second one is started beside it."""
    first = a_try(max_tries=1)
    first.emulator.script(duration=None, cancel_delay=0)
    crash(first)
    first.emulator.fail(404, verb="get", times=2)
    crash(a_try(number=2, max_tries=max_tries))
    assert (len(first.running), first.starts, first.cancels) == (1, max_tries, max_tries - 1)


def test_one_that_is_gone_is_not_waited_for(a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation that the service has forgotten cannot be adopted: a fresh one starts."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.1)
    first = a_try(max_tries=1)
    crash(first)
    first.emulator.store.delete("developerconnect", first.started[0].operation["name"])
    first.emulator.script(duration=0)
    a_try(number=2, max_tries=1).run()
    assert first.starts == 2


@pytest.mark.parametrize(("max_tries", "operations"), [(1, 1), (2, 2)], ids=["a retry", "a clear"])
def test_a_death_during_the_start_is_not_forgotten(a_try: Callable[..., Try], max_tries: int, operations: int) -> None:
    """The record of a start without an answer: a retry gets the same operation, a clear cancels it."""
    first = a_try(max_tries=1)
    first.emulator.fail("reset", verb="start", after=True, times=None)
    operator = first.operator()
    operator.gcp_conn_id = "google_cloud_default"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OperationsClient, "_send", die_after(OperationsClient._send))
        with pytest.raises(SystemExit):
            operator.execute(first.context)
    assert first.store[KEY]["reference"] is None
    assert first.store[KEY]["request_id"]
    first.emulator.store._failures.clear()
    second = a_try(number=2, max_tries=max_tries)
    crash(second)
    assert len(second.started) == operations
    assert len(second.running) == 1
    assert second.running[0].operation["name"] == second.store[KEY]["reference"]["name"]


@pytest.mark.parametrize(
    ("http_method", "method", "age", "max_tries", "starts"),
    [
        ("PATCH", f"{LOCATION}/connections/c?updateMask=labels", 3000, 1, 2),
        ("PATCH", f"{LOCATION}/connections/c?updateMask=labels", 4000, 1, 1),  # a retry: fails, and says where to look
        ("PATCH", f"{LOCATION}/connections/c?updateMask=labels", 4000, 2, 2),  # a clear: with another request id
        ("POST", REPEATABLE, 4000, 1, 2),  # a create that names its resource cannot be doubled
    ],
)
def test_a_request_id_is_not_believed_for_ever(
    a_try: Callable[..., Try], http_method: str, method: str, age: float, max_tries: int, starts: int
) -> None:
    """Services promise to know a request id for 60 minutes: a retry after that may start a second operation."""
    how = {"http_method": http_method, "method": method}
    first = a_try(max_tries=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OperationsClient, "_send", die_after(OperationsClient._send))
        with pytest.raises(SystemExit):
            first.run(**how)
    first.store[KEY]["sent_since"] -= age
    second = a_try(number=2, max_tries=max_tries)
    if starts == 1:
        with pytest.raises(OperationStartError, match=r"its request id is too old.*Check at the service"):
            second.run(deferrable=True, **how)
    else:
        crash(second, **how)
    assert second.starts == starts
    ids = {request.query.partition("requestId=")[2] for request in second.emulator.requests(verb="start")}
    assert len(ids) == max_tries


def die_after(send: Any) -> Any:
    """Let the process die when the first request is out, before its answer is read."""

    def dying(self: Any, request: Any, urgent: bool) -> Any:
        try:
            send(self, request, urgent)
        finally:
            raise SystemExit

    return dying


def test_a_process_that_is_out_of_date_starts_and_cancels_nothing(a_try: Callable[..., Try]) -> None:
    """A record of a younger try: whoever reads it is the one that is wrong."""
    crash(a_try(number=3, max_tries=3))
    late = a_try(number=2, max_tries=3)
    with pytest.raises(OperationWaitError, match="Nothing was started or cancelled"):
        late.run()
    assert (late.starts, late.cancels, len(late.running)) == (1, 0, 1)


@pytest.mark.parametrize("is_told", [True, False], ids=["told to stop", "not told yet"])
@pytest.mark.parametrize(("method", "cancels"), [(REPEATABLE, 0), (PLAIN, 1)], ids=["repeatable", "not repeatable"])
def test_a_late_response_is_of_the_operation_that_another_try_has_by_now(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, method: str, cancels: int, is_told: bool
) -> None:
    """A machine stands still during a start, until another try has sent it again (A1): that one's is not cancelled.

    Where a start cannot be repeated the other try has one of its own, and nobody else knows what this has begun. That
    Airflow rejects the record says as much as a SIGTERM, which may come five seconds later.
    """
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "deferred")
    store = TakenStore()
    this = a_try(max_tries=1, store=store)
    this.emulator.script(duration=None)
    service = "developerconnect" if method == REPEATABLE else "datafusion"
    operator = this.operator(method=method, service=service)

    def take() -> None:
        store.taken = True
        if is_told:
            operator.on_kill()

    during_the_start(monkeypatch, take)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert (this.starts, this.cancels) == (1, cancels)


@pytest.mark.parametrize("method", [REPEATABLE, PLAIN])
def test_a_try_that_was_cleared_before_it_started_starts_nothing(a_try: Callable[..., Try], method: str) -> None:
    """Its process lives on for some seconds, beside the next try: there must not be two operations."""
    this = a_try(store=OutdatedStore())
    with pytest.raises(Killed, match="not Airflow's current one any more"):
        this.run(method=method, service="developerconnect" if method == REPEATABLE else "datafusion")
    assert this.starts == 0


@pytest.mark.parametrize("state", ["failed", "success", "restarting", Evidence.NONE, Evidence.GONE])
def test_a_task_that_was_marked_before_it_started_starts_nothing(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, state: TaskState
) -> None:
    """The supervisor learns of it only at its next heartbeat; Airflow says it when it is asked."""
    from airflow_lro_provider.ownership import evidence as ownership

    monkeypatch.setattr(ownership, "read_task_state", lambda owner: state)
    this = a_try()
    with pytest.raises(Killed, match="nothing was started"):
        this.run()
    assert this.starts == 0


@pytest.mark.parametrize("how", ["marked", "killed"])
def test_a_start_that_was_not_sent_is_not_looked_for_after_a_clear(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Looking for it means to send it, and to cancel what comes of that."""
    from airflow_lro_provider.ownership import evidence as ownership

    first = a_try()
    operator = first.operator()
    with monkeypatch.context() as patch:
        if how == "marked":
            patch.setattr(ownership, "read_task_state", lambda owner: "failed")
        else:
            operator.on_kill()
        with pytest.raises(Killed):
            operator.execute(first.context)
    assert first.store == {}
    first.emulator.script(duration=0)
    a_try(number=2, max_tries=1).run()
    assert (first.starts, first.cancels) == (1, 0)


def test_a_start_of_an_earlier_try_is_not_forgotten_by_a_kill_before_it_is_repeated(
    a_try: Callable[..., Try],
) -> None:
    """That one may have been carried out: the record with its request id stays."""
    first = a_try(max_tries=1)
    first.emulator.fail("reset", verb="start", after=True, times=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OperationsClient, "_send", die_after(OperationsClient._send))
        with pytest.raises(SystemExit):
            first.run()
    before = first.store[KEY]["request_id"]
    second = a_try(number=2, max_tries=1)
    operator = second.operator()
    operator.on_kill()
    with pytest.raises(Killed):
        operator.execute(second.context)
    assert first.store[KEY]["request_id"] == before


def test_a_start_that_is_repeated_keeps_the_time_of_the_first(a_try: Callable[..., Try]) -> None:
    """Found by simulated time: with the later one the sweep does not take the operation for what was started."""
    first = a_try(max_tries=2)
    sent = []
    for number in (1, 2):
        first.emulator.fail("reset", verb="start", after=True)
        first.emulator.fail(403, verb="start")
        with pytest.raises(TransportError):
            a_try(number=number, max_tries=2).run()
        sent.append(first.store[KEY]["sent_since"])
    assert sent[0] == sent[1] is not None


def test_an_orphan_starts_nothing(a_try: Callable[..., Try]) -> None:
    """Airflow counts it as lost, and a next try may be at it already; its record could not even be written."""
    this = a_try(max_tries=1)
    operator = this.operator()
    operator._get_guard()._supervisor = -1
    with pytest.raises(OperationOrphaned):
        operator.execute(this.context)
    assert this.starts == 0


@pytest.mark.parametrize(("method", "cancels"), [(REPEATABLE, 0), (PLAIN, 1)], ids=["repeatable", "not repeatable"])
def test_an_orphan_leaves_what_the_next_try_finds_by_the_request_id(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, method: str, cancels: int
) -> None:
    """Its supervisor died during the start: the record of the response is not written; that of the start is there."""

    class Closed(Store):
        """Accepts one record."""

        def set(self, key: str, value: Any, **_: Any) -> None:
            """And no other."""
            if self:
                raise EOFError("the supervisor is gone")
            super().set(key, value)

    this = a_try(max_tries=1, store=Closed())
    service = "developerconnect" if method == REPEATABLE else "datafusion"
    this.emulator.script(duration=None)
    operator = this.operator(method=method, service=service)
    during_the_start(monkeypatch, lambda: setattr(operator._get_guard(), "_supervisor", -1))
    with pytest.raises(OperationOrphaned):
        operator.execute(this.context)
    assert (this.starts, this.cancels) == (1, cancels)


def test_an_orphan_does_not_wait_for_the_end_of_an_old_operation(a_try: Callable[..., Try]) -> None:
    """It would start another one then, beside that of the next try."""
    first = a_try()
    first.emulator.script(duration=None, cancel="ignore")
    crash(first)
    second = a_try(number=2, max_tries=1)
    operator = second.operator()
    operator._get_guard()._supervisor = -1
    begin = time.monotonic()
    with pytest.raises(OperationOrphaned):
        operator.execute(second.context)
    assert time.monotonic() - begin < 5
    assert first.starts == 1


def test_what_a_lost_start_did_is_not_given_up_for_a_bad_moment(a_try: Callable[..., Try]) -> None:
    """After a clear the service does not answer: nothing is started beside what may be running."""
    first = a_try()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OperationsClient, "_send", die_after(OperationsClient._send))
        with pytest.raises(SystemExit):
            first.run()
    assert len(first.running) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "NUM_RETRIES", 0)
        first.emulator.fail(503, verb="start")
        with pytest.raises(OperationWaitError):
            a_try(number=2, max_tries=1).run()
    assert len(first.started) == 1
    first.emulator.script(duration=0)
    a_try(number=3, max_tries=2).run()
    assert (len(first.started), first.running) == (2, [])


def test_nothing_is_started_while_airflow_does_not_confirm_the_try(a_try: Callable[..., Try]) -> None:
    """Found by simulated time: an old process of a cleared task, to which Airflow does not respond, started a second.

    Nothing that the next try could take for a lost start is left, and without a record it starts all the same.
    """
    from tests.airflow.played import BrokenStore

    this = a_try(store=BrokenStore(), max_tries=1)
    this.emulator.script(duration=0)
    with pytest.raises(OperationWaitError, match=r"nothing was started.*durable=False"):
        this.run()
    assert this.starts == 0
    assert this.run(durable=False) == EMPTY


def test_an_announcement_that_was_written_after_all_is_no_lost_start(a_try: Callable[..., Try]) -> None:
    """Airflow's responses were lost, and not what it was asked for: the task fails, and the next try starts."""

    class Mute(Store):
        def set(self, key: str, value: Any, **_: Any) -> None:
            super().set(key, value)
            raise RuntimeError("no response")

    this = a_try(store=Mute(), max_tries=1)
    this.emulator.script(duration=0)
    with pytest.raises(OperationWaitError, match="nothing was started"):
        this.run()
    assert (this.starts, this.store) == (0, {})


def test_without_durable_nothing_is_recorded_or_adopted(a_try: Callable[..., Try]) -> None:
    """durable=False: a retry starts afresh."""
    first = a_try(max_tries=1)
    crash(first, durable=False)
    assert first.store == {}
    first.emulator.script(duration=0)
    a_try(number=2, max_tries=1).run(durable=False)
    assert first.starts == 2


# -- deferred --------------------------------------------------------------------------------------------


def deferred(this: Try, **arguments: Any) -> tuple[RunOperationOperator, TaskDeferred]:
    """Run until it defers; the operator that is resumed later is another object in another process."""
    with pytest.raises(TaskDeferred) as caught:
        this.run(deferrable=True, **arguments)
    return this.operator(deferrable=True, **arguments), caught.value


def event(deferral: TaskDeferred, **content: Any) -> dict[str, Any]:
    """An event of this deferral's trigger."""
    return {**content, "owner": deferral.kwargs["token"]}


def test_a_deferral_comes_back_with_the_response(a_try: Callable[..., Try]) -> None:
    """The operation is known after the deferral, and its response is the result."""
    this = a_try()
    operator, deferral = deferred(this, execution_timeout=timedelta(seconds=60))
    arguments = deferral.trigger.serialize()[1]
    assert arguments["reference"]["name"] == this.started[0].operation["name"]
    assert arguments["deadline"]["cause"] == "execution_timeout"
    done = this.emulator.finish("developerconnect", this.started[0].operation["name"], response={"a": 1}).operation
    told = event(deferral, status="finished", operation=done)
    assert operator.execute_complete(this.context, told, **deferral.kwargs) == {"a": 1}
    assert this.store == {}


@pytest.mark.parametrize(
    ("cause", "error"), [("timeout", OperationRunningError), ("execution_timeout", AirflowTaskTimeout)]
)
@pytest.mark.parametrize("requested", [True, False])
def test_a_deadline_in_the_triggerer(
    a_try: Callable[..., Try], cause: str, error: type[BaseException], requested: bool
) -> None:
    """Each deadline has its error; what the trigger could not cancel, the task does."""
    this = a_try()
    operator, deferral = deferred(this)
    told = event(deferral, status="deadline", cause=cause, seconds=5.0, cancel_requested=requested, operation=None)
    with pytest.raises(error):
        operator.execute_complete(this.context, told, **deferral.kwargs)
    assert this.cancels == (0 if requested else 1)
    assert this.store[KEY]["killed"]


def test_an_event_of_another_task_reads_no_template(a_try: Callable[..., Try]) -> None:
    """What started the operation may not be usable any more: it is polled on, and not cancelled."""
    this = a_try()
    operator, deferral = deferred(this)
    operator.method = ""
    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(this.context, {"owner": "?"}, **deferral.kwargs)
    assert again.value.kwargs["reference"] == deferral.kwargs["reference"]
    assert this.cancels == 0


@pytest.mark.parametrize("durable", [True, False])
def test_an_event_of_another_task_is_not_believed(a_try: Callable[..., Try], durable: bool) -> None:
    """It looks again, at its own operation, and starts no second one: with and without a record."""
    this = a_try()
    operator, deferral = deferred(this, durable=durable)
    foreign = {"owner": "another", "status": "finished", "operation": {"name": "x", "done": True, "response": {}}}
    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(this.context, foreign, **deferral.kwargs)
    first, second = (found.trigger.serialize()[1] for found in (deferral, again.value))
    assert second["reference"] == first["reference"]
    assert this.starts == 1


@pytest.mark.parametrize(("max_tries", "cancels"), [(0, 1), (1, 0)], ids=["no retry", "a retry to come"])
def test_a_broken_trigger_does_not_forget_the_operation(
    a_try: Callable[..., Try], max_tries: int, cancels: int
) -> None:
    """A12: Airflow hands nothing back then; the record knows which operation it was."""
    this = a_try(max_tries=max_tries)
    operator, _ = deferred(this)
    with pytest.raises(Exception, match="Trigger failure"):
        operator.resume_execution("__fail__", {"error": "Trigger failure"}, this.context)
    assert this.cancels == cancels


def test_a_broken_trigger_without_a_record_says_what_it_does_not_know(a_try: Callable[..., Try]) -> None:
    """A12: nothing is guessed: no cancel, and Airflow's error stands."""
    this = a_try()
    operator, _ = deferred(this, durable=False)
    with pytest.raises(Exception, match="Trigger failure"):
        operator.resume_execution("__fail__", {"error": "Trigger failure"}, this.context)
    assert this.cancels == 0


def test_a_broken_trigger_without_a_record_is_known_by_the_ledger(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A12: whatever else is in it: its own entry names the operation."""
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "true")
    variables = Variables()
    monkeypatch.setattr(ledger, "_variables", lambda: variables)
    other, this = a_try(), a_try()
    other.ti.dag_run.id = 2
    deferred(other, durable=False)
    operator, _ = deferred(this, durable=False)
    variables[f"{ledger.PREFIX}odd"] = "{}"
    with pytest.raises(Exception, match="Trigger failure"):
        operator.resume_execution("__fail__", {"error": "Trigger failure"}, this.context)
    [cancel] = this.emulator.requests(verb="cancel")
    assert cancel.name == this.started[-1].name


# -- the decorator ---------------------------------------------------------------------------------------


class DecoratedTry(Try):
    """A try of a task with a decorated function."""

    def operator(self, function: Any = None, **arguments: Any) -> Any:
        """Make the operator of a function; without one, of one that starts an operation and returns its name."""

        def start() -> str:
            return self.emulator.create("datafusion")

        given = {"poll_interval": 0.02, "service": "datafusion", **arguments}
        made = OperationDecoratedOperator(
            task_id="t", python_callable=function or start, op_args=given.pop("op_args", ()), **given
        )
        may_execute(made)
        return made


@pytest.fixture
def a_decorated_try(a_try: Callable[..., Try]) -> Callable[..., DecoratedTry]:
    """The same with a decorated function."""

    def make(number: int = 1, max_tries: int = 0) -> DecoratedTry:
        this = a_try()
        return DecoratedTry(this.emulator, this.store, number, max_tries)

    return make


class Future:
    """What generated clients give: the operation's message is in it."""

    def __init__(self, name: str) -> None:
        self.operation = SimpleNamespace(name=name)


FORMS: dict[str, Callable[[str], Any]] = {
    "a name": str,
    "a full name": lambda name: f"//datafusion.googleapis.com/{name}",
    "a dict": lambda name: {"name": name, "done": False},
    "a future": Future,
    "a message": lambda name: SimpleNamespace(name=name, done=False),
    "an object with .operation, a name": lambda name: SimpleNamespace(operation=name),
    "an object with .operation, a dict": lambda name: SimpleNamespace(operation={"name": name}),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_what_a_function_may_return(a_decorated_try: Callable[..., DecoratedTry], form: Any) -> None:
    """All that clients of Google give; the response of the operation is the task's result."""
    this = a_decorated_try()
    this.emulator.script(duration=0.05, response={"a": 1})
    assert this.run(function=lambda: form(this.emulator.create("datafusion"))) == {"a": 1}
    assert this.store == {}


def test_a_coroutine_function(a_decorated_try: Callable[..., DecoratedTry]) -> None:
    """A function that speaks to an async client is run to its end."""
    this = a_decorated_try()
    this.emulator.script(duration=0)

    async def start() -> str:
        return this.emulator.create("datafusion")

    assert this.run(function=start) == EMPTY


def test_a_function_gets_its_arguments_and_the_context(a_decorated_try: Callable[..., DecoratedTry]) -> None:
    """As every decorated function of Airflow."""
    this = a_decorated_try()
    this.emulator.script(duration=0)
    seen: list[Any] = []

    def start(table: str, ti: Any = None) -> str:
        seen.append((table, ti))
        return this.emulator.create("datafusion")

    this.run(function=start, op_args=["t1"])
    assert seen == [("t1", this.ti)]


@pytest.mark.parametrize("odd", [None, 3, object(), SimpleNamespace(name=None), "projects/p/x", {"id": 1}])
def test_a_function_that_returns_no_operation_fails_at_once(
    a_decorated_try: Callable[..., DecoratedTry], odd: Any
) -> None:
    """Without a retry, which would call the function again."""
    with pytest.raises(OperationStartError, match="did not return an operation"):
        a_decorated_try(max_tries=3).run(function=lambda: odd)


def test_a_kill_does_not_raise_into_the_function(
    a_decorated_try: Callable[..., DecoratedTry], killable: Killable
) -> None:
    """It runs to its end; what it returns is cancelled."""
    this = a_decorated_try()
    begun, ended = threading.Event(), []

    def start() -> str:
        begun.set()
        while not (operator._guard.killed or operator.attempt.held_back):  # Airflow 2's would raise: it waits
            time.sleep(0.005)
        ended.append(True)
        return this.emulator.create("datafusion")

    operator = this.operator(function=start)
    killable(operator, begun.is_set)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert ended
    assert (this.cancels, this.running) == (1, [])


def test_a_retry_after_a_crash_does_not_call_the_function_again(
    a_decorated_try: Callable[..., DecoratedTry],
) -> None:
    """The operation of the record is taken; the function is not called."""
    first = a_decorated_try(max_tries=1)
    crash(first)
    first.emulator.finish("datafusion", first.started[0].operation["name"], response={"a": 1})
    second = a_decorated_try(number=2, max_tries=1)
    assert second.run(function=lambda: pytest.fail("called again")) == {"a": 1}


def test_an_execution_timeout_ends_a_function_that_hangs(a_decorated_try: Callable[..., DecoratedTry]) -> None:
    """A user's function is not protected from the timeout that its author gave it."""

    def hang() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(20)

    begin = time.monotonic()
    with handling(signal.SIGALRM, alarm), pytest.raises(AirflowTaskTimeout):
        a_decorated_try().run(function=hang)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("kills_in", [1, 2])
def test_each_execution_within_a_try_is_guarded(
    lro_emulator: Emulator, a_try: Callable[..., Any], killable: Killable, kills_in: int
) -> None:
    """An operator of one's own may start one operation after the other; a kill is not forgotten in between."""

    class TwoSteps(RunOperationOperator):
        def execute(self, context: Any) -> Any:
            super().execute(context)
            return super().execute(context)

    lro_emulator.script("datafusion", duration=0.2)
    this = PlayedTry(lro_emulator, Store(), max_tries=0)
    operator = TwoSteps(task_id="t", service="datafusion", method=PLAIN, poll_interval=1)
    may_execute(operator)

    def is_in_step() -> bool:
        if len(lro_emulator.operations()) == 1:
            lro_emulator.script("datafusion", duration=None)
        step = operator._guard
        return len(lro_emulator.operations()) == kills_in and step is not None and step.phase is Phase.WAITING

    if kills_in == 1:
        lro_emulator.script("datafusion", duration=None)
    killable(operator, is_in_step)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert lro_emulator.operations()[-1].cancel_requests == 1
