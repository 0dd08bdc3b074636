"""Below ``/emulator``: inspecting the state, and scripting what comes.

===============================  ==========================================================================
``GET /``, ``/emulator``         a page for people
``GET /emulator/operations``     all operations; ``?service=`` and ``?name=`` filter
``POST /emulator/operations``    ``{service, name?, version?, parent?, script?}`` starts one
``POST /emulator/finish``        ``{service, name, response?, error?}`` ends one now
``GET /emulator/requests``       the requests received; ``?verb=`` and ``?name=`` filter
``POST /emulator/script``        ``{script, service?}``: the behaviour of operations that are started afterwards
``POST /emulator/failures``      a failure, or a list of them, for requests to come; GET: those pending
``POST /emulator/reset``         clears everything
===============================  ==========================================================================

Everything is JSON except the page. These requests are not recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from airflow_lro_provider.emulator import page
from airflow_lro_provider.emulator.responses import RefusedError, error_response
from airflow_lro_provider.emulator.script import Failure, ScriptError, read_json
from airflow_lro_provider.emulator.store import Store
from airflow_lro_provider.lro.errors import UnknownServiceError

__all__ = ["routes"]

# The page runs and loads nothing, whatever is in the names that it shows.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "cache-control": "no-store",
}


def routes(store: Store) -> list[Route]:
    """The routes of the control surface."""
    control = _Control(store)
    return [
        Route("/", control.page),
        Route("/emulator", control.page),
        Route("/emulator/operations", control.operations),
        Route("/emulator/operations", _post(control.create), methods=["POST"]),
        Route("/emulator/finish", _post(control.finish), methods=["POST"]),
        Route("/emulator/requests", control.requests),
        Route("/emulator/script", _post(control.script), methods=["POST"]),
        Route("/emulator/failures", control.failures),
        Route("/emulator/failures", _post(control.fail), methods=["POST"]),
        Route("/emulator/reset", _post(control.reset), methods=["POST"]),
    ]


def _post(handle: Callable[[Any], Any]) -> Callable[[Request], Any]:
    """An endpoint that takes and returns JSON, and responds to nonsense with an error."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await request.body()
            return JSONResponse(handle(read_json(body) if body.strip() else {}))
        except RefusedError as error:
            refused = error_response(error.status, str(error), host="emulator")
        except (ScriptError, UnknownServiceError) as error:
            refused = error_response("INVALID_ARGUMENT", str(error), host="emulator")
        return Response(refused.body, refused.status, media_type="application/json")

    return endpoint


class _Control:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def page(self, request: Request) -> Response:
        store = self._store
        return HTMLResponse(
            page.render(store.views(), store.requests(newest=page.NEWEST), store.clock()), headers=_PAGE_HEADERS
        )

    async def operations(self, request: Request) -> Response:
        query = request.query_params
        views = self._store.views(query.get("service"), query.get("name"))
        # Serializing thousands of them takes a moment; other requests are served meanwhile.
        return await asyncio.to_thread(JSONResponse, [view.to_dict() for view in views])

    async def requests(self, request: Request) -> Response:
        query = request.query_params
        records = self._store.requests(query.get("verb"), query.get("name"))
        return await asyncio.to_thread(JSONResponse, [record.to_dict() for record in records])

    async def failures(self, request: Request) -> Response:
        return JSONResponse([dict(vars(failure)) for failure in self._store.failures()])

    def create(self, body: Any) -> Any:
        fields = _fields(body, "service", "name", "version", "parent", "script")
        service = fields.pop("service", None)
        return self._store.create(_need(service, "service"), fields.pop("name", None), **fields).to_dict()

    def finish(self, body: Any) -> Any:
        fields = _fields(body, "service", "name", "response", "error")
        service, name = _need(fields.pop("service", None), "service"), _need(fields.pop("name", None), "name")
        return self._store.finish(service, name, **fields).to_dict()

    def script(self, body: Any) -> Any:
        fields = _fields(body, "script", "service")
        return self._store.set_script(fields.get("script", {}), fields.get("service")).to_dict()

    def fail(self, body: Any) -> Any:
        self._store.fail(*(Failure.read(failure) for failure in (body if isinstance(body, list) else [body])))
        return {}

    def reset(self, body: Any) -> Any:
        self._store.reset()
        return {}


def _fields(body: Any, *known: str) -> dict[str, Any]:
    if not isinstance(body, Mapping):
        raise ScriptError("a JSON object is expected")
    for key, value in body.items():
        if key not in known:
            raise ScriptError(f"unknown field {key!r:.100}; known fields: {', '.join(known)}")
        if key in ("service", "name", "version", "parent") and value is not None and not isinstance(value, str):
            raise ScriptError(f"`{key}` must be a string")
    return dict(body)


def _need(value: Any, field: str) -> str:
    if not value:
        raise ScriptError(f"`{field}` is missing")
    return str(value)
