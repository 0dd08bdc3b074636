"""What a terminal shows, with the clock in the test's hand."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from airflow_lro_provider.cli import output
from airflow_lro_provider.cli.output import Waits, common_prefix, duration, kind_of, print_list
from airflow_lro_provider.lro.operation import Operation
from tests.airflow.played import once

L = "projects/p/locations/us-central1"
NAMES = [f"{L}/operations/one", f"{L}/operations/two"]


def poll(name: str = NAMES[0], **fields: Any) -> Operation:
    """One poll."""
    return Operation.from_json({"name": name, **fields})


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        """It is one."""
        return True

    @property
    def text(self) -> str:
        """Without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


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
    assert [row[4] for row in before] == ["0:00", "0:00"]
    assert [row[4] for row in after] == ["0:01", "0:01"]
    assert before[0][2] != after[0][2]
    assert before[1][2] == after[1][2] == "██████░░░░░░  50%"


def test_nobody_has_to_poll_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """C12: a thread of its own redraws the table, which is gone at the end, and the cursor is back."""
    monkeypatch.setattr(output, "REDRAWS_PER_SECOND", 1000)
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
    assert cells(waits)[0][4] == "0:05"
    waits.show(NAMES[0], poll(done=True, response={}, metadata={"endTime": "2023-11-14T22:13:22Z"}))  # 2 s after
    assert cells(waits)[0][1:5:3] == ["SUCCEEDED", "0:03"]
    waits = Waits(NAMES[:1], Terminal(), clock=lambda: now[0])
    waits.show(NAMES[0], poll(done=True, metadata={"endTime": "2033-01-01T00:00:00Z"}))
    assert cells(waits)[0][4] == "0:00"


@pytest.mark.parametrize(
    ("fields", "filled"),
    [
        ({"response": {}}, output.BAR_WIDTH),
        ({"response": {}, "metadata": {"progressPercent": 40}}, output.BAR_WIDTH),
        ({"error": {"code": 13}, "metadata": {"progressPercent": 50}}, output.BAR_WIDTH // 2),
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


def test_the_list_has_all_of_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the terminal: what all begin with is above the table, and the rest is whole, to be copied."""
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    long = f"{L}/operations/operation-1699999999999-60a1b2c3d4e5f-{'0' * 30}"
    made = {"createTime": "2023-11-14T22:13:20Z", "verb": "create"}
    print_list([poll(metadata=made), poll(long)], full_names=False, clock=lambda: 1_700_000_065.0)
    above, header, first, second, *_ = terminal.text.splitlines()
    assert above == f"{L}/operations/…"
    assert header.split() == ["NAME", "STATE", "WHAT", "AGE", "PROGRESS"]
    assert first.split() == ["one", "RUNNING", "create", "1:05"]
    assert second.split()[0] == long.rpartition("/")[2]
    print_list([poll(), poll(long)], full_names=True)
    assert f"\n{NAMES[0]} " in terminal.text
    assert f"\n{long} " in terminal.text


@pytest.mark.parametrize(("variable", "value", "coloured"), [("X", "1", True), ("NO_COLOR", "1", False)])
def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, coloured: bool) -> None:
    """https://no-color.org: a table all the same, without colours."""
    terminal = Terminal()
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("sys.stdout", terminal)
    print_list([poll(done=True, response={})], full_names=False)
    output.print_line("SUCCEEDED · Finished.", "SUCCEEDED")
    assert ("\x1b[32m" in terminal.getvalue()) == coloured
    assert terminal.text.count("SUCCEEDED") == 2


def test_a_name_cannot_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an escape sequence nor rich's markup of a service does anything on the terminal."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    print_list([poll("a/\x1b[2Jb", metadata={"verb": "[red]x[/red]"}), poll("a/c")], full_names=False)
    assert "\x1b[2J" not in terminal.getvalue()
    assert "[red]x[/red]" in terminal.getvalue()


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ({"verb": "create"}, "create"),
        ({"type": "EXPORT_IMAGE"}, "EXPORT_IMAGE"),
        ({"@type": "type.googleapis.com/google.cloud.aiplatform.v1.CreateEndpointOperationMetadata"}, "CreateEndpoint"),
        ({"operationMetadata": {"method": "google.cloud.x.v1.X.DeleteY"}}, "DeleteY"),
        ({}, ""),
    ],
)
def test_what_an_operation_does(metadata: dict[str, Any], kind: str) -> None:
    """In the service's own word."""
    assert kind_of(poll(metadata=metadata)) == kind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0:00"), (7, "0:07"), (65, "1:05"), (3600, "1:00:00"), (7384, "2:03:04"), (864000, "10 d")],
)
def test_durations(seconds: float, text: str) -> None:
    """Short, and sortable by eye."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("names", "prefix"), [(NAMES, f"{L}/operations/"), (NAMES[:1], f"{L}/operations/"), (["a/b", "c/d"], ""), ([], "")]
)
def test_what_names_share(names: list[str], prefix: str) -> None:
    """Whole segments only."""
    assert common_prefix(names) == prefix
