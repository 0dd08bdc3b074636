"""Which requests to make next for all who wait below one parent, and what an answer means to whom.

A :class:`Family` is one parent of one endpoint, seen by one identity, as plain data: who waits, how long
already, when each wants the next look (:class:`~airflow_lro_provider.lro.polling.PollSchedule` says), and what
was learned of the parent. It is asked for the next requests and is told their answers; it gives back what
to tell whom. It has no clock and sends nothing.

The choice is by cost, and the unit is one GET (:mod:`airflow_lro_provider.lro.shared_poller.listing`):

* A list refreshes everybody. When somebody is due it is worth its cost in GETs if so many have at least
  half of their interval behind them: then they are looked at a little early, and together from then on.
* Else each is asked for with a GET when it is due, never more at a time than the endpoint has room for.
* ``:wait``, where there is one, when few wait: it holds a connection per operation, and tells at once.

What a list does not show is asked for by name; a list never says that an operation is gone.

Standard library only.
"""

from __future__ import annotations

import marshal
import math
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_lro_provider.lro.errors import MalformedResponseError, OperationsError, ResponseTooLargeError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, LongPolls
from airflow_lro_provider.lro.protocol import Row, read_row
from airflow_lro_provider.lro.shared_poller.list_strategy import ListRun, Lists
from airflow_lro_provider.lro.shared_poller.queue import Queue, Waiter

__all__ = ["Ask", "Family", "Told"]

GATHER = 0.05
"""Those who come within so many seconds get their first look together."""
FEW = 4
"""No more than so many ``:wait`` at a time, nor more than half of an endpoint's room."""
BESIDE_LISTS = 2
"""Who comes where a list pays has at most so many GETs at a time: each TLS connection costs much memory, and if there
are many, the list soon is for all of them."""
LARGEST_ROW = 20_000
"""Longer rows, in characters, are always read: to compare them costs more than it saves."""
UNHURRIED = 2.0
"""How long after its deadline a wait may still be waiting for its last look, in seconds."""

_name_of = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]+)"').match
"""The name of an operation that begins with it, as all do that are written from protocol buffers."""


@dataclass(frozen=True)
class Ask:
    """A request to make.

    :param verb: get, wait or list.
    :param name: the operation's, or the parent's.
    :param timeout: of a ``:wait``, in seconds.
    """

    verb: str
    name: str
    timeout: float = 0.0
    filter: str | None = None
    page_size: int = 0
    page_token: str | None = None


Told = tuple[Waiter, "Operation | OperationsError | str"]
"""Whom to tell what: the operation that is over, the error that ends the wait, or a line for the log."""


class Family:
    """All who wait below one parent.

    :param parent: its name, as a list wants it.
    :param lists: whether the service can list it.
    :param waits: whether the service has a ``:wait`` for such names.
    :param max_in_flight: how many requests the endpoint takes at a time.
    :param rng: gives numbers from 0 to 1.
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
        self.members: dict[str, tuple[Waiter, ...]] = {}
        self.choice = ""
        """How it is asked at present, in words."""
        self._lists = Lists(lists=lists, max_in_flight=max_in_flight)
        self._long_polls = LongPolls(waits)
        self._rng = rng
        self._queue = Queue()
        self._gets = 0
        self._pays = False
        self._next_deadline = math.inf

    def __len__(self) -> int:
        return len(self.members)

    @property
    def next_deadline(self) -> float:
        """No deadline of those who wait is before this, but of those whose last look is under way."""
        return self._next_deadline

    @property
    def waiters(self) -> Iterable[Waiter]:
        """All of them."""
        return (waiter for same in self.members.values() for waiter in same)

    def add(self, waiter: Waiter, now: float) -> None:
        """Begin to wait."""
        self.members[waiter.name] = (*self.members.get(waiter.name, ()), waiter)
        waiter.looked = now
        self._lists.joined += 1
        if waiter.watch.deadline is not None:
            self._next_deadline = min(self._next_deadline, waiter.watch.deadline.at)
        self._queue.put(waiter, now + GATHER)

    def remove(self, waiter: Waiter) -> None:
        """Wait no longer. The others are left as they are."""
        if waiter.gone:
            return
        waiter.gone = True
        rest = tuple(other for other in self.members.get(waiter.name, ()) if other is not waiter)
        if rest:
            self.members[waiter.name] = rest
        else:
            self.members.pop(waiter.name, None)
        self._queue.tidy(self.waiters, len(self.members))

    def shortest_interval(self) -> float:
        """Seconds between two looks at the one that is looked at most often; a guess, from the queue's head."""
        head = self._queue.head()
        return math.inf if head is None else max(head.due - head.looked, 0.0)

    # -- what to ask ---------------------------------------------------------------------------------

    def next_at(self, now: float) -> float:
        """When to ask again what to ask; infinity if that is when an answer comes."""
        if (run := self._lists.current) is not None:
            # Who is in the queue is being looked at. Only deadlines go on.
            return now if run.next_page is not None else self._next_deadline + UNHURRIED
        head = self._queue.head()
        if head is None:
            return math.inf
        return max(head.due, self._lists.ripe_at) if self._pays and self._rather_listed(head) else head.due

    def asks(self, now: float, room: int, long_polls: int = 0) -> list[Ask]:
        """The requests to make now. What they are about counts as asked for until it is answered.

        :param room: how many the endpoint takes.
        :param long_polls: how many of them may be a ``:wait``.
        """
        if room <= 0:
            return []
        if (run := self._lists.current) is not None:
            return [] if run.next_page is None else [self._ask_for(run)]
        by_wait = long_polls > 0 and self._long_polls.usable(now)
        way = None if by_wait else self._lists.way(len(self.members), now)
        self._pays = way is not None
        if way is not None and self._is_due(now) and self._lists.is_ripe(way, self.members.values(), now):
            self.choice = way.name
            return [self._ask_for(self._lists.begin(way, len(self.members), now))]
        found: list[Ask] = []
        while len(found) < room:
            head = self._queue.head()
            if head is None or head.due > now or (way is not None and self._rather_listed(head)):
                break
            waiter = self._queue.pop()
            same = self.members[waiter.name]
            under_way = any(other.busy for other in same)
            waiter.busy = True
            if under_way:
                continue  # the answer is for all who wait for it
            timeout = self._long_polls.timeout((w.watch for w in same), now) if by_wait and long_polls > 0 else 0.0
            long_polls -= timeout > 0
            self.choice = ":wait" if timeout else "GET"
            self._gets += not timeout
            found.append(Ask("wait" if timeout else "get", waiter.name, timeout))
        return found

    def expired(self, now: float, *, closed: bool) -> list[Told]:
        """Those whose deadline is over, and who cannot have a last look in time.

        :param closed: whether the endpoint takes no requests at all now.
        """
        late = now - (0.0 if closed else UNHURRIED)
        if late < self._next_deadline:
            return []
        told: list[Told] = []
        self._next_deadline = math.inf
        for waiter in list(self.waiters):
            if waiter.watch.deadline is None:
                continue
            at = waiter.watch.deadline.at
            if not waiter.watch.looks:  # who comes after it has a look all the same: it may be over long since
                at = max(at, waiter.looked)
            if at <= late and not waiter.busy:
                self._check_deadline(waiter, now, told)
            else:  # one about whom a request is under way is over with its answer, and does not hide the next one
                self._next_deadline = min(self._next_deadline, at if at > late else now)
        return told

    def _is_due(self, now: float) -> bool:
        head = self._queue.head()
        return head is not None and head.due <= now

    def _rather_listed(self, waiter: Waiter) -> bool:
        """Whether somebody whom a list shows waits for that, or for a GET to be over."""
        return waiter.listable is True and self._gets >= BESIDE_LISTS

    def _ask_for(self, run: ListRun) -> Ask:
        """The next page."""
        token, run.next_page = run.next_page, None
        return Ask("list", self.parent, filter=run.way.filter, page_size=run.way.page_size, page_token=token)

    # -- what an answer means ------------------------------------------------------------------------

    def saw(self, ask: Ask, operation: Operation, sent: float, now: float) -> list[Told]:
        """Deal out the answer to a GET or a ``:wait``.

        :param sent: when it was asked.
        """
        told: list[Told] = []
        self._gets -= ask.verb == "get"
        if ask.verb == "wait" and not operation.done:
            self._long_polls.judge(ask.timeout, now - sent, now)
        mark = _mark(operation.raw)
        for waiter in self.members.get(ask.name, ()):
            waiter.busy = False
            if self._show(waiter, operation.raw, mark, now, told, operation):
                if ask.verb == "wait":
                    delay = self._long_polls.delay(waiter.watch, now - sent, now)
                else:
                    # Those who began together drift apart.
                    delay = waiter.watch.delay(now) * (0.5 + 0.5 * self._rng() if waiter.watch.looks == 1 else 1.0)
                waiter.looked = now
                waiter.listable = bool(waiter.listable)  # it runs, and the list does not show it
                self._queue.put(waiter, now + delay)
        return told

    def refused(self, ask: Ask, error: OperationsError, now: float) -> list[Told]:
        """Deal out an error that a GET or a ``:wait`` was answered with: it is only that operation's."""
        told: list[Told] = []
        self._gets -= ask.verb == "get"
        if ask.verb == "wait":
            self._long_polls.failed(now)
        for waiter in self.members.get(ask.name, ()):
            waiter.busy = False
            if ask.verb == "wait" and not error.transient:
                self._queue.put(waiter, now)  # a GET will tell whose error it is
                continue
            try:
                line = waiter.watch.failed(error, now)
                waiter.watch.check_deadline(now, waiter.name)
            except OperationsError as end:
                told.append((waiter, end))
                continue
            if line:
                told.append((waiter, line))
            waiter.looked = now
            self._queue.put(waiter, now + waiter.watch.delay(now))
        return told

    def repeats(self, now: float, text: str, at: int) -> int:
        """See whether a row of a page says what it said the last time, and take note if it does.

        That is the lot of most, by far: it costs a hash of the row's text, and reads nothing.

        :param text: the page's.
        :param at: where in it the row begins.
        :return: where it ends; 0 if it has to be read, and given to :meth:`rows`.
        """
        found = _name_of(text, at)
        same = self.members.get(found[1]) if found is not None else None
        run = self._lists.current
        if same is None or run is None or now >= self._next_deadline or same[0].seen_in == run.number:
            return 0
        mark, end = same[0].mark, at + same[0].row_size
        if mark != hash(text[at:end]) or (len(same) > 1 and any(other.mark != mark for other in same)):
            return 0
        for waiter in same:
            waiter.seen_in = run.number
            waiter.watch.saw_no_change()
        run.rows, run.matched = run.rows + 1, run.matched + 1
        return end

    def rows(self, rows: Sequence[Row], now: float) -> list[Told]:
        """Deal out a piece of a page: operations as they came. :meth:`page` ends the page."""
        run = self._lists.current
        told: list[Told] = []
        if run is None:
            return told
        run.rows += len(rows)
        for row, text in rows:
            name = row.get("name") if isinstance(row, dict) else None
            same = self.members.get(name) if isinstance(name, str) else None
            if same is None:
                run.shows_done = run.shows_done or (name is not None and row.get("done") is True)
                continue
            run.matched += 1
            mark, size = hash(text), len(text) if len(text) <= LARGEST_ROW else 0
            for waiter in same:
                waiter.seen_in, waiter.row_size = run.number, size
                self._show(waiter, row, mark, now, told)
        return told

    def page(self, next_page_token: str, size: int, now: float) -> None:
        """End a page of a list.

        :param size: how many bytes the answer had.
        """
        if (run := self._lists.page(next_page_token, size, now)) is not None:
            self._lists.missed(run, self._reschedule(run, now))

    def list_failed(self, error: OperationsError, now: float) -> str | None:
        """Note that a list was answered with an error: everybody is asked for by name for a while.

        :return: a line for the log, if it is not one that passes.
        """
        return self._lists.failed(error, now)

    def recovered(self) -> None:
        """The endpoint was in trouble, and is well again."""
        self._lists.recovered()

    def _show(
        self,
        waiter: Waiter,
        raw: Mapping[str, Any],
        mark: int,
        now: float,
        told: list[Told],
        operation: Operation | None = None,
    ) -> bool:
        """Show one look to one who waits; whether it goes on waiting."""
        watch = waiter.watch
        if watch.done is not None:  # told already, and about to be removed
            return False
        try:
            if mark == waiter.mark:
                watch.saw_no_change()
            else:
                line = watch.saw(operation or read_row(raw))
                waiter.mark = mark
                if line:
                    told.append((waiter, line))
                if watch.done is not None:
                    told.append((waiter, watch.done))
                    return False
            watch.check_deadline(now, waiter.name)
        except MalformedResponseError as error:
            if operation is None and not isinstance(error, ResponseTooLargeError):
                waiter.seen_in = 0  # the list does not show it in a way that can be read: a GET will tell
                return True
            try:
                line = watch.failed(error, now)
            except MalformedResponseError as end:  # too large: that does not pass, and is nobody else's
                told.append((waiter, end))
                return False
            if line:
                told.append((waiter, line))
        except OperationsError as end:
            watch.last = operation or Operation.from_json(raw)
            told.append((waiter, end))
            return False
        watch.last = None  # thousands of answers are not kept
        return True

    def _reschedule(self, run: ListRun, now: float) -> int:
        """Put everybody back into the queue after a list; gives how many it should have shown, and did not."""
        missing, number, started = 0, run.number, run.started
        waiters = [waiter for same in self.members.values() for waiter in same]
        for waiter in waiters:
            if waiter.seen_in == number:
                waiter.looked, waiter.listable = started, True
                due = started + waiter.watch.delay(started)
                waiter.due = due if due > now else now
            elif run.whole and waiter.listable and waiter.looked < started:
                # Over, hidden, or elsewhere: a GET will tell.
                missing += 1
                waiter.listable, waiter.due = None, min(waiter.due, now)
        self._queue.rebuild(waiters)
        return missing

    def _check_deadline(self, waiter: Waiter, now: float, told: list[Told]) -> None:
        try:
            waiter.watch.check_deadline(now, waiter.name)
        except OperationsError as end:
            told.append((waiter, end))


def _mark(raw: Mapping[str, Any]) -> int:
    """What tells whether an answer is the same as the last one: its repetition costs a hash, and builds nothing."""
    try:
        return hash(marshal.dumps(raw, 2))  # type: ignore[arg-type]
    except ValueError:
        return -1  # too deep, which reading it will tell; no hash is -1
