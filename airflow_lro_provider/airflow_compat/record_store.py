"""Where a try of a task leaves its record for the next one.

====================  ==================================  ======================================================
                      Airflow 3.3                         Airflow 3.1, 3.2
====================  ==================================  ======================================================
it is kept in         the task state store                a Variable, whose key is a hash of the task instance
it survives           a retry, a SIGKILL, a clear         the same; and its run, until the sweep removes it
a try that is not     is rejected with its write          asks about itself before its write and after it: 404
the current one
what comes between    nothing                             a clear within those milliseconds: the next try, if it
                                                          has written its own record by then, loses that
====================  ==================================  ======================================================

All of it blocks, and raises what Airflow's supervisor reports: an error whose ``error.detail["status_code"]`` is the
HTTP code of Airflow's API.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol

from airflow.sdk.execution_time import comms

from airflow_lro_provider.airflow_compat import AIRFLOW

VARIABLE_PREFIX = "airflow_lro_provider_record_"
"""What the keys of the Variables begin with."""
_TASK = "task"
DESCRIPTION = "What a try of a task has left for the next one; see airflow-lro-provider."


class RecordStore(Protocol):
    """The part of Airflow's task state store that is needed."""

    def get(self, key: str) -> Any:
        """What was written; ``None`` if nothing was."""

    def set(self, key: str, value: Any) -> None:
        """Write plain JSON."""

    def delete(self, key: str) -> None:
        """Remove it. No-op if it is not there."""


def record_store(context: Any) -> RecordStore | None:
    """The store of the task instance that runs; ``None`` if there is none."""
    store: RecordStore | None = context.get("task_state_store")
    return VariableStore(context["ti"]) if store is None and AIRFLOW < (3, 3) else store


class VariableStore:
    """The same, kept in Airflow's Variables.

    It speaks to the supervisor itself: `Variable.get` takes an API server that does not respond for a Variable that is
    not there, and asks every secrets backend.
    """

    def __init__(self, ti: Any) -> None:
        index = -1 if ti.map_index is None else ti.map_index
        self._ti, self._task = ti, [ti.dag_id, ti.run_id, ti.task_id, index]
        self._key = VARIABLE_PREFIX + hashlib.sha256(json.dumps(self._task).encode()).hexdigest()[:32]

    def get(self, key: str) -> Any:
        """See :class:`RecordStore`."""
        response = _ask(comms.GetVariable(key=self._key))
        if isinstance(response, comms.ErrorResponse):
            if response.error.name == "VARIABLE_NOT_FOUND":
                return None
            raise RuntimeError(f"Airflow responded with {response.error.name}")
        kept = json.loads(response.value)
        return kept.get(key) if isinstance(kept, dict) else None

    def set(self, key: str, value: Any) -> None:
        """See :class:`RecordStore`."""
        # Airflow takes a Variable of any process, whatever its task is by now; but it does not know the id of a try
        # that has ended.
        self._check()
        kept = json.dumps({_TASK: self._task, key: value})
        _ask(comms.PutVariable(key=self._key, value=kept, description=DESCRIPTION))
        self._check()

    def delete(self, key: str) -> None:
        """See :class:`RecordStore`."""
        self._check()
        _ask(comms.DeleteVariable(key=self._key))

    def _check(self) -> None:
        _ask(comms.ValidateInletsAndOutlets(ti_id=self._ti.id))


def task_in(kept: Any) -> Any:
    """The task instance (its four ids) of what a :class:`VariableStore` has kept; ``None`` for anything else."""
    try:
        return json.loads(kept)[_TASK]
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def _ask(message: Any) -> Any:
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    return SUPERVISOR_COMMS.send(message)
