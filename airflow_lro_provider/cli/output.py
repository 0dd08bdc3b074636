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
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.redaction import legible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

RUNNING, WRONG = 3, 1
"""Exit statuses besides 0: it is still running; it failed, was cancelled, or could not be reached."""
BAR_WIDTH = 12
MIN_WORDS, MAX_WORDS = 10, 60
"""How much of what a service says stands in the table, if there is room for it."""
REDRAWS_PER_SECOND = 1
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
_FLAG = re.compile(r"`(service|api_version|filter)`|\b(service|api_version|filter)=…|(?<=\()(poll_interval)(?=\))")


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
    """``0:07``, ``1:02:03``, ``12 d``."""
    whole = max(int(seconds), 0)
    if whole >= 2 * 86400:
        return f"{whole // 86400} d"
    minutes = f"{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes


def common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to a slash; of one name, all but its last part."""
    prefix = os.path.commonprefix(list(names)) if len(names) > 1 else "".join(names)  # noqa: RUF071
    return prefix[: prefix.rfind("/") + 1]


def _progress(operation: Operation) -> str:
    progress = 1.0 if operation.outcome is Outcome.SUCCEEDED else operation.progress
    if progress is None:
        return ""
    return f"{('█' * round(progress * BAR_WIDTH)).ljust(BAR_WIDTH, '░')} {progress:4.0%}"


# -- many ------------------------------------------------------------------------------------------------------------


def print_list(operations: Sequence[Operation], *, full_names: bool, clock: Callable[[], float] = time.time) -> None:
    """Print operations as a table for a terminal.

    :param full_names: do not leave out what all names begin with. It stands in the line above the table.
    """
    console, now = console_on(sys.stdout), clock()
    prefix = "" if full_names else common_prefix([operation.name for operation in operations])
    table = _table("NAME", "STATE", "WHAT", "AGE", "PROGRESS")
    for operation in operations:
        created = operation.create_time
        _add_row(
            table,
            operation.name.removeprefix(prefix),
            word_of(operation),
            kind_of(operation),
            "" if created is None else duration(now - created.timestamp()),
            _progress(operation),
        )
    if prefix:
        console.print(f"{legible(prefix)}…", style="dim", soft_wrap=True)
    _print_whole(console, table)


def _print_whole(console: Console, table: Table) -> None:
    """Print a table without shortening a name: where the terminal is too narrow, it breaks the lines itself."""
    console.width = max(console.width, _width_of(console, table))
    console.print(table, crop=False)


def _width_of(console: Console, table: Table) -> int:
    """How wide it is if nothing is shortened, however wide the terminal is."""
    return console.measure(table, options=console.options.update(width=100_000)).maximum


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column == "AGE" else "left")
    return table


def _add_row(table: Table, name: str, word: str, *cells: str) -> None:
    from rich.text import Text

    table.add_row(Text(legible(name)), Text(word, STYLES.get(word, "")), *map(Text, cells))


@dataclass
class _Wait:
    """What is known of one wait."""

    operation: Operation | None = None
    word: str = "…"
    since: float = 0.0
    trouble: str = ""

    def note(self, word: str, since: float) -> None:
        if word != self.word:
            self.word, self.since = word, since


@dataclass
class Waits:
    """The waits for some operations: one table that changes on a terminal, else a line for each change.

    The table is redrawn every second, however rarely the operations are polled, and vanishes at the end: the results
    follow on standard output.

    :param names: of the operations, as they are shown.
    :param stream: where it is shown, by default standard error.
    :param clock: the time, in seconds since the epoch.
    """

    names: Sequence[str]
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.time
    _live: Live | None = None

    def __post_init__(self) -> None:
        self._waits = {name: _Wait(since=self.clock()) for name in self.names}
        prefix, ends = common_prefix(self.names), {name: name.rpartition("/")[2] for name in self.names}
        are_unique = len(set(ends.values())) == len(ends)
        self._labels = ends if are_unique else {name: name.removeprefix(prefix) for name in self.names}
        self._later: list[Callable[[], object]] = []
        self.has_table = is_terminal(self.stream)

    def __enter__(self) -> Waits:
        if self.has_table:
            from rich.live import Live

            self._live = Live(
                get_renderable=self.table,
                console=console_on(self.stream),
                refresh_per_second=REDRAWS_PER_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        for act in self._later:
            act()

    def when_free(self, act: Callable[[], object]) -> None:
        """Do what prints something: at once, or as soon as the table is gone."""
        if self.has_table:
            self._later.append(act)
        else:
            act()

    def show(self, name: str, operation: Operation) -> None:
        """Show a poll."""
        wait, now = self._waits[name], self.clock()
        is_first, wait.operation, wait.trouble = wait.operation is None, operation, ""
        stated = operation.end_time if operation.done else operation.create_time if is_first else None
        wait.note(word_of(operation), now if stated is None else min(stated.timestamp(), now))
        self._redraw()

    def log(self, name: str, line: str) -> None:
        """Print a change, or note it: that polls begin to fail, a poll does not show. The end follows as the result."""
        if self.has_table:
            if line.startswith("poll failed"):
                self._waits[name].trouble = line
        elif name in self.unfinished:
            prefix = f"{name}  " if len(self.names) > 1 else ""
            print(f"{prefix}{line}", file=self.stream, flush=True)

    def note(self, line: str) -> None:
        """Print what concerns all of them."""
        if self._live is not None:
            self._live.console.print(f"airflow-lro: {line}", soft_wrap=True)
        else:
            print(f"airflow-lro: {line}", file=self.stream, flush=True)

    def end(self, name: str, word: str) -> None:
        """Note how a wait ended that has no outcome."""
        self._waits[name].note(word, self.clock())
        self._redraw()

    @property
    def unfinished(self) -> list[str]:
        """The names of those that are not known to have finished."""
        return [name for name, wait in self._waits.items() if wait.operation is None or not wait.operation.done]

    def table(self) -> Table:
        """The table as it is now: where the terminal is narrow, with fewer columns, and less of what services say."""
        console, shown = console_on(self.stream), ["OPERATION", "STATE", "PROGRESS", "SINCE", "FOR"]
        for column in ("SINCE", "PROGRESS"):
            if _width_of(console, self._table(shown)) > console.width:
                shown.remove(column)
        left = console.width - _width_of(console, self._table(shown)) - 2
        return self._table(shown, min(left, MAX_WORDS) if left >= MIN_WORDS else 0)

    def _table(self, shown: Sequence[str], words: int = 0) -> Table:
        now, table = self.clock(), _table(*shown, *([""] if words else []))
        for name, wait in self._waits.items():
            operation, said = wait.operation, wait.trouble
            cells = {"FOR": duration(now - wait.since)}
            if operation is not None:
                said = said or words_of(operation)
                cells["PROGRESS"] = _progress(operation) or _moving(operation, now)
                cells["SINCE"] = datetime.fromtimestamp(wait.since).strftime("%H:%M:%S")
            row = [cells.get(column, "") for column in shown[2:]]
            if words:
                row.append(said if len(said) <= words else f"{said[: words - 1]}…")
            _add_row(table, self._labels[name], wait.word, *row)
        return table

    def _redraw(self) -> None:
        if self._live is not None:
            self._live.refresh()


def _moving(operation: Operation, now: float) -> str:
    """A bar for what says no progress: something moves while it runs."""
    if operation.done:
        return ""
    return "".join("█" if place == int(now) % BAR_WIDTH else "░" for place in range(BAR_WIDTH))
