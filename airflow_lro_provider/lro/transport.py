"""How an answer is fetched over requests: whole, in time, from nobody but the one who was asked.

requests and urllib3 bound the time of each read, and neither the time nor the size of the whole: a server that sends
a byte every second is listened to for ever, a header line without an end is read into memory, and so is a body. So
what comes from a socket is counted here, at the socket (:class:`_Wire`), and what is made of it in
:mod:`~airflow_lro_provider.lro.content`. The async client has the same limits by its own means.

Redirects are never followed, cookies never kept, and what is not encrypted never goes by way of a proxy.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from google.auth import transport
from google.auth.exceptions import RefreshError
from google.auth.exceptions import TransportError as GoogleTransportError
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_lro_provider.lro.content import ACCEPT_ENCODING, MAX_WIRE_BYTES, Body
from airflow_lro_provider.lro.errors import MalformedAnswerError, OversizedAnswerError
from airflow_lro_provider.lro.protocol import Answer

__all__ = ["BoundedSession", "TokenRequest", "proxy_for"]

TOKEN_TIMEOUT = 30.0
"""How long a token server may take for an answer, in seconds."""
_PIECE = 2**16


class _Wire(io.RawIOBase):
    """What comes from a socket for one answer: so much, and until then.

    :param raw: the socket's own reader.
    :param sock: the socket. Its timeout is the time that the whole answer may take.
    """

    def __init__(self, raw: Any, sock: socket.socket, clock: Callable[[], float] = time.monotonic) -> None:
        self._raw, self._sock, self._clock = raw, sock, clock
        self._timeout = sock.gettimeout()
        self._deadline = None if self._timeout is None else clock() + self._timeout
        self._left = MAX_WIRE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            seconds = self._deadline - self._clock()
            if seconds <= 0:
                raise TimeoutError("the answer as a whole took too long")
            self._sock.settimeout(seconds)
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise OversizedAnswerError(f"more than {MAX_WIRE_BYTES} bytes came")
        return count

    def close(self) -> None:
        if not self.closed:
            if self._deadline is not None and self._sock.fileno() >= 0:
                self._sock.settimeout(self._timeout)  # the next request on it has all its time
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Wire(self.fp.detach(), sock))


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager


class BoundedSession:
    """Sends requests, and fetches their answers within limits."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.mount("http://", _Adapter())
        self._session.mount("https://", _Adapter())
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Otherwise requests would put what it finds in ~/.netrc in the place of the token.
        self._session.auth = lambda request: request

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Any = None,
        connect: float,
        read: float,
    ) -> Answer:
        """Send a request, and take the answer.

        :param connect: seconds for a connection.
        :param read: seconds for the whole answer.
        :raises requests.RequestException: if none came in time.
        :raises MalformedAnswerError: if it cannot be taken, among others :class:`OversizedAnswerError`.
        """
        with self._session.request(
            method,
            url,
            data=body,
            headers={**headers, "accept-encoding": ACCEPT_ENCODING},
            timeout=(connect, read),
            allow_redirects=False,
            stream=True,
            proxies=None if proxy_for(url) else {"http": "", "https": ""},
        ) as response:
            found = {key.lower(): value for key, value in response.headers.items()}
            content = Body(response.status_code, found)
            try:
                while content.wanted and (piece := response.raw.read(_PIECE, decode_content=False)):
                    content.feed(piece)
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(error) from None
            except (http.client.HTTPException, ValueError) as error:
                raise MalformedAnswerError(f"its framing is wrong ({type(error).__name__})") from None
            return Answer(response.status_code, found, content.finish())


def proxy_for(url: str) -> str | None:
    """The proxy that this machine's environment names for a URL; ``None`` for a direct connection.

    A proxy sees nothing of what goes through it encrypted. So what is not encrypted (to this machine, to an
    emulator, to Google's metadata server) never goes by way of one, whatever the environment says.
    """
    if not url.startswith("https://"):
        return None
    return requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))


@dataclass(frozen=True)
class _TokenAnswer:
    """An answer under the names of :class:`google.auth.transport.Response`."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class TokenRequest(transport.Request):
    """How google-auth speaks to a token server: within the same limits as we to an API.

    google-auth's own would follow a redirect with a signed assertion in its hands, and logs requests at DEBUG.
    """

    def __init__(self) -> None:
        self._session = BoundedSession()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a request. See :class:`google.auth.transport.Request`."""
        if kwargs or ".mtls." in url.split("/")[2]:
            # With a client's certificate, which google-auth knows where to find.
            from google.auth.transport.requests import Request

            return Request()(url, method, body, headers, timeout or TOKEN_TIMEOUT, **kwargs)
        seconds = min(timeout or TOKEN_TIMEOUT, TOKEN_TIMEOUT)
        host = url.split("/")[2]
        try:
            found = self._session.fetch(method, url, headers=headers or {}, body=body, connect=seconds, read=seconds)
        except requests.RequestException as error:
            raise GoogleTransportError(f"no answer from {host} ({type(error).__name__})") from None
        except MalformedAnswerError as error:
            kind = GoogleTransportError if error.transient else RefreshError
            raise kind(f"the answer from {host} cannot be read: {error}") from None
        if 300 <= found.status < 400:
            raise RefreshError(f"{host} answered with a redirect (HTTP {found.status}), which is not followed")
        return _TokenAnswer(found.status, found.headers, found.body)
