"""Tasks that start their operation, on a real Airflow: one operation each, whatever happens to the task."""

from __future__ import annotations

import os
import secrets
import signal

import psutil

from tests.e2e.bed.lab import Lab
from tests.e2e.bed.starting import begin, operations_of
from tests.e2e.bed.waiting import wait_until


def test_every_shape_returns_the_response(lab: Lab) -> None:
    """Running, deferred and decorated: the response of the operation is the task's result."""
    script = {"duration": 6, "response": {"name": "made"}}
    runs = [begin(lab, dag_id, **script) for dag_id in ("run", "run_deferred")]
    runs.append(begin(lab, "decorated", "datafusion", **script))
    for run in runs:
        run.reaches("success")
        assert run.result() == {"name": "made"}
        assert (len(operations_of(run)), run.cancels) == (1, 0)


def test_a_decorated_function_can_be_mapped(lab: Lab) -> None:
    """Three operations of one decorated function, deferred, and their results used below."""
    lab.emulator.script("datafusion", duration=6)
    run_id = lab.airflow.trigger("decorated_mapped", conf={"key": "mapped"})
    assert lab.airflow.wait_for_run("decorated_mapped", run_id) == "success"
    targets = lab.airflow.xcom("decorated_mapped", run_id, "gather")
    assert [target.rpartition("/")[2] for target in targets] == ["mapped-1", "mapped-2", "mapped-3"]


def test_kills_cancel_and_a_clear_starts_afresh(lab: Lab) -> None:
    """Marked failed: cancelled. Cleared: the old one is cancelled, and only after its end a fresh one starts."""
    failed = [begin(lab, "run"), begin(lab, "run_deferred"), begin(lab, "decorated", "datafusion")]
    cleared = [begin(lab, "run", cancel_delay=2), begin(lab, "run_deferred", cancel_delay=2)]
    for run in (*failed, *cleared):
        run.waits()
    for run in failed:
        lab.kill(run, "failed")
    for run in cleared:
        lab.kill(run, "clear")
    for run in failed:
        assert run.is_cancelled().cancels == 1
    for run in cleared:
        run.is_cancelled()
        [old, new] = wait_until(lambda run=run: len(both := operations_of(run)) == 2 and both, "a fresh one starts")
        times = {view.operation["name"]: view.operation["metadata"] for view in lab.emulator.operations(run.service)}
        assert times[new]["createTime"] >= times[old]["endTime"]
        lab.emulator.finish(run.service, new)
        run.reaches("success")
        assert lab.emulator.operation(run.service, new).cancel_requests == 0


def test_a_crash_with_a_retry_starts_no_second_one(lab: Lab) -> None:
    """SIGKILL of the task, and of its supervisor: the next try goes on with the running operation."""
    task, supervisor = begin(lab, "run_retry").waits(), begin(lab, "decorated", "datafusion").waits()
    os.kill(task.process(), signal.SIGKILL)
    [parent], child = lab.airflow.supervisor_pids(supervisor.dag_id, supervisor.run_id, "it"), supervisor.process()
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(child), "the orphan stops by itself")
    for run in (task, supervisor):
        run.reaches_try(2, "running", timeout=90)
        run.is_polled_again("by the next try")
        lab.emulator.finish(run.service, run.operation_name)
        run.reaches("success")
        assert (len(operations_of(run)), run.cancels) == (1, 0)


def test_a_kill_while_the_start_is_in_flight(lab: Lab) -> None:
    """A slow server: the kill comes before the answer, and what the answer names is cancelled."""
    run = begin(lab, "run", latency=2.5)
    lab.kill(run, "failed")
    run.is_cancelled()
    assert (len(operations_of(run)), run.cancels) == (1, 1)


def test_an_execution_timeout_cancels_and_the_retry_starts_afresh(lab: Lab) -> None:
    """The timed out one is over before the next one starts."""
    run = begin(lab, "run_execution_timeout")
    run.is_cancelled()
    [_, new] = wait_until(lambda: len(both := operations_of(run)) == 2 and both, "a fresh one starts")
    lab.emulator.finish(run.service, new)
    run.reaches("success")


def test_cancel_many(lab: Lab) -> None:
    """Every running operation of a parent is cancelled, and each has an outcome."""
    parent = f"projects/m{secrets.token_hex(4)}"
    made = [
        lab.emulator.create("datafusion", parent=f"{parent}/locations/l", **script)
        for script in ({"duration": None}, {"duration": None, "cancel_delay": 1}, {"duration": 0})
    ]
    run_id = lab.airflow.trigger("cancel_many", conf={"key": parent.partition("/")[2]})
    assert lab.airflow.wait_for_run("cancel_many", run_id) == "success"
    result = lab.airflow.xcom("cancel_many", run_id, "it")
    assert result["outcomes"] == {"CANCELLED": 2}
    assert {row["name"] for row in result["operations"]} == set(made[:2])
