"""A task that does nothing but ask its supervisor, and whose callback asks again when it has been killed."""

from __future__ import annotations

import json
import logging
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_lro_provider.attempt.record import KEY
from airflow_lro_provider.sensors.operations import OperationSensor

log = logging.getLogger(__name__)
XCOMS = {"fruit": "apple", "colour": "red", "shape": "round"}


def answers(ti: Any) -> dict[str, Any]:
    """What the supervisor answers now."""
    found = {}
    for key in XCOMS:
        try:
            found[key] = ti.xcom_pull(task_ids="it", key=key)
        except Exception as error:  # an answer to another question
            found[key] = repr(error)
    return found


class XComSensor(OperationSensor):
    """Asks for XComs many times, then looks."""

    def pre_execute(self, context: Any) -> None:
        """Leave something to ask for."""
        super().pre_execute(context)
        for key, value in XCOMS.items():
            context["ti"].xcom_push(key=key, value=value)

    def poke(self, context: Any) -> Any:
        """Ask, then look."""
        for _ in range(10):
            answers(context["ti"])
        return super().poke(context)

    def _get_next_poke_interval(self, *_: Any) -> float:
        return 0.0  # no pause in which a signal could land


def ask_again(context: Any) -> None:
    """Write down what is answered after the kill, and what the record says of it."""
    found: dict[str, Any] = {"xcoms": answers(context["ti"])}
    try:
        found["killed"] = context["task_state_store"].get(KEY)["killed"]
    except Exception as error:
        found["killed"] = repr(error)
    log.info("answered after the kill: %s", json.dumps(found))


with DAG("asking_xcoms", schedule=None, catchup=False, max_active_runs=8):
    XComSensor(
        task_id="it",
        operation_name="{{ dag_run.conf['operation'] }}",
        service="datafusion",
        on_failure_callback=ask_again,
    )
