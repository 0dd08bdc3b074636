"""Starting an operation, and owning it from the moment on at which it is known."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Protocol

from airflow_lro_provider.airflow_compat.task_process import RAISING, start_seed
from airflow_lro_provider.attempt.guard import Phase
from airflow_lro_provider.attempt.signals import held_back
from airflow_lro_provider.attempt.validation import warn_if_it_runs_on
from airflow_lro_provider.exceptions import OperationKilled
from airflow_lro_provider.links.operations import show_link
from airflow_lro_provider.lro.errors import NotAnOperationError, OperationsError
from airflow_lro_provider.lro.resources.methods import new_request_id
from airflow_lro_provider.lro.resources.names import OperationReference

if TYPE_CHECKING:
    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.lro.flows import Started
    from airflow_lro_provider.sweep.search import StartFootprint


class Start(Protocol):
    """How a task starts its operation: what differs between two starters."""

    @property
    def description(self) -> str:
        """What starts the operation, in words, for the ledger."""

    @property
    def request_id(self) -> str | None:
        """The request id that the author of the Dag has chosen; ``None`` if that is left to the task."""

    @property
    def repeatable(self) -> bool:
        """Whether a start with the same request id can be sent again without starting another operation."""

    @property
    def may_start_again(self) -> bool:
        """Whether, if not, it may be sent again all the same after a crash.

        Because the service refuses a second one, as of a resource whose id it says; or because it is a function of the
        author's, which Airflow's retries call again.
        """

    @property
    def footprint(self) -> StartFootprint | None:
        """How to find the operation if its start never gets a response."""

    @property
    def held_back(self) -> tuple[signal.Signals, ...]:
        """Which signals wait for the response of the start: an execution_timeout (SIGALRM), Ctrl-C (SIGINT)."""

    def send(self, attempt: Attempt, request_id: str, *, is_first: bool) -> Started:
        """Start the operation. A kill meanwhile is only noted.

        :param request_id: makes the start repeatable, where it is.
        :param is_first: whether no earlier try may have sent the same start.
        :raises NotAnOperationError: if the response is something else.
        """


def begin(attempt: Attempt, start: Start) -> None:
    """Start an operation, and guard it from the moment on at which it is known."""
    guard, record = attempt.guard, attempt.record
    is_first = attempt.request_id is None
    request_id = attempt.request_id = (
        attempt.request_id or start.request_id or new_request_id(start_seed(attempt.context["ti"]))
    )
    guard.check_supervisor()  # an orphan's record is not written: whatever it starts, nobody finds
    try:
        footprint = start.footprint
        endpoint = None if footprint is None else attempt.client.endpoint(footprint.place)
        record.announce(start.description, request_id, footprint, repeatable=start.repeatable, endpoint=endpoint)
        guard.enter(Phase.STARTING)
    except BaseException:  # also an execution_timeout
        if is_first:  # nothing was sent; with the request id of an earlier try, something may have been
            record.remove()
        raise
    with contextlib.ExitStack() as held:
        attempt.held_back = held.enter_context(held_back(*start.held_back, *RAISING))
        try:
            started = start.send(attempt, request_id, is_first=is_first and not record.follows_lost_start)
        except Exception as error:
            guard.enter(Phase.PREPARING)
            # What may have happened, now or in an earlier try, stays unknown whatever is sent later.
            lost = not is_first or (isinstance(error, OperationsError) and error.may_have_happened)
            if isinstance(error, NotAnOperationError) or not lost:
                record.remove()
            raise
        held.enter_context(held_back(signal.SIGALRM, signal.SIGINT))
        reference, operation = started.reference, started.operation
        attempt.about = reference
        if start.request_id is not None and operation is not None and operation.done:
            attempt.log.warning(
                "What it has started had finished before: with the same request id (%s) a service gives the same"
                " operation once more. If a new one is wanted, let the id depend on the try: {{ ti.try_number }}",
                request_id,
            )
        if not isinstance(reference, OperationReference) or (operation is not None and operation.done):
            attempt.remember(operation)
            guard.finish()
            return
        try:
            attempt.own(reference)
        except Exception:  # no thread, no descriptor left: what cannot be guarded must not run
            attempt.cancel_unguarded(reference, "it cannot be guarded")
            raise
        except OperationKilled:
            if not attempt.role.cancel_on_kill or guard.is_left:
                record.write(reference)  # it runs on, and a retry has to know which one it is
            raise
        attempt.remember(operation)
        attempt.log_state("Started")
        warn_if_it_runs_on(attempt.log, reference, attempt.role.cancel_on_kill)
        record.write(reference)
        if record.is_rejected:  # another try is at it, and knows nothing of this, unless its start is the same
            guard.on_kill()
    if not guard.killed:
        show_link(attempt.context["ti"], reference)
    guard.enter(Phase.WAITING)
