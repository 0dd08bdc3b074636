"""How a task relates to its operation: what differs between a sensor, a starter and a canceller, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Role"]


@dataclass(frozen=True)
class Role:
    """How a task relates to its operation.

    :param gcp_conn_id: the connection to cancel it with, also later by others.
    :param impersonation_chain: the account to act as.
    :param cancel_on_kill: whether a kill or a timeout of the task cancels it.
    :param cancel_on_failure: whether the last failure of the task does.
    :param keeps_record: whether a try leaves a record for the next one.
    :param needs_record: whether the next try can find the operation by that record only; else its arguments name it.
    :param retry_policy: the operator's (Airflow 3.3).
    """

    gcp_conn_id: str | None = None
    impersonation_chain: str | Sequence[str] | None = None
    cancel_on_kill: bool = False
    cancel_on_failure: bool = False
    keeps_record: bool = False
    needs_record: bool = False
    retry_policy: Any = None
