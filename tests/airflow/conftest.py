"""Tests of tasks in one process: what a task process leaves behind ends with each test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_lro_provider.airflow_compat import AIRFLOW, task_process
from airflow_lro_provider.attempt import attempt, deferral, record
from airflow_lro_provider.attempt.canceller import Canceller
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro import polling
from tests.airflow.played import Killable, handling, once
from tests.airflow.versions import sigterm_of


@pytest.fixture(autouse=True)
def pauses_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Airflow does not answer is asked again at once, an error of the service is believed after a second, and
    polls may come one after the other.
    """
    monkeypatch.setattr(polling, "SHORTEST_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 1.0)
    monkeypatch.setattr(attempt, "CONNECTION_PAUSES_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(record, "READ_PAUSES_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(deferral, "PUSH_PAUSES_SECONDS", (0.01, 0.01))


@pytest.fixture(autouse=True)
def played_tries_know_when_they_polled_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 2 has it in its database."""
    if AIRFLOW < (3,):
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: None)
    monkeypatch.setattr(
        task_process, "first_reschedule_date", lambda context: context["ti"].get_first_reschedule_date(context)
    )


@pytest.fixture(autouse=True)
def no_listener_is_left() -> Iterator[None]:
    """A task that defers listens for the end of its process, which never comes here."""
    yield
    plugins = task_process.listeners().pm
    for plugin in plugins.get_plugins():
        if type(plugin).__module__ == task_process.__name__:
            plugins.unregister(plugin)


@pytest.fixture(autouse=True)
def no_guard_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A task that defers keeps its guard until its process ends, which never comes here."""
    started: list[Any] = []
    start = Canceller.start

    def noted(canceller: Any) -> None:
        started.append(canceller)
        start(canceller)

    monkeypatch.setattr(Canceller, "start", noted)
    yield
    for canceller in started:
        canceller.stop()


@pytest.fixture
def killable() -> Iterator[Killable]:
    """Wire SIGTERM to an operator's on_kill as Airflow's task runner does, and send it when something is the case."""
    killers: list[threading.Thread] = []
    with contextlib.ExitStack() as handled:

        def kill(operator: Any, when: Callable[[], Any]) -> None:
            handled.enter_context(handling(signal.SIGTERM, sigterm_of(operator)))
            killers.append(once(when, lambda: os.kill(os.getpid(), signal.SIGTERM)))

        yield kill
        for killer in killers:
            killer.join()


@pytest.fixture
def without_retries(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection says that no request is sent again."""
    extra = {**lro_emulator.connection_extra(), "num_retries": 0}
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
