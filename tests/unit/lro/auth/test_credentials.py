"""From a connection's settings to a token: what is understood, what is refused, and who refreshes when."""

from __future__ import annotations

import asyncio
import dataclasses
import http.server
import itertools
import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import google.auth.exceptions
import google.auth.transport.requests
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import _helpers, jwt
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError

from airflow_lro_provider.lro.auth import credentials as subject
from airflow_lro_provider.lro.auth.credentials import (
    DEFAULT_SCOPES,
    FAKE_TOKEN,
    REFRESH_MARGIN,
    ConnectionSettings,
    Identity,
    identity_for,
)
from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    CredentialsError,
    ForbiddenEndpointError,
    InvalidRequestError,
    TransportError,
)

OLD = "extra__google_cloud_platform__"
EMAIL = "robot@my-project.iam.gserviceaccount.com"
SECRET = "c2VjcmV0LWtleS1tYXRlcmlhbA"
SCOPE_A, SCOPE_B = "https://www.googleapis.com/auth/earthengine", "https://www.googleapis.com/auth/cloud-platform"


def read(**extra: Any) -> ConnectionSettings:
    """The settings of a connection with this extra."""
    return ConnectionSettings.from_extra(extra, conn_id="my_google")


# --- settings --------------------------------------------------------------------------------------


def test_an_empty_connection() -> None:
    """Without any extra: default credentials, all of Google Cloud, five retries, Google's hosts."""
    assert read() == ConnectionSettings()
    assert ConnectionSettings() == ConnectionSettings(
        key_path=None,
        keyfile_dict=None,
        scopes=("https://www.googleapis.com/auth/cloud-platform",),
        project=None,
        quota_project_id=None,
        impersonation_chain=(),
        num_retries=5,
        is_anonymous=False,
        api_endpoint=None,
        emulator=False,
        credential_config_file=None,
        key_secret_name=None,
        key_secret_project_id=None,
        idp_issuer_url=None,
        client_id=None,
        client_secret=None,
        idp_extra_parameters=None,
        universe_domain="googleapis.com",
    )


IDP = {
    "credential_config_file": "/keys/federation",
    "idp_issuer_url": "https://idp.example/token",
    "client_id": "me",
    "client_secret": SECRET,
}
FIELDS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "project": ({"project": "p"}, "project", "p"),
    "project with blanks": ({"project": " p\n"}, "project", "p"),
    "key_path": ({"key_path": "/keys/k.json"}, "key_path", "/keys/k.json"),
    "quota_project_id": ({"quota_project_id": "q"}, "quota_project_id", "q"),
    "keyfile_dict as text": ({"keyfile_dict": '{"b": 1, "a": 2}'}, "keyfile_dict", '{"a": 2, "b": 1}'),
    "keyfile_dict as an object": ({"keyfile_dict": {"b": 1, "a": 2}}, "keyfile_dict", '{"a": 2, "b": 1}'),
    "keyfile_dict, escaped newlines": (
        {"keyfile_dict": {"private_key": "-----BEGIN\\nx\\n"}},
        "keyfile_dict",
        json.dumps({"private_key": "-----BEGIN\nx\n"}),
    ),
    "credential_config_file, a path": (
        {"credential_config_file": "/keys/federation"},
        "credential_config_file",
        "/keys/federation",
    ),
    "credential_config_file as text": (
        {"credential_config_file": ' {"b": 1, "a": 2}'},
        "credential_config_file",
        '{"a": 2, "b": 1}',
    ),
    "credential_config_file as an object": (
        {"credential_config_file": {"b": 1, "a": 2}},
        "credential_config_file",
        '{"a": 2, "b": 1}',
    ),
    "key_secret_name": ({"key_secret_name": "my_key-1"}, "key_secret_name", "my_key-1"),
    "key_secret_project_id": ({"key_secret_project_id": "example.com:p"}, "key_secret_project_id", "example.com:p"),
    "idp_issuer_url": ({**IDP}, "idp_issuer_url", "https://idp.example/token"),
    "idp_issuer_url beside a key": (
        {"idp_issuer_url": "https://idp.example/token", "key_path": "/keys/k.json"},
        "key_path",
        "/keys/k.json",
    ),
    "client_id": ({**IDP}, "client_id", "me"),
    "client_secret": ({**IDP}, "client_secret", SECRET),
    "idp_extra_parameters as text": (
        {"idp_extra_parameters": '{"b": 1, "a": "x"}'},
        "idp_extra_parameters",
        '{"a": "x", "b": 1}',
    ),
    "idp_extra_params": ({"idp_extra_params": {"a": "x"}}, "idp_extra_parameters", '{"a": "x"}'),
    "universe_domain": ({"universe_domain": "Universe.Example"}, "universe_domain", "universe.example"),
    "scope": ({"scope": f"{SCOPE_A},{SCOPE_B}"}, "scopes", (SCOPE_A, SCOPE_B)),
    "scope with blanks": ({"scope": f" {SCOPE_A} , {SCOPE_B},"}, "scopes", (SCOPE_A, SCOPE_B)),
    "scope as a list": ({"scope": [SCOPE_A, SCOPE_B]}, "scopes", (SCOPE_A, SCOPE_B)),
    "scope, empty": ({"scope": ""}, "scopes", DEFAULT_SCOPES),
    "num_retries": ({"num_retries": 2}, "num_retries", 2),
    "num_retries from a URI": ({"num_retries": "2"}, "num_retries", 2),
    "num_retries, none": ({"num_retries": 0}, "num_retries", 0),
    "num_retries, empty": ({"num_retries": ""}, "num_retries", 5),
    "num_retries, null": ({"num_retries": None}, "num_retries", 5),
    "is_anonymous": ({"is_anonymous": True}, "is_anonymous", True),
    "is_anonymous from a URI": ({"is_anonymous": "True"}, "is_anonymous", True),
    "is_anonymous as 1": ({"is_anonymous": "1"}, "is_anonymous", True),
    "is_anonymous as yes": ({"is_anonymous": " Yes "}, "is_anonymous", True),
    "is_anonymous, false from a URI": ({"is_anonymous": "false"}, "is_anonymous", False),
    "is_anonymous, 0 from a URI": ({"is_anonymous": "0"}, "is_anonymous", False),
    "is_anonymous as no": ({"is_anonymous": "no"}, "is_anonymous", False),
    "is_anonymous as 0": ({"is_anonymous": 0}, "is_anonymous", False),
    "is_anonymous, empty": ({"is_anonymous": ""}, "is_anonymous", False),
    "impersonation_chain": ({"impersonation_chain": "a@x"}, "impersonation_chain", ("a@x",)),
    "impersonation_chain, several": ({"impersonation_chain": "a@x, b@x"}, "impersonation_chain", ("a@x", "b@x")),
    "impersonation_chain as a list": (
        {"impersonation_chain": ["a@x", " b@x "]},
        "impersonation_chain",
        ("a@x", "b@x"),
    ),
    "api_endpoint": ({"api_endpoint": "https://psc.example/"}, "api_endpoint", "https://psc.example"),
    "api_endpoint on this machine": (
        {"api_endpoint": "http://127.0.0.1:8080"},
        "api_endpoint",
        "http://127.0.0.1:8080",
    ),
    "api_endpoint of an emulator": (
        {"api_endpoint": "http://emulator:8080", "emulator": "true"},
        "api_endpoint",
        "http://emulator:8080",
    ),
    "emulator": ({"api_endpoint": "http://emulator:8080", "emulator": True}, "emulator", True),
}


@pytest.mark.parametrize("prefix", ["", OLD], ids=["today's name", "old name"])
@pytest.mark.parametrize(("extra", "name", "value"), FIELDS.values(), ids=FIELDS.keys())
def test_fields(extra: dict[str, Any], name: str, value: Any, prefix: str) -> None:
    """Each field is read from JSON and from the strings of a URI, under its present and its old name."""
    assert getattr(read(**{prefix + key: part for key, part in extra.items()}), name) == value


def test_the_present_name_goes_before_the_old_one() -> None:
    """A connection that has both names means the present one, unless that is empty."""
    assert read(project="new", **{OLD + "project": "old"}).project == "new"
    assert read(project="", **{OLD + "project": "old"}).project == "old"


def test_false_is_a_value_of_the_present_name() -> None:
    """A present `false` is not overruled by an old `true`."""
    assert read(is_anonymous=False, **{OLD + "is_anonymous": True}).is_anonymous is False


@pytest.mark.parametrize(
    ("given", "chain"),
    [
        (None, ("connection@x",)),
        ("", ("connection@x",)),
        ([], ("connection@x",)),
        ("task@x", ("task@x",)),
        ("a@x,task@x", ("a@x", "task@x")),
        (["a@x", "task@x"], ("a@x", "task@x")),
        (("a@x", "task@x"), ("a@x", "task@x")),
    ],
    ids=repr,
)
def test_the_tasks_impersonation_goes_before_the_connections(given: Any, chain: tuple[str, ...]) -> None:
    """A task that names accounts overrules the connection."""
    extra = {"impersonation_chain": "connection@x"}
    assert ConnectionSettings.from_extra(extra, impersonation_chain=given).impersonation_chain == chain


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "project is a number": ({"project": 7}, "`project` must be a string, not int"),
    "key_path is a list": ({"key_path": ["k.json"]}, "`key_path` must be a string, not list"),
    "key_path is no .json": ({"key_path": "/keys/key.p12"}, "`key_path` must be the path of a .json key file"),
    "two keys": (
        {"key_path": "/k.json", "keyfile_dict": "{}"},
        "`key_path` and `keyfile_dict` are both given; keep one of them",
    ),
    "a key and a secret": (
        {"keyfile_dict": "{}", "key_secret_name": "k"},
        "`keyfile_dict` and `key_secret_name` are both given; keep one of them",
    ),
    "a key and a configuration": (
        {"key_path": "/k.json", "credential_config_file": "/f"},
        "`key_path` and `credential_config_file` are both given; keep one of them",
    ),
    "credential_config_file is broken JSON": (
        {"credential_config_file": f'{{"client_secret": "{SECRET}"'},
        "`credential_config_file` is not valid JSON; give the path",
    ),
    "credential_config_file is a list": (
        {"credential_config_file": [SECRET]},
        "`credential_config_file` must be a JSON object; give the path",
    ),
    "key_secret_name with its project": (
        {"key_secret_name": "projects/p/secrets/s"},
        "`key_secret_name` must be the plain name of a secret",
    ),
    "key_secret_name that leads elsewhere": ({"key_secret_name": "../x"}, "`key_secret_name` must be the plain name"),
    "key_secret_project_id that leads elsewhere": (
        {"key_secret_name": "s", "key_secret_project_id": "p/secrets/other"},
        "`key_secret_project_id` must be the id of a project",
    ),
    "idp_issuer_url alone": (
        {"idp_issuer_url": "https://idp.example/token"},
        "`idp_issuer_url` needs `credential_config_file`",
    ),
    "idp_issuer_url without client_id": (
        {key: value for key, value in IDP.items() if key != "client_id"},
        "`idp_issuer_url` needs `client_id`",
    ),
    "idp_issuer_url without client_secret": (
        {key: value for key, value in IDP.items() if key != "client_secret"},
        "`idp_issuer_url` needs `client_secret`",
    ),
    "idp_extra_parameters is no JSON": (
        {"idp_extra_parameters": SECRET},
        "`idp_extra_parameters` is not valid JSON; give a JSON object",
    ),
    "idp_extra_parameters has a list": (
        {"idp_extra_parameters": {"a": [SECRET]}},
        "`idp_extra_parameters` must hold plain values",
    ),
    "client_secret is a number": ({"client_secret": 7}, "`client_secret` must be a string, not int"),
    "keyfile_dict is broken JSON": (
        {"keyfile_dict": f'{{"private_key": "{SECRET}"'},
        "`keyfile_dict` is not valid JSON; paste the whole content of the key file",
    ),
    "keyfile_dict is nested without end": ({"keyfile_dict": "[" * 100_000}, "`keyfile_dict` is not valid JSON"),
    "keyfile_dict is a list": ({"keyfile_dict": f'["{SECRET}"]'}, "`keyfile_dict` must be a JSON object"),
    "keyfile_dict is a number": ({"keyfile_dict": 7}, "`keyfile_dict` must be a JSON object"),
    "scope is a number": ({"scope": 7}, "`scope` must be a string, not int"),
    "scope has a number": ({"scope": [SCOPE_A, 7]}, "`scope` must be a string, not list"),
    "num_retries is a word": ({"num_retries": "many"}, "`num_retries` must be a whole number"),
    "num_retries is a list": ({"num_retries": [1]}, "`num_retries` must be a whole number"),
    "num_retries is not a number": ({"num_retries": float("nan")}, "`num_retries` must be a whole number"),
    "num_retries is infinite": ({"num_retries": float("inf")}, "`num_retries` must be a whole number"),
    "num_retries is a fraction": ({"num_retries": 2.7}, "`num_retries` must be a whole number"),
    "num_retries is negative": ({"num_retries": "-1"}, "`num_retries` must not be negative"),
    "is_anonymous is a word": ({"is_anonymous": "maybe"}, "`is_anonymous` must be true or false"),
    "is_anonymous is a list": ({"is_anonymous": []}, "`is_anonymous` must be true or false"),
    "emulator without an endpoint": ({"emulator": True}, "`emulator` needs `api_endpoint`: where is the emulator"),
    "impersonation_chain is an object": ({"impersonation_chain": {"a": 1}}, "`impersonation_chain` must be a string"),
}


@pytest.mark.parametrize(("extra", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(extra: dict[str, Any], sentence: str) -> None:
    """What cannot be used is refused in one sentence that names the connection and the field, never its content."""
    with pytest.raises(ConnectionSettingsError) as caught:
        read(**extra)
    message = str(caught.value)
    assert message.startswith(f"connection 'my_google': {sentence}")
    assert "\n" not in message
    assert SECRET not in message + repr(caught.value)


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"api_endpoint": "http://psc.example"}, "plain http to another machine"),
        ({"api_endpoint": "http://psc.example", "emulator": "false"}, "plain http to another machine"),
        ({"api_endpoint": "psc.example"}, "not a URL of a server"),
        ({"api_endpoint": "ftp://psc.example", "emulator": True}, "must begin with https://"),
    ],
    ids=["http", "http, and no emulator", "no scheme", "ftp"],
)
def test_endpoints_are_checked_with_the_connection(extra: dict[str, Any], why: str) -> None:
    """An endpoint that would see a token in the clear is refused when the connection is read."""
    with pytest.raises(ForbiddenEndpointError, match=why):
        read(**extra)


def test_a_repr_of_settings_has_no_key() -> None:
    """Settings can be printed: the key is not in them."""
    settings = read(
        keyfile_dict={"private_key": SECRET},
        idp_extra_parameters={"assertion": SECRET},
        client_secret=SECRET,
        project="visible",
    )
    assert SECRET not in repr(settings)
    assert "visible" in repr(settings)
    assert SECRET not in repr(read(credential_config_file={"client_secret": SECRET}))


# --- identities ------------------------------------------------------------------------------------


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


class TokenServer:
    """A token endpoint on this machine that hands out numbered tokens, or an error."""

    def __init__(self) -> None:
        self.assertions: list[str] = []
        self.error: tuple[int, dict[str, Any]] | None = None
        self.lifetime = 3600
        numbers = itertools.count(1)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                outer.assertions.extend(form["assertion"])
                status, answer = outer.error or (
                    200,
                    {"access_token": f"token-{next(numbers)}", "expires_in": outer.lifetime, "token_type": "Bearer"},
                )
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.uri = f"http://127.0.0.1:{self.server.server_port}/token"


@pytest.fixture
def token_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    """A token endpoint that runs as long as the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = TokenServer()
    server.thread.start()
    yield server
    server.server.shutdown()
    server.thread.join()
    server.server.server_close()


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


def test_a_key_gets_a_token(private_key: rsa.RSAPrivateKey, private_pem: str, token_server: TokenServer) -> None:
    """A key signs a request for exactly the scopes of the connection, and the token is used until it is old."""
    settings = read(keyfile_dict=key_file(private_pem, token_server.uri), scope=SCOPE_A)
    identity = identity_for(settings)
    assert not identity.fresh
    assert identity.headers() == {"authorization": "Bearer token-1"}
    assert identity.headers() == {"authorization": "Bearer token-1"}
    assert identity.fresh
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
    identity.reject(first)  # a late answer to the first token says nothing about the second
    assert identity.headers() == {"authorization": "Bearer token-2"}


def test_a_refused_key_is_one_clear_sentence(private_pem: str, token_server: TokenServer) -> None:
    """What the token server says about the account is told, with what to check, and without the key."""
    token_server.error = (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
    identity = identity_for(read(keyfile_dict=key_file(private_pem, token_server.uri)))
    with pytest.raises(CredentialsError, match=f"^no token for {EMAIL}: invalid_grant.*Check the key") as caught:
        identity.headers()
    assert "\n" not in str(caught.value)
    for text in (str(caught.value), repr(caught.value)):
        assert not any(line in text for line in private_pem.splitlines())
        assert token_server.assertions[0] not in text


def test_no_token_server_is_a_bad_moment(private_pem: str, token_server: TokenServer) -> None:
    """A token server that cannot be reached is worth another try, and the key is not to blame."""
    token_server.server.server_close()
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
    with pytest.raises(ConnectionSettingsError, match=f"`key_path` '{path}' cannot be read: No such file"):
        identity_for(read(key_path=str(path)))


def test_a_key_file_that_is_no_json(tmp_path: Path) -> None:
    """A file with something else in it is refused without quoting it."""
    path = tmp_path / "key.json"
    path.write_text(SECRET, encoding="utf-8")
    with pytest.raises(ConnectionSettingsError, match="`key_path` holds no usable key") as caught:
        identity_for(read(key_path=str(path)))
    assert SECRET not in str(caught.value)


def test_no_credentials_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is not logged in is told how to be."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(CredentialsError, match=r"no Google credentials here: .*gcloud auth application-default login"):
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
    """Where the connection says emulator, a real key is not even looked at."""
    settings = read(
        keyfile_dict=key_file(private_pem, token_server.uri), emulator=True, api_endpoint="http://emulator:8080"
    )
    assert identity_for(settings).headers() == {"authorization": f"Bearer {FAKE_TOKEN}"}
    assert token_server.assertions == []
    assert "fake" in FAKE_TOKEN
    assert FAKE_TOKEN not in repr(identity_for(settings))


def test_the_fake_token_stays_as_it_is() -> None:
    """An emulator that answers 401 means it: there is no other token to be had."""
    identity = identity_for(read(emulator=True, api_endpoint="http://emulator:8080"))
    identity.reject(identity.headers())
    assert identity.headers() == {"authorization": f"Bearer {FAKE_TOKEN}"}


def test_anonymous_sends_no_token(private_pem: str) -> None:
    """Whoever wants to be nobody sends nothing, even with a key at hand."""
    identity = identity_for(read(is_anonymous=True, keyfile_dict=key_file(private_pem, "http://127.0.0.1:9/token")))
    assert (identity.headers(), identity.fresh, repr(identity)) == ({}, True, "<Identity anonymous>")
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
    """A new setting is either part of who one is, or named here as one that is not."""
    indifferent = {"project", "num_retries", "api_endpoint"}
    assert {field.name for field in dataclasses.fields(ConnectionSettings)} == {*subject._DECISIVE} | indifferent


def test_a_failure_is_not_kept(private_pem: str, tmp_path: Path) -> None:
    """A key file that was broken and is repaired works without a new process."""
    path = tmp_path / "key.json"
    path.write_text("{}", encoding="utf-8")
    settings = read(key_path=str(path))
    with pytest.raises(ConnectionSettingsError):
        identity_for(settings)
    path.write_text(json.dumps(key_file(private_pem, "http://127.0.0.1:9/token")), encoding="utf-8")
    assert identity_for(settings).description == EMAIL


# --- refreshing once -------------------------------------------------------------------------------


class Counted(Credentials):
    """Credentials whose refresh takes as long as nobody else comes, and that count how many are in it."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refreshes = 0
        self.failures = failures
        self.second = threading.Event()

    def refresh(self, request: Any) -> None:
        """Give a new token; a second caller that gets in at the same time is noticed."""
        self.refreshes += 1
        if self.refreshes > 1:
            self.second.set()
        self.second.wait(0.05)
        if self.refreshes <= self.failures:
            raise RuntimeError(SECRET)
        self.token = f"token-{self.refreshes}"
        self.expiry = _helpers.utcnow() + timedelta(hours=1)  # type: ignore[no-untyped-call]


def test_many_threads_refresh_once() -> None:
    """However many threads need a token at the same moment, one of them fetches it for all."""
    credentials = Counted()
    identity = Identity(credentials)
    start = threading.Barrier(8)
    got: list[dict[str, str]] = []

    def ask() -> None:
        start.wait()
        got.append(identity.headers())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [{"authorization": "Bearer token-1"}] * 8
    assert credentials.refreshes == 1


async def test_many_tasks_refresh_once_and_block_nobody() -> None:
    """However many tasks of a loop need a token, it is fetched once, in a thread, while the loop goes on."""
    credentials = Counted()
    identity = Identity(credentials)
    threads: set[int] = set()
    refresh = credentials.refresh

    def noted(request: Any) -> None:
        threads.add(threading.get_ident())
        refresh(request)

    credentials.refresh = noted  # type: ignore[method-assign]
    got = await asyncio.gather(*(identity.async_headers() for _ in range(20)))
    assert got == [{"authorization": "Bearer token-1"}] * 20
    assert credentials.refreshes == 1
    assert threading.get_ident() not in threads


async def test_a_task_that_is_cancelled_leaves_the_token_to_the_others() -> None:
    """The one who began the refresh may go: the others get their token all the same."""
    credentials = Counted()
    identity = Identity(credentials)
    first, second = (asyncio.ensure_future(identity.async_headers()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {"authorization": "Bearer token-1"}
    assert first.cancelled()
    assert credentials.refreshes == 1


async def test_a_failed_refresh_is_told_to_all_and_tried_again_by_the_next() -> None:
    """All who waited hear of the failure, without the secret in its text; the next one asks anew."""
    credentials = Counted(failures=1)
    identity = Identity(credentials)
    got = await asyncio.gather(*(identity.async_headers() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in got] == [CredentialsError] * 3
    assert all(str(error).endswith(": RuntimeError.") for error in got)
    assert credentials.refreshes == 1
    assert await identity.async_headers() == {"authorization": "Bearer token-2"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RefreshError("token server is busy", retryable=True), TransportError),
        (RefreshError("invalid_grant\nsecond line", retryable=False), CredentialsError),
        (google.auth.exceptions.TransportError("no route"), TransportError),
    ],
    ids=["a bad moment", "refused", "not reached"],
)
def test_a_bad_moment_is_told_from_a_refusal(error: Exception, expected: type[Exception]) -> None:
    """What google-auth says is worth another try is transient, anything else is not; one line of it is told."""

    class Failing(Counted):
        def refresh(self, request: Any) -> None:
            """Fail in this way."""
            raise error

    with pytest.raises(expected, match=str(error.args[0]).partition("\n")[0]) as caught:
        Identity(Failing()).headers()
    assert "second line" not in str(caught.value)


def test_threads_and_tasks_share_a_token() -> None:
    """A token that a thread fetched is there for the loop, which asks for nothing."""
    credentials = Counted()
    identity = Identity(credentials)
    identity.headers()
    assert asyncio.run(identity.async_headers()) == {"authorization": "Bearer token-1"}
    assert credentials.refreshes == 1


def test_rejecting_does_not_wait_for_a_renewal() -> None:
    """It is called on event loops: many triggers that learn of a revoked token at once must not stop the triggerer."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Counted):
        def refresh(self, request: Any) -> None:
            if self.refreshes:
                begun.set()
                go_on.wait(5)
            super().refresh(request)

    identity = Identity(Slow())
    revoked = identity.headers()
    identity.reject(revoked)
    renewal = threading.Thread(target=identity.headers)
    renewal.start()
    assert begun.wait(5)
    begin = time.monotonic()
    identity.reject(revoked)
    took = time.monotonic() - begin
    go_on.set()
    renewal.join()
    assert took < 1
    assert identity.headers() == {"authorization": "Bearer token-2"}


def test_rejecting_makes_room_for_another_token() -> None:
    """Credentials that can give another token are asked for one after a no."""
    credentials = Counted()
    identity = Identity(credentials)
    identity.reject(identity.headers())
    assert not identity.fresh
    assert identity.headers() == {"authorization": "Bearer token-2"}


@pytest.mark.parametrize(
    ("left", "fresh"),
    [(timedelta(hours=1), True), (REFRESH_MARGIN + timedelta(seconds=30), True), (REFRESH_MARGIN, False)],
    ids=["an hour", "just enough", "five minutes"],
)
def test_fresh(left: timedelta, fresh: bool) -> None:
    """A token is fresh while it is good for five minutes more."""
    assert timedelta(minutes=5) == REFRESH_MARGIN
    credentials = Counted()
    credentials.token = "t"
    credentials.expiry = _helpers.utcnow() + left  # type: ignore[no-untyped-call]
    assert Identity(credentials).fresh is fresh


def test_a_token_without_an_end_is_fresh() -> None:
    """A token that never expires is never renewed."""
    credentials = Counted()
    credentials.token = "t"
    assert Identity(credentials).headers() == {"authorization": "Bearer t"}
    assert credentials.refreshes == 0


def test_refusals_are_of_one_family() -> None:
    """Everything that is wrong with a connection is refused before anything is sent."""
    assert issubclass(ConnectionSettingsError, InvalidRequestError)
    assert issubclass(ForbiddenEndpointError, InvalidRequestError)


@pytest.mark.parametrize(("seconds", "urgent", "refreshed"), [(60, True, 0), (60, False, 1), (5, True, 1)])
def test_what_is_urgent_does_not_wait_for_another_token(seconds: int, urgent: bool, refreshed: int) -> None:
    """A cancel goes out with the token in hand while that is good for a moment; all else renews it in time."""
    from google.auth import _helpers

    class Credentials:
        token, refreshes = "old", 0
        expiry = _helpers.utcnow() + timedelta(seconds=seconds)

        def refresh(self, request: Any) -> None:
            self.refreshes += 1
            self.token, self.expiry = "new", _helpers.utcnow() + timedelta(hours=1)

        def apply(self, headers: dict[str, str]) -> None:
            headers["authorization"] = f"Bearer {self.token}"

    credentials = Credentials()
    Identity(credentials).headers(urgent=urgent)
    assert credentials.refreshes == refreshed
