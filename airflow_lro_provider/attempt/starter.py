"""Tasks that start an operation themselves: start it, guard it, and survive with it.

A try that begins looks for the record of an earlier one first:

==========================================  ===========================================================
what an earlier try left                    this try
==========================================  ===========================================================
nothing (it ended normally, or is the       starts an operation
first)
an operation, and it crashed (SIGKILL, OOM, **adopts** it: waits for it, or takes its result
lost worker) or failed otherwise
an operation, and it was killed or cleared  cancels it, waits for its end, starts a fresh one: there are
                                            never two side by side
a start without an answer, with a request   sends the same start again: the service answers with the
id                                          operation that it has started, if it has
==========================================  ===========================================================
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_lro_provider.attempt.guard import held_back
from airflow_lro_provider.attempt.record import ArmedRecords
from airflow_lro_provider.attempt.task import FIRST_LOOK_TIMEOUT, GuardedTask
from airflow_lro_provider.attempt.validation import check_outcomes, check_seconds
from airflow_lro_provider.exceptions import OperationKilled, OperationRunningError, OperationWaitError
from airflow_lro_provider.hooks.operations import DEFAULT_CONN_ID
from airflow_lro_provider.lro.polling import GRACE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_lro_provider.attempt.result import ResultCheck
    from airflow_lro_provider.hooks.operations import OperationsHook
    from airflow_lro_provider.lro.flows import Started
    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.polling import PollSchedule
    from airflow_lro_provider.lro.resources.hosts import Resource
    from airflow_lro_provider.ownership.decisions import ArmedRecord
    from airflow_lro_provider.sweep.search import StartFootprint

__all__ = ["OperationStarter"]

REPLACE_WITHIN = 600.0
"""How long a fresh start waits for the end of the operation that it replaces, in seconds."""


class OperationStarter(GuardedTask, BaseOperator):
    """An operator that starts an operation, in a way that its subclasses know, and stands for it.

    :param service: the API's discovery name, e.g. ``aiplatform``, or its host. (templated)
    :param api_version: the API version, if not the preferred one. (templated)
    :param wait_for_completion: wait for the operation's end; if not, the task ends with the start and
        returns the operation, which is nobody's then.
    :param deferrable: wait in the triggerer.
    :param timeout: how long to wait, in seconds or as a timedelta; then the operation is cancelled and the
        task fails (and retries, if it may). By default as long as ``execution_timeout`` allows.
    :param poll_interval: seconds between two looks; if ``None`` it grows with the age of the wait, from 1
        to 60 s.
    :param cancel_on_kill: cancel the operation when this task is killed or times out.
    :param cancel_on_failure: with ``cancel_on_kill``, cancel it also when the task fails otherwise (for
        instance because it lost the permission to look) and no retry goes on with it.
    :param durable: leave a record in Airflow's task state store (Airflow 3.3), so that a retry after a crash
        goes on with the running operation instead of starting a second one.
    :param fail_on: the outcomes that fail the task. By default FAILED, CANCELLED and NOT_FOUND.
    :param result_check: for services that report a failure inside a successful response: gets the
        operation as a dict, returns ``None`` or ``True`` if it is fine, else ``False`` or a text.
    :param return_operation: return the whole operation and not just its ``response``.
    :param gcp_conn_id: the Airflow connection; ``None`` uses application default credentials. (templated)
    :param impersonation_chain: the account to act as, or the chain that leads to it. (templated)
    """

    def __init__(
        self,
        *,
        service: str | None = None,
        api_version: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        cancel_on_kill: bool = True,
        cancel_on_failure: bool = True,
        durable: bool = True,
        fail_on: Collection[str | Outcome] = ("FAILED", "CANCELLED", "NOT_FOUND"),
        result_check: ResultCheck | None = None,
        return_operation: bool = False,
        gcp_conn_id: str | None = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.service = service
        self.api_version = api_version
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.timeout = check_seconds("timeout", timeout)
        self.poll_interval = check_seconds("poll_interval", poll_interval)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_failure = cancel_on_failure
        self.durable = durable
        self.fail_on = check_outcomes("fail_on", fail_on)
        self.result_check = result_check
        self.return_operation = return_operation
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    _started: Resource | None = None
    _waiting_since: float | None = None
    _request_id: str | None = None

    def _start(self, context: Context) -> Started:
        """Start an operation. A kill meanwhile is only noted.

        :raises NotAnOperationError: if something else came of it.
        """
        raise NotImplementedError

    _held_back: tuple[signal.Signals, ...] = (signal.SIGALRM, signal.SIGINT)
    """Which signals wait for the answer of a start: an execution_timeout, Ctrl-C."""

    @property
    def _is_repeatable(self) -> bool:
        """Whether a start with the same request id can be sent again without starting another one."""
        return False

    @property
    def _starts_in_words(self) -> str:
        """What starts the operation, for the ledger."""
        raise NotImplementedError

    @property
    def _traces(self) -> StartFootprint | None:
        """By what the operation can be found if its start is never answered."""
        return None

    # -- a try, from its beginning ------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Start an operation, or go on with the one that an earlier try left, and wait for it."""
        guard = self._get_guard()
        records = self._records(context)
        guard.prepare()
        hook = self._connect()
        try:
            with hook.make_client() as self._client:
                if not self._adopt(hook, records):
                    self._begin(context, hook, records)
                result = self._wait(context)
        except BaseException as error:
            self._leave(guard, records, error)
            raise
        guard.release()
        records.remove()
        return result

    def _begin(self, context: Context, hook: OperationsHook, records: ArmedRecords) -> None:
        """Start an operation, and guard it from the moment on at which it is known."""
        from airflow_lro_provider.lro.errors import NotAnOperationError, OperationsError
        from airflow_lro_provider.lro.resources.methods import new_request_id
        from airflow_lro_provider.lro.resources.names import OperationReference

        guard = self._get_guard()
        is_first = self._request_id is None
        self._request_id = self._request_id or new_request_id(records.seed)
        guard.check_supervisor()  # an orphan's record is not written: whatever it starts, nobody finds
        try:
            records.announce(self._starts_in_words, self._request_id, self._traces)
            guard.start()
        except OperationKilled:
            if is_first:  # nothing was sent; with the request id of an earlier try, something may have been
                records.remove()
            raise
        with contextlib.ExitStack() as held:
            held.enter_context(held_back(*self._held_back))
            self._client.abandons = lambda: guard.killed
            try:
                started = self._start(context)
            except Exception as error:
                guard.prepare()
                lost = isinstance(error, OperationsError) and error.may_have_happened
                if isinstance(error, NotAnOperationError) or not (lost and self._is_repeatable):
                    records.remove()
                raise
            held.enter_context(held_back(signal.SIGALRM, signal.SIGINT))
            self._started, self._first = started.reference, started.operation
            if isinstance(started.reference, OperationReference):  # one that is over already may have no name
                self._reference = started.reference
            if started.operation is not None and started.operation.done:
                guard.over()
                return
            try:
                self._arm(hook)
            except Exception:  # no thread, no descriptor left: what cannot be guarded must not run
                self._cancel_now(self._reference, "it cannot be guarded")
                raise
            except OperationKilled:
                if not self.cancel_on_kill:
                    records.write(self._reference)  # it runs on, and a retry has to know which one it is
                raise
            self.log.info("Started %s", self._reference)
            records.write(self._reference)
        guard.watch()

    def _wait(self, context: Context) -> Any:
        from airflow_lro_provider.lro.errors import NotFoundError, WaitTimeoutError
        from airflow_lro_provider.lro.operation import Operation, Outcome
        from airflow_lro_provider.lro.polling import new_schedule

        seen = self._first
        if isinstance(seen, Operation) and seen.outcome is not None:
            return self._settle(seen.outcome, seen)
        if not self.wait_for_completion:
            self._get_guard().over()
            return dict(seen.raw) if isinstance(seen, Operation) else {"name": self._reference.name}
        if self.deferrable:
            self._defer(context)
        watch = new_schedule(time.monotonic(), timeout=self.timeout, interval=self.poll_interval)
        try:
            operation = self._client.wait_until_done(
                self._reference, watch, look=self._look, on_change=lambda line: self._tell_change(watch, line)
            )
        except NotFoundError:
            return self._settle(Outcome.NOT_FOUND, None)
        except WaitTimeoutError as error:
            raise OperationRunningError(str(error)) from None
        assert operation.outcome is not None
        return self._settle(operation.outcome, operation)

    def _tell_change(self, watch: PollSchedule, line: str) -> None:
        if watch.done is None:  # the end is told with the result
            self.log.info("%s: %s", self._reference, line)

    def _defer(self, context: Context) -> None:
        from airflow_lro_provider.attempt.deferral import deadline_of
        from airflow_lro_provider.lro.polling import PollSchedule

        started = self._waiting_since or time.time()
        execution_timeout: timedelta | None = self.execution_timeout
        self._hand_over(
            context,
            PollSchedule(started=started, interval=self.poll_interval),
            deadline_of(started, timeout=self.timeout, execution_timeout=execution_timeout),
            waiting_since=started,
        )

    # -- what an earlier try left -------------------------------------------------------------------

    def _adopt(self, hook: OperationsHook, records: ArmedRecords) -> bool:
        """Go on with the operation of an earlier try, or end it.

        :return: whether there is one to go on with.
        :raises OperationRunningError: if there is one to end, and it does not end.
        """
        from airflow_lro_provider.lro.errors import NotFoundError
        from airflow_lro_provider.lro.operation import Operation
        from airflow_lro_provider.lro.resources.names import OperationReference
        from airflow_lro_provider.ownership.decisions import Decision, of_armed_record

        guard = self._get_guard()
        if self._waiting_since is not None:  # this very try has deferred, and was woken for nothing
            self._arm(hook)
            guard.watch()
            return True
        record = records.read()
        if record is None:
            return False
        verdict = of_armed_record(record, **records.this_try)
        if record.reference is None:
            if not self._is_repeatable:
                self.log.warning(
                    "Try %d died while it started something; what came of it is not known", record.try_number
                )
                return False
            if verdict is not Decision.CANCEL:
                self._request_id = record.request_id  # whatever that start did, it is not done twice
                self.log.info("Try %d died while it started an operation; starting it again", record.try_number)
                return False
            if not self._find_out(record):
                return False
        else:
            self._reference = OperationReference.from_dict(record.reference)
        if verdict is Decision.UNSURE:
            raise OperationWaitError(
                f"{self._reference} was left by try {record.try_number} of this task, which seems to be younger than"
                " this one. Nothing was started or cancelled. Clear the task to cancel it and to start anew."
            )
        if verdict is Decision.CANCEL and not self.cancel_on_kill:
            self.log.info("%s of try %d is left alone (cancel_on_kill=False)", self._reference, record.try_number)
            return False
        self._arm(hook)
        guard.watch()
        seen = self._first = self._look_for_it(guard.first_look(FIRST_LOOK_TIMEOUT))
        known = seen if isinstance(seen, Operation) else None
        verdict = of_armed_record(record, **records.this_try, seen=known)
        self._tell(record, records, known, verdict)
        if isinstance(seen, NotFoundError) or verdict is Decision.CANCEL:
            self._end(record, seen)
            records.strike_out_earlier()
            return False
        guard.ask()
        records.write(self._reference)
        guard.watch()
        return True

    def _look_for_it(self, seen: Any) -> Any:
        """A 404 of an operation that may be new is no proof yet: its try may have died a moment after the start."""
        from airflow_lro_provider.lro.errors import NotFoundError, OperationsError

        begun = time.monotonic()
        while isinstance(seen, NotFoundError) and time.monotonic() - begun < GRACE:
            time.sleep(min(1.0, GRACE))
            try:
                seen = self._client.get(self._reference, retries=0)
            except OperationsError as error:
                seen = error
        return seen

    def _find_out(self, record: ArmedRecord) -> bool:
        """Learn what a start without an answer has started, by sending it again with its request id."""
        from airflow_lro_provider.lro.errors import OperationsError
        from airflow_lro_provider.lro.resources.names import OperationReference

        guard = self._get_guard()
        guard.start()
        self._request_id = record.request_id
        try:
            started = self._start_again()
        except OperationsError as error:
            if error.transient:
                raise  # the record stays, for the next try
            self.log.warning("What try %d has started cannot be found out: %s", record.try_number, error)
            return False
        finally:
            self._request_id = None
            guard.prepare()
        if isinstance(started.reference, OperationReference):
            self._reference = started.reference
        return started.operation is None or not started.operation.done

    def _start_again(self) -> Started:
        """Send the start of an earlier try once more, with its request id."""
        raise NotImplementedError

    def _end(self, record: ArmedRecord, seen: Any) -> None:
        """See the operation of an earlier try to its end: never two side by side."""
        from airflow_lro_provider.lro.errors import NotFoundError, WaitTimeoutError
        from airflow_lro_provider.lro.operation import Operation
        from airflow_lro_provider.lro.polling import new_schedule

        guard = self._get_guard()
        over = isinstance(seen, NotFoundError) or (isinstance(seen, Operation) and seen.done)
        if not over:
            guard.cancel(f"try {record.try_number} of this task was killed or cleared, and another one begins")
            watch = new_schedule(time.monotonic(), timeout=REPLACE_WITHIN, interval=self.poll_interval)
            try:
                self._client.wait_until_done(
                    self._reference,
                    watch,
                    look=self._look,
                    on_change=lambda line: self.log.info("%s: %s", self._reference, line),
                )
            except NotFoundError:
                pass
            except WaitTimeoutError:
                raise OperationRunningError(
                    f"{self._reference} of try {record.try_number} does not end, although it was cancelled; no second"
                    " one is started beside it. Wait for its end, then clear this task."
                ) from None
        self._first = None
        guard.disarm()

    def _tell(self, record: ArmedRecord, records: ArmedRecords, seen: Operation | None, verdict: Any) -> None:
        self.log.info(
            "Try %d of this task left %s behind (killed: %s; max_tries %d, now %d; operation: %s): %s",
            record.try_number,
            self._reference,
            record.killed or "not known",
            record.max_tries,
            records.this_try["max_tries"],
            seen.summary() if seen else "not seen",
            verdict.value,
        )

    # -- the rest -----------------------------------------------------------------------------------

    def _keeps_record(self) -> bool:
        return self.durable

    def _will_go_on(self, records: ArmedRecords) -> bool:
        return records.will_adopt

    def _resumed(self, reference: dict[str, Any] | None = None, waiting_since: float | None = None, **_: Any) -> None:
        super()._resumed(reference)
        self._waiting_since = waiting_since

    def _settle(self, outcome: Outcome, operation: Operation | None) -> Any:
        from airflow_lro_provider.attempt.result import settle

        self._get_guard().over()
        about = self._started or self._reference
        self.log.info("%s: %s", about, operation.summary() if operation else outcome.value)
        settled = settle(about, outcome, operation, fail_on=self.fail_on, result_check=self.result_check, final=False)
        whole: dict[str, Any] = settled["operation"]
        return whole if self.return_operation else whole.get("response")
