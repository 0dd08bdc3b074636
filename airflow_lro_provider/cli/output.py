"""How commands show operations: a table and colours on a terminal, plain lines and JSON everywhere else.

Rich draws what a terminal shows, and is imported only for that. It honours ``NO_COLOR`` and ``TERM=dumb``; whether a
stream is a terminal is decided here, so that what is piped never has an escape sequence in it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.redaction import legible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

RUNNING, WRONG = 3, 1
"""Exit statuses besides 0: it is still running; it failed, was cancelled, or could not be reached."""
BAR_WIDTH = 12
STYLES = {
    "PENDING": "cyan",
    "RUNNING": "cyan",
    "CANCELLING": "magenta",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "STILL RUNNING": "yellow",
    "ERROR": "red",
    "ok": "green",
    "warning": "yellow",
    "problem": "red",
}
"""The colours of states, outcomes and marks."""


def print_json(document: Any, *, in_one_line: bool = False) -> None:
    """Print a document: alone, or as one line of many."""
    print(json.dumps(document, indent=None if in_one_line else 2), flush=True)


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at it who wants to see tables."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console_on(stream: TextIO) -> Console:
    """A console that changes nothing of what it prints."""
    from rich.console import Console

    return Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)


def print_line(line: str, word: str = "") -> None:
    """Print a line; on a terminal, the first place where this word stands in it has its colour."""
    if not (word and is_terminal(sys.stdout)):
        print(line, flush=True)  # whoever reads a pipe gets it when it is there
        return
    from rich.text import Text

    before, _, after = line.partition(word)
    text = Text.assemble(before, (word, STYLES.get(word, "")), after)
    console_on(sys.stdout).print(text, soft_wrap=True)


# What errors call the arguments of Python functions, where the shell has a flag for them.
_FLAG = re.compile(
    r"`(service|api_version|filter|database)`|\b(service|api_version|filter)=…|(?<=\()(poll_interval)(?=\))"
)


def fail(message: str) -> int:
    """Print what is wrong to standard error; returns the exit status."""
    message = _FLAG.sub(lambda found: "--" + next(filter(None, found.groups())).replace("_", "-"), message)
    print(f"airflow-lro: {message}", file=sys.stderr, flush=True)
    return WRONG


# -- one operation in words -------------------------------------------------------------------------------------------


def word_of(operation: Operation) -> str:
    """Its state or outcome."""
    word = operation.outcome or operation.state
    return word.value if word else "?"


def line_of(operation: Operation, *, in_full: bool) -> str:
    """An operation in one line.

    :param in_full: say all that the error of a failed one says.
    """
    failed = operation.outcome is Outcome.FAILED and in_full
    line = f"FAILED · {operation.failure}" if failed else operation.summary()
    return f"{line} · in part only: {operation.partial_failures}" if operation.partial_failures else line


def words_of(operation: Operation) -> str:
    """What its service says, or its error."""
    return operation.summary().removeprefix(operation.summary(words=False)).removeprefix(" · ")


def kind_of(operation: Operation) -> str:
    """What it does, as its service calls that: a verb, a type, or the name of its metadata's message."""
    for part in (operation.metadata, *filter(_is_object, operation.metadata.values())):
        for key in ("verb", "type", "operationType", "method"):
            if isinstance(part.get(key), str) and part[key]:
                return legible(part[key].rpartition(".")[2])[:40]
    message = str(operation.metadata.get("@type", "")).rpartition(".")[2]
    return legible(message.removesuffix("Metadata").removesuffix("Operation"))[:40]


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def duration(seconds: float) -> str:
    """``7s``, ``3m04s``, ``1h02m``, ``12d``."""
    whole = max(int(seconds), 0)
    if whole >= 2 * 86400:
        return f"{whole // 86400}d"
    if whole >= 3600:
        return f"{whole // 3600}h{whole // 60 % 60:02}m"
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"


def common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to a slash; of one name, all but its last part."""
    prefix = os.path.commonprefix(list(names)) if len(names) > 1 else "".join(names)  # noqa: RUF071
    return prefix[: prefix.rfind("/") + 1]


def progress_of(operation: Operation) -> str:
    """A bar, and percent; empty if the operation does not say."""
    progress = 1.0 if operation.outcome is Outcome.SUCCEEDED else operation.progress
    if progress is None:
        return ""
    return f"{('█' * round(progress * BAR_WIDTH)).ljust(BAR_WIDTH, '░')} {progress:4.0%}"


def show(operation: Operation, as_json: bool, name: str = "") -> None:
    """Print an operation; with its name, as one of many."""
    if as_json:
        print_json(operation.raw, in_one_line=bool(name))
    else:
        line = line_of(operation, in_full=not name)
        print_line(f"{legible(name)}  {line}" if name else line, word_of(operation))


# -- many ------------------------------------------------------------------------------------------------------------


def print_list(operations: Sequence[Operation], *, full_names: bool, clock: Callable[[], float] = time.time) -> None:
    """Print operations as a table for a terminal.

    :param full_names: do not leave out what all names begin with. It stands in the line above the table.
    """
    console, now = console_on(sys.stdout), clock()
    prefix = "" if full_names else common_prefix([operation.name for operation in operations])
    table = new_table("NAME", "STATE", "WHAT", "AGE", "PROGRESS")
    for operation in operations:
        created = operation.create_time
        add_row(
            table,
            operation.name.removeprefix(prefix),
            word_of(operation),
            kind_of(operation),
            "" if created is None else duration(now - created.timestamp()),
            progress_of(operation),
        )
    if prefix:
        console.print(f"{legible(prefix)}…", style="dim", soft_wrap=True)
    _print_whole(console, table)


def _print_whole(console: Console, table: Table) -> None:
    """Print a table without shortening a name: where the terminal is too narrow, it breaks the lines itself."""
    console.width = max(console.width, width_of(console, table))
    console.print(table, crop=False)


def width_of(console: Console, table: Table) -> int:
    """How wide it is if nothing is shortened, however wide the terminal is."""
    return console.measure(table, options=console.options.update(width=100_000)).maximum


def new_table(*columns: str) -> Table:
    """A table with these heads."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column == "AGE" else "left")
    return table


def add_row(table: Table, name: str, word: str, *cells: str) -> None:
    """Add an operation: its state or outcome has its colour."""
    from rich.text import Text

    table.add_row(Text(legible(name)), Text(word, STYLES.get(word, "")), *map(Text, cells))
