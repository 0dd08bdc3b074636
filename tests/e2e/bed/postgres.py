"""A PostgreSQL of our own: a cluster in a temporary folder, for an Airflow on which tasks run side by side."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from airflow_lro_provider.demo import _processes

__all__ = ["LocalPostgres", "PostgresError"]

_PROGRAMS = ("initdb", "postgres")
_DRIVERS = ("psycopg2", "asyncpg")
_UNPRIVILEGED = ("postgres", "nobody")
# Nothing in it is to last, so nothing is flushed to the disk.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum_naptime": "5min",
}


class PostgresError(Exception):
    """There is no PostgreSQL here, or it did not start; the text says why."""


class LocalPostgres:
    """A server on 127.0.0.1 and a free port, with one empty database ``airflow``, and no password.

    It is gone, with its folder, when the context ends, whatever ends it: a watchdog sees to it that it does not
    outlive this Python. PostgreSQL refuses to run as root; for root it runs as an unprivileged user.

    :param start_within: seconds until it must answer.
    """

    def __init__(self, start_within: float = 30.0) -> None:
        self._start_within = start_within
        self.folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: _processes.Watchdog | None = None
        self._port = 0

    @staticmethod
    def why_not() -> str | None:
        """Why there can be none on this machine; ``None`` if there can."""
        missing = [program for program in _PROGRAMS if _program(program) is None]
        if missing:
            return f"no {' and no '.join(missing)} on the PATH or in /usr/lib/postgresql"
        missing = [driver for driver in _DRIVERS if importlib.util.find_spec(driver) is None]
        if missing:
            return f"this Python has no {' and no '.join(missing)}"
        if os.geteuid() == 0 and _unprivileged() is None:
            return f"it does not run as root, and there is no user {' or '.join(_UNPRIVILEGED)}"
        return None

    @staticmethod
    def available() -> bool:
        """Whether there can be one on this machine; :meth:`why_not` says why not."""
        return LocalPostgres.why_not() is None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        if self._process is None:
            raise PostgresError("PostgreSQL does not run")
        return self._process.pid

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database, for Airflow."""
        return f"postgresql+psycopg2://airflow@127.0.0.1:{self._port}/airflow"

    def __enter__(self) -> LocalPostgres:
        if reason := self.why_not():
            raise PostgresError(f"No PostgreSQL: {reason}")
        self.folder = Path(tempfile.mkdtemp(prefix="local-postgres-"))
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

    def _start(self) -> None:
        user = _unprivileged() if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(self.folder, user)
        data, log = self.folder / "data", self.folder / "log"
        with log.open("wb") as output:
            shared = {
                "stdin": subprocess.DEVNULL,
                "stdout": output,
                "stderr": subprocess.STDOUT,
                "cwd": self.folder,
                "user": user,
                # Its messages are read below.
                "env": {**os.environ, "LC_ALL": "C", "HOME": str(self.folder)},
                "start_new_session": True,
            }
            create = [_program("initdb"), "-D", data, "-U", "airflow", "-A", "trust", "-E", "UTF8", "--no-sync"]
            if subprocess.run(create, check=False, **shared).returncode:  # type: ignore[call-overload]
                raise PostgresError(f"initdb failed:\n{log.read_text('utf-8', 'replace')}")
            self._port = _free_port()
            options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
            serve = [_program("postgres"), "-D", data, "-p", str(self._port), *options]
            self._process = subprocess.Popen(serve, **shared)  # type: ignore[call-overload]
        assert self._process is not None
        assert self._watchdog is not None
        self._watchdog.watch(self._process.pid)
        self._create_database(log)

    def _create_database(self, log: Path) -> None:
        import psycopg2

        deadline = time.monotonic() + self._start_within
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL did not start:\n{log.read_text('utf-8', 'replace')}")
            try:
                connection = psycopg2.connect(host="127.0.0.1", port=self._port, user="airflow", dbname="postgres")
            except psycopg2.OperationalError:
                time.sleep(0.1)
                continue
            try:
                connection.autocommit = True
                connection.cursor().execute("CREATE DATABASE airflow")
            finally:
                connection.close()
            return

    def _stop(self) -> None:
        if self._process is not None:
            # "Immediate": nobody wants the data.
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                _processes.end([self._process.pid])
                self._process.wait()
        if self._watchdog is not None:
            self._watchdog.dismiss()
        _processes.remove(self.folder)
        self._process = self._watchdog = None


def _program(name: str) -> Path | None:
    """Where a program of PostgreSQL is: on the PATH, or where Debian puts it (the newest version)."""
    if found := shutil.which(name):
        return Path(found).resolve()
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    return max(installed, key=lambda path: _version(path.parent.parent.name), default=None)


def _version(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _unprivileged() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in _UNPRIVILEGED if name in names), None)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
