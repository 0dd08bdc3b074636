"""A server on this machine, for as long as a test needs it: what those of the tests have in common."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

_Self = TypeVar("_Self", bound="LocalServer")


class Handler(BaseHTTPRequestHandler):
    """Handles a request, and logs nothing."""

    def respond(self, content: Any) -> None:
        """Respond with JSON."""
        body = json.dumps(content).encode()
        self.send(200, body, {"content-type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Respond."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class LocalServer:
    """Listens while it is entered.

    :param handler: handles each request, in a thread of its own.
    """

    def __init__(self, handler: type[Handler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self: _Self) -> _Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
