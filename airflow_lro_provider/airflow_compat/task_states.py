"""What Airflow knows of tasks and runs: requested through the supervisor, or (2.11) of the database.

All of it blocks, and may raise anything. None of it is public: read in Airflow 3.3.2, and there since 3.0; and in
2.11.2. All work in a task process and, from a thread (:func:`.trigger_loop.ask_in_thread`), in a triggerer. The task
state store does not work in a triggerer: that of Airflow 3.3 does not understand its messages, and the request would
hang for ever.

===========================  ======================  ==================================  =======================
                             Airflow 3.2, 3.3        Airflow 3.1                         Airflow 2.11
===========================  ======================  ==================================  =======================
who is asked                 the supervisor          the supervisor                      the database
two threads of a task ask    one waits for the       each may get the other's response;  each in its own session
at a time                    other: a lock           so importing this gives the
                                                     channel such a lock
a task lists Variables       3.3 only                no                                  yes
===========================  ======================  ==================================  =======================

Importing this takes seconds (``task_runner``): import it before anything waits for it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import XCom

from airflow_lro_provider.airflow_compat import AIRFLOW, TASKS_LIST_VARIABLES


def task_states(
    dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
) -> Mapping[str, Mapping[str, Any]]:
    """The states of task instances, by run id and then by task id (``TASK_INDEX`` of a mapped one).

    A task instance that does not exist is left out; one without a state is ``None``.

    :param map_index: -1 for those that are not mapped, ``None`` for all.
    """
    if AIRFLOW < (3,):
        return database.task_states(dag_id, task_ids, run_ids, map_index)
    found: Mapping[str, Mapping[str, Any]] = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id, task_ids=list(task_ids), run_ids=list(run_ids), map_index=map_index
    )
    return found


def run_state(dag_id: str, run_id: str) -> str:
    """The state of a Dag run. The task SDK gives a member of an enum, whose `str` is not its value."""
    if AIRFLOW < (3,):
        return database.run_state(dag_id, run_id)
    state: Any = RuntimeTaskInstance.get_dagrun_state(dag_id, run_id)
    return str(getattr(state, "value", state))


def xcom(key: str, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
    """An XCom of one task instance; ``None`` if there is none."""
    return XCom.get_one(key=key, dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)


def variables() -> Any:
    """Airflow's Variables. On 3.1 and 3.2 their ``keys`` raises a :class:`NotImplementedError`."""
    if AIRFLOW < (3,):
        return database.Variables
    from airflow.providers.common.compat.sdk import Variable

    if TASKS_LIST_VARIABLES:
        return Variable

    class Unlisted(Variable):
        @classmethod
        def keys(cls, prefix: str | None = None) -> Any:
            raise NotImplementedError(
                "Airflow lets a task list Variables from 3.3 on; below, sweep from outside (airflow-lro sweep)"
            )

    return Unlisted


def _ask_one_by_one(channel: Any) -> None:
    """Give the channel the lock that it has from Airflow 3.2 on, under the same name."""
    lock, send = threading.Lock(), channel.send

    @functools.wraps(send)
    def send_alone(self: Any, msg: Any) -> Any:
        with lock:
            return send(self, msg)

    channel._thread_lock, channel.send = lock, send_alone


if AIRFLOW < (3,):
    from airflow_lro_provider.airflow_compat import database
else:
    from airflow.sdk.execution_time.comms import CommsDecoder
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    if AIRFLOW < (3, 2):
        _ask_one_by_one(CommsDecoder)
