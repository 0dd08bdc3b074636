"""B13: a cancelled execution of Cloud Run is done without an error; its task does not turn green."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from airflow_lro_provider.triggers.events import Finished, read_event
from tests.airflow.played import PlayedTry, Store
from tests.airflow.versions import may_execute

JOB = "projects/p/locations/us-central1/jobs/j"
RESPONSE = {"@type": "type.googleapis.com/google.cloud.run.v2.Execution", "taskCount": 2, "cancelledCount": 2}
WORDS = r"although it reports no error: 0 of 2 tasks of the execution succeeded \(0 failed, 2 cancelled\)"


@pytest.fixture(autouse=True)
def connection(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation of Cloud Run ends so."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    lro_emulator.script(service="run", duration=0, response=RESPONSE)


def execute(task: Any, emulator: Emulator) -> Any:
    """Run a task."""
    may_execute(task)
    return task.execute(PlayedTry(emulator, Store()).context)


def start(emulator: Emulator, method: str = f"{JOB}:run", **arguments: Any) -> Any:
    """Run a task that starts an operation."""
    return execute(
        RunOperationOperator(task_id="t", cancel_on_kill=False, method=method, service="run", **arguments), emulator
    )


def test_a_starter_fails(lro_emulator: Emulator) -> None:
    """B13: unless it does not wait, or `result_check` accepts it."""
    with pytest.raises(AirflowException, match=WORDS):
        start(lro_emulator)
    assert start(lro_emulator, result_check=lambda operation: True) == RESPONSE


@pytest.mark.parametrize("include_response", [True, False])
def test_a_sensor_fails(lro_emulator: Emulator, include_response: bool) -> None:
    """B13: with the response and without it, as long as that was seen."""
    arguments = {"operation_name": lro_emulator.create("run"), "include_response": include_response}
    with pytest.raises(AirflowException, match=WORDS):
        execute(OperationSensor(task_id="t", cancel_on_kill=False, service="run", **arguments), lro_emulator)


@pytest.mark.parametrize("include_response", [True, False])
async def test_a_deferred_sensor_fails(lro_emulator: Emulator, include_response: bool) -> None:
    """B13: judged where the task resumes, by the event of its trigger."""
    name = lro_emulator.create("run", duration=0.5)
    arguments = {"operation_name": name, "include_response": include_response}
    task = OperationSensor(task_id="t", cancel_on_kill=False, service="run", deferrable=True, **arguments)
    this = PlayedTry(lro_emulator, Store())
    may_execute(task)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(this.context)
    event = await anext(deferred.value.trigger.run())
    assert isinstance(read_event(event.payload), Finished)
    with pytest.raises(AirflowException, match=WORDS):
        task.execute_complete(this.context, event.payload, **deferred.value.kwargs)


@pytest.mark.parametrize("deferrable", [False, True])
async def test_a_success_in_part_is_logged_as_a_warning(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], deferrable: bool
) -> None:
    """Google's provider 16.1 (apache/airflow#51364): Vertex AI's import succeeds although files were not read."""
    metadata = {"genericMetadata": {"partialFailures": [{"code": 5, "message": "gs://b/1.csv"}]}}
    monkeypatch.setattr("airflow_lro_provider.emulator.state.metadata_of", lambda snapshot: metadata)
    lro_emulator.script(service="aiplatform", duration=0.5 if deferrable else 0)
    method = "projects/p/locations/us-central1/datasets/d:import"
    task = RunOperationOperator(task_id="t", method=method, service="aiplatform", deferrable=deferrable)
    this = PlayedTry(lro_emulator, Store())
    may_execute(task)
    if deferrable:
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(this.context)
        event = await anext(deferred.value.trigger.run())
        task.execute_complete(this.context, event.payload, **deferred.value.kwargs)
    else:
        task.execute(this.context)
    [line] = [line for line in capsys.readouterr().out.splitlines() if "succeeded in part" in line]
    assert "It succeeded in part only: NOT_FOUND: gs://b/1.csv" in line
    assert "warning" in line.lower()


def test_what_cancels_an_execution_has_succeeded(lro_emulator: Emulator) -> None:
    """B13: the operation of that cancellation responds with the execution, too."""
    assert not RunOperationOperator(
        task_id="t", cancel_on_kill=False, method=f"{JOB}/executions/e:cancel?a=b", service="run"
    ).judges
    assert start(lro_emulator, f"{JOB}/executions/e", http_method="DELETE") == RESPONSE
