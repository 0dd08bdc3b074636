"""Signals that have to wait."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def held_back(*signals: signal.Signals) -> Iterator[set[int]]:
    """Let signals that raise exceptions take effect at the end: an execution_timeout, Ctrl-C, in Airflow 2 SIGTERM.

    For what starts something, or ends it: an exception in its middle would lose the operation.
    A second Ctrl-C takes effect at once, and so does any signal in a child that was forked meanwhile.

    :param signals: SIGALRM, SIGINT, SIGTERM.
    :return: those that have come so far.
    """
    came: set[int] = set()
    process = os.getpid()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.getsignal(number) for number in signals}

    def note(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        is_second_ctrl_c = number == signal.SIGINT and number in came
        is_in_child = os.getpid() != process  # one that was forked meanwhile
        if (is_second_ctrl_c or is_in_child) and callable(handler):
            handler(number, frame)
        came.add(number)

    for number in signals:
        if callable(before[number]):
            signal.signal(number, note)
    try:
        yield came
    finally:
        for number in signals:
            if callable(before[number]):
                signal.signal(number, before[number])
        for late in came:
            signal.raise_signal(late)
