"""Airflow finds the provider, and its own tools show it without a complaint."""

from __future__ import annotations

import subprocess
import sys

import pytest


def airflow(*command: str) -> str:
    """Run Airflow's command line; its complaints are part of the answer."""
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "airflow", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    about_us = [line for line in done.stderr.splitlines() if "lro" in line.lower()]
    assert not about_us, "Airflow complains about this provider:\n" + "\n".join(about_us)
    return done.stdout


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("providers", "list"), "airflow-lro-provider"),
        (("providers", "get", "airflow-lro-provider"), "airflow-lro-provider"),
        (("providers", "hooks"), "airflow_lro_provider.hooks.operations.OperationsHook"),
        (("providers", "links"), "airflow_lro_provider.links.operations.OperationLink"),
        (("providers", "triggers"), "airflow_lro_provider.triggers.operations"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_airflow_shows_the_provider_without_a_warning(command: tuple[str, ...], expected: str) -> None:
    """`airflow providers …` lists what this package brings, and says nothing against it."""
    assert expected in airflow(*command, "--output", "json")
