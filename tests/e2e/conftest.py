"""One real Airflow and one local server for all end-to-end tests."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from _pytest.runner import runtestprotocol
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator

HERE = Path(__file__).parent


# What Airflow 3.3.2 itself gets wrong under load, whatever its tasks do: a task that is queued again quickly is
# failed by the scheduler, and SQLite's lock is waited for in vain. A test that met one of them is run once more.
AIRFLOWS_OWN_TROUBLE = re.compile(
    r"Executor .*reported that the task instance .* finished with state|database is locked"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need the real Airflow."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def trouble(lab: Lab) -> int:
    """How often Airflow has logged trouble of its own so far."""
    logs = (file.read_text("utf-8", "replace") for file in Path(lab.airflow.home).glob("*.log"))
    return sum(len(AIRFLOWS_OWN_TROUBLE.findall(log)) for log in logs)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test that failed once more, if, and only if, Airflow itself had trouble meanwhile."""
    if HERE not in item.path.parents:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    before = trouble(Lab.current) if Lab.current else 0
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports) and nextitem and Lab.current and trouble(Lab.current) > before:
        warnings.warn(pytest.PytestWarning(f"run again, Airflow had trouble of its own: {item.nodeid}"), stacklevel=1)
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def wait_until(question: Callable[[], Any], what: str, timeout: float = 60.0) -> Any:
    """Ask until the answer is true, and give it."""
    deadline = time.monotonic() + timeout
    while True:
        if answer := question():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout:g} s still not: {what}")
        time.sleep(0.1)


class TokenBank:
    """A token endpoint on this machine, and a service account's key for it."""

    def __init__(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.tokens: list[str] = []
        bank = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                bank.tokens.append(f"ya29.{secrets.token_hex(24)}")
                body = json.dumps({"access_token": bank.tokens[-1], "expires_in": 3600, "token_type": "Bearer"})
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.key = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": "robot@p.iam.gserviceaccount.com",
            "token_uri": f"http://127.0.0.1:{self._server.server_port}/token",
        }

    def __enter__(self) -> TokenBank:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def secrets(self) -> list[bytes]:
        """What must not be found anywhere: all tokens, and each line of the key."""
        lines = [line for line in self.key["private_key"].splitlines() if len(line) > 40]
        return [text.encode() for text in (*self.tokens, *lines)]


@dataclass
class Run:
    """A run of a Dag with one task `it`, and its operation."""

    lab: Lab
    dag_id: str
    run_id: str
    operation_name: str
    service: str = "datafusion"
    map_index: int = -1

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
            lambda: len(self.lab.emulator.requests(verb="get", name=self.operation_name)) >= looks,
            f"{self.dag_id} polls its operation; its log:\n{self.log()}",
        )
        return self

    def is_polled_again(self, what: str, timeout: float = 90) -> None:
        """Wait until somebody goes on polling the operation."""
        seen = len(self.lab.emulator.requests("get", self.operation_name))
        wait_until(
            lambda: len(self.lab.emulator.requests("get", self.operation_name)) > seen + 2,
            f"{self.dag_id} is polled again {what}",
            timeout,
        )

    def log(self, try_number: int = 1) -> str:
        """Everything that a try logged."""
        return self.lab.airflow.log(self.dag_id, self.run_id, "it", try_number, self.map_index)

    @property
    def view(self) -> Any:
        """The server's view of the operation."""
        return self.lab.emulator.operation(self.service, self.operation_name)

    @property
    def cancels(self) -> int:
        """How many cancel requests reached the server."""
        return int(self.view.cancel_requests)

    def is_cancelled(self, timeout: float = 20.0) -> Run:
        """The server saw a cancel, within seconds, and the operation is CANCELLED."""
        wait_until(lambda: self.cancels, f"{self.dag_id}: operation cancelled; log:\n{self.log()}", timeout)
        wait_until(lambda: self.view.operation.get("done"), "the operation is over")
        assert self.view.operation["error"]["code"] == 1
        return self

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
    current: ClassVar[Lab | None] = None

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
                seen = len(self.emulator.requests("get", run.operation_name))
                time.sleep(3)
                if len(self.emulator.requests("get", run.operation_name)) == seen:
                    return index
            finally:
                self.stall(index, signal.SIGCONT)
        raise AssertionError("no triggerer polls for it")

    def start(self, dag_id: str, *, service: str = "datafusion", conf: Any = None, **script: Any) -> Run:
        """Start an operation (one that never ends, if nothing else is said) and a run that waits for it."""
        name = self.emulator.create(service, **{"duration": None, **script})
        return self.run(dag_id, name, service, conf)

    def run(self, dag_id: str, name: str, service: str = "datafusion", conf: Any = None) -> Run:
        """Start a run for an operation."""
        run_id = self.airflow.trigger(dag_id, conf={"operation": name, "service": service, **(conf or {})})
        run = Run(self, dag_id, run_id, name, service)
        self.runs.append(run)
        return run

    def kill(self, run: Run, how: str) -> None:
        """Kill the task of a run as a user would."""
        if how in ("failed", "success"):
            self.airflow.set_task_state(run.dag_id, run.run_id, "it", how, run.map_index)
        elif how == "clear":
            self.airflow.clear(run.dag_id, run.run_id, ["it"])
        elif how in ("run failed", "run success"):
            self.airflow.set_run_state(run.dag_id, run.run_id, how.removeprefix("run "))
        else:
            raise ValueError(how)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Started once for all."""
    with Emulator() as emulator, TokenBank() as bank:
        keyed = {"api_endpoint": f"{emulator.url}/{{service}}", "keyfile_dict": bank.key}
        environment = {
            # A real key and real tokens, for the search of the logs.
            "AIRFLOW_CONN_WITH_A_KEY": json.dumps({"conn_type": "google_lro", "extra": keyed}),
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": emulator.airflow_connection_json(),
            # A triggerer that stalls is noticed after 10 s instead of 30.
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW__TRIGGERER__RUNNER_HEALTH_CHECK_THRESHOLD": "8",
        }
        # For a look afterwards: KEEP_E2E_HOME=/some/folder keeps the database and all logs there.
        home = Path(os.environ["KEEP_E2E_HOME"]) if "KEEP_E2E_HOME" in os.environ else None
        with LocalAirflow(home, dags=HERE / "dags", environment=environment, triggerers=Lab.triggerers) as airflow:
            assert airflow.import_errors() == []
            Lab.current = Lab(airflow, emulator, bank=bank)
            yield Lab.current
            Lab.current = None


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs that a test leaves behind are ended, so that the next one has the workers."""
    yield
    if "lab" not in request.fixturenames:
        return
    lab: Lab = request.getfixturevalue("lab")
    for run in lab.runs:
        lab.emulator.finish(run.service, run.operation_name)
        if lab.airflow.run_state(run.dag_id, run.run_id) not in ("success", "failed"):
            lab.airflow.set_run_state(run.dag_id, run.run_id, "failed")
    lab.runs.clear()
