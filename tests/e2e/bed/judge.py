"""What became of the operations of one task: judged from what the server and Airflow saw, and nothing else.

Pure: no Airflow, no server, no clock. All times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

__all__ = ["FINAL", "History", "Judgement", "Seen", "duplicates", "judge", "leaks"]

FINAL = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""The states in which a task is dead."""
WORDS = {
    "cancelled": "its operation was cancelled",
    "replaced": "its operation was cancelled, and after its end a fresh one was started",
    "adopted": "the next try went on with its operation",
    "alive": "the task and its operation went on",
    "over": "its operation was over, and was left alone",
    "nothing": "no operation was started, none was cancelled",
    "left": "its operation was left running",
}
"""What can be seen, and so expected, of a repetition."""
_UNHARMED = frozenset({"adopted", "alive", "over", "nothing"})

ROUNDING = 0.01
"""The server tells its times in milliseconds, rounded down."""


@dataclass(frozen=True)
class Seen:
    """The server's view of one operation.

    :param name: its name.
    :param state: PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED.
    :param created_at: when it was started.
    :param done_at: when it was over, if it is.
    :param cancel_requested_at: when the first cancel request came, if one came.
    :param late_cancel: whether one came after its end.
    """

    name: str
    state: str
    created_at: float
    done_at: float | None = None
    cancel_requested_at: float | None = None
    late_cancel: bool = False

    def is_live(self, at: float) -> bool:
        """Whether it was running at a time, and nobody had asked for its end."""
        ends = [moment for moment in (self.done_at, self.cancel_requested_at) if moment is not None]
        return self.created_at <= at and all(at < end for end in ends)

    @property
    def is_left(self) -> bool:
        """Whether it runs still, and nobody has asked for its end."""
        return self.done_at is None and self.cancel_requested_at is None


@dataclass(frozen=True)
class History:
    """All that is known of one task at the end of a repetition.

    :param operations: its operations, oldest first.
    :param state: Airflow's state of it.
    :param tries: how many tries it had.
    :param killed_at: when it was killed; ``None`` if nobody did, or it cannot be said (a timeout).
    :param marked_success: whether a user has marked it as successful.
    :param owns: whether it stands for its operation; a task that cancels does not.
    """

    operations: Sequence[Seen]
    state: str | None
    tries: int = 1
    killed_at: float | None = None
    marked_success: bool = False
    owns: bool = True


@dataclass(frozen=True)
class Judgement:
    """What a repetition has shown.

    :param word: what was seen, one of :data:`WORDS`.
    :param problems: why it is not as expected; empty if it is.
    :param leaks: operations left running although their task is dead.
    :param false_kills: operations cancelled although their task lives.
    :param duplicates: operations started beside a live one of the same task.
    :param green: whether the task turned green by its own kill.
    :param late: operations that got a cancel after their end, which does no harm.
    :param latency: seconds from the kill to the cancel at the server, if there were both.
    """

    word: str
    problems: Sequence[str] = field(default=())
    leaks: int = 0
    false_kills: int = 0
    duplicates: int = 0
    green: bool = False
    late: int = 0
    latency: float | None = None


def leaks(history: History) -> list[Seen]:
    """The operations that nobody will ever end."""
    dead = history.state in FINAL or history.state is None
    return [operation for operation in history.operations if operation.is_left] if history.owns and dead else []


def duplicates(operations: Sequence[Seen]) -> list[Seen]:
    """The operations that were started while an older one was live."""
    return [
        new for index, new in enumerate(operations) if any(old.is_live(new.created_at) for old in operations[:index])
    ]


def false_kills(history: History, expected: str) -> list[Seen]:
    """The operations that were cancelled although their task had a use for them. One that was over is not hurt."""
    cancelled = [one for one in history.operations if one.state == "CANCELLED" or _is_asked_to_end(one)]
    if not history.owns:
        return []
    if expected in _UNHARMED - {"over"}:
        return cancelled
    too_early = [one for one in cancelled if history.killed_at and _cancel_of(one) < history.killed_at - ROUNDING]
    fresh = history.operations[1:] if expected == "replaced" else ()
    return [one for one in cancelled if one in too_early or one in fresh]


def _is_asked_to_end(operation: Seen) -> bool:
    at, done_at = operation.cancel_requested_at, operation.done_at
    return at is not None and (done_at is None or at <= done_at)


def is_green(history: History) -> bool:
    """Whether the task is successful without an operation that is."""
    if history.state != "success" or history.marked_success or not history.owns or not history.operations:
        return False
    return history.operations[-1].state != "SUCCEEDED"


def judge(
    history: History,
    expected: str,
    ends: Collection[str],
    *,
    within: float | None = None,
    tries: int = 1,
    late: bool = False,
) -> Judgement:
    """Judge one repetition.

    :param expected: one of :data:`WORDS`.
    :param ends: the states of Airflow in which the task may end.
    :param within: how long after the kill the cancel may reach the server, in seconds.
    :param tries: how many tries the task must have had at least.
    :param late: whether a cancel may come after the operation's end.
    """
    word = _word(history)
    problems = []
    if not _is_as_expected(word, expected, history):
        problems.append(f"{word}, not {expected}")
    if history.state not in ends:
        problems.append(f"the task is {history.state}, not {' or '.join(sorted(ends))}")
    if history.tries < tries:
        problems.append(f"{history.tries} tries, not {tries}")
    latency = _latency(history)
    if latency is not None and within is not None and latency > within:
        problems.append(f"the cancel came after {latency:.1f} s")
    left = leaks(history)
    killed = false_kills(history, expected)
    second = duplicates(history.operations)
    for what, found in (("false kill", killed), ("duplicate", second)):
        if found:
            problems.append(f"{what} of {', '.join(one.name.rpartition('/')[2] for one in found)}")
    too_late = sum(one.late_cancel for one in history.operations)
    if too_late and not late:
        problems.append("a cancel after the end of the operation")
    if is_green(history):
        problems.append("green by its own kill")
    return Judgement(
        word=word,
        problems=tuple(problems),
        leaks=len(left),
        false_kills=len(killed),
        duplicates=len(second),
        green=is_green(history),
        late=too_late,
        latency=latency,
    )


def _word(history: History) -> str:
    if not history.operations:
        return "nothing"
    first, last = history.operations[0], history.operations[-1]
    if any(one.is_left for one in history.operations):
        return "left"
    if len(history.operations) > 1:
        return "replaced"
    if not _ended_by_itself(last):
        return "cancelled"
    if history.killed_at is not None and first.done_at is not None and first.done_at <= history.killed_at:
        return "over"
    return "adopted" if history.tries > 1 else "alive"


def _is_as_expected(word: str, expected: str, history: History) -> bool:
    if word == expected:
        return True
    if expected == "over":
        # It may end a moment after the kill, or the cancel may come a moment before its end.
        return word in ("alive", "adopted", "cancelled")
    if expected == "nothing":
        return word == "left" and not history.owns
    if expected == "replaced":
        return False
    return expected == "adopted" and word == "over"


def _ended_by_itself(operation: Seen) -> bool:
    return operation.state in ("SUCCEEDED", "FAILED") and (
        operation.cancel_requested_at is None or operation.late_cancel
    )


def _cancel_of(operation: Seen) -> float:
    assert operation.cancel_requested_at is not None
    return operation.cancel_requested_at


def _latency(history: History) -> float | None:
    if history.killed_at is None:
        return None
    moments = [
        _cancel_of(one)
        for one in history.operations
        if one.cancel_requested_at is not None and one.cancel_requested_at >= history.killed_at
    ]
    return min(moments) - history.killed_at if moments else None
