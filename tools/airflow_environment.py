"""An environment with a certain Airflow, this package and its tests: ``python tools/airflow_environment.py 3.2.2``.

It is made once, below ``.airflow/``, by this Python (Airflow 2.11 wants one below 3.13), and printed; what runs there
runs on that Airflow::

    $(python tools/airflow_environment.py 3.1.8)/bin/python -m pytest tests/airflow
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = {"3.1": ("svcs<26",), "3.2": ("fastapi<0.137", "cadwyn<7", "svcs<26")}
"""Newer ones than a version runs with: its API server does not start, or `dags test` fails. (Its users install with
Airflow's constraints.)"""


def environment(version: str) -> Path:
    """The folder of the environment; it is made if there is none.

    :param version: of Airflow, such as ``3.2.2``.
    :raises subprocess.CalledProcessError: if it cannot be installed.
    """
    folder = ROOT / ".airflow" / version
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--upgrade", "pip"], check=True)
        older = CONSTRAINTS.get(version.rpartition(".")[0], ())
        subprocess.run([*pip, f"apache-airflow=={version}", *older, "-e", f"{ROOT}[test,bed]"], check=True)
        ready.touch()
    return folder


def run_there(version: str, script: str, arguments: Sequence[str]) -> int:
    """Run a script with that environment's Python, as from here, but without ``--airflow VERSION``; its exit status."""
    given = [word for word in arguments if word not in ("--airflow", version)]
    return subprocess.run([str(environment(version) / "bin" / "python"), script, *given]).returncode


if __name__ == "__main__":
    print(environment(sys.argv[1]))
