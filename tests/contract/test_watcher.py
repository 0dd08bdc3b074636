"""The watcher over real HTTP, against the local server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import ForbiddenEndpointError, PermissionDeniedError
from airflow_lro_provider.lro.http import async_session
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.polling import PollSchedule
from airflow_lro_provider.lro.resources.names import OperationReference, read_reference
from airflow_lro_provider.lro.shared_poller.watcher import Watcher


async def wait_for(emulator: Emulator, service: str, name: str, interval: float | None = 0.1) -> Operation:
    """Wait for one operation, as one trigger does."""
    settings = ConnectionSettings.from_extra(emulator.connection_extra())
    watcher = Watcher.of_loop()
    watch = PollSchedule(started=time.monotonic(), interval=interval)
    waiting = await watcher.join(settings, read_reference(name, service), watch)
    try:
        while isinstance(what := await waiting, str):
            pass
        return what
    finally:
        waiting.leave()
        await watcher.settle()


async def test_many_are_listed_and_all_get_their_own(lro_emulator: Emulator) -> None:
    """A hundred operations of one parent: each waiter gets its own, without a response; most requests are lists."""
    names = [lro_emulator.create("datafusion", duration=0.5 + i / 200, response={"number": i}) for i in range(100)]
    found = await asyncio.gather(*(wait_for(lro_emulator, "datafusion", name) for name in names))
    assert [operation.name for operation in found] == names
    assert all(operation.lacks_response for operation in found)
    assert len(lro_emulator.requests(verb="get")) < 30
    assert lro_emulator.requests(verb="list")
    assert not async_session._loops[asyncio.get_running_loop()]._sessions, "the last one out closes the session"


@pytest.mark.parametrize("service", ["aiplatform", "automl", "earthengine"])
async def test_the_services_own_wait_is_used(lro_emulator: Emulator, service: str) -> None:
    """Where there is a `:wait`, the end is known at once and after few requests."""
    name = lro_emulator.create(service, duration=1.5)
    begun = time.time()
    operation = await wait_for(lro_emulator, service, name, None)
    assert operation.outcome is Outcome.SUCCEEDED
    assert time.time() - begun < 3
    assert len(lro_emulator.requests(verb="wait")) == 1


@pytest.mark.parametrize("field_mask", ["honour", "reject"])
async def test_large_results_do_not_make_a_list_too_large(lro_emulator: Emulator, field_mask: str) -> None:
    """B11: lists leave the results out, also those of others; without masks they would not fit, and each is polled."""
    lro_emulator.script("datafusion", field_mask=field_mask)
    for _ in range(10):
        lro_emulator.create("datafusion", duration=0, response={"large": "x" * 2**20}, field_mask=field_mask)
    names = [lro_emulator.create("datafusion", duration=0.5, field_mask=field_mask) for _ in range(30)]
    found = await asyncio.gather(*(wait_for(lro_emulator, "datafusion", name) for name in names))
    assert {operation.outcome for operation in found} == {Outcome.SUCCEEDED}
    lists = lro_emulator.requests(verb="list")
    masked = [request for request in lists if "fields=operations(name,done,error,metadata)" in request.query]
    if field_mask == "honour":
        assert masked == lists
        assert {request.status for request in lists} == {200}
    else:
        assert [request.status for request in lists[:2]] == [400, 200]
        assert len(masked) == 1


async def test_a_refused_list_leaves_gets(lro_emulator: Emulator) -> None:
    """An account that may get but not list waits all the same."""
    lro_emulator.fail(403, verb="list", times=None)
    names = [lro_emulator.create("datafusion", duration=0.3) for _ in range(20)]
    found = await asyncio.gather(*(wait_for(lro_emulator, "datafusion", name) for name in names))
    assert all(operation.done for operation in found)
    assert len(lro_emulator.requests(verb="list")) == 1


async def test_a_long_history_is_filtered(lro_emulator: Emulator) -> None:
    """Below a parent with thousands of old operations the filter is found, and what it leaves out is confirmed."""
    for _ in range(2500):
        lro_emulator.create("datafusion", duration=0)
    names = [lro_emulator.create("datafusion", duration=2, response={"number": i}) for i in range(150)]
    found = await asyncio.gather(*(wait_for(lro_emulator, "datafusion", name, 0.5) for name in names))
    assert [operation.name for operation in found] == names
    assert any("filter" in request.query for request in lro_emulator.requests(verb="list"))


async def test_each_ends_for_itself(lro_emulator: Emulator) -> None:
    """One is refused, one fails, one is cancelled: the others do not notice."""
    names = [lro_emulator.create("datafusion", duration=1.0) for _ in range(3)]
    broken = lro_emulator.create("datafusion", duration=0.2, error={"code": 3, "message": "no"})
    lro_emulator.fail(403, verb="list", times=None)
    lro_emulator.fail(403, verb="get", name=names[0], times=None)
    tasks = [asyncio.create_task(wait_for(lro_emulator, "datafusion", name)) for name in [*names, broken]]
    await asyncio.sleep(0.3)
    tasks[1].cancel()
    refused, killed, well, failed = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(refused, PermissionDeniedError)
    assert isinstance(killed, asyncio.CancelledError)
    assert isinstance(well, Operation)
    assert isinstance(failed, Operation)
    assert (well.outcome, failed.outcome) == (Outcome.SUCCEEDED, Outcome.FAILED)


async def test_an_outage_is_survived(lro_emulator: Emulator) -> None:
    """The server goes away and comes back: all are notified."""
    names = [lro_emulator.create("datafusion", duration=0.5) for _ in range(50)]
    waits: list[asyncio.Task[Any]] = [asyncio.create_task(wait_for(lro_emulator, "datafusion", name)) for name in names]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(lro_emulator.stop)
    await asyncio.sleep(1.0)
    assert not any(task.done() for task in waits)
    await asyncio.to_thread(lro_emulator.start)
    assert all(operation.done for operation in await asyncio.gather(*waits))


async def test_a_foreign_host_is_refused(lro_emulator: Emulator) -> None:
    """A reference that is not for this connection is not even joined."""
    settings = ConnectionSettings.from_extra(lro_emulator.connection_extra())
    reference = OperationReference("datafusion", "v1", "projects/p/locations/l/operations/o", "evil.example")
    with pytest.raises(ForbiddenEndpointError):
        await Watcher.of_loop().join(settings, reference, PollSchedule(started=0.0))
