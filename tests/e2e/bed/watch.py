"""What Airflow shows of all tasks of the bed, asked for by one thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from datetime import datetime, timezone
from typing import Any

from airflow_lro_provider.airflow_compat import local
from airflow_lro_provider.demo.local_airflow import LocalAirflow, LocalAirflowError

__all__ = ["TASK", "Task", "Watch"]

TASK = "it"
"""The id of each Dag's one task."""


class Task:
    """What Airflow showed last of the one task of a run.

    :param latest: the task instance, as the REST API gives it; empty if it has not been seen.
    :param since: when it was first seen in its state and try.
    """

    def __init__(self) -> None:
        self.latest: dict[str, Any] = {}
        self.since = 0.0
        self.states: list[tuple[float, str | None, int]] = []

    @property
    def state(self) -> str | None:
        """Its state."""
        return self.latest.get("state", "not seen")

    @property
    def tries(self) -> int:
        """The number of its try."""
        return int(self.latest.get("try_number") or 0)

    @property
    def may_retry(self) -> bool:
        """Whether Airflow would try again if this try failed."""
        return self.tries <= int(self.latest.get("max_tries") or 0)

    @property
    def triggerer(self) -> int | None:
        """The id of the triggerer job that has its trigger."""
        job = self.latest.get("triggerer_job")
        return None if job is None else int(job["id"])

    def note(self, found: dict[str, Any]) -> None:
        """Take a newer look."""
        now = time.time()
        if (found["state"], found["try_number"]) != (self.state, self.tries):
            self.since = now
            self.states.append((now, found["state"], found["try_number"]))
        self.latest = found


class Watch(threading.Thread):
    """One poller for all runs: it asks Airflow for what has changed, twice a second."""

    INTERVAL = 0.5
    PAGE = 100

    def __init__(self, airflow: LocalAirflow) -> None:
        super().__init__(name="watch of all tasks", daemon=True)
        self._airflow = airflow
        self._tasks: dict[str, Task] = defaultdict(Task)
        self._over = threading.Event()
        self.looked_at = time.time()

    def task(self, run_id: str) -> Task:
        """The task of a run."""
        return self._tasks[run_id]

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look until it is stopped."""
        while not self._over.wait(self.INTERVAL):
            began = time.time()
            # Airflow is restarted now and then; what was missed is seen the next time.
            with contextlib.suppress(LocalAirflowError):
                self._look(self.looked_at - 3.0)
                self.looked_at = began

    def _look(self, since: float) -> None:
        moment = datetime.fromtimestamp(since, timezone.utc)
        offset, total = 0, 1
        while offset < total:
            page = self._airflow.api(
                "GET",
                "dags/~/dagRuns/~/taskInstances",
                params={
                    "updated_at_gte": moment.isoformat(),
                    "limit": self.PAGE,
                    "offset": offset,
                    **local.IN_ORDER,
                },
            )
            for found in page["task_instances"]:
                if found["task_id"] == TASK and found["map_index"] < 0:
                    self._tasks[found["dag_run_id"]].note(found)
            offset, total = offset + self.PAGE, page["total_entries"]
