"""The bytes of one response, limited in number and time. Over real sockets: tests/hostile."""

from __future__ import annotations

import io
import ssl
from typing import Any

import pytest
import requests

from airflow_lro_provider.lro.errors import ResponseTooLargeError
from airflow_lro_provider.lro.http import session as transport
from airflow_lro_provider.lro.http.session import BoundedSession, _Wire


class Socket:
    """A socket that notes its timeouts."""

    def __init__(self, timeout: float | None) -> None:
        self.timeouts = [timeout]

    def gettimeout(self) -> float | None:
        """The last one."""
        return self.timeouts[-1]

    def settimeout(self, seconds: float | None) -> None:
        """Note it."""
        self.timeouts.append(seconds)

    def fileno(self) -> int:
        """It is open."""
        return 3


def wire(data: bytes, sock: Socket, clock: Any = lambda: 0.0) -> _Wire:
    """A reader of this data."""
    return _Wire(io.BytesIO(data), sock, clock)  # type: ignore[arg-type]


def test_each_read_has_the_time_that_is_left() -> None:
    """The timeout is that of the whole: it shrinks from read to read, and is given back at the end."""
    sock, moments = Socket(10.0), iter([100.0, 101.0, 104.5, 110.5])
    reader = wire(b"abc", sock, lambda: next(moments))
    assert reader.read(1) == b"a"
    assert reader.read(1) == b"b"
    with pytest.raises(TimeoutError):
        reader.read(1)
    assert sock.timeouts == [10.0, 9.0, 5.5]
    reader.close()
    reader.close()
    assert sock.timeouts == [10.0, 9.0, 5.5, 10.0]


def test_no_timeout_stays_none() -> None:
    """Where there is no limit, none is set."""
    sock = Socket(None)
    reader = wire(b"abc", sock)
    assert reader.read() == b"abc"
    reader.close()
    assert sock.timeouts == [None]


def test_so_many_bytes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts that comes for a response: headers, sizes of chunks, trailers, body."""
    monkeypatch.setattr(transport, "MAX_WIRE_BYTES", 10)
    assert wire(b"x" * 10, Socket(1.0)).read() == b"x" * 10
    with pytest.raises(ResponseTooLargeError, match="it is larger than 10 bytes"):
        wire(b"x" * 11, Socket(1.0)).read()


def test_a_certificate_is_shown_at_its_origin_alone() -> None:
    """One origin gets it, and keeps its connections while it is the same; hosts that begin alike do not."""
    session, context = BoundedSession(), ssl.create_default_context()
    session.show_certificate("https://sts.mtls.googleapis.com", context)
    kept = session.session.get_adapter("https://sts.mtls.googleapis.com/v1/token")
    session.show_certificate("https://sts.mtls.googleapis.com", context)
    assert session.session.get_adapter("https://sts.mtls.googleapis.com/v1/token") is kept
    assert kept.context is context  # type: ignore[attr-defined]
    for url in ("https://sts.googleapis.com/", "https://sts.mtls.googleapis.com.evil.example/", "http://127.0.0.1/"):
        assert getattr(session.session.get_adapter(url), "context", None) is None


@pytest.mark.parametrize("proxy", [None, "http://proxy.example:8080"])
def test_a_certificate_comes_with_the_limits(proxy: str | None) -> None:
    """Connections with a client certificate, direct or through a proxy, are read within limits as all others are."""
    session, context = BoundedSession(ssl.create_default_context()), ssl.create_default_context()
    session.show_certificate("https://sts.mtls.googleapis.com", context)
    for url in ("https://sts.mtls.googleapis.com/", "https://datafusion.googleapis.com/"):
        adapter: Any = session.session.get_adapter(url)
        manager = adapter.poolmanager if proxy is None else adapter.proxy_manager_for(proxy)
        pool = manager.connection_from_url(url)
        assert issubclass(pool.ConnectionCls, transport._SecureConnection)
        assert pool.conn_kw["ssl_context"] is adapter.context is not None


def test_an_account_in_a_url_does_not_replace_the_token() -> None:
    """B16: requests would send it in place of the token, as it would one of ~/.netrc."""
    headers = {"authorization": "Bearer token"}
    request = requests.Request("GET", "https://me:password@idp.example/token", headers=headers)
    assert BoundedSession().session.prepare_request(request).headers["authorization"] == "Bearer token"
