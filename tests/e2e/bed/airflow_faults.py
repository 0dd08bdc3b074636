"""The one fault of Airflow itself that fails tasks of the bed, as its scheduler's log tells it."""

from __future__ import annotations

import re

__all__ = ["is_of_run", "own_trouble"]

_TROUBLE = re.compile(r"Executor .*reported that the task instance (.*) finished with state success")

_ZOMBIE = re.compile(r"Detected zombie job: .*?'Run Id': '([^']+)'")


def own_trouble(log: str) -> list[str]:
    """The task instances that Airflow itself has failed, as the scheduler's log names them.

    Airflow 3.3.2 does so, under load, to a task that is queued again quickly: its executor reports the good end of
    an earlier process when the scheduler has queued the next one already. (A bad end is what a SIGKILL leads to.)
    Airflow 2.11.2 takes a running task that was cleared for a zombie, if it looks for these before the task has ended,
    and fails it in place of running its next try.
    """
    return [*_TROUBLE.findall(log), *_ZOMBIE.findall(log)]


def is_of_run(instance: str, run_id: str) -> bool:
    """Whether a task instance, as a log names it, is one of this run."""
    return re.search(rf"(?<![\w-]){re.escape(run_id)}(?![\w-])", instance) is not None
