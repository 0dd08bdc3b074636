"""The trigger that waits for one long-running operation, and cancels it when its task is killed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

# Before any wait: importing it within `on_kill` takes seconds.
from airflow_lro_provider.airflow_compat import task_states  # noqa: F401
from airflow_lro_provider.airflow_compat.trigger_loop import may_be_kill, notice_end_of_loop
from airflow_lro_provider.hooks.operations import DEFAULT_CONN_ID
from airflow_lro_provider.lro.errors import ConnectionSettingsError, NotFoundError, OperationsError, WaitTimeoutError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import Deadline, PollSchedule, Trouble
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.ownership.decisions import (
    Decision,
    Evidence,
    TaskState,
    of_deadline,
    of_killed_trigger,
)
from airflow_lro_provider.ownership.evidence import TaskKey, describe, owner_token, task_state
from airflow_lro_provider.triggers.arguments import Given, common_text
from airflow_lro_provider.triggers.events import DeadlinePassed, Event, Finished, Gone, Lost, outline
from airflow_lro_provider.triggers.shared import METRICS, pulse_of_loop, settings_of, watcher_of_loop

if TYPE_CHECKING:
    from airflow_lro_provider.lro.async_client import AsyncOperationsClient
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.cancel import CancelResult
    from airflow_lro_provider.lro.shared_poller.watcher import Subscription

__all__ = ["OperationTrigger"]

DECISION_TRIES = 4
"""How often the evidence is requested of Airflow before it counts as unknown: for 14 s, while `on_kill` goes on, for
afterwards Airflow closes the task's log."""
CONNECTION_TRIES = 5
"""How often a cancel requests the connection of Airflow: it is "not defined" also when a secrets backend is down."""
CONNECTION_PAUSE_SECONDS = 5.0  # between two of these
CANCEL_PATIENCE_SECONDS = 60.0  # how long a cancel is repeated at most
KILL_PATIENCE_SECONDS = 20.0
"""How long `on_kill` goes on although it was cancelled itself: less than Airflow's `on_kill_timeout`."""
POLL_TIMEOUT_SECONDS = 5.0
"""How long a cancel waits for the poll before it, which queues behind those of the shared poller."""

# However `on_kill` ends, the cancel goes on: a task of its own does the work, and asyncio holds only weak references.
_detached: set[asyncio.Future[None]] = set()


_STORED = (
    *("gcp_conn_id", "impersonation_chain", "started", "deadline", "poll_interval", "exponential_backoff", "max_wait"),
    *("tolerant", "cancel_on_kill", "owner", "include_response"),
)


class OperationTrigger(BaseTrigger):
    """Waits until an operation has finished, or a deadline has passed.

    It polls nothing itself: all triggers of an event loop share one poller
    (:mod:`airflow_lro_provider.lro.shared_poller.watcher`), and each holds a future.

    :param reference: the operation, as :meth:`OperationReference.to_dict` gives it.
    :param gcp_conn_id: the Airflow connection; never a secret itself.
    :param impersonation_chain: the account to act as.
    :param started: when the wait began, in seconds since the epoch.
    :param deadline: the earliest deadline of the task, as :meth:`Deadline.to_dict` gives it. It is
        enforced here: Airflow enforces no execution_timeout on a deferred task, and calls no hook when
        a deferral times out.
    :param poll_interval: the ``interval`` of :class:`PollSchedule`, as the next three are its arguments, too.
    :param cancel_on_kill: cancel the operation when the task is killed, or at the deadline.
    :param owner: whose operation it is: ``dag_id``, ``run_id``, ``task_id``, ``map_index`` and ``token``.
    :param include_response: whether the event carries the operation's response.
    :param discreet: whether log and event have no words of the service: the start has sent secrets that it may quote,
        and only the task knows them. The task polls once more, at the end.
    :param before_serialize: called when Airflow serializes the trigger: the worker's last chance to call the deferral
        off, by raising. Not serialized itself.
    """

    before_serialize: Callable[[], None] = staticmethod(lambda: None)
    _is_over: bool = False  # the operation has finished, or the wait
    _polled_with: ConnectionSettings | None = None
    _killing: asyncio.Task[None] | None = None

    def __init__(
        self,
        *,
        reference: Mapping[str, Any],
        gcp_conn_id: str | None = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        started: float,
        deadline: Mapping[str, Any] | None = None,
        poll_interval: float | None = None,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        tolerant: bool = False,
        cancel_on_kill: bool = False,
        owner: Mapping[str, Any] | None = None,
        include_response: bool = True,
        discreet: bool = False,
        before_serialize: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._given = Given.of(reference, deadline, owner)
        self.gcp_conn_id = common_text(gcp_conn_id)
        self.impersonation_chain = impersonation_chain
        self.started = started
        self.poll_interval = poll_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.tolerant = tolerant
        self.cancel_on_kill = cancel_on_kill
        self.include_response = include_response
        self.discreet = discreet
        if before_serialize is not None:
            self.before_serialize = before_serialize

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that a cancel needs, and no secret."""
        self.before_serialize()
        return (
            "airflow_lro_provider.triggers.operations.OperationTrigger",
            {
                "reference": self._stored_reference,
                **{name: getattr(self, name) for name in _STORED},
                **({"discreet": True} if self.discreet else {}),  # triggerers of an older release do not know it
            },
        )

    @property
    def owner(self) -> dict[str, Any]:
        """Whose operation it is."""
        return self._given.part(*TaskKey._fields, "token")

    @property
    def deadline(self) -> dict[str, Any] | None:
        """The deadline, as it was given."""
        return self._given.part("at", "cause", "seconds") or None

    @property
    def _deadline(self) -> Deadline | None:
        return None if (given := self.deadline) is None else Deadline.from_dict(given)

    @property
    def log(self) -> Any:
        """One logger for all of them."""
        return type(self).logger()

    @property
    def reference(self) -> OperationReference:
        """The operation. Read late: what a trigger's constructor raises takes the whole triggerer down."""
        return OperationReference.from_dict(self._stored_reference)

    @property
    def _stored_reference(self) -> dict[str, Any]:
        return self._given.part("service", "version", "name", "host")

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire the event that wakes the task."""
        waiting: Subscription | None = None
        event: Event | None = None
        trouble = Trouble()
        notice_end_of_loop()
        pulse_of_loop()
        try:
            while event is None:
                try:
                    waiting = await self._join()
                    while isinstance(what := await waiting, str):  # at rest there is this frame, and a future
                        self._log_change(what)
                    event = await self._ended_with(what, waiting)
                except OperationsError as error:
                    event = await self._ended_by(error, waiting, trouble)
                if event is None:
                    if waiting is not None:
                        waiting.leave()
                        waiting = None
                    left = math.inf if self._deadline is None else self._deadline.at - time.time()
                    await asyncio.sleep(max(min(trouble.delay(), left), 0.0))
        except asyncio.CancelledError:
            if self._is_inline and self.cancel_on_kill and not self._is_over:
                await asyncio.shield(self._cancel("the run was interrupted (Ctrl-C)"))
            elif may_be_kill():
                await self.on_kill()
            raise  # always: Airflow calls on_kill only if it gets out
        finally:
            if waiting is not None:
                waiting.leave()
            if self._is_inline:
                await self.cleanup()
        # Before the event is out: Airflow calls on_kill also for a trigger that lingers after it.
        self._is_over = True
        yield TriggerEvent({**event.to_dict(), "owner": self.owner.get("token")})

    def _log_change(self, line: str) -> None:
        # Not in `run`: the logger inspects its frame, and what Python makes for that stays as long as the frame.
        self.log.info("%s: %s", line, self.reference.short)

    async def on_kill(self) -> None:
        """Cancel the operation of a task that was killed while deferred.

        Airflow 3.3 calls this also when the trigger only moves to another triggerer, so
        :func:`airflow_lro_provider.ownership.decisions.of_killed_trigger` decides first.
        """
        if self._is_over or not self.cancel_on_kill:
            return
        self._killing = asyncio.create_task(self._kill(), name=f"cancel of {self.reference.name}")
        _detached.add(self._killing)
        self._killing.add_done_callback(_detached.discard)
        patience = asyncio.get_running_loop().time() + KILL_PATIENCE_SECONDS
        while not self._killing.done():
            try:
                await asyncio.shield(self._killing)
            except asyncio.CancelledError:
                # Airflow 3.3.2 interrupts on_kill when it hears of the same kill again, a second later, and then
                # closes the task's log. The cancel would go on, but nobody could read its result.
                if asyncio.get_running_loop().time() > patience:
                    raise

    async def cleanup(self) -> None:
        """Let the connections be closed, if this was the last trigger that needed them."""
        await watcher_of_loop().settle()

    @property
    def _is_inline(self) -> bool:
        """Whether `dags test` runs it in its own process: that calls neither on_kill nor cleanup."""
        return self.trigger_id is None and self.task_instance is None

    async def _join(self) -> Subscription:
        reference = self.reference
        self._polled_with = settings = await self._settings(tries=1)
        watcher = watcher_of_loop()
        # The deadline is a moment for all machines; the watcher's clock is one that nobody sets.
        offset = watcher.clock() - time.time()
        watch = PollSchedule(
            started=self.started + offset,
            deadline=(ends := self._deadline) and replace(ends, at=ends.at + offset),
            interval=self.poll_interval,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait,
            tolerant=self.tolerant,
            discreet=self.discreet,
        )
        return await watcher.join(settings, reference, watch)

    async def _ended_with(self, operation: Operation, waiting: Subscription) -> Event:
        self._is_over = True  # before its response is taken
        deadline = waiting.schedule.deadline
        now = watcher_of_loop().clock()  # the clock of the schedule
        if self.cancel_on_kill and deadline is not None and waiting.schedule.cancelled_at_deadline(now):
            # A triggerer that died after its cancel, before its event, has left it to this one.
            return DeadlinePassed(deadline.cause, deadline.seconds, "CANCELLED", self._shown(operation))
        if self.discreet or not self.include_response:
            return Finished(self._shown(operation.without_response()))
        if operation.lacks_response:
            try:
                async with await self._make_client() as client:
                    operation = await client.take_response(self.reference, operation)
            except OperationsError as error:
                operation = operation.without_response(
                    f"The operation succeeded, but its response was not taken: {error}"
                )
        return Finished(operation)

    def _shown(self, operation: Operation) -> Operation:
        return outline(operation) if self.discreet else operation

    async def _make_client(self) -> AsyncOperationsClient:
        from airflow_lro_provider.lro.async_client import AsyncOperationsClient

        settings = await self._settings()
        again = {"read_settings": lambda: self._settings(tries=1), "on_trouble": self._log_change}
        return await AsyncOperationsClient.create(settings, metrics=METRICS, **again)

    async def _ended_by(self, error: OperationsError, waiting: Subscription | None, trouble: Trouble) -> Event | None:
        """What an error means for the task; ``None`` if it is trouble of our own, which ends nothing."""
        if isinstance(error, WaitTimeoutError) and waiting is not None:
            deadline, last = waiting.schedule.deadline, waiting.schedule.last
            assert deadline is not None
            cancellation = None
            if self.cancel_on_kill and await self._is_due():
                result = await self._cancel(str(error))
                if result is not None and result.operation is not None and result.operation.done:
                    # Finished since the last poll: its result is not thrown away.
                    waiting.schedule.observe(result.operation)
                    return await self._ended_with(result.operation, waiting)
                cancellation = "REFUSED" if result is None else result.word
            seen = last and self._shown(last)
            return DeadlinePassed(deadline.cause, deadline.seconds, cancellation, seen, error.last_error)
        if waiting is not None and waiting.schedule.last is not None:
            trouble.clear()  # it has polled since
        try:
            line = trouble.note(error, time.time())
        except OperationsError:  # what the service denies is believed of the same server and account only
            if not await self._has_changed():
                return Gone(str(error)) if isinstance(error, NotFoundError) else Lost(str(error))
            line = f"polling again, the connection has changed: {error}"
        if line:
            self._log_change(line)
        if (deadline := self._deadline) is not None and time.time() >= deadline.at:
            return DeadlinePassed(deadline.cause, deadline.seconds, None, None, str(error))  # the task cancels it
        return None

    async def _settings(self, tries: int = CONNECTION_TRIES) -> ConnectionSettings:
        """The connection's settings, read anew: they may have changed since the task read them.

        :raises OperationsError: if there are none. Anything else would end the trigger without an event, and the task
            would not even know which operation it had.
        """
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(CONNECTION_PAUSE_SECONDS)
            try:
                return await settings_of(self.gcp_conn_id, self.impersonation_chain)
            except ConnectionSettingsError as error:
                last = error
        raise last

    async def _has_changed(self) -> bool:
        """Whether the connection cannot be read, or says something else than what was polled with."""
        with contextlib.suppress(OperationsError):
            return self._polled_with is not None and await self._settings(tries=1) != self._polled_with
        return True

    async def _cancel(self, reason: str) -> CancelResult | None:
        """Request the cancellation, and log the result.

        :return: ``None`` if it was not accepted, or nobody knows.
        """
        from airflow_lro_provider.lro.cancel import cancel_level, cancel_line

        reference, begun = self.reference, time.monotonic()
        try:
            async with await self._make_client() as client:
                # The evidence may have taken Airflow some time: meanwhile the operation may have succeeded.
                before = None
                with contextlib.suppress(OperationsError, asyncio.TimeoutError):
                    before = await asyncio.wait_for(client.poll(reference, retries=0), POLL_TIMEOUT_SECONDS)
                result = await client.cancel(reference, before=before, poll=False, patience=CANCEL_PATIENCE_SECONDS)
        except OperationsError as error:
            self.log.warning(cancel_line(reference, error, reason))
            return None
        shown = replace(result, operation=result.operation and self._shown(result.operation))
        took = time.monotonic() - begun
        self.log.log(cancel_level(result), cancel_line(reference, shown, reason, took=took))
        return result

    async def _kill(self) -> None:
        try:
            stood_still = pulse_of_loop().has_stood_still(self.started)
            decision, evidence = await self._decide(functools.partial(of_killed_trigger, stood_still=stood_still))
            if decision is Decision.CANCEL:
                await self._cancel(f"killed while deferred: {evidence}")
            elif decision is Decision.OWN:
                self.log.info("Not cancelled here, its task sees to it (%s): %s", evidence, self.reference.short)
            else:
                self.log.warning(
                    "NOT cancelled, because it is unknown whether its task is alive (%s). If it is not, its next try or"
                    " the sweep cancels the operation; else cancel it by hand: %s",
                    evidence,
                    self.reference.short,
                )
        except Exception:
            self.log.exception("The cancellation failed: %s", self.reference.short)

    async def _is_due(self) -> bool:
        """Whether the operation is to be cancelled at the deadline: see :func:`decisions.of_deadline`."""
        decision, _ = (Decision.CANCEL, "") if self._is_inline else await self._decide(of_deadline, tries=1)
        return decision is Decision.CANCEL

    async def _decide(self, decide: Callable[..., Decision], tries: int | None = None) -> tuple[Decision, str]:
        """Whose the operation is now, and the evidence in words."""
        key, mine = TaskKey.from_dict(self.owner), self._given.token
        if key is None or mine is None:
            return Decision.UNSURE, "the trigger was created without an owner"
        state: TaskState = Evidence.UNKNOWN
        token: str | Evidence = Evidence.UNKNOWN
        decision = Decision.UNSURE
        for attempt in range(DECISION_TRIES if tries is None else tries):
            if attempt:
                await asyncio.sleep(min(2.0**attempt, 10.0))
            state, token = await task_state(key), Evidence.UNKNOWN
            decision = decide(task_state=state, owner_token=token, my_token=mine)
            if decision is Decision.UNSURE:  # the state alone does not decide
                token = await owner_token(key, mine)
                decision = decide(task_state=state, owner_token=token, my_token=mine)
            if decision is not Decision.UNSURE:
                break
        return decision, describe(state, token, mine)
