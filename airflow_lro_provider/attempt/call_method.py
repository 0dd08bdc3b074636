"""Starting an operation by calling a method of its API."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_lro_provider.exceptions import OperationFailedError
from airflow_lro_provider.lro.errors import ApiError, NotFoundError, OperationsError, StartUnknownError
from airflow_lro_provider.lro.flows import Started
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import request_id_of
from airflow_lro_provider.lro.resources.state import unfinished_state
from airflow_lro_provider.sweep.search import StartFootprint, footprint_of

if TYPE_CHECKING:
    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.lro.resources.methods import Method


@dataclass(frozen=True)
class CallMethod:
    """Starts an operation by calling a method. See :class:`~airflow_lro_provider.attempt.start.Start`.

    :param timeout: how long the response may take, in seconds; by default as the connection says.
    :param existing: the resource that is the result if the service says that it exists already; ``None`` for an error.
    :param judges: whether it is no result while its state says that it is being made or deleted, or has failed.
    :param may_be_missing: whether it is no error, but done, if what it deletes is not there.
    """

    method: Method
    body: Mapping[str, Any] | None
    timeout: float | None
    existing: Resource | None = None
    judges: bool = True
    may_be_missing: bool = False
    held_back: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGALRM, signal.SIGINT)

    @property
    def description(self) -> str:
        """The method."""
        return str(self.method)

    @property
    def request_id(self) -> str | None:
        """The author's own."""
        return request_id_of(self.method, self.body)

    @property
    def repeatable(self) -> bool:
        """Whether it takes a request id."""
        method = self.method
        return find_service(method.service).place_of_request_id(method.http_method, method.path) is not None

    @property
    def may_start_again(self) -> bool:
        """Whether the service refuses to create the same resource twice."""
        return self.footprint is not None and self.footprint.names_new

    @property
    def footprint(self) -> StartFootprint | None:
        """By what it works on."""
        return footprint_of(self.method, self.body)

    def send(self, attempt: Attempt, request_id: str, *, is_first: bool) -> Started:
        """Call it. See :meth:`Start.send <airflow_lro_provider.attempt.start.Start.send>`."""
        if not self.may_be_missing or not is_first:
            # After a start of an earlier try, its deletion may be what is under way.
            return self._send(attempt, request_id, is_first=is_first)
        try:
            return attempt.doubt_missing(self.method, lambda: self._send(attempt, request_id, is_first=True))
        except NotFoundError:
            if attempt.guard.killed or attempt.held_back:
                raise
            attempt.log.info("There is nothing to delete, which is fine (if_missing='return'): %s", self.method)
            return Started(self.method, Operation.from_json({"done": True}))

    def _send(self, attempt: Attempt, request_id: str, *, is_first: bool) -> Started:
        try:
            return attempt.client.start(
                self.method,
                self.body,
                request_id=request_id,
                timeout=self.timeout,
                may_continue=lambda: not (attempt.guard.killed or attempt.held_back),
            )
        except ApiError as error:
            # After a start of an earlier try, what exists may be its own, and still being made.
            if self.existing is None or not is_first or error.status != "ALREADY_EXISTS":
                raise
            try:
                found = attempt.client.read_resource(self.existing)
            except OperationsError as problem:
                attempt.log.error("It exists already, but could not be read: %s", problem)
                raise error from None
            if self.judges and (state := unfinished_state(found)) is not None:
                raise OperationFailedError(
                    f"{self.existing} exists already, but is {state}, and so not taken for the result"
                    " (if_exists='return'). A retry starts again; a `result_check` decides in place of that."
                ) from None
            attempt.log.info("It exists already, and is the result (if_exists='return'): %s", self.existing)
            return Started(self.method, Operation.from_json({"done": True, "response": found}))
        except OperationsError:
            raise
        except Exception as error:  # nobody knows how far it came
            raise StartUnknownError(
                f"{self.method}: {type(error).__name__}. It may have started an operation, so it is not sent again;"
                " check at the service, and clear the task to start anew."
            ) from error
