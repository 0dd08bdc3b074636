"""What a task and a trigger ask of Airflow 2: its database. From Airflow 3 on they may ask a server only.

Every question is a session of its own. One that a signal interrupts is rolled back, so none is left half asked; but
what the main thread has written until then is locked, and another thread that writes the same would wait for it
(:func:`is_asked_by_main_thread`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from airflow.utils.session import create_session

_ASKED_BY_MAIN_THREAD = threading.Event()


@contextmanager
def _session() -> Iterator[Any]:
    is_main = threading.current_thread() is threading.main_thread()
    try:
        if is_main:
            _ASKED_BY_MAIN_THREAD.set()
        with create_session() as session:
            yield session
    finally:
        if is_main:
            _ASKED_BY_MAIN_THREAD.clear()


def is_asked_by_main_thread() -> bool:
    """Whether the main thread is in the middle of a question. Safe in a signal handler."""
    return _ASKED_BY_MAIN_THREAD.is_set()


def task_states(
    dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
) -> Mapping[str, Mapping[str, Any]]:
    """See :func:`.task_states.task_states`."""
    table: Any = TaskInstance
    found: dict[str, dict[str, Any]] = {}
    with _session() as session:
        rows = session.query(table.run_id, table.task_id, table.map_index, table.state).filter(
            table.dag_id == dag_id, table.task_id.in_(task_ids), table.run_id.in_(run_ids)
        )
        if map_index is not None:
            rows = rows.filter(table.map_index == map_index)
        for run_id, task_id, index, state in rows:
            found.setdefault(run_id, {})[task_id if index < 0 else f"{task_id}_{index}"] = state
    return found


def run_state(dag_id: str, run_id: str) -> str:
    """See :func:`.task_states.run_state`.

    :raises LookupError: if there is no such run.
    """
    table: Any = DagRun
    with _session() as session:
        found = session.query(table.state).filter(table.dag_id == dag_id, table.run_id == run_id).first()
    if found is None:
        raise LookupError(f"there is no run {run_id} of {dag_id}")
    return str(getattr(found[0], "value", found[0]))


class ReplacedTryError(Exception):
    """Airflow has another try of the task by now, or none. In the shape of what Airflow 3's supervisor reports."""

    error = SimpleNamespace(detail={"status_code": HTTPStatus.NOT_FOUND.value})


class DatabaseVariable:
    """A Variable as it is in the database, written in the name of one try; other backends are not asked.

    :param ti: the running task instance.
    :param description: what Airflow shows beside it.
    """

    def __init__(self, ti: Any, description: str) -> None:
        self._ti, self._description = ti, description

    def read(self, key: str) -> str | None:
        """What was written; ``None`` if nothing was.

        :raises ValueError: if it cannot be decrypted, which is not the same.
        """
        with _session() as session:
            if (found := _variable(session, key).first()) is None:
                return None
            value: str | None = found.get_val()
        if value is None:
            raise ValueError(f"Variable {key} cannot be decrypted: hosts have different keys ([core] fernet_key)")
        return value

    def write(self, key: str, value: str | None) -> None:
        """Write, or with ``None`` remove.

        :raises ReplacedTryError: if this is not Airflow's current try.
        """
        with _session() as session:
            self._check(session)
            _variable(session, key).delete()
            if value is not None:
                session.add(Variable(key=key, val=value, description=self._description))  # type: ignore[no-untyped-call]

    def _check(self, session: Any) -> None:
        """Nobody changes the task instance until the session ends."""
        ti, table = self._ti, TaskInstance  # type: Any, Any
        mine = [table.dag_id == ti.dag_id, table.run_id == ti.run_id]
        mine += [table.task_id == ti.task_id, table.map_index == ti.map_index]
        query = session.query(table.try_number, table.job_id, table.state).filter(*mine)
        number, job_id, state = query.with_for_update(read=True).first() or (None, None, "removed")
        # A job is one process of a try. A try that a user has marked is still the one that there is.
        is_mine = (str(number), str(job_id)) == (str(ti.try_number), str(ti.job_id))  # a task has its job's as a text
        if not is_mine or state in _BEFORE_A_TRY:
            raise ReplacedTryError(f"Airflow has another try of this task by now: {number}, {state}")


_BEFORE_A_TRY = (None, "scheduled", "queued", "up_for_retry", "up_for_reschedule", "deferred")


def _keys(prefix: str = "") -> list[str]:
    table: Any = Variable
    with _session() as session:
        # No `LIKE`, in which an underscore is any character, and which some databases read without case.
        return [key for (key,) in session.query(table.key) if key.startswith(prefix)]


Variables = SimpleNamespace(
    get=lambda key, default=None: Variable.get(key, default_var=default),
    set=Variable.set,
    delete=Variable.delete,
    keys=_keys,
)
"""Airflow's Variables, with the arguments that they have in Airflow 3; the keys are of those in the database."""


def _variable(session: Any, key: str) -> Any:
    return session.query(Variable).filter(Variable.key == key)
