"""Waiting for operations from a shell, and what is shown meanwhile: on a terminal a table, else lines."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from airflow_lro_provider.cli.output import (
    BAR_WIDTH,
    RUNNING,
    WRONG,
    add_row,
    common_prefix,
    console_on,
    duration,
    fail,
    is_terminal,
    new_table,
    progress_of,
    show,
    width_of,
    word_of,
    words_of,
)
from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.errors import OperationsError, WaitTimeoutError
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, new_schedule

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.resources.names import OperationReference

MIN_WORDS, MAX_WORDS = 10, 60
"""How much of what a service says stands in the table, if there is room for it."""
REDRAWS_PER_SECOND = 1


def wait_for_all(
    settings: ConnectionSettings, references: list[OperationReference], given: argparse.Namespace, *, say: bool = True
) -> list[Operation | OperationsError]:
    """Wait for operations, each until it has finished or the timeout has passed.

    :param say: print each that has finished.
    """
    several_apis = len({reference.service for reference in references}) > 1
    names = [str(reference) if several_apis else reference.name for reference in references]
    # One that is waited for with `:wait` keeps a connection: nobody has to wait for another one's.
    connections = max(MAX_IN_FLIGHT, len(references))

    async def wait_for(
        client: AsyncOperationsClient, reference: OperationReference, name: str
    ) -> Operation | OperationsError:
        schedule = new_schedule(time.monotonic(), timeout=given.timeout, interval=given.poll_interval)
        how: Any = {"on_poll": functools.partial(waits.show, name), "on_change": functools.partial(waits.log, name)}
        try:
            operation = await client.wait_until_done(reference, schedule, **how)
        except OperationsError as error:
            waits.end(name, "STILL RUNNING" if _is_timeout(error) else "ERROR")
            return error
        waits.end(name, word_of(operation))
        if say:
            waits.when_free(functools.partial(show, operation, given.json, name if len(names) > 1 else ""))
        return operation

    async def wait_for_each() -> list[Operation | OperationsError]:
        asyncio.get_running_loop().set_exception_handler(_on_trouble)
        with _ctrl_c_cancels():
            client = await AsyncOperationsClient.create(settings, connections=connections, on_trouble=waits.note)
            async with client:
                return list(await asyncio.gather(*map(functools.partial(wait_for, client), references, names)))

    waits = Waits(names)
    try:
        with waits:
            return asyncio.run(wait_for_each())
    except (asyncio.CancelledError, KeyboardInterrupt):
        left = ", ".join(waits.waited_for)
        fail(f"interrupted; no operation was cancelled by that. Not waited for any longer: {left or 'none'}")
        raise KeyboardInterrupt from None


def _on_trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A second Ctrl-C may go through any task: asyncio would print the stack."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


@contextlib.contextmanager
def _ctrl_c_cancels() -> Iterator[None]:
    """Let the first Ctrl-C cancel this asyncio task; the second one is an interrupt as ever.

    ``asyncio.run`` does so since Python 3.11. Before, a line that was being written was cut off.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        loop.call_soon_threadsafe(task.cancel)  # type: ignore[union-attr]

    is_main = threading.current_thread() is threading.main_thread()
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if sys.version_info >= (3, 11) or not is_main or not is_default:
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def status_of(result: Operation | OperationsError) -> int:
    """What a wait that ended so is for the exit status; says what is wrong, but for how the operation ended."""
    if isinstance(result, OperationsError):
        fail(str(result))
        return RUNNING if _is_timeout(result) else WRONG
    if result.hidden_failure is not None:
        return fail(f"{result.name}: it reports no error, but {result.hidden_failure}.")
    return 0 if result.outcome is Outcome.SUCCEEDED else WRONG


def _is_timeout(error: OperationsError) -> bool:
    """Whether it is known to run on: the last poll has shown it."""
    return isinstance(error, WaitTimeoutError) and error.last_error is None


@dataclass
class _Wait:
    """What is known of one wait."""

    operation: Operation | None = None
    word: str = "…"
    since: float = 0.0
    trouble: str = ""
    is_over: bool = False

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
        """Print a change, or note it: that polls begin to fail, a poll does not show."""
        if self.has_table:
            if line.startswith("poll failed"):
                self._waits[name].trouble = line
        else:
            prefix = f"{name}  " if len(self.names) > 1 else ""
            print(f"{prefix}{line}", file=self.stream, flush=True)

    def note(self, line: str) -> None:
        """Print what concerns all of them."""
        if self._live is not None:
            self._live.console.print(f"airflow-lro: {line}", soft_wrap=True)
        else:
            print(f"airflow-lro: {line}", file=self.stream, flush=True)

    def end(self, name: str, word: str) -> None:
        """Note how a wait has ended."""
        wait = self._waits[name]
        wait.is_over = True
        wait.note(word, self.clock())
        self._redraw()

    @property
    def waited_for(self) -> list[str]:
        """The names of those whose wait has not ended."""
        return [name for name, wait in self._waits.items() if not wait.is_over]

    def table(self) -> Table:
        """The table as it is now: where the terminal is narrow, with fewer columns, and less of what services say."""
        console, shown = console_on(self.stream), ["OPERATION", "STATE", "PROGRESS", "SINCE", "FOR"]
        for column in ("SINCE", "PROGRESS"):
            if width_of(console, self._table(shown)) > console.width:
                shown.remove(column)
        left = console.width - width_of(console, self._table(shown)) - 2
        return self._table(shown, min(left, MAX_WORDS) if left >= MIN_WORDS else 0)

    def _table(self, shown: Sequence[str], words: int = 0) -> Table:
        now, table = self.clock(), new_table(*shown, *([""] if words else []))
        for name, wait in self._waits.items():
            operation, said = wait.operation, wait.trouble
            cells = {"FOR": duration(now - wait.since)}
            if operation is not None:
                said = said or words_of(operation)
                cells["PROGRESS"] = progress_of(operation) or _moving(operation, now)
                cells["SINCE"] = datetime.fromtimestamp(wait.since).strftime("%H:%M:%S")
            row = [cells.get(column, "") for column in shown[2:]]
            if words:
                row.append(said if len(said) <= words else f"{said[: words - 1]}…")
            add_row(table, self._labels[name], wait.word, *row)
        return table

    def _redraw(self) -> None:
        if self._live is not None:
            self._live.refresh()


def _moving(operation: Operation, now: float) -> str:
    """A bar for what says no progress: something moves while it runs."""
    if operation.done:
        return ""
    return "".join("█" if place == int(now) % BAR_WIDTH else "░" for place in range(BAR_WIDTH))
