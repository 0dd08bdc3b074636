"""Whose is this operation now, and must it be cancelled? Every such decision is made here, from evidence alone.

A wrong guess destroys a live job, so what cannot be known is :attr:`Decision.UNSURE` and left alone. What Airflow shows
in each case was measured (``tests/e2e/test_verdict.py``). No Airflow, network or clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from airflow_lro_provider.ownership.tries import is_same, is_younger

if TYPE_CHECKING:  # and else in functions: parsing a Dag imports this module, and should not load `lro` for it
    from airflow_lro_provider.lro.operation import Operation


class Decision(str, enum.Enum):
    """The answer to "whose is this operation now?"."""

    OWN = "own"  # the task that decides is alive and goes on with the operation: do nothing
    ADOPT = "adopt"  # an earlier try of the same work lost it: go on with it instead of starting another
    CANCEL = "cancel"  # no task wants it any more
    LET_GO = "let go"  # its task has left it to nobody on purpose: forget it
    UNSURE = "unsure"  # it cannot be known from here: do nothing, log it, leave it to the next try or the sweep


class Evidence(enum.Enum):
    """The placeholder of a fact that is missing, one for each way in which it can be missing."""

    NONE = "none"  # a task instance without a state (just cleared, not scheduled yet), an XCom that is not there
    GONE = "gone"  # there is no such task instance (any more)
    UNKNOWN = "unknown"  # Airflow did not respond

    def __str__(self) -> str:
        return str(self.value)


NONE, GONE, UNKNOWN = Evidence.NONE, Evidence.GONE, Evidence.UNKNOWN
TaskState = Union[str, Evidence]  # noqa: UP007 - evaluated at run time on Python 3.10

KILLED = "Airflow told this task to stop: it was marked or cleared, its run was stopped, or its worker shuts down"
REPLACED = "Airflow has another try of this task by now"
ADOPTER = "another try, which goes on with it"  # in place of the token of such a try
NOT_OWNED = "it is not this task's (cancel_on_kill=False), and runs on"
STOPPED = "this process was told to stop; the next try of the task goes on with the operation, or decides"
_ENDED = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})  # or will never run of itself
WOKEN = frozenset({"scheduled", "queued", "running"})  # a deferred task was woken; or cleared, to begin anew


# -- a deferred task ------------------------------------------------------------------------------------


def of_killed_trigger(
    *, task_state: TaskState, owner_token: str | Evidence, my_token: str, stood_still: bool = False
) -> Decision:
    """Decide for a trigger that Airflow takes down with the message "user action".

    Airflow 3.3 sends that for a real kill, but also when another triggerer took the trigger over, and task states carry
    no try number: after a clear, the new try may be deferred again before the old trigger hears of it. The owner token
    distinguishes them: every try writes its own to XCom before it defers.

    ===========================  ==============  =================================================================
    task state                   owner token     decision
    ===========================  ==============  =================================================================
    unknown                      any             UNSURE
    up_for_retry                 any             OWN: a worker has ended this try, and decided with more evidence
    deferred                     mine            OWN: only the triggers are redistributed
    deferred, scheduled, …       ADOPTER         OWN: that try goes on with this very operation
    deferred                     another try's   CANCEL: cleared, and the next try has deferred already
    deferred                     none            UNSURE: a deferred task of ours always has a token
    scheduled, queued, running   mine            UNSURE: woken, or cleared: the next try will know
    scheduled, queued, running   none            CANCEL: cleared, and the next try begins, which deletes XComs
    - and it has stood still                     UNSURE: or a retry, after what another triggerer has reported
    scheduled, queued, running   another's       CANCEL: the next try has begun
    deferred, scheduled, …       unknown         UNSURE
    any other, no state, gone    any             CANCEL: marked, cleared or deleted
    ===========================  ==============  =================================================================

    :param owner_token: the token in XCom now.
    :param my_token: the token that this trigger was created with.
    :param stood_still: whether its triggerer has, so that another one may have had the trigger meanwhile.
    """
    if task_state is UNKNOWN:
        return Decision.UNSURE
    if task_state == "up_for_retry":
        return Decision.OWN
    if task_state != "deferred" and task_state not in WOKEN:
        return Decision.CANCEL
    if owner_token is UNKNOWN or (owner_token is NONE and (task_state == "deferred" or stood_still)):
        return Decision.UNSURE
    if owner_token != my_token:
        return Decision.OWN if owner_token == ADOPTER else Decision.CANCEL
    return Decision.OWN if task_state == "deferred" else Decision.UNSURE


def of_deadline(*, task_state: TaskState, owner_token: str | Evidence, my_token: str) -> Decision:
    """Decide for a trigger whose deadline has passed, perhaps long ago: its triggerer may have stood still.

    As :func:`of_killed_trigger`, but deferred and mine is CANCEL, and what another try has is OWN: it is that try's.
    What is UNSURE is cancelled by the task that the event wakes.
    """
    decision = of_killed_trigger(task_state=task_state, owner_token=owner_token, my_token=my_token)
    if task_state == "deferred" or task_state in WOKEN:
        if isinstance(owner_token, Evidence):
            return Decision.UNSURE
        if owner_token != my_token:
            return Decision.OWN
        return Decision.CANCEL if task_state == "deferred" else Decision.UNSURE
    return decision


def of_deferral(*, task_state: TaskState, owner_token: str | Evidence, my_token: str) -> Decision:
    """Decide for a deferral that was reported to Airflow a moment ago.

    Airflow 3.3 refuses it if the task was marked or cleared while it ran, or begun anew by another scheduler, and calls
    no hook then.

    ================================  ============================================================
    evidence                          decision
    ================================  ============================================================
    deferred, mine or an ADOPTER's    OWN: accepted, or begun anew: a trigger guards it
    deferred, with another's          CANCEL: cleared, and a new try has deferred already
    failed, success, restarting, …    CANCEL: killed while it ran
    running                           UNSURE: not accepted; Airflow's supervisor will try again
    no state, queued, …; unknown      UNSURE: begun anew, woken or cleared: the next try knows
    ================================  ============================================================

    :param my_token: the token of the trigger that was handed over.
    """
    if task_state == "deferred":
        return of_killed_trigger(task_state=task_state, owner_token=owner_token, my_token=my_token)
    return Decision.CANCEL if has_ended(task_state) or task_state == "restarting" else Decision.UNSURE


# -- a try, at its beginning ----------------------------------------------------------------------------


def has_ended(task_state: TaskState) -> bool:
    """Whether a task is at its end: no other try of it will go on or decide."""
    return task_state in _ENDED or task_state is GONE


def was_stopped(task_state: TaskState) -> bool:
    """Whether Airflow has ended, cleared or deleted a task instance that still runs here."""
    return has_ended(task_state) or task_state in ("restarting", NONE)


@dataclass(frozen=True)
class ArmedRecord:
    """What a try writes before it starts or waits, and removes at every normal end: one that is left shows a death.

    :param reference: the operation, as a dict; ``None`` if the try was about to start one, and has no response.
    :param request_id: the id that its start was sent with, if it was.
    :param try_number: the try that armed it.
    :param try_id: the task instance's id, which changes with every try (but not if Airflow fails one while queued).
    :param max_tries: Airflow's ``max_tries`` at the time; a clear raises it, a retry does not.
    :param killed: why the dying process requested a cancellation, if it could write it.
    :param left_by_try: the try before it that left the operation to it.
    :param sent_since: when a start with this request id was sent first, if it was, in seconds since the epoch.
    :param endpoint: where requests about the operation went.
    """

    reference: Mapping[str, Any] | None
    try_number: int
    try_id: str
    max_tries: int
    killed: str | None = None
    request_id: str | None = None
    left_by_try: int | None = None
    sent_since: float | None = None
    endpoint: str | None = None

    def is_of(self, try_number: int, try_id: str) -> bool:
        """Whether this very try has left it."""
        return self.try_number == try_number and is_same(self.try_id, try_id)

    @classmethod
    def from_dict(cls, stored: Any) -> ArmedRecord | None:
        """Read a stored record; ``None`` for anything that is not one."""
        from airflow_lro_provider.lro.http.json import read_as

        try:
            record = read_as(cls, stored)
        except ValueError:
            return None
        return record if record.reference is not None or record.request_id is not None else None


def of_armed_record(
    record: ArmedRecord, *, try_number: int, try_id: str, max_tries: int, seen: Operation | None = None
) -> Decision:
    """Decide about an operation whose record an earlier try of this task left behind.

    =================================  =======================================================
    evidence                           decision
    =================================  =======================================================
    same task instance id and number   OWN: this very try armed it (it comes back from a deferral)
    - and it marked it as killed       CANCEL
    a later try armed it, and its id   UNSURE: this process is the one that is out of date
    is not an older one
    the dying process marked it        CANCEL: it was killed, and requested the cancellation
    operation CANCELLING or CANCELLED  CANCEL: somebody requested its end
    ``max_tries`` differs              CANCEL: the task was cleared
    a later try, none of the above     ADOPT: the earlier one crashed (SIGKILL, OOM, lost worker)
    an earlier or the same try number
    - and a younger instance id        CANCEL: the task instance was deleted, and made anew
    - else                             UNSURE: it cannot be known which of them is out of date
    =================================  =======================================================

    :param max_tries: Airflow's ``max_tries`` now.
    :param seen: the operation, if it could be polled.
    """
    from airflow_lro_provider.lro.operation import Outcome, State

    if record.is_of(try_number, try_id):
        return Decision.CANCEL if record.killed else Decision.OWN
    if record.try_number > try_number and not is_younger(try_id, record.try_id):
        return Decision.UNSURE
    is_cancelled = seen is not None and (seen.state is State.CANCELLING or seen.outcome is Outcome.CANCELLED)
    if record.killed or is_cancelled or record.max_tries != max_tries:
        return Decision.CANCEL
    if try_number > record.try_number:
        return Decision.ADOPT
    return Decision.CANCEL if is_younger(try_id, record.try_id) else Decision.UNSURE


# -- a try, at its end ----------------------------------------------------------------------------------


def of_stopped_task(*, task_state: TaskState, is_current: bool | None = None, goes_on: bool) -> Decision:
    """Decide for a task process that was sent SIGTERM while its operation runs.

    By a person who kills it, by a worker that shuts down, or by a supervisor to which Airflow does not listen any more.

    ==============================================  =====================================  ===========================
    evidence                                        a next try would go on with it         none would
    ==============================================  =====================================  ===========================
    ended, restarting (cleared), gone (deleted)     CANCEL                                 CANCEL
    success, and this try is not the current one    ADOPT: another try has succeeded       ADOPT
    running, and this try is the current one        ADOPT: the worker shuts down           CANCEL: nobody else would
    running or unknown, and this is not current     ADOPT: it is that try's to decide      ADOPT
    queued, scheduled, up_for_retry, no state, …    ADOPT: the next try decides            ADOPT
    unknown                                         ADOPT: that one, or the sweep decides  CANCEL
    ==============================================  =====================================  ===========================

    :param is_current: whether Airflow still takes records of this try; ``None`` if that is not known.
    :param goes_on: whether a next try would go on with the operation: a retry is left, and it knows the operation.
    """
    if has_ended(task_state) or task_state == "restarting":
        return Decision.ADOPT if task_state == "success" and is_current is False else Decision.CANCEL
    another = is_current is False or (task_state is not UNKNOWN and task_state != "running")
    return Decision.ADOPT if another or goes_on else Decision.CANCEL


class EndedBy(str, enum.Enum):
    """How a try of a task ends. Which exception means which is known where Airflow's exceptions are."""

    DEFERRED = "deferred"
    RESCHEDULED = "rescheduled"
    KILLED = "killed"  # Airflow told it to stop
    STOPPED = "stopped"  # its process was told to stop, and another try goes on, or decides
    ORPHANED = "orphaned"  # its supervisor is gone: Airflow counts it as lost
    INTERRUPTED = "interrupted"  # Ctrl-C, or an exit
    EXECUTION_TIMEOUT = "execution_timeout"
    SENSOR_TIMEOUT = "sensor_timeout"  # a sensor's own timeout; Airflow does not retry after it
    TIMEOUT = "timeout"  # an operator's own timeout; Airflow retries after it
    SKIPPED_AT_TIMEOUT = "skipped_at_timeout"  # ``soft_fail`` made a skip of a timeout. Any other skip is SKIPPED
    SKIPPED = "skipped"
    FAILED = "failed"
    FAILED_FOR_GOOD = "failed_for_good"  # an error after which Airflow does not retry


_GOES_ON = (EndedBy.DEFERRED, EndedBy.RESCHEDULED, EndedBy.STOPPED)
_NOT_RETRIED = (EndedBy.SENSOR_TIMEOUT, EndedBy.SKIPPED_AT_TIMEOUT, EndedBy.SKIPPED, EndedBy.FAILED_FOR_GOOD)
_ALWAYS_CANCELS = {
    EndedBy.KILLED: KILLED,
    EndedBy.INTERRUPTED: "the task was interrupted",
    EndedBy.EXECUTION_TIMEOUT: "the task's execution_timeout has passed",
    EndedBy.SENSOR_TIMEOUT: "the sensor's timeout has passed",
    EndedBy.TIMEOUT: "the task's timeout has passed",
    EndedBy.SKIPPED_AT_TIMEOUT: "the task is skipped, its timeout has passed",
}


def will_go_on(
    ended_by: EndedBy, *, try_number: int, max_tries: int, knows_operation: bool, retry_policy_fails: bool = False
) -> bool:
    """Whether somebody goes on with the operation after this end: the next try, or this one itself.

    ==================================================  ==========================================================
    how the try ends                                    goes on
    ==================================================  ==========================================================
    deferred, rescheduled                               yes: the same try does
    stopped                                             yes: :func:`of_stopped_task` says so
    sensor timeout, skipped, failed for good            no: Airflow does not retry
    any other                                           if a retry is left, the task's retry policy does not fail
                                                        it, and the next try knows the operation
    ==================================================  ==========================================================

    :param max_tries: Airflow's: the number of the last try less one.
    :param knows_operation: whether the next try is given the operation (a sensor's always is), or finds its record.
    :param retry_policy_fails: whether the task's retry policy (Airflow 3.3) ends it after this error.
    """
    if ended_by in _GOES_ON:
        return True
    if ended_by in _NOT_RETRIED or retry_policy_fails:
        return False
    return try_number <= max_tries and knows_operation


def reason_to_cancel(
    ended_by: EndedBy, *, goes_on: bool, cancel_on_kill: bool = True, cancel_on_failure: bool = True
) -> str | None:
    """Why the operation must not outlive a try that ends so; ``None`` if it may. ``goes_on`` is :func:`will_go_on`'s.

    ==================================================  ==========================================================
    how the try ends                                    cancel
    ==================================================  ==========================================================
    any, with ``cancel_on_kill=False``                  no: the task does not own the operation
    deferred, rescheduled, stopped                      no
    killed, interrupted, any timeout                    yes
    orphaned                                            unless the next try goes on with it
    skipped, failed for good                            if ``cancel_on_failure``
    failed                                              if ``cancel_on_failure``, unless the next try goes on
    ==================================================  ==========================================================
    """
    if not cancel_on_kill or ended_by in _GOES_ON:
        return None
    if ended_by in _ALWAYS_CANCELS:
        return _ALWAYS_CANCELS[ended_by]
    if goes_on and ended_by not in _NOT_RETRIED:
        return None
    if ended_by is EndedBy.ORPHANED:
        return "the supervisor of this task is gone, and no retry will go on with the operation"
    return "the task failed and is not tried again" if cancel_on_failure else None


# -- the sweep ------------------------------------------------------------------------------------------


def waits_for_its_run(task_state: TaskState) -> bool:
    """Whether a task instance in this state runs only if its Dag run goes on: then the run's state matters."""
    return task_state in (NONE, "scheduled", "queued", "up_for_retry")


def run_has_ended(run_state: str | None) -> bool:
    """Whether a Dag run does not go on."""
    return run_state in ("failed", "success")


def of_ledger_entry(
    *,
    task_state: TaskState,
    will_adopt: bool,
    cancel_on_failure: bool,
    lets_go: bool = False,
    superseded: bool,
    run_state: str | None = None,
) -> Decision:
    """Decide about an operation by its entry in the ledger.

    =======================================  ======================================================
    evidence                                 decision
    =======================================  ======================================================
    unknown                                  UNSURE
    success, and ``lets_go``                 LET_GO: the task ended well, and only removing its entry failed
    a later try has another; or gone         CANCEL: it was left behind, or its run deleted
    - and ``lets_go``                        UNSURE: it may have been let go
    ended                                    CANCEL: it would have removed its entry; it was killed
    - failed or skipped, and ``cancel_on_failure=False``  UNSURE: it may have done so by itself
    up for retry, and the retry adopts       OWN
    up for retry, and it does not            CANCEL
    up for retry, … no state, its run ended  CANCEL: Airflow never runs it again (3.3.2 can leave one so)
    running, deferred, queued, … no state    OWN: alive, or the next try will see to it
    =======================================  ======================================================

    :param superseded: whether the same task instance has an entry of a later try.
    :param run_state: the state of its run, if that is known.
    """
    if task_state is UNKNOWN:
        return Decision.UNSURE
    if superseded or task_state is GONE:
        return Decision.UNSURE if lets_go else Decision.CANCEL
    if task_state == "success" and lets_go:
        return Decision.LET_GO
    if task_state in ("failed", "skipped") and not cancel_on_failure:
        return Decision.UNSURE
    if task_state in _ENDED or (task_state == "up_for_retry" and not will_adopt):
        return Decision.CANCEL
    if waits_for_its_run(task_state) and run_has_ended(run_state):
        return Decision.CANCEL
    return Decision.OWN
