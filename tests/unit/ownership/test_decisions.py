"""Every table of ``ownership/decisions.py``: every row and every combination."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest

from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.ownership.decisions import (
    ADOPTER,
    ArmedRecord,
    Decision,
    EndedBy,
    Evidence,
    TaskState,
    of_armed_record,
    of_deadline,
    of_deferral,
    of_killed_trigger,
    of_ledger_entry,
    of_stopped_task,
    reason_to_cancel,
    run_has_ended,
    waits_for_its_run,
    was_stopped,
    will_go_on,
)

REFERENCE = {"service": "datafusion", "version": "v1", "name": "projects/p/locations/l/operations/o", "host": "h"}
MINE = "token-1"
OWN, ADOPT, CANCEL, UNSURE = Decision.OWN, Decision.ADOPT, Decision.CANCEL, Decision.UNSURE
NONE, GONE, UNKNOWN = Evidence.NONE, Evidence.GONE, Evidence.UNKNOWN

# Every state of a task instance in Airflow 3.3, and what stands in for one that is missing.
ENDED: list[TaskState] = ["failed", "success", "skipped", "upstream_failed", "removed"]
STATES: list[TaskState] = [
    *ENDED,
    "restarting",
    "up_for_reschedule",
    "up_for_retry",
    "deferred",
    "scheduled",
    "queued",
    "running",
    *Evidence,
]

# --- a trigger that is taken down ------------------------------------------------------------------

DEAD_STATES: list[TaskState] = [*ENDED, "restarting", "up_for_reschedule", NONE, GONE]
TOKENS: list[str | Evidence] = [MINE, "token-2", ADOPTER, NONE, UNKNOWN]


@pytest.mark.parametrize("token", TOKENS, ids=str)
@pytest.mark.parametrize("state", DEAD_STATES, ids=str)
def test_killed_trigger_of_a_dead_task(state: TaskState, token: str | Evidence) -> None:
    """A task that is not deferred any more has lost its operation, whatever token there is."""
    assert of_killed_trigger(task_state=state, owner_token=token, my_token=MINE) is CANCEL


@pytest.mark.parametrize(
    ("token", "decision"),
    [(MINE, OWN), ("token-2", CANCEL), (ADOPTER, OWN), (NONE, UNSURE), (UNKNOWN, UNSURE)],
    ids=str,
)
def test_killed_trigger_of_a_deferred_task(token: str | Evidence, decision: Decision) -> None:
    """A deferred task is mine with my token, another try's with another, and unknown without an answer."""
    assert of_killed_trigger(task_state="deferred", owner_token=token, my_token=MINE) is decision


@pytest.mark.parametrize(
    ("token", "decision"),
    [(MINE, UNSURE), ("token-2", CANCEL), (ADOPTER, OWN), (NONE, CANCEL), (UNKNOWN, UNSURE)],
    ids=str,
)
@pytest.mark.parametrize("state", ["scheduled", "queued", "running"])
def test_killed_trigger_of_a_task_on_its_way(state: str, token: str | Evidence, decision: Decision) -> None:
    """Woken, or cleared: with my token nobody knows yet; a new try that has begun has cleared it.

    Where the triggerer has stood still, that may be a retry, which will go on with the operation: it has no token yet.
    """
    evidence = {"task_state": state, "owner_token": token, "my_token": MINE}
    assert of_killed_trigger(**evidence) is decision
    assert of_killed_trigger(**evidence, stood_still=True) is (UNSURE if token is NONE else decision)


@pytest.mark.parametrize("token", TOKENS, ids=str)
def test_killed_trigger_of_a_task_that_its_worker_ended(token: str | Evidence) -> None:
    """A worker that ended the try for a retry has decided about the operation already."""
    assert of_killed_trigger(task_state="up_for_retry", owner_token=token, my_token=MINE) is OWN


@pytest.mark.parametrize("token", TOKENS, ids=str)
def test_killed_trigger_without_an_answer(token: str | Evidence) -> None:
    """A false kill cannot be undone: without the state nothing is done."""
    assert of_killed_trigger(task_state=UNKNOWN, owner_token=token, my_token=MINE) is UNSURE


def test_a_trigger_never_adopts() -> None:
    """A trigger that is taken down has nothing to go on with."""
    decisions = {
        of_killed_trigger(task_state=state, owner_token=token, my_token=MINE)
        for state, token in itertools.product(STATES, TOKENS)
    }
    assert decisions == {OWN, CANCEL, UNSURE}


# --- a new try that finds a record -----------------------------------------------------------------


PENDING = Operation("o", metadata={"state": "PENDING"})
RUNNING = Operation("o")
CANCELLING = Operation("o", metadata={"state": "CANCELLING"})
SUCCEEDED = Operation("o", done=True, response={})
FAILED = Operation("o", done=True, error={"code": 13})
CANCELLED = Operation("o", done=True, error={"code": 1})


def record(**change: Any) -> ArmedRecord:
    """What try 1 of a task with one retry left behind."""
    return dataclasses.replace(ArmedRecord(REFERENCE, try_number=1, try_id="id-1", max_tries=1), **change)


TABLE: dict[str, tuple[ArmedRecord, dict[str, Any], Decision]] = {
    "this very try": (record(), {"try_number": 1, "try_id": "id-1", "max_tries": 1}, OWN),
    "this very try, though the operation is cancelling": (
        record(),
        {"try_number": 1, "try_id": "id-1", "max_tries": 1, "seen": CANCELLING},
        OWN,
    ),
    "a later try with the same id": (record(), {"try_number": 2, "try_id": "id-1", "max_tries": 1}, ADOPT),
    "a later try with the same id, and it fell": (
        record(),
        {"try_number": 2, "try_id": "id-1", "max_tries": 1, "seen": CANCELLED},
        CANCEL,
    ),
    "this very try, marked": (record(killed="kill"), {"try_number": 1, "try_id": "id-1", "max_tries": 1}, CANCEL),
    "marked by the dying process": (record(killed="kill"), {"try_number": 2, "try_id": "id-2", "max_tries": 1}, CANCEL),
    "operation is cancelling": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "seen": CANCELLING},
        CANCEL,
    ),
    "operation was cancelled": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "seen": CANCELLED},
        CANCEL,
    ),
    "cleared": (record(), {"try_number": 2, "try_id": "id-2", "max_tries": 2}, CANCEL),
    "cleared, and the try number does not tell": (
        record(),
        {"try_number": 1, "try_id": "id-2", "max_tries": 0},
        CANCEL,
    ),
    "a retry after a crash": (record(), {"try_number": 2, "try_id": "id-2", "max_tries": 1}, ADOPT),
    "the third try after two crashes": (
        record(try_number=1),
        {"try_number": 3, "try_id": "id-3", "max_tries": 1},
        ADOPT,
    ),
    "a retry, the operation runs": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "seen": RUNNING},
        ADOPT,
    ),
    "a retry, the operation succeeded": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "seen": SUCCEEDED},
        ADOPT,
    ),
    "a retry, the operation failed": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "seen": FAILED},
        ADOPT,
    ),
    "the task instance was deleted and made anew": (
        record(try_id="01900000-0000-7000-8000-000000000000"),
        {"try_number": 1, "try_id": "01900000-0001-7000-8000-000000000000", "max_tries": 1},
        CANCEL,
    ),
    "a task instance that is older than the record": (
        record(try_id="01900000-0001-7000-8000-000000000000"),
        {"try_number": 1, "try_id": "01900000-0000-7000-8000-000000000000", "max_tries": 1},
        UNSURE,
    ),
    "ids that do not tell their age": (
        record(try_id="01900000-0000-4000-8000-000000000000"),
        {"try_number": 1, "try_id": "01900000-0001-4000-8000-000000000000", "max_tries": 1},
        UNSURE,
    ),
    "another process of the same try": (record(), {"try_number": 1, "try_id": "id-2", "max_tries": 1}, UNSURE),
    "a process that is out of date": (
        record(try_number=3),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1},
        UNSURE,
    ),
}


@pytest.mark.parametrize(("left", "found", "decision"), TABLE.values(), ids=TABLE.keys())
def test_armed_record(left: ArmedRecord, found: dict[str, Any], decision: Decision) -> None:
    """Each row of the table in the docstring of of_armed_record."""
    assert of_armed_record(left, **found) is decision


@pytest.mark.parametrize("token", TOKENS, ids=str)
@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_deferral_that_was_just_reported(state: TaskState, token: str | Evidence) -> None:
    """Only what nothing but a kill can have brought about is one."""
    if state == "deferred":
        expected = {MINE: OWN, "token-2": CANCEL, ADOPTER: OWN}.get(str(token), UNSURE)
    else:
        expected = CANCEL if state in (*ENDED, "restarting", GONE) else UNSURE
    assert of_deferral(task_state=state, owner_token=token, my_token=MINE) is expected


@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_task_that_was_stopped_while_it_runs(state: TaskState) -> None:
    """A state that is not known, or that another try may be in, does not say so."""
    assert was_stopped(state) is (state in (*ENDED, "restarting", NONE, GONE))


@pytest.mark.parametrize("killed", [None, "kill"], ids=["unmarked", "marked"])
@pytest.mark.parametrize("max_tries", [1, 2], ids=["not cleared", "cleared"])
@pytest.mark.parametrize("try_number", [0, 1, 2], ids=["earlier", "same number", "later"])
def test_the_evidence_in_its_order(killed: str | None, max_tries: int, try_number: int) -> None:
    """For every combination: any sign that its end was wanted beats a retry, and only a later try adopts.

    An earlier one decides nothing: its process stood still, and the record is that of a try that lives.
    """
    for seen in (None, PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED, CANCELLED):
        decision = of_armed_record(
            record(killed=killed), try_number=try_number, try_id="id-2", max_tries=max_tries, seen=seen
        )
        unwanted = killed or seen in (CANCELLING, CANCELLED) or max_tries != 1
        expected = CANCEL if unwanted else ADOPT if try_number > 1 else UNSURE
        assert decision is (UNSURE if try_number < 1 else expected), seen


@pytest.mark.parametrize("killed", [None, "kill"], ids=["unmarked", "marked"])
@pytest.mark.parametrize("seen", [None, PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED, CANCELLED], ids=str)
def test_a_record_of_this_very_try(seen: Operation | None, killed: str | None) -> None:
    """It comes back from a deferral: whatever the operation does, it is its own, unless it was marked as killed."""
    left = record(killed=killed)
    expected = CANCEL if killed else OWN
    assert of_armed_record(left, try_number=1, try_id="id-1", max_tries=1, seen=seen) is expected


def test_a_record_survives_being_stored() -> None:
    """What the task state store gives back after JSON is the same record."""
    for left in (record(), record(killed="on_kill"), record(reference=None, request_id="r")):
        assert ArmedRecord.from_dict(json.loads(json.dumps(dataclasses.asdict(left)))) == left


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "armed",
        [],
        {},
        {"reference": "projects/p", "try_number": 1, "max_tries": 1},
        {"reference": REFERENCE, "max_tries": 1},
        {"reference": REFERENCE, "try_number": 1},
        {"reference": REFERENCE, "try_number": "1", "max_tries": 1},
        {"reference": REFERENCE, "try_number": 1, "max_tries": None},
        "\ud800",
        {"reference": REFERENCE, "try_number": "\ud800", "try_id": "x", "max_tries": 1},
    ],
    ids=repr,
)
def test_what_is_no_record_is_none(stored: Any) -> None:
    """Whatever else is found in the store is no record, and no error."""
    assert ArmedRecord.from_dict(stored) is None


@pytest.mark.parametrize(
    ("state", "token", "decision"),
    [
        ("deferred", "mine", Decision.CANCEL),
        ("deferred", "another's", Decision.OWN),
        ("deferred", Evidence.NONE, Decision.UNSURE),
        ("deferred", Evidence.UNKNOWN, Decision.UNSURE),
        *[(state, "mine", Decision.UNSURE) for state in ("scheduled", "queued", "running")],
        *[(state, "another's", Decision.OWN) for state in ("scheduled", "queued", "running")],
        *[(state, Evidence.UNKNOWN, Decision.UNSURE) for state in ("scheduled", "queued", "running")],
        *[("up_for_retry", token, Decision.OWN) for token in ("mine", "another's", Evidence.UNKNOWN)],
        *[(Evidence.UNKNOWN, token, Decision.UNSURE) for token in ("mine", "another's", Evidence.UNKNOWN)],
        *[
            (state, token, Decision.CANCEL)
            for state in ("failed", "success", "skipped", "removed", Evidence.NONE, Evidence.GONE)
            for token in ("mine", "another's", Evidence.UNKNOWN)
        ],
    ],
    ids=str,
)
def test_of_deadline(state: TaskState, token: str | Evidence, decision: Decision) -> None:
    """Row A16: a trigger cancels at its deadline only what its own try still has, or nobody."""
    assert of_deadline(task_state=state, owner_token=token, my_token="mine") is decision


# --- a try that ends -------------------------------------------------------------------------------

DEAD = {"failed", "success", "skipped", "upstream_failed", "removed", "restarting", Evidence.GONE}
ANOTHER_TRY = {"queued", "scheduled", "up_for_retry", "up_for_reschedule", "deferred", Evidence.NONE, "a new one"}


@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("is_current", [True, False, None])
@pytest.mark.parametrize("state", [*sorted(DEAD | ANOTHER_TRY, key=str), "running", Evidence.UNKNOWN], ids=str)
def test_a_process_that_is_told_to_stop(state: TaskState, is_current: bool | None, goes_on: bool) -> None:
    """For every combination: the task is dead, or it is another try's, or a next try goes on, or nobody does (A1)."""
    decision = of_stopped_task(task_state=state, is_current=is_current, goes_on=goes_on)
    if state in DEAD:
        assert decision is (Decision.ADOPT if state == "success" and is_current is False else Decision.CANCEL)
    elif state in ANOTHER_TRY or is_current is False:
        assert decision is Decision.ADOPT
    else:
        assert decision is (Decision.ADOPT if goes_on else Decision.CANCEL)


FINAL = {EndedBy.SENSOR_TIMEOUT, EndedBy.SKIPPED_AT_TIMEOUT, EndedBy.SKIPPED, EndedBy.FAILED_FOR_GOOD}
GOES_ON = {EndedBy.DEFERRED, EndedBy.RESCHEDULED, EndedBy.STOPPED}


@pytest.mark.parametrize("ended_by", EndedBy)
@pytest.mark.parametrize(("try_number", "max_tries"), [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2)])
def test_who_goes_on_with_the_operation(ended_by: EndedBy, try_number: int, max_tries: int) -> None:
    """For every combination."""
    for knows, fails in itertools.product((True, False), repeat=2):
        goes_on = will_go_on(
            ended_by, try_number=try_number, max_tries=max_tries, knows_operation=knows, retry_policy_fails=fails
        )
        retried = try_number <= max_tries and ended_by not in FINAL and not fails
        assert goes_on is (ended_by in GOES_ON or (retried and knows)), (knows, fails)


ALWAYS = {
    EndedBy.KILLED: "Airflow told this task to stop",
    EndedBy.INTERRUPTED: "the task was interrupted",
    EndedBy.EXECUTION_TIMEOUT: "the task's execution_timeout has passed",
    EndedBy.SENSOR_TIMEOUT: "the sensor's timeout has passed",
    EndedBy.TIMEOUT: "the task's timeout has passed",
    EndedBy.SKIPPED_AT_TIMEOUT: "the task is skipped, its timeout has passed",
}


@pytest.mark.parametrize("cancel_on_failure", [True, False])
@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("ended_by", EndedBy)
def test_reason_to_cancel(ended_by: EndedBy, goes_on: bool, cancel_on_failure: bool) -> None:
    """For every combination: which ends of a try cancel its operation, and what the log says about it."""
    reason = reason_to_cancel(ended_by, goes_on=goes_on, cancel_on_failure=cancel_on_failure)
    if ended_by in GOES_ON:
        assert reason is None
    elif ended_by in ALWAYS:
        assert (reason or "").startswith(ALWAYS[ended_by])
    elif ended_by is EndedBy.ORPHANED:
        assert (reason is None) is goes_on
        assert goes_on or "supervisor" in (reason or "")
    elif ended_by is EndedBy.FAILED and goes_on:
        assert reason is None
    else:
        assert reason == ("the task failed and is not tried again" if cancel_on_failure else None)


@pytest.mark.parametrize("goes_on", [True, False])
@pytest.mark.parametrize("ended_by", EndedBy)
def test_an_observer_cancels_nothing(ended_by: EndedBy, goes_on: bool) -> None:
    """cancel_on_kill=False: the operation belongs to others."""
    assert reason_to_cancel(ended_by, goes_on=goes_on, cancel_on_kill=False) is None


# --- the sweep -------------------------------------------------------------------------------------

WAITS: list[TaskState] = [NONE, "scheduled", "queued", "up_for_retry"]
RUNS = [None, "queued", "running", "failed", "success"]


@pytest.mark.parametrize("state", STATES, ids=str)
def test_ledger_entry(state: TaskState) -> None:
    """For every combination of a task's state, its run's, a later try and the task's own policy."""
    for run, will_adopt, on_failure, superseded in itertools.product(RUNS, *[(True, False)] * 3):
        decision = of_ledger_entry(
            task_state=state,
            run_state=run,
            will_adopt=will_adopt,
            cancel_on_failure=on_failure,
            superseded=superseded,
        )
        if state is UNKNOWN:
            expected = UNSURE
        elif superseded or state is GONE:
            expected = CANCEL
        elif state in ("failed", "skipped"):
            expected = CANCEL if on_failure else UNSURE
        elif state in ENDED or (state == "up_for_retry" and not will_adopt):
            expected = CANCEL
        else:
            expected = CANCEL if state in WAITS and run in ("failed", "success") else OWN
        assert decision is expected, (run, will_adopt, on_failure, superseded)


def test_when_the_state_of_a_run_matters() -> None:
    """Only for tasks that are to run; an unknown state of a run is not its end."""
    assert [state for state in STATES if waits_for_its_run(state)] == ["up_for_retry", "scheduled", "queued", NONE]
    assert [state for state in RUNS if run_has_ended(state)] == ["failed", "success"]


def test_words_are_plain_strings() -> None:
    """Decisions and missing facts read well in logs."""
    assert [decision.value for decision in Decision] == ["own", "adopt", "cancel", "let go", "unsure"]
    assert [str(missing) for missing in Evidence] == ["none", "gone", "unknown"]
