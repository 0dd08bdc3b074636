"""The lists of one parent: which way to list it, when a list is worth its cost, and the one that is under way.

The times are seconds on the caller's clock. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.shared_poller.listing import LEARN_FOR, Listing, cheapest
from airflow_lro_provider.lro.shared_poller.queue import Waiter

__all__ = ["RUNNING_ONLY", "SLOW_LIST", "ListRun", "Lists"]

RUNNING_ONLY = "done=false"
"""The filter that is tried on a parent with a long history (https://google.aip.dev/160)."""
SLOW_LIST = 1.0
"""A list that takes longer, in seconds, and longer than GETs would, keeps everybody waiting."""


@dataclass
class ListRun:
    """A list that is under way, page by page.

    :param way: how it is listed.
    :param number: which one it is.
    :param started: when it began, in seconds.
    :param worth: how many GETs it saves.
    :param pages: how many pages have come,
    :param size: with how many bytes,
    :param rows: how many operations on them,
    :param matched: and of how many somebody waits for the end.
    :param next_page: the token of the page to ask for next; ``None`` while one is under way.
    :param shows_done: whether an operation that is over was among those that nobody waits for.
    :param whole: whether it came to its end.
    """

    way: Listing
    number: int
    started: float
    worth: int
    pages: int = 0
    size: int = 0
    rows: int = 0
    matched: int = 0
    next_page: str | None = None
    shows_done: bool = False
    whole: bool = False


class Lists:
    """All lists of one parent, one after the other.

    :param lists: whether the service can list it at all.
    :param max_in_flight: how many GETs there would be at a time.
    """

    def __init__(self, *, lists: bool, max_in_flight: int) -> None:
        self.current: ListRun | None = None
        """The one that is under way."""
        self.joined = 0
        """How many have begun to wait since it was last looked who is ripe."""
        self.ripe_at = -math.inf
        """When a list will be worth its cost; long ago, if that is not known."""
        self._plain, self._running = Listing(), Listing(RUNNING_ONLY)
        self._can_list, self._filters = lists, False
        self._count, self._max_in_flight = 0, max_in_flight
        self._doubtful = 0  # how many the last one should have shown, and did not: they are over, perhaps

    def way(self, waiting: int, now: float) -> Listing | None:
        """The cheapest list, if it costs less than a GET for each who waits."""
        if not self._can_list:
            return None
        way = cheapest(self._plain, self._running if self._filters else None, waiting, now)
        if way is not None and self._plain.usable(now, waiting) and self._doubtful > self._plain.cost(waiting):
            return self._plain  # so many have ended at once that the whole list is the cheaper answer
        return way if way is not None and way.cost(waiting) < waiting else None

    def is_ripe(self, way: Listing, waiters: Collection[tuple[Waiter, ...]], now: float) -> bool:
        """Whether a list is worth its cost now.

        :param waiters: who waits, those for one operation together.
        """
        cost, doubtful, self._doubtful = way.cost(len(waiters)), self._doubtful, 0
        if way is self._plain and doubtful > cost:
            return True
        # Sorting thousands for each single GET would cost more than the GETs.
        if now < self.ripe_at and self.joined * 16 <= len(waiters):
            return False
        self.joined = 0
        # Half of the interval is over: a look that costs nothing is welcome.
        ripe = sorted([first.looked + first.due for first, *_ in waiters if first.listable])
        self.ripe_at = ripe[int(cost)] / 2 if len(ripe) > cost else math.inf
        return self.ripe_at <= now

    def begin(self, way: Listing, waiting: int, now: float) -> ListRun:
        """Begin a list."""
        self._count += 1
        self.current = ListRun(way, self._count, now, waiting)
        return self.current

    def page(self, next_page_token: str, size: int, now: float) -> ListRun | None:
        """Note the end of a page.

        :param size: how many bytes the answer had.
        :return: the list, if that is its end, or as much of it as is worth reading.
        """
        run = self.current
        if run is None:
            return None
        run.pages, run.size = run.pages + 1, run.size + size
        # Pages come one after the other, GETs many at a time.
        slow = now - run.started > SLOW_LIST and run.pages * self._max_in_flight > run.worth
        if next_page_token and not slow and Listing(pages=run.pages, size=run.size).cost(0) < run.worth:
            run.next_page = next_page_token
            return None
        self._over()
        run.whole = not next_page_token
        if run.whole:
            run.way.measured(run.pages, run.size)
        if slow or not run.whole:  # its history is too long
            run.way.rest_at(run.worth, now)
        if run.way is self._plain:
            self._filters = self._filters or run.rows > 2 * run.matched
        elif run.whole and run.shows_done:  # a filter that is not heeded is none
            run.way.rest(now, LEARN_FOR)
        return run

    def failed(self, error: OperationsError, now: float) -> str | None:
        """Note that a list was answered with an error: it is left alone for a while.

        :return: a line for the log, if the error is not one that passes.
        """
        run = self.current
        self._over()
        if run is None:
            return None
        if error.transient:
            run.way.failed(now)
            return None
        run.way.rest(now, LEARN_FOR)
        return f"{run.way.name} was refused, asking for each operation by name: {error}"

    def recovered(self) -> None:
        """The endpoint was in trouble, and is well again."""
        self._plain.forgive()
        self._running.forgive()

    def missed(self, run: ListRun, number: int) -> None:
        """Note how many a list should have shown, and did not."""
        if run.whole and run.way is self._running:
            self._doubtful = number

    def _over(self) -> None:
        self.current, self.ripe_at = None, -math.inf
