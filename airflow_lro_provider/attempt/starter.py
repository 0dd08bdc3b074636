"""The operators that start an operation, and own it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.attempt.task import OperationTask
from airflow_lro_provider.attempt.validation import (
    check_cancel,
    check_flags,
    check_outcomes,
    check_result_check,
    warnings_of,
)
from airflow_lro_provider.lro.durations import check_interval, check_seconds

if TYPE_CHECKING:
    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.attempt.result import ResultCheck
    from airflow_lro_provider.attempt.start import Start
    from airflow_lro_provider.hooks.operations import OperationsHook
    from airflow_lro_provider.lro.operation import Operation, Outcome


class OperationStarter(OperationTask):
    """An operator that starts an operation, in a way that its subclasses know, and owns it.

    :param wait_for_completion: wait until the operation is finished; if not, the task ends with the start and returns
        the operation, which it no longer owns.
    :param deferrable: wait in the triggerer.
    :param timeout: how long to wait, in seconds or as a timedelta; then the operation is cancelled and the task fails
        (and retries, if it may). By default as long as ``execution_timeout`` allows.
    :param poll_interval: seconds between two polls, at least 1; if ``None`` it grows with the age of the wait, from 1
        to 60 s.
    :param cancel_on_kill: cancel the operation when this task is killed or times out.
    :param cancel_on_failure: with ``cancel_on_kill``, cancel it also when the task fails otherwise (for instance
        because it lost the permission to poll) and no retry goes on with it.
    :param durable: leave a record in Airflow (its task state store; below Airflow 3.3 a Variable), so that a retry
        after a crash goes on with the running operation instead of starting a second one. Nothing is started before
        Airflow has taken it.
    :param fail_on: the outcomes that fail the task. By default FAILED, CANCELLED and NOT_FOUND.
    :param result_check: for services that report a failure inside a successful response: gets the operation as a dict;
        returns ``None`` or ``True`` to accept it, ``False`` or a message to treat the success as a failure. Without
        one, what is known of some services decides (:attr:`Operation.hidden_failure
        <airflow_lro_provider.lro.operation.Operation.hidden_failure>`).
    :param return_operation: return the whole operation and not just its ``response``.

    All other arguments are those of :class:`~airflow_lro_provider.attempt.task.OperationTask`.
    """

    needs_record = True  # nothing else knows what it has started
    failure_is_final = False  # a retry starts anew
    judges = True

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        cancel_on_kill: bool = True,
        cancel_on_failure: bool = True,
        durable: bool = True,
        fail_on: Collection[str | Outcome] = ("FAILED", "CANCELLED", "NOT_FOUND"),
        result_check: ResultCheck | None = None,
        return_operation: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_flags(
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            cancel_on_kill=cancel_on_kill,
            cancel_on_failure=cancel_on_failure,
            durable=durable,
            return_operation=return_operation,
        )
        check_result_check(result_check)
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.timeout = check_seconds("timeout", timeout)
        self.poll_interval = check_interval("poll_interval", poll_interval)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_failure = cancel_on_failure
        if cancel_on_kill and wait_for_completion:
            with warnings_of(self.task_id):
                check_cancel(self.service, self.api_version)
        self.durable = durable
        self.fail_on = check_outcomes("fail_on", fail_on)
        self.result_check = result_check
        self.return_operation = return_operation

    def _read_start(self, hook: OperationsHook) -> Start:
        """Read and check what starts the operation; nothing is sent."""
        raise NotImplementedError

    def _run(self, attempt: Attempt) -> Any:
        """Start an operation, or go on with the one that an earlier try left, and wait for it."""
        from airflow_lro_provider.attempt.adoption import adopt
        from airflow_lro_provider.attempt.start import begin

        with attempt:
            self._note_secrets(attempt)
            if attempt.reference is not None:  # this very try has deferred, and was resumed for nothing
                attempt.connect(lambda hook: None)
                attempt.own(attempt.reference)
                attempt.guard.enter(Phase.WAITING)
            elif not adopt(attempt, start := attempt.connect(self._read_start), self.poll_interval):
                begin(attempt, start)
            return self._follow(attempt)

    def _follow(self, attempt: Attempt) -> Any:
        """Wait for the operation that was started or adopted."""
        assert attempt.about is not None
        seen = attempt.peek()
        if seen is not None and seen.outcome is not None:
            return self._settle(attempt, seen.outcome, seen)
        if not self.wait_for_completion:
            attempt.guard.finish()
            return {"name": attempt.about.name} if seen is None else dict(seen.raw)
        return self._settle(attempt, *self._wait(attempt))

    def _conclude(self, attempt: Attempt, outcome: Outcome, operation: Operation | None) -> Any:
        from airflow_lro_provider.attempt.start import begin
        from airflow_lro_provider.lro.operation import RESPONSE_MISSING, Outcome

        if outcome is Outcome.CANCELLED and attempt.left_by_try is not None:  # then, probably, by the kill of that try
            self.log.warning("Starting anew: what try %d left was cancelled: %s", attempt.left_by_try, attempt.about)
            attempt.left_by_try = attempt.request_id = attempt.waiting_since = attempt.token = None
            attempt.record.let_go(attempt.reference)
            attempt.disown()
            begin(attempt, attempt.connect(self._read_start))
            return self._follow(attempt)
        whole: dict[str, Any] = super()._conclude(attempt, outcome, operation)["operation"]
        if self.return_operation:
            return whole
        return {RESPONSE_MISSING: whole[RESPONSE_MISSING]} if RESPONSE_MISSING in whole else whole.get("response")
