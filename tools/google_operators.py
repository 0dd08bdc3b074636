"""Holds what docs/coming-from-google.md says of Google's operators against their source: a wheel of Google's provider.

::

    pip download --no-deps apache-airflow-providers-google==22.8.0
    python -m tools.google_operators apache_airflow_providers_google-22.8.0-py3-none-any.whl

The source is read and never imported; the provider and its 130 dependencies are not needed. Of every operator in the
page it checks

* that there is one, and that every ``file.py:line`` is what the page says: where it waits, its ``on_kill``, its trigger
* what becomes of the operation when its task is killed: whether the operator, or one that it is made of, has an
  ``on_kill``, and whether the trigger that it defers to has one, or reacts to being cancelled
* of an example "before": that the operator has all the arguments that it is given
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-google.md"
ROOT = "airflow/providers/google/"
RUNS_ON, CANCELLED, DELETED, NEVER = "runs on", "cancelled", "cluster deleted", "-"
"""What becomes of an operation when its task is killed; ``-``: the operator cannot defer."""

_WAITS = re.compile(r"\.result\(|\.wait\(|_?wait_for_\w+\(|poll_operation_until_done\(")
_OUTSIDE = {"ABC", "BaseOperator", "BaseTrigger", "ResumableJobMixin"}
"""Bases outside the provider that have no ``on_kill`` that does anything."""


@dataclass(frozen=True)
class Row:
    """A row of one of the page's tables of operators.

    :param operator: its path below ``airflow.providers.google``.
    :param running: what becomes of its operation when its task is killed while it runs.
    :param deferred: the same while it is deferred.
    :param read_at: what the page says to be where: ``wait``, ``on_kill``, ``trigger``.
    :param rest: the other cells, by the heads of their columns.
    """

    operator: str
    running: str
    deferred: str
    read_at: Mapping[str, str]
    rest: Mapping[str, str] = field(default_factory=dict)


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """The tables of a page in Markdown: the heads of the columns, and the rows."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        head, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines())
        yield head, rows


def read_rows(text: str) -> list[Row]:
    """All rows that say what an operator of Google's does when its task is killed."""
    found = []
    for head, rows in tables(text):
        if head[:4] != ["operator", "running", "deferred", "read at"]:
            continue
        for cells in rows:
            operator, running, deferred, read_at, *rest = cells
            places = dict(re.findall(r"(\w+) `([\w./]+:\d+)`", read_at))
            others = dict(zip(head[4:], (cell.strip("`") for cell in rest), strict=True))
            found.append(Row(operator.strip("`"), running, deferred, places, others))
    return found


def blocks(text: str, heading: str) -> list[str]:
    """The examples in Python below all headings of a name."""
    parts = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    return [block for part in parts for block in re.findall(r"```python\n(.*?)```", part, re.S)]


@dataclass(frozen=True)
class Class:
    """A class of the provider.

    :param file: where it is, below ``airflow/providers/google/``.
    """

    file: str
    node: ast.ClassDef

    def function(self, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """A function of its own."""
        for one in ast.walk(self.node):  # also one that only some versions of Airflow have
            if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) and one.name == name:
                return one
        return None


class Provider:
    """The source of Google's provider.

    :param wheel: a wheel, or a folder where one was unpacked.
    """

    def __init__(self, wheel: Path) -> None:
        if wheel.is_dir():
            files = {str(file.relative_to(wheel)): file.read_text("utf-8") for file in wheel.rglob("*.py")}
        else:
            with zipfile.ZipFile(wheel) as archive:
                files = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
        self.files = {name.removeprefix(ROOT): text for name, text in files.items() if name.startswith(ROOT)}
        init = self.files.get("__init__.py", "")
        self.version = found[1] if (found := re.search(r'__version__ = "([\d.]+)"', init)) else "unknown"
        self.parsed = lru_cache(maxsize=None)(lambda file: ast.parse(self.files[file]))

    def find(self, path: str) -> Class:
        """A class by its path below ``airflow.providers.google``.

        :raises LookupError: if there is none.
        """
        module, _, name = path.rpartition(".")
        file = module.replace(".", "/") + ".py"
        for one in self.parsed(file).body if file in self.files else ():
            if isinstance(one, ast.ClassDef) and one.name == name:
                return Class(file, one)
        raise LookupError(f"there is no {path}")

    def family(self, one: Class) -> list[Class]:
        """A class and all that it is made of, as far as that is in the provider.

        :raises LookupError: if it is made of something else that may have an ``on_kill``.
        """
        found = [one]
        for base in one.node.bases:
            name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
            if name in _OUTSIDE:
                continue
            if (path := self.imported(one.file, name)) is None:
                raise LookupError(f"{one.node.name} is made of {name}, which is not Google's")
            found += self.family(self.find(path))
        return found

    def imported(self, file: str, name: str) -> str | None:
        """Where a name in a file comes from; ``None`` if not from the provider."""
        for one in ast.walk(self.parsed(file)):
            if isinstance(one, ast.ClassDef) and one.name == name:
                return f"{file.removesuffix('.py').replace('/', '.')}.{name}"
            if isinstance(one, ast.ImportFrom) and (one.module or "").startswith("airflow.providers.google."):
                for alias in one.names:
                    if (alias.asname or alias.name) == name:
                        return f"{str(one.module).removeprefix('airflow.providers.google.')}.{alias.name}"
        return None

    def on_kill(self, one: Class) -> str | None:
        """Where a class has its ``on_kill``."""
        for part in self.family(one):
            if (function := part.function("on_kill")) is not None:
                return f"{part.file}:{function.lineno}"
        return None

    def arguments(self, one: Class) -> set[str]:
        """All arguments of a class, without those of Airflow's own operators."""
        made = [part.function("__init__") for part in self.family(one)]
        return {argument.arg for init in made if init for argument in (*init.args.args, *init.args.kwonlyargs)}

    def triggers(self, one: Class) -> list[Class]:
        """What an operator defers to."""
        names = {
            ast.unparse(call.func)
            for part in self.family(one)
            for call in ast.walk(part.node)
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("Trigger")
        }
        paths = [
            path for name in sorted(names) for part in self.family(one) if (path := self.imported(part.file, name))
        ]
        return [self.find(path) for path in dict.fromkeys(paths)]

    def when_running(self, one: Class) -> str:
        """What becomes of an operation when its task is killed while it runs."""
        return CANCELLED if self.on_kill(one) else RUNS_ON

    def when_deferred(self, one: Class) -> str:
        """What becomes of an operation when its task is killed while it is deferred."""
        if "deferrable" not in self.arguments(one):
            return NEVER
        found = set()
        for trigger in self.triggers(one):
            source = "\n".join(ast.unparse(part.node) for part in self.family(trigger))
            if self.on_kill(trigger):
                found.add(CANCELLED)
            elif "except asyncio.CancelledError" in source:
                found.add(DELETED if ".delete_cluster(" in source else "reacts in a way of its own")
            else:
                found.add(RUNS_ON)
        return " or ".join(sorted(found)) or "defers to nothing"

    def is_reached(self, one: Class, file: str, line: int) -> bool:
        """Whether a line is in an operator, or in a function of another file that it calls, also by way of others."""
        family = [part for part in self.family(one) if part.file == file]
        if family:
            return any(part.node.lineno <= line <= (part.node.end_lineno or 0) for part in family)
        functions = [node for node in ast.walk(self.parsed(file)) if isinstance(node, ast.FunctionDef)]
        called, reached = set[str](), {name for part in self.family(one) for name in _calls(part.node)}
        while reached - called:
            called |= reached
            reached |= {name for node in functions if node.name in called for name in _calls(node)}
        return any(node.name in called and node.lineno <= line <= (node.end_lineno or 0) for node in functions)


def _calls(node: ast.AST) -> set[str]:
    """The names of all methods that are called, or handed over."""
    return {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def check_row(provider: Provider, row: Row) -> Iterator[str]:
    """What is wrong with a row; nothing if all is right."""
    try:
        one = provider.find(row.operator)
        running, deferred = provider.when_running(one), provider.when_deferred(one)
    except LookupError as error:
        yield str(error)
        return
    if row.running != running:
        yield f"killed while it runs: {running}, not {row.running}"
    if row.deferred != deferred:
        yield f"killed while it is deferred: {deferred}, not {row.deferred}"
    wanted: dict[str, list[str | None]] = {"on_kill": [provider.on_kill(one)]}
    if deferred != NEVER:
        wanted["trigger"] = [f"{trigger.file}:{trigger.node.lineno}" for trigger in provider.triggers(one)]
    for what, places in wanted.items():
        if row.read_at.get(what) not in (places or [None]):
            yield f"{what} is at {', '.join(map(str, places))}, not at {row.read_at.get(what)}"
    file, _, number = row.read_at.get("wait", "").partition(":")
    lines = provider.files.get(file, "").splitlines()
    text = lines[int(number) - 1].strip() if number and int(number) <= len(lines) else ""
    if not _WAITS.search(text) or not provider.is_reached(one, file, int(number)):
        yield f"it does not wait at {file}:{number} ({text!r})"


def check_quotes(provider: Provider, text: str) -> Iterator[str]:
    """What is wrong with the lines that the page's text quotes: ```file.py:line`: `what is there```."""
    for file, number, quoted in re.findall(r"`([\w./]+\.py):(\d+)`:\s+`([^`]+)`", text):
        lines = provider.files.get(file, "").splitlines()
        if int(number) > len(lines) or quoted not in lines[int(number) - 1]:
            yield f"{file}:{number} is not {quoted!r}"


def check_example(provider: Provider, code: str) -> Iterator[str]:
    """What is wrong with an example of Google's operators; nothing if all is right."""
    tree = ast.parse(code)
    paths = {
        alias.name: f"{str(one.module).removeprefix('airflow.providers.google.')}.{alias.name}"
        for one in tree.body
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or ast.unparse(call.func) not in paths:
            continue
        try:
            known = provider.arguments(provider.find(paths[ast.unparse(call.func)]))
        except LookupError as error:
            yield str(error)
            continue
        given = {str(one.arg) for one in call.keywords}
        if unknown := given - known - {"task_id", "trigger_rule"}:
            yield f"{ast.unparse(call.func)} has no {', '.join(sorted(unknown))}"


def main(arguments: list[str] | None = None) -> int:
    """Check the page against a wheel; 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wheel", type=Path, help="a wheel of apache-airflow-providers-google, or an unpacked one")
    given: Any = parser.parse_args(arguments)
    provider, text = Provider(given.wheel), PAGE.read_text("utf-8")
    problems = []
    if provider.version not in text:
        problems.append(f"the page is not of {provider.version}")
    rows, examples = read_rows(text), blocks(text, "Before")
    for row in rows:
        problems += [f"{row.operator}: {problem}" for problem in check_row(provider, row)]
    problems += check_quotes(provider, text)
    for code in examples:
        problems += check_example(provider, code)
    for problem in problems:
        print(problem)
    print(
        f"Google's provider {provider.version}: {len(rows)} operators, {len(examples)} examples, {len(problems)} wrong"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
