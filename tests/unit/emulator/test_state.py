from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_lro_provider.emulator.responses import RefusedError
from airflow_lro_provider.emulator.script import Script
from airflow_lro_provider.emulator.state import EmulatedOperation
from airflow_lro_provider.lro.operation import Operation, Outcome

T0 = 1_800_000_000.0
NAME = "projects/p/operations/o"


def start(**script) -> EmulatedOperation:
    return EmulatedOperation("earthengine", "v1", NAME, 1, Script().but(script), T0, "create", "projects/p/image")


def states(operation: EmulatedOperation, *seconds: float) -> list[str]:
    return [operation.view(T0 + second).state for second in seconds]


def test_it_ends_on_time_with_an_empty_response():
    """An operation runs for its duration, then it is done with what official clients read as Empty."""
    operation = start(duration=10)
    assert states(operation, 0, 9.99, 10) == ["RUNNING", "RUNNING", "SUCCEEDED"]
    resource = operation.view(T0 + 10).operation
    assert resource["done"] is True
    assert resource["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert "error" not in resource


def test_a_running_operation_has_no_done():
    """`done` is left out while it is false, as in proto3 JSON."""
    assert set(start().view(T0).operation) == {"name", "metadata"}


def test_it_may_be_pending_first():
    """Part of the duration may be spent PENDING, without progress."""
    operation = start(duration=10, pending=4)
    assert states(operation, 0, 3.9, 4, 10) == ["PENDING", "PENDING", "RUNNING", "SUCCEEDED"]
    assert start(duration=10, pending=4).view(T0 + 7).operation["metadata"]["progress"] == 0.5


def test_it_may_produce_a_response():
    """A scripted response is sent as it is."""
    assert start(duration=0, response={"@type": "x", "n": 1}).view(T0).operation["response"] == {"@type": "x", "n": 1}


def test_it_may_fail():
    """A scripted error is sent as it is, in the place of a response."""
    operation = start(duration=1, error={"code": 8, "message": "no quota", "details": []})
    view = operation.view(T0 + 1)
    assert view.state == "FAILED"
    assert view.operation["error"] == {"code": 8, "message": "no quota", "details": []}
    assert "response" not in view.operation


def test_it_may_never_end():
    """Without a duration it runs until it is cancelled or finished."""
    operation = start(duration=None)
    assert states(operation, 0, 1e9) == ["RUNNING", "RUNNING"]
    operation.finish(T0 + 1e9 + 1, response={"a": 1})
    assert operation.view(T0 + 1e9 + 1).operation["response"] == {"a": 1}


def test_the_end_is_noted_when_it_was_due_and_not_when_somebody_looked():
    """An operation that nobody polls ends on time all the same."""
    view = start(duration=10).view(T0 + 500)
    assert view.done_at == T0 + 10


def test_cancel_is_honoured_at_once():
    """An honoured cancel leaves an operation with error code 1, by default right away."""
    operation = start(duration=10)
    operation.cancel(T0 + 3)
    view = operation.view(T0 + 3)
    assert (view.state, view.done_at, view.cancel_requested_at, view.cancel_requests) == (
        "CANCELLED",
        T0 + 3,
        T0 + 3,
        1,
    )
    assert Operation.from_json(view.operation).outcome is Outcome.CANCELLED


def test_cancel_is_honoured_late():
    """Until a late cancel is honoured the operation is CANCELLING and not done."""
    operation = start(duration=100, cancel_delay=5)
    operation.cancel(T0 + 10)
    assert states(operation, 10, 14.9, 15) == ["CANCELLING", "CANCELLING", "CANCELLED"]
    assert operation.done_at == T0 + 15


def test_a_second_cancel_changes_nothing():
    """Cancelling twice neither hastens nor delays the end; both requests are counted."""
    operation = start(duration=100, cancel_delay=5)
    operation.cancel(T0 + 10)
    operation.cancel(T0 + 14)
    view = operation.view(T0 + 15)
    assert (view.state, view.cancel_requests, view.cancel_requested_at) == ("CANCELLED", 2, T0 + 10)


def test_it_may_complete_despite_a_late_cancel():
    """If its own end comes before the cancel is honoured, it completes."""
    operation = start(duration=12, cancel_delay=5)
    operation.cancel(T0 + 10)
    assert states(operation, 11.9, 12, 20) == ["CANCELLING", "SUCCEEDED", "SUCCEEDED"]


def test_it_may_ignore_a_cancel():
    """An ignored cancel is taken, shown in the metadata, and the operation completes."""
    operation = start(duration=12, cancel="ignore")
    operation.cancel(T0 + 1)
    assert states(operation, 1, 12) == ["CANCELLING", "SUCCEEDED"]


@pytest.mark.parametrize("second", [1, 20])
def test_it_may_not_implement_cancel(second):
    """An unimplemented cancel is refused, running or done, and changes nothing but the count."""
    operation = start(duration=10, cancel="unimplemented")
    before = operation.view(T0 + second).operation
    with pytest.raises(RefusedError) as refused:
        operation.cancel(T0 + second)
    assert refused.value.status == "UNIMPLEMENTED"
    view = operation.view(T0 + second)
    assert (view.operation, view.cancel_requests) == (before, 1)


def test_cancel_of_what_is_over_is_fine_or_not():
    """A cancel after the end is a no-op for some systems and FAILED_PRECONDITION for others."""
    start(duration=10).cancel(T0 + 10)
    strict = start(duration=10, cancel_when_done="failed_precondition")
    with pytest.raises(RefusedError) as refused:
        strict.cancel(T0 + 10)
    assert refused.value.status == "FAILED_PRECONDITION"


def test_a_strict_system_takes_a_cancel_while_it_runs():
    """FAILED_PRECONDITION is only for finished operations."""
    operation = start(duration=10, cancel_when_done="failed_precondition")
    operation.cancel(T0 + 9)
    assert operation.view(T0 + 9).state == "CANCELLED"


def test_finish_ends_it_at_once_and_only_once():
    """An operation can be ended by hand, with another result; the first end stands."""
    operation = start(duration=100)
    operation.finish(T0 + 5, error={"code": 13, "message": "boom"})
    operation.finish(T0 + 6, response={})
    view = operation.view(T0 + 7)
    assert (view.state, view.done_at) == ("FAILED", T0 + 5)


def test_finish_without_a_result_takes_that_of_the_script():
    """By hand or by time: the scripted result is the result."""
    operation = start(duration=100, response={"a": 1})
    operation.finish(T0 + 5)
    assert operation.view(T0 + 5).operation["response"] == {"a": 1}


def test_progress_goes_from_0_to_1():
    """Progress follows time and is 1 at the end."""
    operation = start(duration=10)
    seen = [operation.view(T0 + second).operation["metadata"]["progress"] for second in (0, 2.5, 5, 10)]
    assert seen == [0, 0.25, 0.5, 1]


def test_progress_stands_still_after_a_cancel():
    """What was cancelled half way stays half way."""
    operation = start(duration=10)
    operation.cancel(T0 + 5)
    assert operation.view(T0 + 500).operation["metadata"]["progress"] == 0.5


events = st.lists(
    st.tuples(
        st.floats(0, 30),
        st.sampled_from(["look", "cancel", "finish", "fail"]),
    ),
    max_size=12,
)
scripts = st.fixed_dictionaries(
    {
        "duration": st.none() | st.floats(0, 30),
        "pending": st.floats(0, 40),
        "cancel": st.sampled_from(["honour", "ignore", "unimplemented"]),
        "cancel_delay": st.floats(0, 20),
        "cancel_when_done": st.sampled_from(["ok", "failed_precondition"]),
    }
)


@given(scripts, events)
def test_once_done_it_never_changes(script, events):
    """Whatever happens, in whatever order and even if the clock jumps back: done is final."""
    operation, final = start(**script), None
    for second, event in events:
        now = T0 + second
        try:
            if event == "cancel":
                operation.cancel(now)
            elif event == "finish":
                operation.finish(now, response={"by": "hand"})
            elif event == "fail":
                operation.finish(now, error={"code": 13})
        except RefusedError:
            pass
        view = operation.view(now)
        Operation.from_json(view.operation)
        assert 0 <= view.operation["metadata"]["progress"] <= 1
        resource = json.dumps(view.operation)
        if final is not None:
            assert resource == final
        if view.done:
            final = resource
