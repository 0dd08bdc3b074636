"""What was learned of one way to list a parent: what it costs, and whether it works at all.

The unit of cost is one GET of one operation. A page costs one, plus what its bytes cost to receive and
to read. There are two ways: ``plain`` lists everything, ``running`` lists what a filter leaves. Support
for filters, the length of the history and even the right to list are the service's own, so nothing is
taken for granted: each way is tried, measured, and left alone when it does not pay, until more wait.

Standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Listing", "cheapest"]

PAGE_SIZE = 1000
BYTES_PER_GET = 20_000
"""So many bytes of a list are taken for as dear as one GET: about 50 operations. In time alone it would be
twice as many, but a list's pages come one after the other, and somebody pays for the bytes."""
GUESSED_SIZE = 500
"""The bytes of an operation in a list, before one was seen."""
LARGEST_PAGE = 500_000
"""Reading a page blocks the event loop: larger ones, in bytes, are asked for in smaller pieces."""
LEARN_FOR = 600.0
"""So long, in seconds, what was found not to work is not tried again; nor what does not pay, unless more wait."""
FIRST_REST = 0.5
"""How long a way rests after one failure, in seconds; the rest doubles."""


@dataclass
class Listing:
    """One way to list a parent.

    :param filter: in the service's dialect; ``None`` lists everything.
    :param pages: how many pages it had the last time.
    :param size: how many bytes.
    :param page_size: how many operations to ask for at once.
    """

    filter: str | None = None
    pages: int | None = None
    size: int = 0
    page_size: int = PAGE_SIZE
    _not_before: float = -math.inf
    _not_below: float = math.inf
    _failures: int = 0
    _forgiven: bool = False

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return "operations.list" if self.filter is None else f"operations.list({self.filter})"

    def cost(self, waiting: int) -> float:
        """What it will cost to list once, in GETs.

        :param waiting: how many operations are waited for: a parent that was never listed is guessed to
            have no others.
        """
        if self.pages is None:
            return math.ceil(waiting / self.page_size) + waiting * GUESSED_SIZE / BYTES_PER_GET
        return self.pages + self.size / BYTES_PER_GET

    def usable(self, now: float, waiting: int) -> bool:
        """Whether it may be tried.

        :param waiting: how many operations are waited for.
        """
        return now >= self._not_before or waiting >= self._not_below

    def measured(self, pages: int, size: int) -> None:
        """Note a complete list."""
        self.pages, self.size, self._failures, self._forgiven = pages, size, 0, False
        per_page = size / pages if pages else 0
        if per_page > LARGEST_PAGE:
            self.page_size = max(int(self.page_size * LARGEST_PAGE / per_page), 10)

    def rest(self, now: float, seconds: float) -> None:
        """Do not try it for a while."""
        self._not_before, self._not_below = now + seconds, math.inf

    def rest_at(self, waiting: int, now: float) -> None:
        """It does not pay with so many waiting: leave it until they are twice as many, or for a while."""
        self.rest(now, LEARN_FOR)
        self._not_below = 2 * waiting

    def failed(self, now: float) -> None:
        """Note a failure that may pass: the GETs in between show whether it is the list's or the endpoint's."""
        self._failures += 1
        self.rest(now, min(FIRST_REST * 2.0 ** min(self._failures - 1, 30), LEARN_FOR))

    def forgive(self) -> None:
        """It was the endpoint that failed, and it is well again: try at once. Not twice without a success."""
        if self._failures and not self._forgiven:
            self._failures, self._not_before, self._forgiven = 0, -math.inf, True


def cheapest(plain: Listing, filtered: Listing | None, waiting: int, now: float) -> Listing | None:
    """The way that costs least, among those that may be tried.

    A filter leaves out what has ended, so that each end costs a GET: it has to save half of the list.
    """
    ways = [way for way in (plain, filtered) if way is not None and way.usable(now, waiting)]
    if len(ways) == 2 and ways[1].cost(waiting) > ways[0].cost(waiting) / 2:
        return plain
    return ways[-1] if ways else None
