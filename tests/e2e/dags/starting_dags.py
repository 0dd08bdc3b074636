"""Dags whose task starts its operation itself; the run's conf has a key by which it is found at the server."""

from __future__ import annotations

import json
import urllib.request
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, task

from airflow_lro_provider.operators.operations import CancelOperationsOperator, RunOperationOperator

RETRY = {"retries": 1, "retry_delay": timedelta(seconds=1)}
METHOD = "projects/p/locations/us-central1/connections?connectionId={{ dag_run.conf['key'] }}"


def one_task(dag_id: str, **arguments: Any) -> None:
    """A Dag with one task that starts an operation of Developer Connect."""
    with DAG(dag_id, schedule=None, catchup=False, max_active_tasks=8, max_active_runs=16):
        RunOperationOperator(
            task_id="it",
            service="developerconnect",
            method=METHOD,
            body={"labels": {"key": "{{ dag_run.conf['key'] }}"}},
            poll_interval=1,
            **arguments,
        )


one_task("run")
one_task("run_retry", **RETRY)
one_task("run_deferred", deferrable=True)
one_task("run_deferred_retry", deferrable=True, **RETRY)
one_task("run_execution_timeout", execution_timeout=timedelta(seconds=6), **RETRY)


def start_by_hand(key: str) -> dict[str, Any]:
    """Start an operation as any client might, without this package."""
    endpoint = BaseHook.get_connection("google_cloud_default").extra_dejson["api_endpoint"]
    url = (
        f"{endpoint.replace('{service}', 'datafusion')}/v1/projects/p/locations/us-central1/instances?instanceId={key}"
    )
    with urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST")) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


with DAG("decorated", schedule=None, catchup=False, max_active_runs=16):

    @task.operation(service="datafusion", poll_interval=1, **RETRY)
    def it(dag_run: Any = None) -> dict[str, Any]:
        """Start an operation and return it."""
        return start_by_hand(dag_run.conf["key"])

    it()

with DAG("decorated_mapped", schedule=None, catchup=False):

    @task.operation(service="datafusion", poll_interval=1, deferrable=True, return_operation=True)
    def it(number: int, dag_run: Any = None) -> dict[str, Any]:
        """Start one of several."""
        return start_by_hand(f"{dag_run.conf['key']}-{number}")

    @task
    def gather(operations: list[dict[str, Any]]) -> list[str]:
        """Use what they returned."""
        return sorted(operation["metadata"]["target"] for operation in operations)

    gather(it.expand(number=[1, 2, 3]))

with DAG("cancel_many", schedule=None, catchup=False):
    CancelOperationsOperator(
        task_id="it", service="datafusion", parent="projects/{{ dag_run.conf['key'] }}/locations/l", poll_interval=1
    )
