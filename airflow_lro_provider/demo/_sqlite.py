"""One thing that Airflow's SQLite database needs before tasks may be deferred on it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def never_reuse_trigger_ids(database: Path) -> None:
    """Rebuild the (empty) table of triggers so that an id is given only once.

    SQLite gives the id of a deleted row to the next one; PostgreSQL and MySQL do not. A triggerer that has
    not yet noticed that its trigger 1 is gone then takes the new trigger 1 for the old one: the new
    task's trigger never starts, the old task's is never told to stop, and the old one's event goes to
    the new task (seen on Airflow 3.3.2).
    """
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        [table] = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'trigger'"
        ).fetchone()
        indices = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'trigger' AND sql IS NOT NULL"
        ).fetchall()
        table = table.replace("id INTEGER NOT NULL", "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", 1)
        table = table.replace("CONSTRAINT trigger_pkey PRIMARY KEY (id), ", "", 1)
        connection.execute('DROP TABLE "trigger"')
        for [statement] in [(table,), *indices]:
            connection.execute(statement)
