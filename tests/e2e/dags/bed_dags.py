"""The Dags of the kill matrix and of the chaos: one task ``it`` each, in every shape and variant.

A Dag is named ``bed_{column}`` or ``bed_{column}_{variant}``. The run's conf has a ``key``, by which the server's
operations are found; a ``script`` for those that the task starts; an ``operation`` for those that it does not; and
perhaps the ``service``.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseHook, task

from airflow_lro_provider.decorators.operation import operation_task
from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor

HELD = 20
"""Seconds before ``execute`` at most, in the variant ``held``: longer than Airflow takes to notice a kill."""
AROUND = 4
"""Seconds that ``completing`` sleeps before and after it completes."""
OPERATION = {
    "operation_name": "{{ dag_run.conf['operation'] }}",
    "service": "{{ dag_run.conf.get('service', 'datafusion') }}",
}
STARTED = {
    "service": "{{ dag_run.conf.get('service', 'developerconnect') }}",
    "method": "projects/{{ dag_run.conf['key'] }}/locations/us-central1/connections"
    "?connectionId={{ dag_run.conf['key'] }}&script={{ dag_run.conf['script'] | urlencode }}",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "retry": {"retries": 1, "retry_delay": timedelta(seconds=1)},
    "late_retry": {"retries": 1, "retry_delay": timedelta(seconds=60)},
    "retries": {"retries": 8, "retry_delay": timedelta(seconds=1)},
    "execution_timeout": {"execution_timeout": timedelta(seconds=10)},
    "timeout": {"timeout": 6},
    "run_timeout": {},
    "queued": {"pool": "closed"},
    "tested": {"retries": 2, "retry_delay": timedelta(seconds=1)},
}


def server(path: str, method: str = "GET", service: str = "datafusion") -> Any:
    """Ask the local server, without this package and without Airflow's supervisor."""
    url = f"{os.environ['LOCAL_SERVER']}/{service}/v1/{path}"
    body = b"{}" if method == "POST" else None
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=60) as answer:
        return json.load(answer)


def tell(context: Any, where: str) -> None:
    """Let the test bed know how far the task is: by a look at an operation that there is not."""
    try:
        server(f"projects/p/locations/told/operations/{context['dag_run'].conf['key']}-{where}")
    except urllib.error.HTTPError:
        """As expected; the server has noted the request."""


def hold(context: Any) -> None:
    """Stay before `execute` until a kill has come."""
    tell(context, "held")
    end = time.monotonic() + HELD
    while not getattr(context["task"]._guard, "killed", False) and time.monotonic() < end:
        time.sleep(0.1)


VARIANTS["held"] = {"pre_execute": hold}


class CompletingSensor(OperationSensor):
    """Takes its time after the trigger's event."""

    def execute_complete(self, context: Any, *arguments: Any, **kwargs: Any) -> Any:
        """Sleep, complete, sleep."""
        tell(context, "completing")
        time.sleep(AROUND)
        result = super().execute_complete(context, *arguments, **kwargs)
        limit = self.execution_timeout  # it passes here, however quick the machine is
        time.sleep(AROUND if limit is None else limit.total_seconds())
        return result


def ask_a_lot() -> None:
    """Ask the supervisor, so that a signal lands in the middle of a question."""
    for _ in range(20):
        BaseHook.get_connection("google_cloud_default")


class AskingSensor(OperationSensor):
    """Does little but ask its supervisor."""

    def poke(self, context: Any) -> Any:
        """Ask, then look."""
        ask_a_lot()
        return super().poke(context)


class AskingOperator(RunOperationOperator):
    """Does little but ask its supervisor while it waits."""

    def _wait(self, attempt: Any) -> Any:
        """Ask before every poll."""
        check = attempt._check

        def ask_and_check() -> None:
            ask_a_lot()
            check()

        attempt._check = ask_and_check
        return super()._wait(attempt)


def one_task(column: str, variant: str, make: Callable[..., Any], **arguments: Any) -> None:
    """A Dag with one task."""
    limits: dict[str, Any] = {"max_active_tasks": 200, "max_active_runs": 200}
    if variant == "run_timeout":
        limits["dagrun_timeout"] = timedelta(seconds=25)
    if variant == "tested":
        # For `airflow dags test`: a scheduler at the same database would run its task a second time.
        limits["is_paused_upon_creation"] = True
    given = dict(VARIANTS.get(variant, {}))
    if (column, variant) == ("completing", "execution_timeout"):
        given["execution_timeout"] *= 3  # Airflow 2 counts from the try's start: that is long ago by then
    with DAG("_".join(filter(None, ["bed", column, variant])), schedule=None, catchup=False, **limits):
        make(**given, **arguments)


def decorated(**arguments: Any) -> None:
    """A task that starts its operation by hand."""

    @operation_task(task_id="it", service=OPERATION["service"], poll_interval=1, **arguments)
    def it(dag_run: Any = None) -> Any:
        """Start an operation as any client might."""
        key = dag_run.conf["key"]
        query = f"instanceId={key}&script={urllib.request.quote(dag_run.conf['script'])}"
        service = dag_run.conf.get("service", "datafusion")
        return server(f"projects/{key}/locations/us-central1/instances?{query}", "POST", service)

    it()


SHAPES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "running": (RunOperationOperator, {"task_id": "it", **STARTED, "poll_interval": 1}),
    "poke": (OperationSensor, {"task_id": "it", **OPERATION, "poke_interval": 1}),
    "deferred": (OperationSensor, {"task_id": "it", **OPERATION, "poke_interval": 1, "deferrable": True}),
    "started": (RunOperationOperator, {"task_id": "it", **STARTED, "poll_interval": 1, "deferrable": True}),
    "completing": (CompletingSensor, {"task_id": "it", **OPERATION, "poke_interval": 1, "deferrable": True}),
    "decorator": (decorated, {}),
    "cancel": (CancelOperationOperator, {"task_id": "it", **OPERATION, "poll_interval": 1}),
}
for column, (make, arguments) in SHAPES.items():
    for variant in VARIANTS:
        one_task(column, variant, make, **arguments)
one_task("poke", "asking", AskingSensor, **SHAPES["poke"][1])
one_task("running", "asking", AskingOperator, **SHAPES["running"][1])

with DAG("bed_mapped", schedule=None, catchup=False, max_active_tasks=200):

    @task
    def operations(dag_run: Any = None) -> list[str]:
        """Their names."""
        names: list[str] = dag_run.conf["operations"]
        return names

    OperationSensor.partial(task_id="it", service="datafusion", poke_interval=5, deferrable=True).expand(
        operation_name=operations()
    )
