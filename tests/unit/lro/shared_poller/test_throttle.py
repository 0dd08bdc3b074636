"""How fast an endpoint is polled, with the clock and the dice in the test's hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lro_provider.lro.errors import ResourceExhaustedError, TransportError, UnavailableError
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT
from airflow_lro_provider.lro.shared_poller.throttle import DOWN_AFTER, FIRST_GAP_SECONDS, Throttle, Ticket
from tests.outage import most_requests_of_an_outage


def throttled(retry_after: float | None = None) -> ResourceExhaustedError:
    """A 429."""
    return error(ResourceExhaustedError, retry_after)


def error(kind: Any = UnavailableError, retry_after: float | None = None) -> Any:
    """An error of the API."""
    return kind(
        service="datafusion", verb="get", operation="o", http_status=0, status="S", message="m", retry_after=retry_after
    )


def bring_down(throttle: Throttle, now: float) -> None:
    """Let an endpoint fail until it counts as down."""
    for _ in range(DOWN_AFTER):
        throttle.failed(throttle.sent(now), TransportError("no"), now, max_pause=5.0)


def test_there_are_never_more_than_eight_in_flight() -> None:
    """The capacity shrinks with every request and grows with every response."""
    throttle = Throttle()
    tickets = [throttle.sent(0.0) for _ in range(MAX_IN_FLIGHT)]
    assert throttle.capacity(0.0) == 0
    assert throttle.opens_at(0.0) == math.inf
    throttle.responded(tickets[0])
    assert throttle.capacity(0.0) == 1


def test_retry_after_closes_the_endpoint_for_everybody() -> None:
    """No request is sent before the time has passed, and then a single one first."""
    throttle = Throttle()
    others = [throttle.sent(0.0) for _ in range(3)]
    assert throttle.failed(throttle.sent(0.0), throttled(30.0), 1.0, max_pause=5.0)
    assert throttle.capacity(30.9) == 0
    assert throttle.opens_at(2.0) == 31.0
    for ticket in others:
        throttle.responded(ticket)  # sent before: no reason to open again
    assert throttle.capacity(30.9) == 0
    assert throttle.capacity(31.0) == 1


def test_429_slows_down_and_successes_release() -> None:
    """After a 429 requests go one by one, with a gap that shrinks with every success until there is none."""
    throttle = Throttle(rng=lambda: 1.0)
    throttle.failed(throttle.sent(0.0), throttled(), 0.0, max_pause=5.0)
    now = throttle.opens_at(0.0)
    assert throttle.responded(throttle.sent(now))
    assert FIRST_GAP_SECONDS / 2 <= throttle.gap < FIRST_GAP_SECONDS
    assert throttle.capacity(now) == 0
    assert throttle.opens_at(now) == pytest.approx(now + throttle.gap)
    answers = 0
    while throttle.gap:
        now = throttle.opens_at(now)
        throttle.responded(throttle.sent(now))
        answers += 1
    assert answers < 20
    assert throttle.capacity(now) == MAX_IN_FLIGHT


def test_a_storm_leaves_no_long_gap() -> None:
    """After many 429 in a row the speed is back within the longest pause."""
    throttle, now = Throttle(rng=lambda: 1.0), 0.0
    for _ in range(20):
        now = throttle.opens_at(now)
        throttle.failed(throttle.sent(now), throttled(), now, max_pause=8.0)
    begun = now = throttle.opens_at(now)
    while throttle.gap or throttle.troubled:
        now = throttle.opens_at(now)
        throttle.responded(throttle.sent(now))
    assert now - begun <= 8.0


def test_one_bad_operation_does_not_bring_the_endpoint_down() -> None:
    """An operation that always answers 500 concerns itself alone as long as others get a response."""
    throttle = Throttle()
    for now in range(50):
        assert not throttle.failed(throttle.sent(now), error(), now, max_pause=5.0)
        throttle.responded(throttle.sent(now))
    assert not throttle.troubled


def test_a_long_poll_does_not_block_the_probe() -> None:
    """What was sent before the trouble may hang: the endpoint is probed all the same."""
    throttle = Throttle()
    throttle.sent(0.0)  # hangs
    bring_down(throttle, 1.0)
    assert throttle.capacity(throttle.opens_at(1.0)) == 1


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    outage=st.floats(0.1, 600),
    max_pause=st.floats(1, 30),
    latency=st.floats(0.0, 5.0),
    rng=st.floats(0, 1),
    kind=st.sampled_from([TransportError("no"), throttled(), throttled(2.0), error(retry_after=1.0)]),
)
def test_an_outage_costs_a_bounded_number_of_requests(
    outage: float, max_pause: float, latency: float, rng: float, kind: Any
) -> None:
    """However many wait: no more than the stated bound, and the end is noticed within the longest pause."""
    throttle, now, sent = Throttle(rng=lambda: rng), 0.0, 0
    flying: list[tuple[float, Ticket]] = []
    while True:
        for _ in range(throttle.capacity(now)):
            flying.append((now + latency, throttle.sent(now)))
            sent += 1
        assert throttle.in_flight <= MAX_IN_FLIGHT
        now = min([at for at, _ in flying] + [throttle.opens_at(now)])
        if now >= outage:
            break
        for at, ticket in [flight for flight in flying if flight[0] <= now]:
            flying.remove((at, ticket))
            throttle.failed(ticket, kind, now, max_pause=max_pause)
    assert sent <= most_requests_of_an_outage(outage, max_pause)
    assert now <= outage + max(max_pause, getattr(kind, "retry_after", None) or 0.0, latency) + 1e-6


@pytest.mark.parametrize(("seconds", "max_pause"), [(60, 1), (60, 5), (60, 30), (3600, 5)])
def test_the_bound_is_the_one_that_is_documented(seconds: float, max_pause: float) -> None:
    """README: 14 + log2(2p) + d / 0.8p."""
    assert most_requests_of_an_outage(seconds, max_pause) <= 14 + math.log2(2 * max_pause) + seconds / (0.8 * max_pause)
