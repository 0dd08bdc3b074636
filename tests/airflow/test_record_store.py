"""Where a try leaves its record on an Airflow that has no task state store: against a supervisor that is played."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from airflow_lro_provider.airflow_compat import AIRFLOW, record_store
from airflow_lro_provider.airflow_compat.record_store import (
    VARIABLE_PREFIX,
    SupervisorVariable,
    UpgradedStore,
    VariableStore,
    status_of,
)
from tests.airflow.played import Store

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
    [((3, 3), True, dict), ((3, 3), False, type(None)), ((3, 2), False, VariableStore), ((3, 1), False, VariableStore)],
)
def test_each_version_has_its_store(version: Any, given: bool, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.3 hands one to the task."""
    monkeypatch.setattr(record_store, "AIRFLOW", version)
    context = {"ti": ti(), **({"task_state_store": {}} if given else {})}
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


def test_only_a_next_try_looks_behind_the_task_state_store() -> None:
    """An earlier Airflow may have kept a record in a Variable for it."""
    of = record_store.record_store
    assert isinstance(of({"ti": ti(number=2), "task_state_store": Store()}), UpgradedStore)
    assert isinstance(of({"ti": ti(), "task_state_store": Store()}), Store)


def test_a_task_that_may_read_no_variables_has_left_none(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a task state store; where the record itself is a Variable, a denial is no record that is not there."""
    denied = SimpleNamespace(name="PERMISSION_DENIED")
    monkeypatch.setattr(supervisor, "send", lambda msg: comms.ErrorResponse.model_construct(error=denied))
    assert UpgradedStore(Store(), variable_of(ti(number=2))).get("armed") is None
    with pytest.raises(PermissionError, match="PERMISSION_DENIED"):
        variable_of(ti()).get("armed")
