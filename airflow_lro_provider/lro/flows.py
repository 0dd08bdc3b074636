"""Conversations with a service, written once for the sync and the async client ("sans I/O").

A flow is a generator. It yields a :class:`~airflow_lro_provider.lro.http.messages.Request` and is sent what the
response to it means, or has the error thrown into it; it yields a :class:`Sleep` to let time pass; and it returns a
result. A client drives it, and decides nothing but how a request is authorized and sent.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_lro_provider.lro import errors, protocol
from airflow_lro_provider.lro.http.messages import Request
from airflow_lro_provider.lro.metrics import NO_METRICS, Metrics
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.polling import (
    WORKER_LONG_POLL_SECONDS,
    Absence,
    LongPolls,
    PollSchedule,
    retry_delay,
)
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference

T = TypeVar("T")


@dataclass(frozen=True)
class Sleep:
    """Let as many seconds pass."""

    seconds: float


Flow = Generator[Request[Any] | Sleep, Any, T]


def send(
    request: Request[T],
    retries: int = 0,
    *,
    patience: float = math.inf,
    ours: bool = False,
    rng: Callable[[], float] = random.random,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[T]:
    """Send a request, and up to ``retries`` times again after an error that passes, if nothing can be done twice.

    :param patience: for how many seconds it is sent again at most.
    :param ours: whether trouble of our own (no token) passes, too.
    :raises OperationsError: the last error.
    """
    tries, begin = 0, clock()
    while True:
        try:
            result: T = yield request
            return result
        except errors.OperationsError as error:
            passes = error.transient or (ours and error.is_ours)
            if tries >= retries or not passes or (error.may_have_happened and not request.repeatable):
                raise
            tries += 1
            delay = retry_delay(error, tries, rng)
            if clock() + delay > begin + patience:
                raise
        yield Sleep(delay)


def find(
    request: Request[T],
    absence: Absence,
    *,
    retries: int = 0,
    patience: float = math.inf,
    ours: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[T]:
    """Send a request about one operation, as :func:`send` does, and again while its 404 is in doubt.

    :param absence: what is known so far; afterwards it says whether the 404 is believed.
    :param patience: for how many seconds it is sent again, if not as :func:`send` does and until a 404 is believed.
    :raises NotFoundError: once it is believed, or the patience has ended.
    """
    begin = clock()
    while True:
        try:
            left = begin + patience - clock()
            result = yield from send(request, retries, patience=left, ours=ours, clock=clock)
        except errors.NotFoundError:
            now = clock()
            if absence.note(now) or now + absence.delay(now) > begin + patience:
                raise
            delay = absence.delay(now)
        else:
            absence.refute()
            return result
        yield Sleep(delay)


CHECK_INTERVAL_SECONDS = 0.5  # how often `may_continue` is checked during a pause
START_RETRY_SECONDS = 300.0
"""No start is sent again later than this. A longer ``Retry-After`` is for the next try of the task."""


@dataclass(frozen=True)
class Started:
    """What a start responded with.

    :param reference: the operation's; of one that has finished already and has no name, the method instead.
    :param operation: the operation, perhaps finished already; ``None`` if only its name is known.
    """

    reference: Resource
    operation: Operation | None


def start(
    method: Method,
    endpoint: str,
    body: Mapping[str, Any] | None = None,
    request_id: str | None = None,
    *,
    timeout: float | None = None,
    retries: int = 0,
    may_continue: Callable[[], bool] = lambda: True,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[Started]:
    """Start an operation. A start whose response was lost is sent again only if a request id makes that safe.

    :param timeout: how long each response may take, in seconds.
    :param may_continue: once this says no, e.g. because the task was killed, a start that was refused is given up. One
        that may have started something is sent again at once: its response says which operation that is.
    :raises StartUnknownError: if it may have started something, and cannot be sent again.
    :raises TransportError: also if it may have started something, and was refused when it was sent again.
    :raises NotAnOperationError: if it responded with something else than an operation.
    """
    request = protocol.start(method, endpoint, body, request_id=request_id, timeout=timeout)
    lost, tries, begin = False, 0, clock()
    while True:
        try:
            content = yield from send(request)
        except errors.OperationsError as error:
            if error.may_have_happened and not request.repeatable:
                raise _unknown(method, error) from None
            lost = lost or error.may_have_happened
            if tries < retries and error.transient:
                tries += 1
                pause = retry_delay(error, tries)
                in_time = clock() + pause < begin + START_RETRY_SECONDS
                while in_time and pause > 0 and may_continue():
                    yield Sleep(min(pause, CHECK_INTERVAL_SECONDS))
                    pause -= CHECK_INTERVAL_SECONDS
                if in_time and (error.may_have_happened or may_continue()):
                    continue
            if not lost or error.may_have_happened:
                raise
            raise errors.TransportError(
                f"{request}: the response was lost, and sending it again failed ({error}). It may have started an"
                " operation; only a start with the same request id can tell."
            ) from None
        try:
            return Started(*protocol.started(request, content))
        except errors.MalformedResponseError as error:
            if request.repeatable:
                raise
            raise _unknown(method, error) from None


def _unknown(method: Method, error: errors.OperationsError) -> errors.StartUnknownError:
    return errors.StartUnknownError(
        f"{method.service}: the response to {method} was lost ({error}). It may have started an operation, so it is not"
        " sent again; check at the service, and clear the task to start anew."
    )


def wait_until_done(
    reference: OperationReference,
    endpoint: str,
    schedule: PollSchedule,
    *,
    seen: Operation | None = None,
    before_poll: Callable[[], object] = lambda: None,
    on_poll: Callable[[Operation], object] = lambda operation: None,
    on_change: Callable[[str], object] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[Operation]:
    """Poll an operation until it has finished: what :meth:`OperationsClient.wait_until_done` does, and documents."""
    offered = find_service(reference.service).offers("wait", reference.name, reference.version)
    long_polls = LongPolls(offered, WORKER_LONG_POLL_SECONDS)
    while True:
        before_poll()
        begun = clock()
        timeout = long_polls.timeout([schedule], begun)
        try:
            if seen is not None:
                operation, seen = seen, None
            elif timeout:
                operation = yield from send(protocol.wait(reference, endpoint, timeout))
            else:
                operation = yield from send(protocol.get(reference, endpoint))
        except errors.OperationsError as error:
            if timeout:
                long_polls.failed(clock())
                if not error.transient:
                    continue  # a GET shows whether it is an error of the operation, or of the `:wait`
            line, timeout = schedule.failed(error, clock()), 0.0
        else:
            line = schedule.observe(operation)
            on_poll(operation)
        if line:
            on_change(line)
        if schedule.done:
            return schedule.done
        now = clock()
        schedule.check_deadline(now, str(reference))
        delay = long_polls.delay(schedule, now - begun, now) if timeout else schedule.delay(now)
        if timeout:
            long_polls.judge(timeout, now - begun, now)
        yield Sleep(delay)


@dataclass(frozen=True)
class CancelResult:
    """What is known right after a cancellation was requested. A request is not a cancellation: see :func:`cancel`.

    :param requested: whether a cancel request was sent, and accepted by the service.
    :param outcome: the outcome as far as it is known already: how the operation had ended before, NOT_FOUND or
        CANCEL_UNSUPPORTED. ``None``: accepted, and only a later poll knows (:meth:`outcome_of`).
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


def cancel(
    reference: OperationReference,
    endpoint: str,
    *,
    poll: bool = True,
    before: Operation | None = None,
    retries: int = 0,
    patience: float = math.inf,
    metrics: Metrics = NO_METRICS,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[CancelResult]:
    """Request the cancellation of an operation: the only way in which anything here cancels one.

    The poll before the request tells "completed despite the cancellation" from "had finished already". A 404, of the
    poll or of the request, is doubted as everywhere (:class:`~airflow_lro_provider.lro.polling.Absence`): either is
    sent again until it is believed. And before an operation is said to be gone, its cancellation has been requested.

    ====================  ==========================================  =============================================
    the poll before       response to the request                     result
    ====================  ==========================================  =============================================
    finished              not sent                                    its outcome
    any error but 404     not sent                                    raises it
    running, or none      not sent: the service has no such verb      CANCEL_UNSUPPORTED
    404, believed         the same                                    NOT_FOUND
    .                     accepted                                    requested; no outcome yet
    .                     UNIMPLEMENTED                               CANCEL_UNSUPPORTED
    .                     404, believed, and a get says the same      NOT_FOUND
    .                     404, believed, though a get finds it        its outcome, or CANCEL_UNSUPPORTED
    .                     404, not believed within ``patience``       raises NotFoundError
    .                     FAILED_PRECONDITION, and then a get says:
    .                     … finished                                  its outcome
    .                     … 404                                       as above
    .                     … running                                   raises FailedPreconditionError
    .                     any other error                             raises it
    ====================  ==========================================  =============================================

    :param poll: whether to poll before the request. Who cancels because a task has died does not: no error of a
        poll may keep the request from being sent, nor hold it up.
    :param before: that poll, if it was just taken.
    :param retries: how often each request is sent again after an error that passes.
    :param patience: for how many seconds each request is sent again at most.
    :param metrics: where the result is counted: its word, or REFUSED for an error.
    :raises OperationsError: if the request was not accepted, or it is unknown whether it was.
    """
    try:
        result = yield from _cancel(reference, endpoint, poll, before, retries, patience, clock)
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
    absence = Absence()

    def found(request: Request[T]) -> Flow[T]:
        return find(request, absence, retries=retries, patience=patience, ours=True, clock=clock)

    try:
        if poll and before is None:
            before = yield from found(protocol.get(reference, endpoint))
    except errors.NotFoundError:
        if not absence.is_believed:
            raise
    if before is not None and before.done:
        return CancelResult(False, before.outcome, before)
    if not find_service(reference.service).offers("cancel", reference.name, reference.version):
        unsent = Outcome.NOT_FOUND if absence.is_believed else Outcome.CANCEL_UNSUPPORTED
        return CancelResult(False, unsent, before)
    try:
        try:
            yield from found(protocol.cancel(reference, endpoint))
        except errors.FailedPreconditionError:
            # Some services refuse to cancel what has finished; the contract is silent about it.
            later = yield from found(protocol.get(reference, endpoint))
            if not later.done:
                raise
            return CancelResult(False, later.outcome, later)
    except errors.UnimplementedError:
        return CancelResult(False, Outcome.CANCEL_UNSUPPORTED, before)
    except errors.NotFoundError:
        if not absence.is_believed:
            raise
        if before is None and poll:  # the poll was not found either
            return CancelResult(False, Outcome.NOT_FOUND, None)
        try:
            before = yield from send(protocol.get(reference, endpoint), retries, patience=patience, clock=clock)
        except errors.NotFoundError:
            return CancelResult(False, Outcome.NOT_FOUND, before)
        return CancelResult(False, before.outcome or Outcome.CANCEL_UNSUPPORTED, before)
    return CancelResult(True, None, before)


def outcome_of_cancel(later: Operation) -> Outcome:
    """The outcome of a cancel request that was accepted, by a later poll of the operation."""
    if later.outcome is Outcome.SUCCEEDED:
        return Outcome.COMPLETED_DESPITE_CANCEL
    return later.outcome or Outcome.STILL_RUNNING


def cancel_line(reference: OperationReference, result: CancelResult | BaseException, reason: str = "") -> str:
    """The line that every cancellation is logged with: the result or error first, why, and the operation last."""
    fact = result.summary() if isinstance(result, CancelResult) else f"Cancellation not accepted, {result}"
    because = f" ({reason})" if reason else ""
    return f"{fact}{because}: {reference.short}"
