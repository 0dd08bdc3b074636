"""What a process that runs no task can read of Airflow, where Airflow's own servers can. The same from 2.11 to 3.3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"


@contextmanager
def database_is_read() -> Iterator[None]:
    """Let this process, which runs no task, read connections as Airflow's own servers do: also of the database.

    (``ensure_secrets_backend_loaded`` of ``airflow/sdk/execution_time/supervisor.py``)
    """
    before = {key: value for key, value in os.environ.items() if key == _CONTEXT}
    os.environ[_CONTEXT] = "server"
    try:
        yield
    finally:
        del os.environ[_CONTEXT]
        os.environ.update(before)


def query(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """The rows that a statement finds in Airflow's metadata database."""
    from airflow.utils.session import create_session
    from sqlalchemy import text

    with create_session() as session:
        return [tuple(row) for row in session.execute(text(statement), values)]
