"""Where Airflow looks for a connection; read in Airflow 3.3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"


@contextmanager
def database_is_read() -> Iterator[None]:
    """Let this process, which runs no task, read connections as Airflow's own servers do: also of the database.

    (``ensure_secrets_backend_loaded`` of ``airflow/sdk/execution_time/supervisor.py``)
    """
    before = os.environ.get(_CONTEXT)
    os.environ[_CONTEXT] = "server"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CONTEXT]
        else:
            os.environ[_CONTEXT] = before
