"""One real Airflow, one server and one token endpoint for all measurements of the kill benchmark."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from airflow_lro_provider.demo.local_airflow import LocalAirflow, LocalAirflowError
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.resources.names import read_reference
from tests.e2e.bed.postgres import LocalPostgres
from tests.e2e.bed.token_bank import TokenBank

__all__ = ["WHO", "KillLab", "Task", "database", "gone_within", "until"]

DAGS = Path(__file__).with_name("dags")
WHO = ("ours", "naive")
T = TypeVar("T")


def until(question: Callable[[], T], what: str, timeout: float = 60.0, interval: float = 0.1) -> T:
    """Ask until the answer is true, and give it.

    :param timeout: seconds.
    :param interval: seconds between two questions.
    :raises TimeoutError: if it never is.
    """
    deadline = time.monotonic() + timeout
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout:g} s still not: {what}")
        time.sleep(interval)
    return answer


def gone_within(process: psutil.Process, timeout: float) -> bool:
    """Wait until a process has ended, whether or not somebody has asked for its exit code.

    :param timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
    return True


@contextlib.contextmanager
def database(wanted: str) -> Iterator[str | None]:
    """The database for Airflow, as an SQLAlchemy URL; ``None`` is SQLite.

    :param wanted: ``sqlite``, a URL, or ``auto``: a PostgreSQL of our own if there can be one on this machine.
    """
    if wanted == "auto" and LocalPostgres.available():
        with LocalPostgres() as server:
            yield server.url
    else:
        yield None if wanted in ("auto", "sqlite") else wanted


@dataclass(frozen=True)
class Task:
    """One task ``it`` of one run, and the operations that are its own.

    :param key: what the names of its operations, or of what they make, end with.
    """

    lab: KillLab
    dag_id: str
    run_id: str
    key: str

    @property
    def operations(self) -> list[Any]:
        """The server's view of its operations, oldest first."""
        views = self.lab.emulator.operations()
        return [view for view in views if self.key in view.operation["name"] + str(view.operation.get("metadata"))]

    def looks(self) -> int:
        """How often anybody has looked at its operations."""
        return sum(view.polls for view in self.operations)

    def cancels(self) -> list[float]:
        """When cancel requests for its operations arrived, in seconds since the epoch."""
        requests = self.lab.emulator.requests("cancel")
        names = {view.operation["name"] for view in self.operations}
        return [request.time for request in requests if request.name in names]

    @property
    def instance(self) -> dict[str, Any]:
        """Airflow's view of it."""
        return self.lab.airflow.task_instance(self.dag_id, self.run_id, "it")

    def reaches(self, *states: str, timeout: float = 60.0) -> str:
        """Wait for one of these states, and say which."""
        return str(self.lab.airflow.wait_for_state(self.dag_id, self.run_id, "it", states, timeout=timeout)["state"])

    def process(self) -> psutil.Process:
        """Its process."""
        [pid] = self.lab.airflow.task_pids(self.dag_id, self.run_id, "it")
        return psutil.Process(pid)

    def log(self) -> str:
        """All that it logged in its first try."""
        return self.lab.airflow.log(self.dag_id, self.run_id, "it")

    def kill(self, how: str) -> None:
        """Kill it as a user would: its state or its run's is set, or it is cleared."""
        airflow = self.lab.airflow
        if how == "clear":
            airflow.clear(self.dag_id, self.run_id, ["it"])
        elif how.startswith("run "):
            airflow.set_run_state(self.dag_id, self.run_id, how.removeprefix("run "))
        else:
            airflow.set_task_state(self.dag_id, self.run_id, "it", how)

    def end(self) -> None:
        """Leave nothing behind that takes a worker: end operations and run."""
        for view in self.operations:
            self.lab.emulator.finish(self.lab.service_of(view), view.operation["name"])
        if self.lab.airflow.run_state(self.dag_id, self.run_id) not in ("success", "failed"):
            self.kill("run failed")


@dataclass(frozen=True)
class KillLab:
    """The Airflow, the server, and what the measurements do with them.

    :param settings: the tasks' identity and endpoint, for a client of one's own.
    """

    airflow: LocalAirflow
    emulator: Emulator
    settings: ConnectionSettings

    @classmethod
    @contextlib.contextmanager
    def started(cls, database: str | None, parallelism: int) -> Iterator[KillLab]:
        """Start everything, and stop it afterwards.

        :param database: SQLAlchemy URL; ``None`` is SQLite.
        :param parallelism: how many tasks may run at a time.
        """
        with Emulator() as emulator, TokenBank() as bank:
            emulator.script(duration=None)  # an operation never ends on its own
            extra = {"api_endpoint": f"{emulator.url}/{{service}}", "keyfile_dict": bank.key}
            with LocalAirflow(dags=DAGS, database=database, parallelism=parallelism) as airflow:
                if errors := airflow.import_errors():
                    raise LocalAirflowError(errors[0]["stack_trace"])
                # In Airflow's database, where connections usually are: those in the environment are read by the
                # task itself, without asking the supervisor.
                connection = {"connection_id": "google_cloud_default", "conn_type": "google_lro"}
                airflow.api("POST", "connections", {**connection, "extra": json.dumps(extra)})
                airflow.api("POST", "variables", {"key": "colour", "value": "blue"})
                yield cls(airflow, emulator, ConnectionSettings.from_extra(extra))

    def start(self, dag_id: str) -> Task:
        """Start a run of a Dag whose task waits for an operation, or starts one."""
        key = f"k{secrets.token_hex(5)}"
        name = f"projects/p/locations/us-central1/operations/{key}"
        if "_run_" not in dag_id:
            self.emulator.create("datafusion", name, duration=None)
        return Task(self, dag_id, self.airflow.trigger(dag_id, conf={"operation": name, "key": key}), key)

    def round_trips(self, count: int) -> list[float]:
        """How long a look takes on a warm connection with the tasks' own identity, in seconds."""
        reference = read_reference(self.emulator.create("datafusion", duration=None), "datafusion")
        took = []
        with OperationsClient(self.settings) as client:
            for number in range(count + 2):
                begin = time.perf_counter()
                client.get(reference)
                if number >= 2:  # the first ones fetch the token and connect
                    took.append(time.perf_counter() - begin)
        self.emulator.finish("datafusion", reference.name)
        return took

    @staticmethod
    def service_of(view: Any) -> str:
        """The API that an operation belongs to."""
        return str(view.service)
