"""Airflow's Stats, for a task process and for a triggerer.

=====================================================  ========  =====================================================
what is used                                           public    read in
=====================================================  ========  =====================================================
``airflow.sdk.observability.stats``                    yes       3.3.2
``airflow.sdk._shared.observability.metrics.stats``    no        3.3.2: ``_factory``, to see whether it is set up
``…observability.metrics.stats_utils``                 no        3.3.2: ``get_stats_factory``
=====================================================  ========  =====================================================

A task process sets Stats up. The triggerer of Airflow 3.3 sets up its own copy only (``airflow._shared…stats``), so
that what a trigger counts through the SDK would be lost.
"""

from __future__ import annotations

from typing import Any

__all__ = ["prepared_stats"]

_prepared = False


def prepared_stats() -> Any:
    """The SDK's Stats (``incr``, ``gauge``, ``timing``), set up if nobody has done it."""
    from airflow.sdk.observability import stats  # only where something is counted: a Dag's parse need not pay for it

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
