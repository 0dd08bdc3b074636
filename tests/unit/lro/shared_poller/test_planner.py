"""Which requests are made for all who wait below one parent, played against a service made of plain data."""

from __future__ import annotations

import heapq
import itertools
import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lro_provider.lro import polling, protocol
from airflow_lro_provider.lro.errors import (
    InvalidArgumentError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    UnavailableError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.http.json import MAX_DEPTH
from airflow_lro_provider.lro.http.messages import Response
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import NOT_FOUND_SECONDS, NOT_FOUND_TIMES, Deadline, PollSchedule
from airflow_lro_provider.lro.resources.names import Parent
from airflow_lro_provider.lro.shared_poller import planner
from airflow_lro_provider.lro.shared_poller.list_strategy import SLOW_LIST_SECONDS
from airflow_lro_provider.lro.shared_poller.planner import ParentPlan, PollRequest
from airflow_lro_provider.lro.shared_poller.queue import Notification, Waiter

PARENT = "projects/p/locations/l"
LISTED = Parent("datafusion", "v1", PARENT, "datafusion.googleapis.com")


def name(number: int) -> str:
    """An operation's name."""
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
    requested: list[PollRequest] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def resource(self, operation: str, now: float) -> dict[str, Any]:
        """The operation as it is sent."""
        done = self.ends.get(operation, 0.0) <= now
        return {"name": operation, **({"done": True, "response": {}} if done else {})}

    def page(self, request: PollRequest, now: float) -> tuple[list[Any], str, int]:
        """Rows, the token of the next page, bytes."""
        query = request.page
        assert query is not None
        if query.filter and self.filter == "refused":
            raise error(InvalidArgumentError)
        if not self.shown:
            names = [f"{PARENT}/operations/old{i}" for i in range(self.history)] + sorted(self.ends)
            self.shown = [n for n in names if n not in self.hidden]
        names = self.shown
        if query.filter and self.filter == "heeded":
            names = [n for n in names if self.ends.get(n, 0.0) > now]
        if query.filter and self.filter == "hides":
            names = []
        first, size = int(query.page_token or 0), min(self.page_size, query.page_size)
        rows = [self.resource(n, now) for n in names[first : first + size]]
        token = str(first + size) if first + size < len(names) else ""
        return rows, token, len(rows) * self.row_size

    def count(self, verb: str) -> int:
        """How many requests of a verb came."""
        return sum(request.verb == verb for request in self.requested)


def deal(plan: ParentPlan, rows: list[Any], now: float, indent: int | None = None) -> list[Notification]:
    """Let a page arrive."""
    return deal_text(plan, json.dumps({"operations": rows}, indent=indent), now)


def deal_text(plan: ParentPlan, content: str, now: float) -> list[Notification]:
    """Let a page arrive, as it is written."""
    request = protocol.rows(LISTED, "https://datafusion.googleapis.com", protocol.PageQuery())
    return plan.rows(request.read(Response(200, {}, content.encode())).rows, now)


def play(plan: ParentPlan, service: Service, until: float, now: float = 0.0) -> dict[Waiter, tuple[float, Any]]:
    """Let time pass; gives when each wait ended, and with what."""
    ends: dict[Waiter, tuple[float, Any]] = {}
    flying: list[tuple[float, int, float, PollRequest]] = []
    order = itertools.count()
    while now <= until and len(plan):
        for waiter, what in plan.overdue(now, closed=False):
            ends[waiter] = (now, what)
            plan.remove(waiter)
        long_polls = 4 if len(plan) <= 4 else 0
        for request in plan.requests(now, 8 - len(flying), long_polls):
            service.requested.append(request)
            back = now + service.latency
            if request.verb == "wait":
                back = max(min(now + request.timeout, service.ends[request.name]), now) + service.latency
            heapq.heappush(flying, (back, next(order), now, request))
        assert len(flying) <= 8
        following = [flying[0][0]] if flying else []
        if len(flying) < 8:
            following.append(max(plan.next_at(now), now + 1e-9))
        now = min(following)
        assert now < math.inf, "somebody waits, and nothing will ever be requested"
        while flying and flying[0][0] <= now:
            _, _, sent, request = heapq.heappop(flying)
            if request.verb == "list":
                try:
                    rows, token, size = service.page(request, now)
                    news = deal(plan, rows, now)
                    plan.end_page(token, size, now)
                except InvalidArgumentError as refusal:
                    plan.lists.failed(refusal, now)
                    news = []
            else:
                news = plan.responded(request, Operation.from_json(service.resource(request.name, now)), sent, now)
            for waiter, what in news:
                if not isinstance(what, str):
                    assert waiter not in ends, "notified twice"
                    ends[waiter] = (now, what)
                    plan.remove(waiter)
    return ends


def waiting(
    count: int, interval: float | None = 5.0, *, started: float = 0.0, deadline: float | None = None, **service: Any
) -> tuple[ParentPlan, list[Waiter]]:
    """A plan with this many waiters."""
    plan = ParentPlan(PARENT, **{"lists": True, "waits": False, "rng": lambda: 0.5, **service})
    waiters = []
    for number in range(count):
        limit = None if deadline is None else Deadline(deadline, "timeout", deadline)
        schedule = PollSchedule(started=started, interval=interval, deadline=limit, rng=lambda: 0.5)
        waiters.append(Waiter(name(number), schedule))
        plan.add(waiters[-1], 0.0)
    return plan, waiters


def test_thousands_below_one_parent_are_listed() -> None:
    """Five thousand cost five pages every five seconds, and each end is known one interval later at the latest."""
    service = Service({name(i): 10 + (i % 3000) / 50 for i in range(5000)})
    plan, waiters = waiting(5000)
    ends = play(plan, service, 120)
    assert len(ends) == 5000
    assert max(ends[w][0] - service.ends[w.name] for w in waiters) <= 5.0 + 6 * service.latency
    assert service.count("get") < 50
    assert service.count("list") <= 5 * (70 / 5 + 2)


def test_one_alone_is_polled_by_name() -> None:
    """A single operation costs GETs, with its own interval."""
    service = Service({name(0): 20.0}, history=10)
    plan, [waiter] = waiting(1)
    ends = play(plan, service, 100)
    assert ends[waiter][1].done
    assert {request.verb for request in service.requested} == {"get"}
    assert service.count("get") <= 6


def test_a_long_history_is_found_out_and_left() -> None:
    """Where a list costs more than it saves, the filter is tried, then there are GETs; never twice as many requests."""
    service = Service({name(i): math.inf for i in range(200)}, history=20_000, filter="ignored")
    plan, _ = waiting(200)
    play(plan, service, 300)
    assert service.count("get") <= 200 * (300 / 5 + 2)
    assert service.count("list") <= 200


def test_a_filter_makes_a_long_history_cheap() -> None:
    """Where the service heeds it, a list of what runs takes the place of GETs; what is missing there is confirmed."""
    service = Service({name(i): 50 + i / 10 for i in range(200)}, history=20_000)
    plan, waiters = waiting(200)
    ends = play(plan, service, 120)
    assert len(ends) == 200
    assert max(ends[w][0] - service.ends[w.name] for w in waiters) <= 5.0 + 1.0
    assert service.count("get") <= 200 * 4
    assert any(request.page and request.page.filter for request in service.requested)


@pytest.mark.parametrize("filter", ["refused", "hides", "ignored", "heeded"])
def test_no_filter_is_believed(filter: str) -> None:
    """Whatever a service makes of the filter, every operation is seen to its end, and none before it."""
    service = Service({name(i): 30 + i / 10 for i in range(100)}, history=5_000, filter=filter)
    plan, waiters = waiting(100)
    ends = play(plan, service, 120)
    assert all(0 <= ends[w][0] - service.ends[w.name] <= 7 for w in waiters)


def test_what_a_list_does_not_show_is_polled_by_name() -> None:
    """A list never says that an operation is gone: one that it hides is waited for all the same."""
    hidden = frozenset(name(i) for i in range(10))
    service = Service({name(i): 40.0 for i in range(100)}, hidden=hidden)
    plan, waiters = waiting(100)
    ends = play(plan, service, 60)
    assert all(ends[w][1].done for w in waiters)
    assert service.count("get") <= 100 + 10 * (40 / 5 + 2)


def test_a_young_one_does_not_make_everybody_be_listed_every_second() -> None:
    """One that is due every second is polled by name between the lists for the others."""
    service = Service({name(i): math.inf for i in range(1000)})
    plan, _ = waiting(999, interval=60.0)
    quick = Waiter(name(999), PollSchedule(started=0.0, interval=1.0))
    plan.add(quick, 0.0)
    play(plan, service, 120)
    assert service.count("list") <= 6
    assert 100 <= service.count("get") <= 140


def test_a_refused_list_is_not_requested_again() -> None:
    """403 for the list: one line for the log, and GETs from then on."""
    plan, _ = waiting(100)
    [request] = plan.requests(1.0, 8)
    assert request.verb == "list"
    line = plan.lists.failed(error(PermissionDeniedError), 1.1)
    assert line is not None
    assert "by name" in line
    assert [request.verb for request in plan.requests(2.0, 8)] == ["get"] * 8


def test_a_list_that_fails_for_a_moment_is_tried_again() -> None:
    """503 for the list: GETs for a moment, then the list."""
    plan, _ = waiting(100)
    plan.requests(1.0, 8)
    assert plan.lists.failed(error(UnavailableError), 1.1) is None
    assert plan.requests(1.2, 1)[0].verb == "get"
    assert plan.requests(2.0, 1)[0].verb == "list"


def test_an_error_is_that_of_its_operation_alone() -> None:
    """404, once it is believed, ends the wait for one; the others are not affected."""
    plan, _ = waiting(3, lists=False)
    requests = plan.requests(1.0, 8)
    for time in range(1, NOT_FOUND_TIMES):
        news = plan.failed(requests[0], error(NotFoundError, "get"), float(time))
        assert [(w.name, type(e)) for w, e in news] == [(requests[0].name, str)] * (time == 1)
    news = plan.failed(requests[0], error(NotFoundError, "get"), 1.0 + NOT_FOUND_SECONDS)
    assert [(w.name, type(e)) for w, e in news] == [(requests[0].name, NotFoundError)]


@pytest.mark.parametrize("tolerant", [False, True])
def test_a_row_that_is_too_deep_ends_one_wait_and_not_the_list(tolerant: bool) -> None:
    """What cannot be read of one operation concerns who waits for it, by a GET; the list goes on for all the others."""
    plan, waiters = waiting(100)
    waiters[5].schedule.tolerant = tolerant
    [request] = plan.requests(plan.next_at(0.0), 8)
    assert request.verb == "list"
    rows: list[Any] = [{"name": name(i), "done": True, "response": {}} for i in range(100)]
    for _ in range(2 * MAX_DEPTH):
        rows[5]["response"] = {"a": rows[5]["response"]}
    news = dict(deal(plan, rows, 1.0))
    plan.end_page("", 36_000, 1.0)
    assert [w for w in waiters if not isinstance(news.get(w), Operation)] == [waiters[5]]
    assert waiters[5] not in news
    for waiter in news:
        plan.remove(waiter)
    [request] = plan.requests(1.0, 8)
    assert request == PollRequest("get", name(5))
    for at in (1.1, 2.1, 5.1):  # as any error that ends a wait, it is believed after some time only
        assert all(isinstance(what, str) for _, what in plan.failed(request, ResponseTooLargeError("too deep"), at))
        plan.requests(plan.next_at(at), 8)
    ended = plan.failed(request, ResponseTooLargeError("too deep"), 1.1 + NOT_FOUND_SECONDS)
    assert [(who, type(what)) for who, what in ended] == ([] if tolerant else [(waiters[5], ResponseTooLargeError)])
    assert plan.next_at(1.1 + NOT_FOUND_SECONDS) < math.inf or not tolerant


def test_a_row_that_cannot_be_read_is_polled_by_name() -> None:
    """Otherwise whoever waits for it would wait for ever."""
    plan, waiters = waiting(100)
    plan.requests(plan.next_at(0.0), 8)
    rows: list[Any] = [{"name": name(i)} for i in range(100)]
    rows[5]["done"] = "no"
    deal(plan, rows, 1.0)
    plan.end_page("", 36_000, 1.0)
    assert plan.requests(1.0, 8) == [PollRequest("get", name(5))]
    news = plan.responded(PollRequest("get", name(5)), Operation.from_json({"name": name(5)}), 1.0, 1.1)
    assert [w for w, _ in news] == [waiters[5]]
    later = plan.next_at(1.1)
    assert [request.verb for request in plan.requests(later + 4.0, 8)] == ["list"]
    news = deal(plan, rows, later + 4.0)
    plan.end_page("", 36_000, later + 4.0)
    assert news == [], "the same trouble is logged once"


def test_who_was_notified_of_the_end_is_notified_of_nothing_more() -> None:
    """News from another request or another row, before the notification, does not take the end back."""
    plan, [waiter, *_] = waiting(100)
    plan.requests(plan.next_at(0.0), 8)
    row = {"name": name(0), "done": True, "error": {"code": 1}}
    news = deal(plan, [row, {"name": name(0)}], 1.0)
    news += plan.responded(PollRequest("get", name(0)), Operation.from_json(row), 0.5, 1.0)
    assert [what for _, what in news if not isinstance(what, str)] == [waiter.schedule.done]
    assert news[-1][1] is waiter.schedule.done


def listed(indent: int | None = None, **how: Any) -> tuple[ParentPlan, list[Waiter], list[dict[str, Any]]]:
    """A hundred who wait, and a list that has shown all of them at 1.0 and is requested again at 6.0."""
    plan, waiters = waiting(100, **how)
    plan.requests(plan.next_at(0.0), 8)
    rows: list[dict[str, Any]] = [{"name": w.name, "metadata": {"progressPercent": 1}} for w in waiters]
    deal(plan, rows, 1.0, indent)
    plan.end_page("", 36_000, 1.0)
    assert [request.verb for request in plan.requests(6.0, 8)] == ["list"]
    return plan, waiters, rows


def names_read(plan: ParentPlan, content: str, now: float = 6.0) -> list[str]:
    """Which operations of a page are read."""
    read: list[str] = []

    def noted(row: bytes) -> Operation:
        read.append(json.loads(row)["name"])
        return protocol.read_row(row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "read_row", noted)
        deal_text(plan, content, now)
    return read


@pytest.mark.parametrize("indent", [None, 2])
def test_a_row_that_says_what_it_said_is_not_read_again(indent: int | None) -> None:
    """Wherever it stands by now; and whoever waits for it has been shown it. Nor is one that nobody waits for."""
    plan, waiters, rows = listed(indent)
    rows[7] = {**rows[7], "metadata": {"progressPercent": 2}}
    rows[8] = {**rows[8], "done": True}
    again = json.dumps({"operations": [{"name": "another"}, *reversed(rows)], "nextPageToken": "t"}, indent=indent)
    assert names_read(plan, again) == [name(8), name(7)]
    assert [w.schedule.polls for w in waiters] == [2] * 100
    assert names_read(plan, again) == []


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_row_twice_in_one_list_is_not_read_again_however_long_it_is(length: int) -> None:
    """What it costs is its hash."""
    plan, _, rows = listed()
    rows[3]["metadata"]["text"] = "x" * length
    assert names_read(plan, json.dumps({"operations": [rows[3]] * 5})) == [name(3)]


@pytest.mark.parametrize(
    "row",
    [
        '{"name": "%s", "metadata": {"progressPercent": 10}}',
        '{"name": "%s", "metadata": {"progressPercent": 1}, "done": true}',
        '{"name": "%s"}',
        '{"done": true, "name": "%s"}',
        '{"name": "x", "name": "%s"}',
        '{"name": "%s", "metadata": {"progressPercent": 1e999}}',
    ],
)
def test_what_differs_at_all_is_read(row: str) -> None:
    """One character more is something new."""
    plan, _, _ = listed()
    assert names_read(plan, f'{{"operations": [{row % name(3)}]}}') == [name(3)]


@pytest.mark.parametrize(
    "row",
    [
        *('{"name": ""}', "{}", '"%s"', '["%s"]', "null", "1", '{"name": 1}', '{"name": ["%s"]}'),
        '{"name": "%s", "done": "no", "metadata": {"progressPercent": 1}}',
        '{"name": "%s", "name": 1}',
    ],
)
def test_a_row_without_a_head_is_nobodys(row: str) -> None:
    """It is neither read nor taken for a repetition: whoever waits for it is polled by name."""
    plan, waiters, rows = listed()
    row = row % name(3) if "%s" in row else row
    others = json.dumps(rows[:3] + rows[4:])[1:]
    assert names_read(plan, f'{{"operations": [{row}, {others}}}') == []
    plan.end_page("", 36_000, 6.1)
    assert waiters[3].schedule.polls == 1
    assert plan.requests(6.1, 8) == [PollRequest("get", name(3))]


@pytest.mark.parametrize("row", ['{"name": "%s', '{"name": "%s"', "{", "NaN", '{"name": "%s"}}', r'{"name": "\ud800"}'])
def test_a_page_that_is_cut_off_or_no_json_shows_nothing(row: str) -> None:
    """Its rows before the mistake are not believed either; a failed list is followed by GETs."""
    plan, _, rows = listed()
    row = row % name(3) if "%s" in row else row
    content = f'{{"operations": [{json.dumps({**rows[0], "done": True})}, {row}]}}'
    with pytest.raises(MalformedResponseError) as caught:
        deal_text(plan, content, 6.0)
    assert plan.lists.failed(caught.value, 6.0) is None
    assert [request.verb for request in plan.requests(6.1, 100)] == ["get"] * 100


def test_a_repetition_ends_no_deadline() -> None:
    """When the time is up a row is read, whatever it says, and ends the wait."""
    plan, waiters, rows = listed(deadline=7.0)
    news = deal(plan, rows, 6.9)
    assert news == []
    news = deal(plan, rows, 7.0)
    assert [w for w, what in news if isinstance(what, WaitTimeoutError)] == waiters


def test_who_waits_for_the_same_operation_and_came_later_is_notified_of_its_state() -> None:
    """What is a repetition for one is news for the other."""
    plan, waiters, rows = listed()
    late = Waiter(waiters[3].name, PollSchedule(started=6.0, interval=5.0))
    plan.add(late, 6.0)
    assert [w for w, _ in deal(plan, rows, 6.1)] == [late]
    assert deal(plan, rows, 6.2) == []


def test_who_comes_beside_lists_has_few_connections() -> None:
    """Where lists pay, newcomers are polled two at a time; those whom the list does not show, all at once."""
    plan, waiters = waiting(1000)
    [request] = plan.requests(plan.next_at(0.0), 8)
    assert request.verb == "list"
    deal(plan, [{"name": w.name} for w in waiters[20:]], 1.0)
    plan.end_page("", 360_000, 1.0)
    requests = plan.requests(1.0, 8)
    assert [request.verb for request in requests] == ["get"] * 8, "not shown: perhaps finished"
    for request in requests:
        plan.responded(request, Operation.from_json({"name": request.name}), 1.0, 1.1)
    while requests := plan.requests(1.1, 8):
        for request in requests:
            plan.responded(request, Operation.from_json({"name": request.name}), 1.1, 1.1)
    for number in range(1000, 1010):
        plan.add(Waiter(name(number), PollSchedule(started=1.1, interval=5.0)), 1.1)
    requests = plan.requests(1.2, 8)
    assert [request.verb for request in requests] == ["get"] * 2
    assert plan.requests(1.2, 6) == []
    assert plan.next_at(1.2) > 1.2, "until one of them has finished, or the list is worth it"
    plan.responded(requests[0], Operation.from_json({"name": requests[0].name}), 1.2, 1.3)
    assert len(plan.requests(1.3, 7)) == 1


def test_a_list_of_many_pages_is_not_begun_again_before_somebody_is_due() -> None:
    """A list that takes half of the interval is no reason to poll twice as often."""
    plan, _ = waiting(2000)
    service = Service({name(i): 1000.0 for i in range(2000)}, page_size=40)  # 50 pages, 50 ms each
    play(plan, service, 62.0)
    assert 50 * 11 <= service.count("list") <= 50 * 13


def test_a_history_that_was_too_long_for_few_is_not_for_many() -> None:
    """Those who come first do not decide for those who come after them: lists are tried again for twice as many."""
    plan, waiters = waiting(50)
    assert [request.verb for request in plan.requests(plan.next_at(0.0), 8)] == ["list"]
    deal(plan, [{"name": w.name} for w in waiters], 1.0)
    plan.end_page("more", 1_000_000, 1.0)  # worth 51 GETs, and the end is not in sight
    for number in range(50, 99):
        plan.add(Waiter(name(number), PollSchedule(started=1.0, interval=5.0)), 1.0)
    requests = plan.requests(8.0, 200)
    assert [request.verb for request in requests] == ["get"] * 99
    for request in requests:
        plan.responded(request, Operation.from_json({"name": request.name}), 8.0, 8.1)
    plan.add(Waiter(name(99), PollSchedule(started=8.1, interval=5.0)), 8.1)
    assert [request.verb for request in plan.requests(14.0, 200)] == ["list"]


def test_where_lists_no_longer_pay_nobody_is_held_back_for_one() -> None:
    """Once most have left, two GETs in flight are no reason to wait."""
    plan, waiters = waiting(100)
    plan.requests(plan.next_at(0.0), 8)
    deal(plan, [{"name": w.name} for w in waiters], 1.0)
    plan.end_page("", 220_000, 1.0)  # worth 12 GETs
    for number in range(100, 110):
        plan.add(Waiter(name(number), PollSchedule(started=1.1, interval=5.0)), 1.1)
    assert [request.verb for request in plan.requests(1.2, 8)] == ["get"] * 2
    assert plan.next_at(1.2) > 1.2
    for waiter in waiters:
        plan.remove(waiter)
    assert [request.verb for request in plan.requests(1.3, 2)] == ["get"] * 2
    assert plan.next_at(1.3) <= 1.3
    assert [request.verb for request in plan.requests(1.3, 8)] == ["get"] * 6


def test_two_who_wait_for_the_same_operation_cost_one_request() -> None:
    """They share the polls; each has its own end."""
    plan, [first] = waiting(1)
    second = Waiter(name(0), PollSchedule(started=0.0, interval=5.0))
    plan.add(second, 0.0)
    requests = [*plan.requests(1.0, 8), *plan.requests(1.0, 8)]
    assert [request.verb for request in requests] == ["get"]
    news = plan.responded(requests[0], Operation.from_json({"name": name(0), "done": True}), 1.0, 1.1)
    assert {w for w, what in news if isinstance(what, Operation)} == {first, second}


def test_who_leaves_does_not_disturb_the_others() -> None:
    """A removed waiter is not notified, and is polled no more."""
    service = Service({name(i): 20.0 for i in range(10)})
    plan, waiters = waiting(10)
    plan.remove(waiters[3])
    ends = play(plan, service, 60)
    assert set(ends) == set(waiters) - {waiters[3]}
    assert waiters[3].name not in {request.name for request in service.requested}


def test_deadlines_are_kept_with_lists_as_without() -> None:
    """At its deadline each is polled a last time and gets the error that ends the wait."""
    for count in (1, 100):
        service = Service({name(i): math.inf for i in range(count)})
        plan, waiters = waiting(count, deadline=12.0)
        ends = play(plan, service, 60)
        assert all(isinstance(ends[w][1], WaitTimeoutError) for w in waiters)
        assert all(12.0 <= ends[w][0] <= 12.0 + planner.LAST_POLL_SECONDS + 0.1 for w in waiters)


def test_a_deadline_ends_a_wait_also_while_nothing_can_be_sent() -> None:
    """A closed endpoint does not keep anybody beyond the deadline."""
    plan, [waiter] = waiting(1, deadline=12.0)
    assert plan.overdue(11.9, closed=True) == []
    [(who, what)] = plan.overdue(12.0, closed=True)
    assert who is waiter
    assert isinstance(what, WaitTimeoutError)


@pytest.mark.parametrize("count", [1, 100])
def test_who_comes_after_the_deadline_is_polled_all_the_same(count: int) -> None:
    """A triggerer that was away over the deadline learns what has ended meanwhile, and what has not."""
    service = Service({name(i): 5.0 if i % 2 == 0 else math.inf for i in range(count)})
    plan = ParentPlan(PARENT, lists=True, waits=False)
    waiters = [
        Waiter(name(i), PollSchedule(started=0.0, deadline=Deadline(12.0, "timeout", 12.0))) for i in range(count)
    ]
    for waiter in waiters:
        plan.add(waiter, 600.0)
    ends = play(plan, service, 700, 600.0)
    for number, waiter in enumerate(waiters):
        assert isinstance(ends[waiter][1], WaitTimeoutError if number % 2 else Operation)
        assert ends[waiter][0] <= 600.0 + planner.LAST_POLL_SECONDS


def test_few_are_waited_for_with_the_services_own_wait() -> None:
    """After a first GET a `:wait` responds at the end."""
    service = Service({name(i): 100.0 + i for i in range(3)}, waits=True)
    plan = ParentPlan(PARENT, lists=False, waits=True, rng=lambda: 0.5)
    waiters = [Waiter(name(i), PollSchedule(started=0.0)) for i in range(3)]
    for waiter in waiters:
        plan.add(waiter, 0.0)
    ends = play(plan, service, 200)
    assert all(ends[w][0] - service.ends[w.name] <= 2 * service.latency for w in waiters)
    assert service.count("wait") <= 3 * (100 / polling.LONG_POLL_SECONDS + 2)


def test_a_wait_keeps_the_poll_interval() -> None:
    """An explicit interval is the time between two requests, also between two `:wait`."""
    service = Service({name(0): 100.0}, waits=True)
    plan = ParentPlan(PARENT, lists=False, waits=True)
    plan.add(Waiter(name(0), PollSchedule(started=0.0, interval=10.0)), 0.0)
    play(plan, service, 200)
    assert {request.timeout for request in service.requested if request.verb == "wait"} == {10.0}
    assert len(service.requested) <= 12


def test_a_wait_that_does_not_wait_is_given_up() -> None:
    """A service that responds to a `:wait` at once is polled in the ordinary way."""
    plan = ParentPlan(PARENT, lists=False, waits=True, rng=lambda: 0.5)
    plan.add(Waiter(name(0), PollSchedule(started=0.0, rng=lambda: 0.5)), 0.0)
    now, verbs = 0.0, []
    for _ in range(20):
        now = max(plan.next_at(now), now)
        [request] = plan.requests(now, 8, 4)
        verbs.append(request.verb)
        plan.responded(request, Operation.from_json({"name": name(0)}), now, now + 0.01)
    assert verbs.count("wait") == polling.MAX_FAILED_LONG_POLLS
    assert now >= 15


def test_changes_are_logged_once() -> None:
    """Progress is one line each time it changes, from lists too; what stays the same is not logged."""
    plan, [waiter] = waiting(1)
    lines = []
    for percent in (10, 10, 20, 20):
        [request] = plan.requests(plan.next_at(0.0), 8)
        raw = {"name": name(0), "metadata": {"progressPercent": percent}}
        news = plan.responded(request, Operation.from_json(raw), 0.0, 0.0)
        lines += [what for _, what in news]
    assert len(lines) == 2
    assert waiter.schedule.last is None, "thousands of answers are not kept"


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
    """Whatever the parent is like: each end is notified once, not before it is true, and within one own interval."""
    intervals = [data.draw(st.sampled_from([None, 1.0, 5.0, 20.0])) for _ in range(count)]
    service = Service(
        {name(i): data.draw(st.floats(0, 60)) for i in range(count)},
        history=history,
        page_size=page_size,
        filter=filter,
        hidden=frozenset(name(i) for i in range(count) if data.draw(st.integers(0, 9)) == 0),
    )
    plan = ParentPlan(PARENT, lists=lists, waits=False, rng=lambda: 0.7)
    waiters = [Waiter(name(i), PollSchedule(started=0.0, interval=interval)) for i, interval in enumerate(intervals)]
    for waiter in waiters:
        plan.add(waiter, 0.0)
    ends = play(plan, service, 100)
    assert set(ends) == set(waiters)
    # A turn in the queue of eight, and a list that has begun, come on top.
    slack = (count / 8 + 2) * service.latency * 2 + SLOW_LIST_SECONDS + 1
    for waiter, interval in zip(waiters, intervals, strict=True):
        late = ends[waiter][0] - service.ends[waiter.name]
        assert 0 <= late <= (3.5 if interval is None else interval * 1.01) + slack
        assert ends[waiter][1].done
    gets_alone = sum(90 / (interval or 1.0) + 3 for interval in intervals)
    assert len(service.requested) <= 2 * gets_alone
