"""One try of a task about one operation: all that it has, one way in, one way out.

An operator *has* an attempt, for the time of one ``execute`` or ``execute_complete``. Whatever ends that, a result, an
error, a kill, a timeout, a deferral, leaves through :meth:`Attempt.__exit__`:

=====================================  ========================  ===============================================
the try ends with                      the operation             its record
=====================================  ========================  ===============================================
a result, or a finished operation      is finished               removed
a deferral                             guarded until Airflow     kept
                                       has taken it over
a reschedule; an ordinary failure      runs on                   kept: the next poll or try goes on with it
that a retry follows
a kill, a timeout, a last failure      is cancelled              says so: the next try adopts nothing
the same, but it may run on            runs on                   its entry in the ledger is removed
(``cancel_on_kill`` or
``cancel_on_failure`` is false)
=====================================  ========================  ===============================================
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Collection
from concurrent import futures
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_lro_provider.airflow_compat.task_process import RAISING, is_in_line, takes_any_deferral
from airflow_lro_provider.attempt.guard import Guard, Phase
from airflow_lro_provider.attempt.record import AttemptRecord
from airflow_lro_provider.attempt.result import ended_for_good, how_it_ended
from airflow_lro_provider.attempt.resumed import Resumed
from airflow_lro_provider.attempt.role import Role
from airflow_lro_provider.attempt.signals import held_back
from airflow_lro_provider.exceptions import OperationInputError, OperationKilled
from airflow_lro_provider.links.operations import show_link
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.cancel import cancel_level, cancel_line
from airflow_lro_provider.lro.errors import InvalidRequestError, NotFoundError, OperationsError
from airflow_lro_provider.lro.flows import CHECK_INTERVAL_SECONDS
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import Absence, Trouble
from airflow_lro_provider.lro.resources.hosts import address, leads_elsewhere
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.ownership.decisions import KILLED, NOT_OWNED, STOPPED, Decision, EndedBy, reason_to_cancel

if TYPE_CHECKING:
    from airflow_lro_provider.hooks.operations import OperationsHook
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.polling import PollSchedule
    from airflow_lro_provider.lro.resources.hosts import Resource

CONNECTION_PAUSES_SECONDS = (1.0, 2.0, 4.0)  # before a connection that cannot be used is read again
FIRST_POLL_TIMEOUT_SECONDS = 10.0  # how long the guard's first poll is waited for
END_PATIENCE_SECONDS = 60.0  # how long a cancel at a try's end is repeated at most
_T = TypeVar("_T")


class Attempt(contextlib.AbstractContextManager["Attempt"]):
    """One try of a task. See the module's text.

    :param role: how the task relates to its operation.
    :param context: the context of the running task.
    :param guard: stands between the task's death and its operation.
    :param hook: makes the hook for the task's connection.
    :param log: the task's logger.
    :param resumed: what was handed over by a deferral of the same try.
    """

    hook: OperationsHook
    client: OperationsClient

    def __init__(
        self,
        role: Role,
        context: Any,
        *,
        guard: Guard,
        hook: Callable[[], OperationsHook],
        log: Any,
        resumed: Resumed | None = None,
    ) -> None:
        self.role, self.context, self.guard, self.log = role, context, guard, log
        handed_over = resumed or Resumed()
        self.token, self.waiting_since = handed_over.token, handed_over.waiting_since
        self.left_by_try = handed_over.left_by_try
        """The earlier try that was killed and left the operation which this one waits for."""
        self.lost_to_try: int | None = None
        """That try, once it is known that its kill has cancelled the operation."""
        self.requested = resumed is not None
        """Whether a task that cancels has requested that: it defers only afterwards."""
        self.about: Resource | None = None
        """The operation, once it is known. One that has finished at once may have no name: then the method."""
        self.last: Operation | None = None
        """What the trigger saw last of an operation that is still running."""
        self.secrets: set[str] = set()
        """What no error of the operation may quote: the hooks of this try share it."""
        self.record = AttemptRecord(context, log, role, is_resumed=resumed is not None, secrets=self.secrets)
        self.record.endpoint = handed_over.endpoint
        self.request_id: str | None = None
        """The id that makes the start of the operation repeatable, once it is chosen."""
        self.replaces = False
        """Whether the operation of an earlier try is being ended, to be replaced: nobody goes on with it."""
        self.held_back: Collection[int] = ()  # the signals that wait for the response to the start
        self.look: Callable[[], object] = lambda: None
        """Finds out what operation there is to lose, for a try that ends before it has come so far."""
        self.make_hook, self._is_resumed = hook, resumed is not None
        self.cancel_requested = self._is_named = self._is_taking = False  # the first: by the trigger
        self._first_poll: futures.Future[Operation | None] | None = None
        self._trouble = Trouble()
        if handed_over.reference is not None:
            self.about = OperationReference.from_dict(handed_over.reference)

    @property
    def reference(self) -> OperationReference | None:
        """The operation, if there is one that has a name."""
        return self.about if isinstance(self.about, OperationReference) else None

    # -- in ----------------------------------------------------------------------------------------

    def connect(self, read: Callable[[OperationsHook], _T]) -> _T:
        """Read the connection, and with its hook the arguments (``read``). Nothing is sent.

        :raises OperationInputError: if one of them cannot be used.
        :raises OperationsError: if the connection is missing, or cannot be used; a retry may find it.
        """
        self.guard.enter(Phase.PREPARING)
        for pause in (*CONNECTION_PAUSES_SECONDS, None):
            self.hook = self.make_hook()
            try:
                found = read(self.hook)
                identity_for(self.hook.settings)
                break
            except OperationsError as error:
                if isinstance(error, InvalidRequestError) and not error.is_ours:
                    raise OperationInputError(str(error)) from None
                if pause is None or self.guard.killed:
                    raise  # Airflow says "not defined" also when it cannot ask
            time.sleep(pause)
        self.client = self.hook.make_client(read_settings=self._read_connection_again, on_trouble=self.log_state)
        return found

    def _read_connection_again(self) -> ConnectionSettings:
        phase, hook = self.guard.phase, self.make_hook()
        self.guard.enter(Phase.ASKING)
        try:
            settings = hook.read_again()
            if self.reference is not None:
                settings.endpoint(self.reference)  # refused before anybody uses it
            self.hook = hook
            if self.guard.armed:
                self.guard.renew(self._guard_client(hook))
        finally:
            self.guard.enter(phase)
        return settings

    def own(self, reference: OperationReference) -> None:
        """From here on this try owns the operation. See :meth:`Guard.arm`."""
        self.about, self.look = reference, lambda: None
        self.record.endpoint = self.record.endpoint or self.client.endpoint(reference)

        def decide(may_ask: bool) -> Decision:
            return Decision.CANCEL if self.replaces else self.record.decide(reference, may_ask)

        with held_back(*RAISING):
            self.guard.arm(self._guard_client(self.hook), reference, decide, lambda: self.record.told_to_stop)
        self._first_poll = self.guard.first_poll

    def disown(self) -> None:
        """The operation is finished, and the task is about to start another one. See :meth:`Guard.disarm`."""
        self.about = self._first_poll = self.record.endpoint = self.token = None
        self.replaces = False
        self.guard.disarm()

    # -- waiting -----------------------------------------------------------------------------------

    def remember(self, operation: Operation | None) -> None:
        """Let the next :meth:`poll` return what was seen already, if anything was."""
        self._first_poll = None
        if operation is not None:
            self._first_poll = futures.Future()
            self._first_poll.set_result(operation)

    def peek(self) -> Operation | None:
        """What the first poll shows, if it does; the next :meth:`poll` returns it once more."""
        if self._first_poll is None:
            return None
        try:
            return self._first_poll.result(FIRST_POLL_TIMEOUT_SECONDS)
        except futures.TimeoutError:
            self._first_poll = None
        except OperationsError:
            pass  # the next poll raises it
        return None

    def poll(self) -> Operation:
        """Poll once. The guard's first poll counts as one."""
        assert self.reference is not None
        self._check()
        first, self._first_poll = self._first_poll, None
        if first is not None:
            with contextlib.suppress(futures.TimeoutError):
                if (operation := first.result(FIRST_POLL_TIMEOUT_SECONDS)) is not None:
                    return operation
        operation = self.client.poll(self.reference, retries=0)
        self._trouble.clear()
        return operation

    def _check(self) -> None:
        self.guard.checkpoint()
        self.guard.check_supervisor()

    def wait(self, schedule: PollSchedule) -> Operation:
        """Poll until the operation is finished.

        :param schedule: when to poll, on the monotonic clock.
        :raises WaitTimeoutError: at its deadline.
        """
        assert self.reference is not None
        self._check()
        seen, self._first_poll = self.peek(), None

        def log_change(line: str) -> None:
            if schedule.done is None:  # the end is logged with the result
                self.log_state(line)

        return self.client.wait_until_done(
            self.reference, schedule, seen=seen, before_poll=self._check, on_change=log_change, include_response=False
        )

    def take_response(self, operation: Operation) -> Operation:
        """The operation, which has succeeded, with its response: whatever ends the task before, its record stays."""
        if self.reference is None:
            return operation
        self._is_taking = True
        if not hasattr(self, "client"):
            self.connect(lambda hook: None)
        operation = self.client.take_response(self.reference, operation)
        self._is_taking = False
        return operation

    def recover(self, error: OperationsError) -> float:
        """After trouble of our own: read the connection again. Returns how many seconds to pause then."""
        assert self.reference is not None
        line = self._trouble.note(error, time.time())
        try:
            self.client.renew(self.reference)
        except OperationsError as problem:
            line = line and f"{line}. {problem}"
        if line:
            self.log_state(line)
        return self._trouble.delay()

    def has_changed(self, resource: Resource) -> bool:
        """Read the connection again; whether it cannot be read, or says something else about this resource by now."""
        with contextlib.suppress(OperationsError):
            return not self.client.renew(resource)
        return True

    def doubt_missing(self, resource: Resource, send: Callable[[], _T]) -> _T:
        """Send a request about a resource, and again while its 404 is in doubt.

        The connection is read again before the 404 is believed: another one was perhaps asked about somebody else's.

        :raises NotFoundError: once it is believed; before that, if the task has been told to stop.
        """
        absence = Absence()
        while True:
            try:
                return send()
            except NotFoundError:
                now = time.monotonic()
                if absence.note(now):
                    if not self.has_changed(resource):
                        raise
                    absence.refute()
                until = now + absence.delay(now)
                while time.monotonic() < until:
                    if self.guard.killed or self.held_back:
                        raise
                    time.sleep(CHECK_INTERVAL_SECONDS)

    def _guard_client(self, hook: OperationsHook) -> OperationsClient:
        # Short: a connection that died silently must be noticed while there is time for another one. Without metrics
        # or a log: nothing may hold a kill up. It does not read its connection, but takes what the task has read.
        short = {"connect_timeout": 2.0, "read_timeout": 2.0, "read_settings": lambda: self.hook.settings}
        return hook.make_client(metrics=Metrics(), on_trouble=lambda line: None, **short)

    def log_state(self, line: str) -> None:
        """Log what a poll shows: the fact first, the name last, which is in full the first time."""
        assert self.about is not None
        self.log.info("%s: %s", line, self.about.short if self._is_named else address(self.about, self.record.endpoint))
        self._is_named = True

    # -- after a deferral --------------------------------------------------------------------------

    def recall(self) -> bool:
        """Whether the operation of this try is known from what it has left, although nothing was handed over."""
        if (reference := self.record.recall()) is not None:
            self.about = OperationReference.from_dict(reference)
        return self.about is not None

    # -- out ---------------------------------------------------------------------------------------

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        try:
            try:
                with held_back(*RAISING, signal.SIGALRM, signal.SIGINT):
                    last = self._called_off(error)
                    self._end(last)
            except BaseException as late:  # a signal that was held back
                last = late
            last = ended_for_good(last, error, killed=self.guard.killed)
            if last is not None and last is not error:
                raise last
        finally:
            if hasattr(self, "client"):
                self.client.close()
            show_link(self.context["ti"], self.about, is_end=True)

    def _called_off(self, error: BaseException | None) -> BaseException | None:
        """Airflow 2 would reschedule or retry a task that was stopped, and forget that: it is killed instead."""
        forgotten = (EndedBy.RESCHEDULED, EndedBy.FAILED) if self.role.cancel_on_kill else (EndedBy.RESCHEDULED,)
        if error is None or not takes_any_deferral() or (how := how_it_ended(error)) not in forgotten:
            return error
        is_stopped = self.record.is_stopped() or (self.guard.killed and how is EndedBy.RESCHEDULED)
        self.guard.killed = self.guard.killed or is_stopped
        return OperationKilled(KILLED) if is_stopped else error

    def _end(self, error: BaseException | None) -> None:
        guard, record = self.guard, self.record
        if error is None or guard.finished:
            guard.release()
            if self._is_taking:
                return
            if self.lost_to_try is None:
                record.remove(self.reference)
                return
            # However often it is tried again: the operation fell to the task's own kill, and that is no success.
            assert self.reference is not None
            record.write(self.reference, killed=f"try {self.lost_to_try} of this task was killed")
            record.let_go(self.reference)
            return
        how = how_it_ended(error)
        if how is EndedBy.DEFERRED:
            return  # it may still be called off: until then the guard stays armed
        if self.about is None and self.request_id is None:
            self.look()
        armed, reference = guard.armed, self.reference
        if guard.killed:  # whatever else went wrong meanwhile
            left = guard.decide()  # it may have failed before that was known
            if reference is not None and not self.replaces and (not armed or (left and guard.is_guess)):
                left = record.decide(reference) is Decision.ADOPT  # there are some seconds left
            how = EndedBy.STOPPED if left else EndedBy.KILLED
        if self._is_resumed:
            record.check(reference)
        goes_on = record.will_go_on(how, error)
        reason = reason_to_cancel(
            how, goes_on=goes_on, cancel_on_kill=self.role.cancel_on_kill, cancel_on_failure=self.role.cancel_on_failure
        )
        cancels_first = guard.killed or is_in_line()  # there are some seconds; in `dags test` nobody else can have it
        can_ask = not cancels_first and how is not EndedBy.ORPHANED
        if reason is not None and reference is not None and can_ask:
            record.write(reference, killed=reason)
            if record.is_outdated:
                self.log.warning("Not cancelled (%s), another try of this task has it: %s", reason, reference.short)
                reason, goes_on = None, True
        guard.release(reason)
        if reason is None:
            if guard.killed and self.about is not None and (how is EndedBy.STOPPED or not self.requested):
                self.log.info("Not cancelled, %s: %s", STOPPED if how is EndedBy.STOPPED else NOT_OWNED, self.about)
            guard.left_to_retry = goes_on
            if not goes_on:
                record.let_go(reference)
            return
        if reference is None:
            return
        if not armed and not self.cancel_requested:
            self.cancel_unguarded(reference, reason)
        if cancels_first:
            record.write(reference, killed=guard.cancelled_because or reason)

    def cancel_unguarded(self, reference: OperationReference, reason: str) -> None:
        """Request the cancellation of an operation that no guard watches (any more)."""
        try:
            with self.make_hook().make_client() as client:
                known = self.record.endpoint if reference == self.reference else None
                if leads_elsewhere(client.endpoint(reference), known):
                    self.log.error("Not cancelled, the connection led to %s: %s", known, reference)
                    return
                result = client.cancel(reference, poll=False, patience=END_PATIENCE_SECONDS, urgent=self.guard.killed)
            self.log.log(cancel_level(result), cancel_line(reference, result, reason))
        except OperationsError as error:
            self.log.error(cancel_line(reference, error, reason))
        except Exception as error:  # of Airflow, about the connection; what ends the task is more important
            self.log.error("Not cancelled, %s (%s): %s", type(error).__name__, reason, reference)
