"""What Airflow knows of the task that owns an operation: its state, and the token of the try that owns it.

A response that does not come is :attr:`Evidence.UNKNOWN`, never a guess. When a triggerer loses a thousand triggers
to another one, all of them need it at once, so states are requested in batches (:func:`plan_queries`). Tokens cannot
be: Airflow 3.3 gives out XComs one by one. They are requested only where the state leaves the decision open.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from airflow_lro_provider.ownership.decisions import ADOPTER, GONE, KILLED, NONE, UNKNOWN, WOKEN, Evidence, TaskState
from airflow_lro_provider.ownership.tries import is_younger

if TYPE_CHECKING:
    from airflow_lro_provider.lro.resources.names import OperationReference

# `airflow_compat.task_states` is imported in functions: a Dag's parse needs `TaskKey`, and not what that imports.

OWNER_KEY = "operation_owner"
"""XCom key of the owner token: which try of the task a deferred operation belongs to."""
TIMEOUT_SECONDS = 15.0
"""How long one request to the supervisor may take."""
BATCHING_SECONDS = 0.05
"""Batching window: how long requests for states are collected."""
MAX_CONCURRENT = 3
"""Requests in flight at a time: they share the threads of the loop with whoever renews a token."""
ASK_AGAIN_SECONDS = 0.2
"""The pause before Airflow is asked again what it has denied once: see :func:`ask_twice`."""
MAX_IDS = 100
"""Runs or tasks in one query at most: it becomes a URL."""

_TOLD: Mapping[TaskState, str] = {
    "failed": "it, or its run, was marked failed",
    "success": "it, or its run, was marked success",
    "skipped": "it was marked skipped, or its run timed out",
    "restarting": "it was cleared",
    "removed": "its Dag does not have it any more",
    GONE: "it was deleted",
    "running": "its worker shuts down, or its process was sent SIGTERM",
}
_T = TypeVar("_T")
_Fetch = Callable[[str, Sequence[str], Sequence[str], "int | None"], Mapping[str, Mapping[str, Any]]]


class TaskKey(NamedTuple):
    """A task instance, whatever its try.

    :param map_index: of a mapped task, else -1.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @classmethod
    def of(cls, ti: Any) -> TaskKey:
        """The key of Airflow's running task instance."""
        return cls(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TaskKey | None:
        """Read a key from a mapping with its fields; ``None`` if one is missing or has the wrong type."""
        dag_id, run_id, task_id, map_index = (stored.get(field) for field in cls._fields)
        if not (isinstance(dag_id, str) and isinstance(run_id, str) and isinstance(task_id, str)):
            return None
        return cls(dag_id, run_id, task_id, map_index) if isinstance(map_index, int) else None

    @property
    def label(self) -> str:
        """What Airflow calls it among the states of a run."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"


def describe(task_state: TaskState, owner_token: TaskState, my_token: str) -> str:
    """The evidence about a deferred task, for a log."""
    if task_state != "deferred" and task_state not in WOKEN:
        return describe_state(task_state)  # the token does not matter
    owner = {
        my_token: "this try has it",
        ADOPTER: "another try sees to it",
        NONE: "no try has it",
        UNKNOWN: "which try has it is not known",
    }
    return f"{describe_state(task_state)}, {owner.get(owner_token, 'another try has it')}"


def describe_state(task_state: TaskState) -> str:
    """What Airflow says of a task, for a log."""
    if task_state is UNKNOWN:
        return "the state of its task is not known"
    if task_state is NONE:
        return "its task has no state, as after a clear"
    return f"its task is {'deleted' if task_state is GONE else task_state}"


def told_to_stop(task_state: TaskState) -> str:
    """Who told a running task to stop, as far as its state tells by then: no Airflow tells a task which user."""
    told = _TOLD.get(task_state)
    return f"Airflow told this task to stop: {told}" if told else KILLED


@dataclass(frozen=True)
class StateQuery:
    """One request for the states of some task instances of a Dag: of these runs, times these tasks.

    :param map_index: -1 for tasks that are not mapped, ``None`` for all instances of a mapped one.
    :param keys: the task instances that it is about.
    """

    dag_id: str
    run_ids: tuple[str, ...]
    task_ids: tuple[str, ...]
    map_index: int | None
    keys: tuple[TaskKey, ...]

    @classmethod
    def of(cls, keys: Sequence[TaskKey], map_index: int | None) -> StateQuery:
        """The query about some task instances of one Dag."""
        return cls(
            keys[0].dag_id,
            tuple(dict.fromkeys(key.run_id for key in keys)),
            tuple(dict.fromkeys(key.task_id for key in keys)),
            keys[0].map_index if len(keys) == 1 else map_index,
            tuple(keys),
        )

    def run(self, fetch: _Fetch) -> dict[TaskKey, TaskState]:
        """Fetch the states. Blocks if ``fetch`` does; a failure makes them unknown."""
        try:
            found = fetch(self.dag_id, self.task_ids, self.run_ids, self.map_index)
            return {key: self._state(found, key) for key in self.keys}
        except Exception:  # of Airflow, of any kind
            return dict.fromkeys(self.keys, Evidence.UNKNOWN)

    @staticmethod
    def _state(found: Mapping[str, Mapping[str, Any]], key: TaskKey) -> TaskState:
        states = found.get(key.run_id) or {}
        if key.label not in states:
            return Evidence.GONE
        state = states[key.label]
        return Evidence.NONE if state is None else str(getattr(state, "value", state))


def plan_queries(keys: Iterable[TaskKey]) -> Iterator[StateQuery]:
    """As few queries as possible for the states of these task instances, each of them in one.

    A mapped task has a query of its own, because in a response the instance 1 of the task ``a`` and the
    task ``a_1`` have the same name.
    """
    groups: dict[tuple[str, str | None], list[TaskKey]] = {}
    for key in dict.fromkeys(keys):
        groups.setdefault((key.dag_id, None if key.map_index < 0 else key.task_id), []).append(key)
    for (_, mapped), group in groups.items():
        by_run, by_task = _by(group, "run_id"), _by(group, "task_id")
        if mapped is not None:
            yield from _cut(by_run, None)
            continue
        # Never runs times tasks: states that nobody has requested would be in the response, too.
        few, many = (by_run, "task_id") if len(by_run) <= len(by_task) else (by_task, "run_id")
        for part in few.values():
            yield from _cut(_by(part, many), -1)


def _by(keys: Iterable[TaskKey], field: str) -> dict[str, list[TaskKey]]:
    found: dict[str, list[TaskKey]] = {}
    for key in keys:
        found.setdefault(getattr(key, field), []).append(key)
    return found


def _cut(groups: Mapping[str, list[TaskKey]], map_index: int | None) -> Iterator[StateQuery]:
    """Queries about keys that differ in one field (and the map index), grouped by it, in pieces."""
    parts = list(groups.values())
    for first in range(0, len(parts), MAX_IDS):
        yield StateQuery.of([key for part in parts[first : first + MAX_IDS] for key in part], map_index)


def query_states(keys: Iterable[TaskKey], fetch: _Fetch) -> dict[TaskKey, TaskState]:
    """The states of these task instances, in as few requests as possible. Blocks.

    :param fetch: requests states, as :func:`airflow_compat.task_states.task_states`.
    """
    return {key: state for query in plan_queries(keys) for key, state in query.run(fetch).items()}


# -- the owner token ------------------------------------------------------------------------------------


def new_owner_token(ti: Any, reference: OperationReference) -> str:
    """A token for one deferral of a try; it says which of two tries is the younger one, and which operation it has."""
    from airflow_lro_provider.airflow_compat.task_process import try_id
    from airflow_lro_provider.lro.resources.names import fingerprint_of

    return f"{try_id(ti)}/{fingerprint_of(reference.service, reference.name)}/{uuid.uuid4().hex}"


def judge_owner(found: str | Evidence, mine: str) -> str | Evidence:
    """What the token in XCom says: another's, :data:`decisions.ADOPTER`, or mine, also if it is an older try's.

    A process may write XComs, whatever its task is by now. So one of an earlier try may overwrite the token of the try
    that came after it: if its machine stood still, or another scheduler has begun the task anew.
    """
    if isinstance(found, Evidence) or found == mine:
        return found
    theirs, ours = found.split("/"), mine.split("/")
    if len(theirs) != len(ours) or len(ours) != 3:
        return found  # of another release
    if is_younger(ours[0], theirs[0]):
        return mine
    return ADOPTER if theirs[1] == ours[1] else found


# -- within Airflow, from a task process ----------------------------------------------------------------


def ask_twice(ask: Callable[[], _T], *, denies: Callable[[_T], bool] = lambda response: response is None) -> _T:
    """Ask Airflow for something, and again if the response is that there is none: one is no evidence. Blocks.

    :param denies: whether that is what a response says.
    """
    response = ask()
    if not denies(response):
        return response
    time.sleep(ASK_AGAIN_SECONDS)
    return ask()


def read_task_state(key: TaskKey) -> TaskState:
    """Airflow's state of a task instance. Blocks."""
    query = StateQuery.of([key], None)
    return ask_twice(lambda: _read_states(query)[key], denies=lambda state: state is Evidence.GONE)


def _read_states(query: StateQuery) -> dict[TaskKey, TaskState]:
    from airflow_lro_provider.airflow_compat.task_states import task_states

    return query.run(task_states)


def read_owner_token(key: TaskKey, mine: str) -> str | Evidence:
    """The token of the try that deferred last: see :func:`judge_owner`. Blocks."""
    from airflow_lro_provider.airflow_compat.task_states import xcom

    try:
        token = ask_twice(lambda: xcom(OWNER_KEY, *key))
    except Exception:  # of Airflow, of any kind
        return Evidence.UNKNOWN
    return judge_owner(Evidence.NONE if token is None else str(token), mine)


# -- within Airflow, from the event loop of a triggerer -------------------------------------------------


async def task_state(key: TaskKey) -> TaskState:
    """:func:`read_task_state` in a thread, together with all that are requested at the same time."""
    state = await _batcher().add(key)
    if state is not Evidence.GONE:
        return state
    await asyncio.sleep(ASK_AGAIN_SECONDS)  # as `ask_twice`
    return await _batcher().add(key)


async def owner_token(key: TaskKey, mine: str) -> str | Evidence:
    """:func:`read_owner_token` in a thread."""
    async with _batcher().turn:
        token = await _in_time(lambda key: read_owner_token(key, mine), key)
    return Evidence.UNKNOWN if token is None else token


class _Batcher:
    """The requests of one event loop."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(MAX_CONCURRENT)
        self._waiting: dict[TaskKey, list[asyncio.Future[TaskState]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, key: TaskKey) -> asyncio.Future[TaskState]:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(BATCHING_SECONDS, self._send, context=contextvars.Context())
        self._waiting.setdefault(key, []).append(loop.create_future())
        return self._waiting[key][-1]

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for query in plan_queries(waiting):
            task = asyncio.ensure_future(self._run(query, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, query: StateQuery, waiting: Mapping[TaskKey, list[asyncio.Future[TaskState]]]) -> None:
        states: dict[TaskKey, TaskState] = {}
        try:
            async with self.turn:
                states = await _in_time(_read_states, query) or {}
        finally:  # whatever goes wrong, nobody waits for ever
            for key in query.keys:
                for future in waiting[key]:
                    if not future.done():
                        future.set_result(states.get(key, Evidence.UNKNOWN))


_batchers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Batcher] = WeakKeyDictionary()


def _batcher() -> _Batcher:
    return _batchers.setdefault(asyncio.get_running_loop(), _Batcher())


async def _in_time(read: Callable[[Any], _T], about: Any) -> _T | None:
    from airflow_lro_provider.airflow_compat.trigger_loop import ask_in_thread

    try:
        return await asyncio.wait_for(ask_in_thread(lambda: read(about)), TIMEOUT_SECONDS)
    except asyncio.TimeoutError:
        return None
