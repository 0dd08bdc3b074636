"""Wait for a long-running operation, look what it came to, and cancel one."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_lro_provider.operators.operations import CancelOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor

with DAG("example_operations", schedule=None, catchup=False, tags=["example", "google"]):

    @task
    def start() -> dict[str, Any]:
        """Start an export with Earth Engine's client (or anything else), and hand the operation on."""
        return {"name": "projects/my-project/operations/ABCDEFGH"}

    # Killing this task, in whatever way, cancels the operation.
    wait = OperationSensor(task_id="wait", operation_name=start(), service="earthengine", deferrable=True)

    @task
    def report(result: dict[str, Any]) -> None:
        """Use what the operation produced."""
        print(result["outcome"], result["operation"].get("response"))

    report(wait.output)

with DAG("example_cancel_operation", schedule=None, catchup=False, tags=["example", "google"]):
    cancel = CancelOperationOperator(
        task_id="cancel",
        operation_name="{{ params.operation }}",
        service="datafusion",
        fail_on={"NOT_FOUND"},
        params={"operation": "projects/my-project/locations/us-central1/operations/operation-1"},
    )

    @task.branch
    def choose(result: dict[str, Any]) -> str:
        """An operation that completed all the same may have made something that has to go."""
        return "clean_up" if result["outcome"] == "COMPLETED_DESPITE_CANCEL" else "done"

    @task
    def clean_up() -> None:
        """Delete what it made."""

    @task
    def done() -> None:
        """Go on."""

    choose(cancel.output) >> [clean_up(), done()]
