"""What a trigger is told of a kill, on an Airflow that calls no ``on_kill``."""

from __future__ import annotations

import asyncio

import pytest

from airflow_lro_provider.airflow_compat import trigger_loop
from airflow_lro_provider.airflow_compat.trigger_loop import ask_in_thread, may_be_kill, notice_end_of_loop, undisturbed

OLD = (3, 2)


async def wait_and_tell(told: list[bool]) -> None:
    """A trigger: it notes what it is cancelled for."""
    notice_end_of_loop()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        told.append(may_be_kill())


@pytest.mark.parametrize(("version", "expected"), [(OLD, True), ((3, 3), False)])
def test_one_trigger_that_is_cancelled_was_perhaps_killed(
    version: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Airflow calls `on_kill` itself, nobody has to guess."""
    monkeypatch.setattr(trigger_loop, "AIRFLOW", version)
    told: list[bool] = []

    async def main() -> None:
        trigger = asyncio.create_task(wait_and_tell(told))
        await asyncio.sleep(0)
        trigger.cancel()
        await asyncio.wait([trigger])

    asyncio.run(main())
    assert told == [expected]


def test_a_loop_that_ends_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A triggerer that shuts down cancels all that run there; their tasks live on."""
    monkeypatch.setattr(trigger_loop, "AIRFLOW", OLD)
    told: list[bool] = []

    async def main() -> None:
        triggers = {asyncio.create_task(wait_and_tell(told)) for _ in range(20)}
        await asyncio.sleep(0.01)
        assert triggers

    asyncio.run(main())
    assert told == [False] * 20


@pytest.mark.parametrize("version", [(3, 1), (3, 3)])
def test_a_question_that_blocks_is_asked_in_a_thread(version: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """And its error comes back."""
    monkeypatch.setattr(trigger_loop, "AIRFLOW", version)
    assert asyncio.run(ask_in_thread(lambda: 42)) == 42
    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask_in_thread(lambda: 1 // 0))


def test_a_question_goes_on_when_its_trigger_is_cancelled() -> None:
    """Else its response stays unread, and the next question gets it: Airflow 3.1's triggerer dies of that."""
    read: list[str] = []

    async def question() -> str:
        await asyncio.sleep(0.01)
        read.append("response")
        return "response"

    async def main() -> None:
        trigger = asyncio.create_task(undisturbed(question()))
        await asyncio.sleep(0)
        trigger.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trigger
        await asyncio.sleep(0.1)
        assert await undisturbed(question()) == "response"

    asyncio.run(main())
    assert read == ["response", "response"]
