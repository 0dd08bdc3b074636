"""A real Airflow on this machine: its processes in a home of their own, started and stopped by one object.

It is made for demos and tests: quick to notice a kill, an administrator without a password, listening on this
machine only (but for Airflow's log servers, which cannot be told to; they want a signed token).
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from airflow_lro_provider.airflow_compat import local
from airflow_lro_provider.demo import _processes
from airflow_lro_provider.demo._client import AirflowClient, LocalAirflowError, poll, tail
from airflow_lro_provider.demo._sqlite import install_plugin, never_reuse_trigger_ids, sqlite_settings

__all__ = ["Component", "LocalAirflow", "LocalAirflowError"]

_JOB_TYPES = {"scheduler": "SchedulerJob", "dag-processor": "DagProcessorJob", "triggerer": "TriggererJob"}


@dataclass
class Component:
    """One of Airflow's long-running processes."""

    kind: str
    name: str
    arguments: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started: datetime = datetime.min
    log_begins: int = 0

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def has_logged(self, words: str) -> bool:
        """Whether it has, since it was started last."""
        with self.log.open("rb") as log:
            log.seek(self.log_begins)
            return words in log.read().decode("utf-8", "replace")

    def log_tail(self) -> str:
        """The end of what it has logged."""
        return tail(self.log.read_text("utf-8", "replace")) if self.log.exists() else "(no log)"


class LocalAirflow(AirflowClient):
    """A scheduler, a Dag processor, an API server and triggerers, and what one can do with them.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. What is still running when Python ends
    is stopped then.

    :param home: AIRFLOW_HOME, with the database and all logs; kept. Unset, a temporary folder that is removed
    :param dags: the folder of the Dags
    :param triggerers: how many triggerers
    :param environment: variables for all processes, such as connections; they win over everything else.
        This Python's own environment is passed on as well, but not its ``AIRFLOW…`` variables
    :param database: SQLAlchemy URL; unset, SQLite in the home
    :param parallelism: how many tasks may run at a time
    :param python: the interpreter that has Airflow
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        dags: Path,
        triggerers: int = 1,
        environment: Mapping[str, str] | None = None,
        database: str | None = None,
        parallelism: int = 8,
        python: str = sys.executable,
    ) -> None:
        self._api_port, self._worker_log_port, *self._trigger_log_ports = _free_ports(2 + max(triggerers, 1))
        super().__init__(f"http://127.0.0.1:{self._api_port}", Path())
        self._given_home = home
        self._dags = dags.resolve()
        self._triggerers = triggerers
        self._given_environment = dict(environment or {})
        self._database = database
        self._parallelism = parallelism
        self._python = python
        self._marker = secrets.token_hex(8)
        self._environment: dict[str, str] = {}
        self._components: dict[str, Component] = {}
        self._sessions: set[int] = set()
        self._watchdog: _processes.Watchdog | None = None
        self._owner = 0
        if home is not None:
            self.home = home.resolve()

    def __enter__(self) -> LocalAirflow:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of all its processes, for a command line beside them (`airflow dags test`)."""
        return dict(self._environment)

    # Start and stop

    def start(self, timeout: float = 240) -> LocalAirflow:
        """Start everything, and wait until Airflow is healthy and knows the Dags.

        :param timeout: seconds, for all of it
        :raises LocalAirflowError: with the end of the log of the process that failed
        """
        if self._watchdog is not None:
            raise LocalAirflowError("This Airflow was started already")
        if self._database is None and not local.RUNS_ON_SQLITE:
            raise LocalAirflowError(
                "Airflow 2 runs tasks side by side on PostgreSQL only: give it an empty `database`."
            )
        deadline = time.monotonic() + timeout
        try:
            self._prepare()
            self._migrate(deadline)
            for component in self._plan():
                self._components[component.name] = component
                self._spawn(component)
            self._wait_until_ready(list(self._components.values()), deadline)
            self._wait_for_dags(deadline)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all processes, at once and without asking, and remove the home if it was a temporary one."""
        if self._watchdog is None or self._owner != os.getpid():
            return
        left = _processes.end(self._sessions, self._marker)
        for component in self._components.values():
            if component.process is not None:
                component.process.wait()
        self._http.close()
        if self._given_home is None:
            _processes.remove(self.home)
        if not left:
            self._watchdog.dismiss()
        self._watchdog = None
        self._components = {}
        self._sessions = set()
        atexit.unregister(self.stop)

    def _prepare(self) -> None:
        if self._given_home is None:
            self.home = Path(tempfile.mkdtemp(prefix="local-airflow-")).resolve()
        # A process that was forked off us has this object as well, but must not stop what is not its own.
        self._owner = os.getpid()
        self._watchdog = _processes.Watchdog(self._marker, self.home if self._given_home is None else None)
        atexit.register(self.stop)
        (self.home / "tmp").mkdir(parents=True, exist_ok=True)
        if self._database is None:
            install_plugin(self.home)
        self._environment = self._make_environment()

    def _make_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
        no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1"]))
        # Fast: a kill is noticed by the next heartbeat of a task, a timeout by the scheduler's next look.
        settings = {
            "CORE__DAGS_FOLDER": str(self._dags),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": str(self._parallelism),
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            # The default asks the name server.
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            **({"DATABASE__SQL_ALCHEMY_CONN": self._database} if self._database else sqlite_settings(self.home)),
            "LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "LOGGING__COLORED_CONSOLE_LOG": "False",
            "LOGGING__WORKER_LOG_SERVER_PORT": str(self._worker_log_port),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._trigger_log_ports[0]),
            "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
            **local.settings(self.url, self.home),
        }
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.home),
            # What a killed process leaves behind goes with the home.
            "TMPDIR": str(self.home / "tmp"),
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            **self._given_environment,
            _processes.MARKER: self._marker,
        }

    def _plan(self) -> Iterator[Component]:
        for arguments in local.components(self._api_port):
            yield Component(arguments[0], arguments[0], arguments, self.home / f"{arguments[0]}.log")
        for index in range(self._triggerers):
            port = {"AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._trigger_log_ports[index])}
            name = _name("triggerer", index)
            yield Component("triggerer", name, ["triggerer"], self.home / f"{name}.log", port)

    def _spawn(self, component: Component) -> None:
        component.started = datetime.now(timezone.utc)
        with component.log.open("ab") as log:
            component.log_begins = log.tell()
            component.process = subprocess.Popen(
                [self._python, "-m", "airflow", *component.arguments],
                env={**self._environment, **component.environment},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.add(component.process.pid)
        if self._watchdog is not None:
            self._watchdog.watch(component.process.pid)

    def _migrate(self, deadline: float) -> None:
        migration = Component("migrate", "migrate", ["db", "migrate"], self.home / "migrate.log")
        self._spawn(migration)
        assert migration.process is not None
        try:
            code = migration.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            how = "took too long" if code is None else f"ended with {code}"
            raise LocalAirflowError(f"airflow db migrate {how}:\n{migration.log_tail()}")
        if self._database is None:
            never_reuse_trigger_ids(self.home)

    # Waiting until it is up

    def _wait_until_ready(self, components: list[Component], deadline: float) -> None:
        waiting: list[Component] = []
        for waiting in poll(lambda: self._not_ready(components), deadline - time.monotonic()):
            if not waiting:
                return
        logs = "\n".join(f"--- {component.name}\n{component.log_tail()}" for component in waiting)
        raise LocalAirflowError(f"Not ready in time: {', '.join(component.name for component in waiting)}\n{logs}")

    def _not_ready(self, components: list[Component]) -> list[Component]:
        for component in components:
            if component.process is not None and component.process.poll() is not None:
                raise LocalAirflowError(
                    f"airflow {component.name} ended with {component.process.returncode}:\n{component.log_tail()}"
                )
        try:
            self._log_in()
            return [component for component in components if not self._is_ready(component, components)]
        except LocalAirflowError:
            # The API server does not answer yet.
            return components

    def _log_in(self) -> None:
        if local.HAS_TOKENS and not self.token:
            self.token = str(self.request("GET", "/auth/token", timeout=10).json()["access_token"])

    def _is_ready(self, component: Component, components: list[Component]) -> bool:
        if component.kind == local.WEB:
            if not local.HAS_JOBS:
                return bool(self.api("GET", "health")["metadatabase"]["status"] == "healthy")
            # The first answer of the tasks' API takes it 5 s of CPU, which no task is to wait for.
            self.request("GET", "/execution/health")
            return bool(self.api("GET", "monitor/health")["metadatabase"]["status"] == "healthy")
        if not local.HAS_JOBS:
            return component.has_logged("Starting the ")
        # A predecessor that was killed counts as running and healthy for a while, hence the time.
        same = [other for other in components if other.kind == component.kind]
        since = min(other.started for other in same)
        query = {"job_type": _JOB_TYPES[component.kind], "job_state": "running", "start_date_gte": since.isoformat()}
        return len(self.api("GET", "jobs", params=query)["jobs"]) >= len(same)

    def _wait_for_dags(self, deadline: float) -> None:
        """Wait until each file that looks like a Dag has given a Dag or an import error."""
        expected = {str(file.relative_to(self._dags)) for file in self._dags.rglob("*.py") if _may_hold_a_dag(file)}
        known: set[str] = set()
        unchanged_since = time.monotonic()
        for now_known in poll(self._known_files, deadline - time.monotonic()):
            if expected <= now_known:
                return
            if now_known != known:
                known, unchanged_since = now_known, time.monotonic()
            # What looks like a Dag may be a helper of one, and never become known.
            if known and time.monotonic() - unchanged_since > local.PARSING_SECONDS:
                return
        log = self._components["dag-processor" if "dag-processor" in self._components else "scheduler"].log_tail()
        raise LocalAirflowError(f"No Dag was found in time in {self._dags}, of {sorted(expected)}:\n{log}")

    def _known_files(self) -> set[str]:
        dags = self.api("GET", "dags", params={"limit": 1000})["dags"]
        return {local.file_of(one, self._dags) for one in (*dags, *self.import_errors())}

    # The components

    @property
    def components(self) -> dict[str, subprocess.Popen[bytes]]:
        """The processes: scheduler, dag-processor, api-server, triggerer (and triggerer-1, …)."""
        return {name: one.process for name, one in self._components.items() if one.process is not None}

    def signal(self, component: str, sig: int, index: int = 0, *, tree: bool = True) -> None:
        """Send a signal to a component.

        :param component: such as ``triggerer``
        :param sig: such as :data:`signal.SIGSTOP`
        :param index: which one of several
        :param tree: to all processes below it as well, of which the triggerer has two (the one that runs the
            triggers, and the log server), and the scheduler the supervisors and the running tasks
        """
        process = self._running(component, index)
        if not tree:
            process.send_signal(sig)
            return
        done: set[int] = set()
        # Again until there is none new: they may fork meanwhile.
        while new := [pid for pid in _processes.descendants(process.pid) if pid not in done]:
            _processes.send(new, sig)
            done.update(new)

    def kill(self, component: str, index: int = 0, *, tree: bool = True) -> None:
        """SIGKILL a component, as the end of its container (or with ``tree=False``: of this process alone) does.

        :param tree: all processes below it as well; of the scheduler these are the running tasks
        """
        process = self._running(component, index)
        process.kill()
        process.wait()
        if tree:
            _processes.end([process.pid])

    def restart(self, component: str, index: int = 0, timeout: float = 60) -> None:
        """Stop a component by SIGTERM, unless it is dead already, and start it again.

        What is left of it after half of the time is killed; the scheduler waits for its running tasks.

        :param timeout: seconds until it must be ready again
        """
        deadline = time.monotonic() + timeout
        one = self._component(component, index)
        if one.process is not None:
            one.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(timeout / 2)
            _processes.end([one.process.pid])
            one.process.wait()
        self._spawn(one)
        self._wait_until_ready([one], deadline)

    def _component(self, component: str, index: int) -> Component:
        try:
            return self._components[_name(component, index)]
        except KeyError:
            raise LocalAirflowError(f"There is no {_name(component, index)}, but: {list(self._components)}") from None

    def _running(self, component: str, index: int) -> subprocess.Popen[bytes]:
        one = self._component(component, index)
        if one.process is None or not one.is_running:
            raise LocalAirflowError(f"The {one.name} is not running; the end of its log:\n{one.log_tail()}")
        return one.process


def _name(component: str, index: int) -> str:
    return f"{component}-{index}" if index else component


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _may_hold_a_dag(file: Path) -> bool:
    """Airflow's own rule of thumb ("safe mode")."""
    content = file.read_bytes().lower()
    return b"dag" in content and b"airflow" in content
