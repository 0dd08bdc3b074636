"""Both tables of "whose is this operation now?", every row and every combination."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest

from airflow_lro_provider.lro.operation import Outcome, State
from airflow_lro_provider.ownership.decisions import (
    UNKNOWN,
    ArmedRecord,
    Evidence,
    Verdict,
    of_armed_record,
    of_deferral,
    of_killed_trigger,
)

REFERENCE = {"service": "datafusion", "version": "v1", "name": "projects/p/locations/l/operations/o", "host": "h"}
MINE = "token-1"
OWN, ADOPT, CANCEL, UNSURE = Verdict.OWN, Verdict.ADOPT, Verdict.CANCEL, Verdict.UNSURE

# --- a trigger that is taken down ------------------------------------------------------------------

# Every state of a task instance in Airflow 3.3, and what stands for none and for no answer.
DEAD_STATES: list[str | None] = [
    None,
    "removed",
    "success",
    "restarting",
    "failed",
    "upstream_failed",
    "skipped",
    "up_for_reschedule",
]
TOKENS = [MINE, "token-2", None, UNKNOWN]


@pytest.mark.parametrize("token", TOKENS, ids=str)
@pytest.mark.parametrize("state", DEAD_STATES, ids=str)
def test_killed_trigger_of_a_dead_task(state: str | None, token: str | Evidence | None) -> None:
    """A task that is not deferred any more has lost its operation, whatever token there is."""
    assert of_killed_trigger(task_state=state, owner_token=token, my_token=MINE) is CANCEL


@pytest.mark.parametrize(
    ("token", "verdict"), [(MINE, OWN), ("token-2", CANCEL), (None, UNSURE), (UNKNOWN, UNSURE)], ids=str
)
def test_killed_trigger_of_a_deferred_task(token: str | Evidence | None, verdict: Verdict) -> None:
    """A deferred task is mine with my token, another try's with another, and unknown without an answer."""
    assert of_killed_trigger(task_state="deferred", owner_token=token, my_token=MINE) is verdict


@pytest.mark.parametrize(
    ("token", "verdict"), [(MINE, UNSURE), ("token-2", CANCEL), (None, CANCEL), (UNKNOWN, UNSURE)], ids=str
)
@pytest.mark.parametrize("state", ["scheduled", "queued", "running"])
def test_killed_trigger_of_a_task_on_its_way(state: str, token: str | Evidence | None, verdict: Verdict) -> None:
    """Woken, or cleared: with my token nobody knows yet; a new try that has begun has cleared it."""
    assert of_killed_trigger(task_state=state, owner_token=token, my_token=MINE) is verdict


@pytest.mark.parametrize("token", TOKENS, ids=str)
def test_killed_trigger_of_a_task_that_its_worker_ended(token: str | Evidence | None) -> None:
    """A worker that ended the try for a retry has decided about the operation already."""
    assert of_killed_trigger(task_state="up_for_retry", owner_token=token, my_token=MINE) is OWN


@pytest.mark.parametrize("token", TOKENS, ids=str)
def test_killed_trigger_without_an_answer(token: str | Evidence | None) -> None:
    """A false kill cannot be undone: without the state nothing is done."""
    assert of_killed_trigger(task_state=UNKNOWN, owner_token=token, my_token=MINE) is UNSURE


def test_a_trigger_never_adopts() -> None:
    """A trigger that is taken down has nothing to go on with."""
    states = [*DEAD_STATES, "deferred", "up_for_retry", UNKNOWN]
    verdicts = {
        of_killed_trigger(task_state=state, owner_token=token, my_token=MINE)
        for state, token in itertools.product(states, TOKENS)
    }
    assert verdicts == {OWN, CANCEL, UNSURE}


# --- a new try that finds a record -----------------------------------------------------------------


def record(**change: Any) -> ArmedRecord:
    """What try 1 of a task with one retry left behind."""
    return dataclasses.replace(ArmedRecord(REFERENCE, try_number=1, try_id="id-1", max_tries=1), **change)


TABLE: dict[str, tuple[ArmedRecord, dict[str, Any], Verdict]] = {
    "this very try": (record(), {"try_number": 1, "try_id": "id-1", "max_tries": 1}, OWN),
    "this very try, though the operation is cancelling": (
        record(),
        {"try_number": 1, "try_id": "id-1", "max_tries": 1, "state": State.CANCELLING},
        OWN,
    ),
    "a later try with the same id": (record(), {"try_number": 2, "try_id": "id-1", "max_tries": 1}, ADOPT),
    "a later try with the same id, and it fell": (
        record(),
        {"try_number": 2, "try_id": "id-1", "max_tries": 1, "outcome": Outcome.CANCELLED},
        CANCEL,
    ),
    "this very try, marked": (record(killed="kill"), {"try_number": 1, "try_id": "id-1", "max_tries": 1}, CANCEL),
    "marked by the dying process": (record(killed="kill"), {"try_number": 2, "try_id": "id-2", "max_tries": 1}, CANCEL),
    "operation is cancelling": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "state": State.CANCELLING},
        CANCEL,
    ),
    "operation was cancelled": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "state": None, "outcome": Outcome.CANCELLED},
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
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "state": State.RUNNING, "outcome": None},
        ADOPT,
    ),
    "a retry, the operation succeeded": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "state": None, "outcome": Outcome.SUCCEEDED},
        ADOPT,
    ),
    "a retry, the operation failed": (
        record(),
        {"try_number": 2, "try_id": "id-2", "max_tries": 1, "state": None, "outcome": Outcome.FAILED},
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


@pytest.mark.parametrize(("left", "found", "verdict"), TABLE.values(), ids=TABLE.keys())
def test_armed_record(left: ArmedRecord, found: dict[str, Any], verdict: Verdict) -> None:
    """Each row of the table in the docstring of of_armed_record."""
    assert of_armed_record(left, **found) is verdict


@pytest.mark.parametrize(
    ("state", "token", "verdict"),
    [
        ("deferred", "mine", OWN),
        ("deferred", "another", CANCEL),
        ("deferred", None, UNSURE),
        ("deferred", UNKNOWN, UNSURE),
        ("failed", UNKNOWN, CANCEL),
        ("success", UNKNOWN, CANCEL),
        ("skipped", UNKNOWN, CANCEL),
        ("restarting", UNKNOWN, CANCEL),
        (None, UNKNOWN, CANCEL),
        ("running", UNKNOWN, UNSURE),
        ("queued", UNKNOWN, UNSURE),
        ("scheduled", UNKNOWN, UNSURE),
        ("up_for_retry", UNKNOWN, UNSURE),
        (UNKNOWN, UNKNOWN, UNSURE),
    ],
)
def test_a_deferral_that_was_just_reported(state: Any, token: Any, verdict: Verdict) -> None:
    """Only what nothing but a kill can have brought about is one."""
    assert of_deferral(task_state=state, owner_token=token, my_token="mine") is verdict


STATES = [UNKNOWN, None, *State]
OUTCOMES = [UNKNOWN, None, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED]


@pytest.mark.parametrize("killed", [None, "kill"], ids=["unmarked", "marked"])
@pytest.mark.parametrize("max_tries", [1, 2], ids=["not cleared", "cleared"])
@pytest.mark.parametrize("try_number", [0, 1, 2], ids=["earlier", "same number", "later"])
def test_the_evidence_in_its_order(killed: str | None, max_tries: int, try_number: int) -> None:
    """For every combination: any sign that its end was wanted beats a retry, and only a later try adopts."""
    for state, outcome in itertools.product(STATES, OUTCOMES):
        verdict = of_armed_record(
            record(killed=killed),
            try_number=try_number,
            try_id="id-2",
            max_tries=max_tries,
            state=state,
            outcome=outcome,
        )
        unwanted = killed or state is State.CANCELLING or outcome is Outcome.CANCELLED or max_tries != 1
        expected = CANCEL if unwanted else (ADOPT if try_number > 1 else UNSURE)
        assert verdict is expected, (state, outcome)


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
    ],
    ids=str,
)
def test_what_is_no_record_is_none(stored: Any) -> None:
    """Whatever else is found in the store is no record, and no error."""
    assert ArmedRecord.from_dict(stored) is None


def test_words_are_plain_strings() -> None:
    """Verdicts read well in logs."""
    assert [verdict.value for verdict in Verdict] == ["own", "adopt", "cancel", "unsure"]
