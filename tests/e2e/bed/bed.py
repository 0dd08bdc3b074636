"""The test bed: a real Airflow, on PostgreSQL where there is one, the local server, and eyes on both."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from airflow_lro_provider.airflow_compat import TASKS_LIST_VARIABLES, local
from airflow_lro_provider.demo.local_airflow import LocalAirflow, LocalAirflowError
from airflow_lro_provider.emulator import Emulator
from tests.e2e.bed.airflow_faults import is_of_run, own_trouble
from tests.e2e.bed.celery import CeleryAirflow
from tests.e2e.bed.judge import Seen
from tests.e2e.bed.postgres import LocalPostgres
from tests.e2e.bed.redis import LocalRedis
from tests.e2e.bed.store import CountingStore
from tests.e2e.bed.watch import TASK, Watch

__all__ = ["CONNECTION", "DAGS", "DAGS_WITH_LEDGER", "Bed", "BedError"]

DAGS = Path(__file__).parents[1] / "dags"
DAGS_WITH_LEDGER = DAGS.with_name("dags_with_ledger")
CONNECTION = "google_cloud_default"
"""It is in Airflow's database, so that each trigger asks its triggerer for it when it starts: the first answer of a
triggerer costs Airflow 5 s of CPU, which are not to be a part of what the first kill takes."""
CLOSED_POOL = "closed"
SWEEP_SECONDS = 60.0
STARTS_AT_A_TIME = 4
"""Two runs of one Dag that are created at once may wait for each other in Airflow's database."""


class BedError(Exception):
    """A repetition did not get into its situation, or the bed itself broke: it says nothing about the package."""


class Bed:
    """Airflow, server and watch. Make one with :meth:`started`, or around an Airflow that runs already.

    :param airflow: it has the Dags of ``dags/bed_dags.py``.
    :param emulator: its store is a :class:`CountingStore`.
    :param database: ``postgres`` or ``sqlite``.
    :param slots: how many repetitions may go side by side.
    :param triggerers: how many triggerers there are.
    :param sweeps: whether the ledger is on, and swept once a minute.
    :param dags: where Airflow's Dags are.
    """

    def __init__(
        self,
        airflow: LocalAirflow,
        emulator: Emulator,
        *,
        database: str,
        slots: int,
        triggerers: int = 2,
        sweeps: bool = False,
        dags: Path = DAGS,
    ) -> None:
        assert isinstance(emulator.store, CountingStore)
        self.airflow, self.emulator, self.store = airflow, emulator, emulator.store
        self.database, self.slots, self.triggerers, self.sweeps = database, slots, triggerers, sweeps
        self.dags = dags
        self.watch = Watch(airflow)
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._starts = threading.BoundedSemaphore(STARTS_AT_A_TIME)
        self._read: Counter[str] = Counter()
        self._trouble: list[str] = []
        self._deaths: list[float] = []
        keepers = [self._bring_back_the_scheduler]
        if sweeps and not TASKS_LIST_VARIABLES:  # else a Dag sweeps, `bed_sweep`
            keepers.append(self._sweep_from_outside)
        self._keepers = [threading.Thread(target=keeper, name="keeper", daemon=True) for keeper in keepers]

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        database: str = "auto",
        *,
        slots: int = 16,
        home: Path | None = None,
        sweep: bool = False,
        silence: int = 10,
        task_silence: int = 20,
        celery: bool = False,
    ) -> Iterator[Bed]:
        """Start everything, and stop it at the end, whatever the end is.

        :param database: ``postgres``, ``sqlite``, or ``auto``: PostgreSQL if there is one.
        :param slots: how many repetitions may go side by side on PostgreSQL. On SQLite they go in sequence.
        :param home: keep Airflow's database and logs here.
        :param sweep: switch the ledger on, and sweep once a minute.
        :param silence: after so many seconds without a sign of life a triggerer counts as dead, and another one takes
            what it has. Airflow's own default is 30.
        :param task_silence: the same of a running task, which Airflow fails then, or tries again. The default is 300.
        :param celery: two of everything, and the tasks in Celery's workers; it wants PostgreSQL and Redis.
        """
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # So it is for what a shell starts in the background, and all children would have it so.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if database == "auto":
            database = "postgres" if LocalPostgres.available() else "sqlite"
        with contextlib.ExitStack() as stack:
            emulator = stack.enter_context(Emulator(store=CountingStore()))
            postgres = stack.enter_context(LocalPostgres()) if celery or database == "postgres" else None
            # Some rows change them.
            dags = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dags-"))) / DAGS.name
            shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
            environment = {
                "LOCAL_SERVER": emulator.url,
                # Airflow's own default: a kill is noticed within 5 s, and a task may defer before it is.
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(silence),
                "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": str(silence - 2),
                f"AIRFLOW__SCHEDULER__{local.HEARTBEAT_TIMEOUT}": str(task_silence),
                # Another scheduler's running tasks are begun anew soon after its death, and not after five minutes.
                "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
                # Otherwise a queued task may wait for the next round of a busy scheduler.
                "AIRFLOW__SCHEDULER__MAX_TIS_PER_QUERY": "32",
                "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
                # Airflow's API server takes two connections for one request, and with its usual 15 a few dozen
                # requests at once stand still until the wait for the second one times out.
                "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "40",
                "AIRFLOW__LRO__LEDGER": str(sweep),
            }
            # A next try may run beside a process that stands still.
            shared: dict[str, Any] = {"environment": environment, "parallelism": 2 * slots + 8}
            if celery:
                assert postgres is not None
                places = {"database": postgres.port, "broker": stack.enter_context(LocalRedis()).port}
                airflow: LocalAirflow = CeleryAirflow(home, dags=dags, slots=slots + 4, **places, **shared)
            else:
                url = postgres.url if postgres else None
                airflow = LocalAirflow(home, dags=dags, triggerers=2, database=url, **shared)
            stack.enter_context(airflow)
            if errors := airflow.import_errors():
                raise BedError(f"Dags that cannot be read: {errors}")
            airflow.set_connection(CONNECTION, emulator.airflow_connection_json())
            yield stack.enter_context(
                cls(airflow, emulator, database=database, slots=slots if postgres else 1, sweeps=sweep, dags=dags)
            )

    def __enter__(self) -> Bed:
        with contextlib.suppress(LocalAirflowError):  # there is one already
            self.airflow.api("POST", "pools", {"name": CLOSED_POOL, "slots": 0})
        self.airflow.api("PATCH", "pools/default_pool", {"slots": 500}, params={"update_mask": "slots"})
        self.watch.start()
        for keeper in self._keepers:
            keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for keeper in self._keepers:
            keeper.join()
        self.watch.stop()

    # Looking

    def until(self, question: Callable[[], Any], what: str, timeout: float) -> Any:
        """Ask until the answer is true, and give it.

        :raises BedError: if it is not, in time.
        """
        deadline = time.monotonic() + timeout
        while not (answer := question()):
            if time.monotonic() > deadline or self.stopping.is_set():
                raise BedError(f"after {timeout:g} s still not: {what}")
            time.sleep(0.1)
        return answer

    def looks(self, name: str) -> int:
        """How often an operation was looked at."""
        return sum(view.polls for view in self.store.views(self.store.service_of.get(name, ""), name))

    def looked_at(self, name: str) -> float:
        """When an operation was last looked at; 0 if never."""
        views = self.store.views(self.store.service_of.get(name, ""), name)
        return max((view.polled_at or 0.0 for view in views), default=0.0)

    def seen(self, key: str) -> list[Seen]:
        """The operations of a key, oldest first."""
        found = []
        for name, service in list(self.store.of_key[key].items()):
            view = self.store.get(service, name)
            late = view.done_at is not None and any(at > view.done_at for at in self.store.cancels[name])
            found.append(
                Seen(name, view.state, view.created_at, view.done_at, view.cancel_requested_at, late_cancel=late)
            )
        return found

    def finish(self, key: str) -> None:
        """End all operations of a key."""
        for name, service in list(self.store.of_key[key].items()):
            self.store.finish(service, name)

    def has_told(self, key: str, where: str) -> bool:
        """Whether a task has said that it is there."""
        return f"projects/p/locations/told/operations/{key}-{where}" in self.store.asked_for

    # Signals

    def send(self, dag_id: str, run_id: str, whom: str, sig: int) -> int:
        """Send a signal to a task's process, or to its supervisor.

        :param whom: ``task`` or ``supervisor``.
        :return: the process id of the task.
        :raises BedError: if there is no such process.
        """
        pids = self.airflow.task_pids(dag_id, run_id, TASK)
        if not pids:
            raise BedError(f"{run_id} has no process")
        pid = pids[-1]
        try:
            os.kill(pid if whom == "task" else psutil.Process(pid).ppid(), sig)
        except (ProcessLookupError, psutil.NoSuchProcess):
            raise BedError(f"{run_id} has no process any more") from None
        return pid

    def stall(self, index: int, sig: int = signal.SIGSTOP) -> None:
        """Stop the process that runs the triggers, or let it go on (SIGCONT). Not its supervisor."""
        name = "triggerer" if index == 0 else f"triggerer-{index}"
        for child in psutil.Process(self.airflow.components[name].pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(sig)

    def _bring_back_the_scheduler(self) -> None:
        """As whoever runs Airflow for others does: a scheduler may end by an error of its own.

        So does Airflow 3.1.8's, under load, while a task is cleared ("UPDATE statement on table 'task_instance'
        expected to update 1 row(s); 0 were matched"). One that a row has killed is that row's to bring back.
        """
        while not self.stopping.wait(2.0):
            for index in range(2):
                one = self.airflow.components.get(f"scheduler-{index}" if index else "scheduler")
                if one is not None and one.poll() == 1:
                    self._deaths.append(time.time())
                    with contextlib.suppress(LocalAirflowError):
                        self.airflow.restart("scheduler", index)

    def _sweep_from_outside(self) -> None:
        """As a cron job does it."""
        while not self.stopping.wait(SWEEP_SECONDS):
            done = from_outside(self.airflow, self.emulator, "sweep")
            with (self.airflow.home / "sweep.log").open("a") as log:
                log.write(f"{done.returncode} {done.stdout} {done.stderr}\n")

    def spoiled(self, run_id: str, since: float = math.inf) -> bool:
        """Whether Airflow itself has failed the task of this run, or its scheduler has ended by itself since then."""
        if any(at >= since for at in self._deaths):
            return True
        with self._lock:
            for file in self.airflow.home.glob("scheduler*.log"):
                with file.open("rb") as log:
                    log.seek(self._read[file.name])
                    # The last line may be half written.
                    new = log.read().rpartition(b"\n")[0]
                self._read[file.name] += len(new)
                self._trouble += own_trouble(new.decode("utf-8", "replace"))
            return any(is_of_run(instance, run_id) for instance in self._trouble)

    def story(self, dag_id: str, run_id: str) -> str:
        """A short account of a task: its states, and the end of its logs."""
        task = self.watch.task(run_id)
        begin = task.states[0][0] if task.states else 0.0
        states = ", ".join(f"{at - begin:+.1f} s {state} (try {number})" for at, state, number in task.states)
        logs = []
        for number in range(1, task.tries + 1):
            lines = self.airflow.log(dag_id, run_id, TASK, number).splitlines()
            # Not what Airflow puts behind every line: the names of task, run and file.
            told = [_DETAILS.sub("", line) for line in lines if not _NOISE.search(line)]
            logs += [f"--- try {number}", *told[-15:]]
        return "\n".join([f"{dag_id} {run_id}: {states}", *logs])

    def log_folder(self, dag_id: str, run_id: str) -> Path:
        """Where the logs of a task are, below Airflow's home."""
        return Path("logs") / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={TASK}"

    def start(self, dag_id: str, key: str, *, operation: str = "", script: Any = None, service: str = "") -> None:
        """Start the run of a key; its run id is the key."""
        body = {"key": key, "operation": operation, "script": json.dumps(script or {})}
        if service:
            body["service"] = service
        with self._starts:
            self.airflow.trigger(dag_id, run_id=key, conf=body)


def from_outside(
    airflow: LocalAirflow, emulator: Emulator, command: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """`airflow-lro COMMAND --url …`, by an administrator of this Airflow."""
    return subprocess.run(
        [sys.executable, "-m", "airflow_lro_provider.cli", command, "--url", airflow.url, *options],
        env={
            **airflow.environment,
            "AIRFLOW_API_TOKEN": airflow.token,
            # Connections are read where the command runs: that of the bed is in Airflow's database.
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": emulator.airflow_connection_json(),
        },
        capture_output=True,
        text=True,
        check=False,
    )


_DETAILS = re.compile(r" (dag_id|run_id|task_id|ti_id|try_number|map_index|logger)=.*")
_NOISE = re.compile(r"::group::|::endgroup::|DAG bundles loaded|Filling up the DagBag|Worker startup parse")
