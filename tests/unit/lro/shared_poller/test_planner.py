"""What is asked for all who wait below one parent, played against a service made of plain data."""

from __future__ import annotations

import heapq
import itertools
import json
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lro_provider.lro import polling, protocol
from airflow_lro_provider.lro.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    UnavailableError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.http.json import MAX_DEPTH
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import GRACE, Deadline, PollSchedule
from airflow_lro_provider.lro.protocol import Row, Rows
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.lro.shared_poller import planner as watching
from airflow_lro_provider.lro.shared_poller.list_strategy import SLOW_LIST
from airflow_lro_provider.lro.shared_poller.planner import Ask, Family, Told
from airflow_lro_provider.lro.shared_poller.queue import Waiter

PARENT = "projects/p/locations/l"
REFERENCE = OperationReference("datafusion", "v1", PARENT, "datafusion.googleapis.com")


def name(number: int) -> str:
    """The name of an operation."""
    return f"{PARENT}/operations/{number}"


def error(kind: Any, verb: str = "list") -> Any:
    """An error of the API."""
    return kind(service="datafusion", verb=verb, operation=PARENT, http_status=0, status="S", message="m")


@dataclass
class Service:
    """A service: which operations it has, when each ends, and what it thinks of lists."""

    ends: dict[str, float]
    history: int = 0
    page_size: int = 1000
    latency: float = 0.05
    row_size: int = 360
    filter: str = "heeded"  # ignored, refused, hides (everything)
    hidden: frozenset[str] = frozenset()
    waits: bool = False
    asked: list[Ask] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def resource(self, operation: str, now: float) -> dict[str, Any]:
        """The operation as it is sent."""
        done = self.ends.get(operation, 0.0) <= now
        return {"name": operation, **({"done": True, "response": {}} if done else {})}

    def page(self, ask: Ask, now: float) -> tuple[list[Any], str, int]:
        """Rows, the token of the next page, bytes."""
        if ask.filter and self.filter == "refused":
            raise error(InvalidArgumentError)
        if not self.shown:
            names = [f"{PARENT}/operations/old{i}" for i in range(self.history)] + sorted(self.ends)
            self.shown = [n for n in names if n not in self.hidden]
        names = self.shown
        if ask.filter and self.filter == "heeded":
            names = [n for n in names if self.ends.get(n, 0.0) > now]
        if ask.filter and self.filter == "hides":
            names = []
        first, size = int(ask.page_token or 0), min(self.page_size, ask.page_size)
        rows = [self.resource(n, now) for n in names[first : first + size]]
        token = str(first + size) if first + size < len(names) else ""
        return rows, token, len(rows) * self.row_size

    def count(self, verb: str) -> int:
        """How many requests of a verb came."""
        return sum(ask.verb == verb for ask in self.asked)


def deal(family: Family, rows: list[Any], now: float, indent: int | None = None) -> list[Told]:
    """Let a page arrive."""
    return family.rows(unknown(family, json.dumps({"operations": rows}, indent=indent), now), now)


def unknown(family: Family, content: str, now: float) -> list[Row]:
    """The rows of a page that have to be read."""
    page = Rows(protocol.list_(REFERENCE, "https://datafusion.googleapis.com"), content.encode())
    return list(page.read(partial(family.repeats, now)))


def play(family: Family, service: Service, until: float, now: float = 0.0) -> dict[Waiter, tuple[float, Any]]:
    """Let time pass; gives when each was told what, at the end of its wait."""
    ends: dict[Waiter, tuple[float, Any]] = {}
    flying: list[tuple[float, int, float, Ask]] = []
    order = itertools.count()
    while now <= until and family.members:
        for waiter, what in family.expired(now, closed=False):
            ends[waiter] = (now, what)
            family.remove(waiter)
        long_polls = 4 if len(family) <= 4 else 0
        for ask in family.asks(now, 8 - len(flying), long_polls):
            service.asked.append(ask)
            back = now + service.latency
            if ask.verb == "wait":
                back = max(min(now + ask.timeout, service.ends[ask.name]), now) + service.latency
            heapq.heappush(flying, (back, next(order), now, ask))
        assert len(flying) <= 8
        following = [flying[0][0]] if flying else []
        if len(flying) < 8:
            following.append(max(family.next_at(now), now + 1e-9))
        now = min(following)
        assert now < math.inf, "somebody waits, and nothing will ever be asked"
        while flying and flying[0][0] <= now:
            _, _, sent, ask = heapq.heappop(flying)
            if ask.verb == "list":
                try:
                    rows, token, size = service.page(ask, now)
                    told = deal(family, rows, now)
                    family.page(token, size, now)
                except InvalidArgumentError as refusal:
                    family.list_failed(refusal, now)
                    told = []
            else:
                told = family.saw(ask, Operation.from_json(service.resource(ask.name, now)), sent, now)
            for waiter, what in told:
                if not isinstance(what, str):
                    assert waiter not in ends, "told twice"
                    ends[waiter] = (now, what)
                    family.remove(waiter)
    return ends


def waiting(
    count: int, interval: float | None = 5.0, *, started: float = 0.0, deadline: float | None = None, **service: Any
) -> tuple[Family, list[Waiter]]:
    """So many who wait."""
    family = Family(PARENT, **{"lists": True, "waits": False, "rng": lambda: 0.5, **service})
    waiters = []
    for number in range(count):
        limit = None if deadline is None else Deadline(deadline, "timeout", deadline)
        watch = PollSchedule(started=started, interval=interval, deadline=limit, rng=lambda: 0.5)
        waiters.append(Waiter(name(number), watch))
        family.add(waiters[-1], 0.0)
    return family, waiters


def test_thousands_below_one_parent_are_listed() -> None:
    """Five thousand cost five pages every five seconds, and each is known one interval after its end at the latest."""
    service = Service({name(i): 10 + (i % 3000) / 50 for i in range(5000)})
    family, waiters = waiting(5000)
    ends = play(family, service, 120)
    assert len(ends) == 5000
    assert max(ends[w][0] - service.ends[w.name] for w in waiters) <= 5.0 + 6 * service.latency
    assert service.count("get") < 50
    assert service.count("list") <= 5 * (70 / 5 + 2)


def test_one_alone_is_asked_for_by_name() -> None:
    """A single operation costs GETs, with its own interval."""
    service = Service({name(0): 20.0}, history=10)
    family, [waiter] = waiting(1)
    ends = play(family, service, 100)
    assert ends[waiter][1].done
    assert {ask.verb for ask in service.asked} == {"get"}
    assert service.count("get") <= 6


def test_a_long_history_is_found_out_and_left() -> None:
    """Where a list costs more than it saves, the filter is tried, then there are GETs, and never more than twice."""
    service = Service({name(i): math.inf for i in range(200)}, history=20_000, filter="ignored")
    family, _ = waiting(200)
    play(family, service, 300)
    assert service.count("get") <= 200 * (300 / 5 + 2)
    assert service.count("list") <= 200


def test_a_filter_makes_a_long_history_cheap() -> None:
    """Where the service heeds it, a list of what runs takes the place of GETs; what is missing there is confirmed."""
    service = Service({name(i): 50 + i / 10 for i in range(200)}, history=20_000)
    family, waiters = waiting(200)
    ends = play(family, service, 120)
    assert len(ends) == 200
    assert max(ends[w][0] - service.ends[w.name] for w in waiters) <= 5.0 + 1.0
    assert service.count("get") <= 200 * 4
    assert any(ask.filter for ask in service.asked)


@pytest.mark.parametrize("filter", ["refused", "hides", "ignored", "heeded"])
def test_no_filter_is_believed(filter: str) -> None:
    """Whatever a service makes of the filter, every operation is seen to its end, and none before it."""
    service = Service({name(i): 30 + i / 10 for i in range(100)}, history=5_000, filter=filter)
    family, waiters = waiting(100)
    ends = play(family, service, 120)
    assert all(0 <= ends[w][0] - service.ends[w.name] <= 7 for w in waiters)


def test_what_a_list_does_not_show_is_asked_for_by_name() -> None:
    """A list never says that an operation is gone: one that it hides is waited for all the same."""
    hidden = frozenset(name(i) for i in range(10))
    service = Service({name(i): 40.0 for i in range(100)}, hidden=hidden)
    family, waiters = waiting(100)
    ends = play(family, service, 60)
    assert all(ends[w][1].done for w in waiters)
    assert service.count("get") <= 100 + 10 * (40 / 5 + 2)


def test_a_young_one_does_not_make_everybody_be_listed_every_second() -> None:
    """One that wants a look every second is asked for by name between the lists for the others."""
    service = Service({name(i): math.inf for i in range(1000)})
    family, _ = waiting(999, interval=60.0)
    quick = Waiter(name(999), PollSchedule(started=0.0, interval=1.0))
    family.add(quick, 0.0)
    play(family, service, 120)
    assert service.count("list") <= 6
    assert 100 <= service.count("get") <= 140


def test_a_refused_list_is_not_asked_for_again() -> None:
    """403 for the list: one line for the log, and GETs from then on."""
    family, _ = waiting(100)
    [ask] = family.asks(1.0, 8)
    assert ask.verb == "list"
    line = family.list_failed(error(PermissionDeniedError), 1.1)
    assert line is not None
    assert "by name" in line
    assert [ask.verb for ask in family.asks(2.0, 8)] == ["get"] * 8


def test_a_list_that_fails_for_a_moment_is_tried_again() -> None:
    """503 for the list: GETs for a moment, then the list."""
    family, _ = waiting(100)
    family.asks(1.0, 8)
    assert family.list_failed(error(UnavailableError), 1.1) is None
    assert family.asks(1.2, 1)[0].verb == "get"
    assert family.asks(2.0, 1)[0].verb == "list"


def test_an_error_is_that_of_its_operation_alone() -> None:
    """404 ends the wait for one; the others do not hear of it."""
    family, _ = waiting(3, lists=False)
    asks = family.asks(GRACE + 1, 8)
    told = family.refused(asks[0], error(NotFoundError, "get"), GRACE + 1)
    assert [(w.name, type(e)) for w, e in told] == [(asks[0].name, NotFoundError)]


@pytest.mark.parametrize("tolerant", [False, True])
def test_a_row_that_is_too_deep_ends_one_wait_and_not_the_list(tolerant: bool) -> None:
    """What cannot be read of one operation is told to who waits for it; the list goes on for all the others."""
    family, waiters = waiting(100)
    waiters[5].watch.tolerant = tolerant
    [ask] = family.asks(family.next_at(0.0), 8)
    assert ask.verb == "list"
    rows: list[Any] = [{"name": name(i), "done": True, "response": {}} for i in range(100)]
    for _ in range(2 * MAX_DEPTH):
        rows[5]["response"] = {"a": rows[5]["response"]}
    told = dict(deal(family, rows, 1.0))
    family.page("", 36_000, 1.0)
    assert [w for w in waiters if not isinstance(told[w], Operation)] == [waiters[5]]
    assert isinstance(told[waiters[5]], str if tolerant else ResponseTooLargeError)
    assert family.next_at(1.0) < math.inf


def test_a_row_that_cannot_be_read_is_asked_for_by_name() -> None:
    """The list shows it, and says nothing: whoever waits for it must not wait for the rest of its life."""
    family, waiters = waiting(100)
    family.asks(family.next_at(0.0), 8)
    rows: list[Any] = [{"name": name(i)} for i in range(100)]
    rows[5]["done"] = "no"
    deal(family, rows, 1.0)
    family.page("", 36_000, 1.0)
    assert family.asks(1.0, 8) == [Ask("get", name(5))]
    told = family.saw(Ask("get", name(5)), Operation.from_json({"name": name(5)}), 1.0, 1.1)
    assert [w for w, _ in told] == [waiters[5]]
    later = family.next_at(1.1)
    assert [ask.verb for ask in family.asks(later + 4.0, 8)] == ["list"]
    told = deal(family, rows, later + 4.0)
    family.page("", 36_000, later + 4.0)
    assert told == [], "the same trouble is told once"


def test_who_was_told_of_the_end_is_told_nothing_more() -> None:
    """What comes before the others are told, from another request or another row, does not take the end back."""
    family, [waiter, *_] = waiting(100)
    family.asks(family.next_at(0.0), 8)
    row = {"name": name(0), "done": True, "error": {"code": 1}}
    told = deal(family, [row, {"name": name(0)}], 1.0)
    told += family.saw(Ask("get", name(0)), Operation.from_json(row), 0.5, 1.0)
    assert [what for _, what in told if not isinstance(what, str)] == [waiter.watch.done]
    assert told[-1][1] is waiter.watch.done


def listed(indent: int | None = None, **how: Any) -> tuple[Family, list[Waiter], list[dict[str, Any]]]:
    """A hundred who wait, and a list that has shown all of them at 1.0 and is asked for again at 6.0."""
    family, waiters = waiting(100, **how)
    family.asks(family.next_at(0.0), 8)
    rows: list[dict[str, Any]] = [{"name": w.name, "metadata": {"progressPercent": 1}} for w in waiters]
    deal(family, rows, 1.0, indent)
    family.page("", 36_000, 1.0)
    assert [ask.verb for ask in family.asks(6.0, 8)] == ["list"]
    return family, waiters, rows


def names_read(family: Family, content: str, now: float = 6.0) -> list[str]:
    """Which operations on a page have to be read."""
    return [row["name"] for row, _ in unknown(family, content, now)]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_row_that_says_what_it_said_is_not_read_again(indent: int | None) -> None:
    """Wherever it stands by now; and whoever waits for it has had a look."""
    family, waiters, rows = listed(indent)
    rows[7] = {**rows[7], "metadata": {"progressPercent": 2}}
    rows[8] = {**rows[8], "done": True}
    again = json.dumps({"operations": [{"name": "another"}, *reversed(rows)], "nextPageToken": "t"}, indent=indent)
    assert names_read(family, again) == ["another", name(8), name(7)]
    assert [w.watch.looks for w in waiters] == [1 if i in (7, 8) else 2 for i in range(100)]


def test_a_row_twice_in_one_list_is_read_the_second_time() -> None:
    """One page must not keep everybody busy with what it says again and again."""
    family, _, rows = listed()
    assert names_read(family, json.dumps({"operations": [rows[3]] * 5})) == [name(3)] * 4


def test_a_very_long_row_is_always_read() -> None:
    """Its length must not be the price of each short row that claims its name later."""
    family, waiters, rows = listed()
    rows[3]["metadata"]["text"] = "x" * watching.LARGEST_ROW
    deal(family, rows, 6.0)
    family.page("", 36_000, 6.0)
    assert [ask.verb for ask in family.asks(11.0, 8)] == ["list"]
    assert names_read(family, json.dumps({"operations": rows}), 11.0) == [name(3)]
    assert waiters[3].row_size == 0


@pytest.mark.parametrize(
    "row",
    [
        '{"name": "%s", "metadata": {"progressPercent": 10}}',
        '{"name": "%s", "metadata": {"progressPercent": 1}, "done": true}',
        '{"name": "%s"}',
        '{"done": true, "name": "%s"}',
        '{"name": "x", "name": "%s"}',
        '{"name": ""}',
        '{"name": "%s',
        '{"name": "%s"',
        "{",
        '"%s"',
        "null",
    ],
)
def test_what_differs_at_all_is_read(row: str) -> None:
    """One character more is something new, and what cannot be read is not taken for a repetition either."""
    family, _, _ = listed()
    text = '{"operations": [' + (row % name(3) if "%s" in row else row) + "]}"
    assert family.repeats(6.0, text, text.index("[") + 1) == 0


def test_a_repetition_ends_no_deadline() -> None:
    """When the time is up a row is read, whatever it says, and ends the wait."""
    family, waiters, rows = listed(deadline=7.0)
    told = deal(family, rows, 6.9)
    assert told == []
    told = deal(family, rows, 7.0)
    assert [w for w, what in told if isinstance(what, WaitTimeoutError)] == waiters


def test_who_waits_for_the_same_operation_and_came_later_is_told_of_its_state() -> None:
    """What is a repetition for one is news for the other."""
    family, waiters, rows = listed()
    late = Waiter(waiters[3].name, PollSchedule(started=6.0, interval=5.0))
    family.add(late, 6.0)
    assert [w for w, _ in deal(family, rows, 6.1)] == [late]
    assert deal(family, rows, 6.2) == []


def test_who_comes_beside_lists_has_few_connections() -> None:
    """Where lists pay, newcomers are asked for two at a time; those whom the list does not show, all at once."""
    family, waiters = waiting(1000)
    [ask] = family.asks(family.next_at(0.0), 8)
    assert ask.verb == "list"
    deal(family, [{"name": w.name} for w in waiters[20:]], 1.0)
    family.page("", 360_000, 1.0)
    asks = family.asks(1.0, 8)
    assert [ask.verb for ask in asks] == ["get"] * 8, "not shown: perhaps over"
    for ask in asks:
        family.saw(ask, Operation.from_json({"name": ask.name}), 1.0, 1.1)
    while asks := family.asks(1.1, 8):
        for ask in asks:
            family.saw(ask, Operation.from_json({"name": ask.name}), 1.1, 1.1)
    for number in range(1000, 1010):
        family.add(Waiter(name(number), PollSchedule(started=1.1, interval=5.0)), 1.1)
    asks = family.asks(1.2, 8)
    assert [ask.verb for ask in asks] == ["get"] * 2
    assert family.asks(1.2, 6) == []
    assert family.next_at(1.2) > 1.2, "until one of them is over, or the list is worth it"
    family.saw(asks[0], Operation.from_json({"name": asks[0].name}), 1.2, 1.3)
    assert len(family.asks(1.3, 7)) == 1


def test_a_list_of_many_pages_is_not_begun_again_before_somebody_is_due() -> None:
    """A list that takes half of the interval is no reason to look twice as often."""
    family, _ = waiting(2000)
    service = Service({name(i): 1000.0 for i in range(2000)}, page_size=40)  # 50 pages, 50 ms each
    play(family, service, 62.0)
    assert 50 * 11 <= service.count("list") <= 50 * 13


def test_a_history_that_was_too_long_for_few_is_not_for_many() -> None:
    """Those who come first do not decide for those who come after them: lists are tried again for twice as many."""
    family, waiters = waiting(50)
    assert [ask.verb for ask in family.asks(family.next_at(0.0), 8)] == ["list"]
    deal(family, [{"name": w.name} for w in waiters], 1.0)
    family.page("more", 1_000_000, 1.0)  # worth 51 GETs, and the end is not in sight
    for number in range(50, 99):
        family.add(Waiter(name(number), PollSchedule(started=1.0, interval=5.0)), 1.0)
    asks = family.asks(8.0, 200)
    assert [ask.verb for ask in asks] == ["get"] * 99
    for ask in asks:
        family.saw(ask, Operation.from_json({"name": ask.name}), 8.0, 8.1)
    family.add(Waiter(name(99), PollSchedule(started=8.1, interval=5.0)), 8.1)
    assert [ask.verb for ask in family.asks(14.0, 200)] == ["list"]


def test_where_lists_no_longer_pay_nobody_is_held_back_for_one() -> None:
    """Once most have left, two GETs under way are no reason to wait."""
    family, waiters = waiting(100)
    family.asks(family.next_at(0.0), 8)
    deal(family, [{"name": w.name} for w in waiters], 1.0)
    family.page("", 220_000, 1.0)  # worth 12 GETs
    for number in range(100, 110):
        family.add(Waiter(name(number), PollSchedule(started=1.1, interval=5.0)), 1.1)
    assert [ask.verb for ask in family.asks(1.2, 8)] == ["get"] * 2
    assert family.next_at(1.2) > 1.2
    for waiter in waiters:
        family.remove(waiter)
    assert [ask.verb for ask in family.asks(1.3, 2)] == ["get"] * 2
    assert family.next_at(1.3) <= 1.3
    assert [ask.verb for ask in family.asks(1.3, 8)] == ["get"] * 6


def test_two_who_wait_for_the_same_operation_cost_one_request() -> None:
    """They share the looks; each has its own end."""
    family, [first] = waiting(1)
    second = Waiter(name(0), PollSchedule(started=0.0, interval=5.0))
    family.add(second, 0.0)
    asks = [*family.asks(1.0, 8), *family.asks(1.0, 8)]
    assert [ask.verb for ask in asks] == ["get"]
    told = family.saw(asks[0], Operation.from_json({"name": name(0), "done": True}), 1.0, 1.1)
    assert {w for w, what in told if isinstance(what, Operation)} == {first, second}


def test_who_leaves_does_not_disturb_the_others() -> None:
    """A removed waiter is told nothing, and is asked for no more."""
    service = Service({name(i): 20.0 for i in range(10)})
    family, waiters = waiting(10)
    family.remove(waiters[3])
    ends = play(family, service, 60)
    assert set(ends) == set(waiters) - {waiters[3]}
    assert waiters[3].name not in {ask.name for ask in service.asked}


def test_deadlines_are_kept_with_lists_as_without() -> None:
    """At its deadline each gets its last look and the error that ends the wait."""
    for count in (1, 100):
        service = Service({name(i): math.inf for i in range(count)})
        family, waiters = waiting(count, deadline=12.0)
        ends = play(family, service, 60)
        assert all(isinstance(ends[w][1], WaitTimeoutError) for w in waiters)
        assert all(12.0 <= ends[w][0] <= 12.0 + watching.UNHURRIED + 0.1 for w in waiters)


def test_a_deadline_ends_a_wait_also_while_nothing_can_be_asked() -> None:
    """A closed endpoint does not keep anybody beyond the deadline."""
    family, [waiter] = waiting(1, deadline=12.0)
    assert family.expired(11.9, closed=True) == []
    [(who, what)] = family.expired(12.0, closed=True)
    assert who is waiter
    assert isinstance(what, WaitTimeoutError)


@pytest.mark.parametrize("count", [1, 100])
def test_who_comes_after_the_deadline_has_a_look_all_the_same(count: int) -> None:
    """A triggerer that was away over the deadline learns what has ended meanwhile, and what has not."""
    service = Service({name(i): 5.0 if i % 2 == 0 else math.inf for i in range(count)})
    family = Family(PARENT, lists=True, waits=False)
    waiters = [
        Waiter(name(i), PollSchedule(started=0.0, deadline=Deadline(12.0, "timeout", 12.0))) for i in range(count)
    ]
    for waiter in waiters:
        family.add(waiter, 600.0)
    ends = play(family, service, 700, 600.0)
    for number, waiter in enumerate(waiters):
        assert isinstance(ends[waiter][1], WaitTimeoutError if number % 2 else Operation)
        assert ends[waiter][0] <= 600.0 + watching.UNHURRIED


def test_few_are_waited_for_with_the_services_own_wait() -> None:
    """After a first look a `:wait` tells of the end at once."""
    service = Service({name(i): 100.0 + i for i in range(3)}, waits=True)
    family = Family(PARENT, lists=False, waits=True, rng=lambda: 0.5)
    waiters = [Waiter(name(i), PollSchedule(started=0.0)) for i in range(3)]
    for waiter in waiters:
        family.add(waiter, 0.0)
    ends = play(family, service, 200)
    assert all(ends[w][0] - service.ends[w.name] <= 2 * service.latency for w in waiters)
    assert service.count("wait") <= 3 * (100 / polling.LONG_POLL_SECONDS + 2)


def test_a_wait_keeps_the_poll_interval() -> None:
    """An explicit interval is the time between two requests, also between two `:wait`."""
    service = Service({name(0): 100.0}, waits=True)
    family = Family(PARENT, lists=False, waits=True)
    family.add(Waiter(name(0), PollSchedule(started=0.0, interval=10.0)), 0.0)
    play(family, service, 200)
    assert {ask.timeout for ask in service.asked if ask.verb == "wait"} == {10.0}
    assert len(service.asked) <= 12


def test_a_wait_that_does_not_wait_is_given_up() -> None:
    """A service that answers a `:wait` at once is polled in the ordinary way."""
    family = Family(PARENT, lists=False, waits=True, rng=lambda: 0.5)
    family.add(Waiter(name(0), PollSchedule(started=0.0, rng=lambda: 0.5)), 0.0)
    now, verbs = 0.0, []
    for _ in range(20):
        now = max(family.next_at(now), now)
        [ask] = family.asks(now, 8, 4)
        verbs.append(ask.verb)
        family.saw(ask, Operation.from_json({"name": name(0)}), now, now + 0.01)
    assert verbs.count("wait") == polling.MAX_FAILED_LONG_POLLS
    assert now >= 15


def test_changes_are_told_once() -> None:
    """Progress is one line each time it changes, from lists too; what stays the same is not told."""
    family, [waiter] = waiting(1)
    lines = []
    for percent in (10, 10, 20, 20):
        [ask] = family.asks(family.next_at(0.0), 8)
        raw = {"name": name(0), "metadata": {"progressPercent": percent}}
        told = family.saw(ask, Operation.from_json(raw), 0.0, 0.0)
        lines += [what for _, what in told]
    assert len(lines) == 2
    assert waiter.watch.last is None, "thousands of answers are not kept"


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.data(),
    st.integers(1, 40),
    st.sampled_from([0, 50, 1000]),
    st.sampled_from([7, 50, 1000]),
    st.sampled_from(["heeded", "ignored", "refused", "hides"]),
    st.booleans(),
)
def test_everybody_learns_of_the_end_in_time(
    data: st.DataObject, count: int, history: int, page_size: int, filter: str, lists: bool
) -> None:
    """Whatever the parent is like: each end is told once, not before it is true, and within one own interval."""
    intervals = [data.draw(st.sampled_from([None, 1.0, 5.0, 20.0])) for _ in range(count)]
    service = Service(
        {name(i): data.draw(st.floats(0, 60)) for i in range(count)},
        history=history,
        page_size=page_size,
        filter=filter,
        hidden=frozenset(name(i) for i in range(count) if data.draw(st.integers(0, 9)) == 0),
    )
    family = Family(PARENT, lists=lists, waits=False, rng=lambda: 0.7)
    waiters = [Waiter(name(i), PollSchedule(started=0.0, interval=interval)) for i, interval in enumerate(intervals)]
    for waiter in waiters:
        family.add(waiter, 0.0)
    ends = play(family, service, 100)
    assert set(ends) == set(waiters)
    # A turn in the queue of eight, and a list that has begun, come on top.
    slack = (count / 8 + 2) * service.latency * 2 + SLOW_LIST + 1
    for waiter, interval in zip(waiters, intervals, strict=True):
        late = ends[waiter][0] - service.ends[waiter.name]
        assert 0 <= late <= (3.5 if interval is None else interval * 1.01) + slack
        assert ends[waiter][1].done
    gets_alone = sum(90 / (interval or 1.0) + 3 for interval in intervals)
    assert len(service.asked) <= 2 * gets_alone
