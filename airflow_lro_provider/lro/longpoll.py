"""When the service's own ``:wait`` takes the place of a look, for workers and for the watcher alike.

A ``:wait`` keeps every meaning of the options: with an explicit interval it lasts no longer than that, and
it ends at the deadline. It is given up for a while where it does not wait, or does not work.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import PollSchedule

__all__ = ["Look", "LongPolls", "Pause", "looks"]

LONGEST = 30.0
"""How long one ``:wait`` may take, in seconds: proxies cut what is silent for longer."""
LONGEST_OF_A_WORKER = 10.0
"""The same for a task that waits alone: between two looks it sees whether its supervisor is still there."""
SHORTEST = 1.0
"""A shorter one, in seconds, is not worth it."""
DISAPPOINTMENTS = 2
"""After so many in a row there are only GETs, for :data:`REST`."""
REST = 600.0
"""In seconds."""


class LongPolls:
    """Whether to use ``:wait``, and what came of it.

    :param offered: whether the service has one.
    :param longest: how long one may take, in seconds.
    """

    def __init__(self, offered: bool, longest: float = LONGEST) -> None:
        self._offered, self._longest = offered, longest
        self._disappointments = 0
        self._not_before = -math.inf

    def usable(self, now: float) -> bool:
        """Whether there is a ``:wait`` that can be relied on."""
        return self._offered and now >= self._not_before

    def timeout(self, watches: Iterable[PollSchedule], now: float) -> float:
        """How long the next look may take, in seconds: 0 is a GET. The first look is one.

        :param watches: of all who wait for the operation.
        """
        limits = [self._longest]
        for watch in watches:
            if not watch.looks or watch.exponential_backoff:
                return 0.0
            if watch.interval is not None:
                limits.append(watch.interval)
            if watch.deadline is not None:
                limits.append(watch.deadline.at - now)
        seconds = min(limits)
        return seconds if seconds >= SHORTEST and self.usable(now) else 0.0

    def judge(self, timeout: float, took: float, now: float) -> None:
        """Note one that was answered with an operation that is still running.

        :param took: how long the answer took, in seconds.
        """
        if took >= timeout / 2:
            self._disappointments = 0
        else:
            self.failed(now)

    def failed(self, now: float) -> None:
        """Note one that failed, or did not wait."""
        self._disappointments += 1
        if self._disappointments >= DISAPPOINTMENTS:
            self._not_before, self._disappointments = now + REST, 0

    def delay(self, watch: PollSchedule, took: float, now: float) -> float:
        """Seconds until the next look, after one that was a ``:wait``."""
        return max(min((watch.interval or SHORTEST) - took, watch.delay(now)), 0.0)


@dataclass(frozen=True)
class Look:
    """Look at the operation: a ``:wait`` of so many seconds, or else a GET."""

    timeout: float


@dataclass(frozen=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


def looks(
    watch: PollSchedule,
    name: str,
    *,
    offered: bool,
    on_change: Callable[[str], object],
    clock: Callable[[], float],
) -> Generator[Look | Pause, Any, Operation]:
    """The wait for one operation, look by look: both clients run it, and decide nothing.

    It yields what to do, is sent the operation that a look has shown, has the error of a look thrown into it, and
    returns the operation that is over.

    :param watch: when to look, and until when; on the same clock.
    :param name: the operation, for messages.
    :param offered: whether the service has a ``:wait`` for it.
    :param on_change: is told in one line whenever state or progress changed.
    :raises WaitTimeoutError: at the deadline.
    """
    polls = LongPolls(offered, LONGEST_OF_A_WORKER)
    while True:
        asked = clock()
        timeout = polls.timeout([watch], asked)
        try:
            line = watch.saw((yield Look(timeout)))
        except OperationsError as error:
            if timeout:
                polls.failed(clock())
                if not error.transient:
                    continue  # a GET tells whose error it is
            line, timeout = watch.failed(error, clock()), 0.0
        if line:
            on_change(line)
        if watch.done:
            return watch.done
        now = clock()
        watch.check_deadline(now, name)
        if timeout:
            polls.judge(timeout, now - asked, now)
            yield Pause(polls.delay(watch, now - asked, now))
        else:
            yield Pause(watch.delay(now))
