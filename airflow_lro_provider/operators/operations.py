"""Operators for long-running operations."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator, conf

from airflow_lro_provider.arguments import check_outcomes, check_reference, check_seconds
from airflow_lro_provider.exceptions import OperationWaitError
from airflow_lro_provider.guard import Guard
from airflow_lro_provider.hooks.operations import DEFAULT_CONN_ID
from airflow_lro_provider.task import OperationTask

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.reference import OperationReference

__all__ = ["CancelOperationOperator"]


class CancelOperationOperator(OperationTask, BaseOperator):
    """Cancels a long-running operation, and tells the truth about what came of it.

    A cancel is a request, best effort by contract
    (https://cloud.google.com/apis/design/design_patterns#long_running_operations,
    ``google/longrunning/operations.proto``). So the operator looks first, asks, and waits for what
    really happens. Its result is ``{"outcome": …, "operation": {…}}`` with one of these outcomes:

    * ``CANCELLED``: it is cancelled.
    * ``COMPLETED_DESPITE_CANCEL``: it succeeded before the request took effect.
    * ``SUCCEEDED``, ``FAILED``: it was over already, or failed.
    * ``CANCEL_UNSUPPORTED``: the service cannot cancel it.
    * ``NOT_FOUND``: there is no such operation (any more).
    * ``STILL_RUNNING``: neither at the timeout, or the operator was told not to wait.

    Killing this task does not take the request back, and does no harm to the operation.

    :param operation_name: the operation: a plain name (with ``service``), a full resource name, a URL, or
        the operation itself as an upstream task returned it. (templated)
    :param service: the API's discovery name, e.g. ``aiplatform``, or its host. (templated)
    :param api_version: the API version, if not the preferred one. (templated)
    :param wait_for_completion: wait for the truth; if not, the task ends with the request.
    :param timeout: how long to wait for it, in seconds or as a timedelta.
    :param poll_interval: seconds between two looks; if ``None`` it grows with the age of the wait.
    :param fail_on: the outcomes that fail the task. By default CANCEL_UNSUPPORTED, NOT_FOUND, and
        STILL_RUNNING if it waits.
    :param include_response: whether an operation's response belongs into the result (it may be large).
    :param gcp_conn_id: the Airflow connection; ``None`` uses application default credentials. (templated)
    :param impersonation_chain: the account to act as, or the chain that leads to it. (templated)
    :param deferrable: wait in the triggerer.
    """

    ui_color = "#fde7e9"

    def __init__(
        self,
        *,
        operation_name: Any,
        service: str | None = None,
        api_version: str | None = None,
        wait_for_completion: bool = True,
        timeout: float | timedelta | None = 900.0,
        poll_interval: float | timedelta | None = None,
        fail_on: Collection[str | Outcome] | None = None,
        include_response: bool = True,
        gcp_conn_id: str | None = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_reference(operation_name, service, api_version, gcp_conn_id)
        if fail_on is None:
            fail_on = {"CANCEL_UNSUPPORTED", "NOT_FOUND"} | ({"STILL_RUNNING"} if wait_for_completion else set())
        self.operation_name = operation_name
        self.service = service
        self.api_version = api_version
        self.wait_for_completion = wait_for_completion
        self.timeout = check_seconds("timeout", timeout)
        self.poll_interval = check_seconds("poll_interval", poll_interval)
        self.fail_on = check_outcomes("fail_on", fail_on)
        self.include_response = include_response
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, ask for the cancellation, and wait for what comes of it."""
        from airflow_lro_provider.lro.errors import WaitTimeoutError
        from airflow_lro_provider.lro.flows import outcome_of_cancel
        from airflow_lro_provider.lro.operation import Outcome
        from airflow_lro_provider.lro.polling import new_watch

        guard = self._get_guard()
        guard.prepare()
        hook = self._connect()
        reference = self._reference
        with hook.make_client() as client:
            guard.start()  # a kill waits until it is known whether the request was taken
            asked = client.ask_for_cancel(reference)
            if asked.requested:
                self.log.info(
                    "Cancel of %s requested; it was: %s", reference, asked.operation and asked.operation.summary()
                )
            if asked.outcome is not None:
                return self._settle(reference, asked.outcome, asked.operation)
            if not self.wait_for_completion:
                return self._settle(reference, Outcome.STILL_RUNNING, asked.operation)
            if self.deferrable:
                self._defer(guard, context, reference)
            guard.watch()
            watch = new_watch(time.monotonic(), timeout=self.timeout, interval=self.poll_interval)
            try:
                operation = client.wait_until_done(
                    reference, watch, on_change=lambda line: self.log.info("%s: %s", reference.name, line)
                )
            except WaitTimeoutError:
                return self._settle(reference, Outcome.STILL_RUNNING, watch.last)
            finally:
                guard.release()
        return self._settle(reference, outcome_of_cancel(operation), operation)

    def execute_complete(self, context: Context, event: Any, token: str | None = None) -> dict[str, Any]:
        """Go on after the trigger has waited."""
        from airflow_lro_provider.events import DeadlinePassed, Finished, Gone, is_for_another, read_event
        from airflow_lro_provider.lro.flows import outcome_of_cancel
        from airflow_lro_provider.lro.operation import Outcome

        if is_for_another(event, token):
            self.log.warning("Airflow delivered the event of another task; looking again.")
            return self.execute(context)
        self._connect()
        reference = self._reference
        seen = read_event(event)
        if isinstance(seen, Finished):
            return self._settle(reference, outcome_of_cancel(seen.operation), seen.operation)
        if isinstance(seen, Gone):
            return self._settle(reference, Outcome.NOT_FOUND, None)
        if isinstance(seen, DeadlinePassed):
            if seen.cause == "execution_timeout":
                raise AirflowTaskTimeout(f"{reference}: execution_timeout of {seen.seconds:g} s while deferred")
            return self._settle(reference, Outcome.STILL_RUNNING, seen.operation)
        raise OperationWaitError(seen.message)

    def _defer(self, guard: Guard, context: Context, reference: OperationReference) -> None:
        from airflow_lro_provider.deferral import deadline_of, make_trigger, new_token

        guard.hand_on()
        now, token = time.time(), new_token()
        deadline = deadline_of(now, timeout=self.timeout, execution_timeout=self.execution_timeout)
        self.defer(
            trigger=make_trigger(
                guard,
                reference,
                gcp_conn_id=self.gcp_conn_id,
                impersonation_chain=self.impersonation_chain,
                started=now,
                deadline=deadline,
                poll_interval=self.poll_interval,
                include_response=self.include_response,
                owner={"token": token},
            ),
            method_name="execute_complete",
            kwargs={"token": token},
        )

    def _settle(self, reference: OperationReference, outcome: Outcome, operation: Operation | None) -> dict[str, Any]:
        from airflow_lro_provider.result import settle

        self._get_guard().release()
        self.log.info("%s: %s", reference, outcome.value)
        return settle(reference, outcome, operation, fail_on=self.fail_on, include_response=self.include_response)
