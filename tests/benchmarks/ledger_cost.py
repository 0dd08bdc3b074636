"""What the ledger and the sweep cost: ``python tests/benchmarks/ledger_cost.py [--entries 10000]``.

On one real Airflow: how long a task takes for one entry; a sweep whose tasks are all alive; and the worst one, in which
all tasks are gone and all operations have to be looked at and struck out. With ``--dead 2000``, without Airflow: how
much later a sweep cancels an operation because so many others are at an endpoint that does not respond.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.sweep import cancellation
from airflow_lro_provider.sweep.ledger import LedgerEntry
from tests.airflow.test_sweep import PlayedAirflow
from tests.e2e.bed.postgres import LocalPostgres
from tests.e2e.bed.waiting import wait_until

DAGS = Path(__file__).with_name("ledger_dags")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=10_000, help="entries in the ledger (default: %(default)s)")
    parser.add_argument("--dead", type=int, metavar="N", help="only: N entries at an endpoint that does not respond")
    given = parser.parse_args()
    if given.dead:
        print(json.dumps({f"{number} at a dead endpoint": until_the_cancel(number) for number in (0, given.dead)}))
        return
    with contextlib.ExitStack() as stack:
        why_not = LocalPostgres.why_not()
        url = stack.enter_context(LocalPostgres()).url if why_not is None else None
        print(f"database: {'PostgreSQL' if url else f'SQLite ({why_not})'}", flush=True)
        emulator = stack.enter_context(Emulator())
        environment = {
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": emulator.airflow_connection_json(),
            "AIRFLOW__LRO__LEDGER": "True",
        }
        airflow = LocalAirflow(dags=DAGS, environment=environment, database=url)
        stack.enter_context(airflow)
        bench = Bench(airflow, emulator, given.entries)
        found = {"one entry (ms, median of 100)": bench.one_entry()}
        found["a sweep, all alive"] = bench.sweep("running")
        found["a sweep, all gone and over"] = bench.sweep(None)
    print(json.dumps(found, indent=2))


def until_the_cancel(dead: int) -> list[float]:
    """Seconds from the begin of a sweep to the cancel of the one operation that can be reached; five times."""
    took: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as silent, Emulator() as emulator:

        class Airflow(PlayedAirflow):
            def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
                found = super().settings("google_cloud_default", impersonation_chain)
                url = f"http://127.0.0.1:{silent.getsockname()[1]}"
                return replace(found, api_endpoint=url) if gcp_conn_id == "silent" else found

        with mock.patch.object(cancellation, "ENDPOINT_TIMEOUT_SECONDS", 5.0):
            for _ in range(5):
                airflow = Airflow(emulator)
                for number in range(dead):
                    airflow.add("failed", f"projects/p/locations/l/operations/o{number}", gcp_conn_id="silent")
                name = emulator.create("datafusion", duration=None)
                airflow.add("failed", name)
                begin = time.time()
                airflow.sweep()
                cancelled_at = emulator.operation("datafusion", name).cancel_requested_at
                assert cancelled_at is not None
                took.append(round(cancelled_at - begin, 3))
    return took


class Bench:
    """One Airflow with a ledger."""

    def __init__(self, airflow: LocalAirflow, emulator: Emulator, entries: int) -> None:
        self._airflow, self._emulator, self._entries = airflow, emulator, entries
        self._alive = airflow.trigger("cost")

    def one_entry(self) -> Any:
        """What the task has timed."""
        self._airflow.wait_for_state("cost", self._alive, "stay", "running", timeout=120)
        return self._airflow.xcom("cost", self._alive, "time_the_ledger")

    def sweep(self, state: str | None) -> dict[str, Any]:
        """Fill the ledger, and sweep once."""
        name = self._emulator.create("datafusion", duration=None if state else 0)
        reference = read_reference(name, "datafusion").to_dict()
        variables = {}
        for number in range(self._entries):
            entry = LedgerEntry(
                try_id=str(uuid.uuid4()),
                dag_id="cost",
                run_id=self._alive if state else f"gone-{number}",
                task_id="stay",
                map_index=-1,
                try_number=1,
                armed_since=time.time(),
                reference=reference,
                gcp_conn_id="google_cloud_default",
            )
            variables[entry.key] = entry.to_json()
        file = self._airflow.home / "entries.json"
        file.write_text(json.dumps(variables), encoding="utf-8")
        command = [sys.executable, "-m", "airflow", "variables", "import", str(file)]
        subprocess.run(command, env=self._airflow.environment, check=True, capture_output=True)
        asked = len(self._emulator.requests())
        run_id = self._airflow.trigger("lro_sweep")
        self._airflow.wait_for_state("lro_sweep", run_id, "sweep", "running", timeout=60)
        begin = time.monotonic()
        memory = _Memory(self._airflow.task_pids("lro_sweep", run_id, "sweep")[0])
        wait_until(
            lambda: self._airflow.run_state("lro_sweep", run_id) in ("success", "failed"), "the sweep ends", 1800
        )
        seconds = time.monotonic() - begin
        report = self._airflow.xcom("lro_sweep", run_id, "sweep")
        report.pop("operations")
        return {
            **report,
            "seconds": round(seconds, 1),
            "requests to the service": len(self._emulator.requests()) - asked,
            "memory of the task (MB, at the beginning and at most)": memory.stop(),
        }


class _Memory(threading.Thread):
    """How much memory a process takes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._seen: list[float] = []
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self._over.wait(0.2):
                self._seen.append(self._process.memory_info().rss / 2**20)

    def stop(self) -> list[int]:
        """The first and the largest."""
        self._over.set()
        self.join()
        return [round(self._seen[0]), round(max(self._seen))] if self._seen else []


if __name__ == "__main__":
    main()
