"""The local Airflow itself: what changes it may come from many sides at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from airflow_lro_provider.demo._client import AirflowClient
from tests.e2e.bed.lab import Lab

CLIENTS, CHANGES = 8, 10
WITHIN_SECONDS = 20.0
"""It takes a second; a deadlock lasts a minute."""


def test_many_changes_at_once_are_answered_at_once(lab: Lab) -> None:
    """On SQLite, Airflow's API server would deadlock with itself, for a minute, at the first two that meet."""

    def change(client: int) -> None:
        airflow = AirflowClient(lab.airflow.url, lab.airflow.home)
        airflow.token = lab.airflow.token
        for number in range(CHANGES):
            key = f"many-{client}-{number}"
            airflow.api("POST", "variables", {"key": key, "value": "1"})
            airflow.api("DELETE", f"variables/{key}")

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(change, range(CLIENTS)))
    assert time.monotonic() - began < WITHIN_SECONDS
