"""The Dags of the kill benchmark: the same tasks, once with this provider and once with the plain one.

Each has one task ``it``; which operation it waits for, or the key of the one it starts, comes with the run's conf.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseHook, Variable

from airflow_lro_provider.attempt.record import KEY
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.benchmarks.naive_provider import NaiveOperationSensor, NaiveRunOperator

log = logging.getLogger(__name__)

CONNECTION = "google_cloud_default"
WHO = {"ours": (OperationSensor, RunOperationOperator), "naive": (NaiveOperationSensor, NaiveRunOperator)}
LIMIT = 8
"""Of tasks that time out, in seconds."""

QUESTIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "connection": (lambda ti: BaseHook.get_connection(CONNECTION).conn_type, "google_lro"),
    "XCom": (lambda ti: ti.xcom_pull(task_ids="it", key="fruit"), "apple"),
    "variable": (lambda ti: Variable.get("colour"), "blue"),
}
"""What is asked of the supervisor, and the right answers."""


class Asking:
    """A sensor that does nothing but ask its supervisor while it waits; comes first among the bases."""

    def pre_execute(self, context: Any) -> None:
        """Leave something to ask for."""
        super().pre_execute(context)  # type: ignore[misc]
        context["ti"].xcom_push(key="fruit", value="apple")

    def poke(self, context: Any) -> Any:
        """Ask many times, then look."""
        for _ in range(20):
            for question, _answer in QUESTIONS.values():
                question(context["ti"])
        return super().poke(context)  # type: ignore[misc]

    def _get_next_poke_interval(self, *_: Any) -> float:
        return 0.0  # no pause in which a signal could land


def ask_again(context: Any) -> None:
    """A callback of a task that failed: whether the supervisor's answers still belong to the questions."""
    wrong = []
    for _ in range(2):
        for what, (question, answer) in QUESTIONS.items():
            try:
                given = question(context["ti"])
            except Exception as error:
                given = error
            if given != answer:
                wrong.append(f"{what}: {given!r:.200}")
    try:
        record = context["task_state_store"].get(KEY)
        killed = record.get("killed") if isinstance(record, dict) else repr(record)
    except Exception as error:
        killed = repr(error)
    log.info("asked after the kill: %s", json.dumps({"wrong": wrong, "killed": killed}))


def one_task(dag_id: str, operator: Any, **arguments: Any) -> None:
    """A Dag with one task."""
    with DAG(dag_id, schedule=None, catchup=False, max_active_tasks=16, max_active_runs=16):
        operator(task_id="it", gcp_conn_id=CONNECTION, **arguments)


EXECUTION_TIMEOUT = {"execution_timeout": timedelta(seconds=LIMIT)}
OPERATION = {"operation_name": "{{ dag_run.conf['operation'] }}", "service": "datafusion", "poke_interval": 1}
START = {
    "service": "developerconnect",
    "method": "projects/p/locations/us-central1/connections?connectionId={{ dag_run.conf['key'] }}",
    "body": {"labels": {"key": "{{ dag_run.conf['key'] }}"}},
    "poll_interval": 1,
}
CALLBACKS = {"on_failure_callback": ask_again, "on_retry_callback": ask_again}

for who, (sensor, run) in WHO.items():
    for shape, deferrable in {"poke": False, "deferred": True}.items():
        waiting, starting = {**OPERATION, "deferrable": deferrable}, {**START, "deferrable": deferrable}
        one_task(f"{who}_{shape}", sensor, **waiting)
        one_task(f"{who}_{shape}_timeout", sensor, timeout=LIMIT, **waiting)
        one_task(f"{who}_{shape}_execution_timeout", sensor, **EXECUTION_TIMEOUT, **waiting)
        one_task(f"{who}_run_{shape}", run, **starting)
        one_task(f"{who}_run_{shape}_execution_timeout", run, **EXECUTION_TIMEOUT, **starting)
    asking = type(f"Asking{sensor.__name__}", (Asking, sensor), {})
    often = {**OPERATION, **CALLBACKS}
    one_task(f"{who}_asking", asking, **often)
    one_task(f"{who}_asking_retry", asking, retries=1, retry_delay=timedelta(hours=1), **often)
