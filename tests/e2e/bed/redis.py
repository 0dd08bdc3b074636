"""A Redis of our own, for an Airflow whose tasks go through Celery."""

from __future__ import annotations

import importlib.util
import socket
import time

from tests.e2e.bed.service import LocalService, ServiceError, free_port, program

__all__ = ["LocalRedis"]


class LocalRedis(LocalService):
    """One that keeps nothing on the disk."""

    @staticmethod
    def why_not() -> str | None:
        """Why there can be none on this machine; ``None`` if there can."""
        if program("redis-server") is None:
            return "no redis-server on the PATH"
        if importlib.util.find_spec("celery") is None:
            return "this Python has no celery"
        return None

    def _start(self) -> None:
        self.port = free_port()
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._serve([program("redis-server"), *options])
        deadline = time.monotonic() + self._start_within
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"Redis did not start:\n{self.log.read_text('utf-8', 'replace')}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
