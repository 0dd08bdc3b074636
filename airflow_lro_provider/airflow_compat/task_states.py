"""What Airflow knows of tasks and runs, requested through the supervisor. All of it blocks, and may raise anything.

None of it is public: read in Airflow 3.3.2, and there since 3.0. All three work in a task process and, from a thread,
in a triggerer. The task state store does not work in a triggerer: that of Airflow 3.3 does not understand its messages,
and the request would hang for ever.

Importing this takes seconds (``task_runner``): import it before anything waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance


def task_states(
    dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
) -> Mapping[str, Mapping[str, Any]]:
    """The states of task instances, by run id and then by task id (``TASK_INDEX`` of a mapped one).

    A task instance that does not exist is left out; one without a state is ``None``.

    :param map_index: -1 for those that are not mapped, ``None`` for all.
    """
    found: Mapping[str, Mapping[str, Any]] = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id, task_ids=list(task_ids), run_ids=list(run_ids), map_index=map_index
    )
    return found


def run_state(dag_id: str, run_id: str) -> str:
    """The state of a Dag run. The task SDK gives a member of an enum, whose `str` is not its value."""
    state: Any = RuntimeTaskInstance.get_dagrun_state(dag_id, run_id)
    return str(getattr(state, "value", state))


def xcom(key: str, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """An XCom of one task instance; ``None`` if there is none."""
    return XCom.get_one(key=key, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
