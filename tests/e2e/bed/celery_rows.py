"""The rows of the kill matrix on Celery: those of tasks that run or are deferred, and what befalls a worker."""

from __future__ import annotations

from dataclasses import replace

from airflow_lro_provider.airflow_compat import AIRFLOW
from tests.e2e.bed import deaths
from tests.e2e.bed.cells import Row
from tests.e2e.bed.matrix import ADOPTED, ALIVE, CANCELLED, ROWS, process_only, sweep, triggerer_only, waiting_only

__all__ = ["CELERY_ROWS"]

OTHERS = ("completing", "decorator", "cancel")
"""Columns that differ from the others in nothing that Celery could change."""
AS_ON_THE_LOCAL_EXECUTOR = (
    "failed", "success", "clear", "run-failed", "run-success", "execution-timeout", "timeout", "error", "error-retry",
    "sigterm", "sigterm-retry", "sigkill-retry", "sigkill", "frozen-retry", "frozen", "just-deferred-clear",
    "triggerer-restart", "triggerer-sigkill", "triggerer-stall", "no-triggerer", "pause", "normal",
)  # fmt: skip


def on_celery(row: Row) -> Row:
    """The row for the columns that are tried there."""
    if row.together is deaths.cut_off_api_servers and AIRFLOW < (3,):
        return replace(row, cells=dict.fromkeys(row.cells, "no task of Airflow 2 talks to an API server"))
    if row.together is deaths.cut_off_database and AIRFLOW < (3,):  # to which its tasks talk: they are given up
        row = replace(row, cells=process_only(CANCELLED), within=60)
    return replace(row, cells={**row.cells, **dict.fromkeys(OTHERS, "as on the LocalExecutor")})


WORKERS = [
    Row(
        "worker-shutdown",
        "warm shutdown of its worker (SIGTERM), no retry",
        process_only(ALIVE),
        together=deaths.shut_down_workers,
        after=deaths.new_workers,
    ),
    Row(
        "worker-shutdown-retry",
        "warm shutdown of its worker (SIGTERM), with a retry",
        process_only(ALIVE),
        together=deaths.shut_down_workers,
        after=deaths.new_workers,
        variant="retry",
    ),
    Row("worker-sigkill", "SIGKILL of its worker, no retry", process_only(sweep()), together=deaths.kill_workers),
    Row(
        "worker-sigkill-retry",
        "SIGKILL of its worker, with a retry",
        process_only(ADOPTED),
        together=deaths.kill_workers,
        variant="retry",
    ),
    Row(
        "delivered-again",
        "its message is delivered twice (visibility timeout)",
        process_only(ALIVE),
        together=deaths.deliver_again,
    ),
    Row(
        "delivered-again-retry",
        "its message is delivered twice (visibility timeout), with a retry",
        process_only(ALIVE),
        together=deaths.deliver_again,
        variant="retry",
    ),
    Row("no-broker", "workers cut off from the broker for 40 s", process_only(ALIVE), together=deaths.cut_off_broker),
    Row(
        "no-database",
        "workers cut off from the database for 40 s",
        process_only(ALIVE),
        together=deaths.cut_off_database,
    ),
    Row(
        "no-api",
        "workers cut off from the API servers for 40 s, no retry",
        process_only(CANCELLED),
        together=deaths.cut_off_api_servers,
        within=60,
    ),
    Row(
        "no-api-retry",
        "workers cut off from the API servers for 40 s, with a retry after it",
        process_only(ADOPTED),
        together=deaths.cut_off_api_servers,
        variant="late_retry",
    ),
    Row("new-dag", "its Dag is deployed anew", waiting_only(ALIVE), together=deaths.change_dags),
    Row(
        "new-dag-failed",
        "its Dag is deployed anew, then it is marked failed",
        triggerer_only(CANCELLED),
        together=deaths.change_dags_and_mark,
        within=40,
    ),
]
CELERY_ROWS = [on_celery(row) for row in (*(row for row in ROWS if row.name in AS_ON_THE_LOCAL_EXECUTOR), *WORKERS)]
