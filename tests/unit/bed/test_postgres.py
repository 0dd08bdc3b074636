"""A PostgreSQL of our own: it answers, and is gone afterwards, whatever happens."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.e2e.bed.postgres import LocalPostgres
from tests.e2e.bed.service import ServiceError

needs_postgres = pytest.mark.skipif(not LocalPostgres.available(), reason=str(LocalPostgres.why_not()))


@needs_postgres
def test_it_answers_and_is_gone_afterwards() -> None:
    """Also if what was done with it fails."""
    import psycopg2

    seen: list[tuple[Path, psutil.Process]] = []

    def use_it() -> None:
        with LocalPostgres() as database:
            connection = psycopg2.connect(database.url.replace("+psycopg2", ""))
            with connection.cursor() as cursor:
                cursor.execute("SELECT current_database(), inet_server_addr()::text")
                assert cursor.fetchone() == ("airflow", "127.0.0.1/32")
            connection.close()
            assert database.folder.is_dir()
            seen.append((database.folder, psutil.Process(database.pid)))
            raise RuntimeError("a test")

    with pytest.raises(RuntimeError, match="a test"):
        use_it()
    [(folder, process)] = seen
    assert not folder.exists()
    assert not process.is_running()


def test_it_says_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs, or the drivers, there is none."""
    monkeypatch.setattr("tests.e2e.bed.postgres._program", lambda name: None)
    assert LocalPostgres.why_not() == "no initdb and no postgres on the PATH or in /usr/lib/postgresql"
    assert not LocalPostgres.available()
    with pytest.raises(ServiceError, match="no initdb"), LocalPostgres():
        pass
    monkeypatch.setattr("tests.e2e.bed.postgres._program", Path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert LocalPostgres.why_not() == "this Python has no psycopg2 and no asyncpg"
