"""The life of a task in simulated time, in short: ``python -m tests.simulation.life`` tries as many as you like."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_lro_provider.attempt import record
from airflow_lro_provider.ownership.decisions import Decision
from airflow_lro_provider.sweep import reconciler
from tests.simulation.life import run


def test_whatever_happens_three_promises_are_kept() -> None:
    """No operation is left to nobody, none of a living task is cancelled, and there are never two side by side."""
    counts = run(examples=60, chance=1)
    assert counts["examples"] >= 60
    assert counts["steps"] > 1000 * counts["examples"] / 10
    assert counts["ends success"]
    assert counts["ends failed"]


def test_a_stop_that_always_cancels_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first release did, to an operation that the next try would have gone on with."""
    monkeypatch.setattr(record, "of_stopped_task", lambda **_: Decision.CANCEL)
    with pytest.raises(AssertionError, match="cancelled although its task lives"):
        run(examples=200, chance=1)


def test_a_sweep_that_ignores_owners_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of a dead try may name what a living one has adopted."""
    claims = reconciler._Sweep._claims
    monkeypatch.setattr(reconciler._Sweep, "_claims", lambda self: replace(claims(self), owned=()))
    with pytest.raises(AssertionError, match=r"cancelled although its task lives|green by its own kill"):
        run(examples=400, chance=7)
