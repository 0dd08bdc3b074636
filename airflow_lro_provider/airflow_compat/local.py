"""How Airflow is started on one machine, and what its REST API is like: for the demo and the test bed.

=====================  =======================================  ==============================================
                       Airflow 3                                Airflow 2.11
=====================  =======================================  ==============================================
components             API server, Dag processor, scheduler,    web server, scheduler, triggerer
                       triggerer
an administrator       a token for everybody                    everybody who looks is one
without a password
REST API               version 2                                version 1: no jobs, other defaults
to clear a task        REST API                                 the web page's own form: the REST API leaves a
                                                                running one as it is (2.11.2)
a process that runs    is named after the task instance's id    is named after task and run
a task
=====================  =======================================  ==============================================
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_lro_provider.airflow_compat import AIRFLOW

API = "/api/v2/" if AIRFLOW >= (3,) else "/api/v1/"
RUN_PAGE = "/dags/{}/runs/{}" if AIRFLOW >= (3,) else "/dags/{}/grid?dag_run_id={}"
HEARTBEAT_TIMEOUT = "TASK_INSTANCE_HEARTBEAT_TIMEOUT" if AIRFLOW >= (3,) else "SCHEDULER_ZOMBIE_TASK_THRESHOLD"
WEB = "api-server" if AIRFLOW >= (3,) else "webserver"
"""The component that has the web interface."""
HAS_TOKENS = HAS_JOBS = RUNS_ON_SQLITE = AIRFLOW >= (3,)
"""Airflow 2 runs tasks side by side on PostgreSQL and MySQL only."""
NEW_RUN: Mapping[str, Any] = {"logical_date": None} if AIRFLOW >= (3,) else {}
"""What the request for a new run has to say besides its id."""
PARSING_SECONDS = 5 if AIRFLOW >= (3,) else 60
"""How long nothing may be heard of a Dag file: Airflow 2 adds permissions for each Dag, one by one."""
IN_ORDER: Mapping[str, Any] = {"order_by": "id"} if AIRFLOW >= (3,) else {}
"""What a request for task instances, page by page, has to say; Airflow 2 gives them in one order only."""
CHANGE: Mapping[str, Any] = {} if AIRFLOW >= (3,) else {"dry_run": False}
"""What the request for another state of a task has to say besides it."""
_ANONYMOUS = "AUTH_ROLE_PUBLIC = 'Admin'\nWTF_CSRF_ENABLED = False\n"


def settings(url: str, home: Path) -> dict[str, str]:
    """Airflow's settings, by the last part of their environment variable's name.

    :param url: of the web interface.
    :param home: AIRFLOW_HOME; of Airflow 2 it gets a file that makes everybody an administrator.
    """
    if AIRFLOW >= (3,):
        return {
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "API__BASE_URL": url,
            "API__SECRET_KEY": secrets.token_hex(16),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            f"SCHEDULER__{HEARTBEAT_TIMEOUT}": "20",
        }
    (home / "webserver_config.py").write_text(_ANONYMOUS)
    return {
        "API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
        "API__MAXIMUM_PAGE_LIMIT": "1000",
        "WEBSERVER__BASE_URL": url,
        "WEBSERVER__SECRET_KEY": secrets.token_hex(16),
        "CORE__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        # A cleared task waits so long, too.
        "CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        "SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
        "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "5",
        f"SCHEDULER__{HEARTBEAT_TIMEOUT}": "20",
        "METRICS__TIMER_UNIT_CONSISTENCY": "True",
    }


def components(port: int) -> list[list[str]]:
    """The command lines of all components but the triggerers; the first takes longest to start.

    :param port: of the web interface.
    """
    if AIRFLOW >= (3,):
        api = ["api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        return [api, ["dag-processor"], ["scheduler"]]
    web = ["webserver", "--hostname", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [[*web, "--pid", f"webserver-{port}.pid"], ["scheduler"]]


def clearing(run: Mapping[str, Any], task_id: str) -> tuple[str, Mapping[str, Any]]:
    """The request that clears one task of a run, as the web interface sends it: its path, and what it says.

    Airflow 2.11's ``clearTaskInstances`` lets go of a running task instance before it changes it, so only its job is
    marked, and the task goes on.

    :param run: the run, as the REST API gives it.
    """
    if AIRFLOW >= (3,):
        body = {"dry_run": False, "dag_run_id": run["dag_run_id"], "task_ids": [task_id], "only_failed": False}
        return f"{API}dags/{run['dag_id']}/clearTaskInstances", {"json": {**body, "reset_dag_runs": True}}
    form = {"dag_id": run["dag_id"], "task_id": task_id, "execution_date": run["logical_date"], "confirmed": "true"}
    return "/clear", {"data": form}


def is_of_task(title: str, task: Mapping[str, Any]) -> bool:
    """Whether the process with this title runs a task instance.

    :param task: the task instance, as the REST API gives it.
    """
    if AIRFLOW >= (3,):
        return title.startswith(f"airflow worker -- {task['id']}")
    return title.startswith(f"airflow task runner: {task['dag_id']} {task['task_id']} {task['dag_run_id']} ")


def file_of(dag: Mapping[str, Any], folder: Path) -> str:
    """The file of a Dag, or of an import error, below its folder, as the REST API tells it."""
    if AIRFLOW >= (3,):
        return str(dag.get("relative_fileloc") or dag["filename"])
    return str(Path(dag.get("fileloc") or dag["filename"]).relative_to(folder))
