"""Where a try leaves its record on an Airflow that has no task state store: against a supervisor that is played."""

from __future__ import annotations

import functools
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_lro_provider.airflow_compat import AIRFLOW, record_store
from airflow_lro_provider.airflow_compat.record_store import (
    VARIABLE_PREFIX,
    SupervisorVariable,
    TaskState,
    UpgradedStore,
    VariableStore,
    status_of,
)
from airflow_lro_provider.attempt import record
from airflow_lro_provider.attempt.role import Role
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import OperationWaitError
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.ownership import evidence
from tests.airflow.played import Log, PlayedTry, Store
from tests.airflow.versions import may_execute

if AIRFLOW < (3,):
    pytest.skip("Airflow 2 has no supervisor", allow_module_level=True)

from airflow.sdk.execution_time import comms, task_runner

RECORD = {"reference": {"name": "operations/o"}, "try_number": 1}


class RejectedError(Exception):
    """As the supervisor reports what Airflow's API has rejected."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.error = SimpleNamespace(detail={"status_code": status})


class Supervisor:
    """Its part of the conversation.

    :param current: the ids of the tries that Airflow has now.
    """

    def __init__(self, *current: Any) -> None:
        self.current = set(current)
        self.variables: dict[str, str] = {}
        self.forgets_after_write = False

    def send(self, msg: Any) -> Any:
        """Answer one message."""
        if isinstance(msg, comms.ValidateInletsAndOutlets):
            if msg.ti_id not in self.current:
                raise RejectedError(404)
        elif isinstance(msg, comms.PutVariable):
            self.variables[msg.key] = str(msg.value)
            if self.forgets_after_write:
                self.current.clear()
        elif isinstance(msg, comms.DeleteVariable):
            self.variables.pop(msg.key, None)
        else:
            assert isinstance(msg, comms.GetVariable)
            if msg.key not in self.variables:
                return comms.ErrorResponse(error=comms.ErrorType.VARIABLE_NOT_FOUND)
            return comms.VariableResult(key=msg.key, value=self.variables[msg.key])
        return None


def ti(map_index: int | None = -1, number: int = 1) -> Any:
    """One try of a task instance."""
    task = {"dag_id": "d", "run_id": "r/1 é", "task_id": "t", "map_index": map_index}
    return SimpleNamespace(id=uuid4(), try_number=number, **task)


def variable_of(one: Any) -> VariableStore:
    """The store of a try below Airflow 3.3."""
    return VariableStore(one, SupervisorVariable(one))


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """Airflow, played."""
    played = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", played, raising=False)
    return played


def store_of(supervisor: Supervisor, one: Any) -> VariableStore:
    """The store of a try that is the current one."""
    supervisor.current.add(one.id)
    return variable_of(one)


def test_the_next_try_reads_what_a_try_has_left(supervisor: Supervisor) -> None:
    """It has another id; the task instance is the same."""
    store_of(supervisor, ti()).set("armed", RECORD)
    [key] = supervisor.variables
    assert key.startswith(VARIABLE_PREFIX)
    following = store_of(supervisor, ti(None))
    assert following.get("armed") == RECORD
    following.delete("armed")
    assert (following.get("armed"), supervisor.variables) == (None, {})


def test_instances_of_a_mapped_task_have_a_record_each(supervisor: Supervisor) -> None:
    """And none that is not theirs."""
    store_of(supervisor, ti(0)).set("armed", RECORD)
    assert store_of(supervisor, ti(1)).get("armed") is None


@pytest.mark.parametrize("verb", ["set", "delete"])
def test_a_try_that_airflow_has_replaced_changes_nothing(supervisor: Supervisor, verb: str) -> None:
    """What the next try has written stays; the error has the code of Airflow's API."""
    outdated = variable_of(ti())
    store_of(supervisor, ti()).set("armed", RECORD)
    before = dict(supervisor.variables)
    with pytest.raises(RejectedError) as caught:
        outdated.set("armed", {}) if verb == "set" else outdated.delete("armed")
    assert status_of(caught.value) == 404
    assert supervisor.variables == before


def test_a_try_that_is_replaced_while_it_writes_hears_of_it(supervisor: Supervisor) -> None:
    """Its write is no proof then that it is the current one."""
    store = store_of(supervisor, ti())
    supervisor.forgets_after_write = True
    with pytest.raises(RejectedError):
        store.set("armed", RECORD)


@pytest.mark.parametrize("error", [comms.ErrorType.API_SERVER_ERROR, comms.ErrorType.GENERIC_ERROR])
def test_an_airflow_that_does_not_respond_is_no_record_that_is_not_there(
    supervisor: Supervisor, error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Variable.get` would take the one for the other."""
    monkeypatch.setattr(supervisor, "send", lambda msg: comms.ErrorResponse(error=error))
    with pytest.raises(RuntimeError, match=error.name):
        variable_of(ti()).get("armed")


@pytest.mark.parametrize(
    ("version", "given", "kind"),
    [
        ((3, 3), True, TaskState),
        ((3, 3), False, type(None)),
        ((3, 2), False, VariableStore),
        ((3, 1), False, VariableStore),
    ],
)
def test_each_version_has_its_store(version: Any, given: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.3 hands one to the task."""
    monkeypatch.setattr(record_store, "AIRFLOW", version)
    context = {"ti": ti(), **({"task_state_store": Store()} if given else {})}
    assert type(record_store.record_store(context)) is kind


def test_after_an_upgrade_the_next_try_finds_what_was_left_in_a_variable(supervisor: Supervisor) -> None:
    """And removes it with its own; a first try asks for no Variable."""
    store_of(supervisor, ti()).set("armed", RECORD)
    following = ti(number=2)
    supervisor.current.add(following.id)
    store = UpgradedStore(Store(), variable_of(following))
    assert store.get("armed") == RECORD
    store.set("armed", {"new": True})
    assert store.get("armed") == {"new": True}
    assert supervisor.variables == {}  # else the process that resumes this try, and removes its record, would leave it
    store.delete("armed")
    assert (store.get("armed"), supervisor.variables) == (None, {})


def test_only_a_process_that_others_came_before_looks_behind_the_task_state_store() -> None:
    """An earlier Airflow may have kept a record in a Variable: of an earlier try, or of this one, which deferred."""
    of, given = record_store.record_store, {"task_state_store": Store()}
    assert isinstance(of({"ti": ti(number=2), **given}), UpgradedStore)
    assert isinstance(of({"ti": ti(), **given}, is_resumed=True), UpgradedStore)
    assert isinstance(of({"ti": ti(), "task_reschedule_count": 1, **given}), UpgradedStore)
    assert isinstance(of({"ti": ti(), "task_reschedule_count": 0, **given}), TaskState)


def test_a_record_lives_as_long_as_its_task_instance() -> None:
    """An Airflow that cleans its task states up after some days would lose it while its task waits."""

    class Kept(Store):
        def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
            assert retention is not None
            assert retention > timedelta(days=3650)
            super().set(key, value)

    kept = Kept()
    store = record_store.record_store({"ti": ti(), "task_state_store": kept})
    assert store is not None
    store.set("armed", RECORD)
    assert store.get("armed") == kept["armed"] == RECORD
    store.delete("armed")
    assert kept == {}


def test_a_mark_as_success_does_not_delete_a_record(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `clear_on_success` Airflow would delete what is in its store, and with it that the task was killed."""
    given = Store(armed={"of": "an earlier try, before that was set"})
    monkeypatch.setattr(record_store, "SupervisorVariable", SupervisorVariable)
    this = ti(number=2)
    supervisor.current.add(this.id)
    of = functools.partial(record_store.record_store, {"ti": this, "task_state_store": given})
    monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
    store = of()
    assert store is not None
    assert store.get("armed") == {"of": "an earlier try, before that was set"}
    store.set("armed", RECORD)
    given.clear()
    assert of().get("armed") == RECORD  # type: ignore[union-attr]


def test_a_task_that_may_read_no_variables_has_left_none(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a task state store; where the record itself is a Variable, a denial is no record that is not there."""
    denied = SimpleNamespace(name="PERMISSION_DENIED")
    monkeypatch.setattr(supervisor, "send", lambda msg: comms.ErrorResponse.model_construct(error=denied))
    assert UpgradedStore(Store(), variable_of(ti(number=2))).get("armed") is None
    with pytest.raises(PermissionError, match="PERMISSION_DENIED"):
        variable_of(ti()).get("armed")


@pytest.mark.parametrize("ends", ["an error, with a retry", "its trigger breaks, without one"])
def test_a_task_that_was_deferred_before_an_upgrade_finds_its_record_after_it(
    lro_emulator: Emulator, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Also in its first try: left to the retry that there is, and cancelled where there is none."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    monkeypatch.setattr(record_store, "SupervisorVariable", SupervisorVariable)
    lro_emulator.script(duration=None)
    retries = int(ends.startswith("an error"))
    this = PlayedTry(lro_emulator, Store(), max_tries=retries)
    supervisor.current.add(this.ti.id)
    method = "projects/p/locations/l/instances?instanceId=i"
    operator, after = (
        RunOperationOperator(task_id="t", service="datafusion", method=method, deferrable=True) for _ in range(2)
    )
    may_execute(operator)
    with monkeypatch.context() as before:
        before.setattr(record_store, "record_store", lambda *_, **__: variable_of(this.ti))
        before.setattr(record, "record_store", lambda *_, **__: variable_of(this.ti))
        with pytest.raises(TaskDeferred) as caught:
            operator.execute(this.context)
    operator._get_guard().release()
    assert (len(supervisor.variables), this.store) == (1, {})

    may_execute(after)
    known = dict(caught.value.kwargs or {})
    lost = {"status": "lost", "message": "m", "owner": known["token"]}
    run, given = after.execute_complete, {"event": lost, **known}
    if not retries:
        run, given = after.resume_execution, {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure"}}
    with pytest.raises(OperationWaitError if retries else Exception, match=r"m|Trigger failure"):
        run(context=this.context, **given)
    assert len(lro_emulator.requests(verb="cancel")) == 1 - retries


def test_a_record_that_cannot_be_decrypted_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a first try: its run was made anew. Nothing is started beside what it may name."""

    class Locked(Store):
        def get(self, *_: Any) -> Any:
            raise ValueError("cannot be decrypted")

    monkeypatch.setattr(record, "READ_PAUSES_SECONDS", ())
    monkeypatch.setattr(record, "WRITE_PAUSE_SECONDS", 0.0)
    this = PlayedTry(None, Locked())  # type: ignore[arg-type]
    role = Role(None, None, True, True, False, keeps_record=True, needs_record=True, retry_policy=None)
    mine = record.AttemptRecord(this.context, Log(), role)
    assert mine.read() is None
    assert mine.is_unread
