"""Durations that users give."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_lro_provider.lro.durations import check_interval, check_seconds, check_start_timeout
from airflow_lro_provider.lro.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("value", "minimum", "seconds"),
    [
        (None, 1.0, None),
        (0, 0.0, 0.0),
        (7, 0.0, 7.0),
        (0.5, 0.5, 0.5),
        (timedelta(minutes=1, milliseconds=500), 1.0, 60.5),
        (timedelta(0), 0.0, 0.0),
        (timedelta(days=36_500), 0.0, 3_153_600_000.0),
    ],
    ids=repr,
)
def test_check_seconds(value: Any, minimum: float, seconds: float | None) -> None:
    """Numbers and timedeltas become seconds, and None stays None."""
    assert check_seconds("timeout", value, minimum=minimum) == seconds
    assert seconds is None or type(check_seconds("timeout", value, minimum=minimum)) is float


@pytest.mark.parametrize(
    ("value", "minimum"),
    [
        (-1, 0.0),
        (0.4, 0.5),
        (timedelta(seconds=-1), 0.0),
        (timedelta(milliseconds=400), 0.5),
        (True, 0.0),
        ("60", 0.0),
        (float("nan"), 0.0),
        (float("inf"), 0.0),
        (10**400, 0.0),
        (timedelta(days=40_000), 0.0),
        ([60], 0.0),
        ("{{ timeout }}", 0.0),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_check_seconds_refuses(value: Any, minimum: float) -> None:
    """What is no duration, or is too short, is refused with the argument's name, the minimum and the value."""
    with pytest.raises(
        InvalidRequestError, match=rf"^`poll_interval` must be .* of at least {minimum:g}, got "
    ) as caught:
        check_seconds("poll_interval", value, minimum=minimum)
    assert str(caught.value).endswith(repr(value))


def test_check_seconds_allows_any_short_time_by_default() -> None:
    """Without a minimum of its own an argument may be as short as nothing."""
    assert check_seconds("timeout", 0.25) == 0.25
    with pytest.raises(InvalidRequestError, match="of at least 0, got -1"):
        check_seconds("timeout", -1)


@pytest.mark.parametrize("check", [check_interval, check_start_timeout])
def test_what_cannot_be_nothing(check: Any) -> None:
    """C3: 0 is refused, with what there is without it."""
    assert (check("a", None), check("a", timedelta(seconds=1)), check("a", 0.01)) == (None, 1.0, 0.01)
    with pytest.raises(InvalidRequestError, match="`a` must be longer than 0 s; leave it out for "):
        check("a", timedelta(0))
    with pytest.raises(InvalidRequestError, match="`a` must be a number of seconds"):
        check("a", float("nan"))
