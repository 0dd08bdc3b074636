"""Handing an operation on to a trigger: what sensor and operators have in common."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro.polling import Deadline, earliest

if TYPE_CHECKING:
    from airflow_lro_provider.guard import Guard
    from airflow_lro_provider.lro.reference import OperationReference
    from airflow_lro_provider.triggers.operations import OperationTrigger

__all__ = ["deadline_of", "make_trigger", "new_owner", "new_token"]


def deadline_of(
    now: float,
    *,
    timeout: float | None = None,
    sensor_timeout: float | None = None,
    execution_timeout: timedelta | None = None,
) -> Deadline | None:
    """The earliest deadline of a wait that begins now; ``None`` if there is none.

    :param now: in seconds since the epoch.
    """
    limits = {
        "timeout": timeout,
        "sensor_timeout": sensor_timeout,
        "execution_timeout": None if execution_timeout is None else execution_timeout.total_seconds(),
    }
    return earliest(Deadline(now + seconds, cause, seconds) for cause, seconds in limits.items() if seconds is not None)


def new_token() -> str:
    """Something that no other try of any task has."""
    return uuid.uuid4().hex


def new_owner(context: Any) -> dict[str, Any]:
    """Claim the operation for this try: push a fresh token to XCom, and say whose it is.

    The token is what tells a killed try from one that only moves to another triggerer. It goes through
    the configured XCom backend, here as in the triggerer.
    """
    from airflow_lro_provider.triggers.ownership import OWNER_KEY

    ti = context["ti"]
    token = new_token()
    ti.xcom_push(key=OWNER_KEY, value=token)
    map_index = -1 if ti.map_index is None else ti.map_index
    return {
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "task_id": ti.task_id,
        "map_index": map_index,
        "token": token,
    }


def make_trigger(
    guard: Guard, reference: OperationReference, *, deadline: Deadline | None, **arguments: Any
) -> OperationTrigger:
    """The trigger to defer to; if the task is killed before Airflow has taken it, it is called off."""
    from airflow_lro_provider.triggers.operations import OperationTrigger

    trigger = OperationTrigger(
        reference=reference.to_dict(), deadline=None if deadline is None else deadline.to_dict(), **arguments
    )
    trigger.before_serialize = guard.checkpoint_of_deferral
    return trigger
