"""The async client: the protocol over aiohttp, one pool of connections per event loop.

Sockets are what waiting costs in memory (256 KiB each under TLS), so all clients of a loop share one
session of at most eight connections per host. Cancels have a session of their own: a kill must not
queue behind polls that a slow server keeps waiting.
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

from airflow_lro_provider.lro import flows, protocol
from airflow_lro_provider.lro.client import (
    CONNECT_TIMEOUT,
    READ_TIMEOUT,
    USER_AGENT,
    retry_of,
    transport_error,
    wait_before_retry,
)
from airflow_lro_provider.lro.credentials import ConnectionSettings, Identity, identity_for
from airflow_lro_provider.lro.errors import OperationsError, UnauthenticatedError
from airflow_lro_provider.lro.longpoll import LongPolls
from airflow_lro_provider.lro.method import Method
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.pace import MAX_IN_FLIGHT
from airflow_lro_provider.lro.polling import Watch
from airflow_lro_provider.lro.protocol import Answer, Page, Request, Rows
from airflow_lro_provider.lro.reference import OperationReference, endpoint_of
from airflow_lro_provider.lro.services import find_service

__all__ = ["AsyncOperationsClient"]

MAX_CONNECTIONS_PER_HOST = MAX_IN_FLIGHT
_Read = Callable[[Request, Answer, datetime], Any]
_T = TypeVar("_T")


class _Sessions:
    """The aiohttp sessions of one event loop, closed when nobody uses them any more."""

    def __init__(self) -> None:
        self.users = 0
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    def of(self, verb: str) -> aiohttp.ClientSession:
        kind = "cancel" if verb == "cancel" else "poll"
        if kind not in self._sessions:
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=MAX_CONNECTIONS_PER_HOST)
            # trust_env: proxies are taken from the environment, as requests does.
            self._sessions[kind] = aiohttp.ClientSession(
                connector=connector, trust_env=True, headers={"user-agent": USER_AGENT}, auto_decompress=True
            )
        return self._sessions[kind]

    async def leave(self) -> None:
        self.users -= 1
        if self.users <= 0:
            sessions, self._sessions = self._sessions, {}
            for session in sessions.values():
                await session.close()


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Sessions] = WeakKeyDictionary()


class AsyncOperationsClient:
    """Speaks to ``google.longrunning.Operations`` of any service, from a coroutine.

    Make one with :meth:`create`, and close it (or use ``async with``): the sessions of the loop are
    closed with their last user.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        identity: Identity,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        retries: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self.identity = identity
        self._timeouts = (connect_timeout, read_timeout)
        self._retries = settings.num_retries if retries is None else retries
        self._sleep = sleep
        self._sessions: _Sessions | None = None

    @classmethod
    async def create(cls, settings: ConnectionSettings, **kwargs: Any) -> AsyncOperationsClient:
        """Make a client; keys are read and parsed in a thread, not on the loop.

        :param settings: what the connection says.
        """
        return cls(settings, await asyncio.to_thread(identity_for, settings), **kwargs)

    async def __aenter__(self) -> AsyncOperationsClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the loop's connections back."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            await sessions.leave()

    def endpoint(self, reference: OperationReference) -> str:
        """Where requests about this operation go."""
        return endpoint_of(reference, self.settings.api_endpoint)

    async def get(self, reference: OperationReference, *, retries: int | None = None) -> Operation:
        """Look at an operation. See :meth:`OperationsClient.get`."""
        return cast(Operation, await self._send(protocol.get(reference, self.endpoint(reference)), retries))

    async def cancel(self, reference: OperationReference, *, retries: int | None = None) -> Operation | None:
        """Ask for the cancellation of an operation. See :meth:`OperationsClient.cancel`."""
        return await self._run(flows.cancel(reference, self.endpoint(reference)), retries)

    async def ask_for_cancel(self, reference: OperationReference, before: Operation | None = None) -> flows.Asked:
        """Look, ask for the cancellation, and say what is known of it at once.

        :param before: the look, if it was just taken.
        """
        return await self._run(flows.ask_for_cancel(reference, self.endpoint(reference), before))

    async def start(
        self, method: Method, body: Mapping[str, Any] | None = None, *, request_id: str | None = None
    ) -> flows.Started:
        """Call a method that starts an operation. See :meth:`OperationsClient.start`."""
        endpoint = endpoint_of(method.about, self.settings.api_endpoint)
        return await self._run(flows.start(method, endpoint, body, request_id))

    async def delete(self, reference: OperationReference) -> None:
        """Make the service forget an operation. This does not cancel it."""
        await self._send(protocol.delete(reference, self.endpoint(reference)))

    async def list(
        self, parent: OperationReference, *, filter: str | None = None, page_size: int | None = None
    ) -> AsyncIterator[Operation]:
        """All operations of a parent, page by page as they are asked for."""
        token: str | None = None
        while True:
            request = protocol.list_(
                parent, self.endpoint(parent), filter=filter, page_size=page_size, page_token=token
            )
            page = cast(Page, await self._send(request))
            for operation in page.operations:
                yield operation
            token = page.next_page_token
            if not token:
                return

    async def rows(
        self,
        parent: OperationReference,
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

    async def wait_until_done(
        self,
        reference: OperationReference,
        watch: Watch,
        *,
        on_change: Callable[[str], object] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Operation:
        """Poll until the operation is over. See :meth:`OperationsClient.wait_until_done`."""
        polls = LongPolls(find_service(reference.service).offers("wait", reference.name))
        while True:
            asked = clock()
            timeout = polls.timeout([watch], asked)
            try:
                operation = await (
                    self.wait(reference, timeout, retries=0) if timeout else self.get(reference, retries=0)
                )
            except OperationsError as error:
                if timeout:
                    polls.failed(clock())
                    if not error.transient:
                        continue  # a GET tells whose error it is
                line, timeout = watch.failed(error, clock()), 0.0
            else:
                line = watch.saw(operation)
            if line:
                on_change(line)
            if watch.done:
                return watch.done
            now = clock()
            watch.check_deadline(now, str(reference))
            if timeout:
                polls.judge(timeout, now - asked, now)
                await self._sleep(polls.delay(watch, now - asked, now))
            else:
                await self._sleep(watch.delay(now))

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
        retrying = tenacity.AsyncRetrying(
            retry=retry_of(request),
            stop=tenacity.stop_after_attempt(1 + (self._retries if retries is None else retries)),
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
        connect, patience = self._timeouts
        try:
            async with self._sessions.of(request.verb).request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body,
                headers={**request.headers, **headers},
                # No limit for the whole: waiting for one's turn among many is not the server's fault.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=patience + request.timeout),
                allow_redirects=False,
            ) as response:
                body = await response.read()
                answer = Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, body)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            sent = not isinstance(error, aiohttp.ClientConnectorError)
            raise transport_error(request, error, sent=sent) from None
        return read(request, answer, datetime.now(timezone.utc))
