"""The sweep from outside: what Airflow's public API leaves out is no proof of a death."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from airflow_lro_provider.airflow_compat.record_store import VARIABLE_PREFIX
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.http.messages import Response
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.sweep.ledger import LedgerEntry
from airflow_lro_provider.sweep.reconciler import sweep
from airflow_lro_provider.sweep.records import remove_orphaned_records
from airflow_lro_provider.sweep.rest_api import AirflowApiError, FromOutside, log_in
from tests.local_server import Handler, LocalServer


class PlayedApi:
    """Airflow's API with one entry in the ledger.

    :param one: the HTTP code of the answer to a question about one task instance.
    """

    def __init__(self, entry: LedgerEntry, one: int) -> None:
        self.entry, self.one = entry, one
        self.paths: list[str] = []

    def fetch(self, method: str, url: str, **_: Any) -> Response:
        """Response."""
        path, status = url.partition("/api/v2/")[2].partition("?")[0], 200
        self.paths.append(path)
        content: Mapping[str, Any] = {"task_instances": [], "total_entries": 0}
        if path == "variables":
            rows = [{"key": self.entry.key, "value": self.entry.to_json()}]
            content = {"variables": rows, "total_entries": 1}
        elif not path.endswith("/list"):
            status, content = self.one, {"state": "running"}
        return Response(status, {}, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("code", "what", "cancels"),
    [(200, "unsure", 0), (403, "unsure", 0), (500, "unsure", 0), (404, "cancelled", 1)],
    ids=["lost between two pages", "not readable", "no answer", "gone"],
)
def test_only_what_is_gone_is_cancelled(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, code: int, what: str, cancels: int
) -> None:
    """A list shows only the task instances that its reader may see: each that is missing is asked about by itself."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    name = lro_emulator.create("datafusion", duration=None)
    entry = LedgerEntry(
        try_id="i", dag_id="d", run_id="scheduled__2026-01-01T00:00:00+00:00", task_id="g.t", map_index=3, try_number=1,
        armed_since=time.time(), reference=read_reference(name, "datafusion").to_dict(),
        gcp_conn_id="google_cloud_default",
    )  # fmt: skip
    airflow = FromOutside("http://airflow", "token")
    played = PlayedApi(entry, code)
    monkeypatch.setattr(airflow, "_http", played)
    assert sweep(airflow, now=time.time(), log=lambda *_: None).counts[what] == 1
    assert len(lro_emulator.requests(verb="cancel")) == cancels
    assert "dags/d/dagRuns/scheduled__2026-01-01T00:00:00+00:00/taskInstances/g.t/3" in played.paths


class Server(LocalServer):
    """Airflow's API, or a proxy in front of it, on this machine: it notes what arrives, and responds as it is told."""

    def __init__(
        self, status: int = 200, body: bytes = b'{"access_token": "t", "variables": [], "total_entries": 0}'
    ) -> None:
        self.lines: list[str] = []
        outer = self

        class Noting(Handler, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.lines.append(f"{self.command} {self.path}")
                sent = self.rfile.read(int(self.headers.get("content-length", 0)))
                content = body.replace(b"INPUT", sent)
                self.send(status, content, {"location": "http://127.0.0.1:1/elsewhere"})

            def do_POST(self) -> None:
                self.do_GET()

        super().__init__(Noting)


def test_plain_http_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """B17: neither the password of a login nor the token is shown to a proxy that could read it."""
    with Server() as airflow, Server() as proxy:
        for variable in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
            monkeypatch.setenv(variable.upper(), proxy.url)
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        assert log_in(airflow.url, "admin", "s3cret") == "t"
        assert FromOutside(f"{airflow.url}/", "t0ken").keys() == []
        assert [line.partition("?")[0] for line in airflow.lines] == ["POST /auth/token", "GET /api/v2/variables"]
        assert proxy.lines == []


@pytest.mark.parametrize(("status", "words"), [(422, "returned 422"), (307, "returned 307"), (500, "returned 500")])
def test_what_airflow_quotes_back_has_no_secret(status: int, words: str) -> None:
    """B16: FastAPI repeats the input that it refuses, the password among it; and no redirect is followed."""
    with Server(status, b'{"detail": [{"input": INPUT}]} Bearer t0ken-of-somebody') as airflow:
        with pytest.raises(AirflowApiError, match=words) as caught:
            log_in(airflow.url, "admin", 's3cret-"pässword')
        assert "s3cret-" not in str(caught.value)
        with pytest.raises(AirflowApiError, match=words) as caught:
            FromOutside(airflow.url, "t0ken-of-somebody").keys()
        assert "t0ken-of-somebody" not in str(caught.value)
        assert len(airflow.lines) == 2


@pytest.mark.parametrize("url", ["localhost:8080", "airflow.example.com", "ftp://airflow"])
def test_a_url_without_scheme_is_said(url: str) -> None:
    """C11: the URL is at fault, and not that Airflow is away."""
    with pytest.raises(AirflowApiError, match="must begin with https:// or http://"):
        log_in(url, "admin", "s3cret")
    with pytest.raises(AirflowApiError, match="must begin with https:// or http://"):
        FromOutside(url, "t").keys()


def test_an_airflow_that_is_away_is_said() -> None:
    """B17: the words of a connection that cannot be made, without the URL's account."""
    with Server() as airflow:
        pass
    with pytest.raises(AirflowApiError, match=r"cannot be reached: no response from .* \(NewConnectionError\)"):
        FromOutside(airflow.url, "t").keys()


class Records:
    """Airflow's API with Variables, and the task instances that there are."""

    def __init__(self, variables: dict[str, str], *there: str) -> None:
        self.variables, self.there = variables, there

    def fetch(self, method: str, url: str, **_: Any) -> Response:
        """Response."""
        path = url.partition("/api/v2/")[2].partition("?")[0]
        status: int = 200
        content: dict[str, Any] = {}
        if path == "variables":
            rows = [{"key": key, "value": value} for key, value in self.variables.items()]
            content = {"variables": rows, "total_entries": len(rows)}
        elif method == "DELETE":
            del self.variables[path.removeprefix("variables/")]
            status = 204
        elif path.endswith("/list"):
            content = {"task_instances": [], "total_entries": 0}
        else:
            status, content = (200, {"state": "failed"}) if path.split("/")[3] in self.there else (404, {})
        return Response(status, {}, json.dumps(content).encode())


def test_records_of_task_instances_that_are_deleted_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below Airflow 3.3 they are Variables; nobody else's is touched, nor what cannot be read."""
    kept = {f"{VARIABLE_PREFIX}{run}": json.dumps({"task": ["d", run, "t", -1], "armed": {}}) for run in ("old", "new")}
    others = {f"{VARIABLE_PREFIX}odd": "[1]", f"{VARIABLE_PREFIX}short": json.dumps({"task": ["d"]}), "mine": "{}"}
    airflow = FromOutside("https://airflow.example", "token")
    api = Records({**kept, **others}, "new")
    monkeypatch.setattr(airflow, "_http", api)
    assert remove_orphaned_records(airflow) == 1
    assert api.variables == {f"{VARIABLE_PREFIX}new": kept[f"{VARIABLE_PREFIX}new"], **others}
    assert remove_orphaned_records(airflow) == 0
