"""The sweep: compares what the ledger says is running with what Airflow still wants, and cancels the rest.

Airflow calls hooks while it is healthy and the process lives. The sweep is for everything else: SIGKILL or OOM without
a retry, the death of a supervisor, a worker or a triggerer, a kill in the first second of a deferral. In a Dag file::

    from airflow_lro_provider.sweep import sweep_dag

    dag = sweep_dag()

and ``[lro] ledger = True`` for all workers. Two sweeps side by side are harmless: requesting a cancellation twice is,
and so is removing an entry that is gone already.

What cannot be judged or reached is counted as unsure and left to the next sweep; it is never guessed.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

__all__ = ["SweepOperationsOperator", "sweep_dag"]


class SweepOperationsOperator(BaseOperator):
    """Sweeps once: cancels the operations of the ledger that no task owns any more.

    Returns the counts and ``operations``, a list of all entries of dead tasks::

        {"found": 3, "alive": 2, "finished": 0, "cancelled": 0, "requested": 1, "would_cancel": 0, "unsure": 0,
         "operations": [{"operation": "…", "task": "…", "what": "requested", "why": "…"}]}

    ``alive`` have a task that owns them; the other words are :class:`~airflow_lro_provider.sweep.cancellation.What`.

    :param dry_run: change nothing; log what would be done.
    """

    ui_color = "#fef7e0"

    def __init__(self, *, dry_run: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.is_dry_run = dry_run  # `dry_run` is a method of Airflow's operators

    def execute(self, context: Context) -> dict[str, Any]:
        """Sweep."""
        import time

        from airflow_lro_provider.metrics import StatsMetrics
        from airflow_lro_provider.sweep.reconciler import FromWithin, sweep

        result = sweep(FromWithin(), now=time.time(), dry_run=self.is_dry_run, log=self.log.info)
        self.log.info("Swept: %s", result.summary())
        StatsMetrics().sweep(result.counts)
        return result.to_dict()


def sweep_dag(
    dag_id: str = "lro_sweep",
    schedule: str | timedelta | None = "*/5 * * * *",
    *,
    dry_run: bool = False,
    **kwargs: Any,
) -> DAG:
    """A Dag that sweeps.

    :param dag_id: its id.
    :param schedule: how often: an operation without a task lives for two intervals at most, from the moment at which
        Airflow itself counts its task as dead.
    :param dry_run: change nothing.
    :param kwargs: more arguments of the Dag.
    """
    long_ago = datetime(2020, 1, 1, tzinfo=timezone.utc)  # Airflow 2 wants one
    arguments = {"start_date": long_ago, "catchup": False, "max_active_runs": 1, "tags": ["google", "lro"], **kwargs}
    with DAG(dag_id, schedule=schedule, **arguments) as dag:
        SweepOperationsOperator(task_id="sweep", dry_run=dry_run, retries=0)
    return dag
