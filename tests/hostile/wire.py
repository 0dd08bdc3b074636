"""Which hosts this process reaches, reported by the interpreter itself: no socket and no name lookup goes unseen.

Python raises an audit event before every lookup and every connection, also in threads and also below asyncio. While
:func:`watched` is on, whoever is not this machine is noted and not reached.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["watched"]

_HERE = {"127.0.0.1", "::1", "localhost", None, "", b"127.0.0.1", b"localhost"}
_noted: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _noted is None or not event.startswith("socket."):
        return
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if not isinstance(address, tuple):
            return  # a pipe on this machine
        host = address[0]
    else:
        return
    if host not in _HERE:
        _noted.append(host.decode() if isinstance(host, bytes) else str(host))
        raise socket.gaierror(socket.EAI_NONAME, "nobody is reached from a test")


_installed = False


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """The hosts that are resolved or connected to, other than this machine."""
    global _noted, _installed
    if not _installed:
        sys.addaudithook(_hook)  # there is no way to remove one
        _installed = True
    _noted = noted = []
    try:
        yield noted
    finally:
        _noted = None
