"""The two questions that tell a kill from a move to another triggerer, asked of Airflow.

Both go through the triggerer's supervisor, which is slow and synchronous: they are asked in threads.
An answer that does not come is :attr:`Evidence.UNKNOWN`, never a guess. The task state store cannot be
asked here: its messages are not understood by the triggerer of Airflow 3.3, and the question would hang
for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

# Imported with the trigger, before any wait begins: within on_kill this import alone took seconds.
from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_lro_provider.lro.verdict import Evidence

OWNER_KEY = "operation_owner"
"""XCom key of the owner token: which try of the task a deferred operation belongs to."""
TIMEOUT = 15.0
"""How long one question may take, in seconds."""


async def task_state(owner: Mapping[str, Any]) -> str | Evidence | None:
    """Airflow's state of the owning task instance; ``None`` if it has none or is gone.

    :param owner: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    answer = await _ask(
        RuntimeTaskInstance.get_task_states,
        dag_id=owner["dag_id"],
        run_ids=[owner["run_id"]],
        task_ids=[owner["task_id"]],
        map_index=owner["map_index"],
    )
    if not isinstance(answer, Mapping):
        return Evidence.UNKNOWN
    index = owner["map_index"]
    key = owner["task_id"] if index < 0 else f"{owner['task_id']}_{index}"
    state = (answer.get(owner["run_id"]) or {}).get(key)
    return None if state is None else str(getattr(state, "value", state))


async def owner_token(owner: Mapping[str, Any]) -> str | Evidence | None:
    """The token of the try that deferred last; ``None`` if there is none."""
    answer = await _ask(
        XCom.get_one,
        key=OWNER_KEY,
        dag_id=owner["dag_id"],
        run_id=owner["run_id"],
        task_id=owner["task_id"],
        map_index=owner["map_index"],
    )
    return answer if answer is None or isinstance(answer, Evidence) else str(answer)


async def _ask(question: Any, **arguments: Any) -> Any:
    try:
        return await asyncio.wait_for(asyncio.to_thread(question, **arguments), TIMEOUT)
    except Exception:
        return Evidence.UNKNOWN
