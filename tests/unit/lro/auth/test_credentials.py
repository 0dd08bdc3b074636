"""From a connection's settings to an identity."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth import jwt

from airflow_lro_provider.lro.auth import credentials as subject
from airflow_lro_provider.lro.auth.credentials import FAKE_TOKEN, identity_for, naming_of
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import REFRESH_MARGIN
from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    CredentialsError,
    TransportError,
)
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent, read_reference
from tests.local_server import Handler, LocalServer

EMAIL = "robot@my-project.iam.gserviceaccount.com"
SECRET = "c2VjcmV0LWtleS1tYXRlcmlhbA"
SCOPE_A, SCOPE_B = "https://www.googleapis.com/auth/earthengine", "https://www.googleapis.com/auth/cloud-platform"


def read(**extra: Any) -> ConnectionSettings:
    """The settings of a connection with this extra."""
    return ConnectionSettings.from_extra(extra, conn_id="my_google")


# --- settings --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_identity_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins with a process that has no identity yet, and ends without leaving one."""
    monkeypatch.setattr(subject, "_identities", {})


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    """A real key that nobody trusts."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def private_pem(private_key: rsa.RSAPrivateKey) -> str:
    """The same as the text that a key file holds."""
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class TokenServer(LocalServer):
    """A token endpoint on this machine that hands out numbered tokens, or an error."""

    def __init__(self) -> None:
        self.assertions: list[str] = []
        self.error: tuple[int, dict[str, Any]] | None = None
        self.lifetime = 3600
        numbers = itertools.count(1)
        outer = self

        class Issuing(Handler, BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                outer.assertions.extend(form["assertion"])
                status, answer = outer.error or (
                    200,
                    {"access_token": f"token-{next(numbers)}", "expires_in": outer.lifetime, "token_type": "Bearer"},
                )
                self.send(status, json.dumps(answer).encode(), {"content-type": "application/json"})

        super().__init__(Issuing)
        self.uri = f"{self.url}/token"


@pytest.fixture
def token_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """A token endpoint that runs as long as the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with TokenServer() as server:
        yield server


def key_file(private_pem: str, token_uri: str) -> dict[str, str]:
    """The content of a service account's key file."""
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": private_pem,
        "client_email": EMAIL,
        "token_uri": token_uri,
    }


HERE, HOST = "locations/us-central1", "https://datafusion.googleapis.com/v1"
THERE = f"projects/my-project/{HERE}"


def test_what_begins_with_its_location_lies_in_the_project_of_the_credentials(private_pem: str) -> None:
    """L1: whatever is before it, a version, blanks or a host, and in a dict; what is whole needs no credentials."""
    where = naming_of(read(keyfile_dict=key_file(private_pem, "http://127.0.0.1:9/token")))
    for path in (f"{HERE}/instances", f"v1/{HERE}/instances", f" {HERE}/instances\n", f"{HOST}/{HERE}/instances"):
        assert read_method(path, service="datafusion", **where).path == f"{THERE}/instances"
    name = f"{HERE}/operations/o"
    for given in (name, f" {name}\n", {"name": name}, {"operation": {"name": name}}, f"{HOST}/{name}"):
        assert read_reference(given, "datafusion", **where).name == f"{THERE}/operations/o"
    assert read_reference(f"//datafusion.googleapis.com/{name}", **where).name == f"{THERE}/operations/o"
    assert read_parent(f" {HERE}/operations", "datafusion", **where).name == THERE
    assert naming_of(read(project="mine", key_path="/nowhere/key.json"))["project"] == "mine"
    without = naming_of(read(key_path="/nowhere/key.json"))
    assert read_reference({"name": f"{THERE}/operations/o"}, "datafusion", **without).name == f"{THERE}/operations/o"
    with pytest.raises(ConnectionSettingsError, match="could not be read"):
        read_reference({"name": name}, "datafusion", **without)


def test_a_key_gets_a_token(private_key: rsa.RSAPrivateKey, private_pem: str, token_server: TokenServer) -> None:
    """A key signs a request for exactly the scopes of the connection, and the token is used until it is old."""
    settings = read(keyfile_dict=key_file(private_pem, token_server.uri), scope=SCOPE_A)
    identity = identity_for(settings)
    assert not identity._lasts(REFRESH_MARGIN)
    assert identity.headers() == {"authorization": "Bearer token-1"}
    assert identity.headers() == {"authorization": "Bearer token-1"}
    assert identity._lasts(REFRESH_MARGIN)
    [assertion] = token_server.assertions
    public_pem = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = jwt.decode(assertion, certs=public_pem)  # type: ignore[no-untyped-call]
    assert (claims["iss"], claims["scope"]) == (EMAIL, SCOPE_A)


@pytest.mark.parametrize("spelling", ["object", "text", "escaped newlines"])
def test_a_key_in_any_spelling(private_pem: str, token_server: TokenServer, spelling: str) -> None:
    """A key works as JSON, as text, and with the escaped newlines of an environment variable."""
    key: Any = key_file(private_pem, token_server.uri)
    if spelling == "escaped newlines":
        key["private_key"] = private_pem.replace("\n", "\\n")
    identity = identity_for(read(keyfile_dict=key if spelling == "object" else json.dumps(key)))
    assert identity.headers() == {"authorization": "Bearer token-1"}


def test_a_key_in_a_file(private_pem: str, token_server: TokenServer, tmp_path: Path) -> None:
    """A key works from its file."""
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key_file(private_pem, token_server.uri)), encoding="utf-8")
    assert identity_for(read(key_path=str(path))).headers() == {"authorization": "Bearer token-1"}


def test_the_quota_project_is_a_header(private_pem: str, token_server: TokenServer) -> None:
    """Quota and billing are counted on the project that the connection names."""
    identity = identity_for(read(keyfile_dict=key_file(private_pem, token_server.uri), quota_project_id="payer"))
    assert identity.headers() == {"authorization": "Bearer token-1", "x-goog-user-project": "payer"}


def test_credentials_that_cannot_charge_another_project_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's provider 21.2 (apache/airflow#56324): a quota project is not silently left out."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    file = tmp_path / "gdch.json"
    fields = {
        "format_version": "1",
        "private_key_id": "1",
        "name": "n",
        "project": "p",
        "token_uri": "https://gdch/token",
    }
    file.write_text(json.dumps({"type": "gdch_service_account", "private_key": pem, **fields}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(ConnectionSettingsError, match="cannot charge another project; leave `quota_project_id` out"):
        identity_for(read(quota_project_id="payer"))


def test_a_token_is_renewed_before_it_expires(private_pem: str, token_server: TokenServer) -> None:
    """A token that ends within five minutes is not waited for."""
    token_server.lifetime = 299
    identity = identity_for(read(keyfile_dict=key_file(private_pem, token_server.uri)))
    assert [identity.headers()["authorization"] for _ in range(2)] == ["Bearer token-1", "Bearer token-2"]


def test_a_rejected_token_is_replaced(private_pem: str, token_server: TokenServer) -> None:
    """The server's no is believed once: the next request gets another token."""
    identity = identity_for(read(keyfile_dict=key_file(private_pem, token_server.uri)))
    first = identity.headers()
    identity.reject(first)
    assert identity.headers() == {"authorization": "Bearer token-2"}
    identity.reject(first)  # a late response to the first token says nothing about the second
    assert identity.headers() == {"authorization": "Bearer token-2"}


def test_a_refused_key_is_one_clear_sentence(private_pem: str, token_server: TokenServer) -> None:
    """What the token server says about the account is reported, with what to check, and without the key."""
    token_server.error = (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
    identity = identity_for(read(keyfile_dict=key_file(private_pem, token_server.uri)))
    with pytest.raises(CredentialsError, match=f"^no token for {EMAIL}: invalid_grant.*Check the key") as caught:
        identity.headers()
    assert "\n" not in str(caught.value)
    for text in (str(caught.value), repr(caught.value)):
        assert not any(line in text for line in private_pem.splitlines())
        assert token_server.assertions[0] not in text


def test_no_token_server_is_a_bad_moment(private_pem: str, token_server: TokenServer) -> None:
    """A token server that cannot be reached is a transient error, and not one of the key."""
    token_server.stop()
    identity = identity_for(read(keyfile_dict=key_file(private_pem, token_server.uri)))
    with pytest.raises(TransportError, match=f"^no token for {EMAIL} now: ") as caught:
        identity.headers()
    assert caught.value.transient


def broken_keys(private_pem: str) -> dict[str, dict[str, Any]]:
    """Key files that cannot be used, each with something secret in it."""
    whole = key_file(private_pem, "http://127.0.0.1:9/token")
    body = private_pem.splitlines()
    return {
        "truncated": {**whole, "private_key": "\n".join(body[:5])},
        "not PEM": {**whole, "private_key": SECRET},
        "garbled": {**whole, "private_key": private_pem.replace(body[3], SECRET)},
        "no key": {"type": "service_account", "note": SECRET},
        "no email": {key: value for key, value in whole.items() if key != "client_email"},
        "key is an object": {**whole, "private_key": {"pem": SECRET}},
        "another kind": {"type": "authorized_user", "client_secret": SECRET, "refresh_token": SECRET},
    }


@pytest.mark.parametrize(
    "kind", ["truncated", "not PEM", "garbled", "no key", "no email", "key is an object", "another kind"]
)
@pytest.mark.parametrize("place", ["keyfile_dict", "key_path"])
def test_a_broken_key_is_one_clear_sentence(private_pem: str, tmp_path: Path, kind: str, place: str) -> None:
    """A key that cannot be used is refused without any of its characters, wherever it is kept."""
    key = broken_keys(private_pem)[kind]
    if place == "key_path":
        path = tmp_path / "key.json"
        path.write_text(json.dumps(key), encoding="utf-8")
        settings = read(key_path=str(path))
    else:
        settings = read(keyfile_dict=key)
    with pytest.raises(
        ConnectionSettingsError, match=f"^the connection's `{place}` holds no usable key of a service account"
    ) as caught:
        identity_for(settings)
    assert "\n" not in str(caught.value)
    for text in (str(caught.value), repr(caught.value)):
        assert SECRET not in text
        assert not any(line in text for line in private_pem.splitlines())
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    """A path that cannot be read is named, with the reason."""
    path = tmp_path / "nowhere.json"
    with pytest.raises(ConnectionSettingsError, match=f"`key_path` '{path}' could not be read: No such file"):
        identity_for(read(key_path=str(path)))


def test_a_key_file_that_is_no_json(tmp_path: Path) -> None:
    """A file with something else in it is refused without quoting it."""
    path = tmp_path / "key.json"
    path.write_text(SECRET, encoding="utf-8")
    with pytest.raises(ConnectionSettingsError, match="`key_path` holds no usable key") as caught:
        identity_for(read(key_path=str(path)))
    assert SECRET not in str(caught.value)


def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a machine that is not logged in, the error says how to log in."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(CredentialsError, match=r"no Google credentials found: .*gcloud auth application-default login"):
        identity_for(read())


def test_default_credentials(
    monkeypatch: pytest.MonkeyPatch, private_pem: str, token_server: TokenServer, tmp_path: Path
) -> None:
    """Without a key in the connection, the machine's own credentials are used, with the connection's scopes."""
    path = tmp_path / "adc.json"
    path.write_text(json.dumps(key_file(private_pem, token_server.uri)), encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    identity = identity_for(read(scope=SCOPE_A))
    assert identity.headers() == {"authorization": "Bearer token-1"}
    claims = jwt.decode(token_server.assertions[0], verify=False)  # type: ignore[no-untyped-call]
    assert claims["scope"] == SCOPE_A


def test_the_emulator_gets_an_obviously_fake_token(private_pem: str, token_server: TokenServer) -> None:
    """Where the connection says emulator, a real key is not even read."""
    settings = read(
        keyfile_dict=key_file(private_pem, token_server.uri), emulator=True, api_endpoint="http://emulator:8080"
    )
    assert identity_for(settings).headers() == {"authorization": f"Bearer {FAKE_TOKEN}"}
    assert token_server.assertions == []
    assert "fake" in FAKE_TOKEN
    assert FAKE_TOKEN not in repr(identity_for(settings))


def test_the_fake_token_stays_as_it_is() -> None:
    """A 401 of an emulator is final: there is no other token."""
    identity = identity_for(read(emulator=True, api_endpoint="http://emulator:8080"))
    identity.reject(identity.headers())
    assert identity.headers() == {"authorization": f"Bearer {FAKE_TOKEN}"}


def test_anonymous_sends_no_token(private_pem: str) -> None:
    """Whoever wants to be nobody sends nothing, even with a key at hand."""
    identity = identity_for(read(is_anonymous=True, keyfile_dict=key_file(private_pem, "http://127.0.0.1:9/token")))
    assert (identity.headers(), identity._lasts(REFRESH_MARGIN), repr(identity)) == ({}, True, "<Identity anonymous>")
    identity.reject({})
    assert identity.headers() == {}


def test_a_repr_of_an_identity_has_no_secret(private_pem: str, token_server: TokenServer) -> None:
    """An identity can be printed: it is called by its account."""
    identity = identity_for(read(keyfile_dict=key_file(private_pem, token_server.uri)))
    identity.headers()
    assert repr(identity) == f"<Identity {EMAIL}>"


CONFIGURATION = json.dumps(
    {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "http://127.0.0.1:9/token",
        "credential_source": {"file": "/subject"},
    }
)
PROVIDER = {"idp_issuer_url": "http://127.0.0.1:9/idp", "client_id": "me", "client_secret": SECRET}


def test_the_same_settings_are_the_same_identity(private_pem: str) -> None:
    """Everyone with the same settings shares one identity, and so one token."""
    key = key_file(private_pem, "http://127.0.0.1:9/token")
    one = identity_for(read(keyfile_dict=key))
    assert identity_for(read(keyfile_dict=json.dumps(dict(reversed(key.items()))))) is one
    assert identity_for(read(keyfile_dict=key, project="other", num_retries=1)) is one


@pytest.mark.parametrize(
    "change",
    [
        {"keyfile_dict": None, "emulator": True},
        {"scopes": (SCOPE_A,)},
        {"quota_project_id": "payer"},
        {"impersonation_chain": ("a@x",)},
        {"is_anonymous": True},
        {"keyfile_dict": None, "credential_config_file": CONFIGURATION},
        {"keyfile_dict": None, "credential_config_file": CONFIGURATION, **PROVIDER},
        {"keyfile_dict": None, "credential_config_file": CONFIGURATION, **PROVIDER, "client_id": "other"},
        {"keyfile_dict": None, "credential_config_file": CONFIGURATION, **PROVIDER, "client_secret": "other"},
        {"keyfile_dict": None, "credential_config_file": CONFIGURATION, **PROVIDER, "idp_extra_parameters": "{}"},
    ],
    ids=lambda change: ", ".join(change),
)
def test_other_settings_are_another_identity(private_pem: str, change: dict[str, Any]) -> None:
    """What decides who one is, or what one may, is never shared."""
    settings = read(keyfile_dict=key_file(private_pem, "http://127.0.0.1:9/token"))
    plain = dataclasses.replace(settings, keyfile_dict=None, credential_config_file=CONFIGURATION)
    idp = dataclasses.replace(plain, **PROVIDER)
    changed = dataclasses.replace(settings, **change)
    others = {identity_for(other) for other in (settings, plain, idp) if other != changed}
    assert identity_for(changed) not in others


def test_every_setting_is_known_to_decide_or_not() -> None:
    """A new setting is part of who one is, unless it is named here as one that is not."""
    settings = {field.name for field in dataclasses.fields(ConnectionSettings)}
    assert {"project", "num_retries", "start_timeout", "api_endpoint"} == subject._INDIFFERENT < settings


def test_a_failure_is_not_kept(private_pem: str, tmp_path: Path) -> None:
    """A key file that was broken and is repaired works without a new process."""
    path = tmp_path / "key.json"
    path.write_text("{}", encoding="utf-8")
    settings = read(key_path=str(path))
    with pytest.raises(ConnectionSettingsError):
        identity_for(settings)
    path.write_text(json.dumps(key_file(private_pem, "http://127.0.0.1:9/token")), encoding="utf-8")
    assert identity_for(settings).description == EMAIL


def test_identities_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """B19: of many keys only the latest ones are shared, and what is asked for again stays; nor are failures kept."""
    monkeypatch.setattr(subject, "_identities", {})
    monkeypatch.setattr(subject, "_building", {})
    often = ConnectionSettings.from_extra({"is_anonymous": True, "quota_project_id": "often"})
    kept = identity_for(often)
    for number in range(200):
        identity_for(ConnectionSettings.from_extra({"is_anonymous": True, "quota_project_id": f"p{number}"}))
        assert identity_for(often) is kept
    for number in range(200):
        with pytest.raises(ConnectionSettingsError):
            identity_for(ConnectionSettings.from_extra({"key_path": f"/nowhere/{number}.json"}))
    assert len(subject._identities) == subject.MAX_IDENTITIES
    assert len(subject._building) <= subject.MAX_IDENTITIES
