"""The sensor in one process, against the local server: what it leaves behind in every way that a try can end.

Airflow's side of it (the task instance, the task state store) is played; the end-to-end tests have the real one.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.airflow_compat.exceptions import AirflowRescheduleException
from airflow_lro_provider.attempt.record import KEY
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import (
    FinalOperationFailedError,
    OperationFailedError,
    OperationInputError,
    OperationWaitError,
)
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.errors import PermissionDeniedError
from airflow_lro_provider.operators.operations import CancelOperationOperator
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.ownership.decisions import ArmedRecord, Evidence, TaskState
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.airflow.played import (
    BrokenStore,
    Killable,
    OutdatedStore,
    PlayedTry,
    Store,
    TakenStore,
    handling,
    once,
    replace_the_key,
)
from tests.airflow.versions import Killed, may_execute, since_3
from tests.late_success import succeed_after_cancel


class Try(PlayedTry):
    """A try of a task with an OperationSensor."""

    def __init__(self, emulator: Emulator, store: Store, number: int, max_tries: int, name: str) -> None:
        super().__init__(emulator, store, number, max_tries)
        self.name = name

    def sensor(self, **arguments: Any) -> OperationSensor:
        """Make the sensor."""
        arguments = {"poke_interval": 0.01, "operation_name": self.name, "service": "datafusion", **arguments}
        made = OperationSensor(task_id="t", **arguments)
        may_execute(made)
        return made

    def run(self, **arguments: Any) -> Any:
        """Execute it as the task runner does."""
        return self.sensor(**arguments).execute(self.context)

    @property
    def cancels(self) -> int:
        """How many cancel requests the server saw."""
        return len(self.emulator.requests(verb="cancel", name=self.name))


@pytest.fixture
def a_try(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Try]:
    """Make tries; those of one test share their store."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    shared = Store()

    def make(
        number: int = 1, max_tries: int = 0, name: str | None = None, store: Store | None = None, **script: Any
    ) -> Try:
        if name is None:
            name = lro_emulator.create("datafusion", **{"duration": None, **script})
        return Try(lro_emulator, shared if store is None else store, number, max_tries, name)

    return make


def test_a_success_returns_the_operation_and_leaves_no_record(a_try: Callable[..., Try]) -> None:
    """The normal end: a result, nothing cancelled, nothing left for a next try."""
    this = a_try(duration=0.1, response={"rows": "3"})
    result = this.run()
    assert (result["outcome"], result["operation"]["response"]) == ("SUCCEEDED", {"rows": "3"})
    assert (this.store, this.cancels) == ({}, 0)


def test_an_operation_that_is_over_is_not_deferred(a_try: Callable[..., Try]) -> None:
    """The sensor looks before it defers."""
    assert a_try(duration=0).run(deferrable=True)["outcome"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("verdict", "words"), [(False, "result_check returned False"), ("3 rows are bad", "3 rows are bad")]
)
def test_a_result_check_can_refuse_a_success(a_try: Callable[..., Try], verdict: Any, words: str) -> None:
    """A failure inside a successful response fails the task."""
    with pytest.raises(OperationFailedError, match=words):
        a_try(duration=0).run(result_check=lambda operation: verdict)


@pytest.mark.parametrize("fine", [True, None])
def test_a_result_check_can_accept(a_try: Callable[..., Try], fine: Any) -> None:
    """`None` and `True` are fine; the check gets the operation as a dict."""
    seen: list[dict[str, Any]] = []
    this = a_try(duration=0)
    this.run(result_check=lambda operation: seen.append(operation) or fine)
    assert seen[0]["name"] == this.name


def test_a_cancelled_operation_fails_if_asked_to(a_try: Callable[..., Try]) -> None:
    """fail_on decides which outcomes fail the task."""
    this = a_try()
    this.emulator.finish("datafusion", this.name, error={"code": 1, "message": ""})
    with pytest.raises(OperationFailedError, match=r"was cancelled: CANCELLED"):
        this.run(fail_on={"CANCELLED"})


def test_soft_fail_turns_the_operations_failure_into_a_skip(a_try: Callable[..., Try]) -> None:
    """As Airflow's sensors do it."""
    with pytest.raises(AirflowSkipException):
        a_try(duration=0, error={"code": 13, "message": "x"}).run(soft_fail=True)


def test_the_project_may_be_spelled_otherwise(a_try: Callable[..., Try]) -> None:
    """Row A8: what an earlier try recorded by its project's number is not another operation: nothing is cancelled."""
    first = a_try(max_tries=1)
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    stored = first.store[KEY]["reference"]
    stored["name"] = re.sub("^projects/[^/]+/", "projects/123456/", stored["name"])
    second = a_try(number=2, max_tries=1, name=first.name)
    with pytest.raises(TaskDeferred):
        second.run(deferrable=True)
    assert second.cancels == len(second.emulator.requests(verb="cancel")) == 0


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_key_that_was_replaced_is_read_again(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Row A10: credentials that are refused (here: none) end no wait; the connection has others by then."""
    this = a_try(duration=0.3 if mode == "poke" else None)
    replace_the_key(this.emulator, monkeypatch)
    if mode == "poke":
        assert this.run()["outcome"] == "SUCCEEDED"
    else:  # the next process connects anew anyway
        with pytest.raises(AirflowRescheduleException):
            this.run(mode=mode, cancel_on_kill=False)
    assert this.cancels == 0


def test_trouble_of_our_own_lasts_until_the_timeout(a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch) -> None:
    """Row A2: without credentials nothing is known of the operation: the timeout is what ends the wait."""
    monkeypatch.setattr(polling, "TROUBLE_PAUSE_SECONDS", 0.01)
    this = a_try()
    this.emulator.fail(401, verb="get", times=None)
    with pytest.raises(AirflowSensorTimeout):
        this.run(timeout=0.5)
    assert this.cancels == 1


def lose_permission(this: Try) -> None:
    """Let the server refuse all looks at the operation from now on."""
    this.emulator.fail(403, verb="get", name=this.name, times=None)


@pytest.mark.parametrize(
    ("max_tries", "policy", "cancels"),
    [(0, True, 1), (0, False, 0), (1, True, 0)],
    ids=["no retry", "no retry, cancel_on_failure=False", "a retry to come"],
)
def test_lost_permission(a_try: Callable[..., Try], max_tries: int, policy: bool, cancels: int) -> None:
    """An error that ends the task cancels by policy; not if the retry can go on with the operation."""
    this = a_try(max_tries=max_tries)
    lose_permission(this)
    with pytest.raises(PermissionDeniedError):
        this.run(cancel_on_failure=policy)
    assert this.cancels == cancels
    assert bool(this.store[KEY]["killed"]) == bool(cancels)


def test_never_fail_skips_and_cancels(a_try: Callable[..., Try]) -> None:
    """A skipped sensor is a dead one: its operation must not run on."""
    this = a_try()
    lose_permission(this)
    with pytest.raises(AirflowSkipException):
        this.run(never_fail=True)
    assert this.cancels == 1


def test_silent_fail_goes_on(a_try: Callable[..., Try]) -> None:
    """With silent_fail no error of looking ends the wait."""
    this = a_try(duration=0.3)
    this.emulator.fail(403, verb="get", name=this.name, times=5)
    assert this.run(silent_fail=True)["outcome"] == "SUCCEEDED"


def test_a_timeout_cancels_and_marks_the_record(a_try: Callable[..., Try]) -> None:
    """The sensor's timeout takes the operation with it, and the next try will know."""
    this = a_try()
    with pytest.raises(AirflowSensorTimeout):
        this.run(timeout=0.05)
    assert this.cancels == 1
    assert this.store[KEY]["killed"] == "the sensor's timeout has passed"


def test_a_retry_after_a_crash_adopts(a_try: Callable[..., Try]) -> None:
    """A record without a kill, and the same max_tries: the next try goes on, and cancels nothing."""
    first = a_try(max_tries=1)
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    second = a_try(number=2, max_tries=1, name=first.name)
    second.emulator.finish("datafusion", first.name)
    assert second.run()["outcome"] == "SUCCEEDED"
    assert (second.cancels, second.store) == (0, {})


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_adopted_operation_that_is_cancelled_is_no_success(a_try: Callable[..., Try], deferrable: bool) -> None:
    """The late kill of the lost try has done it, probably (A1): the task fails for good, and says why."""
    first = a_try(max_tries=1)
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    second = a_try(number=2, max_tries=1, name=first.name)
    if deferrable:
        sensor, deferral = deferred(second)
        done = second.emulator.finish("datafusion", second.name, error={"code": 1}).operation
        told = event(second, deferral, status="finished", operation=done)
        with pytest.raises(FinalOperationFailedError, match="after try 1 of this task was killed or lost"):
            sensor.execute_complete(second.context, told, **deferral.kwargs)
        return
    sensor = second.sensor()
    polls = iter(range(100))
    real = sensor.poke

    def poke(context: Any) -> Any:
        if next(polls) == 2:
            second.emulator.finish("datafusion", second.name, error={"code": 1})
        return real(context)

    sensor.poke = poke
    with pytest.raises(FinalOperationFailedError, match="after try 1 of this task was killed or lost"):
        sensor.execute(second.context)


def test_a_clear_cancels_also_when_the_first_look_fails(a_try: Callable[..., Try]) -> None:
    """One bad moment at the start of the next try does not save a dead try's operation."""
    first = a_try()
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    first.emulator.fail(503, verb="get", name=first.name)
    with pytest.raises(OperationFailedError, match="clear the task that starts it"):
        a_try(number=2, max_tries=1, name=first.name).run()
    assert first.cancels == 1


def test_a_clear_cancels_and_does_not_turn_green(a_try: Callable[..., Try]) -> None:
    """A record with another max_tries: the operation is cancelled once more, and the task fails."""
    first = a_try()
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    second = a_try(number=2, max_tries=1, name=first.name)
    with pytest.raises(
        OperationFailedError, match="cancelled after try 1 of this task was killed or lost; clear the task"
    ):
        second.run()
    assert second.cancels == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_it_never_turns_green_however_often_it_is_tried_again(a_try: Callable[..., Try], deferrable: bool) -> None:
    """Airflow under load retries even what has failed for good: the next try, and the next, know it all the same."""
    first = a_try(max_tries=1)
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    words = "of this task was killed or lost; clear the task"
    for number in (2, 3, 4):
        this = a_try(number=number, max_tries=2, name=first.name)
        if not deferrable or number > 2:
            with pytest.raises(FinalOperationFailedError, match=words):
                this.run()
            continue
        sensor, deferral = deferred(this)
        done = this.emulator.finish("datafusion", this.name, error={"code": 1}).operation
        told = event(this, deferral, status="finished", operation=done)
        with pytest.raises(FinalOperationFailedError, match=words):
            sensor.execute_complete(this.context, told, **deferral.kwargs)
    fresh = a_try(number=5, max_tries=2, duration=0)
    assert fresh.run()["outcome"] == "SUCCEEDED", "the task that starts it was cleared too"


def test_a_sensor_that_was_cleared_before_it_stood_for_the_operation_leaves_it_to_the_next_try(
    a_try: Callable[..., Try],
) -> None:
    """Its record is refused, so the next try could not know whose kill the operation fell to."""
    first = a_try(store=OutdatedStore())
    sensor = first.sensor()
    with pytest.raises(Killed, match="the next try of the task goes on with the operation"):
        sensor.execute(first.context)
    sensor.on_kill()
    assert first.cancels == 0
    first.emulator.finish("datafusion", first.name)
    assert a_try(number=2, max_tries=1, name=first.name).run()["outcome"] == "SUCCEEDED"


def test_a_sensor_that_is_cleared_before_its_record_is_there_leaves_the_operation_to_the_next_try(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM comes first (A1): cancelled now, the next try would turn green, not knowing whose kill it was."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "restarting")

    class Slow(OutdatedStore):
        def get(self, *_: Any) -> Any:
            sensor.on_kill()
            time.sleep(0.5)  # the thread that decides has the time to

    this = a_try(store=Slow())
    sensor = this.sensor()
    with pytest.raises(Killed):
        sensor.execute(this.context)
    assert this.cancels == 0


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_does_not_turn_green_in_a_later_try_of_the_same_id(a_try: Callable[..., Try], deferrable: bool) -> None:
    """Airflow 3.3.2 gives the next try the same id when it fails a task that it had queued again itself."""
    first = a_try()
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    second = a_try(number=2, max_tries=1, name=first.name)
    with pytest.raises(TaskDeferred):
        second.run(deferrable=True)
    while not second.emulator.operation("datafusion", first.name).done:
        time.sleep(0.01)
    third = a_try(number=3, max_tries=1, name=first.name)
    third.ti.id = second.ti.id
    with pytest.raises(FinalOperationFailedError, match="was cancelled after try 2 of this task was killed"):
        third.run(deferrable=deferrable)


def test_a_cleared_sensor_whose_operation_won_the_race_is_a_success(a_try: Callable[..., Try]) -> None:
    """If the operation completed before the cancel took effect, that is the truth."""
    first = a_try(cancel="ignore")
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    succeed_after_cancel(first.emulator, first.name)
    assert a_try(number=2, max_tries=1, name=first.name).run()["outcome"] == "SUCCEEDED"
    assert first.cancels == 1


def test_a_new_operation_ends_the_old_one(a_try: Callable[..., Try]) -> None:
    """When the task before was cleared too, there is a new operation, and nobody waits for the old one."""
    first = a_try()
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    second = a_try(number=2, max_tries=1, duration=0)
    assert second.run()["outcome"] == "SUCCEEDED"
    assert (first.cancels, second.cancels) == (1, 0)


def test_a_store_that_is_down_cancels_nothing_and_stops_nothing(a_try: Callable[..., Try]) -> None:
    """Losing the record never cancels an operation, and never fails a task."""
    this = a_try(duration=0.1, store=BrokenStore())
    assert this.run()["outcome"] == "SUCCEEDED"
    assert this.cancels == 0


def test_a_kill_while_the_store_takes_its_time_is_acted_on_at_once(a_try: Callable[..., Try]) -> None:
    """The operation is known from the beginning: a slow Airflow must not use up the 5 seconds that a kill leaves."""
    cancelled: list[int] = []

    class Slow(Store):
        def get(self, *_: Any) -> Any:
            sensor.on_kill()  # the signal strikes here
            cancelled.append(this.cancels)

    this = a_try(store=Slow())
    sensor = this.sensor()
    with pytest.raises(Killed):
        sensor.execute(this.context)
    assert cancelled == [1]
    assert this.store[KEY]["killed"]


def test_bad_input_known_late_fails_at_once_and_sends_nothing(a_try: Callable[..., Try]) -> None:
    """What only the running task knows is refused first thing, and not retried."""
    this = a_try()
    sensor = this.sensor(operation_name="{{ late }}")
    sensor.operation_name = "projects/p/locations/l/operations/.."
    with pytest.raises(OperationInputError, match=r"it has the part '\.\.'"):
        sensor.execute(this.context)
    assert this.emulator.requests() == []


def deferred(this: Try, **arguments: Any) -> tuple[OperationSensor, TaskDeferred]:
    """Run until it defers; the sensor that is resumed later is another object in another process."""
    with pytest.raises(TaskDeferred) as caught:
        this.run(deferrable=True, **arguments)
    return this.sensor(deferrable=True, **arguments), caught.value


def test_a_deferral_carries_everything_that_a_cancel_needs(a_try: Callable[..., Try]) -> None:
    """Reference, connection, owner with its token in XCom, and the earliest deadline; no secret."""
    this = a_try()
    given = {"gcp_conn_id": " google_cloud_default\n"}  # B9: as a template may leave it
    _, deferral = deferred(this, timeout=600, execution_timeout=timedelta(seconds=60), **given)
    arguments = deferral.trigger.serialize()[1]
    assert arguments["reference"]["name"] == this.name
    assert arguments["gcp_conn_id"] == "google_cloud_default"
    assert arguments["owner"] == {
        "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "token": this.pushed["operation_owner"],
    }  # fmt: skip
    assert (arguments["deadline"]["cause"], arguments["deadline"]["seconds"]) == ("execution_timeout", 60.0)
    assert deferral.timeout is None, "Airflow's own deferral timeout calls no hook"


@pytest.mark.parametrize("backoff", [True, False])
def test_a_rescheduled_wait_grows_older_from_look_to_look(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, backoff: bool
) -> None:
    """Every look is a process of its own: a wait of an hour is not looked at, and rescheduled, every second."""
    this = a_try()
    now = datetime.now(tz=timezone.utc)
    this.ti.get_first_reschedule_date = lambda context: now - timedelta(hours=1)
    if AIRFLOW < (3,):  # it asks its database
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: now - timedelta(hours=1))
    arguments = {"operation_name": this.name, "service": "datafusion", "mode": "reschedule", "timeout": 86400}
    sensor = OperationSensor(task_id="t", cancel_on_kill=False, exponential_backoff=backoff, **arguments)
    may_execute(sensor)
    with pytest.raises(AirflowRescheduleException) as caught:
        sensor.execute(this.context)
    assert caught.value.reschedule_date - now > timedelta(seconds=50)


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [({}, 30, 31), ({"poke_interval": 10}, 9, 11), ({"timeout": 12}, 10, 13), ({"max_wait": 5}, 4, 6)],
)
def test_a_young_wait_is_not_rescheduled_for_a_second(
    a_try: Callable[..., Try], given: dict[str, Any], least: float, most: float
) -> None:
    """Airflow 3 fails a task that runs again before its scheduler has heard of its last process."""
    this = a_try()
    arguments = {"operation_name": this.name, "service": "datafusion", "mode": "reschedule", **given}
    sensor = OperationSensor(task_id="t", cancel_on_kill=False, **arguments)
    may_execute(sensor)
    with pytest.raises(AirflowRescheduleException) as caught:
        sensor.execute(this.context)
    pause = caught.value.reschedule_date - datetime.now(tz=timezone.utc)
    assert timedelta(seconds=least - 1) < pause <= timedelta(seconds=most)


def test_a_rescheduled_wait_does_not_forgive_a_404_at_every_look(a_try: Callable[..., Try]) -> None:
    """The grace for a new operation ends, also if every look is the first one of its process."""
    this = a_try()
    this.emulator.store.delete("datafusion", this.name)
    this.ti.get_first_reschedule_date = lambda context: datetime.now(tz=timezone.utc) - timedelta(minutes=1)
    with pytest.raises(FinalOperationFailedError, match="was not found"):
        this.run(mode="reschedule", cancel_on_kill=False)


def test_a_kill_before_the_deferral_is_taken_calls_it_off(a_try: Callable[..., Try]) -> None:
    """on_kill in the last moment: cancelled, and Airflow does not get the trigger."""
    this = a_try()
    sensor = this.sensor(deferrable=True)
    with pytest.raises(TaskDeferred) as caught:
        sensor.execute(this.context)
    sensor.on_kill()
    assert this.cancels == 1
    with pytest.raises(OperationWaitError, match="not deferred"):
        caught.value.trigger.serialize()


def event(this: Try, deferral: TaskDeferred, **fields: Any) -> dict[str, Any]:
    """An event as the trigger makes it."""
    return {"owner": deferral.kwargs["token"], **fields}


@pytest.mark.parametrize(
    ("cause", "error"), [("sensor_timeout", AirflowSensorTimeout), ("execution_timeout", AirflowTaskTimeout)]
)
@pytest.mark.parametrize("requested", [True, False])
def test_a_deadline_while_deferred(
    a_try: Callable[..., Try], cause: str, error: type[BaseException], requested: bool
) -> None:
    """The event says which deadline; what the trigger could not cancel, the task does."""
    this = a_try()
    sensor, deferral = deferred(this)
    told = event(
        this, deferral, status="deadline", cause=cause, seconds=5.0, cancel_requested=requested, operation=None
    )
    with pytest.raises(error):
        sensor.execute_complete(this.context, told, **deferral.kwargs)
    assert this.cancels == (0 if requested else 1)
    assert this.store[KEY]["killed"]


def test_an_event_of_another_task_is_not_believed(a_try: Callable[..., Try]) -> None:
    """A success that belongs to another task's trigger does not make this one green: it looks again."""
    this = a_try()
    sensor, deferral = deferred(this)
    foreign = {"owner": "another", "status": "finished", "operation": {"name": "x", "done": True, "response": {}}}
    with pytest.raises(TaskDeferred) as again:
        sensor.execute_complete(this.context, foreign, **deferral.kwargs)
    first, second = (found.trigger.serialize()[1] for found in (deferral, again.value))
    assert second["reference"] == first["reference"]
    assert second["deadline"] == first["deadline"], "the wait began when it began"
    # The first trigger may still be there, and is told to stop: it must see its own try, and not another's.
    assert second["owner"] == first["owner"]
    assert this.pushed["operation_owner"] == first["owner"]["token"]


@pytest.mark.parametrize(
    "odd", [None, "done", {}, {"status": "finished"}, {"status": "finished", "operation": {"name": "x"}}]
)
def test_an_unknown_event_fails_closed(a_try: Callable[..., Try], odd: Any) -> None:
    """Nothing that is not understood is taken for a success."""
    this = a_try()
    sensor, deferral = deferred(this)
    with pytest.raises(ValueError, match="not understood"):
        sensor.execute_complete(this.context, odd, **deferral.kwargs)


@pytest.mark.parametrize(("max_tries", "cancels"), [(0, 1), (1, 0)], ids=["no retry", "a retry to come"])
@pytest.mark.parametrize("how", ["lost", "the trigger broke"])
def test_a_broken_wait_does_not_forget_the_operation(
    a_try: Callable[..., Try], how: str, max_tries: int, cancels: int
) -> None:
    """Whatever ends the wait in the triggerer: the retry goes on with the operation, or it is cancelled."""
    this = a_try(max_tries=max_tries)
    sensor, deferral = deferred(this)
    method, kwargs = (
        "execute_complete",
        {"event": event(this, deferral, status="lost", message="403"), **deferral.kwargs},
    )
    if how != "lost":
        method, kwargs = "__fail__", {"error": "Trigger failure"}
    with pytest.raises(BaseException):  # noqa: B017 - Airflow's own, or ours
        sensor.resume_execution(method, kwargs, this.context)
    assert this.cancels == cancels


@pytest.mark.parametrize("how", ["a deadline", "the trigger broke"])
def test_the_operation_is_the_one_that_was_deferred_whatever_its_template_says_by_now(
    a_try: Callable[..., Try], how: str
) -> None:
    """The task before was cleared alone and has started another one meanwhile: that one is not touched."""
    this = a_try()
    _, deferral = deferred(this)
    other = a_try()
    sensor = other.sensor(deferrable=True)
    method, kwargs = "__fail__", {"error": "Trigger failure"}
    if how == "a deadline":
        told = event(
            this, deferral, status="deadline", cause="execution_timeout", seconds=5.0, cancel_requested=False,
            operation=None,
        )  # fmt: skip
        method, kwargs = "execute_complete", {"event": told, **deferral.kwargs}
    with pytest.raises(BaseException, match=r"passed while deferred|Trigger failure"):
        sensor.resume_execution(method, kwargs, this.context)
    assert (this.cancels, other.cancels) == (1, 0)
    assert this.store[KEY]["reference"]["name"] == this.name


@pytest.mark.parametrize("how", ["lost", "the trigger broke"])
@pytest.mark.parametrize(("state", "cancels"), [("failed", 1), ("running", 0), (Evidence.UNKNOWN, 0)])
def test_a_kill_while_it_resumes_is_not_forgotten(
    a_try: Callable[..., Try], how: str, state: TaskState, cancels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked failed as it learns that the wait was lost: cancelled. If its worker stops, its retry goes on (A1)."""
    this = a_try(max_tries=1)
    sensor, deferral = deferred(this)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: state)
    told = event(this, deferral, status="lost", message="403")
    method, kwargs = "execute_complete", {"event": told, **deferral.kwargs}
    if how != "lost":
        method, kwargs = "__fail__", {"error": "Trigger failure"}
    sensor.on_kill()
    with pytest.raises(BaseException):  # noqa: B017 - Airflow's own, or ours
        sensor.resume_execution(method, kwargs, this.context)
    assert this.cancels == cancels


@pytest.mark.parametrize("state", ["failed", "success", "restarting", Evidence.GONE, "running", Evidence.UNKNOWN])
def test_a_task_that_was_marked_takes_no_cancellation_for_its_success(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, state: TaskState
) -> None:
    """The sweep may cancel for it before its process is told to stop: the next try has to know what that was."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: state)
    this = a_try()
    this.emulator.finish("datafusion", this.name, error={"code": 1})
    if state in ("running", Evidence.UNKNOWN):
        assert this.run()["outcome"] == "CANCELLED"
        assert KEY not in this.store
        return
    with pytest.raises(FinalOperationFailedError, match="cancelled after try 1 of this task was killed"):
        this.run()
    assert "was killed" in this.store[KEY]["killed"]


KILLS: dict[str, tuple[TaskState, int, bool, int]] = {
    "marked failed": ("failed", 1, False, 1),
    "marked success": ("success", 1, False, 1),
    "another try has succeeded": ("success", 0, True, 0),
    "cleared": ("restarting", 1, False, 1),
    "deleted": (Evidence.GONE, 1, False, 1),
    "the worker shuts down, a retry is left": ("running", 1, False, 0),
    "the worker shuts down, none is": ("running", 0, False, 1),
    "another try runs": ("running", 0, True, 0),
    "the scheduler has reset it": ("scheduled", 0, False, 0),
    "it is up for retry": ("up_for_retry", 1, False, 0),
    "Airflow is away, a retry is left": (Evidence.UNKNOWN, 1, False, 0),
    "Airflow is away, none is": (Evidence.UNKNOWN, 0, False, 1),
}


@pytest.mark.parametrize("kind", KILLS)
def test_whose_kill_it_is(a_try: Callable[..., Try], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM while it waits, and what Airflow says of the task (A1): nobody ends what another try goes on with."""
    state, max_tries, taken, cancels = KILLS[kind]
    monkeypatch.setattr(evidence, "read_task_state", lambda key: state)
    store = TakenStore()
    this = a_try(max_tries=max_tries, store=store)
    sensor = this.sensor()

    def kill() -> None:
        store.taken = taken
        sensor.on_kill()

    with handling(signal.SIGTERM, lambda *_: kill()):
        once(lambda: len(this.emulator.requests(verb="get")) > 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Killed):
            sensor.execute(this.context)
    assert this.cancels == cancels
    assert bool(store[KEY].get("killed")) is bool(cancels)
    if not cancels:
        # The next try takes it for its own.
        assert ArmedRecord.from_dict(store[KEY]) is not None


def test_never_fail_leaves_no_operation_to_a_retry_that_does_not_come(a_try: Callable[..., Try]) -> None:
    """Skipped is the end, although the task has a retry left: as in poke mode, the operation is cancelled."""
    this = a_try(max_tries=1)
    sensor, deferral = deferred(this, never_fail=True)
    told = event(this, deferral, status="lost", message="403")
    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("execute_complete", {"event": told, **deferral.kwargs}, this.context)
    assert this.cancels == 1


@pytest.mark.parametrize(("max_tries", "cancels"), [(0, 1), (1, 0)], ids=["no retry", "a retry to come"])
def test_an_unknown_event_does_not_forget_the_operation(
    a_try: Callable[..., Try], max_tries: int, cancels: int
) -> None:
    """It ends the task as any other error does."""
    this = a_try(max_tries=max_tries)
    sensor, deferral = deferred(this)
    with pytest.raises(ValueError, match="not understood"):
        sensor.execute_complete(this.context, {"owner": deferral.kwargs["token"]}, **deferral.kwargs)
    assert this.cancels == cancels


@pytest.mark.parametrize("how", ["finished", "lost", "the trigger broke"])
def test_a_connection_that_is_gone_when_it_resumes_is_no_final_failure(
    a_try: Callable[..., Try], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A secrets backend that is down looks so: what is over is over, and what runs is left to the retry."""
    this = a_try(max_tries=1)
    sensor, deferral = deferred(this)
    monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
    if how == "finished":
        done = this.emulator.finish("datafusion", this.name).operation
        told = event(this, deferral, status="finished", operation=done)
        assert sensor.execute_complete(this.context, told, **deferral.kwargs)["outcome"] == "SUCCEEDED"
        return
    told = event(this, deferral, status="lost", message="connection 'google_cloud_default' is not defined")
    method, kwargs = "execute_complete", {"event": told, **deferral.kwargs}
    if how != "lost":
        method, kwargs = "__fail__", {"error": "Trigger failure"}
    with pytest.raises(Exception, match=r"not defined|Trigger failure") as caught:
        sensor.resume_execution(method, kwargs, this.context)
    assert not isinstance(caught.value, AirflowFailException)


@since_3
def test_a_deferral_timeout_of_airflow_cancels_as_a_backstop(a_try: Callable[..., Try]) -> None:
    """We set none, but whoever does gets a cancel all the same."""
    this = a_try(max_tries=3)
    sensor, _ = deferred(this)
    with pytest.raises(AirflowSensorTimeout):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, this.context)
    assert this.cancels == 1


def test_a_blank_operator_of_another_process_does_nothing_on_kill(a_try: Callable[..., Try]) -> None:
    """on_kill may come to an operator whose execute never ran here."""
    this = a_try()
    this.sensor().on_kill()
    assert this.cancels == 0


def test_a_deferral_drops_no_argument(a_try: Callable[..., Try]) -> None:
    """Google's provider 22.0, 22.6 (apache/airflow#67053, #66968, #73504): its triggers did not get every argument."""
    given = {
        "exponential_backoff": True,
        "silent_fail": True,
        "include_response": False,
        "impersonation_chain": ["a@x"],
    }
    times = {"poke_interval": timedelta(seconds=7), "max_wait": timedelta(minutes=3), "timeout": timedelta(hours=2)}
    with pytest.raises(TaskDeferred) as deferred:
        a_try().run(deferrable=True, api_version="v1beta1", execution_timeout=timedelta(minutes=9), **given, **times)
    trigger = deferred.value.trigger
    stored = trigger.serialize()[1]
    given_by_starters_only = "discreet"
    assert {*stored, "before_serialize", given_by_starters_only} == set(inspect.signature(type(trigger)).parameters)
    assert (stored["poll_interval"], stored["exponential_backoff"], stored["max_wait"]) == (7.0, True, 180.0)
    assert (stored["tolerant"], stored["include_response"], stored["cancel_on_kill"]) == (True, False, True)
    assert (stored["impersonation_chain"], stored["gcp_conn_id"]) == (["a@x"], "google_cloud_default")
    assert (stored["deadline"]["cause"], stored["deadline"]["seconds"]) == ("execution_timeout", 540.0)
    assert stored["reference"]["version"] == "v1beta1"


@pytest.mark.parametrize(
    "how", [{}, {"mode": "reschedule"}, {"deferrable": True}], ids=["poke", "reschedule", "deferrable"]
)
def test_the_result_is_the_same_in_every_mode(a_try: Callable[..., Try], how: dict[str, Any]) -> None:
    """Google's provider 17.0, 22.6 (apache/airflow#53115, #71086): some of its sensors have lost their XCom in one."""
    this = a_try()
    this.emulator.finish("datafusion", this.name, response={"a": 1})
    result = this.run(cancel_on_kill=False, **how)
    assert (result["outcome"], result["operation"]["response"]) == ("SUCCEEDED", {"a": 1})


@pytest.mark.parametrize(("map_index", "cancels"), [(-1, 1), (0, 0)])
def test_what_another_instance_of_a_mapped_task_may_wait_for_is_left_alone(
    a_try: Callable[..., Try], map_index: int, cancels: int
) -> None:
    """The list of a mapped task that was cleared may have another order by now: what this one waited for is another's.

    Of a task that is not mapped nobody else has it.
    """
    first = a_try(max_tries=0)
    first.ti.map_index = map_index
    with pytest.raises(TaskDeferred):
        first.run(deferrable=True)
    second = a_try(number=2, max_tries=1, duration=0)
    second.ti.map_index = map_index
    assert second.run()["outcome"] == "SUCCEEDED"
    assert first.cancels == cancels


def test_a_killed_observer_says_that_the_operation_runs_on(
    a_try: Callable[..., Try], killable: Killable, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks for a cancellation in its log finds why there is none."""
    this = a_try()
    sensor = this.sensor(cancel_on_kill=False)
    killable(sensor, lambda: this.emulator.requests(verb="get"))
    with pytest.raises(Killed):
        sensor.execute(this.context)
    assert "Not cancelled, it is not this task's (cancel_on_kill=False)" in "".join(capfd.readouterr())
    assert this.cancels == 0


def test_a_killed_canceller_does_not_say_that_nothing_was_cancelled(
    a_try: Callable[..., Try], killable: Killable, capfd: pytest.CaptureFixture[str]
) -> None:
    """It owns no operation, but it has requested the cancellation."""
    this = a_try(cancel="ignore")
    operator = CancelOperationOperator(
        task_id="t", operation_name=this.name, service="datafusion", poll_interval=1, timeout=60
    )
    may_execute(operator)
    killable(operator, lambda: operator.attempt is not None and operator.attempt.requested)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert "Not cancelled" not in "".join(capfd.readouterr())
    assert this.cancels == 1
