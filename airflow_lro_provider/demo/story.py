"""The demo: kill tasks of a real Airflow while they wait, and see what the server of the operations saw.

It starts the local server and a real Airflow, runs the Dag ``lro_demo``, kills some of its tasks as a user
would, prints what happens as it happens, and then a table. All numbers are measured.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from airflow_lro_provider.airflow_compat import local
from airflow_lro_provider.demo.dag_run import DAG_ID, RUN_ID, TASKS_AT_A_TIME, DagRun
from airflow_lro_provider.demo.local_airflow import LocalAirflow, LocalAirflowError
from airflow_lro_provider.demo.printer import Printer
from airflow_lro_provider.demo.report import report
from airflow_lro_provider.emulator import Emulator

__all__ = ["run_demo"]

TRY_IT = "lro_try_it"
CONN_ID = "google_cloud_default"
DAGS = Path(__file__).with_name("dags")
ENVIRONMENT = {
    # Airflow's own default: on a busy machine a task may be without a heartbeat for the 20 s of a local Airflow.
    f"AIRFLOW__SCHEDULER__{local.HEARTBEAT_TIMEOUT}": "300",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",  # with it a running task of Airflow 2 hears of a kill
}
START_WITHIN_SECONDS = 300.0
"""How long Airflow may take to start."""
_COMPONENTS = (*(arguments[0] for arguments in local.components(0)), "triggerer")


def run_demo(*, keep: bool = False, as_json: bool = False, database: str | None = None) -> int:
    """Run the demo.

    :param keep: leave Airflow and the server running until Ctrl-C
    :param as_json: print the rows of the table as JSON at the end, and all else to standard error
    :param database: an empty one for Airflow, as a SQLAlchemy URL; unset, SQLite in the temporary home
    :return: the exit status: 0 if everything was shown, and was as it has to be
    :raises LocalAirflowError: if Airflow does not start, or breaks, or the database is not empty
    """
    out = Printer(sys.stderr if as_json else None)
    out.line("A demo of airflow-lro-provider: tasks of a real Airflow are killed while they wait for operations.")
    out.line("It needs no account and no network, and takes about a minute.")
    out.line()
    if database is not None:
        check_is_empty(database)
    with Emulator() as emulator:
        out.event("server", f"a local server of google.longrunning.Operations: {emulator.url}")
        with _airflow(emulator, out, database) as airflow:
            rows = DagRun(airflow, emulator, out).run()
            status = report(rows, airflow, out)
            if as_json:
                print(json.dumps({"ok": status == 0, "tasks": [row.to_dict() for row in rows]}, indent=2), flush=True)
            if keep:
                _keep(airflow, emulator, out)
            out.event("stopping", "Airflow and the server; the temporary home is removed")
    return status


def check_is_empty(database: str) -> None:
    """Refuse a database that has something in it: it may be that of an Airflow that people work with.

    :raises LocalAirflowError: if it has, or cannot be reached.
    """
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(database)
        try:
            tables = sqlalchemy.inspect(engine).get_table_names()
        finally:
            engine.dispose()
    except Exception as error:  # of SQLAlchemy, or of the driver; its text may have the URL with its password
        reason = type(error).__name__
        raise LocalAirflowError(f"The database cannot be used ({reason}); nothing was changed.") from None
    if tables:
        raise LocalAirflowError(
            f"The database is not empty: it has {len(tables)} table{'s' * (len(tables) > 1)}"
            f" ({', '.join(sorted(tables)[:3])}{', …' * (len(tables) > 3)}). The demo writes connections and Dags of"
            " its own, so it takes only an empty one; nothing was changed."
        )


@contextlib.contextmanager
def _airflow(emulator: Emulator, out: Printer, database: str | None) -> Iterator[LocalAirflow]:
    airflow = _start(out, database)
    try:
        if errors := airflow.import_errors():
            raise LocalAirflowError(f"The demo's Dags could not be read:\n{errors[0]['stack_trace']}")
        out.event("ready", f"Airflow at {airflow.url}")
        airflow.set_connection(CONN_ID, emulator.airflow_connection_json())
        yield airflow
    finally:
        airflow.stop()


def _start(out: Printer, database: str | None, tries: int = 3) -> LocalAirflow:
    """Start Airflow; again on other ports, should another program have taken one of the free ports meanwhile."""
    airflow = LocalAirflow(dags=DAGS, parallelism=TASKS_AT_A_TIME, environment=ENVIRONMENT, database=database)
    out.event("starting", f"a real Airflow in a temporary home; first its database{'' if database else ' (SQLite)'}")
    try:
        with _print_progress(airflow, out):
            return airflow.start(START_WITHIN_SECONDS)
    except LocalAirflowError as error:
        if tries > 1 and "address already in use" in str(error).lower():
            out.event("again", "another program took a port that was free a moment ago")
            return _start(out, database, tries - 1)
        raise LocalAirflowError(f"Airflow did not start. {error}") from error


@contextlib.contextmanager
def _print_progress(airflow: LocalAirflow, out: Printer) -> Iterator[None]:
    """Print what Airflow is doing while it starts."""
    done = threading.Event()

    def print_it() -> None:
        known = False
        while not done.wait(5 if known else 0.2):
            if known:
                out.event("waiting", "for Airflow to be healthy and to know the Dags")
            elif len(airflow.components) == len(_COMPONENTS):
                known = True
                out.event("starting", f"{', '.join(_COMPONENTS[:-1])} and {_COMPONENTS[-1]}")

    thread = threading.Thread(target=print_it, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _keep(airflow: LocalAirflow, emulator: Emulator, out: Printer) -> None:
    """Leave it running for a person, until Ctrl-C."""
    airflow.trigger(TRY_IT)
    out.line()
    out.line("Everything keeps running until you press Ctrl-C. No password is needed:")
    out.line(f"  the run of the demo    {airflow.url}{local.RUN_PAGE.format(DAG_ID, RUN_ID)}")
    out.line(f"  a run to try yourself  {airflow.url}/dags/{TRY_IT}")
    out.line(f"  what the server sees   {emulator.url}/emulator")
    out.line(f"The tasks `poke` and `deferred` of {TRY_IT} wait for operations that never end. Mark one as failed,")
    out.line("and see its operation become CANCELLED on the server's page.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    out.line()
