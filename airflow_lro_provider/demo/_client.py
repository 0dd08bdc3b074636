"""What one can do with a running Airflow by its REST API and its log files."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from json import dumps, loads
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import requests

from airflow_lro_provider.airflow_compat import local
from airflow_lro_provider.demo import _processes

T = TypeVar("T")

_FINAL = {"success", "failed", "skipped", "upstream_failed", "removed"}
_LOG_TAIL = 40


class LocalAirflowError(Exception):
    """The local Airflow did not start, or did not do what was asked of it.

    :param message: what went wrong, with all that helps to find out why
    :param status: HTTP status, if it was an answer of the REST API
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def tail(text: str, lines: int = _LOG_TAIL) -> str:
    """The last lines of a text."""
    return "\n".join(text.splitlines()[-lines:])


def poll(question: Callable[[], T], timeout: float, interval: float = 0.25) -> Iterator[T]:
    """Ask again and again, at least once, until the time is over.

    :param question: called for each answer
    :param timeout: seconds
    :param interval: seconds between two questions
    """
    deadline = time.monotonic() + timeout
    while True:
        yield question()
        if time.monotonic() >= deadline:
            return
        time.sleep(interval)


class AirflowClient:
    """The REST API of an Airflow whose log files are at hand.

    :param url: of the API server, without a slash at its end
    :param home: its AIRFLOW_HOME
    """

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.home = home
        self.token = ""
        self._http = requests.Session()
        # No proxy, no .netrc: it is this machine.
        self._http.trust_env = False

    def api(
        self,
        method: str,
        path: str,
        json: Any = None,
        params: dict[str, Any] | None = None,
        timeout: float = 60,
    ) -> Any:
        """Call the REST API.

        :param method: HTTP method
        :param path: what comes after its version, such as ``dags/my_dag/dagRuns``
        :param json: body
        :param params: query
        :param timeout: seconds, of one request
        :raises LocalAirflowError: if it answers with an error, or not at all
        """
        answer = self.request(method, f"{local.API}{path}", timeout, json=json, params=params)
        return answer.json() if answer.content else None

    def request(self, method: str, path: str, timeout: float = 60, **options: Any) -> requests.Response:
        """Call any path of the web server; see :meth:`api`.

        :param options: as requests has them, such as ``json``
        """
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        try:
            answer = self._http.request(method, self.url + path, headers=headers, timeout=timeout, **options)
        except requests.RequestException as error:
            raise LocalAirflowError(f"{method} {path}: {error}") from error
        if not answer.ok:
            raise LocalAirflowError(f"{method} {path}: HTTP {answer.status_code}: {answer.text}", answer.status_code)
        return answer

    def import_errors(self) -> list[dict[str, Any]]:
        """The Dag files that could not be read; each has ``filename`` and ``stack_trace``."""
        return list(self.api("GET", "importErrors")["import_errors"])

    def dag_ids(self) -> list[str]:
        """Ids of all Dags that Airflow knows."""
        return [dag["dag_id"] for dag in self.api("GET", "dags", params={"limit": 1000})["dags"]]

    def parsed_at(self, dag_id: str) -> datetime:
        """When the file of a Dag was read last."""
        return datetime.fromisoformat(self.api("GET", f"dags/{dag_id}")["last_parsed_time"].replace("Z", "+00:00"))

    def set_connection(self, connection_id: str, connection: str) -> None:
        """Create a connection in Airflow's database, where a user's are too, or change the one that is there.

        :param connection: as JSON, with ``conn_type`` and ``extra``, as an environment variable would have it
        """
        given = loads(connection)
        body = {"connection_id": connection_id, "conn_type": given["conn_type"], "extra": dumps(given["extra"])}
        try:
            self.api("POST", "connections", body)
        except LocalAirflowError as error:
            if error.status != requests.codes.conflict:
                raise
            self.api("PATCH", f"connections/{connection_id}", body)

    def trigger(self, dag_id: str, run_id: str | None = None, conf: dict[str, Any] | None = None) -> str:
        """Start a run, unpausing the Dag if it is paused.

        :return: its run id
        """
        if self.api("GET", f"dags/{dag_id}")["is_paused"]:
            self.api("PATCH", f"dags/{dag_id}", {"is_paused": False})
        body = {**local.NEW_RUN, "conf": conf or {}, **({"dag_run_id": run_id} if run_id else {})}
        return str(self.api("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run."""
        return str(self.api("GET", self._run(dag_id, run_id))["state"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Wait until a run is over.

        :return: its state, ``success`` or ``failed``
        """
        state = ""
        for state in poll(lambda: self.run_state(dag_id, run_id), timeout):
            if state in _FINAL:
                return state
        tasks = {
            f"{task['task_id']}[{task['map_index']}]": task["state"] for task in self.task_instances(dag_id, run_id)
        }
        raise LocalAirflowError(f"Run {run_id} of {dag_id} is still {state} after {timeout} s. Its tasks: {tasks}")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run. The API gives at most 100 at a time."""
        path = f"{self._run(dag_id, run_id)}/taskInstances"
        found: list[dict[str, Any]] = []
        total = 1
        while len(found) < total:
            page = self.api("GET", path, params={"limit": 100, "offset": len(found), **local.IN_ORDER})
            if not page["task_instances"]:
                break
            found += page["task_instances"]
            total = page["total_entries"]
        return found

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """One task instance: ``state``, ``try_number``, ``pid``, ``trigger`` and more."""
        return dict(self.api("GET", self._task(dag_id, run_id, task_id, map_index)))

    def wait_for_state(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: str | Collection[str],
        map_index: int = -1,
        timeout: float = 60,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of these states.

        Gives up early if it rests in another state that is final.

        :param states: one state or several
        :return: the task instance
        :raises LocalAirflowError: with the state it was left in, and the end of its log
        """
        wanted = {states} if isinstance(states, str) else set(states)
        resting_since: float | None = None
        task: dict[str, Any] = {}
        for task in poll(lambda: self._task_or_nothing(dag_id, run_id, task_id, map_index), timeout):
            if task.get("state") in wanted:
                return task
            if task.get("state") not in _FINAL:
                resting_since = None
            elif resting_since is None:
                resting_since = time.monotonic()
            elif time.monotonic() - resting_since > 3:
                break
        raise LocalAirflowError(
            f"{dag_id}.{task_id} of run {run_id} is {task.get('state')}, not {' or '.join(sorted(wanted))}"
            f" (waited for up to {timeout} s). Its log:\n"
            + tail(self.log(dag_id, run_id, task_id, task.get("try_number") or 1, map_index))
        )

    def _task_or_nothing(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
        try:
            return self.task_instance(dag_id, run_id, task_id, map_index)
        except LocalAirflowError as error:
            # A mapped task instance exists only after its task was expanded.
            if error.status != requests.codes.not_found:
                raise
            return {"state": "not there"}

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance as ``success``, ``failed`` or ``skipped``, as the web interface does it."""
        self.api("PATCH", self._task(dag_id, run_id, task_id, map_index), {**local.CHANGE, "new_state": state})

    def set_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run as ``success``, ``failed`` or ``queued``, as the web interface does it."""
        self.api("PATCH", self._run(dag_id, run_id), {"state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task instance, in whatever state it is, and its run, as the web interface does it."""
        path, body = local.clearing(self.api("GET", self._run(dag_id, run_id)), task_id)
        self.request("POST", path, **body)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """An XCom's value."""
        path = f"{self._run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{quote(key)}"
        return self.api("GET", path, params={"map_index": map_index, "stringify": "false"})["value"]

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """All that a try of a task instance logged, in the worker and in the triggerers, as plain text.

        One part after the other (worker first), not mixed by time. Empty if there is no log.
        """
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        name = f"attempt={try_number}.log"
        files = sorted(file for file in folder.iterdir() if file.name.startswith(name)) if folder.is_dir() else []
        lines = (line for file in files for line in file.read_text("utf-8", "replace").splitlines())
        return "\n".join(map(_readable, lines))

    def task_pids(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[int]:
        """Process ids of the running task: the process that executes the operator. Empty if there is none.

        After a clear or a retry these are the processes of the new try only, so look before you clear.
        """
        task = self.task_instance(dag_id, run_id, task_id, map_index)
        processes = _processes.running()
        return [pid for pid in processes if pid == task["pid"] or local.is_of_task(_processes.command_line(pid), task)]

    def supervisor_pids(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[int]:
        """Process ids of the supervisors of :meth:`task_pids`, which talk to the API server for them."""
        processes = _processes.running()
        tasks = self.task_pids(dag_id, run_id, task_id, map_index)
        return [processes[pid].parent for pid in tasks if pid in processes and processes[pid].parent > 1]

    @staticmethod
    def _run(dag_id: str, run_id: str) -> str:
        return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

    def _task(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
        path = f"{self._run(dag_id, run_id)}/taskInstances/{task_id}"
        return path if map_index < 0 else f"{path}/{map_index}"


def _readable(line: str) -> str:
    """A line of a task's log, which Airflow writes as JSON, as text."""
    try:
        record = loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict) or "event" not in record:
        return line
    details = record.pop("error_detail", None)
    parts = [str(record.pop(key, "")) for key in ("timestamp", "level", "event")]
    parts += [f"{key}={value}" for key, value in record.items()]
    for error in details or ():
        parts.append(f"\n  {error.get('exc_type')}: {error.get('exc_value')}")
        parts += [f"\n    {frame['filename']}:{frame['lineno']} {frame['name']}" for frame in error.get("frames", ())]
    return " ".join(parts)
