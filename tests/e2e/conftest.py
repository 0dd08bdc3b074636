"""One real Airflow and one local server for all end-to-end tests of a process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator
from tests.e2e.bed.bed import CONNECTION, DAGS
from tests.e2e.bed.lab import Lab
from tests.e2e.bed.store import CountingStore
from tests.e2e.bed.token_bank import TokenBank

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need the real Airflow."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Started once in each process."""
    with Emulator(store=CountingStore()) as emulator, TokenBank() as bank:
        keyed = {"api_endpoint": f"{emulator.url}/{{service}}", "keyfile_dict": bank.key}
        environment = {
            "LOCAL_SERVER": emulator.url,
            # A real key and real tokens, for the search of the logs.
            "AIRFLOW_CONN_WITH_A_KEY": json.dumps({"conn_type": "google_lro", "extra": keyed}),
            # A triggerer that stalls is noticed after 10 s instead of 30.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "8",
        }
        # For a look afterwards: KEEP_E2E_HOME=/some/folder keeps the database and all logs there.
        home = Path(os.environ["KEEP_E2E_HOME"]) if "KEEP_E2E_HOME" in os.environ else None
        with LocalAirflow(home, dags=DAGS, environment=environment, triggerers=Lab.triggerers) as airflow:
            assert airflow.import_errors() == []
            airflow.set_connection(CONNECTION, emulator.airflow_connection_json())
            yield Lab(airflow, emulator, bank=bank)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs that a test leaves behind are ended, so that the next one has the workers."""
    yield
    if "lab" not in request.fixturenames:
        return
    lab: Lab = request.getfixturevalue("lab")
    lab.end_runs()
