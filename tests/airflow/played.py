"""Airflow's side of a task in one process, played: the task instance and the task state store."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.client import OperationsClient

Killable = Callable[[Any, Callable[[], Any]], None]
"""Sends SIGTERM to the process of an operator as soon as something is the case: the fixture ``killable``."""


MOMENT_SECONDS = 120.0
"""How long a moment is waited for at most. Else a test that missed it would wait for its thread for ever."""

TIME_TO_CORRECT_SECONDS = 5.0
"""How long an error is not believed where a thread corrects meanwhile what causes it."""


def once(when: Callable[[], Any], act: Callable[[], object]) -> threading.Thread:
    """Do something in a thread as soon as something is the case: a moment that no busy machine moves."""

    def wait_and_act() -> None:
        deadline = time.monotonic() + MOMENT_SECONDS
        while not when():
            if time.monotonic() > deadline:
                raise AssertionError("the moment did not come")
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait_and_act, daemon=True)
    thread.start()
    return thread


class Log:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str, *args: Any) -> None:
        """Remember a line."""
        self.lines.append(line % args if args else line)

    warning = exception = info

    def log(self, level: int, line: str) -> None:
        """Remember a line of any level."""
        self.lines.append(line)


@contextlib.contextmanager
def handling(number: signal.Signals, handler: Callable[..., object]) -> Iterator[None]:
    """Handle a signal as Airflow does in a task's process, which runs its handler on the main thread."""
    before = signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # nobody would handle it
        signal.signal(number, before)


def alarm(*_: Any) -> None:
    """What Airflow does at SIGALRM: the task's ``execution_timeout`` is over."""
    raise AirflowTaskTimeout("too late")


def during_the_start(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something when the service has responded to a start, and the task does not know it yet."""
    start = OperationsClient.start

    def started(*arguments: Any, **options: Any) -> Any:
        response = start(*arguments, **options)
        act()
        return response

    monkeypatch.setattr(OperationsClient, "start", started)


def replace_the_key(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, verb: str = "get") -> threading.Thread:
    """Let the connection have no token, which the server refuses once; and as soon as it has, be another one."""
    monkeypatch.setattr(polling, "TROUBLE_PAUSE_SECONDS", 0.01)
    extra = {**emulator.connection_extra(), "is_anonymous": True}
    bad = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(bad))
    emulator.fail(401, verb=verb)
    good = emulator.airflow_connection_json()
    return once(
        lambda: any(request.status == 401 for request in emulator.requests()),
        lambda: monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", good),
    )


class Store(dict[str, Any]):
    """Airflow's task state store, in a dict."""

    def set(self, key: str, value: Any, **_: Any) -> None:
        """Write."""
        self[key] = value

    def delete(self, key: str) -> None:
        """Remove."""
        self.pop(key, None)


class NoVariable:
    """Airflow's Variable of a record, which is not there."""

    def __init__(self, ti: Any) -> None:
        pass

    def read(self, key: str) -> None:
        """Nothing."""

    def write(self, key: str, value: str | None) -> None:
        """Nothing is written where there is a task state store."""
        raise AssertionError(key)


class BrokenStore(Store):
    """A store that never answers well."""

    def get(self, *_: Any) -> Any:
        """Fail, as all of them."""
        raise RuntimeError("the API server is down")

    set = delete = get


class OutdatedStore(Store):
    """The store of a try that Airflow does not know any more: it gives nothing, and takes nothing."""

    def get(self, *_: Any) -> Any:
        """As Airflow 3.3: indistinguishable from a record that is not there."""
        return None

    def set(self, key: str, value: Any, **_: Any) -> None:
        """Refused with 404."""
        error = SimpleNamespace(detail={"status_code": 404})
        raise type("AirflowRuntimeError", (Exception,), {"error": error})("Task instance not found")


class TakenStore(Store):
    """The store of a task of which Airflow has another try: it rejects what this one writes from now on."""

    taken = False

    def set(self, key: str, value: Any, **_: Any) -> None:
        """Rejected with 404, as Airflow 3.3 does."""
        if self.taken:
            OutdatedStore().set(key, value)
        super().set(key, value)


class PlayedTry:
    """A try of a task.

    :param number: which one, from 1 on.
    :param max_tries: how many retries the task has; a clear raises it.
    """

    def __init__(self, emulator: Emulator, store: Store, number: int = 1, max_tries: int = 0) -> None:
        self.emulator, self.store = emulator, store
        self.pushed: dict[str, Any] = {}
        self.ti = SimpleNamespace(
            id=uuid.uuid4(), try_number=number, max_tries=max_tries, dag_id="d", run_id="r", task_id="t", map_index=-1,
            xcom_push=lambda key, value: self.pushed.update({key: value}),
            get_first_reschedule_date=lambda context: None, dag_run=SimpleNamespace(id=1), job_id=1, start_date=None,
            task=SimpleNamespace(retries=max_tries),
        )  # fmt: skip
        self.context: Any = {"ti": self.ti, "task_state_store": store}


class Variables(dict[str, str]):
    """Airflow's Variables, in a dict; it counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def set(self, key: str, value: str, description: str | None = None) -> None:
        """Write."""
        self.asked.append("set")
        self[key] = value

    def delete(self, key: str) -> None:
        """Remove; nothing happens if there is none."""
        self.asked.append("delete")
        self.pop(key, None)

    def get(self, key: str, default: Any = None) -> Any:
        """Read."""
        self.asked.append("get")
        return super().get(key, default)

    def keys(self, prefix: str = "") -> Any:
        """All keys that begin so."""
        self.asked.append("keys")
        return [key for key in self if key.startswith(prefix)]
