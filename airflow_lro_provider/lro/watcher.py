"""The watcher: one poller per (endpoint, parent, identity) for all who wait on one event loop.

What is asked when is decided in :mod:`airflow_lro_provider.lro.watching`, how fast an endpoint may be
asked in :mod:`airflow_lro_provider.lro.pace`. Here the requests are sent, and the answers delivered.

Whoever waits holds a future, and nothing else runs for them. They come and go without touching each
other; with the last one of a parent its requests are ended, and the connections are given back.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from airflow_lro_provider.lro.aio import AsyncOperationsClient
from airflow_lro_provider.lro.credentials import ConnectionSettings, Identity, identity_for
from airflow_lro_provider.lro.errors import (
    ApiError,
    MalformedAnswerError,
    OperationsError,
    ResourceExhaustedError,
    UnauthenticatedError,
)
from airflow_lro_provider.lro.meter import Meter
from airflow_lro_provider.lro.mtls import Channel, channel_for
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.pace import Pace, Ticket
from airflow_lro_provider.lro.polling import Watch
from airflow_lro_provider.lro.protocol import Rows
from airflow_lro_provider.lro.reference import OperationReference
from airflow_lro_provider.lro.services import find_service, parent_of
from airflow_lro_provider.lro.waiters import Waiter
from airflow_lro_provider.lro.watching import FEW, UNHURRIED, Ask, Family, Told

__all__ = ["Waiting", "Watcher"]

log = logging.getLogger(__name__)

TICK = 0.01
"""The shortest sleep, in seconds: what is due within it is asked together."""
ROWS_AT_A_TIME = 200
"""So many rows of a page are read before others get their turn: new ones take 10 ms, known ones nothing."""
AT_A_TIME = 16
"""So many are told of their end before others get their turn on the loop: the end of a trigger takes Airflow 1 ms."""
LEAST_PATIENCE, MOST_PATIENCE = 1.0, 30.0
"""Limits of :attr:`Pace.patience`, in seconds."""
SAY_AGAIN = 60.0
"""How often a changed choice of requests is worth a line in the log, in seconds."""
READ_AGAIN = 60.0
"""So long a connection's keys and certificates are taken for what they were when they were read, in seconds."""
COUNT_EVERY = 10.0
"""How often the number of those who wait is told to the meter, in seconds."""


class Waiting(Waiter):
    """One wait. Await it again and again: for a line whenever state or progress changed, and at last for the operation
    that is over. End it with :meth:`leave`, whatever came.
    """

    __slots__ = ("_asked", "_future", "_group", "_more")

    def __init__(self, name: str, watch: Watch, group: _Group) -> None:
        super().__init__(name, watch)
        self._group = group
        self._future: asyncio.Future[Operation | str] = asyncio.get_running_loop().create_future()
        # After a line: what has come behind it, before anybody asked for that.
        self._more: list[Operation | BaseException | str] | None = None
        self._asked = False

    def __await__(self) -> Generator[Any, None, Operation | str]:
        if self._asked and self._more is not None:
            self._future = asyncio.get_running_loop().create_future()
            more, self._more = self._more, None
            for what in more:
                self.tell(what)
        self._asked = True
        # At rest there is no frame of ours: thousands would have one.
        return self._future.__await__()

    def now(self) -> float:
        """The time, on the clock of the watch."""
        return self._group.endpoint.watcher.clock()

    def leave(self) -> None:
        """Wait no longer."""
        self._future.cancel()
        self._group.leave(self)

    def tell(self, what: Operation | BaseException | str) -> None:
        """Deliver what the watcher has found out."""
        if self._future.cancelled():
            return
        if self._future.done():
            self._more = [*(self._more or ()), what]
        elif isinstance(what, BaseException):
            self._future.set_exception(what)
            self._future.exception()  # whoever has left meanwhile does not miss it
        else:
            self._future.set_result(what)
            if isinstance(what, str):
                self._more = []


class Watcher:
    """All who wait on one event loop.

    :param meter: what counts.
    :param clock: gives the time, in seconds, on which all the watches run.
    :param make_client: makes a client of settings, an identity and a channel.
    """

    def __init__(
        self,
        meter: Meter | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        make_client: Callable[..., Any] = AsyncOperationsClient,
    ) -> None:
        self.meter, self.clock, self.make_client = meter or Meter(), clock, make_client
        self._endpoints: dict[str, _Endpoint] = {}
        self._reached: dict[ConnectionSettings, tuple[float, asyncio.Task[_Means]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def of_loop(cls, meter: Meter | None = None) -> Watcher:
        """The watcher of the running loop.

        :param meter: for a loop that has none yet.
        """
        loop = asyncio.get_running_loop()
        if loop not in _watchers:
            _watchers[loop] = cls(meter)
        return _watchers[loop]

    async def join(
        self,
        settings: ConnectionSettings,
        reference: OperationReference,
        watch: Watch,
    ) -> Waiting:
        """Begin to wait.

        :param settings: what the connection says.
        :param watch: when to look and until when, on the clock of the watcher.
        :raises ForbiddenEndpointError: if the reference is not for this connection.
        :raises OperationsError: if there are no credentials.
        """
        settings.endpoint(reference)  # refuses a foreign host before a key is read
        means = await self.means(settings)
        url = settings.endpoint(reference, mtls=means[1].mtls_hosts)
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            endpoint = self._endpoints[url] = _Endpoint(self, url)
        group = endpoint.group(settings, means, reference)
        waiting = Waiting(reference.name, watch, group)
        group.family.add(waiting, self.clock())
        endpoint.wake()
        return waiting

    async def settle(self) -> None:
        """Wait until the connections of those who have left are closed."""
        # Not for as long as there are any: who is done leaves the set in a later turn of the loop, and from Python 3.12
        # on a wait for those who are done takes no turn.
        while closing := [task for task in self._closing if not task.done()]:
            await asyncio.wait(closing)

    def forget(self, endpoint: _Endpoint) -> None:
        """Nobody waits at an endpoint any more."""
        self._endpoints.pop(endpoint.url, None)
        if not self._endpoints:
            self._reached.clear()

    def close(self, client: Any) -> None:
        """Give connections back."""
        task: asyncio.Task[None] = start(client.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def means(self, settings: ConnectionSettings) -> _Means:
        """Who one is and how one speaks TLS, as the connection has it; read anew now and then."""
        now = self.clock()
        at, task = self._reached.get(settings, (-math.inf, None))
        if task is None or now >= at + READ_AGAIN or (task.done() and (task.cancelled() or task.exception())):
            # Keys are parsed in a thread, once, however many wait for it.
            task = start(asyncio.to_thread(lambda: (identity_for(settings), channel_for(settings))))
            self._reached[settings] = now, task
        return task.result() if task.done() else await asyncio.shield(task)


_Means = tuple[Identity, Channel]
_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher] = WeakKeyDictionary()


_started: set[asyncio.Task[Any]] = set()


def start(coroutine: Any) -> asyncio.Task[Any]:
    """A task that belongs to nobody: it must not inherit the logging context of a trigger."""
    task: asyncio.Task[Any] = contextvars.Context().run(asyncio.get_running_loop().create_task, coroutine)
    _started.add(task)  # the loop itself does not hold on to it
    task.add_done_callback(_started.discard)
    return task


class _Group:
    """Those who wait below one parent with one identity: their family, their client, their requests."""

    def __init__(
        self,
        endpoint: _Endpoint,
        key: tuple[Any, ...],
        settings: ConnectionSettings,
        means: _Means,
        reference: OperationReference,
        family: Family,
    ) -> None:
        self.endpoint, self.key, self.family = endpoint, key, family
        self._settings, self._means = settings, means
        self._outdated: list[Any] = []
        self.client = endpoint.watcher.make_client(settings, means[0], channel=means[1])
        self.requests: dict[asyncio.Task[None], Ask] = {}
        self.said, self.said_at = "", -math.inf
        self._like = reference

    @property
    def service(self) -> str:
        return self._like.service

    def reference(self, name: str) -> OperationReference:
        return OperationReference(self._like.service, self._like.version, name, self._like.host)

    def leave(self, waiting: Waiting) -> None:
        self.family.remove(waiting)
        if waiting.name not in self.family.members:
            for task, ask in self.requests.items():
                if ask.name == waiting.name and ask.verb == "wait":
                    task.cancel()  # it would hold its connection for nobody
        self.close_if_idle()

    def close_if_idle(self) -> None:
        if self.family.members or self.endpoint.groups.get(self.key) is not self:
            return
        for task in self.requests:
            task.cancel()
        self.endpoint.drop(self)

    def use(self, means: _Means) -> None:
        """Go on with another identity or certificate, if it is another one."""
        if means != self._means and self.endpoint.groups.get(self.key) is self:
            self._means = means
            self._outdated.append(self.client)  # requests may be under way with it
            self.client = self.endpoint.watcher.make_client(self._settings, means[0], channel=means[1])

    @property
    def clients(self) -> list[Any]:
        """All that there were, to be closed at the end."""
        return [*self._outdated, self.client]

    async def renew(self) -> None:
        """See whether there is another key or certificate than the one that does not work: they are replaced."""
        try:
            self.use(await self.endpoint.watcher.means(self._settings))
        except OperationsError as error:
            log.warning("%s: %s", self.service, error)

    async def send(self, ask: Ask) -> Any:
        reference = self.reference(ask.name)
        if ask.verb == "get":
            return await self.client.get(reference, retries=0)
        if ask.verb == "wait":
            return await self.client.wait(reference, ask.timeout, retries=0)
        return await self.client.rows(
            reference, filter=ask.filter, page_size=ask.page_size, page_token=ask.page_token, retries=0
        )

    def say_choice(self, now: float) -> None:
        choice = self.family.choice
        if choice != self.said and now >= self.said_at + SAY_AGAIN:
            self.said, self.said_at = choice, now
            count = len(self.family)
            log.info("%s %s: %d waiting, asked with %s", self.service, self.family.parent, count, choice)


class _Endpoint:
    """All who wait at one endpoint: they share its room."""

    def __init__(self, watcher: Watcher, url: str) -> None:
        self.watcher, self.url = watcher, url
        self.groups: dict[tuple[Any, ...], _Group] = {}
        self._pace = Pace()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._counted_at = -math.inf

    def group(self, settings: ConnectionSettings, means: _Means, reference: OperationReference) -> _Group:
        service, version = find_service(reference.service), reference.version
        parent, waits = parent_of(reference.name), service.offers("wait", reference.name, version)
        key = (reference.service, version, reference.host, parent, means[0], waits)
        if key not in self.groups:
            lists = service.offers("list", parent, version) and not service.filter_required
            family = Family(parent, lists=lists, waits=waits)
            self.groups[key] = _Group(self, key, settings, means, reference, family)
        self.groups[key].use(means)
        return self.groups[key]

    def drop(self, group: _Group) -> None:
        """Nobody waits in this group any more."""
        del self.groups[group.key]
        for client in group.clients:
            self.watcher.close(client)
        self._count(group.service)
        if not self.groups:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.watcher.forget(self)

    def wake(self, at: float = -math.inf) -> None:
        """See what there is to do, soon or at a time."""
        delay = max(at - self.watcher.clock(), TICK)
        when = self._loop.time() + delay
        if at == math.inf or (self._timer is not None and self._timer.when() <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._act, context=contextvars.Context())

    def _act(self) -> None:
        self._timer = None
        try:
            self.wake(self._ask_all(self.watcher.clock()))
        except Exception as error:
            self._broken(error)

    def _broken(self, error: BaseException) -> None:
        """Nobody may wait for ever because of a bug."""
        log.error("the watcher of %s has failed", self.url, exc_info=error)
        end = OperationsError(f"the watcher of {self.url} has failed ({error!r}); see the triggerer's log")
        for group in list(self.groups.values()):
            start(self._deliver(group, [(waiter, end) for waiter in group.family.waiters]))

    def _ask_all(self, now: float) -> float:
        """Send what is due; gives the time of the next look at it."""
        self._meter_waiting(now)
        groups, pace = list(self.groups.values()), self._pace
        closed = pace.troubled and not pace.room(now)
        for group in groups:
            if told := group.family.expired(now, closed=closed):
                start(self._deliver(group, told))
        few = sum(len(group.family) for group in groups) <= FEW
        for group in groups:
            under_way = sum(ask.verb == "wait" for each in groups for ask in each.requests.values())
            for ask in group.family.asks(now, pace.room(now), FEW - under_way if few else 0):
                self._send(group, ask, now)
            group.say_choice(now)
        if groups:  # a busy parent does not keep the others from having their turn first
            first = next(iter(self.groups))
            self.groups[first] = self.groups.pop(first)
        # A deadline that has passed without a look, because there is no room for one, is told a little later.
        deadlines = (group.family.next_deadline for group in groups)
        following = [at if at > now else at + UNHURRIED for at in deadlines]
        if pace.room(now):
            following += [group.family.next_at(now) for group in groups]
        else:
            following.append(pace.opens_at(now))
        return min(following, default=math.inf)

    def _send(self, group: _Group, ask: Ask, now: float) -> None:
        ticket = self._pace.send(now)
        task = start(self._request(group, ask, ticket))

        def over(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self._broken(error)
            # Cancelled before the answer; perhaps before its first step, and then nothing of it has run.
            if group.requests.pop(done, None) is not None:
                self._pace.drop(ticket)
                self.wake()

        group.requests[task] = ask
        task.add_done_callback(over)

    async def _request(self, group: _Group, ask: Ask, ticket: Ticket) -> None:
        """One request, from its sending to the delivery of what came."""
        told: list[Told] = []
        try:
            answer = await group.send(ask)
        except Exception as error:
            group.requests.pop(asyncio.current_task(), None)  # type: ignore[arg-type]
            told = self._failed(group, ask, ticket, error)
        else:
            group.requests.pop(asyncio.current_task(), None)  # type: ignore[arg-type]
            self.watcher.meter.request(group.service, ask.verb, "ok")
            if self._pace.answered(ticket):
                log.info("%s answers again; %d wait for it", self.url, self._waiting)
                for each in self.groups.values():
                    each.family.recovered()
            now = self.watcher.clock()
            if ask.verb == "list":
                await self._read_page(group, answer, now, told)
            else:
                told = group.family.saw(ask, answer, ticket.sent, now)
        self.wake()
        await self._deliver(group, told)

    async def _read_page(self, group: _Group, page: Rows, now: float, told: list[Told]) -> None:
        """Deal out a page, a piece at a time."""
        rows = iter(page.rows)
        try:
            while piece := list(islice(rows, ROWS_AT_A_TIME)):
                told += group.family.rows(piece, now)
                await asyncio.sleep(0)
        except MalformedAnswerError as error:
            self._list_failed(group, error, now)
        else:
            group.family.page(page.next_page_token, page.size, now)

    def _list_failed(self, group: _Group, error: OperationsError, now: float) -> None:
        if line := group.family.list_failed(error, now):
            log.warning("%s %s: %s", group.service, group.family.parent, line)

    def _failed(self, group: _Group, ask: Ask, ticket: Ticket, error: Exception) -> list[Told]:
        now, meter, pace = self.watcher.clock(), self.watcher.meter, self._pace
        meter.request(group.service, ask.verb, error.status if isinstance(error, ApiError) else type(error).__name__)
        if not isinstance(error, OperationsError):
            pace.drop(ticket)
            log.error("the watcher could not %s %s", ask.verb, ask.name, exc_info=error)
            error = OperationsError(f"{ask.verb} {ask.name} failed: {error!r}; see the triggerer's log")
        elif error.transient:
            if isinstance(error, ResourceExhaustedError):
                meter.throttled(group.service)
            shortest = min(each.family.shortest_interval() for each in self.groups.values() or [group])
            pace.patience = min(max(shortest, LEAST_PATIENCE), MOST_PATIENCE)
            if pace.failed(ticket, error, now):
                for each in self.groups.values():
                    start(each.renew())
                log.warning("%s is in trouble; %d wait for it, and ask slowly now: %s", self.url, self._waiting, error)
        elif isinstance(error, ApiError):
            pace.answered(ticket)
            if isinstance(error, UnauthenticatedError):
                start(group.renew())
        else:
            pace.drop(ticket)
        if ask.verb != "list":
            return group.family.refused(ask, error, now)
        self._list_failed(group, error, now)
        return []

    async def _deliver(self, group: _Group, told: list[Told]) -> None:
        """Tell everybody what there is to tell, a few at a time: each wakes a trigger."""
        for waiter, what in told:
            if not isinstance(what, str):
                group.family.remove(waiter)
        for number, (waiter, what) in enumerate(told, 1):
            assert isinstance(waiter, Waiting)
            try:
                waiter.tell(what)
            except Exception:
                log.exception("could not tell what became of %s", waiter.name)
            if isinstance(what, Operation) and what.end_time is not None:
                late = datetime.now(timezone.utc) - what.end_time
                self.watcher.meter.known(group.service, max(late.total_seconds(), 0.0))
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
        group.close_if_idle()

    @property
    def _waiting(self) -> int:
        return sum(len(group.family) for group in self.groups.values())

    def _meter_waiting(self, now: float) -> None:
        if now >= self._counted_at + COUNT_EVERY:
            self._counted_at = now
            for service in {group.service for group in self.groups.values()}:
                self._count(service)

    def _count(self, service: str) -> None:
        number = sum(len(group.family) for group in self.groups.values() if group.service == service)
        self.watcher.meter.waiting(service, number)
