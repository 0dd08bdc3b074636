"""What a trigger is told when its task is killed, and how it asks Airflow something.

=====================  ==========================  =============================  ===============================
                       Airflow 3.3                 Airflow 3.2                    Airflow 3.1
=====================  ==========================  =============================  ===============================
its task was killed    ``on_kill``                 ``CancelledError``, again      the same
                                                   every second
the triggerer shuts    ``CancelledError``          the same, and so are all       the same
down                                               other tasks of the loop
a question to Airflow  from any thread             from any thread                from a thread of asgiref's;
                                                                                  interrupted, its response is left
                                                                                  unread, and the triggerer dies of
                                                                                  that ("out of order")
=====================  ==========================  =============================  ===============================

Airflow 2.11 tells of a kill as 3.1 does; a question to it is one to its database, from any thread.

Whoever moves to another triggerer is told the same as one whose task was killed, on all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.lro.threads import in_thread

_T = TypeVar("_T")
_asking: set[asyncio.Task[Any]] = set()
_endings: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[asyncio.Future[None], asyncio.Task[None]]]
_endings = WeakKeyDictionary()


def notice_end_of_loop() -> None:
    """Have it noticed when this loop ends: see :func:`may_be_kill`. Called before there is anything to lose."""
    loop = asyncio.get_running_loop()
    if AIRFLOW < (3, 3) and loop not in _endings:
        future = loop.create_future()

        async def wait_for_ever() -> None:
            await future

        _endings[loop] = future, loop.create_task(wait_for_ever(), name="airflow-lro: until the loop ends")


def may_be_kill() -> bool:
    """Whether a ``CancelledError`` may mean that the task was killed, because Airflow does not call ``on_kill``.

    A loop that ends (``asyncio.run``) cancels all of its tasks, a kill only one.
    """
    found = _endings.get(asyncio.get_running_loop())
    return found is not None and not found[0].cancelled()


async def ask_in_thread(question: Callable[[], _T]) -> _T:
    """Ask Airflow something that blocks."""
    if AIRFLOW < (3, 2):
        from asgiref.sync import sync_to_async  # it tells the thread which loop it belongs to

        return await undisturbed(sync_to_async(question, thread_sensitive=False)())
    return await in_thread("airflow", question)


async def undisturbed(question: Coroutine[Any, Any, _T]) -> _T:
    """Await a question to Airflow; it goes on to its end also if whoever awaits it is cancelled."""
    task = asyncio.ensure_future(question)
    _asking.add(task)
    task.add_done_callback(_forget)
    return await asyncio.shield(task)


def _forget(task: asyncio.Task[Any]) -> None:
    _asking.discard(task)
    if not task.cancelled():
        task.exception()  # perhaps nobody waits for it any more, who would have seen it
