"""The event with which a trigger wakes its task survives being stored, and nothing else is taken for one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.triggers.events import (
    DeadlinePassed,
    Event,
    Finished,
    Gone,
    Lost,
    is_for_another,
    is_of_an_end,
    outline,
    read_event,
)

NAME = "projects/p/operations/o"
RUNNING = Operation.from_json({"name": NAME, "metadata": {"state": "RUNNING"}, "selfLink": "unknown field"})
SUCCEEDED = Operation.from_json({"name": NAME, "done": True, "response": {"@type": "x", "uri": "gs://b/o"}})
CANCELLED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 1, "message": ""}})

EVENTS: dict[str, Event] = {
    "succeeded": Finished(SUCCEEDED),
    "cancelled": Finished(CANCELLED),
    "gone": Gone("NOT_FOUND"),
    "lost": Lost("403"),
    "timeout": DeadlinePassed("timeout", 90.5, None, RUNNING),
    "sensor timeout, cancel requested": DeadlinePassed("sensor_timeout", 60.0, "REQUESTED", RUNNING),
    "execution timeout, never polled": DeadlinePassed("execution_timeout", 60.0, "REQUESTED", None),
    "timeout, last poll failed": DeadlinePassed("timeout", 60.0, None, RUNNING, "it was refused."),
    "timeout, cancel refused": DeadlinePassed("timeout", 60.0, "REFUSED", RUNNING),
    "timeout, cancel unsupported": DeadlinePassed("timeout", 60.0, "CANCEL_UNSUPPORTED", RUNNING),
}


def test_a_deadline_in_words() -> None:
    """C5: what was seen last is said, and that it was seen only if it was."""
    words = "the sensor timeout of 90.5 s passed while deferred"
    assert str(DeadlinePassed("sensor_timeout", 90.5, None, RUNNING)) == words
    words = "the timeout of 3 s passed while deferred, and the last poll failed (no route)"
    assert str(DeadlinePassed("timeout", 3.0, None, None, "no route.")) == words


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_an_event_survives_the_way(event: Event) -> None:
    """What a trigger yields is plain JSON, and is read back as the same event."""
    assert read_event(json.loads(json.dumps(event.to_dict()))) == event


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
def test_an_owner_in_an_event_does_not_disturb(event: Event) -> None:
    """The owner token that a trigger adds belongs to the envelope."""
    assert read_event({**event.to_dict(), "owner": "token-1"}) == event


def test_an_event_keeps_the_whole_operation() -> None:
    """Unknown fields of the operation are still there when the task reads the event."""
    event = read_event(DeadlinePassed("timeout", 1.0, None, RUNNING).to_dict())
    assert isinstance(event, DeadlinePassed)
    assert event.operation is not None
    assert event.operation.raw["selfLink"] == "unknown field"


WHOLE = EVENTS["timeout"].to_dict()
REFUSED: dict[str, Any] = {
    "None": None,
    "a string": "finished",
    "a list": ["finished"],
    "empty": {},
    "Airflow's own": {"status": "success", "message": "done"},
    "an unknown status": {"status": "cancelled", "operation": dict(CANCELLED.raw)},
    "an odd status": {"status": ["finished"], "operation": dict(CANCELLED.raw)},
    "finished without an operation": {"status": "finished"},
    "finished with null": {"status": "finished", "operation": None},
    "finished with something else": {"status": "finished", "operation": {"state": "DONE"}},
    "finished with an operation that is not": {"status": "finished", "operation": dict(RUNNING.raw)},
    "finished with an odd done": {"status": "finished", "operation": {"name": NAME, "done": "true"}},
    "gone without a message": {"status": "gone"},
    "lost without a message": {"status": "lost"},
    **{
        f"deadline without {key}": {k: v for k, v in WHOLE.items() if k != key}
        for key in WHOLE
        if key not in ("status", "cancellation", "last_error")
    },
    "deadline with odd seconds": {**WHOLE, "seconds": []},
    "deadline with a word for seconds": {**WHOLE, "seconds": "a while"},
    "deadline with no number of seconds": {**WHOLE, "seconds": 10**400},
    "deadline with something else": {**WHOLE, "operation": {"state": "DONE"}},
}


@pytest.mark.parametrize("stored", REFUSED.values(), ids=REFUSED.keys())
def test_an_unknown_event_fails_closed(stored: Any) -> None:
    """Whatever is not one of ours is refused in words, and never taken for a success."""
    with pytest.raises(ValueError, match=r"an event that is not understood \(with .*\); it counts as a failure"):
        read_event(stored)


def test_a_refused_event_is_not_repeated() -> None:
    """The message has the event's keys, and none of its values."""
    with pytest.raises(ValueError, match=r"with \['payload', 'status'\]") as caught:
        read_event({"status": "odd", "payload": "a secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("flag", ["true", 1, None, {}], ids=repr)
def test_only_true_says_that_a_cancel_was_requested(flag: Any) -> None:
    """A cancel that is not certain counts as none."""
    event = read_event({**WHOLE, "cancel_requested": flag})
    assert isinstance(event, DeadlinePassed)
    assert event.cancel_requested is False


@pytest.mark.parametrize(
    ("requested", "cancellation"), [(True, "REQUESTED"), (False, None)], ids=["requested", "not requested"]
)
def test_an_event_of_an_older_release_is_read(requested: bool, cancellation: str | None) -> None:
    """A triggerer that was not upgraded yet says only whether a cancel request was accepted."""
    stored = {"status": "deadline", "cause": "timeout", "seconds": 1.5, "operation": dict(RUNNING.raw)}
    event = read_event({**stored, "cancel_requested": requested})
    assert event == DeadlinePassed("timeout", 1.5, cancellation, RUNNING)


@pytest.mark.parametrize(
    ("cancellation", "requested"),
    [
        (None, False),
        ("REQUESTED", True),
        ("CANCELLED", True),
        ("REFUSED", False),
        ("CANCEL_UNSUPPORTED", False),
        ("NOT_FOUND", False),
    ],
)
def test_a_worker_of_an_older_release_reads_whether_it_has_to_cancel(cancellation: str | None, requested: bool) -> None:
    """It knows only this field, and cancels by itself unless it is true."""
    event = DeadlinePassed("timeout", 1.5, cancellation, RUNNING)
    assert event.to_dict()["cancel_requested"] is event.cancel_requested is requested


@pytest.mark.parametrize("odd", [7, True, ["REQUESTED"], {}], ids=repr)
def test_an_odd_cancellation_counts_as_none(odd: Any) -> None:
    """A cancel that is not certain is requested again."""
    assert read_event({**WHOLE, "cancellation": odd}) == EVENTS["timeout"]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    stored=st.dictionaries(
        st.sampled_from(["status", "operation", "message", "cause", "seconds", "cancel_requested", "cancellation"]),
        st.one_of(
            st.sampled_from(["finished", "gone", "lost", "deadline", 10**400, dict(RUNNING.raw), dict(SUCCEEDED.raw)]),
            st.none(),
            st.integers(),
            st.floats(),
            st.text(max_size=5),
        ),
    )
)
def test_any_event_is_read_or_refused(stored: dict[str, Any]) -> None:
    """Any JSON is one of our events or a ValueError, and a finished one is finished."""
    try:
        event = read_event(stored)
    except ValueError:
        return
    if isinstance(event, Finished):
        assert event.operation.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("stored", "token", "another"),
    [
        ({"owner": "token-1"}, "token-1", False),
        ({"owner": "token-2"}, "token-1", True),
        ({"owner": None}, "token-1", True),
        ({"owner": "token-1"}, None, True),
        ({"owner": None}, None, False),
        ({"status": "gone"}, "token-1", False),
        ({}, None, False),
        (None, "token-1", False),
        ("owner", "token-1", False),
    ],
)
def test_is_for_another(stored: Any, token: str | None, another: bool) -> None:
    """An event with another owner is for another try; one without an owner cannot be told apart."""
    assert is_for_another(stored, token) is another


@pytest.mark.parametrize("error", [None, {"code": 3, "message": "hunter2", "details": [{"reason": "hunter2"}]}])
def test_an_outline_has_no_words(error: dict[str, Any] | None) -> None:
    """M2: what is left of an operation is its name and how it has ended."""
    raw = {"name": "operations/o", "done": True, "metadata": {"statusMessage": "hunter2"}, "error": error}
    left = outline(Operation.from_json(raw))
    assert left.raw == {"name": "operations/o", "done": True, **({"error": {"code": 3}} if error else {})}
    assert (left.lacks_response, read_event(Finished(left).to_dict())) == (True, Finished(left))
    assert left.outcome is (Outcome.FAILED if error else Outcome.SUCCEEDED)
    assert "lacks_response" not in Finished(Operation.from_json(raw)).to_dict()
    assert outline(Operation(name="operations/o")).raw == {"name": "operations/o", "done": False}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"status": "finished", "operation": {"name": "o", "done": True, "response": {}}}, True),
        ({"status": "gone", "message": "404"}, True),
        ({"status": "lost", "message": "403"}, False),
        ({"status": "finished", "operation": {"name": "o"}}, False),
        ({}, False),
        (None, False),
    ],
)
def test_an_end_is_one_that_an_event_says(stored: Any, expected: bool) -> None:
    """What is no event says nothing of the operation."""
    assert is_of_an_end(stored) is expected
