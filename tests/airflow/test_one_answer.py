"""One odd answer, of the service or of Airflow, kills, forgets and doubles nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from airflow_lro_provider.airflow_compat.exceptions import AirflowRescheduleException
from airflow_lro_provider.airflow_compat.task_process import takes_any_deferral
from airflow_lro_provider.attempt import canceller, guard
from airflow_lro_provider.attempt.attempt import Attempt
from airflow_lro_provider.attempt.record import KEY
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import (
    FinalOperationFailedError,
    OperationKilled,
    OperationStartError,
    OperationWaitError,
)
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.errors import ConnectionSettingsError, CredentialsError, StartUnknownError
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent, read_reference
from airflow_lro_provider.operators.operations import CancelOperationOperator
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.sweep import ledger
from airflow_lro_provider.sweep.reconciler import FromWithin, sweep
from tests.airflow.played import TIME_TO_CORRECT_SECONDS, Killable, OutdatedStore, Store, Variables, once
from tests.airflow.test_sensor import Try as SensorTry
from tests.airflow.test_starters import LOCATION, PLAIN, Try, crash, die_after
from tests.airflow.versions import Killed, may_execute, play_task_states

RESTART = f"{LOCATION}/instances/i:restart"  # neither a request id, nor a resource whose id it says


@pytest.fixture
def emulator(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """A server, and a connection to it."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    lro_emulator.script(duration=None)
    return lro_emulator


class FailingStore(Store):
    """Fails as often as it is told to."""

    reads = writes = nones = 0

    def get(self, key: str, *_: Any) -> Any:
        """Read."""
        if self.nones:
            self.nones -= 1
            return None
        if self.reads:
            self.reads -= 1
            raise RuntimeError("500")
        return super().get(key)

    def set(self, key: str, value: Any, **_: Any) -> None:
        """Write; refused with 404."""
        if self.writes:
            self.writes -= 1
            OutdatedStore().set(key, value)
        super().set(key, value)


def sensor_try(emulator: Emulator, store: Store, number: int = 1, max_tries: int = 0, **script: Any) -> SensorTry:
    """A try of a sensor."""
    name = emulator.create("datafusion", **{"duration": None, **script})
    return SensorTry(emulator, store, number, max_tries, name)


@pytest.mark.parametrize("code", [400, 403, 409, 412, 499, 501])
def test_one_error_of_a_poll_ends_no_wait(emulator: Emulator, code: int) -> None:
    """Nor is the operation cancelled for it, on the last try."""
    this = sensor_try(emulator, Store(), duration=1.5)
    emulator.fail(code, verb="get", name=this.name)
    assert this.run()["outcome"] == "SUCCEEDED"
    assert this.cancels == 0


def test_a_reschedule_sensor_remembers_which_try_has_left_its_operation(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second poke is another process: it does not turn green by the kill of the try before."""
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    monkeypatch.setattr(ledger, "_variables", Variables)
    store = Store()
    first = sensor_try(emulator, store, max_tries=1, cancel_delay=1)
    how = {"mode": "reschedule", "poke_interval": 0.1}
    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "poll", lambda *_: (_ for _ in ()).throw(AirflowTaskTimeout("execution_timeout")))
        with pytest.raises(AirflowTaskTimeout):
            first.run(**how)
    second = SensorTry(emulator, store, 2, 1, first.name)
    with pytest.raises(AirflowRescheduleException):
        second.run(**how)
    while not emulator.operation("datafusion", first.name).done:
        time.sleep(0.05)
    with pytest.raises(FinalOperationFailedError, match="after try 1 of this task was killed"):
        second.run(**how)


@pytest.mark.parametrize("reads", [1, 99], ids=["once", "always"])
def test_a_record_that_cannot_be_read_is_not_one_that_is_not_there(emulator: Emulator, reads: int) -> None:
    """It is read again; a starter then starts nothing beside what it may name, and a retry may."""
    store = FailingStore()
    crash(Try(emulator, store, max_tries=2))
    store.reads = reads
    second = Try(emulator, store, 2, 2)
    if reads == 1:
        crash(second)
    else:
        with pytest.raises(OperationWaitError, match="cannot be read from Airflow") as caught:
            second.run()
        assert not isinstance(caught.value, AirflowFailException)
    assert (second.starts, second.cancels) == (1, 0)


def test_a_sensor_whose_record_cannot_be_read_takes_no_cancellation_for_a_success(emulator: Emulator) -> None:
    """It may have been its own kill."""
    store = FailingStore()
    this = sensor_try(emulator, store, number=2, max_tries=1)
    emulator.finish("datafusion", this.name, error={"code": 1, "message": ""})
    store.reads = 99
    with pytest.raises(FinalOperationFailedError, match="after try 1"):
        this.run()


@pytest.mark.parametrize("times", [1, 99], ids=["once", "always"])
def test_a_connection_that_cannot_be_read_does_not_fail_for_good(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Airflow says "not defined" also when it cannot ask: it is read again, and Airflow tries again."""
    store = Store()
    crash(Try(emulator, store, max_tries=2))
    real, left = ConnectionSettings.from_extra.__func__, [times]  # type: ignore[attr-defined]

    def flaky(cls: Any, *given: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionSettingsError("connection 'google_cloud_default' is not defined")
        return real(cls, *given, **named)

    monkeypatch.setattr(ConnectionSettings, "from_extra", classmethod(flaky))
    second = Try(emulator, store, 2, 2)
    if times == 1:
        crash(second)
    else:
        with pytest.raises(ConnectionSettingsError) as caught:
            second.run()
        assert not isinstance(caught.value, AirflowFailException)
    assert (second.starts, second.cancels, len(second.running)) == (1, 0, 1)


@pytest.mark.parametrize("code", [499, 504])
def test_a_start_that_gets_an_odd_error_may_have_happened(emulator: Emulator, code: int) -> None:
    """Only a plain refusal says that nothing was started: the retry sends the same request id."""
    store = Store()
    first = Try(emulator, store, max_tries=1)
    emulator.fail(code, verb="start", after=True, times=None)
    operator = first.operator()
    once(lambda: first.starts, operator.on_kill)
    with pytest.raises((OperationKilled, Exception)):
        operator.execute(first.context)
    emulator.store._failures.clear()
    second = Try(emulator, store, 2, 1)
    crash(second)
    assert len(second.started) == 1


def test_an_unreadable_response_to_a_start_that_cannot_be_repeated_is_a_lost_one() -> None:
    """The operation runs; its name is all that could be read."""
    from airflow_lro_provider.lro import flows
    from airflow_lro_provider.lro.resources.catalog import find_service

    method = read_method(PLAIN, service="datafusion")
    flow = flows.start(method, f"https://{find_service('datafusion').host}", request_id="r")
    next(flow)
    with pytest.raises(StartUnknownError):
        flow.send({"name": f"{LOCATION}/operations/o", "done": "false"})


@pytest.mark.parametrize(("method", "starts"), [(RESTART, 1), (PLAIN, 2)], ids=["a restart", "a create"])
def test_a_crash_in_a_start_that_cannot_be_repeated(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, method: str, starts: int
) -> None:
    """A second one may run beside the first: it fails for good and says where to look. A create cannot be doubled."""
    store = Store()
    how = {"method": method, "service": "datafusion"}
    first = Try(emulator, store, max_tries=1)
    with monkeypatch.context() as patch:
        patch.setattr(OperationsClient, "_send", die_after(OperationsClient._send))
        with pytest.raises(SystemExit):
            first.run(**how)
    second = Try(emulator, store, 2, 1)
    with pytest.raises(OperationStartError if starts == 1 else TaskDeferred):
        second.run(deferrable=True, **how)
    assert second.starts == starts


def test_an_adoption_keeps_the_old_entry_until_it_has_its_own(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two there is no moment without one."""
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    variables = Variables()
    monkeypatch.setattr(ledger, "_variables", lambda: variables)
    store = Store()
    crash(Try(emulator, store, max_tries=1))
    with monkeypatch.context() as patch:
        patch.setattr(variables, "set", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("500")))
        crash(Try(emulator, store, 2, 1))
    assert len(variables) == 1


@pytest.mark.parametrize(("second", "word"), [({}, "cancelled"), ({"r": {"t": "running"}}, "unsure")])
def test_one_list_of_states_does_not_say_that_a_task_is_gone(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, second: Any, word: str
) -> None:
    """The sweep cancels for a task that does not exist any more; it asks about it once more, and alone."""
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    variables = Variables()
    monkeypatch.setattr(ledger, "_variables", lambda: variables)
    this = Try(emulator, Store())
    crash(this)
    answers = iter([{}, second, second])
    play_task_states(monkeypatch, lambda **_: next(answers))
    result = sweep(FromWithin(), now=time.time(), log=lambda *_: None)
    assert result.counts[word] == 1
    assert this.cancels == (word == "cancelled")


def test_a_token_that_is_not_taken_is_pushed_again(emulator: Emulator) -> None:
    """One failed write to XCom ends no task, and so no operation."""
    this = Try(emulator, Store())
    push, left = this.ti.xcom_push, [1]

    def flaky(key: str, value: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise RuntimeError("500")
        push(key, value)

    this.ti.xcom_push = flaky
    crash(this)
    assert this.pushed
    assert this.cancels == 0


def test_one_404_of_airflow_does_not_say_that_another_try_has_it(emulator: Emulator) -> None:
    """A timeout cancels: the record that says so is written again first."""
    store = FailingStore()
    this = sensor_try(emulator, store)
    sensor = this.sensor(timeout=0.5)

    def fail_at_the_end() -> None:
        store.writes = 1

    once(lambda: len(this.emulator.requests(verb="get")) > 1, fail_at_the_end)
    with pytest.raises(Exception, match=r"(?i)time.?out|timing out"):
        sensor.execute(this.context)
    assert this.cancels == 1
    assert store[KEY]["killed"]


def test_a_try_that_fails_while_its_kill_is_decided_about_waits_for_the_decision(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM during a question that fails: the next try goes on with the operation, and so nothing is cancelled."""
    asked: list[Any] = []

    def read_task_state(key: Any) -> str:
        asked.append(key)
        time.sleep(0.3 * (len(asked) > 1))  # the first question is that of the start
        return "running"

    monkeypatch.setattr(evidence, "read_task_state", read_task_state)
    monkeypatch.setattr(guard, "is_asking_supervisor", lambda: True)
    first = Try(emulator, Store(), max_tries=1)
    operator = first.operator(deferrable=True)

    def push(key: str, **_: Any) -> None:
        if key == evidence.OWNER_KEY:  # and not the link
            operator.on_kill()
            raise RuntimeError("500")

    monkeypatch.setattr(first.ti, "xcom_push", push)
    with pytest.raises(RuntimeError, match="500"):
        operator.execute(first.context)
    # Where Airflow takes any deferral, it is asked before that, too.
    assert (first.starts, first.cancels, len(asked)) == (1, 0, 2 + 2 * takes_any_deferral())


def test_a_kill_goes_on_when_there_is_no_token_for_a_moment(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble of our own passes: the cancel is sent again within the time that a kill has."""
    monkeypatch.setattr(polling, "BACKOFF_SECONDS", 0.1)
    left = [2]
    real: Callable[..., Any] = OperationsClient._send

    def flaky(self: Any, request: Any, urgent: bool) -> Any:
        if request.verb == "cancel":
            left[0] -= 1
            if left[0] >= 0:
                raise CredentialsError("no token could be obtained")
        return real(self, request, urgent)

    monkeypatch.setattr(OperationsClient, "_send", flaky)
    reference = read_reference(emulator.create("datafusion", duration=None), "datafusion")
    client = OperationsClient(ConnectionSettings.from_extra(emulator.connection_extra()))
    with client:
        result = client.cancel(reference, poll=False, patience=canceller.KILL_PATIENCE_SECONDS, urgent=True)
    assert result.requested


def test_one_none_of_the_store_does_not_say_that_there_is_no_record(emulator: Emulator) -> None:
    """Airflow answers so also for a try that it does not find: it is asked twice before another one is started."""
    store = FailingStore()
    crash(Try(emulator, store, max_tries=1))
    second = Try(emulator, store, 2, 1)
    store.nones = 1
    crash(second)
    assert (second.starts, second.cancels) == (1, 0)


@pytest.mark.parametrize("first", [{}, {"r": {"t": "running"}}])
def test_a_task_that_is_missing_once_is_not_gone(monkeypatch: pytest.MonkeyPatch, first: Any) -> None:
    """For a worker and for a trigger: that is asked twice."""
    answers = iter([first, {"r": {"t": "running"}}] * 2)
    play_task_states(monkeypatch, lambda **_: next(answers))
    key = evidence.TaskKey("d", "r", "t")
    assert evidence.read_task_state(key) == "running"
    next(answers) if first else None
    assert asyncio.run(evidence.task_state(key)) == "running"


@pytest.mark.parametrize("code", [400, 403, 409, 499, 501])
def test_one_refusal_of_a_cancel_does_not_leave_the_operation(
    emulator: Emulator, code: int, killable: Killable
) -> None:
    """At a kill there are some seconds to send it again."""
    this = Try(emulator, Store())
    operator = this.operator()
    killable(operator, lambda: len(emulator.requests("get")) > 1)
    emulator.fail(code, verb="cancel")
    with pytest.raises(Killed):
        operator.execute(this.context)
    [view] = this.started
    assert view.cancel_requests == 1


def test_a_write_that_fails_leaves_what_was_written_before(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killable: Killable
) -> None:
    """A worker that shuts down writes its record again, to see whether it is current: the old one names it anyway."""

    class Failing(Store):
        fails = False

        def set(self, key: str, value: Any, **_: Any) -> None:
            if self.fails:
                raise RuntimeError("500")
            super().set(key, value)

    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    this = Try(emulator, Failing(), max_tries=1)
    operator = this.operator(method=PLAIN, service="datafusion")

    def is_polled() -> bool:
        this.store.fails = len(emulator.requests("get")) > 1
        return this.store.fails

    killable(operator, is_polled)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert (this.starts, this.cancels) == (1, 0)


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_connection_that_has_changed_meanwhile_ends_nothing(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, cancel_on_kill: bool
) -> None:
    """A secrets backend gave another one for a moment: what that server does not find is adopted at the right one."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", TIME_TO_CORRECT_SECONDS)
    this = Try(emulator, Store(), max_tries=1)
    crash(this)
    right = emulator.airflow_connection_json()
    second = Try(emulator, this.store, 2, 1)
    with Emulator() as other:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", other.airflow_connection_json())

        def correct() -> None:
            monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", right)
            emulator.finish("developerconnect", this.started[0].operation["name"])

        once(lambda: len(other.requests("get")) > 1, correct)
        second.run(cancel_on_kill=cancel_on_kill)
        assert other.requests("start") == other.requests("cancel") == []
    assert (second.starts, second.cancels, len(second.started)) == (1, 0, 1)


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_connection_that_was_edited_between_two_tries_starts_no_second_operation(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, cancel_on_kill: bool
) -> None:
    """The record says where the operation is: another server that does not find it proves nothing."""
    this = Try(emulator, Store(), max_tries=1)
    crash(this, cancel_on_kill=cancel_on_kill)
    second = Try(emulator, this.store, 2, 1)
    with Emulator() as other:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", other.airflow_connection_json())
        with pytest.raises(OperationWaitError, match=f"the connection has changed since, and led to {emulator.url}"):
            second.run(cancel_on_kill=cancel_on_kill)
        assert other.requests("start") == []
    assert (second.starts, second.cancels, len(second.running)) == (1, 0, 1)
    assert second.store[KEY]


def test_another_account_ends_no_wait_of_a_sensor(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor that pokes with another connection for a moment: its 403 is not believed of the right one."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", TIME_TO_CORRECT_SECONDS)
    this = sensor_try(emulator, Store())
    right = emulator.airflow_connection_json()
    with Emulator() as other:
        other.fail(403, verb="get", times=None)
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", other.airflow_connection_json())

        def correct() -> None:
            monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", right)
            emulator.finish("datafusion", this.name)

        once(lambda: len(other.requests("get")) > 1, correct)
        assert this.run()["outcome"] == "SUCCEEDED"


def test_another_server_that_does_not_find_it_for_the_triggerer_ends_nothing_either(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection was edited while the task was deferred: triggerer and worker ask where the operation never was."""
    this = Try(emulator, Store(), max_tries=1)
    with pytest.raises(TaskDeferred) as caught:
        this.run(deferrable=True)
    gone = {"status": "gone", "message": "404", "owner": caught.value.kwargs["token"]}
    with Emulator() as other:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", other.airflow_connection_json())
        with pytest.raises(OperationWaitError, match="the connection has changed"):
            this.operator(deferrable=True).execute_complete(this.context, gone, **caught.value.kwargs)
        assert other.requests("cancel") == []
    assert this.store[KEY]["reference"]["name"] == this.running[0].operation["name"]


def test_the_token_of_a_new_connection_does_not_go_where_the_old_one_led(emulator: Emulator) -> None:
    """A client that was renewed by one flow: the others have to begin anew."""
    reference = read_reference(emulator.create("datafusion"), "datafusion")
    with Emulator() as other:
        old, new = (ConnectionSettings.from_extra(one.connection_extra()) for one in (emulator, other))
        with OperationsClient(old, read_settings=lambda: new) as client:
            paused = client.list(read_parent(reference.name.rpartition("/operations/")[0], "datafusion"), page_size=1)
            emulator.create("datafusion", reference.name.replace("operation-1", "operation-2"))
            next(paused)
            client.renew(reference)
            heard = len(emulator.requests())
            with pytest.raises(ConnectionSettingsError, match="leads elsewhere"):
                list(paused)
        assert len(emulator.requests()) == heard


def test_a_cancel_operator_that_is_killed_in_trouble_requests_nothing_more(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killable: Killable
) -> None:
    """Killing it does no harm to the operation: while it pauses, it is not in the middle of a request."""
    monkeypatch.setattr(polling, "TROUBLE_PAUSE_SECONDS", 30.0)
    this = Try(emulator, Store())
    name = emulator.create("datafusion", duration=None)
    emulator.fail(401, verb="cancel", times=None)
    operator = CancelOperationOperator(task_id="t", operation_name=name, service="datafusion")
    may_execute(operator)
    phases = operator._get_guard()
    killable(operator, lambda: len(emulator.requests("cancel")) > 1 and phases.phase is guard.Phase.WAITING)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert len(emulator.requests("cancel")) == 2
    assert not emulator.operation("datafusion", name).cancel_requests
