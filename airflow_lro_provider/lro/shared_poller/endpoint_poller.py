"""All who wait at one endpoint: when they are asked about, what came, and who is told."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro.auth.credentials import ConnectionSettings
from airflow_lro_provider.lro.errors import (
    ApiError,
    MalformedResponseError,
    OperationsError,
    ResourceExhaustedError,
    UnauthenticatedError,
)
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.protocol import Rows
from airflow_lro_provider.lro.resources.catalog import find_service, parent_of
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.lro.shared_poller.group import Group, Means
from airflow_lro_provider.lro.shared_poller.planner import FEW, UNHURRIED, Ask, Family, Told
from airflow_lro_provider.lro.shared_poller.throttle import Pace, Ticket
from airflow_lro_provider.lro.shared_poller.waiting import Waiting

if TYPE_CHECKING:
    from airflow_lro_provider.lro.shared_poller.watcher import Watcher

__all__ = ["Endpoint", "start"]

log = logging.getLogger("airflow_lro_provider.lro.shared_poller.watcher")

TICK = 0.01
"""The shortest sleep, in seconds: what is due within it is asked together."""
ROWS_AT_A_TIME = 200
"""So many rows of a page that say something new are read before others get their turn: that takes 10 ms."""
AT_A_TIME = 16
"""So many are told of their end before others get their turn on the loop: the end of a trigger takes Airflow 1 ms."""
LEAST_PATIENCE, MOST_PATIENCE = 1.0, 30.0
"""Limits of :attr:`Pace.patience`, in seconds."""
COUNT_EVERY = 10.0
"""How often the number of those who wait is told to the meter, in seconds."""

_started: set[asyncio.Task[Any]] = set()


def start(coroutine: Any) -> asyncio.Task[Any]:
    """A task that belongs to nobody: it must not inherit the logging context of a trigger."""
    task: asyncio.Task[Any] = contextvars.Context().run(asyncio.get_running_loop().create_task, coroutine)
    _started.add(task)  # the loop itself does not hold on to it
    task.add_done_callback(_started.discard)
    return task


class Endpoint:
    """All who wait at one endpoint: they share its room."""

    def __init__(self, watcher: Watcher, url: str) -> None:
        self.watcher, self.url = watcher, url
        self.groups: dict[tuple[Any, ...], Group] = {}
        self._pace = Pace(max_in_flight=watcher.max_in_flight)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._counted_at = -math.inf

    def group(self, settings: ConnectionSettings, means: Means, reference: OperationReference) -> Group:
        """Those with whom to wait for this operation."""
        service, version = find_service(reference.service), reference.version
        parent, waits = parent_of(reference.name), service.offers("wait", reference.name, version)
        key = (reference.service, version, reference.host, parent, means[0], waits)
        if key not in self.groups:
            lists = service.offers("list", parent, version) and not service.filter_required
            family = Family(parent, lists=lists, waits=waits, max_in_flight=self.watcher.max_in_flight)
            self.groups[key] = Group(self, key, settings, means, reference, family)
        self.groups[key].use(means)
        return self.groups[key]

    def drop(self, group: Group) -> None:
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
        """See what there is to do, at a time, or at once: after an answer, when somebody may be due already."""
        delay = 0.0 if at == -math.inf else max(at - self.watcher.clock(), TICK)
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
        # Each holds a connection, and half of them are for others.
        most = min(FEW, pace.max_in_flight // 2)
        few = self._waiting <= most
        for group in groups:
            long_polls = most - sum(ask.verb == "wait" for g in groups for ask in g.requests.values()) if few else 0
            for ask in group.family.asks(now, pace.room(now), long_polls):
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

    def _send(self, group: Group, ask: Ask, now: float) -> None:
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

    async def _request(self, group: Group, ask: Ask, ticket: Ticket) -> None:
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

    async def _read_page(self, group: Group, page: Rows, now: float, told: list[Told]) -> None:
        """Deal out a page, a piece at a time."""
        rows = page.read(partial(group.family.repeats, now))
        try:
            while piece := list(islice(rows, ROWS_AT_A_TIME)):
                told += group.family.rows(piece, now)
                await asyncio.sleep(0)
        except MalformedResponseError as error:
            self._list_failed(group, error, now)
        else:
            group.family.page(page.next_page_token, page.size, now)

    def _list_failed(self, group: Group, error: OperationsError, now: float) -> None:
        if line := group.family.list_failed(error, now):
            log.warning("%s %s: %s", group.service, group.family.parent, line)

    def _failed(self, group: Group, ask: Ask, ticket: Ticket, error: Exception) -> list[Told]:
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

    async def _deliver(self, group: Group, told: list[Told]) -> None:
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
