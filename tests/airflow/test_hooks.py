"""The hooks: the only readers of Airflow connections."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import pytest

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.hooks.connections import CONNECTION_TYPES
from airflow_lro_provider.hooks.operations import OperationsAsyncHook, OperationsHook
from airflow_lro_provider.lro.auth.credentials import FAKE_TOKEN
from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    ForbiddenEndpointError,
    InvalidReferenceError,
    InvalidRequestError,
    NotFoundError,
    UnknownServiceError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.operation import Outcome
from tests.airflow.played import replace_the_key
from tests.airflow.versions import since_3_2

NAME = "projects/p/locations/us-central1/operations/o"


def connect(monkeypatch: pytest.MonkeyPatch, extra: Any, conn_id: str = "google_cloud_default", **fields: Any) -> None:
    """Define a connection in the environment, as JSON."""
    definition = {"conn_type": "google_lro", "extra": extra, **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(definition))


def test_the_hook_speaks_to_the_server_of_the_connection(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """get, list, wait, cancel and delete, by a name and with the default connection."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    hook = OperationsHook(service="datafusion")
    name = lro_emulator.create("datafusion", duration=None)
    assert hook.get(name).done is False
    assert [operation.name for operation in hook.list(name.rpartition("/operations/")[0])] == [name]
    with pytest.raises(WaitTimeoutError):
        hook.wait(name, timeout=0)
    assert hook.cancel({"name": name}).word == "REQUESTED"
    assert hook.wait(f"//datafusion.googleapis.com/{name}").outcome is Outcome.CANCELLED
    assert hook.get(f"{lro_emulator.url}/datafusion/v1/{name}").outcome is Outcome.CANCELLED
    hook.delete(name)
    with pytest.raises(NotFoundError):
        hook.get(name)


async def test_names_may_begin_with_their_location(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """B15: names, methods and parents lie in the project of the connection then, for both hooks."""
    extra = json.loads(lro_emulator.airflow_connection_json())["extra"]
    extra = {**(json.loads(extra) if isinstance(extra, str) else extra), "project": "mine"}
    connect(monkeypatch, extra, "in_mine")
    hook = OperationsHook(service="datafusion", gcp_conn_id="in_mine")
    name = hook.start("locations/l/instances?instanceId=x", body={}).name
    assert name.startswith("projects/mine/locations/l/operations/")
    short = name.removeprefix("projects/mine/")
    assert hook.get(short).name == name
    assert [operation.name for operation in hook.list("locations/l")] == [name]
    shared = OperationsAsyncHook(service="datafusion", gcp_conn_id="in_mine")
    assert (await shared.get(short)).name == name
    assert [operation.name async for operation in shared.list("locations/l")] == [name]
    await shared.close()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_white_space_around_a_connections_name_does_not_count(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    """B9: a template, or a shell, has added a newline."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    name = lro_emulator.create("datafusion")
    given = {"service": "datafusion", "gcp_conn_id": " google_cloud_default\n"}
    if asynchronous:
        hook = OperationsAsyncHook(**given)
        assert (await hook.get(name)).name == name
        await hook.close()
    else:
        assert OperationsHook(**given).get(name).name == name


async def test_the_async_hook_does_the_same(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same methods as coroutines."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    hook = OperationsAsyncHook(service="aiplatform", api_version="v1beta1")
    name = lro_emulator.create("aiplatform", duration=None, version="v1beta1")
    assert (await hook.get(name)).done is False
    assert [operation.name async for operation in hook.list(name.rpartition("/operations/")[0])] == [name]
    assert (await hook.cancel(name)).word == "REQUESTED"
    assert (await hook.wait(name)).outcome is Outcome.CANCELLED
    await hook.delete(name)
    await hook.close()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_wait_outlasts_a_key_that_is_not_accepted(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    """Row A10: the connection is read again, and the next requests have its token."""
    name = lro_emulator.create("datafusion", duration=0.4)
    replacing = replace_the_key(lro_emulator, monkeypatch)
    if asynchronous:
        hook = OperationsAsyncHook(service="datafusion")
        operation = await hook.wait(name, poll_interval=0.05)
        await hook.close()
    else:
        operation = OperationsHook(service="datafusion").wait(name, poll_interval=0.05)
    replacing.join()
    assert operation.outcome is Outcome.SUCCEEDED
    assert lro_emulator.requests("get")[-1].authorization


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_numbers_of_hooks_are_read_as_those_of_operators(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    """C3: a timedelta is a duration, and what is none is refused before anything is sent."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    name = lro_emulator.create("datafusion", duration=0)
    parent, method = name.rpartition("/operations/")[0], f"{name.rpartition('/operations/')[0]}/instances?instanceId=x"
    shared, plain = OperationsAsyncHook(service="datafusion"), OperationsHook(service="datafusion")

    async def call(what: str, *args: Any, **numbers: Any) -> Any:
        if what == "list":
            listed = shared.list(*args, **numbers) if asynchronous else plain.list(*args, **numbers)
            return [operation async for operation in listed] if asynchronous else list(listed)
        called = getattr(shared if asynchronous else plain, what)(*args, **numbers)
        return await called if asynchronous else called

    second = timedelta(seconds=1)
    assert (await call("wait", name, timeout=10 * second, poll_interval=second)).outcome is Outcome.SUCCEEDED
    assert (await call("start", method, {}, timeout=30 * second)).name
    assert len(await call("list", parent, page_size=1)) == 2
    sent = len(lro_emulator.requests())
    for numbers in ({"timeout": math.nan}, {"timeout": -1}, {"timeout": "5"}, {"poll_interval": math.nan}):
        with pytest.raises(InvalidRequestError, match="must be a number of seconds"):
            await call("wait", name, **numbers)
    with pytest.raises(InvalidRequestError, match="`poll_interval` must be longer than 0 s"):
        await call("wait", name, poll_interval=0)
    for timeout in (math.nan, -second, 0, "5"):
        with pytest.raises(InvalidRequestError, match="`timeout` must be"):
            await call("start", method, {}, timeout=timeout)
    for size in (-1, 2.5, "3", True):
        with pytest.raises(InvalidRequestError, match="`page_size` must be a whole number"):
            await call("list", parent, page_size=size)
    assert len(lro_emulator.requests()) == sent
    await shared.close()


def test_a_connection_that_cannot_be_read_any_more_leaves_the_old_one(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait goes on with what it knows; and no text of Airflow's, which may quote a secret, is in the error."""
    connect(monkeypatch, lro_emulator.connection_extra())
    hook = OperationsHook(service="datafusion")
    settings = hook.settings

    def broken(self: Any, conn_id: str) -> Any:
        raise RuntimeError("s3cret")

    monkeypatch.setattr(OperationsHook, "get_connection", broken)
    with pytest.raises(ConnectionSettingsError, match=r"cannot be read: RuntimeError$"):
        hook.read_again()
    assert hook.settings is settings


def test_only_a_fake_token_goes_to_an_emulator(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says "emulator" sends a token that is obviously none, even if it holds a key."""
    connect(monkeypatch, {**lro_emulator.connection_extra(), "keyfile_dict": {"private_key": "s3cret"}})
    client = OperationsHook().get_conn()
    assert client.identity.headers() == {"authorization": f"Bearer {FAKE_TOKEN}"}


def test_a_missing_connection_is_said_so() -> None:
    """A named connection that is not there is an error, never a silent other identity."""
    hook = OperationsHook(service="datafusion", gcp_conn_id="nobody_made_it")
    with pytest.raises(ConnectionSettingsError, match=r"'nobody_made_it' is not defined.*gcp_conn_id=None"):
        hook.get(NAME)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"keyfile_dict": '{"private_key": "s3cret'}, "`keyfile_dict` is not valid JSON"),
        ({"keyfile_dict": "[1]"}, "`keyfile_dict` must be a JSON object"),
        ({"keyfile_dict": {"type": "service_account", "private_key": "s3cret"}}, "no usable key"),
        ({"key_path": "/nowhere/key.json"}, "`key_path` '/nowhere/key.json' could not be read"),
        ({"key_path": "/nowhere/key.p12"}, "`key_path` must be the path of a .json"),
        ({"num_retries": "many"}, "`num_retries` must be a whole number"),
        ({"api_endpoint": "http://10.0.0.1/x"}, "plain http to another machine"),
        ({"api_endpoint": "ftp://127.0.0.1"}, "must begin with https://"),
        ({"emulator": True}, "needs `api_endpoint`"),
        pytest.param("no json", "its extra is not a JSON object", marks=since_3_2),
    ],
)
def test_a_connection_that_cannot_be_used_is_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, extra: Any, words: str
) -> None:
    """What is wrong is named by its field; the key itself is not quoted."""
    connect(monkeypatch, extra)
    with pytest.raises((ConnectionSettingsError, ForbiddenEndpointError)) as caught:
        OperationsHook(service="datafusion").get(NAME)
    assert words in str(caught.value)
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("https://datafusion.evil.example/v1/" + NAME, ForbiddenEndpointError),
        ("//datafusion.googleapis.com.evil.example/" + NAME, ForbiddenEndpointError),
        ("http://datafusion.googleapis.com/v1/" + NAME, InvalidReferenceError),
        ("projects/p/operations/o", InvalidReferenceError),
        ({"name": "https://evil.example/v1/" + NAME}, InvalidReferenceError),
    ],
    ids=["foreign", "lookalike", "http", "another service's", "host in an XCom"],
)
def test_nothing_is_sent_to_a_foreign_host(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, name: Any, error: type[Exception]
) -> None:
    """A name that leads elsewhere is refused, and no request is made."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    with pytest.raises(error):
        OperationsHook(service="datafusion").get(name)
    assert lro_emulator.requests() == []


def test_list_needs_a_service(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent does not say its service."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    with pytest.raises(UnknownServiceError, match="`service`"):
        OperationsHook().list("projects/p/locations/l")


def test_test_connection_says_who(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The button in the UI: good news with the place, bad news with the cure."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    good, words = OperationsHook().test_connection()
    assert good
    assert lro_emulator.url in words
    connect(monkeypatch, {**lro_emulator.connection_extra(), "universe_domain": "universe.example"})
    good, words = OperationsHook(service="datafusion.universe.example").test_connection()
    assert good, words
    connect(monkeypatch, {"keyfile_dict": "{"})
    bad, words = OperationsHook().test_connection()
    assert not bad
    assert "keyfile_dict" in words


@pytest.mark.parametrize("kind", ["aws", "http", "generic", "gcp_looker", "google_ads"])
async def test_a_connection_of_another_type_is_refused(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """C11: its extra holds no Google credentials, so it would silently be the application default ones."""
    connect(monkeypatch, lro_emulator.connection_extra(), conn_type=kind)
    words = f"'google_cloud_default' is of type '{kind}', which holds no Google credentials. Give it the type"
    with pytest.raises(ConnectionSettingsError, match=words):
        OperationsHook().read_again()
    with pytest.raises(ConnectionSettingsError, match=words):
        await OperationsAsyncHook().read_again()


@pytest.mark.parametrize("kind", [*CONNECTION_TYPES, "google-cloud-platform", None, ""])
async def test_connections_of_googles_provider_are_used(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    """C11: those types whose extra has the same fields, and a connection that names none."""
    connect(monkeypatch, lro_emulator.connection_extra(), conn_type=kind)
    assert OperationsHook().settings == await OperationsAsyncHook().settings()
