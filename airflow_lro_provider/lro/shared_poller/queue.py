"""Those who wait for operations, ordered by when each is due to be polled."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter

from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import PollSchedule

News = Operation | OperationsError | str
"""What a waiter is notified of: the finished operation, the error that ends the wait, or a line for the log."""

_by_due = itemgetter(0)


@dataclass(slots=True, eq=False, repr=False)
class Waiter:
    """One wait for one operation, as the plan of its parent keeps it. The schedule is on the clock of the plan."""

    name: str
    schedule: PollSchedule
    due: float = 0.0
    polled_at: float = 0.0
    fingerprint: int | None = None  # hash of the last response
    listed_in: int = 0  # number of the last list that showed it
    in_flight: bool = False  # a request for it is in flight
    removed: bool = False
    # Whether lists show it; None: the last one did not, and it is not known yet why.
    listable: bool | None = True

    def __lt__(self, other: Waiter) -> bool:
        """Those that are due at the same time are in any order."""
        return False

    def notify(self, news: News) -> None:
        """Deliver news; there is nobody to deliver them to here."""


Notification = tuple[Waiter, News]
"""Whom to notify of what."""


class Queue:
    """Who is due next. An entry whose time is no longer that at which its waiter is due is skipped."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, Waiter]] = []

    def put(self, waiter: Waiter, due: float) -> None:
        """Add a waiter, or move it."""
        waiter.due = due
        heapq.heappush(self._entries, (due, waiter))

    def head(self) -> Waiter | None:
        """The waiter that is due first; those with a request in flight are not in the queue."""
        while self._entries:
            due, waiter = self._entries[0]
            if due == waiter.due and not (waiter.in_flight or waiter.removed):
                return waiter
            heapq.heappop(self._entries)
        return None

    def pop(self) -> Waiter:
        """Remove the head; only directly after :meth:`head` has returned one."""
        return heapq.heappop(self._entries)[1]

    def prune(self, waiters: Iterable[Waiter], number: int) -> None:
        """Drop the entries that would be skipped, once they are most of the queue, for about ``number`` waiters."""
        if len(self._entries) > 2 * number + 64:
            self.rebuild(waiters)

    def rebuild(self, waiters: Iterable[Waiter]) -> None:
        """Order all waiters anew, by ``due``, except those with a request in flight."""
        self._entries = [(waiter.due, waiter) for waiter in waiters if not waiter.in_flight]
        self._entries.sort(key=_by_due)  # mostly in order already, and then faster than heapify
