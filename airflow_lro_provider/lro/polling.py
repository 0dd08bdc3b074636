"""When the next poll is due, what a poll or an error means for a wait, and which deadline comes first.

:class:`PollSchedule` is one wait as plain data: flows, the sensor's poke and the shared poller report what they saw to
it, and it says how long to sleep. :class:`LongPolls` decides when the service's own ``:wait`` takes the place of a GET.
Neither has a clock: the time comes in as an argument, in seconds, from whatever clock the caller uses. Whether a single
request is sent again is decided elsewhere (:func:`flows.send <airflow_lro_provider.lro.flows.send>`); how long to pause
before that is :func:`retry_delay`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from airflow_lro_provider.lro.durations import check_interval, check_seconds
from airflow_lro_provider.lro.errors import OperationsError, WaitTimeoutError
from airflow_lro_provider.lro.operation import Operation, Outcome

MIN_INTERVAL_SECONDS = 1.0
"""The shortest interval, where none is given."""
SHORTEST_INTERVAL_SECONDS = 1.0
"""The shortest one that can be given: what is less counts as this, or one wait would be a flood of requests."""
MAX_INTERVAL_SECONDS = 60.0
"""The longest one."""
INTERVAL_AGE_FRACTION = 0.05
"""An interval as a fraction of the wait's age: the end is known at most 5 % late."""
INTERVAL_JITTER = 0.1
"""Intervals are spread by this fraction to both sides, so that many waits do not poll in step."""
NOT_FOUND_SECONDS = 10.0
"""A 404 is believed once it was given for at least this long, and :data:`NOT_FOUND_TIMES`: see :class:`Absence`."""
NOT_FOUND_TIMES = 3
MAX_IN_FLIGHT = 8
"""Default limit of concurrent requests, and so of sockets, per endpoint. More open a hundred sockets and stall the
event loop for half a second."""
BACKOFF_SECONDS = 0.5
"""The pause before a request is sent again: doubled each time, with up to this much of jitter."""
MAX_BACKOFF_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment at which a wait ends.

    :param at: on the clock of ``now`` elsewhere (a trigger's is the wall clock: it survives a move to another machine).
    :param cause: where it comes from: ``timeout``, ``sensor_timeout`` or ``execution_timeout``.
    :param seconds: its distance from the start of the wait, for messages.
    """

    at: float
    cause: str
    seconds: float

    def __str__(self) -> str:
        return f"the {self.cause.replace('_', ' ')} of {self.seconds:g} s"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for a trigger's arguments."""
        return {"at": self.at, "cause": self.cause, "seconds": self.seconds}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Deadline:
        """Read back what :meth:`to_dict` gave."""
        return cls(float(stored["at"]), str(stored["cause"]), float(stored["seconds"]))


def last_poll_failed(error: str) -> str:
    """What is said of a wait that ends without knowing whether the operation runs."""
    return f"and the last poll failed ({error.rstrip('.')})"


def earliest(deadlines: Iterable[Deadline | None]) -> Deadline | None:
    """The earliest of these deadlines; ``None`` if there is none."""
    return min((d for d in deadlines if d is not None), key=lambda d: d.at, default=None)


class Absence:
    """Whether an error is to be believed: the one rule for a 404, whatever was requested, and whoever requested it, and
    for any other error that would end a wait.

    One 404 is no evidence: a new operation may not be found everywhere at once, and a service may lose sight of one for
    a moment. It is believed once it was given for :data:`NOT_FOUND_SECONDS` and :data:`NOT_FOUND_TIMES`. A success
    refutes it, and so does another kind of error that would; one that passes proves nothing.
    """

    __slots__ = ("_kind", "_since", "_times", "is_believed")

    def __init__(self) -> None:
        self.refute()

    def refute(self) -> None:
        """Note a success."""
        self._since, self._times, self.is_believed, self._kind = 0.0, 0, False, "NotFoundError"

    def note(self, now: float, kind: str = "NotFoundError") -> bool:
        """Note an error of this kind, a 404; whether it is believed by now."""
        if kind != self._kind:
            self.refute()
            self._kind = kind
        if not self._times:
            self._since = now
        self._times += 1
        self.is_believed = self._times >= NOT_FOUND_TIMES and now - self._since >= NOT_FOUND_SECONDS
        return self.is_believed

    def delay(self, now: float) -> float:
        """Seconds until the next request while an error is in doubt: 1, 2, 4, and what is left of the time."""
        left = self._since + NOT_FOUND_SECONDS - now
        return max(min(2.0 ** min(self._times - 1, 10), left), NOT_FOUND_SECONDS / 10)


TROUBLE_PAUSE_SECONDS = 1.0
"""The pause before the connection is read again; doubled each time, up to a minute."""
TROUBLE_LOG_SECONDS = 3600.0
"""How often a trouble that lasts is logged again."""


class Trouble:
    """What keeps a wait from polling, and is our own: no connection, no credentials, no token.

    It says nothing about the operation, so it ends no wait before its deadline. Whoever waits notes it here, pauses,
    and reads the connection again: its key may have been replaced.
    """

    __slots__ = ("_kind", "_logged", "_since", "_tries")

    def __init__(self) -> None:
        self._tries, self._since, self._logged, self._kind = 0, 0.0, -math.inf, ""

    def clear(self) -> None:
        """Note that it is over."""
        self._tries, self._kind = 0, ""

    def note(self, error: OperationsError, now: float) -> str | None:
        """Note it.

        :param now: in seconds since the epoch.
        :return: a line for the log when it begins or changes, and once an hour.
        :raises OperationsError: the error itself, if it is another one.
        """
        if not (error.is_ours or error.transient):
            raise error
        if not self._tries:
            self._since = now
        self._tries += 1
        kind = type(error).__name__
        if kind == self._kind and now - self._logged < TROUBLE_LOG_SECONDS:
            return None
        self._kind, self._logged = kind, now
        since = datetime.fromtimestamp(self._since, timezone.utc).isoformat(timespec="seconds")
        return (
            f"cannot send requests since {since}, will read the connection again and try on: {str(error).rstrip('.')}"
        )

    def delay(self) -> float:
        """Seconds until the next try."""
        return min(TROUBLE_PAUSE_SECONDS * 2.0 ** min(self._tries - 1, 10), MAX_INTERVAL_SECONDS)


@lru_cache(maxsize=1024)
def _shared(line: str) -> str:
    """The same object for equal lines: most of thousands are. `sys.intern` keeps them for ever on Python 3.12."""
    return line


@dataclass(slots=True, kw_only=True, eq=False, repr=False)  # slots: five thousand of them wait in one process
class PollSchedule:
    """One wait for one operation.

    :param started: when the wait began.
    :param deadline: when it ends at the latest; ``None`` waits for ever.
    :param interval: seconds between two polls, at least :data:`SHORTEST_INTERVAL_SECONDS`; if ``None``, it grows with
        the age of the wait: from :data:`MIN_INTERVAL_SECONDS`, as :data:`INTERVAL_AGE_FRACTION` of the age, up to
        :data:`MAX_INTERVAL_SECONDS`.
    :param shortest: an interval that grows is at least this long, in seconds.
    :param exponential_backoff: double the interval with every poll, as Airflow's sensors do.
    :param max_wait: no interval is longer than this, in seconds; at least :data:`SHORTEST_INTERVAL_SECONDS`, too.
    :param tolerant: no error ends the wait (a sensor's ``silent_fail``).
    :param discreet: its lines have no message of the service.
    """

    started: float
    deadline: Deadline | None = None
    interval: float | None = None
    shortest: float = 0.0
    exponential_backoff: bool = False
    max_wait: float | None = None
    tolerant: bool = False
    discreet: bool = False
    rng: Callable[[], float] = random.random
    polls: int = field(default=0, init=False)
    last: Operation | None = field(default=None, init=False)
    _retry_after: float = field(default=0.0, init=False)
    _line: str | None = field(default=None, init=False)
    _trouble: str = field(default="", init=False)
    _last_error: str | None = field(default=None, init=False)
    _absence: Absence | None = field(default=None, init=False)
    in_doubt: bool = field(default=False, init=False)
    """Whether the last response was an error that is not believed yet."""

    def __post_init__(self) -> None:
        if self.interval is not None and not self.exponential_backoff:  # Airflow's formula has a floor of its own
            self.interval = max(self.interval, SHORTEST_INTERVAL_SECONDS)
        if self.max_wait is not None:
            self.max_wait = max(self.max_wait, SHORTEST_INTERVAL_SECONDS)

    def observe(self, operation: Operation) -> str | None:
        """Note a poll.

        :return: a line for the log if its state or progress changed, else ``None``.
        """
        self.observe_unchanged()
        self.last = operation
        line = _shared(operation.summary(words=not self.discreet))
        if line == self._line:
            return None
        self._line = line
        return line

    def refute(self) -> None:
        """Whatever error is in doubt says nothing any more: the connection has changed."""
        self._absence, self.in_doubt = None, False

    def observe_unchanged(self) -> None:
        """Note a poll that showed the same as the one before: still running."""
        self.polls += 1
        self._retry_after, self._trouble, self._absence, self.in_doubt = 0.0, "", None, False
        self._last_error = None

    def failed(self, error: OperationsError, now: float) -> str | None:
        """Note a poll that failed, or end the wait.

        :return: a line for the log when polls begin to fail, or to fail differently, else ``None``.
        :raises OperationsError: the error itself, if it ends the wait: trouble of our own, and anything but a transient
            one once it is believed (:class:`Absence`).
        """
        self.polls += 1
        self._last_error = str(error)
        is_final = not error.transient
        is_doubted = is_final and not error.is_ours
        if is_doubted:
            self._absence = self._absence or Absence()
            is_final = self._absence.note(now, type(error).__name__)
        self.in_doubt = is_doubted and not is_final
        if is_final and (error.is_ours or not self.tolerant):
            raise error
        self._retry_after = error.poll_after
        trouble = type(error).__name__
        if trouble == self._trouble:
            return None
        self._trouble = trouble
        return f"poll failed, will try again: {str(error).rstrip('.')}"

    @property
    def done(self) -> Operation | None:
        """The operation, once a poll has shown that it has finished."""
        return self.last if self.last is not None and self.last.done else None

    def cancelled_at_deadline(self, now: float) -> bool:
        """Whether a triggerer cancelled it because its time was up, and died before it could report the timeout."""
        cancelled = self.done is not None and self.done.outcome is Outcome.CANCELLED
        return cancelled and self.deadline is not None and now >= self.deadline.at

    def check_deadline(self, now: float, name: str) -> None:
        """End the wait for the operation of this name if its deadline has passed.

        :raises WaitTimeoutError: at the deadline, saying what was seen last.
        """
        if self.deadline is None or now < self.deadline.at:
            return
        if self._last_error is None:
            raise WaitTimeoutError(f"still running at {self.deadline}: {name}")
        raise WaitTimeoutError(
            f"{self.deadline} passed, {last_poll_failed(self._last_error)}: {name}", self._last_error
        )

    def delay(self, now: float) -> float:
        """Seconds until the next poll; never past the deadline. While an error is in doubt, it comes sooner."""
        # Comparisons, not min and max: thousands are due at once.
        if self.exponential_backoff:
            # Airflow's own formula (BaseSensorOperator._get_next_poke_interval), for any base.
            base = max(int((self.interval or MIN_INTERVAL_SECONDS) * 2 ** min(self.polls - 2, 60)), 1)
            seconds = base + self.rng() * base
        elif self.interval is not None:
            seconds = self.interval
        else:
            seconds = (now - self.started) * INTERVAL_AGE_FRACTION
            if seconds < MIN_INTERVAL_SECONDS:
                seconds = MIN_INTERVAL_SECONDS
            elif seconds > MAX_INTERVAL_SECONDS:
                seconds = MAX_INTERVAL_SECONDS
            seconds *= 1 + INTERVAL_JITTER * (2 * self.rng() - 1)
            if seconds < self.shortest:
                seconds = self.shortest
        if self.max_wait is not None and seconds > self.max_wait:
            seconds = self.max_wait
        if self.in_doubt and self._absence is not None:
            seconds = min(seconds, self._absence.delay(now))
        if seconds < self._retry_after:
            seconds = self._retry_after
        return self.until_deadline(seconds, now)

    def until_deadline(self, seconds: float, now: float) -> float:
        """A pause that does not last longer than the wait."""
        if self.deadline is not None and now + seconds > self.deadline.at:
            return max(self.deadline.at - now, 0.0)
        return seconds


def new_schedule(
    now: float, *, timeout: float | timedelta | None = None, interval: float | timedelta | None = None
) -> PollSchedule:
    """A wait that begins now.

    :param timeout: in seconds or as a timedelta; ``None`` waits for ever.
    :param interval: in seconds or as a timedelta; ``None`` lets it grow.
    :raises InvalidRequestError: for what is no duration, or an interval of 0.
    """
    limit = check_seconds("timeout", timeout)
    deadline = None if limit is None else Deadline(now + limit, "timeout", limit)
    return PollSchedule(started=now, deadline=deadline, interval=check_interval("poll_interval", interval))


LONG_POLL_SECONDS = 30.0
"""How long one ``:wait`` may take: proxies cut what is silent for longer."""
WORKER_LONG_POLL_SECONDS = 10.0
"""The same for a task that waits alone: between two polls it checks whether its supervisor is still there."""
MIN_LONG_POLL_SECONDS = 1.0
"""A shorter ``:wait`` is not worth it."""
MAX_FAILED_LONG_POLLS = 2
"""After as many in a row there are only GETs, for :data:`LONG_POLL_PAUSE_SECONDS`."""
LONG_POLL_PAUSE_SECONDS = 600.0


class LongPolls:
    """Whether a poll is a ``:wait``, and how well that works.

    A ``:wait`` keeps every meaning of the options: with an explicit interval it lasts no longer than that, and it ends
    at the deadline. It is given up for a while where it does not wait, or does not work.

    :param longest: how long one may take, in seconds.
    """

    def __init__(self, offered: bool, longest: float = LONG_POLL_SECONDS) -> None:
        self._offered, self._longest = offered, longest
        self._failed = 0
        self._not_before = -math.inf

    def usable(self, now: float) -> bool:
        """Whether there is a ``:wait`` that can be relied on."""
        return self._offered and now >= self._not_before

    def timeout(self, schedules: Iterable[PollSchedule], now: float) -> float:
        """How long the next poll may take, in seconds: 0 is a GET. The first poll is one.

        :param schedules: of all who wait for the operation.
        """
        limits = [self._longest]
        for schedule in schedules:
            if not schedule.polls or schedule.exponential_backoff:
                return 0.0
            if schedule.interval is not None:
                limits.append(schedule.interval)
            if schedule.deadline is not None:
                limits.append(schedule.deadline.at - now)
        seconds = min(limits)
        return seconds if seconds >= MIN_LONG_POLL_SECONDS and self.usable(now) else 0.0

    def judge(self, timeout: float, took: float, now: float) -> None:
        """Note one whose response, after ``took`` seconds, shows an operation that is still running."""
        if took >= timeout / 2:
            self._failed = 0
        else:
            self.failed(now)

    def failed(self, now: float) -> None:
        """Note one that failed, or did not wait."""
        self._failed += 1
        if self._failed >= MAX_FAILED_LONG_POLLS:
            self._not_before, self._failed = now + LONG_POLL_PAUSE_SECONDS, 0

    def delay(self, schedule: PollSchedule, took: float, now: float) -> float:
        """Seconds until the next poll, after one that was a ``:wait``."""
        return max(min((schedule.interval or MIN_LONG_POLL_SECONDS) - took, schedule.delay(now)), 0.0)


def retry_delay(error: OperationsError, tries: int, rng: Callable[[], float] = random.random) -> float:
    """Seconds before retry number ``tries`` (from 1): a pause that grows, or as long as the API says."""
    backoff = min(BACKOFF_SECONDS * 2.0 ** min(tries - 1, 30), MAX_BACKOFF_SECONDS) + BACKOFF_SECONDS * rng()
    return max(error.retry_after or 0.0, backoff)
