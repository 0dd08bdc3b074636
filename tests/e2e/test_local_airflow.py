"""The local Airflow itself: what changes or examines it may come from many sides at once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from airflow_lro_provider.demo._client import AirflowClient
from tests.airflow.versions import since_3
from tests.e2e.bed.bed import from_outside
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


@since_3
def test_doctor_finds_nothing_wrong_from_outside(lab: Lab) -> None:
    """`airflow-lro doctor --url`, by Airflow's public API: the connection has a token, and a triggerer runs."""
    done = from_outside(lab.airflow, lab.emulator, "doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    marks = {check["check"]: check["mark"] for check in json.loads(done.stdout)["checks"]}
    assert marks["triggerer"] == marks["connection"] == "ok", done.stdout
