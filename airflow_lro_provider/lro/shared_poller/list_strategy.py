"""Whether and how to list one parent: the cheapest variant, when it is worth its cost, and the list in progress.

The unit of cost is one GET of one operation. A page costs one, plus what its bytes cost to receive and to read. There
are two variants: the plain list has everything, the filtered one only what runs. Support for filters, the length of
the history and even the permission to list depend on the service, so nothing is taken for granted: each variant is
tried, measured, and rests when it does not pay, until more operations are waited for.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.protocol import PageQuery
from airflow_lro_provider.lro.shared_poller.queue import Waiter

RUNNING_ONLY = "done=false"
"""The filter that is tried on a parent with a long history (https://google.aip.dev/160)."""
PAGE_SIZE = 1000
"""Operations per page, as long as pages stay below :data:`LARGEST_PAGE_BYTES`."""
LARGEST_PAGE_BYTES = 500_000
"""Reading a page blocks the event loop: larger ones are requested in smaller pieces."""
BYTES_PER_GET = 20_000
"""Bytes of a list that cost as much as one GET: about 50 operations. In time alone it would be twice as many, but the
pages of a list come one after the other, and somebody pays for the bytes."""
GUESSED_ROW_BYTES = 500
"""Size of an operation in a list, before one was seen."""
SLOW_LIST_SECONDS = 1.0
"""A list that takes longer than this, and longer than GETs would, delays everybody."""
REST_SECONDS = 600.0
"""How long a variant that does not work, or does not pay, is not tried again; in the latter case, unless more wait."""
FIRST_REST_SECONDS = 0.5
"""How long a variant rests after one transient failure; doubled with each further one."""


@dataclass
class ListVariant:
    """One way to list a parent, and what was learned of it.

    :param filter: ``None`` lists everything.
    :param pages: of the last complete list, like ``size``, its bytes; ``None`` if there was none.
    """

    filter: str | None = None
    pages: int | None = None
    size: int = 0
    page_size: int = PAGE_SIZE
    _rests_until: float = -math.inf
    _until_waiting: float = math.inf
    _failures: int = 0
    _forgiven: bool = False

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return "operations.list" if self.filter is None else f"operations.list({self.filter})"

    def cost(self, waiting: int) -> float:
        """The cost of listing once, in GETs. A parent that was never listed may have no other than the waiting ones."""
        if self.pages is None:
            return math.ceil(waiting / self.page_size) + waiting * GUESSED_ROW_BYTES / BYTES_PER_GET
        return self.pages + self.size / BYTES_PER_GET

    def usable(self, waiting: int, now: float) -> bool:
        """Whether it may be tried: it does not rest, or enough wait by now."""
        return now >= self._rests_until or waiting >= self._until_waiting

    def measured(self, pages: int, size: int) -> None:
        """Note a complete list."""
        self.pages, self.size, self._failures, self._forgiven = pages, size, 0, False
        per_page = size / pages if pages else 0
        if per_page > LARGEST_PAGE_BYTES:
            self.page_size = max(int(self.page_size * LARGEST_PAGE_BYTES / per_page), 10)

    def rest(self, now: float, seconds: float = REST_SECONDS, until_waiting: float = math.inf) -> None:
        """Do not try it for a while, unless that many operations are waited for."""
        self._rests_until, self._until_waiting = now + seconds, until_waiting

    def failed(self, now: float) -> None:
        """Note a transient failure: the GETs in between show whether it is the list's or the endpoint's."""
        self._failures += 1
        self.rest(now, min(FIRST_REST_SECONDS * 2.0 ** min(self._failures - 1, 30), REST_SECONDS))

    def forgive(self) -> None:
        """The endpoint failed, and has recovered: try at once. Not twice without a success."""
        if self._failures and not self._forgiven:
            self._failures, self._rests_until, self._forgiven = 0, -math.inf, True


@dataclass
class ListRun:
    """A list in progress, page by page.

    :param number: counts the lists of this parent, from 1.
    :param worth: how many GETs it saves.
    :param matched: how many of its rows so far are waited for.
    :param next_page: the token of the page to request next; ``None`` while one is in flight.
    :param shows_finished: whether a finished operation was among the rows that nobody waits for.
    :param complete: whether its last page was read.
    """

    variant: ListVariant
    number: int
    started: float
    worth: int
    pages: int = 0
    size: int = 0
    rows: int = 0
    matched: int = 0
    next_page: str | None = ""
    shows_finished: bool = False
    complete: bool = False


class ListStrategy:
    """Decides about the lists of one parent, and learns from them. One is in progress at a time.

    :param lists: whether the service can list the parent at all.
    :param max_in_flight: how many GETs there would be at a time.
    """

    def __init__(self, *, lists: bool, max_in_flight: int) -> None:
        self.worth_at = -math.inf
        """When a list will be worth its cost, as far as known."""
        self.added = 0
        """New waiters since that was computed."""
        self._can_list, self._max_in_flight = lists, max_in_flight
        self._plain, self._filtered = ListVariant(), ListVariant(RUNNING_ONLY)
        self._try_filter = False
        self.run: ListRun | None = None
        """The list in progress."""
        self._number = 0
        self._missing = 0  # waiters that the last filtered list should have shown, and did not: perhaps finished

    def choose(self, waiting: int, now: float) -> ListVariant | None:
        """The cheapest variant, if it costs less than a GET for each of the operations that are waited for.

        A filter leaves out what has ended, so that each end costs a GET: it has to save half of the list.
        """
        if not self._can_list:
            return None
        plain = self._plain if self._plain.usable(waiting, now) else None
        filtered = self._filtered if self._try_filter and self._filtered.usable(waiting, now) else None
        if plain is not None:
            cost = plain.cost(waiting)
            if self._missing > cost:
                return plain  # so many ended at once that the plain list is the cheapest way to learn how
            if filtered is None or filtered.cost(waiting) > cost / 2:
                return plain if cost < waiting else None
        return filtered if filtered is not None and filtered.cost(waiting) < waiting else None

    def is_worth(self, variant: ListVariant, waiters: Collection[tuple[Waiter, ...]], now: float) -> bool:
        """Whether a list is worth its cost now: that many have at least half of their interval behind them."""
        cost, missing, self._missing = variant.cost(len(waiters)), self._missing, 0
        if variant is self._plain and missing > cost:
            return True
        # Sorting thousands for each single GET would cost more than the GETs.
        if now < self.worth_at and self.added * 16 <= len(waiters):
            return False
        self.added = 0
        half_times = sorted([first.polled_at + first.due for first, *_ in waiters if first.listable])
        self.worth_at = half_times[int(cost)] / 2 if len(half_times) > cost else math.inf
        return self.worth_at <= now

    def start(self, variant: ListVariant, waiting: int, now: float) -> None:
        """Begin a list."""
        self._number += 1
        self.run = ListRun(variant, self._number, now, waiting)

    def next_page(self) -> PageQuery | None:
        """The page to request now, if there is one; it is in flight from then on."""
        run = self.run
        if run is None or run.next_page is None:
            return None
        token, run.next_page = run.next_page, None
        return PageQuery(run.variant.filter, run.variant.page_size, token or None)

    def end_page(self, next_page_token: str, size: int, now: float) -> ListRun | None:
        """Note the end of a page of ``size`` bytes.

        :return: the list, if this ends it: it is complete, or the rest is not worth reading.
        """
        run = self.run
        if run is None:
            return None
        run.pages, run.size = run.pages + 1, run.size + size
        # Pages come one after the other, GETs many at a time.
        slow = now - run.started > SLOW_LIST_SECONDS and run.pages * self._max_in_flight > run.worth
        if next_page_token and not slow and run.pages + run.size / BYTES_PER_GET < run.worth:
            run.next_page = next_page_token
            return None
        self._end()
        variant, run.complete = run.variant, not next_page_token
        if run.complete:
            variant.measured(run.pages, run.size)
        if slow or not run.complete:  # the history is too long for so few
            variant.rest(now, until_waiting=2 * run.worth)
        if variant is self._plain:
            self._try_filter = self._try_filter or run.rows > 2 * run.matched
        elif run.complete and run.shows_finished:  # the service ignores the filter
            variant.rest(now)
        return run

    def failed(self, error: OperationsError, now: float) -> str | None:
        """Note that a page was answered with an error: the variant rests for a while, and each is polled by name.

        :return: a line for the log, if the error is not transient.
        """
        run = self.run
        self._end()
        if run is None:
            return None
        if error.transient:
            run.variant.failed(now)
            return None
        run.variant.rest(now)
        return f"{run.variant.name} failed, polling each operation by name: {error}"

    def missed(self, run: ListRun, number: int) -> None:
        """Note how many waiters a list should have shown, and did not."""
        if run.complete and run.variant is self._filtered:
            self._missing = number

    def recovered(self) -> None:
        """Note that the endpoint has recovered."""
        self._plain.forgive()
        self._filtered.forgive()

    def _end(self) -> None:
        self.run, self.worth_at = None, -math.inf
