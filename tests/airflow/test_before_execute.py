"""A task that Airflow 2 ends without having called it: killed before `execute`, or too late when it is resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_lro_provider.attempt import task as task_module
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.airflow.played import PlayedTry, Store
from tests.airflow.versions import may_execute

METHOD = "projects/p/locations/us-central1/connections?connectionId=c"


@pytest.fixture
def begin(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PlayedTry]:
    """Begin a process of a task, which Airflow will not call; its tries share their store."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "failed")
    store = Store()
    ids: dict[int, Any] = {}

    def make(number: int = 1, max_tries: int = 0, **next_kwargs: Any) -> PlayedTry:
        this = PlayedTry(lro_emulator, store, number, max_tries)
        this.ti.next_kwargs = next_kwargs
        this.ti.id = ids.setdefault(number, this.ti.id)
        monkeypatch.setattr(task_module, "context_before_execute", lambda: this.context)
        return this

    return make


def sensor(name: str, **arguments: Any) -> OperationSensor:
    """A sensor for an operation."""
    return OperationSensor(task_id="t", operation_name=name, service="datafusion", **arguments)


def starter(**arguments: Any) -> RunOperationOperator:
    """An operator that starts one."""
    return RunOperationOperator(task_id="t", method=METHOD, service="developerconnect", **arguments)


def handed_over(operator: Any, this: PlayedTry) -> dict[str, Any]:
    """What a task hands to itself when it defers."""
    may_execute(operator)
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(this.context)
    return dict(caught.value.kwargs or {})


@pytest.mark.parametrize(("cancels", "expected"), [(True, 1), (False, 0)])
def test_a_sensor_that_is_killed_before_it_looks(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], cancels: bool, expected: int
) -> None:
    """Its operation is named by its arguments: it is cancelled, if it is the sensor's."""
    begin()
    sensor(lro_emulator.create("datafusion", duration=None), cancel_on_kill=cancels).on_kill()
    assert len(lro_emulator.requests(verb="cancel")) == expected


def test_a_task_that_is_killed_before_it_starts_anything_starts_nothing(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry]
) -> None:
    """There is nothing to lose."""
    begin()
    starter().on_kill()
    assert lro_emulator.requests() == []


def test_what_an_earlier_try_has_left_is_cancelled(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry that would have gone on with it is killed before it is called."""
    lro_emulator.script(duration=None)
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "read_task_state", lambda key: "running")
        handed_over(starter(deferrable=True), begin(max_tries=1))
    begin(number=2, max_tries=1)
    starter().on_kill()
    assert len(lro_emulator.requests(verb="cancel")) == 1


@pytest.mark.parametrize("make", [lambda name: sensor(name, deferrable=True), lambda _: starter(deferrable=True)])
@pytest.mark.parametrize(
    "event", [{"error": "Trigger/execution timeout"}, {"event": {"status": "lost", "message": "m"}}]
)
def test_an_execution_timeout_of_a_deferred_task_cancels(
    lro_emulator: Emulator,
    begin: Callable[..., PlayedTry],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[str], Any],
    event: dict[str, Any],
) -> None:
    """Airflow 2 resumes it only to fail it, with retries or without, and calls ``on_kill``."""
    lro_emulator.script(duration=None)
    name = lro_emulator.create("datafusion", duration=None)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    known = handed_over(make(name), begin(max_tries=3))
    begin(max_tries=3, **({} if "error" in event else known), **event)
    try:
        raise AirflowTaskTimeout
    except AirflowTaskTimeout:
        make(name).on_kill()
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_a_task_that_is_killed_with_its_result_in_hand_cancels_nothing(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry]
) -> None:
    """Its event says that the operation has ended."""
    begin(event={"status": "finished", "operation": {"name": "o", "done": True, "response": {}}})
    sensor(lro_emulator.create("datafusion", duration=None), deferrable=True).on_kill()
    assert lro_emulator.requests() == []
