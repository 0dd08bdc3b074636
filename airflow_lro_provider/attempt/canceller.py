"""The threads behind a guard: one client, kept warm by one thread, and used by another one; a third one decides.

Each does nothing else, so that nothing holds it up: no slow poll, no renewal of a token, no question to Airflow. They
are woken through pipes: writing a byte needs no lock that the interrupted frame could be holding.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.ownership.decisions import Decision

if TYPE_CHECKING:
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.operation import Operation
    from airflow_lro_provider.lro.resources.names import OperationReference

DECISION_TIMEOUT_SECONDS = 1.0  # how much of a kill's time Airflow may take to say what has become of the task
KILL_PATIENCE_SECONDS = 3.0  # how long a killed task repeats a cancel; to believe a 404 takes longer
TOKEN_CHECK_INTERVAL_SECONDS = 60.0  # how often it is seen to that the token is fresh


class Canceller:
    """Three threads with one client between them: see the module's text.

    :param decide: whose the operation is; with ``False`` it must ask Airflow nothing.
    :param told: who told the task to stop, as far as is known when that is decided.
    """

    decision: Decision | None = None  # once this process was told to stop: CANCEL, or ADOPT for another try's
    is_asked = False  # whether that is being decided
    is_guess = False  # whether Airflow has not responded in time
    _patience = KILL_PATIENCE_SECONDS

    def __init__(
        self,
        client: OperationsClient,
        reference: OperationReference,
        log: Any,
        decide: Callable[[bool], Decision],
        told: Callable[[], str],
    ) -> None:
        self.reason: str | None = None
        self.told = told
        self.first_poll: Future[Operation | None] = Future()
        self._client, self._reference, self._log, self._decide = client, reference, log, decide
        self._unasked: Decision | None = None  # what is decided if Airflow does not respond in time
        self._is_settled = threading.Lock()  # never waited for
        self._wake_reader, self._wake = os.pipe()
        self._asked, self._ask = os.pipe()
        # Their writing ends are closed to signal it: every waiter sees that, at any time.
        self._done, self._signal_done = os.pipe()
        self._decided, self._signal_decided = os.pipe()
        self._threads = [
            threading.Thread(name=f"{what} {reference.name}", target=contextvars.copy_context().run, args=[run])
            for what, run in (
                ("guard of", self._wait_and_cancel),
                ("decision about", self._wait_and_decide),
                ("warm-up of", self._keep_warm),
            )
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def ask(self) -> None:
        """Have it decided whose the operation is. Safe in a signal handler."""
        self.is_asked = True
        os.write(self._ask, b"a")
        os.write(self._wake, b"a")

    def decide(self, seconds: float) -> None:
        """Have it decided, and wait for the cancel if it comes to that. Safe in a signal handler.

        :param seconds: how long that takes at most.
        """
        begin = time.monotonic()
        self.ask()
        if not _readable(self._decided, DECISION_TIMEOUT_SECONDS * 1.1):  # no thread has settled it
            self._settle(None)
        if self.decision is Decision.CANCEL:
            self.request(self.told())
            self.wait(seconds - (time.monotonic() - begin))

    def _settle(self, decision: Decision | None) -> None:
        """The first decision stands; ``None``: Airflow has not responded."""
        if self._is_settled.acquire(blocking=False):
            self.is_guess = decision is None
            self.decision = decision or self._unasked or self._decide(False)
            os.close(self._signal_decided)

    def renew(self, client: OperationsClient) -> None:
        """Use another client from now on."""
        before, self._client = self._client, client
        before.close()

    def request(self, reason: str, patience: float = KILL_PATIENCE_SECONDS) -> None:
        """Make the thread send the cancel. Safe in a signal handler; the first reason stands."""
        if self.reason is None:
            self.reason, self._patience = reason, patience
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
        os.write(self._ask, b"q")
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=1.0)
        if not any(thread.is_alive() for thread in self._threads):
            for end in (self._wake, self._wake_reader, self._ask, self._asked, self._done, self._decided):
                os.close(end)
            self._wake = -1

    def _wait_and_cancel(self) -> None:
        from airflow_lro_provider.lro.cancel import cancel_level, cancel_line  # here, and not when the kill comes
        from airflow_lro_provider.metrics import StatsMetrics

        line, word, level = "", "", 0
        try:
            if self._is_wanted():
                reason, begin = str(self.reason), time.monotonic()
                try:
                    result = self._client.cancel(self._reference, poll=False, patience=self._patience, urgent=True)
                except Exception as error:
                    line, word, level = cancel_line(self._reference, error, reason), "REFUSED", cancel_level(error)
                else:
                    line = cancel_line(self._reference, result, reason, took=time.monotonic() - begin)
                    word, level = result.word, cancel_level(result)
        finally:
            os.close(self._signal_done)
        with contextlib.suppress(Exception):
            self._client.close()
            # Only now: the interrupted frame may hold the lock of the log, or of an import that counting needs, and
            # the kill waited for this thread.
            if line:
                self._log.log(level, line)
                StatsMetrics().cancel(self._reference.service, word)

    def _is_wanted(self) -> bool:
        """Wait until a cancel is wanted, or none will be."""
        while True:
            _readable(self._wake_reader)
            order = os.read(self._wake_reader, 1)
            if order != b"a":
                return order == b"c"
            # The one that decides may be held up: by Airflow, or by a task that asks Airflow without a pause.
            if not _readable(self._decided, DECISION_TIMEOUT_SECONDS):
                self._settle(None)
            if self.decision is Decision.CANCEL:
                self.reason = self.reason or self.told()
                return True

    def _wait_and_decide(self) -> None:
        _readable(self._asked)
        decision: Decision | None = Decision.OWN  # it ends without a kill: nothing is asked, no retry policy either
        if os.read(self._asked, 1) == b"a":
            decision = None
            self._unasked = self._decide(False)  # first of all: asking may change what is known
            with contextlib.suppress(Exception):
                decision = self._decide(True)
        self._settle(decision)

    def _keep_warm(self) -> None:
        from airflow_lro_provider.lro.errors import OperationsError

        first: Operation | None = None
        try:
            if not self.is_asked and self.reason is None:
                first = self._client.poll(self._reference, retries=0)
        except OperationsError as error:
            self.first_poll.set_exception(error)
        except Exception:
            self._log.exception("The guard's first poll of %s failed", self._reference)
        if not self.first_poll.done():
            self.first_poll.set_result(first)
        while not _readable(self._done, TOKEN_CHECK_INTERVAL_SECONDS):
            with contextlib.suppress(Exception):
                self._client.identity.headers()


def _readable(descriptor: int, seconds: float | None = None) -> bool:
    """Wait for a byte, or for the other end to be closed."""
    poll = select.poll()  # not `select`: it has a highest descriptor
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(seconds, 0.0) * 1000))
