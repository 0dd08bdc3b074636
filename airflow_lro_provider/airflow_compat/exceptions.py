"""Exceptions of Airflow that have moved, and that `common.compat` does not know."""

from __future__ import annotations

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowRescheduleException

__all__ = ["AirflowRescheduleException"]
