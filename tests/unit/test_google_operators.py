"""tools/google_operators.py finds in a provider's source what the page says, and what it does not say."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tools import google_operators
from tools.google_operators import Provider, Row, blocks, check_example, check_quotes, check_row, read_rows

ROOT = "airflow/providers/google/"
OPERATORS = """
from airflow.providers.google.cloud.hooks.things import Hook
from airflow.providers.google.cloud.operators.base import GoogleCloudBaseOperator
from airflow.providers.google.cloud.triggers.things import KindTrigger, PlainTrigger, RuthlessTrigger

class PlainOperator(GoogleCloudBaseOperator):
    def __init__(self, *, thing, **kwargs): ...

    def execute(self, context):
        Hook().create(self.thing)

class LossyOperator(PlainOperator):
    def __init__(self, *, deferrable=False, **kwargs): ...

    def execute(self, context):
        self.defer(trigger=PlainTrigger())
        Hook().wait_for_operation(self.operation)

    def on_kill(self):
        self.operation.cancel()

class RuthlessOperator(PlainOperator):
    def __init__(self, *, deferrable=False, **kwargs): ...

    def execute(self, context):
        self.defer(trigger=RuthlessTrigger())

class KindOperator(PlainOperator):
    def __init__(self, *, deferrable=False, **kwargs): ...

    def execute(self, context):
        self.defer(trigger=KindTrigger())

class ForeignOperator(KubernetesPodOperator): ...
"""
TRIGGERS = """
class PlainTrigger(BaseTrigger): ...

class KindTrigger(BaseTrigger):
    async def on_kill(self): ...

class RuthlessTrigger(BaseTrigger):
    async def run(self):
        try: ...
        except asyncio.CancelledError:
            hook.delete_cluster()
"""
HOOK = """
class Hook:
    def create(self, thing):
        self._start(thing)

    def _start(self, thing):
        return client.create(thing).result()

    def delete(self, thing):
        return client.delete(thing).result()
"""
FILES = {
    "__init__.py": '__version__ = "1.2.3"',
    "cloud/operators/base.py": "class GoogleCloudBaseOperator(BaseOperator): ...",
    "cloud/operators/things.py": OPERATORS,
    "cloud/triggers/things.py": TRIGGERS,
    "cloud/hooks/things.py": HOOK,
}


@pytest.fixture(params=["folder", "wheel"])
def provider(tmp_path: Path, request: pytest.FixtureRequest) -> Provider:
    """A small provider, in either form."""
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(ROOT + name, text)
    if request.param == "wheel":
        return Provider(tmp_path / "w.whl")
    zipfile.ZipFile(tmp_path / "w.whl").extractall(tmp_path / "unpacked")
    return Provider(tmp_path / "unpacked")


def row(name: str, running: str, deferred: str, **read_at: str) -> Row:
    """A row of the page."""
    return Row(f"cloud.operators.things.{name}", running, deferred, read_at)


def line(file: str, text: str) -> str:
    """Where a text is."""
    return f"{file}:{FILES[file].splitlines().index(text) + 1}"


WAIT_IN_HOOK = line("cloud/hooks/things.py", "        return client.create(thing).result()")
OTHER_WAIT = line("cloud/hooks/things.py", "        return client.delete(thing).result()")
WAIT = line("cloud/operators/things.py", "        Hook().wait_for_operation(self.operation)")
ON_KILL = line("cloud/operators/things.py", "    def on_kill(self):")
PLAIN, KIND, RUTHLESS = (
    line("cloud/triggers/things.py", f"class {name}Trigger(BaseTrigger):{end}")
    for name, end in (("Plain", " ..."), ("Kind", ""), ("Ruthless", ""))
)
RIGHT = [
    row("PlainOperator", "runs on", "-", wait=WAIT_IN_HOOK),
    row("LossyOperator", "cancelled", "runs on", wait=WAIT, on_kill=ON_KILL, trigger=PLAIN),
    row("KindOperator", "runs on", "cancelled", wait=WAIT_IN_HOOK, trigger=KIND),
    row("RuthlessOperator", "runs on", "cluster deleted", wait=WAIT_IN_HOOK, trigger=RUTHLESS),
]


@pytest.mark.parametrize("right", RIGHT, ids=lambda one: one.operator)
def test_what_is_right_is_right(provider: Provider, right: Row) -> None:
    """Also in a hook, by way of another function."""
    assert list(check_row(provider, right)) == []
    assert provider.version == "1.2.3"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (row("NoOperator", "runs on", "-", wait=WAIT), "there is no cloud.operators.things.NoOperator"),
        (row("ForeignOperator", "runs on", "-", wait=WAIT), "made of KubernetesPodOperator, which is not Google's"),
        (row("PlainOperator", "cancelled", "-", wait=WAIT_IN_HOOK), "killed while it runs: runs on, not cancelled"),
        (row("PlainOperator", "runs on", "-", wait=OTHER_WAIT), "does not wait at cloud/hooks/things.py"),
        (row("PlainOperator", "runs on", "-", wait="cloud/hooks/things.py:999"), "does not wait"),
        (row("PlainOperator", "runs on", "-"), "does not wait"),
        (row("PlainOperator", "runs on", "runs on", wait=WAIT_IN_HOOK), "while it is deferred: -, not runs on"),
        (row("LossyOperator", "cancelled", "runs on", wait=WAIT, trigger=PLAIN), "on_kill is at"),
        (row("LossyOperator", "cancelled", "runs on", wait=WAIT, on_kill=ON_KILL, trigger=KIND), "trigger is at"),
    ],
)
def test_what_is_wrong_is_found(provider: Provider, wrong: Row, why: str) -> None:
    """With what is right."""
    assert why in "; ".join(check_row(provider, wrong))


def test_an_example_with_an_argument_that_is_not_there(provider: Provider) -> None:
    """Those of the classes that it is made of count, and `task_id`."""
    code = "from airflow.providers.google.cloud.operators.things import LossyOperator\nLossyOperator(task_id='t', {}=1)"
    assert list(check_example(provider, code.format("thing"))) == []
    assert list(check_example(provider, code.format("think"))) == ["LossyOperator has no think"]


def test_a_quoted_line(provider: Provider) -> None:
    """It has to have the text."""
    assert list(check_quotes(provider, f"`{WAIT}`: `wait_for_operation`")) == []
    assert list(check_quotes(provider, f"`{WAIT}`: `on_kill`")) == [f"{WAIT} is not 'on_kill'"]


def test_the_command_tells_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its exit status does."""
    page = tmp_path / "page.md"
    monkeypatch.setattr(google_operators, "PAGE", page)
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(ROOT + name, text)
    table = (
        "Version 1.2.3\n\n| operator | running | deferred | read at |\n|---|---|---|---|\n"
        f"| `cloud.operators.things.PlainOperator` | runs on | - | wait `{WAIT_IN_HOOK}` |\n"
    )
    page.write_text(table)
    assert google_operators.main([str(tmp_path / "w.whl")]) == 0
    page.write_text(table.replace("1.2.3", "1.2.4").replace("runs on", "cancelled"))
    assert google_operators.main([str(tmp_path / "w.whl")]) == 1
    out = capsys.readouterr().out
    assert "the page is not of 1.2.3" in out
    assert "runs on, not cancelled" in out


def test_tables_and_blocks_are_read() -> None:
    """Only the tables of operators; the examples below a heading."""
    text = (
        "| a | b |\n|---|---|\n| c | d |\n\n"
        "| operator | running | deferred | read at | body |\n|---|---|---|---|---|\n"
        "| `m.C` | runs on | - | wait `a/b.py:1`, on_kill `a/c.py:2` |  |\n\n"
        "### After\n\n```python\nx = 1\n```\n"
    )
    [one] = read_rows(text)
    assert (one.operator, one.read_at, one.rest) == ("m.C", {"wait": "a/b.py:1", "on_kill": "a/c.py:2"}, {"body": ""})
    assert blocks(text, "After") == ["x = 1\n"]
