"""Airflow's Stats, for a task process and for a triggerer. Whether they are set up is private.

============================  ===================================================  ===========================
                              Airflow 3.3                                          Airflow 3.2, 3.1, 2.11
============================  ===================================================  ===========================
a task process sets them up   yes                                                  yes
a triggerer sets them up      its own copy only (``airflow._shared…stats``): what  yes
                              a trigger counts through the SDK would be lost
============================  ===================================================  ===========================
"""

from __future__ import annotations

from typing import Any

from airflow_lro_provider.airflow_compat import AIRFLOW

_prepared = False


def prepared_stats() -> Any:
    """Airflow's Stats (``incr``, ``gauge``, ``timing``), set up if nobody has done it."""
    # Only where something is counted: a Dag's parse need not pay for it.
    if AIRFLOW < (3, 2):
        from airflow.stats import Stats

        return Stats
    from airflow.sdk.observability import stats

    if AIRFLOW < (3, 3):
        return stats.Stats
    global _prepared
    if not _prepared:
        _prepared = True
        _prepare(stats)
    return stats


def _prepare(stats: Any) -> None:
    from airflow.providers.common.compat.sdk import conf
    from airflow.sdk._shared.observability.metrics import stats as state
    from airflow.sdk.observability.metrics import stats_utils

    if getattr(state, "_factory", None) is None:
        stats.initialize(
            factory=stats_utils.get_stats_factory(),
            export_legacy_names=conf.getboolean("metrics", "legacy_names_on"),
        )
