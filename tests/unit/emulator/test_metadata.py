from __future__ import annotations

import dataclasses

import pytest

from airflow_lro_provider.emulator.store import Store
from airflow_lro_provider.lro.operation import Operation, State
from airflow_lro_provider.lro.resources.catalog import known_services

PARENTS = {"earthengine": "projects/p"}
FIVE = ["aiplatform", "automl", "datafusion", "developerconnect", "earthengine"]


def start(store: Store, service: str, target: str = "things/t", verb: str = "create", **script) -> str:
    parent = PARENTS.get(service, "projects/p/locations/us-central1")
    script = {"duration": 10, "cancel_delay": 4, **script}
    return store.create(service, parent=parent, target=f"{parent}/{target}", verb=verb, script=script).name


def metadata(store: Store, service: str, name: str) -> dict:
    return store.get(service, name).operation["metadata"]


def test_developer_connect_has_the_canonical_shape(store, clock):
    """Developer Connect: two times, target, verb, a text and a flag; the end only once there is one."""
    name = start(store, "developerconnect", "connections/c")
    clock.turn(2.5)
    assert metadata(store, "developerconnect", name) == {
        "@type": "type.googleapis.com/google.cloud.developerconnect.v1.OperationMetadata",
        "createTime": "2027-01-15T08:00:00.000000Z",
        "target": "projects/p/locations/us-central1/connections/c",
        "verb": "create",
        "statusMessage": "Running.",
        "requestedCancellation": False,
        "apiVersion": "v1",
    }
    store.cancel("developerconnect", name)
    assert metadata(store, "developerconnect", name)["requestedCancellation"] is True
    clock.turn(4)
    assert metadata(store, "developerconnect", name)["endTime"] == "2027-01-15T08:00:06.500000Z"


def test_data_fusion_mixes_two_shapes(store):
    """Data Fusion: the flag of the canonical shape, but statusDetail for its text."""
    name = start(store, "datafusion")
    store.cancel("datafusion", name)
    seen = metadata(store, "datafusion", name)
    assert seen["@type"] == "type.googleapis.com/google.cloud.datafusion.v1.OperationMetadata"
    assert (seen["requestedCancellation"], seen["statusDetail"]) == (True, "Cancellation requested.")
    assert "statusMessage" not in seen


def test_earth_engine_has_a_state_and_stages(store, clock):
    """Earth Engine: a state of its own, progress from 0 to 1, stages, four times."""
    name = start(store, "earthengine", "image", verb="export", pending=2)
    assert metadata(store, "earthengine", name)["state"] == "PENDING"
    assert "startTime" not in metadata(store, "earthengine", name)
    clock.turn(8)
    seen = metadata(store, "earthengine", name)
    assert seen["@type"] == "type.googleapis.com/google.earthengine.v1.OperationMetadata"
    assert (seen["state"], seen["progress"], seen["startTime"]) == ("RUNNING", 0.75, "2027-01-15T08:00:02.000000Z")
    assert [stage["completeWorkUnits"] for stage in seen["stages"]] == [1, 0.5]
    assert {stage["totalWorkUnits"] for stage in seen["stages"]} == {"1"}
    store.cancel("earthengine", name)
    assert metadata(store, "earthengine", name)["state"] == "CANCELLING"
    clock.turn(2)
    seen = metadata(store, "earthengine", name)
    assert (seen["state"], seen["progress"], seen["endTime"]) == ("SUCCEEDED", 1, "2027-01-15T08:00:10.000000Z")


@pytest.mark.parametrize(
    ("target", "verb", "details"),
    [
        ("datasets/d", "create", "createDataset"),
        ("models/m", "create", "createModel"),
        ("models/m", "deploy", "deploy"),
    ],
)
def test_automl_has_a_whole_percentage(store, clock, target, verb, details):
    """AutoML: progressPercent is an int, and there is one message about the kind of work."""
    name = start(store, "automl", target, verb)
    clock.turn(3.337)
    seen = metadata(store, "automl", name)
    assert seen["@type"] == "type.googleapis.com/google.cloud.automl.v1.OperationMetadata"
    assert repr(seen["progressPercent"]) == "33"
    assert f"{details}Details" in seen


@pytest.mark.parametrize(
    ("target", "verb", "message"),
    [
        ("endpoints", "create", "CreateEndpoint"),
        ("endpoints/5", "delete", "DeleteEndpoint"),
        ("endpoints/5", "deployModel", "DeployModel"),
    ],
)
def test_vertex_wraps_its_metadata(store, clock, target, verb, message):
    """Vertex AI: times stand in genericMetadata; there is no state, no flag and no end."""
    name = start(store, "aiplatform", target, verb)
    clock.turn(1)
    store.cancel("aiplatform", name)
    seen = metadata(store, "aiplatform", name)
    assert seen["@type"] == f"type.googleapis.com/google.cloud.aiplatform.v1.{message}OperationMetadata"
    assert seen["genericMetadata"] == {
        "createTime": "2027-01-15T08:00:00.000000Z",
        "updateTime": "2027-01-15T08:00:01.000000Z",
    }
    assert "requestedCancellation" not in seen


def test_a_run_of_cloud_run_is_an_execution(store, clock):
    """Cloud Run: the metadata of a job's run is its execution, which a task may cancel; other methods have another."""
    name = start(store, "run", "jobs/j", "run")
    seen = metadata(store, "run", name)
    assert seen["@type"] == "type.googleapis.com/google.cloud.run.v2.Execution"
    assert seen["name"].startswith("projects/p/locations/us-central1/jobs/j/executions/j-")
    clock.turn(20)
    ended = Operation.from_json(store.get("run", name).operation)
    assert (ended.metadata["name"], ended.metadata["succeededCount"]) == (seen["name"], 1)
    assert ended.hidden_failure is None
    assert metadata(store, "run", start(store, "run", "services/s"))["target"].endswith("services/s")


def test_an_api_without_a_shape_of_its_own_gets_the_canonical_one(clock):
    """A line in the table of services is enough: everything else comes from it."""
    notebooks = dataclasses.replace(known_services()["developerconnect"], name="notebooks", host="notebooks.x")
    store = Store(clock, {"notebooks": notebooks})
    view = store.create("notebooks")
    assert view.operation["metadata"]["@type"] == "type.googleapis.com/google.cloud.notebooks.v1.OperationMetadata"
    assert view.operation["metadata"]["requestedCancellation"] is False


def test_metadata_names_the_version_that_started_it(store):
    """An operation of v1beta1 has metadata of v1beta1."""
    view = store.create("datafusion", version="v1beta1")
    assert view.operation["metadata"]["apiVersion"] == "v1beta1"
    assert ".v1beta1." in view.operation["metadata"]["@type"]


@pytest.mark.parametrize("service", FIVE)
def test_the_core_reads_every_shape(store, clock, service):
    """What the emulator writes is what our own reader understands: times, state, progress, end."""
    name = start(store, service)
    clock.turn(5)
    seen = Operation.from_json(store.get(service, name).operation)
    assert seen.state is State.RUNNING
    assert seen.create_time is not None
    assert seen.create_time.timestamp() == clock.now - 5
    assert seen.progress == (0.5 if service in ("earthengine", "automl") else None)
    store.cancel(service, name)
    says_so = service not in ("automl", "aiplatform")
    assert Operation.from_json(store.get(service, name).operation).state is (
        State.CANCELLING if says_so else State.RUNNING
    )
    clock.turn(4)
    assert Operation.from_json(store.get(service, name).operation).outcome == "CANCELLED"
