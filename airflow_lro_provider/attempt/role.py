"""How a task relates to its operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Role:
    """How a task relates to its operation: what differs between a sensor, a starter and a canceller, as data.

    :param gcp_conn_id: the connection to cancel it with, also later by others.
    :param impersonation_chain: the account to act as.
    :param cancel_on_kill: whether a kill or a timeout of the task cancels it.
    :param cancel_on_failure: whether the last failure of the task does.
    :param lets_go: whether it ends with the start, and leaves the operation to nobody on purpose.
    :param keeps_record: whether a try leaves a record for the next one.
    :param needs_record: whether the next try can find the operation by that record only; else its arguments name it.
    :param retry_policy: the operator's (Airflow 3.3).
    """

    gcp_conn_id: str | None
    impersonation_chain: str | Sequence[str] | None
    cancel_on_kill: bool
    cancel_on_failure: bool
    lets_go: bool
    keeps_record: bool
    needs_record: bool
    retry_policy: Any
