"""The evidence that the verdicts stand on, measured on a real Airflow.

Each test is a row of the two tables of ``ownership/decisions.py``: the task is brought into the situation, and
what Airflow showed of it (in the log line of the verdict) is compared, with what was done about it.
"""

from __future__ import annotations

import os
import re
import signal

import psutil
import pytest

from tests.e2e.bed.lab import Lab, Run
from tests.e2e.bed.waiting import wait_until

LEFT = re.compile(r"Left by try 1 \((.*)\), and ([^:]*): ")
ADOPTED, NOBODYS = "this try goes on with it", "nobody goes on with it"


def left_behind(run: Run) -> tuple[str, bool, bool, str]:
    """What the second try found: the operation, whether it knows of a kill, and of a clear, and the verdict."""
    match = wait_until(lambda: LEFT.search(run.log(2)), f"try 2 of {run.dag_id} finds the record", 90)
    facts, verdict = match.groups()
    return facts.split()[0].rstrip(";"), "killed: " in facts, "its task was cleared since" in facts, verdict


def test_sigkill_with_a_retry_is_adopted(lab: Lab) -> None:
    """After SIGKILL of the task or its supervisor the next try goes on with the operation: no cancel."""
    task, supervisor = lab.start("poke_retry").waits(), lab.start("poke_retry").waits()
    os.kill(task.process(), signal.SIGKILL)
    [parent], child = lab.airflow.supervisor_pids(supervisor.dag_id, supervisor.run_id, "it"), supervisor.process()
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(child), "the orphan stops by itself")
    for run in (task, supervisor):
        run.reaches_try(2, "running", timeout=90)
        assert left_behind(run) == ("RUNNING", False, False, ADOPTED)
        lab.emulator.finish("datafusion", run.operation_name)
        run.reaches("success")
        assert run.cancels == 0


def test_a_retry_after_sigterm_goes_on(lab: Lab) -> None:
    """Whoever sends SIGTERM to a task that Airflow wants to run is a worker that shuts down: the retry adopts (A1)."""
    run = lab.start("poke_retry").waits()
    os.kill(run.process(), signal.SIGTERM)
    assert left_behind(run) == ("RUNNING", False, False, ADOPTED)
    lab.emulator.finish("datafusion", run.operation_name)
    run.reaches("success")
    assert run.cancels == 0


@pytest.mark.parametrize("shape", ["poke", "deferred"])
def test_a_clear_raises_max_tries(lab: Lab, shape: str) -> None:
    """A cleared task has another max_tries in its next try; a retried one has not."""
    run = lab.start(shape, cancel_delay=5).waits()
    lab.kill(run, "clear")
    *_, cleared, verdict = left_behind(run)
    assert (cleared, verdict) == (True, NOBODYS)
    run.is_cancelled()
    assert run.reaches_try(2, "failed", "success")["state"] == "failed"


@pytest.mark.parametrize("how", ["failed", "success"])
def test_a_marked_deferred_task_shows_its_new_state(lab: Lab, how: str) -> None:
    """Marked while deferred: the trigger sees the state that the user set."""
    run = lab.start("deferred").waits()
    lab.kill(run, how)
    run.is_cancelled()
    wait_until(lambda: f"killed while deferred: its task is {how}" in run.log(), "the trigger says why")


def test_a_cleared_deferred_task_belongs_to_another_try(lab: Lab) -> None:
    """Cleared while deferred: whatever the state is by now, the trigger knows that it is not its own.

    The next try may have deferred by then. It has the same operation, and has requested its cancellation itself.
    """
    run = lab.start("deferred", cancel_delay=20).waits()
    lab.kill(run, "clear")
    words = r"(?:killed while deferred: (.*);|its task sees to it \((.*)\))"
    found = wait_until(lambda: re.search(words, run.log()), "the trigger says why")
    why = found[1] or found[2]
    assert "another try" in why or "its task is deferred" not in why


def test_a_stalled_triggerer_does_not_kill_what_another_took_over(lab: Lab) -> None:
    """Redistribution: the first triggerer is told to kill, but the task is still deferred, and its own."""
    run = lab.start("deferred").waits()
    owner = lab.triggerer_of(run)
    lab.stall(owner)
    try:
        run.is_polled_again("by the other triggerer", timeout=90)
    finally:
        lab.stall(owner, signal.SIGCONT)
    wait_until(
        lambda: "Not cancelled here, its task sees to it (its task is deferred, this try has it)" in run.log(),
        f"the first triggerer asks whose it is; log:\n{run.log()}",
        60,
    )
    assert run.cancels == 0
    lab.emulator.finish("datafusion", run.operation_name)
    run.reaches("success")
