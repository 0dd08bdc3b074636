"""Secrets are disclosed nowhere: every error there is, with marked secrets, and a search through all that was said.

The key, the assertion (JWT) that it signs, the access token and the connection are searched for in every log line of
every library at DEBUG, in what is raised (text, repr, cause, context, attributes, pickle, traceback), in reprs, in
what a trigger stores and sends, in what a task returns and pushes, and in its rendered fields.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import pickle
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.lro.auth import credentials, token_transport
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import REFRESH_MARGIN
from airflow_lro_provider.lro.errors import CredentialsError, OperationsError, TransportError
from airflow_lro_provider.lro.polling import new_schedule
from airflow_lro_provider.lro.redaction import without_secrets
from airflow_lro_provider.lro.resources.methods import read_method
from tests.hostile.hostile_server import Heard, HostileServer, Play, for_ever, head, plain
from tests.hostile.responses import BIG, ODD, bomb, packed, raw
from tests.hostile.subjects import KINDS, NAME, REFERENCE, Client

ACCESS_TOKEN = "ya29.c.MARKED_ACCESS_TOKEN-0123456789"
EMAIL = "robot@my-project.iam.gserviceaccount.com"


def good_token(_: Heard) -> Iterator[bytes | None]:
    """What a token server should respond with."""
    yield from plain(json.dumps({"access_token": ACCESS_TOKEN, "expires_in": 3600, "token_type": "Bearer"}).encode())(_)


@pytest.fixture(scope="module")
def pem() -> str:
    """A real key that nobody trusts."""
    key = rsa.generate_private_key(65537, 2048)
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*encoding).decode()


class Ear(logging.Handler):
    """Hears every log line of this process, with all that hangs on it."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        self.lines.append(f"{record.name} {record.getMessage()} {record.args!r} {vars(record)!r}")
        if record.exc_info:
            self.lines.append("".join(traceback.format_exception(*record.exc_info)))


@pytest.fixture
def ear() -> Iterator[Ear]:
    """All loggers there are, at DEBUG, with nobody in between."""
    ear, before = Ear(), {}
    names = ["", "google", "google.auth", "google.auth.transport.requests", "google.oauth2._client", "requests"]
    names += ["urllib3", "urllib3.connectionpool", "aiohttp", "aiohttp.client", "asyncio", "airflow"]
    for name in {*names, *(name for name in logging.root.manager.loggerDict if "lro" in name)}:
        logger = logging.getLogger(name)
        before[logger] = (logger.level, logger.handlers[:], logger.disabled)
        logger.setLevel(logging.DEBUG)
        logger.addHandler(ear)
        logger.disabled = False
    yield ear
    for logger, (level, handlers, disabled) in before.items():
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.disabled = disabled


class Search:
    """Collects what was said, and searches it."""

    def __init__(self, pem: str, ear: Ear, capfd: pytest.CaptureFixture[str]) -> None:
        self.pem, self._ear, self._capfd = pem, ear, capfd
        self._said: list[str] = []
        self.secrets = {line for line in pem.splitlines() if not line.startswith("---")} | {ACCESS_TOKEN}
        self.secrets.add("MARKED")

    def key(self, token_uri: str) -> dict[str, str]:
        """A key file of a service account."""
        fixed = {"type": "service_account", "private_key_id": "1", "client_email": EMAIL, "project_id": "p"}
        return {**fixed, "private_key": self.pem, "token_uri": token_uri}

    def settings(self, tokens: HostileServer, api: HostileServer | None = None, **extra: Any) -> ConnectionSettings:
        """A connection with a key."""
        place = {} if api is None else {"api_endpoint": api.url}
        return ConnectionSettings.from_extra({"keyfile_dict": self.key(tokens.url + "/token"), **place, **extra})

    def sent(self, *servers: HostileServer) -> None:
        """What these servers were sent as a secret is one."""
        for server in servers:
            for heard in server.heard:
                for part in heard.body.decode("latin-1").split("&"):
                    if part.startswith("assertion="):
                        jwt = part.removeprefix("assertion=")
                        _, claims, signature = jwt.split(".")
                        self.secrets.update({claims[:40], signature[:40], signature})

    def said(self, *things: Any) -> None:
        """Something that may be seen by others."""
        for thing in things:
            self._said.append(f"{thing!r} {thing}")

    def raised(self, error: BaseException) -> None:
        """An error, with everything that hangs on it."""
        seen: list[BaseException] = []
        todo: list[BaseException | None] = [error]
        while todo:
            one = todo.pop()
            if one is None or one in seen:
                continue
            seen.append(one)
            self.said(one, one.args, vars(one))
            todo += [one.__cause__, one.__context__]
        self._said.append("".join(traceback.format_exception(error)))
        with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
            self._said.append(repr(pickle.dumps(error)))

    def finds_nothing(self) -> None:
        """Search all of it."""
        captured = self._capfd.readouterr()
        places = {"raised or kept": self._said, "logged": self._ear.lines, "printed": [captured.out, captured.err]}
        for place, texts in places.items():
            for text in texts:
                found = [secret[:16] for secret in self.secrets if secret in text]
                assert not found, f"{place}: {found} in {text[:3000]}"


@pytest.fixture
def search(pem: str, ear: Ear, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Search]:
    """Search at the end of each test, whatever it did."""
    monkeypatch.setattr(credentials, "_identities", {})
    monkeypatch.setattr(token_transport, "READ_TIMEOUT_SECONDS", 0.7)
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    found = Search(pem, ear, capfd)
    yield found
    found.finds_nothing()


def test_the_search_finds_what_there_is(pem: str, ear: Ear, capfd: pytest.CaptureFixture[str]) -> None:
    """It hears debug lines and extras, and reads causes and attributes."""

    def hidden_in_a_cause() -> None:
        try:
            raise ValueError(ACCESS_TOKEN)
        except ValueError:
            raise OperationsError("fine") from None

    ways: list[Callable[[Search], object]] = [
        lambda _: logging.getLogger("google.auth.transport.requests").debug("x", extra={"httpRequest": ACCESS_TOKEN}),
        lambda _: logging.getLogger("urllib3.connectionpool").debug("%s", pem.splitlines()[3]),
        lambda _: print(ACCESS_TOKEN),
        lambda s: s.said({"a": ACCESS_TOKEN}),
        lambda _: hidden_in_a_cause(),
    ]
    for way in ways:
        search = Search(pem, ear, capfd)
        ear.lines.clear()
        try:
            way(search)
        except OperationsError as error:
            search.raised(error)
        with pytest.raises(AssertionError, match=r"ya29|MARKED|logged"):
            search.finds_nothing()
    ear.lines.clear()


# -- the API's responses -----------------------------------------------------------------------------------


def repeats(status: str, kind: str) -> Play:
    """A server that repeats everything that it received."""

    def play(request: Heard) -> Iterator[bytes | None]:
        told = request.headers.get("authorization", "")
        bodies: dict[str, Any] = {
            "message": json.dumps({"error": {"message": f"what is {told}?", "status": "X"}}),
            "reason": json.dumps({"error": {"details": [{"@type": "google.rpc.ErrorInfo", "reason": told}]}}),
            "request id": json.dumps({"error": {"details": [{"@type": "google.rpc.RequestInfo", "requestId": told}]}}),
            "HTML": f"<html>{request.everything}</html>",
            "operation": json.dumps(
                {"name": NAME, "done": True, "error": {"code": 3, "message": told}, "metadata": {"statusMessage": told}}
            ),
            "name": json.dumps({"name": told, "done": False}),
            "escaped": json.dumps({"error": {"message": "".join(f"\\u{ord(c):04x}" for c in told)}}).replace(
                "\\\\", "\\"
            ),
        }
        yield from plain(bodies[kind].encode(), status, f"X-Request-Id: {told}", f"Retry-After: {told}")(request)

    return play


REPEATS = ["message", "reason", "request id", "HTML", "operation", "name", "escaped"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said", REPEATS)
def test_a_server_that_says_everything_back(kind: str, said: str, search: Search) -> None:
    """What the client says of its responses, good or bad, has no token in it."""
    for status in ("200 OK", "302 Found", "400 Bad Request", "401 Unauthorized", "403 Forbidden", "503 Unavailable"):
        with HostileServer(good_token) as tokens, HostileServer(repeats(status, said)) as api:
            settings = search.settings(tokens, api)
            with Client(kind, api.url, identity=identity_for(settings), retries=1) as client:
                for verb in ("get", "cancel"):
                    try:
                        found = getattr(client, verb)(REFERENCE)
                        search.said(found, getattr(found, "raw", None), found and found.summary())
                    except OperationsError as error:
                        search.raised(error)
            assert api.heard[0].headers["authorization"] == f"Bearer {ACCESS_TOKEN}"
            search.sent(tokens)
            search.said(settings, identity_for(settings))


def quotes(request: Heard) -> Iterator[bytes | None]:
    """Refuse a request, and quote its body: as it is, as JSON in JSON, and one value of it without its name."""
    body = request.body.decode()
    violation = {"field": "mysql", "description": f"{json.loads(body)['mysql']['password']} is too short"}
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}]
    message = f"Invalid value: {body} in {json.dumps(body)}"
    error = {"code": 400, "status": "INVALID_ARGUMENT", "message": message, "details": details}
    yield from plain(json.dumps({"error": error}).encode(), "400 Bad Request")(request)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_quotes_what_a_start_has_sent(kind: str, search: Search) -> None:
    """B16: a password of the body is in no error, nor on it, however it is quoted; and the rest is."""
    body = {"mysql": {"username": "root", "password": 'MARKED-Password 1"'}}
    method = read_method("projects/p/locations/us-central1/instances?instanceId=i", "POST", "datafusion")
    with HostileServer(good_token) as tokens, HostileServer(quotes) as api:
        identity = identity_for(search.settings(tokens, api))
        with Client(kind, api.url, identity=identity) as client, pytest.raises(OperationsError) as caught:
            client.start(method, body)
        search.raised(caught.value)
        search.sent(tokens)
    assert "mysql: [hidden] is too short" in str(caught.value)
    assert '"username": "root", "password": "[hidden]"' in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_odd_answer(kind: str, search: Search) -> None:
    """All the odd responses of `test_responses`, and the large ones that are quick."""
    plays = {**ODD, **{name: BIG[name] for name in ("200 MB, said so", "a gzip bomb", "an error with a gzip bomb")}}
    for play, _ in plays.values():
        with HostileServer(good_token) as tokens, HostileServer(play) as api:
            identity = identity_for(search.settings(tokens, api))
            with Client(kind, api.url, identity=identity, retries=0, read_timeout=0.5) as client:
                with pytest.raises(OperationsError) as caught:
                    client.get(REFERENCE)
                search.raised(caught.value)
            search.sent(tokens)


# -- the token server's responses --------------------------------------------------------------------------


def says_back(status: str, form: Callable[[str], bytes], *headers: str) -> Play:
    """A token server that repeats the assertion."""

    def play(request: Heard) -> Iterator[bytes | None]:
        assertion = request.body.decode().rpartition("assertion=")[2]
        yield from plain(form(assertion), status, *(header.format(assertion) for header in headers))(request)

    return play


TOKENS: dict[str, Play] = {
    "an error that repeats": says_back(
        "400 Bad Request",
        lambda told: json.dumps({"error": "invalid_grant", "error_description": f"bad {told}."}).encode(),
    ),
    "an error code that repeats": says_back("400 Bad Request", lambda told: json.dumps({"error": told}).encode()),
    "JSON of its own that repeats": says_back("400 Bad Request", lambda told: json.dumps({"sent": told}).encode()),
    "HTML that repeats": says_back("400 Bad Request", lambda told: f"<p>{told}</p>".encode()),
    "a list that repeats": says_back("400 Bad Request", lambda told: json.dumps([told]).encode()),
    "an outage that repeats": says_back("503 Unavailable", lambda told: json.dumps({"error": told}).encode()),
    "success without a token": says_back("200 OK", lambda told: json.dumps({"sent": told}).encode()),
    "a redirect": says_back("307 Temporary Redirect", lambda _: b"", "Location: https://evil.example/?{}"),
    "a redirect to itself": says_back("308 Permanent Redirect", lambda _: b"", "Location: /token?{}"),
    "a token that is a number": plain(b'{"access_token":7,"expires_in":3600}'),
    "a token that is a list": plain(b'{"access_token":["MARKED"],"expires_in":3600}'),
    "a token that is empty": plain(b'{"access_token":"","expires_in":3600}'),
    "a token with a header in it": plain(b'{"access_token":"MARKED\\r\\nHost: evil.example","expires_in":3600}'),
    "a token in Unicode": plain(b'{"access_token":"MARKED\\u2028","expires_in":3600}'),
    "a token of 1 MB": plain(json.dumps({"access_token": "MARKED" * 180_000, "expires_in": 3600}).encode()),
    "an end that is a word": plain(b'{"access_token":"MARKED","expires_in":"soon"}'),
    "an end that never comes": plain(b'{"access_token":"MARKED","expires_in":1e308}'),
    "an infinite end": plain(b'{"access_token":"MARKED","expires_in":Infinity}'),
    "an end of 10,000 digits": plain(b'{"access_token":"MARKED","expires_in":' + b"9" * 10_000 + b"}"),
    "no JSON": plain(b"hello"),
    "no object": plain(b'["MARKED"]'),
    "no UTF-8": plain(b'{"access_token":"\xff\xfe"}'),
    "deep JSON": plain(b"[" * 100_000),
    "HTML": plain(b"<html>Sign in</html>"),
    "nothing": raw(),
    "no HTTP": raw(b"hello\r\n"),
    "a body that is cut off": raw(head("200 OK", "Content-Length: 99"), b'{"access_token":"MARKED"'),
    "200 MB": for_ever(bytes(2**20), first=head("200 OK", f"Content-Length: {200 * 2**20}"), times=200),
    "an endless body": for_ever(b" " * 65536, first=head()),
    "a gzip bomb": lambda request: packed(bomb())(request),
    "an error with an endless body": for_ever(b"MARKED" * 9999, first=head("400 Bad Request")),
    "endless headers": for_ever(b"X-Y: z\r\n" * 9999, first=head()[:-2]),
    "a slow drip": for_ever(b" ", first=head(), every=0.05),
    "packed garbage": packed(b"MARKED", "400 Bad Request"),
    "a packed error": packed(gzip.compress(b'{"error":"invalid_grant"}'), "400 Bad Request"),
}


@pytest.mark.parametrize("play", TOKENS.values(), ids=TOKENS)
def test_a_hostile_token_server(play: Play, search: Search, strangers: list[str]) -> None:
    """Whatever a token server responds: one clear error of the tree that names the account, in time, and no secret."""
    with HostileServer(play) as tokens, HostileServer(plain(b"{}")) as api:
        identity = identity_for(search.settings(tokens, api))
        for kind in KINDS:
            begun = time.monotonic()
            with Client(kind, api.url, identity=identity, retries=0) as client:
                with pytest.raises((CredentialsError, TransportError), match=f"no token for {EMAIL}") as caught:
                    client.get(REFERENCE)
                search.raised(caught.value)
            assert time.monotonic() - begun < 8
            assert len(str(caught.value)) < 600
            assert not identity._lasts(REFRESH_MARGIN)
        assert 2 <= len(tokens.heard) <= 20
        assert api.heard == [], "nothing was sent without a token"
        search.sent(tokens)
        search.said(identity)
    assert strangers == []


def test_a_token_server_that_says_back_a_clear_error(search: Search) -> None:
    """What is harmless in the token server's words is kept: it is what one needs to know."""
    words = {"error": "invalid_grant", "error_description": "Invalid JWT: check your iat and exp values."}
    with HostileServer(plain(json.dumps(words).encode(), "400 Bad Request")) as tokens:
        with pytest.raises(
            CredentialsError, match="invalid_grant: Invalid JWT: check your iat and exp values"
        ) as caught:
            identity_for(search.settings(tokens)).headers()
        search.raised(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        {"keyfile_dict": {"type": "service_account", "private_key": "MARKED", "client_email": "e"}},
        {"keyfile_dict": '{"private_key": "MARKED'},
        {"keyfile_dict": ["MARKED"]},
        {
            "keyfile_dict": {
                "type": "service_account",
                "private_key": {"MARKED": 1},
                "token_uri": "u",
                "client_email": "e",
            }
        },
        {"keyfile_dict": {"MARKED": "MARKED"}},
        {"keyfile_dict": {"private_key": "MARKED"}, "num_retries": "many"},
        {"keyfile_dict": {"private_key": "MARKED"}, "api_endpoint": "ftp://x"},
        {"keyfile_dict": {"private_key": "MARKED"}, "key_path": "/x.json"},
        {"keyfile_dict": {"private_key": "MARKED"}, "emulator": True},
    ],
    ids=str,
)
def test_a_connection_that_cannot_be_used(
    extra: dict[str, Any], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with a connection is said without its content, also by the button in the UI."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({"conn_type": "google_lro", "extra": extra}))
    hook = OperationsHook("datafusion")
    with pytest.raises(OperationsError) as caught:
        hook.get(NAME)
    search.raised(caught.value)
    good, words = hook.test_connection()
    assert not good
    search.said(words, hook, vars(hook).get("_settings"))


# -- Airflow ---------------------------------------------------------------------------------------------

API: dict[str, Play] = {
    "done": plain(json.dumps({"name": NAME, "done": True, "response": {"a": 1}}).encode()),
    "done, says back": repeats("200 OK", "operation"),
    "refused, says back": repeats("403 Forbidden", "message"),
    "HTML, says back": repeats("404 Not Found", "HTML"),
    "redirected": plain(b"", "302 Found", "Location: https://evil.example/"),
    "a bomb": lambda request: packed(bomb())(request),
}


@pytest.mark.parametrize("play", API.values(), ids=API)
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_a_task_leaves_behind(
    play: Play, deferrable: bool, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Result, XComs, records, rendered fields, trigger and event of a task with a real key."""
    from airflow.providers.common.compat.sdk import TaskDeferred

    from airflow_lro_provider.sensors.operations import OperationSensor
    from tests.airflow.played import PlayedTry, Store
    from tests.airflow.versions import may_execute

    with HostileServer(good_token) as tokens, HostileServer(play) as api:
        extra = {"keyfile_dict": search.key(tokens.url), "api_endpoint": api.url, "num_retries": 0}
        definition = {"conn_type": "google_lro", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(definition))
        sensor = OperationSensor(
            task_id="t", operation_name=NAME, service="datafusion", deferrable=deferrable, cancel_on_kill=True,
            poke_interval=0.01, timeout=0.2,
        )  # fmt: skip
        may_execute(sensor)
        a_try = PlayedTry(None, Store())  # type: ignore[arg-type]
        try:
            search.said(sensor.execute(a_try.context))
        except TaskDeferred as deferred:
            search.said(deferred, deferred.kwargs, deferred.trigger, deferred.trigger.serialize())
            search.said(asyncio.run(_event(deferred.trigger)))
        except Exception as error:
            search.raised(error)
        search.said(a_try.pushed, dict(a_try.store), sensor, {f: getattr(sensor, f) for f in sensor.template_fields})
        assert tokens.heard, "there was a token to lose"
        search.sent(tokens)


async def _event(trigger: Any) -> Any:
    trigger.trigger_id = 7
    events = [event async for event in trigger.run()]
    await trigger.cleanup()
    return [event.payload for event in events]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wait_tells_no_secret_while_it_goes_on(kind: str, search: Search) -> None:
    """The lines that a wait writes about trouble and progress are searched too."""
    running = json.dumps({"name": NAME, "metadata": {"statusMessage": "so far so good"}}).encode()
    done = plain(json.dumps({"name": NAME, "done": True}).encode())
    plays = [repeats("503 Unavailable", "message"), repeats("200 OK", "HTML"), plain(running), done]
    with HostileServer(good_token) as tokens, HostileServer(*plays) as api:
        identity = identity_for(search.settings(tokens, api))
        lines: list[str] = []
        with Client(kind, api.url, identity=identity) as client:
            client.wait_until_done(REFERENCE, new_schedule(time.monotonic()), on_change=lines.append)
        assert len(lines) == 4
        search.said(*lines)
        search.sent(tokens)


# -- the filter ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        ACCESS_TOKEN,
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJyb2JvdCJ9.c2lnbmF0dXJl",
        "1//0gMARKED-refresh-token_0123456789",
        "GOCSPX-MARKED_client-secret",
        "Bearer MARKEDMARKEDMARKED",
        "bearer%20MARKEDMARKEDMARKED",
        "Basic TUFSS0VEOk1BUktFRA==",
        "-----BEGIN PRIVATE KEY-----\nMARKED\nMARKED\n-----END PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\\nMARKED",
        "q" * 100,
    ],
)
def test_what_looks_like_a_secret_is_hidden(secret: str) -> None:
    """Wherever it stands in a text; the text around it stays."""
    for text in ("before {} after", "'{}'", "x={}", "\n{}\n", '{{"a":"{}"}}'):
        hidden = without_secrets(text.format(secret))
        assert secret not in hidden
        assert "[hidden]" in hidden
        assert "before" in hidden or "before" not in text


@pytest.mark.parametrize(
    "text",
    [
        "Permission 'developerconnect.operations.cancel' denied on resource 'projects/p/locations/l/operations/o'",
        "projects/my-project/locations/us-central1/operations/operation-1731938475000-60a1b2c3d4e5f-abcdef01-23456789",
        "invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.",
        "//us-central1-aiplatform.googleapis.com/projects/123456789012/locations/us-central1/endpoints/1/operations/2",
        "https://console.developers.google.com/apis/api/datafusion.googleapis.com/overview?project=123456789012",
        "robot@my-project-with-a-rather-long-name.iam.gserviceaccount.com lacks roles/iam.serviceAccountTokenCreator",
        "Basic instances cannot be restarted; the bearer of bad news",
    ],
)
def test_what_one_needs_to_know_stays(text: str) -> None:
    """Names, permissions, addresses and the usual explanations are not taken for secrets."""
    assert without_secrets(text) == text
