"""Where a try of a task leaves its record for the next one.

====================  =========================  ==============================  ==============================
                      Airflow 3.3                Airflow 3.1, 3.2                Airflow 2.11
====================  =========================  ==============================  ==============================
it is kept in         the task state store       a Variable, whose key is a hash of the task instance
it survives           a retry, a SIGKILL,        the same; and its run, until the sweep removes it
                      a clear; "mark success"
                      only in a Variable, if
                      ``[state_store]
                      clear_on_success`` is on
a try that is not     is rejected with its       asks about itself before its    sees it in the transaction
the current one       write                      write and after it: 404         that writes
what comes between    nothing                    a clear within those            nothing
                                                 milliseconds: the next try, if
                                                 it has written its own record
                                                 by then, loses that
====================  =========================  ==============================  ==============================

A record that an older Airflow has kept in a Variable is found by the next try after an upgrade, too.

All of it blocks, and raises what Airflow reports: :func:`status_of` has the HTTP code of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from datetime import timedelta
from typing import Any, Protocol

from airflow.providers.common.compat.sdk import conf

from airflow_lro_provider.airflow_compat import AIRFLOW

VARIABLE_PREFIX = "airflow_lro_provider_record_"
"""What the keys of the Variables begin with."""
_TASK = "task"
LIFETIME = timedelta(days=36_500)
DESCRIPTION = "What a try of a task has left for the next one; see airflow-lro-provider."


class RecordStore(Protocol):
    """The part of Airflow's task state store that is needed."""

    def get(self, key: str) -> Any:
        """What was written; ``None`` if nothing was."""

    def set(self, key: str, value: Any) -> None:
        """Write plain JSON."""

    def delete(self, key: str) -> None:
        """Remove it. No-op if it is not there."""


def status_of(error: Exception) -> int | None:
    """The HTTP code with which Airflow has rejected something; ``None`` if it did not respond."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return detail.get("status_code") if isinstance(detail, dict) else None


def record_store(context: Any, *, is_resumed: bool = False) -> RecordStore | None:
    """The store of the task instance that runs; ``None`` if there is none.

    :param is_resumed: whether this try has deferred: perhaps before an upgrade.
    """
    ti = context["ti"]
    if (given := context.get("task_state_store")) is not None:
        store, variable = TaskState(given), VariableStore(ti, SupervisorVariable(ti))
        if conf.getboolean("state_store", "clear_on_success", fallback=False):
            return UpgradedStore(variable, store)
        is_first = ti.try_number == 1 and not is_resumed and not context.get("task_reschedule_count")
        return store if is_first else UpgradedStore(store, variable)
    if AIRFLOW >= (3, 3):
        return None
    if AIRFLOW >= (3,):
        return VariableStore(ti, SupervisorVariable(ti))
    if ti.job_id is None:
        return None  # `tasks test` and `dags test`: what a real try has left is not theirs
    from airflow_lro_provider.airflow_compat.database import DatabaseVariable

    return VariableStore(ti, DatabaseVariable(ti, DESCRIPTION))


class TaskState:
    """Airflow's task state store. What is kept there goes with the task instance, and not after a number of days."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.get, self.delete = store.get, store.delete

    def set(self, key: str, value: Any) -> None:
        """See :class:`RecordStore`."""
        self._store.set(key, value, retention=LIFETIME)


class UpgradedStore:
    """A store, and the one where records were before an upgrade, or before a setting was changed.

    What was found there is removed with the first write: it must not be found again when that record is gone.
    """

    def __init__(self, store: RecordStore, before: RecordStore) -> None:
        self._store, self._before, self._is_before = store, before, False

    def get(self, key: str) -> Any:
        """See :class:`RecordStore`."""
        found = self._store.get(key)
        if found is None:
            with contextlib.suppress(PermissionError):  # whoever may read no Variables has written none either
                found = self._before.get(key)
            self._is_before = found is not None
        return found

    def set(self, key: str, value: Any) -> None:
        """See :class:`RecordStore`."""
        self._store.set(key, value)
        self._forget(key)

    def delete(self, key: str) -> None:
        """See :class:`RecordStore`."""
        self._store.delete(key)
        self._forget(key)

    def _forget(self, key: str) -> None:
        if self._is_before:
            with contextlib.suppress(Exception):  # the next write tries it again
                self._before.delete(key)
                self._is_before = False


class _Variable(Protocol):
    """One Variable, in the name of a try."""

    def read(self, key: str) -> str | None:
        """What was written; ``None`` if nothing was."""

    def write(self, key: str, value: str | None) -> None:
        """Write, or with ``None`` remove.

        :raises Exception: whose :func:`status_of` is 404 if Airflow has another try by now.
        """


class VariableStore:
    """A task state store, kept in Airflow's Variables.

    :param ti: the running task instance.
    :param variable: how a Variable is asked for: `Variable.get` takes an API server that does not respond for a
        Variable that is not there, and asks every secrets backend.
    """

    def __init__(self, ti: Any, variable: _Variable) -> None:
        index = -1 if ti.map_index is None else ti.map_index
        self._variable, self._task = variable, [ti.dag_id, ti.run_id, ti.task_id, index]
        self._key = VARIABLE_PREFIX + hashlib.sha256(json.dumps(self._task).encode()).hexdigest()[:32]

    def get(self, key: str) -> Any:
        """See :class:`RecordStore`."""
        if (stored := self._variable.read(self._key)) is None:
            return None
        kept = json.loads(stored)
        return kept.get(key) if isinstance(kept, dict) else None

    def set(self, key: str, value: Any) -> None:
        """See :class:`RecordStore`."""
        self._variable.write(self._key, json.dumps({_TASK: self._task, key: value}))

    def delete(self, key: str) -> None:
        """See :class:`RecordStore`."""
        self._variable.write(self._key, None)


class SupervisorVariable:
    """A Variable of Airflow 3, asked of the supervisor."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def read(self, key: str) -> str | None:
        """See :class:`_Variable`."""
        from airflow.sdk.execution_time import comms

        response = _ask(comms.GetVariable(key=key))
        if isinstance(response, comms.ErrorResponse):
            if response.error.name == "VARIABLE_NOT_FOUND":
                return None
            error = PermissionError if response.error.name == "PERMISSION_DENIED" else RuntimeError
            raise error(f"Airflow responded with {response.error.name}")
        value: str | None = response.value
        return value

    def write(self, key: str, value: str | None) -> None:
        """See :class:`_Variable`."""
        from airflow.sdk.execution_time import comms

        # Airflow takes a Variable of any process, whatever its task is by now; but it does not know the id of a try
        # that has ended.
        check = comms.ValidateInletsAndOutlets(ti_id=self._ti.id)
        _ask(check)
        if value is None:
            _ask(comms.DeleteVariable(key=key))
        else:
            _ask(comms.PutVariable(key=key, value=value, description=DESCRIPTION))
            _ask(check)


def task_in(kept: Any) -> Any:
    """The task instance (its four ids) of what a :class:`VariableStore` has kept; ``None`` for anything else."""
    try:
        return json.loads(kept)[_TASK]
    except (TypeError, ValueError, KeyError, IndexError):
        return None


def _ask(message: Any) -> Any:
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    return SUPERVISOR_COMMS.send(message)
