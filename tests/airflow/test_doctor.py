"""``airflow-lro doctor``: what it says of deployments as they are made here, and that it tells no secret."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from airflow_lro_provider import cli
from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.cli import doctor
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.sweep.ledger import LedgerEntry
from tests.local_server import Handler, LocalServer

sweeps_in_a_dag = pytest.mark.skipif((3,) <= AIRFLOW < (3, 3), reason="no task may list Variables")
KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
ENTRY = LedgerEntry("i", "d", "r", "t", -1, 1, 0.0, None).key
_FILL = """
import json, os, sys
from datetime import datetime, timedelta, timezone
import airflow.models
airflow.models.import_all_models()
from airflow.jobs.job import Job
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from sqlalchemy import create_engine

engine = create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
given, now = json.loads(sys.argv[1]), datetime.now(timezone.utc)
tables = {"job": Job, "dag": DagModel, "task_instance": TaskInstance, "variable": Variable}
for name, model in tables.items():
    model.__table__.create(engine)
    for row in given.get(name, []):
        times = {key: now - timedelta(seconds=value) for key, value in row.items() if key.endswith(("date", "beat"))}
        needed = {"bundle_name": "b", "max_active_tasks": 1, "max_consecutive_failed_dag_runs": 0}
        needed["has_task_concurrency_limits"] = False
        more = {key: value for key, value in needed.items() if key in model.__table__.c}
        with engine.begin() as database:
            database.execute(model.__table__.insert().values(**{**more, **row, **times}))
from airflow_lro_provider.cli import main
sys.exit(main(["doctor", *sys.argv[2:]]))
"""
TRIGGERER = {"job_type": "TriggererJob", "state": "running", "hostname": "t1", "latest_heartbeat": 5}
SWEEP = {
    "dag_id": "lro_sweep", "task_id": "sweep", "run_id": "r", "map_index": -1, "operator": "SweepOperationsOperator",
    "pool": "p", "pool_slots": 1, "state": "success", "start_date": 65, "end_date": 60,
}  # fmt: skip


def of_database(tmp_path: Path, rows: Mapping[str, Any], *arguments: str, **variables: str) -> dict[str, Any]:
    """What it says where there is a database of Airflow's with these rows; ages are in seconds."""
    environment = {
        **os.environ,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__CORE__FERNET_KEY": KEY,
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", _FILL, json.dumps(rows), "--json", *arguments],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if document["problems"] else 0)
    return document


def found(document: Mapping[str, Any], check: str) -> tuple[str, str]:
    """Mark and text of the first finding of a check."""
    return next((one["mark"], one["found"]) for one in document["checks"] if one["check"] == check)


@sweeps_in_a_dag
def test_a_healthy_deployment(tmp_path: Path, lro_emulator: Emulator) -> None:
    """Everything is ok, and the exit status 0."""
    rows = {
        "job": [TRIGGERER, {**TRIGGERER, "latest_heartbeat": 500}, {**TRIGGERER, "state": "success"}],
        "task_instance": [SWEEP],
        "variable": [{"key": ENTRY, "val": "{}"}, {"key": "other", "val": "{}"}],
        "dag": [{"dag_id": "lro_sweep", "is_paused": False}],
    }
    connection = {"AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": lro_emulator.airflow_connection_json()}
    document = of_database(tmp_path, rows, AIRFLOW__LRO__LEDGER="True", **connection)
    assert (document["problems"], document["warnings"]) == (0, 0), document
    assert found(document, "triggerer")[0] == "ok"
    assert found(document, "triggerer")[1].startswith("1 running (t1, ")
    assert "The last one in a Dag (lro_sweep): success, 1m0" in found(document, "sweep")[1]
    assert "The ledger has 1 entry (Airflow's database: sqlite)." in found(document, "sweep")[1]


@sweeps_in_a_dag
@pytest.mark.parametrize(
    ("run", "paused", "ledger", "mark", "words"),
    [
        ({}, True, "True", "problem", "The Dag is paused."),
        ({"start_date": 8000, "end_date": 7990}, False, "True", "problem", "2h13m"),
        ({"state": "failed"}, False, "True", "problem", "failed, 1m0"),
        (None, False, "True", "problem", "No sweep has run in a Dag. The ledger has 1 entry"),
        ({}, False, "False", "warning", "success"),
    ],
    ids=["paused", "long ago", "failed", "never", "without a ledger"],
)
def test_a_sweep_that_does_not_sweep(
    tmp_path: Path, run: dict[str, Any] | None, paused: bool, ledger: str, mark: str, words: str
) -> None:
    """What is wrong with it is said, and what to do."""
    rows = {
        "task_instance": [] if run is None else [{**SWEEP, **run}],
        "variable": [{"key": ENTRY, "val": "{}"}],
        "dag": [{"dag_id": "lro_sweep", "is_paused": paused}],
    }
    document = of_database(tmp_path, rows, AIRFLOW__LRO__LEDGER=ledger, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE="True")
    assert found(document, "sweep")[0] == mark
    assert words in found(document, "sweep")[1]
    # Nobody has a heartbeat, and every sensor defers.
    assert found(document, "triggerer")[0] == "problem"
    assert found(document, "connection")[0] == "problem"


def of_process(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What it says in this process, which has no database."""
    status = cli.main(["doctor", "--json", *arguments])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == (1 if document["problems"] else 0)
    return document


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch, lro_emulator: Emulator) -> None:
    """The default connection leads to the local server."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())


def test_where_there_is_no_database_it_says_so(tmp_path: Path, lro_emulator: Emulator) -> None:
    """It cannot tell, which is a warning and not a success; and no file of SQLite's is made by asking."""
    database = f"sqlite:///{tmp_path}/none.db"
    connection = lro_emulator.airflow_connection_json()
    done = subprocess.run(
        [sys.executable, "-m", "airflow_lro_provider.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection,
        },
    )
    document = json.loads(done.stdout)
    for check in ("sweep", "triggerer"):
        mark, text = found(document, check)
        assert (mark, "cannot tell from here" in text) == ("warning", True)
    assert found(document, "connection")[0] == "ok"
    assert not (tmp_path / "none.db").exists()


@pytest.mark.usefixtures("connection")
def test_a_database_that_refuses_is_not_quoted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver's errors have the URL, with the password."""
    from airflow_lro_provider.cli import deployment

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("postgresql://airflow:s3cret@db")

    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql+psycopg2://airflow:s3cret@db/airflow")
    monkeypatch.setattr(deployment, "query", refuse)
    document = of_process(capsys)
    assert "Airflow's database: postgresql cannot be read from here (RuntimeError)" in found(document, "triggerer")[1]
    assert "s3cret" not in json.dumps(document)


class Google(LocalServer):
    """A server whose clock is off.

    :param ahead: by so many seconds; ``None``: it tells no time.
    """

    def __init__(self, ahead: float | None) -> None:
        class Dated(Handler, BaseHTTPRequestHandler):
            def date_time_string(self, timestamp: float | None = None) -> str:
                return "" if ahead is None else formatdate(time.time() + ahead, usegmt=True)

            def do_GET(self) -> None:
                self.send(404, b"", {})

        super().__init__(Dated)


@pytest.mark.parametrize(
    ("ahead", "mark", "words"),
    [
        (0, "ok", "is right"),
        (20, "warning", "s behind http"),
        (-20, "warning", "s ahead of http"),
        (400, "problem", "s behind http"),
        (None, "warning", "has no date"),
    ],
)
def test_clocks(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ahead: float | None,
    mark: str,
    words: str,
) -> None:
    """By the Date of any response, whatever its status: some seconds are a warning, a minute is a problem."""
    with Google(ahead) as google:
        extra = {"api_endpoint": google.url, "emulator": True}
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({"conn_type": "google_lro", "extra": extra}))
        got = found(of_process(capsys), "clock: server")
    assert got[0] == mark
    assert words in got[1]
    if ahead:
        assert any(f" {number} s " in got[1] for number in range(abs(int(ahead)) - 2, abs(int(ahead)) + 3))


def test_the_clock_of_the_database() -> None:
    """Compared as Google's; SQLite has this machine's."""
    assert doctor._clock("c", "the database", 3.0).mark == "ok"
    finding = doctor._clock("c", "the database", -61.0)
    assert (finding.mark, finding.found) == ("problem", "This machine's clock is 61 s ahead of the database.")


def test_secrets_are_not_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the connection there are the names of its fields; of the keys that they are there; of errors no value."""
    key = json.dumps({"type": "service_account", "client_email": "a@b", "private_key": "s3cret", "token_uri": "x"})
    extra = {"keyfile_dict": key, "client_secret": "s3cret", "num_retries": 3}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({"conn_type": "google_lro", "extra": extra}))
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "s3cret")
    monkeypatch.setattr(doctor._Doctor, "_some_url", lambda *_: "http://127.0.0.1:1")
    status = cli.main(["doctor", "--impersonation-chain", "c@d"])
    told = capsys.readouterr()
    assert status == 1
    assert "s3cret" not in told.out + told.err
    assert "[core] fernet_key is not 32 bytes" in told.out


@pytest.mark.parametrize(
    ("extra", "service", "check", "mark", "words"),
    [
        ({"is_anonymous": True}, None, "token", "warning", "without a token"),
        ({"scope": "https://www.googleapis.com/auth/earthengine"}, "datafusion", "scopes", "warning", "earthengine"),
        ({"scope": "https://www.googleapis.com/auth/earthengine"}, "earthengine", "scopes", "ok", "earthengine"),
        ({"keyfile": "x"}, None, "connection", "problem", "keyfile"),
    ],
)
def test_the_connection(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lro_emulator: Emulator,
    extra: dict[str, Any],
    service: str | None,
    check: str,
    mark: str,
    words: str,
) -> None:
    """Its fields, whether there is a token, and whether the scopes are enough for the API that is named."""
    whole = {**lro_emulator.connection_extra(), **extra}
    monkeypatch.setenv("AIRFLOW_CONN_MINE", json.dumps({"conn_type": "google_lro", "extra": whole}))
    document = of_process(capsys, "--gcp-conn-id", "mine", *(("--service", service) if service else ()))
    got = found(document, check)
    assert got[0] == mark
    assert words in got[1]


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"CORE__KILLED_TASK_CLEANUP_TIME": "5"}, "killed_task_cleanup_time = 5"),
        ({"WORKERS__MIN_HEARTBEAT_INTERVAL": "60"}, "min_heartbeat_interval = 60"),
        ({"SCHEDULER__LOCAL_TASK_JOB_HEARTBEAT_SEC": "60"}, "local_task_job_heartbeat_sec = 60"),
        ({"LRO__MAX_IN_FLIGHT": "many"}, "max_in_flight = many"),
        ({"CORE__MULTI_TEAM": "True"}, "multi_team is on"),
    ],
)
def test_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    """Those of docs/deployment.md, if they are not as they should be."""
    before = of_process(capsys)["warnings"]
    for name, value in variables.items():
        monkeypatch.setenv(f"AIRFLOW__{name}", value)
    document = of_process(capsys)
    assert document["warnings"] == before + 1
    assert any(words in one["found"] and one["mark"] == "warning" for one in document["checks"])


class Airflow(LocalServer):
    """Airflow's API, with a sweep that ran a minute ago and a triggerer that lives.

    :param status: of all its responses.
    """

    def __init__(self, status: int = 200) -> None:
        self.tokens: set[str | None] = set()
        outer, when = self, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
        run = {"dag_id": "my_sweep", "state": "success", "operator": "SweepOperationsOperator", "end_date": when}
        pages = {
            "monitor/health": {"triggerer": {"status": "healthy", "latest_triggerer_heartbeat": when}},
            "dags/~/dagRuns/~/taskInstances": {"task_instances": [run], "total_entries": 1},
            "dags/my_sweep": {"is_paused": True},
            "variables": {"variables": [{"key": ENTRY, "value": "{}"}], "total_entries": 1},
        }

        class Answering(Handler, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.tokens.add(self.headers.get("authorization"))
                content = pages[self.path.partition("/api/v2/")[2].partition("?")[0]]
                self.send(status, json.dumps(content if status == 200 else {"detail": "no t0ken"}).encode(), {})

        super().__init__(Answering)


@sweeps_in_a_dag
@pytest.mark.usefixtures("connection")
def test_from_elsewhere_it_asks_the_api(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the token of its user; the same findings as from the database."""
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "t0ken-of-somebody")
    with Airflow() as airflow:
        document = of_process(capsys, "--url", airflow.url)
    assert airflow.tokens == {"Bearer t0ken-of-somebody"}
    assert found(document, "triggerer")[0] == "ok"
    mark, text = found(document, "sweep")
    assert (mark, "my_sweep" in text, "The Dag is paused" in text) == ("problem", True, True)
    assert "The ledger has 1 entry (Airflow's API)." in text


@pytest.mark.usefixtures("connection")
def test_an_api_that_refuses(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot tell, and says why; without a token nothing is asked."""
    monkeypatch.delenv("AIRFLOW_API_TOKEN", raising=False)
    assert cli.main(["doctor", "--url", "http://127.0.0.1:1"]) == 1
    assert "no credentials for Airflow's API" in capsys.readouterr().err
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "t0ken-of-somebody")
    with Airflow(403) as airflow:
        document = of_process(capsys, "--url", airflow.url)
    assert found(document, "triggerer")[0] == "warning"
    assert "Airflow's API returned 403" in found(document, "triggerer")[1]


@pytest.mark.usefixtures("connection")
def test_a_person_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Each finding in a line, its advice in the next one, and the numbers at the end; on standard error at most what
    Airflow itself logs (3.1: of the `_` in the connection's type).
    """
    assert cli.main(["doctor"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("ok       versions       airflow-lro-provider ")
    assert any(line.startswith(" " * 24 + "-> Set AIRFLOW__LRO__LEDGER=True") for line in lines)
    assert lines[-1].startswith("No problems, ")
    assert [line for line in err.splitlines() if "[airflow.models." not in line] == []
