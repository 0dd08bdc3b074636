"""Everything that happens on the worker when a task dies while it waits for an operation.

Airflow calls ``on_kill`` in a signal handler on the main thread, between two bytecodes of whatever runs
there, and leaves 5.0 seconds until SIGKILL (Airflow 3.3, supervisor escalation). So ``on_kill`` must not
need anything that the interrupted frame may hold: no lock, no import, no connection lookup, no log line.

A :class:`Guard` therefore owns a daemon thread with its own client, warmed by a first look at the
operation. ``on_kill`` writes one byte into a pipe that wakes this thread, and waits on another pipe.
What else ``on_kill`` does depends on the phase:

===========  =======================================================  ==================================
phase        the task is                                              ``on_kill``
===========  =======================================================  ==================================
NEW          not in ``execute`` yet                                   notes it
PREPARING    asking the supervisor (connection, records)              notes it
STARTING     waiting for the answer to a request that starts          notes it
             something, or in the user's function that does
WAITING      waiting for the operation; it asks the supervisor        cancels, and raises
             nothing                                                  :class:`OperationKilled`
ASKING       armed, and asking the supervisor again (records,         cancels; the next checkpoint raises
             deferral)
DEFERRING    being taken over by Airflow; what became of it is        notes it
             found out right afterwards (``deferral.py``)
RELEASED     done with the operation                                  does nothing
===========  =======================================================  ==================================

It raises only where the supervisor is not being asked something: raising there would leave an answer
unread, and the channel one answer behind for ever. And an exception may get lost (Python drops those that
strike in a finalizer): so every look at the operation begins with a checkpoint.
"""

from __future__ import annotations

import contextlib
import contextvars
import enum
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow.sdk.exceptions import AirflowRescheduleException

from airflow_lro_provider.exceptions import OperationKilled, OperationRunningError, OperationWaitError
from airflow_lro_provider.metrics import StatsMetrics

if TYPE_CHECKING:
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.errors import OperationsError
    from airflow_lro_provider.lro.operation import Operation
    from airflow_lro_provider.lro.resources.names import OperationReference

__all__ = ["Guard", "OperationOrphaned", "Phase", "held_back", "is_in_line", "reason_to_cancel"]

BUDGET = 4.0
"""How long ``on_kill`` waits for the cancel, in seconds: from SIGTERM to SIGKILL there are 5.0."""
PATIENCE = 10.0
"""How long a task that ends in another way waits for it."""
FRESHNESS_CHECK = 60.0
"""How often the token is looked at, in seconds."""

KILLED = "Airflow told this task to stop (marked, cleared, run stopped, or its worker shuts down)"


class OperationOrphaned(OperationKilled):
    """The supervisor of this task process is gone: Airflow does not know of it any more."""


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

    *Armed* (:meth:`arm`) once there is an operation to lose, *released* (:meth:`release`) when it is over
    or handed on. Only the main thread calls it.

    :param log: the task's logger.
    :param cancels: whether a dying task cancels the operation (``cancel_on_kill``). If not, the guard
        only sees to it that the task ends.
    """

    def __init__(self, log: Any, *, cancels: bool) -> None:
        self.phase = Phase.NEW
        self.killed = False
        self.is_over = False
        self._log = log
        self._cancels = cancels
        self._canceller: _Canceller | None = None
        self._supervisor = os.getppid()

    def on_kill(self) -> None:
        """The signal handler. Idempotent, also under a second signal or an alarm in its middle.

        :raises OperationKilled: if the task is waiting.
        """
        again, self.killed = self.killed, True
        if self.phase not in (Phase.WAITING, Phase.ASKING):
            return
        if self._canceller is not None and self._cancels:
            already_asked = self._canceller.reason is not None
            self._canceller.ask(KILLED)
            if again and already_asked:
                return  # the handler that this signal interrupted, or the frame behind it, is at it
            self._canceller.wait(BUDGET)
        if self.phase is Phase.WAITING and not _asks_the_supervisor():
            raise OperationKilled(KILLED)

    def prepare(self) -> None:
        """The task is about to ask the supervisor."""
        self.phase = Phase.PREPARING

    def start(self) -> None:
        """The task is about to send a request that must not be interrupted."""
        self.phase = Phase.STARTING
        self.checkpoint()

    def arm(self, client: OperationsClient, reference: OperationReference) -> None:
        """From here on the operation can be lost. The task may still ask the supervisor.

        :param client: for the guard alone; it is closed with it.
        :raises OperationKilled: after cancelling, if the kill came before.
        """
        canceller = _Canceller(client, reference, self._log)
        if self.killed and self._cancels:
            canceller.ask(KILLED)  # before it warms up, which would take its time
        self._canceller = canceller
        canceller.start()
        self.phase = Phase.ASKING
        self.checkpoint()

    def disarm(self) -> None:
        """The operation is over, and the task goes on without it: it is about to have another one.

        :raises OperationKilled: if the kill came before.
        """
        canceller, self._canceller = self._canceller, None
        self.phase = Phase.PREPARING
        if canceller is not None:
            canceller.stop()
        self.checkpoint()

    def watch(self) -> None:
        """The task waits, and asks the supervisor nothing: a kill is acted on at once.

        :raises OperationKilled: if the kill came before.
        """
        self.phase = Phase.WAITING
        self.checkpoint()

    def first_look(self, timeout: float) -> Operation | OperationsError | None:
        """What the guard saw when it warmed its connection; ``None`` if it is not there in time."""
        if self._canceller is None or not _readable(self._canceller.ready, timeout):
            return None
        return self._canceller.seen

    def checkpoint(self) -> None:
        """Act on a kill that was only noted.

        :raises OperationKilled: if there was one.
        """
        if self.killed:
            self._cancel_and_wait(KILLED)
            raise OperationKilled(KILLED)

    def check_supervisor(self) -> None:
        """Notice that this process is an orphan.

        :raises OperationOrphaned: if the supervisor is gone.
        """
        # In `dags test` the parent is somebody's shell, which may end and leave the run to itself.
        if os.getppid() != self._supervisor and not is_in_line():
            raise OperationOrphaned("the supervisor of this task is gone; Airflow counts it as lost")

    def ask(self) -> None:
        """The task is about to ask the supervisor again, or to defer. The operation is still guarded.

        :raises OperationKilled: if the kill came before.
        """
        self.phase = Phase.ASKING
        self.checkpoint()

    def defer(self) -> None:
        """The last moment at which a deferral can be called off: Airflow serializes the trigger.

        :raises OperationWaitError: if the task was killed since. (Not :class:`OperationKilled`: at this
            place Airflow 3.3 handles only an ``Exception`` properly.)
        """
        self.phase = Phase.DEFERRING
        if self.killed:
            self._cancel_and_wait(KILLED)
            raise OperationWaitError(f"not deferred: {KILLED}")

    def release(self, reason: str | None = None) -> None:
        """The operation is over, or is nobody's concern here any more.

        :param reason: if given, it is not over: cancel it first, because of this.
        """
        if self.phase is not Phase.RELEASED:
            self.phase = Phase.ASKING
            if reason is not None:
                self._cancel_and_wait(reason)
            self.phase = Phase.RELEASED
        if self._canceller is not None:
            self._canceller.stop()

    def over(self) -> None:
        """The operation is over: there is nothing to lose any more. Asks nobody, waits for nothing."""
        self.phase = Phase.RELEASED
        self.is_over = True

    def cancel(self, reason: str) -> None:
        """Ask for the cancellation while the task goes on waiting for its end."""
        if self._canceller is not None and self._cancels:
            self._canceller.ask(reason)

    @property
    def cancelled_because(self) -> str | None:
        """Why the cancellation was asked for, if it was."""
        return self._canceller.reason if self._canceller is not None else None

    def _cancel_and_wait(self, reason: str) -> None:
        if self._canceller is not None and self._cancels:
            self._canceller.ask(reason)
            self._canceller.wait(PATIENCE)


class _Canceller:
    """The threads behind a guard: one client, kept warm by one thread, and used by another one.

    The one that cancels does nothing else, so that nothing holds it up: no slow first look, no renewal of a
    token. It is woken through a pipe: writing a byte needs no lock, as an ``Event`` or a ``Queue`` would, that
    the interrupted frame could be holding.
    """

    def __init__(self, client: OperationsClient, reference: OperationReference, log: Any) -> None:
        from airflow_lro_provider.lro.flows import cancel_line  # here, and not when the kill comes

        self._line = cancel_line
        self.reason: str | None = None
        self.seen: Operation | OperationsError | None = None
        self._client, self._reference, self._log = client, reference, log
        self._wake_reader, self._wake = os.pipe()
        # The writing ends of these two are closed to say so: every waiter sees it, for ever.
        self.ready, self._say_ready = os.pipe()
        self._done, self._say_done = os.pipe()
        context = contextvars.copy_context()
        self._threads = [
            threading.Thread(name=f"guard of {reference.name}", target=context.run, args=[self._wait_and_cancel]),
            threading.Thread(
                name=f"warmth of {reference.name}", target=contextvars.copy_context().run, args=[self._keep_warm]
            ),
        ]

    def start(self) -> None:
        """Start both threads."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def ask(self, reason: str) -> None:
        """Make the thread send the cancel. Safe in a signal handler; the first reason stands."""
        if self.reason is None:
            self.reason = reason
        # Always: the frame that a signal interrupted here may never get to its own. One byte is read.
        os.write(self._wake, b"c")

    def wait(self, seconds: float) -> None:
        """Wait until the cancel was answered, or given up. Safe in a signal handler."""
        if self._threads[0].ident is not None:  # else there was no thread to be had
            _readable(self._done, seconds)

    def stop(self) -> None:
        """End the thread, if it is idle, and give its descriptors back."""
        if self._wake < 0:
            return
        os.write(self._wake, b"q")
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=1.0)
        if not any(thread.is_alive() for thread in self._threads):
            for descriptor in (self._wake, self._wake_reader, self.ready, self._done):
                os.close(descriptor)
            self._wake = -1

    def _wait_and_cancel(self) -> None:
        line, word = "", ""
        try:
            _readable(self._wake_reader)
            if os.read(self._wake_reader, 1) == b"c":
                line, word = self._cancel()
        finally:
            os.close(self._say_done)
        with contextlib.suppress(Exception):
            self._client.close()
            # Only now: the interrupted frame may hold the lock of the log, or of an import that counting needs, and
            # the kill waited for us.
            if line:
                self._log.info(line)
                StatsMetrics().cancel(self._reference.service, word)

    def _keep_warm(self) -> None:
        try:
            if self.reason is None:
                self._warm_up()
        finally:
            os.close(self._say_ready)
        while not _readable(self._done, FRESHNESS_CHECK):
            with contextlib.suppress(Exception):
                self._client.identity.headers()

    def _warm_up(self) -> None:
        from airflow_lro_provider.lro.errors import OperationsError

        try:
            self.seen = self._client.get(self._reference, retries=0)
        except OperationsError as error:
            self.seen = error
        except Exception:
            self._log.exception("The guard's first look at %s failed", self._reference)

    def _cancel(self) -> tuple[str, str]:
        """Request the cancellation.

        :return: what to log, and what to count.
        """
        begin = time.monotonic()
        reason = str(self.reason)
        try:
            result = self._client.cancel(self._reference, look=False, urgent=True)
        except Exception as error:
            return self._line(self._reference, error, reason), "REFUSED"
        return self._line(self._reference, result, f"{reason}; {time.monotonic() - begin:.3f} s"), result.word


@contextlib.contextmanager
def held_back(*signals: signal.Signals) -> Iterator[None]:
    """Let signals that raise exceptions (an execution_timeout, Ctrl-C) take effect at the end.

    For what starts something: an exception in its middle would lose the answer, and with it the operation.
    Whoever presses Ctrl-C a second time means it.

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


def is_in_line() -> bool:
    """Whether this process has no supervisor, but plays its own (`dags test`)."""
    supervisor = sys.modules.get("airflow.sdk.execution_time.supervisor")
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    played = getattr(supervisor, "InProcessSupervisorComms", None)
    return played is not None and isinstance(getattr(runner, "SUPERVISOR_COMMS", None), played)


def _asks_the_supervisor() -> bool:
    """Whether the interrupted frame is in the middle of a question: raising there would lose the answer.

    We ask nothing while we wait, but a user's subclass or callback may.
    """
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    lock = getattr(getattr(runner, "SUPERVISOR_COMMS", None), "_thread_lock", None)
    return lock is not None and bool(lock.locked())


def _readable(descriptor: int, seconds: float | None = None) -> bool:
    """Wait for a byte, or for the other end to be closed. Not ``select``: it has a highest descriptor."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(seconds, 0.0) * 1000))


def reason_to_cancel(error: BaseException, *, will_retry: bool, cancel_on_failure: bool) -> str | None:
    """Why the operation must not outlive a task that ends with this error; ``None`` if it may.

    :param will_retry: Airflow will try again after an ordinary failure; the next try goes on with it.
    :param cancel_on_failure: what to do if it will not.
    """
    if isinstance(error, (TaskDeferred, AirflowRescheduleException)):
        return None
    if isinstance(error, OperationOrphaned):
        return None if will_retry else "the supervisor of this task is gone, and no retry will go on with it"
    if isinstance(error, OperationKilled):
        return KILLED
    if isinstance(error, AirflowTaskTimeout):
        return "the task's execution_timeout has passed"
    if isinstance(error, AirflowSensorTimeout):
        return "the sensor's timeout has passed"
    if isinstance(error, OperationRunningError):
        return "the task's timeout has passed"
    if isinstance(error, AirflowSkipException) and isinstance(
        error.__cause__, (AirflowTaskTimeout, AirflowSensorTimeout, type(None))
    ):
        return "the task is skipped, its timeout has passed"
    if not isinstance(error, Exception):
        return f"the task was interrupted ({type(error).__name__})"
    final = isinstance(error, (AirflowFailException, AirflowSkipException)) or not will_retry
    return "the task failed and is not tried again" if final and cancel_on_failure else None
