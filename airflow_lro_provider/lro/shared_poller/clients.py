"""What the poller speaks to Google with: the access of each connection, and the clients that are made of it."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.auth.mtls import TlsSettings, tls_settings_for
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import Identity
from airflow_lro_provider.lro.threads import in_thread

ACCESS_TTL_SECONDS = 60.0
"""How long a connection's keys and certificates are used before they are read again."""

_T = TypeVar("_T")
_spawned: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """Start a task that belongs to no trigger: it must not inherit the logging context of whoever comes first."""
    task = contextvars.Context().run(asyncio.get_running_loop().create_task, coroutine)
    _spawned.add(task)  # the loop itself holds no strong reference
    task.add_done_callback(_spawned.discard)
    return task


@dataclass(frozen=True)
class Access:
    """How requests are authorized, and how TLS is spoken."""

    identity: Identity
    tls: TlsSettings


class Clients:
    """The clients of one event loop; see :class:`Watcher` for the arguments."""

    def __init__(
        self, make_client: Callable[..., AsyncOperationsClient], *, clock: Callable[[], float], max_in_flight: int
    ) -> None:
        self._make_client, self._clock, self._max_in_flight = make_client, clock, max_in_flight
        self._access: dict[ConnectionSettings, tuple[float, asyncio.Task[Access]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def access(self, settings: ConnectionSettings) -> Access:
        """The access of a connection, read again from time to time.

        :raises OperationsError: if there are no credentials.
        """
        now = self._clock()
        read_at, task = self._access.get(settings, (-math.inf, None))
        failed = task is not None and task.done() and (task.cancelled() or task.exception() is not None)
        if task is None or failed or now >= read_at + ACCESS_TTL_SECONDS:
            # Keys are parsed in a thread, once, however many wait for it.
            task = spawn(in_thread("tokens", lambda: Access(identity_for(settings), tls_settings_for(settings))))
            self._access[settings] = now, task
        return task.result() if task.done() else await asyncio.shield(task)

    def make(self, settings: ConnectionSettings, access: Access) -> AsyncOperationsClient:
        """A new client; :meth:`close` it."""
        return self._make_client(settings, access.identity, channel=access.tls, connections=self._max_in_flight)

    def close(self, client: AsyncOperationsClient) -> None:
        """Close a client in the background."""
        task = spawn(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def forget_access(self) -> None:
        """Forget what was read of connections: nobody waits any more."""
        self._access.clear()

    async def settle(self) -> None:
        """Wait until all clients that are being closed are closed."""
        # Not `while self._closing`: a finished task leaves the set in a later turn of the loop, and from Python 3.12 on
        # waiting for finished tasks takes no turn.
        while closing := [task for task in self._closing if not task.done()]:
            await asyncio.wait(closing)
