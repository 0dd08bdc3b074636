"""The Airflow connection to an emulator, in every form in which Airflow takes one. Standard library only."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import urlencode

__all__ = ["add_command", "connection_extra", "connection_json", "connection_uri"]

CONN_TYPE = "google_lro"


def connection_extra(url: str, service: str | None = None) -> dict[str, Any]:
    """The extra of a connection.

    :param url: the emulator's.
    :param service: only this API; if not given, all of them, through ``{service}``.
    """
    return {"api_endpoint": f"{url}/{service or '{service}'}", "emulator": True}


def connection_json(url: str, service: str | None = None) -> str:
    """A connection as JSON, e.g. for ``AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT``."""
    return json.dumps({"conn_type": CONN_TYPE, "extra": connection_extra(url, service)})


def connection_uri(url: str, service: str | None = None) -> str:
    """A connection as a URI."""
    # `__extra__` keeps the types; a plain query would turn `true` into a string.
    query = urlencode({"__extra__": json.dumps(connection_extra(url, service))})
    return f"{CONN_TYPE.replace('_', '-')}://?{query}"


def add_command(url: str, conn_id: str = "google_cloud_default") -> str:
    """A shell command that adds the connection to Airflow."""
    extra = shlex.quote(json.dumps(connection_extra(url)))
    return f"airflow connections add {conn_id} --conn-type {CONN_TYPE} --conn-extra {extra}"
