"""How a response is fetched over requests: within limits of time and size, and from no other host.

requests and urllib3 limit the time of each read, but neither the time nor the size of the whole: a server that sends a
byte every second is listened to for ever, and an endless header line or body is read into memory. So bytes are counted
here as they leave the socket (:class:`_Wire`), and once more when they are unpacked
(:mod:`~airflow_lro_provider.lro.http.body`). :mod:`~airflow_lro_provider.lro.http.async_session` has the same limits.

Redirects are never followed, cookies and ``~/.netrc`` never used. Which certificates are trusted:
:mod:`~airflow_lro_provider.lro.http.trust`; which proxies are used: :mod:`~airflow_lro_provider.lro.http.proxy`.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from airflow_lro_provider.lro.errors import MalformedResponseError, ResponseTooLargeError, without_context
from airflow_lro_provider.lro.http.body import ACCEPT_ENCODING, MAX_WIRE_BYTES, Body
from airflow_lro_provider.lro.http.failures import NotConnectedError, explained
from airflow_lro_provider.lro.http.messages import Response
from airflow_lro_provider.lro.http.proxy import proxy_for, split_login
from airflow_lro_provider.lro.http.trust import shared_context

if TYPE_CHECKING:
    import ssl

_PIECE = 2**16


class _Wire(io.RawIOBase):
    """The bytes of one response from a socket: limited in number, and in time by the socket's timeout."""

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
                raise TimeoutError("the response as a whole took too long")
            self._sock.settimeout(seconds)
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise ResponseTooLargeError(f"it is larger than {MAX_WIRE_BYTES} bytes")
        return count

    def close(self) -> None:
        if not self.closed:
            if self._deadline is not None and self._sock.fileno() >= 0:
                self._sock.settimeout(self._timeout)  # the next request on it has its own time
            self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Wire(self.fp.detach(), sock))


@contextlib.contextmanager
def _connecting(connection: HTTPConnection) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        refusal = re.match(r"Tunnel connection failed: (\d{3})", str(error))  # http.client's only form of it
        raise NotConnectedError(
            error,
            # Older versions of urllib3 do not say how far they came.
            at_proxy=connection.proxy is not None and not getattr(connection, "has_connected_to_proxy", True),
            refusal=int(refusal[1]) if refusal else None,
        ) from None


class _Connection(HTTPConnection):
    response_class = _Response

    def connect(self) -> None:
        with _connecting(self):
            super().connect()


class _SecureConnection(HTTPSConnection):
    response_class = _Response

    def connect(self) -> None:
        with _connecting(self):
            super().connect()


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    """Connections that are read within limits."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(self._tls())
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs, **self._tls(), proxy_ssl_context=shared_context())
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        return split_login(proxy)[1]

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"  # requests would add certifi's certificates to the context

    def _tls(self) -> dict[str, ssl.SSLContext]:
        return {} if self.context is None else {"ssl_context": self.context}


class BoundedSession:
    """Sends requests, and fetches their responses within limits.

    :param context: how to speak TLS, if not with the shared context: has the client certificate to be shown.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.session = requests.Session()
        self.session.trust_env = False  # proxies and certificates are found here
        # Else requests replaces the token by the account in a URL.
        self.session.auth = lambda request: request
        self.session.mount("http://", _Adapter())
        if context is not None:
            self.session.mount("https://", _Adapter(context))
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def show_certificate(self, origin: str, context: ssl.SSLContext) -> None:
        """Show the client certificate of a context at one origin (``https://HOST[:PORT]``), and at no other."""
        if getattr(self.session.get_adapter(f"{origin}/"), "context", None) is not context:
            self.session.mount(f"{origin}/", _Adapter(context))

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    @without_context()  # requests' errors have the request at hand, with its headers and its body
    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Any = None,
        connect: float,
        read: float,
    ) -> Response:
        """Send a request, and fetch the response.

        :param connect: seconds for a connection.
        :param read: seconds for the whole response.
        :raises TransportError: if none came in time.
        :raises UnreachableError: if the certificate is not trusted, or the proxy cannot be used.
        :raises MalformedResponseError: if it cannot be accepted, among others :class:`ResponseTooLargeError`.
        """
        if url.startswith("https://") and not isinstance(self.session.adapters["https://"], _Adapter):
            self.session.mount("https://", _Adapter(shared_context()))  # reads files: not before it is needed
        proxy = proxy_for(url)
        with (
            explained(url, proxy, requests.RequestException),
            self.session.request(
                method,
                url,
                data=body,
                headers={**headers, "accept-encoding": ACCEPT_ENCODING},
                timeout=(connect, read),
                allow_redirects=False,
                stream=True,
                proxies={"https": proxy or ""},
            ) as response,
        ):
            found = {key.lower(): value for key, value in response.headers.items()}
            content = Body(response.status_code, found)
            try:
                while content.wanted and (piece := response.raw.read(_PIECE, decode_content=False)):
                    content.feed(piece)
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(error) from None
            except (http.client.HTTPException, ValueError) as error:
                raise MalformedResponseError(f"its framing is wrong ({type(error).__name__})") from None
            return Response(response.status_code, found, content.finish())
