"""The one function that turns an outcome into a result or an error."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_lro_provider.attempt.result import settle
from airflow_lro_provider.exceptions import FinalOperationFailedError, OperationFailedError, OperationRunningError
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.resources.names import read_reference

NAME = "projects/p/locations/us-central1/operations/o"
REFERENCE = read_reference(NAME, "datafusion")
FULL = f"//datafusion.us-central1.rep.googleapis.com/{NAME}"

SUCCEEDED = Operation.from_json(
    {"name": NAME, "done": True, "response": {"uri": "gs://b/o"}, "metadata": {"verb": "create"}, "odd": 1}
)
FAILED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 8, "message": "out of disk"}})
CANCELLED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 1, "message": ""}})
RUNNING = Operation.from_json({"name": NAME, "metadata": {"state": "RUNNING"}})

OUTCOMES: list[tuple[Outcome, Operation | None, str]] = [
    (Outcome.SUCCEEDED, SUCCEEDED, "succeeded"),
    (Outcome.FAILED, FAILED, "failed: RESOURCE_EXHAUSTED: out of disk"),
    (Outcome.CANCELLED, CANCELLED, "was cancelled: CANCELLED"),
    (Outcome.COMPLETED_DESPITE_CANCEL, SUCCEEDED, "completed although its cancellation was requested"),
    (Outcome.CANCEL_UNSUPPORTED, RUNNING, "runs on: Data Fusion cannot cancel it"),
    (Outcome.NOT_FOUND, None, "was not found"),
    (Outcome.STILL_RUNNING, RUNNING, "is still running"),
]
IDS = [outcome.value for outcome, _, _ in OUTCOMES]


def test_every_outcome_is_here() -> None:
    """The table of this file has all outcomes."""
    assert {outcome for outcome, _, _ in OUTCOMES} == set(Outcome)


@pytest.mark.parametrize(("outcome", "operation", "words"), OUTCOMES, ids=IDS)
def test_an_outcome_that_does_not_fail_is_the_result(outcome: Outcome, operation: Operation | None, words: str) -> None:
    """The result says the outcome and has the whole operation, or its name if that is all there is."""
    others = {other.value for other in Outcome} - {outcome.value}
    result = settle(REFERENCE, outcome, operation, fail_on=others)
    assert result == {"outcome": outcome.value, "operation": dict(operation.raw) if operation else {"name": NAME}}
    assert type(result["outcome"]) is str


@pytest.mark.parametrize(("outcome", "operation", "words"), OUTCOMES, ids=IDS)
def test_an_outcome_that_fails_is_an_error_in_words(outcome: Outcome, operation: Operation | None, words: str) -> None:
    """The error names the operation, what became of it, and the service's own words."""
    with pytest.raises(AirflowException) as caught:
        settle(REFERENCE, outcome, operation, fail_on={outcome.value})
    assert str(caught.value) == f"the operation {words}: {FULL}"


@pytest.mark.parametrize(("outcome", "operation", "words"), OUTCOMES, ids=IDS)
def test_only_what_still_runs_is_worth_a_retry(outcome: Outcome, operation: Operation | None, words: str) -> None:
    """A finished operation does not change any more: its task fails at once. A running one may be waited for again."""
    with pytest.raises(AirflowException) as caught:
        settle(REFERENCE, outcome, operation, fail_on={outcome.value})
    expected = OperationRunningError if outcome is Outcome.STILL_RUNNING else FinalOperationFailedError
    assert type(caught.value) is expected
    assert isinstance(caught.value, AirflowFailException) is (outcome is not Outcome.STILL_RUNNING)


def test_a_task_that_starts_anew_may_retry_a_failure() -> None:
    """Of a task that started the operation, a retry starts another one: its failure is not final."""
    with pytest.raises(OperationFailedError) as caught:
        settle(REFERENCE, Outcome.NOT_FOUND, None, fail_on={"NOT_FOUND"}, final=False)
    assert not isinstance(caught.value, AirflowFailException)


def test_the_response_can_be_left_out() -> None:
    """A response that is too large for an XCom is left out; everything else stays."""
    result = settle(REFERENCE, Outcome.SUCCEEDED, SUCCEEDED, fail_on=(), include_response=False)
    assert result["operation"] == {key: value for key, value in SUCCEEDED.raw.items() if key != "response"}


def test_the_result_is_a_copy() -> None:
    """Whoever changes the result does not change the operation."""
    result = settle(REFERENCE, Outcome.SUCCEEDED, SUCCEEDED, fail_on=())
    result["operation"]["name"] = "x"
    assert SUCCEEDED.raw["name"] == NAME


def test_the_result_names_the_operation_again() -> None:
    """A result, handed to another task of this package, is a reference to the same operation."""
    for operation in (SUCCEEDED, None):
        assert read_reference(settle(REFERENCE, Outcome.NOT_FOUND, operation, fail_on=()), "datafusion") == REFERENCE


@pytest.mark.parametrize("verdict", [None, True], ids=repr)
def test_a_check_that_is_content(verdict: Any) -> None:
    """None and True of a result_check are fine."""
    result = settle(REFERENCE, Outcome.SUCCEEDED, SUCCEEDED, fail_on=(), result_check=lambda _: verdict)
    assert result["outcome"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("verdict", "why"),
    [(False, "result_check returned False"), ("3 rows are missing", "3 rows are missing"), ("", "")],
    ids=repr,
)
def test_a_check_that_is_not_content(verdict: Any, why: str) -> None:
    """False or a text of a result_check fails the task at once, and the text is its reason."""
    with pytest.raises(OperationFailedError) as caught:
        settle(REFERENCE, Outcome.SUCCEEDED, SUCCEEDED, fail_on=(), result_check=lambda _: verdict)
    assert str(caught.value) == f"the operation succeeded, but result_check rejected it ({why}): {FULL}"


@pytest.mark.parametrize("final", [True, False])
def test_a_check_without_a_response_judges_nothing(final: bool) -> None:
    """B11: a success whose response is missing is none for it, and no retry starts another operation."""
    missing = SUCCEEDED.without_response("it is too large")
    with pytest.raises(FinalOperationFailedError, match="result_check has no response to judge: it is too large"):
        settle(REFERENCE, Outcome.SUCCEEDED, missing, fail_on=(), result_check=lambda _: True, final=final)
    assert (
        settle(REFERENCE, Outcome.SUCCEEDED, missing, fail_on=())["operation"]["responseMissing"] == "it is too large"
    )
    result = settle(REFERENCE, Outcome.SUCCEEDED, missing, fail_on=(), include_response=False)
    assert "responseMissing" not in result["operation"]


def test_a_check_sees_the_operation_as_it_came() -> None:
    """A result_check gets the operation's dict with its response, even if the result leaves that out."""
    seen: list[dict[str, Any]] = []
    settle(REFERENCE, Outcome.SUCCEEDED, SUCCEEDED, fail_on=(), result_check=seen.append, include_response=False)
    assert seen == [dict(SUCCEEDED.raw)]


def test_a_check_cannot_rewrite_the_result() -> None:
    """A result_check gets a dict of its own: what it takes out of it is still in the result."""
    result = settle(
        REFERENCE, Outcome.SUCCEEDED, SUCCEEDED, fail_on=(), result_check=lambda given: given.clear() or True
    )
    assert result["operation"] == dict(SUCCEEDED.raw)


def test_a_check_that_breaks_is_no_yes() -> None:
    """An error of a result_check ends the task as that error."""
    with pytest.raises(KeyError, match="no such field"):
        settle(
            REFERENCE,
            Outcome.SUCCEEDED,
            SUCCEEDED,
            fail_on=(),
            result_check=lambda given: bool(given["response"]["no such field"]),
        )


@pytest.mark.parametrize(
    ("outcome", "operation"),
    [(outcome, operation) for outcome, operation, _ in OUTCOMES if outcome is not Outcome.SUCCEEDED],
    ids=IDS[1:],
)
def test_a_check_judges_only_a_success(outcome: Outcome, operation: Operation | None) -> None:
    """A result_check is not asked about anything that did not succeed."""
    asked: list[Any] = []
    settle(REFERENCE, outcome, operation, fail_on=(), result_check=asked.append)
    assert asked == []


EXECUTION = {"@type": "type.googleapis.com/google.cloud.run.v2.Execution", "taskCount": 2, "cancelledCount": 2}
HIDDEN = Operation.from_json({"name": NAME, "done": True, "response": EXECUTION})


def test_a_hidden_failure_counts_as_failed() -> None:
    """B13: its task fails where FAILED does, and the result says FAILED where not."""
    words = r"^the operation failed, although it reports no error: 0 of 2 tasks of the execution succeeded \("
    with pytest.raises(FinalOperationFailedError, match=words):
        settle(REFERENCE, Outcome.SUCCEEDED, HIDDEN, fail_on={"FAILED"}, judges=True)
    assert settle(REFERENCE, Outcome.SUCCEEDED, HIDDEN, fail_on=(), judges=True)["outcome"] == "FAILED"


@pytest.mark.parametrize("final", [True, False])
def test_who_only_waits_is_told_of_a_cancel(final: bool) -> None:
    """B13: nothing tells the operation of a job's run from that of its cancel but who has started it."""
    with pytest.raises(OperationFailedError) as caught:
        settle(REFERENCE, Outcome.SUCCEEDED, HIDDEN, fail_on={"FAILED"}, judges=True, final=final)
    assert ("`result_check` decides in place of that, e.g. for the operation of a cancel" in str(caught.value)) is final


def test_a_result_check_takes_its_place() -> None:
    """B13: what the author says of a success counts; and a task that only cancels does not judge."""
    kept = settle(REFERENCE, Outcome.SUCCEEDED, HIDDEN, fail_on={"FAILED"}, judges=True, result_check=lambda _: True)
    assert kept["outcome"] == "SUCCEEDED"
    assert settle(REFERENCE, Outcome.SUCCEEDED, HIDDEN, fail_on={"FAILED"})["outcome"] == "SUCCEEDED"
