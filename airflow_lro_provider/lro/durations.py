"""Durations that users give: numbers of seconds, or timedeltas."""

from __future__ import annotations

from datetime import timedelta

from airflow_lro_provider.lro.errors import InvalidRequestError

MAX_SECONDS = 100 * 365 * 86400.0
"""No duration is longer than a century."""


def check_seconds(name: str, value: float | timedelta | None, *, minimum: float = 0.0) -> float | None:
    """Check a duration and return it in seconds.

    :raises InvalidRequestError: for anything that is no duration, or shorter than the minimum.
    """
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    good = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not good or not minimum <= seconds <= MAX_SECONDS:
        raise InvalidRequestError(
            f"`{name}` must be a number of seconds (or a timedelta) of at least {minimum:g}, got {value!r}"
        )
    return float(seconds)


def check_positive(name: str, value: float | timedelta | None, default: str) -> float | None:
    """Check a duration that cannot be 0, and return it in seconds.

    :param default: what there is without it, for the message.
    :raises InvalidRequestError: for what is none, or 0.
    """
    if (seconds := check_seconds(name, value)) == 0:
        raise InvalidRequestError(f"`{name}` must be longer than 0 s; leave it out for {default}")
    return seconds


def check_interval(name: str, value: float | timedelta | None) -> float | None:
    """Check the time between two polls, and return it in seconds.

    :raises InvalidRequestError: for what is none, or 0. (What is less than a second counts as one:
        :mod:`~airflow_lro_provider.lro.polling`.)
    """
    return check_positive(name, value, "one that grows with the age of the wait")


def check_start_timeout(name: str, value: float | timedelta | None) -> float | None:
    """Check how long the response to a start may take, and return it in seconds.

    :raises InvalidRequestError: for what is none, or 0.
    """
    return check_positive(name, value, "the connection's")
