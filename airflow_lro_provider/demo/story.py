"""The demo: kill tasks of a real Airflow while they wait, and see what the server of the operations saw.

It starts the local server and a real Airflow, runs the Dag ``lro_demo``, kills some of its tasks as a user
would, tells what happens as it happens, and then as a table. All numbers are measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from airflow_lro_provider.demo._client import poll, tail
from airflow_lro_provider.demo.local_airflow import LocalAirflow, LocalAirflowError
from airflow_lro_provider.demo.rows import Row, plan, table
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.resources.catalog import SYSTEMS, find_service

__all__ = ["Printer", "report", "run_demo"]

DAG_ID = "lro_demo"
TRY_IT = "lro_try_it"
CONN_ID = "google_cloud_default"
DAGS = Path(__file__).with_name("dags")
START_WITHIN = 300.0
"""Seconds that Airflow may take to start."""
END_WITHIN = 420.0
"""Seconds that the Dag may take."""
CANCEL_WITHIN = 60.0
"""Seconds that a cancel may take."""
LEFT_ALONE = 6.0
"""So many seconds after a task that is left alone began to wait, its operation succeeds."""
CANCEL_DELAY = 0.5
"""Seconds that the server takes to cancel an operation."""
TASKS_AT_A_TIME = 4
_COMPONENTS = ("api-server", "dag-processor", "scheduler", "triggerer")
ERRORS_IN_A_ROW = 10
"""So often may Airflow's API fail before the demo gives up."""


class Printer:
    """Prints lines with the time since the start.

    :param stream: where to
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._started = time.monotonic()
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self._colours = self._stream.isatty() and not plain

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def event(self, what: str, text: str) -> None:
        """Print what happens, now."""
        self.line(f"{self.seconds:6.1f} s  {what:<9} {text}")

    def line(self, text: str = "", colour: str | None = None) -> None:
        """Print a line.

        :param colour: ``green`` or ``red``, if the output is a terminal
        """
        code = {"green": "32", "red": "31"}.get(colour or "") if self._colours else None
        print(f"\033[{code}m{text}\033[0m" if code else text, file=self._stream, flush=True)


def run_demo(*, keep: bool = False) -> int:
    """Run the demo.

    :param keep: leave Airflow and the server running until Ctrl-C
    :return: the exit status: 0 if everything was as it has to be
    :raises LocalAirflowError: if Airflow does not come up, or breaks
    """
    out = Printer()
    out.line("A demo of airflow-lro-provider: tasks of a real Airflow are killed while they wait for operations.")
    out.line("It needs no account and no network, and takes about a minute.")
    out.line()
    with Emulator() as emulator:
        out.event("server", f"a local server of google.longrunning.Operations: {emulator.url}")
        with _airflow(emulator, out) as airflow:
            rows = _Story(airflow, emulator, out).run()
            status = report(rows, airflow, out)
            if keep:
                _keep(airflow, emulator, out)
            out.event("stopping", "Airflow and the server; the temporary home is removed")
    return status


@contextlib.contextmanager
def _airflow(emulator: Emulator, out: Printer) -> Iterator[LocalAirflow]:
    airflow = _start(out)
    try:
        if errors := airflow.import_errors():
            raise LocalAirflowError(f"The demo's Dags cannot be read:\n{errors[0]['stack_trace']}")
        out.event("ready", f"Airflow at {airflow.url}")
        _connect(airflow, emulator)
        yield airflow
    finally:
        airflow.stop()


def _start(out: Printer, tries: int = 3) -> LocalAirflow:
    """Start Airflow; again on other ports, should another program have taken one of the free ports meanwhile."""
    airflow = LocalAirflow(dags=DAGS, parallelism=TASKS_AT_A_TIME)
    out.event("starting", "a real Airflow in a temporary home; first its database (SQLite)")
    try:
        with _tell_progress(airflow, out):
            return airflow.start(START_WITHIN)
    except LocalAirflowError as error:
        if tries > 1 and "address already in use" in str(error).lower():
            out.event("again", "another program took a port that was free a moment ago")
            return _start(out, tries - 1)
        raise LocalAirflowError(f"Airflow did not come up. {error}") from error


def _connect(airflow: LocalAirflow, emulator: Emulator) -> None:
    """Give Airflow the connection to the server, in its database, where a user's are too."""
    given = json.loads(emulator.airflow_connection_json())
    connection = {"connection_id": CONN_ID, "conn_type": given["conn_type"], "extra": json.dumps(given["extra"])}
    airflow.api("POST", "connections", connection)


@contextlib.contextmanager
def _tell_progress(airflow: LocalAirflow, out: Printer) -> Iterator[None]:
    """Say what Airflow is doing while it starts."""
    done = threading.Event()

    def tell() -> None:
        known = False
        while not done.wait(5 if known else 0.2):
            if known:
                out.event("waiting", "for Airflow to be healthy and to know the Dags")
            elif len(airflow.components) == len(_COMPONENTS):
                known = True
                out.event("starting", f"{', '.join(_COMPONENTS[:-1])} and {_COMPONENTS[-1]}")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class _Story:
    """One run of the Dag, from its start until there is nothing more to see.

    :param airflow: where the tasks are
    :param emulator: where the operations are
    :param out: where to tell it
    """

    def __init__(self, airflow: LocalAirflow, emulator: Emulator, out: Printer) -> None:
        self._airflow, self._emulator, self._out = airflow, emulator, out
        self._rows = plan({name: find_service(name).title for name in SYSTEMS})
        self._run_id = ""
        self._errors = 0

    def run(self) -> list[Row]:
        """Tell it, and return the rows as they are at the end."""
        for row in self._rows:
            # It never ends by itself: a kill is the only reason for it to be cancelled.
            row.operation = self._emulator.create(row.service, duration=None, cancel_delay=CANCEL_DELAY)
        names = {row.task_id: row.operation for row in self._rows}
        self._run_id = self._airflow.trigger(DAG_ID, run_id="demo", conf=names)
        self._out.event(
            "triggered",
            f"the Dag {DAG_ID}: {len(self._rows)} tasks that wait for an operation each,"
            f" at most {TASKS_AT_A_TIME} running at a time",
        )
        for _ in poll(self._look_patiently, END_WITHIN, interval=0.4):
            if all(row.is_over(time.time(), CANCEL_WITHIN) for row in self._rows):
                break
        self._last_look()
        return self._rows

    def _look_patiently(self) -> None:
        """Look; on a busy machine an answer of Airflow may fail."""
        try:
            self._look()
        except LocalAirflowError as error:
            self._errors += 1
            if self._errors >= ERRORS_IN_A_ROW:
                raise LocalAirflowError(f"Airflow does not answer any more. {error}") from error
        else:
            self._errors = 0

    def _last_look(self) -> None:
        """See that what was over has stayed so, and what the tasks returned."""
        states = self._states()
        for row in self._rows:
            self._see_operation(row)
            row.task_state = states.get(row.task_id)
            if row.task_state == "success":
                row.outcome = self._outcome(row)

    def _states(self) -> dict[str, str | None]:
        return {task["task_id"]: task["state"] for task in self._airflow.task_instances(DAG_ID, self._run_id)}

    def _look(self) -> None:
        states = self._states()
        for row in self._rows:
            self._see_operation(row)
            if not row.task_is_over:
                self._see_task(row, states.get(row.task_id))

    def _see_operation(self, row: Row) -> None:
        view = self._emulator.operation(row.service, row.operation)
        row.operation_state, row.looks = view.state, view.polls
        if row.cancelled_at is None and view.cancel_requested_at is not None:
            row.cancelled_at = view.cancel_requested_at
            if row.cancelled_after is not None:
                told = f"the server saw it {row.cancelled_after:.1f} s after the kill"
            elif row.kind == "cancel":
                told = "the task asked for it, as it is there to do"
            else:
                told = "though nobody killed the task"
            self._out.event("cancelled", f"{row.short_name} of {row.task_id}: {told}")

    def _see_task(self, row: Row, state: str | None) -> None:
        row.task_state = state
        if row.task_is_over:
            if row.killed_at is None:
                self._out.event("ended", f"{row.task_id}: {state}")
            return
        if row.waits_since is None and self._is_waiting(row):
            row.waits_since = time.time()
            if row.kind == "left_alone":
                self._out.event("waits", f"{_about(row)} for {row.short_name}")
        if row.waits_since is None:
            return
        if row.to_kill and row.killed_at is None:
            self._kill(row)
        elif row.kind == "left_alone" and row.finished_at is None and time.time() - row.waits_since > LEFT_ALONE:
            row.finished_at = time.time()
            self._emulator.finish(row.service, row.operation)
            self._out.event("succeeded", f"{row.short_name} of {row.task_id}, which was left alone")

    def _is_waiting(self, row: Row) -> bool:
        """Whether the task is well into its wait: it looked again, or the triggerer looked."""
        looks = {"poke": 2, "deferred": 3, "operator": 1}[row.waits]
        return row.task_state == row.waiting_state and row.looks >= looks

    def _kill(self, row: Row) -> None:
        moment = time.time()
        self._airflow.set_task_state(DAG_ID, self._run_id, row.task_id, "failed")
        row.killed_at = moment
        self._out.event("killed", f"{_about(row)}: marked failed")

    def _outcome(self, row: Row) -> str | None:
        result = self._airflow.xcom(DAG_ID, self._run_id, row.task_id)
        return result.get("outcome") if isinstance(result, dict) else None


def _about(row: Row) -> str:
    return f"{row.task_id} ({row.title}, {row.waiting_state})"


def report(rows: Sequence[Row], airflow: LocalAirflow, out: Printer) -> int:
    """Print the table and the verdict.

    :return: the exit status
    """
    out.line()
    header, *lines = table(rows)
    out.line(header)
    for row, line in zip(rows, lines, strict=True):
        out.line(line, "red" if row.wrong else None)
    out.line()
    wrong = [row for row in rows if row.wrong]
    for row in wrong:
        out.line(f"WRONG: {row.task_id} ({row.title}): {row.wrong}. The end of its log:", "red")
        out.line(tail(airflow.log(DAG_ID, "demo", row.task_id), 15) or "(no log)")
        out.line()
    there = {row.service for row in rows}
    missing = [find_service(name).title for name in SYSTEMS if name not in there]
    if missing:
        out.line(f"WRONG: not in the table: {', '.join(missing)}", "red")
    if wrong or missing:
        systems = f", and {len(missing)} systems are not there" if missing else ""
        out.line(f"FAILED: {len(wrong)} of {len(rows)} rows are not as they have to be{systems}.", "red")
        return 1
    out.line(_summary(rows), "green")
    return 0


def _summary(rows: Sequence[Row]) -> str:
    killed = [row for row in rows if row.killed_at is not None]
    left = sum(row.kind == "left_alone" for row in rows)
    on_purpose = sum(row.kind == "cancel" for row in rows)
    return (
        f"OK: {len(killed)} tasks were killed, and all {len(killed)} operations were cancelled:"
        f" {_range(killed, 'running')} after the kill of a running task,\n"
        f"    {_range(killed, 'deferred')} after the kill of a deferred one.\n"
        f"    {left} tasks were left alone, and all {left} operations SUCCEEDED.\n"
        f"    {on_purpose} task was there to cancel an operation, and reported that it is CANCELLED."
    )


def _range(rows: Sequence[Row], state: str) -> str:
    after = [row.cancelled_after or 0.0 for row in rows if row.waiting_state == state]
    first, last = f"{min(after):.1f}", f"{max(after):.1f}"
    return f"{first} s" if first == last else f"{first} to {last} s"


def _keep(airflow: LocalAirflow, emulator: Emulator, out: Printer) -> None:
    """Leave it running for a person, until Ctrl-C."""
    airflow.trigger(TRY_IT)
    out.line()
    out.line("It all goes on running, until Ctrl-C. No password is needed:")
    out.line(f"  the run of the demo    {airflow.url}/dags/{DAG_ID}/runs/demo")
    out.line(f"  a run to try yourself  {airflow.url}/dags/{TRY_IT}")
    out.line(f"  what the server sees   {emulator.url}/emulator")
    out.line(f"The tasks `poke` and `deferred` of {TRY_IT} wait for operations that never end. Mark one as failed,")
    out.line("and see its operation become CANCELLED on the server's page.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    out.line()
