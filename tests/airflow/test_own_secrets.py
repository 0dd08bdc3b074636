"""M2: what a start has sent under a name that tells a secret, against a server that quotes it in its operation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_lro_provider.attempt import attempt
from airflow_lro_provider.emulator.connection import connection_json
from airflow_lro_provider.exceptions import OperationFailedError
from airflow_lro_provider.hooks.operations import OperationsAsyncHook, OperationsHook
from airflow_lro_provider.lro import flows
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.sweep.ledger import LedgerEntry
from airflow_lro_provider.sweep.reconciler import sweep
from airflow_lro_provider.triggers.operations import OperationTrigger
from tests.airflow.played import PlayedTry, Store, Variables
from tests.airflow.test_sweep import PlayedAirflow
from tests.airflow.versions import may_execute
from tests.local_server import Handler, LocalServer

PLACE = "projects/p/locations/us-central1"
NAME = f"{PLACE}/operations/o"
METHOD = f"{PLACE}/instances?instanceId=i"
PASSWORD = 'tr0ub4dor  &"3'  # also where blanks are joined, and quotes escaped
BODY = {"users": [{"name": "root", "rootPassword": {"value": PASSWORD}}]}
ERROR = {
    "code": 3,
    "message": f"the value '{PASSWORD}' is too weak",
    "details": [
        {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "message": f"also: {json.dumps(PASSWORD)}"}
    ],
}
RUNNING = {"name": NAME, "metadata": {"statusMessage": f"setting {PASSWORD}", "target": f"{PLACE}/instances/i"}}
FAILED = {**RUNNING, "done": True, "error": ERROR}


class Quoting(LocalServer):
    """A server whose operations are as it is told, one after the other; the last one stays."""

    def __init__(self) -> None:
        self.operations: list[dict[str, Any]] = []
        self.bodies: list[Any] = []
        outer = self

        class Answer(Handler):
            def answer(self) -> None:
                if self.command == "POST":
                    outer.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"])) or b"null"))
                said = outer.operations.pop(0) if len(outer.operations) > 1 else outer.operations[0]
                is_list = self.path.partition("?")[0].endswith("/operations")
                self.respond({"operations": [said]} if is_list else said)

            do_GET = do_POST = answer  # noqa: N815

        super().__init__(Answer)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Quoting]:
    """A server, and the connection to it."""
    with Quoting() as server:
        server.operations = [RUNNING, RUNNING, FAILED]
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(server.url))
        yield server


def task(**arguments: Any) -> RunOperationOperator:
    """The task, as each process has it anew."""
    given = {"method": METHOD, "service": "datafusion", "body": BODY, "poll_interval": 0.01, **arguments}
    made = RunOperationOperator(task_id="t", **given)
    may_execute(made)
    return made


def run(store: Store, number: int = 1, **arguments: Any) -> Any:
    """Run a try of it."""
    return task(**arguments).execute(PlayedTry(None, store, number, number - 1).context)  # type: ignore[arg-type]


def defer(store: Store, **arguments: Any) -> TaskDeferred:
    """Run a try until it defers, and its guard has polled for the last time."""
    made = task(deferrable=True, **arguments)
    with pytest.raises(TaskDeferred) as caught:
        made.execute(PlayedTry(None, store).context)  # type: ignore[arg-type]
    made._get_guard().first_poll.result(5)  # type: ignore[union-attr]
    made._get_guard().release()
    return caught.value


def resume(store: Store, deferral: TaskDeferred, owner: str | None = None, **arguments: Any) -> Any:
    """Resume it in another process, with an event as a trigger of an older release sends it."""
    event = {"status": "finished", "operation": FAILED, "owner": owner or deferral.kwargs["token"]}
    this = PlayedTry(None, store)  # type: ignore[arg-type]
    return task(deferrable=not owner, **arguments).execute_complete(this.context, event, **deferral.kwargs)


def adopt(store: Store, **arguments: Any) -> Any:
    """Let a second try go on with what a first one has left."""
    defer(store)
    return run(store, 2, **arguments)


WAYS: dict[str, Callable[..., Any]] = {
    "it waits": run,
    "it is finished at once": lambda store, **arguments: run(store, **arguments),
    "it was deferred": lambda store, **arguments: resume(store, defer(store), **arguments),
    "it was resumed for nothing": lambda store, **arguments: resume(store, defer(store), "another", **arguments),
    "it adopts": adopt,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_error_of_an_operation_has_no_secret_of_its_start(
    server: Quoting, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """M2: neither the task's error nor its log quotes a password of the body, in whichever process it ends."""
    if way == "it is finished at once":
        server.operations = [FAILED]
    with pytest.raises(OperationFailedError, match=r"the value '\[hidden\]' is too weak") as caught:
        WAYS[way](Store())
    log = "".join(capfd.readouterr())
    assert "FAILED" in log
    assert "setting [hidden]" in log or way != "it waits"
    for said in (str(caught.value), repr(caught.value.__context__), log):
        assert "tr0ub4dor" not in said
    assert server.bodies[0] == BODY


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_operation_is_returned_without_a_secret_of_its_start(server: Quoting, way: str) -> None:
    """M2: what the task returns has its error, and its metadata as it was."""
    if way == "it is finished at once":
        server.operations = [FAILED]
    result = WAYS[way](Store(), fail_on=(), return_operation=True)
    assert "tr0ub4dor" not in json.dumps(result)
    assert (result["name"], result["error"]["code"]) == (NAME, 3)
    assert result["metadata"] == {"statusMessage": "setting [hidden]", "target": f"{PLACE}/instances/i"}


async def wake(deferral: TaskDeferred) -> Any:
    """Run the trigger of a deferral, stored and read as Airflow does it; returns its event."""
    trigger = OperationTrigger(**json.loads(json.dumps(deferral.trigger.serialize()[1])))
    trigger.trigger_id = 7  # as the triggerer sets it
    [event] = [event async for event in trigger.run()]
    await trigger.cleanup()
    return event.payload


@pytest.mark.parametrize("fail_on", [("FAILED",), ()])
async def test_a_trigger_says_nothing_that_it_does_not_understand(
    server: Quoting, capfd: pytest.CaptureFixture[str], fail_on: tuple[str, ...]
) -> None:
    """M2: it does not know the secrets, so neither log nor event quotes the service; the task takes the rest."""
    store = Store()
    deferral = defer(store)
    server.operations = [RUNNING, FAILED]
    event = await wake(deferral)
    assert event["operation"] == {"name": NAME, "done": True, "error": {"code": 3}}
    this, again = PlayedTry(None, store), task(deferrable=True, fail_on=fail_on, return_operation=True)  # type: ignore[arg-type]
    if fail_on:
        with pytest.raises(OperationFailedError, match=r"INVALID_ARGUMENT: the value '\[hidden\]' is too weak"):
            again.execute_complete(this.context, event, **deferral.kwargs)
    else:
        result = again.execute_complete(this.context, event, **deferral.kwargs)
        assert result["error"]["message"] == "the value '[hidden]' is too weak"
    log = "".join(capfd.readouterr())
    assert "RUNNING: o (datafusion)" in log
    assert "tr0ub4dor" not in log


@pytest.mark.parametrize("body", [BODY, {}], ids=["the same body", "another body by now"])
async def test_a_success_after_a_discreet_wait_has_its_response(server: Quoting, body: dict[str, Any]) -> None:
    """M2: the task takes it, with the metadata that the trigger has left out."""
    store = Store()
    deferral = defer(store)
    server.operations = [{**RUNNING, "done": True, "response": {"a": 1}}]
    event = await wake(deferral)
    assert event["operation"] == {"name": NAME, "done": True}
    again = task(deferrable=True, return_operation=True, body=body)
    result = again.execute_complete(PlayedTry(None, store).context, event, **deferral.kwargs)  # type: ignore[arg-type]
    assert (result["response"], result["metadata"]["statusMessage"]) == (
        {"a": 1},
        "setting [hidden]" if body else f"setting {PASSWORD}",
    )


@pytest.mark.parametrize("last", [RUNNING, FAILED])
async def test_a_deadline_is_discreet(server: Quoting, capfd: pytest.CaptureFixture[str], last: dict[str, Any]) -> None:
    """M2: what was seen last, and what its cancellation came to, quote nothing."""
    deferral = defer(Store(), timeout=0)
    server.operations = [last]
    event = await wake(deferral)
    assert "tr0ub4dor" not in json.dumps(event) + "".join(capfd.readouterr())
    assert event["status"] == ("deadline" if last is RUNNING else "finished")


def test_a_wait_without_secrets_is_not_discreet(server: Quoting) -> None:
    """M2: and its trigger is one that triggerers of an older release know."""
    assert "discreet" not in defer(Store(), body={"size": 3}).trigger.serialize()[1]


async def test_what_cannot_be_taken_of_a_failure_costs_its_words_only(
    server: Quoting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M2: the task fails with what is known, and its code, if the service does not show the operation any more."""
    monkeypatch.setattr(flows, "RESPONSE_PATIENCE_SECONDS", 0.0)
    store = Store()
    deferral = defer(store)
    server.operations = [FAILED]
    event = await wake(deferral)
    server.operations = [RUNNING]
    with pytest.raises(OperationFailedError, match=r"the operation failed: INVALID_ARGUMENT: //"):
        task(deferrable=True).execute_complete(PlayedTry(None, store).context, event, **deferral.kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_hook_quotes_nothing_of_what_it_has_sent(server: Quoting, asynchronous: bool) -> None:
    """M2: whichever method of the hook returns the operation, and however soon it has failed."""
    server.operations = [RUNNING, FAILED]
    lines: list[str] = []
    if asynchronous:
        hook = OperationsAsyncHook("datafusion")
        seen = [await hook.start(METHOD, BODY), await hook.wait(NAME, on_change=lines.append), await hook.get(NAME)]
        seen += [operation async for operation in hook.list(PLACE)]
        await hook.close()
    else:
        plain = OperationsHook("datafusion")
        seen = [plain.start(METHOD, BODY), plain.wait(NAME, on_change=lines.append), plain.get(NAME)]
        seen += plain.list(PLACE)
    assert [operation.done for operation in seen] == [False, True, True, True]
    assert "tr0ub4dor" not in repr(([operation.raw for operation in seen], seen, lines))
    assert "[hidden]" in seen[1].failure


def test_what_can_be_read_once_is_sent(server: Quoting, monkeypatch: pytest.MonkeyPatch) -> None:
    """L2: a generator is not empty because the connection could not be used at first."""
    server.operations = [{**RUNNING, "done": True, "response": {}}]
    good = connection_json(server.url)
    bad = json.dumps({"conn_type": "google_cloud_platform", "extra": {"key_path": "/is/not/there.json"}})
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", bad)
    repair = lambda seconds: monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", good)  # noqa: E731
    monkeypatch.setattr(attempt.time, "sleep", repair)
    run(Store(), body={"uris": (uri for uri in ("gs://a", "gs://b"))})
    assert server.bodies == [{"uris": ["gs://a", "gs://b"]}]


@pytest.mark.parametrize("last", [RUNNING, FAILED], ids=["runs", "has failed"])
@pytest.mark.parametrize("has_secrets", [True, False])
def test_a_sweep_quotes_no_secret_of_a_start(
    server: Quoting, monkeypatch: pytest.MonkeyPatch, last: dict[str, Any], has_secrets: bool
) -> None:
    """It knows none of them: what the service says is left out where the start has sent some."""
    kept = Variables()
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    monkeypatch.setattr("airflow_lro_provider.sweep.ledger._variables", lambda: kept)
    server.operations = [RUNNING]
    defer(Store(), **({} if has_secrets else {"body": {"users": []}}))
    server.operations = [last]
    lines: list[str] = []
    airflow = PlayedAirflow(None)  # type: ignore[arg-type]
    extra = json.loads(connection_json(server.url))["extra"]
    airflow.settings = lambda *_: ConnectionSettings.from_extra(extra)  # type: ignore[method-assign]
    airflow.kept = {key: LedgerEntry.from_json(text) for key, text in kept.items()}  # type: ignore[misc]
    airflow.task_states["d", "r", "t", -1] = "failed"
    result = sweep(airflow, now=time.time(), log=lambda line, *given: lines.append(line % given))
    said = json.dumps(result.to_dict()) + "".join(lines)
    assert result.rows
    assert ("tr0ub4dor" in said) == (not has_secrets)
