"""Waiting for operations on a real Airflow: every mode, every outcome."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_lro_provider.lro.resources.catalog import SYSTEMS
from tests.e2e.bed.lab import Lab
from tests.e2e.bed.waiting import wait_until

MODES = ["poke", "deferred"]


@pytest.mark.parametrize("mode", MODES)
def test_a_sensor_waits_for_each_system(lab: Lab, mode: str) -> None:
    """An operation of every system is waited for, its result returned, and nothing is cancelled."""
    response = {"@type": "type.googleapis.com/Thing", "size": "3"}
    for run in [lab.start(mode, service=service, duration=6, response=response) for service in SYSTEMS]:
        run.reaches("success")
        result = run.result()
        assert result["outcome"] == "SUCCEEDED"
        assert result["operation"]["name"] == run.operation_name
        assert result["operation"]["response"]["size"] == "3"
        assert run.cancels == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_operation_fails_the_task_without_a_retry(lab: Lab, mode: str) -> None:
    """The operation's own error is the task's, and a finished operation is not waited for again."""
    run = lab.start(f"{mode}_retry", duration=5, error={"code": 8, "message": "quota of disks is used up"})
    assert run.reaches("failed")["try_number"] == 1
    assert "RESOURCE_EXHAUSTED: quota of disks is used up" in run.log()
    assert run.cancels == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_operation_is_a_success_of_the_sensor(lab: Lab, mode: str) -> None:
    """The sensor waits until CANCELLED or done: a cancel by somebody else is what it waited for."""
    run = lab.start(mode).waits()
    lab.emulator.finish("datafusion", run.operation_name, error={"code": 1})
    run.reaches("success")
    assert run.result()["outcome"] == "CANCELLED"


@pytest.mark.parametrize("mode", MODES)
def test_a_large_response_can_be_kept_out(lab: Lab, mode: str) -> None:
    """include_response=False leaves the response out of XCom."""
    run = lab.start(f"{mode}_small", duration=5, response={"rows": "x" * 1000})
    run.reaches("success")
    assert "response" not in run.result()["operation"]


@pytest.mark.parametrize("mode", MODES)
def test_an_unknown_operation_fails_the_task(lab: Lab, mode: str) -> None:
    """A name that the service does not know is an error after a short grace, and not waited for."""
    missing = lab.run(mode, "projects/p/locations/l/operations/missing")
    lab.runs.remove(missing)
    missing.reaches("failed")
    assert "was not found" in missing.log()


def test_bad_input_fails_at_once_and_sends_nothing(lab: Lab) -> None:
    """A name that is only known at run time is refused first thing, without a retry and without a request."""
    run = lab.run("poke_retry", "projects/p/locations/l/operations/../../secrets/s")
    lab.runs.remove(run)
    assert run.reaches("failed")["try_number"] == 1
    assert "it has the part '..'" in run.log()
    assert lab.emulator.requests(name=run.operation_name) == []


def test_reschedule_mode_works_for_an_observer(lab: Lab) -> None:
    """With cancel_on_kill=False the sensor may free its worker between two looks."""
    run = lab.start("reschedule_observer", duration=12)
    run.reaches("up_for_reschedule", "success", timeout=60)
    run.reaches("success")


def test_mapped_sensors_wait_for_the_dicts_of_an_upstream_task(lab: Lab) -> None:
    """`.expand()` over operations that another task returned: each mapped task has its own."""
    names = [lab.emulator.create("datafusion", duration=6) for _ in range(3)]
    run_id = lab.airflow.trigger("mapped", conf={"operations": names})
    for index, name in enumerate(names):
        lab.airflow.wait_for_state("mapped", run_id, "it", "success", map_index=index)
        assert lab.airflow.xcom("mapped", run_id, "it", map_index=index)["operation"]["name"] == name


TRUTHS: list[tuple[str, dict[str, Any], str]] = [
    ("cancel", {}, "CANCELLED"),
    ("cancel", {"cancel_delay": 5}, "CANCELLED"),
    ("cancel_deferred", {"cancel_delay": 6}, "CANCELLED"),
    ("cancel", {"cancel": "ignore"}, "COMPLETED_DESPITE_CANCEL"),
    ("cancel_deferred", {"cancel": "ignore"}, "COMPLETED_DESPITE_CANCEL"),
    ("cancel", {"duration": 0}, "SUCCEEDED"),
    ("cancel", {"duration": 0, "error": {"code": 13, "message": "broken"}}, "FAILED"),
    ("cancel_any", {"cancel": "unimplemented"}, "CANCEL_UNSUPPORTED"),
    ("cancel_any", {"cancel": "ignore"}, "STILL_RUNNING"),
    ("cancel_request", {"cancel_delay": 600}, "STILL_RUNNING"),
]


def test_the_cancel_operator_tells_the_truth(lab: Lab) -> None:
    """What really became of each operation is what the task returns."""
    runs = [(lab.start(dag_id, **script), outcome) for dag_id, script, outcome in TRUTHS]
    for run, outcome in runs:
        if outcome == "COMPLETED_DESPITE_CANCEL":
            run.completes_despite_cancel()
    for run, outcome in runs:
        run.reaches("success")
        assert (run.dag_id, run.result()["outcome"]) == (run.dag_id, outcome)
        assert run.result()["operation"]["name"] == run.operation_name


@pytest.mark.parametrize(
    ("script", "words"),
    [({"cancel": "unimplemented"}, "cannot cancel it"), ({"name": "gone"}, "was not found")],
    ids=["unsupported", "not found"],
)
def test_the_cancel_operator_fails_by_default_where_nothing_was_cancelled(
    lab: Lab, script: dict[str, Any], words: str
) -> None:
    """Unsupported and not found fail the task, with a sentence that says so."""
    if "name" in script:
        run = lab.run("cancel", "projects/p/locations/l/operations/gone")
        lab.runs.remove(run)
    else:
        run = lab.start("cancel", **script)
    run.reaches("failed")
    assert words in run.log()


def test_branching_on_the_outcome(lab: Lab) -> None:
    """The result of the cancel operator can be branched on as it is."""
    run = lab.start("branching", cancel="ignore")
    run.completes_despite_cancel()
    lab.airflow.wait_for_run(run.dag_id, run.run_id)
    states = {task["task_id"]: task["state"] for task in lab.airflow.task_instances(run.dag_id, run.run_id)}
    assert (states["undo"], states["go_on"]) == ("success", "skipped")


@pytest.mark.parametrize("dag_id", ["poke", "deferred"])
def test_the_link_to_the_console_is_there(lab: Lab, dag_id: str) -> None:
    """The task has a link that the web interface shows, while it waits and when it has ended."""
    run = lab.start(dag_id, service="aiplatform").waits()
    path = f"dags/{dag_id}/dagRuns/{run.run_id}/taskInstances/it/links"
    link = wait_until(lambda: lab.airflow.api("GET", path)["extra_links"].get("Google Console"), "its link")
    assert run.state in ("running", "deferred")
    lab.emulator.finish("aiplatform", run.operation_name)
    run.reaches("success")
    assert lab.airflow.api("GET", path)["extra_links"]["Google Console"] == link
    assert link.startswith("https://console.cloud.google.com/vertex-ai?project=")
