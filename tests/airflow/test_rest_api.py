"""The sweep from outside: what Airflow's public API leaves out is no proof of a death."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.sweep.ledger import PREFIX, LedgerEntry
from airflow_lro_provider.sweep.reconciler import sweep
from airflow_lro_provider.sweep.rest_api import FromOutside


class PlayedApi:
    """Airflow's API with one entry in the ledger.

    :param one: the HTTP code of the answer to a question about one task instance.
    """

    def __init__(self, entry: LedgerEntry, one: int) -> None:
        self.entry, self.one = entry, one
        self.paths: list[str] = []

    def request(self, method: str, url: str, **_: Any) -> requests.Response:
        """Response."""
        path = url.partition("/api/v2/")[2]
        self.paths.append(path)
        response = requests.Response()
        response.status_code = 200
        content: Mapping[str, Any] = {"task_instances": [], "total_entries": 0}
        if path == "variables":
            rows = [{"key": PREFIX + self.entry.key, "value": self.entry.to_json()}]
            content = {"variables": rows, "total_entries": 1}
        elif not path.endswith("/list"):
            response.status_code, content = self.one, {"state": "running"}
        response._content = json.dumps(content).encode()
        return response


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
