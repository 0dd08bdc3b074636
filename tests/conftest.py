"""What all tests share: an Airflow home of their own, before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first; then the real Airflow; the search of all its logs for secrets comes last."""
    items.sort(key=lambda item: ("e2e" in item.path.parts, item.path.name == "test_secrets.py"))


pytest_plugins = ["airflow_lro_provider.emulator.pytest_plugin"]
