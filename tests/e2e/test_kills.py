"""Killing tasks of a real Airflow, and what the server saw: the rows of the kill matrix that have a hook.

Runs that can go side by side are started together: one Airflow, two cores, and minutes are dear.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from airflow_lro_provider.airflow_compat import AIRFLOW
from tests.e2e.bed.lab import Lab, Run
from tests.e2e.bed.waiting import wait_until

KILLS = ["failed", "success", "clear", "run failed", "run success"]
SHAPES = ["poke", "deferred"]


def kill_all(lab: Lab, runs: dict[str, Run]) -> None:
    """Let all of them wait, then kill each in its way."""
    for run in runs.values():
        run.waits()
    for how, run in runs.items():
        lab.kill(run, how)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kill_of_a_user_cancels_once(lab: Lab, shape: str) -> None:
    """Marked failed or success, cleared, or its run ended: the operation is cancelled within seconds."""
    # A next try that is deferred and woken at once is what Airflow 3.3.2 itself fails (`airflow_faults`): with a
    # cancellation that takes its time the next try waits for the end of its operation first.
    slow = {"cancel_delay": 8} if shape == "deferred" else {}
    runs = {how: lab.start(shape, **(slow if how == "clear" else {})) for how in KILLS}
    pids = {} if shape == "deferred" else {how: run.waits().process() for how, run in runs.items()}
    kill_all(lab, runs)
    for how, run in runs.items():
        run.is_cancelled()
        assert run.cancels == 1 or how == "clear", f"{how}: {run.cancels} cancel requests"
        if how != "clear":
            assert run.state == {"failed": "failed", "success": "success"}[how.removeprefix("run ")]
    for how, pid in pids.items():
        wait_until(lambda pid=pid: not psutil.pid_exists(pid), f"the process killed by {how} is gone", 8)
    # The next try of a cleared task finds that the operation fell to its own kill: it must not turn green.
    cleared = runs["clear"]
    assert cleared.reaches_try(2, "failed", "success")["state"] == "failed"
    why = "was cancelled after try 1 of this task was killed or lost; clear the task that starts it"
    cleared.logs(why, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_timeouts_cancel(lab: Lab, shape: str) -> None:
    """execution_timeout, the sensor's timeout, and a timeout that soft_fail turns into a skip: all cancel."""
    execution, sensor, soft = (lab.start(f"{shape}_{kind}") for kind in ("execution_timeout", "timeout", "soft"))
    sensor.reaches("failed")
    assert sensor.is_cancelled().cancels == 1
    assert sensor.instance["try_number"] == 1, "a sensor's timeout is not retried"
    soft.reaches("skipped")
    assert soft.is_cancelled().cancels == 1
    # An execution_timeout is retried; the retry finds that its operation is gone.
    execution.is_cancelled()
    assert execution.reaches_try(2, "failed", "success")["state"] == "failed"
    assert execution.cancels == 1
    assert "execution" in execution.log(1)
    execution.logs("clear the task that starts it", 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_observer_never_cancels(lab: Lab, shape: str) -> None:
    """cancel_on_kill=False: the task ends, the operation of others lives."""
    run = lab.start(f"{shape}_observer").waits()
    lab.kill(run, "failed")
    run.reaches("failed")
    time.sleep(6)  # longer than any hook of the others took
    assert run.cancels == 0


@pytest.mark.parametrize("policy", ["silent", "never"])
def test_a_kill_is_neither_swallowed_nor_skipped(lab: Lab, policy: str) -> None:
    """silent_fail and never_fail are about looking, not about being killed."""
    run, direct = lab.start(f"poke_{policy}").waits(), lab.start(f"poke_{policy}").waits()
    lab.kill(run, "failed")
    os.kill(direct.process(), signal.SIGTERM)
    assert run.is_cancelled().cancels == 1
    assert direct.is_cancelled().cancels == 1
    assert direct.reaches("failed", "skipped", "success")["state"] == "failed"


def test_sigterm_of_task_and_supervisor_leave_the_operation_to_a_retry(lab: Lab) -> None:
    """A worker that shuts down sends SIGTERM: a retry goes on with the operation; without one it is cancelled (A1).

    Below Airflow 3.3 a supervisor ignores it, and so both live on.
    """
    runs = {dag_id: (lab.start(dag_id).waits(), lab.start(dag_id).waits()) for dag_id in ("poke", "poke_retry")}
    for task, supervisor in runs.values():
        os.kill(task.process(), signal.SIGTERM)
        [parent] = lab.airflow.supervisor_pids(supervisor.dag_id, supervisor.run_id, "it")
        os.kill(parent, signal.SIGTERM)
    told = 2 if AIRFLOW >= (3, 3) else 1
    for run in runs["poke"][:told]:
        assert run.is_cancelled().cancels == 1
        run.reaches("failed")
    for run in runs["poke_retry"][:told]:
        run.reaches_try(2, "running")
        lab.emulator.finish("datafusion", run.operation_name)
        assert run.reaches_try(2, "failed", "success")["state"] == "success"
        assert run.cancels == 0
    for run in (run for pair in runs.values() for run in pair[told:]):
        run.is_polled_again("although its supervisor was told to stop")
        assert (run.state, run.cancels) == ("running", 0)


def test_a_signal_inside_a_supervisor_call_loses_nothing(lab: Lab) -> None:
    """A task that does nothing but ask its supervisor is cancelled within the budget all the same."""
    runs = [lab.start("asking").waits() for _ in range(3)]
    for run in runs:
        lab.kill(run, "failed")
    for run in runs:
        assert run.is_cancelled().cancels == 1
        assert run.state == "failed"


def test_a_finish_in_the_second_of_the_kill_is_not_cancelled_after(lab: Lab) -> None:
    """An operation that is over gets no cancel request any more."""
    runs = [lab.start("poke").waits(), lab.start("deferred").waits()]
    for run in runs:
        lab.emulator.finish("datafusion", run.operation_name)
    for run in runs:
        run.reaches("success")
        lab.kill(run, "failed")
    time.sleep(4)
    assert [run.cancels for run in runs] == [0, 0]


def test_the_cancel_operator_does_not_uncancel(lab: Lab) -> None:
    """Killing the cancel operator while it waits ends the task, and takes nothing back."""
    for dag_id in ("cancel", "cancel_deferred"):
        run = lab.start(dag_id, cancel_delay=8).waits()
        lab.kill(run, "failed")
        run.is_cancelled()
        assert run.cancels == 1
        assert run.state == "failed"


def test_a_triggerer_restart_leaves_the_operation_alone(lab: Lab) -> None:
    """SIGTERM and SIGKILL of the triggerers: the operation lives, and the wait ends well."""
    runs = [lab.start("deferred").waits() for _ in range(2)]
    for how in ("restart", "kill"):
        for index in range(lab.triggerers):
            if how == "kill":
                lab.airflow.kill("triggerer", index)
            lab.airflow.restart("triggerer", index)
        for run in runs:
            run.is_polled_again(f"after {how}")
    assert [run.cancels for run in runs] == [0, 0]
    for run in runs:
        lab.emulator.finish("datafusion", run.operation_name)
        run.reaches("success")


@pytest.mark.parametrize("dag_id", SHAPES)
def test_ctrl_c_of_a_dags_test_cancels(lab: Lab, dag_id: str, tmp_path: Path) -> None:
    """`airflow dags test` interrupted with Ctrl-C: the operation is cancelled, in poke mode and in line."""
    name = lab.emulator.create("datafusion", duration=None)
    output = tmp_path / "output"  # not a pipe: it says more than one holds
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "dags", "test", dag_id, "-c", json.dumps({"operation": name})],
            env=lab.airflow.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Where the tests themselves run in the background of a shell, SIGINT is ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        wait_until(lambda: lab.emulator.operation("datafusion", name).polls >= 4, "the test run polls", 60)
        os.killpg(process.pid, signal.SIGINT)
        wait_until(lambda: lab.emulator.operation("datafusion", name).cancel_requests, "cancelled")
        process.wait(timeout=60)
    except AssertionError as error:
        raise AssertionError(output.read_text()[-3000:]) from error
    finally:
        process.kill()
        process.wait()
    assert lab.emulator.operation("datafusion", name).cancel_requests == 1, output.read_text()[-3000:]
