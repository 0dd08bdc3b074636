"""What Airflow needs so that tasks can run side by side on SQLite, of which any process may write only in its turn."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from pathlib import Path

_PLUGIN = Path(__file__).with_name("plugins") / "one_change_at_a_time.py"


def sqlite_settings(home: Path) -> dict[str, str]:
    """Airflow's settings for a database in its home.

    :param home: AIRFLOW_HOME
    :return: the values, by the last part of their environment variable's name
    """
    return {
        # Writers wait for each other; the default of 5 s is not enough on a busy machine.
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_database(home)}?timeout=60",
        # Every two times this long, in seconds, the API server deletes expired tokens, on its event loop, while it
        # answers whatever request, so that the plugin cannot prevent a deadlock. A hundred years from now, then.
        "API_AUTH__JWT_EXPIRATION_TIME": str(100 * 365 * 86_400),
    }


def install_plugin(home: Path) -> None:
    """Give Airflow the plugin that keeps its API server from deadlocking with itself.

    :param home: AIRFLOW_HOME
    """
    plugins = home / "plugins"
    plugins.mkdir(exist_ok=True)
    shutil.copy(_PLUGIN, plugins)


def never_reuse_trigger_ids(home: Path) -> None:
    """Rebuild the (empty) table of triggers so that an id is given only once.

    SQLite gives the id of a deleted row to the next one; PostgreSQL and MySQL do not. A triggerer that has
    not yet noticed that its trigger 1 is gone then takes the new trigger 1 for the old one: the new
    task's trigger never starts, the old task's is never told to stop, and the old one's event goes to
    the new task (seen on Airflow 3.3.2).
    """
    with contextlib.closing(sqlite3.connect(_database(home))) as connection, connection:
        [table] = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'trigger'"
        ).fetchone()
        indices = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'trigger' AND sql IS NOT NULL"
        ).fetchall()
        table = table.replace("id INTEGER NOT NULL", "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", 1)
        key = r"(?:CONSTRAINT \w+ )?PRIMARY KEY \(id\)"  # Airflow 3.1 to 3.3 write it in different ways
        table = re.sub(rf",\s*{key}(?=\s*[,)])|{key},\s*", "", table, count=1)
        connection.execute('DROP TABLE "trigger"')
        for [statement] in [(table,), *indices]:
            connection.execute(statement)


def _database(home: Path) -> Path:
    return home / "airflow.db"
