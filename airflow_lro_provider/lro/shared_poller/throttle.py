"""How fast one endpoint may be asked, by everybody who waits for it together.

The quota is the project's, and an outage is the endpoint's: a 429 or a dead connection that one request
meets slows all of them down, and one good answer sets all of them free. It has no clock: the time comes
in as an argument, in seconds.

=====================  ==================================================================================
state                  how many may be asked
=====================  ==================================================================================
well                   :data:`MAX_IN_FLIGHT` at a time, if nothing else is wished
throttled              one after the other, with a gap that doubles with every 429 and shrinks with every
                       good answer, quickly down to the gap that was too short, then slowly; none before
                       ``Retry-After`` is over
down                   one probe at a time, after pauses that double up to :attr:`Pace.patience`
=====================  ==================================================================================

So an outage of ``d`` seconds costs at most :func:`most_requests_of_an_outage` requests, however many
wait, and it is known to be over at most :attr:`Pace.patience` seconds after its end.

Standard library only.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from airflow_lro_provider.lro.errors import OperationsError, ResourceExhaustedError
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT

__all__ = ["Pace", "Ticket", "most_requests_of_an_outage"]

DOWN_AFTER = 3
"""So many failures in a row, with no good answer between, are the endpoint's and not an operation's."""
FIRST_PAUSE = 0.5
"""The first pause of an endpoint that is down, in seconds."""
FIRST_GAP = 0.1
"""The gap between requests after the first 429, in seconds."""
SHRINK = 0.9
"""What a good answer leaves of a gap that is near the one that was too short."""
NO_GAP = 0.02
"""A gap that is shorter than this, in seconds, is none."""


def most_requests_of_an_outage(seconds: float, patience: float, max_in_flight: int = MAX_IN_FLIGHT) -> int:
    """How many requests an outage may cost, however many wait.

    Not counted: aiohttp sends a GET a second time if its connection breaks under it.

    :param seconds: how long it lasts.
    :param patience: see :attr:`Pace.patience`.
    :param max_in_flight: how many requests are under way at a time.
    """
    doublings = max(math.ceil(math.log2(patience / FIRST_PAUSE)), 0)
    return max_in_flight + DOWN_AFTER + doublings + math.ceil(seconds / (0.8 * patience)) + 1


@dataclass(frozen=True)
class Ticket:
    """A request that is under way.

    :param sent: when it was sent.
    :param probe: whether it is the one that finds out how an endpoint in trouble is.
    """

    sent: float
    probe: bool


class Pace:
    """How fast one endpoint may be asked.

    :param patience: the longest pause of an endpoint that is down, in seconds, if it asks for no longer
        one itself: the shortest interval of those who wait.
    :param max_in_flight: how many requests may be under way at a time.
    :param rng: gives numbers from 0 to 1.
    """

    def __init__(
        self, patience: float = 5.0, *, max_in_flight: int = MAX_IN_FLIGHT, rng: Callable[[], float] = random.random
    ) -> None:
        self.patience, self.max_in_flight = patience, max_in_flight
        self.in_flight = 0
        self.gap = self._too_short = 0.0
        self._rng = rng
        self._failures = 0
        self._pauses = 0
        self._closed_at = self._closed_until = -math.inf
        self._last_sent = -math.inf
        self._probes = 0

    @property
    def troubled(self) -> bool:
        """Whether it is throttled or down, and no good answer has come since."""
        return self._pauses > 0

    def room(self, now: float) -> int:
        """How many requests may be sent now."""
        if now < self._closed_until:
            return 0
        if self.troubled:
            return 1 if not self._probes else 0
        free = max(self.max_in_flight - self.in_flight, 0)
        if self.gap:
            return min(free, 1) if now >= self._last_sent + self.gap else 0
        return free

    def opens_at(self, now: float) -> float:
        """When to ask for room again; infinity if that is when an answer comes."""
        if self.room(now):
            return now
        if now < self._closed_until:
            return self._closed_until
        if not self.troubled and self.gap and self.in_flight < self.max_in_flight:
            return self._last_sent + self.gap
        return math.inf

    def send(self, now: float) -> Ticket:
        """Note that a request is sent. Hand the ticket back when it is over."""
        self.in_flight += 1
        self._last_sent = now
        self._probes += self.troubled
        return Ticket(now, self.troubled)

    def drop(self, ticket: Ticket) -> None:
        """Note that nobody waits for an answer any more."""
        self.in_flight -= 1
        self._probes -= ticket.probe

    def answered(self, ticket: Ticket) -> bool:
        """Note an answer: the endpoint is well. Also 403 and 404 are answers.

        :return: whether that ends a trouble.
        """
        self.drop(ticket)
        if ticket.sent < self._closed_at:  # sent before the trouble began
            return False
        ended = self.troubled
        self._failures = self._pauses = 0
        self.gap *= 0.5 if self.gap / 2 > self._too_short else SHRINK
        if self.gap < NO_GAP:
            self.gap = 0.0
        return ended

    def failed(self, ticket: Ticket, error: OperationsError, now: float) -> bool:
        """Note that nothing answered, or that the endpoint said to come back later.

        :return: whether that is the beginning of a trouble.
        """
        self.drop(ticket)
        self._failures += 1
        retry_after: float | None = getattr(error, "retry_after", None)
        throttled = isinstance(error, ResourceExhaustedError)
        if not (throttled or retry_after or self.troubled or self._failures >= DOWN_AFTER):
            return False
        if self.troubled and ticket.sent < self._closed_at:
            # One of those that were under way when the trouble began: it says nothing new but, perhaps, when to return.
            self._closed_until = max(self._closed_until, now + (retry_after or 0.0))
            return False
        began = not self.troubled
        pause = min(FIRST_PAUSE * 2.0 ** min(self._pauses, 30), self.patience) * (0.8 + 0.2 * self._rng())
        if throttled:
            if began:
                self._too_short = max(self.gap, FIRST_GAP / 2)
            self.gap = min(max(2 * self.gap, FIRST_GAP), self.patience / 4)
        self._pauses += 1
        self._closed_at, self._closed_until = now, now + max(pause, retry_after or 0.0)
        return began
