"""What the end-to-end tests do with one real Airflow and one local server."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psutil

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator
from tests.e2e.bed.airflow_faults import is_of_run, own_trouble
from tests.e2e.bed.token_bank import TokenBank
from tests.e2e.bed.waiting import wait_until

__all__ = ["Lab", "Run"]


@dataclass
class Run:
    """A run of a Dag with one task `it`, and its operation.

    :param key: by which its operations are found, if the task starts them itself.
    """

    lab: Lab
    dag_id: str
    run_id: str
    operation_name: str
    service: str = "datafusion"
    map_index: int = -1
    key: str = ""

    @property
    def instance(self) -> dict[str, Any]:
        """Airflow's view of the task."""
        return self.lab.airflow.task_instance(self.dag_id, self.run_id, "it", self.map_index)

    @property
    def state(self) -> str | None:
        """The task's state."""
        return self.instance["state"]

    def reaches(self, *states: str, timeout: float = 60.0) -> dict[str, Any]:
        """Wait for one of these states."""
        return self.lab.airflow.wait_for_state(
            self.dag_id, self.run_id, "it", states, map_index=self.map_index, timeout=timeout
        )

    def reaches_try(self, number: int, *states: str, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until a later try is in one of these states."""

        def there() -> dict[str, Any] | None:
            task = self.instance
            return task if task["try_number"] >= number and task["state"] in states else None

        found: dict[str, Any] = wait_until(there, f"{self.dag_id} try {number} in {states}", timeout)
        return found

    def waits(self) -> Run:
        """Wait until the task is well into its wait: polling, or loaded by the triggerer."""
        deferred = self.dag_id.endswith("deferred") or self.dag_id.startswith("deferred")
        self.reaches("deferred" if deferred else "running")
        looks = 4 if deferred else 3
        wait_until(
            lambda: self.view.polls >= looks,
            f"{self.dag_id} polls its operation; its log:\n{self.log()}",
        )
        return self

    def is_polled_again(self, what: str, timeout: float = 90) -> None:
        """Wait until somebody goes on polling the operation."""
        seen = self.view.polls
        wait_until(lambda: self.view.polls > seen + 2, f"{self.dag_id} is polled again {what}", timeout)

    def log(self, try_number: int = 1) -> str:
        """Everything that a try logged."""
        return self.lab.airflow.log(self.dag_id, self.run_id, "it", try_number, self.map_index)

    def logs(self, text: str, try_number: int = 1, timeout: float = 30.0) -> None:
        """Wait until a try has logged this: a log is written after the state."""
        try:
            wait_until(lambda: text in self.log(try_number), f"{self.dag_id} logs {text!r}", timeout)
        except AssertionError as error:
            scheduler = (self.lab.airflow.home / "scheduler.log").read_text("utf-8", "replace")
            airflow = [instance for instance in own_trouble(scheduler) if is_of_run(instance, self.run_id)]
            raise AssertionError(f"{error}; its log:\n{self.log(try_number)}\nfailed by Airflow: {airflow}") from None

    @property
    def view(self) -> Any:
        """The server's view of the operation."""
        return self.lab.emulator.operation(self.service, self.operation_name)

    @property
    def cancels(self) -> int:
        """How many cancel requests reached the server."""
        return int(self.view.cancel_requests)

    def is_cancelled(self, timeout: float = 60.0) -> Run:
        """The server saw a cancel, and the operation is CANCELLED."""
        wait_until(lambda: self.cancels, f"{self.dag_id}: operation cancelled; log:\n{self.log()}", timeout)
        wait_until(lambda: self.view.operation.get("done"), "the operation is over")
        assert self.view.operation["error"]["code"] == 1
        return self

    def completes_despite_cancel(self) -> None:
        """Wait for a cancel request, which the operation ignores, and let it succeed."""
        wait_until(lambda: self.cancels, f"{self.dag_id} asks for the cancel")
        time.sleep(5)  # Airflow 3.3.2 itself fails tasks that are queued again within a few seconds
        self.lab.emulator.finish(self.service, self.operation_name)

    def result(self) -> Any:
        """What the task returned."""
        return self.lab.airflow.xcom(self.dag_id, self.run_id, "it", map_index=self.map_index)

    def process(self) -> int:
        """The pid of the running task process."""
        [pid] = self.lab.airflow.task_pids(self.dag_id, self.run_id, "it", self.map_index)
        return pid


@dataclass
class Lab:
    """The Airflow, the server, and what the tests do with them."""

    airflow: LocalAirflow
    emulator: Emulator
    runs: list[Run] = field(default_factory=list)
    triggerers: int = 2
    bank: TokenBank | None = None
    numbers: Iterator[int] = field(default_factory=count)

    def stall(self, index: int, sig: int = signal.SIGSTOP) -> None:
        """Stop the process that runs the triggers, or let it go on (SIGCONT).

        Not its supervisor: that one may hold SQLite's only lock, and all of Airflow would stand still.
        """
        name = "triggerer" if index == 0 else f"triggerer-{index}"
        for child in psutil.Process(self.airflow.components[name].pid).children(recursive=True):
            child.send_signal(sig)

    def triggerer_of(self, run: Run) -> int:
        """Which triggerer, by its index, polls for a deferred task: found by stopping one for a moment."""
        for index in range(self.triggerers):
            self.stall(index)
            try:
                time.sleep(0.5)  # a request under way
                seen = run.view.polls
                time.sleep(3)
                if run.view.polls == seen:
                    return index
            finally:
                self.stall(index, signal.SIGCONT)
        raise AssertionError("no triggerer polls for it")

    def start(self, dag_id: str, *, service: str = "datafusion", conf: Any = None, **script: Any) -> Run:
        """Start an operation (one that never ends, if nothing else is said) and a run that waits for it."""
        if service == "datafusion":
            # A parent of its own, so that a look at it is by whoever waits for it.
            script["parent"] = f"projects/lab-{next(self.numbers)}/locations/us-central1"
        name = self.emulator.create(service, **{"duration": None, **script})
        return self.run(dag_id, name, service, conf)

    def run(self, dag_id: str, name: str, service: str = "datafusion", conf: Any = None) -> Run:
        """Start a run for an operation."""
        run_id = self.airflow.trigger(dag_id, conf={"operation": name, "service": service, **(conf or {})})
        run = Run(self, dag_id, run_id, name, service)
        self.runs.append(run)
        return run

    def end_runs(self) -> None:
        """End all runs that were started here, and their operations."""
        for run in self.runs:
            self.emulator.finish(run.service, run.operation_name)
            if self.airflow.run_state(run.dag_id, run.run_id) not in ("success", "failed"):
                self.airflow.set_run_state(run.dag_id, run.run_id, "failed")
        self.runs.clear()

    def kill(self, run: Run, how: str) -> None:
        """Kill the task of a run as a user would."""
        if how in ("failed", "success"):
            self.airflow.set_task_state(run.dag_id, run.run_id, "it", how, run.map_index)
        elif how == "clear":
            self.airflow.clear(run.dag_id, run.run_id, "it")
        elif how in ("run failed", "run success"):
            self.airflow.set_run_state(run.dag_id, run.run_id, how.removeprefix("run "))
        else:
            raise ValueError(how)
