"""What a chaos has done to the operations of one task. Pure; all times are in seconds since the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.bed.judge import History, Seen, duplicates, is_green, leaks

__all__ = ["Account", "Finding", "Struck", "settle"]

IN_A_MOMENT = 5.0
"""A deferral this young may not have reached a triggerer, in seconds; on a loaded machine that takes so long."""
SILENCE = 3.0
"""A trigger that has not looked for so long is in no triggerer, in seconds: it looks once a second."""
NOTICED = 12.0
"""Until so long after a kill its triggerer may not have heard of it, in seconds."""
ORPHAN = 3.0
"""Until so long after its supervisor's death an orphan may still look, in seconds: it looks once a second."""
DOWN = 45.0
"""Until so long after it a triggerer's trouble may have cost a trigger its hook, in seconds."""
FORETOLD = 120.0
"""A cancel may come so long after the kill that it is for: a retry that is about to fail has to begin first."""
CLEARED = 330.0
"""The same of a clear: a task that runs waits for its `retry_delay` then (300 s), also without retries."""
ENDS = frozenset({"failed", "success", "clear", "run-failed", "deadline", "revived", "airflow"})
"""What may cancel, whatever comes next."""
FOR_GOOD = ENDS - {"clear", "revived", "airflow"}
"""After which there is no other try, unless something else happens to the task."""
CRASHES = frozenset({"sigkill", "sigkill-supervisor", "sigterm", "sigterm-supervisor", "freeze", "error"})
"""What may cancel if there is no retry."""
NEVER_RAN = "the sensor was killed before it ever looked: the operation was not its own"
"""What no sweep ends either."""
STALLED = "Airflow has left the task without a state in a run that goes on: to Airflow, and so to the sweep, it lives"
"""What Airflow 3.3.2 sometimes does to a task that is cleared while its run is being ended."""
OF_USERS = frozenset({"failed", "success", "clear", "run-failed"})


@dataclass(frozen=True)
class Struck:
    """One kill that took place.

    :param kind: which; besides the plan's, ``revived`` (cleared when dead) and ``airflow`` (failed by Airflow's bug).
    :param at: when.
    :param state: Airflow's state of the task then.
    :param since: when it had come into it.
    :param may_retry: whether there was a retry left.
    :param looked: when somebody had last looked at the newest operation of the task.
    """

    kind: str
    at: float
    state: str | None
    since: float
    may_retry: bool
    looked: float


@dataclass(frozen=True)
class Account:
    """All that is known of one task in the end.

    :param down: when a triggerer was killed, restarted or stalled.
    :param outages: from when to when the API server was away: its supervisor then kills a task that runs.
    :param may_retry: whether the task has retries.
    :param unseen: whether nobody has ever looked at the operation, which the task does not start itself.
    :param run_state: of the task's run, if the task itself has no state in the end.
    """

    operations: Sequence[Seen]
    state: str | None
    struck: Sequence[Struck]
    down: Sequence[float] = ()
    outages: Sequence[tuple[float, float]] = ()
    may_retry: bool = False
    unseen: bool = False
    run_state: str | None = None

    @property
    def never_begins(self) -> bool:
        """Whether the task was cleared, and its run is over all the same: Airflow never runs it again."""
        return self.state is None and self.run_state in ("failed", "success")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    :param what: leak, false kill, duplicate or green.
    :param operation: its name.
    :param why: for a leak (or what came of one): why Airflow called no hook. Empty if that is not known: a defect.
    """

    what: str
    operation: str
    why: str = ""


def settle(account: Account) -> list[Finding]:
    """All that is not as it should be."""
    history = History(
        operations=account.operations,
        state=account.state,
        marked_success=any(blow.kind == "success" for blow in account.struck),
    )
    found = [Finding("leak", one.name, _why_left(account, one)) for one in leaks(history)]
    for second in duplicates(account.operations):
        older = [one for one in account.operations if one.is_live(second.created_at) and one is not second]
        found.append(Finding("duplicate", second.name, _why_forgotten(account, older[0])))
    found += [Finding("false kill", one.name) for one in account.operations if _is_false_kill(account, one)]
    if is_green(history):
        found.append(Finding("green", account.operations[-1].name))
    return found


def _is_false_kill(account: Account, operation: Seen) -> bool:
    at = operation.cancel_requested_at
    if account.never_begins and account.struck and at is not None and at > account.struck[-1].at:
        return False
    if at is None or (operation.done_at is not None and operation.done_at < at):
        return False  # the latter did no harm
    if not account.may_retry and any(begin <= at <= end + NOTICED for begin, end in account.outages):
        return False
    replaced = any(one is not operation and abs(one.created_at - at) <= NOTICED for one in account.operations)
    if replaced and any(
        begin <= operation.created_at + 1.0 and operation.created_at <= end for begin, end in account.outages
    ):
        return False  # its record could not be written: another try, which knows nothing of it, has its own by now
    last = max((blow for blow in account.struck if blow.at <= at + 0.5), key=lambda blow: blow.at, default=None)
    if last is not None and last.kind in FOR_GOOD and last.at >= operation.created_at - IN_A_MOMENT:
        return False  # nobody has it since, however late that is noticed
    before = [
        blow for blow in account.struck if at - (CLEARED if blow.kind == "clear" else FORETOLD) <= blow.at <= at + 0.5
    ]
    return not any(blow.kind in ENDS or (blow.kind in CRASHES and not blow.may_retry) for blow in before)


def _why_left(account: Account, operation: Seen) -> str:
    """Why no hook was called for the death of the task that had this operation; empty if one should have been."""
    later = [
        blow for blow in account.struck if blow.at >= operation.created_at - IN_A_MOMENT and blow.kind != "revived"
    ]
    if account.unseen:
        return NEVER_RAN
    if account.state is None and account.run_state in ("running", "queued"):
        return STALLED
    for blow in reversed(later):
        if why := _without_a_hook(account, blow):
            return why
    if any(operation.created_at <= end + DOWN for _, end in account.outages):
        return "its tries could not begin while the API server was away"
    return ""


def _without_a_hook(account: Account, blow: Struck) -> str:
    if blow.kind == "airflow":
        return "Airflow itself had failed the task (its bug, not a kill)"
    if blow.kind == "sigkill" and not blow.may_retry:
        return "SIGKILL of the task without a retry"
    is_new = blow.state == "running" and blow.looked <= blow.since and blow.at - blow.since <= IN_A_MOMENT
    if blow.kind in CRASHES and not blow.may_retry and is_new:
        return "killed before its process had begun the task (what it had is of an earlier try)"
    if blow.kind not in OF_USERS:
        return ""
    if blow.state in (None, "scheduled", "queued", "up_for_retry", "restarting"):
        return f"killed while it had no process (it was {blow.state or 'cleared'})"
    if blow.state == "running":
        # Its process was gone before: nobody has looked since, and nobody is there who could hear of this.
        gone = [one for one in account.struck if one.kind in ("sigkill", "sigkill-supervisor") and one.at < blow.at]
        if any(one.may_retry and blow.looked <= one.at + ORPHAN and blow.at - one.at <= DOWN for one in gone):
            return "killed when its process was gone by SIGKILL already, before Airflow knew"
        return ""
    if blow.state != "deferred":
        return ""
    # What a triggerer has, it looks at; so what was not looked at since the deferral, or for long, it did not have.
    if blow.looked <= blow.since and blow.at - blow.since < IN_A_MOMENT:
        return "killed in the moment of its deferral, before a triggerer had it"
    if any(blow.looked <= down <= blow.at and blow.at - down <= DOWN for down in account.down):
        return "its triggerer was down"
    if blow.at - blow.looked > SILENCE and any(0 <= blow.at - down <= DOWN for down in account.down):
        return "its triggerer was down"
    if any(0 <= down - blow.at <= NOTICED for down in account.down):
        return "its triggerer went down before it heard of it"
    return ""


def _why_forgotten(account: Account, operation: Seen) -> str:
    """Why a try may not have known of an older operation: its start was not answered when the process died."""
    for blow in account.struck:
        if blow.kind in ("sigkill", "sigkill-supervisor") and 0 <= blow.at - operation.created_at < 0.5:
            return "SIGKILL before the start was answered"
    return ""
