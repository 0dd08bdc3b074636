"""The watcher: one poller per (endpoint, parent, identity) for all who wait on one event loop.

What is asked when is decided in :mod:`airflow_lro_provider.lro.shared_poller.planner`, how fast an endpoint may be
asked in :mod:`airflow_lro_provider.lro.shared_poller.throttle`. The requests are sent, and the answers delivered, in
:mod:`airflow_lro_provider.lro.shared_poller.endpoint_poller`.

Whoever waits holds a future, and nothing else runs for them. They come and go without touching each
other; with the last one of a parent its requests are ended, and the connections are given back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.credentials import ConnectionSettings, identity_for
from airflow_lro_provider.lro.auth.mtls import channel_for
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, PollSchedule
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.lro.shared_poller.endpoint_poller import Endpoint, start
from airflow_lro_provider.lro.shared_poller.group import Means
from airflow_lro_provider.lro.shared_poller.waiting import Waiting

__all__ = ["Waiting", "Watcher"]

READ_AGAIN = 60.0
"""So long a connection's keys and certificates are taken for what they were when they were read, in seconds."""

_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher] = WeakKeyDictionary()


class Watcher:
    """All who wait on one event loop.

    :param meter: what counts.
    :param max_in_flight: how many requests may be under way at a time at each endpoint.
    :param clock: gives the time, in seconds, on which all the watches run.
    :param make_client: makes a client of settings, an identity and a channel.
    """

    def __init__(
        self,
        meter: Metrics | None = None,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        clock: Callable[[], float] = time.monotonic,
        make_client: Callable[..., Any] = AsyncOperationsClient,
    ) -> None:
        self.meter, self.clock, self.make_client = meter or Metrics(), clock, make_client
        self.max_in_flight = max_in_flight
        self._endpoints: dict[str, Endpoint] = {}
        self._reached: dict[ConnectionSettings, tuple[float, asyncio.Task[Means]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def of_loop(cls, make: Callable[[], Watcher] | None = None) -> Watcher:
        """The watcher of the running loop.

        :param make: makes one, if there is none yet.
        """
        loop = asyncio.get_running_loop()
        if loop not in _watchers:
            _watchers[loop] = make() if make is not None else cls()
        return _watchers[loop]

    async def join(
        self,
        settings: ConnectionSettings,
        reference: OperationReference,
        watch: PollSchedule,
    ) -> Waiting:
        """Begin to wait.

        :param settings: what the connection says.
        :param watch: when to look and until when, on the clock of the watcher.
        :raises ForbiddenEndpointError: if the reference is not for this connection.
        :raises OperationsError: if there are no credentials.
        """
        settings.endpoint(reference)  # refuses a foreign host before a key is read
        means = await self.means(settings)
        url = settings.endpoint(reference, mtls=means[1].mtls_hosts)
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            endpoint = self._endpoints[url] = Endpoint(self, url)
        group = endpoint.group(settings, means, reference)
        waiting = Waiting(reference.name, watch, group)
        now = self.clock()
        group.family.add(waiting, now)
        endpoint.wake(now)
        return waiting

    async def settle(self) -> None:
        """Wait until the connections of those who have left are closed."""
        # Not for as long as there are any: who is done leaves the set in a later turn of the loop, and from Python 3.12
        # on a wait for those who are done takes no turn.
        while closing := [task for task in self._closing if not task.done()]:
            await asyncio.wait(closing)

    def forget(self, endpoint: Endpoint) -> None:
        """Nobody waits at an endpoint any more."""
        self._endpoints.pop(endpoint.url, None)
        if not self._endpoints:
            self._reached.clear()

    def close(self, client: Any) -> None:
        """Give connections back."""
        task: asyncio.Task[None] = start(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def means(self, settings: ConnectionSettings) -> Means:
        """Who one is and how one speaks TLS, as the connection has it; read anew now and then."""
        now = self.clock()
        at, task = self._reached.get(settings, (-math.inf, None))
        if task is None or now >= at + READ_AGAIN or (task.done() and (task.cancelled() or task.exception())):
            # Keys are parsed in a thread, once, however many wait for it.
            task = start(asyncio.to_thread(lambda: (identity_for(settings), channel_for(settings))))
            self._reached[settings] = now, task
        return task.result() if task.done() else await asyncio.shield(task)
