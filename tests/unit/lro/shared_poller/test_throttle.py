"""How fast an endpoint is asked, with the clock and the dice in the test's hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lro_provider.lro.errors import ResourceExhaustedError, TransportError, UnavailableError
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT
from airflow_lro_provider.lro.shared_poller.throttle import (
    DOWN_AFTER,
    FIRST_GAP,
    Pace,
    Ticket,
    most_requests_of_an_outage,
)


def throttled(retry_after: float | None = None) -> ResourceExhaustedError:
    """A 429."""
    return error(ResourceExhaustedError, retry_after)


def error(kind: Any = UnavailableError, retry_after: float | None = None) -> Any:
    """An error of the API."""
    return kind(
        service="datafusion", verb="get", operation="o", http_status=0, status="S", message="m", retry_after=retry_after
    )


def bring_down(pace: Pace, now: float) -> None:
    """Let an endpoint fail until it counts as down."""
    for _ in range(DOWN_AFTER):
        pace.failed(pace.send(now), TransportError("no"), now)


def test_there_are_never_more_than_eight_in_flight() -> None:
    """Room shrinks with every request and grows with every answer."""
    pace = Pace()
    tickets = [pace.send(0.0) for _ in range(MAX_IN_FLIGHT)]
    assert pace.room(0.0) == 0
    assert pace.opens_at(0.0) == math.inf
    pace.answered(tickets[0])
    assert pace.room(0.0) == 1


def test_retry_after_closes_the_endpoint_for_everybody() -> None:
    """Nobody asks before the time is over, and then one asks first."""
    pace = Pace()
    others = [pace.send(0.0) for _ in range(3)]
    assert pace.failed(pace.send(0.0), throttled(30.0), 1.0)
    assert pace.room(30.9) == 0
    assert pace.opens_at(2.0) == 31.0
    for ticket in others:
        pace.answered(ticket)  # sent before: no reason to open again
    assert pace.room(30.9) == 0
    assert pace.room(31.0) == 1


def test_429_slows_down_and_good_answers_set_free() -> None:
    """After a 429 requests go one by one, with a gap that shrinks with every answer until there is none."""
    pace = Pace(rng=lambda: 1.0)
    pace.failed(pace.send(0.0), throttled(), 0.0)
    now = pace.opens_at(0.0)
    assert pace.answered(pace.send(now))
    assert FIRST_GAP / 2 <= pace.gap < FIRST_GAP
    assert pace.room(now) == 0
    assert pace.opens_at(now) == pytest.approx(now + pace.gap)
    answers = 0
    while pace.gap:
        now = pace.opens_at(now)
        pace.answered(pace.send(now))
        answers += 1
    assert answers < 20
    assert pace.room(now) == MAX_IN_FLIGHT


def test_a_storm_leaves_no_long_gap() -> None:
    """After many 429 in a row the speed is back within the patience."""
    pace, now = Pace(8.0, rng=lambda: 1.0), 0.0
    for _ in range(20):
        now = pace.opens_at(now)
        pace.failed(pace.send(now), throttled(), now)
    begun = now = pace.opens_at(now)
    while pace.gap or pace.troubled:
        now = pace.opens_at(now)
        pace.answered(pace.send(now))
    assert now - begun <= 8.0


def test_one_bad_operation_does_not_bring_the_endpoint_down() -> None:
    """An operation that always answers 500 is its own affair as long as others are answered."""
    pace = Pace()
    for now in range(50):
        assert not pace.failed(pace.send(now), error(), now)
        pace.answered(pace.send(now))
    assert not pace.troubled


def test_a_long_poll_does_not_block_the_probe() -> None:
    """What was sent before the trouble may hang: the endpoint is probed all the same."""
    pace = Pace()
    pace.send(0.0)  # hangs
    bring_down(pace, 1.0)
    assert pace.room(pace.opens_at(1.0)) == 1


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    outage=st.floats(0.1, 600),
    patience=st.floats(1, 30),
    latency=st.floats(0.0, 5.0),
    rng=st.floats(0, 1),
    kind=st.sampled_from([TransportError("no"), throttled(), throttled(2.0), error(retry_after=1.0)]),
)
def test_an_outage_costs_a_bounded_number_of_requests(
    outage: float, patience: float, latency: float, rng: float, kind: Any
) -> None:
    """However many want to ask: no more than the stated bound, and the end is noticed within the patience."""
    pace, now, sent = Pace(patience, rng=lambda: rng), 0.0, 0
    flying: list[tuple[float, Ticket]] = []
    while True:
        for _ in range(pace.room(now)):
            flying.append((now + latency, pace.send(now)))
            sent += 1
        assert pace.in_flight <= MAX_IN_FLIGHT
        now = min([at for at, _ in flying] + [pace.opens_at(now)])
        if now >= outage:
            break
        for at, ticket in [flight for flight in flying if flight[0] <= now]:
            flying.remove((at, ticket))
            pace.failed(ticket, kind, now)
    assert sent <= most_requests_of_an_outage(outage, patience)
    assert now <= outage + max(patience, getattr(kind, "retry_after", None) or 0.0, latency) + 1e-6


@pytest.mark.parametrize(("seconds", "patience"), [(60, 1), (60, 5), (60, 30), (3600, 5)])
def test_the_bound_is_the_one_that_is_documented(seconds: float, patience: float) -> None:
    """README: 14 + log2(2p) + d / 0.8p."""
    assert most_requests_of_an_outage(seconds, patience) <= 14 + math.log2(2 * patience) + seconds / (0.8 * patience)
