"""The trigger that waits for one long-running operation, and cancels it when its task is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.triggers.base import BaseTrigger, TriggerEvent

# Before any wait: importing it within `on_kill` takes seconds.
from airflow_lro_provider.airflow_compat import task_states  # noqa: F401
from airflow_lro_provider.hooks.operations import DEFAULT_CONN_ID
from airflow_lro_provider.lro.errors import ConnectionSettingsError, NotFoundError, OperationsError, WaitTimeoutError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import Deadline, PollSchedule
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.ownership.decisions import Decision, Evidence, TaskState, describe, of_killed_trigger
from airflow_lro_provider.ownership.evidence import TaskKey, owner_token, task_state
from airflow_lro_provider.triggers.events import DeadlinePassed, Event, Finished, Gone, Lost, without_response
from airflow_lro_provider.triggers.shared import METER, settings_of, watcher_of_loop

if TYPE_CHECKING:
    from airflow_lro_provider.lro.async_client import AsyncOperationsClient
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.shared_poller.watcher import Waiting

__all__ = ["OperationTrigger"]

QUESTION_TRIES = 5
"""How often the ownership question is asked before it counts as unanswerable."""
CONNECTION_TRIES = 5
"""How often Airflow is asked for the connection: it says "not defined" also when a secrets backend is down."""
PAUSE = 5.0
"""Between two of these, in seconds."""

KILL_PATIENCE = 20.0
"""How long `on_kill` goes on although it was cancelled itself, in seconds: less than Airflow's `on_kill_timeout`."""

LOOK_PATIENCE = 5.0
"""How long a cancel waits for the look before it, in seconds: that stands in line behind those of the watcher."""

# However `on_kill` ends, the cancel goes on: the work is done by a task of its own, and somebody has to hold on to it.
_detached: set[asyncio.Future[None]] = set()


class _Given(NamedTuple):
    """A trigger's arguments that are dicts, in little memory, for thousands of triggers wait in one process.

    A tuple takes half of what a dict does. A field that was not given is ``None``.
    """

    service: Any = None
    version: Any = None
    name: Any = None
    host: Any = None
    at: Any = None
    cause: Any = None
    seconds: Any = None
    dag_id: Any = None
    run_id: Any = None
    task_id: Any = None
    map_index: Any = None
    token: Any = None

    @classmethod
    def of(cls, *parts: Mapping[str, Any] | None) -> _Given:
        given = {key: value for part in parts if part for key, value in part.items() if key in cls._fields}
        return cls(**{key: value if key in ("name", "token") else _common(value) for key, value in given.items()})

    def part(self, *fields: str) -> dict[str, Any]:
        return {field: value for field in fields if (value := getattr(self, field)) is not None}


def _common(value: Any) -> Any:
    """The same value; a text that many triggers have in common is one object for all of them."""
    return _kept_once(value) if isinstance(value, str) else value


@lru_cache(maxsize=10_000)
def _kept_once(text: str) -> str:
    return text


class OperationTrigger(BaseTrigger):
    """Waits until an operation is over, or a deadline has passed.

    It asks for nothing itself: all triggers of a loop share one watcher
    (:mod:`airflow_lro_provider.lro.shared_poller.watcher`), and each holds a future.

    :param reference: the operation, as :meth:`OperationReference.to_dict` gives it.
    :param gcp_conn_id: the Airflow connection; never a secret itself.
    :param impersonation_chain: the account to act as.
    :param started: when the wait began, in seconds since the epoch.
    :param deadline: the earliest deadline of the task, as :meth:`Deadline.to_dict` gives it. It is
        enforced here: Airflow enforces no execution_timeout on a deferred task, and calls no hook when
        a deferral times out.
    :param poll_interval: seconds between two looks; if ``None`` it grows with the age of the wait.
    :param exponential_backoff: double the interval with every look.
    :param max_wait: no interval is longer than this, in seconds.
    :param tolerant: no error ends the wait (a sensor's ``silent_fail``).
    :param cancel_on_kill: cancel the operation when the task is killed, or at the deadline.
    :param owner: whose operation it is: ``dag_id``, ``run_id``, ``task_id``, ``map_index`` and ``token``.
    :param include_response: whether the response belongs into the event.
    """

    # Thousands of them wait in one process, so what is the same for all is kept once.
    before_serialize: Callable[[], None] = staticmethod(lambda: None)
    """Called when Airflow serializes the trigger: the worker's last chance to call a deferral off."""
    _over: bool = False
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
    ) -> None:
        super().__init__()
        self._given = _Given.of(reference, deadline, owner)
        self.gcp_conn_id = _common(gcp_conn_id)
        self.impersonation_chain = impersonation_chain
        self.started = started
        self.poll_interval = poll_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.tolerant = tolerant
        self.cancel_on_kill = cancel_on_kill
        self.include_response = include_response

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Everything that a cancel needs, and no secret."""
        self.before_serialize()
        return (
            "airflow_lro_provider.triggers.operations.OperationTrigger",
            {
                "reference": self._stored_reference,
                "gcp_conn_id": self.gcp_conn_id,
                "impersonation_chain": self.impersonation_chain,
                "started": self.started,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
                "exponential_backoff": self.exponential_backoff,
                "max_wait": self.max_wait,
                "tolerant": self.tolerant,
                "cancel_on_kill": self.cancel_on_kill,
                "owner": self.owner,
                "include_response": self.include_response,
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
        """Wait, then tell the task what came."""
        waiting: Waiting | None = None
        try:
            try:
                waiting = await self._join()
                while isinstance(what := await waiting, str):  # at rest there is this frame, and a future
                    self._tell(what)
            except OperationsError as error:
                event = await self._ended_by(error, waiting)
            else:
                event = self._ended_with(what, waiting)
        except asyncio.CancelledError:
            if self._is_inline and self.cancel_on_kill:
                await asyncio.shield(self._cancel("the run was interrupted (Ctrl-C)"))
            raise  # always: Airflow calls on_kill only if it gets out
        finally:
            if waiting is not None:
                waiting.leave()
            if self._is_inline:
                await self.cleanup()
        # Before the event is out: on_kill comes also to a trigger that lingers after it.
        self._over = True
        yield TriggerEvent({**event.to_dict(), "owner": self.owner.get("token")})

    def _tell(self, what: str) -> None:
        # Not in `run`: the logger would look at its frame, and what Python makes for that stays as long as the frame.
        self.log.info("%s: %s", self._stored_reference.get("name"), what)

    async def on_kill(self) -> None:
        """Cancel the operation of a task that was killed while deferred.

        Airflow 3.3 calls this also when the trigger only moves to another triggerer, so the task is
        asked for first whether it still is the same one. See :mod:`airflow_lro_provider.ownership.decisions`.
        """
        if self._over or not self.cancel_on_kill:
            return
        self._killing = asyncio.create_task(self._kill(), name=f"cancel of {self.reference.name}")
        _hold(self._killing)
        patience = asyncio.get_running_loop().time() + KILL_PATIENCE
        while not self._killing.done():
            try:
                await asyncio.shield(self._killing)
            except asyncio.CancelledError:
                # Airflow 3.3.2 interrupts on_kill when it is told of the same kill again, a second later, and then
                # closes the task's log. The cancel would go on, but nobody could read what came of it.
                if asyncio.get_running_loop().time() > patience:
                    raise

    async def cleanup(self) -> None:
        """See the connections closed, if this was the last trigger that needed them."""
        await watcher_of_loop().settle()

    @property
    def _is_inline(self) -> bool:
        """Whether `dags test` runs it in its own process: that calls neither on_kill nor cleanup."""
        return self.trigger_id is None and self.task_instance is None

    async def _join(self) -> Waiting:
        reference, settings = self.reference, await self._settings()
        watcher = watcher_of_loop()
        # The deadline is a moment for all machines; the watcher's clock is one that nobody sets.
        offset = watcher.clock() - time.time()
        deadline = None if (given := self.deadline) is None else Deadline.from_dict(given)
        watch = PollSchedule(
            started=self.started + offset,
            deadline=None if deadline is None else replace(deadline, at=deadline.at + offset),
            interval=self.poll_interval,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait,
            tolerant=self.tolerant,
        )
        return await watcher.join(settings, reference, watch)

    def _shown(self, operation: Operation) -> Operation:
        return operation if self.include_response else without_response(operation)

    def _ended_with(self, operation: Operation, waiting: Waiting) -> Event:
        deadline = waiting.watch.deadline
        # The watch ran on the watcher's clock, and so does this question.
        if self.cancel_on_kill and deadline is not None and waiting.watch.fell_to_its_deadline(waiting.now()):
            return DeadlinePassed(deadline.cause, deadline.seconds, True, self._shown(operation))
        return Finished(self._shown(operation))

    async def _ended_by(self, error: OperationsError, waiting: Waiting | None) -> Event:
        if isinstance(error, WaitTimeoutError) and waiting is not None:
            deadline, last = waiting.watch.deadline, waiting.watch.last
            assert deadline is not None
            came = self.cancel_on_kill and await self._cancel(str(error))
            if isinstance(came, Operation):  # over since the last look: what it came to is not thrown away
                waiting.watch.saw(came)
                return self._ended_with(came, waiting)
            return DeadlinePassed(deadline.cause, deadline.seconds, came, None if last is None else self._shown(last))
        if isinstance(error, NotFoundError):
            return Gone(str(error))
        return Lost(str(error))

    async def _settings(self) -> ConnectionSettings:
        """What the connection says, with some patience for Airflow. It may have been changed since the task read it.

        :raises OperationsError: if there is none. Anything else would end the trigger, and the task with it, which
            would not even be told which operation it had.
        """
        for attempt in range(CONNECTION_TRIES):
            if attempt:
                await asyncio.sleep(PAUSE)
            try:
                return await settings_of(self.gcp_conn_id, self.impersonation_chain)
            except ConnectionSettingsError as error:
                last: OperationsError = error
            except OperationsError:
                raise
            except Exception as error:  # its text may hold what the connection holds
                last = ConnectionSettingsError(
                    f"connection {self.gcp_conn_id!r} cannot be had from Airflow: {type(error).__name__}."
                )
        raise last

    async def _cancel(self, because: str) -> Operation | bool:
        """Ask for the cancellation, and log what came of it.

        :return: the operation if it was over already, else whether the service took the request.
        """
        from airflow_lro_provider.lro.async_client import AsyncOperationsClient
        from airflow_lro_provider.lro.flows import cancel_line

        reference = self.reference
        try:
            settings = await self._settings()
            async with await AsyncOperationsClient.create(settings, metrics=METER) as client:
                # Airflow may have taken its time to say whose the operation is: meanwhile it may have ended well.
                before = await self._poll_briefly(client, reference)
                result = await client.cancel(reference, before=before, look=False)
        except OperationsError as error:
            self.log.warning(cancel_line(reference, error, because))
            return False
        self.log.info(cancel_line(reference, result, because))
        over = result.operation if result.operation is not None and result.operation.done else None
        return over or result.requested

    @staticmethod
    async def _poll_briefly(client: AsyncOperationsClient, reference: OperationReference) -> Operation | None:
        """The operation; ``None`` if nobody says so at once."""
        try:
            return await asyncio.wait_for(client.get(reference, retries=0), LOOK_PATIENCE)
        except (OperationsError, asyncio.TimeoutError):
            return None

    async def _kill(self) -> None:
        try:
            decision, evidence = await self._decide()
            if decision is Decision.CANCEL:
                await self._cancel(f"its task was killed while deferred ({evidence})")
            elif decision is Decision.OWN:
                self.log.info("%s is not cancelled: its task goes on with it (%s).", self.reference, evidence)
            else:
                self.log.warning(
                    "%s is NOT cancelled, because it cannot be known whether its task lives (%s)."
                    " If it does not, its next try or the sweep cancels it; else cancel it by hand.",
                    self.reference,
                    evidence,
                )
        except Exception:
            self.log.exception("The cancel of %s failed", self.reference)

    async def _decide(self) -> tuple[Decision, str]:
        """Whether the task is dead, and by which evidence."""
        key, mine = TaskKey.from_dict(self.owner), self._given.token
        if key is None or mine is None:
            return Decision.UNSURE, "the trigger was created without an owner"
        state: TaskState = Evidence.UNKNOWN
        token: str | Evidence = Evidence.UNKNOWN
        decision = Decision.UNSURE
        for attempt in range(QUESTION_TRIES):
            if attempt:
                await asyncio.sleep(min(2.0**attempt, 10.0))
            state, token = await task_state(key), Evidence.UNKNOWN
            decision = of_killed_trigger(task_state=state, owner_token=token, my_token=mine)
            if decision is Decision.UNSURE:  # the state alone does not tell
                token = await owner_token(key)
                decision = of_killed_trigger(task_state=state, owner_token=token, my_token=mine)
            if decision is not Decision.UNSURE:
                break
        return decision, describe(state, token, mine)


def _hold(task: asyncio.Future[None]) -> None:
    _detached.add(task)
    task.add_done_callback(_detached.discard)
