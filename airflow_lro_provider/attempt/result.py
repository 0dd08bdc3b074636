"""What a finished wait means for the task (:func:`settle`), and what an error that ends it is (:func:`how_it_ended`).

All operators and sensors call these, whether they poked or were deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_lro_provider.airflow_compat.exceptions import AirflowRescheduleException
from airflow_lro_provider.airflow_compat.task_process import retries_an_interrupt
from airflow_lro_provider.exceptions import (
    FinalOperationFailedError,
    OperationFailedError,
    OperationKilled,
    OperationOrphaned,
    OperationRunningError,
)
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.ownership.decisions import EndedBy

ResultCheck = Callable[[dict[str, Any]], "bool | str | None"]
"""Judges a successful operation (its dict): ``None`` or ``True`` accepts it, ``False`` or a message rejects it."""

_WORDS = {
    Outcome.SUCCEEDED: "succeeded",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "was cancelled",
    Outcome.COMPLETED_DESPITE_CANCEL: "completed although its cancellation was requested",
    Outcome.CANCEL_UNSUPPORTED: "runs on: {service} cannot cancel it",
    Outcome.NOT_FOUND: "was not found",
    Outcome.STILL_RUNNING: "is still running",
}


def settle(
    reference: Resource,
    outcome: Outcome,
    operation: Operation | None,
    *,
    fail_on: Collection[str],
    result_check: ResultCheck | None = None,
    include_response: bool = True,
    final: bool = True,
    judges: bool = False,
) -> dict[str, Any]:
    """Turn an outcome into the task's result, or into the error that ends the task.

    :param operation: the last poll of it, if there is one.
    :param fail_on: the outcomes that fail the task.
    :param result_check: judges a success, for services that report a failure inside a response.
    :param include_response: whether the response belongs into the result.
    :param final: whether a retry would only find the same operation again.
    :param judges: whether a success is judged, if there is no ``result_check``, by what is known of its service
        (:attr:`Operation.hidden_failure`): then what has failed counts as FAILED.
    :return: ``{"outcome": …, "operation": {…}}``
    :raises OperationFailedError: if the outcome is one of ``fail_on``, or ``result_check`` rejects it;
        a :class:`FinalOperationFailedError` if it is final.
    :raises OperationRunningError: the same for an operation that still runs; this one is retried.
    """
    failed = FinalOperationFailedError if final else OperationFailedError
    hidden = operation.hidden_failure if judges and result_check is None and operation is not None else None
    if hidden is not None and outcome is Outcome.SUCCEEDED:
        outcome = Outcome.FAILED
    if outcome is Outcome.SUCCEEDED and operation is not None and result_check is not None:
        if operation.response_missing:  # nobody has judged it; and a retry would start another one
            raise FinalOperationFailedError(f"result_check has no response to judge: {operation.response_missing}")
        verdict = result_check(dict(operation.raw))
        if verdict is False or isinstance(verdict, str):
            why = verdict if isinstance(verdict, str) else "result_check returned False"
            raise failed(f"the operation succeeded, but result_check rejected it ({why}): {reference}")
    if outcome.value in fail_on:
        why = f", although it reports no error: {hidden}{_IF_INTENDED if final else ''}" if hidden is not None else ""
        if operation is not None and operation.error is not None:
            why = f": {operation.failure}"
        error = OperationRunningError if outcome is Outcome.STILL_RUNNING else failed
        words = _WORDS[outcome].format(service=find_service(reference.service).title)
        raise error(f"the operation {words}{why}: {reference}")
    if operation is not None and not include_response:
        operation = operation.without_response()
    raw: Mapping[str, Any] = {"name": reference.name} if operation is None else operation.raw
    return {"outcome": outcome.value, "operation": dict(raw)}


_IF_INTENDED = " (if it should: `result_check` decides in place of that, e.g. for the operation of a cancel)"


def how_it_ended(error: BaseException) -> EndedBy:
    """How a try ends with this error."""
    if isinstance(error, AirflowSkipException):
        # `soft_fail` and `never_fail` make a skip of an error, and keep that as its cause.
        timeouts = (AirflowTaskTimeout, AirflowSensorTimeout, type(None))
        return EndedBy.SKIPPED_AT_TIMEOUT if isinstance(error.__cause__, timeouts) else EndedBy.SKIPPED
    for kind, how in _HOW.items():
        if isinstance(error, kind):
            return how
    return EndedBy.FAILED if isinstance(error, Exception) else EndedBy.INTERRUPTED


def ended_for_good(error: BaseException | None, before: BaseException | None, *, killed: bool) -> BaseException | None:
    """What ends the try in place of this error, so that Airflow does not try again what its user has interrupted.

    :param error: the error; what is more than an interrupt is kept as the cause.
    :param before: the one that it came after, or the same.
    :param killed: whether the task was told to stop, whatever went wrong then.
    """
    interrupted = killed or KeyboardInterrupt in (type(error), type(before))
    if error is None or not interrupted or not retries_an_interrupt():
        return error
    if how_it_ended(error) not in _TRIED_AGAIN:
        return error
    final = AirflowFailException("interrupted: whatever its retries, that ends the task in `dags test`")
    final.__cause__ = None if isinstance(error, (KeyboardInterrupt, OperationKilled)) else error
    return final


_TRIED_AGAIN = (EndedBy.KILLED, EndedBy.INTERRUPTED, EndedBy.EXECUTION_TIMEOUT, EndedBy.TIMEOUT, EndedBy.FAILED)
# The first that fits.
_HOW: dict[type[BaseException], EndedBy] = {
    TaskDeferred: EndedBy.DEFERRED,
    AirflowRescheduleException: EndedBy.RESCHEDULED,
    OperationOrphaned: EndedBy.ORPHANED,
    OperationKilled: EndedBy.KILLED,
    AirflowTaskTimeout: EndedBy.EXECUTION_TIMEOUT,
    AirflowSensorTimeout: EndedBy.SENSOR_TIMEOUT,
    OperationRunningError: EndedBy.TIMEOUT,
    AirflowFailException: EndedBy.FAILED_FOR_GOOD,
}
