"""What the documentation shows, done by a user: a test of one's own Dag, from nothing; every Dag of the cookbook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.documents import ROOT, blocks

COOKBOOK = ROOT / "docs" / "cookbook.md"
TESTING = ROOT / "docs" / "testing.md"
# Of each recipe: what is there before, what it has done.
TESTS = """
from functools import cache
from pathlib import Path

import pytest
from tests.airflow.versions import dag_bag

pytest_plugins = ["airflow_lro_provider.emulator.pytest_plugin"]
LOCATION = "projects/my-project/locations/us-central1"


@pytest.fixture
def google(lro_emulator, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    lro_emulator.script(duration=0.5)
    return lro_emulator


@cache
def recipes():
    return dag_bag(Path("recipes").absolute()).dags


def run(dag_id):
    return {one.task_id: one.state for one in recipes()[dag_id].test().get_task_instances()}


def starts(google):
    return [request.path for request in google.requests(verb="start")]


def test_export(google):
    assert run("export") == {"export": "success", "load": "success"}
    assert starts(google) == ["/datastore/v1/projects/my-project:export"]


def test_fan_out(google):
    assert run("fan_out") == {"restart": "success"}
    assert sorted(path.split("/")[6] for path in starts(google)) == ["asia-east1", "europe-west1", "us-central1"]


def test_cancel_old_ones(google):
    name = google.create("datafusion", f"{LOCATION}/operations/old", duration=None)
    google.create("datafusion", f"{LOCATION}/operations/done", duration=0)
    assert run("cancel_old_ones") == {"old_ones": "success", "cancel": "success"}
    assert [one.operation["name"] for one in google.operations() if one.cancel_requests] == [name]


def test_cancel_and_clean_up(google):
    google.create("datafusion", f"{LOCATION}/operations/operation-1", duration=3, cancel="ignore")
    states = run("cancel_and_clean_up")
    assert states == {"cancel": "success", "choose": "success", "clean_up": "success", "go_on": "skipped"}


def test_ensure_instance(google):
    assert run("ensure_instance") == {"ensure": "success"}
    assert starts(google) == [f"/datafusion/v1/{LOCATION}/instances"]


def test_observe(google):
    google.create("earthengine", "projects/my-project/operations/ABCDEFGH", duration=1)
    assert run("observe") == {"observe": "success"}
"""


def test_a_user_who_follows_it_comes_to_the_end(tmp_path: Path) -> None:
    """`docs/testing.md` from an empty folder, and each recipe of `docs/cookbook.md` against the emulator."""
    dag, test = (code for _, code in blocks(TESTING, "python"))
    (tmp_path / "backup.py").write_text(dag)
    (tmp_path / "test_backup.py").write_text(test)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for _, code in blocks(COOKBOOK, "python"):
        [dag_id] = re.findall(r'with DAG\(\s*"(\w+)"', code)
        # What is made here is seconds old.
        (recipes / f"{dag_id}.py").write_text(code.replace("timedelta(days=1)", "timedelta(0)"))
    (tmp_path / "test_cookbook.py").write_text(TESTS)
    # As the page says it, in this environment.
    [shell] = [code for _, code in blocks(TESTING, "shell") if "pip install" in code]
    [ignored] = re.findall(r"^echo (\S+) > \.airflowignore", shell, re.M)
    (tmp_path / ".airflowignore").write_text(f"{ignored}\n")
    exports = dict(
        re.findall(
            r"(AIRFLOW\w+)=(\S+)", shell.replace("$(mktemp -d)", f"{tmp_path}/home").replace("$PWD", str(tmp_path))
        )
    )
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    surroundings |= exports | {"PYTHONPATH": str(ROOT)}
    for command in (
        [sys.executable, "-m", "airflow", "db", "migrate"],
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
    ):
        done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "9 passed" in done.stdout
