"""A task that times the ledger from within, and the sweep."""

from __future__ import annotations

import statistics
import time
from typing import Any

from airflow.sdk import DAG, get_current_context, task

from airflow_lro_provider.sweep import sweep_dag

dag = sweep_dag(schedule=None)

with DAG("cost", schedule=None, catchup=False):

    @task
    def time_the_ledger(count: int = 100) -> dict[str, float]:
        """Milliseconds of a write and of a removal, as a guarded task does them."""
        from airflow_lro_provider.lro.resources.names import read_reference
        from airflow_lro_provider.sweep.ledger import LedgerPage

        ti: Any = get_current_context()["ti"]
        page = LedgerPage(ti, gcp_conn_id="google_cloud_default", will_adopt=True, cancel_on_failure=True)
        reference = read_reference("projects/p/locations/us-central1/operations/o", "datafusion")
        found: dict[str, list[float]] = {"write": [], "remove": []}
        for _ in range(count):
            for what, do in {"write": lambda: page.write(reference), "remove": page.remove}.items():
                begin = time.perf_counter()
                do()
                found[what].append((time.perf_counter() - begin) * 1000)
        return {what: round(statistics.median(values), 2) for what, values in found.items()}

    @task
    def stay(seconds: float = 3600) -> None:
        """Be alive."""
        time.sleep(seconds)

    time_the_ledger() >> stay()
