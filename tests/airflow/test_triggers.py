"""The trigger on an event loop, against the local server: waiting, deadlines, kills and false kills."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization
from airflow.triggers.base import TriggerEvent

from airflow_lro_provider.airflow_compat import task_states
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.hooks.operations import OperationsAsyncHook
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import CredentialsError, TransportError
from airflow_lro_provider.lro.http.async_session import AsyncSession
from airflow_lro_provider.lro.operation import Outcome
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, Deadline
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.ownership import evidence as ownership
from airflow_lro_provider.ownership.decisions import Evidence
from airflow_lro_provider.triggers import operations as module
from airflow_lro_provider.triggers import shared
from airflow_lro_provider.triggers.events import DeadlinePassed, Finished, Gone, Lost, read_event
from airflow_lro_provider.triggers.operations import OperationTrigger
from airflow_lro_provider.triggers.shared import watcher_of_loop
from tests.airflow.versions import play_task_states

OWNER = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "token": "mine"}


@pytest.fixture(autouse=True)
def connection(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default connection leads to the local server."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())


def make(emulator: Emulator, script: dict[str, Any] | None = None, **arguments: Any) -> OperationTrigger:
    """A trigger for a new operation."""
    name = emulator.create("datafusion", **{"duration": None, **(script or {})})
    reference = read_reference(name, "datafusion").to_dict()
    trigger = OperationTrigger(
        **{"reference": reference, "started": time.time(), "poll_interval": 0.02, "owner": OWNER, **arguments}
    )
    trigger.trigger_id = 7  # as the triggerer sets it; without, it runs in line
    return trigger


async def event_of(trigger: OperationTrigger) -> Any:
    """The event that a trigger fires."""
    events: list[TriggerEvent] = [event async for event in trigger.run()]
    await trigger.cleanup()
    [event] = events
    return event.payload


def cancels(emulator: Emulator, trigger: OperationTrigger) -> int:
    """How many cancel requests the server saw."""
    return len(emulator.requests(verb="cancel", name=trigger.reference.name))


def test_a_trigger_survives_serialization(lro_emulator: Emulator) -> None:
    """What is stored makes an equal trigger, is plain JSON, and holds no secret."""
    deadline = Deadline(12.5, "timeout", 10.0).to_dict()
    trigger = make(lro_emulator, deadline=deadline, cancel_on_kill=True, impersonation_chain=["a@b.c"])
    path, arguments = trigger.serialize()
    again = OperationTrigger(**BaseSerialization.deserialize(BaseSerialization.serialize(arguments)))
    assert path == f"{OperationTrigger.__module__}.{OperationTrigger.__qualname__}"
    assert again.serialize() == (path, arguments)
    assert not [key for key in arguments if "key" in key or "secret" in key or key == "token"]


@pytest.mark.parametrize(
    "odd",
    [
        {"reference": {"name": "?"}},
        {"reference": {"name": ["a list"], "service": {}}},
        {"owner": {"token": "t"}},
        {"owner": {**OWNER, "map_index": 3}},
        {"deadline": {"at": 1.5, "cause": "timeout"}},
    ],
    ids=str,
)
def test_what_it_was_given_is_what_it_stores(odd: dict[str, Any]) -> None:
    """Whatever an older release or a person stored: nothing is lost, nothing is added."""
    given = {"reference": {"service": "datafusion", "name": "o"}, "owner": {}, "deadline": None, **odd}
    _, stored = OperationTrigger(**given, started=0.0).serialize()
    assert {key: stored[key] for key in given} == given


def test_what_many_triggers_have_in_common_is_kept_once() -> None:
    """Thousands wait in one process: a Dag's id, a host and so on are one object for all of them."""
    one, other = (
        OperationTrigger(
            reference={"host": "x" * size, "name": "o"}, owner={"run_id": "y" * size, "token": "t"}, started=0.0
        )
        for size in (40, 40)
    )
    assert one.serialize()[1]["reference"]["host"] is other.serialize()[1]["reference"]["host"]
    assert one.owner["run_id"] is other.owner["run_id"]


def test_a_deferral_can_be_called_off_at_the_last_moment(lro_emulator: Emulator) -> None:
    """Whatever the hook raises goes out of `serialize`, and the hook itself is not stored."""
    calls: list[str] = []
    trigger = make(lro_emulator, before_serialize=lambda: calls.append("now"))
    _, arguments = trigger.serialize()
    assert calls == ["now"]
    assert "before_serialize" not in arguments

    def call_off() -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        make(lro_emulator, before_serialize=call_off).serialize()


def test_a_broken_reference_does_not_break_the_triggerer() -> None:
    """The constructor raises nothing for stored nonsense: the triggerer of Airflow 3.3 would die of it."""
    OperationTrigger(reference={"name": "?"}, started=0.0)


async def test_a_broken_reference_is_told_as_an_event() -> None:
    """Stored nonsense ends this wait, with an event that says why."""
    trigger = OperationTrigger(reference={"service": "nope", "name": "?"}, started=0.0)
    trigger.trigger_id = 7
    assert isinstance(read_event(await event_of(trigger)), Lost)


async def test_it_waits_until_the_operation_is_over(lro_emulator: Emulator) -> None:
    """The event carries the finished operation, and the token of the try that it is for."""
    trigger = make(lro_emulator, {"duration": 0.1, "response": {"a": 1}})
    payload = await event_of(trigger)
    event = read_event(payload)
    assert isinstance(event, Finished)
    assert event.operation.response == {"a": 1}
    assert payload["owner"] == "mine"


async def test_a_large_response_stays_out_of_the_event(lro_emulator: Emulator) -> None:
    """include_response=False keeps it out of Airflow's database."""
    event = read_event(
        await event_of(make(lro_emulator, {"duration": 0, "response": {"a": 1}}, include_response=False))
    )
    assert isinstance(event, Finished)
    assert event.operation.outcome is Outcome.SUCCEEDED
    assert event.operation.response is None


async def test_a_deadline_says_what_was_seen_last(lro_emulator: Emulator) -> None:
    """C5: an operation that was not found, or whose polls fail, is not said to be running."""
    soon = {"at": time.time() + 0.2, "cause": "timeout", "seconds": 3.0}
    reference = read_reference("projects/p/locations/us-central1/operations/gone", "datafusion").to_dict()
    event = read_event(await event_of(make(lro_emulator, deadline=soon, reference=reference, cancel_on_kill=False)))
    assert isinstance(event, DeadlinePassed)
    assert (event.operation, "NOT_FOUND" in str(event)) == (None, True)


@pytest.mark.parametrize("owns", [True, False])
async def test_the_deadline_is_enforced_here(current: None, lro_emulator: Emulator, owns: bool) -> None:
    """At the deadline the event says which it was, and what the task owns is cancelled."""
    past = Deadline(time.time() - 1, "execution_timeout", 8.0).to_dict()
    trigger = make(lro_emulator, deadline=past, cancel_on_kill=owns)
    event = read_event(await event_of(trigger))
    assert isinstance(event, DeadlinePassed)
    requested = "REQUESTED" if owns else None
    assert (event.cause, event.cancellation, cancels(lro_emulator, trigger)) == ("execution_timeout", requested, owns)


@pytest.mark.parametrize(
    ("failure", "cancellation", "line"),
    [
        (None, "REQUESTED", "Cancellation requested; the service accepted it"),
        (403, "REFUSED", "Cancellation not accepted, "),
        (501, "CANCEL_UNSUPPORTED", "cannot cancel it"),
        (404, "CANCEL_UNSUPPORTED", "cannot cancel it"),  # for a get finds it
    ],
)
async def test_a_deadline_says_what_the_cancel_came_to(
    current: None,
    lro_emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: int | None,
    cancellation: str,
    line: str,
) -> None:
    """The event and the log: a request is not a cancellation, and one that was not accepted is none at all."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.1)
    past = Deadline(time.time() - 1, "timeout", 8.0).to_dict()
    if failure is not None:
        lro_emulator.fail(failure, verb="cancel", times=None)
    event = read_event(await event_of(make(lro_emulator, deadline=past, cancel_on_kill=True)))
    assert isinstance(event, DeadlinePassed)
    assert (event.cancellation, event.cancel_requested) == (cancellation, cancellation == "REQUESTED")
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "token"),
    [("deferred", "another's"), ("running", "another's"), ("up_for_retry", "mine"), (Evidence.UNKNOWN, "mine")],
)
async def test_a_triggerer_that_stood_still_cancels_no_other_trys_operation(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, state: Any, token: Any
) -> None:
    """Row A16: its deadline passed long ago. Whoever its event wakes cancels the operation, if it is theirs."""
    answers(monkeypatch, state, token)
    past = Deadline(time.time() - 1, "timeout", 8.0).to_dict()
    trigger = make(lro_emulator, deadline=past, cancel_on_kill=True)
    event = read_event(await event_of(trigger))
    assert isinstance(event, DeadlinePassed)
    assert (event.cancellation, cancels(lro_emulator, trigger)) == (None, 0)


async def test_a_kill_in_the_second_of_the_deadline_cancels(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event wakes nobody any more, and Airflow's kill comes too late for a trigger that has fired."""
    answers(monkeypatch, "failed", "mine")
    past = Deadline(time.time() - 1, "timeout", 8.0).to_dict()
    trigger = make(lro_emulator, deadline=past, cancel_on_kill=True)
    await event_of(trigger)
    assert cancels(lro_emulator, trigger) == 1


@pytest.mark.parametrize(("owns", "kind"), [(True, DeadlinePassed), (False, Finished)])
async def test_what_was_cancelled_at_the_deadline_is_no_end_that_was_waited_for(
    lro_emulator: Emulator, owns: bool, kind: type
) -> None:
    """A triggerer that died after its cancel, before its event: the next one finds the operation CANCELLED."""
    past = Deadline(time.time() - 1, "execution_timeout", 8.0).to_dict()
    trigger = make(lro_emulator, deadline=past, cancel_on_kill=owns)
    lro_emulator.store.cancel("datafusion", trigger.reference.name)
    event = read_event(await event_of(trigger))
    assert isinstance(event, kind)
    assert not isinstance(event, DeadlinePassed) or event.cancellation == "CANCELLED"
    assert cancels(lro_emulator, trigger) == 0


async def test_what_ends_just_before_its_deadline_is_not_thrown_away(
    current: None, lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before the cancel finds it SUCCEEDED: that is the end, nothing is cancelled, and no deadline told."""
    past = Deadline(time.time() - 1, "execution_timeout", 8.0).to_dict()
    trigger = make(lro_emulator, deadline=past, cancel_on_kill=True)
    settings = trigger._settings

    async def late(**given: Any) -> Any:
        if lro_emulator.operation("datafusion", trigger.reference.name).polls:
            lro_emulator.finish("datafusion", trigger.reference.name)
        return await settings(**given)

    monkeypatch.setattr(trigger, "_settings", late)
    event = read_event(await event_of(trigger))
    assert isinstance(event, Finished)
    assert event.operation.outcome is Outcome.SUCCEEDED
    assert cancels(lro_emulator, trigger) == 0


async def test_an_operation_that_is_gone_is_told(lro_emulator: Emulator) -> None:
    """404 after the grace is an event of its own."""
    trigger = make(lro_emulator, started=time.time() - 3600)
    lro_emulator.store.reset()
    assert isinstance(read_event(await event_of(trigger)), Gone)


async def test_lost_permission_is_told(lro_emulator: Emulator) -> None:
    """403 ends the wait with an event, not with an exception that Airflow knows no retry for."""
    trigger = make(lro_emulator)
    lro_emulator.fail(403, times=None)
    event = read_event(await event_of(trigger))
    assert isinstance(event, Lost)
    assert "PERMISSION_DENIED" in event.message


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow says that the task is deferred, and that the trigger's try owns the operation."""
    answers(monkeypatch, "deferred", "mine")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses after trouble of our own are short."""
    monkeypatch.setattr(polling, "TROUBLE_PAUSE_SECONDS", 0.05)


@pytest.mark.parametrize("error", [CredentialsError("no key"), TransportError("no metadata server"), RuntimeError("x")])
async def test_what_is_missing_when_it_begins_is_waited_for(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, soon: None, error: Exception
) -> None:
    """Row A2: no credentials for a moment, on a new pod: nothing is lost, nothing is cancelled."""
    real, asked = OperationsAsyncHook.settings, []

    async def late(hook: OperationsAsyncHook) -> ConnectionSettings:
        asked.append(time.monotonic())
        if len(asked) < 4:
            raise error
        return await real(hook)

    monkeypatch.setattr(OperationsAsyncHook, "settings", late)
    trigger = make(lro_emulator, {"duration": 0}, cancel_on_kill=True)
    assert isinstance(read_event(await event_of(trigger)), Finished)
    assert cancels(lro_emulator, trigger) == 0


async def test_a_key_that_was_replaced_is_read_again(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, soon: None
) -> None:
    """Row A10: the first one (here: none) is refused, and the connection has another one by then."""
    real, given = module.settings_of, []

    async def settings(*arguments: Any) -> ConnectionSettings:
        given.append(1)
        now = await real(*arguments)
        return now if len(given) > 1 else replace(now, is_anonymous=True)

    monkeypatch.setattr(module, "settings_of", settings)
    trigger = make(lro_emulator, {"duration": 1.0}, cancel_on_kill=True)
    lro_emulator.fail(401, verb="get")
    assert isinstance(read_event(await event_of(trigger)), Finished)
    assert (len(given) > 1, cancels(lro_emulator, trigger)) == (True, 0)


@pytest.fixture
def odd_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A secrets backend gives another connection once: the server that this one leads to."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.2)
    monkeypatch.setattr(shared, "SETTINGS_TTL_SECONDS", 0.0)
    real, given = OperationsAsyncHook.settings, []
    with Emulator() as other:
        odd = ConnectionSettings.from_extra(other.connection_extra())

        async def settings(hook: OperationsAsyncHook) -> ConnectionSettings:
            given.append(1)
            return await real(hook) if len(given) > 1 else odd

        monkeypatch.setattr(OperationsAsyncHook, "settings", settings)
        yield other


@pytest.mark.parametrize("problem", [404, 403])
async def test_another_server_or_account_ends_no_wait(
    lro_emulator: Emulator, odd_once: Emulator, soon: None, problem: int
) -> None:
    """What it denies is not what the connection does."""
    odd_once.fail(problem, verb="get", times=None)
    trigger = make(lro_emulator, {"duration": 1.0}, cancel_on_kill=True, poll_interval=0.1)
    assert isinstance(read_event(await event_of(trigger)), Finished)
    assert (cancels(lro_emulator, trigger), len(odd_once.requests("cancel"))) == (0, 0)


@pytest.mark.parametrize("problem", [404, 403])
async def test_a_kill_is_not_lost_to_another_server_or_account(
    lro_emulator: Emulator, odd_once: Emulator, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    """The same of the cancel of a killed trigger: it is sent to where the operation is."""
    answers(monkeypatch, "failed", "mine")
    odd_once.fail(problem, verb="cancel", times=None)
    trigger = make(lro_emulator, {"duration": None}, cancel_on_kill=True)
    await trigger.on_kill()
    assert cancels(lro_emulator, trigger) == 1


async def test_trouble_of_our_own_lasts_until_the_deadline(lro_emulator: Emulator, soon: None) -> None:
    """Rows A2, A10: then the task is woken by its timeout, and told that nothing was cancelled."""
    deadline = Deadline(time.time() + 0.5, "timeout", 0.5).to_dict()
    trigger = make(lro_emulator, gcp_conn_id="deleted", cancel_on_kill=True, deadline=deadline)
    event = read_event(await event_of(trigger))
    assert isinstance(event, DeadlinePassed)
    assert event == DeadlinePassed("timeout", 0.5, None, None, event.last_error)
    assert "'deleted' is not defined" in str(event)


@pytest.fixture
async def killed(lro_emulator: Emulator) -> AsyncIterator[Any]:
    """Run a trigger as the triggerer does, and kill it as it does: on_kill itself is cancelled after a while."""

    async def kill(trigger: OperationTrigger, patience: float = 5.0) -> None:
        task = asyncio.create_task(event_of(trigger))
        while not lro_emulator.requests(verb="get", name=trigger.reference.name):
            await asyncio.sleep(0.01)
        task.cancel("__airflow_user_action__")
        with pytest.raises(asyncio.CancelledError):
            await task
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(trigger.on_kill(), patience)
        await trigger.cleanup()
        while module._detached:
            await asyncio.gather(*module._detached)

    yield kill
    assert not module._detached


def answers(monkeypatch: pytest.MonkeyPatch, state: Any, token: Any) -> None:
    """The evidence that Airflow gives."""

    async def task_state(_: Any) -> Any:
        return state

    async def owner_token(*_: Any) -> Any:
        return token

    monkeypatch.setattr(module, "task_state", task_state)
    monkeypatch.setattr(module, "owner_token", owner_token)
    monkeypatch.setattr(module, "DECISION_TRIES", 1)


@pytest.mark.parametrize(
    ("state", "token", "expected"),
    [
        ("failed", "mine", 1),
        ("success", "mine", 1),
        ("skipped", "mine", 1),
        (Evidence.NONE, Evidence.NONE, 1),
        (Evidence.GONE, Evidence.NONE, 1),
        ("queued", "mine", 0),
        ("queued", Evidence.NONE, 1),
        ("running", Evidence.NONE, 1),
        ("queued", "another", 1),
        ("running", "another", 1),
        ("running", "other", 1),
        ("deferred", "other", 1),
        ("deferred", "mine", 0),
        ("deferred", Evidence.NONE, 0),
        ("up_for_retry", "mine", 0),
        (Evidence.UNKNOWN, Evidence.UNKNOWN, 0),
        ("deferred", Evidence.UNKNOWN, 0),
    ],
)
async def test_a_kill_cancels_only_what_is_known_to_be_dead(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killed: Any, state: Any, token: Any, expected: int
) -> None:
    """Marked, cleared, gone: cancelled. Moved to another triggerer, or not to be known: left alone."""
    answers(monkeypatch, state, token)
    trigger = make(lro_emulator, cancel_on_kill=True)
    await killed(trigger)
    assert cancels(lro_emulator, trigger) == expected


async def test_many_kills_at_once_lose_none_to_the_queue(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with hundreds of deferred tasks is marked: waiting for one's turn is not held against a question."""

    def slow(query: ownership.StateQuery) -> dict[ownership.TaskKey, str]:
        time.sleep(0.02)  # in a thread, as the real request
        return dict.fromkeys(query.keys, "failed")

    monkeypatch.setattr(ownership, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(module, "DECISION_TRIES", 1)
    monkeypatch.setattr(ownership, "_read_states", slow)
    owners = [
        ownership.TaskKey(f"one of {number}", "r", "t") for number in range(100)
    ]  # each Dag is a query of its own
    answers_ = await asyncio.gather(*map(ownership.task_state, owners))
    assert answers_ == ["failed"] * 100


async def test_a_dead_task_is_not_asked_for_its_token(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killed: Any
) -> None:
    """Its state says it all: one question less for each of many."""

    async def failed(_: Any) -> str:
        return "failed"

    async def never(_: Any) -> str:
        pytest.fail("asked")

    monkeypatch.setattr(module, "task_state", failed)
    monkeypatch.setattr(module, "owner_token", never)
    trigger = make(lro_emulator, cancel_on_kill=True)
    await killed(trigger)
    assert cancels(lro_emulator, trigger) == 1


@pytest.mark.parametrize("patience", [0.0, 20.0])
async def test_a_kill_outlives_its_own_cancellation(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killed: Any, patience: float
) -> None:
    """Airflow cancels on_kill when it hears of the kill again; the cancel request is sent all the same."""
    answers(monkeypatch, "failed", "mine")
    monkeypatch.setattr(module, "KILL_PATIENCE_SECONDS", patience)
    trigger = make(lro_emulator, {"latency": 0.3}, cancel_on_kill=True)
    await killed(trigger, patience=0.05)
    assert cancels(lro_emulator, trigger) == 1


async def test_a_kill_that_is_told_twice_ends_with_the_answer_to_the_cancel(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Airflow closes the task's log when on_kill returns: the result of the cancel must have been logged by then."""
    answers(monkeypatch, "failed", "mine")
    trigger = make(lro_emulator, {"latency": 0.2}, cancel_on_kill=True)
    task = asyncio.create_task(trigger.on_kill())
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.01)
    assert not task.done()
    await task
    await trigger.cleanup()
    assert "the service accepted it" in capsys.readouterr().out
    assert cancels(lro_emulator, trigger) == 1


async def test_what_is_over_by_the_time_the_answer_comes_is_not_cancelled(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A triggerer that stalled hears of a success that another one has waited for."""
    answers(monkeypatch, "success", "mine")
    trigger = make(lro_emulator, {"duration": 0}, cancel_on_kill=True)
    await trigger.on_kill()
    await trigger.cleanup()
    assert cancels(lro_emulator, trigger) == 0
    assert "Not cancelled, already finished (SUCCEEDED · Finished)" in capsys.readouterr().out


async def test_what_may_not_be_looked_at_is_cancelled_all_the_same(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before the cancel decides nothing if it fails."""
    answers(monkeypatch, "failed", "mine")
    trigger = make(lro_emulator, cancel_on_kill=True)
    lro_emulator.fail(403, verb="get", times=None)
    await trigger.on_kill()
    await trigger.cleanup()
    assert cancels(lro_emulator, trigger) == 1


async def test_looks_that_hang_do_not_keep_a_cancel_waiting(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that answers no look, to those who wait nor to a kill, gets the cancel all the same, and soon."""
    answers(monkeypatch, "failed", "mine")
    monkeypatch.setattr(module, "POLL_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(AsyncSession, "fetch", hang_on_looks(AsyncSession.fetch))
    waiting = [asyncio.create_task(event_of(make(lro_emulator))) for _ in range(MAX_IN_FLIGHT)]
    trigger = make(lro_emulator, cancel_on_kill=True)
    await asyncio.sleep(0.2)
    begun = time.monotonic()
    await trigger.on_kill()
    assert time.monotonic() - begun < 10
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await trigger.cleanup()
    assert cancels(lro_emulator, trigger) == 1


def hang_on_looks(fetch: Any) -> Any:
    """Requests of which only cancels are answered."""

    async def answer(self: Any, request: Any, headers: Any) -> Any:
        if request.verb != "cancel":
            await asyncio.sleep(20)
            raise asyncio.TimeoutError
        return await fetch(self, request, headers)

    return answer


async def test_a_kill_survives_bad_moments(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killed: Any
) -> None:
    """A cancel that is answered with 503 is sent again."""
    answers(monkeypatch, "failed", "mine")
    trigger = make(lro_emulator, cancel_on_kill=True)
    lro_emulator.fail(503, verb="cancel")
    await killed(trigger)
    assert cancels(lro_emulator, trigger) == 2
    assert lro_emulator.operation("datafusion", trigger.reference.name).operation["done"]


async def test_an_observer_is_killed_without_a_cancel(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killed: Any
) -> None:
    """cancel_on_kill=False asks nobody and cancels nothing."""
    answers(monkeypatch, "failed", "mine")
    trigger = make(lro_emulator, cancel_on_kill=False)
    await killed(trigger)
    assert cancels(lro_emulator, trigger) == 0


async def test_a_trigger_that_lingers_after_its_event_does_not_cancel(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """on_kill arrives also at a trigger that has fired: then it does nothing."""
    answers(monkeypatch, "failed", "mine")
    trigger = make(lro_emulator, {"duration": 0, "cancel_when_done": "ok"}, cancel_on_kill=True)
    run = trigger.run()
    await anext(run)
    await trigger.on_kill()
    assert cancels(lro_emulator, trigger) == 0
    await run.aclose()
    await trigger.cleanup()


async def test_an_inline_run_cancels_when_it_is_interrupted(lro_emulator: Emulator) -> None:
    """`dags test` has no trigger id and calls no on_kill: Ctrl-C cancels, and is still passed on."""
    trigger = make(lro_emulator, cancel_on_kill=True)
    trigger.trigger_id = None
    task = asyncio.create_task(event_of(trigger))
    while not lro_emulator.requests(verb="get"):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancels(lro_emulator, trigger) == 1
    await trigger.cleanup()


async def test_an_inline_observer_does_not_cancel(lro_emulator: Emulator) -> None:
    """Ctrl-C in `dags test` leaves the operation of others alone."""
    trigger = make(lro_emulator, cancel_on_kill=False)
    trigger.trigger_id = None
    task = asyncio.create_task(event_of(trigger))
    while not lro_emulator.requests(verb="get"):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancels(lro_emulator, trigger) == 0
    await trigger.cleanup()


@pytest.mark.parametrize(
    ("given", "taken"),
    [(None, 8), ("32", 32), (" 1 ", 1), ("999", 999)]
    + [(wrong, 8) for wrong in ("0", "1000", "09999", "1" * 5000, "-3", "many", "")],
)
async def test_the_number_of_requests_is_an_option(
    given: str | None, taken: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be used is said, and ends no wait."""
    if given is not None:
        monkeypatch.setenv("AIRFLOW__LRO__MAX_IN_FLIGHT", given)
    assert watcher_of_loop().max_in_flight == taken
    warned = "[lro] max_in_flight is" in caplog.text
    assert warned is (taken == 8 and given is not None)


async def test_many_triggers_share_the_sockets_of_a_loop(lro_emulator: Emulator) -> None:
    """Fifty waiting triggers keep at most eight connections to one host."""
    from airflow_lro_provider.lro.http import async_session

    triggers = [make(lro_emulator, {"duration": 0.5}) for _ in range(50)]
    tasks = [asyncio.create_task(event_of(trigger)) for trigger in triggers]
    most, sessions = 0, set()
    while not all(task.done() for task in tasks):
        pools = async_session._loops.get(asyncio.get_running_loop())
        for session in pools._sessions.values() if pools else ():
            sessions.add(session)
            kept, acquired = session.connector._conns.values(), session.connector._acquired
            most = max(most, sum(map(len, kept)) + len(acquired))
        await asyncio.sleep(0.01)
    assert 0 < most <= MAX_IN_FLIGHT
    assert all(read_event(payload) for payload in await asyncio.gather(*tasks))
    assert all(session.closed for session in sessions), "the last one out closes the sessions"


async def test_a_kill_leaves_the_others_untouched(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killed: Any
) -> None:
    """Of thirty that wait together ten are killed: their operations are cancelled, the others are seen to their end."""
    answers(monkeypatch, "failed", "mine")
    triggers = [make(lro_emulator, {"duration": None}, cancel_on_kill=True, poll_interval=0.1) for _ in range(30)]
    others = [asyncio.create_task(event_of(trigger)) for trigger in triggers[10:]]
    victims = [asyncio.create_task(event_of(trigger)) for trigger in triggers[:10]]
    await asyncio.sleep(0.3)
    for task, trigger in zip(victims, triggers, strict=False):
        task.cancel("__airflow_user_action__")
        with pytest.raises(asyncio.CancelledError):
            await task
        await trigger.on_kill()
        await trigger.cleanup()
    assert [cancels(lro_emulator, trigger) for trigger in triggers] == [1] * 10 + [0] * 20
    for trigger in triggers[10:]:
        lro_emulator.finish("datafusion", trigger.reference.name)
    events = [read_event(payload) for payload in await asyncio.gather(*others)]
    assert all(isinstance(event, Finished) and event.operation.outcome is Outcome.SUCCEEDED for event in events)


async def test_many_that_come_at_once_read_their_connection_once(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred triggers ask the supervisor for their connection one time."""
    asked, read = [], OperationsAsyncHook.settings

    async def settings(self: Any) -> Any:
        asked.append(self.gcp_conn_id)
        return await read(self)

    monkeypatch.setattr(OperationsAsyncHook, "settings", settings)
    triggers = [make(lro_emulator, {"duration": 0.2}) for _ in range(100)]
    await asyncio.gather(*map(event_of, triggers))
    assert len(asked) == 1


async def test_a_deadline_tells_the_last_look(lro_emulator: Emulator) -> None:
    """The event of a deadline carries the operation as it was then, although looks are not kept."""
    soon = Deadline(time.time() + 0.5, "timeout", 0.5).to_dict()
    event = read_event(await event_of(make(lro_emulator, deadline=soon, poll_interval=0.1)))
    assert isinstance(event, DeadlinePassed)
    assert event.operation is not None
    assert not event.operation.done


async def test_a_moved_clock_does_not_move_a_deadline(lro_emulator: Emulator) -> None:
    """The deadline is a moment for all machines; waiting for it is not done by their clock."""
    later = Deadline(time.time() + 3600, "timeout", 3600).to_dict()
    trigger = make(lro_emulator, {"duration": 0.3}, deadline=later, started=time.time() - 7200)
    assert isinstance(read_event(await event_of(trigger)), Finished)


async def test_a_mass_redistribution_cancels_nothing_and_asks_in_batches(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five hundred triggers that move at once: few questions for states, four at a time for tokens, no cancel."""
    asked: list[str] = []
    asking = most = 0
    lock = threading.Lock()

    def states(*, dag_id: str, run_ids: list[str], task_ids: list[str], map_index: int | None) -> Any:
        asked.append("states")
        return {"r": {f"t_{index}": "deferred" for index in range(500)}}

    def token(**_: Any) -> str:
        nonlocal asking, most
        with lock:
            asking += 1
            most = max(most, asking)
        time.sleep(0.001)
        with lock:
            asking -= 1
        return "mine"

    play_task_states(monkeypatch, states)
    monkeypatch.setattr(task_states.XCom, "get_one", token)
    triggers = [make(lro_emulator, cancel_on_kill=True, owner={**OWNER, "map_index": i}) for i in range(500)]
    tasks = [asyncio.create_task(event_of(trigger)) for trigger in triggers]
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel("__airflow_user_action__")
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(trigger.on_kill() for trigger in triggers))
    assert len(asked) <= 5
    assert most <= ownership.MAX_CONCURRENT
    assert lro_emulator.requests(verb="cancel") == []


def test_what_is_not_to_be_known_is_said_while_the_log_of_the_task_is_open() -> None:
    """Airflow closes it when `on_kill` ends: the evidence is requested for less time than that goes on."""
    pauses = [min(2.0**attempt, 10.0) for attempt in range(1, module.DECISION_TRIES)]
    assert sum(pauses) <= module.KILL_PATIENCE_SECONDS - 5


async def test_a_triggerer_that_has_stood_still_takes_no_retry_for_a_clear(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killed: Any
) -> None:
    """Another one has reported meanwhile that the wait was lost, and the retry that goes on with it has just begun."""
    answers(monkeypatch, "running", Evidence.NONE)
    now = [time.time()]
    pulse = shared.Pulse(lambda: now[0])
    monkeypatch.setattr(module, "pulse_of_loop", lambda: pulse)
    trigger = make(lro_emulator, cancel_on_kill=True)
    now[0] += 60
    await killed(trigger)
    assert cancels(lro_emulator, trigger) == 0


async def test_the_pulse_of_a_loop_beats_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that runs has not stood still; one that was held up has, for those who waited then."""
    monkeypatch.setattr(shared, "PULSE_SECONDS", 0.01)
    monkeypatch.setattr(shared, "STANDSTILL_SECONDS", 0.5)
    pulse, began = shared.pulse_of_loop(), time.time()
    assert pulse is shared.pulse_of_loop()
    await asyncio.sleep(0.1)
    assert not pulse.has_stood_still(began)
    time.sleep(0.6)
    await asyncio.sleep(0.05)
    assert pulse.has_stood_still(began)
    assert not pulse.has_stood_still(time.time() + 1)
