"""B11: waiting never needs the response of an operation; it is taken once, at the end, and only costs itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.emulator.connection import connection_json
from airflow_lro_provider.exceptions import FinalOperationFailedError, OperationFailedError
from airflow_lro_provider.lro import flows
from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from airflow_lro_provider.sweep import ledger
from airflow_lro_provider.triggers import operations as triggers
from tests.airflow.played import Killable, PlayedTry, Store, Variables, once
from tests.airflow.versions import Killed, may_execute
from tests.local_server import Handler, LocalServer

LARGE = {"large": "x" * (9 * 2**20)}
SMALL = {"small": 1}
METHOD = "projects/p/locations/us-central1/instances?instanceId=i"


class Task:
    """Runs tasks of one kind, whose operations succeed.

    :param kind: ``starter``, ``sensor`` or ``cancel``.
    :param deferrable: whether the operation ends while the task is deferred.
    """

    def __init__(self, emulator: Emulator, kind: str, deferrable: bool) -> None:
        self.emulator, self.kind, self.deferrable = emulator, kind, deferrable
        self.store = Store()
        self.was_over = False

    def operator(self, **arguments: Any) -> Any:
        """Make the operator, and its operation if it does not start one."""
        service = {"service": "datafusion", "deferrable": self.deferrable}
        if self.kind == "starter":
            made: Any = RunOperationOperator(task_id="t", method=METHOD, poll_interval=0.01, **service, **arguments)
        else:
            # One that is to be cancelled succeeds once it has been asked to end: no machine is too slow for that.
            is_to_end = self.kind == "cancel" and not self.was_over
            name = self.emulator.create("datafusion", **({"duration": None} if is_to_end else {}))
            if is_to_end:
                cancels = partial(self.emulator.requests, verb="cancel", name=name)
                once(cancels, lambda: self.emulator.finish("datafusion", name))
            kind, pause = {
                "sensor": (OperationSensor, {"poke_interval": 0.01}),
                "cancel": (CancelOperationOperator, {"poll_interval": 0.01}),
            }[self.kind]
            made = kind(task_id="t", operation_name=name, **pause, **service, **arguments)
        may_execute(made)
        return made

    def run(self, number: int = 1, **arguments: Any) -> Any:
        """Run one try of the task, in the triggerer if it defers."""
        this = PlayedTry(self.emulator, self.store, number, 1)
        operator = self.operator(**arguments)
        try:
            return operator.execute(this.context)
        except TaskDeferred as deferral:
            event = asyncio.run(event_of(deferral.trigger))
            resumed = self.operator(**arguments) if self.kind == "starter" else operator
            return resumed.execute_complete(this.context, event=event, **(deferral.kwargs or {}))

    @property
    def cancels(self) -> int:
        """How many cancel requests the server saw."""
        return len(self.emulator.requests(verb="cancel"))

    @property
    def taken(self) -> int:
        """How many requests for a response it saw."""
        return sum("fields=" not in request.query for request in self.emulator.requests(verb="get"))


async def event_of(trigger: Any) -> Any:
    """The event that a trigger fires."""
    trigger.trigger_id = 7
    events = [event async for event in trigger.run()]
    await trigger.cleanup()
    return events[0].payload


@pytest.fixture(
    params=[
        *(("starter", False), ("starter", True), ("sensor", False), ("sensor", True)),
        *(("cancel", False), ("cancel", True)),
    ],
    ids=lambda param: f"{param[0]} {'deferred' if param[1] else 'waiting'}",
)
def task(request: pytest.FixtureRequest, lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Task:
    """Tasks of every kind."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    monkeypatch.setattr(flows, "RESPONSE_PATIENCE_SECONDS", 2.0)
    lro_emulator.script(duration=0.3, response=SMALL, cancel="ignore")
    return Task(lro_emulator, *request.param)


def when_taken(emulator: Emulator, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something whenever a response is requested, before anything becomes of that."""
    real = emulator.store.note_request

    def note(**fields: Any) -> Any:
        record = real(**fields)
        if fields["verb"] == "get" and "fields=" not in fields["query"]:
            act()
        return record

    monkeypatch.setattr(emulator.store, "note_request", note)


def missing(result: Any) -> str:
    """What a task's result says of a response that is missing."""
    operation = result.get("operation", result)
    assert "response" not in operation
    text: str = operation["responseMissing"]
    return text


def response(result: Any) -> Any:
    """The response in a task's result."""
    return result["operation"]["response"] if "operation" in result else result


def test_the_response_is_taken_once_at_the_end(task: Task) -> None:
    """B11: nothing has changed for those who need it."""
    assert response(task.run()) == SMALL
    assert task.taken == 1


def test_an_operation_that_was_over_has_its_response(task: Task) -> None:
    """B11: also one that was adopted or is to be cancelled, and had ended before."""
    task.emulator.script(duration=0, response=SMALL)
    task.was_over = True
    assert response(task.run()) == SMALL
    assert task.cancels == 0


def test_who_needs_no_response_takes_none(task: Task) -> None:
    """B11: the polls have left it out, whatever its size; a `result_check` needs it."""
    if task.kind == "starter":
        return  # it is the result
    task.emulator.script(duration=0.3, response=LARGE, cancel="ignore")
    assert not {"response", "responseMissing"} & {*task.run(include_response=False)["operation"]}
    assert task.taken == 0
    if task.kind == "sensor":
        task.emulator.script(duration=0.3, response=SMALL)
        seen: list[Any] = []
        task.run(include_response=False, result_check=lambda operation: seen.append(operation["response"]))
        assert (seen, task.taken) == ([SMALL], 1)


@pytest.mark.parametrize("field_mask", ["honour", "ignore", "reject"])
def test_a_response_that_is_too_large_costs_the_response(task: Task, field_mask: str) -> None:
    """B11: the task succeeds, and says what is missing and how to get it; nothing is cancelled."""
    if task.kind == "starter":
        task.emulator.script(duration=0.3, response=LARGE, field_mask=field_mask)
    else:
        task.emulator.script(duration=0.3, response=LARGE, field_mask=field_mask, cancel="ignore")
    text = missing(task.run())
    assert "is too large to be taken" in text
    assert "larger than 8388608 bytes" in text
    assert (
        f'curl -H "Authorization: Bearer $(gcloud auth print-access-token)" {task.emulator.url}/datafusion/v1/' in text
    )
    assert task.cancels == (task.kind == "cancel")
    assert task.store == {}


@pytest.mark.parametrize("kind", [404, 403, 500, "reset"])
def test_what_goes_wrong_at_the_end_costs_the_response(task: Task, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """B11: for good, or for long: the operation has succeeded, and is not cancelled."""
    when_taken(task.emulator, monkeypatch, lambda: task.emulator.fail(kind, verb="get"))
    assert "could not be taken" in missing(task.run())
    assert task.cancels == (task.kind == "cancel")
    assert task.taken > 1
    assert task.store == {}


def test_what_passes_costs_nothing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """B11: a response that fails twice is requested three times."""
    monkeypatch.setattr(flows, "RESPONSE_PATIENCE_SECONDS", 60.0)  # the pauses between them are jittered
    kinds = iter([503, 404])

    def fail() -> None:
        for kind in kinds:
            task.emulator.fail(kind, verb="get")
            break

    when_taken(task.emulator, monkeypatch, fail)
    assert response(task.run()) == SMALL
    assert task.taken == 3


def test_a_check_without_a_response_is_no_success(task: Task) -> None:
    """B11: nobody has judged it; but it is over: no retry finds another result, and nothing is cancelled."""
    if task.kind == "cancel":
        return  # it has none
    task.emulator.script(duration=0.3, response=LARGE)
    with pytest.raises(FinalOperationFailedError, match=r"result_check has no response to judge: .* is too large"):
        task.run(result_check=lambda operation: True)
    assert task.cancels == 0


def test_a_deadline_that_passes_at_the_end_is_none(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """B11: the operation ended in time, however long its response takes."""
    if not task.deferrable:
        return
    time = triggers.time.time
    later: list[float] = []
    monkeypatch.setattr(triggers.time, "time", lambda: time() + sum(later))
    failures = iter([503])

    def pass_time() -> None:
        later.append(3600.0)
        for kind in failures:
            task.emulator.fail(kind, verb="get")

    when_taken(task.emulator, monkeypatch, pass_time)
    assert response(task.run(timeout=600)) == SMALL
    assert task.cancels == (task.kind == "cancel")


# -- a kill while the response is taken -------------------------------------------------------------------------------


@pytest.fixture
def starter(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task that starts an operation and waits for it; the ledger is on."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    variables = Variables()
    monkeypatch.setattr(ledger, "_variables", lambda: variables)
    lro_emulator.script(duration=0.3, response=SMALL)
    return Task(lro_emulator, "starter", deferrable=False)


def test_a_kill_while_the_response_is_taken_cancels_nothing(
    starter: Task, monkeypatch: pytest.MonkeyPatch, killable: Killable
) -> None:
    """B11: the process has some seconds left, and ends as if nothing had happened."""
    operator = starter.operator()
    killable(operator, lambda: starter.taken)
    when_taken(starter.emulator, monkeypatch, lambda: starter.emulator.fail(503, verb="get"))
    monkeypatch.setattr(flows, "RESPONSE_PATIENCE_SECONDS", 2.0)
    this = PlayedTry(starter.emulator, starter.store, 1, 1)
    if AIRFLOW < (3,):  # its SIGTERM raises
        with pytest.raises(Killed):
            operator.execute(this.context)
    else:
        assert "could not be taken" in missing(operator.execute(this.context))
    assert starter.cancels == 0


@pytest.mark.parametrize("end", [AirflowTaskTimeout, KeyboardInterrupt, SystemExit])
def test_what_ends_a_try_while_the_response_is_taken_leaves_it_to_the_next(
    starter: Task, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    """B11: its operation is not cancelled, nor another one started: the next try takes the response."""
    from airflow_lro_provider.lro.client import OperationsClient

    with monkeypatch.context() as patched:

        def interrupted(*_: Any) -> Any:
            raise end

        patched.setattr(OperationsClient, "take_response", interrupted)
        with pytest.raises(end):
            starter.run()
    assert starter.store
    assert starter.run(number=2) == SMALL
    assert len(starter.emulator.requests(verb="start")) == 1
    assert starter.cancels == 0
    assert starter.store == {}


async def test_a_trigger_that_is_killed_while_it_takes_the_response_cancels_nothing(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B11: nor does one in line at Ctrl-C; and another triggerer takes the response."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())

    async def decide(self: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError("there is nothing to decide")

    monkeypatch.setattr(triggers.OperationTrigger, "_decide", decide)
    name = lro_emulator.create("datafusion", duration=0, response=SMALL)
    for trigger_id in (7, None):
        taking = asyncio.Event()
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patched:
            when_taken(lro_emulator, patched, lambda: loop.call_soon_threadsafe(taking.set))  # noqa: B023
            made = make(name)
            made.trigger_id = trigger_id
            patched.setattr(lro_emulator.store, "latency", lambda *_: 30.0 if taking.is_set() else 0.0)  # noqa: B023
            running = asyncio.create_task(anext(made.run()))
            await taking.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await made.on_kill()
            await made.cleanup()
    assert lro_emulator.requests(verb="cancel") == []
    event = await event_of(make(name))
    assert event["operation"]["response"] == SMALL


def make(name: str) -> triggers.OperationTrigger:
    """A trigger that waits for an operation, and cancels it."""
    reference = {"service": "datafusion", "version": "v1", "name": name, "host": "datafusion.googleapis.com"}
    return triggers.OperationTrigger(reference=reference, started=0.0, poll_interval=0.01, cancel_on_kill=True)


class Masking(Handler):
    """A service that leaves the error out of what has a field mask, and whose cancels come too late."""

    whole: ClassVar[dict[str, Any]] = {}

    def do_POST(self) -> None:  # noqa: N802
        """A start, or a cancel."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.respond({} if self.path.endswith(":cancel") else {"name": self.whole["name"]})

    def do_GET(self) -> None:  # noqa: N802
        """A poll, or the whole operation."""
        hidden = ("error",) if "fields=" in self.path else ()
        self.respond({name: value for name, value in self.whole.items() if name not in hidden})


@pytest.mark.parametrize("metadata", [{}, {"metadata": {"a": 1}}], ids=["a husk", "with metadata"])
@pytest.mark.parametrize(("code", "word"), [(13, "failed"), (1, "was cancelled")])
@pytest.mark.parametrize("kind", [RunOperationOperator, OperationSensor, CancelOperationOperator])
def test_no_task_turns_green_by_an_error_that_a_mask_has_left_out(
    kind: Any, code: int, word: str, metadata: dict[str, Any], lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B11: what the whole operation says counts, for every kind of task, and decides before anything else does."""
    name = "projects/p/locations/us-central1/operations/o"
    whole = {"name": name, "done": True, "error": {"code": code, "message": "boom"}, **metadata}
    monkeypatch.setattr(Masking, "whole", whole)
    named = {"method": METHOD} if kind is RunOperationOperator else {"operation_name": name}
    task = kind(task_id="t", service="datafusion", fail_on=("FAILED", "CANCELLED"), **named)
    may_execute(task)
    with LocalServer(Masking) as server:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(server.url))
        with pytest.raises(OperationFailedError, match=f"the operation {word}"):
            task.execute(PlayedTry(lro_emulator, Store()).context)
