"""A plugin for Airflow's API server on SQLite: it answers one request that changes something at a time.

Without it the server deadlocks with itself (Airflow 3.3.2), until SQLite's timeout of a minute is over:

- A route that writes runs in a thread, and holds SQLite's only write lock from its first statement until its commit.
  FastAPI commits in a thread as well, but it is the event loop that starts that thread.
- Meanwhile ``log_action``, a dependency of every such route of the public API, commits *on* the event loop. So the
  loop waits for the lock, and the holder of the lock for the loop.

Reading takes no lock (Airflow's SQLite is in WAL mode), so requests that read go on side by side. PostgreSQL locks
rows, not the database, and does not need this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_READING = ("GET", "HEAD", "OPTIONS")


class OneChangeAtATime:
    """ASGI middleware: a request that changes something waits until the one before it was answered.

    :param app: the application, with all routes of the public API and of the tasks' one
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, in its turn."""
        if scope["type"] != "http" or scope["method"] in _READING:
            await self._app(scope, receive, send)
        else:
            async with self._turn:
                await self._app(scope, receive, send)


class OneChangeAtATimePlugin(AirflowPlugin):
    """What Airflow finds here."""

    name = "one_change_at_a_time"
    fastapi_root_middlewares = [{"middleware": OneChangeAtATime, "name": "one change at a time"}]  # noqa: RUF012
