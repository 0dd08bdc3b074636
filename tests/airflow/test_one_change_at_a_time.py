"""The plugin of the local Airflow's API server: requests that change something are answered one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.plugins_manager import AirflowPlugin

from airflow_lro_provider.demo.plugins.one_change_at_a_time import OneChangeAtATime, OneChangeAtATimePlugin


class Server:
    """An application that says how many requests it answers at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Take three turns of the loop; fail if it is told to."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if scope.get("fails"):
                raise OSError("broken")
        finally:
            self.now -= 1


async def ask(scopes: list[dict[str, Any]]) -> int:
    """Send requests at once.

    :return: how many of them were answered at a time
    """
    server = Server()
    app = OneChangeAtATime(server)
    await asyncio.gather(*(app(scope, None, None) for scope in scopes), return_exceptions=True)  # type: ignore[arg-type]
    return server.most


@pytest.mark.parametrize(
    ("methods", "most"),
    [
        (["POST", "PATCH", "PUT", "DELETE"], 1),
        (["GET", "HEAD", "OPTIONS"], 3),
        (["GET", "GET", "POST", "POST"], 3),
    ],
)
async def test_only_changes_wait_for_each_other(methods: list[str], most: int) -> None:
    """What reads needs no lock, and waits for nobody."""
    assert await ask([{"type": "http", "method": method} for method in methods]) == most


async def test_a_change_that_fails_gives_its_turn_away() -> None:
    """Otherwise no other change would ever be answered."""
    assert await ask([{"type": "http", "method": "POST", "fails": True} for _ in range(3)]) == 1


async def test_what_is_no_request_passes() -> None:
    """The start and end of the server, which go on as long as it runs, among others."""
    assert await ask([{"type": "lifespan"}, {"type": "websocket"}]) == 2


def test_airflow_takes_it_for_a_plugin() -> None:
    """It is what Airflow looks for in the folder of plugins, and names the middleware."""
    assert issubclass(OneChangeAtATimePlugin, AirflowPlugin)
    assert [entry["middleware"] for entry in OneChangeAtATimePlugin.fastapi_root_middlewares] == [OneChangeAtATime]
