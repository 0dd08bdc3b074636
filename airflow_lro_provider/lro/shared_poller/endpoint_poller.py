"""All who wait at one endpoint: their requests are sent, and whoever is concerned is notified of the responses."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import ApiError, OperationsError, ResourceExhaustedError, UnauthenticatedError
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.protocol import Rows
from airflow_lro_provider.lro.resources.catalog import find_service, parent_of
from airflow_lro_provider.lro.resources.names import OperationReference, Parent
from airflow_lro_provider.lro.shared_poller.clients import Access, Clients, spawn
from airflow_lro_provider.lro.shared_poller.planner import LAST_POLL_SECONDS, MAX_LONG_POLLS, ParentPlan, PollRequest
from airflow_lro_provider.lro.shared_poller.queue import Notification, Waiter
from airflow_lro_provider.lro.shared_poller.throttle import Throttle, Ticket

log = logging.getLogger(__name__)

TICK_SECONDS = 0.01
"""The shortest sleep: what is due within it is sent together."""
ROWS_PER_TURN = 200
"""Rows of a page read per turn of the event loop: 10 ms, if all of them say something new."""
NOTIFICATIONS_PER_TURN = 16
"""Waits ended per turn of the event loop: the end of a trigger costs Airflow 1 ms."""
MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 30.0
"""Limits of the longest pause between two probes of an endpoint that is down."""
METRICS_INTERVAL_SECONDS = 10.0
"""How often the number of those who wait is counted."""
LOG_INTERVAL_SECONDS = 60.0
"""How often at most a changed choice of requests is logged, per parent."""


class ParentPoller:
    """All who wait below one parent with one identity: their plan, their client, their requests in flight.

    :param reference: an operation there; the others have all but its name in common.
    :param on_idle: called once, when nobody waits any more.
    """

    def __init__(
        self,
        plan: ParentPlan,
        *,
        settings: ConnectionSettings,
        access: Access,
        reference: OperationReference,
        clients: Clients,
        on_idle: Callable[[ParentPoller], None],
    ) -> None:
        self.plan, self.service = plan, reference.service
        self.in_flight: dict[asyncio.Task[None], PollRequest] = {}
        self.on_leave = self._leave  # one bound method for thousands of subscriptions
        self._settings, self._access, self._reference = settings, access, reference
        self._clients, self._on_idle = clients, on_idle
        self._client = clients.make(settings, access)
        self._outdated: list[AsyncOperationsClient] = []
        self._closed = False
        self._logged, self._logged_at = "", -math.inf

    async def send(self, request: PollRequest) -> Operation | Rows:
        """Send a request: the response to a list is a page, to the others an operation."""
        like = self._reference
        if request.page is not None:
            parent = Parent(like.service, like.version, request.name, like.host)
            return await self._client.rows(parent, request.page, retries=0)
        reference = OperationReference(like.service, like.version, request.name, like.host)
        return await self._client.poll(reference, request.timeout, retries=0)

    def use(self, access: Access) -> None:
        """Go on with another identity or certificate, if it is another one."""
        if access != self._access and not self._closed:
            self._outdated.append(self._client)  # requests may be in flight with it
            self._access, self._client = access, self._clients.make(self._settings, access)

    async def renew(self) -> None:
        """Check whether the key or certificate that does not work was replaced meanwhile."""
        try:
            self.use(await self._clients.access(self._settings))
        except OperationsError as error:
            log.warning("could not renew the credentials: %s: %s", self.service, error)

    def log_method(self, now: float) -> None:
        """Log how the operations are polled, if that has changed."""
        method = self.plan.method
        if method != self._logged and now >= self._logged_at + LOG_INTERVAL_SECONDS:
            self._logged, self._logged_at = method, now
            log.info("%d waiting, polled with %s: %s %s", len(self.plan), method, self.service, self.plan.parent)

    def finished(self) -> None:
        """The request of the running task is no longer in flight."""
        if (task := asyncio.current_task()) is not None:
            self.in_flight.pop(task, None)

    def _leave(self, waiter: Waiter) -> None:
        self.plan.remove(waiter)
        if waiter.name not in self.plan:
            for task, request in self.in_flight.items():
                if request.verb == "wait" and request.name == waiter.name:
                    task.cancel()  # it would hold its connection for nobody
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Cancel what is in flight and close the connections, if nobody waits any more."""
        if len(self.plan) or self._closed:
            return
        self._closed = True
        for task in self.in_flight:
            task.cancel()
        for client in (*self._outdated, self._client):
            self._clients.close(client)
        self._on_idle(self)


class EndpointPoller:
    """All who wait at one endpoint: they share its capacity.

    :param on_idle: called when nobody waits here any more.
    """

    def __init__(
        self,
        url: str,
        *,
        clients: Clients,
        metrics: Metrics,
        clock: Callable[[], float],
        max_in_flight: int,
        on_idle: Callable[[EndpointPoller], None],
    ) -> None:
        self.url = url
        self._clients, self._metrics, self._clock, self._on_idle = clients, metrics, clock, on_idle
        self._throttle = Throttle(max_in_flight=max_in_flight)
        self._parents: dict[tuple[Any, ...], ParentPoller] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._counted_at = -math.inf

    def parent(self, settings: ConnectionSettings, access: Access, reference: OperationReference) -> ParentPoller:
        """The poller of an operation's parent."""
        service, version = find_service(reference.service), reference.version
        name, waits = parent_of(reference.name), service.offers("wait", reference.name, version)
        key = (reference.service, version, reference.host, name, access.identity, waits)
        if (parent := self._parents.get(key)) is None:
            lists = service.offers("list", name, version) and not service.filter_required
            parent = self._parents[key] = ParentPoller(
                ParentPlan(name, lists=lists, waits=waits, max_in_flight=self._throttle.max_in_flight),
                settings=settings,
                access=access,
                reference=reference,
                clients=self._clients,
                on_idle=lambda idle: self._drop(key, idle),
            )
        parent.use(access)
        return parent

    def add(self, parent: ParentPoller, waiter: Waiter) -> None:
        """Begin to wait."""
        now = self._clock()
        parent.plan.add(waiter, now)
        self._wake(now)

    def _drop(self, key: tuple[Any, ...], parent: ParentPoller) -> None:
        del self._parents[key]
        self._count(parent.service)
        if not self._parents:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._on_idle(self)

    # -- sending -------------------------------------------------------------------------------------

    def _wake(self, at: float = -math.inf) -> None:
        """Send what is due, at a time, or at once: after a response, when somebody may be due already."""
        delay = 0.0 if at == -math.inf else max(at - self._clock(), TICK_SECONDS)
        when = self._loop.time() + delay
        if at == math.inf or (self._timer is not None and self._timer.when() <= when):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._act, context=contextvars.Context())

    def _act(self) -> None:
        self._timer = None
        try:
            self._wake(self._send_due(self._clock()))
        except Exception as error:
            self._crashed(error)

    def _crashed(self, error: BaseException) -> None:
        """Nobody may wait for ever because of a bug."""
        log.error("the shared poller failed: %s", self.url, exc_info=error)
        end = OperationsError(f"the shared poller of {self.url} failed ({error!r}); see the triggerer's log")
        for parent in list(self._parents.values()):
            spawn(self._notify(parent, [(waiter, end) for waiter in parent.plan.waiters]))

    def _send_due(self, now: float) -> float:
        """Send what is due; gives the time of the next call."""
        self._count_waiting(now)
        parents, throttle = list(self._parents.values()), self._throttle
        closed = throttle.troubled and not throttle.capacity(now)
        for parent in parents:
            if news := parent.plan.overdue(now, closed=closed):
                spawn(self._notify(parent, news))
        # Each holds a connection, and half of them are for others.
        most = min(MAX_LONG_POLLS, throttle.max_in_flight // 2)
        few = self._waiting <= most
        for parent in parents:
            long_polls = most - sum(r.verb == "wait" for p in parents for r in p.in_flight.values()) if few else 0
            for request in parent.plan.requests(now, throttle.capacity(now), long_polls):
                self._send(parent, request, now)
            parent.log_method(now)
        if parents:  # a busy parent does not keep the others from being first in their turn
            first = next(iter(self._parents))
            self._parents[first] = self._parents.pop(first)
        # A deadline that passed without a last poll, for lack of capacity, is noticed a little later.
        deadlines = (parent.plan.next_deadline for parent in parents)
        following = [at if at > now else at + LAST_POLL_SECONDS for at in deadlines]
        if throttle.capacity(now):
            following += [parent.plan.next_at(now) for parent in parents]
        else:
            following.append(throttle.opens_at(now))
        return min(following, default=math.inf)

    def _send(self, parent: ParentPoller, request: PollRequest, now: float) -> None:
        ticket = self._throttle.sent(now)
        task = spawn(self._poll(parent, request, ticket))

        def finish(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self._crashed(error)
            # Cancelled before the response; perhaps before its first step, and then nothing of it has run.
            if parent.in_flight.pop(done, None) is not None:
                self._throttle.release(ticket)
                self._wake()

        parent.in_flight[task] = request
        task.add_done_callback(finish)

    async def _poll(self, parent: ParentPoller, request: PollRequest, ticket: Ticket) -> None:
        """One request, from its sending to the notification of all whom the response concerns."""
        try:
            response = await parent.send(request)
        except Exception as error:
            parent.finished()
            news = self._failed(parent, request, ticket, error)
        else:
            parent.finished()
            news = await self._responded(parent, request, ticket, response)
        self._wake()
        await self._notify(parent, news)

    # -- what came -----------------------------------------------------------------------------------

    async def _responded(
        self, parent: ParentPoller, request: PollRequest, ticket: Ticket, response: Operation | Rows
    ) -> list[Notification]:
        now = self._clock()
        self._metrics.request(parent.service, request.verb, "ok")
        if self._throttle.responded(ticket):
            log.info("endpoint recovered, %d waiting: %s", self._waiting, self.url)
            for each in self._parents.values():
                each.plan.lists.recovered()
        if isinstance(response, Operation):
            return parent.plan.responded(request, response, ticket.sent, now)
        return await self._read_page(parent, response, now)

    @staticmethod
    async def _read_page(parent: ParentPoller, page: Rows, now: float) -> list[Notification]:
        news: list[Notification] = []
        for first in range(0, len(page.rows), ROWS_PER_TURN):
            news += parent.plan.rows(page.rows[first : first + ROWS_PER_TURN], now)
            await asyncio.sleep(0)
        parent.plan.end_page(page.next_page_token, page.size, now)
        return news

    def _failed(
        self, parent: ParentPoller, request: PollRequest, ticket: Ticket, error: Exception
    ) -> list[Notification]:
        now, metrics, throttle = self._clock(), self._metrics, self._throttle
        status = error.status if isinstance(error, ApiError) else type(error).__name__
        metrics.request(parent.service, request.verb, status)
        if not isinstance(error, OperationsError):
            throttle.release(ticket)
            log.error("%s failed unexpectedly: %s", request.verb, request.name, exc_info=error)
            error = OperationsError(f"{request.verb} {request.name} failed: {error!r}; see the triggerer's log")
        elif error.transient:
            if isinstance(error, ResourceExhaustedError):
                metrics.throttled(parent.service)
            shortest = min((each.plan.shortest_interval() for each in self._parents.values()), default=0.0)
            max_pause = min(max(shortest, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
            if throttle.failed(ticket, error, now, max_pause=max_pause):
                for each in self._parents.values():
                    spawn(each.renew())
                log.warning(
                    "endpoint in trouble, polling slowly for %d waiting: %s: %s", self._waiting, self.url, error
                )
        elif isinstance(error, ApiError):
            throttle.responded(ticket)
            if isinstance(error, UnauthenticatedError):
                spawn(parent.renew())
        else:
            throttle.release(ticket)
        if request.page is None:
            return parent.plan.failed(request, error, now)
        if line := parent.plan.lists.failed(error, now):
            log.warning("%s (%s %s)", line, parent.service, parent.plan.parent)
        return []

    async def _notify(self, parent: ParentPoller, news: list[Notification]) -> None:
        """Notify everybody, a few at a time: each notification wakes a trigger."""
        for waiter, what in news:
            if not isinstance(what, str):
                parent.plan.remove(waiter)
        for number, (waiter, what) in enumerate(news, 1):
            try:
                waiter.notify(what)
            except Exception:
                log.exception("could not notify whoever waits for %s", waiter.name)
            if isinstance(what, Operation) and what.end_time is not None:
                late = datetime.now(timezone.utc) - what.end_time
                self._metrics.known(parent.service, max(late.total_seconds(), 0.0))
            if number % NOTIFICATIONS_PER_TURN == 0:
                await asyncio.sleep(0)
        parent.close_if_idle()

    # -- counting ------------------------------------------------------------------------------------

    @property
    def _waiting(self) -> int:
        return sum(len(parent.plan) for parent in self._parents.values())

    def _count_waiting(self, now: float) -> None:
        if now >= self._counted_at + METRICS_INTERVAL_SECONDS:
            self._counted_at = now
            for service in {parent.service for parent in self._parents.values()}:
                self._count(service)

    def _count(self, service: str) -> None:
        number = sum(len(parent.plan) for parent in self._parents.values() if parent.service == service)
        self._metrics.waiting(service, number)
