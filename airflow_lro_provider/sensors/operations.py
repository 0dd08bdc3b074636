"""Sensors for long-running operations."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator, PokeReturnValue, conf

from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.attempt.task import OperationTask
from airflow_lro_provider.attempt.validation import (
    check_cancel,
    check_flags,
    check_outcomes,
    check_reference,
    check_result_check,
    warnings_of,
)
from airflow_lro_provider.exceptions import FinalOperationFailedError, OperationWaitError
from airflow_lro_provider.links.operations import show_link
from airflow_lro_provider.lro.durations import check_interval, check_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.attempt.result import ResultCheck
    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.polling import PollSchedule

__all__ = ["OperationSensor"]

RESCHEDULE_SECONDS = 30.0
"""The shortest interval of ``mode="reschedule"``, where none is given."""


class OperationSensor(OperationTask, BaseSensorOperator):
    """Waits until a long-running operation is finished: succeeded, failed or cancelled.

    Returns ``{"outcome": "SUCCEEDED" | "CANCELLED" | …, "operation": {…}}``. It fails without a retry (a
    finished operation does not change) with the operation's own error when it FAILED.

    By default the sensor owns the operation: killing the task, in whatever way and whether it is
    poking or deferred, cancels the operation. A sensor that only observes an operation that others own
    says ``cancel_on_kill=False``.

    It never turns green by its own kill: if a try of it died and took the operation with it, the next
    try fails, because only the task that starts the operation can start another.

    :param operation_name: see :class:`~airflow_lro_provider.attempt.task.OperationTask`. (templated)
    :param cancel_on_kill: cancel the operation when this task is killed or times out. With
        ``mode="reschedule"``, which leaves no process that could notice a kill, only where the ledger is on: there
        the sweep does it (see :mod:`airflow_lro_provider.sweep`).
    :param cancel_on_failure: with ``cancel_on_kill``, cancel it also when the task fails otherwise (for
        instance because it lost the permission to poll) and is not tried again.
    :param fail_on: the outcomes that fail the task. By default FAILED and NOT_FOUND.
    :param result_check: for services that report a failure inside a successful response: gets the operation as a dict;
        returns ``None`` or ``True`` to accept it, ``False`` or a message to treat the success as a failure. Without
        one, what is known of some services decides (:attr:`Operation.hidden_failure
        <airflow_lro_provider.lro.operation.Operation.hidden_failure>`).
    :param include_response: whether to take the response at the end, for the result and the trigger's event. One that
        is too large is missing there (``responseMissing``).
    :param deferrable: wait in the triggerer.
    :param poke_interval: seconds between two polls, at least 1; if ``None`` it grows with the age of the wait, from 1
        to 60 s, so that a short operation is seen soon and a long one costs few requests. With ``mode="reschedule"``,
        where every poll is a process of its own, it grows from 30 s; one of a few seconds is too short for Airflow 3,
        which fails a task that runs again before its scheduler has heard of its last process.

    All other arguments are those of :class:`~airflow_lro_provider.attempt.task.OperationTask` and of Airflow's
    ``BaseSensorOperator``; ``timeout``, ``soft_fail``, ``silent_fail``, ``never_fail``, ``exponential_backoff`` and
    ``max_wait`` mean the same deferred.
    """

    ui_color = "#e8f0fe"
    judges = True

    _schedule: PollSchedule

    def __init__(
        self,
        *,
        operation_name: Any,
        cancel_on_kill: bool = True,
        cancel_on_failure: bool = True,
        fail_on: Collection[str | Outcome] = ("FAILED", "NOT_FOUND"),
        result_check: ResultCheck | None = None,
        include_response: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        check_interval("poke_interval", poke_interval)
        if "poll_interval" in kwargs:
            raise TypeError("a sensor's interval is its `poke_interval`, as in all of Airflow's sensors")
        for name in ("timeout", "max_wait"):  # Airflow takes a bool, and breaks at what is too long
            check_seconds(name, kwargs.get(name))
        check_flags(
            cancel_on_kill=cancel_on_kill,
            cancel_on_failure=cancel_on_failure,
            include_response=include_response,
            deferrable=deferrable,
        )
        check_result_check(result_check)
        if poke_interval is not None:
            kwargs["poke_interval"] = poke_interval
        super().__init__(**kwargs)
        if self.mode == "reschedule" and cancel_on_kill and not deferrable:
            from airflow_lro_provider.sweep.ledger import ledger_is_on

            if not ledger_is_on():
                raise ValueError(
                    'mode="reschedule" leaves no process between two polls that could notice a kill, so cancel_on_kill'
                    " cannot be kept. Use deferrable=True, which frees the worker slot too, or say"
                    " cancel_on_kill=False. Or switch the ledger on ([lro] ledger = True) and run the sweep: then a"
                    " killed task's operation is cancelled by the next sweep."
                )
        self.operation_name = operation_name
        self.cancel_on_kill = self.durable = cancel_on_kill
        self.cancel_on_failure = cancel_on_failure
        with warnings_of(self.task_id):
            check_reference(operation_name, self.service, self.api_version, self.gcp_conn_id)
            if cancel_on_kill:
                check_cancel(self.service, self.api_version)
        self.fail_on = check_outcomes("fail_on", fail_on, of=("SUCCEEDED", "FAILED", "CANCELLED", "NOT_FOUND"))
        self.result_check = result_check
        self.include_response = include_response
        self.deferrable = deferrable
        self.interval_is_given = poke_interval is not None

    def _run(self, attempt: Attempt) -> Any:
        """Guard the operation, poll it, and wait as the mode says."""
        from airflow_lro_provider.attempt.adoption import take_over

        with attempt:
            reference = self._connect(attempt)
            if self.cancel_on_kill:
                take_over(attempt, reference)
            else:
                show_link(attempt.context["ti"], reference)
                attempt.guard.enter(Phase.WAITING)
            self._schedule = self._new_schedule(attempt)
            # Airflow's own loop, also when deferring: `poke` leaves it by deferring, so that soft_fail, silent_fail
            # and never_fail are decided in one place, which is Airflow's.
            # Not the method itself: Airflow 2 calls it misused where an operator calls it.
            return inspect.unwrap(BaseSensorOperator.execute)(self, attempt.context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; with ``deferrable``, defer unless the operation is finished."""
        from airflow_lro_provider.lro.errors import NotFoundError, OperationsError
        from airflow_lro_provider.lro.operation import Outcome

        attempt, schedule = self.attempt, self._schedule
        assert attempt is not None
        assert attempt.reference is not None
        now = time.time if self.deferrable else time.monotonic
        while True:
            try:
                operation = attempt.poll()
            except OperationsError as error:
                if error.is_ours and not self.deferrable:
                    attempt.recover(error)
                    return PokeReturnValue(False)
                try:
                    line = None if error.is_ours else schedule.failed(error, now())
                except OperationsError:  # believed of the same server and account only
                    if attempt.has_changed(attempt.reference):
                        schedule.refute()
                        line = None
                    elif isinstance(error, NotFoundError):
                        return PokeReturnValue(True, self._settle(attempt, Outcome.NOT_FOUND, None))
                    else:
                        raise
                pause = schedule.delay(now())
                if self.reschedule and schedule.in_doubt and pause:  # the next process would know nothing of it
                    time.sleep(pause)
                    continue
            else:
                line = schedule.observe(operation)
                if operation.outcome is not None:
                    return PokeReturnValue(True, self._settle(attempt, operation.outcome, operation))
            break
        if line:
            attempt.log_state(line)
        if self.deferrable:
            self._defer(attempt, schedule, sensor_timeout=self.timeout)
        return PokeReturnValue(False)

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        if self.reschedule and self.exponential_backoff:  # every poll is the first one of its process
            return super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return self._schedule.delay(time.monotonic())

    def _new_schedule(self, attempt: Attempt) -> PollSchedule:
        """When to poll: on the wall clock for a trigger, else on the monotonic one."""
        from airflow_lro_provider.lro.polling import Deadline, PollSchedule

        if self.deferrable:
            began = attempt.waiting_since or time.time()
        else:
            from airflow_lro_provider.airflow_compat.task_process import first_reschedule_date

            first = first_reschedule_date(attempt.context) if self.reschedule else None
            age = 0.0 if first is None else (datetime.now(tz=timezone.utc) - first).total_seconds()
            began = time.monotonic() - max(age, 0.0)
        return PollSchedule(
            started=began,
            deadline=Deadline(began + self.timeout, "sensor_timeout", self.timeout),
            interval=self.poke_interval if self.interval_is_given else None,
            shortest=RESCHEDULE_SECONDS if self.reschedule and not self.deferrable else 0.0,
            exponential_backoff=self.exponential_backoff,
            max_wait=None if self.max_wait is None else self.max_wait.total_seconds(),
            tolerant=self.silent_fail,
        )

    def _read_event(self, attempt: Attempt, event: Any) -> tuple[Outcome, Operation | None]:
        try:
            return super()._read_event(attempt, event)
        except OperationWaitError as error:
            if not self.never_fail:
                raise
            raise AirflowSkipException("Skipping due to never_fail is set to True.") from error

    def _conclude(self, attempt: Attempt, outcome: Outcome, operation: Operation | None) -> Any:
        from airflow_lro_provider.lro.operation import Outcome

        if outcome is Outcome.CANCELLED and self.cancel_on_kill:
            attempt.lost_to_try = attempt.left_by_try
            if attempt.lost_to_try is None and attempt.record.is_stopped():  # the sweep may have been faster
                attempt.lost_to_try = attempt.record.this_try["try_number"]
            if attempt.lost_to_try is not None:
                raise FinalOperationFailedError(
                    f"the operation was cancelled after try {attempt.lost_to_try} of this task was killed or lost;"
                    f" clear the task that starts it: {attempt.reference}"
                )
        return super()._conclude(attempt, outcome, operation)
