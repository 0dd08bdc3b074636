"""An upgrade of Airflow beneath waiting tasks: ``python tests/e2e/upgrade.py --help``.

On the old version tasks wait: deferred, and with a retry whose process is killed. Then everything stops, the new
version takes over the database, and what was stored by the old one must do: an operation of a task that nobody
killed is left alone, and its task goes on with it; one of a task that is killed now is cancelled.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator
from tests.e2e.bed.bed import CONNECTION, DAGS
from tests.e2e.bed.postgres import LocalPostgres
from tests.e2e.bed.store import CountingStore, operation_of
from tools.airflow_environment import environment

DEFERRED = ("deferred", "started")
RETRIED = ("running_late_retry", "poke_late_retry")
"""Their process is killed on the old version; the retry comes a minute later, on the new one."""
STARTING = ("started", "running_late_retry")
EACH = 3
FATES = ("alive", "killed")
TASKS = {
    f"{shape}-{fate}-{number}": shape for shape in (*DEFERRED, *RETRIED) for fate in FATES for number in range(EACH)
}
Echo = Callable[[str], object]


def local_airflow(place: dict[str, Any]) -> LocalAirflow:
    """This version's, on the database of both."""
    settings = {
        "LOCAL_SERVER": place["server"],
        "AIRFLOW__CORE__FERNET_KEY": place["fernet_key"],
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    }
    home = Path(place["home"])
    return LocalAirflow(home, dags=DAGS, environment=settings, database=place["database"], parallelism=32)


def begin(place: dict[str, Any]) -> None:
    """On the old version: bring all tasks to where they wait."""
    with local_airflow(place) as airflow:
        airflow.set_connection(CONNECTION, place["connection"])
        airflow.api("PATCH", "pools/default_pool", {"slots": 500}, params={"update_mask": "slots"})
        for key, shape in TASKS.items():
            conf = {"key": key, "operation": operation_of(key), "script": json.dumps({"duration": None})}
            airflow.trigger(f"bed_{shape}", run_id=key, conf=conf)
        for key, shape in TASKS.items():
            state = "deferred" if shape in DEFERRED else "running"
            airflow.wait_for_state(f"bed_{shape}", key, "it", state, timeout=180)
        time.sleep(20)
        for key, shape in TASKS.items():
            if shape in RETRIED:
                for pid in airflow.task_pids(f"bed_{shape}", key, "it"):
                    os.kill(pid, signal.SIGKILL)
        for key, shape in TASKS.items():
            if shape in RETRIED:
                airflow.wait_for_state(f"bed_{shape}", key, "it", "up_for_retry", timeout=120)


def go_on(place: dict[str, Any]) -> None:
    """On the new version: kill half of them, let the operations of the others end, and print what became of all."""
    with local_airflow(place) as airflow:
        for key, shape in TASKS.items():
            if shape in RETRIED:
                airflow.wait_for_state(f"bed_{shape}", key, "it", "running", timeout=240)
        time.sleep(20)
        for key, shape in TASKS.items():
            if "-killed-" in key:
                airflow.set_task_state(f"bed_{shape}", key, "it", "failed")
        time.sleep(40)
        print("killed", flush=True)
        sys.stdin.readline()
        states = {}
        for key, shape in TASKS.items():
            with contextlib.suppress(Exception):
                airflow.wait_for_state(f"bed_{shape}", key, "it", ("success", "failed"), timeout=120)
            states[key] = airflow.task_instance(f"bed_{shape}", key, "it")["state"]
        print(json.dumps(states), flush=True)


class Upgrade:
    """Both versions, and what is common to them.

    :param old: the version that begins, such as ``2.11.2``.
    :param new: the version that goes on.
    """

    def __init__(self, old: str, new: str, home: Path, echo: Echo) -> None:
        self.old, self.new, self.home, self.echo = old, new, home, echo
        self.store = CountingStore()

    def run(self) -> dict[str, Any]:
        """All of it; what was seen, as plain JSON."""
        with Emulator(store=self.store) as emulator, LocalPostgres() as postgres:
            for key, shape in TASKS.items():
                if shape not in STARTING:
                    emulator.create("datafusion", operation_of(key), duration=None)
            place = {
                "server": emulator.url,
                "connection": emulator.airflow_connection_json(),
                "database": postgres.url,
                "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            }
            if self._phase(self.old, "--begin", place).wait():
                raise SystemExit(f"{self.old} did not bring all tasks to where they wait: see {self.home}")
            self.echo(f"{self.old}: {len(TASKS)} tasks wait; it is gone")
            after = self._phase(self.new, "--go-on", place)
            assert after.stdout is not None
            assert after.stdin is not None
            if not any(line.strip() == "killed" for line in after.stdout):  # Airflow may print there, too
                raise SystemExit(f"{self.new} did not take over: see {self.home}")
            self.echo(f"{self.new}: it goes on; half of them are killed")
            cancelled = {key for key in TASKS if self._cancels(key)}
            for key in TASKS.keys() - cancelled:
                for name, service in list(self.store.of_key[key].items()):
                    self.store.finish(service, name)
            after.stdin.write("\n")
            after.stdin.flush()
            states = json.loads([line for line in after.stdout if line.startswith("{")][-1])
            after.wait()
        killed = {key for key in TASKS if "-killed-" in key}
        return {
            "from": self.old,
            "to": self.new,
            "tasks": len(TASKS),
            "killed": len(killed),
            "leaks": sorted(killed - cancelled),
            "false_kills": sorted(key for key in TASKS.keys() - killed if self._cancels(key)),
            "duplicates": sorted(key for key in TASKS if len(self.store.of_key[key]) > 1),
            "not_ended": sorted(key for key in TASKS if states[key] != ("failed" if key in killed else "success")),
        }

    def _cancels(self, key: str) -> int:
        return sum(len(self.store.cancels[name]) for name in list(self.store.of_key[key]))

    def _phase(self, version: str, which: str, place: dict[str, Any]) -> subprocess.Popen[str]:
        home = self.home / version
        home.mkdir(parents=True, exist_ok=True)
        python = environment(version) / "bin" / "python"
        command = [str(python), __file__, which, json.dumps({**place, "home": str(home)})]
        pipe = subprocess.PIPE if which == "--go-on" else None
        surroundings = {**os.environ, "AIRFLOW_HOME": str(home)}  # not a user's own, of another version
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=surroundings)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Upgrade Airflow beneath waiting tasks.")
    parser.add_argument("--from", dest="old", default="2.11.2", metavar="VERSION", help="the old version (2.11.2)")
    parser.add_argument("--to", dest="new", default="3.3.2", metavar="VERSION", help="the new one (3.3.2)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep both versions' logs there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--begin", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--go-on", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    for phase, place in ((begin, given.begin), (go_on, given.go_on)):
        if place:
            phase(place)
            return 0
    with TemporaryDirectory(prefix="upgrade-") as temporary:
        report = Upgrade(given.old, given.new, given.keep or Path(temporary), print).run()
    print(json.dumps(report, indent=2))
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    defects = [report[what] for what in ("leaks", "false_kills", "duplicates", "not_ended")]
    return 1 if any(defects) else 0


if __name__ == "__main__":
    sys.exit(main())
