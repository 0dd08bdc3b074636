"""What is read from an operation, against the metadata of each system as its API documents it."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_lro_provider.lro.errors import MalformedResponseError
from airflow_lro_provider.lro.operation import Operation, Outcome, State

TYPE = "type.googleapis.com/google."
CREATED = "2026-11-01T10:00:00.123456789Z"
UPDATED = "2026-11-01T10:30:00.5Z"
ENDED = "2026-11-01T11:00:00Z"


def moment(hour: int, minute: int = 0, micro: int = 0) -> datetime:
    """A time of the day on which all operations of this file run."""
    return datetime(2026, 11, 1, hour, minute, 0, micro, tzinfo=timezone.utc)


def running(metadata: Any) -> Operation:
    """An operation that is not over, with this metadata, as it comes off the wire."""
    return Operation.from_json(json.loads(json.dumps({"name": "operations/o", "metadata": metadata})))


# --- the five fields -------------------------------------------------------------------------------


def test_absent_done_means_running() -> None:
    """A missing `done` is false: proto3 JSON leaves false out."""
    operation = Operation.from_json({"name": "operations/o"})
    assert (operation.done, operation.outcome, operation.state) == (False, None, State.RUNNING)


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ({"response": {"@type": "type.googleapis.com/google.protobuf.Empty"}}, Outcome.SUCCEEDED),
        ({"response": {}}, Outcome.SUCCEEDED),
        ({}, Outcome.SUCCEEDED),
        ({"error": None}, Outcome.SUCCEEDED),
        ({"error": {"code": 1, "message": "cancelled by the user"}}, Outcome.CANCELLED),
        ({"error": {"code": 1, "message": ""}}, Outcome.CANCELLED),
        ({"error": {"code": 1}}, Outcome.CANCELLED),
        ({"error": {"code": "1"}}, Outcome.CANCELLED),
        ({"error": {"code": 13, "message": "boom"}}, Outcome.FAILED),
        ({"error": {"code": 499, "message": "an HTTP code is no google.rpc.Code"}}, Outcome.FAILED),
        ({"error": {"message": "no code"}}, Outcome.FAILED),
        ({"error": {}}, Outcome.FAILED),
        ({"error": {}, "response": {"a": 1}}, Outcome.FAILED),
        ({"error": {"code": 0}, "response": {"a": 1}}, Outcome.FAILED),
        ({"error": {"code": True}}, Outcome.FAILED),
        ({"error": {"code": "CANCELLED"}}, Outcome.FAILED),
        ({"error": {"code": 10**400}}, Outcome.FAILED),
    ],
    ids=[
        "empty response",
        "response without a type",
        "neither error nor response",
        "null error",
        "cancelled",
        "cancelled, empty message",
        "cancelled, no message",
        "cancelled, code as a string",
        "failed",
        "failed with 499",
        "error without code",
        "empty error",
        "empty error beside a response",
        "code 0 beside a response",
        "code is a boolean",
        "code is a word",
        "code is no int32",
    ],
)
def test_outcome(result: dict[str, Any], outcome: Outcome) -> None:
    """A finished operation has the outcome that its result says, and no state any more."""
    operation = Operation.from_json({"name": "operations/o", "done": True, **result})
    assert (operation.outcome, operation.state) == (outcome, None)


def test_an_error_without_done_is_not_over() -> None:
    """Only `done` ends an operation: an early error is not yet its outcome."""
    assert Operation.from_json({"name": "operations/o", "error": {"code": 13}}).outcome is None


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (None, None, ""),
        ({"code": 13, "message": "out of disk"}, 13, "out of disk"),
        ({"code": "5"}, 5, "NOT_FOUND"),
        ({"code": 1, "message": ""}, 1, "CANCELLED"),
        ({"code": 7, "message": {"not": "text"}}, 7, "PERMISSION_DENIED"),
        ({"code": 99}, 99, "code 99"),
        ({"code": [1]}, None, "code [1]"),
        ({"code": "ABORTED"}, None, "ABORTED"),
        ({}, 0, "an error without a code"),
    ],
    ids=["none", "plain", "string", "empty message", "odd message", "unknown code", "odd code", "word", "empty"],
)
def test_error_in_words(error: dict[str, Any] | None, code: int | None, message: str) -> None:
    """The code is a number, and an error without a message is called by its code's name."""
    operation = Operation.from_json({"name": "operations/o", "done": True, "error": error})
    assert (operation.error_code, operation.error_message) == (code, message)


def test_everything_is_kept_raw() -> None:
    """Fields that nobody knows, and int64 in their spelling as strings, stay in `raw` as they came."""
    raw = {
        "name": "operations/o",
        "selfLink": "https://storage.googleapis.com/x",
        "metadata": {"@type": TYPE + "new.v9.Thing", "bytes": "9223372036854775807", "inner": {"deep": [1, None]}},
        "response": {"@type": TYPE + "new.v9.Response", "odd": True},
        "done": True,
    }
    operation = Operation.from_json(raw)
    assert operation.raw == raw
    assert operation.metadata["bytes"] == "9223372036854775807"
    assert operation.response == {"@type": TYPE + "new.v9.Response", "odd": True}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "operations/o",
        7,
        True,
        {},
        {"error_description": "a token server's response"},
        {"kind": "compute#operation", "status": "DONE"},
        {"name": 7},
        {"name": None},
        {"name": "operations/o", "done": "true"},
        {"name": "operations/o", "done": 1},
        {"name": "operations/o", "done": None},
        {"name": "operations/o", "done": True, "error": "boom"},
        {"name": "operations/o", "done": True, "error": [{"code": 1}]},
        {"name": "operations/o", "done": True, "error": False},
    ],
    ids=[
        "null",
        "list",
        "string",
        "number",
        "boolean",
        "empty object",
        "another response",
        "compute operation",
        "name is a number",
        "name is null",
        "done is a string",
        "done is a number",
        "done is null",
        "error is a string",
        "error is a list",
        "error is false",
    ],
)
def test_what_is_no_operation_fails_closed(raw: Any) -> None:
    """An unknown shape is an error of its own kind, never a finished or successful operation."""
    with pytest.raises(MalformedResponseError):
        Operation.from_json(raw)


def test_a_repr_holds_no_second_copy() -> None:
    """The raw resource is not repeated in the repr."""
    assert repr(Operation.from_json({"name": "operations/o", "secretField": "x"})).count("secretField") == 0


def test_an_operation_is_a_value() -> None:
    """Two looks that saw the same are equal, and a look cannot be changed."""
    first, second = Operation.from_json({"name": "operations/o"}), Operation.from_json({"name": "operations/o"})
    assert first == second
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.done = True  # type: ignore[misc]


# --- metadata, system by system --------------------------------------------------------------------

READ_BY_DEFAULT: dict[str, Any] = {
    "state": State.RUNNING,
    "progress": None,
    "message": None,
    "target": None,
    "create_time": None,
    "update_time": None,
    "end_time": None,
    "cancel_requested": False,
}

METADATA: dict[str, tuple[Any, dict[str, Any]]] = {
    "Earth Engine, running": (
        {
            "@type": TYPE + "earthengine.v1.OperationMetadata",
            "state": "RUNNING",
            "description": "export of the delta",
            "priority": 100,
            "attempt": 2,
            "type": "EXPORT_IMAGE",
            "progress": 0.25,
            "batchEecuUsageSeconds": 17.5,
            "stages": [
                {"displayName": "Create", "completeWorkUnits": 3, "totalWorkUnits": "4", "description": "tiles"},
                {"displayName": "Write"},
            ],
            "notifications": [{"severity": "WARNING", "topic": "slow", "detail": "…"}],
            "destinationUris": ["gs://bucket/delta/", "gs://bucket/other/"],
            "createTime": CREATED,
            "startTime": "2026-11-01T10:01:00Z",
            "updateTime": UPDATED,
        },
        {
            "progress": 0.25,
            "message": "export of the delta",
            "target": "gs://bucket/delta/",
            "create_time": moment(10, 0, 123456),
            "update_time": moment(10, 30, 500000),
        },
    ),
    "Earth Engine, pending": (
        {"@type": TYPE + "earthengine.v1alpha.OperationMetadata", "state": "PENDING", "progress": 0},
        {"state": State.PENDING, "progress": 0.0},
    ),
    "Earth Engine, progress 1 is all of it": (
        {"@type": TYPE + "earthengine.v1.OperationMetadata", "state": "RUNNING", "progress": 1},
        {"progress": 1.0},
    ),
    "Earth Engine, unspecified": (
        {"@type": TYPE + "earthengine.v1.OperationMetadata", "state": "STATE_UNSPECIFIED"},
        {},
    ),
    "Data Fusion (requestedCancellation with statusDetail)": (
        {
            "@type": TYPE + "cloud.datafusion.v1.OperationMetadata",
            "createTime": CREATED,
            "endTime": ENDED,
            "target": "projects/p/locations/us-central1/instances/i",
            "verb": "create",
            "statusDetail": "provisioning the cluster",
            "requestedCancellation": False,
            "apiVersion": "v1",
            "additionalStatus": {"phase": "2/5"},
        },
        {
            "message": "provisioning the cluster",
            "target": "projects/p/locations/us-central1/instances/i",
            "create_time": moment(10, 0, 123456),
            "end_time": moment(11),
        },
    ),
    "Data Fusion, cancel requested": (
        {"@type": TYPE + "cloud.datafusion.v1.OperationMetadata", "requestedCancellation": True},
        {"state": State.CANCELLING, "cancel_requested": True},
    ),
    "Developer Connect (canonical A)": (
        {
            "@type": TYPE + "cloud.developerconnect.v1.OperationMetadata",
            "createTime": CREATED,
            "endTime": ENDED,
            "target": "projects/p/locations/us-central1/connections/c",
            "verb": "delete",
            "statusMessage": "waiting for GitHub",
            "requestedCancellation": True,
            "apiVersion": "v1",
        },
        {
            "state": State.CANCELLING,
            "message": "waiting for GitHub",
            "target": "projects/p/locations/us-central1/connections/c",
            "create_time": moment(10, 0, 123456),
            "end_time": moment(11),
            "cancel_requested": True,
        },
    ),
    "canonical B (cancelRequested with statusDetail)": (
        {
            "@type": TYPE + "cloud.networkservices.v1.OperationMetadata",
            "createTime": "2026-11-01T10:00:00Z",
            "target": "projects/p/locations/global/meshes/m",
            "verb": "update",
            "statusDetail": "rolling out",
            "cancelRequested": True,
            "apiVersion": "v1",
        },
        {
            "state": State.CANCELLING,
            "message": "rolling out",
            "target": "projects/p/locations/global/meshes/m",
            "create_time": moment(10),
            "cancel_requested": True,
        },
    ),
    "AutoML": (
        {
            "@type": TYPE + "cloud.automl.v1.OperationMetadata",
            "progressPercent": 73,
            "partialFailures": [{"code": 3, "message": "row 7"}],
            "createTime": CREATED,
            "updateTime": UPDATED,
            "createModelDetails": {},
        },
        {"progress": 0.73, "create_time": moment(10, 0, 123456), "update_time": moment(10, 30, 500000)},
    ),
    "Vertex AI (genericMetadata)": (
        {
            "@type": TYPE + "cloud.aiplatform.v1.ImportRagFilesOperationMetadata",
            "genericMetadata": {
                "createTime": CREATED,
                "updateTime": UPDATED,
                "partialFailures": [{"code": 5, "message": "one file"}],
            },
            "progressMessage": "importing 4 of 9 files",
            "progressPercentage": 44,
            "ragCorpusId": "123",
        },
        {
            "progress": 0.44,
            "message": "importing 4 of 9 files",
            "create_time": moment(10, 0, 123456),
            "update_time": moment(10, 30, 500000),
        },
    ),
    "Vertex AI, deploying": (
        {
            "@type": TYPE + "cloud.aiplatform.v1.DeployModelOperationMetadata",
            "genericMetadata": {"createTime": CREATED},
            "deploymentStage": "STARTING_MODEL_SERVER",
        },
        {"create_time": moment(10, 0, 123456)},
    ),
    "Vertex AI, state in genericMetadata": (
        {"@type": TYPE + "cloud.aiplatform.v1.X", "genericMetadata": {"state": "CANCELLING"}},
        {"state": State.CANCELLING, "cancel_requested": True},
    ),
    "Document AI (commonMetadata)": (
        {
            "@type": TYPE + "cloud.documentai.v1.DeployProcessorVersionMetadata",
            "commonMetadata": {
                "state": "RUNNING",
                "stateMessage": "deploying",
                "createTime": CREATED,
                "updateTime": UPDATED,
            },
        },
        {"message": "deploying", "create_time": moment(10, 0, 123456), "update_time": moment(10, 30, 500000)},
    ),
    "Document AI, batch": (
        {"@type": TYPE + "cloud.documentai.v1.BatchProcessMetadata", "state": "WAITING", "stateMessage": "queued"},
        {"state": State.PENDING, "message": "queued"},
    ),
    "Firestore (int64 as strings)": (
        {
            "@type": TYPE + "firestore.admin.v1.ExportDocumentsMetadata",
            "startTime": CREATED,
            "operationState": "PROCESSING",
            "progressDocuments": {"estimatedWork": "9007199254740993", "completedWork": "4503599627370497"},
            "progressBytes": {"estimatedWork": "200", "completedWork": "1"},
            "outputUriPrefix": "gs://bucket/x",
        },
        {"progress": pytest.approx(0.5), "create_time": moment(10, 0, 123456)},
    ),
    "Firestore, initializing": (
        {
            "@type": TYPE + "firestore.admin.v1.ExportDocumentsMetadata",
            "operationState": "OPERATION_STATE_UNSPECIFIED",
            "progressDocuments": {"estimatedWork": "0", "completedWork": "0"},
        },
        {},
    ),
    "Firestore, completed without an estimate": (
        {
            "@type": TYPE + "firestore.admin.v1.FieldOperationMetadata",
            "operationState": "INITIALIZING",
            "progressDocuments": {"completedWork": "7"},
            "endTime": ENDED,
        },
        {"state": State.PENDING, "end_time": moment(11)},
    ),
    "Dataproc (status.state)": (
        {
            "@type": TYPE + "cloud.dataproc.v1.ClusterOperationMetadata",
            "clusterName": "c",
            "status": {"state": "PENDING", "details": "creating VMs"},
            "statusHistory": [],
        },
        {"state": State.PENDING, "message": "creating VMs"},
    ),
    "Dataproc, batch": (
        {
            "@type": TYPE + "cloud.dataproc.v1.BatchOperationMetadata",
            "createTime": CREATED,
            "doneTime": ENDED,
            "description": "a batch",
        },
        {"message": "a batch", "create_time": moment(10, 0, 123456), "end_time": moment(11)},
    ),
    "Spanner (progress.progressPercent, cancelTime)": (
        {
            "@type": TYPE + "spanner.admin.database.v1.CreateBackupMetadata",
            "name": "projects/p/instances/i/backups/b",
            "progress": {"progressPercent": 30, "startTime": CREATED, "endTime": ENDED},
            "cancelTime": UPDATED,
        },
        {
            "state": State.CANCELLING,
            "progress": 0.3,
            "create_time": moment(10, 0, 123456),
            "end_time": moment(11),
            "cancel_requested": True,
        },
    ),
    "Spanner, one progress per statement": (
        {
            "@type": TYPE + "spanner.admin.database.v1.UpdateDatabaseDdlMetadata",
            "progress": [{"progressPercent": 100}, {"progressPercent": 3}],
        },
        {},
    ),
    "Speech": (
        {
            "@type": TYPE + "cloud.speech.v1.LongRunningRecognizeMetadata",
            "progressPercent": 100,
            "startTime": CREATED,
            "lastUpdateTime": UPDATED,
        },
        {"progress": 1.0, "create_time": moment(10, 0, 123456), "update_time": moment(10, 30, 500000)},
    ),
    "Oracle Database (percentComplete)": (
        {"@type": TYPE + "cloud.oracledatabase.v1.OperationMetadata", "percentComplete": 12.5},
        {"progress": 0.125},
    ),
    "Logging (progress is a percentage, cancellationRequested)": (
        {"@type": TYPE + "logging.v2.CopyLogEntriesMetadata", "progress": 40, "cancellationRequested": True},
        {"state": State.CANCELLING, "progress": 0.4, "cancel_requested": True},
    ),
    "ML Engine (isCancellationRequested)": (
        {"@type": TYPE + "cloud.ml.v1.OperationMetadata", "isCancellationRequested": True},
        {"state": State.CANCELLING, "cancel_requested": True},
    ),
    "no metadata": ({}, {}),
    "metadata is a list": ([1, 2], {}),
    "metadata is a string": ("RUNNING", {}),
    "metadata is null": (None, {}),
    "every field of the wrong type": (
        {
            "@type": 7,
            "state": {"value": "CANCELLING"},
            "progress": "half",
            "progressPercent": [50],
            "percentComplete": True,
            "progressDocuments": {"estimatedWork": "many", "completedWork": None},
            "statusMessage": 7,
            "description": {},
            "target": {"name": "x"},
            "destinationUris": [None],
            "createTime": 1730455200,
            "updateTime": "yesterday",
            "endTime": "2026-13-45T99:99:99Z",
            "requestedCancellation": "yes",
            "cancelTime": 5,
            "genericMetadata": "x",
            "commonMetadata": [{}],
        },
        {},
    ),
    "percentages out of range": ({"progressPercent": 101, "progressPercentage": -1, "progress": 250}, {}),
    "no numbers at all": ({"progressPercent": "NaN", "percentComplete": "Infinity", "progress": 10**400}, {}),
    "a state that nobody knows": ({"state": "FROBNICATING"}, {}),
    "a state that nobody knows, cancel requested": (
        {"state": "FROBNICATING", "cancelRequested": True},
        {"state": State.CANCELLING, "cancel_requested": True},
    ),
}


@pytest.mark.parametrize(("metadata", "read"), METADATA.values(), ids=METADATA.keys())
def test_metadata(metadata: Any, read: dict[str, Any]) -> None:
    """Every attribute of a running operation is what its system's metadata says, and None where it says nothing."""
    operation = running(metadata)
    assert {name: getattr(operation, name) for name in READ_BY_DEFAULT} == {**READ_BY_DEFAULT, **read}


@pytest.mark.parametrize(
    "metadata",
    [
        {"@type": TYPE + "earthengine.v1.OperationMetadata", "state": "CANCELLING"},
        {"@type": TYPE + "cloud.documentai.v1.X", "commonMetadata": {"state": "CANCELLING"}},
        {"@type": TYPE + "firestore.admin.v1.ExportDocumentsMetadata", "operationState": "CANCELLING"},
        {"operationState": "OPERATION_STATE_CANCELLING"},
    ],
    ids=["Earth Engine", "Document AI", "Firestore", "prefixed"],
)
def test_a_cancelling_state_is_cancelling(metadata: dict[str, Any]) -> None:
    """Systems that say CANCELLING in their state are CANCELLING."""
    assert running(metadata).state is State.CANCELLING


@pytest.mark.parametrize(
    "metadata",
    [
        {"@type": TYPE + "earthengine.v1.OperationMetadata", "state": "CANCELLING"},
        {"@type": TYPE + "cloud.documentai.v1.X", "commonMetadata": {"state": "CANCELLING"}},
        {"@type": TYPE + "firestore.admin.v1.ExportDocumentsMetadata", "operationState": "CANCELLING"},
    ],
    ids=["Earth Engine", "Document AI", "Firestore"],
)
def test_a_cancelling_state_says_that_a_cancel_was_requested(metadata: dict[str, Any]) -> None:
    """Where the state is all that shows a cancel request, it counts as one."""
    assert running(metadata).cancel_requested is True


def test_target_of_document_ai_is_its_resource() -> None:
    """Document AI calls the resource that it works on `resource`."""
    metadata = {"@type": TYPE + "cloud.documentai.v1.X", "commonMetadata": {"resource": "projects/p/processors/1"}}
    assert running(metadata).target == "projects/p/processors/1"


@pytest.mark.parametrize("outcome", [{"response": {}}, {"error": {"code": 1}}], ids=["succeeded", "cancelled"])
def test_metadata_does_not_overrule_the_end(outcome: dict[str, Any]) -> None:
    """Once it is done, no state of the metadata makes it run again."""
    raw = {"name": "operations/o", "done": True, "metadata": {"state": "RUNNING"}, **outcome}
    assert Operation.from_json(raw).state is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-11-01T10:00:00Z", moment(10)),
        ("2026-11-01T10:00:00.1Z", moment(10, 0, 100000)),
        ("2026-11-01T10:00:00.001002Z", moment(10, 0, 1002)),
        ("2026-11-01T10:00:00.123456789Z", moment(10, 0, 123456)),
        ("2026-11-01T10:00:00.000000999Z", moment(10)),
        ("2026-11-01T12:30:00.25+02:30", moment(10, 0, 250000)),
        ("2026-11-01T05:00:00-05:00", moment(10)),
        ("2026-11-01T10:00:00.1234567890Z", None),
        ("2026-11-01T10:00:00", None),
        ("2026-11-01", None),
        ("2026-02-30T10:00:00Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("2026-11-01T10:00:00+25:00", None),
        ("2026-11-01T10:00:00Z\n", None),
        ("", None),
    ],
    ids=[
        "seconds",
        "1 digit",
        "6 digits",
        "9 digits",
        "nanoseconds are cut, not rounded",
        "offset east",
        "offset west",
        "10 digits",
        "no zone",
        "a date",
        "no such day",
        "year 0",
        "beyond the last year",
        "no such offset",
        "newline",
        "empty",
    ],
)
def test_times(text: str, read: datetime | None) -> None:
    """RFC 3339 times with up to nine digits are read in UTC, and anything else is nothing."""
    operation = running({"createTime": text})
    assert operation.create_time == read
    assert read is None or operation.create_time.tzinfo is timezone.utc  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("metadata", "progress"),
    [
        ({"progress": 0.4}, 0.4),
        ({"progress": 1}, None),
        ({"progress": 1.0}, None),
        ({"progress": 1.5}, 0.015),
        ({"progress": 0}, 0.0),
        ({"@type": TYPE + "cloud.x.v1.M", "progress": 1}, 0.01),
        ({"@type": TYPE + "cloud.x.v1.M", "progress": 100}, 1.0),
        ({"@type": TYPE + "cloud.x.v1.M", "progress": "35"}, 0.35),
        ({"@type": TYPE + "earthengine.v1.OperationMetadata", "progress": 40}, None),
        ({"progressPercent": "99"}, 0.99),
        ({"progressPercent": 200, "progressPercentage": 20}, 0.2),
        ({"progress": {"completedWork": 5, "estimatedWork": 4}}, None),
        ({"progressBytes": {"completedWork": "1", "estimatedWork": "4"}}, 0.25),
    ],
    ids=[
        "a fraction",
        "1 of what?",
        "1.0 of what?",
        "a percentage with a fraction",
        "nothing yet",
        "1 percent",
        "100 percent",
        "a string",
        "Earth Engine above 1",
        "percent as a string",
        "the first that can be",
        "more than estimated",
        "only bytes",
    ],
)
def test_progress_is_a_fraction_or_nothing(metadata: dict[str, Any], progress: float | None) -> None:
    """`progress` is scaled by the type of the metadata, and what cannot be scaled is not guessed."""
    assert running(metadata).progress == progress


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ({"name": "o"}, "RUNNING"),
        ({"name": "o", "metadata": {"state": "PENDING", "statusMessage": "queued"}}, "PENDING · queued"),
        ({"name": "o", "metadata": {"progressPercent": 40, "statusMessage": "hi"}}, "RUNNING · 40% · hi"),
        ({"name": "o", "done": True, "metadata": {"progressPercent": 40}}, "SUCCEEDED"),
        ({"name": "o", "done": True, "error": {"code": 1}}, "CANCELLED"),
        ({"name": "o", "done": True, "error": {"code": 13, "message": "x" * 300}}, "FAILED · " + "x" * 300),
        (
            {"name": "o", "done": True, "error": {"code": 13, "message": "x" * 301}},
            "FAILED · " + "x" * 297 + "...",
        ),
    ],
    ids=["running", "message", "progress", "over", "cancelled", "just short enough", "long"],
)
def test_summary_is_one_short_line(raw: dict[str, Any], line: str) -> None:
    """The line for the log has the state or outcome, the progress while it runs, and a text of at most 300."""
    assert Operation.from_json(raw).summary() == line


def test_words_are_plain_strings() -> None:
    """States and outcomes compare equal to their names, so that XComs and messages can hold them."""
    assert [state.value for state in State] == ["PENDING", "RUNNING", "CANCELLING"]
    assert [outcome.value for outcome in Outcome] == [
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "COMPLETED_DESPITE_CANCEL",
        "CANCEL_UNSUPPORTED",
        "NOT_FOUND",
        "STILL_RUNNING",
    ]
    assert Outcome("CANCELLED") == "CANCELLED"


@pytest.mark.parametrize(
    ("word", "state"),
    [
        *((word, State.PENDING) for word in ("PENDING", "QUEUED", "CREATED", "ACCEPTED", "WAITING", "INITIALIZING")),
        *((word, State.CANCELLING) for word in ("CANCELLING", "CANCELING", "CANCEL_PENDING")),
        *((word, State.RUNNING) for word in ("RUNNING", "PROCESSING", "TRAINING", "FINALIZING", "DONE", "CANCELLED")),
        ("cancelling", State.CANCELLING),
        ("OPERATION_STATE_PENDING", State.PENDING),
    ],
)
def test_state_words(word: str, state: State) -> None:
    """Each word that a service has for its state means one of three, and RUNNING if it is none of the others."""
    assert running({"state": word}).state is state


@pytest.mark.parametrize(
    "field",
    [{"name": "o"}, {"done": True}, {"error": {"code": 1}}, {"response": {}}, {"metadata": {}}],
    ids=lambda field: next(iter(field)),
)
def test_any_field_of_an_operation_makes_one(field: dict[str, Any]) -> None:
    """A validate-only call may respond without a name: one field of an operation is enough to be one."""
    assert Operation.from_json({**field, "unknown": 1}).raw == {**field, "unknown": 1}


def test_a_summary_writes_over_no_terminal_and_no_log() -> None:
    """Control characters of a service's words are replaced, and its line breaks are blanks."""
    raw = {"name": "o", "done": True, "error": {"code": 3, "message": "a\x1b[2Jb\r\n2026-01-01 INFO \u202ec"}}
    assert Operation.from_json(raw).summary() == "FAILED · a\ufffd[2Jb 2026-01-01 INFO \ufffdc"


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "operations/o", "done": True, "response": {"large": "x" * 100}, "metadata": {"@type": "y"}, "odd": 1},
        {"name": "operations/o", "done": True, "error": {"code": 13}},
        {"done": True, "response": {}},
        {"response": {}},
    ],
    ids=["a response", "an error", "nothing else but done", "nothing else"],
)
def test_without_response(raw: dict[str, Any]) -> None:
    """Only the response is left out: the outcome and everything else stay."""
    operation = Operation.from_json(raw)
    smaller = operation.without_response()
    assert smaller.response is None
    assert "response" not in smaller.raw
    assert (smaller.name, smaller.outcome, smaller.error, smaller.metadata) == (
        operation.name,
        operation.outcome,
        operation.error,
        operation.metadata,
    )
    assert {key: value for key, value in raw.items() if key != "response"}.items() <= smaller.raw.items()
    assert operation.raw == raw


UNREAD = {"code": 5, "message": "gs://b/1.csv is not there."}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"metadata": {"genericMetadata": {"partialFailures": [UNREAD]}}}, "NOT_FOUND: gs://b/1.csv is not there"),
        (
            {"metadata": {"partialFailures": [UNREAD, {"code": 3}]}},
            "NOT_FOUND: gs://b/1.csv is not there; INVALID_ARGUMENT",
        ),
        ({"metadata": {"partialFailures": [{"code": 3}] * 20}}, "; ".join(["INVALID_ARGUMENT"] * 3) + "; and 17 more"),
        (
            {"metadata": {"partialFailures": [], "genericMetadata": {"partialFailures": [{"code": 3}]}}},
            "INVALID_ARGUMENT",
        ),
        ({"metadata": {"partialFailures": []}}, ""),
        ({"metadata": {"partialFailures": ["odd", 7, {}]}}, "an error without a code"),
        ({"metadata": {"partialFailures": {"code": 5}}}, "NOT_FOUND"),
        ({"metadata": {"partialFailures": [UNREAD]}, "done": False}, ""),
        ({"metadata": {"partialFailures": [UNREAD]}, "error": {"code": 3}}, ""),
        ({}, ""),
    ],
    ids=repr,
)
def test_what_has_failed_in_part(fields: dict[str, Any], words: str) -> None:
    """Google's provider 16.1 (apache/airflow#51364): an import that has read nothing succeeds at Vertex AI."""
    assert Operation.from_json({"name": "o", "done": True, **fields}).partial_failures == words


EXECUTION = "type.googleapis.com/google.cloud.run.v2.Execution"
TRANSFER = "type.googleapis.com/google.storagetransfer.v1.TransferOperation"
EXECUTION_V1 = "type.googleapis.com/google.cloud.run.v1.Execution"
FINISHED_EXECUTION = {"@type": EXECUTION, "taskCount": 1, "succeededCount": 1}
CANCELLED = [
    {"type": "ResourcesAvailable", "state": "CONDITION_FAILED"},
    {"type": "Completed", "state": "CONDITION_FAILED", "message": "by a person"},
]
CANCELLED_EXECUTION = {"@type": EXECUTION, "taskCount": 3, "succeededCount": 1, "cancelledCount": 2}


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"response": CANCELLED_EXECUTION}, "1 of 3 tasks of the execution succeeded (0 failed, 2 cancelled)"),
        ({"metadata": CANCELLED_EXECUTION}, "1 of 3 tasks of the execution succeeded (0 failed, 2 cancelled)"),
        ({"response": {"@type": EXECUTION, "taskCount": 2, "failedCount": 2}}, "0 of 2 tasks of the execution"),
        ({"response": {"@type": EXECUTION, "taskCount": 3, "succeededCount": 3}}, None),
        ({"response": {"@type": EXECUTION}}, None),
        ({"response": {**CANCELLED_EXECUTION, "deleteTime": "2026-11-01T10:00:00Z"}}, None),
        ({"response": {**CANCELLED_EXECUTION, "@type": "type.googleapis.com/google.cloud.run.v2.Job"}}, None),
        ({"response": {**CANCELLED_EXECUTION, "taskCount": "many"}}, "1 of 3 tasks of the execution succeeded"),
        ({"response": {"@type": EXECUTION, "cancelledCount": 2}}, "0 of 2 tasks of the execution succeeded"),
        (
            {"response": {**FINISHED_EXECUTION, "conditions": [{"type": "Completed", "state": "CONDITION_FAILED"}]}},
            "the execution is not completed",
        ),
        ({"response": {**FINISHED_EXECUTION, "conditions": CANCELLED}}, "the execution is not completed: by a person"),
        ({"response": {**FINISHED_EXECUTION, "conditions": [CANCELLED[0]]}}, None),
        ({"response": {**FINISHED_EXECUTION, "conditions": "odd"}}, None),
        (
            {"response": {"@type": EXECUTION_V1, "spec": {"taskCount": 3}, "status": {"succeededCount": 1}}},
            "1 of 3 tasks of the execution succeeded",
        ),
        ({"response": {"@type": EXECUTION_V1, "status": {"failedCount": 1, "cancelledCount": 2}}}, "0 of 3 tasks"),
        (
            {"response": {"@type": EXECUTION_V1, "status": {"conditions": [{"type": "Completed", "status": "False"}]}}},
            "the execution is not completed",
        ),
        ({"response": {"@type": EXECUTION_V1, "spec": {"taskCount": 1}, "status": {"succeededCount": 1}}}, None),
        ({"response": CANCELLED_EXECUTION, "done": False}, None),
        ({"metadata": {"@type": TRANSFER, "status": "ABORTED"}}, "the transfer's status is ABORTED"),
        ({"metadata": {"@type": TRANSFER, "status": "FAILED"}}, "the transfer's status is FAILED"),
        ({"metadata": {"@type": TRANSFER, "status": "FAILED"}, "error": {"code": 3}}, None),
        ({"metadata": {"@type": TRANSFER, "status": "SUCCESS"}}, None),
        ({"metadata": {"status": "FAILED"}}, None),
        ({"response": ["odd"]}, None),
        ({}, None),
    ],
    ids=repr,
)
def test_a_failure_inside_a_success(fields: dict[str, Any], failure: str | None) -> None:
    """B13: some services report what has failed in an operation that is done without an error."""
    found = Operation.from_json({"name": "o", "done": True, **fields}).hidden_failure
    assert found is None if failure is None else (found is not None and found.startswith(failure))


def test_what_its_start_has_sent_is_in_no_words_of_it() -> None:
    """M2: neither in its error nor in what its metadata says to people; names, results and the rest stay."""
    metadata = {
        "target": "projects/hunter2",
        "statusMessage": "hunter2 is set",
        "genericMetadata": {"partialFailures": [{"code": 3, "message": "no hunter2"}], "createTime": CREATED},
    }
    error = {"code": 3, "message": "hunter2 is bad", "details": [{"@type": "x", "b": ["hunter2"]}]}
    raw = {"name": "operations/hunter2", "done": True, "metadata": metadata, "error": error}
    hidden = Operation.from_json(raw).without(["hunter2"])
    assert (hidden.name, hidden.target, hidden.message) == (raw["name"], "projects/hunter2", "[hidden] is set")
    assert (hidden.failure, hidden.outcome) == ("INVALID_ARGUMENT: [hidden] is bad", Outcome.FAILED)
    assert hidden.raw["error"] == hidden.error == {**error, "message": "[hidden] is bad", "details": [
        {"@type": "x", "b": ["[hidden]"]}
    ]}  # fmt: skip
    assert hidden.raw["metadata"] == hidden.metadata
    assert hidden.metadata["genericMetadata"]["partialFailures"][0]["message"] == "no [hidden]"
    polled = Operation(name="operations/o", done=True, response={"password": "hunter2"}, lacks_response=True)
    assert polled.without(["hunter2"]) == polled
    condition = {"type": "Completed", "state": "CONDITION_FAILED", "message": "hunter2"}
    execution = {"@type": f"{TYPE}cloud.run.v2.Execution", "name": "hunter2", "conditions": [condition]}
    failed = Operation.from_json({"done": True, "response": execution}).without(["hunter2"])
    assert failed.hidden_failure == "the execution is not completed: [hidden]"
    assert failed.raw["response"]["name"] == "hunter2"


def test_a_summary_without_words() -> None:
    """M2: state and progress only, whatever the service says."""
    operation = running({"statusMessage": "hunter2", "progressPercent": 40})
    assert (operation.summary(), operation.summary(words=False)) == ("RUNNING · 40% · hunter2", "RUNNING · 40%")
    failed = Operation.from_json({"done": True, "error": {"code": 3, "message": "hunter2"}})
    assert failed.summary(words=False) == "FAILED"


@pytest.mark.parametrize(("message", "shown"), [("...", "RUNNING"), ("RUNNING.", "RUNNING"), ("a.", "RUNNING · a")])
def test_a_message_that_says_nothing_more_is_left_out(message: str, shown: str) -> None:
    """Dots at its end are none of it: a colon and the name follow in a log."""
    assert Operation("o", metadata={"state": "RUNNING", "statusDetail": message}).summary() == shown
