"""When the service's own ``:wait`` takes the place of a look, for workers and for the watcher alike.

A ``:wait`` keeps every meaning of the options: with an explicit interval it lasts no longer than that, and
it ends at the deadline. It is given up for a while where it does not wait, or does not work.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from airflow_lro_provider.lro.polling import Watch

__all__ = ["LongPolls"]

LONGEST = 30.0
"""How long one ``:wait`` may take, in seconds: proxies cut what is silent for longer."""
SHORTEST = 1.0
"""A shorter one, in seconds, is not worth it."""
DISAPPOINTMENTS = 2
"""After so many in a row there are only GETs, for :data:`REST`."""
REST = 600.0
"""In seconds."""


class LongPolls:
    """Whether to use ``:wait``, and what came of it.

    :param offered: whether the service has one.
    """

    def __init__(self, offered: bool) -> None:
        self._offered = offered
        self._disappointments = 0
        self._not_before = -math.inf

    def usable(self, now: float) -> bool:
        """Whether there is a ``:wait`` that can be relied on."""
        return self._offered and now >= self._not_before

    def timeout(self, watches: Iterable[Watch], now: float) -> float:
        """How long the next look may take, in seconds: 0 is a GET. The first look is one.

        :param watches: of all who wait for the operation.
        """
        limits = [LONGEST]
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

    def delay(self, watch: Watch, took: float, now: float) -> float:
        """Seconds until the next look, after one that was a ``:wait``."""
        return max(min((watch.interval or SHORTEST) - took, watch.delay(now)), 0.0)
