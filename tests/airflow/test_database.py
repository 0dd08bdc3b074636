"""What a task of Airflow 2 asks of its database: against the real tables, in SQLite."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.airflow_compat.record_store import VariableStore, record_store, status_of
from airflow_lro_provider.airflow_compat.task_process import (
    context_before_execute,
    is_asking_supervisor,
    is_in_line,
    try_id,
)

if AIRFLOW >= (3,):
    pytest.skip("from Airflow 3 on no task may ask the database", allow_module_level=True)

from airflow.models import DagModel, DagRun, TaskInstance, Variable
from airflow.models import taskinstance as module
from airflow.models.base import Base
from airflow.operators.empty import EmptyOperator
from airflow.utils import timezone
from airflow.utils.session import create_session

from airflow_lro_provider.airflow_compat import database, task_process
from airflow_lro_provider.airflow_compat.database import DatabaseVariable, Variables

RECORD = {"reference": {"name": "operations/o"}, "try_number": 1}
NOW = timezone.utcnow()


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """All of Airflow's tables, empty but for one run of one Dag."""
    import_module("airflow.providers.fab.auth_manager.models")  # tables that others refer to
    with create_session() as session:
        Base.metadata.create_all(session.get_bind())
        session.add(DagModel(dag_id="d"))
        session.flush()
        session.add(DagRun(dag_id="d", run_id="r", execution_date=NOW, run_type="manual", state="running"))
    yield
    with create_session() as session:
        Base.metadata.drop_all(session.get_bind())  # tasks that are played are not in it


def add(task_id: str = "t", state: str | None = "running", index: int = -1) -> Any:
    """A task instance in the database, and what its process has of it."""
    with create_session() as session:
        row = TaskInstance(EmptyOperator(task_id=task_id), run_id="r", state=state, map_index=index)
        row.dag_id, row.try_number, row.job_id = "d", 1, 7
        session.add(row)
    ids = {"dag_id": "d", "run_id": "r", "task_id": task_id, "map_index": index}
    return SimpleNamespace(**ids, try_number=1, job_id="7")


def change(**fields: Any) -> None:
    """What Airflow does with the task meanwhile."""
    with create_session() as session:
        session.query(TaskInstance).update(fields)


def test_states_are_those_of_the_tasks_that_are_asked_for() -> None:
    """One that does not exist is left out; one without a state is there."""
    add("a"), add("b", None), add("other", "failed")
    assert database.task_states("d", ["a", "b", "no"], ["r", "no"], -1) == {"r": {"a": "running", "b": None}}
    assert database.task_states("no", ["a"], ["r"], -1) == {}


def test_states_of_a_mapped_task() -> None:
    """All of its instances, or one."""
    add("m", index=0), add("m", "failed", index=1)
    assert database.task_states("d", ["m"], ["r"], None) == {"r": {"m_0": "running", "m_1": "failed"}}
    assert database.task_states("d", ["m"], ["r"], 1) == {"r": {"m_1": "failed"}}


def test_the_state_of_a_run_is_a_text() -> None:
    """And there is no state of a run that there is not."""
    assert database.run_state("d", "r") == "running"
    with pytest.raises(LookupError):
        database.run_state("d", "no")


def test_the_next_try_reads_what_a_try_has_left() -> None:
    """It is another process of the same task instance."""
    store = record_store({"ti": add()})
    assert store is not None
    store.set("armed", RECORD)
    change(try_number=2, job_id=8)
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=2, job_id="8")
    following = VariableStore(ti, DatabaseVariable(ti, "a record"))
    assert following.get("armed") == RECORD
    following.set("armed", {"new": True})
    assert following.get("armed") == {"new": True}
    following.delete("armed")
    assert following.get("armed") is None


@pytest.mark.parametrize(
    "fields",
    [{"try_number": 2, "job_id": 8}, {"job_id": 8}, {"state": None}, {"state": "up_for_retry"}, {"state": "queued"}],
    ids=str,
)
@pytest.mark.parametrize("verb", ["set", "delete"])
def test_a_try_that_airflow_has_replaced_changes_nothing(fields: dict[str, Any], verb: str) -> None:
    """Its write is rejected as Airflow 3 does: 404."""
    ti = add()
    store = VariableStore(ti, DatabaseVariable(ti, "a record"))
    store.set("armed", RECORD)
    change(**fields)
    with pytest.raises(Exception, match="another try") as caught:
        store.set("armed", {}) if verb == "set" else store.delete("armed")
    assert status_of(caught.value) == 404
    assert store.get("armed") == RECORD


def test_a_test_run_has_no_record() -> None:
    """`airflow tasks test` may have the number of a real try: what that has left is not its own."""
    ti = add(state="scheduled")
    ti.job_id = None
    assert record_store({"ti": ti}) is None
    assert try_id(ti) == try_id(ti)
    assert uuid.UUID(try_id(ti)), "it looks like no other of Airflow 2"


def test_a_record_that_cannot_be_decrypted_is_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host has another key: what an earlier try has left is not known, and nothing is started beside it."""
    ti = add()
    store = VariableStore(ti, DatabaseVariable(ti, "a record"))
    store.set("armed", RECORD)
    monkeypatch.setattr(Variable, "get_val", lambda self: None)
    with pytest.raises(ValueError, match="fernet_key"):
        store.get("armed")


@pytest.mark.parametrize("state", ["failed", "success", "restarting"])
def test_a_try_that_was_marked_is_still_the_one_that_there_is(state: str) -> None:
    """It writes what it was killed for."""
    ti = add()
    change(state=state)
    store = VariableStore(ti, DatabaseVariable(ti, "a record"))
    store.set("armed", RECORD)
    assert store.get("armed") == RECORD


def test_a_task_instance_that_was_deleted_leaves_nothing() -> None:
    """There is no try of it."""
    ti = add()
    with create_session() as session:
        session.query(TaskInstance).delete()
    with pytest.raises(Exception, match="another try"):
        VariableStore(ti, DatabaseVariable(ti, "a record")).set("armed", RECORD)


def test_variables_are_those_of_airflow_3() -> None:
    """By the same names and arguments; listed by what their keys begin with, underscores and all."""
    Variables.set("a_1", "x", description="d")
    Variables.set("ab1", "y")
    assert Variables.get("a_1") == "x"
    assert Variables.get("no", default=None) is None
    assert Variables.keys("a_") == ["a_1"]
    Variables.delete("a_1")
    Variables.delete("a_1")
    assert Variables.keys("a_") == []


def test_a_question_of_the_main_thread_is_seen() -> None:
    """Another thread's is none of its: nothing that it holds is in the way."""
    seen: list[bool] = []
    with database._session():
        assert is_asking_supervisor()
    assert not is_asking_supervisor()

    def ask() -> None:
        with database._session():
            seen.append(is_asking_supervisor())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize(("job_id", "expected"), [(None, True), (7, False)])
def test_a_task_without_a_job_runs_in_line(job_id: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`airflow dags test`: no process looks after it."""
    monkeypatch.setattr(task_process, "_without_job", [])
    monkeypatch.setattr(module, "_CURRENT_CONTEXT", [])
    assert not is_in_line()
    monkeypatch.setattr(module, "_CURRENT_CONTEXT", [{"ti": SimpleNamespace(job_id=job_id)}])
    assert is_in_line() is expected


def test_a_task_that_is_killed_before_it_is_called_is_known_by_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its context is not there yet: `pre_execute` runs without one."""
    monkeypatch.setattr(module, "_CURRENT_CONTEXT", [])
    ti = SimpleNamespace(next_method=None)

    def signal_handler(self: Any) -> Any:
        return context_before_execute()

    assert signal_handler(ti) == {"ti": ti}
    assert context_before_execute() is None
