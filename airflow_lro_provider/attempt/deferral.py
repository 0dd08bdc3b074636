"""Handing an operation on to a trigger: what sensor and operators have in common."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout

from airflow_lro_provider.airflow_compat.task_process import (
    RAISING,
    call_before_stopping,
    execution_timeout_begins,
    takes_any_deferral,
)
from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.attempt.resumed import Resumed
from airflow_lro_provider.attempt.signals import held_back
from airflow_lro_provider.exceptions import OperationRunningError, OperationWaitError
from airflow_lro_provider.lro.operation import Outcome
from airflow_lro_provider.lro.polling import Deadline, earliest
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.ownership.decisions import Decision, Evidence, TaskState, of_deferral
from airflow_lro_provider.triggers.events import Finished, Gone, Lost, read_event

if TYPE_CHECKING:
    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.attempt.guard import Guard
    from airflow_lro_provider.lro.operation import Operation
    from airflow_lro_provider.lro.polling import PollSchedule
    from airflow_lro_provider.lro.resources.names import OperationReference
    from airflow_lro_provider.triggers.operations import OperationTrigger

CHECK_PAUSES_SECONDS = (0.2, 1.0)
"""The pauses before Airflow is asked again whether it has taken a deferral, if it does not respond."""
PUSH_PAUSES_SECONDS = (1.0, 3.0)
"""The pauses before the owner token is pushed again, if Airflow does not take it."""

AHEAD_SECONDS = 2.0
"""How long before Airflow's own ``execution_timeout`` of a deferred task the trigger's passes, where there is one."""


def deferral_of(
    attempt: Attempt,
    schedule: PollSchedule,
    timeouts: Mapping[str, float | None],
    *,
    include_response: bool,
) -> dict[str, Any]:
    """What the ``defer`` of an operator takes, to let a trigger wait.

    :param attempt: the try that defers; it is connected, and knows its operation.
    :param schedule: the wait so far, on the wall clock.
    :param timeouts: how long the wait may take from its beginning, in seconds, by :attr:`Deadline.cause`.
    :param include_response: whether the operation's response belongs into the event.
    """
    reference, role, started = attempt.reference, attempt.role, schedule.started
    assert reference is not None
    attempt.guard.enter(Phase.ASKING)
    # The token tells a killed try from one that only moves to another triggerer. A try that was woken for nothing keeps
    # the one it has: its first trigger may still run, and must not take its own task for that of another try.
    ti = attempt.context["ti"]
    owner = {"token": attempt.token or evidence.new_owner_token(ti, reference)}
    _stop_if_it_should(attempt)
    if role.cancel_on_kill:  # the task can lose its operation
        _push(ti, owner["token"])
        owner.update(evidence.TaskKey.of(ti)._asdict())
        _stop_if_it_should(attempt)
    attempt.guard.checkpoint()
    deadlines = [
        Deadline(started + seconds, cause, seconds) for cause, seconds in timeouts.items() if seconds is not None
    ]
    limit, begins = timeouts.get("execution_timeout"), execution_timeout_begins(ti)
    if limit is not None and begins is not None:  # Airflow must not be the first: what it wakes may know nothing
        deadlines.append(Deadline(max(begins + limit - AHEAD_SECONDS, started), "execution_timeout", limit))
    trigger = make_trigger(
        attempt.guard,
        reference,
        decide=lambda: attempt.record.decide(reference),
        log=attempt.log,
        gcp_conn_id=role.gcp_conn_id,
        impersonation_chain=role.impersonation_chain,
        started=started,
        deadline=earliest(deadlines),
        poll_interval=schedule.interval,
        exponential_backoff=schedule.exponential_backoff,
        max_wait=schedule.max_wait,
        tolerant=schedule.tolerant,
        cancel_on_kill=role.cancel_on_kill,
        owner=owner,
        include_response=include_response,
        discreet=bool(attempt.secrets),
    )
    endpoint = attempt.record.endpoint or attempt.client.endpoint(reference)
    resumed = Resumed(owner["token"], reference.to_dict(), started, attempt.left_by_try, endpoint)
    return {"trigger": trigger, "method_name": "execute_complete", "kwargs": asdict(resumed)}


def _stop_if_it_should(attempt: Attempt) -> None:
    """End a task that was stopped, or whose try was replaced, where Airflow would take its deferral all the same."""
    assert attempt.reference is not None
    if takes_any_deferral() and (attempt.record.is_stopped() or attempt.record.is_replaced(attempt.reference)):
        attempt.guard.killed = True  # as if it had been told so by now
        attempt.guard.checkpoint()


def outcome_of(attempt: Attempt, event: Any) -> tuple[Outcome, Operation | None]:
    """How the wait in the triggerer ended.

    :raises OperationWaitError: if it ended without an outcome.
    :raises OperationRunningError: at the task's ``timeout``; its own for Airflow's timeouts.
    :raises ValueError: for an event that is not understood.
    """
    seen = read_event(event)
    if isinstance(seen, Finished):
        return seen.operation.outcome or Outcome.NOT_FOUND, seen.operation.without(attempt.secrets)
    if isinstance(seen, Gone):
        return Outcome.NOT_FOUND, None
    if isinstance(seen, Lost):
        raise OperationWaitError(seen.message)
    attempt.last, attempt.cancel_requested = seen.operation, seen.cancel_requested
    kinds = {"execution_timeout": AirflowTaskTimeout, "sensor_timeout": AirflowSensorTimeout}
    raise kinds.get(seen.cause, OperationRunningError)(f"{seen}: {attempt.reference}")


def leave_token(attempt: Attempt) -> None:
    """This try sees to what another one has left, goes on with it or ends it: no trigger of that one, which may still
    run, must cancel it.
    """
    assert attempt.reference is not None
    if attempt.role.cancel_on_kill:
        ti = attempt.context["ti"]
        attempt.token = attempt.token or evidence.new_owner_token(ti, attempt.reference)
        with contextlib.suppress(Exception):  # it is left once more when the task defers
            ti.xcom_push(key=evidence.OWNER_KEY, value=attempt.token)


def _push(ti: Any, token: str) -> None:
    """Leave the owner token; with Airflow's configured XCom backend, here as in the triggerer."""
    for pause in (*PUSH_PAUSES_SECONDS, None):
        try:
            ti.xcom_push(key=evidence.OWNER_KEY, value=token)
            break
        except Exception:
            if pause is None:
                raise
        time.sleep(pause)


def make_trigger(
    guard: Guard,
    reference: OperationReference,
    *,
    deadline: Deadline | None,
    owner: Mapping[str, Any],
    decide: Callable[[], Decision],
    log: Any,
    **arguments: Any,
) -> OperationTrigger:
    """The trigger to defer to.

    If the task is killed before Airflow has it, the deferral is called off; if it is killed while Airflow
    takes it, that is found out right afterwards.

    :param owner: whose operation it is; of a task that cannot lose it, just its token.
    :param decide: whose the operation is if this process was told to stop.
    """
    from airflow_lro_provider.triggers.operations import OperationTrigger

    def last_chance() -> None:
        if "task_id" in owner:  # first: from the next line on a kill is only noted
            check = held_back(*RAISING)(lambda: _check_deferral(guard, reference, owner, decide, log))
            call_before_stopping(check)
        guard.defer()

    return OperationTrigger(
        reference=reference.to_dict(),
        deadline=None if deadline is None else deadline.to_dict(),
        owner=owner,
        before_serialize=last_chance,
        **arguments,
    )


def _check_deferral(
    guard: Guard, reference: OperationReference, owner: Mapping[str, Any], decide: Callable[[], Decision], log: Any
) -> None:
    """Cancel the operation if the deferral was not taken because the task was killed.

    Called in the task process when it has reported its deferral, and is about to end. Airflow 3.3 rejects the deferral
    of a task that was marked or cleared meanwhile, and calls neither ``on_kill`` nor a trigger then.
    """
    if guard.phase is not Phase.DEFERRING:
        return  # it was called off, and all is done
    key, mine = evidence.TaskKey.from_dict(owner), str(owner["token"])
    state: TaskState = Evidence.UNKNOWN
    if key is not None:
        for pause in (0.0, *CHECK_PAUSES_SECONDS):
            time.sleep(pause)
            if (state := evidence.read_task_state(key)) is not Evidence.UNKNOWN:
                break
    token = evidence.read_owner_token(key, mine) if key is not None and state == "deferred" else Evidence.UNKNOWN
    decision = of_deferral(task_state=state, owner_token=token, my_token=mine)
    if guard.killed and takes_any_deferral() and state == "running":  # the signal came first: it was not taken
        decision = decide()
    known = evidence.describe(state, token, mine)
    guard.release(f"killed while it deferred: {known}" if decision is Decision.CANCEL else None)
    if decision is Decision.UNSURE:
        log.warning("Not cancelled: whether Airflow has taken the deferral is not known (%s): %s", known, reference)
