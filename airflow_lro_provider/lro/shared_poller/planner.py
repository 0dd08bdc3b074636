"""Which requests to send next for all who wait below one parent, and what a response means to whom.

A :class:`ParentPlan` is one parent at one endpoint, seen by one identity, as plain data: who waits and when each is due
(:class:`~airflow_lro_provider.lro.polling.PollSchedule`). It is asked for the next requests, is given the responses,
and returns whom to notify of what. It has no clock and sends nothing.

The choice is by cost, and the unit is one GET (:mod:`airflow_lro_provider.lro.shared_poller.list_strategy`):

* A list refreshes everybody. When somebody is due, it is worth its cost in GETs if that many have at least half of
  their interval behind them: they are polled a little early then, and together from then on.
* Otherwise each is polled with a GET when it is due, never more at a time than the endpoint has capacity for.
* ``:wait``, where the service has it, while few wait: it holds a connection per operation, and responds at once.

What a list does not show, or shows in a way that cannot be read, is requested by name: a list is never evidence that
an operation is gone.
"""

from __future__ import annotations

import marshal
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from airflow_lro_provider.lro.errors import MalformedResponseError, OperationsError
from airflow_lro_provider.lro.http.json import Row, read_head
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, LongPolls
from airflow_lro_provider.lro.protocol import PageQuery, read_row
from airflow_lro_provider.lro.shared_poller.list_strategy import ListRun, ListStrategy
from airflow_lro_provider.lro.shared_poller.queue import Notification, Queue, Waiter

GATHER_SECONDS = 0.05
"""Batching window: those who join within it are polled for the first time together."""
MAX_LONG_POLLS = 4
"""Maximum number of ``:wait`` at a time; never more than half of an endpoint's capacity."""
GETS_BESIDE_LISTS = 2
"""Maximum number of GETs at a time for newcomers where lists pay: each TLS connection costs much memory, and if there
are many newcomers, the list soon serves all of them."""
LAST_POLL_SECONDS = 2.0
"""How long after its deadline a wait may still be queued for its last poll."""


@dataclass(frozen=True)
class PollRequest:
    """A request to send.

    :param verb: get, wait or list.
    :param name: the operation, or the parent.
    :param timeout: of a ``:wait``, in seconds.
    :param page: of a list.
    """

    verb: str
    name: str
    timeout: float = 0.0
    page: PageQuery | None = None


class ParentPlan:
    """All who wait below one parent.

    :param lists: whether the service can list it.
    :param waits: whether the service has ``:wait`` for such names.
    """

    def __init__(
        self,
        parent: str,
        *,
        lists: bool,
        waits: bool,
        max_in_flight: int = MAX_IN_FLIGHT,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.parent = parent
        self.method = ""
        """How it is polled at present, for the log."""
        self.next_deadline = math.inf
        """No deadline is before this, except of those whose last request is in flight."""
        self.lists = ListStrategy(lists=lists, max_in_flight=max_in_flight)
        """Whether and how it is listed."""
        self._waiters: dict[str, tuple[Waiter, ...]] = {}
        self._queue = Queue()
        self._long_polls = LongPolls(waits)
        self._rng = rng
        self._gets = 0  # in flight
        self._lists_pay = False

    def __len__(self) -> int:
        return len(self._waiters)

    def __contains__(self, operation: str) -> bool:
        return operation in self._waiters

    @property
    def waiters(self) -> Iterator[Waiter]:
        """All of them."""
        return (waiter for same in self._waiters.values() for waiter in same)

    def add(self, waiter: Waiter, now: float) -> None:
        """Begin to wait."""
        self._waiters[waiter.name] = (*self._waiters.get(waiter.name, ()), waiter)
        waiter.polled_at = now
        self.lists.added += 1
        if waiter.schedule.deadline is not None:
            self.next_deadline = min(self.next_deadline, waiter.schedule.deadline.at)
        self._queue.put(waiter, now + GATHER_SECONDS)

    def remove(self, waiter: Waiter) -> None:
        """Stop waiting. The others are not affected."""
        if waiter.removed:
            return
        waiter.removed = True
        rest = tuple(other for other in self._waiters.get(waiter.name, ()) if other is not waiter)
        if rest:
            self._waiters[waiter.name] = rest
        else:
            self._waiters.pop(waiter.name, None)
        self._queue.prune(self.waiters, len(self._waiters))

    # -- what to send --------------------------------------------------------------------------------

    def next_at(self, now: float) -> float:
        """When to call :meth:`requests` again; infinity if only a response can change anything."""
        if (run := self.lists.run) is not None:
            # Everybody in the queue is being polled; only deadlines go on.
            return self.next_deadline + LAST_POLL_SECONDS if run.next_page is None else now
        head = self._queue.head()
        if head is None:
            return math.inf
        return max(head.due, self.lists.worth_at) if self._lists_pay and self._left_to_list(head) else head.due

    def requests(self, now: float, capacity: int, long_polls: int = 0) -> list[PollRequest]:
        """The requests to send now. Their operations count as in flight until they are responded to.

        :param capacity: how many the endpoint takes now.
        :param long_polls: how many of them may be a ``:wait``.
        """
        if capacity <= 0:
            return []
        if self.lists.run is not None:
            return self._next_page()
        by_wait = long_polls > 0 and self._long_polls.usable(now)
        variant = None if by_wait else self.lists.choose(len(self), now)
        self._lists_pay = variant is not None
        head = self._queue.head()
        if head is None or head.due > now:
            return []
        if variant is not None and self.lists.is_worth(variant, self._waiters.values(), now):
            self.method = variant.name
            self.lists.start(variant, len(self), now)
            return self._next_page()
        found: list[PollRequest] = []
        while head is not None and head.due <= now and len(found) < capacity:
            if self._lists_pay and self._left_to_list(head):
                break
            waiter = self._queue.pop()
            same = self._waiters[waiter.name]
            shared = any(other.in_flight for other in same)  # one response serves all who wait for it
            waiter.in_flight = True
            if not shared:
                schedules = (other.schedule for other in same)
                timeout = self._long_polls.timeout(schedules, now) if by_wait and long_polls > 0 else 0.0
                long_polls -= timeout > 0
                self._gets += not timeout
                self.method = ":wait" if timeout else "GET"
                found.append(PollRequest("wait" if timeout else "get", waiter.name, timeout))
            head = self._queue.head()
        return found

    def shortest_interval(self) -> float:
        """The interval of whoever is polled most often, in seconds; an estimate, from the head of the queue."""
        head = self._queue.head()
        return math.inf if head is None else max(head.due - head.polled_at, 0.0)

    def overdue(self, now: float, *, closed: bool) -> list[Notification]:
        """Those past their deadline who cannot be polled once more in time.

        :param closed: whether the endpoint takes no requests at all now.
        """
        late = now - (0.0 if closed else LAST_POLL_SECONDS)
        if late < self.next_deadline:
            return []
        news: list[Notification] = []
        self.next_deadline = math.inf
        for waiter in self.waiters:
            if (deadline := waiter.schedule.deadline) is None:
                continue
            # Whoever joins after the deadline is polled all the same: the operation may have ended long ago.
            at = deadline.at if waiter.schedule.polls else max(deadline.at, waiter.polled_at)
            if at > late:
                self.next_deadline = min(self.next_deadline, at)
            elif waiter.in_flight:  # its response ends the wait, and must not hide the next deadline
                self.next_deadline = min(self.next_deadline, now)
            elif (end := _timeout(waiter, now)) is not None:
                news.append((waiter, end))
        return news

    # -- what a response means -----------------------------------------------------------------------

    def responded(self, request: PollRequest, operation: Operation, sent: float, now: float) -> list[Notification]:
        """Pass on the response to a GET or a ``:wait``."""
        news: list[Notification] = []
        self._gets -= request.verb == "get"
        if request.verb == "wait" and not operation.done:
            self._long_polls.judge(request.timeout, now - sent, now)
        fingerprint = _fingerprint(operation)
        for waiter in self._waiters.get(request.name, ()):
            waiter.in_flight = False
            if not _show(waiter, operation, fingerprint, now, news):
                continue
            if request.verb == "wait":
                delay = self._long_polls.delay(waiter.schedule, now - sent, now)
            else:
                # Those who began together drift apart.
                spread = 0.5 + 0.5 * self._rng() if waiter.schedule.polls == 1 else 1.0
                delay = waiter.schedule.delay(now) * spread
            waiter.polled_at = now
            waiter.listable = bool(waiter.listable)  # it runs, and the list does not show it
            self._queue.put(waiter, now + delay)
        return news

    def failed(self, request: PollRequest, error: OperationsError, now: float) -> list[Notification]:
        """Pass on the error of a GET or a ``:wait``: it concerns that operation only."""
        news: list[Notification] = []
        self._gets -= request.verb == "get"
        if request.verb == "wait":
            self._long_polls.failed(now)
        for waiter in self._waiters.get(request.name, ()):
            waiter.in_flight = False
            if request.verb == "wait" and not error.transient:
                self._queue.put(waiter, now)  # a GET shows whether it is the operation's error or that of `:wait`
                continue
            try:
                line = waiter.schedule.failed(error, now)
                waiter.schedule.check_deadline(now, waiter.name)
            except OperationsError as end:
                news.append((waiter, end))
                continue
            if line:
                news.append((waiter, line))
            waiter.polled_at = now
            self._queue.put(waiter, now + waiter.schedule.delay(now))
        return news

    def rows(self, rows: Sequence[Row], now: float) -> list[Notification]:
        """Pass on some rows of a page; :meth:`end_page` comes after the last ones.

        Most rows repeat what they said the last time: that costs a hash, and nothing is read.
        """
        news: list[Notification] = []
        if (run := self.lists.run) is None:
            return news
        run.rows += len(rows)
        for row in rows:
            try:
                head = read_head(row)
            except ValueError:
                continue
            same = self._waiters.get(head.name)
            if same is None:
                run.shows_finished = run.shows_finished or head.done
                continue
            run.matched += 1
            data = bytes(row)
            fingerprint = hash(data)
            operation: Operation | None = None
            for waiter in same:
                if waiter.fingerprint == fingerprint and now < self.next_deadline:
                    waiter.listed_in = run.number
                    waiter.schedule.observe_unchanged()
                    continue
                try:
                    operation = operation or read_row(data)
                except MalformedResponseError:
                    break
                waiter.listed_in = run.number
                _show(waiter, operation, fingerprint, now, news)
        return news

    def end_page(self, next_page_token: str, size: int, now: float) -> None:
        """Note the end of a page of ``size`` bytes."""
        if (run := self.lists.end_page(next_page_token, size, now)) is not None:
            self.lists.missed(run, self._reschedule(run, now))

    # -- in here -------------------------------------------------------------------------------------

    def _left_to_list(self, waiter: Waiter) -> bool:
        """Whether somebody whom lists show has to wait for the next one, or for a GET to finish."""
        return waiter.listable is True and self._gets >= GETS_BESIDE_LISTS

    def _next_page(self) -> list[PollRequest]:
        page = self.lists.next_page()
        return [] if page is None else [PollRequest("list", self.parent, page=page)]

    def _reschedule(self, run: ListRun, now: float) -> int:
        """Put everybody back into the queue after a list; gives how many it should have shown, and did not."""
        missing, number, started = 0, run.number, run.started
        waiters = list(self.waiters)
        for waiter in waiters:
            if waiter.listed_in == number:
                waiter.polled_at, waiter.listable = started, True
                due = started + waiter.schedule.delay(started)
                waiter.due = due if due > now else now
            elif run.complete and waiter.listable and waiter.polled_at < started:
                # Finished, hidden, or elsewhere: a GET will tell.
                missing += 1
                waiter.listable, waiter.due = None, min(waiter.due, now)
        self._queue.rebuild(waiters)
        return missing


def _show(waiter: Waiter, operation: Operation, fingerprint: int, now: float, news: list[Notification]) -> bool:
    """Pass on the state of an operation to one who waits for it; whether the wait goes on."""
    schedule = waiter.schedule
    if schedule.done is not None:  # notified already, and about to be removed
        return False
    if fingerprint == waiter.fingerprint:
        schedule.observe_unchanged()
    else:
        line, waiter.fingerprint = schedule.observe(operation), fingerprint
        if line:
            news.append((waiter, line))
        if schedule.done is not None:
            news.append((waiter, schedule.done))
            return False
    if (end := _timeout(waiter, now)) is not None:
        schedule.last = operation
        news.append((waiter, end))
        return False
    schedule.last = None  # thousands of responses are not kept
    return True


def _timeout(waiter: Waiter, now: float) -> OperationsError | None:
    """The error that ends a wait at its deadline."""
    try:
        waiter.schedule.check_deadline(now, waiter.name)
    except OperationsError as end:
        return end
    return None


def _fingerprint(operation: Operation) -> int:
    """Tells whether a response is the same as the last one."""
    try:
        return hash(marshal.dumps(operation.raw, 2))  # type: ignore[arg-type]
    except ValueError:
        return -1  # nested too deeply; no hash is -1
