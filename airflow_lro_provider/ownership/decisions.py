"""Whose is this operation now? The one place that answers, from evidence alone.

Four parties ask, each at its moment:

* a **trigger that is being taken down** asks :func:`of_killed_trigger`: is the deferred task still
  mine (the triggers are only being redistributed), or is it dead (cancel)?
* a **worker whose task has just deferred** asks :func:`of_deferral`: did Airflow take it, or was the
  task killed in that moment?
* a **new try of a task** that finds a record of an earlier one asks :func:`of_armed_record`: adopt
  the operation that the earlier try left, or cancel it and start afresh?
* the **sweep** asks :func:`of_ledger_entry`: does Airflow still want the operation of this entry?

A wrong guess destroys a live job or returns a stale result, so what cannot be known is said to be
:attr:`Verdict.UNSURE` and left alone. Every row of both tables is measured on a real Airflow
(``tests/e2e/test_verdict.py``).

Standard library only: no Airflow, no network, no clock.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_lro_provider.lro.operation import Outcome, State

__all__ = [
    "ArmedRecord",
    "Evidence",
    "RUN_IS_OVER",
    "WAITS_FOR_ITS_RUN",
    "Verdict",
    "is_younger",
    "of_armed_record",
    "of_deferral",
    "of_killed_trigger",
    "of_ledger_entry",
]


class Verdict(str, enum.Enum):
    """The answer to "whose is this operation now?"."""

    OWN = "own"
    """The asker's task is alive and goes on with the operation: do nothing."""
    ADOPT = "adopt"
    """An earlier try of the same work lost it: go on with it instead of starting another."""
    CANCEL = "cancel"
    """Nobody wants it any more."""
    UNSURE = "unsure"
    """It cannot be known from here: do nothing, say so, leave it to the sweep."""


class Evidence(enum.Enum):
    """Stands where a fact should be when the question got no answer, as opposed to "there is none"."""

    UNKNOWN = "unknown"


UNKNOWN = Evidence.UNKNOWN

# A worker had the task after the deferral and ended this try by itself; it has decided about the
# operation already, with more evidence than a trigger has.
_ENDED_BY_ITS_WORKER = frozenset({"up_for_retry"})
# Woken (by another triggerer, or in `dags test`), or cleared and about to begin anew: the token tells, once the new
# try has begun and cleared it. Until then the next try will see to it.
_ON_ITS_WAY = frozenset({"scheduled", "queued", "running"})


def of_killed_trigger(
    *,
    task_state: str | Evidence | None,
    owner_token: str | Evidence | None,
    my_token: str,
) -> Verdict:
    """Judge a trigger that Airflow takes down with the message "user action".

    Airflow 3.3 sends that message for a real kill, but also when another triggerer took the trigger
    over, and task states carry no try number: after a clear, the new try may be deferred again
    before the old trigger hears of it. The owner token tells those apart: every try writes its own
    to XCom before it defers.

    :param task_state: Airflow's state of the task instance now; ``None`` if it has none (cleared and
        not yet scheduled) or its row is gone; :attr:`Evidence.UNKNOWN` if nobody answered.
    :param owner_token: the token in XCom now; ``None`` if there is none.
    :param my_token: the token that this trigger was created with.
    """
    if task_state is UNKNOWN:
        return Verdict.UNSURE
    if task_state in _ENDED_BY_ITS_WORKER:
        return Verdict.OWN
    if task_state != "deferred" and task_state not in _ON_ITS_WAY:
        return Verdict.CANCEL
    if owner_token is UNKNOWN or (owner_token is None and task_state == "deferred"):
        # A deferred task of ours always has a token. One without was not cleared, it lost it.
        return Verdict.UNSURE
    if owner_token != my_token:
        return Verdict.CANCEL
    return Verdict.OWN if task_state == "deferred" else Verdict.UNSURE


# Nothing but a kill brings a task that is just deferring into one of these.
_KILLED = frozenset({None, "failed", "success", "skipped", "upstream_failed", "removed", "restarting"})


def of_deferral(
    *,
    task_state: str | Evidence | None,
    owner_token: str | Evidence | None,
    my_token: str,
) -> Verdict:
    """Judge a deferral that was reported to Airflow a moment ago.

    Airflow 3.3 refuses it if the task was marked or cleared while it ran, and then calls no hook at all.

    ================================  ============================================================
    evidence                          verdict
    ================================  ============================================================
    deferred, with my token           OWN: Airflow took it, the trigger stands guard
    deferred, with another's          CANCEL: cleared, and a new try has deferred already
    failed, success, no state, …      CANCEL: killed while it ran
    running                           UNSURE: not taken; Airflow's supervisor will try again
    queued, scheduled, …              UNSURE: woken already, or cleared: the next try will know
    ================================  ============================================================

    :param task_state: as for :func:`of_killed_trigger`.
    :param owner_token: the token in XCom now.
    :param my_token: the token of the trigger that was handed over.
    """
    if task_state == "deferred":
        return of_killed_trigger(task_state=task_state, owner_token=owner_token, my_token=my_token)
    return Verdict.CANCEL if task_state in _KILLED else Verdict.UNSURE


@dataclass(frozen=True)
class ArmedRecord:
    """What a try writes before it starts or waits, and removes at every normal end.

    A record that is still there tells the next try how the last one went: it did not end normally.

    :param reference: the operation, as :meth:`OperationReference.to_dict` gives it; ``None`` if the try
        was about to start one and has not had the answer.
    :param request_id: the id that its start was sent with, if it was.
    :param try_number: the try that armed it.
    :param try_id: the task instance's id, which Airflow changes with every try (but not when it fails a task that
        it has queued itself).
    :param max_tries: Airflow's ``max_tries`` at the time; a clear raises it, a retry does not.
    :param killed: why the dying process asked for a cancel, if it lived long enough to say so.
    """

    reference: Mapping[str, Any] | None
    try_number: int
    try_id: str
    max_tries: int
    killed: str | None = None
    request_id: str | None = None

    def is_of(self, try_number: int, try_id: str) -> bool:
        """Whether this very try has left it."""
        return self.try_id == try_id and self.try_number == try_number

    @classmethod
    def from_dict(cls, stored: Any) -> ArmedRecord | None:
        """Read a stored record; ``None`` for anything that is not one."""
        if not isinstance(stored, Mapping):
            return None
        reference, request_id = stored.get("reference"), stored.get("request_id")
        if not isinstance(reference, Mapping) and not isinstance(request_id, str):
            return None
        try_number, max_tries = stored.get("try_number"), stored.get("max_tries")
        if not isinstance(try_number, int) or not isinstance(max_tries, int):
            return None
        killed = stored.get("killed")
        return cls(
            reference=dict(reference) if isinstance(reference, Mapping) else None,
            try_number=try_number,
            try_id=str(stored.get("try_id")),
            max_tries=max_tries,
            killed=None if killed is None else str(killed),
            request_id=request_id if isinstance(request_id, str) else None,
        )


def of_armed_record(
    record: ArmedRecord,
    *,
    try_number: int,
    try_id: str,
    max_tries: int,
    state: State | Evidence | None = UNKNOWN,
    outcome: Outcome | Evidence | None = UNKNOWN,
) -> Verdict:
    """Judge an operation whose record an earlier try of this task left behind.

    =================================  =======================================================
    evidence                           verdict
    =================================  =======================================================
    same task instance id and number   OWN: this very try armed it (it comes back from a deferral)
    the dying process marked it        CANCEL: it was killed, and asked for the cancel
    operation CANCELLING or CANCELLED  CANCEL: somebody asked for its end
    ``max_tries`` differs              CANCEL: the task was cleared
    a later try, none of the above     ADOPT: the earlier one crashed (SIGKILL, OOM, lost worker)
    an earlier or the same try number
    - and a younger instance id        CANCEL: the task instance was deleted, and made anew
    - else                             UNSURE: this process is the one that is out of date
    =================================  =======================================================

    :param record: what the earlier try stored.
    :param try_number: this try.
    :param try_id: this task instance's id.
    :param max_tries: Airflow's ``max_tries`` now.
    :param state: the operation's state, if it was looked at.
    :param outcome: the operation's outcome, if it was looked at.
    """
    if record.is_of(try_number, try_id):
        return Verdict.CANCEL if record.killed else Verdict.OWN
    if record.killed or state is State.CANCELLING or outcome is Outcome.CANCELLED:
        return Verdict.CANCEL
    if record.max_tries != max_tries:
        return Verdict.CANCEL
    if try_number > record.try_number:
        return Verdict.ADOPT
    return Verdict.CANCEL if is_younger(try_id, record.try_id) else Verdict.UNSURE


def is_younger(one: str, other: str) -> bool:
    """Whether a task instance id is younger than another; Airflow's are UUIDs of version 7, which tell."""
    try:
        first, second = uuid.UUID(one), uuid.UUID(other)
    except ValueError:
        return False
    return first.version == second.version == 7 and first.int >> 80 > second.int >> 80


# A task in one of these has ended, or will never run (again) of itself.
_ENDED = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})
# A task in one of these is to run, if its run goes on.
WAITS_FOR_ITS_RUN = frozenset({"none", "scheduled", "queued", "up_for_retry"})
RUN_IS_OVER = frozenset({"failed", "success"})


def of_ledger_entry(
    *,
    task_state: str | Evidence | None,
    will_adopt: bool,
    cancel_on_failure: bool,
    superseded: bool,
    run_state: str | None = None,
) -> Verdict:
    """Judge an operation by its entry in the ledger.

    =======================================  ======================================================
    evidence                                 verdict
    =======================================  ======================================================
    a later try has armed another operation  CANCEL: this one was left behind
    no such task instance                    CANCEL: its run was deleted
    ended                                    CANCEL: it would have removed its entry; it was killed
    - failed, and ``cancel_on_failure=False``  UNSURE: it may have failed by itself
    up for retry, and the retry adopts       OWN
    up for retry, and it does not            CANCEL
    up for retry, queued, … no state, but    CANCEL: Airflow never looks at it again (3.3.2 can leave one so that
    its run is over                          was marked in the moment in which it failed)
    running, deferred, queued, … no state    OWN: alive, or the next try will see to it
    the question got no answer               UNSURE
    =======================================  ======================================================

    :param task_state: Airflow's state of the task instance; ``"none"`` if it has none (just cleared),
        ``None`` if there is no such task instance.
    :param will_adopt: the entry's.
    :param cancel_on_failure: the entry's.
    :param superseded: whether the same task instance has an entry of a later try.
    :param run_state: the state of its run, if that was asked for.
    """
    if task_state is UNKNOWN:
        return Verdict.UNSURE
    if superseded or task_state is None:
        return Verdict.CANCEL
    if task_state == "failed" and not cancel_on_failure:
        return Verdict.UNSURE
    if task_state in _ENDED or (task_state == "up_for_retry" and not will_adopt):
        return Verdict.CANCEL
    if task_state in WAITS_FOR_ITS_RUN and run_state in RUN_IS_OVER:
        return Verdict.CANCEL
    return Verdict.OWN
