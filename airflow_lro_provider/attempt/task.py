"""What all tasks about one operation have in common.

* :class:`OperationTask`: who asks, which service, and what a kill does.
* :class:`GuardedTask`: a task that stands for its operation: its record, and every way out of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_lro_provider.attempt.guard import KILLED, Guard, reason_to_cancel
from airflow_lro_provider.attempt.record import ArmedRecords
from airflow_lro_provider.exceptions import OperationInputError, OperationRunningError, OperationWaitError
from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.links.operations import OperationLink
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.sweep.ledger import LedgerPage, ledger_is_on

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_lro_provider.attempt.result import ResultCheck
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.polling import Deadline, PollSchedule
    from airflow_lro_provider.lro.resources.names import OperationReference
    from airflow_lro_provider.triggers.events import DeadlinePassed, Lost

__all__ = ["GuardedTask", "OperationTask"]

FIRST_LOOK_TIMEOUT = 10.0
"""How long the guard's first look is waited for, in seconds."""


class OperationTask:
    """Comes before ``BaseOperator`` or a class of that among the bases of an operator."""

    template_fields: Collection[str] = (
        "operation_name",
        "service",
        "api_version",
        "gcp_conn_id",
        "impersonation_chain",
    )
    operator_extra_links: Collection[BaseOperatorLink] = (OperationLink(),)

    operation_name: Any = None
    service: str | None
    api_version: str | None
    gcp_conn_id: str | None
    impersonation_chain: str | Sequence[str] | None
    cancel_on_kill = False
    """Whether a kill of the task cancels the operation."""

    _guard: Guard | None = None
    _reference: OperationReference

    if TYPE_CHECKING:  # what comes from the operator

        @property
        def log(self) -> Any:
            """The task's logger."""

    def on_kill(self) -> None:
        """End the task, and cancel its operation if it stands for it. See :mod:`airflow_lro_provider.attempt.guard`."""
        self._get_guard().on_kill()

    def _get_guard(self) -> Guard:
        # Made late: Airflow copies operators, and a kill may come before `execute`.
        if self._guard is not None:
            return self._guard
        # A kill in this very moment makes one too, and has noted itself there: `setdefault` keeps that one.
        made: Guard = self.__dict__.setdefault("_guard", Guard(self.log, cancels=self.cancel_on_kill))
        return made

    def _hook(self) -> OperationsHook:
        return OperationsHook(
            service=self.service,
            api_version=self.api_version,
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
        )

    def _connect(self) -> OperationsHook:
        """Read the connection and the arguments. Nothing is sent.

        :raises OperationInputError: if one of them cannot be used.
        """
        from airflow_lro_provider.lro.auth.credentials import identity_for
        from airflow_lro_provider.lro.errors import InvalidRequestError

        hook = self._hook()
        try:
            self._read_arguments(hook)
            identity_for(hook.settings)
        except InvalidRequestError as error:
            raise OperationInputError(str(error)) from None
        return hook

    def _read_arguments(self, hook: OperationsHook) -> None:
        self._reference = hook.reference(self.operation_name)


class GuardedTask(OperationTask):
    """A task that stands for its operation: whoever ends the task, ends the operation.

    Comes before ``BaseOperator`` among the bases. It leaves a record behind that tells the next try how
    this one ended (see :mod:`airflow_lro_provider.attempt.record`).
    """

    cancel_on_failure: bool
    result_check: ResultCheck | None
    include_response = True

    _client: OperationsClient
    _first: Any = None
    _token: str | None = None

    # What is different in sensors and in operators that start something

    def _keeps_record(self) -> bool:
        """Whether a try leaves a record for the next one."""
        raise NotImplementedError

    def _will_go_on(self, records: ArmedRecords) -> bool:
        """Whether, after an ordinary failure, a next try goes on with the operation."""
        raise NotImplementedError

    def _settle(self, outcome: Outcome, operation: Operation | None) -> Any:
        """Turn what became of the operation into the task's result, or into its error."""
        raise NotImplementedError

    def _resumed(self, reference: dict[str, Any] | None = None, **_: Any) -> None:
        """Take back what was handed over with the deferral.

        :param reference: the operation. A template may say another one by now.
        """
        from airflow_lro_provider.lro.resources.names import OperationReference

        if reference is None:  # deferred by an older version
            self._connect()
        else:
            self._reference = OperationReference.from_dict(reference)

    def _recall(self, records: ArmedRecords) -> bool:
        """Whether it is known which operation this is, although nothing was handed back."""
        from airflow_lro_provider.lro.resources.names import OperationReference

        record = records.read()
        if record is None or record.reference is None or not records.is_own(record):
            return False
        self._reference = OperationReference.from_dict(record.reference)
        return True

    if TYPE_CHECKING:

        def execute(self, context: Context) -> Any:
            """Begin a try, or begin again after an event that was for another task."""

    def _records(self, context: Context) -> ArmedRecords:
        """The records of this try."""
        records = ArmedRecords(context, self.log, kept=self._keeps_record())
        if self.cancel_on_kill and ledger_is_on():
            records.page = LedgerPage(
                context["ti"],
                gcp_conn_id=self.gcp_conn_id,
                impersonation_chain=self.impersonation_chain,
                cancel_on_failure=self.cancel_on_failure,
                will_adopt=self._will_go_on(records),
            )
        return records

    # Looking

    def _arm(self, hook: OperationsHook) -> None:
        guard = self._get_guard()
        # Short: a connection that died without a word must be noticed while there is time for another one. And without
        # metrics: counting may import, and no import may hold a kill up. The guard counts afterwards.
        client = hook.make_client(connect_timeout=2.0, read_timeout=2.0, metrics=Metrics())
        guard.arm(client, self._reference)

    def _look(self, timeout: float = 0.0) -> Operation:
        """Look once; the guard's first look counts as one.

        :param timeout: how long a ``:wait`` may take, in seconds; 0 is a GET.
        """
        self._get_guard().checkpoint()
        self._get_guard().check_supervisor()
        first, self._first = self._first, None
        if isinstance(first, Exception):
            raise first
        return first if first is not None else self._client.look(self._reference, timeout)

    # Deferring, and what comes after

    def _hand_over(self, context: Context, watch: PollSchedule, deadline: Deadline | None, **kwargs: Any) -> None:
        """Let a trigger wait. Does not return.

        :param watch: the wait so far, on the wall clock.
        :param deadline: when the trigger is to give up.
        :param kwargs: for :meth:`_resumed`.
        """
        from airflow_lro_provider.attempt.deferral import make_trigger, new_owner

        guard = self._get_guard()
        guard.ask()
        owner = new_owner(context, self._token)
        self.defer(  # type: ignore[attr-defined]
            trigger=make_trigger(
                guard,
                self._reference,
                log=self.log,
                gcp_conn_id=self.gcp_conn_id,
                impersonation_chain=self.impersonation_chain,
                started=watch.started,
                deadline=deadline,
                poll_interval=watch.interval,
                exponential_backoff=watch.exponential_backoff,
                max_wait=watch.max_wait,
                tolerant=watch.tolerant,
                cancel_on_kill=self.cancel_on_kill,
                owner=owner,
                include_response=self.include_response or self.result_check is not None,
            ),
            method_name="execute_complete",
            kwargs={"token": owner["token"], "reference": self._reference.to_dict(), **kwargs},
        )

    def execute_complete(self, context: Context, event: Any, token: str | None = None, **kwargs: Any) -> Any:
        """Go on after the trigger has waited."""
        from airflow_lro_provider.lro.operation import Outcome
        from airflow_lro_provider.triggers.events import Finished, Gone, is_for_another, read_event

        self._resumed(**kwargs)
        if is_for_another(event, token):
            self.log.warning("Airflow delivered the event of another task; looking again.")
            self._token = token
            return self.execute(context)
        records = self._records(context)
        try:
            seen = read_event(event)
        except ValueError as odd:
            self._give_up(records, odd)
            raise
        if isinstance(seen, (Finished, Gone)):
            operation = seen.operation if isinstance(seen, Finished) else None
            try:
                return self._settle((operation and operation.outcome) or Outcome.NOT_FOUND, operation)
            finally:
                self._close(records)
        error = self._error_of(seen)
        self._give_up(records, error, requested=getattr(seen, "cancel_requested", False))
        raise error

    def _error_of(self, seen: DeadlinePassed | Lost) -> BaseException:
        from airflow_lro_provider.triggers.events import Lost

        if isinstance(seen, Lost):
            return OperationWaitError(seen.message)
        why = f"{self._reference}: the {seen.cause.replace('_', ' ')} of {seen.seconds:g} s passed while deferred"
        if seen.cause == "execution_timeout":
            return AirflowTaskTimeout(why)
        return AirflowSensorTimeout(why) if seen.cause == "sensor_timeout" else OperationRunningError(why)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, also if only to fail: then the operation must not be forgotten."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]
        except BaseException as error:
            if next_method == "__fail__":  # the trigger broke, or a timeout that is not ours
                records = self._records(context)
                if self._recall(records):
                    self._give_up(records, error)
                else:
                    self.log.warning("It is not known any more which operation this task stands for.")
            raise

    # Ways out

    def _close(self, records: ArmedRecords) -> None:
        """The operation is over: nothing of it is left to the next try."""
        records.remove(self._reference)

    def _leave(self, guard: Guard, records: ArmedRecords, error: BaseException) -> None:
        """The try ends with an error: cancel if it has to be, and leave the right record behind."""
        if isinstance(error, TaskDeferred):
            return  # it may still be called off: until then the guard stays
        if guard.is_over:
            guard.release()
            self._close(records)
            return
        because = self._reason_to_cancel(records, error)
        guard.release(because)
        if because is not None and guard.cancelled_because is not None:
            records.write(self._reference, killed=guard.cancelled_because)
        elif because is None and not self._goes_on_after(error, records):
            records.let_go()

    def _give_up(self, records: ArmedRecords, error: BaseException, *, requested: bool = False) -> None:
        """The wait ended in the triggerer, but the operation did not: cancel it if it has to be.

        :param requested: whether the trigger has asked for the cancellation already.
        """
        records.check()
        because = self._reason_to_cancel(records, error)
        if because is None:
            if not self._goes_on_after(error, records):
                records.let_go(self._reference)
            return
        if not requested:
            self._cancel_now(self._reference, because)
        records.write(self._reference, killed=because)

    def _reason_to_cancel(self, records: ArmedRecords, error: BaseException) -> str | None:
        if not self.cancel_on_kill:
            return None
        if self._get_guard().killed:
            return KILLED  # whatever else went wrong meanwhile: no next try goes on with it
        will_retry = self._goes_on_after(error, records)
        return reason_to_cancel(error, will_retry=will_retry, cancel_on_failure=self.cancel_on_failure)

    def _goes_on_after(self, error: BaseException, records: ArmedRecords) -> bool:
        """Whether, after this error, a next try or the next look of this one goes on with the operation."""
        if isinstance(error, AirflowRescheduleException):
            return True
        return self._will_go_on(records) and not records.is_last(error, getattr(self, "retry_policy", None))

    def _cancel_now(self, reference: OperationReference, because: str) -> None:
        """Ask for the cancellation of an operation that no guard stands for any more."""
        from airflow_lro_provider.lro.errors import OperationsError
        from airflow_lro_provider.lro.flows import cancel_line

        try:
            with self._hook().make_client() as client:
                result = client.cancel(reference)
            self.log.info(cancel_line(reference, result, because))
        except OperationsError as error:
            self.log.error(cancel_line(reference, error, because))
        except Exception as error:  # of Airflow, about the connection; what ends the task is more important
            self.log.error("Not cancelled, %s (%s): %s", type(error).__name__, because, reference)
