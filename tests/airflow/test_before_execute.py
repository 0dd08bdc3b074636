"""A task that ends before it has come as far as its operation, or after it has left that to a retry.

Airflow 2 ends a task without having called it: killed before `execute`, too late when it is resumed; and it raises its
error of a kill wherever the task is.
"""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_lro_provider import attempt as attempt_room
from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.airflow_compat.exceptions import AirflowRescheduleException, TaskTerminated
from airflow_lro_provider.airflow_compat.task_process import start_seed
from airflow_lro_provider.attempt import adoption, deferral
from airflow_lro_provider.attempt import attempt as attempt_module
from airflow_lro_provider.attempt import task as task_module
from airflow_lro_provider.attempt.attempt import Attempt
from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import OperationInputError, OperationKilled, OperationWaitError
from airflow_lro_provider.lro.errors import OperationsError, PermissionDeniedError
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.ownership.decisions import ADOPTER, Evidence
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.airflow.played import PlayedTry, Store, TakenStore, Variables, alarm, during_the_start, handling
from tests.airflow.versions import Killed, may_execute, sigterm_of

METHOD = "projects/p/locations/us-central1/connections?connectionId=c"


@pytest.fixture
def begin(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PlayedTry]:
    """Begin a process of a task, which Airflow will not call; its tries share their store."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "failed")
    store = Store()
    ids: dict[int, Any] = {}

    def make(number: int = 1, max_tries: int = 0, **next_kwargs: Any) -> PlayedTry:
        this = PlayedTry(lro_emulator, store, number, max_tries)
        this.ti.next_kwargs = next_kwargs
        this.ti.id = ids.setdefault(number, this.ti.id)
        monkeypatch.setattr(task_module, "context_before_execute", lambda: this.context)
        return this

    return make


def sensor(name: str, **arguments: Any) -> OperationSensor:
    """A sensor for an operation."""
    return OperationSensor(task_id="t", operation_name=name, service="datafusion", **arguments)


def starter(**arguments: Any) -> RunOperationOperator:
    """An operator that starts one."""
    return RunOperationOperator(task_id="t", method=METHOD, service="developerconnect", **arguments)


def handed_over(operator: Any, this: PlayedTry) -> dict[str, Any]:
    """What a task hands to itself when it defers."""
    may_execute(operator)
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(this.context)
    return dict(caught.value.kwargs or {})


@pytest.mark.parametrize(("cancels", "expected"), [(True, 1), (False, 0)])
def test_a_sensor_that_is_killed_before_it_looks(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], cancels: bool, expected: int
) -> None:
    """Its operation is named by its arguments: it is cancelled, if it is the sensor's."""
    begin()
    sensor(lro_emulator.create("datafusion", duration=None), cancel_on_kill=cancels).on_kill()
    assert len(lro_emulator.requests(verb="cancel")) == expected


def test_a_task_that_is_killed_before_it_starts_anything_starts_nothing(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry]
) -> None:
    """There is nothing to lose."""
    begin()
    starter().on_kill()
    assert lro_emulator.requests() == []


def test_what_an_earlier_try_has_left_is_cancelled(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry that would have gone on with it is killed before it is called."""
    lro_emulator.script(duration=None)
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "read_task_state", lambda key: "running")
        handed_over(starter(deferrable=True), begin(max_tries=1))
    begin(number=2, max_tries=1)
    starter().on_kill()
    assert len(lro_emulator.requests(verb="cancel")) == 1


@pytest.mark.parametrize("make", [lambda name: sensor(name, deferrable=True), lambda _: starter(deferrable=True)])
@pytest.mark.parametrize(
    "event", [{"error": "Trigger/execution timeout"}, {"event": {"status": "lost", "message": "m"}}]
)
def test_an_execution_timeout_of_a_deferred_task_cancels(
    lro_emulator: Emulator,
    begin: Callable[..., PlayedTry],
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[str], Any],
    event: dict[str, Any],
) -> None:
    """Airflow 2 resumes it only to fail it, with retries or without, and calls ``on_kill``."""
    lro_emulator.script(duration=None)
    name = lro_emulator.create("datafusion", duration=None)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    known = handed_over(make(name), begin(max_tries=3))
    begin(max_tries=3, **({} if "error" in event else known), **event)
    try:
        raise AirflowTaskTimeout
    except AirflowTaskTimeout:
        make(name).on_kill()
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_a_task_that_is_killed_with_its_result_in_hand_cancels_nothing(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry]
) -> None:
    """Its event says that the operation has ended."""
    begin(event={"status": "finished", "operation": {"name": "o", "done": True, "response": {}}})
    sensor(lro_emulator.create("datafusion", duration=None), deferrable=True).on_kill()
    assert lro_emulator.requests() == []


class KillingFinder:
    """Finds no module, but sends SIGTERM when the main thread begins to import this one."""

    def __init__(self, module: str) -> None:
        self.module, self.sent = module, False

    def find_spec(self, name: str, *_: Any) -> None:
        """See :class:`importlib.abc.MetaPathFinder`."""
        if name == self.module and not self.sent and threading.current_thread() is threading.main_thread():
            self.sent = True
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("is_resumed", [True, False], ids=["resumed", "at first"])
@pytest.mark.parametrize("module", ["adoption", "attempt", "resumed", "role", "start"])
def test_a_task_that_is_killed_in_the_middle_of_an_import(
    lro_emulator: Emulator,
    begin: Callable[..., PlayedTry],
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    is_resumed: bool,
) -> None:
    """What it has imported half, no other thread can import: on a busy machine that takes seconds."""
    lro_emulator.script(duration=None)
    known: dict[str, Any] = {}
    if is_resumed:
        with monkeypatch.context() as patch:
            patch.setattr(evidence, "read_task_state", lambda key: "running")
            known = handed_over(starter(deferrable=True), begin())
        operator: Any = starter(deferrable=True)
        run = functools.partial(operator.execute_complete, event={"status": "lost", "message": "m"}, **known)
    else:
        operator = sensor(lro_emulator.create("datafusion", duration=None), cancel_on_kill=True)
        run = operator.execute
    this = begin(**known)
    may_execute(operator)

    def killed(*_: Any) -> None:
        operator.on_kill()
        raise TaskTerminated("Task received SIGTERM signal")

    monkeypatch.setattr(task_module, "RAISING", (signal.SIGTERM,))
    monkeypatch.setattr(task_module, "CANCEL_TIMEOUT_SECONDS", 5.0)
    finder = KillingFinder(f"{attempt_room.__name__}.{module}")
    monkeypatch.delitem(sys.modules, finder.module)
    monkeypatch.delattr(attempt_room, module)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    with handling(signal.SIGTERM, killed), pytest.raises(TaskTerminated):
        run(this.context)
    assert finder.sent
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_a_try_begins_with_all_that_its_end_needs() -> None:
    """So that nothing is imported one by one later, when a kill may come in between."""
    rooms = "attempt.deferral", "attempt.result", "lro.redaction", "lro.resources.request_body", "triggers.events"
    code = f"""
import sys
from airflow_lro_provider.attempt import adoption, start
from airflow_lro_provider.attempt.attempt import Attempt
missing = [room for room in {rooms} if f"airflow_lro_provider.{{room}}" not in sys.modules]
assert not missing, missing
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(params=["a kill", "execution_timeout"])
def ends_while_it_prepares(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Let an operator be ended while it reads its connection; gives the errors that it may end with."""
    connect = Attempt.connect

    def end(operator: Any) -> Any:
        def ended(self: Attempt, read: Any) -> Any:
            self.guard.enter(Phase.PREPARING)
            if request.param == "execution_timeout":
                raise AirflowTaskTimeout
            sigterm_of(operator)()  # which Airflow 3 only notes here
            return connect(self, read)

        monkeypatch.setattr(Attempt, "connect", ended)
        may_execute(operator)
        return Killed if request.param == "a kill" else AirflowTaskTimeout

    return end


def test_a_sensor_that_ends_while_it_prepares(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], ends_while_it_prepares: Callable[[Any], Any]
) -> None:
    """Its operation, which it has not looked at yet, is cancelled."""
    this = begin()
    operator = sensor(lro_emulator.create("datafusion", duration=None), cancel_on_kill=True)
    with pytest.raises(ends_while_it_prepares(operator)):
        operator.execute(this.context)
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_a_retry_that_ends_while_it_prepares(
    lro_emulator: Emulator,
    begin: Callable[..., PlayedTry],
    ends_while_it_prepares: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the try before it has left, and it would have adopted, is cancelled."""
    lro_emulator.script(duration=None)
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "read_task_state", lambda key: "running")
        patch.setattr(Attempt, "connect", Attempt.connect)
        handed_over(starter(deferrable=True), begin(max_tries=1))
    this, operator = begin(number=2, max_tries=1), starter()
    with pytest.raises(ends_while_it_prepares(operator)):
        operator.execute(this.context)
    assert len(lro_emulator.requests(verb="cancel")) == 1


def test_a_cleared_task_that_ends_while_it_prepares_replaces_all_the_same(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker shuts down, and its connection fails: the record still tells the next try that it was cleared."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    lro_emulator.script(duration=None)
    first = begin(max_tries=2)
    handed_over(starter(deferrable=True), first)
    left = dict(first.store)
    this, operator = begin(number=2, max_tries=4), starter()

    def ended(self: Attempt, read: Any) -> Any:
        self.guard.enter(Phase.PREPARING)
        sigterm_of(operator)()
        raise OperationsError("the connection is not defined")

    may_execute(operator)
    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "connect", ended)
        with pytest.raises((Killed, OperationsError)):
            operator.execute(this.context)
    assert dict(this.store) == left
    handed_over(starter(deferrable=True, poll_interval=0.02), begin(number=3, max_tries=4))
    old, _ = lro_emulator.operations()
    assert old.cancel_requests >= 1


def test_what_an_earlier_try_has_left_elsewhere_is_left_alone(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection leads to another server by now: nothing is sent there, and the record stays for the next try."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    lro_emulator.script(duration=None)
    first = begin(max_tries=1)
    handed_over(starter(deferrable=True), first)
    left = dict(first.store)
    with Emulator() as other:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", other.airflow_connection_json())
        this, operator = begin(number=2, max_tries=1), starter()
        operator.method = "nonsense ? ?"
        may_execute(operator)
        with pytest.raises(OperationInputError):
            operator.execute(this.context)
        assert other.requests() == []
    assert dict(this.store) == left


def test_what_an_earlier_try_of_a_sensor_waited_for_is_not_forgotten(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is another one by now: this one's operation is cancelled, and the record of the other stays."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    names = [lro_emulator.create("datafusion", duration=None) for _ in range(2)]
    first = begin(max_tries=1)
    handed_over(sensor(names[0], deferrable=True), first)
    left = dict(first.store)
    this, operator = begin(number=2, max_tries=1), sensor(names[1])

    def ended(self: Attempt, read: Any) -> Any:
        self.guard.enter(Phase.PREPARING)
        raise AirflowTaskTimeout

    may_execute(operator)
    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "connect", ended)
        with pytest.raises(AirflowTaskTimeout):
            operator.execute(this.context)
    assert dict(this.store) == left
    assert [len(lro_emulator.requests(verb="cancel", name=name)) for name in names] == [0, 1]


def test_a_process_of_an_older_try_cancels_nothing_of_a_younger_one(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still while its task was cleared; below Airflow 3.3 it may read what the try that lives has left."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    lro_emulator.script(duration=None)
    living = begin(number=2, max_tries=1)
    handed_over(starter(deferrable=True), living)
    stale = begin(max_tries=0)
    stale.ti.id = uuid.UUID(int=0)
    operator = starter(timeout=2)
    may_execute(operator)
    with pytest.raises(OperationWaitError, match="seems to be younger"):
        operator.execute(stale.context)
    assert lro_emulator.requests(verb="cancel") == []


def test_a_first_try_that_ends_while_it_prepares_has_nothing_to_lose(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], ends_while_it_prepares: Callable[[Any], Any]
) -> None:
    """Nothing is sent."""
    this, operator = begin(), starter()
    with pytest.raises(ends_while_it_prepares(operator)):
        operator.execute(this.context)
    assert lro_emulator.requests() == []


def test_a_lost_start_that_is_sent_again_is_not_interrupted(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], without_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cleared task asks what its earlier try has started; an execution_timeout meanwhile waits for the response."""
    lro_emulator.script(duration=None)
    lro_emulator.fail("reset", verb="start", after=True, times=None)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    this, operator = begin(), starter()
    may_execute(operator)
    with pytest.raises(Exception, match="no response"):
        operator.execute(this.context)
    lro_emulator.store._failures.clear()
    this, operator = begin(number=2, max_tries=1), starter(execution_timeout=timedelta(hours=1))
    may_execute(operator)

    during_the_start(monkeypatch, lambda: signal.raise_signal(signal.SIGALRM))
    with handling(signal.SIGALRM, alarm), pytest.raises(AirflowTaskTimeout):
        operator.execute(this.context)
    [view] = lro_emulator.operations()
    assert view.cancel_requests >= 1


def test_a_kill_after_the_operation_was_left_to_a_retry(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 2 calls `on_retry_callback` while the task still runs: marked now, there will be no retry."""
    lro_emulator.script(duration=None)
    lro_emulator.fail(403, verb="get", times=None)
    this, operator = begin(max_tries=1), starter()
    may_execute(operator)
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "read_task_state", lambda key: "running")
        with pytest.raises(PermissionDeniedError):
            operator.execute(this.context)
    assert lro_emulator.requests(verb="cancel") == []
    operator.on_kill()
    assert len(lro_emulator.requests(verb="cancel")) == 1


@pytest.mark.parametrize("is_first", [True, False], ids=["before its token", "after it"])
def test_an_outdated_try_does_not_defer(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """Airflow 2 would write it over the try that runs: it ends, and leaves the operation to that one."""
    monkeypatch.setattr(deferral, "takes_any_deferral", lambda: True)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    lro_emulator.script(duration=None)
    this, store = begin(), TakenStore()
    this.context["task_state_store"] = store

    def replaced(*_: Any) -> None:
        store.taken = True

    if is_first:
        monkeypatch.setattr(evidence, "new_owner_token", lambda ti, reference: replaced() or "token")
    else:
        monkeypatch.setattr(deferral, "_push", replaced)
    operator = starter(deferrable=True)
    may_execute(operator)
    with pytest.raises(Killed):
        operator.execute(this.context)
    assert lro_emulator.requests(verb="cancel") == []


@pytest.mark.parametrize(
    ("state", "kind", "cancels"), [("failed", Killed, 1), ("running", AirflowRescheduleException, 0)]
)
def test_a_task_that_was_marked_is_not_rescheduled(
    lro_emulator: Emulator,
    begin: Callable[..., PlayedTry],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    kind: type[BaseException],
    cancels: int,
) -> None:
    """Airflow 2 would forget the mark: it is killed instead."""
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    monkeypatch.setattr("airflow_lro_provider.sweep.ledger._variables", Variables)
    monkeypatch.setattr(attempt_module, "takes_any_deferral", lambda: True)
    this = begin()
    monkeypatch.setattr(evidence, "read_task_state", lambda key: state)
    operator = sensor(lro_emulator.create("datafusion", duration=None), mode="reschedule", poke_interval=60)
    may_execute(operator)
    with pytest.raises(kind):
        operator.execute(this.context)
    assert len(lro_emulator.requests(verb="cancel")) == cancels


def test_a_try_that_adopts_says_so_to_an_older_trigger(lro_emulator: Emulator, begin: Callable[..., PlayedTry]) -> None:
    """A trigger of the try before it that still runs would take the operation for nobody's."""
    lro_emulator.script(duration=0.3)
    this = begin(max_tries=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "read_task_state", lambda key: "running")
        handed_over(starter(deferrable=True), this)
    following, operator = begin(number=2, max_tries=1), starter()
    may_execute(operator)
    operator.execute(following.context)
    left, adopted = this.pushed[evidence.OWNER_KEY], following.pushed[evidence.OWNER_KEY]
    assert evidence.judge_owner(adopted, left) == ADOPTER


def test_a_start_has_a_request_id_of_its_own(lro_emulator: Emulator, begin: Callable[..., PlayedTry]) -> None:
    """Two Airflows may count alike: never do two tasks send the same start, or they would have one operation."""
    ids = [start_seed(begin().ti) for _ in range(2)]
    assert (ids[0] == ids[1]) == (AIRFLOW >= (3,)), "Airflow 3 has an id for each try, which no other Airflow has"
    assert start_seed(begin(number=2).ti) not in ids


def test_the_deadline_of_a_trigger_is_before_that_of_airflow(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Airflow 2 itself wakes at `execution_timeout` may know of no operation."""
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    began = time.time() - 10
    monkeypatch.setattr(deferral, "execution_timeout_begins", lambda ti: began)
    operator = sensor(
        lro_emulator.create("datafusion", duration=None), deferrable=True, execution_timeout=timedelta(seconds=60)
    )
    may_execute(operator)
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(begin().context)
    deadline = caught.value.trigger.serialize()[1]["deadline"]
    assert (deadline["cause"], deadline["seconds"]) == ("execution_timeout", 60.0)
    assert deadline["at"] == pytest.approx(began + 60 - deferral.AHEAD_SECONDS)


@pytest.mark.parametrize("max_tries", [1, 2], ids=["adopts", "replaces"])
def test_a_try_says_first_of_all_that_it_sees_to_what_was_left(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch, max_tries: int
) -> None:
    """Airflow deletes XComs when a try begins: until its token is there, a trigger of the one before knows nothing."""
    lro_emulator.script(duration=None)
    before = begin(max_tries=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "read_task_state", lambda key: "running")
        handed_over(starter(deferrable=True), before)
    following = begin(number=2, max_tries=max_tries)
    seen: list[str | Evidence] = []

    def poll(attempt: Any) -> None:
        seen.append(evidence.judge_owner(following.pushed[evidence.OWNER_KEY], before.pushed[evidence.OWNER_KEY]))
        raise AirflowTaskTimeout

    monkeypatch.setattr(adoption, "_poll", poll)
    operator = starter(deferrable=True)
    may_execute(operator)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute(following.context)
    assert seen == [ADOPTER]


def test_a_try_that_begins_anew_has_a_token_for_its_new_operation(
    lro_emulator: Emulator, begin: Callable[..., PlayedTry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a trigger of the one before would take it for that operation's adopter."""
    lro_emulator.script(duration=None)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    before, following = begin(max_tries=1), begin(number=2, max_tries=2)
    handed_over(starter(deferrable=True), before)
    handed_over(starter(deferrable=True, poll_interval=1), following)
    left, mine = before.pushed[evidence.OWNER_KEY], following.pushed[evidence.OWNER_KEY]
    assert [one.done for one in lro_emulator.operations()] == [True, False]
    assert evidence.judge_owner(mine, left) == mine


@pytest.mark.parametrize(("state", "cancels"), [("failed", 1), ("success", 1), ("restarting", 1), ("running", 0)])
def test_a_task_that_was_marked_before_it_fails_is_not_tried_again(
    lro_emulator: Emulator,
    begin: Callable[..., PlayedTry],
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    cancels: int,
) -> None:
    """Airflow 2 would forget the mark, and let a retry go on with the operation: it is killed instead."""
    lro_emulator.script(duration=None)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: "running")
    known = handed_over(starter(deferrable=True), begin(max_tries=2))
    monkeypatch.setattr(attempt_module, "takes_any_deferral", lambda: True)
    monkeypatch.setattr(evidence, "read_task_state", lambda key: state)
    operator, event = starter(deferrable=True), {"status": "lost", "message": "denied", "owner": known["token"]}
    may_execute(operator)
    with pytest.raises(OperationKilled if cancels else OperationWaitError):
        operator.execute_complete(begin(max_tries=2).context, event, **known)
    assert len(lro_emulator.requests(verb="cancel")) == cancels
