"""How tokens are requested: once, in time, and so that nothing secret is said or goes where it does not belong."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import pytest
from google.auth import _helpers

from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import RENEWAL_PAUSE_SECONDS, Identity
from airflow_lro_provider.lro.auth.token_transport import TokenTransport
from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    CredentialsError,
    ForbiddenEndpointError,
    OperationsError,
    TransportError,
)
from airflow_lro_provider.lro.http.body import MAX_BYTES
from airflow_lro_provider.lro.http.messages import Response
from airflow_lro_provider.lro.http.session import BoundedSession
from airflow_lro_provider.lro.redaction import in_brief
from tests.contract.identity_servers import CLIENT_ID, EMAIL, Asked, IdentityServers


def read(**extra: Any) -> ConnectionSettings:
    """The settings of a connection with this extra."""
    return ConnectionSettings.from_extra(extra, conn_id="my_google")


def spread(identity: Identity, *, threads: int, loops: int, tasks: int) -> list[Any]:
    """Ask for headers from many threads, and from many tasks of several event loops, all at once."""
    start = threading.Barrier(threads + loops)
    results: list[Any] = []

    def of_a_thread() -> None:
        start.wait()
        try:
            results.append(identity.headers())
        except OperationsError as error:
            results.append(error)

    def of_a_loop() -> None:
        async def all_tasks() -> list[Any]:
            return await asyncio.gather(*(identity.async_headers() for _ in range(tasks)), return_exceptions=True)

        start.wait()
        results.extend(asyncio.run(all_tasks()))

    workers = [threading.Thread(target=of_a_thread) for _ in range(threads)]
    workers += [threading.Thread(target=of_a_loop) for _ in range(loops)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


def hold_until_all_wait(servers: IdentityServers) -> None:
    """The server responds a little later, so that everybody has come before its first response."""
    servers.gate = threading.Event()
    threading.Timer(0.3, servers.gate.set).start()


# --- once ------------------------------------------------------------------------------------------


def test_threads_and_event_loops_at_once_ask_for_one_token(servers: IdentityServers) -> None:
    """Eight threads and three event loops with ten tasks each are served by one request to the token server."""
    hold_until_all_wait(servers)
    identity = identity_for(read(keyfile_dict=servers.key))
    results = spread(identity, threads=8, loops=3, tasks=10)
    assert len(results) == 38
    assert {result["authorization"] for result in results} == {f"Bearer {servers.tokens[0]}"}
    assert servers.journey() == ["key"]


def test_a_failure_is_shared_too(servers: IdentityServers) -> None:
    """Everybody who waited hears of one refusal: a refused key is not tried once for each of them."""
    servers.answer["key"] = lambda _: (400, {"error": "invalid_grant", "error_description": "Account disabled"})
    hold_until_all_wait(servers)
    identity = identity_for(read(keyfile_dict=servers.key))
    results = spread(identity, threads=8, loops=2, tasks=5)
    assert {type(result) for result in results} == {CredentialsError}
    assert len({id(result) for result in results if "Account disabled" in str(result)}) >= 8
    assert servers.journey() == ["key"]


def test_many_connections_with_the_same_account_are_one(servers: IdentityServers) -> None:
    """Identities that many threads need at once are built once: a secret is read once."""
    servers.secret = servers.key
    hold_until_all_wait(servers)
    settings = read(key_secret_name="my-key")
    found: list[Identity] = []
    threads = [threading.Thread(target=lambda: found.append(identity_for(settings))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(map(id, found))) == 1
    assert servers.count("secret") == 1


def test_one_that_waits_for_a_server_keeps_no_other_waiting(servers: IdentityServers) -> None:
    """While Secret Manager is slow for one connection, another one is built all the same."""
    servers.secret, servers.gate = servers.key, threading.Event()
    slow = threading.Thread(target=lambda: identity_for(read(key_secret_name="my-key")))
    slow.start()
    assert identity_for(read(keyfile_dict=servers.key)).description == EMAIL
    assert slow.is_alive()
    servers.gate.set()
    slow.join()


def test_the_thread_of_a_kill_does_not_wait_for_a_renewal_that_hangs(servers: IdentityServers) -> None:
    """A refresh that was stopped in the middle, by the very signal that kills the task, holds no cancel up."""
    identity = identity_for(read(keyfile_dict=servers.key))
    servers.gate = threading.Event()
    stopped = threading.Thread(target=identity.headers)
    stopped.start()
    while not servers.asked:
        stopped.join(0.01)
    gate, servers.gate = servers.gate, None
    assert identity.headers(urgent=True)["authorization"] == f"Bearer {servers.tokens[0]}"
    assert stopped.is_alive()
    gate.set()
    stopped.join()


def test_a_signal_in_the_middle_of_a_refresh_is_not_the_others(servers: IdentityServers) -> None:
    """Whoever waited for a refresh that a signal's exception ended gets the token by a refresh of its own."""
    first, second = threading.Event(), threading.Event()

    class Interrupted:
        token, expiry, calls = None, None, 0

        def refresh(self, request: Any) -> None:
            self.calls += 1
            if self.calls == 1:
                first.set()
                second.wait(5)
                raise KeyboardInterrupt
            self.token = "good"

        def apply(self, headers: dict[str, str]) -> None:
            headers["authorization"] = f"Bearer {self.token}"

    identity = Identity(Interrupted())  # type: ignore[arg-type]
    results: list[Any] = []

    def of_the_interrupted() -> None:
        try:
            identity.headers()
        except KeyboardInterrupt as signal:
            results.append(signal)

    threads = [threading.Thread(target=of_the_interrupted)]
    threads[0].start()
    first.wait(5)
    threads.append(threading.Thread(target=lambda: results.append(identity.headers())))
    threads[1].start()
    threads[1].join(0.1)
    second.set()
    for thread in threads:
        thread.join()
    assert {type(result) for result in results} == {KeyboardInterrupt, dict}
    assert {"authorization": "Bearer good"} in results


@pytest.mark.parametrize("place", ["file", "secret"])
def test_a_key_that_was_replaced_is_read_anew(servers: IdentityServers, tmp_path: Path, place: str) -> None:
    """A process that lives for weeks takes up a new key in the old place, once the old one is refused; not before."""
    old = {**servers.key, "client_email": "deleted@my-project.iam.gserviceaccount.com"}
    path = tmp_path / "key.json"
    settings = read(key_path=str(path)) if place == "file" else read(key_secret_name="my-key")
    path.write_text(json.dumps(old), encoding="utf-8")
    servers.secret = old
    stale = identity_for(settings)
    path.write_text(json.dumps(servers.key), encoding="utf-8")
    servers.secret = servers.key
    assert identity_for(settings) is stale
    with pytest.raises(CredentialsError, match="deleted@my-project"):
        stale.headers()
    fresh = identity_for(settings)
    assert fresh.headers()["authorization"] == f"Bearer {servers.tokens[-1]}"
    assert identity_for(settings) is fresh


def test_many_who_learn_of_a_revoked_token_ask_for_one_other(servers: IdentityServers) -> None:
    """Everybody rejects the same token, in any order; one renewal serves all, and a late no means nothing."""
    identity = identity_for(read(keyfile_dict=servers.key))
    revoked = identity.headers()
    hold_until_all_wait(servers)
    results: list[Any] = []

    def learn() -> None:
        identity.reject(revoked)
        identity.reject(revoked)
        results.append(identity.headers())

    threads = [threading.Thread(target=learn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    identity.reject(revoked)
    assert [*results, identity.headers()] == [{"authorization": f"Bearer {servers.tokens[1]}"}] * 9
    assert servers.count("key") == 2


# --- in time ---------------------------------------------------------------------------------------


def age(identity: Identity, left: timedelta) -> None:
    """Let the current token be valid for this long only."""
    assert identity._credentials is not None
    identity._credentials.expiry = _helpers.utcnow() + left  # type: ignore[no-untyped-call]


def test_a_token_is_renewed_before_it_ends(servers: IdentityServers) -> None:
    """With less than five minutes left, the next request gets another token; with more, none is requested."""
    identity = identity_for(read(keyfile_dict=servers.key))
    identity.headers()
    age(identity, timedelta(minutes=6))
    identity.headers()
    assert servers.count("key") == 1
    age(identity, timedelta(minutes=4))
    assert identity.headers()["authorization"] == f"Bearer {servers.tokens[1]}"
    assert servers.count("key") == 2


def test_a_renewal_that_fails_does_not_matter_while_the_token_is_good(servers: IdentityServers) -> None:
    """A token server that is down for minutes fails nobody, and gets the next request only after a pause."""
    now = 0.0
    credentials = identity_for(read(keyfile_dict=servers.key))._credentials
    identity = Identity(credentials, clock=lambda: now)
    good = identity.headers()
    age(identity, timedelta(minutes=4))
    servers.answer["key"] = lambda _: (400, {"error": "invalid_grant"})
    assert [identity.headers(), identity.headers(), asyncio.run(identity.async_headers())] == [good] * 3
    assert servers.count("key") == 2
    now = RENEWAL_PAUSE_SECONDS + 1
    assert identity.headers() == good
    assert servers.count("key") == 3
    age(identity, timedelta(seconds=5))
    with pytest.raises(CredentialsError):
        identity.headers()


async def test_the_event_loop_is_not_blocked(servers: IdentityServers) -> None:
    """While the token server takes its time, the loop goes on."""
    servers.gate = threading.Event()
    identity = identity_for(read(keyfile_dict=servers.key))
    waiting = asyncio.create_task(identity.async_headers())
    while not servers.asked:
        await asyncio.sleep(0.01)  # would never come back if the loop were blocked
    servers.gate.set()
    assert (await waiting)["authorization"] == f"Bearer {servers.tokens[0]}"


# --- what is refused, and in which words -----------------------------------------------------------


def federated(servers: IdentityServers, folder: Path, **more: Any) -> dict[str, Any]:
    """The extra of a federated connection."""
    path = folder / "subject"
    path.write_text(servers.subject, encoding="utf-8")
    return {"credential_config_file": servers.federation({"file": str(path)}), **more}


def with_idp(servers: IdentityServers, folder: Path, **more: Any) -> dict[str, Any]:
    """The extra of a connection with an identity provider."""
    return {
        "credential_config_file": servers.federation(None),
        "idp_issuer_url": f"{servers.url}/idp/token",
        "client_id": CLIENT_ID,
        "client_secret": servers.client_secret,
        **more,
    }


def with_key(servers: IdentityServers, folder: Path, **more: Any) -> dict[str, Any]:
    """The extra of a connection with a key."""
    return {"keyfile_dict": servers.key, **more}


def with_secret(servers: IdentityServers, folder: Path, **more: Any) -> dict[str, Any]:
    """The extra of a connection whose key is in Secret Manager."""
    servers.secret = servers.key
    return {"key_secret_name": "my-key", **more}


def with_login(servers: IdentityServers, folder: Path, **more: Any) -> dict[str, Any]:
    """The extra of a connection with a user's login."""
    return {"credential_config_file": servers.login, **more}


def on_google(servers: IdentityServers, folder: Path, **more: Any) -> dict[str, Any]:
    """An empty connection, on a machine of Google."""
    return more


Extra = Callable[..., dict[str, Any]]
# Which server comes last when a connection of this kind gets its token, and what an error then advises.
STEPS: dict[str, tuple[Extra, dict[str, Any], str, str]] = {
    "key": (with_key, {}, "key", "Check the key and the account"),
    "federation": (federated, {}, "sts", "its audience, and the pool's provider"),
    "identity provider": (with_idp, {}, "idp", "`idp_issuer_url`, `client_id`, `client_secret`"),
    "exchange of the provider's": (with_idp, {}, "sts", "its audience, and the pool's provider"),
    "impersonation": (with_key, {"impersonation_chain": "target@x"}, "iam", "roles/iam.serviceAccountTokenCreator"),
    "Secret Manager": (with_secret, {"key_secret_project_id": "p"}, "secret", "roles/secretmanager.secretAccessor"),
    "login": (with_login, {}, "login", "gcloud auth application-default login"),
    "machine": (on_google, {}, "metadata", "a service account attached"),
}


def echo_in_words(asked: Asked) -> tuple[int, Any]:
    """A server that says what it was sent: in OAuth's error, in its description."""
    return 400, {"error": "invalid_grant", "error_description": f"You sent {asked.form} with {asked.headers}"}


def echo_in_status(asked: Asked) -> tuple[int, Any]:
    """The same as google.rpc.Status."""
    message = f"You sent {json.dumps(asked.form)} with {asked.headers}"
    return 403, {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": message}}


def echo_as_text(asked: Asked) -> tuple[int, Any]:
    """The same, not even in JSON."""
    return 400, f"{asked.form} {asked.headers}".encode()


def echo_without_a_token(asked: Asked) -> tuple[int, Any]:
    """Good news that has no token, but all that was sent."""
    return 200, {"sent": str(asked.form), "headers": asked.headers, "expires_in": 3600, "email": "m@x"}


def no_json(asked: Asked) -> tuple[int, Any]:
    """Good news that cannot be read, and that quotes what was sent."""
    return 200, f"{asked.form} {asked.headers}".encode()


class Everything(logging.Handler):
    """Keeps every record of every logger, with what formatters usually leave out."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record whole."""
        self.lines.append(f"{record.getMessage()} {vars(record)!r}")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """All that is logged at DEBUG, by anybody, also by google-auth, where it has to be enabled."""
    handler = Everything()
    loggers = [logging.getLogger(name) for name in (None, "google", "google.auth", "urllib3", "requests")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    yield handler.lines
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


def all_of(error: BaseException) -> str:
    """Whatever can be printed of an error: itself, its chain, its traceback."""
    chain: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and one not in chain:
            chain.append(one)
            pending += [one.__cause__, one.__context__]
    printed = "".join(traceback.format_exception(error))
    return " ".join([printed, *(f"{one} {one!r} {one.args} {vars(one)}" for one in chain)])


@pytest.mark.parametrize(
    "echo", [echo_in_words, echo_in_status, echo_as_text, echo_without_a_token, no_json], ids=lambda echo: echo.__name__
)
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_no_secret_is_said(
    servers: IdentityServers,
    tmp_path: Path,
    logged: list[str],
    step: tuple[Extra, dict[str, Any], str, str],
    echo: Callable[[Asked], tuple[int, Any]],
) -> None:
    """Servers that quote all they were sent make no error, repr or log line of ours hold a secret."""
    extra, more, last, _ = step
    settings = read(**extra(servers, tmp_path, **more))
    servers.answer[last] = echo
    with pytest.raises(OperationsError) as caught:
        identity_for(settings).headers()
    assert servers.count(last) >= 1
    said = all_of(caught.value) + repr(settings) + " ".join(map(repr, [*servers_identities(), caught]))
    assert "\n" not in str(caught.value)
    for secret in servers.secrets:
        assert secret not in said
        assert not [line for line in logged if secret in line]


def test_no_secret_is_said_in_the_spelling_of_a_form(servers: IdentityServers, tmp_path: Path) -> None:
    """A server that quotes a password as it was written in the request's form is not quoted either."""
    servers.client_secret = "s+cr/t pass"
    servers.answer["idp"] = lambda asked: (
        400,
        {"error": f"sent {quote_plus(asked.form['client_secret'])}, {asked.form}"},
    )
    with pytest.raises(CredentialsError, match=r"sent \[hidden\], ") as caught:
        identity_for(read(**with_idp(servers, tmp_path))).headers()
    assert "cr/t" not in str(caught.value)
    assert "cr%2Ft" not in str(caught.value)


def servers_identities() -> list[Identity]:
    """All identities of this process."""
    from airflow_lro_provider.lro.auth import credentials

    return list(credentials._identities.values())


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_no_secret_is_logged_when_all_is_well(
    servers: IdentityServers, tmp_path: Path, logged: list[str], step: tuple[Extra, dict[str, Any], str, str]
) -> None:
    """Getting a token leaves no trace of it in any log, at DEBUG neither."""
    extra, more, last, _ = step
    settings = read(**extra(servers, tmp_path, **more))
    identity = identity_for(settings)
    assert identity.headers()["authorization"].endswith(servers.tokens[-1])
    assert servers.count(last) >= 1
    assert logged, "urllib3 at least says that it connects"
    for secret in servers.secrets:
        assert secret not in repr(settings) + repr(identity) + str(settings) + identity.kind
        assert not [line for line in logged if secret in line]


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_refusal_says_who_refused_and_what_to_do(
    servers: IdentityServers, tmp_path: Path, step: tuple[Extra, dict[str, Any], str, str]
) -> None:
    """Each kind of refusal is one line with the server's own reason, its name, and the cure."""
    extra, more, last, cure = step
    settings = read(**extra(servers, tmp_path, **more))
    if last == "metadata":
        identity_for(settings)  # the machine is known by its metadata server; the token is what is refused
    servers.answer[last] = lambda _: (403, {"error": "access_denied", "error_description": "Not today."})
    with pytest.raises(CredentialsError) as caught:
        identity_for(settings).headers()
    assert f"access_denied: Not today ({urlsplit(servers.url).hostname}, HTTP 403)" in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize("step", [step for step in STEPS if step != "machine"])
def test_a_server_that_is_busy_is_a_bad_moment(
    servers: IdentityServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """503 on any step of the way is transient: the credentials are not to blame."""
    from google.auth import _exponential_backoff

    monkeypatch.setattr(_exponential_backoff.time, "sleep", lambda _: None)
    extra, more, last, _ = STEPS[step]
    servers.answer[last] = lambda _: (503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}})
    with pytest.raises(TransportError, match=r"now: .*HTTP 503") as caught:
        identity_for(read(**extra(servers, tmp_path, **more))).headers()
    assert caught.value.transient


@pytest.mark.parametrize("status", [200, 400, 503])
@pytest.mark.parametrize("step", [step for step in STEPS if step != "machine"])
def test_an_answer_without_end_is_one_clear_error(
    servers: IdentityServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, status: int
) -> None:
    """On every step of the way, a response over the limit is an error that says so and is not requested again."""
    from google.auth import _exponential_backoff

    monkeypatch.setattr(_exponential_backoff.time, "sleep", lambda _: None)
    extra, more, last, _ = STEPS[step]
    servers.answer[last] = lambda _: (status, b" " * (MAX_BYTES + 1))
    with pytest.raises((CredentialsError, TransportError)) as caught:
        identity_for(read(**extra(servers, tmp_path, **more))).headers()
    if status == 200:
        assert "127.0.0.1 sent a response that cannot be read: it is larger than 8388608 bytes" in str(caught.value)
        assert isinstance(caught.value, CredentialsError)
        assert servers.count(last) == 1
    else:
        assert f"127.0.0.1 responded with HTTP {status}" in str(caught.value)


@pytest.mark.parametrize("content", [None, [], "text", {"type": "authorized_user"}], ids=repr)
def test_a_secret_that_holds_no_key(servers: IdentityServers, content: Any) -> None:
    """What a secret holds instead of a key is not quoted."""
    servers.secret = content
    with pytest.raises(ConnectionSettingsError, match="secret 'my-key' holds no usable key of a service account"):
        identity_for(read(key_secret_name="my-key"))


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '"x"', "{}", '{"type": "s3cret"}', '{"type": "external_account", "audience": "s3cret"}'],
)
def test_a_configuration_that_is_none(nobody: None, tmp_path: Path, content: str) -> None:
    """A credential configuration that cannot be used is refused in one sentence that does not quote it."""
    path = tmp_path / "configuration.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConnectionSettingsError, match="holds no usable credential configuration") as caught:
        identity_for(read(credential_config_file=str(path)))
    assert "s3cret" not in all_of(caught.value)


def test_a_configuration_that_is_not_there(nobody: None, tmp_path: Path) -> None:
    """A path that cannot be read is named."""
    with pytest.raises(
        ConnectionSettingsError, match=r"`credential_config_file` '.*nowhere' could not be read: No such"
    ):
        identity_for(read(credential_config_file=str(tmp_path / "nowhere")))


# --- nothing goes where it does not belong ---------------------------------------------------------


def test_a_redirect_is_not_followed(servers: IdentityServers) -> None:
    """A token server that sends one elsewhere gets no second letter, and neither does the place it names."""
    with IdentityServers() as elsewhere:
        servers.location = f"{elsewhere.url}/token"
        servers.answer["key"] = lambda _: (307, {"error": "moved"})
        with pytest.raises(CredentialsError, match=r"a redirect, which is not followed \(127\.0\.0\.1, HTTP 307\)"):
            identity_for(read(keyfile_dict=servers.key)).headers()
        assert (servers.journey(), elsewhere.asked) == (["key"], [])


def test_netrc_does_not_replace_the_token(
    servers: IdentityServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is in ~/.netrc for a host of Google is not sent in the place of the token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    extra = with_key(servers, tmp_path, impersonation_chain="target@x")
    assert identity_for(read(**extra)).headers()["authorization"] == f"Bearer {servers.tokens[-1]}"


@pytest.mark.parametrize("field", ["token_uri", "token_url", "idp_issuer_url", "service_account_impersonation_url"])
def test_no_secret_travels_in_the_clear(servers: IdentityServers, tmp_path: Path, field: str) -> None:
    """Plain http to another machine is refused before anything is sent, whoever wants it."""
    clear = "http://tokens.example/v1/x:generateAccessToken"
    if field == "token_uri":
        extra = {"keyfile_dict": {**servers.key, "token_uri": clear}}
    elif field == "idp_issuer_url":
        extra = with_idp(servers, tmp_path, idp_issuer_url=clear)
    else:
        configuration = federated(servers, tmp_path)["credential_config_file"]
        extra = {"credential_config_file": {**configuration, field: clear}}
    with pytest.raises(
        ForbiddenEndpointError, match=r"a secret would be sent over plain http to http://tokens\.example; use https"
    ):
        identity_for(read(**extra)).headers()


@pytest.mark.parametrize(
    ("url", "method", "headers", "fine"),
    [
        ("http://127.0.0.1:1/x", "POST", {}, True),
        ("http://[::1]:1/x", "POST", {}, True),
        ("http://localhost:1/x", "POST", {}, True),
        ("http://169.254.169.254:1/latest/api/token", "PUT", {}, True),
        ("http://metadata.google.internal:1/x", "GET", {}, True),
        ("http://token-source.svc:1/x", "GET", {}, True),
        ("http://token-source.svc:1/x", "GET", {"Authorization": "Bearer x"}, False),
        ("http://token-source.svc:1/x", "POST", {}, False),
        ("http://localhost.evil.example/x", "POST", {}, False),
        ("http://127.0.0.1.evil.example/x", "POST", {}, False),
        ("ftp://tokens.example/x", "POST", {}, False),
    ],
)
def test_where_plain_http_is_fine(
    monkeypatch: pytest.MonkeyPatch, url: str, method: str, headers: dict[str, str], fine: bool
) -> None:
    """Only this machine, its metadata server, and what gets no secret may be reached without TLS."""
    sent: list[str] = []

    def fetch(_: BoundedSession, method: str, url: str, **__: Any) -> Response:
        sent.append(url)
        return Response(200, {}, b"{}")

    transport = TokenTransport()
    monkeypatch.setattr(BoundedSession, "fetch", fetch)
    if fine:
        transport(url, method=method, headers=headers)
    else:
        with pytest.raises(ForbiddenEndpointError):
            transport(url, method=method, headers=headers)
    assert sent == ([url] if fine else [])


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Invalid JWT Signature.", "Invalid JWT Signature"),
        ("token ya29.a0Af-x_y is old", "token [hidden] is old"),
        ("got eyJhbGciOi.eyJpc3Mi.c2ln here", "got [hidden] here"),
        ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nmore", "[hidden]"),
        ("key " + "A1b2" * 12, "key [hidden]"),
        ("you sent hush now", "you sent [hidden] now"),
        ("one\ntwo", "one"),
        ("", ""),
        (
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)",
        ),
    ],
)
def test_what_a_token_server_says_in_brief(text: str, left: str) -> None:
    """What looks like a secret is taken out of a text, what helps stays."""
    assert in_brief(text, ("hush",)) == left


# --- test_connection -------------------------------------------------------------------------------


def button(monkeypatch: pytest.MonkeyPatch, service: str | None = None, **extra: Any) -> tuple[bool, str]:
    """Press the button of the web interface."""
    definition = {"conn_type": "google_lro", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(definition))
    return OperationsHook(service=service).test_connection()


CLOUD = "https://www.googleapis.com/auth/cloud-platform"
EARTH = "https://www.googleapis.com/auth/earthengine"


def test_the_button_says_who_and_with_which_scopes(servers: IdentityServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good news names the account, its kind and the scopes."""
    good = f"Got a token for {EMAIL} (key of a service account). Scopes: {CLOUD}."
    assert button(monkeypatch, keyfile_dict=servers.key) == (True, good)
    assert button(monkeypatch, is_anonymous=True) == (
        True,
        "Requests are sent without a token: Google's own APIs refuse them (`is_anonymous`).",
    )


def test_the_button_says_which_scope_is_missing(servers: IdentityServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scopes that an API does not take are named with those that it does."""
    _, words = button(monkeypatch, keyfile_dict=servers.key, scope=EARTH)
    assert words.endswith(f". Other APIs than Earth Engine need another one: add {CLOUD} to `scope`.")
    _, words = button(monkeypatch, keyfile_dict=servers.key, scope=f"{EARTH}-x")
    assert words.endswith(f". Every API needs another one: add {CLOUD} to `scope`.")
    _, words = button(monkeypatch, service="datafusion", keyfile_dict=servers.key, scope=EARTH)
    assert words.endswith(f". Data Fusion needs another one: add {CLOUD} to `scope`.")
    _, words = button(monkeypatch, service="earthengine", keyfile_dict=servers.key, scope=EARTH)
    assert words.endswith(f"Scopes: {EARTH}.")


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_the_button_says_what_is_wrong_without_a_secret(
    servers: IdentityServers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[Extra, dict[str, Any], str, str],
) -> None:
    """Bad news is one line with a cure, whatever the server quotes."""
    extra, more, last, cure = step
    servers.answer[last] = echo_in_words
    good, words = button(monkeypatch, **extra(servers, tmp_path, **more))
    assert not good
    assert last == "metadata" or cure in words
    assert not [secret for secret in servers.secrets if secret in words]


def test_without_credentials_the_help_page_is_said(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """C11: the redaction leaves the URL of Google's help page in the error."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(
        CredentialsError, match=r"see https://cloud\.google\.com/[\w/-]+ for more information\. Give the"
    ):
        identity_for(read())
