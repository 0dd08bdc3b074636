"""How fast one endpoint is polled, by all who wait there together.

The quota is the project's, and an outage is the endpoint's: a 429 or a broken connection that one request meets slows
all of them down, and one success releases all of them. There is no clock in here: times are arguments, in seconds.

==========  ==========================================================================================================
state       requests
==========  ==========================================================================================================
healthy     up to ``max_in_flight`` at a time
throttled   one after the other, with a gap that doubles with every 429 and shrinks with every success: quickly down
            to the gap that was too short, then slowly. None before ``Retry-After`` has passed
down        one probe at a time, after pauses that double up to the longest one
==========  ==========================================================================================================

So an outage of ``d`` seconds costs at most ``14 + log2(2 p) + d / 0.8 p`` requests, however many wait, and its end is
noticed at most ``p`` later, where ``p`` is the longest pause.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from airflow_lro_provider.lro.errors import OperationsError, ResourceExhaustedError
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT

DOWN_AFTER = 3
"""Failures in a row, without a success between them, that are the endpoint's and not an operation's."""
FIRST_PAUSE_SECONDS = 0.5
"""The first pause of an endpoint that is down."""
FIRST_GAP_SECONDS = 0.1
"""The gap between requests after the first 429."""
SHRINK = 0.9
"""What a success leaves of a gap that is near the one that was too short."""
NO_GAP_SECONDS = 0.02
"""A shorter gap is none."""


@dataclass(frozen=True)
class Ticket:
    """A request in flight; a probe finds out how an endpoint in trouble is doing."""

    sent: float
    probe: bool


class Throttle:
    """How fast one endpoint is polled: see the module's table."""

    def __init__(self, *, max_in_flight: int = MAX_IN_FLIGHT, rng: Callable[[], float] = random.random) -> None:
        self.max_in_flight = max_in_flight
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
        """Whether the endpoint is throttled or down, without a success since."""
        return self._pauses > 0

    def capacity(self, now: float) -> int:
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
        """When to ask for capacity again; infinity if that is after the next response."""
        if self.capacity(now):
            return now
        if now < self._closed_until:
            return self._closed_until
        if not self.troubled and self.gap and self.in_flight < self.max_in_flight:
            return self._last_sent + self.gap
        return math.inf

    def sent(self, now: float) -> Ticket:
        """Note that a request is sent. Hand the ticket to one of the other methods once it has finished."""
        self.in_flight += 1
        self._last_sent = now
        self._probes += self.troubled
        return Ticket(now, self.troubled)

    def release(self, ticket: Ticket) -> None:
        """Note that a request has finished, in a way that says nothing about the endpoint."""
        self.in_flight -= 1
        self._probes -= ticket.probe

    def responded(self, ticket: Ticket) -> bool:
        """Note a response, also 403 or 404: the endpoint is healthy. Returns whether that ends trouble."""
        self.release(ticket)
        if ticket.sent < self._closed_at:  # sent before the trouble began
            return False
        ended = self.troubled
        self._failures = self._pauses = 0
        self.gap *= 0.5 if self.gap / 2 > self._too_short else SHRINK
        if self.gap < NO_GAP_SECONDS:
            self.gap = 0.0
        return ended

    def failed(self, ticket: Ticket, error: OperationsError, now: float, *, max_pause: float) -> bool:
        """Note that nothing responded, or that the endpoint wants to be polled less.

        :param max_pause: the longest pause between two probes, in seconds, if the endpoint asks for no longer one
            itself: the shortest interval of those who wait.
        :return: whether that is the beginning of trouble.
        """
        self.release(ticket)
        self._failures += 1
        retry_after = error.poll_after
        throttled = isinstance(error, ResourceExhaustedError)
        if not (throttled or retry_after or self.troubled or self._failures >= DOWN_AFTER):
            return False
        if self.troubled and ticket.sent < self._closed_at:
            # In flight when the trouble began: it says nothing new but, perhaps, when to return.
            self._closed_until = max(self._closed_until, now + (retry_after or 0.0))
            return False
        began = not self.troubled
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._pauses, 30), max_pause) * (0.8 + 0.2 * self._rng())
        if throttled:
            if began:
                self._too_short = max(self.gap, FIRST_GAP_SECONDS / 2)
            self.gap = min(max(2 * self.gap, FIRST_GAP_SECONDS), max_pause / 4)
        self._pauses += 1
        self._closed_at, self._closed_until = now, now + max(pause, retry_after or 0.0)
        return began
