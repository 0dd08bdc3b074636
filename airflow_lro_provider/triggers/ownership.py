"""The two questions that tell a kill from a move to another triggerer, asked of Airflow.

Both go through the supervisor, which is slow and synchronous: a triggerer asks them in threads. An answer
that does not come is :attr:`Evidence.UNKNOWN`, never a guess. The task state store cannot be asked in a
triggerer: its messages are not understood by that of Airflow 3.3, and the question would hang for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

# Imported with the trigger, before any wait begins: within on_kill this import alone took seconds.
from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_lro_provider.lro.verdict import Evidence

OWNER_KEY = "operation_owner"
"""XCom key of the owner token: which try of the task a deferred operation belongs to."""
TIMEOUT = 15.0
"""How long one question may take, in seconds."""
AT_ONCE = 3
"""So many questions are asked at a time: they share the threads of the loop with whoever renews a token."""
_Answer = TypeVar("_Answer")
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def ask_task_state(owner: Mapping[str, Any]) -> str | Evidence | None:
    """Airflow's state of the owning task instance; ``None`` if it has none or is gone. Blocks.

    :param owner: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    try:
        answer = RuntimeTaskInstance.get_task_states(
            dag_id=owner["dag_id"],
            run_ids=[owner["run_id"]],
            task_ids=[owner["task_id"]],
            map_index=owner["map_index"],
        )
    except Exception:
        return Evidence.UNKNOWN
    if not isinstance(answer, Mapping):
        return Evidence.UNKNOWN
    index = owner["map_index"]
    key = owner["task_id"] if index < 0 else f"{owner['task_id']}_{index}"
    state = (answer.get(owner["run_id"]) or {}).get(key)
    return None if state is None else str(getattr(state, "value", state))


def ask_owner_token(owner: Mapping[str, Any]) -> str | Evidence | None:
    """The token of the try that deferred last; ``None`` if there is none. Blocks."""
    try:
        answer = XCom.get_one(
            key=OWNER_KEY,
            dag_id=owner["dag_id"],
            run_id=owner["run_id"],
            task_id=owner["task_id"],
            map_index=owner["map_index"],
        )
    except Exception:
        return Evidence.UNKNOWN
    return None if answer is None else str(answer)


def in_words(task_state: str | Evidence | None, owner_token: str | Evidence | None, my_token: str) -> str:
    """The evidence, for a log."""
    whose = {my_token: "this try", None: "nobody", Evidence.UNKNOWN: "unknown"}.get(owner_token, "another try")
    said = "unknown" if task_state is Evidence.UNKNOWN else task_state or "none"
    told = task_state in ("deferred", "scheduled", "queued", "running")
    return f"its state is {said}" + (f", its owner is {whose}" if told else "")


async def task_state(owner: Mapping[str, Any]) -> str | Evidence | None:
    """:func:`ask_task_state`, in a thread."""
    return await _in_time(ask_task_state, owner)


async def owner_token(owner: Mapping[str, Any]) -> str | Evidence | None:
    """:func:`ask_owner_token`, in a thread."""
    return await _in_time(ask_owner_token, owner)


async def _in_time(question: Callable[[Mapping[str, Any]], _Answer], owner: Mapping[str, Any]) -> _Answer | Evidence:
    # A run with hundreds of deferred tasks may be marked at once: waiting for one's turn is no lack of an answer.
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)):
        try:
            return await asyncio.wait_for(asyncio.to_thread(question, owner), TIMEOUT)
        except asyncio.TimeoutError:
            return Evidence.UNKNOWN
