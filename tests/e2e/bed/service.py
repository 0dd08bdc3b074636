"""A server of somebody else's (PostgreSQL, Redis) in a temporary folder, for as long as a test bed needs it."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from airflow_lro_provider.demo import _processes

__all__ = ["LocalService", "ServiceError", "free_port"]

_Self = TypeVar("_Self", bound="LocalService")


class ServiceError(Exception):
    """There is no such server here, or it did not start; the text says why."""


class LocalService:
    """A server on 127.0.0.1 and a free port.

    It is gone, with its folder, when the context ends, whatever ends it: a watchdog sees to it that it does not
    outlive this Python.

    :param start_within: seconds until it must answer.
    """

    stops_with: int = signal.SIGTERM

    def __init__(self, start_within: float = 30.0) -> None:
        self._start_within = start_within
        self.folder = Path()
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: _processes.Watchdog | None = None

    @staticmethod
    def why_not() -> str | None:
        """Why there can be none on this machine; ``None`` if there can."""
        raise NotImplementedError

    @classmethod
    def available(cls) -> bool:
        """Whether there can be one on this machine; :meth:`why_not` says why not."""
        return cls.why_not() is None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        if self._process is None:
            raise ServiceError(f"{type(self).__name__} does not run")
        return self._process.pid

    def __enter__(self: _Self) -> _Self:
        if reason := self.why_not():
            raise ServiceError(f"No {type(self).__name__}: {reason}")
        self.folder = Path(tempfile.mkdtemp(prefix="local-service-"))
        self._watchdog = _processes.Watchdog(secrets.token_hex(8), self.folder)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.folder / "log"

    def _start(self) -> None:
        """Start it, and wait until it answers."""
        raise NotImplementedError

    def _serve(self, command: list[Any], **options: Any) -> None:
        assert self._watchdog is not None
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                **options,
            )
        self._watchdog.watch(self._process.pid)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.stops_with)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                _processes.end([self._process.pid])
                self._process.wait()
        if self._watchdog is not None:
            self._watchdog.dismiss()
        _processes.remove(self.folder)
        self._process = self._watchdog = None


def program(name: str, *folders: Path) -> Path | None:
    """Where a program is: on the PATH, or in one of these folders, of which the last wins."""
    if found := shutil.which(name):
        return Path(found)
    return next((folder / name for folder in reversed(folders) if (folder / name).exists()), None)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
