"""Row A3 of the faults: one 404 is no evidence, whoever gets it. In one process, against the local server."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred

from airflow_lro_provider.airflow_compat import task_states
from airflow_lro_provider.airflow_compat.exceptions import AirflowRescheduleException
from airflow_lro_provider.attempt.record import KEY
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import FinalOperationFailedError, OperationFailedError, OperationWaitError
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from airflow_lro_provider.sweep.report import What
from airflow_lro_provider.sweep.search import footprint_of
from airflow_lro_provider.triggers.events import DeadlinePassed, Finished, Gone, read_event
from airflow_lro_provider.triggers.operations import OperationTrigger
from tests.airflow.played import PlayedTry, Store
from tests.airflow.test_sweep import PlayedAirflow
from tests.airflow.versions import may_execute

METHOD = "projects/p/locations/us-central1/instances?instanceId=i"


@pytest.fixture(autouse=True)
def quick(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ten seconds of the rule pass in a moment; the connection leads to the local server."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.4)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())


def run(emulator: Emulator, task: Any, number: int = 1, max_tries: int = 0, store: Store | None = None) -> Any:
    """Execute a task as the task runner does."""
    may_execute(task)
    return task.execute(PlayedTry(emulator, Store() if store is None else store, number, max_tries).context)


def starter(**arguments: Any) -> RunOperationOperator:
    """A task that starts an operation."""
    return RunOperationOperator(
        task_id="t", **{"method": METHOD, "service": "datafusion", "poll_interval": 0.05, **arguments}
    )


def sensor(name: str, **arguments: Any) -> OperationSensor:
    """A task that waits for one."""
    return OperationSensor(
        task_id="t", **{"operation_name": name, "service": "datafusion", "poke_interval": 0.05, **arguments}
    )


def trigger(name: str, **arguments: Any) -> OperationTrigger:
    """A trigger that waits for one, and owns it."""
    owner = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "token": "mine"}
    made = OperationTrigger(
        reference=read_reference(name, "datafusion").to_dict(),
        **{"started": time.time(), "poll_interval": 0.05, "cancel_on_kill": True, "owner": owner, **arguments},
    )
    made.trigger_id = 7
    return made


async def event_of(waiting: OperationTrigger) -> Any:
    """The event that it fires."""
    [event] = [event async for event in waiting.run()]
    await waiting.cleanup()
    return read_event(event.payload)


def lose_when_polled(emulator: Emulator, name: str, **failure: Any) -> None:
    """Let the server not find an operation for a while, once it was polled."""

    def lose() -> None:
        while not emulator.operation("datafusion", name).polls:
            time.sleep(0.005)
        emulator.fail(404, verb="get", **failure)

    threading.Thread(target=lose).start()


def sent(emulator: Emulator, verb: str) -> int:
    """How many of these requests the server saw."""
    return len(emulator.requests(verb=verb))


# -- a wait ----------------------------------------------------------------------------------------------


def test_a_new_operation_that_is_not_found_yet_is_waited_for(lro_emulator: Emulator) -> None:
    """A3 (a): the response to the start, 404, 404, 200: nothing is cancelled, nothing is started beside it."""
    lro_emulator.script(duration=1.0, response={"a": 1})
    lro_emulator.fail(404, verb="get", times=2)
    assert run(lro_emulator, starter()) == {"a": 1}
    assert (sent(lro_emulator, "start"), sent(lro_emulator, "cancel")) == (1, 0)


def test_a_sensor_that_reschedules_doubts_no_longer_than_it_waits(lro_emulator: Emulator) -> None:
    """Its timeout holds, and another error than a 404 is for the next process."""
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(404, verb="get")
    lro_emulator.fail(503, verb="get", times=None)
    with pytest.raises(AirflowRescheduleException):
        run(lro_emulator, sensor(name, mode="reschedule", cancel_on_kill=False, poke_interval=60))
    assert sent(lro_emulator, "get") == 2


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_sensor_is_not_ended_by_a_404(lro_emulator: Emulator, mode: str) -> None:
    """A3 (b): a process that polls only once confirms it itself: the next one would not know of it."""
    name = lro_emulator.create("datafusion", duration=0)
    lro_emulator.fail(404, verb="get", times=2)
    result = run(lro_emulator, sensor(name, mode=mode, cancel_on_kill=False))
    assert result["outcome"] == "SUCCEEDED"


def test_an_operation_that_is_lost_sight_of_is_waited_for(lro_emulator: Emulator) -> None:
    """A3 (b): 200, 404, 404, 200 in the middle of a wait, on a worker."""
    name = lro_emulator.create("datafusion", duration=1.0)
    lose_when_polled(lro_emulator, name, times=2)
    assert run(lro_emulator, sensor(name))["outcome"] == "SUCCEEDED"
    assert sent(lro_emulator, "cancel") == 0


async def test_a_trigger_waits_for_what_is_lost_sight_of(lro_emulator: Emulator) -> None:
    """A3 (b): the same in the triggerer."""
    name = lro_emulator.create("datafusion", duration=1.0)
    lose_when_polled(lro_emulator, name, times=2)
    assert isinstance(await event_of(trigger(name)), Finished)
    assert sent(lro_emulator, "cancel") == 0


async def test_a_trigger_believes_what_is_confirmed(lro_emulator: Emulator) -> None:
    """404 for good: the event says so, and the task that it wakes requests the cancellation before it lets go."""
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(404, verb="get", times=None)
    assert isinstance(await event_of(trigger(name)), Gone)


# -- what is let go --------------------------------------------------------------------------------------


def test_before_it_is_let_go_its_cancellation_is_requested(lro_emulator: Emulator) -> None:
    """Of one that is really gone: one request, no record, and the retry starts anew."""
    store = Store()
    lro_emulator.script(duration=None)
    lro_emulator.fail(404, verb="get", times=None)
    lro_emulator.fail(404, verb="cancel", times=None)
    with pytest.raises(OperationFailedError, match="was not found"):
        run(lro_emulator, starter(), max_tries=1, store=store)
    assert (sent(lro_emulator, "start"), sent(lro_emulator, "cancel"), store) == (1, 1, {})


@pytest.mark.parametrize(("failure", "starts"), [(None, 2), (503, 1)])
def test_one_that_may_run_is_not_let_go(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, failure: int | None, starts: int
) -> None:
    """Not found by a poll, but a cancel is accepted, or fails: the record stays, and the retry sees it to its end."""
    without_retries = {**lro_emulator.connection_extra(), "num_retries": 0}
    connection = {"conn_type": "google_cloud_platform", "extra": without_retries}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    store = Store()
    lro_emulator.script(duration=3.0, cancel_delay=0)
    lro_emulator.fail(404, verb="get", times=None)
    if failure is not None:
        lro_emulator.fail(failure, verb="cancel", times=None)
    with pytest.raises(OperationWaitError, match="may run"):
        run(lro_emulator, starter(), max_tries=1, store=store)
    assert store[KEY]["reference"]["name"] == lro_emulator.operations()[0].operation["name"]
    lro_emulator.store._failures.clear()
    lro_emulator.script(duration=0)
    run(lro_emulator, starter(), number=2, max_tries=1, store=store)
    assert (sent(lro_emulator, "start"), store) == (starts, {})
    assert all(view.operation.get("done") for view in lro_emulator.operations())


def test_a_success_that_the_last_cancel_shows_is_one(lro_emulator: Emulator) -> None:
    """Not found by polls, and finished according to the refusal of the cancel: that is the outcome."""
    lro_emulator.script(duration=0.2, cancel_when_done="failed_precondition", response={"a": 1})
    store = Store()
    task = starter(deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        run(lro_emulator, task, store=store)
    time.sleep(0.3)
    event = {**Gone("404").to_dict(), "owner": deferred.value.kwargs["token"]}
    context = PlayedTry(lro_emulator, store).context
    assert task.execute_complete(context, event, **deferred.value.kwargs) == {"a": 1}


def test_a_task_that_only_observes_requests_nothing(lro_emulator: Emulator) -> None:
    """With cancel_on_kill=False there is nothing to let go."""
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(404, verb="get", times=None)
    with pytest.raises(FinalOperationFailedError, match="was not found"):
        run(lro_emulator, sensor(name, cancel_on_kill=False))
    assert sent(lro_emulator, "cancel") == 0


# -- a cancel --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["get", "cancel"])
def test_the_cancel_operator_repeats_what_is_not_found(lro_emulator: Emulator, verb: str) -> None:
    """A3 (d): neither its poll nor its request gives up an operation that is just not found yet."""
    name = lro_emulator.create("datafusion", duration=None, cancel_delay=0)
    lro_emulator.fail(404, verb=verb, times=2)
    task = CancelOperationOperator(task_id="t", operation_name=name, service="datafusion")
    assert run(lro_emulator, task)["outcome"] == "CANCELLED"


def test_a_timeouts_cancel_is_repeated(lro_emulator: Emulator) -> None:
    """A3 (c): the cancel of a sensor whose time is up."""
    name = lro_emulator.create("datafusion", duration=None, cancel_delay=0)
    lro_emulator.fail(404, verb="cancel", times=2)
    with pytest.raises(AirflowSensorTimeout):
        run(lro_emulator, sensor(name, timeout=0.2))
    assert sent(lro_emulator, "cancel") == 3
    assert lro_emulator.operation("datafusion", name).cancel_requests


async def test_a_triggers_cancel_at_the_deadline_is_repeated(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3 (c): the same in the triggerer."""
    monkeypatch.setattr(task_states, "task_states", lambda *_: {"r": {"t": "deferred"}})
    monkeypatch.setattr(task_states, "xcom", lambda *_: "mine")
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(404, verb="cancel", times=2)
    deadline = polling.Deadline(time.time() + 0.2, "timeout", 0.2).to_dict()
    event = await event_of(trigger(name, deadline=deadline))
    assert isinstance(event, DeadlinePassed)
    assert event.cancellation == "REQUESTED"


async def test_a_killed_triggers_cancel_is_repeated(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A3 (c): and when its task is killed."""
    monkeypatch.setattr(task_states, "task_states", lambda *_: {"r": {"t": "failed"}})
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(404, verb="cancel", times=2)
    await trigger(name).on_kill()
    assert lro_emulator.operation("datafusion", name).cancel_requests


# -- what others left ------------------------------------------------------------------------------------


def test_a_retry_does_not_start_another_beside_it(lro_emulator: Emulator) -> None:
    """A3 (a): what an earlier try left is adopted, although it is not found at first."""
    store = Store()
    lro_emulator.script(duration=2.0)
    with pytest.raises(TaskDeferred):  # and vanishes
        run(lro_emulator, starter(deferrable=True), max_tries=1, store=store)
    lro_emulator.fail(404, verb="get", times=2)
    run(lro_emulator, starter(), number=2, max_tries=1, store=store)
    assert (sent(lro_emulator, "start"), sent(lro_emulator, "cancel")) == (1, 0)


@pytest.mark.parametrize("verb", ["get", "cancel"])
def test_the_sweep_repeats_what_is_not_found(lro_emulator: Emulator, verb: str) -> None:
    """A3 (e): the entry of an operation that is a second old is not removed for a 404."""
    airflow = PlayedAirflow(lro_emulator)
    entry = airflow.add()
    lro_emulator.fail(404, verb=verb, times=2)
    [row] = airflow.sweep().rows
    assert (row.what, list(airflow.kept)) == (What.CANCELLED, [entry.key])


@pytest.mark.parametrize(("failure", "what"), [(None, What.REQUESTED), (404, What.FINISHED), (503, What.UNSURE)])
def test_the_sweep_requests_the_end_of_what_it_lets_go(lro_emulator: Emulator, failure: int | None, what: What) -> None:
    """A3 (e): an entry goes only after the cancellation was requested, and was not found either."""
    airflow = PlayedAirflow(lro_emulator)
    airflow.without_retries = True
    airflow.add(armed_since=time.time() - 3600)
    lro_emulator.fail(404, verb="get", times=None)
    if failure is not None:
        lro_emulator.fail(failure, verb="cancel", times=None)
    [row] = airflow.sweep().rows
    assert (row.what, sent(lro_emulator, "cancel")) == (what, 1)
    assert bool(airflow.kept) is (what is not What.FINISHED)


@pytest.mark.parametrize(("age", "what"), [(0.0, What.UNSURE), (7200.0, What.UNSURE), (31 * 86400.0, What.FINISHED)])
def test_a_list_that_is_not_found_proves_nothing(lro_emulator: Emulator, age: float, what: What) -> None:
    """A3 (f): the entry of a lost start stays, until no service remembers it any more."""
    airflow = PlayedAirflow(lro_emulator)
    method = read_method(METHOD, "POST", service="datafusion")
    footprint = footprint_of(method)
    assert footprint is not None
    airflow.add(reference=None, start=str(method), footprint=footprint.to_dict(), armed_since=time.time() - age)
    lro_emulator.fail(404, verb="list", times=None)
    [row] = airflow.sweep().rows
    assert row.what is what
