"""The ledger and the sweep on a real Airflow: what no hook hears of is cancelled, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_lro_provider.demo.local_airflow import LocalAirflow
from airflow_lro_provider.emulator import Emulator
from tests.e2e.bed.bed import CONNECTION, DAGS_WITH_LEDGER, from_outside
from tests.e2e.bed.lab import Lab, Run
from tests.e2e.bed.starting import begin, operations_of
from tests.e2e.bed.waiting import wait_until


@pytest.fixture(scope="module")
def swept() -> Iterator[Lab]:
    """An Airflow of its own: its ledger is on."""
    with Emulator() as emulator:
        environment = {"AIRFLOW__LRO__LEDGER": "True"}
        with LocalAirflow(dags=DAGS_WITH_LEDGER, environment=environment) as airflow:
            assert airflow.import_errors() == []
            airflow.set_connection(CONNECTION, emulator.airflow_connection_json())
            yield Lab(airflow, emulator, triggerers=1)


def sweep(lab: Lab) -> dict[str, Any]:
    """Sweep once, and give the report."""
    run_id = lab.airflow.trigger("lro_sweep")
    assert lab.airflow.wait_for_run("lro_sweep", run_id) == "success", lab.airflow.log("lro_sweep", run_id, "sweep")
    report: dict[str, Any] = lab.airflow.xcom("lro_sweep", run_id, "sweep")
    return report


@pytest.fixture(autouse=True)
def nothing_is_left_in_the_ledger(swept: Lab) -> None:
    """What a test before this one left behind is ended, and swept."""
    if not swept.runs:
        return
    for view in swept.emulator.operations():
        swept.emulator.finish(view.service, view.name)
    swept.end_runs()
    wait_until(lambda: sweep(swept)["found"] == 0, "the ledger is empty", 120)


def counts(report: dict[str, Any]) -> dict[str, int]:
    """The numbers of a report that are not zero."""
    return {key: value for key, value in report.items() if key != "operations" and value}


def test_the_sweep_ends_what_no_hook_hears_of_and_nothing_else(swept: Lab) -> None:
    """SIGKILL without a retry, a kill between two reschedules: cancelled. Live tasks of all shapes: left alone."""
    lab = swept
    dead = [lab.start("poke").waits(), begin(lab, "run").waits()]
    between = lab.start("reschedule_rarely")  # no busy machine lets it poke when it is killed
    between.reaches("up_for_reschedule")
    living = [lab.start("deferred").waits(), begin(lab, "run_deferred"), begin(lab, "run_retry").waits()]
    names = [lab.emulator.create("datafusion", duration=None) for _ in range(5)]
    mapped = lab.airflow.trigger("mapped", conf={"operations": names})
    wait_until(
        lambda: sum(task["state"] == "deferred" for task in lab.airflow.task_instances("mapped", mapped)) == 5,
        "all five wait",
    )
    for run in (*dead, living[-1]):  # the last one has a retry, which adopts
        os.kill(run.process(), signal.SIGKILL)
    lab.kill(between, "failed")
    for run in dead:
        run.reaches("failed")
    living[-1].reaches_try(2, "running")
    living[-1].is_polled_again("by the next try")

    assert [run.cancels for run in (*dead, between)] == [0, 0, 0], "no hook has heard of it"
    assert counts(sweep(lab)) == {"found": 11, "alive": 8, "cancelled": 3}
    for run in (*dead, between):
        run.is_cancelled()
    assert counts(sweep(lab)) == {"found": 11, "alive": 8, "finished": 3}
    assert [run.cancels for run in (*dead, between)] == [1, 1, 1]
    assert [run.cancels for run in living] == [0, 0, 0]
    assert len(operations_of(living[-1])) == 1
    assert not any(lab.emulator.operation("datafusion", name).cancel_requests for name in names)

    for run in living:
        lab.emulator.finish(run.service, run.operation_name)
        run.reaches("success")
    for name in names:
        lab.emulator.finish("datafusion", name)
    assert lab.airflow.wait_for_run("mapped", mapped) == "success"
    assert counts(sweep(lab)) == {}


def test_an_ordinary_kill_leaves_the_sweep_nothing_to_cancel(swept: Lab) -> None:
    """The hook has cancelled; the sweep confirms it and strikes the entry out. A clear is the next try's."""
    lab = swept
    killed, cleared = begin(lab, "run").waits(), begin(lab, "run_deferred").waits()
    lab.kill(killed, "failed")
    lab.kill(cleared, "clear")
    killed.is_cancelled()
    cleared.is_cancelled()
    [_, new] = wait_until(lambda: len(both := operations_of(cleared)) == 2 and both, "a fresh one starts")
    cleared.reaches_try(2, "deferred")
    time.sleep(2)
    report = sweep(lab)
    assert (report["cancelled"], report["requested"], report["unsure"], report["alive"]) == (0, 0, 0, 1)
    assert (killed.cancels, lab.emulator.operation(cleared.service, new).cancel_requests) == (1, 0)
    lab.emulator.finish(cleared.service, new)
    cleared.reaches("success")
    assert sweep(lab)["found"] == 0


def test_reschedule_mode_works_with_the_ledger(swept: Lab) -> None:
    """A normal end in reschedule mode: nothing cancelled, nothing left in the ledger."""
    run: Run = swept.start("reschedule", duration=10)
    run.reaches("success", timeout=90)
    assert run.cancels == 0
    assert sweep(swept)["found"] == 0


def test_the_from_outside(swept: Lab) -> None:
    """`airflow-lro sweep`: a dry run tells, the run does, by Airflow's public API."""
    lab = swept
    dead, living = lab.start("poke").waits(), begin(lab, "run_deferred").waits()
    os.kill(dead.process(), signal.SIGKILL)
    dead.reaches("failed")

    def command(*options: str) -> subprocess.CompletedProcess[str]:
        return from_outside(lab.airflow, lab.emulator, "sweep", *options)

    told = command("--dry-run")
    assert dead.cancels == 0
    assert "2 found, 1 alive, 0 finished, 0 cancelled, 0 requested, 1 would_cancel, 0 unsure" in told.stdout, told
    assert dead.operation_name in told.stdout
    done = command()
    assert (done.returncode, dead.cancels, living.cancels) == (0, 1, 0), done
    assert "1 finished" in command().stdout
    assert "1 found, 1 alive" in command().stdout
