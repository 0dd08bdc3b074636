"""Threads for what blocks."""

from __future__ import annotations

import asyncio
import contextvars
import threading

from airflow_lro_provider.lro.threads import MAX_THREADS, in_thread

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO")


async def test_one_kind_never_waits_for_another() -> None:
    """Token servers that hang, more of them than there are threads, hold up no question to Airflow."""
    release = threading.Event()
    hung = [asyncio.create_task(in_thread("tokens", release.wait)) for _ in range(MAX_THREADS + 5)]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(in_thread("airflow", lambda: "answer"), 30) == "answer"
        assert not any(task.done() for task in hung)
    finally:
        release.set()
        await asyncio.gather(*hung)


async def test_it_has_the_context_of_the_caller() -> None:
    """Airflow's channel to a task's supervisor is found by it."""
    WHO.set("me")
    assert await in_thread("airflow", WHO.get) == "me"
