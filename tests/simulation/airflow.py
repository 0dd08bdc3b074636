"""Airflow 3.3 in the simulated world: one task, its tries, their supervisors, a scheduler, two triggerers, the sweep.

What it does was read and measured (``tests/e2e/test_verdict.py``): a retry, a clear and a reset give the task instance
a new id; a process whose task instance is not running under its id any more is told to stop at its next heartbeat, and
is killed five seconds later; a trigger that is taken away hears of a kill, whatever the reason was.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from airflow.exceptions import AirflowNotFoundException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    Connection,
    TaskDeferred,
)

from airflow_lro_provider.airflow_compat import record_store, task_states
from airflow_lro_provider.airflow_compat.exceptions import AirflowRescheduleException
from airflow_lro_provider.attempt import canceller, deferral, guard, record
from airflow_lro_provider.attempt.task import OperationTask
from airflow_lro_provider.hooks import operations as hooks
from airflow_lro_provider.lro import async_client
from airflow_lro_provider.lro import threads as threads_of_the_package
from airflow_lro_provider.lro.http.session import BoundedSession
from airflow_lro_provider.lro.resources.methods import new_request_id
from airflow_lro_provider.ownership.evidence import OWNER_KEY
from airflow_lro_provider.sweep import ledger
from airflow_lro_provider.sweep.reconciler import FromWithin, sweep
from airflow_lro_provider.triggers.operations import OperationTrigger
from tests.airflow.played import NoVariable
from tests.airflow.versions import may_execute
from tests.simulation.service import Service
from tests.simulation.world import Process, SimulatedFuture, Thread, World, current, is_here, pause, run_loop

HEARTBEAT = 5.0
GRACE = 5.0
"""From SIGTERM to SIGKILL."""
MISSED = 20.0
"""Seconds without a heartbeat after which a task, or a triggerer, counts as lost."""
FINAL = ("success", "failed", "skipped")
TASK = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
_T = TypeVar("_T")


class LostError(Exception):
    """Airflow has not answered."""


class RejectedError(Exception):
    """The task instance is not known under this id any more: Airflow answers 404."""

    error = SimpleNamespace(detail={"status_code": 404})


class Airflow:
    """One task instance, and everything that runs it.

    :param make: makes the operator, as a Dag file does.
    :param retries: how many retries the task has.
    """

    def __init__(self, world: World, service: Service, make: Callable[[], Any], *, retries: int) -> None:
        self.world, self.service, self._make, self.retries = world, service, make, retries
        self.id = _id(world)
        self.state: str | None = "scheduled"
        self.try_number, self.max_tries = 1, retries
        self.resumes: tuple[str, dict[str, Any]] | None = None
        self.retry_at = self.heartbeat_at = 0.0
        self.xcoms: dict[str, Any] = {}
        self.stored: dict[str, Any] = {}
        self.variables: dict[str, str] = {}
        self.trigger: tuple[int, dict[str, Any], int, tuple[str, dict[str, Any]]] | None = None
        self.triggers = 0
        self.lost_until = 0.0
        self.lost_question = 0
        """Which question from now on gets no answer; 0: none."""
        self.lost_share = 0.0
        """How many of all questions get none."""
        self.num_retries = 5
        """What the connection says of the service."""
        self.deaths: list[tuple[float, int]] = []
        """When the task was killed, or had failed for good, and its try: what that one and all before it have started
        may be cancelled from then on."""
        self.worker: Worker | None = None
        self.is_quiet = False
        """Whether all trouble has ended."""
        self.has_owned = False
        """Whether a try has ever left a record. A sensor that was killed before it could has owned nothing."""
        self.written: list[str] = []
        """All that was ever written into records and into the ledger."""
        self.recorded: list[str] = []
        """The same of records alone, which the next try reads."""
        self.began: list[tuple[float, int]] = []
        """When each try began to run."""
        self.has_hopeless_orphan = False
        """Whether a process without a supervisor, to which Airflow owes no retry, may live: it can ask nobody, takes
        the task for failed, and cancels what it has."""
        self.log: list[str] = []
        self.triggerers: list[Process] = []
        self.triggerer_seen = [world.now, world.now]
        service.task_state, service.has_owned = lambda: self.state, lambda: self.has_owned
        self.scheduler = Process(world, "scheduler", self._schedule)
        for index in range(2):
            self.triggerers.append(self._new_triggerer(index))

    def note(self, line: str) -> None:
        """Log what happens."""
        self.log.append(f"{self.world.now:10.3f} {line}")

    # -- what a person does ------------------------------------------------------------------------

    def mark(self, state: str) -> None:
        """Mark the task as failed or successful."""
        self.note(f"marked {state}")
        self.deaths.append((self.world.time, self.try_number))
        self.state, self.trigger = state, None

    def clear(self) -> None:
        """Clear it."""
        self.note("cleared")
        self.deaths.append((self.world.time, self.try_number))
        self.id = _id(self.world)
        self.trigger = None
        if self.state == "running":
            self.state = "restarting"
        elif self.state != "restarting":
            self.max_tries = self.try_number + self.retries
            self.state, self.resumes = None, None

    # -- what happens to it ------------------------------------------------------------------------

    def reset(self) -> None:
        """Another scheduler finds the task of a dead one, and begins it anew."""
        if self.state in ("running", "queued") and not self.has_hopeless_orphan:
            self.note("reset by another scheduler")
            self.id, self.state, self.resumes = _id(self.world), None, None

    def fail(self) -> None:
        """A try has failed."""
        if self.state == "restarting" or self.try_number <= self.max_tries:
            if self.state == "running":
                self.id = _id(self.world)
            self.state, self.retry_at = "up_for_retry", self.world.now + 1
        else:
            self.state = "failed"
            self.deaths.append((self.world.time, self.try_number))
        self.resumes = None
        self.note(f"a try has failed: {self.state}")

    def end(self, worker: Worker, how: str, deferred: Any = None, why: str = "") -> bool:
        """A process reports how it has ended; returns whether that is accepted."""
        if worker.try_id != self.id or self.state != "running":
            self.note(f"try {worker.number} reports {how}: refused")
            return False
        self.note(f"try {worker.number} reports {how}")
        if how == "deferred":
            trigger, method, kwargs = deferred
            self.triggers += 1
            self.state = "deferred"
            self.trigger = (self.triggers, trigger, self.triggers % 2, (method, kwargs))
        elif how == "failed":
            self.fail()
        elif how == "up_for_reschedule":
            self.state, self.retry_at = how, self.world.now + 2
        else:
            if how == "failed for good" and (self.try_number > self.max_tries or "cancelled" in why):
                self.deaths.append((self.world.time, self.try_number))
            self.state = {"failed for good": "failed"}.get(how, how)
        return True

    def fire(self, number: int, payload: Any) -> None:
        """A trigger has fired."""
        if self.state == "deferred" and self.trigger is not None and self.trigger[0] == number:
            method, kwargs = self.trigger[3]
            self.note(f"trigger {number} fires {payload.get('status')}")
            self.state, self.trigger = "scheduled", None
            self.resumes = (method, {**kwargs, "event": payload})

    # -- processes ---------------------------------------------------------------------------------

    def _schedule(self) -> None:
        while True:
            pause(1.0)
            now = self.world.now
            if self.state == "restarting" and (self.worker is None or not self.worker.process.is_alive):
                self.fail()
            if self.state == "up_for_reschedule" and now >= self.retry_at:
                self.state = "scheduled"  # the same try goes on
            if self.state is None or (self.state == "up_for_retry" and now >= self.retry_at):
                self.state = "scheduled"
                self.try_number += 1
            if self.state == "scheduled":
                self.state = "queued"
                self.worker = Worker(self)
            if self.state == "running" and now - self.heartbeat_at > MISSED:
                self.note("its heartbeat is missed")
                self.fail()
            if self.state == "deferred" and self.trigger is not None:
                number, trigger, index, after = self.trigger
                if now - self.triggerer_seen[index] > MISSED:
                    self.note(f"triggerer {1 - index} takes trigger {number} over")
                    self.trigger = (number, trigger, 1 - index, after)

    def _new_triggerer(self, index: int) -> Process:
        return Process(self.world, f"triggerer {index}", lambda: run_loop(self._run_triggers(index)))

    def restart_triggerer(self, index: int) -> None:
        """SIGKILL of a triggerer, and a new one."""
        self.triggerers[index].kill()
        self.triggerers[index] = self._new_triggerer(index)

    async def _run_triggers(self, index: int) -> None:
        running: dict[int, tuple[asyncio.Task[None], OperationTrigger]] = {}
        detached = set()
        while True:
            await asyncio.sleep(1.0)
            self.triggerer_seen[index] = self.world.now
            mine = self.trigger if self.trigger is not None and self.trigger[2] == index else None
            for number in [number for number in running if mine is None or number != mine[0]]:
                task, trigger = running.pop(number)
                if not task.done():
                    task.cancel()
                    killing = asyncio.create_task(trigger.on_kill())
                    detached.add(killing)
                    killing.add_done_callback(detached.discard)
            if mine is not None and mine[0] not in running:
                trigger = OperationTrigger(**mine[1])
                trigger.trigger_id = mine[0]
                running[mine[0]] = (asyncio.create_task(self._run_trigger(mine[0], trigger)), trigger)

    async def _run_trigger(self, number: int, trigger: OperationTrigger) -> None:
        try:
            async for event in trigger.run():
                self.fire(number, event.payload)
        finally:
            await trigger.cleanup()

    def sweep(self) -> Process:
        """A sweep, in a process of its own."""
        return Process(self.world, "sweep", self._sweep)

    def sweep_often(self) -> Process:
        """One sweep after the other, until all trouble ends."""

        def run() -> None:
            while not self.is_quiet:
                self._sweep()
                pause(self.world.chance.choice([0.3, 1.0, 4.0]))

        return Process(self.world, "sweeps", run)

    def _sweep(self) -> None:
        with contextlib.suppress(LostError):
            result = sweep(FromWithin(), now=self.world.time, log=lambda *_: None)
            if result.rows:
                self.note(f"sweep: {result.summary()}")
            for row in result.rows:
                self.note(f"  {row}")

    # -- questions ---------------------------------------------------------------------------------

    def ask(self, question: Callable[[], _T]) -> _T:
        """A question of a process; one at a time."""
        process = current().process
        pause(float("inf"), lambda: not process.is_asking)
        process.is_asking = True
        try:
            pause(self.world.chance.uniform(0.001, 0.05))
            if process.parent is not None and process.parent.is_killed:
                raise EOFError("the supervisor is gone")
            self.lost_question -= 1
            is_lost = self.world.now < self.lost_until or self.world.chance.random() < self.lost_share
            if is_lost or self.lost_question == 0:
                pause(self.world.chance.choice([0.1, 3.0]))
                if self.world.chance.random() < 0.5:
                    with contextlib.suppress(RejectedError):
                        question()
                raise LostError("no response")
            return question()
        finally:
            process.is_asking = False

    def states(self, dag_id: str, task_ids: list[str], run_ids: list[str], map_index: int | None) -> Any:
        """The state of the task."""
        return self.ask(lambda: {"r": {"t": self.state}} if "r" in run_ids and "t" in task_ids else {})


class Worker:
    """A process that runs a try, and its supervisor."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow, self.world = airflow, airflow.world
        self.try_id, self.number = airflow.id, airflow.try_number
        self.max_tries, self.resumes = airflow.max_tries, airflow.resumes
        airflow.service.request_ids[new_request_id(f"{self.try_id}/{self.number}")] = self.number
        self.operator: Any = None
        self.has_reported = False
        self.callbacks: list[Callable[[], object]] = []
        self.process = Process(
            self.world, f"try {self.number}", self._run, on_signal=lambda: self.operator and self.operator.on_kill()
        )
        self.process.worker = self  # type: ignore[attr-defined]
        self.supervisor = Process(self.world, f"supervisor of try {self.number}", self._supervise)
        self.process.parent = self.supervisor

    def terminate(self) -> None:
        """SIGTERM: by a worker that shuts down, or by its supervisor."""
        if self.process.is_alive:
            self.airflow.note(f"SIGTERM of try {self.number}")
            if self.number > self.max_tries:  # nobody would go on with what it has
                self.airflow.deaths.append((self.world.time, self.number))
            self.process.terminate()

    def orphan(self) -> None:
        """SIGKILL of the supervisor."""
        self.airflow.note(f"SIGKILL of the supervisor of try {self.number}")
        if self.number > self.max_tries:
            self.airflow.deaths.append((self.world.time, self.number))
            self.airflow.has_hopeless_orphan = True
        self.supervisor.kill()

    def freeze(self, frozen: bool) -> None:
        """The machine stands still, or goes on."""
        self.airflow.note(f"try {self.number} {'stands still' if frozen else 'goes on'}")
        self.process.is_frozen = self.supervisor.is_frozen = frozen

    def _supervise(self) -> None:
        failures = 0
        while self.process.is_alive:
            pause(HEARTBEAT, lambda: not self.process.is_alive)
            if not self.process.is_alive:
                break
            airflow = self.airflow
            if self.world.now < airflow.lost_until:
                failures += 1
                is_wanted = failures < 3
            else:
                failures = 0
                is_wanted = airflow.id == self.try_id and airflow.state == "running"
                if is_wanted:
                    airflow.heartbeat_at = self.world.now
            if not is_wanted:
                self.terminate()
                pause(GRACE, lambda: not self.process.is_alive)
                self.process.kill()
        pause(0.1)
        if not self.has_reported:
            pause(float("inf"), lambda: self.world.now >= self.airflow.lost_until)
            self.airflow.end(self, "failed")

    def _report(self, how: str, deferred: Any = None, why: str = "") -> None:
        end = self.world.now + 60

        def report() -> None:
            self.has_reported = True
            self.airflow.end(self, how, deferred, why)

        while True:
            try:
                return self.airflow.ask(report)
            except EOFError:  # its supervisor is gone
                return None
            except LostError:
                if self.has_reported or self.world.now > end:
                    return None
                pause(1.0)

    def _run(self) -> None:
        airflow = self.airflow
        if airflow.id != self.try_id or airflow.state != "queued":
            self.has_reported = True
            return
        airflow.state, airflow.heartbeat_at = "running", self.world.now
        airflow.began.append((self.world.time, self.number))
        airflow.note(f"try {self.number} runs{' again' if self.resumes else ''}")
        if self.resumes is None:
            airflow.xcoms.clear()
        airflow.resumes = None
        self.operator = operator = airflow._make()
        may_execute(operator)
        try:
            if self.resumes is None:
                operator.execute(self._context())
            else:
                operator.resume_execution(self.resumes[0], self.resumes[1], self._context())
        except TaskDeferred as error:
            try:
                arguments = error.trigger.serialize()[1]
            except Exception as problem:
                airflow.note(f"try {self.number}: {problem}")
                self._report("failed")
            else:
                self._report("deferred", (arguments, error.method_name, error.kwargs))
        except AirflowRescheduleException:
            self._report("up_for_reschedule")
        except (AirflowFailException, AirflowSensorTimeout) as error:
            airflow.note(f"try {self.number}: {error}")
            self._report("failed for good", why=str(error))
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            airflow.note(f"try {self.number}: {type(error).__name__}: {error}")
            self._report("failed")
        except BaseException as error:
            if type(error).__name__ == "DeadError":
                raise
            airflow.note(f"try {self.number}: {type(error).__name__}: {error}")
            self._report("failed")
        else:
            self._report("success")
        for callback in self.callbacks:
            callback()

    def _context(self) -> Any:
        def push(key: str, value: Any) -> None:
            try:
                self.airflow.ask(lambda: self.airflow.xcoms.update({key: value}))
            except (LostError, EOFError):  # Airflow has tried for a minute: the task fails, as any other would
                if self.number > self.max_tries:
                    self.airflow.deaths.append((self.world.time, self.number))
                raise

        ti = SimpleNamespace(
            id=self.try_id, try_number=self.number, max_tries=self.max_tries, **TASK, xcom_push=push,
            get_first_reschedule_date=lambda context: None,
        )  # fmt: skip
        return {"ti": ti, "task_state_store": _Store(self)}


class _Store:
    """The task state store, as one try sees it."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._airflow = worker, worker.airflow

    def get(self, key: str) -> Any:
        return self._airflow.ask(lambda: self._airflow.stored.get(key) if self._is_current else None)

    def set(self, key: str, value: Any, **_: Any) -> None:
        self._airflow.ask(lambda: self._write({key: value}))

    def delete(self, key: str) -> None:
        def remove() -> None:
            self._write({})
            self._airflow.stored.pop(key, None)

        self._airflow.ask(remove)

    @property
    def _is_current(self) -> bool:
        return self._airflow.id == self._worker.try_id

    def _write(self, values: dict[str, Any]) -> None:
        if not self._is_current:
            raise RejectedError("Task instance not found")
        self._airflow.stored.update(values)
        self._airflow.written.append(str(values))
        self._airflow.recorded.append(str(values))
        self._airflow.has_owned = self._airflow.has_owned or bool(values)


class _Variables:
    def __init__(self, airflow: Airflow) -> None:
        self._airflow, self._all = airflow, airflow.variables

    def set(self, key: str, value: str, description: str | None = None) -> None:
        def write() -> None:
            self._all[key] = value
            self._airflow.written.append(value)

        self._airflow.ask(write)

    def delete(self, key: str) -> None:
        self._airflow.ask(lambda: self._all.pop(key, None))

    def get(self, key: str, default: Any = None) -> Any:
        return self._airflow.ask(lambda: self._all.get(key, default))

    def keys(self, prefix: str = "") -> Any:
        return self._airflow.ask(lambda: [key for key in self._all if key.startswith(prefix)])


class _InPlace(Executor):
    """Runs what would block in the thread of the loop, which stands still meanwhile."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Any:
        done: Future[Any] = Future()
        try:
            done.set_result(function(*arguments, **named))
        except Exception as error:
            done.set_exception(error)
        return done


class _Log:
    """What the package logs, among what happens."""

    def __init__(self, airflow: Airflow) -> None:
        self._airflow = airflow

    def info(self, line: str, *values: Any) -> None:
        self._airflow.note(f"[{current().process.name}] {line % values if values else line}")

    warning = error = exception = info

    def log(self, level: int, line: str) -> None:
        self.info(line)


@contextlib.contextmanager
def in_place_of_the_real(airflow: Callable[[], Airflow]) -> Iterator[None]:
    """What the package asks Airflow and Google for, it asks these: of the world that there is at the moment."""

    def readable(descriptor: int, seconds: float | None = None) -> bool:
        if not is_here():
            return bool(_readable(descriptor, seconds))
        return pause(float("inf") if seconds is None else seconds, lambda: _readable(descriptor, 0))

    def connection(conn_id: str) -> Connection:
        def load() -> Connection:
            extra = {**_EXTRA, "num_retries": airflow().num_retries}
            return Connection(conn_id=conn_id, conn_type="google_lro", extra=json.dumps(extra))

        try:
            return airflow().ask(load)
        except LostError:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined") from None

    async def async_connection(conn_id: str) -> Connection:
        return connection(conn_id)

    def xcom(key: str, *_: Any, **__: Any) -> Any:
        return airflow().ask(lambda: airflow().xcoms.get(key or OWNER_KEY))

    class Session:
        def __init__(self, **_: Any) -> None:
            """No network."""

        async def fetch(self, request: Any, headers: Any) -> Any:
            return await airflow().service.fetch_async(request, headers)

        async def close(self) -> None:
            """Nothing to close."""

    def call_back(callback: Callable[[], object]) -> None:
        current().process.worker.callbacks.append(callback)  # type: ignore[attr-defined]

    def is_asking() -> bool:
        return current().process.is_asking

    def variables() -> _Variables:
        return _Variables(airflow())

    def states(*about: Any) -> Any:
        return airflow().states(*about)

    def pool(kind: str) -> Executor:
        return _InPlace() if is_here() else _pool(kind)

    _pool = threads_of_the_package._pool
    log = property(lambda _: _Log(airflow()))
    _readable = canceller._readable
    threads = SimpleNamespace(Thread=Thread, Lock=canceller.threading.Lock)
    parent = SimpleNamespace(**{**vars(guard.os), "getppid": _parent})
    patches: list[Any] = [
        mock.patch.object(canceller, "_readable", readable),
        mock.patch.object(canceller, "threading", threads),
        mock.patch.object(canceller, "Future", SimulatedFuture),
        mock.patch.object(guard, "os", parent),
        mock.patch.object(record_store, "SupervisorVariable", NoVariable),
        mock.patch.object(guard, "is_in_line", return_value=False),
        mock.patch.object(record, "is_in_line", return_value=False),
        mock.patch.object(guard, "is_asking_supervisor", is_asking),
        mock.patch.object(record, "ledger_is_on", return_value=True),
        mock.patch.object(ledger, "ledger_is_on", return_value=True),
        mock.patch.object(ledger, "_variables", variables),
        mock.patch.object(deferral, "call_before_stopping", call_back),
        mock.patch.object(task_states, "task_states", states),
        mock.patch.object(task_states, "run_state", return_value="running"),
        mock.patch.object(task_states.XCom, "get_one", xcom),
        mock.patch.object(hooks.BaseHook, "get_connection", staticmethod(connection)),
        mock.patch("airflow.providers.common.compat.connection.get_async_connection", async_connection),
        mock.patch.object(BoundedSession, "fetch", lambda _, *what, **how: airflow().service.fetch(*what, **how)),
        mock.patch.object(async_client, "AsyncSession", Session),
        mock.patch.object(threads_of_the_package, "_pool", pool),
        mock.patch.object(OperationTask, "log", log),
        mock.patch.object(OperationTrigger, "log", log),
    ]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


_EXTRA = {"api_endpoint": "http://127.0.0.1:1/{service}", "emulator": True}


def _parent() -> int:
    parent = current().process.parent
    return 1 if parent is None or parent.is_killed else 1000 + id(parent) % 1000


def _id(world: World) -> str:
    """A UUID of version 7."""
    stamp, chance = int(world.time * 1000), world.chance.getrandbits(74)
    return str(uuid.UUID(int=stamp << 80 | 7 << 76 | (chance >> 62) << 64 | 2 << 62 | (chance & (2**62 - 1))))
