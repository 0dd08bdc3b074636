"""A fixture for the tests of Dags: ``pytest_plugins = ["airflow_lro_provider.emulator.pytest_plugin"]``.

::

    def test_my_dag(lro_emulator, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
        lro_emulator.script("datafusion", duration=0.1)
        ...
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_lro_provider.emulator.server import Emulator

__all__ = ["lro_emulator"]


@pytest.fixture
def lro_emulator() -> Iterator[Emulator]:
    """An emulator on a free port of this machine, new for each test and stopped after it."""
    with Emulator() as emulator:
        yield emulator
