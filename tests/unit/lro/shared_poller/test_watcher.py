"""The watcher on an event loop whose time is the test's: hours pass in no time, and nothing is really sent."""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.auth.mtls import TlsSettings
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import (
    NotFoundError,
    OperationsError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TransportError,
    UnreachableError,
    WaitTimeoutError,
)
from airflow_lro_provider.lro.http.messages import Response
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, Deadline, PollSchedule
from airflow_lro_provider.lro.protocol import PageQuery, Rows
from airflow_lro_provider.lro.resources.names import OperationReference, Parent
from airflow_lro_provider.lro.shared_poller import clients
from airflow_lro_provider.lro.shared_poller.endpoint_poller import ROWS_PER_TURN, EndpointPoller
from airflow_lro_provider.lro.shared_poller.list_strategy import ListStrategy
from airflow_lro_provider.lro.shared_poller.planner import LAST_POLL_SECONDS, ParentPlan
from airflow_lro_provider.lro.shared_poller.watcher import Subscription, Watcher
from tests.outage import most_requests_of_an_outage

PARENT = "projects/p/locations/us-central1"
LISTED = Parent("datafusion", "v1", PARENT, "datafusion.googleapis.com")
SETTINGS = ConnectionSettings(is_anonymous=True)
LATENCY = 0.05


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when nothing else is to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        """The test's time."""
        return self.now

    def _run_once(self) -> None:
        timers = [handle.when() for handle in self._scheduled if not handle.cancelled()]
        if not self._ready and timers:
            self.now = max(self.now, min(timers))
        super()._run_once()


def run(test: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on such a loop."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(test)
    finally:
        loop.close()


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread would take real time."""

    async def inline(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", inline)


class Service:
    """A service, and its client: when each operation ends, and when which request fails."""

    def __init__(self, ends: dict[str, float], *, latency: float = LATENCY) -> None:
        self.ends, self.latency = ends, latency
        self.requests: list[tuple[float, str, str]] = []
        self.outages: list[tuple[float, float, OperationsError]] = []
        self.errors: dict[str, OperationsError] = {}
        self.in_flight = self.most_in_flight = self.clients = self.closed = 0
        self.contexts: set[Any] = set()
        self.channels: list[Any] = []

    def __call__(self, settings: Any, identity: Any, *, channel: Any, connections: int) -> Service:
        """Make a client."""
        self.connections = connections
        self.clients += 1
        self.channels.append(channel.context)
        return self

    async def close(self) -> None:
        """Close the connections."""
        self.closed += 1

    def count(self, verb: str, since: float = -1.0, until: float = math.inf) -> int:
        """How many requests of a verb came in a time."""
        return sum(v == verb and since <= at < until for at, v, _ in self.requests)

    def raw(self, name: str) -> dict[str, Any]:
        """The operation as it is sent now."""
        done = self.ends.get(name, 0.0) <= asyncio.get_running_loop().time()
        return {"name": name, **({"done": True, "response": {}} if done else {})}

    async def _respond(self, verb: str, name: str, seconds: float) -> None:
        begun = asyncio.get_running_loop().time()
        self.requests.append((begun, verb, name))
        self.contexts.add(inherited.get(None))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.in_flight -= 1
        for since, until, error in self.outages:
            if since <= begun < until:
                raise error
        if verb != "list" and name in self.errors:
            raise self.errors[name]

    async def poll(self, reference: OperationReference, timeout: float, *, retries: int) -> Operation:
        """One operation; with a timeout, once it has finished."""
        left = self.ends[reference.name] - asyncio.get_running_loop().time() if timeout else 0.0
        await self._respond("wait" if timeout else "get", reference.name, max(min(timeout, left), 0) + self.latency)
        return Operation.from_json(self.raw(reference.name))

    async def rows(self, parent: Parent, query: PageQuery, *, retries: int) -> Rows:
        """A page."""
        await self._respond("list", parent.name, self.latency)
        names = [name for name in self.ends if name not in self.errors]
        first, page_size = int(query.page_token or 0), query.page_size or 0
        rows = [self.raw(name) for name in names[first : first + page_size]]
        token = str(first + page_size) if first + page_size < len(names) else ""
        return page_of({"operations": rows, "nextPageToken": token})


def page_of(content: dict[str, Any], cut_at: int | None = None) -> Rows:
    """The response to a list, perhaps cut off."""
    request = protocol.rows(LISTED, "https://datafusion.googleapis.com", PageQuery())
    return request.read(Response(200, {}, json.dumps(content).encode()[:cut_at]))


inherited: contextvars.ContextVar[str] = contextvars.ContextVar("inherited")


def name(number: int, parent: str = PARENT) -> str:
    """The name of an operation."""
    return f"{parent}/operations/{number}"


def error(kind: Any, **fields: Any) -> Any:
    """An error of the API."""
    arguments = {"service": "datafusion", "verb": "get", "operation": "o", "http_status": 0, "status": "S"}
    return kind(**{**arguments, "message": "m", **fields})


def make(service: Service, metrics: Metrics | None = None, **options: Any) -> Watcher:
    """A watcher whose clock is the loop's."""
    return Watcher(metrics, clock=asyncio.get_running_loop().time, make_client=service, **options)


async def join(
    watcher: Watcher, operation: str, interval: float | None = 5.0, *, api: str = "datafusion", **watch: Any
) -> Subscription:
    """Begin to wait."""
    host = {"datafusion": "datafusion.googleapis.com", "automl": "automl.googleapis.com"}[api]
    reference = OperationReference(api, "v1", operation, host)
    started = asyncio.get_running_loop().time()
    return await watcher.join(SETTINGS, reference, PollSchedule(started=started, interval=interval, **watch))


async def end_of(waiting: Subscription, on_line: Callable[[str], object] = lambda line: None) -> tuple[float, Any]:
    """When a wait ended, and how."""
    result: Any
    try:
        while isinstance(result := await waiting, str):
            on_line(result)
    except OperationsError as error:
        result = error
    finally:
        waiting.leave()
    return asyncio.get_running_loop().time(), result


async def ends_of(watcher: Watcher, service: Service, **watch: Any) -> dict[str, tuple[float, Any]]:
    """Wait for everything that a service has."""
    waits = {operation: await join(watcher, operation, **watch) for operation in service.ends}
    found = await asyncio.gather(*(end_of(waiting) for waiting in waits.values()))
    await watcher.settle()
    return dict(zip(waits, found, strict=True))


def test_thousands_wait_for_the_price_of_a_few_lists() -> None:
    """Five thousand are all notified, each within an interval, for less than a twentieth of a request per minute."""

    async def test() -> None:
        service = Service({name(i): 60 + i / 50 for i in range(5000)})
        found = await ends_of(make(service), service)
        assert max(found[operation][0] - end for operation, end in service.ends.items()) <= 5.3
        minutes = 160 / 60
        assert len(service.requests) <= 0.05 * 5000 * minutes
        assert service.most_in_flight <= MAX_IN_FLIGHT
        assert service.closed == service.clients == 1

    run(test())


@pytest.mark.parametrize(("max_in_flight", "late"), [(1, 21.0), (8, 5.4), (40, 5.4)])
def test_as_many_requests_are_in_flight_as_configured(
    max_in_flight: int, late: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be listed they are all that there is: no more at a time, and no tick lost between them."""
    monkeypatch.setattr(ListStrategy, "choose", lambda *_: None)

    async def test() -> None:
        service = Service({name(i): 30 + i / 20 for i in range(400)})
        found = await ends_of(make(service, max_in_flight=max_in_flight), service)
        assert service.most_in_flight == service.connections == max_in_flight
        assert max(found[operation][0] - end for operation, end in service.ends.items()) <= late

    run(test())


@pytest.mark.parametrize(("max_in_flight", "before", "by_wait"), [(1, 1, 0), (4, 4, 0), (5, 2, 2), (8, 4, 4)])
def test_long_polls_leave_capacity_for_others(max_in_flight: int, before: int, by_wait: int) -> None:
    """`:wait` has half of the capacity at most, so that whoever comes next is polled at once."""

    async def test() -> None:
        service = Service({name(i): 1000.0 for i in range(before)} | {name(99): 12.0})
        watcher = make(service, max_in_flight=max_in_flight)
        early = [await join(watcher, name(i), None, api="automl") for i in range(before)]
        tasks = [asyncio.create_task(end_of(waiting)) for waiting in early]
        await asyncio.sleep(10)
        assert len({operation for _, verb, operation in service.requests if verb == "wait"}) == by_wait
        at, _ = await end_of(await join(watcher, name(99), None, api="automl"))
        assert 12 <= at <= 14
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await watcher.settle()

    run(test())


def test_a_page_that_is_cut_off_loses_nothing() -> None:
    """Nothing of it is believed; for all there are GETs, until lists are tried again."""

    async def test() -> None:
        service = Service({name(i): 20 + i / 50 for i in range(200)})
        whole, cut = service.rows, 0

        async def rows(parent: Parent, query: PageQuery, **how: Any) -> Rows:
            nonlocal cut
            cut += 1
            page = await whole(parent, query, **how)
            return page_of({"operations": [json.loads(bytes(row)) for row in page.rows]}, page.size // 2)

        service.rows = rows  # type: ignore[method-assign]
        found = await ends_of(make(service), service)
        assert cut
        assert all(isinstance(result, Operation) for _, result in found.values())
        assert max(found[operation][0] - end for operation, end in service.ends.items()) <= 8
        assert service.most_in_flight <= MAX_IN_FLIGHT

    run(test())


def test_a_page_of_many_rows_leaves_the_loop_to_others() -> None:
    """However many rows a service sends at once, also the same ones again and again."""

    async def test() -> None:
        service = Service({name(i): math.inf for i in range(100)})
        whole, turns, between = service.rows, 0, 0

        async def rows(parent: Parent, query: PageQuery, **how: Any) -> Rows:
            page = await whole(parent, query, **how)
            return page_of({"operations": [json.loads(bytes(row)) for row in page.rows] * 50})

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def read(self: Any, *arguments: Any) -> None:
            nonlocal between
            counting = asyncio.create_task(count())
            await asyncio.sleep(0)
            before = turns
            result = await original(*arguments)
            between = max(between, turns - before)
            counting.cancel()
            return result

        service.rows = rows  # type: ignore[method-assign]
        original = EndpointPoller._read_page
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EndpointPoller, "_read_page", read)
            watcher = make(service)
            waits = [await join(watcher, operation) for operation in service.ends]
            await asyncio.sleep(10)
        assert between >= 100 * 50 / ROWS_PER_TURN
        for waiting in waits:
            waiting.leave()
        await watcher.settle()

    run(test())


def test_the_last_one_closes_the_connections() -> None:
    """While somebody waits they stay open; with the last one everything ends, requests in flight included."""

    async def test() -> None:
        service = Service({name(i): math.inf for i in range(3)}, latency=10.0)
        watcher = make(service)
        waits = [await join(watcher, operation) for operation in service.ends]
        await asyncio.sleep(1)
        for waiting in waits[:2]:
            waiting.leave()
        await watcher.settle()
        assert (service.closed, service.in_flight) == (0, 1)
        waits[2].leave()
        await watcher.settle()
        assert (service.closed, service.in_flight) == (1, 0)
        before = len(service.requests)
        await asyncio.sleep(3600)
        assert len(service.requests) == before
        assert len(asyncio.all_tasks()) == 1

    run(test())


def test_a_killed_wait_leaves_the_others_untouched() -> None:
    """Half of those who wait are cancelled at any moment; the others get their end in time."""

    async def test() -> None:
        service = Service({name(i): 30 + i / 10 for i in range(100)})
        watcher = make(service)
        tasks = {}
        for operation in service.ends:
            tasks[operation] = asyncio.create_task(end_of(await join(watcher, operation)))
        for number, task in enumerate(tasks.values()):
            if number % 2:
                await asyncio.sleep(0.37)
                task.cancel()
        for number, (operation, task) in enumerate(tasks.items()):
            if number % 2:
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                at, result = await task
                assert result.done
                assert at - service.ends[operation] <= 5.3

    run(test())


def test_a_certificate_that_is_not_trusted_ends_waits() -> None:
    """B4: triggers do not wait without end either; what can be reached is waited for."""

    async def test() -> None:
        service = Service({name(i): 60.0 for i in range(2)})
        service.errors[name(1)] = UnreachableError("not trusted")
        found = await ends_of(make(service), service)
        assert isinstance(found[name(1)][1], UnreachableError)
        assert 10.0 <= found[name(1)][0] < 60.0
        assert found[name(0)][1].done

    run(test())


def test_a_403_is_its_own() -> None:
    """One operation that may not be seen ends one wait."""

    async def test() -> None:
        service = Service({name(i): 20.0 for i in range(2)})
        service.errors[name(1)] = error(PermissionDeniedError)
        found = await ends_of(make(service), service)
        assert isinstance(found[name(1)][1], PermissionDeniedError)
        assert found[name(0)][1].done

    run(test())


@pytest.mark.parametrize(
    "trouble",
    [TransportError("no answer"), error(ResourceExhaustedError), error(ResourceExhaustedError, retry_after=3)],
)
def test_a_minute_without_the_endpoint_is_survived_by_a_thousand(trouble: OperationsError) -> None:
    """No wait fails, requests stay within the stated bound, and all ends are known two intervals after the recovery."""

    async def test() -> None:
        service = Service({name(i): 40 + i / 20 for i in range(1000)})
        service.outages.append((30.0, 90.0, trouble))
        found = await ends_of(make(service), service)
        assert all(result.done for _, result in found.values())
        assert sum(30 <= at < 90 for at, _, _ in service.requests) <= most_requests_of_an_outage(60, 1.0)
        for operation, (at, _) in found.items():
            assert at <= max(service.ends[operation], 90.0) + 10.0

    run(test())


def test_a_replaced_certificate_takes_effect_for_waits_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired one looks like an outage; when one begins, the certificate is read again. What is the same is kept."""

    async def at_once(_: str, read: Callable[[], object]) -> object:
        return read()  # a real thread would take any number of simulated seconds

    async def test() -> None:
        monkeypatch.setattr(clients, "in_thread", at_once)
        service = Service({name(i): 400.0 for i in range(3)})
        service.outages += [(100.0, 102.0, TransportError("no answer")), (200.0, 202.0, TransportError("no answer"))]
        now = asyncio.get_running_loop().time
        monkeypatch.setattr(
            clients, "tls_settings_for", lambda _: TlsSettings(mtls_hosts=False, context="new" if now() > 150 else None)
        )
        found = await ends_of(make(service), service)
        assert all(result.done for _, result in found.values())
        assert service.channels == [None, "new"]
        assert service.clients == service.closed == 2

    run(test())


def test_a_throttled_service_is_polled_by_all_together_at_its_own_speed() -> None:
    """Ten requests a second are allowed: a thousand who wait find that out, and hardly more than a tenth is refused."""

    async def test() -> None:
        service = Service({name(i): math.inf for i in range(1000)})
        watcher = make(service)
        refused = 0
        answer = service._respond

        async def at_most_ten(verb: str, operation: str, seconds: float) -> None:
            nonlocal refused
            now = asyncio.get_running_loop().time()
            recent = sum(at > now - 1 for at, _, _ in service.requests)
            await answer(verb, operation, seconds)
            if verb == "list":
                raise error(PermissionDeniedError)
            if recent >= 10:
                refused += 1
                raise error(ResourceExhaustedError)

        service._respond = at_most_ten  # type: ignore[method-assign]
        waits = [await join(watcher, operation) for operation in service.ends]
        await asyncio.sleep(300)
        assert len(service.requests) >= 300, "it goes on"
        assert len(service.requests) <= 20 * 300, "but not as fast as it could"
        assert refused <= len(service.requests) / 4
        for waiting in waits:
            waiting.leave()

    run(test())


def test_deadlines_are_kept_during_an_outage() -> None:
    """Nobody waits longer than agreed, also if nothing answers."""

    async def test() -> None:
        service = Service({name(i): math.inf for i in range(100)})
        service.outages.append((10.0, math.inf, TransportError("no answer")))
        found = await ends_of(make(service), service, deadline=Deadline(60.0, "timeout", 60.0))
        assert all(isinstance(result, WaitTimeoutError) for _, result in found.values())
        assert all(60 <= at <= 63 for at, _ in found.values())

    run(test())


@pytest.mark.parametrize("place", [PARENT, "projects/p/locations/{}"], ids=["one parent", "many parents"])
def test_deadlines_are_kept_while_every_request_hangs(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that accepts requests and never responds keeps nobody beyond the deadline who has none in flight."""
    # Else one list would hang, and no GETs.
    monkeypatch.setattr(ListStrategy, "choose", lambda *_: None)

    async def test() -> None:
        deadlines = {name(i, place.format(i)): 4.0 + i for i in range(MAX_IN_FLIGHT + 3)}
        service = Service(dict.fromkeys(deadlines, math.inf), latency=35.0)
        service.outages.append((0.0, math.inf, TransportError("no answer")))
        watcher = make(service)
        waits = [await join(watcher, o, deadline=Deadline(at, "timeout", at)) for o, at in deadlines.items()]
        found = dict(zip(deadlines, await asyncio.gather(*map(end_of, waits)), strict=True))
        others = deadlines.keys() - {operation for at, _, operation in service.requests if at < 35}
        assert len(others) == 3
        for operation in others:
            at, result = found[operation]
            assert isinstance(result, WaitTimeoutError)
            assert deadlines[operation] <= at <= deadlines[operation] + LAST_POLL_SECONDS + 0.1

    run(test())


def test_few_use_the_services_own_wait() -> None:
    """Two operations of a service with `:wait` are known a round trip after their end."""

    async def test() -> None:
        service = Service({name(0): 100.0, name(1): 200.0})
        found = await ends_of(make(service), service, interval=None, api="automl")
        assert all(at - service.ends[operation] <= 2 * LATENCY for operation, (at, _) in found.items())
        assert service.count("wait") <= 2 + 300 / 30 + 2

    run(test())


def test_who_leaves_a_long_poll_ends_it() -> None:
    """A `:wait` for nobody does not keep its connection."""

    async def test() -> None:
        service = Service({name(0): math.inf, name(1): math.inf})
        watcher = make(service)
        waits = [await join(watcher, operation, None, api="automl") for operation in service.ends]
        await asyncio.sleep(10)
        assert service.in_flight == 2
        waits[0].leave()
        await asyncio.sleep(0.1)
        assert service.in_flight == 1
        waits[1].leave()

    run(test())


def test_who_leaves_in_the_moment_of_a_request_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is ended before its first step has not begun, and takes no capacity from those who still wait."""

    async def test() -> None:
        other = name(0, "projects/p/locations/europe-west1")
        service = Service({name(0): math.inf, other: 60.0})
        watcher = make(service)
        stays = await join(watcher, other)
        send = EndpointPoller._send
        for _ in range(2 * MAX_IN_FLIGHT):
            leaves = await join(watcher, name(0))

            def send_and_leave(*arguments: Any, leaves: Subscription = leaves) -> None:
                send(*arguments)
                leaves.leave()

            with monkeypatch.context() as patch:
                patch.setattr(EndpointPoller, "_send", send_and_leave)
                await asyncio.sleep(0.1)
        assert service.count("get") < 2 * MAX_IN_FLIGHT
        assert (await asyncio.wait_for(end_of(stays), 100))[1].done

    run(test())


def test_requests_belong_to_no_trigger() -> None:
    """The watcher's requests do not inherit the context of whoever came first."""

    async def test() -> None:
        service = Service({name(0): 3.0})
        watcher = make(service)
        inherited.set("the trigger's")
        reference = OperationReference("datafusion", "v1", name(0), "datafusion.googleapis.com")
        waiting = await watcher.join(SETTINGS, reference, PollSchedule(started=0.0))
        assert (await end_of(waiting))[1].done
        assert service.contexts == {None}

    run(test())


@pytest.mark.parametrize("late", [0.0, 10.0], ids=["awaited in time", "awaited when all has finished"])
def test_every_change_is_notified_in_order(late: float) -> None:
    """One thing at a time, and nothing is lost if nobody awaits it for a while."""

    async def test() -> None:
        service = Service({name(0): 3.0})
        waiting = await join(make(service), name(0))
        await asyncio.sleep(late)
        seen: list[str] = []
        assert (await end_of(waiting, seen.append))[1].done
        assert seen == ["RUNNING", "SUCCEEDED"]

    run(test())


def test_a_bug_is_reported_and_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the watcher itself fails, those who wait are notified instead of waiting for ever."""

    async def test() -> None:
        service = Service({name(0): 3.0})
        watcher = make(service)
        waiting = await join(watcher, name(0))
        monkeypatch.setattr(EndpointPoller, "_send_due", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in str((await end_of(waiting))[1])

    run(test())


@pytest.mark.parametrize(("what", "number"), [("responded", 1), ("rows", 500), ("end_page", 500)])
def test_a_bug_in_passing_on_a_response_is_reported(monkeypatch: pytest.MonkeyPatch, what: str, number: int) -> None:
    """Whoever waits is notified: a list that is never ended would keep all of them waiting."""

    async def test() -> None:
        service = Service({name(i): 30.0 for i in range(number)})
        monkeypatch.setattr(ParentPlan, what, lambda *_: 1 / 0)
        found = await ends_of(make(service), service)
        assert all("ZeroDivisionError" in str(result) for _, result in found.values())

    run(test())


def test_an_unexpected_error_of_a_request_ends_its_wait() -> None:
    """What no one has thought of is an error of that operation."""

    async def test() -> None:
        service = Service({name(0): 3.0})
        service.errors[name(0)] = RuntimeError("odd")  # type: ignore[assignment]
        [(_, result)] = (await ends_of(make(service), service)).values()
        assert "odd" in str(result)

    run(test())


def test_what_happens_is_counted() -> None:
    """Requests by verb and result, those who wait, throttling, and the time from the end to its being known."""
    counted: list[Any] = []

    class Counter(Metrics):
        def waiting(self, service: str, number: int) -> None:
            counted.append(("waiting", service, number))

        def request(self, service: str, verb: str, result: str) -> None:
            counted.append((verb, result))

        def throttled(self, service: str) -> None:
            counted.append("throttled")

    async def test() -> None:
        service = Service({name(0): 20.0, name(1): 20.0})
        service.outages.append((8.0, 9.0, error(ResourceExhaustedError, status="RESOURCE_EXHAUSTED")))
        service.errors[name(1)] = error(NotFoundError, status="NOT_FOUND")
        await ends_of(make(service, Counter()), service, interval=1.0)

    run(test())
    assert ("get", "ok") in counted or ("list", "ok") in counted
    assert ("waiting", "datafusion", 2) in counted
    assert counted[-1] == ("waiting", "datafusion", 0)
    assert "throttled" in counted


def test_identical_connections_share_and_others_do_not() -> None:
    """Another identity is another client; another parent of the same endpoint shares its capacity."""

    async def test() -> None:
        other = "projects/q/locations/us-central1"
        service = Service({name(0): 5.0, name(1): 5.0, name(0, other): 5.0})
        await ends_of(make(service), service)
        assert service.clients == 2
        assert service.closed == 2

    run(test())
