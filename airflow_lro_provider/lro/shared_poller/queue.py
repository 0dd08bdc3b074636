"""Those who wait for operations, in the order of their next look. Standard library only."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from operator import itemgetter

from airflow_lro_provider.lro.polling import PollSchedule

__all__ = ["Queue", "Waiter"]

_due = itemgetter(0)


class Waiter:
    """One who waits for an operation.

    :param name: the operation's.
    :param watch: when to look and until when, on the clock of the family.
    """

    __slots__ = ("busy", "due", "gone", "listable", "looked", "mark", "name", "row_size", "seen_in", "watch")

    def __init__(self, name: str, watch: PollSchedule) -> None:
        self.name, self.watch = name, watch
        self.due = self.looked = 0.0
        self.mark: int | None = None  # the hash of the last look's answer
        self.row_size = 0  # how long that was, if it was a row of a list and not too long
        self.seen_in = 0  # the number of the last list that showed it
        self.busy = False  # a request about it is under way
        self.gone = False
        # Whether a list shows it; None: the last one did not, and it is not known yet why.
        self.listable: bool | None = True

    def __lt__(self, other: Waiter) -> bool:
        """Those who are due at the same time stand in any order."""
        return False


class Queue:
    """Who is due next. A place that is not at the time at which its holder is due by now is skipped."""

    def __init__(self) -> None:
        self._places: list[tuple[float, Waiter]] = []

    def put(self, waiter: Waiter, due: float) -> None:
        """Give somebody a place, instead of the one there was."""
        waiter.due = due
        heapq.heappush(self._places, (due, waiter))

    def head(self) -> Waiter | None:
        """Who is due first."""
        while self._places:
            due, waiter = self._places[0]
            if due == waiter.due and not (waiter.busy or waiter.gone):
                return waiter
            heapq.heappop(self._places)
        return None

    def pop(self) -> Waiter:
        """The head leaves the queue."""
        return heapq.heappop(self._places)[1]

    def tidy(self, waiters: Iterable[Waiter], number: int) -> None:
        """Drop the places that are skipped, if they are most of it.

        :param waiters: all who wait.
        :param number: how many those are, about.
        """
        if len(self._places) > 2 * number + 64:
            self.rebuild(waiters)

    def rebuild(self, waiters: Iterable[Waiter]) -> None:
        """Order all who wait anew, by ``due``; not those about whom a request is under way."""
        self._places = [(waiter.due, waiter) for waiter in waiters if not waiter.busy]
        self._places.sort(key=_due)  # mostly in order already, and then quicker than heapify
