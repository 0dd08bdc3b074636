"""What all tests share: an Airflow home of their own, before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import pytest

_home = tempfile.TemporaryDirectory(prefix="airflow-lro-tests-")
for variable in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[variable]
os.environ.update(
    AIRFLOW_HOME=_home.name,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_home.name}/airflow.db",
)


AT_ONCE = ("test_sweep.py", "test_kill_matrix.py", "test_demo.py")
LATER = ("test_kills.py", "test_documentation.py")
"""The end-to-end tests that start an Airflow of their own: the later ones when another one is done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, each in a process: the shared Airflow (the search of all its logs for secrets is its
    last test), and those that start their own; beside them, in one process at first, all that needs none.
    """

    def place(item: pytest.Item) -> tuple[int, bool]:
        name, parts = item.path.name, item.path.parts
        if "e2e" not in parts:
            return (4 if "airflow" in parts else 6), False
        if name in LATER:
            return 5, False
        return AT_ONCE.index(name) + 1 if name in AT_ONCE else 0, name == "test_secrets.py"

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share an Airflow share a process; all others are spread over what is free.

    Not with xdist's own groups: they write into the ids of tests, which pytest 9.2 does not read.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneAirflow(LoadScopeScheduling):
        """The tests of the shared Airflow belong together, and no others."""

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file.startswith("tests/e2e/") and file.rpartition("/")[2] in AT_ONCE + LATER:
                return file
            return "the shared Airflow" if file.startswith("tests/e2e/") else nodeid

    return OneAirflow(config, log)


pytest_plugins = ["airflow_lro_provider.emulator.pytest_plugin"]


@pytest.fixture(autouse=True)
def _no_airflow_was_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a task state store is played, no record of an older Airflow lies in a Variable behind it."""
    from airflow_lro_provider.airflow_compat import record_store
    from tests.airflow.played import NoVariable

    monkeypatch.setattr(record_store, "SupervisorVariable", NoVariable)


@pytest.fixture(autouse=True)
def _forget_field_masks() -> Any:
    """What one test's server does with field masks says nothing about the next one's."""
    from airflow_lro_provider.lro import field_mask

    yield
    field_mask._unmasked.clear()
