"""Operators for long-running operations."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import conf

from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.attempt.starter import OperationStarter
from airflow_lro_provider.attempt.task import OperationTask
from airflow_lro_provider.attempt.validation import (
    check_flags,
    check_method,
    check_outcomes,
    check_parent,
    check_reference,
    check_texts,
    is_literal,
    warnings_of,
)
from airflow_lro_provider.exceptions import (
    OperationFailedError,
    OperationInputError,
    OperationRunningError,
    OperationStartError,
)
from airflow_lro_provider.lro.durations import check_interval, check_seconds, check_start_timeout

if TYPE_CHECKING:
    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.attempt.call_method import CallMethod
    from airflow_lro_provider.hooks.operations import OperationsHook
    from airflow_lro_provider.lro.async_client import CancelReport
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.cancel import CancelResult
    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.resources.names import OperationReference, Parent

__all__ = ["CancelOperationOperator", "CancelOperationsOperator", "RunOperationOperator"]


class RunOperationOperator(OperationStarter):
    """Calls a method of any Google API that returns a long-running operation, and waits until it is finished.

    Returns the operation's ``response``. Killing the task, in whatever way and whether it is running or deferred,
    cancels the operation; a retry after a crash goes on with it instead of starting a second one. A task that is
    cleared cancels the old operation and waits for its end before it starts a fresh one.

    A start whose response was lost is sent again only where the method takes a request id (https://google.aip.dev/155;
    the catalog of services knows which do): the service then returns the operation that it has started. Elsewhere the
    task fails at once, and says that the result is not known. The task chooses the id. One in the method or the body is
    used in its place; it should be another one in each try (``{{ ti.try_number }}``), for the same one gives the same
    operation again.

    A method that returns a finished operation is done. One that returns a plain resource fails the task, unless
    ``allow_resource`` is true: then the resource is the task's result.

    :param method: what to call: a path below the API version (``projects/p/locations/l/instances?instanceId=x``,
        with ``service``), or a URL. (templated)
    :param http_method: POST, PUT, PATCH or DELETE. (templated)
    :param body: the JSON object to send; dates, durations, Decimals, enums and the outputs of mapped tasks in it are
        written as Google's APIs read them (:mod:`airflow_lro_provider.lro.resources.request_body`). (templated, deeply)
    :param allow_resource: take a plain resource for the result, and do not warn of a method that may respond with one.
    :param if_exists: what it means that the service refuses to create a resource because it exists already (409
        ALREADY_EXISTS): "fail" fails the task; with "return" it succeeds, and the resource, as it is then, is the
        result in place of the operation's response. One whose state says that it is being made or deleted, or has
        failed, fails the task, and a retry starts again; a ``result_check`` decides in place of that. (Right after a
        try that died while it started, the task fails all the same: what exists may be its own.) The request has to
        name the resource: by its id (``?instanceId=x``, Dataproc's ``clusterName``, Spanner's ``createStatement``, …)
        or by a ``name`` in the body; see :func:`~airflow_lro_provider.lro.resources.methods.new_resource`.
    :param if_missing: of a DELETE: what it means that the service does not find what is to be deleted (404
        NOT_FOUND): "fail" fails the task; with "return" it succeeds, with ``None`` as its result. As one 404 is no
        evidence, the request is sent for at least ten seconds and three times. (Right after a try that died while it
        started, the task fails all the same.) Nor is the 404 of an API that has no such method: a path that Google's
        discovery documents do not know is refused, when the Dag is parsed if it is literal. But a project or location
        that is not there gives the same 404 as a resource, and is taken for one.
    :param start_timeout: how long the response to the start may take, in seconds or as a timedelta; by default as the
        connection says (60 s).

    All other arguments are those of :class:`~airflow_lro_provider.attempt.starter.OperationStarter`.
    """

    template_fields = ("method", "http_method", "body", "service", "api_version", "gcp_conn_id", "impersonation_chain")
    template_fields_renderers: ClassVar[dict[str, str]] = {"body": "json"}
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        method: str,
        http_method: str = "POST",
        body: Mapping[str, Any] | None = None,
        allow_resource: bool = False,
        if_exists: Literal["fail", "return"] = "fail",
        if_missing: Literal["fail", "return"] = "fail",
        start_timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_flags(allow_resource=allow_resource)
        for name, value in (("if_exists", if_exists), ("if_missing", if_missing)):
            if value not in ("fail", "return"):
                raise ValueError(f'`{name}` must be "fail" or "return", got {value!r:.100}')
        if if_missing == "return" and is_literal(http_method) and str(http_method).strip().upper() != "DELETE":
            raise ValueError('`if_missing="return"` is for what deletes: http_method="DELETE"')
        given = (method, http_method, body, self.service, self.api_version, self.gcp_conn_id)
        with warnings_of(self.task_id):
            check_method(*given, named=if_exists == "return", known=if_missing == "return", doubts=not allow_resource)
        self.method, self.http_method, self.body = method, http_method, body
        self.allow_resource = allow_resource
        self.if_exists = if_exists
        self.if_missing = if_missing
        self.start_timeout = check_start_timeout("start_timeout", start_timeout)

    @property
    def judges(self) -> bool:  # type: ignore[override]
        """What cancels or deletes something succeeds although that has not."""
        return self.http_method.upper() != "DELETE" and not self.method.partition("?")[0].strip().endswith(":cancel")

    def _run(self, attempt: Attempt) -> Any:
        from airflow_lro_provider.lro.errors import InvalidRequestError, NotAnOperationError, StartUnknownError

        try:
            return super()._run(attempt)
        except NotAnOperationError as error:
            if not (self.allow_resource and error.is_resource):
                raise OperationStartError(str(error)) from None
            self.log.info("The response is a resource and no operation: %s %s", self.http_method, self.method)
            return error.response
        except StartUnknownError as error:
            raise OperationStartError(str(error)) from None
        except InvalidRequestError as error:
            if error.is_ours:
                raise
            raise OperationInputError(str(error)) from None

    def _read_start(self, hook: OperationsHook) -> CallMethod:
        from airflow_lro_provider.attempt.call_method import CallMethod
        from airflow_lro_provider.lro.resources.methods import new_resource
        from airflow_lro_provider.lro.resources.request_body import read_body
        from airflow_lro_provider.lro.resources.starts import doubts_about

        method, body = hook.method(self.method, self.http_method), read_body(self.body)
        if not self.allow_resource and (words := doubts_about(method)):
            self.log.warning("%s", words)
        may_be_missing = self.if_missing == "return" and method.http_method == "DELETE"
        if may_be_missing:
            from airflow_lro_provider.lro.resources.deletions import check_deletion

            check_deletion(method)
        return CallMethod(
            method,
            body,
            self.start_timeout,
            existing=new_resource(method, body) if self.if_exists == "return" else None,
            judges=self.result_check is None,
            may_be_missing=may_be_missing,
        )


class CancelOperationOperator(OperationTask):
    """Cancels a long-running operation, and reports what actually happened to it.

    A cancel is a request, best effort by contract
    (https://cloud.google.com/apis/design/design_patterns#long_running_operations,
    ``google/longrunning/operations.proto``). So the operator polls first, sends the request, and waits for the real
    outcome. Its result is ``{"outcome": …, "operation": {…}}``. The outcome is CANCELLED, COMPLETED_DESPITE_CANCEL (it
    succeeded before the request took effect), SUCCEEDED or FAILED (it had finished already, or failed),
    CANCEL_UNSUPPORTED (the service cannot cancel it), NOT_FOUND (there is none, or none any more), or STILL_RUNNING (at
    the timeout, or because the operator does not wait).

    Killing this task does not take the request back, and does no harm to the operation.

    :param operation_name: see :class:`~airflow_lro_provider.attempt.task.OperationTask`. (templated)
    :param wait_for_completion: wait for the outcome; if not, the task ends with the request.
    :param timeout: how long to wait for it, in seconds or as a timedelta.
    :param poll_interval: seconds between two polls, at least 1; if ``None`` it grows with the age of the wait.
    :param fail_on: the outcomes that fail the task. By default CANCEL_UNSUPPORTED, NOT_FOUND, and STILL_RUNNING if it
        waits.
    :param include_response: whether to take an operation's response for the result (it may be large).
    :param deferrable: wait in the triggerer.

    All other arguments are those of :class:`~airflow_lro_provider.attempt.task.OperationTask`.
    """

    ui_color = "#fde7e9"

    def __init__(
        self,
        *,
        operation_name: Any,
        wait_for_completion: bool = True,
        timeout: float | timedelta | None = 900.0,
        poll_interval: float | timedelta | None = None,
        fail_on: Collection[str | Outcome] | None = None,
        include_response: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_flags(wait_for_completion=wait_for_completion, include_response=include_response, deferrable=deferrable)
        with warnings_of(self.task_id):
            check_reference(operation_name, self.service, self.api_version, self.gcp_conn_id, "cancel")
        if fail_on is None:
            fail_on = {"CANCEL_UNSUPPORTED", "NOT_FOUND"} | ({"STILL_RUNNING"} if wait_for_completion else set())
        self.operation_name = operation_name
        self.wait_for_completion = wait_for_completion
        self.timeout = check_seconds("timeout", timeout)
        self.poll_interval = check_interval("poll_interval", poll_interval)
        self.fail_on = check_outcomes("fail_on", fail_on)
        self.include_response = include_response
        self.deferrable = deferrable

    def _run(self, attempt: Attempt) -> Any:
        """Poll, request the cancellation, and wait for the outcome."""
        from airflow_lro_provider.lro.cancel import cancel_level, cancel_line
        from airflow_lro_provider.lro.operation import Outcome

        with attempt:
            reference = self._connect(attempt)
            if not attempt.requested:
                result = self._request(attempt, reference)
                self.log.log(cancel_level(result), cancel_line(reference, result))
                if result.outcome is not None:
                    return self._settle(attempt, result.outcome, result.operation)
                if not self.wait_for_completion:
                    return self._settle(attempt, Outcome.STILL_RUNNING, result.operation)
                attempt.requested = True
            try:
                ended = self._wait(attempt)
            except OperationRunningError as error:
                self.log.warning("%s", error)
                ended = Outcome.STILL_RUNNING, attempt.last
            return self._settle(attempt, *ended)

    def _request(self, attempt: Attempt, reference: OperationReference) -> CancelResult:
        """Request the cancellation; trouble of our own is waited out until the timeout, or a kill."""
        from airflow_lro_provider.lro.errors import OperationsError

        until = time.monotonic() + (math.inf if self.timeout is None else self.timeout)
        while True:
            attempt.guard.enter(Phase.STARTING)  # a kill waits until it is known whether the request was accepted
            try:
                return attempt.client.cancel(reference)
            except OperationsError as error:
                left = until - time.monotonic()
                if not error.is_ours or left <= 0.0:
                    raise
                attempt.guard.enter(Phase.WAITING)
                pause = attempt.recover(error)
            time.sleep(min(pause, left))

    def _read_event(self, attempt: Attempt, event: Any) -> tuple[Outcome, Operation | None]:
        from airflow_lro_provider.lro.operation import Outcome

        try:
            return super()._read_event(attempt, event)
        except OperationRunningError as error:
            self.log.warning("%s", error)
            return Outcome.STILL_RUNNING, attempt.last

    def _conclude(self, attempt: Attempt, outcome: Outcome, operation: Operation | None) -> Any:
        from airflow_lro_provider.lro.cancel import outcome_of_cancel
        from airflow_lro_provider.metrics import StatsMetrics

        if attempt.requested:  # the client has counted the request only
            assert attempt.reference is not None
            if operation is not None and operation.done:
                outcome = outcome_of_cancel(operation)
                if outcome is not operation.outcome:  # the line before this has said SUCCEEDED
                    self.log.warning("%s: %s", outcome.value, attempt.reference.short)
            StatsMetrics().cancel(attempt.reference.service, outcome.value)
        return super()._conclude(attempt, outcome, operation)


class CancelOperationsOperator(OperationTask):
    """Cancels every running operation of a parent, and reports the outcome of each.

    Returns ``{"outcomes": {"CANCELLED": 3, …}, "operations": [{"name": …, "outcome": …}, …]}``; the outcomes are
    those of :class:`CancelOperationOperator`, and ``ERROR`` (with a ``message``) for one whose cancellation was
    refused or got lost. One that cannot be cancelled does not keep the others from it.

    :param parent: whose operations, e.g. ``projects/p/locations/l``. (templated)
    :param filter: which of them, in the service's own dialect. (templated)
    :param dry_run: cancel nothing, and report what would be: every outcome is STILL_RUNNING.
    :param wait_for_completion: wait for the outcomes; if not, the task ends with the requests.
    :param timeout: how long to wait for it, in seconds or as a timedelta.
    :param poll_interval: seconds between two polls, at least 1; if ``None`` it grows with the age of the wait.
    :param max_parallel: how many cancels are under way at a time.
    :param fail_on: outcomes that fail the task. By default CANCEL_UNSUPPORTED, ERROR, and STILL_RUNNING if it waits.

    All other arguments are those of :class:`~airflow_lro_provider.attempt.task.OperationTask`.
    """

    template_fields = ("parent", "filter", "service", "api_version", "gcp_conn_id", "impersonation_chain")
    operator_extra_links = ()
    ui_color = "#fde7e9"

    def __init__(
        self,
        *,
        parent: str,
        service: str,
        filter: str | None = None,
        dry_run: bool = False,
        wait_for_completion: bool = True,
        timeout: float | timedelta | None = 900.0,
        poll_interval: float | timedelta | None = None,
        max_parallel: int = 8,
        fail_on: Collection[str | Outcome] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(service=service, **kwargs)
        check_flags(dry_run=dry_run, wait_for_completion=wait_for_completion)
        check_texts("filter", filter)
        with warnings_of(self.task_id):
            check_parent(parent, service, self.api_version)
        if not isinstance(max_parallel, int) or isinstance(max_parallel, bool) or max_parallel < 1:
            raise ValueError(f"`max_parallel` must be a whole number from 1 on, got {max_parallel!r}")
        waits = wait_for_completion and not dry_run
        if fail_on is None:
            fail_on = {"CANCEL_UNSUPPORTED", "ERROR"} | ({"STILL_RUNNING"} if waits else set())
        self.parent, self.filter = parent, filter
        self.only_looks = dry_run  # `dry_run` is a method of Airflow's operators
        self.wait_for_completion, self.max_parallel = wait_for_completion, max_parallel
        self.timeout = check_seconds("timeout", timeout)
        self.poll_interval = check_interval("poll_interval", poll_interval)
        self.fail_on = check_outcomes("fail_on", fail_on, also=("ERROR",))

    def _run(self, attempt: Attempt) -> dict[str, Any]:
        """List, cancel, wait, and report."""
        from airflow_lro_provider.lro.async_client import count_outcomes

        with attempt:
            parent = attempt.connect(lambda hook: hook.parent(self.parent))
            attempt.guard.enter(Phase.WAITING)  # a kill ends the task; what was requested stays requested
            results = asyncio.run(self._cancel(attempt, parent))
            attempt.guard.checkpoint()  # while the connection is read, a kill is only noted
        for result in results:
            self.log.info("%s: %s%s", result.reference, result.word, result.message and f": {result.message}")
        outcomes = count_outcomes(results)
        self.log.info(
            "%d running operations below %s%s: %s",
            len(results),
            self.parent,
            " would be cancelled" if self.only_looks else "",
            ", ".join(f"{word} {number}" for word, number in outcomes.items()) or "nothing to do",
        )
        if bad := [result for result in results if result.word in self.fail_on]:
            all_run = {result.word for result in bad} == {"STILL_RUNNING"}
            raise (OperationRunningError if all_run else OperationFailedError)(
                f"{len(bad)} of {len(results)} operations below {self.parent}: {', '.join(count_outcomes(bad))};"
                f" the first one: {bad[0].reference}{bad[0].message and ': ' + bad[0].message}"
            )
        return {"outcomes": outcomes, "operations": [result.to_dict() for result in results]}

    async def _cancel(self, attempt: Attempt, parent: Parent) -> list[CancelReport]:
        from airflow_lro_provider.lro.async_client import AsyncOperationsClient, CancelReport
        from airflow_lro_provider.lro.errors import InvalidRequestError
        from airflow_lro_provider.lro.operation import Outcome
        from airflow_lro_provider.lro.threads import in_thread
        from airflow_lro_provider.metrics import StatsMetrics

        hook = attempt.hook

        async def read_again() -> ConnectionSettings:
            settings = await in_thread("airflow", hook.read_again)
            attempt.guard.checkpoint()
            return settings

        running, odd = [], []
        patience = math.inf if self.timeout is None else self.timeout
        client = await AsyncOperationsClient.create(
            hook.settings, metrics=StatsMetrics(), read_settings=read_again, on_trouble=self.log.info
        )
        async with client:
            async for seen in client.list(parent, filter=self.filter, patience=patience, include_response=False):
                if seen.done:
                    continue
                try:
                    running.append((hook.reference({"name": seen.name}), seen))
                except InvalidRequestError as error:
                    odd.append(CancelReport(replace(parent, name=seen.name), None, str(error)))
            if self.only_looks:
                return odd + [CancelReport(reference, Outcome.STILL_RUNNING) for reference, _ in running]
            return odd + await client.cancel_many(
                running,
                limit=self.max_parallel,
                wait=self.wait_for_completion,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
            )
