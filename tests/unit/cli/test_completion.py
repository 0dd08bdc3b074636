"""Completion by a shell: what bash asks, and what it is answered."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest


def completed(line: str) -> list[str]:
    """What argcomplete's function in bash gets for a line at whose end somebody presses Tab."""
    asked = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
        "COMP_TYPE": "9",
        "AIRFLOW_CONN_MY_PROJECT": "{}",
    }
    command = [sys.executable, "-m", "airflow_lro_provider.cli"]
    done = subprocess.run(  # argcomplete answers on the file descriptor 8
        ["bash", "-c", f"exec {shlex.join(command)} 8>&1 9>&2"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    return [word.strip() for word in done.stdout.split("\n")]


@pytest.mark.parametrize(
    ("line", "there", "not_there"),
    [
        ("airflow-lro ", ["list", "wait", "doctor", "sweep"], ["datafusion"]),
        ("airflow-lro wait --", ["--service", "--timeout", "--json"], ["--filter"]),
        ("airflow-lro list x --service data", ["datafusion", "dataproc"], ["aiplatform"]),
        ("airflow-lro cancel x --service cloudt", [], ["cloudtasks"]),  # it cannot cancel
        ("airflow-lro get x --service cloudt", ["cloudtasks"], []),
        ("airflow-lro services aipl", ["aiplatform"], []),
        ("airflow-lro get x --service aiplatform --api-version ", ["v1", "v1beta1"], []),
        ("airflow-lro get x --gcp-conn-id my", ["my_project"], []),
        ("airflow-lro get READ", [], ["README.md"]),
    ],
)
def test_what_is_offered(line: str, there: list[str], not_there: list[str]) -> None:
    """Commands, options, APIs that offer the verb, versions and connections; never the names of files."""
    offered = completed(line)
    assert set(there) <= set(offered)
    assert not set(not_there) & set(offered)
