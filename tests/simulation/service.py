"""A service of the simulated world: the emulator's own app, without a network, and what may go wrong on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_lro_provider.emulator import Store
from airflow_lro_provider.emulator.app import create_app
from airflow_lro_provider.lro.http.failures import no_response
from airflow_lro_provider.lro.http.messages import Request, Response
from tests.simulation.world import World, current, pause

ODD = ((400, "FAILED_PRECONDITION"), (403, "PERMISSION_DENIED"), (409, "ABORTED"), (501, "UNIMPLEMENTED"))
"""Errors that would end a wait, or a cancel, if they lasted."""


@dataclass(frozen=True)
class Cancel:
    """A cancel request that was accepted.

    :param task_state: Airflow's state of the task at that time.
    :param has_owned: whether a try had left a record by then.
    """

    name: str
    at: float
    task_state: str | None
    has_owned: bool


class Service:
    """Answers requests, and notes what was asked.

    :param silent: whether its operations do not show that their cancellation was requested.
    """

    def __init__(self, world: World, *, silent: bool) -> None:
        self.world, self._silent = world, silent
        self.store = Store(clock=lambda: world.time)
        self._app = create_app(self.store)
        self.cancels: list[Cancel] = []
        self.request_ids: dict[str, int] = {}
        """The tries, by the request ids of their starts."""
        self.started_by: dict[str, int] = {}
        """Which try has announced the start of an operation."""
        self.task_state: Callable[[], str | None] = lambda: None
        self.has_owned: Callable[[], bool] = lambda: False
        self.until: dict[str, float] = {}
        self._stale_since = 0.0

    def begin(self, trouble: str, seconds: float) -> None:
        """Trouble begins: ``404``, ``503``, ``401``, ``odd``, ``lost``, ``slow`` or ``stale``."""
        self.until[trouble] = self.world.now + seconds
        self._stale_since = self.world.time - 5 * seconds

    def _has(self, trouble: str) -> bool:
        return self.world.now < self.until.get(trouble, 0.0)

    @property
    def latency(self) -> float:
        """How long a response takes now, in seconds."""
        chance = self.world.chance
        return chance.uniform(0.5, 8.0) if self._has("slow") else chance.uniform(0.001, 0.2)

    def fetch(self, method: str, url: str, *, headers: Mapping[str, str], body: Any = None, **_: Any) -> Response:
        """As :meth:`BoundedSession.fetch`."""
        pause(self.latency / 2)
        response = self._respond(method, url, headers, body or b"")
        pause(self.latency / 2)
        if response is None:
            raise no_response(url, ConnectionError(), sent=True)
        return response

    async def fetch_async(self, request: Request[Any], headers: Mapping[str, str]) -> Response:
        """As :meth:`AsyncSession.fetch`."""
        await asyncio.sleep(self.latency / 2)
        response = self._respond(request.method, request.url, {**request.headers, **headers}, request.body)
        await asyncio.sleep(self.latency / 2)
        if response is None:
            raise no_response(request.url, ConnectionError(), sent=True)
        return response

    def _respond(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Response | None:
        """Carry a request out; ``None`` if its response does not arrive."""
        parts = urlsplit(url)
        is_lost = self._has("lost") and self.world.chance.random() < 0.5
        if self._has("503") and (not is_lost or self.world.chance.random() < 0.5):
            return _error(503, "UNAVAILABLE")
        is_cancel, is_get = parts.path.endswith(":cancel"), method == "GET" and not parts.path.endswith("/operations")
        if self._has("401"):  # the token is not accepted any more
            return _error(401, "UNAUTHENTICATED")
        if self._has("404") and (is_get or is_cancel):
            return _error(404, "NOT_FOUND")
        if self._has("odd") and (is_get or is_cancel) and self.world.chance.random() < 0.7:
            return _error(*self.world.chance.choice(ODD))
        response = self._call(method, parts.path, parts.query, headers, body)
        if is_cancel and response.status == 200:
            name = parts.path.partition("/v1/")[2].removesuffix(":cancel")
            self.cancels.append(Cancel(name, self.world.time, self.task_state(), self.has_owned()))
        if method == "POST" and not is_cancel and response.status == 200:
            announced = [self.request_ids[given] for given in self.request_ids if given in parts.query]
            [number] = announced or [current().process.worker.number]  # type: ignore[attr-defined]
            self.started_by.setdefault(json.loads(response.body)["name"], number)
        if method == "GET" and not is_get and self._has("stale"):
            response = self._as_of(response, self._stale_since)
        if self._silent:
            response = Response(response.status, response.headers, _without_flag(response.body))
        return None if is_lost else response

    def _call(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Response:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        named = [(key.lower().encode(), str(value).encode()) for key, value in headers.items()]
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1), "headers": named,
        }  # fmt: skip
        answering = self._app(scope, receive, send)  # type: ignore[arg-type]
        try:
            answering.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("the service waits for something")
        found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
        return Response(sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:]))

    def _as_of(self, response: Response, since: float) -> Response:
        """A list as it was some time ago: without what is younger."""
        page = json.loads(response.body)
        young = {view.name for view in self.store.views() if view.created_at > since}
        page["operations"] = [one for one in page.get("operations", []) if one["name"] not in young]
        return Response(response.status, response.headers, json.dumps(page).encode())


def _error(code: int, status: str) -> Response:
    body = {"error": {"code": code, "status": status, "message": "of the simulated service"}}
    return Response(code, {"content-type": "application/json"}, json.dumps(body).encode())


def _without_flag(body: bytes) -> bytes:
    return body.replace(b'"requestedCancellation":true', b'"requestedCancellation":false').replace(
        b'"requestedCancellation": true', b'"requestedCancellation": false'
    )
