"""Counting through Airflow's own Stats (``[metrics]`` in airflow.cfg: StatsD or OpenTelemetry).

What is counted when is said by :class:`~airflow_lro_provider.lro.metrics.Metrics`; docs/metrics.md lists the names.
Durations are in milliseconds, as all of Airflow's. Counting never fails a wait.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from airflow_lro_provider.airflow_compat.stats import prepared_stats
from airflow_lro_provider.lro.metrics import Metrics

log = logging.getLogger(__name__)


class StatsMetrics(Metrics):
    """Counts with Airflow's Stats."""

    def __init__(self) -> None:
        self._is_broken = False

    def waiting(self, service: str, number: int) -> None:
        """Gauge ``lro.waiting``."""
        self._record("gauge", "waiting", number, service=service)

    def request(self, service: str, verb: str, result: str) -> None:
        """Counter ``lro.requests``."""
        self._record("incr", "requests", 1, service=service, verb=verb, result=result)

    def throttled(self, service: str) -> None:
        """Counter ``lro.throttled``."""
        self._record("incr", "throttled", 1, service=service)

    def known(self, service: str, seconds: float) -> None:
        """Timer ``lro.known_after``."""
        self._record("timing", "known_after", timedelta(seconds=seconds), service=service)

    def cancel(self, service: str, outcome: str) -> None:
        """Counter ``lro.cancels``."""
        self._record("incr", "cancels", 1, service=service, outcome=outcome)

    def sweep(self, counts: Mapping[str, int]) -> None:
        """Gauges ``lro.sweep.found`` and so on: :attr:`SweepResult.counts`."""
        for what, number in counts.items():
            self._record("gauge", f"sweep.{what}", number)

    def _record(self, kind: str, name: str, value: float | timedelta, **tags: str) -> None:
        try:
            getattr(prepared_stats(), kind)(f"lro.{name}", value, tags=tags or None)
        except Exception:
            if not self._is_broken:  # once: thousands would follow
                self._is_broken = True
                log.warning("Airflow's Stats do not work here; nothing is counted", exc_info=True)
