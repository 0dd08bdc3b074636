"""The progress of an operation on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from airflow_lro_provider.lro.operation import Operation, Outcome

WIDTH = 30
REDRAW_SECONDS = 1.0


class ProgressBar:
    """The progress of an operation: one line that changes on a terminal, else a line per change.

    The line is redrawn every second, however rarely the operation is polled; at a success it is full.

    :param stream: where it is written, by default standard error.
    :param clock: the time, in seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._clock, self._begun = clock, clock()
        self._operation: Operation | None = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._redraw, daemon=True)

    def __enter__(self) -> ProgressBar:
        if self._is_terminal:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._is_terminal:
            self._thread.join()
            if self._operation is not None:
                self._stream.write("\n")

    def show(self, operation: Operation) -> None:
        """Show a poll."""
        self._operation = operation
        self.draw()

    def log(self, line: str) -> None:
        """Print a change."""
        if not self._is_terminal:
            print(line, file=self._stream, flush=True)

    def draw(self) -> None:
        """Draw the line as it is now."""
        operation = self._operation
        if operation is None or not self._is_terminal:
            return
        elapsed = int(self._clock() - self._begun)
        progress = 1.0 if operation.outcome is Outcome.SUCCEEDED else operation.progress
        if progress is None and not operation.done:
            line = "".join("█" if place == elapsed % WIDTH else "░" for place in range(WIDTH))
        else:
            line = ("█" * round((progress or 0.0) * WIDTH)).ljust(WIDTH, "░")
        with self._lock:
            self._stream.write(f"\r\033[K{line} {elapsed // 60}:{elapsed % 60:02} {operation.summary()[:80]}")
            self._stream.flush()

    def _redraw(self) -> None:
        while not self._ended.wait(REDRAW_SECONDS):
            self.draw()
