"""What the tests of the emulator share: a clock to turn by hand, and requests without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_lro_provider.emulator.app import create_app
from airflow_lro_provider.emulator.server import Emulator
from airflow_lro_provider.emulator.store import Store


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        """The time."""
        return self.now

    def turn(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += seconds


class TurningPause:
    """Sleeping that turns the clock and takes no time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.stopped = False

    async def __call__(self, seconds: float) -> bool:
        """Turn the clock instead of sleeping."""
        """Note a sleep, and turn the clock."""
        self.slept.append(seconds)
        self.clock.turn(seconds)
        self.meanwhile()
        return not self.stopped

    def end(self) -> None:
        """Let the server stop."""
        self.stopped = True


@dataclass
class Reply:
    """A response of the app."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body, which must be Google's JSON."""
        assert self.headers["content-type"] == "application/json; charset=UTF-8"
        return self.json["error"]


Send = Callable[..., Reply]


def make_ask(app: Any) -> Send:
    """Requests to an ASGI app; the path goes in as it is, nothing is quoted or normalised."""

    def send(
        method: str, url: str, body: Any = None, *, headers: dict[str, str] | None = None, data: bytes | None = None
    ) -> Reply:
        path, _, query = url.partition("?")
        content = data if data is not None else b"" if body is None else json.dumps(body).encode()
        scope = {
            "type": "http",
            "method": method,
            "path": "/decoded/and/wrong" if "%" in path else path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 8900),
            "client": ("127.0.0.1", 50000),
            "headers": [(key.lower().encode(), value.encode()) for key, value in (headers or {}).items()],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        start, *rest = sent
        answered = {key.decode(): value.decode() for key, value in start["headers"]}
        return Reply(start["status"], answered, b"".join(message.get("body", b"") for message in rest))

    return send


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(clock)


@pytest.fixture
def pause(clock: Clock) -> TurningPause:
    return TurningPause(clock)


@pytest.fixture
def send(store: Store, pause: TurningPause) -> Send:
    return make_ask(create_app(store, pause=pause))


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running
