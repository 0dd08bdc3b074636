"""The benchmarks of waiting, in short: few triggers in a real TriggerRunner, over TLS. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.versions import since_3_3

pytestmark = since_3_3  # the triggerer that is measured is that of the newest Airflow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def measured(*command: str) -> tuple[list[dict[str, Any]], str]:
    """The rows that a benchmark measured, and what it printed."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *command[1:]], capture_output=True, text=True, timeout=240
    )
    rows = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"strategy"')]
    assert rows, done.stderr
    return rows, done.stdout


def test_a_small_crowd_is_measured() -> None:
    """Every end is known, and there is a table."""
    rows, shown = measured(
        *("waiting.py", "--count", "50", "--only", "floor", "watcher", "--server", "pages of 1,000"),
        *("--seconds", "12", "--settle", "4", "--interval", "1"),
    )
    floor, watcher = rows
    assert floor["requests"] == 0
    assert watcher["known"] == 2
    assert 0 < watcher["requests"] < 60, "a GET per trigger and second would be 60"
    assert "| 50 | watcher | pages of 1,000 |" in shown


@pytest.mark.parametrize("trouble", ["outage", "storm"])
def test_a_small_crowd_survives_a_trouble(trouble: str) -> None:
    """No wait fails, and all the ends are known afterwards."""
    [row], _ = measured("trouble.py", "--count", "50", "--seconds", "10", "--interval", "1", "--only", trouble)
    assert row["failed_waits"] == 0
    assert row["unknown"] == 0
    assert 0 < row["requests"] < 50 * 10 / 2, "polled one by one they would send 500"


def test_a_small_crowd_is_not_cancelled_by_a_move() -> None:
    """Their states are requested together, their owners one by one; none is cancelled."""
    [row], _ = measured("trouble.py", "--count", "50", "--only", "redistribution")
    assert (row["cancels"], row["left"], row["tokens"]) == (0, 0, 50)
    assert row["states"] < 10
