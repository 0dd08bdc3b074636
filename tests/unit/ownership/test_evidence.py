"""The evidence in words, as ``ownership/evidence.py`` puts it into a log."""

from __future__ import annotations

import pytest

from airflow_lro_provider.ownership.decisions import ADOPTER, GONE, KILLED, NONE, UNKNOWN, Evidence, TaskState
from airflow_lro_provider.ownership.evidence import describe, told_to_stop

MINE = "token-1"


@pytest.mark.parametrize(
    ("state", "token", "text"),
    [
        ("failed", UNKNOWN, "its task is failed"),
        (NONE, UNKNOWN, "its task has no state, as after a clear"),
        (GONE, UNKNOWN, "its task is deleted"),
        (UNKNOWN, UNKNOWN, "the state of its task is not known"),
        ("deferred", MINE, "its task is deferred, this try has it"),
        ("deferred", NONE, "its task is deferred, no try has it"),
        ("queued", "token-2", "its task is queued, another try has it"),
        ("queued", ADOPTER, "its task is queued, another try sees to it"),
        ("running", UNKNOWN, "its task is running, which try has it is not known"),
    ],
)
def test_the_evidence_in_words(state: TaskState, token: str | Evidence, text: str) -> None:
    """The token is named where it matters, and never shown."""
    assert describe(state, token, MINE) == text


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("failed", "it, or its run, was marked failed"),
        ("success", "it, or its run, was marked success"),
        ("skipped", "it was marked skipped, or its run timed out"),
        ("restarting", "it was cleared"),
        ("removed", "its Dag does not have it any more"),
        (GONE, "it was deleted"),
        ("running", "its worker shuts down, or its process was sent SIGTERM"),
    ],
    ids=str,
)
def test_who_told_a_task_to_stop(state: TaskState, text: str) -> None:
    """A killed task's log says who asked for it, as far as Airflow tells: what state the task is in by then."""
    assert told_to_stop(state) == f"Airflow told this task to stop: {text}"


@pytest.mark.parametrize("state", [UNKNOWN, NONE, "queued", "scheduled", "up_for_retry"], ids=str)
def test_what_no_state_tells_is_not_guessed(state: TaskState) -> None:
    """Where the state leaves it open, the log names all that it can be."""
    assert told_to_stop(state) == KILLED
