"""What a terminal shows, with the clock in the test's hand."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from airflow_lro_provider.cli import output
from airflow_lro_provider.cli.output import common_prefix, duration, kind_of, print_list
from airflow_lro_provider.lro.operation import Operation

pytestmark = pytest.mark.usefixtures("wide_terminal")
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
    assert first.split() == ["one", "RUNNING", "create", "1m05s"]
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
    [(-3, "0s"), (7, "7s"), (65, "1m05s"), (3600, "1h00m"), (7384, "2h03m"), (864000, "10d")],
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
