"""The server: in a thread of a test, or in the foreground of a command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from airflow_lro_provider.emulator import connection
from airflow_lro_provider.emulator.app import Pause, create_app
from airflow_lro_provider.emulator.journal import RequestRecord
from airflow_lro_provider.emulator.responses import RefusedError
from airflow_lro_provider.emulator.script import Failure, Script, check_verb
from airflow_lro_provider.emulator.state import OperationView
from airflow_lro_provider.emulator.store import Store

__all__ = ["Emulator", "serve"]

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8900
_STOP_TIMEOUT_SECONDS = 10.0


class _Server(uvicorn.Server):
    """Uvicorn, bound to a socket; it can reset connections, and ends all waits when it stops."""

    def __init__(self, store: Store, host: str, port: int) -> None:
        self._pause = Pause()
        self._socket = _bind(host, port)
        connections: dict[tuple[str, int], asyncio.BaseTransport] = {}
        super().__init__(
            uvicorn.Config(
                create_app(store, pause=self._pause, connections=connections),
                http=_protocol(connections),
                loop="asyncio",
                ws="none",
                lifespan="off",
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                log_level=logging.WARNING,
                timeout_graceful_shutdown=2,
            )
        )
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`; in the main thread also until SIGINT or SIGTERM."""
        with self._socket:
            super().run(sockets=[self._socket])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Respond to waiting requests, then stop."""
        self._pause.end()
        await super().shutdown(sockets)


class Emulator:
    """An emulator in a thread of its own, for tests and demos.

    It can be stopped and started again, at the same address and with the same operations: an outage.

    :param host: the address to listen on.
    :param port: the port; 0 chooses a free one.
    :param store: its state; a new one if not given.
    """

    def __init__(self, *, host: str = LOOPBACK, port: int = 0, store: Store | None = None) -> None:
        self.store = store if store is not None else Store()
        self._host, self._port = host, port
        self._url: str | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Emulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it is, without a trailing slash."""
        if self._url is None:
            raise RuntimeError("the emulator has no address before its first start()")
        return self._url

    def start(self) -> Emulator:
        """Start it, and return when it accepts requests.

        :raises OSError: if the port is taken.
        """
        if self._thread is not None:
            raise RuntimeError("the emulator is already running")
        self._server = _Server(self.store, self._host, self._port)
        self._port, self._url = self._server.port, self._server.url
        self._thread = threading.Thread(target=self._server.run, name=f"emulator at {self.url}", daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self._server = self._thread = None
                raise RuntimeError("the emulator did not start; see the log")
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        """Stop it, and return when its thread has ended. Its state is kept. No-op if it does not run."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.should_exit = True
            thread.join(_STOP_TIMEOUT_SECONDS)
            if thread.is_alive():
                raise RuntimeError(f"the emulator did not stop within {_STOP_TIMEOUT_SECONDS:g} s")

    def create(
        self,
        service: str,
        name: str | None = None,
        *,
        version: str | None = None,
        parent: str | None = None,
        **script: Any,
    ) -> str:
        """Start an operation, and return its name.

        :param service: the API's discovery name.
        :param name: its name; generated if not given.
        :param version: the API version.
        :param parent: the parent of a generated name.
        :param script: how it behaves, the fields of :class:`Script`: ``duration=60, cancel="ignore"``.
        """
        return self.store.create(service, name, version=version, parent=parent, script=script).name

    def operation(self, service: str, name: str) -> OperationView:
        """Get an operation, with what only the emulator knows.

        :raises KeyError: if there is none.
        """
        try:
            return self.store.get(service, name)
        except RefusedError:
            raise KeyError(f"{service} has no operation {name}") from None

    def operations(self, service: str | None = None) -> list[OperationView]:
        """All operations, oldest first."""
        return self.store.views(service)

    def finish(self, service: str, name: str, *, response: Any = None, error: Any = None) -> OperationView:
        """End an operation now, with this result or with its script's. No-op if it has finished."""
        return self.store.finish(service, name, response, error)

    def requests(self, verb: str | None = None, name: str | None = None) -> list[RequestRecord]:
        """The requests that were received, oldest first; of one verb, about one operation.

        :raises ScriptError: if there is no such verb.
        """
        check_verb(verb)
        return self.store.requests(verb, name)

    def script(self, service: str | None = None, **script: Any) -> Script:
        """Set the behaviour of operations that are started from now on, of one API or of all."""
        return self.store.set_script(script, service)

    def fail(self, kind: str | int, **failure: Any) -> None:
        """Make a future request fail.

        :param kind: ``"reset"``, or an HTTP code such as 503.
        :param failure: the other fields of :class:`Failure`: ``verb="cancel", times=2``.
        """
        self.store.fail(Failure.read({"kind": kind, **failure}))

    def reset(self) -> None:
        """Remove operations, requests, scripts and failures."""
        self.store.reset()

    def connection_extra(self, service: str | None = None) -> dict[str, Any]:
        """The extra of an Airflow connection to it, for one API or for all."""
        return connection.connection_extra(self.url, service)

    def connection_uri(self, service: str | None = None) -> str:
        """An Airflow connection to it, as a URI."""
        return connection.connection_uri(self.url, service)

    def airflow_connection_json(self, service: str | None = None) -> str:
        """An Airflow connection to it, as JSON: for ``AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT``."""
        return connection.connection_json(self.url, service)


def serve(
    host: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    *,
    store: Store | None = None,
    echo: Callable[[str], object] = print,
    as_json: bool = False,
) -> None:
    """Serve in the foreground until Ctrl-C.

    :param host: the address to listen on.
    :param port: the port; 0 chooses a free one.
    :param store: its state; a new one if not given.
    :param echo: receives lines that say where it is and how to reach it.
    :param as_json: one line of JSON instead: its URL, and an Airflow connection to it.
    :raises OSError: if the port is taken.
    """
    server = _Server(Store() if store is None else store, host, port)
    if as_json:
        echo(json.dumps({"url": server.url, "connection": json.loads(connection.connection_json(server.url))}))
    else:
        echo(f"google.longrunning.Operations, emulated, at {server.url} (press Ctrl-C to stop)")
        echo("To use it in Airflow:")
        echo(f"  {connection.add_command(server.url)}")
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it, or does not
        server.run()
    if not as_json:
        echo("Stopped.")


def _protocol(connections: dict[tuple[str, int], asyncio.BaseTransport]) -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol, which registers its connections: an app alone cannot reset one."""

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            # A client that has already disconnected has no address.
            self._peer = tuple((transport.get_extra_info("peername") or ("", 0))[:2])
            connections[self._peer] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connections.pop(self._peer, None)

    return Protocol


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or asyncio leaves Nagle on and every response takes 40 ms (a delayed ACK).
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(2048)  # at once: clients that know the address may connect, and are served in a moment
    except OSError:
        bound.close()
        raise
    return bound
