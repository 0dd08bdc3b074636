"""What the tests need of Airflow that has moved between its versions, or is not in all of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from airflow_lro_provider.airflow_compat import AIRFLOW, task_states
from airflow_lro_provider.airflow_compat.exceptions import TaskTerminated
from airflow_lro_provider.exceptions import OperationKilled

since_3 = pytest.mark.skipif(AIRFLOW < (3,), reason="Airflow 2 has no supervisor that a task asks")
since_3_2 = pytest.mark.skipif(AIRFLOW < (3, 2), reason="Airflow 3.1 does not get that far")
since_3_3 = pytest.mark.skipif(AIRFLOW < (3, 3), reason="new in Airflow 3.3")
"""For what earlier versions do not have."""


def _of(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def sigterm_of(operator: Any) -> Callable[..., None]:
    """What Airflow does in a task process at SIGTERM."""

    def handle(*_: Any) -> None:
        operator.on_kill()
        if AIRFLOW < (3,):
            raise TaskTerminated("Task received SIGTERM signal")

    return handle


Killed: type[BaseException] = TaskTerminated if AIRFLOW < (3,) else OperationKilled
"""The error of a task that was told to stop: Airflow 2 may be the first to raise it."""


def is_mapped(task: Any) -> bool:
    """Whether a task that was read back is a mapped one."""
    return bool(getattr(task, "is_mapped", type(task).__name__ == "MappedOperator"))


def may_execute(operator: Any) -> None:
    """Let the operator be executed without a task runner: Airflow warns of that, or refuses it."""
    if AIRFLOW >= (3,):
        _of("airflow.sdk.bases.operator", "ExecutorSafeguard").tracker.set(operator)
    else:
        model = import_module("airflow.models.baseoperator")
        classes = type(operator).__mro__
        model.ExecutorSafeguard._sentinel.callers = {f"{one.__name__}__sentinel": model._sentinel for one in classes}


def play_task_states(monkeypatch: pytest.MonkeyPatch, states: Callable[..., Any]) -> None:
    """Let Airflow say what the states of tasks are.

    :param states: takes ``dag_id``, ``task_ids``, ``run_ids`` and ``map_index``.
    """
    names = ("dag_id", "task_ids", "run_ids", "map_index")
    monkeypatch.setattr(task_states, "task_states", lambda *asked: states(**dict(zip(names, asked, strict=True))))


def dag_bag(folder: Path) -> Any:
    """The Dags of a folder."""
    if AIRFLOW < (3, 2):
        return _of("airflow.models.dagbag", "DagBag")(folder, include_examples=False)
    return _of("airflow.dag_processing.dagbag", "DagBag")(folder, bundle_path=folder, bundle_name="tests")


_SERIALIZED = "airflow.serialization.serialized_objects"
DagSerialization = _of(_SERIALIZED, "DagSerialization" if AIRFLOW >= (3, 2) else "SerializedDAG")

ExceptionRetryPolicy, RetryAction, RetryDecision, RetryPolicy, RetryRule = (
    _of("airflow.sdk.definitions.retry_policy", name) if AIRFLOW >= (3, 3) else object
    for name in ("ExceptionRetryPolicy", "RetryAction", "RetryDecision", "RetryPolicy", "RetryRule")
)
