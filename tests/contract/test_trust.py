"""Which certificates are trusted, and through which proxies one goes: both clients alike, APIs and token servers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from google.auth.exceptions import TransportError as NoTokenNow

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token_transport import TokenTransport
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.errors import ConnectionSettingsError, TransportError, UnreachableError
from airflow_lro_provider.lro.http import trust
from airflow_lro_provider.lro.polling import PollSchedule
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_reference
from tests.contract.identity_servers import EMAIL, PEM
from tests.contract.inspecting_proxy import InspectingProxy, hashed_folder
from tests.contract.tls_server import Authority, TlsServer
from tests.local_server import Handler, LocalServer

NAME = "projects/p/locations/us-central1/operations/o"
REFERENCE = read_reference(NAME, "datafusion")
API, TOKENS = REFERENCE.host, "oauth2.googleapis.com"
KEY = {"type": "service_account", "client_email": EMAIL, "private_key": PEM, "token_uri": f"https://{TOKENS}/token"}
VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture
def authority(tmp_path: Path, nobody: None, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Whoever signs certificates here; nobody trusts it yet."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(trust, "_shared", None)
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def proxy(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[InspectingProxy]:
    """A company's proxy, in the environment; there is no other way out."""
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            raise socket.gaierror(f"no names are resolved behind a proxy: {host}")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with InspectingProxy(authority, API, TOKENS) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        yield proxy


def get(kind: str, **extra: Any) -> Any:
    """Get an operation with one of the clients."""
    settings = ConnectionSettings.from_extra(extra)
    if kind == "sync":
        with OperationsClient(settings, sleep=lambda _: None) as client:
            return client.get(REFERENCE)

    async def run() -> Any:
        async with await AsyncOperationsClient.create(settings) as client:
            return await client.get(REFERENCE)

    return asyncio.run(run())


@KINDS
@pytest.mark.parametrize(
    ("variable", "is_folder"),
    [
        ("REQUESTS_CA_BUNDLE", False),
        ("REQUESTS_CA_BUNDLE", True),
        ("CURL_CA_BUNDLE", False),
        ("SSL_CERT_FILE", False),
        ("SSL_CERT_DIR", True),
    ],
)
def test_each_variable_alone_is_enough(
    proxy: InspectingProxy,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    variable: str,
    is_folder: bool,
) -> None:
    """B4: behind a proxy that inspects TLS, each of the four is read by both clients, and for the token server."""
    trusted = authority.certificate
    if is_folder:
        trusted = hashed_folder(trusted, "Authority of these tests", tmp_path / "hashed")
    monkeypatch.setenv(variable, str(trusted))
    assert get(kind, keyfile_dict=KEY).done
    assert proxy.requests == [(TOKENS, "/token"), (API, f"/v1/{NAME}")]


@KINDS
@pytest.mark.parametrize("extra", [{"is_anonymous": True}, {"keyfile_dict": KEY}], ids=["API", "token server"])
@pytest.mark.parametrize("variable", [None, *VARIABLES])
def test_a_certificate_that_is_not_trusted_is_final(
    proxy: InspectingProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    extra: dict[str, Any],
    variable: str | None,
) -> None:
    """B4: it is requested once, and the error says which variable was read, alike for both clients and both servers."""
    trusted = "certifi and the system"
    if variable is not None:
        (tmp_path / "other").mkdir()
        other = Authority(tmp_path / "other").certificate
        place = other.parent if variable == "SSL_CERT_DIR" else other
        monkeypatch.setenv(variable, str(place))
        trusted = f"{variable}={place}"
    with pytest.raises(UnreachableError) as caught:
        get(kind, **extra)
    host = TOKENS if "keyfile_dict" in extra else API
    prefix = "" if host == TOKENS else f"datafusion: get {NAME}: "
    text = str(caught.value)
    assert text.startswith(f"{prefix}the certificate shown for {host} is not trusted: ")
    assert f"Trusted are those of {trusted}." in text
    assert (caught.value.transient, caught.value.may_have_happened) == (False, False)
    assert proxy.connects == [host]


@KINDS
@pytest.mark.parametrize(
    ("host", "days", "words", "step"),
    [
        ("localhost", (-3, -2), "not valid now: certificate has expired", "Check the clock of this machine"),
        ("localhost", (2, 3), "not valid now: certificate is not yet valid", "Check the clock of this machine"),
        ("other.example", (-1, 1), "not this host's: Hostname mismatch", "Check `api_endpoint` of the connection"),
    ],
)
def test_a_certificate_that_no_file_heals(
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    host: str,
    days: tuple[int, int],
    words: str,
    step: str,
) -> None:
    """B4: one that has expired, or is another host's, is no matter of trust, and the next step says so."""
    authority.valid_days = days
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    with TlsServer(authority, host) as server, pytest.raises(UnreachableError) as caught:
        get(kind, is_anonymous=True, api_endpoint=f"https://localhost:{server.port}")
    assert f"the certificate shown for localhost is {words}" in str(caught.value)
    assert step in str(caught.value)
    assert "CA_BUNDLE" not in str(caught.value)


@KINDS
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_variable_that_names_nothing_is_said(
    proxy: InspectingProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    variable: str,
    content: str | None,
) -> None:
    """B4: a path without certificates is an error of the environment: no other certificates are used in their place."""
    path = tmp_path / "nothing.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setenv(variable, str(path))
    expected: tuple[type[Exception], ...] = (ConnectionSettingsError,)
    if content and variable.startswith("SSL"):  # OpenSSL itself passes over what it cannot read
        expected = (UnreachableError,)
    with pytest.raises(expected, match=f"{variable}"):
        get(kind, is_anonymous=True)
    assert proxy.requests == []


@KINDS
@pytest.mark.parametrize("variable", VARIABLES)
def test_white_space_around_a_path_does_not_count(
    proxy: InspectingProxy,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    variable: str,
) -> None:
    """B4: a newline at the end of a variable costs nobody the certificates."""
    trusted = authority.certificate
    if variable == "SSL_CERT_DIR":
        trusted = hashed_folder(trusted, "Authority of these tests", tmp_path / "hashed")
    monkeypatch.setenv(variable, f" {trusted}\n")
    assert get(kind, is_anonymous=True).done


@KINDS
@pytest.mark.parametrize("missing", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_one_of_openssls_variables_is_enough(
    proxy: InspectingProxy,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    missing: str,
) -> None:
    """B4: the other one may name what is not there, as for OpenSSL itself."""
    trusted = {
        "SSL_CERT_FILE": authority.certificate,
        "SSL_CERT_DIR": hashed_folder(authority.certificate, "Authority of these tests", tmp_path / "hashed"),
    }
    for variable, path in trusted.items():
        monkeypatch.setenv(variable, str(tmp_path / "not there" if variable == missing else path))
    assert get(kind, is_anonymous=True).done


def test_the_first_variable_counts(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B4: in the order of requests; an empty one is none."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "not there"))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    [only] = trust.shared_context().get_ca_certs()
    assert dict(part for parts in only["subject"] for part in parts)["commonName"] == "Authority of these tests"


def test_a_context_is_shared_until_its_files_change(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4: clients share their connections, and a bundle that was replaced counts for the next client."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    first = trust.shared_context()
    assert trust.shared_context() is first
    os.utime(bundle, ns=(1, 1))
    assert trust.shared_context() is not first


@KINDS
@pytest.mark.parametrize("extra", [{"is_anonymous": True}, {"keyfile_dict": KEY}], ids=["API", "token server"])
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4", "ftp"])
def test_a_socks_proxy_is_refused_in_plain_words(
    proxy: InspectingProxy,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    extra: dict[str, Any],
    variable: str,
    scheme: str,
) -> None:
    """B15: alike on both sides, for the API and the token server, and without the proxy's account."""
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv(variable, f"{scheme}://me:s3cret@127.0.0.1:1")
    with pytest.raises(
        UnreachableError, match=f"names a proxy at {scheme.lower()}://.* only proxies at http://"
    ) as caught:
        get(kind, **extra)
    assert "s3cret" not in str(caught.value)
    assert proxy.connects == []


class Refusing(LocalServer):
    """A proxy that opens no tunnel.

    :param response: what it responds with, before it closes the connection.
    """

    def __init__(self, response: bytes) -> None:
        self.logins: list[str | None] = []
        outer = self

        class Refuse(Handler, BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                outer.logins.append(self.headers["proxy-authorization"])
                self.wfile.write(response)
                self.close_connection = True

        super().__init__(Refuse)


def start(kind: str, **times: float) -> Any:
    """Start an operation with one of the clients."""
    settings = ConnectionSettings.from_extra({"is_anonymous": True, "num_retries": 0})
    method = read_method("projects/p/locations/us-central1/instances?instanceId=i", service="datafusion")
    if kind == "sync":
        with OperationsClient(settings, sleep=lambda _: None, **times) as client:
            return client.start(method)

    async def run() -> Any:
        async with await AsyncOperationsClient.create(settings, **times) as client:
            return await client.start(method)

    return asyncio.run(run())


@KINDS
@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", UnreachableError, "HTTP 407, the login in the proxy's"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", UnreachableError, "HTTP 403. The proxy has to allow it"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", UnreachableError, "HTTP 302. The proxy"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", TransportError, "HTTP 503. Check the network, the proxy"),
        (b"HTTP/1.1 200 Connection established\r\n\r\nno TLS", TransportError, "no response from datafusion."),
        (b"something else\r\n\r\n", TransportError, "no response from datafusion."),
        (b"", TransportError, "no response from datafusion."),
    ],
    ids=["407", "403", "302", "503", "no TLS", "no HTTP", "nothing"],
)
def test_what_a_proxy_has_not_let_through_was_not_sent(
    proxy: InspectingProxy,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    response: bytes,
    error: type[TransportError],
    words: str,
) -> None:
    """B15: a start that a proxy refuses has started nothing; alike for both clients, and without the proxy's login."""
    with Refusing(response) as refusing:
        monkeypatch.setenv("HTTPS_PROXY", refusing.url.replace("//", "//s3cret@"))
        with pytest.raises(error, match=words) as caught:
            start(kind)
        assert type(caught.value) is error
        assert not caught.value.may_have_happened
        assert "s3cret" not in str(caught.value)
        assert set(refusing.logins) == {"Basic czNjcmV0Og=="}  # s3cret:


@KINDS
def test_a_proxy_that_is_silent_has_sent_nothing(
    proxy: InspectingProxy, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """B15: the time for a connection counts, and not that for a response."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(TransportError, match="no response from ") as caught:
            start(kind, connect_timeout=0.1)
    assert (caught.value.transient, caught.value.may_have_happened) == (True, False)


@pytest.mark.parametrize(("code", "error"), [(407, UnreachableError), (503, NoTokenNow)])
def test_a_proxy_that_opens_no_tunnel_to_a_token_server_is_said(
    proxy: InspectingProxy, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    """B15: in the same words as of an API."""
    transport = TokenTransport()
    with Refusing(b"HTTP/1.1 %d no\r\n\r\n" % code) as refusing:
        monkeypatch.setenv("HTTPS_PROXY", refusing.url)
        with pytest.raises(error, match=rf"the proxy {refusing.url} opened no connection to {TOKENS}: HTTP {code}"):
            transport(f"https://{TOKENS}/token")
    transport.close()


@KINDS
@pytest.mark.parametrize("value", ["http://me:s3cret", "http://", "http://[::1:3128", "http://me:s3cret@proxy:99999"])
def test_a_proxy_that_is_no_url_of_a_server_is_said(
    proxy: InspectingProxy, monkeypatch: pytest.MonkeyPatch, kind: str, value: str
) -> None:
    """B15: nothing was sent, it is final, and an error of ours on both sides."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(UnreachableError, match="names a proxy that is no URL of a server for datafusion") as caught:
        start(kind)
    assert not caught.value.may_have_happened
    assert "s3cret" not in str(caught.value)


@KINDS
def test_the_certificate_of_a_proxy_is_the_proxys(
    proxy: InspectingProxy, authority: Authority, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """B4: that of an https:// proxy is not said to be Google's."""
    with TlsServer(authority, "localhost") as server:
        address = f"https://127.0.0.1:{server.port}"
        monkeypatch.setenv("HTTPS_PROXY", address.replace("//", "//me:s3cret@"))
        with pytest.raises(UnreachableError, match=f"certificate shown for the proxy {address} is not") as caught:
            get(kind, is_anonymous=True)
    assert "s3cret" not in str(caught.value)


@KINDS
def test_a_proxy_that_is_away_is_named(proxy: InspectingProxy, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """B15: and not the server, which got nothing."""
    with Refusing(b"") as gone:
        pass
    monkeypatch.setenv("HTTPS_PROXY", gone.url)
    with pytest.raises(TransportError, match=f"no response from the proxy {gone.url} ") as caught:
        start(kind)
    assert (caught.value.transient, caught.value.may_have_happened) == (True, False)


def test_a_wait_ends_once_it_is_sure(proxy: InspectingProxy) -> None:
    """B4: not for ever, and not for one certificate of many behind a name: after ten seconds and three times."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with OperationsClient(ConnectionSettings.from_extra({"is_anonymous": True}), sleep=sleep) as client:
        with pytest.raises(UnreachableError):
            client.wait_until_done(REFERENCE, PollSchedule(started=0.0), clock=lambda: now)
        assert len(proxy.connects) >= 3
        assert 10 <= now < 60


def test_files_that_google_auth_names_are_used_for_one_server(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B4: a client certificate and a bundle that come with a request (X.509 federation) go to no other server."""
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    certificate, key = authority.issue("this workload")
    transport = TokenTransport()
    with TlsServer(authority, "localhost") as server, TlsServer(authority, "localhost") as other:
        files = {"cert": (str(certificate), str(key)), "verify": str(authority.certificate)}
        assert transport(f"https://localhost:{server.port}/v1/o", **files).status == 200
        assert [name for _, _, name in server.seen] == ["this workload"]
        with pytest.raises(UnreachableError):
            transport(f"https://localhost:{other.port}/v1/o")
        assert other.seen == []
    transport.close()


def test_a_bundle_of_google_auth_that_is_not_there_is_said(authority: Authority, tmp_path: Path) -> None:
    """B4: the file is named, and not a client certificate."""
    transport = TokenTransport()
    with pytest.raises(ConnectionSettingsError, match=r"nothing\.pem', which holds no certificates"):
        transport("https://localhost:1/v1/o", verify=str(tmp_path / "nothing.pem"))
    transport.close()
