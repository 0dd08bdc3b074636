"""A server that responds with whatever it is given, byte by byte, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Heard", "HostileServer", "Play", "chunk", "for_ever", "head", "plain"]

Play = Callable[["Heard"], Iterable["bytes | None"]]


@dataclass(frozen=True)
class Heard:
    """One request, as it came.

    :param line: the request line.
    :param headers: by names in lower case.
    :param body: the body.
    :param peer: the client's port.
    """

    line: str
    headers: dict[str, str]
    body: bytes
    peer: str = ""

    @property
    def everything(self) -> str:
        """All of it, to be searched."""
        return f"{self.line}\n{self.headers}\n{self.body!r}"


class HostileServer:
    """Plays its responses, one for each request, the last one for all that follow.

    A response is pieces of bytes, from a callable that is given the request. When they are out, the connection
    is closed; after ``None`` it is kept for the next request. A client that hangs up ends the play.

    :param plays: the responses.
    :param tls: its side of TLS, if it speaks that.
    """

    def __init__(self, *plays: Play, tls: ssl.SSLContext | None = None) -> None:
        self.plays = list(plays)
        self.heard: list[Heard] = []
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> HostileServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in self._threads), "a client still listens"

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            kept = True
            while kept:
                kept = False
                request = self._read(connection)
                if request is None:
                    return
                play = self.plays[min(len(self.heard), len(self.plays) - 1)]
                self.heard.append(request)
                for piece in play(request):
                    if self._closing.is_set():
                        return
                    if piece is None:
                        kept = True
                    else:
                        connection.sendall(piece)
            # Reset nothing: what was sent is to arrive.
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.5)
            while connection.recv(65536):
                pass

    def _read(self, connection: socket.socket) -> Heard | None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return None
            data += piece
        top, _, body = data.partition(b"\r\n\r\n")
        line, *rows = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (row.partition(": ") for row in rows)}
        while len(body) < int(headers.get("content-length", "0")):
            body += connection.recv(65536)
        return Heard(line, headers, body, str(connection.getpeername()[1]))


def head(status: str = "200 OK", *headers: str) -> bytes:
    """The head of a response."""
    fixed = ("Content-Type: application/json", "Connection: close")
    return "\r\n".join([f"HTTP/1.1 {status}", *fixed, *headers, "", ""]).encode()


def plain(body: bytes, status: str = "200 OK", *headers: str) -> Play:
    """An ordinary response with this body."""
    return lambda _: [head(status, f"Content-Length: {len(body)}", *headers), body]


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def for_ever(piece: bytes, *, first: bytes = b"", every: float = 0.0, times: int | None = None) -> Play:
    """The same piece again and again.

    :param first: what comes before.
    :param every: seconds between two.
    :param times: how often, if not for ever.
    """

    def play(_: Heard) -> Iterator[bytes]:
        yield first
        count = 0
        while times is None or count < times:
            yield piece
            count += 1
            if every:
                time.sleep(every)

    return play
