"""How a response is fetched over aiohttp, within the same limits as in :mod:`~airflow_lro_provider.lro.http.session`.

Sockets are what waiting costs in memory (256 KiB each under TLS), so all sessions of an event loop share their
connections, eight per host unless set otherwise. Cancels have connections of their own: a kill must not queue behind
polls that a slow server keeps waiting. Queueing for a connection comes before the clock of the request runs: that many
others wait is not the server's fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from airflow_lro_provider.lro.errors import without_context
from airflow_lro_provider.lro.http.body import ACCEPT_ENCODING, Body
from airflow_lro_provider.lro.http.failures import NotConnectedError, explained
from airflow_lro_provider.lro.http.messages import USER_AGENT, Request, Response
from airflow_lro_provider.lro.http.proxy import proxy_for, split_login
from airflow_lro_provider.lro.http.trust import shared_context

if TYPE_CHECKING:
    import ssl


class _Connector(aiohttp.TCPConnector):
    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
        try:
            return await super().connect(req, traces, timeout)
        except Exception as error:
            where, proxy = (getattr(error, "host", None), getattr(error, "port", None)), req.proxy
            raise NotConnectedError(
                error,
                at_proxy=proxy is not None and where == (proxy.host, proxy.port),
                refusal=error.status if isinstance(error, aiohttp.ClientHttpProxyError) else None,
            ) from None


class _Pools:
    """The connections of one event loop, closed with their last user."""

    def __init__(self) -> None:
        self.users = 0
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._turns: dict[tuple[str, str, int], asyncio.Semaphore] = {}

    def session(self, verb: str) -> aiohttp.ClientSession:
        kind = _kind(verb)
        if kind not in self._sessions:
            connector = _Connector(limit=0)  # who has a turn has a connection
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
        """One of as many connections to a host."""
        return self._turns.setdefault((_kind(verb), host, connections), asyncio.Semaphore(connections))

    async def leave(self) -> None:
        self.users -= 1
        if self.users <= 0:
            sessions, self._sessions = self._sessions, {}
            for session in sessions.values():
                await session.close()


def _kind(verb: str) -> str:
    # Cancels do not queue behind polls. And one list takes the place of many GETs: their connections are closed soon,
    # if it does not use them in turn. Each of them costs 256 KiB.
    return verb if verb in ("cancel", "list") else "poll"


_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools] = WeakKeyDictionary()


class AsyncSession:
    """Sends requests, and fetches their responses within limits; the arguments are those of the client."""

    def __init__(self, *, connect: float, read: float, connections: int, context: ssl.SSLContext | None = None) -> None:
        self._connect, self._read, self._connections, self._context = connect, read, connections, context
        self._pools: _Pools | None = None

    async def close(self) -> None:
        """Give the loop's connections back."""
        pools, self._pools = self._pools, None
        if pools is not None:
            await pools.leave()

    async def fetch(self, request: Request[Any], headers: Mapping[str, str]) -> Response:
        """Send a request, authorized by these headers, and fetch the response.

        :raises TransportError: if none came in time.
        :raises UnreachableError: if the certificate is not trusted, or the proxy cannot be used.
        :raises MalformedResponseError: if it cannot be accepted, among others :class:`ResponseTooLargeError`.
        """
        if self._pools is None:
            self._pools = _loops.setdefault(asyncio.get_running_loop(), _Pools())
            self._pools.users += 1
        pools, url, proxy = self._pools, URL(request.url, encoded=True), proxy_for(request.url)
        address, login = (None, None) if proxy is None else split_login(proxy)
        context = self._context or (shared_context() if url.scheme == "https" else True)
        # aiohttp's errors have the request's headers in their repr.
        with without_context(), explained(request.url, proxy, aiohttp.ClientError, asyncio.TimeoutError, OSError):
            async with (
                pools.turn(request.verb, url.authority, self._connections),
                pools.session(request.verb).request(
                    request.method,
                    url,
                    data=request.body,
                    headers={**request.headers, **headers},
                    timeout=aiohttp.ClientTimeout(
                        total=self._connect + (request.response_timeout or self._read) + request.timeout,
                        connect=2 * self._connect,  # with TLS, and with the tunnel through a proxy
                        sock_connect=self._connect,
                    ),
                    allow_redirects=False,
                    proxy=address,
                    proxy_headers=login,
                    ssl=context,
                ) as response,
            ):
                found = {key.lower(): value for key, value in response.headers.items()}
                body = Body(response.status, found)
                async for piece in response.content.iter_any():
                    if not body.feed(piece):
                        break
                if not response.content.at_eof():
                    response.close()
                return Response(response.status, found, body.finish())
