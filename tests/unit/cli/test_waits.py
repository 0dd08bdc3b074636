"""What a wait shows on a terminal and in a pipe, with the clock in the test's hand."""

from __future__ import annotations

import io
from typing import Any

import pytest

from airflow_lro_provider.cli import waits as waits_module
from airflow_lro_provider.cli.output import BAR_WIDTH
from airflow_lro_provider.cli.waits import Waits
from tests.airflow.played import once
from tests.unit.cli.test_output import NAMES, Terminal, poll

pytestmark = pytest.mark.usefixtures("wide_terminal")


def cells(waits: Waits) -> list[list[str]]:
    """The table's cells as they are now, row by row."""
    columns = [[getattr(cell, "plain", cell) for cell in column.cells] for column in waits.table().columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_the_table_moves_with_the_time() -> None:
    """C12: also while nobody polls, time and bar go on; a known progress stays."""
    now = [1000.0]
    waits = Waits(NAMES, Terminal(), clock=lambda: now[0])
    waits.show(NAMES[0], poll())
    waits.show(NAMES[1], poll(NAMES[1], metadata={"progressPercent": 50}))
    before = cells(waits)
    now[0] += 1
    after = cells(waits)
    assert [row[4] for row in before] == ["0s", "0s"]
    assert [row[4] for row in after] == ["1s", "1s"]
    assert before[0][2] != after[0][2]
    assert before[1][2] == after[1][2] == "██████░░░░░░  50%"


def test_nobody_has_to_poll_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """C12: a thread of its own redraws the table, which is gone at the end, and the cursor is back."""
    monkeypatch.setattr(waits_module, "REDRAWS_PER_SECOND", 1000)
    terminal = Terminal()
    with Waits(NAMES, terminal) as waits:
        waits.show(NAMES[0], poll())
        once(lambda: terminal.text.count("RUNNING") > 3, lambda: None).join(30)
    assert terminal.text.count("RUNNING") > 3
    assert terminal.getvalue().endswith("\x1b[2K")
    assert "\x1b[?25h" in terminal.getvalue()


def test_since_when_is_the_change_and_not_the_poll() -> None:
    """A state has the time at which it was first seen; the end has the service's own, if that is not in the future."""
    now = [1_700_000_000.0]
    waits = Waits(NAMES[:1], Terminal(), clock=lambda: now[0])
    waits.show(NAMES[0], poll())
    now[0] += 5
    waits.show(NAMES[0], poll(metadata={"progressPercent": 5}))
    assert cells(waits)[0][4] == "5s"
    waits.show(NAMES[0], poll(done=True, response={}, metadata={"endTime": "2023-11-14T22:13:22Z"}))  # 2 s after
    assert cells(waits)[0][1:5:3] == ["SUCCEEDED", "3s"]
    waits = Waits(NAMES[:1], Terminal(), clock=lambda: now[0])
    waits.show(NAMES[0], poll(done=True, metadata={"endTime": "2033-01-01T00:00:00Z"}))
    assert cells(waits)[0][4] == "0s"


@pytest.mark.parametrize(
    ("fields", "filled"),
    [
        ({"response": {}}, BAR_WIDTH),
        ({"response": {}, "metadata": {"progressPercent": 40}}, BAR_WIDTH),
        ({"error": {"code": 13}, "metadata": {"progressPercent": 50}}, BAR_WIDTH // 2),
        ({"error": {"code": 1}}, 0),
    ],
    ids=["a success", "a success whose progress stopped", "a failure", "a cancellation"],
)
def test_the_bar_is_full_at_a_success(fields: dict[str, Any], filled: int) -> None:
    """C12: and where it was at any other end."""
    waits = Waits(NAMES[:1], Terminal())
    waits.show(NAMES[0], poll())
    waits.show(NAMES[0], poll(done=True, **fields))
    assert cells(waits)[0][2].count("█") == filled


def test_what_fails_is_said_until_a_poll_succeeds() -> None:
    """The table says that polls fail; it is a note, not a state."""
    waits = Waits(NAMES[:1], Terminal())
    waits.show(NAMES[0], poll())
    waits.log(NAMES[0], "poll failed, will try again: HTTP 503")
    assert cells(waits)[0][5].startswith("poll failed, will")
    waits.show(NAMES[0], poll())
    assert "poll failed" not in "".join(cells(waits)[0])


@pytest.mark.parametrize(
    ("columns", "there"),
    [(100, ["STATE", "PROGRESS", "SINCE", "FOR", ""]), (48, ["STATE", "PROGRESS", "FOR"]), (24, ["STATE", "FOR"])],
)
def test_a_narrow_terminal_has_fewer_columns(monkeypatch: pytest.MonkeyPatch, columns: int, there: list[str]) -> None:
    """Name, state and time are never shortened for a bar."""
    monkeypatch.setenv("COLUMNS", str(columns))
    waits = Waits(NAMES, Terminal())
    for name in NAMES:
        waits.show(name, poll(name, metadata={"progressPercent": 50, "statusMessage": "A message."}))
    assert [column.header for column in waits.table().columns][1:] == there


def test_results_come_when_the_table_is_gone() -> None:
    """What is printed in between would be drawn over; without a table it comes at once."""
    said: list[str] = []
    with Waits(NAMES, Terminal()) as waits:
        waits.when_free(lambda: said.append("one"))
        assert said == []
    assert said == ["one"]
    with Waits(NAMES, io.StringIO()) as waits:
        waits.when_free(lambda: said.append("two"))
        assert said == ["one", "two"]


def test_a_pipe_gets_a_line_for_each_change() -> None:
    """With the name if there are several, and no escape sequence."""
    pipe = io.StringIO()
    with Waits(NAMES, pipe) as waits:
        waits.show(NAMES[0], poll())
        waits.log(NAMES[0], "RUNNING")
        waits.note("no credentials")
    with Waits(NAMES[:1], pipe) as waits:
        waits.log(NAMES[0], "SUCCEEDED")
    assert pipe.getvalue() == f"{NAMES[0]}  RUNNING\nairflow-lro: no credentials\nSUCCEEDED\n"


def test_a_wait_goes_on_until_its_result_is_there() -> None:
    """Also when the operation has finished: its response is perhaps still being taken."""
    waits = Waits(NAMES, io.StringIO())
    for name in NAMES:
        waits.show(name, poll(name, done=True, response={}))
    waits.end(NAMES[0], "SUCCEEDED")
    assert waits.waited_for == NAMES[1:]
