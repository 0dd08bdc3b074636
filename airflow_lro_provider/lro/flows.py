"""Conversations of more than one request, written once for the sync and the async client.

A flow is a generator: it yields a :class:`~airflow_lro_provider.lro.protocol.Request`, is sent what its
answer means, has an error of the answer thrown into it, and returns a result. The clients run it; they
decide nothing. Standard library only.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.errors import (
    FailedPreconditionError,
    NotFoundError,
    OperationsError,
    StartUnknownError,
    UnimplementedError,
)
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.protocol import Request
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference

__all__ = ["CancelResult", "Flow", "Started", "cancel", "cancel_line", "outcome_of_cancel", "start"]

Flow = Generator[Request, Any, Any]
_NO_METRICS = Metrics()


@dataclass(frozen=True)
class CancelResult:
    """What is known right after a cancellation was requested. A request is not a cancellation: see :func:`cancel`.

    :param requested: whether a cancel request was sent, and accepted by the service.
    :param outcome: the outcome as far as it is known already: how the operation had ended before, NOT_FOUND or
        CANCEL_UNSUPPORTED. ``None``: accepted, and only a later poll can tell (:meth:`outcome_of`).
    :param operation: the last poll, if there is one.
    """

    requested: bool
    outcome: Outcome | None
    operation: Operation | None

    @property
    def word(self) -> str:
        """REQUESTED, or the outcome: for metrics and results."""
        return "REQUESTED" if self.outcome is None else self.outcome.value

    def outcome_of(self, later: Operation) -> Outcome:
        """The outcome, by a later poll. What was known already stands."""
        return self.outcome or outcome_of_cancel(later)

    def summary(self) -> str:
        """One short line for a log. It never calls an operation cancelled that may not be."""
        if self.outcome is None:
            return "Cancellation requested; the service accepted it"
        if self.outcome is Outcome.CANCEL_UNSUPPORTED:
            return "Not cancelled, the service does not support it"
        if self.outcome is Outcome.NOT_FOUND or self.operation is None:
            return "Not cancelled, no such operation"
        return f"Not cancelled, already finished ({self.operation.summary()})"


@dataclass(frozen=True)
class Started:
    """What a start answered.

    :param reference: the operation's; of one that is over already and has no name, the method instead.
    :param operation: the operation, perhaps over already; ``None`` if only its name is known.
    """

    reference: Resource
    operation: Operation | None


def start(
    method: Method, endpoint: str, body: Mapping[str, Any] | None = None, request_id: str | None = None
) -> Generator[Request, Any, Started]:
    """Start an operation. A start whose answer was lost is repeated only if a request id makes that safe.

    :raises StartUnknownError: if it may have started something, and cannot be repeated.
    :raises NotAnOperationError: if it answered with something else than an operation.
    """
    request = protocol.start(method, endpoint, body, request_id=request_id)
    try:
        content: Mapping[str, Any] = yield request
    except OperationsError as error:
        if request.repeatable or not error.may_have_happened:
            raise
        raise StartUnknownError(
            f"{method.service}: the answer to {method.http_method} {method.path} was lost ({error}). It may have"
            " started an operation, so it is not sent again; look at the service, and clear the task to start anew."
        ) from None
    return Started(*protocol.started(request, content))


def cancel(
    reference: OperationReference,
    endpoint: str,
    *,
    look: bool = True,
    before: Operation | None = None,
    metrics: Metrics = _NO_METRICS,
) -> Generator[Request, Any, CancelResult]:
    """Request the cancellation of an operation: the only way in which anything here cancels one.

    The poll before the request tells "completed despite the cancellation" from "had finished already".

    ====================  ==========================================  =============================================
    the poll before       answer to the request                       result
    ====================  ==========================================  =============================================
    finished              not sent                                    its outcome
    NOT_FOUND             not sent                                    NOT_FOUND
    running, none, or     not sent: the service has no such verb      CANCEL_UNSUPPORTED
    failed otherwise      accepted                                    requested; no outcome yet
    .                     UNIMPLEMENTED                               CANCEL_UNSUPPORTED
    .                     NOT_FOUND                                   NOT_FOUND
    .                     FAILED_PRECONDITION, and then a get says:
    .                     … finished                                  its outcome
    .                     … NOT_FOUND                                 NOT_FOUND
    .                     … running                                   raises FailedPreconditionError
    .                     any other error                             raises it
    ====================  ==========================================  =============================================

    :param look: whether there is time for a poll before the request. The guard in a signal handler has none.
    :param before: that poll, if it was just taken.
    :param metrics: where the result is counted: its word, or REFUSED for an error.
    :raises OperationsError: if the request was not accepted, or nobody knows.
    """
    try:
        result = yield from _cancel(reference, endpoint, look, before)
    except OperationsError:
        metrics.cancel(reference.service, "REFUSED")
        raise
    metrics.cancel(reference.service, result.word)
    return result


def _cancel(
    reference: OperationReference, endpoint: str, look: bool, before: Operation | None
) -> Generator[Request, Any, CancelResult]:
    if look and before is None:
        try:
            before = yield protocol.get(reference, endpoint)
        except NotFoundError:
            return CancelResult(False, Outcome.NOT_FOUND, None)
        except OperationsError:
            pass  # who may not get it may be allowed to cancel it
    if before is not None and before.done:
        return CancelResult(False, before.outcome, before)
    if not find_service(reference.service).offers("cancel", reference.name, reference.version):
        return CancelResult(False, Outcome.CANCEL_UNSUPPORTED, before)
    try:
        try:
            yield protocol.cancel(reference, endpoint)
        except FailedPreconditionError:
            # Some services refuse to cancel what has finished; the contract is silent about it.
            later: Operation = yield protocol.get(reference, endpoint)
            if not later.done:
                raise
            return CancelResult(False, later.outcome, later)
    except UnimplementedError:
        return CancelResult(False, Outcome.CANCEL_UNSUPPORTED, before)
    except NotFoundError:
        return CancelResult(False, Outcome.NOT_FOUND, before)
    return CancelResult(True, None, before)


def outcome_of_cancel(later: Operation) -> Outcome:
    """The outcome of a cancel request that was accepted, by a later poll of the operation."""
    if later.outcome is Outcome.SUCCEEDED:
        return Outcome.COMPLETED_DESPITE_CANCEL
    return later.outcome or Outcome.STILL_RUNNING


def cancel_line(reference: OperationReference, result: CancelResult | BaseException, reason: str = "") -> str:
    """The line that every cancellation is logged with: the fact first, the operation last.

    :param result: what the request came to, or the error that kept it from being accepted.
    :param reason: why it was requested.
    """
    fact = result.summary() if isinstance(result, CancelResult) else f"Cancellation not accepted, {result}"
    because = f" ({reason})" if reason else ""
    return f"{fact}{because}: {reference.name.rpartition('/')[2]} ({reference.service})"
