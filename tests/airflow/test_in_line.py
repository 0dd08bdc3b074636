"""`airflow dags test`: no supervisor and no triggerer, so a deferrable task waits itself. Airflow's side is played."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_lro_provider.airflow_compat import AIRFLOW, task_process
from airflow_lro_provider.attempt.attempt import Attempt
from airflow_lro_provider.attempt.guard import Guard
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import OperationFailedError, OperationKilled, OperationRunningError
from airflow_lro_provider.hooks.operations import OperationsAsyncHook
from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.airflow.played import PlayedTry, Store
from tests.airflow.versions import may_execute, since_3

FOR_GOOD = AirflowFailException if AIRFLOW >= (3,) else KeyboardInterrupt
"""What ends a task that Ctrl-C interrupts, without another try."""
PLACE = "projects/p/locations/us-central1/instances"
TASKS: dict[str, Callable[[str], Any]] = {
    "sensor": lambda name: OperationSensor(task_id="t", operation_name=name, service="datafusion", deferrable=True),
    "sensor that would reschedule": lambda name: OperationSensor(
        task_id="t", operation_name=name, service="datafusion", deferrable=True, mode="reschedule"
    ),
    "run": lambda _: RunOperationOperator(
        task_id="t", method=f"{PLACE}?instanceId=i", service="datafusion", deferrable=True, poll_interval=0.01
    ),
    "run, not durable": lambda _: RunOperationOperator(
        task_id="t", method=f"{PLACE}?instanceId=i", service="datafusion", deferrable=True, durable=False
    ),
    "cancel": lambda name: CancelOperationOperator(
        task_id="t", operation_name=name, service="datafusion", deferrable=True, poll_interval=0.01
    ),
}


def raising(error: type[BaseException]) -> Callable[..., None]:
    """A function that raises it, whatever it is called with."""

    def raises(*_: Any, **__: Any) -> None:
        raise error

    return raises


@pytest.fixture(autouse=True)
def in_line(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that plays its own supervisor."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    if AIRFLOW < (3,):
        monkeypatch.setattr(task_process, "_without_job", [True])
        return
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

    channel = object.__new__(InProcessSupervisorComms)
    monkeypatch.setattr(task_process, "_channel", lambda: channel)


@pytest.mark.parametrize("kind", TASKS)
def test_a_deferrable_task_waits_itself(lro_emulator: Emulator, kind: str) -> None:
    """B7, C1: it ends with its result, after more than one poll, and starts one operation at most."""
    lro_emulator.script(service="datafusion", duration=1.2)
    name = lro_emulator.create("datafusion", duration=1.2)
    task = TASKS[kind](name)
    may_execute(task)
    task.execute(PlayedTry(lro_emulator, Store()).context)
    requests = lro_emulator.requests()
    assert sum(request.verb == "get" for request in requests) >= 2
    assert sum(request.verb == "start" for request in requests) == (1 if kind.startswith("run") else 0)
    assert sum(request.verb == "cancel" for request in requests) == (1 if kind == "cancel" else 0)


@pytest.mark.parametrize("kind", ["sensor", "run"])
def test_ctrl_c_cancels_before_it_asks_airflow(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Airflow's database may be locked: the cancel does not wait for it, as nobody else can have the operation."""
    lro_emulator.script(service="datafusion", duration=None)
    task = TASKS[kind](lro_emulator.create("datafusion", duration=None))
    may_execute(task)
    cancelled: list[bool] = []

    class Slow(Store):
        def set(self, key: str, value: Any, **_: Any) -> None:
            if value["killed"]:
                cancelled.append(any(request.verb == "cancel" for request in lro_emulator.requests()))
            super().set(key, value)

    monkeypatch.setattr(Attempt, "poll" if kind == "sensor" else "wait", raising(KeyboardInterrupt))
    with pytest.raises(FOR_GOOD):
        task.execute(PlayedTry(lro_emulator, Slow()).context)
    assert cancelled == [True]
    assert sum(request.verb == "cancel" for request in lro_emulator.requests()) == 1


@pytest.mark.parametrize("kind", ["sensor", "run"])
@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_what_is_told_to_stop_is_not_tried_again(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: str, cancel_on_kill: bool
) -> None:
    """SIGTERM, or an error in its wake: Airflow 3 would begin the next try, which would start another operation."""
    lro_emulator.script(service="datafusion", duration=None)
    task = TASKS[kind](lro_emulator.create("datafusion", duration=None))
    task.cancel_on_kill = cancel_on_kill
    may_execute(task)

    def killed(*_: Any, **__: Any) -> None:
        with contextlib.suppress(BaseException):  # Airflow 2's raises
            task.on_kill()
        if kind == "run":
            raise ConnectionError("the network is gone")
        task._guard.checkpoint()

    monkeypatch.setattr(Attempt, "poll" if kind == "sensor" else "wait", killed)
    with pytest.raises((AirflowFailException,) if AIRFLOW >= (3,) else (OperationKilled, ConnectionError)):
        task.execute(PlayedTry(lro_emulator, Store(), 1, 3).context)
    assert sum(request.verb == "cancel" for request in lro_emulator.requests()) == cancel_on_kill


@since_3
@pytest.mark.parametrize("first", [KeyboardInterrupt, OperationRunningError])
@pytest.mark.parametrize("late", [KeyboardInterrupt, AirflowTaskTimeout])
def test_what_comes_while_it_cancels_changes_nothing(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, first: type[BaseException], late: type[BaseException]
) -> None:
    """A second Ctrl-C, or a limit: both wait until the operation is cancelled, and an interrupt stays one."""
    lro_emulator.script(service="datafusion", duration=None)
    task = TASKS["run"]("")
    may_execute(task)

    end = Attempt._end

    def disturbed(self: Attempt, error: BaseException | None) -> None:
        signal.raise_signal(signal.SIGINT if late is KeyboardInterrupt else signal.SIGALRM)
        end(self, error)

    monkeypatch.setattr(Attempt, "wait", raising(first))
    monkeypatch.setattr(Attempt, "_end", disturbed)
    before = (
        signal.signal(signal.SIGALRM, raising(AirflowTaskTimeout)),
        signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        is_interrupted = KeyboardInterrupt in (first, late)
        with pytest.raises(AirflowFailException if is_interrupted else AirflowTaskTimeout):
            task.execute(PlayedTry(lro_emulator, Store(), 1, 3).context)
    finally:
        signal.signal(signal.SIGALRM, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert len(lro_emulator.requests(verb="cancel")) == 1


@since_3
@pytest.mark.parametrize("end", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_an_exit_is_no_interrupt(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    """Of the code of a user, or of a test's library: Airflow sees it, and does with it what it does."""
    lro_emulator.script(service="datafusion", duration=None)
    task = TASKS["run"]("")
    may_execute(task)

    monkeypatch.setattr(Attempt, "wait", raising(end))
    with pytest.raises(end):
        task.execute(PlayedTry(lro_emulator, Store(), 1, 3).context)


@since_3
def test_what_went_wrong_besides_is_shown(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to stop when the operation had finished, and then its result is rejected: the error is the cause."""
    lro_emulator.script(service="datafusion", duration=0.1)
    task = RunOperationOperator(
        task_id="t", method=f"{PLACE}?instanceId=i", service="datafusion", result_check=lambda _: bool(1 / 0)
    )
    may_execute(task)
    finish = Guard.finish

    def killed_then(self: Guard) -> None:
        finish(self)
        task.on_kill()

    monkeypatch.setattr(Guard, "finish", killed_then)
    with pytest.raises(AirflowFailException) as raised:
        task.execute(PlayedTry(lro_emulator, Store(), 1, 3).context)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_failure_is_tried_again(lro_emulator: Emulator) -> None:
    """In `dags test`, too: nobody has interrupted it."""
    task = TASKS["run"](lro_emulator.create("datafusion"))
    lro_emulator.script(service="datafusion", error={"code": 13, "message": "no"}, duration=0.1)
    may_execute(task)
    with pytest.raises(OperationFailedError) as raised:
        task.execute(PlayedTry(lro_emulator, Store(), 1, 3).context)
    assert not isinstance(raised.value, AirflowFailException)


@since_3
def test_a_trigger_reads_a_connection_of_the_database(lro_emulator: Emulator) -> None:
    """C2: also one of an operator that is not ours: the supervisor that is played has no asynchronous questions."""
    from airflow.sdk.execution_time.comms import ConnectionResult, GetConnection
    from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms, set_supervisor_comms

    class Played(InProcessSupervisorComms):
        def send(self, msg: Any) -> Any:
            if not isinstance(msg, GetConnection):
                return None
            extra = json.dumps(lro_emulator.connection_extra())
            empty = dict.fromkeys(("host", "schema", "login", "password", "port"))
            return ConnectionResult(conn_id=msg.conn_id, conn_type="google_lro", extra=extra, **empty)

    with set_supervisor_comms(object.__new__(Played)):
        settings = asyncio.run(OperationsAsyncHook(gcp_conn_id="in_the_database").settings())
    assert settings.api_endpoint.startswith(lro_emulator.url)
