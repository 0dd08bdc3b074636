"""What an outage may cost, as :mod:`airflow_lro_provider.lro.shared_poller.throttle` promises it."""

from __future__ import annotations

import math

from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT
from airflow_lro_provider.lro.shared_poller.throttle import DOWN_AFTER, FIRST_PAUSE_SECONDS


def most_requests_of_an_outage(seconds: float, max_pause: float, max_in_flight: int = MAX_IN_FLIGHT) -> int:
    """The maximum number of requests that an outage costs, however many wait.

    Not counted: aiohttp sends a GET a second time if its connection breaks.

    :param seconds: how long the outage lasts.
    :param max_pause: the longest pause between two probes, in seconds.
    :param max_in_flight: how many requests are in flight at a time.
    """
    doublings = max(math.ceil(math.log2(max_pause / FIRST_PAUSE_SECONDS)), 0)
    return max_in_flight + DOWN_AFTER + doublings + math.ceil(seconds / (0.8 * max_pause)) + 1
