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
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.protocol import Request
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference

__all__ = ["Asked", "Flow", "Started", "ask_for_cancel", "cancel", "outcome_of_cancel", "start"]

Flow = Generator[Request, Any, Any]


@dataclass(frozen=True)
class Asked:
    """What is known once a cancellation was asked for.

    :param outcome: what came of it, if that is known already; ``None`` if the operation has to be
        watched to know.
    :param operation: the last look at it, if there is one.
    :param requested: whether a cancel request was sent and taken.
    """

    outcome: Outcome | None
    operation: Operation | None
    requested: bool


@dataclass(frozen=True)
class Started:
    """What a start answered.

    :param reference: the operation's.
    :param operation: the operation, perhaps over already; ``None`` if only its name is known.
    """

    reference: OperationReference
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


def cancel(reference: OperationReference, endpoint: str) -> Generator[Request, Any, Operation | None]:
    """Send a cancel request. An operation that turns out to be over is looked up, not failed.

    :return: the operation if it was over already, else ``None``: the request was taken.
    """
    try:
        yield protocol.cancel(reference, endpoint)
    except FailedPreconditionError:
        # Some services refuse to cancel what is over; the contract is silent about it.
        operation: Operation = yield protocol.get(reference, endpoint)
        if not operation.done:
            raise
        return operation
    return None


def ask_for_cancel(
    reference: OperationReference, endpoint: str, before: Operation | None = None
) -> Generator[Request, Any, Asked]:
    """Look, then ask for the cancellation.

    The look before the request is what tells "completed despite the cancellation" from "was over
    already".

    :param before: that look, if it was just taken.
    """
    try:
        if before is None:
            before = yield protocol.get(reference, endpoint)
    except NotFoundError:
        return Asked(Outcome.NOT_FOUND, None, False)
    assert before is not None
    if before.done:
        return Asked(before.outcome, before, False)
    if not find_service(reference.service).offers("cancel", reference.name, reference.version):
        return Asked(Outcome.CANCEL_UNSUPPORTED, before, False)
    try:
        over = yield from cancel(reference, endpoint)
    except UnimplementedError:
        return Asked(Outcome.CANCEL_UNSUPPORTED, before, False)
    except NotFoundError:
        return Asked(Outcome.NOT_FOUND, before, False)
    if over is not None:  # it ended between the look and the request
        return Asked(over.outcome, over, False)
    return Asked(None, before, True)


def outcome_of_cancel(operation: Operation) -> Outcome:
    """What came of a cancel request that was taken, by a later look at the operation."""
    if operation.outcome is Outcome.SUCCEEDED:
        return Outcome.COMPLETED_DESPITE_CANCEL
    return operation.outcome or Outcome.STILL_RUNNING
