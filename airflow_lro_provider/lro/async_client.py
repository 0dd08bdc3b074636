"""The async client: the protocol over aiohttp, one pool of connections per event loop.

Sockets are what waiting costs in memory (256 KiB each under TLS), so all clients of a loop share their
connections, eight per host if nothing else is wished. Cancels have a session of their own: a kill must not
queue behind polls that a slow server keeps waiting. Whoever waits for a turn waits before the clock of
the request runs: that others are many is not the server's fault.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import aiohttp
import tenacity
from yarl import URL

from airflow_lro_provider.lro import flows, longpoll, protocol
from airflow_lro_provider.lro.auth.credentials import ConnectionSettings, Identity, identity_for
from airflow_lro_provider.lro.auth.mtls import TlsSettings, channel_for
from airflow_lro_provider.lro.client import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    USER_AGENT,
    retry_of,
    transport_error,
    wait_before_retry,
)
from airflow_lro_provider.lro.errors import MalformedResponseError, OperationsError, UnauthenticatedError, forgetting
from airflow_lro_provider.lro.flows import CancelResult
from airflow_lro_provider.lro.http.body import ACCEPT_ENCODING, Body
from airflow_lro_provider.lro.http.session import proxy_for
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.paging import Paging
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, PollSchedule
from airflow_lro_provider.lro.protocol import Page, Request, Response, Rows
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference, Parent

__all__ = ["AsyncOperationsClient"]

_Read = Callable[[Request, Response, datetime], Any]
_T = TypeVar("_T")
_NO_METRICS = Metrics()


class _Sessions:
    """The aiohttp sessions of one event loop, closed when nobody uses them any more."""

    def __init__(self) -> None:
        self.users = 0
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._turns: dict[tuple[str, str, int], asyncio.Semaphore] = {}

    def of(self, verb: str) -> aiohttp.ClientSession:
        kind = _kind(verb)
        if kind not in self._sessions:
            connector = aiohttp.TCPConnector(limit=0)  # who has a turn has a connection
            # Not trust_env: that would also take an account from ~/.netrc. Nor cookies: clients of several
            # connections share the session.
            self._sessions[kind] = aiohttp.ClientSession(
                connector=connector,
                headers={"user-agent": USER_AGENT, "accept-encoding": ACCEPT_ENCODING},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._sessions[kind]

    def turn(self, verb: str, host: str, connections: int) -> asyncio.Semaphore:
        """One of so many connections to a host."""
        return self._turns.setdefault((_kind(verb), host, connections), asyncio.Semaphore(connections))

    async def leave(self) -> None:
        self.users -= 1
        if self.users <= 0:
            sessions, self._sessions = self._sessions, {}
            for session in sessions.values():
                await session.close()


def _kind(verb: str) -> str:
    # Cancels do not stand in line behind looks. And one list takes the place of many GETs: their connections are given
    # up soon, if it does not use them in turn. Each of them costs 256 KiB.
    return verb if verb in ("cancel", "list") else "poll"


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Sessions] = WeakKeyDictionary()


class AsyncOperationsClient:
    """Speaks to ``google.longrunning.Operations`` of any service, from a coroutine.

    Make one with :meth:`create`, and close it (or use ``async with``): the sessions of the loop are
    closed with their last user.

    :param settings: what the connection says.
    :param identity: who one is.
    :param channel: how TLS is spoken.
    :param connect_timeout: seconds for a connection.
    :param read_timeout: seconds for an answer, the whole of it.
    :param retries: how often a request is tried again after a transient error; as the connection says
        if not given.
    :param connections: how many requests to a host may be under way at a time: so many lists, so many
        cancels, and so many of all other kinds. Clients of one loop with the same number share them.
    :param metrics: where cancellations are counted.
    :param sleep: what waits between tries.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        identity: Identity,
        *,
        channel: TlsSettings,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        retries: int | None = None,
        connections: int = MAX_IN_FLIGHT,
        metrics: Metrics = _NO_METRICS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self.identity = identity
        self._channel = channel
        self._timeouts = (connect_timeout, read_timeout)
        self._retries = settings.num_retries if retries is None else retries
        self._connections = connections
        self._metrics = metrics
        self._sleep = sleep
        self._sessions: _Sessions | None = None

    @classmethod
    async def create(cls, settings: ConnectionSettings, **kwargs: Any) -> AsyncOperationsClient:
        """Make a client; keys are read and parsed in a thread, not on the loop.

        :param settings: what the connection says.
        """
        identity, channel = await asyncio.to_thread(lambda: (identity_for(settings), channel_for(settings)))
        return cls(settings, identity, channel=channel, **kwargs)

    async def __aenter__(self) -> AsyncOperationsClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the loop's connections back."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            await sessions.leave()

    def endpoint(self, resource: Resource) -> str:
        """Where requests about it go: the base URL."""
        return self.settings.endpoint(resource, mtls=self._channel.mtls_hosts)

    async def get(self, reference: OperationReference, *, retries: int | None = None) -> Operation:
        """Look at an operation. See :meth:`OperationsClient.get`."""
        return cast(Operation, await self._send(protocol.get(reference, self.endpoint(reference)), retries))

    async def cancel(
        self,
        reference: OperationReference,
        *,
        look: bool = True,
        before: Operation | None = None,
        retries: int | None = None,
    ) -> CancelResult:
        """Request the cancellation of an operation. See :meth:`OperationsClient.cancel`."""
        flow = flows.cancel(reference, self.endpoint(reference), look=look, before=before, metrics=self._metrics)
        return await self._run(flow, retries)

    async def start(
        self, method: Method, body: Mapping[str, Any] | None = None, *, request_id: str | None = None
    ) -> flows.Started:
        """Call a method that starts an operation. See :meth:`OperationsClient.start`."""
        return await self._run(flows.start(method, self.endpoint(method), body, request_id))

    async def delete(self, reference: OperationReference) -> None:
        """Make the service forget an operation. This does not cancel it."""
        await self._send(protocol.delete(reference, self.endpoint(reference)))

    async def list(
        self, parent: Parent, *, filter: str | None = None, page_size: int | None = None
    ) -> AsyncIterator[Operation]:
        """All operations of a parent, page by page as they are asked for."""
        paging = Paging(parent, self.endpoint(parent), filter=filter, page_size=page_size)
        while (request := paging.request()) is not None:
            for operation in paging.new_on(cast(Page, await self._send(request))):
                yield operation

    async def rows(
        self,
        parent: Parent,
        *,
        filter: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        retries: int | None = None,
    ) -> Rows:
        """One page of a parent's operations, as it came."""
        request = protocol.list_(
            parent, self.endpoint(parent), filter=filter, page_size=page_size, page_token=page_token
        )
        return cast(Rows, await self._send(request, retries, protocol.read_rows))

    async def wait(
        self, reference: OperationReference, timeout: float = READ_TIMEOUT, *, retries: int | None = None
    ) -> Operation:
        """The service's own ``:wait``. See :meth:`OperationsClient.wait`."""
        return cast(Operation, await self._send(protocol.wait(reference, self.endpoint(reference), timeout), retries))

    async def look(self, reference: OperationReference, timeout: float = 0.0) -> Operation:
        """One look of a wait, which is not tried again. See :meth:`OperationsClient.look`."""
        return await (self.wait(reference, timeout, retries=0) if timeout else self.get(reference, retries=0))

    async def wait_until_done(
        self,
        reference: OperationReference,
        watch: PollSchedule,
        *,
        on_change: Callable[[str], object] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Operation:
        """Poll until the operation is over. See :meth:`OperationsClient.wait_until_done`."""
        wait = longpoll.looks(
            watch,
            str(reference),
            offered=find_service(reference.service).offers("wait", reference.name, reference.version),
            on_change=on_change,
            clock=clock,
        )
        try:
            step = next(wait)
            while True:
                if isinstance(step, longpoll.Pause):
                    await self._sleep(step.seconds)
                    step = next(wait)
                    continue
                try:
                    operation = await self.look(reference, step.timeout)
                except OperationsError as error:
                    step = wait.throw(error)
                else:
                    step = wait.send(operation)
        except StopIteration as end:
            return cast(Operation, end.value)

    async def _run(self, flow: Generator[Request, Any, _T], retries: int | None = None) -> _T:
        try:
            request = next(flow)
            while True:
                try:
                    result = await self._send(request, retries)
                except OperationsError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(result)
        except StopIteration as end:
            return cast(_T, end.value)

    async def _send(self, request: Request, retries: int | None = None, read: _Read = protocol.read) -> Any:
        times = self._retries if retries is None else retries
        if times == 0:  # tenacity would keep the watcher's last pages, in cycles, for the garbage collector
            return await self._send_authorized(request, read)
        retrying = tenacity.AsyncRetrying(
            retry=retry_of(request),
            stop=tenacity.stop_after_attempt(1 + times),
            wait=wait_before_retry,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(self._send_authorized, request, read)

    async def _send_authorized(self, request: Request, read: _Read) -> Any:
        headers = await self.identity.async_headers()
        try:
            return await self._send_once(request, headers, read)
        except UnauthenticatedError:
            self.identity.reject(headers)
            return await self._send_once(request, await self.identity.async_headers(), read)

    async def _send_once(self, request: Request, headers: dict[str, str], read: _Read) -> Any:
        if self._sessions is None:
            self._sessions = _loops.setdefault(asyncio.get_running_loop(), _Sessions())
            self._sessions.users += 1
        sessions, url = self._sessions, URL(request.url, encoded=True)
        with forgetting():  # aiohttp's errors have the request's headers in their repr
            try:
                async with sessions.turn(request.verb, url.authority, self._connections):
                    answer = await self._fetch(sessions.of(request.verb), request, url, headers)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                sent = not isinstance(error, aiohttp.ClientConnectorError)
                raise transport_error(request, error, sent=sent) from None
            except MalformedResponseError as error:
                raise protocol.unreadable(request, error) from None
        return read(request, answer.without(headers), datetime.now(timezone.utc))

    async def _fetch(
        self, session: aiohttp.ClientSession, request: Request, url: URL, headers: dict[str, str]
    ) -> Response:
        connect, read = self._timeouts
        async with session.request(
            request.method,
            url,
            data=request.body,
            headers={**request.headers, **headers},
            timeout=aiohttp.ClientTimeout(total=connect + read + request.timeout, sock_connect=connect),
            allow_redirects=False,
            proxy=_proxy(request.url),
            ssl=self._channel.context or True,
        ) as response:
            found = {key.lower(): value for key, value in response.headers.items()}
            body = Body(response.status, found)
            async for piece in response.content.iter_any():
                if not body.feed(piece):
                    break
            if not response.content.at_eof():
                response.close()
            return Response(response.status, found, body.finish())


def _proxy(url: str) -> URL | None:
    """The proxy for a URL, perhaps with an account; a kind that aiohttp cannot use does not count."""
    named = proxy_for(url)
    if not named:
        return None
    proxy = URL(named if "://" in named else f"http://{named}")
    return proxy if proxy.scheme in ("http", "https") else None
