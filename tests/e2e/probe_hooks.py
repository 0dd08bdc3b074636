"""Which of Airflow's own hooks hear of a kill: a command, ``python tests/e2e/probe_hooks.py``.

It kills tasks of a real Airflow in every way that looks hook-less, and prints who was told: state listeners of a
plugin (in which process), failure callbacks of task and Dag (in which process, and what XCom they see). It is
the measurement behind the decision that only ``before_stopping`` in the task process is used (``deferral.py``).
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator

PLUGIN = """
import json, os, pathlib, time
from pluggy import HookimplMarker
from airflow.plugins_manager import AirflowPlugin
hookimpl = HookimplMarker("airflow")

def note(what, about):
    where = pathlib.Path("/proc/self/cmdline").read_text().replace("\\0", " ")
    kind = next((k for k in ("api_server", "worker", "dag-processor", "triggerer", "scheduler") if k in where), where)
    with open(os.environ["PROBE_LOG"], "a") as log:
        log.write(json.dumps([time.time(), what, kind, getattr(about, "run_id", None)]) + "\\n")

class Listener:
    @hookimpl
    def on_task_instance_failed(self, previous_state, task_instance, error):
        note("listener: failed", task_instance)
    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        note("listener: success", task_instance)
    @hookimpl
    def on_task_instance_skipped(self, previous_state, task_instance):
        note("listener: skipped", task_instance)
    @hookimpl
    def before_stopping(self, component):
        note(f"listener: before_stopping ({type(component).__name__})", None)

class Probe(AirflowPlugin):
    name = "probe"
    listeners = [Listener()]
"""
DAGS = """
from airflow.sdk import DAG
from airflow_lro_provider.operators.operations import RunOperationOperator

def told(what):
    def callback(context):
        from probe import note
        try:
            owner = context["ti"].xcom_pull(task_ids="it", key="operation_owner")
            seen = f"XCom {'seen' if owner else 'not there'}"
        except Exception as error:
            seen = f"XCom: {type(error).__name__}"
        note(f"{what} ({seen})", context["ti"])
    return callback

for dag_id, deferrable in {"running": False, "deferred": True}.items():
    with DAG(dag_id, schedule=None, catchup=False, on_failure_callback=told("callback of the Dag")):
        RunOperationOperator(
            task_id="it", service="datafusion", method="projects/p/locations/l/instances", poll_interval=1,
            deferrable=deferrable, on_failure_callback=told("callback of the task"),
        )
"""


def main() -> None:
    """Kill, look, print."""
    with tempfile.TemporaryDirectory() as folder, Emulator() as emulator:
        home, log = Path(folder), Path(folder) / "probe.log"
        for name, text in {"plugins/probe.py": PLUGIN, "dags/probe_dags.py": DAGS}.items():
            (home / name).parent.mkdir()
            (home / name).write_text(text, encoding="utf-8")
        log.touch()
        emulator.script(duration=None)
        environment = {
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": emulator.airflow_connection_json(),
            "PROBE_LOG": str(log),
        }
        with LocalAirflow(home, dags=home / "dags", environment=environment) as airflow:
            _Probe(airflow, log).run()


class _Probe:
    def __init__(self, airflow: LocalAirflow, log: Path) -> None:
        self._airflow, self._log = airflow, log

    def run(self) -> None:
        """Every kill, one after the other."""
        airflow = self._airflow
        for dag_id in ("deferred", "running"):
            self._kill(dag_id, "marked failed", lambda run, d=dag_id: airflow.set_task_state(d, run, "it", "failed"))
            self._kill(dag_id, "marked success", lambda run, d=dag_id: airflow.set_task_state(d, run, "it", "success"))
            self._kill(dag_id, "cleared", lambda run, d=dag_id: airflow.clear(d, run, "it"))
            self._kill(dag_id, "run marked failed", lambda run, d=dag_id: airflow.set_run_state(d, run, "failed"))
        for what, pids in {
            "SIGKILL of the task": airflow.task_pids,
            "SIGKILL of its supervisor": airflow.supervisor_pids,
        }.items():
            self._kill("running", what, lambda run, p=pids: os.kill(p("running", run, "it")[0], signal.SIGKILL), 45)

    def _kill(self, dag_id: str, what: str, how: Callable[[str], object], watch: float = 8.0) -> None:
        airflow = self._airflow
        run = airflow.trigger(dag_id)
        airflow.wait_for_state(dag_id, run, "it", "deferred" if dag_id == "deferred" else "running")
        time.sleep(3)
        begin = time.time()
        how(run)
        time.sleep(watch)
        print(f"{dag_id}, {what}:")
        notes = [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]
        for at, event, where, _ in notes:
            if at >= begin:
                print(f"  +{at - begin:5.2f} s  {event}, in the {where}")
        if airflow.run_state(dag_id, run) not in ("success", "failed"):
            airflow.set_run_state(dag_id, run, "failed")
        time.sleep(2)


if __name__ == "__main__":
    main()
