"""What happens on the worker when a task dies while it waits for its operation.

Airflow calls ``on_kill`` in a signal handler on the main thread, between two bytecodes of whatever runs there, and
leaves 5.0 seconds until SIGKILL (Airflow 3.3, supervisor escalation). So ``on_kill`` must not need anything that the
interrupted frame may hold: no lock, no import, no connection lookup, no log line.

A :class:`Guard` therefore owns daemon threads with a client of their own, warmed by a first poll of the operation.
``on_kill`` writes one byte into a pipe, which wakes a thread, and waits on another pipe. SIGTERM does not mean that the
task is dead (:func:`~airflow_lro_provider.ownership.decisions.of_stopped_task`), so that thread decides first. What
``on_kill`` does depends on the phase:

===========  =======================================================  ===================================
phase        the task is                                              ``on_kill``
===========  =======================================================  ===================================
NEW          not in ``execute`` yet                                   notes it
PREPARING    asking the supervisor (connection, record)               notes it
STARTING     waiting for the response to a request that starts        notes it
             something, or in the user's function that does
WAITING      waiting for the operation; it asks the supervisor        decides, cancels if it must, and
             nothing                                                  raises :class:`OperationKilled`
ASKING       armed, and asking the supervisor again (record,          the same, but raises at the next
             deferral)                                                checkpoint; it waits for nothing
DEFERRING    being taken over by Airflow; see ``deferral.py``         notes it
RELEASED     done with the operation                                  does nothing
===========  =======================================================  ===================================

It raises only where no question to the supervisor is open: raising there would leave a response unread, and the
channel one response behind for good. And an exception may get lost (Python drops those raised in a finalizer), so
every poll of the operation begins with a checkpoint.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.airflow_compat.task_process import is_asking_supervisor, is_in_line
from airflow_lro_provider.attempt.canceller import Canceller
from airflow_lro_provider.exceptions import OperationKilled, OperationOrphaned, OperationWaitError
from airflow_lro_provider.ownership.decisions import KILLED, STOPPED, Decision

if TYPE_CHECKING:
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.operation import Operation
    from airflow_lro_provider.lro.resources.names import OperationReference

KILL_TIMEOUT_SECONDS = 4.0  # how long ``on_kill`` takes at most: SIGKILL follows SIGTERM after 5.0 s
END_PATIENCE_SECONDS = 12.0  # the same of a task that ends in another way
CANCEL_TIMEOUT_SECONDS = 15.0  # how long such a task waits for it
PATIENCE_SECONDS = 600.0  # the same of a cancel that nobody waits for


class Phase(enum.Enum):
    """How far the task is: see the module's text."""

    NEW = "new"
    PREPARING = "preparing"
    STARTING = "starting"
    WAITING = "waiting"
    ASKING = "asking"
    DEFERRING = "deferring"
    RELEASED = "released"


class Guard:
    """Stands between a task's death and its operation.

    *Armed* (:meth:`arm`) once there is an operation to lose, *released* (:meth:`release`) when that is finished or
    handed on. Only the main thread calls it.

    :param log: the task's logger.
    :param cancels: whether a dying task cancels the operation (``cancel_on_kill``). If not, the guard only sees to it
        that the task ends.
    """

    def __init__(self, log: Any, *, cancels: bool) -> None:
        self.phase = Phase.NEW
        self.killed = False
        self.finished = False  # whether the operation is: there is nothing to lose any more
        self.left_to_retry = False  # whether this try has ended, and has left the operation to the next one
        self._log = log
        self._cancels = self._may_cancel = cancels
        self._canceller: Canceller | None = None
        self._supervisor = os.getppid()

    def on_kill(self) -> None:
        """The signal handler. Idempotent, also under a second signal or an alarm in its middle.

        :raises OperationKilled: if the task is waiting.
        """
        again, self.killed = self.killed, True
        if self.phase not in (Phase.WAITING, Phase.ASKING):
            return
        is_asking = is_asking_supervisor()
        if self._canceller is not None and self._cancels:
            if again and self._canceller.is_asked:
                return  # the handler that this signal interrupted, or the frame behind it, is at it
            if is_asking:
                self._canceller.ask()  # in a thread, once the channel is free
            else:
                self._canceller.decide(KILL_TIMEOUT_SECONDS)
        if self.phase is Phase.WAITING and not is_asking:
            raise OperationKilled(self._why)

    def enter(self, phase: Phase) -> None:
        """The task is about to do something else: PREPARING, STARTING, WAITING or ASKING.

        :raises OperationKilled: if the task was killed before, except while it prepares: what it has found out by then
            is not known yet.
        """
        self.phase = phase
        if phase is not Phase.PREPARING:
            self.checkpoint()

    @property
    def armed(self) -> bool:
        """Whether there is an operation to lose."""
        return self._canceller is not None

    def arm(
        self,
        client: OperationsClient,
        reference: OperationReference,
        decide: Callable[[bool], Decision] = lambda may_ask: Decision.CANCEL,
        told: Callable[[], str] = lambda: KILLED,
    ) -> None:
        """From here on the operation can be lost. The task may still ask the supervisor.

        :param client: for the guard alone, which closes it.
        :param decide: whose the operation is once this process is told to stop. Called in a thread, or, if Airflow
            did not respond in time, with ``False``: then it must ask nothing.
        :param told: who told it to, as far as is known when that is decided.
        :raises OperationKilled: if the kill came before, after what that means for the operation.
        """
        self._canceller = Canceller(client, reference, self._log, decide, told)
        if self.killed and self._cancels:
            self._canceller.ask()  # before it warms up, which would take its time
        self._canceller.start()
        self.enter(Phase.ASKING)

    def renew(self, client: OperationsClient) -> None:
        """Use another client from now on: the connection has changed."""
        if self._canceller is not None:
            self._canceller.renew(client)

    def disarm(self) -> None:
        """The operation is finished, and the task goes on without it. Acts on a kill that came before."""
        canceller, self._canceller, self.phase = self._canceller, None, Phase.PREPARING
        self.finished, self._cancels = False, self._may_cancel
        if canceller is not None:
            canceller.stop()
        self.checkpoint()

    @property
    def first_poll(self) -> Future[Operation | None] | None:
        """The poll that warms the guard's connection: the operation, the API's error, or ``None`` if not sent."""
        return None if self._canceller is None else self._canceller.first_poll

    def checkpoint(self) -> None:
        """Act on a kill that was only noted: decide, cancel if it must be, and raise :class:`OperationKilled`."""
        if self.killed:
            self.decide()
            raise OperationKilled(self._why)

    def decide(self) -> bool:
        """After a kill: whether the operation is left to another try of the task. If it is not, it is cancelled."""
        if self._canceller is not None and self._cancels:
            self._canceller.decide(CANCEL_TIMEOUT_SECONDS)
        return self.is_left

    @property
    def is_left(self) -> bool:
        """Whether it was decided that the operation is left to another try of the task."""
        return self._canceller is not None and self._canceller.decision is Decision.ADOPT

    @property
    def _why(self) -> str:
        """What the task ends with after a kill."""
        return STOPPED if self.is_left else KILLED if self._canceller is None else self._canceller.told()

    @property
    def is_guess(self) -> bool:
        """Whether that was decided without Airflow, which did not respond in time."""
        return self._canceller is not None and self._canceller.is_guess

    def check_supervisor(self) -> None:
        """Raise :class:`OperationOrphaned` if the supervisor of this process is gone."""
        if os.getppid() != self._supervisor and not is_in_line():  # there the parent is somebody's shell, and may end
            raise OperationOrphaned("the supervisor of this task is gone; Airflow counts the task as lost")

    def defer(self) -> None:
        """The last moment at which a deferral can be called off: Airflow serializes the trigger.

        :raises OperationWaitError: if the task was killed before. (Airflow 3.3 handles only an ``Exception`` properly.)
        """
        self.phase = Phase.DEFERRING
        try:
            self.checkpoint()
        except OperationKilled as error:
            self.phase = Phase.ASKING
            raise OperationWaitError(f"not deferred: {error}") from None

    def finish(self) -> None:
        """The operation is finished: there is nothing to lose, or to cancel, any more. Waits for nothing."""
        self.phase = Phase.RELEASED
        self.finished, self._cancels = True, False

    def release(self, reason: str | None = None) -> None:
        """The operation is finished, or no longer this task's; if there is a ``reason``, it is cancelled first."""
        if self.phase is not Phase.RELEASED:
            self.phase = Phase.ASKING
            if reason is not None:
                self.cancel(reason, wait=True)
            self.phase = Phase.RELEASED
        if self._canceller is not None:
            self._canceller.stop()

    def cancel(self, reason: str, *, wait: bool = False) -> None:
        """Request the cancellation, and perhaps wait until the service has responded."""
        if self._canceller is not None and self._cancels:
            self._canceller.request(reason, END_PATIENCE_SECONDS if wait else PATIENCE_SECONDS)
            if wait:
                self._canceller.wait(CANCEL_TIMEOUT_SECONDS)

    @property
    def cancelled_because(self) -> str | None:
        """Why the cancellation was requested, if it was."""
        return self._canceller.reason if self._canceller is not None else None
