"""Start long-running operations, wait for them, look what they came to, and cancel some."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_lro_provider.operators.operations import (
    CancelOperationOperator,
    CancelOperationsOperator,
    RunOperationOperator,
)
from airflow_lro_provider.sensors.operations import OperationSensor

with DAG("example_run_operation", schedule=None, catchup=False, tags=["example", "google"]):
    # Any method of any Google API that responds with an operation. Killing the task cancels the operation,
    # and a retry after a crash goes on with it.
    create = RunOperationOperator(
        task_id="create",
        service="developerconnect",
        method="projects/my-project/locations/us-central1/connections?connectionId=github-{{ ds_nodash }}",
        body={"githubConfig": {"githubApp": "DEVELOPER_CONNECT"}},
        deferrable=True,
        retries=2,
    )

    # The same with any client: the function returns its operation, the task returns the operation's response.
    @task.operation(service="earthengine", deferrable=True, retries=2)
    def export(connection: dict[str, Any]) -> Any:
        """Start an export with Earth Engine's client."""
        import ee

        started = ee.batch.Export.image.toAsset(ee.Image(1), description="one", assetId="projects/my-project/assets/a")
        started.start()
        return started

    export(create.output)

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

with DAG("example_cancel_operations", schedule=None, catchup=False, tags=["example", "google"]):
    CancelOperationsOperator(
        task_id="cancel_all",
        service="datafusion",
        parent="projects/my-project/locations/us-central1",
        dry_run=True,
    )
