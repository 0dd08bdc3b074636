"""The operator that cancels one operation, in one process: Airflow's side is played, the server is real."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import FinalOperationFailedError, OperationInputError
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.errors import PermissionDeniedError, UnauthenticatedError
from airflow_lro_provider.operators.operations import CancelOperationOperator
from tests.airflow.played import Log, PlayedTry, Store, replace_the_key
from tests.airflow.versions import RetryDecision, RetryPolicy, may_execute, since_3_3


@pytest.fixture(autouse=True)
def connection(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that the operator uses."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())


def operator(name: str, **arguments: Any) -> CancelOperationOperator:
    """One that defers."""
    given = {"service": "datafusion", "deferrable": True, "poll_interval": 0.01, **arguments}
    made = CancelOperationOperator(task_id="t", operation_name=name, **given)
    may_execute(made)
    return made


@pytest.mark.parametrize("named", ["the same", "another"])
def test_the_event_of_another_task_does_not_change_the_outcome(
    lro_emulator: Emulator, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed for nothing, it waits on for the operation that it has cancelled, whatever its template says by now."""
    name = lro_emulator.create("datafusion", duration=None, cancel="ignore")
    later = name if named == "the same" else lro_emulator.create("datafusion", duration=0)
    context: Any = PlayedTry(lro_emulator, Store()).context
    with pytest.raises(TaskDeferred) as deferred:
        operator(name).execute(context)
    with pytest.raises(TaskDeferred) as again:
        operator(later).execute_complete(context, {"status": "gone", "owner": "?"}, **deferred.value.kwargs)
    handed_over = dict(again.value.kwargs)
    assert handed_over["reference"]["name"] == name
    done = lro_emulator.finish("datafusion", name).operation
    event = {"status": "finished", "operation": done, "owner": handed_over["token"]}
    log = Log()
    monkeypatch.setattr(CancelOperationOperator, "log", log)
    result = operator(later).execute_complete(context, event, **handed_over)
    assert (result["outcome"], result["operation"]["name"]) == ("COMPLETED_DESPITE_CANCEL", name)
    assert log.lines[-1].startswith("COMPLETED_DESPITE_CANCEL: ")
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_an_operation_that_vanishes_meanwhile_is_not_found(lro_emulator: Emulator) -> None:
    """The same outcome in this process as after a deferral, and for `fail_on` to judge."""
    name = lro_emulator.create("datafusion", duration=None, cancel="ignore")
    context: Any = PlayedTry(lro_emulator, Store()).context

    def forget() -> None:
        while lro_emulator.operation("datafusion", name).polls < 4:
            time.sleep(0.005)
        lro_emulator.store.delete("datafusion", name)

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    here = operator(name, deferrable=False, fail_on=()).execute(context)
    forgetting.join()
    other = lro_emulator.create("datafusion", duration=None, cancel="ignore")
    with pytest.raises(TaskDeferred) as deferred:
        operator(other, fail_on=()).execute(context)
    handed_over = dict(deferred.value.kwargs)
    event = {"status": "gone", "message": "404", "owner": handed_over["token"]}
    there = operator(other, fail_on=()).execute_complete(context, event, **handed_over)
    assert here == {"outcome": "NOT_FOUND", "operation": {"name": name}}
    assert there == {"outcome": "NOT_FOUND", "operation": {"name": other}}


def test_trouble_of_our_own_is_waited_out(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row A10: a token that is not accepted, and a connection that has another one then."""
    name = lro_emulator.create("datafusion", duration=None, cancel_delay=0.1)
    replace_the_key(lro_emulator, monkeypatch, "cancel")
    context: Any = PlayedTry(lro_emulator, Store()).context
    assert operator(name, deferrable=False).execute(context)["outcome"] == "CANCELLED"


def test_trouble_of_our_own_ends_with_the_timeout(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails with what is missing, and a retry begins anew."""
    monkeypatch.setattr(polling, "TROUBLE_PAUSE_SECONDS", 0.01)
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(401, verb="cancel", times=None)
    with pytest.raises(UnauthenticatedError, match="401"):
        operator(name, timeout=0.3).execute(PlayedTry(lro_emulator, Store()).context)


@since_3_3
def test_a_failure_leaves_the_retry_policy_to_airflow(lro_emulator: Emulator) -> None:
    """A policy may have a memory, and a task that can lose no operation has nothing to ask it."""
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(403, verb="cancel")
    asked: list[Any] = []

    class Policy(RetryPolicy):
        def evaluate(self, **given: Any) -> RetryDecision:
            asked.append(given)
            return RetryDecision.default()

    task = operator(name)
    task.retry_policy = Policy()
    with pytest.raises(PermissionDeniedError):
        task.execute(PlayedTry(lro_emulator, Store()).context)
    assert asked == []


@pytest.mark.parametrize(("fail_on", "fails"), [((), False), (("COMPLETED_DESPITE_CANCEL",), True)])
def test_one_that_an_older_release_deferred_has_requested_its_cancel(
    lro_emulator: Emulator, fail_on: tuple[str, ...], fails: bool
) -> None:
    """That handed over its token only; it deferred, as this one, after the request alone."""
    name = lro_emulator.create("datafusion", duration=0, response={})
    task = operator(name)
    task.fail_on = frozenset(fail_on)
    event = {"status": "finished", "operation": lro_emulator.operation("datafusion", name).operation, "owner": "mine"}
    context = PlayedTry(lro_emulator, Store()).context
    with pytest.raises(FinalOperationFailedError) if fails else contextlib.nullcontext():
        assert task.execute_complete(context, event, token="mine")["outcome"] == "COMPLETED_DESPITE_CANCEL"


def test_one_that_an_older_release_deferred_says_what_is_wrong_with_its_name(lro_emulator: Emulator) -> None:
    """Its template names nothing by now, and nothing was handed over."""
    task = operator(lro_emulator.create("datafusion"))
    task.operation_name = "projects/p"
    with pytest.raises(OperationInputError, match="projects/p"):
        task.execute_complete(PlayedTry(lro_emulator, Store()).context, {"status": "gone"}, token="mine")
