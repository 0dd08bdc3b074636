"""The judge of the kill matrix: what it takes for a leak, a false kill, a duplicate, and green by its own kill."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.bed.judge import History, Seen, duplicates, judge, leaks

KILL = 100.0


def operation(name: str = "a", *, created: float = 50.0, **how: Any) -> Seen:
    """An operation that runs, if nothing else is said."""
    return Seen(name, how.pop("state", "RUNNING"), created, **how)


def cancelled(name: str = "a", *, at: float = KILL + 2, created: float = 50.0, **how: Any) -> Seen:
    """One that was cancelled."""
    return operation(name, created=created, state="CANCELLED", **{"done_at": at + 1, "cancel_requested_at": at, **how})


def succeeded(name: str = "a", *, created: float = 50.0, at: float = 150.0, **how: Any) -> Seen:
    """One that came to its own end."""
    return operation(name, created=created, state="SUCCEEDED", done_at=at, **how)


def history(*operations: Seen, state: str | None = "failed", **how: Any) -> History:
    """A task that was killed."""
    return History(operations, state, **{"killed_at": KILL, **how})


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("cancelled", history(cancelled())),
        ("replaced", history(cancelled(), succeeded("b", created=104), state="success", tries=2)),
        ("adopted", history(succeeded(), state="success", tries=2)),
        ("alive", history(succeeded(), state="success")),
        ("over", history(succeeded(at=99))),
        ("nothing", history()),
        ("left", history(operation())),
    ],
)
def test_every_word_can_be_seen(expected: str, found: History) -> None:
    """What is as expected has no problems, and the word says what it was."""
    judgement = judge(found, expected, {"failed", "success"})
    assert (judgement.word, judgement.problems) == (expected, ())
    other = "left" if expected != "left" else "cancelled"
    assert judge(found, other, {"failed", "success"}).problems


def test_a_leak_needs_a_dead_task_that_owns_it() -> None:
    """An operation that runs is left only if its task is dead, and stood for it."""
    assert leaks(history(operation()))
    assert leaks(history(operation(), state=None)), "a task instance without a state has nobody either"
    assert not leaks(history(operation(), state="running"))
    assert not leaks(history(operation(), owns=False))
    assert not leaks(history(cancelled()))
    assert not leaks(history(operation(cancel_requested_at=101.0))), "it was asked to end, and may take its time"


@pytest.mark.parametrize("expected", ["adopted", "alive", "nothing"])
def test_a_cancel_where_the_task_lives_is_a_false_kill(expected: str) -> None:
    """Also if the task found a way to be happy with it."""
    assert judge(history(cancelled(), state="success", tries=2), expected, {"success"}).false_kills == 1


def test_a_cancel_before_the_kill_or_of_the_fresh_one_is_a_false_kill() -> None:
    """Nobody asked for these."""
    assert judge(history(cancelled(at=KILL - 1)), "cancelled", {"failed"}).false_kills == 1
    both = history(cancelled(), cancelled("b", created=104, at=110), tries=2)
    assert judge(both, "replaced", {"failed"}).false_kills == 1


def test_after_its_end_an_operation_is_left_alone() -> None:
    """A cancel that came before the end of its operation is none too many; one after it is."""
    assert judge(history(cancelled()), "over", {"failed"}).problems == ()
    late = history(succeeded(at=99, cancel_requested_at=102.0, late_cancel=True))
    judgement = judge(late, "over", {"failed"})
    assert (judgement.late, judgement.false_kills) == (1, 0), "it hurts nobody"
    assert judgement.problems == ("a cancel after the end of the operation",)
    assert judge(late, "over", {"failed"}, late=True).problems == ()


def test_a_duplicate_begins_beside_a_live_one() -> None:
    """Not beside one that is over, or was asked to end."""
    assert duplicates([operation(), operation("b", created=60)])
    assert not duplicates([cancelled(at=55), operation("b", created=60)])
    assert not duplicates([operation(cancel_requested_at=55.0), operation("b", created=60)])
    assert not duplicates([succeeded(at=59), operation("b", created=60)])


def test_green_by_its_own_kill() -> None:
    """A success needs an operation that succeeded, or a user who said so."""
    green = history(cancelled(), state="success")
    assert judge(green, "cancelled", {"success"}).green
    assert not judge(history(cancelled(), state="success", marked_success=True), "cancelled", {"success"}).green
    assert not judge(history(cancelled(), state="success", owns=False), "cancelled", {"success"}).green


def test_the_latency_is_from_the_kill_to_the_first_cancel() -> None:
    """And it is a problem if it is too long."""
    judgement = judge(history(cancelled(at=KILL + 7)), "cancelled", {"failed"}, within=5)
    assert judgement.latency == 7
    assert judgement.problems == ("the cancel came after 7.0 s",)
    assert judge(history(succeeded(), state="success"), "alive", {"success"}).latency is None


def test_state_and_tries_are_part_of_it() -> None:
    """A task that ended otherwise, or too soon, is a problem too."""
    assert judge(history(cancelled(), state="success", marked_success=True), "cancelled", {"failed"}).problems == (
        "the task is success, not failed",
    )
    assert judge(history(cancelled()), "cancelled", {"failed"}, tries=2).problems == ("1 tries, not 2",)
