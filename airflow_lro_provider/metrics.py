"""What is counted, through Airflow's own Stats (``[metrics]`` in airflow.cfg: StatsD or OpenTelemetry).

=======================  =======  =========================================================================
name (tags)              kind     what it says
=======================  =======  =========================================================================
``lro.waiting``          gauge    operations that this triggerer waits for (``service``)
``lro.requests``         counter  requests of the watcher (``service``, ``verb``: get, list or wait,
                                  ``result``: ok or the name of the error)
``lro.throttled``        counter  answers of 429 among them (``service``)
``lro.known_after``      timer    from the end of an operation, by the service's clock, to its being known;
                                  only where the service says when it ended (``service``)
``lro.cancels``          counter  every cancellation, whoever requests it (``service``, ``outcome``): REQUESTED
                                  if the service accepted the request, REFUSED if it did not, or the outcome
                                  that was known already; then once more with the outcome (CANCELLED,
                                  COMPLETED_DESPITE_CANCEL, …), where that is waited for
=======================  =======  =========================================================================

Durations are in milliseconds, as all of Airflow's. Counting never fails a wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow_lro_provider.lro.metrics import Metrics

__all__ = ["StatsMetrics"]

PREFIX = "lro"
log = logging.getLogger(__name__)


class StatsMetrics(Metrics):
    """Counts with Airflow's Stats."""

    def __init__(self) -> None:
        self._broken = False

    def waiting(self, service: str, number: int) -> None:
        """``lro.waiting``."""
        self._say(lambda stats: stats.gauge(f"{PREFIX}.waiting", number, tags={"service": service}))

    def request(self, service: str, verb: str, result: str) -> None:
        """``lro.requests``."""
        tags = {"service": service, "verb": verb, "result": result}
        self._say(lambda stats: stats.incr(f"{PREFIX}.requests", tags=tags))

    def throttled(self, service: str) -> None:
        """``lro.throttled``."""
        self._say(lambda stats: stats.incr(f"{PREFIX}.throttled", tags={"service": service}))

    def known(self, service: str, seconds: float) -> None:
        """``lro.known_after``."""
        took = timedelta(seconds=seconds)
        self._say(lambda stats: stats.timing(f"{PREFIX}.known_after", took, tags={"service": service}))

    def cancel(self, service: str, outcome: str) -> None:
        """``lro.cancels``."""
        self._say(lambda stats: stats.incr(f"{PREFIX}.cancels", tags={"service": service, "outcome": outcome}))

    def _say(self, count: Callable[[Any], object]) -> None:
        try:
            count(_stats())
        except Exception:
            if not self._broken:  # once: thousands would follow
                self._broken = True
                log.warning("Airflow's Stats do not work here; nothing is counted", exc_info=True)


def _stats() -> Any:
    from airflow.sdk.observability import stats

    global _prepared
    if not _prepared:
        _prepared = True
        _prepare(stats)
    return stats


_prepared = False


def _prepare(stats: Any) -> None:
    """See to it that the SDK's Stats lead somewhere.

    A task process sets them up. The triggerer of Airflow 3.3 sets up its own copy only
    (``airflow._shared…stats``), so that what a trigger counts through the SDK is lost.
    """
    from airflow.providers.common.compat.sdk import conf
    from airflow.sdk._shared.observability.metrics import stats as state
    from airflow.sdk.observability.metrics import stats_utils

    if getattr(state, "_factory", None) is None:
        stats.initialize(
            factory=stats_utils.get_stats_factory(),
            export_legacy_names=conf.getboolean("metrics", "legacy_names_on"),
        )
