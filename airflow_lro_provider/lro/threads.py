"""Threads for what blocks, apart from those of the event loop.

The loop has a handful for everybody: a few token servers that hang would hold up every question to Airflow, and with it
every kill.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

MAX_THREADS = 64
"""Of one kind, at a time; they are started as they are needed."""
_T = TypeVar("_T")


async def in_thread(kind: str, function: Callable[[], _T]) -> _T:
    """Call it in a thread of this kind, with the context of the caller.

    :param kind: what it waits for, such as ``tokens``: one kind never waits for another.
    """
    run = contextvars.copy_context().run
    return await asyncio.get_running_loop().run_in_executor(_pool(kind), run, function)


@cache
def _pool(kind: str) -> Executor:
    return ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=f"airflow-lro {kind}")
