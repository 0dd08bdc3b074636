"""Where requests go and what is shown there: universes, client certificates, Google's mTLS hosts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.exceptions import TransportError

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth import mtls
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token_transport import TokenTransport
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.errors import ConnectionSettingsError, ForbiddenEndpointError
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_reference
from tests.contract.identity_servers import EMAIL, IdentityServers
from tests.contract.tls_server import Authority, TlsServer

NAME = "projects/p/locations/us-central1/operations/o"
UNIVERSE = "universe.example"
PLAIN, MTLS = "datafusion.us-central1.rep.googleapis.com", "datafusion.mtls.googleapis.com"
ELSEWHERE = f"datafusion.{UNIVERSE}"
DEVICE = "this device"


@pytest.fixture
def authority(tmp_path: Path, nobody: None, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Whoever signs certificates; both clients trust it."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    authority = Authority(folder)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setattr(mtls, "_current", None)
    return authority


@pytest.fixture
def google(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    """Data Fusion under its plain, its mTLS, and another universe's name."""
    with TlsServer(authority, PLAIN, MTLS, ELSEWHERE, "localhost") as server:
        server.take_names(monkeypatch)
        yield server


@pytest.fixture
def certificate(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A client certificate, where google-auth expects it; it has yet to be requested."""
    certificate, key = authority.issue(DEVICE)
    configuration = tmp_path / "certificate_config.json"
    workload = {"cert_path": str(certificate), "key_path": str(key)}
    configuration.write_text(json.dumps({"cert_configs": {"workload": workload}}), encoding="utf-8")
    monkeypatch.setenv("GOOGLE_API_CERTIFICATE_CONFIG", str(configuration))
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "false")
    return configuration


def get(kind: str, settings: ConnectionSettings, name: str = NAME) -> None:
    """Look at an operation with one of the clients."""
    reference = read_reference(name, "datafusion", universe=settings.universe_domain)
    if kind == "sync":
        with OperationsClient(settings, retries=0) as client:
            client.get(reference)
        return

    async def look() -> None:
        async with await AsyncOperationsClient.create(settings, retries=0) as client:
            await client.get(reference)

    asyncio.run(look())


def read(**extra: Any) -> ConnectionSettings:
    """The settings of a connection with this extra."""
    return ConnectionSettings.from_extra(extra, conn_id="my_google")


# --- client certificates ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("use_certificate", "use_endpoint", "host", "shown"),
    [
        ("true", None, MTLS, DEVICE),
        ("true", "auto", MTLS, DEVICE),
        ("true", "always", MTLS, DEVICE),
        ("true", "never", PLAIN, DEVICE),
    ],
)
def test_the_certificate_is_shown_where_google_wants_it(
    servers: IdentityServers,
    google: TlsServer,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    use_certificate: str,
    use_endpoint: str | None,
    host: str,
    shown: str | None,
) -> None:
    """Both clients show the certificate, and go to the mTLS host unless the variable says never (AIP-4114)."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", use_certificate)
    if use_endpoint is not None:
        monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", use_endpoint)
    settings = read(keyfile_dict=servers.key)
    get(kind, settings)
    assert google.seen == [(host, f"Bearer {servers.tokens[-1]}", shown)]


@pytest.mark.parametrize(("use_endpoint", "host"), [("auto", PLAIN), ("never", PLAIN), ("always", MTLS)])
def test_no_certificate_is_shown_unasked(
    google: TlsServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, use_endpoint: str, host: str
) -> None:
    """A certificate that is there, but not requested, is not used; `always` is obeyed all the same."""
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", use_endpoint)
    get("sync", read(is_anonymous=True))
    assert google.seen == [(host, None, None)]


def test_a_configuration_alone_asks_for_its_certificate(
    google: TlsServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a workload's certificate configured and no variable, it is used, as google-auth does."""
    monkeypatch.delenv("GOOGLE_API_USE_CLIENT_CERTIFICATE")
    get("sync", read(is_anonymous=True))
    assert google.seen == [(MTLS, None, DEVICE)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_host_that_is_named_is_used_as_it_is(
    google: TlsServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """An endpoint of the connection is kept, and sees the certificate; so is an mTLS host in a name."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    get(kind, read(is_anonymous=True, api_endpoint=f"https://localhost:{google.port}"))
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "never")
    get(kind, read(is_anonymous=True), f"https://{MTLS}/v1/{NAME}")
    assert google.seen == [(f"localhost:{google.port}", None, DEVICE), (MTLS, None, DEVICE)]


def test_a_new_certificate_is_taken_up(
    google: TlsServer, authority: Authority, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same certificate is one context for all clients; when it is renewed on disk, the next client shows that."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    settings = read(is_anonymous=True)
    assert mtls.tls_settings_for(settings).context is mtls.tls_settings_for(settings).context
    get("sync", settings)
    paths = json.loads(certificate.read_text(encoding="utf-8"))["cert_configs"]["workload"]
    for path, new in zip(paths.values(), authority.issue("renewed"), strict=True):
        Path(path).write_bytes(new.read_bytes())
    get("sync", settings)
    assert [shown for _, _, shown in google.seen] == [DEVICE, "renewed"]


def test_a_token_server_that_takes_certificates_is_shown_it(
    google: TlsServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's mTLS hosts see this machine's certificate, if that is requested; other hosts do not."""
    for asked_for in ("true", "false"):
        monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", asked_for)
        transport = TokenTransport()
        for host in (MTLS, PLAIN, MTLS):
            assert transport(f"https://{host}/v1/{NAME}").status == 200
        transport.close()
    nobody = [(host, None, None) for host in (MTLS, PLAIN, MTLS)]
    assert google.seen == [(MTLS, None, DEVICE), (PLAIN, None, None), (MTLS, None, DEVICE), *nobody]


def test_files_of_a_certificate_are_shown_to_a_token_server(
    google: TlsServer, authority: Authority, certificate: Path
) -> None:
    """Federation by an X.509 certificate names its files with the request, and they are used."""
    workload = json.loads(certificate.read_text(encoding="utf-8"))["cert_configs"]["workload"]
    transport = TokenTransport()
    transport(f"https://{PLAIN}/v1/{NAME}", cert=(workload["cert_path"], workload["key_path"]))
    transport.close()
    assert google.seen == [(PLAIN, None, DEVICE)]


def test_a_broken_certificate_is_not_quoted_to_whoever_wants_a_token(
    google: TlsServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a refusal that names the host, and nothing is sent without it."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    workload = json.loads(certificate.read_text(encoding="utf-8"))["cert_configs"]["workload"]
    Path(workload["key_path"]).write_text(
        "-----BEGIN PRIVATE KEY-----\nczNjcmV0\n-----END PRIVATE KEY-----\n", encoding="utf-8"
    )
    transport = TokenTransport()
    with pytest.raises(TransportError, match=rf"{MTLS} needs the client certificate, which cannot be used") as caught:
        transport(f"https://{MTLS}/v1/{NAME}")
    assert "czNjcmV0" not in f"{caught.value!r} {caught.value.__context__!r} {transport.refusal!r}"
    assert google.seen == []


def test_an_emulator_sees_no_certificate(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not Google is shown nothing."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    assert mtls.tls_settings_for(read(emulator=True, api_endpoint="https://emulator:1")) == mtls.TlsSettings()


@pytest.mark.parametrize("content", ["{", '{"cert_configs": {"workload": {}}}', "KEY"])
def test_a_certificate_that_cannot_be_used(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    """A broken certificate is refused by name of the variable, and its key is not quoted."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    if content == "KEY":
        workload = json.loads(certificate.read_text(encoding="utf-8"))["cert_configs"]["workload"]
        Path(workload["key_path"]).write_text(
            "-----BEGIN PRIVATE KEY-----\nczNjcmV0\n-----END PRIVATE KEY-----\n", encoding="utf-8"
        )
    else:
        certificate.write_text(content, encoding="utf-8")
    with pytest.raises(ConnectionSettingsError, match="GOOGLE_API_USE_CLIENT_CERTIFICATE requires") as caught:
        OperationsClient(read(is_anonymous=True))
    assert "czNjcmV0" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_a_variable_that_means_nothing(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that Google does not know is refused, with those that it knows."""
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "sometimes")
    with pytest.raises(ConnectionSettingsError, match="auto, always or never, and is 'sometimes'"):
        OperationsClient(read(is_anonymous=True))


# --- universes -------------------------------------------------------------------------------------


def key_of(servers: IdentityServers, universe: str) -> dict[str, str]:
    """A key of another universe."""
    return {**servers.key, "universe_domain": universe}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("where", ["connection", "environment"])
@pytest.mark.parametrize("name", [NAME, f"//{PLAIN}/{NAME}", f"//{ELSEWHERE}/{NAME}", f"https://{ELSEWHERE}/v1/{NAME}"])
def test_requests_go_to_the_hosts_of_the_universe(
    servers: IdentityServers,
    google: TlsServer,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    where: str,
    name: str,
) -> None:
    """However an operation is named, its host is the universe's, whether the connection or the variable names it."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")  # so that the async client trusts the authority
    monkeypatch.setenv("GOOGLE_API_USE_MTLS_ENDPOINT", "never")
    if where == "environment":
        monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", UNIVERSE)
    settings = read(
        keyfile_dict=key_of(servers, UNIVERSE), **({} if where == "environment" else {"universe_domain": UNIVERSE})
    )
    get(kind, settings, name)
    [(host, token, _)] = google.seen
    assert host == ELSEWHERE
    assert token is not None
    assert token.startswith("Bearer eyJ")  # in other universes, accounts sign their tokens themselves


@pytest.mark.parametrize(
    ("connection", "key"), [(None, UNIVERSE), (UNIVERSE, "googleapis.com"), ("a.example", UNIVERSE)]
)
def test_a_credential_is_never_sent_to_another_universe(
    servers: IdentityServers, connection: str | None, key: str
) -> None:
    """A key of another universe than the connection's is refused before anything is signed or sent."""
    settings = read(keyfile_dict=key_of(servers, key), **({"universe_domain": connection} if connection else {}))
    with pytest.raises(ConnectionSettingsError, match=rf"belong to the universe {key}.*`universe_domain`") as caught:
        OperationsClient(settings)
    assert "nothing was sent" in str(caught.value)
    assert servers.asked == []


@pytest.mark.parametrize("chain", [None, "target@x"])
def test_a_machine_belongs_to_the_universe_that_its_metadata_server_names(
    servers: IdentityServers, chain: str | None
) -> None:
    """No token is requested from a machine of another universe, whoever it would act as."""
    servers.universe = UNIVERSE
    with pytest.raises(ConnectionSettingsError, match=f"belong to the universe {UNIVERSE}"):
        identity_for(read(impersonation_chain=chain))
    assert not servers.tokens
    assert identity_for(read(universe_domain=UNIVERSE)).headers()["authorization"] == f"Bearer {servers.tokens[0]}"


def test_the_reader_of_a_secret_belongs_to_the_universe(
    servers: IdentityServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secret Manager of one universe gets no request with the default credentials of another."""
    servers.secret = key_of(servers, UNIVERSE)
    settings = read(key_secret_name="my-key", universe_domain=UNIVERSE)
    with pytest.raises(ConnectionSettingsError, match=r"belong to the universe googleapis\.com"):
        identity_for(settings)
    assert not servers.tokens
    servers.universe = UNIVERSE
    assert identity_for(settings).description == EMAIL


@pytest.mark.parametrize(
    ("universe", "name"),
    [
        (UNIVERSE, f"https://{PLAIN}/v1/{NAME}"),
        (UNIVERSE, f"https://{MTLS}/v1/{NAME}"),
        ("googleapis.com", f"https://{ELSEWHERE}/v1/{NAME}"),
        ("googleapis.com", f"//{ELSEWHERE}/{NAME}"),
        (UNIVERSE, f"https://datafusion.{UNIVERSE}.evil.example/v1/{NAME}"),
        (UNIVERSE, f"https://evil{UNIVERSE}/v1/{NAME}"),
        (UNIVERSE, f"//datafusion.other.example/{NAME}"),
    ],
)
def test_a_host_of_another_universe_is_refused(universe: str, name: str) -> None:
    """What counts as Google's host is the connection's universe alone; nothing else is ever sent to."""
    settings = read(universe_domain=universe)
    with pytest.raises(ForbiddenEndpointError, match="nothing was sent"):
        settings.endpoint(read_reference(name, "datafusion", universe=universe))


@pytest.mark.parametrize(("universe", "host"), [(UNIVERSE, PLAIN), ("googleapis.com", ELSEWHERE)])
def test_a_method_of_another_universe_is_refused(universe: str, host: str) -> None:
    """The same holds for the URL of a method that starts an operation."""
    url = f"https://{host}/v1/projects/p/locations/l/instances"
    with pytest.raises(ForbiddenEndpointError, match="nothing was sent"):
        read(universe_domain=universe).endpoint(read_method(url, "POST", "datafusion", universe=universe))


def test_a_method_goes_to_the_universe_too() -> None:
    """A start is sent to the same host as a poll."""
    settings = read(universe_domain=UNIVERSE)
    for method in ("projects/p/locations/l/instances", f"https://{ELSEWHERE}/v1/projects/p/locations/l/instances"):
        about = read_method(method, "POST", "datafusion", universe=UNIVERSE)
        assert settings.endpoint(about) == f"https://{ELSEWHERE}"


def test_a_regional_host_is_the_universes_and_the_mtls_one() -> None:
    """Regions keep their place in the name of a host."""
    reference = read_reference("projects/p/locations/us-central1/operations/1", "aiplatform")
    assert read().endpoint(reference, mtls=True) == "https://us-central1-aiplatform.mtls.googleapis.com"
    assert read(universe_domain=UNIVERSE).endpoint(reference) == f"https://us-central1-aiplatform.{UNIVERSE}"


def test_an_endpoint_of_another_universe_is_refused() -> None:
    """A connection of one universe does not name Google's hosts of another."""
    with pytest.raises(ConnectionSettingsError, match=r"`api_endpoint` is of the universe googleapis\.com"):
        read(universe_domain=UNIVERSE, api_endpoint="https://{service}.googleapis.com")
    assert read(universe_domain=UNIVERSE, api_endpoint="https://psc.example").api_endpoint == "https://psc.example"


@pytest.mark.parametrize("domain", ["", "localhost", "a b.example", "https://x.example", "x.example/", "-x.example"])
def test_a_universe_is_a_domain(monkeypatch: pytest.MonkeyPatch, domain: str) -> None:
    """What cannot be a domain is no universe; nothing at all is Google's own."""
    monkeypatch.delenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", raising=False)
    if not domain:
        assert read(universe_domain=domain).universe_domain == "googleapis.com"
        return
    with pytest.raises(ConnectionSettingsError, match=r"`universe_domain` .* is not a domain"):
        read(universe_domain=domain)


def test_there_are_no_mtls_hosts_in_another_universe(
    servers: IdentityServers, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google has mTLS hosts in its own universe only, so that is said, with the cure."""
    monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true")
    settings = read(keyfile_dict=key_of(servers, UNIVERSE), universe_domain=UNIVERSE)
    with pytest.raises(ConnectionSettingsError, match="GOOGLE_API_USE_MTLS_ENDPOINT=never"):
        OperationsClient(settings)
    named = read(keyfile_dict=key_of(servers, UNIVERSE), universe_domain=UNIVERSE, api_endpoint="https://psc.example")
    assert not mtls.tls_settings_for(named).mtls_hosts
