"""The Dags of ``airflow-lro demo``: what it shows, and one to try by hand."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, Param, TaskGroup, get_current_context, task

from airflow_lro_provider.lro.resources.catalog import SYSTEMS
from airflow_lro_provider.operators.operations import CancelOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor

# The demo starts the operations, and gives their names to the run, by task.
NAME = "{{ dag_run.conf[task.task_id] }}"

with DAG(
    "lro_demo",
    description="Waits for operations of every system; some of its tasks are killed",
    doc_md="Started by `airflow-lro demo`, which kills some of the tasks. To kill one by hand, trigger `lro_try_it`.",
    schedule=None,
    catchup=False,
    max_active_tasks=4,
):
    for number, service in enumerate(SYSTEMS):
        wait: dict[str, Any] = {"operation_name": NAME, "service": service, "poke_interval": 1}
        with TaskGroup(service):
            OperationSensor(task_id="left_alone", deferrable=number % 2 == 0, priority_weight=3, **wait)
            OperationSensor(task_id="deferred", deferrable=True, priority_weight=2, **wait)
            OperationSensor(task_id="poke", priority_weight=1, **wait)
            if service == "datafusion":
                CancelOperationOperator(task_id="cancel", operation_name=NAME, service=service, poll_interval=1)

with DAG(
    "lro_try_it",
    description="Starts operations that never end, and waits for them: kill a task by hand",
    doc_md="Mark one of the two sensors as failed or clear it, and look at the page of the local server.",
    schedule=None,
    catchup=False,
    max_active_tasks=4,
    params={"service": Param("datafusion", enum=list(SYSTEMS), description="The system")},
):

    @task
    def start() -> dict[str, str]:
        """Start two operations at the local server."""
        import requests

        params = get_current_context()["params"]
        endpoint = BaseHook.get_connection("google_cloud_default").extra_dejson["api_endpoint"]
        url = endpoint.replace("{service}", "emulator/operations")
        body = {"service": params["service"], "script": {"duration": None}}
        with requests.Session() as session:
            session.trust_env = False  # it is this machine: no proxy
            answers = [session.post(url, json=body, timeout=30) for _ in range(2)]
        first, second = (answer.json()["operation"]["name"] for answer in answers)
        return {"poke": first, "deferred": second}

    start_operations = start()
    for how in ("poke", "deferred"):
        OperationSensor(
            task_id=how,
            operation_name=f"{{{{ ti.xcom_pull('start')['{how}'] }}}}",
            service="{{ params.service }}",
            poke_interval=1,
            deferrable=how == "deferred",
        ).set_upstream(start_operations)
