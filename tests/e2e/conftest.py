"""One real Airflow and one local server for all end-to-end tests."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from bed import CountingStore
from lab import Lab, Run
from token_bank import TokenBank
from waiting import wait_until

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator

__all__ = ["Lab", "Run", "TokenBank", "lab", "nothing_is_left", "wait_until"]

HERE = Path(__file__).parent


# What Airflow 3.3.2 itself gets wrong under load, whatever its tasks do: a task that is queued again quickly is
# failed by the scheduler, SQLite's lock is waited for in vain, and now and then its API server answers nobody for a
# minute. A test that met one of them is run once more.
AIRFLOWS_OWN_TROUBLE = re.compile(
    r"Executor .*reported that the task instance .* finished with state|database is locked"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need the real Airflow."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


STALLED = re.compile(r"Read timed out\. \(read timeout=60\)|'exception_type': 'ReadTimeout'")


def trouble(lab: Lab) -> int:
    """How often Airflow has logged trouble of its own so far."""
    logs = (file.read_text("utf-8", "replace") for file in Path(lab.airflow.home).glob("*.log"))
    return sum(len(AIRFLOWS_OWN_TROUBLE.findall(log)) for log in logs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test that failed once more, if, and only if, Airflow itself had trouble meanwhile."""
    if HERE not in item.path.parents:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    before = trouble(Lab.current) if Lab.current else 0
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report for report in reports if report.failed]
    stalled = any(STALLED.search(report.longreprtext) for report in failed)
    if failed and nextitem and (stalled or (Lab.current and trouble(Lab.current) > before)):
        warnings.warn(pytest.PytestWarning(f"run again, Airflow had trouble of its own: {item.nodeid}"), stacklevel=1)
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Started once for all."""
    with Emulator(store=CountingStore()) as emulator, TokenBank() as bank:
        keyed = {"api_endpoint": f"{emulator.url}/{{service}}", "keyfile_dict": bank.key}
        environment = {
            # A real key and real tokens, for the search of the logs.
            "AIRFLOW_CONN_WITH_A_KEY": json.dumps({"conn_type": "google_lro", "extra": keyed}),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": emulator.airflow_connection_json(),
            # A triggerer that stalls is noticed after 10 s instead of 30.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "8",
        }
        # For a look afterwards: KEEP_E2E_HOME=/some/folder keeps the database and all logs there.
        home = Path(os.environ["KEEP_E2E_HOME"]) if "KEEP_E2E_HOME" in os.environ else None
        with LocalAirflow(home, dags=HERE / "dags", environment=environment, triggerers=Lab.triggerers) as airflow:
            assert airflow.import_errors() == []
            Lab.current = Lab(airflow, emulator, bank=bank)
            yield Lab.current
            Lab.current = None


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs that a test leaves behind are ended, so that the next one has the workers."""
    yield
    if "lab" not in request.fixturenames:
        return
    lab: Lab = request.getfixturevalue("lab")
    lab.end_runs()
