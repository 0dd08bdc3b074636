"""Whether an Airflow connection is one that can be used here, before any of its fields is read."""

from __future__ import annotations

import json
from typing import Any

# Ours, and those of Google's own provider whose extra has the same fields (its get_provider_info.py: hooks that are
# a GoogleBaseHook). The others there hold an account of something else (Looker, Dataprep, Ads).
CONNECTION_TYPES = ("google_lro", "google_cloud_platform", "gcpbigquery", "gcpcloudsql", "gcpcloudsqldb", "gcpssh")


def usable(connection: Any, conn_id: str | None) -> Any:
    """The connection, unless it would silently be another identity than intended.

    :raises ConnectionSettingsError: if there is none, if it is of another type, or if its extra is no JSON object,
        which Airflow treats as empty.
    """
    from airflow_lro_provider.lro.errors import ConnectionSettingsError

    if connection is None:
        raise ConnectionSettingsError(
            f"connection {conn_id!r} is not defined, or not visible here (outside of a task, Airflow 3 reads none from"
            f" its database). Create it (type `google_lro`), set AIRFLOW_CONN_{str(conn_id).upper()}, or pass"
            " gcp_conn_id=None (in a shell, no --gcp-conn-id) to use application default credentials."
        )
    kind = (connection.conn_type or "").replace("-", "_")
    if kind and kind not in CONNECTION_TYPES:
        raise ConnectionSettingsError(
            f"connection {conn_id!r} is of type {kind!r}, which holds no Google credentials. Give it the type"
            " `google_lro` or `google_cloud_platform`, or name another one in gcp_conn_id."
        )
    try:
        if not connection.extra or isinstance(json.loads(connection.extra), dict):
            return connection
    except ValueError:
        pass
    raise ConnectionSettingsError(f"connection {conn_id!r}: its extra is not a JSON object.")
