"""Nothing leaves for a foreign host: every way in, with every trick, under the eyes of the interpreter."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_lro_provider.cli import main
from airflow_lro_provider.hooks.operations import OperationsAsyncHook, OperationsHook
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import (
    ForbiddenEndpointError,
    InvalidRequestError,
    MalformedResponseError,
    NotAnOperationError,
    OperationsError,
    TransportError,
)
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import OperationReference, read_parent, read_reference
from airflow_lro_provider.sweep.ledger import LedgerEntry
from airflow_lro_provider.sweep.search import footprint_of
from tests.hostile.hostile_server import Heard, HostileServer, plain
from tests.hostile.subjects import KINDS, NAME, REFERENCE, TOKEN, Client

GOOGLE, REGIONAL = "datafusion.googleapis.com", "datafusion.us-central1.rep.googleapis.com"
EVIL = "evil.example"
NAMES: dict[str, Any] = {
    "URL": f"https://{EVIL}/v1/{NAME}",
    "URL in capitals": f"HTTPS://{EVIL.upper()}/v1/{NAME}",
    "resource name": f"//{EVIL}/{NAME}",
    "three slashes": f"///{EVIL}/{NAME}",
    "one slash": f"https:/{EVIL}/v1/{NAME}",
    "no slash": f"https:{EVIL}/v1/{NAME}",
    "backslashes": f"\\\\{EVIL}\\{NAME}",
    "a blank before": f" https://{EVIL}/v1/{NAME}",
    "a line break before": f"\n//{EVIL}/{NAME}",
    "looks like Google": f"//{GOOGLE}.{EVIL}/{NAME}",
    "looks like Google, URL": f"https://{GOOGLE}.{EVIL}/v1/{NAME}",
    "ends like Google": f"//evil{GOOGLE}/{NAME}",
    "ends like Google, with a hyphen": f"//evil-{GOOGLE.partition('.')[2]}/{NAME}",
    "the universe alone": f"//googleapis.com.{EVIL}/{NAME}",
    "a dot after": f"//{GOOGLE}./{NAME}",
    "Google as a user": f"https://{GOOGLE}@{EVIL}/v1/{NAME}",
    "Google as a user with a password": f"https://{GOOGLE}:443@{EVIL}/v1/{NAME}",
    "a user at Google": f"https://user:password@{GOOGLE}/v1/{NAME}",
    "a backslash and a user": f"https://{GOOGLE}\\@{EVIL}/v1/{NAME}",
    "another port": f"https://{GOOGLE}:8443/v1/{NAME}",
    "Google as a fragment": f"https://{EVIL}#{GOOGLE}/v1/{NAME}",
    "Google as a query": f"https://{EVIL}?{GOOGLE}/v1/{NAME}",
    "Google as a path": f"https://{EVIL}/{GOOGLE}/v1/{NAME}",
    "an encoded slash in the host": f"//{EVIL}%2F{GOOGLE}/{NAME}",
    "an encoded dot in the host": f"//{GOOGLE}%2e{EVIL}/{NAME}",
    "ideographic dots": f"//{GOOGLE.replace('.', chr(0x3002))}/{NAME}",
    "a fullwidth dot": f"//{GOOGLE}\uff0e{EVIL}/{NAME}",
    "a fullwidth slash": f"//{GOOGLE}\uff0f{EVIL}/{NAME}",
    "a letter that looks alike": f"//d\u0430tafusion.googleapis.com/{NAME}",
    "a soft hyphen": f"//data\u00adfusion.googleapis.com/{NAME}",
    "punycode": f"//xn--dtafusion-q4g.googleapis.com.{EVIL}/{NAME}",
    "line breaks in the host": f"//{GOOGLE}\r\nHost: {EVIL}/{NAME}",
    "line breaks": f"{NAME}\r\nHost: {EVIL}",
    "encoded line breaks": f"{NAME}%0d%0aHost:%20{EVIL}",
    "a request of its own": f"{NAME} HTTP/1.1\r\nHost: {EVIL}\r\n\r\nGET /",
    "a NUL": f"{NAME}\0.{EVIL}",
    "dots": f"../../{EVIL}/{NAME}",
    "dots inside": NAME.replace("operations", "../operations"),
    "encoded dots": NAME.replace("operations", "%2e%2e/operations"),
    "encoded slashes": NAME.replace("/operations/o", "%2Foperations%2Fo"),
    "encoded twice": NAME.replace("/operations/o", "%252Foperations%252Fo"),
    "a query": f"{NAME}?alt=//{EVIL}",
    "a fragment": f"{NAME}#//{EVIL}",
    "a semicolon and a host": f"{NAME};//{EVIL}/",
    "a host as a location": f"projects/p/locations/{EVIL}/operations/o",
    "a user as a location": f"projects/p/locations/us-central1@{EVIL}/operations/o",
    "ends in :cancel": f"{NAME}:cancel",
    "ends in :cancel twice": f"{NAME}:cancel:cancel",
    "ends in :wait": f"{NAME}:wait",
    "very long": NAME + "o" * 100_000,
    "very long, many parts": NAME + "/o" * 100_000,
    "a very long host": f"//{'a.' * 100_000}{GOOGLE}/{NAME}",
    "plain http": f"http://{GOOGLE}/v1/{NAME}",
    "ftp": f"ftp://{GOOGLE}/v1/{NAME}",
    "a file": "file:///etc/passwd",
    "the metadata server": f"http://169.254.169.254/v1/{NAME}",
    "the metadata server by name": f"//metadata.google.internal/{NAME}",
    "a number as a host": f"//2130706433/{NAME}",
    "this machine": f"https://127.0.0.1:1/v1/{NAME}",
    "IPv6": f"https://[::ffff:1.2.3.4]/v1/{NAME}",
    "an XCom": {"name": f"https://{EVIL}/v1/{NAME}"},
    "an XCom with a resource name": {"name": f"//{EVIL}/{NAME}"},
    "a result": {"outcome": "SUCCEEDED", "operation": {"name": f"//{EVIL}/{NAME}"}},
    "an XCom that says where": {"name": f"{NAME}@{EVIL}/x", "selfLink": f"https://{EVIL}"},
    "a dict in text": f'{{"name": "//{EVIL}/{NAME}"}}',
    "a list": [f"//{EVIL}/{NAME}"],
    "bytes": f"//{EVIL}/{NAME}".encode(),
    "nothing": "",
    "None": None,
}
Door = Callable[[Any], Any]


def by_sync_client(name: Any) -> None:
    with Client("sync", None, retries=0) as client:
        client.get(read_reference(name, "datafusion"))


def by_async_client(name: Any) -> None:
    with Client("async", None, retries=0) as client:
        client.cancel(read_reference(name, "datafusion"))


def by_hook(name: Any) -> None:
    OperationsHook("datafusion").cancel(name)


def by_async_hook(name: Any) -> None:
    async def ask() -> None:
        hook = OperationsAsyncHook("datafusion")
        try:
            await hook.get(name)
        finally:
            await hook.close()

    asyncio.run(ask())


def by_hook_without_service(name: Any) -> None:
    OperationsHook().delete(name)


def by_record(name: Any) -> None:
    """What a try finds in the task state store, or a trigger in its arguments."""
    host, _, rest = name[2:].partition("/") if str(name).startswith("//") else (GOOGLE, "", name)
    stored = {"service": "datafusion", "version": "v1", "name": rest, "host": host}
    with Client("sync", None, retries=0) as client:
        client.cancel(OperationReference.from_dict(stored))


def by_method(name: Any) -> None:
    OperationsHook("datafusion").start(name, {}, http_method="DELETE")


DOORS: list[Door] = [by_sync_client, by_async_client, by_hook, by_async_hook, by_hook_without_service, by_record]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that leads to Google, with no token to get first."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type":"google_lro","extra":{"is_anonymous":true,"num_retries":0}}'
    )


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_with_a_trick_is_refused_and_nothing_is_sent(door: Door, name: Any, strangers: list[str]) -> None:
    """No host is connected to, none is resolved, and the error says that the input was wrong."""
    with pytest.raises(InvalidRequestError):
        door(name)
    assert strangers == []


@pytest.mark.parametrize("command", ["get", "cancel"])
@pytest.mark.parametrize("name", [name for name in NAMES.values() if isinstance(name, str)])
def test_a_name_with_a_trick_is_refused_by_the_shell(
    command: str, name: str, strangers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of a shell send nothing either, not even for a token."""
    assert main([command, "--service", "datafusion", "--", name]) == 1
    assert "airflow-lro: " in capsys.readouterr().err
    assert strangers == []


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize("door", [*DOORS[:4], by_record], ids=lambda door: door.__name__)
def test_a_plain_name_is_asked_for_at_google(door: Door, strangers: list[str]) -> None:
    """The watch works: a valid name makes each entry point resolve Google, and nobody else."""
    with pytest.raises(TransportError):
        door(NAME)
    assert set(strangers) in ({GOOGLE}, {REGIONAL})


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_method_with_a_trick_goes_nowhere_else(name: Any, strangers: list[str]) -> None:
    """A start is refused, or goes to the service's own host."""
    with pytest.raises(OperationsError) as caught:
        by_method(name)
    assert set(strangers) <= {GOOGLE, REGIONAL}
    if not isinstance(caught.value, TransportError):
        assert strangers == []


LOCATIONS = [
    EVIL,
    f"us-central1.{EVIL}",
    f"us-central1@{EVIL}",
    f"{EVIL}/",
    "us-central1#",
    "-",
    "US",
    "a" * 70,
    "..",
    "\uff55s",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_location_makes_no_host(location: str, strangers: list[str]) -> None:
    """Where the host is made of the location in a name, only a known location makes one."""
    with pytest.raises(InvalidRequestError), Client("sync", None, retries=0) as client:
        client.get(read_reference(f"projects/p/locations/{location}/operations/1", "aiplatform"))
    with pytest.raises(InvalidRequestError), Client("async", None, retries=0) as client:
        client.list(read_parent(f"projects/p/locations/{location}x", "aiplatform"))
    assert strangers == []


HOSTS = [
    *(EVIL, f"{GOOGLE}.{EVIL}", f"{GOOGLE}@{EVIL}", f"{GOOGLE}:443", f"{GOOGLE}.", "localhost", "127.0.0.1:1", "[::1]"),
    *("automl.googleapis.com", f"x.{GOOGLE}", f"{GOOGLE}/x", "", "a b", f"{GOOGLE}\r\nHost: x", 7, None),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_no_stored_host_is_believed(kind: str, host: Any, strangers: list[str]) -> None:
    """A record, XCom or trigger argument that was tampered with leads nowhere, with any of the verbs."""
    stored = {"service": "datafusion", "version": "v1", "name": NAME, "host": host}
    for verb in ("get", "cancel", "delete"):
        with pytest.raises(InvalidRequestError), Client(kind, None) as client:
            getattr(client, verb)(OperationReference.from_dict(stored))
    with pytest.raises(InvalidRequestError), Client(kind, None) as client:
        client.get(OperationReference("datafusion", "v1", NAME, str(host)))
    assert strangers == []


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize("host", HOSTS, ids=repr)
async def test_no_trigger_goes_where_its_arguments_say(host: Any, strangers: list[str]) -> None:
    """A trigger of tampered arguments ends with an event, and its kill sends nothing."""
    from airflow_lro_provider.triggers.events import Lost, read_event
    from airflow_lro_provider.triggers.operations import OperationTrigger

    stored = {"service": "datafusion", "version": "v1", "name": NAME, "host": host}
    trigger = OperationTrigger(reference=stored, started=time.time(), cancel_on_kill=True, owner={"token": "t"})
    trigger.trigger_id = 7
    [event] = [event async for event in trigger.run()]
    await trigger.cleanup()
    assert isinstance(read_event(event.payload), Lost)
    assert strangers == []


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://{EVIL}",
        f"http://{GOOGLE}",
        "http://10.0.0.1:8080",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "http://evil.example#@127.0.0.1",
        "http://0x7f.1",
        "http://2130706433",
        "http://[::ffff:127.0.0.1]",
        f"ftp://{EVIL}",
        f"//{EVIL}",
        EVIL,
        f"https://{EVIL}\r\nHost: x",
        f"https://user@{EVIL}",
        "https://",
    ],
)
def test_an_endpoint_that_would_carry_a_token_in_the_open(endpoint: str, strangers: list[str]) -> None:
    """A connection whose endpoint is not https, or not this machine, cannot be used at all."""
    with pytest.raises(ForbiddenEndpointError):
        ConnectionSettings.from_extra({"api_endpoint": endpoint})
    assert strangers == []


# -- redirects -------------------------------------------------------------------------------------------

REDIRECTS = ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [*REDIRECTS, "300 Multiple Choices", "305 Use Proxy"])
@pytest.mark.parametrize("to", ["another", "Google", "itself", "http"])
def test_no_redirect_is_followed(kind: str, status: str, to: str, strangers: list[str]) -> None:
    """Neither to another host nor to one of Google's, by no verb: no token and no body travels on."""
    with (
        HostileServer(plain(b"{}")) as another,
        HostileServer() as server,
        Client(kind, server.url, retries=0) as client,
    ):
        place = {
            "another": f"{another.url}/v1/{NAME}",
            "Google": f"https://{GOOGLE}/v1/{NAME}",
            "itself": f"/v1/{NAME}2",
            "http": f"http://{EVIL}/",
        }[to]
        server.plays = [plain(b"<html>", status, f"Location: {place}", f"Refresh: 0; url={place}")]
        method = read_method("projects/p/locations/us-central1/instances", service="datafusion")
        calls: list[Callable[[], Any]] = [
            lambda: client.get(REFERENCE),
            lambda: client.cancel(REFERENCE, poll=False),
            lambda: client.delete(REFERENCE),
            lambda: client.list(read_parent("projects/p/locations/us-central1", "datafusion")),
            lambda: client.start(method, {"body": "not to travel"}),
        ]
        for call in calls:
            with pytest.raises(OperationsError, match=rf"redirect \(HTTP {status[:3]}\)") as caught:
                call()
            assert place not in str(caught.value)
        assert another.heard == []
        assert len(server.heard) == len(calls)
    assert strangers == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        *(f"//{EVIL}/{NAME}", f"https://{EVIL}/v1/{NAME}", f"{NAME}@{EVIL}/x", f"../{NAME}", 7),
        *(
            f"{NAME[:-1]}..",
            f"{NAME[:-1]}.",
            f"{NAME}?x",
            f"{NAME}#x",
            f"{NAME}%2F",
            f"{NAME}:cancel",
            f"{NAME}\r\nHost: x",
        ),
        *(f"projects/p/locations/{EVIL}/operations/o", "projects/../locations/us-central1/operations/o"),
    ],
)
def test_a_start_that_is_answered_with_a_foreign_name(kind: str, name: Any, strangers: list[str]) -> None:
    """What a start returns is polled where it was started, or not at all."""
    method = read_method("projects/p/locations/us-central1/instances", service="datafusion")
    answer = plain(json.dumps({"name": name, "done": False}).encode())
    with HostileServer(answer) as server, Client(kind, server.url, retries=0) as client:
        with pytest.raises((NotAnOperationError, MalformedResponseError)):
            client.start(method, {})
        assert len(server.heard) == 1
    assert strangers == []


# -- the environment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize("answer", ["407 Proxy Authentication Required", "302 Found", "200 OK", "403 Forbidden"])
def test_a_proxy_sees_no_token(
    kind: str, variable: str, answer: str, monkeypatch: pytest.MonkeyPatch, strangers: list[str]
) -> None:
    """A proxy gets a request for a tunnel to Google and nothing else, whatever it responds."""
    with HostileServer(plain(b"hello", answer, f"Location: https://{EVIL}/")) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        with Client(kind, None, retries=0) as client, pytest.raises(TransportError):
            client.get(REFERENCE)
        assert proxy.heard, "the proxy had a request"
        for heard in proxy.heard:
            assert heard.line in [f"CONNECT {REGIONAL}:443 HTTP/1.{minor}" for minor in (0, 1)]
            assert "authorization" not in heard.headers
            assert TOKEN not in heard.everything
    assert strangers == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_account_of_a_proxy_is_the_proxys(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy with a password gets it, and it is in no error."""
    with HostileServer(plain(b"", "403 Forbidden")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:MARKED-PASSWORD@"))
        with Client(kind, None, retries=0) as client, pytest.raises(TransportError) as caught:
            client.get(REFERENCE)
        assert proxy.heard[0].headers["proxy-authorization"].startswith("Basic ")
    assert "MARKED" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_what_is_not_encrypted_goes_through_no_proxy(kind: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token for this machine is not carried away by the environment."""
    answer = plain(json.dumps({"name": NAME}).encode())
    with HostileServer(plain(b"{}")) as proxy, HostileServer(answer) as server:
        monkeypatch.setenv(variable, proxy.url)
        with Client(kind, server.url, retries=0) as client:
            assert client.get(REFERENCE).name == NAME
        assert proxy.heard == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_netrc_does_not_replace_the_token(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An account in ~/.netrc is nobody's business here, neither as a token nor as an error."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password MARKED-PASSWORD\nmachine 127.0.0.1 login me password MARKED-PASSWORD\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with HostileServer(plain(json.dumps({"name": NAME}).encode())) as server, Client(kind, server.url) as client:
        client.get(REFERENCE)
        assert server.heard[0].headers["authorization"] == f"Bearer {TOKEN}"


def certificate(path: Path, host: str) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that nobody signed."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_cannot_prove_who_it_is_hears_nothing(kind: str, tmp_path: Path) -> None:
    """A certificate that nobody signed ends the conversation before the request."""
    with HostileServer(plain(b"{}"), tls=certificate(tmp_path / "pem", "localhost")) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with Client(kind, url, retries=0) as client, pytest.raises(TransportError) as caught:
            client.get(REFERENCE)
        assert not caught.value.may_have_happened
        assert server.heard == []


def test_certificates_are_checked_whatever_the_code_says() -> None:
    """Nothing in the package turns the check of certificates off."""
    import airflow_lro_provider

    package = Path(airflow_lro_provider.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in ("verify=False", "ssl=False", "CERT_NONE", "check_hostname") if word in text], path


# -- the command line ------------------------------------------------------------------------------------


def airflow_with(entry: LedgerEntry) -> Callable[[Heard], Iterator[bytes | None]]:
    """An Airflow with one entry in its ledger, of a task that is gone."""

    def answer(request: Heard) -> Iterator[bytes | None]:
        content: dict[str, Any] = {"task_instances": [], "total_entries": 0}
        if "variables" in request.line:
            content = {"variables": [{"key": entry.key, "value": entry.to_json()}], "total_entries": 1}
        return iter(plain(json.dumps(content).encode())(request))

    return answer


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_the_sweep_goes_where_no_entry_says(
    host: Any, monkeypatch: pytest.MonkeyPatch, strangers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An entry of the ledger that was tampered with is said to be unsure, and nothing is sent there."""
    monkeypatch.setenv("AIRFLOW_API_TOKEN", TOKEN)
    monkeypatch.setenv("AIRFLOW_CONN_C", '{"conn_type":"google_lro","extra":{"is_anonymous":true,"num_retries":0}}')
    entry = LedgerEntry(
        *("id", "d", "r", "t", -1, 1, time.time() - 86400),
        reference={"service": "datafusion", "version": "v1", "name": NAME, "host": host},
        gcp_conn_id="c",
    )
    with HostileServer(airflow_with(entry)) as airflow:
        assert main(["sweep", "--url", airflow.url]) == 1
        assert not [heard.line for heard in airflow.heard if "DELETE" in heard.line], "the entry stays"
    assert strangers == []
    assert "1 unsure" in capsys.readouterr().out


@pytest.mark.parametrize(
    "tampered",
    [
        {"host": EVIL},
        {"host": f"{GOOGLE}@{EVIL}"},
        {"host": f"{GOOGLE}:8443"},
        {"host": "automl.googleapis.com"},
        {"host": ""},
        {"version": "v99"},
        {"service": EVIL},
        {"parent": "projects/p/locations/.."},
        {"parent": f"@{EVIL}/x"},
        {"parent": f"projects/p/locations/l?x=//{EVIL}"},
    ],
    ids=repr,
)
def test_the_sweep_lists_nothing_where_no_start_went(
    tampered: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    strangers: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a start that got no response, a footprint that was tampered with sends nobody anywhere, and break nothing."""
    monkeypatch.setenv("AIRFLOW_API_TOKEN", TOKEN)
    monkeypatch.setenv("AIRFLOW_CONN_C", '{"conn_type":"google_lro","extra":{"is_anonymous":true,"num_retries":0}}')
    place = "projects/p/locations/us-central1"
    start = read_method(f"{place}/instances?instanceId=x", "POST", "datafusion")
    traces = footprint_of(start)
    assert traces is not None
    entry = LedgerEntry(
        *("id", "d", "r", "t", -1, 1, time.time() - 3600),
        reference=None,
        start="POST",
        footprint={**traces.to_dict(), **tampered},
        gcp_conn_id="c",
    )
    with HostileServer(airflow_with(entry)) as airflow:
        assert main(["sweep", "--url", airflow.url]) == 1
        assert not [heard.line for heard in airflow.heard if "DELETE" in heard.line], "the entry stays"
    assert strangers == []
    assert "1 unsure" in capsys.readouterr().out


@pytest.mark.parametrize("status", REDIRECTS)
def test_a_login_is_not_redirected(
    status: str, monkeypatch: pytest.MonkeyPatch, strangers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A password and a token for Airflow go to the place that was named, and to no other."""
    with HostileServer(plain(b"{}")) as another:
        redirect = plain(b"", status, f"Location: {another.url}/")
        monkeypatch.setenv("AIRFLOW_API_PASSWORD", "MARKED-PASSWORD")
        with HostileServer(redirect) as airflow:
            assert main(["sweep", "--url", airflow.url, "--user", "me"]) == 1
        monkeypatch.setenv("AIRFLOW_API_TOKEN", TOKEN)
        with HostileServer(redirect) as airflow:
            assert main(["sweep", "--url", airflow.url]) == 1
        assert another.heard == []
    assert strangers == []
    told = capsys.readouterr()
    assert "MARKED" not in told.out + told.err


def test_the_watch_notes_lookups_and_addresses(strangers: list[str]) -> None:
    """What these tests rely on sees names and bare addresses, in threads and on event loops."""
    import socket

    import requests

    async def ask() -> None:
        for host in ("one.example", "192.0.2.1"):
            with pytest.raises(OSError):
                await asyncio.open_connection(host, 443)

    asyncio.run(ask())
    with pytest.raises(requests.ConnectionError):
        requests.get("https://two.example/", timeout=1)
    with pytest.raises(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("192.0.2.2", 53))
    assert set(strangers) == {"one.example", "192.0.2.1", "two.example", "192.0.2.2"}
