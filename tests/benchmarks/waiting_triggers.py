"""What the watcher is compared with: the bare floor, and one GET per trigger in two ways."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from airflow.triggers.base import BaseTrigger, TriggerEvent


class Floor(BaseTrigger):
    """Waits for a future: what Airflow itself costs.

    :param end_after: ends after so many seconds, as an operation does; ``None`` is never.
    """

    def __init__(self, end_after: float | None = None, **arguments: Any) -> None:
        super().__init__()
        self.end_after = end_after

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """As it was made."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        if self.end_after is None:
            await asyncio.get_running_loop().create_future()
        else:
            await asyncio.sleep(self.end_after)
        yield TriggerEvent({})


class OneGet(Floor):
    """A GET per trigger and interval, as hooks do; subclasses say with which session."""

    def __init__(self, url: str, poll_interval: float, **arguments: Any) -> None:
        super().__init__()
        self.url, self.poll_interval = url, poll_interval

    async def session(self) -> aiohttp.ClientSession:
        """The session to send requests with."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll."""
        session = await self.session()
        await asyncio.sleep(random.random() * self.poll_interval)
        while True:
            async with session.get(self.url, headers={"authorization": "Bearer fake"}) as response:
                operation = json.loads(await response.read())
            if operation.get("done"):
                break
            await asyncio.sleep(self.poll_interval)
        yield TriggerEvent({"operation": operation})


class SharedSession(OneGet):
    """All triggers of the loop share a session."""

    _shared: aiohttp.ClientSession | None = None

    async def session(self) -> aiohttp.ClientSession:
        """The one."""
        if SharedSession._shared is None:
            SharedSession._shared = aiohttp.ClientSession(trust_env=True)
        return SharedSession._shared


class OwnSession(OneGet):
    """Each trigger has a session."""

    async def session(self) -> aiohttp.ClientSession:
        """One more."""
        return aiohttp.ClientSession(trust_env=True)
