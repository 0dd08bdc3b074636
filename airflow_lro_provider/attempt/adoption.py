"""What an earlier try of the same task has left, and what this one does about it.

==============================================  ==============================  ======================================
an earlier try left                             a task that starts operations   a sensor
==============================================  ==============================  ======================================
nothing (it ended normally, or is the first)    starts one                      waits for the operation
an operation, and it crashed (SIGKILL, OOM,     **adopts** it: waits for it,    waits for it: it is its own
lost worker) or failed otherwise                or takes its result
an operation, and it was killed or cleared      cancels it, waits for its end,  cancels it once more, waits for its
                                                starts a fresh one: never two   end, and fails: only the task that
                                                side by side                    starts it can start another
a start without a response, with a request id   sends the same start again:     (does not happen)
                                                the service responds with the
                                                operation that it has started;
                                                after an hour it may not know
                                                the id: then fails, and says so
another operation than this try waits for       (does not happen)               cancels it; of a mapped task,
                                                                                leaves it to the sweep: its list
                                                                                may have another order by now
==============================================  ==============================  ======================================

Whose it is decides :func:`~airflow_lro_provider.ownership.decisions.of_armed_record`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from airflow_lro_provider.airflow_compat.task_process import RAISING
from airflow_lro_provider.attempt.deferral import leave_token
from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.attempt.signals import held_back
from airflow_lro_provider.attempt.validation import warn_if_it_runs_on
from airflow_lro_provider.exceptions import (
    OperationRunningError,
    OperationStartError,
    OperationWaitError,
)
from airflow_lro_provider.links.operations import show_link
from airflow_lro_provider.lro.cancel import cancel_line
from airflow_lro_provider.lro.errors import NotFoundError, OperationsError, WaitTimeoutError
from airflow_lro_provider.lro.flows import START_RETRY_SECONDS
from airflow_lro_provider.lro.polling import new_schedule
from airflow_lro_provider.lro.resources.hosts import leads_elsewhere
from airflow_lro_provider.lro.resources.names import OperationReference, identity_of
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.ownership.decisions import ArmedRecord, Decision, of_armed_record

if TYPE_CHECKING:
    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.attempt.start import Start
    from airflow_lro_provider.lro.operation import Operation

REPLACE_TIMEOUT_SECONDS = 600.0
"""How long a fresh start waits for the end of the operation that it replaces."""
REQUEST_ID_SECONDS = 3600.0 - START_RETRY_SECONDS
"""How old a request id may be to be sent again. "The server will guarantee that for at least 60 minutes since the first
request", as the discovery documents describe `requestId`; later, the same request may start a second operation."""


def take_over(attempt: Attempt, reference: OperationReference) -> None:
    """Own the operation that a sensor waits for, whoever of its tries owned it before.

    Afterwards ``attempt.left_by_try`` says which earlier try has left it, if any: should it end CANCELLED, that was
    probably the kill of that try.

    :raises OperationKilled: if Airflow has another try of this task by now.
    """
    record = attempt.record
    attempt.own(reference)  # first of all: Airflow may take its time with its responses
    warn_if_it_runs_on(attempt.log, reference, attempt.role.cancel_on_kill)
    earlier = record.read()
    stored = None if earlier is None else earlier.reference
    if earlier is None or stored is None or (record.is_own(earlier) and not earlier.killed):
        if earlier is not None:  # a reschedule's earlier poke
            attempt.left_by_try, record.endpoint = earlier.left_by_try, earlier.endpoint or record.endpoint
        elif record.is_unread:  # whatever it was: CANCELLED is no success now
            attempt.left_by_try = record.this_try["try_number"] - 1
        earlier = None
    elif identity_of(stored.get("service"), stored.get("name")) != identity_of(reference.service, reference.name):
        if of_armed_record(earlier, **record.this_try) is not Decision.UNSURE:
            _end_other(attempt, earlier.try_number, OperationReference.from_dict(stored))
        earlier = None
    if earlier is not None:
        attempt.left_by_try, record.endpoint = earlier.try_number, earlier.endpoint or record.endpoint
    record.left_by_try = attempt.left_by_try
    record.write(reference)
    if record.is_rejected:  # as if it was told to stop: another try waits for it, or the task has ended
        attempt.guard.on_kill()
    else:
        if earlier is not None:
            leave_token(attempt)
        show_link(attempt.context["ti"], reference)
    attempt.guard.enter(Phase.WAITING)
    if earlier is None:
        return
    seen = attempt.peek()
    decision = _judge(attempt, earlier, seen)
    if decision is Decision.CANCEL and (seen is None or not seen.done):
        attempt.guard.cancel(f"try {earlier.try_number} of this task was killed or cleared")


def _end_other(attempt: Attempt, number: int, left: OperationReference) -> None:
    """End what an earlier try has left, and this one does not wait for: unless another instance may wait for it."""
    if evidence.TaskKey.of(attempt.context["ti"]).map_index < 0:
        attempt.cancel_unguarded(left, f"try {number} of this task died, and this one waits for another")
        return
    attempt.log.warning(
        "Not cancelled: try %d left it, this one waits for another, and so another instance of this mapped task may"
        " wait for it (the sweep knows that): %s",
        number,
        left,
    )


def recall_left(attempt: Attempt, named: OperationReference | None) -> None:
    """Know the operation that an earlier try has left, in a try that will never go on with it.

    :param named: the operation that this one is about, if its arguments say so.
    """
    record, earlier = attempt.record, attempt.record.read()
    if earlier is None or earlier.reference is None:
        return
    reference, decision = OperationReference.from_dict(earlier.reference), of_armed_record(earlier, **record.this_try)
    is_named = named is None or identity_of(named.service, named.name) == identity_of(reference.service, reference.name)
    if not is_named or decision not in (Decision.OWN, Decision.ADOPT):
        record.keep()  # it proves that the operation is to be replaced, or is all that is known of that other one
    if not is_named or decision is Decision.UNSURE:
        return
    if earlier.endpoint is not None:
        with attempt.make_hook().make_client() as client:
            if leads_elsewhere(client.endpoint(reference), earlier.endpoint):
                record.keep()  # what runs there is another's; the next try says so
                return
    attempt.about, record.endpoint = reference, earlier.endpoint
    attempt.left_by_try = earlier.left_by_try if decision is Decision.OWN else earlier.try_number
    record.left_by_try, attempt.replaces = attempt.left_by_try, decision is Decision.CANCEL


def adopt(attempt: Attempt, start: Start, poll_interval: float | None) -> bool:
    """Go on with the operation of an earlier try, or end it.

    :param start: how this task starts an operation.
    :param poll_interval: seconds between two polls while its end is awaited.
    :return: whether there is one to go on with.
    :raises OperationRunningError: if there is one to end, and it does not end.
    :raises OperationWaitError: if this try seems to be older than the one that left it.
    """
    record, guard = attempt.record, attempt.guard
    earlier = record.read()
    if earlier is None:
        if record.is_unread:
            raise OperationWaitError(
                "what an earlier try of this task has left cannot be read from Airflow; nothing was started beside it"
            )
        return False
    decision = of_armed_record(earlier, **record.this_try)
    with contextlib.ExitStack() as held:
        if earlier.reference is not None:
            reference = OperationReference.from_dict(earlier.reference)
        elif (found := _find_started(attempt, start, earlier, decision, held)) is not None:
            reference = found
        else:
            return False
        if decision is Decision.UNSURE:
            raise OperationWaitError(
                f"try {earlier.try_number} of this task, which seems to be younger than this one, left {reference}"
                " behind. Nothing was started or cancelled. Clear the task to cancel the operation and to start anew."
            )
        if decision is Decision.CANCEL and not attempt.role.cancel_on_kill:
            attempt.log.info(
                "Not cancelled (cancel_on_kill=False): what try %d left, %s", earlier.try_number, reference
            )
            return False
        attempt.replaces = decision is Decision.CANCEL
        record.endpoint = earlier.endpoint
        attempt.own(reference)
        leave_token(attempt)
    guard.enter(Phase.WAITING)
    try:
        seen, is_gone = attempt.doubt_missing(reference, lambda: _poll(attempt)), False
    except NotFoundError:
        guard.checkpoint()
        seen, is_gone = None, True
    decision = _judge(attempt, earlier, seen, is_gone=is_gone)
    attempt.replaces = decision is Decision.CANCEL
    if attempt.replaces:
        if is_gone:
            let_missing_go(attempt)
        elif seen is None or not seen.done:
            _end(attempt, earlier.try_number, poll_interval)
        attempt.disown()
        record.remove_earlier()
        return False
    record.left_by_try = attempt.left_by_try = earlier.try_number
    guard.enter(Phase.ASKING)
    record.write(reference)
    if not record.is_outdated:
        show_link(attempt.context["ti"], reference)
    guard.enter(Phase.WAITING)
    return True


def let_missing_go(attempt: Attempt) -> Operation | None:
    """The service does not find the operation, and that is believed: request its cancellation once more.

    :return: the operation, if that shows that it has finished.
    :raises OperationWaitError: if it may run; then the record stays.
    """
    if attempt.reference is None or not (attempt.role.cancel_on_kill or attempt.record.endpoint):
        return None
    attempt.guard.enter(Phase.ASKING)
    try:
        with attempt.make_hook().make_client() as client:
            if leads_elsewhere(client.endpoint(attempt.reference), attempt.record.endpoint):  # another server has none
                raise OperationWaitError(
                    "the service does not find the operation, but the connection has changed since, and led to"
                    f" {attempt.record.endpoint}. Correct it; or let a new Dag run start anew: {attempt.reference}"
                )
            if not attempt.role.cancel_on_kill:
                return None
            result = client.cancel(attempt.reference, poll=False, patience=0.0)
    except NotFoundError:
        return None
    except OperationWaitError:
        raise
    except OperationsError as error:
        fact = cancel_line(attempt.reference, error)
    except Exception as error:  # of Airflow: it may contain what the connection does
        fact = f"Its connection could not be read ({type(error).__name__})"
    else:
        if not result.requested:
            return result.operation if result.operation is not None and result.operation.done else None
        fact = cancel_line(attempt.reference, result)
    raise OperationWaitError(f"the service does not find the operation any more, but it may run. {fact}")


def _judge(attempt: Attempt, earlier: ArmedRecord, seen: Operation | None, *, is_gone: bool = False) -> Decision:
    """Whose the operation of an earlier try is, now that it was polled.

    :param is_gone: whether its service does not find it any more: then nobody can go on with it.
    """
    this_try = attempt.record.this_try
    decision = Decision.CANCEL if is_gone else of_armed_record(earlier, **this_try, seen=seen)
    facts = [seen.summary() if seen else "not found any more" if is_gone else "not seen"]
    if earlier.max_tries != this_try["max_tries"]:
        facts.append(f"its task was {'cleared' if earlier.max_tries < this_try['max_tries'] else 'made anew'} since")
    if earlier.killed:
        facts.append(f"killed: {earlier.killed}")
    what = _VERDICTS[decision]
    attempt.log.info("Left by try %d (%s), %s: %s", earlier.try_number, "; ".join(facts), what, attempt.reference)
    return decision


_VERDICTS = {
    Decision.OWN: "which is this very try",
    Decision.ADOPT: "and this try goes on with it",
    Decision.CANCEL: "and nobody goes on with it",
    Decision.UNSURE: "and it is not known whether this try is out of date",
}


def _find_started(
    attempt: Attempt, start: Start, earlier: ArmedRecord, decision: Decision, held: contextlib.ExitStack
) -> OperationReference | None:
    """What a start without a response has started, if that has to be known before another one is sent.

    :param held: holds signals back that would lose the response.
    """
    age = 0.0 if earlier.sent_since is None else time.time() - earlier.sent_since
    # A create that names its resource is never done twice, however old its request id is.
    is_forgotten = age > REQUEST_ID_SECONDS and not start.may_start_again
    if not start.repeatable or is_forgotten:
        if decision is not Decision.CANCEL and not start.may_start_again:
            raise OperationStartError(
                f"try {earlier.try_number} of this task died while it started an operation ({start.description}); it"
                " may run, so no other is started"
                f"{' (its request id is too old: services keep one for an hour)' if start.repeatable else ''}."
                " Check at the service, and clear the task to start anew."
            )
        attempt.log.warning(
            "Try %d died while it started something; whether an operation runs is not known", earlier.try_number
        )
        return None
    assert earlier.request_id is not None
    if decision is not Decision.CANCEL:
        attempt.request_id = earlier.request_id  # whatever that start did, it is not done twice
        attempt.log.info("Try %d died while it started an operation; starting it again", earlier.try_number)
        return None
    attempt.guard.enter(Phase.STARTING)
    attempt.held_back = held.enter_context(held_back(*start.held_back, *RAISING))
    try:
        started = start.send(attempt, earlier.request_id, is_first=False)
    except OperationsError as error:
        # The record stays. Only a response to this request id tells what is there to be cancelled.
        attempt.log.warning("What try %d has started is not known, so nothing else is started", earlier.try_number)
        raise OperationWaitError(
            f"what try {earlier.try_number} of this task has started is not known ({error}). No other is started beside"
            " it. Check at the service; a new Dag run starts anew."
        ) from None
    finally:
        attempt.guard.enter(Phase.PREPARING)
    finished = started.operation is not None and started.operation.done
    return started.reference if isinstance(started.reference, OperationReference) and not finished else None


def _poll(attempt: Attempt) -> Operation | None:
    """Poll what an earlier try left; ``None`` if it is not known at the moment."""
    try:
        operation = attempt.poll()
    except NotFoundError:
        raise
    except OperationsError:
        return None
    attempt.remember(operation)
    return operation


def _end(attempt: Attempt, try_number: int, poll_interval: float | None) -> None:
    """Cancel the operation of an earlier try, and see it to its end: never two side by side."""
    attempt.guard.cancel(f"try {try_number} of this task was killed or cleared, and another one begins")
    schedule = new_schedule(time.monotonic(), timeout=REPLACE_TIMEOUT_SECONDS, interval=poll_interval)
    try:
        attempt.wait(schedule)
    except NotFoundError:
        pass
    except WaitTimeoutError:
        raise OperationRunningError(
            f"try {try_number} of this task left an operation that does not end, although its cancellation was"
            " requested; no second one is started beside it. Wait for its end, then clear this task:"
            f" {attempt.reference}"
        ) from None
