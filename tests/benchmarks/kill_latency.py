"""How quickly and how surely a kill cancels, beside a plain provider: ``python tests/benchmarks/kill_latency.py``.

Three measurements on one real Airflow, with a service account's key whose tokens come from this machine:

* **latency**: from SIGTERM reaching the task process to the cancel request's arrival at the server, beside the
  network round trip of the same minute, and until the process is gone;
* **questions**: kills of tasks that do nothing but ask their supervisor;
* **random**: kills of all kinds at random moments, and how many operations are left running.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from postgres import LocalPostgres  # noqa: E402
from token_bank import TokenBank  # noqa: E402
from waiting import wait_until  # noqa: E402

from airflow_lro_provider.demo.local_airflow import LocalAirflow, LocalAirflowError  # noqa: E402
from airflow_lro_provider.emulator import Emulator  # noqa: E402
from airflow_lro_provider.lro.client import OperationsClient  # noqa: E402
from airflow_lro_provider.lro.credentials import ConnectionSettings  # noqa: E402
from airflow_lro_provider.lro.reference import read_reference  # noqa: E402

WHOSE = ("ours", "naive")
TASK = "it"
OUT_OF_STEP = ("out of order", "Unexpected", "AssertionError", "ValidationError", "DecodeError")
"""What a task's log has if its channel to the supervisor is one answer behind."""
RANDOM_KILLS = ("failed", "success", "clear", "run failed", "timeout", "execution_timeout")


@dataclass
class Task:
    """One task that waits for one operation."""

    lab: Lab
    whose: str
    shape: str
    key: str
    run_id: str

    @property
    def dag_id(self) -> str:
        """Its Dag."""
        return f"{self.whose}_{self.shape}"

    @property
    def operations(self) -> list[Any]:
        """Its operations, oldest first: named after its key, or started for it."""
        views = self.lab.emulator.operations("datafusion")
        return [v for v in views if self.key in v.operation["name"] or self.key in v.operation["metadata"]["target"]]

    @property
    def running(self) -> list[Any]:
        """Those that run, and that nobody has asked to end."""
        return [view for view in self.operations if not view.operation.get("done") and not view.cancel_requests]

    def first_cancel(self) -> float | None:
        """When the first cancel request arrived, in seconds since the epoch."""
        names = {view.operation["name"] for view in self.operations}
        return next((r.time for r in self.lab.emulator.requests("cancel") if r.name in names), None)

    def looks(self) -> int:
        """How often somebody has looked."""
        names = [view.operation["name"] for view in self.operations]
        return sum(len(self.lab.emulator.requests("get", name)) for name in names)

    def pid(self) -> int:
        """The task process."""
        [pid] = self.lab.airflow.task_pids(self.dag_id, self.run_id, TASK)
        return pid

    def state(self) -> str:
        """Airflow's state of the task."""
        return str(self.lab.airflow.task_instance(self.dag_id, self.run_id, TASK)["state"])


@dataclass
class Lab:
    """One Airflow, one server, one service account."""

    airflow: LocalAirflow
    emulator: Emulator
    settings: ConnectionSettings

    def start(self, whose: str, shape: str) -> Task:
        """Start a task; unless it starts one itself, with an operation that never ends."""
        key = f"k{secrets.token_hex(5)}"
        conf = {"operation": key}
        if not shape.startswith("started"):
            conf["operation"] = f"projects/p/locations/us-central1/operations/{key}"
            self.emulator.create("datafusion", conf["operation"], duration=None)
        run_id = self.airflow.trigger(f"{whose}_{shape}", conf=conf)
        return Task(self, whose, shape, key, run_id)

    def round_trips(self, count: int = 30) -> list[float]:
        """Seconds that a look takes on a warm connection."""
        reference = read_reference(self.emulator.create("datafusion", duration=None), "datafusion")
        found = []
        with OperationsClient(self.settings) as client:
            for _ in range(count + 5):
                begin = time.perf_counter()
                client.get(reference)
                found.append(time.perf_counter() - begin)
        return found[5:]


@contextlib.contextmanager
def laboratory(database: str) -> Iterator[Lab]:
    """Start everything."""
    with contextlib.ExitStack() as stack:
        url = None
        why_not = LocalPostgres.why_not() if database != "sqlite" else "not wanted"
        if why_not is None:
            url = stack.enter_context(LocalPostgres()).url
        print(f"database: {'PostgreSQL' if url else f'SQLite ({why_not})'}", flush=True)
        emulator, bank = stack.enter_context(Emulator()), stack.enter_context(TokenBank())
        emulator.script(duration=None)
        extra = {"api_endpoint": f"{emulator.url}/{{service}}", "keyfile_dict": bank.key}
        environment = {
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps({"conn_type": "google_lro", "extra": extra}),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        }
        airflow = LocalAirflow(dags=HERE / "dags", environment=environment, database=url, parallelism=10 if url else 4)
        stack.enter_context(airflow)
        if errors := airflow.import_errors():
            raise LocalAirflowError(errors[0]["stack_trace"])
        yield Lab(airflow, emulator, ConnectionSettings.from_extra(extra))


# -- the measurements ------------------------------------------------------------------------------------


def latency(lab: Lab, kills: int) -> dict[str, Any]:
    """SIGTERM to a poking task, one at a time, ours and the plain one in turn."""
    cancelled: dict[str, list[float]] = {whose: [] for whose in WHOSE}
    gone: dict[str, list[float]] = {whose: [] for whose in WHOSE}
    lost = dict.fromkeys(WHOSE, 0)
    trips: list[float] = []
    for number in range(kills):
        for whose in WHOSE:
            task = lab.start(whose, "poke")
            wait_until(lambda task=task: task.looks() >= 3, "it polls")
            time.sleep(random.uniform(0.2, 0.8))
            process = psutil.Process(task.pid())
            begin = time.time()
            process.send_signal(signal.SIGTERM)
            if (end := gone_after(process, 15)) is not None:
                gone[whose].append(end)
            at = task.first_cancel()
            if at is None:
                lost[whose] += 1
            else:
                cancelled[whose].append(at - begin)
            finish(lab, task)
        trips += lab.round_trips(10)
        print(f"\rlatency: {number + 1} of {kills}", end="", flush=True)
    print()
    trip = statistics.median(trips)
    return {
        "round trip (ms)": ms(trip),
        **{
            whose: {
                "kills": kills,
                "cancels lost": lost[whose],
                "kill to cancel (ms)": spread(cancelled[whose]),
                "beyond the round trip (ms, median)": ms(statistics.median(cancelled[whose]) - trip)
                if cancelled[whose]
                else None,
                "process gone (ms)": spread(gone[whose]),
            }
            for whose in WHOSE
        },
    }


def questions(lab: Lab, kills: int) -> dict[str, Any]:
    """Kills of tasks that only ask their supervisor: marked failed, and (ours) by SIGTERM directly."""
    found: dict[str, Any] = {}
    for what, whose, how in (
        ("ours, marked failed", "ours", "failed"),
        ("ours, SIGTERM", "ours", "SIGTERM"),
        ("naive, marked failed", "naive", "failed"),
    ):
        counts = {"kills": 0, "cancelled": 0, "hung until SIGKILL": 0, "task succeeded": 0, "log out of step": 0}
        while counts["kills"] < kills:
            tasks = [lab.start(whose, "asking") for _ in range(min(5, kills - counts["kills"]))]
            for task in tasks:
                wait_until(lambda task=task: task.looks() >= 3, f"{task.dag_id} polls")
            processes = {}
            for task in tasks:
                processes[task.key] = psutil.Process(task.pid())
                if how == "failed":
                    lab.airflow.set_task_state(task.dag_id, task.run_id, TASK, "failed")
                else:
                    processes[task.key].send_signal(signal.SIGTERM)
            begin = time.time()
            for task in tasks:
                end = gone_after(processes[task.key], 15, begin)
                counts["kills"] += 1
                counts["cancelled"] += task.first_cancel() is not None
                counts["hung until SIGKILL"] += end is None or end > 5.5
                wait_until(lambda task=task: task.state() != "running", "Airflow knows the end", 60)
                counts["task succeeded"] += task.state() == "success"
                log = lab.airflow.log(task.dag_id, task.run_id, TASK)
                counts["log out of step"] += any(word in log for word in OUT_OF_STEP)
                finish(lab, task)
            print(f"\rquestions, {what}: {counts['kills']} of {kills}", end="", flush=True)
        print()
        found[what] = counts
    return found


def random_kills(lab: Lab, kills: int, seed: int) -> dict[str, Any]:
    """Kills of all kinds over all shapes; in the end no task is alive, so no operation should be."""
    choose = random.Random(seed)
    plan = [
        (choose.choice(RANDOM_KILLS), choose.choice(("poke", "deferred", "started")), choose.uniform(0, 4))
        for _ in range(kills)
    ]
    plan = [
        ("execution_timeout", shape, at) if how == "timeout" and shape == "started" else (how, shape, at)
        for how, shape, at in plan
    ]
    tasks: dict[str, list[tuple[str, Task]]] = {whose: [] for whose in WHOSE}
    for begin in range(0, kills, 3):
        batch = []
        for how, shape, at in plan[begin : begin + 3]:
            late = how if "timeout" in how else None
            for whose in WHOSE:
                task = lab.start(whose, f"{shape}_{late}" if late else shape)
                tasks[whose].append((how, task))
                batch.append((how, at, task))
        for how, at, task in batch:
            if "timeout" in how:
                continue
            wanted = "deferred" if task.shape == "deferred" else "running"
            with contextlib.suppress(LocalAirflowError):
                lab.airflow.wait_for_state(task.dag_id, task.run_id, TASK, wanted, timeout=60)
            time.sleep(at / len(batch))
            kill(lab, task, how)
        time.sleep(12 if any("timeout" in how for how, _, _ in batch) else 3)
        for how, _, task in batch:
            if how == "clear" or "timeout" in how:
                # The next try of a cleared task, and a deferred one whose execution_timeout nobody enforces.
                kill(lab, task, "run failed")
        print(f"\rrandom: {min(begin + 3, kills)} of {kills} (seed {seed})", end="", flush=True)
    print()
    time.sleep(15)
    result: dict[str, Any] = {"kills each": kills, "seed": seed}
    for whose in WHOSE:
        left = [f"{how}, {task.shape}" for how, task in tasks[whose] if task.running]
        result[whose] = {
            "left running": len(left),
            "of them": dict(sorted((word, left.count(word)) for word in set(left))),
        }
    return result


# -- helpers ---------------------------------------------------------------------------------------------


def kill(lab: Lab, task: Task, how: str) -> None:
    """Kill a task as a user would."""
    with contextlib.suppress(LocalAirflowError):
        if how in ("failed", "success"):
            lab.airflow.set_task_state(task.dag_id, task.run_id, TASK, how)
        elif how == "clear":
            lab.airflow.clear(task.dag_id, task.run_id, [TASK])
        elif how == "run failed":
            lab.airflow.set_run_state(task.dag_id, task.run_id, "failed")


def finish(lab: Lab, task: Task) -> None:
    """Leave nothing behind that takes a worker."""
    for view in task.operations:
        lab.emulator.finish("datafusion", view.operation["name"])
    kill(lab, task, "run failed")


def gone_after(process: psutil.Process, timeout: float, begin: float | None = None) -> float | None:
    """Seconds until a process is gone; ``None`` if it is not."""
    begin = time.time() if begin is None else begin
    while time.time() - begin < timeout:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.005)
                continue
        return time.time() - begin
    return None


def ms(seconds: float) -> float:
    """In milliseconds."""
    return round(seconds * 1000, 1)


def spread(values: list[float]) -> dict[str, float] | None:
    """Median, 95th percentile and maximum, in milliseconds."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        "median": ms(statistics.median(ordered)),
        "p95": ms(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]),
        "max": ms(ordered[-1]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="how many kills of each kind (default: %(default)s)")
    parser.add_argument("--only", choices=["latency", "questions", "random"], action="append")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--database", choices=["auto", "sqlite"], default="auto")
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    given = parser.parse_args()
    measurements: dict[str, Callable[[Lab], dict[str, Any]]] = {
        "latency": lambda lab: latency(lab, given.kills),
        "questions": lambda lab: questions(lab, given.kills),
        "random": lambda lab: random_kills(lab, given.kills, given.seed),
    }
    with laboratory(given.database) as lab:
        found = {name: measure(lab) for name, measure in measurements.items() if name in (given.only or measurements)}
    text = json.dumps(found, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
