"""Operators for long-running operations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator, conf

from airflow_lro_provider.attempt.guard import Guard
from airflow_lro_provider.attempt.starter import OperationStarter
from airflow_lro_provider.attempt.task import OperationTask
from airflow_lro_provider.attempt.validation import (
    check_method,
    check_outcomes,
    check_parent,
    check_reference,
    check_seconds,
)
from airflow_lro_provider.exceptions import (
    OperationFailedError,
    OperationInputError,
    OperationRunningError,
    OperationStartError,
    OperationWaitError,
)
from airflow_lro_provider.hooks.operations import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_lro_provider.hooks.operations import OperationsHook
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.flows import Started
    from airflow_lro_provider.lro.many import Cancelled
    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.resources.methods import Method
    from airflow_lro_provider.lro.resources.names import OperationReference
    from airflow_lro_provider.sweep.search import StartFootprint

__all__ = ["CancelOperationOperator", "CancelOperationsOperator", "RunOperationOperator"]


class RunOperationOperator(OperationStarter):
    """Calls a method of any Google API that answers with a long-running operation, and waits for its end.

    Returns the operation's ``response``. Killing the task, in whatever way and whether it is running or
    deferred, cancels the operation; a retry after a crash goes on with it instead of starting a second
    one. A task that is cleared cancels the old operation and waits for its end before it starts a fresh one.

    A start whose answer was lost is sent again only where the method takes a request id
    (https://google.aip.dev/155; the table of services knows which do): the service then answers with the
    operation that it has started. Elsewhere the task fails at once, and says that it is not known.

    A method that answers with an operation that is over already is done. One that answers with a plain
    resource fails the task, unless ``allow_resource`` says that this is fine: then the resource is the
    task's result.

    :param method: what to call: a path below the API version (``projects/p/locations/l/instances?instanceId=x``,
        with ``service``), or a URL. (templated)
    :param http_method: POST, PUT, PATCH or DELETE. (templated)
    :param body: the JSON object to send. (templated, deeply)
    :param allow_resource: take a plain resource for the result.

    All other arguments are those of :class:`~airflow_lro_provider.attempt.starter.OperationStarter`.
    """

    template_fields = ("method", "http_method", "body", "service", "api_version", "gcp_conn_id", "impersonation_chain")
    template_fields_renderers: ClassVar[dict[str, str]] = {"body": "json"}
    ui_color = "#e6f4ea"

    _method: Method

    def __init__(
        self,
        *,
        method: str,
        http_method: str = "POST",
        body: Mapping[str, Any] | None = None,
        allow_resource: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_method(method, http_method, body, self.service, self.api_version, self.gcp_conn_id)
        self.method = method
        self.http_method = http_method
        self.body = body
        self.allow_resource = allow_resource

    def execute(self, context: Context) -> Any:
        """Start the operation, or go on with the one that an earlier try left, and wait for it."""
        from airflow_lro_provider.lro.errors import InvalidRequestError, NotAnOperationError, StartUnknownError

        try:
            return super().execute(context)
        except NotAnOperationError as error:
            if not (self.allow_resource and error.is_resource):
                raise OperationStartError(str(error)) from None
            self.log.info("%s %s was answered with a resource", self._method.http_method, self._method.path)
            return error.answer
        except StartUnknownError as error:
            raise OperationStartError(str(error)) from None
        except InvalidRequestError as error:
            raise OperationInputError(str(error)) from None

    def _read_arguments(self, hook: OperationsHook) -> None:
        from airflow_lro_provider.lro.resources.methods import check_body

        self._method = hook.method(self.method, self.http_method)
        check_body(self.body)

    @property
    def _is_repeatable(self) -> bool:
        from airflow_lro_provider.lro.resources.catalog import find_service

        method = self._method
        return find_service(method.service).place_of_request_id(method.http_method, method.path) is not None

    @property
    def _starts_in_words(self) -> str:
        return str(self._method)

    @property
    def _traces(self) -> StartFootprint | None:
        from airflow_lro_provider.sweep.search import footprint_of

        return footprint_of(self._method, self.body)

    def _start(self, context: Context) -> Started:
        return self._start_again()

    def _start_again(self) -> Started:
        return self._client.start(self._method, self.body, request_id=self._request_id)


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
        check_reference(operation_name, service, api_version, gcp_conn_id, "cancel")
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
        from airflow_lro_provider.lro.flows import cancel_line
        from airflow_lro_provider.lro.operation import Outcome
        from airflow_lro_provider.lro.polling import new_schedule

        guard = self._get_guard()
        guard.prepare()
        hook = self._connect()
        reference = self._reference
        with hook.make_client() as client:
            guard.start()  # a kill waits until it is known whether the request was taken
            result = client.cancel(reference)
            self.log.info(cancel_line(reference, result))
            if result.outcome is not None:
                return self._settle(reference, result.outcome, result.operation)
            if not self.wait_for_completion:
                return self._settle(reference, Outcome.STILL_RUNNING, result.operation)
            if self.deferrable:
                self._defer(guard, context, reference)
            guard.watch()
            watch = new_schedule(time.monotonic(), timeout=self.timeout, interval=self.poll_interval)
            try:
                operation = client.wait_until_done(
                    reference,
                    watch,
                    look=lambda timeout: self._look(client, timeout),
                    on_change=lambda line: self.log.info("%s: %s", reference.name, line),
                )
            except WaitTimeoutError:
                return self._conclude(reference, Outcome.STILL_RUNNING, watch.last)
            finally:
                guard.release()
        return self._conclude(reference, result.outcome_of(operation), operation)

    def _look(self, client: OperationsClient, timeout: float) -> Operation:
        self._get_guard().checkpoint()
        self._get_guard().check_supervisor()
        return client.look(self._reference, timeout)

    def execute_complete(self, context: Context, event: Any, token: str | None = None) -> dict[str, Any]:
        """Go on after the trigger has waited."""
        from airflow_lro_provider.lro.flows import outcome_of_cancel
        from airflow_lro_provider.lro.operation import Outcome
        from airflow_lro_provider.triggers.events import DeadlinePassed, Finished, Gone, is_for_another, read_event

        if is_for_another(event, token):
            self.log.warning("Airflow delivered the event of another task; looking again.")
            return self.execute(context)
        self._connect()
        reference = self._reference
        seen = read_event(event)
        if isinstance(seen, Finished):
            return self._conclude(reference, outcome_of_cancel(seen.operation), seen.operation)
        if isinstance(seen, Gone):
            return self._conclude(reference, Outcome.NOT_FOUND, None)
        if isinstance(seen, DeadlinePassed):
            if seen.cause == "execution_timeout":
                raise AirflowTaskTimeout(f"{reference}: execution_timeout of {seen.seconds:g} s while deferred")
            return self._conclude(reference, Outcome.STILL_RUNNING, seen.operation)
        raise OperationWaitError(seen.message)

    def _defer(self, guard: Guard, context: Context, reference: OperationReference) -> None:
        from airflow_lro_provider.attempt.deferral import deadline_of, make_trigger, new_token

        guard.ask()
        now, token = time.time(), new_token()
        deadline = deadline_of(now, timeout=self.timeout, execution_timeout=self.execution_timeout)
        self.defer(
            trigger=make_trigger(
                guard,
                reference,
                log=self.log,
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

    def _conclude(self, reference: OperationReference, outcome: Outcome, operation: Operation | None) -> dict[str, Any]:
        """The same, with an outcome that was waited for: the client has counted the request only."""
        from airflow_lro_provider.metrics import StatsMetrics

        StatsMetrics().cancel(reference.service, outcome.value)
        return self._settle(reference, outcome, operation)

    def _settle(self, reference: OperationReference, outcome: Outcome, operation: Operation | None) -> dict[str, Any]:
        from airflow_lro_provider.attempt.result import settle

        self._get_guard().release()
        self.log.info("%s: %s", reference, outcome.value)
        return settle(reference, outcome, operation, fail_on=self.fail_on, include_response=self.include_response)


class CancelOperationsOperator(OperationTask, BaseOperator):
    """Cancels every running operation of a parent, and tells of each what came of it.

    Returns ``{"outcomes": {"CANCELLED": 3, …}, "operations": [{"name": …, "outcome": …}, …]}``; the outcomes are
    those of :class:`CancelOperationOperator`, and ``ERROR`` (with a ``message``) for one whose cancellation was
    refused or got lost. One that cannot be cancelled does not keep the others from it.

    :param parent: below which to look, e.g. ``projects/p/locations/l``. (templated)
    :param service: the API's discovery name, e.g. ``aiplatform``, or its host. (templated)
    :param api_version: the API version, if not the preferred one. (templated)
    :param filter: which of them, in the service's own dialect. (templated)
    :param dry_run: cancel nothing, and report what would be: every outcome is STILL_RUNNING.
    :param wait_for_completion: wait for the truth; if not, the task ends with the requests.
    :param timeout: how long to wait for it, in seconds or as a timedelta.
    :param poll_interval: seconds between two looks; if ``None`` it grows with the age of the wait.
    :param max_parallel: how many cancels are under way at a time.
    :param fail_on: the outcomes that fail the task. By default CANCEL_UNSUPPORTED, ERROR, and STILL_RUNNING
        if it waits.
    :param gcp_conn_id: the Airflow connection; ``None`` uses application default credentials. (templated)
    :param impersonation_chain: the account to act as, or the chain that leads to it. (templated)
    """

    template_fields = ("parent", "filter", "service", "api_version", "gcp_conn_id", "impersonation_chain")
    operator_extra_links = ()
    ui_color = "#fde7e9"

    def __init__(
        self,
        *,
        parent: str,
        service: str,
        api_version: str | None = None,
        filter: str | None = None,
        dry_run: bool = False,
        wait_for_completion: bool = True,
        timeout: float | timedelta | None = 900.0,
        poll_interval: float | timedelta | None = None,
        max_parallel: int = 8,
        fail_on: Collection[str | Outcome] | None = None,
        gcp_conn_id: str | None = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_parent(parent, service, api_version)
        if not isinstance(max_parallel, int) or max_parallel < 1:
            raise ValueError(f"`max_parallel` must be a whole number from 1 on, got {max_parallel!r}")
        waits = wait_for_completion and not dry_run
        if fail_on is None:
            fail_on = {"CANCEL_UNSUPPORTED", "ERROR"} | ({"STILL_RUNNING"} if waits else set())
        self.parent = parent
        self.service = service
        self.api_version = api_version
        self.filter = filter
        self.only_looks = dry_run  # `dry_run` is a method of Airflow's operators
        self.wait_for_completion = wait_for_completion
        self.timeout = check_seconds("timeout", timeout)
        self.poll_interval = check_seconds("poll_interval", poll_interval)
        self.max_parallel = max_parallel
        self.fail_on = check_outcomes("fail_on", fail_on, also=("ERROR",))
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def execute(self, context: Context) -> dict[str, Any]:
        """List, cancel, wait, and report."""
        from airflow_lro_provider.lro.many import count

        guard = self._get_guard()
        guard.prepare()
        hook = self._connect()
        guard.watch()  # a kill ends the task; what was asked for stays asked for
        try:
            results = asyncio.run(self._cancel(hook))
        finally:
            guard.release()
        for result in results:
            self.log.info("%s: %s%s", result.reference, result.word, result.message and f": {result.message}")
        outcomes = count(results)
        self.log.info(
            "%d running operations below %s%s: %s",
            len(results),
            self.parent,
            " would be cancelled" if self.only_looks else "",
            ", ".join(f"{word} {number}" for word, number in outcomes.items()) or "nothing to do",
        )
        if bad := [result for result in results if result.word in self.fail_on]:
            error = (
                OperationRunningError if {result.word for result in bad} == {"STILL_RUNNING"} else OperationFailedError
            )
            raise error(
                f"{len(bad)} of {len(results)} operations below {self.parent}: {', '.join(count(bad))};"
                f" the first one: {bad[0].reference}{bad[0].message and ': ' + bad[0].message}"
            )
        return {"outcomes": outcomes, "operations": [result.to_dict() for result in results]}

    def _read_arguments(self, hook: OperationsHook) -> None:
        self._parent = hook.parent(self.parent)

    async def _cancel(self, hook: OperationsHook) -> list[Cancelled]:
        from airflow_lro_provider.lro.async_client import AsyncOperationsClient
        from airflow_lro_provider.lro.errors import InvalidRequestError
        from airflow_lro_provider.lro.many import Cancelled, cancel_many
        from airflow_lro_provider.lro.operation import Outcome
        from airflow_lro_provider.metrics import StatsMetrics

        async with await AsyncOperationsClient.create(hook.settings, metrics=StatsMetrics()) as client:
            running, odd = [], []
            async for seen in client.list(self._parent, filter=self.filter):
                if seen.done:
                    continue
                try:
                    running.append((hook.reference({"name": seen.name}), seen))
                except InvalidRequestError as error:
                    odd.append(Cancelled(replace(self._parent, name=seen.name), None, str(error)))
            if self.only_looks:
                return odd + [Cancelled(reference, Outcome.STILL_RUNNING) for reference, _ in running]
            return odd + await cancel_many(
                client,
                running,
                limit=self.max_parallel,
                wait=self.wait_for_completion,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
            )
