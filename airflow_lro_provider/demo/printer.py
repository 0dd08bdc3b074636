"""Where the demo prints what happens: lines with the time since the start, coloured on a terminal."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

__all__ = ["Printer"]


class Printer:
    """Prints lines with the time since the start.

    :param stream: where to
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._started = time.monotonic()
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self._colours = self._stream.isatty() and not plain

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def event(self, what: str, text: str) -> None:
        """Print what happens, now."""
        self.line(f"{self.seconds:6.1f} s  {what:<9} {text}")

    def line(self, text: str = "", colour: str | None = None) -> None:
        """Print a line.

        :param colour: ``green`` or ``red``, if the output is a terminal
        """
        code = {"green": "32", "red": "31"}.get(colour or "") if self._colours else None
        print(f"\033[{code}m{text}\033[0m" if code else text, file=self._stream, flush=True)
