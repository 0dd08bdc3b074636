"""Conversations with a service, written once for the sync and the async client ("sans I/O").

A flow is a generator. It yields a :class:`~airflow_lro_provider.lro.http.messages.Request` and is sent what the
response to it means, or has the error thrown into it; it yields a :class:`Sleep` to let time pass, or a
:class:`Renew` to have the connection read again; and it returns a result. A client drives it, and decides nothing but
how a request is authorized and sent.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_lro_provider.lro import errors, field_mask, protocol
from airflow_lro_provider.lro.http.messages import Request
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import (
    MIN_INTERVAL_SECONDS,
    WORKER_LONG_POLL_SECONDS,
    Absence,
    LongPolls,
    PollSchedule,
    Trouble,
    retry_delay,
)
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.lro.steps import Flow, Renew, Renewed, Sleep

T = TypeVar("T")


def send(
    request: Request[T],
    retries: int = 0,
    *,
    patience: float = math.inf,
    rng: Callable[[], float] = random.random,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[T]:
    """Send a request, and up to ``retries`` times again after an error that passes, if nothing can be done twice.

    A field mask that is rejected is left out, from then on for good if it is the mask that is to blame; so is one that
    leaves nothing of an operation but its success: it may have left out an error. And a response that is too large
    costs the response, not what the operation says before it.

    :param patience: for how many seconds it is sent again at most.
    :raises OperationsError: the last error.
    """
    tries, begin, given = 0, clock(), request
    while True:
        try:
            result: T = yield request
            if request.unmasked is not None and isinstance(result, Operation) and result.is_husk:
                request = request.unmasked
                continue
            if request is not given:
                field_mask.note_unmasked(request)
            return result
        except errors.ResponseTooLargeError as error:
            start: T | None = protocol.read_start(request, error)
            if start is None:
                raise
            return start
        except errors.OperationsError as error:
            if request.unmasked is not None:
                if isinstance(error, errors.InvalidArgumentError):
                    request = request.unmasked
                    continue
                # A gateway may answer what it does not know with anything.
                if isinstance(error, errors.ApiError | errors.MalformedResponseError):
                    field_mask.doubt_mask(request, 1 if error.transient else field_mask.DOUBT_REQUESTS)
            if tries >= retries or not error.transient or (error.may_have_happened and not request.repeatable):
                raise
            tries += 1
            delay, left = retry_delay(error, tries, rng), begin + patience - clock()
            if left <= 0.0:
                raise
        yield Sleep(min(delay, left))  # once more in the end, whatever a Retry-After says


def find(
    request: Request[T],
    absence: Absence,
    *,
    retries: int = 0,
    patience: float = math.inf,
    is_doubted: Callable[[errors.OperationsError], bool] = lambda error: isinstance(error, errors.NotFoundError),
    clock: Callable[[], float] = time.monotonic,
) -> Flow[T]:
    """Send a request about one operation, as :func:`send` does, and again while its 404 is in doubt.

    :param absence: what is known so far; afterwards it says whether the error is believed.
    :param patience: for how many seconds it is sent again, if not as :func:`send` does and until a 404 is believed.
    :param is_doubted: which other errors are in doubt, too.
    :raises NotFoundError: once it is believed, or the patience has ended; the same for others that are doubted.
    """
    begin = clock()
    while True:
        try:
            result = yield from send(request, retries, patience=begin + patience - clock(), clock=clock)
        except errors.OperationsError as error:
            if not is_doubted(error):
                raise
            now = clock()
            if absence.note(now, type(error).__name__) or now + absence.delay(now) > begin + patience:
                raise
            delay = absence.delay(now)
        else:
            absence.refute()
            return result
        yield Sleep(delay)


def outlast(
    flow: Callable[[str], Flow[T]],
    resource: Resource,
    endpoint: str,
    trouble: Trouble,
    *,
    patience: Callable[[float], float],
    denies: Callable[[T], bool] = lambda result: False,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[T]:
    """Run a flow, and again after trouble of our own (no credentials, no token), which says nothing of the operation.

    Before each time the connection is read again. It is also read before it is believed that the service denies
    something (403, 404, …): if it has changed, that was another server or account, and the flow begins anew.

    :param flow: makes it, for an endpoint.
    :param resource: what it is about.
    :param trouble: what is known of the trouble so far.
    :param patience: given the time, how many seconds there are left.
    :param denies: whether that is what a result says.
    :raises OperationsError: any other error; and the trouble, once the patience has ended.
    """
    while True:
        problem: errors.OperationsError | None = None
        line = None
        try:
            result = yield from flow(endpoint)
            if not denies(result):
                return result
        except errors.OperationsError as error:
            is_denial = isinstance(error, errors.ApiError) and not error.transient
            if not (error.is_ours or is_denial):
                raise
            problem = error
        ours = problem if problem is not None and problem.is_ours else None
        if ours is not None:
            line = trouble.note(ours, time.time())
            if patience(clock()) <= 0.0:
                raise ours
        renewed: Renewed = yield Renew(resource, line)
        if ours is None and renewed.is_same and renewed.endpoint == endpoint:  # the same has been asked
            if problem is not None:
                raise problem
            return result
        endpoint, left = renewed.endpoint, patience(clock())
        if left <= 0.0:
            raise ours or errors.ConnectionSettingsError(
                f"{resource}: its connection has changed while the service was asked about it"
            )
        yield Sleep(min(trouble.delay(), left))


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
    include_response: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[Operation]:
    """Poll an operation until it has finished: what :meth:`OperationsClient.wait_until_done` does, and documents."""
    trouble = Trouble()

    def note(operation: Operation) -> None:
        trouble.clear()
        on_poll(operation)

    def left(now: float) -> float:
        schedule.check_deadline(now, str(reference))
        return schedule.until_deadline(math.inf, now)

    def poll(endpoint: str) -> Flow[Operation]:
        first = seen if not schedule.polls else None
        schedule.refute()
        return _wait_until_done(reference, endpoint, schedule, first, before_poll, note, on_change, clock)

    ended = yield from outlast(poll, reference, endpoint, trouble, patience=left, clock=clock)
    if include_response and ended.lacks_response:
        ended = yield from take_response(reference, endpoint, ended, clock=clock)
    return ended


RESPONSE_PATIENCE_SECONDS = 300.0
"""For how long the response of an operation that has succeeded is requested, if that fails."""


def take_response(
    reference: OperationReference,
    endpoint: str,
    ended: Operation,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Flow[Operation]:
    """Take what was left out of an operation that has finished: its response, or what its error says.

    Whatever goes wrong costs the response, never the success: the operation is returned all the same, and says what is
    missing. An error that passes is waited out for :data:`RESPONSE_PATIENCE_SECONDS`, whatever deadline the wait had:
    its operation ended in time. Any other is doubted, as everywhere.
    """
    until = clock() + RESPONSE_PATIENCE_SECONDS

    def take(endpoint: str) -> Flow[Operation]:
        absence, contrary = Absence(), Absence()
        while True:
            whole = yield from find(
                protocol.get(reference, endpoint),
                absence,
                retries=sys.maxsize,
                patience=until - clock(),
                is_doubted=lambda error: isinstance(error, errors.ApiError) and not (error.transient or error.is_ours),
                clock=clock,
            )
            if whole.outcome is ended.outcome:
                return whole
            if whole.outcome is not None and contrary.note(clock(), whole.outcome.value):
                return whole
            if clock() >= until:  # it comes from a replica that lags behind
                raise errors.WaitTimeoutError(f"the service returns it as {whole.summary()}")
            yield Sleep(MIN_INTERVAL_SECONDS)

    try:
        whole = yield from outlast(
            take,
            reference,
            endpoint,
            Trouble(),
            patience=lambda now: until - now,
            denies=lambda whole: whole.outcome is not ended.outcome,
            clock=clock,
        )
    except errors.OperationsError as error:
        if ended.error is not None:
            return ended
        return ended.without_response(protocol.missing(protocol.get(reference, endpoint), "could not be taken", error))
    if whole.outcome is not ended.outcome:
        field_mask.note_unmasked(protocol.poll(reference, endpoint))  # the mask has left out the error
    return whole


def _wait_until_done(
    reference: OperationReference,
    endpoint: str,
    schedule: PollSchedule,
    seen: Operation | None,
    before_poll: Callable[[], object],
    on_poll: Callable[[Operation], object],
    on_change: Callable[[str], object],
    clock: Callable[[], float],
) -> Flow[Operation]:
    offered = find_service(reference.service).offers("wait", reference.name, reference.version)
    long_polls = LongPolls(offered, WORKER_LONG_POLL_SECONDS)
    while True:
        before_poll()
        begun = clock()
        timeout = long_polls.timeout([schedule], begun)
        try:
            if seen is not None:
                operation, seen = seen, None
            else:
                operation = yield from send(protocol.poll(reference, endpoint, timeout))
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
