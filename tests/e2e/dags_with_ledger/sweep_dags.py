"""Dags of an Airflow whose ledger is on: guarded tasks of every shape, and the sweep."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from airflow_lro_provider.sweep import sweep_dag

NAME = "{{ dag_run.conf['operation'] }}"
METHOD = "projects/p/locations/us-central1/connections?connectionId={{ dag_run.conf['key'] }}"
RETRY = {"retries": 1, "retry_delay": timedelta(seconds=1)}

dag = sweep_dag(schedule=None)


def sensor(dag_id: str, **arguments: Any) -> None:
    """A Dag with one sensor."""
    with DAG(dag_id, schedule=None, catchup=False, max_active_runs=16):
        OperationSensor(task_id="it", operation_name=NAME, service="datafusion", **arguments)


def starter(dag_id: str, **arguments: Any) -> None:
    """A Dag with one task that starts its operation."""
    with DAG(dag_id, schedule=None, catchup=False, max_active_runs=16):
        RunOperationOperator(task_id="it", service="developerconnect", method=METHOD, poll_interval=1, **arguments)


sensor("poke", poke_interval=1)
sensor("deferred", poke_interval=1, deferrable=True)
sensor("reschedule", poke_interval=8, mode="reschedule")
sensor("reschedule_rarely", poke_interval=600, mode="reschedule")
starter("run")
starter("run_retry", **RETRY)
starter("run_deferred", deferrable=True)

with DAG("mapped", schedule=None, catchup=False):

    @task
    def start() -> list[dict[str, Any]]:
        """Hand operations over, as dicts that another task returned."""
        from airflow.providers.common.compat.sdk import get_current_context

        return [{"name": name} for name in get_current_context()["dag_run"].conf["operations"]]

    OperationSensor.partial(task_id="it", service="datafusion", poke_interval=1, deferrable=True).expand(
        operation_name=start()
    )
