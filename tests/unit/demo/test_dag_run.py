"""What the demo prints when a task ends before it can be killed, or Airflow does not respond."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_lro_provider.demo import dag_run
from airflow_lro_provider.demo._client import LocalAirflowError
from airflow_lro_provider.demo.dag_run import DagRun
from airflow_lro_provider.demo.printer import Printer
from airflow_lro_provider.demo.report import report

POKE = "datafusion.poke"


@dataclass
class View:
    """The server's view of an operation; it was polled often enough for every kind of task."""

    state: str = "RUNNING"
    polls: int = 9
    cancel_requested_at: float | None = None

    def cancel(self) -> None:
        """Cancel it, at once."""
        self.state, self.cancel_requested_at = "CANCELLED", time.time()


class Played:
    """Both the Airflow and the server: tasks wait at once, and a kill cancels at once.

    :param trouble: what happens to the first kill of :data:`POKE`: its task ``ended`` a moment before, or has
        ``ended and left`` its operation running; or it is done, but there is ``no response``
    """

    def __init__(self, trouble: str = "") -> None:
        self._trouble = trouble
        self._views: dict[str, View] = {}
        self._names: dict[str, str] = {}
        self._states: dict[str, str] = {}

    def create(self, service: str, **_: Any) -> str:
        """Start an operation."""
        name = f"operations/{len(self._views)}"
        self._views[name] = View()
        return name

    def operation(self, service: str, name: str) -> View:
        """The server's view of it."""
        return self._views[name]

    def finish(self, service: str, name: str) -> None:
        """Let it succeed, and the task that waits for it."""
        self._views[name].state = "SUCCEEDED"
        self._states.update({task: "success" for task, known in self._names.items() if known == name})

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, str]) -> None:
        """All tasks begin to wait; the one that is there to cancel does so."""
        self._names = conf
        self._states = dict.fromkeys(conf, "running")
        self._states["datafusion.cancel"] = "success"
        self._views[conf["datafusion.cancel"]].cancel()

    def task_instances(self, *_: str) -> list[dict[str, Any]]:
        """Deferred are those that wait in the triggerer."""
        deferrable = [row.task_id for row in dag_run.plan(dict.fromkeys(self._services)) if row.waits == "deferred"]
        return [
            {"task_id": task, "state": "deferred" if state == "running" and task in deferrable else state}
            for task, state in self._states.items()
        ]

    @property
    def _services(self) -> list[str]:
        return [task.partition(".")[0] for task in self._names]

    def set_task_state(self, dag_id: str, run_id: str, task: str, state: str) -> None:
        """A kill."""
        trouble, self._trouble = (self._trouble, "") if task == POKE else ("", self._trouble)
        self._states[task] = state
        if trouble != "ended and left":
            self._views[self._names[task]].cancel()
        if trouble.startswith("ended"):
            raise LocalAirflowError("Task id poke is already in failed state", 409)
        if trouble == "no response":
            raise LocalAirflowError("Read timed out.\nAnd more")

    def xcom(self, dag_id: str, run_id: str, task: str) -> dict[str, str]:
        """What a task returned."""
        return {"outcome": self._views[self._names[task]].state}

    def log(self, *_: str) -> str:
        """The log of a task."""
        return "the last words of the task"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for anything."""
    for name in ("POLL_INTERVAL_SECONDS", "LEFT_ALONE_SECONDS", "CANCEL_WITHIN_SECONDS"):
        monkeypatch.setattr(dag_run, name, 0.0)


def play(trouble: str = "") -> tuple[int, str]:
    """Play the demo.

    :return: the exit status, and what was printed
    """
    played, stream = Played(trouble), io.StringIO()
    out = Printer(stream)
    rows = DagRun(played, played, out).run()  # type: ignore[arg-type]
    status = report(rows, played, out)  # type: ignore[arg-type]
    return status, stream.getvalue()


def test_all_is_well() -> None:
    """Ten kills, and nothing else to say."""
    status, text = play()
    assert status == 0, text
    assert text.count(" s  killed ") == 10
    assert "OK: 10 tasks were killed, and all 10 operations were cancelled" in text
    assert "no response" not in text


def test_a_task_that_ends_before_its_kill_is_not_called_killed() -> None:
    """That is printed when it happens, and in the report; its operation was cancelled, so nothing is wrong."""
    status, text = play("ended")
    assert status == 1, text
    assert text.count(" s  killed ") == 9
    assert "ended     datafusion.poke: failed before it could be killed" in text
    assert "NOT SHOWN: datafusion.poke (Data Fusion): its task ended (failed) before it could be killed" in text
    assert "INCOMPLETE: 1 of 16 rows show no kill" in text
    assert "WRONG" not in text


def test_a_task_that_ends_before_its_kill_and_leaves_its_operation_is_wrong() -> None:
    """A dead task with a running operation, whoever killed it."""
    status, text = play("ended and left")
    assert status == 1, text
    assert "WRONG: datafusion.poke (Data Fusion): its task ended (failed) before it could be killed, and" in text
    assert "FAILED: 1 of 16 rows are not as they have to be." in text


def test_a_kill_without_a_response_is_a_kill() -> None:
    """That there was no response is printed; what follows counts as the kill's doing."""
    status, text = play("no response")
    assert status == 0, text
    assert "no response Read timed out.\n" in text
    assert "of datafusion.poke: the server saw it 0.0 s after the kill" in text
    assert "OK: 10 tasks were killed" in text
