"""Simulated time, and processes in it: threads of which one runs at a time, and which can be killed at every pause.

Everything that takes time (a sleep, a request, a question to Airflow, a wait for another thread) is a pause. At a pause
the world chooses who goes on, so that a seed decides the interleaving. A process that is killed gets no further than
the pause that it is in: nothing that it would have done afterwards happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import random
import selectors
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import ModuleType
from typing import Any
from unittest import mock

_real = {"time": time.time, "monotonic": time.monotonic, "sleep": time.sleep}
_here = threading.local()
_MAX_STEPS = 200_000


class DeadError(BaseException):
    """Raised in a thread whose process was killed: nothing catches it, and nothing that happens meanwhile counts."""


class Process:
    """A process of the world.

    :param on_signal: the handler of SIGTERM, run in the main thread at its next pause.
    :param on_exit: called when the main thread has ended by itself.
    """

    def __init__(
        self,
        world: World,
        name: str,
        run: Callable[[], object],
        *,
        on_signal: Callable[[], object] = lambda: None,
        on_exit: Callable[[], object] = lambda: None,
    ) -> None:
        self.world, self.name = world, name
        self.is_killed = self.is_frozen = self.has_ended = self.is_handling = False
        self.is_asking = False
        self.signals = 0
        self.parent: Process | None = None
        self._on_signal, self._on_exit = on_signal, on_exit

        def main() -> None:
            run()
            self.has_ended = True
            self._on_exit()

        self.main = Thread(target=main, process=self)
        self.main.start()

    @property
    def is_alive(self) -> bool:
        """Whether its main thread runs."""
        return not (self.is_killed or self.has_ended)

    def kill(self) -> None:
        """SIGKILL."""
        self.is_killed = True

    def terminate(self) -> None:
        """SIGTERM."""
        self.signals += 1

    def deliver(self) -> None:
        """Handle the signals that have come. Called in the main thread."""
        while self.signals and not self.is_handling:
            self.signals -= 1
            self.is_handling = True
            try:
                self._on_signal()
            finally:
                self.is_handling = False


class Thread:
    """A thread of a process, as far as :mod:`threading`'s is used by the package."""

    daemon = True

    def __init__(
        self, *, name: str = "", target: Callable[..., object], args: Any = (), process: Process | None = None
    ) -> None:
        self.process = process or current().process
        self.world = self.process.world
        self.wakes_at = 0.0
        self.condition: Callable[[], object] | None = None
        self.ident: int | None = None
        self.has_ended = False
        self.error: BaseException | None = None
        self._turn = threading.Semaphore(0)
        self._run = lambda: target(*args)
        self._thread = threading.Thread(target=contextvars.Context().run, args=[self._main], daemon=True, name=name)

    def start(self) -> None:
        """Let it run once the world chooses it."""
        self.wakes_at = self.world.now
        self._thread.start()
        self.ident = self._thread.ident
        self.world.threads.append(self)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        pause(math.inf if timeout is None else timeout, lambda: self.has_ended)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return not self.has_ended

    @property
    def is_main(self) -> bool:
        """Whether signals are handled in it."""
        return getattr(self.process, "main", None) is self

    @property
    def is_over(self) -> bool:
        """Whether nothing of it happens any more."""
        return self.world.is_over or self.process.is_killed or (self.process.has_ended and not self.is_main)

    @property
    def is_ready(self) -> bool:
        """Whether it can go on."""
        if self.is_over:
            return True
        if self.process.is_frozen:
            return False
        if self.is_main and self.process.signals and not self.process.is_handling:
            return True
        return self.wakes_at <= self.world.now or bool(self.condition is not None and self.condition())

    def go_on(self) -> None:
        """Let it run until its next pause."""
        self._turn.release()
        self.world.turn.acquire()

    def pause(self, seconds: float, condition: Callable[[], object] | None) -> None:
        """See :func:`pause`."""
        if self.is_over:
            raise DeadError
        end = self.world.now + seconds
        while True:
            self.wakes_at, self.condition = end, condition
            self.world.turn.release()
            self._turn.acquire()
            if self.is_over:
                raise DeadError
            if self.is_main:
                self.process.deliver()
            if self.world.now >= end or (condition is not None and condition()):
                return

    def _main(self) -> None:
        self._turn.acquire()
        _here.thread = self
        try:
            if not self.is_over:
                self._run()
        except DeadError:
            pass
        except BaseException as error:
            self.error = error
            self.world.errors.append(error)
        finally:
            self.has_ended = True
            self.world.turn.release()


class World:
    """Time, and all threads in it.

    :param start: the time at its beginning, in seconds since the epoch.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self.now = 1000.0  # on the monotonic clock
        self.is_over = False
        self.turn = threading.Semaphore(0)
        self.threads: list[Thread] = []
        self.errors: list[BaseException] = []
        self.chance = random.Random(0)
        self.steps = 0

    @property
    def time(self) -> float:
        """The time, in seconds since the epoch."""
        return self._start + self.now

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        end = self.now + seconds
        while True:
            self.threads = [thread for thread in self.threads if not thread.has_ended]
            if ready := [thread for thread in self.threads if thread.is_ready]:
                self.steps += 1
                assert self.steps < _MAX_STEPS, f"it does not come to an end: {[one.process.name for one in ready]}"
                ready[self.chance.randrange(len(ready))].go_on()
                continue
            coming = [thread.wakes_at for thread in self.threads if not thread.process.is_frozen]
            if (wakes_at := min(coming, default=math.inf)) > end:
                self.now = end
                return
            self.now = wakes_at

    def end(self) -> None:
        """End all threads."""
        self.is_over = True
        while self.threads:
            self.advance(0)


def current() -> Thread:
    """The thread of the world that runs now."""
    thread: Thread = _here.thread
    return thread


def pause(seconds: float = 0.0, condition: Callable[[], object] | None = None) -> bool:
    """Let others go on, until the time has passed or the condition is true; returns whether it is."""
    current().pause(seconds, condition)
    return condition is not None and bool(condition())


# -- in place of the real things ------------------------------------------------------------------------


def _simulated(name: str) -> Callable[..., Any]:
    def clock(*arguments: Any) -> Any:
        thread = getattr(_here, "thread", None)
        if thread is None:
            return _real[name](*arguments)
        return pause(*arguments) if name == "sleep" else getattr(thread.world, "time" if name == "time" else "now")

    return clock


class SimulatedFuture(Future):  # type: ignore[type-arg]
    """A future that is waited for in simulated time."""

    def result(self, timeout: float | None = None) -> Any:
        """Wait, and give the result."""
        if not self.done():
            pause(math.inf if timeout is None else timeout, self.done)
        return super().result(0)


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout > 0:
            pause(3600.0 if timeout is None else timeout)
        return super().select(0)


def run_loop(main: Any) -> Any:
    """As :func:`asyncio.run`, in simulated time."""
    loop = asyncio.SelectorEventLoop(_Selector())
    loop.set_exception_handler(lambda *_: None)
    asyncio.set_event_loop(loop)
    task = loop.create_task(main)
    try:
        return loop.run_until_complete(task)
    finally:
        for left in asyncio.all_tasks(loop):
            left._log_destroy_pending = False  # type: ignore[attr-defined]
        asyncio.set_event_loop(None)
        loop.close()


async def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """As :func:`asyncio.to_thread`, without a thread."""
    await asyncio.sleep(0)
    return function(*arguments, **named)


@contextlib.contextmanager
def simulated_time(*packages: str) -> Iterator[None]:
    """Clocks and sleeps are the world's, in threads of a world; for all others nothing changes.

    :param packages: whose functions may have a real clock as the default of an argument.
    """
    clocks = {name: _simulated(name) for name in _real}
    defaults: list[tuple[dict[str, Any], str, Any]] = []
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in packages and isinstance(module, ModuleType):
            for function in _functions(module):
                for argument, value in (function.__kwdefaults__ or {}).items():
                    for kind, real in _real.items():
                        if value is real:
                            defaults.append((function.__kwdefaults__, argument, real))
                            function.__kwdefaults__[argument] = clocks[kind]
    real_run = asyncio.run
    real_to_thread = asyncio.to_thread
    with contextlib.ExitStack() as patches:
        for name, clock in clocks.items():
            patches.enter_context(mock.patch.object(time, name, clock))
        patches.enter_context(
            mock.patch.object(
                asyncio, "run", lambda main, **how: run_loop(main) if is_here() else real_run(main, **how)
            )
        )
        patches.enter_context(
            mock.patch.object(
                asyncio, "to_thread", lambda *what, **how: (call if is_here() else real_to_thread)(*what, **how)
            )
        )
        try:
            yield
        finally:
            for where, argument, real in defaults:
                where[argument] = real


def is_here() -> bool:
    """Whether this is a thread of a world."""
    return getattr(_here, "thread", None) is not None


def _functions(module: ModuleType) -> Iterator[Any]:
    for value in list(vars(module).values()):
        if isinstance(value, type):
            yield from (one for one in vars(value).values() if hasattr(one, "__kwdefaults__"))
        elif hasattr(value, "__kwdefaults__"):
            yield value
