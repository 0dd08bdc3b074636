"""What follows a deferral in the process that asked for it, on an Airflow whose listeners hear of no rejection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lro_provider.airflow_compat import task_process
from airflow_lro_provider.airflow_compat.task_process import call_before_stopping, listeners


class Process:
    """A task process: its channel to the supervisor, and what is to run when it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> None:
        self.supervisor, end = socket.socketpair()
        self.channel = SimpleNamespace(socket=end)
        manager = listeners()  # that of this Airflow
        monkeypatch.setattr(task_process, "listeners", lambda: manager)
        self.at_exit: list[Any] = []
        self.copies: list[socket.socket] = []
        monkeypatch.setattr(task_process, "AIRFLOW", version)
        monkeypatch.setattr(task_process, "_channel", lambda: self.channel)
        played = SimpleNamespace(register=self.register, unregister=self.forget)
        monkeypatch.setattr(task_process, "atexit", played)

    def register(self, function: Any) -> None:
        """As `atexit.register`."""
        self.at_exit.append(function)
        self.copies.append(function.__self__._channel)

    def forget(self, function: Callable[[], Any]) -> None:
        """As `atexit.unregister`."""
        self.at_exit = [one for one in self.at_exit if one != function]

    def end(self) -> None:
        """Airflow closes the channel, and Python runs what was registered."""
        self.channel.socket.close()
        for function in self.at_exit:
            function()


@pytest.fixture
def process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """The process of a task on the version that the test is parametrized with."""
    process = Process(monkeypatch, request.param)
    yield process
    for end in (process.supervisor, process.channel.socket, *process.copies):
        end.close()


@pytest.mark.parametrize("process", [(3, 1), (3, 2)], indirect=True)
def test_a_rejected_deferral_is_checked_when_the_process_ends(process: Process) -> None:
    """The channel, which Airflow has closed by then, serves once more."""
    call_before_stopping(lambda: process.channel.socket.send(b"what is its state?"))
    process.end()
    assert process.supervisor.recv(100) == b"what is its state?"


@pytest.mark.parametrize("process", [(3, 2), (3, 3)], indirect=True)
def test_one_that_was_taken_is_checked_once(process: Process) -> None:
    """By the listener; not at the end again."""
    calls: list[int] = []
    call_before_stopping(lambda: calls.append(1))
    task_process.listeners().hook.before_stopping(component=None)
    process.end()
    assert calls == [1]


@pytest.mark.parametrize(
    ("version", "retries", "max_tries", "last"),
    [((2, 11), 0, 2, 0), ((2, 11), 1, 2, 2), ((3, 1), 0, 2, 2), ((3, 3), 2, 2, 2), ((3, 3), 0, None, 0)],
)
def test_airflow_2_tries_again_what_the_dag_says_by_now(
    monkeypatch: pytest.MonkeyPatch, version: Any, retries: int, max_tries: int | None, last: int
) -> None:
    """`retries` that were taken out of a Dag whose run is under way: the operation is left to no retry."""
    ti = SimpleNamespace(max_tries=max_tries, task=SimpleNamespace(retries=retries))
    with monkeypatch.context() as on_that_version:
        on_that_version.setattr(task_process, "AIRFLOW", version)
        assert task_process.last_retried_try(ti) == last
