"""The Dags of the end-to-end tests: one task each, whose operation comes with the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, task

from airflow_lro_provider.operators.operations import CancelOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor

NAME = "{{ dag_run.conf['operation'] }}"
CONNECTION = "{{ dag_run.conf.get('connection', 'google_cloud_default') }}"
SERVICE = "{{ dag_run.conf.get('service', 'datafusion') }}"


class AskingSensor(OperationSensor):
    """Does nothing but ask its supervisor, so that a signal lands in the middle of a question."""

    def poke(self, context: Any) -> Any:
        """Ask for a connection many times, then look."""
        for _ in range(20):
            BaseHook.get_connection("google_cloud_default")
        return super().poke(context)

    def _get_next_poke_interval(self, *_: Any) -> float:
        return 0.0  # no pause in which a signal could land


def one_task(dag_id: str, operator: type = OperationSensor, **arguments: Any) -> None:
    """A Dag with one task."""
    with DAG(dag_id, schedule=None, catchup=False, max_active_tasks=8, max_active_runs=16):
        operator(task_id="it", operation_name=NAME, service=SERVICE, gcp_conn_id=CONNECTION, **arguments)


RETRY = {"retries": 1, "retry_delay": timedelta(seconds=1)}
SHAPES: dict[str, dict[str, Any]] = {
    "poke": {"poke_interval": 1},
    "deferred": {"poke_interval": 1, "deferrable": True},
}
for shape, how in SHAPES.items():
    one_task(shape, **how)
    one_task(f"{shape}_retry", **how, **RETRY)
    one_task(f"{shape}_silent", silent_fail=True, **how)
    one_task(f"{shape}_never", never_fail=True, **how)
    one_task(f"{shape}_soft", soft_fail=True, timeout=6, **how)
    one_task(f"{shape}_execution_timeout", execution_timeout=timedelta(seconds=8), **how, **RETRY)
    one_task(f"{shape}_timeout", timeout=6, **how, **RETRY)
    one_task(f"{shape}_observer", cancel_on_kill=False, **how)
    one_task(f"{shape}_small", include_response=False, **how)
one_task("asking", AskingSensor)
one_task("reschedule_observer", mode="reschedule", poke_interval=6, cancel_on_kill=False)
one_task("cancel", CancelOperationOperator, poll_interval=1, timeout=60)
one_task("cancel_any", CancelOperationOperator, poll_interval=1, timeout=4, fail_on=set())
one_task("cancel_deferred", CancelOperationOperator, poll_interval=1, timeout=60, deferrable=True)
one_task("cancel_request", CancelOperationOperator, wait_for_completion=False)

with DAG("mapped", schedule=None, catchup=False):

    @task
    def start() -> list[dict[str, Any]]:
        """Hand operations over, as dicts that another task returned."""
        from airflow.providers.common.compat.sdk import get_current_context

        return [{"name": name} for name in get_current_context()["dag_run"].conf["operations"]]

    OperationSensor.partial(task_id="it", service="datafusion", poke_interval=1).expand(operation_name=start())

with DAG("branching", schedule=None, catchup=False):
    cancel = CancelOperationOperator(task_id="it", operation_name=NAME, service=SERVICE, poll_interval=1, fail_on=set())

    @task.branch
    def choose(result: dict[str, Any]) -> str:
        """Go one way or the other by what came of the cancel."""
        return "undo" if result["outcome"] == "COMPLETED_DESPITE_CANCEL" else "go_on"

    @task
    def undo() -> None:
        """What is to be done if it completed all the same."""

    @task
    def go_on() -> None:
        """What is to be done else."""

    choose(cancel.output) >> [undo(), go_on()]
