"""The shared poller of one event loop: one poller per (endpoint, parent, identity) for all who wait there.

Which requests are sent is decided in :mod:`airflow_lro_provider.lro.shared_poller.planner`, how fast an endpoint is
polled in :mod:`airflow_lro_provider.lro.shared_poller.throttle`. Requests are sent, and news delivered, in
:mod:`airflow_lro_provider.lro.shared_poller.endpoint_poller`.

Whoever waits holds a :class:`Subscription`, which is a future and nothing that runs. Subscriptions come and go without
affecting each other; with the last one of a parent its requests are cancelled, and its connections closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any
from weakref import WeakKeyDictionary

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, PollSchedule
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.lro.shared_poller.clients import Clients
from airflow_lro_provider.lro.shared_poller.endpoint_poller import EndpointPoller
from airflow_lro_provider.lro.shared_poller.queue import News, Waiter

_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher] = WeakKeyDictionary()


class Subscription(Waiter):
    """One wait. Await it repeatedly: it gives a line for the log whenever state or progress changed, and at last the
    finished operation. End it with :meth:`leave`, whatever came.
    """

    __slots__ = ("_awaited", "_future", "_later", "_on_leave")

    def __init__(self, name: str, schedule: PollSchedule, on_leave: Callable[[Waiter], None]) -> None:
        super().__init__(name, schedule)
        self._on_leave = on_leave
        self._future: asyncio.Future[Operation | str] = asyncio.get_running_loop().create_future()
        self._later: list[News] | None = None  # after a line: what came behind it, before that was awaited
        self._awaited = False

    def __await__(self) -> Generator[Any, None, Operation | str]:
        if self._awaited and self._later is not None:
            self._future = asyncio.get_running_loop().create_future()
            later, self._later = self._later, None
            for news in later:
                self.notify(news)
        self._awaited = True
        # While nothing happens there is no frame of ours: thousands would have one.
        return self._future.__await__()

    def leave(self) -> None:
        """End the wait."""
        self._future.cancel()
        self._on_leave(self)

    def notify(self, news: News) -> None:
        """Deliver what the poller found out."""
        if self._future.cancelled():
            return
        if self._future.done():
            self._later = [*(self._later or ()), news]
        elif isinstance(news, BaseException):
            self._future.set_exception(news)
            self._future.exception()  # retrieved: nobody may be there to await it
        else:
            self._future.set_result(news)
            if isinstance(news, str):
                self._later = []


class Watcher:
    """The shared poller of one event loop.

    :param max_in_flight: how many requests may be in flight at a time at each endpoint.
    :param clock: gives the time, in seconds, that all schedules are on.
    :param make_client: makes a client of settings, an identity and TLS settings.
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
        clock: Callable[[], float] = time.monotonic,
        make_client: Callable[..., AsyncOperationsClient] = AsyncOperationsClient,
    ) -> None:
        self.clock, self.max_in_flight = clock, max_in_flight
        self._metrics = metrics or Metrics()
        self._clients = Clients(make_client, clock=clock, max_in_flight=max_in_flight)
        self._endpoints: dict[str, EndpointPoller] = {}

    @classmethod
    def of_loop(cls, make: Callable[[], Watcher] | None = None) -> Watcher:
        """The watcher of the running loop; ``make`` makes one, if there is none yet."""
        loop = asyncio.get_running_loop()
        if loop not in _watchers:
            _watchers[loop] = make() if make is not None else cls()
        return _watchers[loop]

    async def join(
        self, settings: ConnectionSettings, reference: OperationReference, schedule: PollSchedule
    ) -> Subscription:
        """Begin to wait.

        :param schedule: when to poll and until when, on the clock of the watcher.
        :raises ForbiddenEndpointError: if the reference is not for this connection.
        :raises OperationsError: if there are no credentials.
        """
        settings.endpoint(reference)  # refuses a foreign host before a key is read
        access = await self._clients.access(settings)
        url = settings.endpoint(reference, mtls=access.tls.mtls_hosts)
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            endpoint = self._endpoints[url] = EndpointPoller(
                url,
                clients=self._clients,
                metrics=self._metrics,
                clock=self.clock,
                max_in_flight=self.max_in_flight,
                on_idle=self._forget,
            )
        parent = endpoint.parent(settings, access, reference)
        subscription = Subscription(reference.name, schedule, parent.on_leave)
        endpoint.add(parent, subscription)
        return subscription

    async def settle(self) -> None:
        """Wait until the connections of those who have left are closed."""
        await self._clients.settle()

    def _forget(self, endpoint: EndpointPoller) -> None:
        del self._endpoints[endpoint.url]
        if not self._endpoints:
            self._clients.forget_access()
