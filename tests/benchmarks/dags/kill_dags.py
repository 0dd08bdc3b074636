"""Pairs of Dags, ours and the plain provider's: one task each, whose operation comes with the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, BaseHook
from naive_provider import NaiveOperator, NaiveSensor

from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor

NAME = "{{ dag_run.conf['operation'] }}"
PATH = "projects/p/locations/us-central1/instances?instanceId={{ dag_run.conf['operation'] }}"
QUESTIONS = 200


class Asking:
    """Does nothing but ask its supervisor, so that a signal lands in the middle of a question."""

    def poke(self, context: Any) -> Any:
        """Ask for a connection many times, then look."""
        for _ in range(QUESTIONS):
            BaseHook.get_connection("google_cloud_default")
        return super().poke(context)  # type: ignore[misc]


class AskingSensor(Asking, OperationSensor):
    """Ours."""


class NaiveAskingSensor(Asking, NaiveSensor):
    """The plain one."""


def pair(shape: str, **arguments: Any) -> None:
    """A Dag of ours, and the same of the plain provider."""
    for whose in ("ours", "naive"):
        with DAG(f"{whose}_{shape}", schedule=None, catchup=False, max_active_runs=32, max_active_tasks=32):
            ours = whose == "ours"
            if shape.startswith("started"):
                if ours:
                    RunOperationOperator(task_id="it", service="datafusion", method=PATH, poll_interval=1, **arguments)
                else:
                    NaiveOperator(task_id="it", path=PATH, **arguments)
            elif ours:
                kind = AskingSensor if shape == "asking" else OperationSensor
                kind(task_id="it", operation_name=NAME, service="datafusion", **arguments)
            else:
                (NaiveAskingSensor if shape == "asking" else NaiveSensor)(
                    task_id="it", operation_name=NAME, **arguments
                )


LATE = timedelta(seconds=6)
pair("asking", poke_interval=0)
for shape, how in {"poke": {}, "deferred": {"deferrable": True}}.items():
    pair(shape, poke_interval=1, **how)
    pair(f"{shape}_timeout", poke_interval=1, timeout=6, **how)
    pair(f"{shape}_execution_timeout", poke_interval=1, execution_timeout=LATE, **how)
pair("started")
pair("started_execution_timeout", execution_timeout=LATE)
