"""What the sweep reports of a cancellation: a request is not a cancellation."""

from __future__ import annotations

import pytest

from airflow_lro_provider.lro.cancel import CancelResult
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.sweep.reconciler import SweepResult
from airflow_lro_provider.sweep.report import What, reported

RUNNING = Operation("o")
SUCCEEDED = Operation("o", done=True, response={})
FAILED = Operation("o", done=True, error={"code": 13})
CANCELLED = Operation("o", done=True, error={"code": 1})


@pytest.mark.parametrize("later", [None, RUNNING, SUCCEEDED, FAILED, CANCELLED], ids=str)
def test_a_request_that_was_accepted(later: Operation | None) -> None:
    """Cancelled is what was seen to be cancelled; without a later poll, or while it runs, it was only requested."""
    what, why = reported(CancelResult(True, None, RUNNING), later)
    if later in (None, RUNNING):
        assert what is What.REQUESTED
    else:
        assert what is (What.CANCELLED if later is CANCELLED else What.FINISHED)
    assert ("COMPLETED_DESPITE_CANCEL" in why) is (later is SUCCEEDED)


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (Outcome.SUCCEEDED, What.FINISHED),
        (Outcome.FAILED, What.FINISHED),
        (Outcome.CANCELLED, What.FINISHED),
        (Outcome.NOT_FOUND, What.FINISHED),
        (Outcome.CANCEL_UNSUPPORTED, What.UNSURE),
    ],
)
def test_a_request_that_was_not_sent_or_not_accepted(outcome: Outcome, what: What) -> None:
    """What had ended needs none; what cannot be cancelled is left to a person."""
    assert reported(CancelResult(False, outcome, None), None)[0] is what


def test_the_counts_of_a_sweep_have_all_words() -> None:
    """Also those that are zero: metrics and the command line show the same in every sweep."""
    assert list(SweepResult(alive=2, unknown=["a"], unreadable=["b", "c", "d"]).counts.items()) == [
        ("found", 6),
        ("alive", 2),
        ("finished", 0),
        ("cancelled", 0),
        ("requested", 0),
        ("would_cancel", 0),
        ("unsure", 4),
    ]
    summary = "0 found, 0 alive, 0 finished, 0 cancelled, 0 requested, 0 unsure"
    assert SweepResult().summary() == summary
