"""A PostgreSQL of our own: a cluster in a temporary folder, for an Airflow on which tasks run side by side."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.e2e.bed.service import LocalService, ServiceError, free_port, program

__all__ = ["LocalPostgres"]

_PROGRAMS = ("initdb", "postgres")
_DRIVERS = ("psycopg2", "asyncpg")
_UNPRIVILEGED = ("postgres", "nobody")
# Nothing in it is to last, so nothing is flushed to the disk.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "400",
    "shared_buffers": "64MB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum_naptime": "5min",
}


class LocalPostgres(LocalService):
    """A server with one empty database ``airflow``, and no password.

    PostgreSQL refuses to run as root; for root it runs as an unprivileged user.
    """

    # "Immediate": nobody wants the data.
    stops_with = signal.SIGQUIT

    @staticmethod
    def why_not() -> str | None:
        """Why there can be none on this machine; ``None`` if there can."""
        missing = [name for name in _PROGRAMS if _program(name) is None]
        if missing:
            return f"no {' and no '.join(missing)} on the PATH or in /usr/lib/postgresql"
        missing = [driver for driver in _DRIVERS if importlib.util.find_spec(driver) is None]
        if missing:
            return f"this Python has no {' and no '.join(missing)}"
        if os.geteuid() == 0 and _unprivileged() is None:
            return f"it does not run as root, and there is no user {' or '.join(_UNPRIVILEGED)}"
        return None

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database, for Airflow."""
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        """The same, if the server is reached through another port."""
        return f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"

    def _start(self) -> None:
        user = _unprivileged() if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(self.folder, user)
        data = self.folder / "data"
        # Its messages are read below.
        options = {"user": user, "env": {**os.environ, "LC_ALL": "C", "HOME": str(self.folder)}}
        create = [_program("initdb"), "-D", data, "-U", "airflow", "-A", "trust", "-E", "UTF8", "--no-sync"]
        with self.log.open("wb") as output:
            done = subprocess.run(
                create, check=False, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder, **options
            )  # type: ignore[call-overload]
        if done.returncode:
            raise ServiceError(f"initdb failed:\n{self.log.read_text('utf-8', 'replace')}")
        self.port = free_port()
        settings = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        self._serve([_program("postgres"), "-D", data, "-p", str(self.port), *settings], **options)
        self._create_database()

    def _create_database(self) -> None:
        import psycopg2

        deadline = time.monotonic() + self._start_within
        while True:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(f"PostgreSQL did not start:\n{self.log.read_text('utf-8', 'replace')}")
            try:
                connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="airflow", dbname="postgres")
            except psycopg2.OperationalError:
                time.sleep(0.1)
                continue
            try:
                connection.autocommit = True
                connection.cursor().execute("CREATE DATABASE airflow")
            finally:
                connection.close()
            return


def _program(name: str) -> Path | None:
    """Where a program of PostgreSQL is: on the PATH, or where Debian puts it (the newest version)."""
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    found = program(name, *sorted(installed, key=lambda folder: _version(folder.parent.name)))
    # It looks for what belongs to it beside itself.
    return found and found.resolve()


def _version(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _unprivileged() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in _UNPRIVILEGED if name in names), None)
