"""SIGTERM between any two lines of a try, in one process: nothing is lost, wherever the task is.

A few lines of each kind of task, chosen from a fixed seed. With ``KILL_AT_EVERY=7`` every seventh (``pytest -n 0
tests/airflow/test_every_line.py``), which takes ten minutes; with 1 all of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable
from linecache import getline
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSensorTimeout, TaskDeferred

import airflow_lro_provider
from airflow_lro_provider.airflow_compat import AIRFLOW, task_process
from airflow_lro_provider.attempt import task
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import OperationRunningError
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.airflow.played import PlayedTry, Store, handling
from tests.airflow.versions import Killed, may_execute, sigterm_of

PACKAGE = str(Path(airflow_lro_provider.__file__).parent)
LOCATION = "projects/p/locations/us-central1"
NAME = f"{LOCATION}/operations/watched"
SERVICE = "developerconnect"
EVERY = int(os.environ.get("KILL_AT_EVERY", "0"))
"""How far apart the lines are before which a task is killed; 0: it is killed before :data:`FEW` of them, by chance."""
FEW = 8
LOST_SECONDS = 60.0
"""A task that still waits so long after its kill has not heard of it."""

TASKS: dict[str, dict[str, Any]] = {
    "a sensor": {"kind": OperationSensor},
    "a deferrable sensor": {"kind": OperationSensor, "deferrable": True},
    "a starter": {"kind": RunOperationOperator},
    "a deferrable starter": {"kind": RunOperationOperator, "deferrable": True},
    "a starter that adopts": {"kind": RunOperationOperator, "number": 2},
    "a deferrable starter that adopts": {"kind": RunOperationOperator, "number": 2, "deferrable": True},
}


def text_of(frame: FrameType) -> str:
    """The line that a frame is at."""
    return getline(frame.f_code.co_filename, frame.f_lineno).lstrip()


class Killer:
    """Traces this thread, and sends SIGTERM before the n-th line of the package that it executes.

    :param line: which; ``None``: only count them.
    """

    def __init__(self, line: int | None, killed: Callable[[], object]) -> None:
        self.line, self.killed = line, killed
        self.lines, self.at = 0, ""

    def __enter__(self) -> Killer:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        before = frame.f_lineno

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            if event == "line":
                # At the end of a `with` Python traces its line again; but no signal is handled before `__exit__`.
                leaves = frame.f_lineno < before and text_of(frame).startswith("with ")
                before = frame.f_lineno
                if not leaves:
                    self._count(frame)
            return step

        return step

    def _count(self, frame: FrameType) -> None:
        self.lines += 1
        if self.lines == self.line:
            sys.settrace(None)
            self.at = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
            self.killed()
            signal.raise_signal(signal.SIGTERM)


class Play:
    """One kind of task on a played Airflow.

    :param retried: whether Airflow will run the task once more; else a user has marked it failed.
    :param refused: whether the service refuses the first cancel, with 503.
    """

    def __init__(
        self, kind: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, *, retried: bool, refused: bool = False
    ) -> None:
        self.emulator, self.retried, self.refused = emulator, retried, refused
        self.arguments = dict(TASKS[kind])
        self.kind = self.arguments.pop("kind")
        self.number = self.arguments.pop("number", 1)
        self.state = "running"
        self.this = PlayedTry(emulator, Store())
        monkeypatch.setattr(evidence, "read_task_state", lambda key: self.state)
        monkeypatch.setattr(evidence, "read_owner_token", lambda key, mine: self.this.pushed.get(evidence.OWNER_KEY))
        if AIRFLOW < (3,):  # later ones do not end a task that they have not called
            monkeypatch.setattr(task, "context_before_execute", lambda: self.this.context)

    def operator(self, **arguments: Any) -> Any:
        """The task, ready to be executed."""
        named = {"operation_name": NAME, "poke_interval": 0.02, "cancel_on_kill": True}
        if self.kind is RunOperationOperator:
            named = {"method": f"{LOCATION}/connections?connectionId=c", "poll_interval": 0.02}
        given = {**named, "service": SERVICE, "timeout": LOST_SECONDS, **self.arguments, **arguments}
        made = self.kind(task_id="t", **given)
        may_execute(made)
        return made

    def one(self, line: int | None) -> Killer:
        """Play it, and kill it before a line; ``None``: let it come to its end."""
        self.emulator.reset()
        if self.refused:
            self.emulator.fail(503, verb="cancel")
        self.emulator.script(duration=0.05 if line is None else None)
        if self.kind is OperationSensor:
            self.emulator.create(SERVICE, NAME, duration=0.05 if line is None else None)
        store = Store()
        for number in range(1, self.number):
            self._begin(number, store)
            self._run(self.operator(deferrable=True))
        self._begin(self.number, store)
        operator = self.operator()
        killer = Killer(line, self._is_killed)
        with handling(signal.SIGTERM, sigterm_of(operator)):
            self._run(operator, killer)
        return killer

    def _begin(self, number: int, store: Any) -> None:
        self.state = "running"
        self.this = PlayedTry(self.emulator, store, number, max_tries=self.number if self.retried else self.number - 1)
        self.this.ti.next_kwargs = None

    def _is_killed(self) -> None:
        if not self.retried:
            self.state = "failed"

    def _run(self, operator: Any, killer: Killer | None = None) -> None:
        """Execute it, and do with a deferral as Airflow does."""
        try:
            with killer or contextlib.nullcontext():
                try:
                    operator.execute(self.this.context)
                except TaskDeferred as deferral:
                    deferral.trigger.serialize()
                    if AIRFLOW < (3,) or self.state == "running":
                        self.state = "deferred"  # Airflow 2 forgets that it was marked
        except (OperationRunningError, AirflowSensorTimeout):  # that of LOST_SECONDS
            raise
        except (Exception, Killed):
            pass
        task_process.listeners().hook.before_stopping(component=None)

    def goes_on(self) -> None:
        """The retry: the operation comes to its end, and the task with it."""
        self.emulator.script(duration=0)
        for view in self.emulator.operations():
            self.emulator.finish(SERVICE, view.operation["name"])
        self._begin(self.number + 1, self.this.context["task_state_store"])
        self.operator(deferrable=False).execute(self.this.context)


@pytest.fixture
def play(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Play]:
    """Make plays."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    return lambda kind, **fate: Play(kind, lro_emulator, monkeypatch, **fate)


def lines_of(play: Play, kind: str) -> list[int]:
    """Before which lines it is killed."""
    total = play.one(None).lines
    assert total > 100
    if EVERY:
        return list(range(1, total + 1, EVERY))
    return sorted(random.Random(kind).sample(range(1, total + 1), FEW))


@pytest.mark.parametrize("refused", [False, True], ids=["", "the first cancel is refused"])
@pytest.mark.parametrize("kind", TASKS)
def test_a_task_that_a_user_ends_leaves_no_operation(play: Callable[..., Play], kind: str, refused: bool) -> None:
    """Marked failed, and killed: whatever it had by then is cancelled."""
    this = play(kind, retried=False, refused=refused)
    left = {}
    for line in lines_of(this, kind):
        killer = this.one(line)
        running = [view for view in this.emulator.operations() if not view.operation.get("done")]
        # A kill that Airflow 2 forgets is none: the task waits in the triggerer.
        if this.state != "deferred" and not all(view.cancel_requests for view in running):
            left[line] = killer.at
        assert len(running) <= 1, killer.at
    assert left == {}


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_that_runs_again_keeps_its_operation(play: Callable[..., Play], kind: str) -> None:
    """Its worker shuts down: nothing is cancelled, and the retry ends with the same operation."""
    this = play(kind, retried=True)
    for line in lines_of(this, kind):
        killer = this.one(line)
        assert not any(view.cancel_requests for view in this.emulator.operations()), killer.at
        if this.state != "deferred":
            this.goes_on()
            assert len(this.emulator.operations()) == 1, killer.at
