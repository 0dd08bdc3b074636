"""What is done right after a deferral was reported: the questions to Airflow are played, the server is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_lro_provider.airflow_compat import task_process
from airflow_lro_provider.attempt import deferral
from airflow_lro_provider.attempt.deferral import make_trigger
from airflow_lro_provider.attempt.guard import Guard, Phase
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.resources.names import OperationReference, read_reference
from airflow_lro_provider.ownership import evidence as ownership
from airflow_lro_provider.ownership.decisions import Decision, Evidence, TaskState
from tests.airflow.played import Log

OWNER = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "token": "mine"}


class Deferring:
    """A task in the moment at which Airflow serializes its trigger."""

    def __init__(self, emulator: Emulator, **owner: Any) -> None:
        settings = ConnectionSettings.from_extra(emulator.connection_extra())
        self.emulator, self.log = emulator, Log()
        self.reference: OperationReference = read_reference(emulator.create("datafusion", duration=None), "datafusion")
        self.guard = Guard(self.log, cancels=True)
        self.guard.enter(Phase.PREPARING)
        self.guard.arm(OperationsClient(settings), self.reference)
        self.guard.first_poll.result(5)
        self.decision = Decision.ADOPT
        trigger = make_trigger(
            self.guard,
            self.reference,
            deadline=None,
            owner=owner or OWNER,
            decide=lambda: self.decision,
            log=self.log,
            started=0.0,
        )
        trigger.serialize()

    def report(self) -> None:
        """Airflow has got the report of the deferral, and tells its listeners that the process is about to end."""
        task_process.listeners().hook.before_stopping(component=None)

    @property
    def cancels(self) -> int:
        """How many cancel requests the server saw."""
        return len(self.emulator.requests(verb="cancel"))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Airflow answers: the task's state, and the token in XCom."""
    given: dict[str, Any] = {"state": "deferred", "token": "mine"}
    monkeypatch.setattr(ownership, "read_task_state", lambda owner: given["state"])
    monkeypatch.setattr(ownership, "read_owner_token", lambda owner, mine: given["token"])
    return given


@pytest.fixture
def deferring(lro_emulator: Emulator, answers: dict[str, Any]) -> Iterator[Callable[..., Deferring]]:
    """Make tasks that are deferring."""
    made: list[Deferring] = []

    def make(**owner: Any) -> Deferring:
        made.append(Deferring(lro_emulator, **owner))
        return made[-1]

    yield make
    for task in made:
        task.guard.release()


def test_a_deferral_that_was_taken_is_left_alone(deferring: Callable[..., Deferring]) -> None:
    """The trigger stands guard now: nothing is cancelled, also if the worker is told to stop meanwhile."""
    task = deferring()
    task.guard.on_kill()  # a worker that shuts down
    task.report()
    assert (task.cancels, task.guard.phase, task.log.lines) == (0, Phase.RELEASED, [])


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", "restarting", Evidence.GONE])
def test_a_deferral_that_was_refused_is_a_kill(
    deferring: Callable[..., Deferring], answers: dict[str, Any], state: TaskState
) -> None:
    """Marked or cleared before the deferral came through: one cancel, and the log says why."""
    task = deferring()
    answers["state"] = state
    task.report()
    assert task.cancels == 1
    word = "deleted" if state is Evidence.GONE else state
    assert any(f"killed while it deferred: its task is {word}" in line for line in task.log.lines)


def test_another_try_that_has_deferred_already_shows_a_kill(
    deferring: Callable[..., Deferring], answers: dict[str, Any]
) -> None:
    """Cleared at once: deferred it is, but with another's token."""
    task = deferring()
    answers["token"] = "another"
    task.report()
    assert task.cancels == 1


@pytest.mark.parametrize(
    ("state", "token"),
    [
        ("running", "mine"),
        ("queued", "mine"),
        (Evidence.NONE, "mine"),  # another scheduler has begun it anew
        (Evidence.UNKNOWN, Evidence.NONE),
        ("deferred", Evidence.NONE),
    ],
)
def test_what_cannot_be_known_is_left_alone_and_said(
    deferring: Callable[..., Deferring], answers: dict[str, Any], state: Any, token: Any
) -> None:
    """A false kill cannot be undone."""
    task = deferring()
    answers.update(state=state, token=token)
    task.report()
    assert task.cancels == 0
    assert any("whether Airflow has taken the deferral is not known" in line for line in task.log.lines)


def test_airflow_is_asked_again_whether_it_has_taken_the_deferral(
    deferring: Callable[..., Deferring], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by simulated time: one response that was lost left the operation of a marked task to nobody."""
    states: list[TaskState] = [Evidence.UNKNOWN, "success"]
    task = deferring()
    monkeypatch.setattr(ownership, "read_task_state", lambda key: states.pop(0))
    task.report()
    assert (states, task.cancels) == ([], 1)


def test_it_listens_once(deferring: Callable[..., Deferring]) -> None:
    """A process that goes on (`dags test`) is not asked again at its next task."""
    task = deferring()
    before = len(task_process.listeners().pm.get_plugins())
    task.report()
    assert len(task_process.listeners().pm.get_plugins()) == before - 1


def test_a_task_without_anything_to_lose_does_not_listen(deferring: Callable[..., Deferring]) -> None:
    """The cancel operator has a token, and no task to ask about."""
    before = len(task_process.listeners().pm.get_plugins())
    deferring(token="mine")
    assert len(task_process.listeners().pm.get_plugins()) == before


@pytest.mark.parametrize(("decision", "expected"), [(Decision.CANCEL, 1), (Decision.ADOPT, 0)])
def test_a_signal_before_airflow_has_taken_the_deferral(
    deferring: Callable[..., Deferring],
    answers: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    decision: Decision,
    expected: int,
) -> None:
    """Airflow 2 ends the process then: it is a task that was told to stop, while it was running."""
    monkeypatch.setattr(deferral, "takes_any_deferral", lambda: True)
    task = deferring()
    task.decision = decision
    answers["state"] = "running"
    task.guard.on_kill()
    task.report()
    assert task.cancels == expected


def test_a_kill_while_it_begins_to_listen_is_not_lost(
    deferring: Callable[..., Deferring], answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is heard in time, and the deferral called off; what was listened for is then done already."""
    listen = deferral.call_before_stopping

    def killed(callback: Any) -> None:
        made.append(callback)
        listen(callback)
        raise RuntimeError("SIGTERM")

    made: list[Any] = []
    monkeypatch.setattr(deferral, "call_before_stopping", killed)
    with pytest.raises(RuntimeError, match="SIGTERM"):
        deferring()
    answers["state"] = "failed"
    made[0]()  # before anything was only noted: whatever raised has seen to the operation
