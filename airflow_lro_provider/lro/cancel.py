"""How an operation is cancelled, and what came of it, as a flow (:mod:`airflow_lro_provider.lro.flows`)."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from airflow_lro_provider.lro import errors, protocol
from airflow_lro_provider.lro.flows import find, outlast, send
from airflow_lro_provider.lro.http.messages import Request
from airflow_lro_provider.lro.metrics import NO_METRICS, Metrics
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.polling import Absence, Trouble
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.lro.steps import Flow, Sleep

T = TypeVar("T")


@dataclass(frozen=True)
class CancelResult:
    """What is known right after a cancellation was requested. A request is not a cancellation: see :func:`cancel`.

    :param requested: whether a cancel request was sent, and accepted by the service.
    :param outcome: the outcome as far as it is known already: how the operation had ended before, NOT_FOUND or
        CANCEL_UNSUPPORTED. ``None``: accepted, and only a later poll knows (:meth:`outcome_of`).
    :param operation: the last poll, if there is one: without the operation's response.
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

    def summary(self, service: str = "the service", *, words: bool = True) -> str:
        """One short line for a log. It never calls an operation cancelled that may not be.

        :param service: the API's title.
        :param words: see :meth:`Operation.summary`.
        """
        if self.outcome is None:
            return "Cancellation requested; the service accepted it"
        if self.outcome is Outcome.CANCEL_UNSUPPORTED:
            return f"Not cancelled, {service} cannot cancel it"
        if self.outcome is Outcome.NOT_FOUND or self.operation is None:
            return "Not cancelled, no such operation"
        if self.outcome is Outcome.CANCELLED:
            return f"Was cancelled already ({self.operation.summary(words=words)})"
        return f"Not cancelled, already finished ({self.operation.summary(words=words)})"


def cancel(
    reference: OperationReference,
    endpoint: str,
    *,
    poll: bool = True,
    before: Operation | None = None,
    retries: int = 0,
    patience: float = math.inf,
    trouble_patience: float | None = None,
    metrics: Metrics = NO_METRICS,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[CancelResult]:
    """Request the cancellation of an operation: the only way in which anything here cancels one.

    The poll before the request tells "completed despite the cancellation" from "had finished already". A 404, of the
    poll or of the request, is doubted as everywhere (:class:`~airflow_lro_provider.lro.polling.Absence`): either is
    sent again until it is believed. So is what says that it cannot be cancelled: a page of a front end without a route
    for the verb, and FAILED_PRECONDITION of one that runs; with a ``patience``, any refusal. And before an operation is
    said to be gone, its cancellation has been requested.

    ====================  ==========================================  =============================================
    the poll before       response to the request                     result
    ====================  ==========================================  =============================================
    finished              not sent                                    its outcome
    any error but 404     not sent                                    raises it
    running, or none      not sent: the service has no such verb      CANCEL_UNSUPPORTED
    404, believed         the same                                    NOT_FOUND
    .                     accepted                                    requested; no outcome yet
    .                     UNIMPLEMENTED, stated or believed           CANCEL_UNSUPPORTED
    .                     404, believed, and a get says the same      NOT_FOUND
    .                     404, believed, though a get finds it        its outcome, or CANCEL_UNSUPPORTED
    .                     FAILED_PRECONDITION, and then a get says:
    .                     … finished                                  its outcome
    .                     … 404                                       as above
    .                     … running, and believed                     raises FailedPreconditionError
    .                     any of them, not believed in ``patience``   raises it
    .                     any other error                             raises it
    ====================  ==========================================  =============================================

    :param poll: whether to poll before the request. Who cancels because a task has died does not: no error of a
        poll may keep the request from being sent, nor hold it up.
    :param before: that poll, if it was just taken.
    :param retries: how often each request is sent again after an error that passes; with a ``patience``, as often as
        it takes.
    :param patience: for how many seconds each request is sent again at most.
    :param trouble_patience: for how many seconds trouble of our own (no token) is waited out
        (:func:`~airflow_lro_provider.lro.flows.outlast`); by default as long, if that has an end, else not at all.
    :param metrics: where the result is counted: its word, or REFUSED for an error.
    :raises OperationsError: if the request was not accepted, or it is unknown whether it was.
    """
    if trouble_patience is None:
        trouble_patience = 0.0 if patience == math.inf else patience
    until = clock() + trouble_patience

    def request(endpoint: str) -> Flow[CancelResult]:
        return _cancel(reference, endpoint, poll, before, retries, patience, clock)

    try:
        result = yield from outlast(
            request,
            reference,
            endpoint,
            Trouble(),
            patience=lambda now: until - now,
            denies=lambda result: result.outcome is Outcome.NOT_FOUND,
            clock=clock,
        )
    except errors.OperationsError:
        metrics.cancel(reference.service, "REFUSED")
        raise
    metrics.cancel(reference.service, result.word)
    return result


def _cancel(
    reference: OperationReference,
    endpoint: str,
    poll: bool,
    before: Operation | None,
    retries: int,
    patience: float,
    clock: Callable[[], float],
) -> Flow[CancelResult]:
    absence, refusal, until = Absence(), Absence(), clock() + patience
    is_doubted = _is_doubted
    if patience != math.inf:  # whatever the connection says of retries: nobody else may be there to request it
        is_doubted, retries = _is_doubted_at_an_end, sys.maxsize

    def found(request: Request[T]) -> Flow[T]:
        return find(request, absence, retries=retries, patience=patience, is_doubted=is_doubted, clock=clock)

    try:
        if poll and before is None:
            before = yield from found(protocol.poll(reference, endpoint))
    except errors.NotFoundError:
        if not absence.is_believed:
            raise
    if before is not None and before.done:
        return CancelResult(False, before.outcome, before)
    if not find_service(reference.service).offers("cancel", reference.name, reference.version):
        unsent = Outcome.NOT_FOUND if absence.is_believed else Outcome.CANCEL_UNSUPPORTED
        return CancelResult(False, unsent, before)
    try:
        while True:
            try:
                yield from found(protocol.cancel(reference, endpoint))
                break
            except errors.FailedPreconditionError as error:
                # Some services refuse to cancel what has finished; the contract is silent about it.
                later = yield from found(protocol.poll(reference, endpoint))
                if later.done:
                    return CancelResult(False, later.outcome, later)
                now = clock()
                if refusal.note(now, type(error).__name__) or now + refusal.delay(now) > until:
                    raise
            yield Sleep(refusal.delay(now))
    except errors.UnimplementedError as error:
        if not error.is_stated and not absence.is_believed:
            raise
        return CancelResult(False, Outcome.CANCEL_UNSUPPORTED, before)
    except errors.NotFoundError:
        if not absence.is_believed:
            raise
        if before is None and poll:  # the poll was not found either
            return CancelResult(False, Outcome.NOT_FOUND, None)
        try:
            before = yield from send(protocol.poll(reference, endpoint), retries, patience=patience, clock=clock)
        except errors.NotFoundError:
            return CancelResult(False, Outcome.NOT_FOUND, before)
        return CancelResult(False, before.outcome or Outcome.CANCEL_UNSUPPORTED, before)
    return CancelResult(True, None, before)


def _is_doubted(error: errors.OperationsError) -> bool:
    """Whether one such error is no evidence, also for somebody who waits for the result."""
    return isinstance(error, errors.NotFoundError) or (
        isinstance(error, errors.UnimplementedError) and not error.is_stated
    )


def _is_doubted_at_an_end(error: errors.OperationsError) -> bool:
    """The same where a dead task's operation would run on: any refusal, as long as there is time."""
    if isinstance(error, errors.FailedPreconditionError):
        return False  # the operation itself is asked
    is_refusal = isinstance(error, (errors.ApiError, errors.UnreachableError))
    return is_refusal and not error.transient and not error.is_ours


def outcome_of_cancel(later: Operation) -> Outcome:
    """The outcome of a cancel request that was accepted, by a later poll of the operation."""
    if later.outcome is Outcome.SUCCEEDED:
        return Outcome.COMPLETED_DESPITE_CANCEL
    return later.outcome or Outcome.STILL_RUNNING


def cancel_level(result: CancelResult | BaseException) -> int:
    """The level that this line is logged with: WARNING if the operation runs on."""
    is_fine = isinstance(result, CancelResult) and result.outcome is not Outcome.CANCEL_UNSUPPORTED
    return logging.INFO if is_fine else logging.WARNING


def cancel_line(
    reference: OperationReference, result: CancelResult | BaseException, reason: str = "", took: float | None = None
) -> str:
    """The line that every cancellation is logged with: the result or error first, why, and the operation last.

    :param took: how long it took, in seconds, if that is to be said beside the reason.
    """
    if isinstance(result, CancelResult):
        service = find_service(reference.service)
        # A service that could may not be what has responded: the connection's endpoint may serve something else.
        knows_how = service.offers("cancel", reference.name, reference.version)
        fact = result.summary("the service" if knows_how else service.title)
    else:  # without a token, a connection or trust in a certificate, nobody has refused anything
        was_sent = isinstance(result, errors.ApiError) or getattr(result, "may_have_happened", True)
        fact = f"Cancellation {'not accepted' if was_sent else 'could not be sent'}, {result}"
    because = f" ({reason}{'' if took is None else f'; {took:.3f} s'})" if reason else ""
    return f"{fact}{because}: {reference.short}"
