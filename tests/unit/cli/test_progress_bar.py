"""The line on a terminal, with the clock in the test's hand."""

from __future__ import annotations

import io
from typing import Any

import pytest

from airflow_lro_provider.cli import progress_bar
from airflow_lro_provider.cli.progress_bar import WIDTH, ProgressBar
from airflow_lro_provider.lro.operation import Operation
from tests.airflow.played import once


def poll(**fields: Any) -> Operation:
    """One poll."""
    return Operation.from_json({"name": "projects/p/locations/l/operations/o", **fields})


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        """It is one."""
        return True

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What was drawn: the bars, each with its time."""
        drawn = [line.split(" ") for line in self.getvalue().split("\r\033[K")[1:]]
        return [(bar, elapsed) for bar, elapsed, *_ in drawn]


def test_it_moves_with_the_time() -> None:
    """C12: also while a poll lasts long, as a `:wait` does; with a known progress, the time goes on."""
    now, terminal = [0.0], Terminal()
    bar = ProgressBar(terminal, clock=lambda: now[0])
    for fields in ({}, {"metadata": {"progressPercent": 50}}):
        bar.show(poll(**fields))
        now[0] += 1
        bar.draw()
    (first, began), (second, went_on), (half, _), (same, later) = terminal.lines
    assert (began, went_on, later) == ("0:00", "0:01", "0:02")
    assert first != second
    assert half == same == "█" * (WIDTH // 2) + "░" * (WIDTH // 2)


def test_nobody_has_to_poll_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """C12: a thread of its own redraws the line, and ends with the wait."""
    monkeypatch.setattr(progress_bar, "REDRAW_SECONDS", 0.001)
    terminal = Terminal()
    with ProgressBar(terminal) as bar:
        bar.show(poll())
        once(lambda: len(terminal.lines) > 3, lambda: None).join(30)
    assert len(terminal.lines) > 3
    assert not bar._thread.is_alive()


@pytest.mark.parametrize(
    ("fields", "filled"),
    [
        ({"response": {}}, WIDTH),
        ({"response": {}, "metadata": {"progressPercent": 40}}, WIDTH),
        ({"error": {"code": 13}, "metadata": {"progressPercent": 50}}, WIDTH // 2),
        ({"error": {"code": 1}}, 0),
    ],
    ids=["a success", "a success whose progress stopped", "a failure", "a cancellation"],
)
def test_it_ends_full_at_a_success(fields: dict[str, Any], filled: int) -> None:
    """C12: and where it was at any other end."""
    terminal = Terminal()
    with ProgressBar(terminal) as bar:
        bar.show(poll())
        bar.show(poll(done=True, **fields))
    assert terminal.lines[-1][0].count("█") == filled
    assert terminal.getvalue().endswith("\n")
