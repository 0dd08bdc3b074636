"""Airflow's Stats, for a task process and for a triggerer. Whether they are set up is private; read in Airflow 3.3.2.

A task process sets Stats up. The triggerer of Airflow 3.3 sets up its own copy only (``airflow._shared…stats``), so
that what a trigger counts through the SDK would be lost.
"""

from __future__ import annotations

from typing import Any

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
