"""Airflow's Variables, from within a task. Every function requests something of the supervisor, and may raise anything.

Of all that a task can write without credentials of its own, only Variables can be listed: XComs of other Dags cannot,
asset states have no list of keys, and task states can be read by their own task only. Public: ``Variable`` of the task
SDK. Its ``keys`` is new in Airflow 3.3 (read in 3.3.2); before that a task cannot list them.
"""

from __future__ import annotations

from typing import Any

__all__ = ["delete", "get", "keys", "set_"]


def keys(prefix: str) -> list[str]:
    """The keys of all Variables in Airflow's database that begin so."""
    return [str(key) for key in _variable().keys(prefix=prefix)]


def get(key: str) -> Any:
    """The value of a Variable; ``None`` if there is none."""
    return _variable().get(key, default=None)


def set_(key: str, value: str, description: str) -> None:
    """Add or replace a Variable."""
    _variable().set(key, value, description=description)


def delete(key: str) -> None:
    """Delete a Variable. No-op if there is none."""
    _variable().delete(key)


def _variable() -> Any:
    from airflow.providers.common.compat.sdk import Variable  # Airflow's, whose import a Dag's parse need not pay for

    return Variable
