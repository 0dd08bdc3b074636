"""What happens on the worker when a task dies while it waits for its operation.

Airflow calls ``on_kill`` in a signal handler on the main thread, between two bytecodes of whatever runs there, and
leaves 5.0 seconds until SIGKILL (Airflow 3.3, supervisor escalation). So ``on_kill`` must not need anything that the
interrupted frame may hold: no lock, no import, no connection lookup, no log line.

A :class:`Guard` therefore owns daemon threads with a client of their own, warmed by a first poll of the operation.
``on_kill`` writes one byte into a pipe, which wakes a thread, and waits on another pipe. What else it does depends on
the phase:

===========  =======================================================  ===================================
phase        the task is                                              ``on_kill``
===========  =======================================================  ===================================
NEW          not in ``execute`` yet                                   notes it
PREPARING    asking the supervisor (connection, record)               notes it
STARTING     waiting for the response to a request that starts        notes it
             something, or in the user's function that does
WAITING      waiting for the operation; it asks the supervisor        cancels, and raises
             nothing                                                  :class:`OperationKilled`
ASKING       armed, and asking the supervisor again (record,          cancels; the next checkpoint raises
             deferral)
DEFERRING    being taken over by Airflow; the outcome is checked      notes it
             right afterwards (``deferral.py``)
RELEASED     done with the operation                                  does nothing
===========  =======================================================  ===================================

It raises only where no question to the supervisor is open: raising there would leave a response unread, and the
channel one response behind for good. And an exception may get lost (Python drops those raised in a finalizer), so
every poll of the operation begins with a checkpoint.
"""

from __future__ import annotations

import contextlib
import contextvars
import enum
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from types import FrameType
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.airflow_compat.task_process import is_asking_supervisor, is_in_line
from airflow_lro_provider.exceptions import OperationKilled, OperationOrphaned, OperationWaitError
from airflow_lro_provider.ownership.decisions import KILLED

if TYPE_CHECKING:
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.operation import Operation
    from airflow_lro_provider.lro.resources.names import OperationReference

KILL_TIMEOUT_SECONDS = 4.0
"""How long ``on_kill`` waits for the cancel: from SIGTERM to SIGKILL there are 5.0 s."""
CANCEL_TIMEOUT_SECONDS = 10.0
"""How long a task that ends in another way waits for it."""
TOKEN_CHECK_INTERVAL_SECONDS = 60.0
"""How often the guard sees to it that its token is fresh."""


class Phase(enum.Enum):
    """How far the task is. See the module's text."""

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
        self.finished = False
        """Whether the operation is finished: there is nothing to lose any more."""
        self._log = log
        self._cancels = cancels
        self._canceller: _Canceller | None = None
        self._supervisor = os.getppid()

    def on_kill(self) -> None:
        """The signal handler; raises :class:`OperationKilled` if the task is waiting.

        Idempotent, also under a second signal or an alarm in its middle.
        """
        again, self.killed = self.killed, True
        if self.phase not in (Phase.WAITING, Phase.ASKING):
            return
        if self._canceller is not None and self._cancels:
            already_requested = self._canceller.reason is not None
            self._canceller.request(KILLED)
            if again and already_requested:
                return  # the handler that this signal interrupted, or the frame behind it, is at it
            self._canceller.wait(KILL_TIMEOUT_SECONDS)
        if self.phase is Phase.WAITING and not is_asking_supervisor():
            raise OperationKilled(KILLED)

    def enter(self, phase: Phase) -> None:
        """The task is about to do something else.

        :param phase: PREPARING, STARTING, WAITING or ASKING.
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

    def arm(self, client: OperationsClient, reference: OperationReference) -> None:
        """From here on the operation can be lost. The task may still ask the supervisor.

        :param client: for the guard alone, which closes it.
        :raises OperationKilled: after the cancel, if the kill came before.
        """
        canceller = _Canceller(client, reference, self._log)
        if self.killed and self._cancels:
            canceller.request(KILLED)  # before it warms up, which would take its time
        self._canceller = canceller
        canceller.start()
        self.enter(Phase.ASKING)

    def disarm(self) -> None:
        """The operation is finished, and the task goes on without it. Acts on a kill that came before."""
        canceller, self._canceller = self._canceller, None
        self.phase = Phase.PREPARING
        if canceller is not None:
            canceller.stop()
        self.checkpoint()

    @property
    def first_poll(self) -> Future[Operation | None] | None:
        """The poll that warms the guard's connection: the operation, the API's error, or ``None`` if not sent."""
        return None if self._canceller is None else self._canceller.first_poll

    def checkpoint(self) -> None:
        """Act on a kill that was only noted: cancel, and raise :class:`OperationKilled`."""
        if self.killed:
            self._cancel_and_wait(KILLED)
            raise OperationKilled(KILLED)

    def check_supervisor(self) -> None:
        """Raise :class:`OperationOrphaned` if the supervisor of this process is gone."""
        # In `dags test` the parent is somebody's shell, which may end and leave the run to itself.
        if os.getppid() != self._supervisor and not is_in_line():
            raise OperationOrphaned("the supervisor of this task is gone; Airflow counts the task as lost")

    def defer(self) -> None:
        """The last moment at which a deferral can be called off: Airflow serializes the trigger.

        :raises OperationWaitError: if the task was killed before. (Not :class:`OperationKilled`: at this place
            Airflow 3.3 handles only an ``Exception`` properly.)
        """
        self.phase = Phase.DEFERRING
        if self.killed:
            self._cancel_and_wait(KILLED)
            raise OperationWaitError(f"not deferred: {KILLED}")

    def finish(self) -> None:
        """The operation is finished: there is nothing to lose any more. Waits for nothing."""
        self.phase = Phase.RELEASED
        self.finished = True

    def release(self, reason: str | None = None) -> None:
        """The operation is finished, or no longer this task's.

        :param reason: if given, the operation is still running and is cancelled first, for this reason.
        """
        if self.phase is not Phase.RELEASED:
            self.phase = Phase.ASKING
            if reason is not None:
                self._cancel_and_wait(reason)
            self.phase = Phase.RELEASED
        if self._canceller is not None:
            self._canceller.stop()

    def cancel(self, reason: str) -> None:
        """Request the cancellation while the task goes on waiting for the operation's end."""
        if self._canceller is not None and self._cancels:
            self._canceller.request(reason)

    @property
    def cancelled_because(self) -> str | None:
        """Why the cancellation was requested, if it was."""
        return self._canceller.reason if self._canceller is not None else None

    def _cancel_and_wait(self, reason: str) -> None:
        if self._canceller is not None and self._cancels:
            self._canceller.request(reason)
            self._canceller.wait(CANCEL_TIMEOUT_SECONDS)


class _Canceller:
    """The threads behind a guard: one client, kept warm by one thread, and used by another one.

    The one that cancels does nothing else, so that nothing holds it up: no slow first poll, no renewal of a token. It
    is woken through a pipe: writing a byte needs no lock, as an ``Event`` or a ``Queue`` would, that the interrupted
    frame could be holding.
    """

    def __init__(self, client: OperationsClient, reference: OperationReference, log: Any) -> None:
        self.reason: str | None = None
        self.first_poll: Future[Operation | None] = Future()
        self._client, self._reference, self._log = client, reference, log
        self._wake_reader, self._wake = os.pipe()
        # The writing end is closed to signal it: every waiter sees that, at any time.
        self._done, self._signal_done = os.pipe()
        self._threads = [
            threading.Thread(name=f"{what} {reference.name}", target=contextvars.copy_context().run, args=[run])
            for what, run in (("guard of", self._wait_and_cancel), ("warm-up of", self._keep_warm))
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def request(self, reason: str) -> None:
        """Make the thread send the cancel. Safe in a signal handler; the first reason stands."""
        if self.reason is None:
            self.reason = reason
        # Always: the frame that a signal interrupted here may never get to its own. One byte is read.
        os.write(self._wake, b"c")

    def wait(self, seconds: float) -> None:
        """Wait until the service has responded to the cancel, or it was given up. Safe in a signal handler."""
        if self._threads[0].ident is not None:  # else no thread could be started
            _readable(self._done, seconds)

    def stop(self) -> None:
        """End the threads, if they are idle, and close the descriptors."""
        if self._wake < 0:
            return
        os.write(self._wake, b"q")
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=1.0)
        if not any(thread.is_alive() for thread in self._threads):
            for descriptor in (self._wake, self._wake_reader, self._done):
                os.close(descriptor)
            self._wake = -1

    def _wait_and_cancel(self) -> None:
        from airflow_lro_provider.lro.flows import cancel_line  # here, and not when the kill comes
        from airflow_lro_provider.metrics import StatsMetrics

        line, word = "", ""
        try:
            _readable(self._wake_reader)
            if os.read(self._wake_reader, 1) == b"c":
                reason, begin = str(self.reason), time.monotonic()
                try:
                    result = self._client.cancel(self._reference, poll=False, urgent=True)
                except Exception as error:
                    line, word = cancel_line(self._reference, error, reason), "REFUSED"
                else:
                    took = f"{reason}; {time.monotonic() - begin:.3f} s"
                    line, word = cancel_line(self._reference, result, took), result.word
        finally:
            os.close(self._signal_done)
        with contextlib.suppress(Exception):
            self._client.close()
            # Only now: the interrupted frame may hold the lock of the log, or of an import that counting needs, and
            # the kill waited for this thread.
            if line:
                self._log.info(line)
                StatsMetrics().cancel(self._reference.service, word)

    def _keep_warm(self) -> None:
        from airflow_lro_provider.lro.errors import OperationsError

        first: Operation | None = None
        try:
            if self.reason is None:
                first = self._client.get(self._reference, retries=0)
        except OperationsError as error:
            self.first_poll.set_exception(error)
        except Exception:
            self._log.exception("The guard's first poll of %s failed", self._reference)
        if not self.first_poll.done():
            self.first_poll.set_result(first)
        while not _readable(self._done, TOKEN_CHECK_INTERVAL_SECONDS):
            with contextlib.suppress(Exception):
                self._client.identity.headers()


@contextlib.contextmanager
def held_back(*signals: signal.Signals) -> Iterator[None]:
    """Let signals that raise exceptions (an execution_timeout, Ctrl-C) take effect at the end.

    For what starts something: an exception in its middle would lose the response, and with it the operation.
    A second Ctrl-C takes effect at once.

    :param signals: SIGALRM, SIGINT.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: set[int] = set()
    before = {number: signal.getsignal(number) for number in signals}

    def note(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if number == signal.SIGINT and number in came and callable(handler):
            handler(number, frame)
        came.add(number)

    for number in signals:
        if callable(before[number]):
            signal.signal(number, note)
    try:
        yield
    finally:
        for number in signals:
            if callable(before[number]):
                signal.signal(number, before[number])
        for late in came:
            signal.raise_signal(late)


def _readable(descriptor: int, seconds: float | None = None) -> bool:
    """Wait for a byte, or for the other end to be closed. Not ``select``: it has a highest descriptor."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(seconds, 0.0) * 1000))
