"""A kill in the middle of a question to the supervisor: afterwards its answers still belong to the questions."""

from __future__ import annotations

import json
import os
import signal

from tests.e2e.bed.lab import Lab, Run
from tests.e2e.bed.waiting import wait_until

XCOMS = {"fruit": "apple", "colour": "red", "shape": "round"}
"""As in ``dags/asking_dags.py``."""


MARK = "answered after the kill: "


def answered(run: Run) -> dict[str, object]:
    """What the callback of the killed try was answered."""
    line = wait_until(lambda: next((x for x in run.log().splitlines() if MARK in x), None), "the callback asks")
    found: dict[str, object] = json.JSONDecoder().raw_decode(line.partition(MARK)[2])[0]
    return found


def test_a_killed_task_still_gets_the_right_answers(lab: Lab) -> None:
    """SIGTERM inside a question: cancelled once, failed, and what is asked afterwards is answered rightly."""
    runs = [lab.start("asking_xcoms").waits() for _ in range(3)]
    for run in runs:
        os.kill(run.process(), signal.SIGTERM)
    for run in runs:
        assert run.is_cancelled().cancels == 1
        assert run.reaches("failed", "success")["state"] == "failed"
        told = answered(run)
        assert told["xcoms"] == XCOMS
        assert str(told["killed"]).startswith("Airflow told this task to stop")
