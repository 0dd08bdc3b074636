"""Sensors for long-running operations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseSensorOperator, PokeReturnValue, conf

from airflow_lro_provider.attempt.guard import Guard
from airflow_lro_provider.attempt.record import ArmedRecords
from airflow_lro_provider.attempt.task import FIRST_LOOK_TIMEOUT, GuardedTask
from airflow_lro_provider.attempt.validation import check_outcomes, check_reference, check_seconds
from airflow_lro_provider.exceptions import (
    FinalOperationFailedError,
    OperationInputError,
    OperationKilled,
    OperationWaitError,
)
from airflow_lro_provider.hooks.operations import DEFAULT_CONN_ID
from airflow_lro_provider.sweep.ledger import ledger_is_on

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_lro_provider.attempt.result import ResultCheck
    from airflow_lro_provider.hooks.operations import OperationsHook
    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.polling import PollSchedule
    from airflow_lro_provider.ownership.decisions import ArmedRecord
    from airflow_lro_provider.triggers.events import DeadlinePassed, Lost

__all__ = ["OperationSensor"]


class OperationSensor(GuardedTask, BaseSensorOperator):
    """Waits until a long-running operation is over: succeeded, failed or cancelled.

    Returns ``{"outcome": "SUCCEEDED" | "CANCELLED" | …, "operation": {…}}``. It fails without a retry (a
    finished operation does not change) with the operation's own error when it FAILED.

    By default the sensor stands for the operation: killing the task, in whatever way and whether it is
    poking or deferred, cancels the operation. A sensor that only observes an operation that others own
    says ``cancel_on_kill=False``.

    It never turns green by its own kill: if a try of it died and took the operation with it, the next
    try fails, because only the task that starts the operation can start another.

    :param operation_name: the operation: a plain name (with ``service``), a full resource name, a URL, or
        the operation itself as an upstream task returned it. (templated)
    :param service: the API's discovery name, e.g. ``aiplatform``, or its host. (templated)
    :param api_version: the API version, if not the preferred one. (templated)
    :param cancel_on_kill: cancel the operation when this task is killed or times out. With
        ``mode="reschedule"``, which leaves no process that could notice a kill, only where the ledger is on: there
        the sweep does it (see :mod:`airflow_lro_provider.sweep`).
    :param cancel_on_failure: with ``cancel_on_kill``, cancel it also when the task fails otherwise (for
        instance because it lost the permission to look) and is not tried again.
    :param fail_on: the outcomes that fail the task. By default FAILED and NOT_FOUND.
    :param result_check: for services that report a failure inside a successful response: gets the
        operation as a dict, returns ``None`` or ``True`` if it is fine, else ``False`` or a text.
    :param include_response: whether the operation's response belongs into the result and the trigger's
        event (it may be large).
    :param gcp_conn_id: the Airflow connection; ``None`` uses application default credentials. (templated)
    :param impersonation_chain: the account to act as, or the chain that leads to it. (templated)
    :param deferrable: wait in the triggerer.
    :param poke_interval: seconds between two looks; if ``None`` it grows with the age of the wait, from 1
        to 60 s, so that a short operation is seen soon and a long one costs few requests.

    All other arguments are those of Airflow's ``BaseSensorOperator``; ``timeout``, ``soft_fail``,
    ``silent_fail``, ``never_fail``, ``exponential_backoff`` and ``max_wait`` mean the same deferred.
    """

    ui_color = "#e8f0fe"

    _watch: PollSchedule
    _leftover: ArmedRecord | None = None
    _left_by_try: int | None = None
    _fell_with_try: int | None = None
    _waiting_since: float | None = None

    def __init__(
        self,
        *,
        operation_name: Any,
        service: str | None = None,
        api_version: str | None = None,
        cancel_on_kill: bool = True,
        cancel_on_failure: bool = True,
        fail_on: Collection[str | Outcome] = ("FAILED", "NOT_FOUND"),
        result_check: ResultCheck | None = None,
        include_response: bool = True,
        gcp_conn_id: str | None = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        check_seconds("poke_interval", poke_interval)
        if poke_interval is not None:
            kwargs["poke_interval"] = poke_interval
        super().__init__(**kwargs)
        check_reference(operation_name, service, api_version, gcp_conn_id)
        if self.mode == "reschedule" and cancel_on_kill and not deferrable and not ledger_is_on():
            raise ValueError(
                'mode="reschedule" leaves no process between two looks that could notice a kill, so'
                " cancel_on_kill cannot be kept. Use deferrable=True, which frees the worker slot too, or"
                " say cancel_on_kill=False. Or switch the ledger on ([lro] ledger = True) and run the sweep:"
                " then a killed task's operation is cancelled by the next sweep."
            )
        self.operation_name = operation_name
        self.service = service
        self.api_version = api_version
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_failure = cancel_on_failure
        self.fail_on = check_outcomes("fail_on", fail_on)
        self.result_check = result_check
        self.include_response = include_response
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.deferrable = deferrable
        self.interval_is_given = poke_interval is not None

    # -- a try, from its beginning ------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Guard the operation, look at it, and wait as the mode says."""
        guard = self._get_guard()
        records = self._records(context)
        guard.prepare()
        hook = self._connect()
        try:
            with hook.make_client() as self._client:
                if self.cancel_on_kill:
                    self._arm(hook)  # first of all: Airflow may take its time with its answers
                    self._leftover = self._take_over(records)
                    records.write(self._reference)
                    if records.is_outdated:
                        guard.over()
                        raise OperationKilled(
                            "this try was cleared before it stood for the operation; the next one waits for it"
                        )
                    guard.watch()
                    self._first = guard.first_look(FIRST_LOOK_TIMEOUT)
                    self._judge_leftover(records, guard)
                else:
                    guard.watch()
                self._watch = self._new_watch(self._began(context))
                # Airflow's own loop, also when deferring: `poke` leaves it by deferring, so that
                # soft_fail, silent_fail and never_fail are decided in one place, which is not ours.
                result = super().execute(context)
        except BaseException as error:
            self._leave(guard, records, error)
            raise
        guard.release()
        records.remove()
        return result

    def _keeps_record(self) -> bool:
        return self.cancel_on_kill

    def _will_go_on(self, records: ArmedRecords) -> bool:
        return records.will_retry  # it waits for the same operation, whatever it knows of this try

    def _defer(self, context: Context) -> None:
        from airflow_lro_provider.attempt.deferral import deadline_of

        watch, left = self._watch, self._leftover
        deadline = deadline_of(watch.started, sensor_timeout=self.timeout, execution_timeout=self.execution_timeout)
        self._hand_over(
            context, watch, deadline, waiting_since=watch.started, left_by_try=left.try_number if left else None
        )

    def _take_over(self, records: ArmedRecords) -> ArmedRecord | None:
        """See what an earlier try left behind, and end what nobody wants any more.

        :return: the record, if it is about the operation of this try.
        """
        from airflow_lro_provider.lro.resources.names import OperationReference
        from airflow_lro_provider.ownership.decisions import Decision, of_armed_record

        record = records.read()
        if record is None or record.reference is None or (records.is_own(record) and not record.killed):
            return None
        same = {key: record.reference.get(key) for key in ("service", "name")}
        if same == {"service": self._reference.service, "name": self._reference.name}:
            return record
        # This try waits for another operation. Nobody waits for the old one any more.
        if of_armed_record(record, **records.this_try) is not Decision.UNSURE:
            old = OperationReference.from_dict(record.reference)
            self._cancel_now(old, f"try {record.try_number} of this task died, and this one has another")
        return None

    def _judge_leftover(self, records: ArmedRecords, guard: Guard) -> None:
        """Adopt what an earlier try left, or cancel it once more: that try's own cancel may have failed."""
        from airflow_lro_provider.lro.operation import Operation
        from airflow_lro_provider.ownership.decisions import Decision, of_armed_record

        if self._leftover is None:
            return
        seen = self._first if isinstance(self._first, Operation) else None
        verdict = of_armed_record(self._leftover, **records.this_try, seen=seen)
        self.log.info(
            "Try %d of this task left this operation behind (killed: %s; max_tries %d, now %d; operation: %s): %s",
            self._leftover.try_number,
            self._leftover.killed or "not known",
            self._leftover.max_tries,
            records.this_try["max_tries"],
            seen.summary() if seen else "not seen",
            verdict.value,
        )
        if seen is not None and seen.done:
            return
        if verdict is Decision.CANCEL:
            guard.cancel(f"try {self._leftover.try_number} of this task was killed or cleared")
        elif verdict is Decision.ADOPT and seen is not None:
            self._leftover = None  # it is this try's own now, and whoever cancels it from here on means it

    def _close(self, records: ArmedRecords) -> None:
        if self._fell_with_try is None:
            super()._close(records)
            return
        # However often it is tried again: its operation fell to its own kill, and that is no success.
        records.write(self._reference, killed=f"try {self._fell_with_try} of this task was killed")
        records.let_go(self._reference)

    # -- looking ------------------------------------------------------------------------------------

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; with ``deferrable``, defer unless it is over."""
        from airflow_lro_provider.lro.errors import NotFoundError, OperationsError
        from airflow_lro_provider.lro.operation import Outcome

        try:
            operation = self._look()
        except OperationsError as error:
            try:
                line = self._watch.failed(error, time.time() if self.deferrable else time.monotonic())
            except NotFoundError:
                return PokeReturnValue(True, self._settle(Outcome.NOT_FOUND, None))
        else:
            line = self._watch.saw(operation)
            if operation.outcome is not None:
                return PokeReturnValue(True, self._settle(operation.outcome, operation))
        if line:
            self.log.info("%s: %s", self._reference, line)
        if self.deferrable:
            self._defer(context)
        return PokeReturnValue(False)

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        if self.reschedule and self.exponential_backoff:  # every look is the first one of its process
            return super()._get_next_poke_interval(started_at, run_duration, poke_count)
        return self._watch.delay(time.monotonic())

    def _began(self, context: Context) -> float:
        """When the wait began, on the clock that its watch goes by."""
        if self.deferrable:
            return self._waiting_since or time.time()
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        age = 0.0 if first is None else (datetime.now(tz=timezone.utc) - first).total_seconds()
        return time.monotonic() - max(age, 0.0)

    def _new_watch(self, now: float) -> PollSchedule:
        from airflow_lro_provider.lro.polling import Deadline, PollSchedule

        return PollSchedule(
            started=now,
            deadline=Deadline(now + self.timeout, "sensor_timeout", self.timeout),
            interval=self.poke_interval if self.interval_is_given else None,
            exponential_backoff=self.exponential_backoff,
            max_wait=None if self.max_wait is None else self.max_wait.total_seconds(),
            tolerant=self.silent_fail,
        )

    # -- after a deferral ---------------------------------------------------------------------------

    def _resumed(
        self,
        reference: dict[str, Any] | None = None,
        waiting_since: float | None = None,
        left_by_try: int | None = None,
        **_: Any,
    ) -> None:
        super()._resumed(reference)
        self._waiting_since, self._left_by_try = waiting_since, left_by_try

    def _recall(self, records: ArmedRecords) -> bool:
        if super()._recall(records):
            return True
        with contextlib.suppress(OperationInputError):
            self._connect()
            return True
        return False

    def _read_arguments(self, hook: OperationsHook) -> None:
        if self._waiting_since is None:
            super()._read_arguments(hook)
        else:  # this try has begun to wait already: whatever the template says by now, for this one
            hook.reference(self._reference)

    def _error_of(self, seen: DeadlinePassed | Lost) -> BaseException:
        error = super()._error_of(seen)
        if not self.never_fail or not isinstance(error, OperationWaitError):
            return error
        skip = AirflowSkipException("Skipping due to never_fail is set to True.")
        skip.__cause__ = error
        return skip

    def _settle(self, outcome: Outcome, operation: Operation | None) -> dict[str, Any]:
        from airflow_lro_provider.attempt.result import settle
        from airflow_lro_provider.lro.operation import Outcome

        self._get_guard().over()
        left_by_try = self._left_by_try if self._leftover is None else self._leftover.try_number
        if outcome is Outcome.CANCELLED and left_by_try is not None:
            self._fell_with_try = left_by_try
            raise FinalOperationFailedError(
                f"{self._reference} was cancelled when try {left_by_try} of this task was killed;"
                " clear the task that starts it"
            )
        self.log.info("%s: %s", self._reference, operation.summary() if operation else outcome.value)
        return settle(
            self._reference,
            outcome,
            operation,
            fail_on=self.fail_on,
            result_check=self.result_check,
            include_response=self.include_response,
        )
