from __future__ import annotations

import requests

pytest_plugins = ["airflow_lro_provider.emulator.pytest_plugin"]


def test_the_fixture_is_a_running_emulator(lro_emulator):
    """The fixture gives an emulator that responds."""
    assert requests.get(f"{lro_emulator.url}/emulator/operations", timeout=30).json() == []
    lro_emulator.create("datafusion")


def test_the_fixture_is_fresh_for_each_test(lro_emulator):
    """What one test started, the next one does not see."""
    assert lro_emulator.operations() == []
