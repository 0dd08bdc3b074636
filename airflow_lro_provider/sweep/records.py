"""The records of tries that an Airflow without a task state store keeps in Variables.

A record is needed as long as its task can be tried again, or cleared: it outlives its run, and is removed only when
its task instance is deleted. From a task nobody can list Variables there, so it is the sweep from outside that does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_lro_provider.airflow_compat.record_store import VARIABLE_PREFIX, task_in
from airflow_lro_provider.ownership.decisions import Evidence
from airflow_lro_provider.ownership.evidence import TaskKey, query_states

if TYPE_CHECKING:
    from airflow_lro_provider.sweep.rest_api import FromOutside


def remove_orphaned_records(airflow: FromOutside) -> int:
    """Remove the records of task instances that are gone.

    :return: how many were removed.
    """
    tasks: dict[str, TaskKey] = {}
    for key, kept in airflow.variables(VARIABLE_PREFIX).items():
        ids = task_in(kept)
        if isinstance(ids, list) and len(ids) == len(TaskKey._fields):
            task = TaskKey.from_dict(dict(zip(TaskKey._fields, ids, strict=True)))
            if task is not None:
                tasks[key] = task
    states = query_states(tasks.values(), airflow.states)
    gone = [key for key, task in tasks.items() if states[task] is Evidence.GONE and airflow.is_gone(*task)]
    for key in gone:
        airflow.remove(key)
    return len(gone)
