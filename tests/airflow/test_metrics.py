"""What is counted, with a backend of Airflow's Stats that writes it down."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from airflow_lro_provider import metrics
from airflow_lro_provider.airflow_compat import stats as compat
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.polling import Deadline
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.metrics import StatsMetrics
from airflow_lro_provider.operators.operations import CancelOperationOperator
from airflow_lro_provider.sweep.reconciler import SweepResult
from airflow_lro_provider.triggers.operations import OperationTrigger
from tests.airflow.versions import since_3_3


class Backend:
    """A backend of Airflow's Stats."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, Any, dict[str, str]]] = []

    def incr(self, stat: str, count: int = 1, rate: float = 1, tags: Any = None) -> None:
        """A counter."""
        self.said.append(("incr", stat, count, tags))

    def gauge(self, stat: str, value: float, rate: float = 1, delta: bool = False, tags: Any = None) -> None:
        """A gauge."""
        self.said.append(("gauge", stat, value, tags))

    def timing(self, stat: str, dt: Any, tags: Any = None) -> None:
        """A timer."""
        self.said.append(("timing", stat, dt, tags))

    def of(self, stat: str) -> list[tuple[Any, dict[str, str]]]:
        """What was said about one."""
        return [(value, tags) for _, name, value, tags in self.said if name == stat]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Airflow's Stats lead there."""
    backend = Backend()
    monkeypatch.setattr(metrics, "prepared_stats", lambda: backend)
    return backend


def trigger(emulator: Emulator, script: dict[str, Any], **arguments: Any) -> OperationTrigger:
    """A trigger for a new operation."""
    reference = read_reference(emulator.create("datafusion", **script), "datafusion")
    made = OperationTrigger(reference=reference.to_dict(), started=time.time(), poll_interval=0.05, **arguments)
    made.trigger_id = 7
    return made


@pytest.fixture(autouse=True)
def connection(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default connection leads to the local server."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())


async def test_a_wait_is_counted(lro_emulator: Emulator, backend: Backend) -> None:
    """Requests by verb and result, throttling, those who wait, and how late the end was known."""
    lro_emulator.fail(429, retry_after=0.1)
    [event] = [event async for event in trigger(lro_emulator, {"duration": 0.3}).run()]
    assert event.payload["operation"]["done"]
    service = {"service": "datafusion"}
    assert (1, {**service, "verb": "get", "result": "RESOURCE_EXHAUSTED"}) in backend.of("lro.requests")
    assert (1, {**service, "verb": "get", "result": "ok"}) in backend.of("lro.requests")
    assert backend.of("lro.throttled") == [(1, service)]
    assert [value for value, _ in backend.of("lro.waiting")] == [1, 0]
    [(late, tags)] = backend.of("lro.known_after")
    assert tags == service
    assert 0 <= late.total_seconds() < 5


async def test_a_cancel_is_counted(lro_emulator: Emulator, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a deadline: one request."""
    monkeypatch.setattr(OperationTrigger, "_is_due", AsyncMock(return_value=True))
    past = Deadline(time.time() - 1, "timeout", 1.0).to_dict()
    one = trigger(lro_emulator, {"duration": None}, deadline=past, cancel_on_kill=True)
    assert [event async for event in one.run()]
    assert backend.of("lro.cancels") == [(1, {"service": "datafusion", "outcome": "REQUESTED"})]


def test_what_came_of_a_cancel_is_counted(lro_emulator: Emulator, backend: Backend) -> None:
    """An operator that cancels says what it asked for, and what came of it."""
    name = lro_emulator.create("datafusion", duration=None)
    CancelOperationOperator(
        task_id="t", operation_name=name, service="datafusion", poll_interval=0.05, deferrable=False
    ).execute({"ti": SimpleNamespace(id="i", try_number=1, max_tries=0, task=SimpleNamespace(retries=0))})
    outcomes = [tags["outcome"] for _, tags in backend.of("lro.cancels")]
    assert outcomes == ["REQUESTED", "CANCELLED"]


def test_a_sweep_is_counted(backend: Backend) -> None:
    """A gauge for each count, without tags."""
    counts = SweepResult(alive=2, unknown=["a key"]).counts
    StatsMetrics().sweep(counts)
    gauges = [(name, value, tags) for kind, name, value, tags in backend.said if kind == "gauge"]
    assert gauges == [(f"lro.sweep.{what}", number, None) for what, number in counts.items()]


def test_broken_stats_break_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A meter that cannot count says so once."""
    monkeypatch.setattr(metrics, "prepared_stats", lambda: 1 / 0)
    meter = StatsMetrics()
    for _ in range(3):
        meter.throttled("datafusion")
    assert caplog.text.count("nothing is counted") == 1


@since_3_3
def test_a_triggerer_that_has_no_stats_of_the_sdk_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggerer of Airflow 3.3 sets up another copy of Stats: the SDK's is set up here, unless it is already."""
    from airflow.sdk._shared.observability.metrics import stats as state
    from airflow.sdk.observability import stats

    before = state._factory
    try:
        monkeypatch.setattr(compat, "_prepared", False)
        state._factory = None
        StatsMetrics().throttled("datafusion")
        assert state._factory is not None
        mine = state._factory
        monkeypatch.setattr(compat, "_prepared", False)
        StatsMetrics().throttled("datafusion")
        assert state._factory is mine
    finally:
        stats.initialize(factory=before, export_legacy_names=True)  # type: ignore[arg-type]


def test_stats_of_this_airflow_count() -> None:
    """Whichever it has, they take what is counted here: nobody is warned."""
    stats = compat.prepared_stats()
    stats.incr("lro.requests", 1, tags={"service": "datafusion"})
    stats.gauge("lro.waiting", 3, tags=None)
    stats.timing("lro.known_after", timedelta(seconds=1), tags=None)
