"""The two questions that tell a kill from a move to another triggerer, asked of Airflow.

Both go through the supervisor, which is slow and synchronous: a triggerer asks them in threads. An answer
that does not come is :attr:`Evidence.UNKNOWN`, never a guess. The task state store cannot be asked in a
triggerer: its messages are not understood by that of Airflow 3.3, and the question would hang for ever.

When a triggerer loses a thousand triggers to another one, all of them ask at once. States are asked for in
batches (:mod:`airflow_lro_provider.ownership.batches`). Tokens cannot be: the triggerer of Airflow 3.3 gives
out XComs one by one. They are asked for :data:`AT_ONCE`, and only where the state leaves the question open.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

# Imported with the trigger, before any wait begins: within on_kill this import alone took seconds.
from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_lro_provider.ownership.batches import Question, batches, one_question
from airflow_lro_provider.ownership.decisions import Evidence

OWNER_KEY = "operation_owner"
"""XCom key of the owner token: which try of the task a deferred operation belongs to."""
TIMEOUT = 15.0
"""How long one question may take, in seconds."""
GATHER = 0.05
"""So long those who ask are gathered, in seconds."""
AT_ONCE = 3
"""So many questions are asked at a time: they share the threads of the loop with whoever renews a token."""
_FIELDS = {"dag_id": str, "run_id": str, "task_id": str, "map_index": int}
_Answer = TypeVar("_Answer")
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def ask_task_state(owner: Mapping[str, Any]) -> str | Evidence | None:
    """Airflow's state of the owning task instance; ``None`` if it has none or is gone. Blocks.

    :param owner: ``dag_id``, ``run_id``, ``task_id`` and ``map_index``.
    """
    return ask_task_states(one_question(owner))[0]


def ask_task_states(question: Question) -> list[str | Evidence | None]:
    """Airflow's states of the task instances of a question, in its order. Blocks."""
    try:
        answer = RuntimeTaskInstance.get_task_states(
            dag_id=question.dag_id,
            run_ids=list(question.run_ids),
            task_ids=list(question.task_ids),
            map_index=question.map_index,
        )
    except Exception:
        answer = None
    if not isinstance(answer, Mapping):
        return [Evidence.UNKNOWN] * len(question.owners)
    return [_state_in(answer, owner) for owner in question.owners]


def _state_in(answer: Mapping[str, Any], owner: Mapping[str, Any]) -> str | None:
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
    """:func:`ask_task_state`, in a thread, together with all who ask at the same time."""
    # An odd one must not spoil the question that others are part of.
    if not all(isinstance(owner.get(key), kind) for key, kind in _FIELDS.items()):
        return Evidence.UNKNOWN
    loop = asyncio.get_running_loop()
    asking = _asking.setdefault(loop, _Asking())
    future: asyncio.Future[str | Evidence | None] = loop.create_future()
    if not asking.waiting:
        loop.call_later(GATHER, asking.ask, context=contextvars.Context())
    asking.waiting.append((dict(owner), future))  # a copy: who asks twice is answered twice
    return await future


async def owner_token(owner: Mapping[str, Any]) -> str | Evidence | None:
    """:func:`ask_owner_token`, in a thread."""
    async with _asking.setdefault(asyncio.get_running_loop(), _Asking()).turn:
        return await _in_time(ask_owner_token, owner)


class _Asking:
    """The questions of one event loop."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Mapping[str, Any], asyncio.Future[str | Evidence | None]]] = []
        self.turn = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self) -> None:
        """Ask for all who have gathered."""
        waiting, self.waiting = self.waiting, []
        futures = {id(owner): future for owner, future in waiting}
        for question in batches(owner for owner, _ in waiting):
            task = asyncio.ensure_future(self._answer(question, [futures[id(owner)] for owner in question.owners]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, question: Question, futures: list[asyncio.Future[str | Evidence | None]]) -> None:
        answers: list[str | Evidence | None] = [Evidence.UNKNOWN] * len(futures)
        try:
            async with self.turn:
                states = await _in_time(ask_task_states, question)
            if not isinstance(states, Evidence):
                answers = states
        finally:  # whatever goes wrong, nobody waits for ever
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


_asking: WeakKeyDictionary[asyncio.AbstractEventLoop, _Asking] = WeakKeyDictionary()


async def _in_time(question: Callable[[Any], _Answer], about: Any) -> _Answer | Evidence:
    try:
        return await asyncio.wait_for(asyncio.to_thread(question, about), TIMEOUT)
    except asyncio.TimeoutError:
        return Evidence.UNKNOWN
