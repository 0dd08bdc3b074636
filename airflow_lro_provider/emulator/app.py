"""Google's API surface, as a Starlette app.

An API is served below its own name, because names of operations look alike:
``/datafusion/v1/projects/p/locations/l/operations/o:cancel``. A POST (PUT, PATCH, DELETE) of a resource
that is no operation starts one; the header ``x-emulator-script`` or the query parameter ``script`` may have its
script, in JSON. Everything below ``/emulator`` is in ``control.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response as StarletteResponse
from starlette.types import Receive, Scope, Send

from airflow_lro_provider.emulator import control, responses
from airflow_lro_provider.emulator.journal import MAX_BODY_BYTES
from airflow_lro_provider.emulator.partial import FIELDS, check_mask, partial
from airflow_lro_provider.emulator.responses import RefusedError, Response
from airflow_lro_provider.emulator.routes import Route, find_route
from airflow_lro_provider.emulator.script import Failure, ScriptError, read_json
from airflow_lro_provider.emulator.store import Store
from airflow_lro_provider.lro.resources.catalog import Service
from airflow_lro_provider.lro.resources.methods import id_among

__all__ = ["SCRIPT_HEADER", "Pause", "create_app"]

SCRIPT_HEADER = "x-emulator-script"
MAX_WAIT_SECONDS = 60.0
"""The longest ``:wait``, as the contract allows."""
POLL_INTERVAL_SECONDS = 0.25
"""How late a ``:wait`` may notice a cancellation; a planned end is noticed at once."""
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_MESSAGES = {
    "UNAUTHENTICATED": "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie"
    " or other valid authentication credential.",
    "RESOURCE_EXHAUSTED": "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute'.",
    "UNAVAILABLE": "The service is currently unavailable.",
    "INTERNAL": "Internal error encountered.",
}

Connections = Mapping[tuple[str, int], asyncio.BaseTransport]


class Pause:
    """Sleeping that ends when the server stops."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def __call__(self, seconds: float) -> bool:
        """Sleep. Returns whether the server still runs afterwards."""
        try:
            await asyncio.wait_for(self._over.wait(), seconds)
        except asyncio.TimeoutError:
            return True
        return False

    def end(self) -> None:
        """End all sleeps. Call it on the event loop."""
        self._over.set()


def create_app(store: Store, *, pause: Pause | None = None, connections: Connections | None = None) -> Starlette:
    """Make the app.

    :param store: its state.
    :param pause: how it sleeps.
    :param connections: the open connections by the client's address; without them a connection cannot be
        reset, and a scripted reset raises ConnectionResetError in the app.
    """
    app = Starlette(routes=control.routes(store))
    app.router.default = _Google(store, pause or Pause(), {} if connections is None else connections)
    return app


class _Google:
    """Everything that is not below ``/emulator``."""

    def __init__(self, store: Store, pause: Pause, connections: Connections) -> None:
        self._store, self._pause, self._connections = store, pause, connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = raw_path(scope)
        route = find_route(self._store.services, request.method, path)
        service = route.service.name if route.service else None
        record = self._store.note_request(
            method=request.method,
            path=path,
            query=scope["query_string"].decode("latin-1"),
            verb=route.verb,
            service=service,
            name=route.name,
            authorization="authorization" in request.headers,
        )
        starts = route.verb == "start"
        failure = self._store.take_failure(route.verb, service, None if starts else route.name, _fingerprint(request))
        response: Response | None = None
        if failure is None or failure.after:
            try:
                body = await request.body()
            except ClientDisconnect:
                return
            response, name = await self._handle(route, request, path, body)
            record.name = name
            if starts and len(body) <= MAX_BODY_BYTES:
                with contextlib.suppress(RefusedError):
                    record.body = _read_body(body)
            latency = self._store.latency(route.service.name, name, route.verb) if route.service else 0.0
            if route.routed and latency:
                await self._pause(latency)
        if failure is not None:
            record.failure = str(failure.kind)
            response = _failed(failure, route)
        if response is None:
            await self._reset(request)
            return
        record.status = response.status
        await _to_starlette(response)(scope, receive, send)

    async def _handle(self, route: Route, request: Request, path: str, body: bytes) -> tuple[Response, str | None]:
        """Carry out a request. Returns the response, and the name of the operation or parent."""
        if not route.routed or route.service is None or route.name is None:
            return responses.no_route(path), route.name
        try:
            mask = self._mask(route, request)
            content, name = await self._verb(route.service, route.name, route, request, body)
        except RefusedError as error:
            return responses.error_response(error.status, str(error), host=route.service.host), route.name
        except ScriptError as error:
            return responses.error_response("INVALID_ARGUMENT", str(error), host=route.service.host), route.name
        return responses.ok_response(partial(content, mask)), name

    def _mask(self, route: Route, request: Request) -> Mapping[str, Any]:
        """Which fields of the response are sent; empty for all."""
        key = next((key for key in FIELDS if key in request.query_params), None)
        behaviour = self._store.field_mask(route.service.name, route.name) if route.service else "ignore"
        if key is None or behaviour == "ignore":
            return {}
        if behaviour == "reject":
            raise RefusedError(
                "INVALID_ARGUMENT", f'Invalid JSON payload received. Unknown name "{key}": Cannot bind query parameter.'
            )
        return check_mask(request.query_params[key], route.verb)

    async def _verb(
        self, service: Service, name: str, route: Route, request: Request, body: bytes
    ) -> tuple[Mapping[str, Any], str]:
        store = self._store
        if route.verb == "start":
            return self._start(service, name, route, request, body)
        if route.verb == "list":
            query = request.query_params
            return store.page(
                service.name, name, query.get("filter", ""), query.get("pageSize", ""), query.get("pageToken", "")
            ), name
        if route.verb == "cancel":
            _only_fields(_read_body(body))
            store.cancel(service.name, name)
            return {}, name
        if route.verb == "delete":
            store.delete(service.name, name)
            return {}, name
        if route.verb == "wait":
            await self._wait(service.name, name, _read_timeout(service, request, body))
        return store.get(service.name, name).operation, name

    def _start(
        self, service: Service, parent: str, route: Route, request: Request, body: bytes
    ) -> tuple[Mapping[str, Any], str]:
        content, query = _read_body(body), request.query_params
        script = request.headers.get(SCRIPT_HEADER) or query.get("script")
        given = [query.get(key) or content.get(key) for key in ("requestId", "request_id")]
        if not route.target.startswith(parent):
            new_id = _new_id(route, query, content) or "emulated"
            parent = "/".join(new_id if part == "-" else part for part in parent.split("/"))
        view = self._store.create(
            service.name,
            version=route.version,
            parent=parent,
            script=None if script is None else read_json(script),
            verb=route.work,
            target=_target(route, query, content),
            request_id=next((str(value) for value in given if value), None),
        )
        return view.operation, view.name

    async def _wait(self, service: str, name: str, timeout: float) -> None:
        """Wait until the operation has finished, the time has passed or the server stops."""
        deadline = self._store.clock() + timeout
        while not self._store.get(service, name).done:
            left = deadline - self._store.clock()
            if left <= 0 or not await self._pause(min(self._store.due(service, name), left, POLL_INTERVAL_SECONDS)):
                return

    async def _reset(self, request: Request) -> None:
        """Drop the connection, so that the client sees a reset and not an orderly end."""
        client = request.client
        transport = self._connections.get((client.host, client.port)) if client else None
        if not isinstance(transport, asyncio.Transport):
            raise ConnectionResetError("a scripted reset")
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        while (await request.receive())["type"] != "http.disconnect":
            pass


def raw_path(scope: Scope) -> str:
    """The path as it was sent, before percent-decoding."""
    raw = scope.get("raw_path")
    # Optional in ASGI; a server without it has only the decoded one.
    return raw.decode("latin-1") if raw else quote(scope["path"], safe="/:@!$&'()*+,;=~-._")


def _fingerprint(request: Request) -> str:
    """Enough of a token to tell it from another; kept in memory for a scripted 401, and never shown."""
    return hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()[:16]


def _to_starlette(response: Response) -> StarletteResponse:
    headers = {"content-type": response.content_type, **response.headers}
    return StarletteResponse(response.body, status_code=response.status, headers=headers)


def _failed(failure: Failure, route: Route) -> Response | None:
    """The response of a scripted failure; ``None`` if it drops the connection."""
    if failure.http_code is None:
        return None
    if failure.status is None:
        return responses.error_page(failure.http_code, "The server could not respond.", failure.retry_after)
    host = route.service.host if route.service else "googleapis.com"
    retry_after, metadata, message = failure.retry_after, {}, _MESSAGES.get(failure.status)
    if failure.http_code == 429 and retry_after is None:
        retry_after = 1.0
    if failure.status == "PERMISSION_DENIED":
        permission = f"{route.service.name if route.service else 'unknown'}.operations.{route.verb}"
        message = f"Permission '{permission}' denied on resource '{route.name}' (or it may not exist)."
        metadata = {"permission": permission, "resource": route.name or ""}
    return responses.error_response(
        failure.status,
        message or f"A scripted {failure.status}.",
        host=host,
        metadata=metadata,
        retry_after=retry_after,
    )


def _read_body(body: bytes) -> Mapping[str, Any]:
    """A body's JSON object; an empty body is an empty object."""
    if not body.strip():
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError("INVALID_ARGUMENT", "Invalid JSON payload received. Unexpected token.") from None
    if not isinstance(content, dict):
        raise RefusedError("INVALID_ARGUMENT", "Invalid JSON payload received. Root element must be a message.")
    return content


def _only_fields(content: Mapping[str, Any], *known: str) -> None:
    for key in content:
        if key not in known:
            raise RefusedError(
                "INVALID_ARGUMENT", f'Invalid JSON payload received. Unknown name "{key:.100}": Cannot find field.'
            )


def _read_timeout(service: Service, request: Request, body: bytes) -> float:
    """How long ``:wait`` may take, in seconds, read from where the service expects it: query or body."""
    content = _read_body(body)
    if service.wait == "query":
        _only_fields(content)
        text = request.query_params.get("timeout")
    else:
        _only_fields(content, "timeout")
        _only_fields({key: "" for key in request.query_params if key == "timeout"})
        text = content.get("timeout")
    if text is None:
        return MAX_WAIT_SECONDS
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise RefusedError(
            "INVALID_ARGUMENT",
            f"Invalid value at 'timeout' (type.googleapis.com/google.protobuf.Duration), {text!r:.50}",
        )
    return min(float(match[1]), MAX_WAIT_SECONDS)


def _target(route: Route, *given: Mapping[str, Any]) -> str:
    """The target of the operation: a create says the new resource's id in its query or body (``instanceId=x``)."""
    new_id = _new_id(route, *given) if route.work == "create" else None
    return f"{route.target}/{new_id}" if new_id else route.target


def _new_id(route: Route, *given: Mapping[str, Any]) -> str | None:
    """The id that a request gives to what it creates, if it does."""
    new_id = id_among(route.target, *given)
    return new_id if new_id is None or "/" not in new_id else None
