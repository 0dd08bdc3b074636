"""The ``metadata`` that each system writes into its operations: one function per shape.

An API of the catalog without a shape of its own here gets :func:`canonical`, the shape that most of
Google's APIs share. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

__all__ = ["Snapshot", "metadata_of"]


@dataclass(frozen=True)
class Snapshot:
    """The state of an operation at one moment. Times are in seconds since the epoch.

    :param service: the API's discovery name.
    :param version: the API version that started it.
    :param state: PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED.
    :param progress: from 0 to 1.
    :param verb: what it does to its target: create, update, delete or a method's own name.
    :param target: the resource that it works on.
    :param message: the state in words.
    :param cancel_requested: whether a cancel request was accepted while it ran.
    :param created_at: when it was created.
    :param started_at: when it began to run; ``None`` if it has not.
    :param updated_at: when its state last changed.
    :param ended_at: when it ended; ``None`` while it runs.
    """

    service: str
    version: str
    state: str
    progress: float
    verb: str
    target: str
    message: str
    cancel_requested: bool
    created_at: float
    started_at: float | None
    updated_at: float
    ended_at: float | None


def metadata_of(snapshot: Snapshot) -> dict[str, Any]:
    """The metadata, in the shape of its system."""
    return _SHAPES.get(snapshot.service, canonical)(snapshot)


def canonical(snapshot: Snapshot) -> dict[str, Any]:
    """The shape of most APIs, Developer Connect among them: no state, no progress, a flag and a text."""
    return {
        "@type": _type(snapshot, f"google.cloud.{snapshot.service}"),
        "createTime": _time(snapshot.created_at),
        **_end_time(snapshot),
        "target": snapshot.target,
        "verb": snapshot.verb,
        "statusMessage": snapshot.message,
        "requestedCancellation": snapshot.cancel_requested,
        "apiVersion": snapshot.version,
    }


def data_fusion(snapshot: Snapshot) -> dict[str, Any]:
    """A mixed shape: the flag of the canonical one, but ``statusDetail`` for the text."""
    metadata = canonical(snapshot)
    metadata["statusDetail"] = metadata.pop("statusMessage")
    return metadata


def earth_engine(snapshot: Snapshot) -> dict[str, Any]:
    """A state of its own, progress from 0 to 1, and stages; cancelling is a state, there is no flag."""
    first, second = min(snapshot.progress * 2, 1.0), max(snapshot.progress * 2 - 1, 0.0)
    started = {} if snapshot.started_at is None else {"startTime": _time(snapshot.started_at)}
    return {
        "@type": _type(snapshot, "google.earthengine"),
        "state": snapshot.state,
        "description": snapshot.target.rpartition("/")[2],
        "priority": 100,
        "createTime": _time(snapshot.created_at),
        "updateTime": _time(snapshot.updated_at),
        **started,
        **_end_time(snapshot),
        "type": "EXPORT_IMAGE",
        "attempt": 1,
        "progress": _double(snapshot.progress),
        "stages": [
            _stage("Create Local Files", "Computation and writing of temporary files.", first),
            _stage("Write Files to Destination", "Uploading of results.", second),
        ],
    }


def automl(snapshot: Snapshot) -> dict[str, Any]:
    """A whole percentage and one message about the kind of work; neither state nor flag."""
    kind = "Dataset" if "/datasets" in snapshot.target else "Model"
    work = f"create{kind}" if snapshot.verb == "create" else snapshot.verb
    return {
        "@type": _type(snapshot, "google.cloud.automl"),
        "progressPercent": int(snapshot.progress * 100),
        "partialFailures": [],
        "createTime": _time(snapshot.created_at),
        "updateTime": _time(snapshot.updated_at),
        f"{work}Details": {},
    }


def vertex(snapshot: Snapshot) -> dict[str, Any]:
    """A message per kind of work, wrapped around ``genericMetadata``, which has two times; no end, no state."""
    return {
        "@type": _type(snapshot, "google.cloud.aiplatform", message=f"{_kind_of_work(snapshot)}OperationMetadata"),
        "genericMetadata": {
            "createTime": _time(snapshot.created_at),
            "updateTime": _time(snapshot.updated_at),
        },
        "progressMessage": snapshot.message,
    }


def cloud_run(snapshot: Snapshot) -> dict[str, Any]:
    """Of a job that is run, its execution (https://docs.cloud.google.com/run/docs/reference/rest/v2/projects.locations.jobs/run)."""
    collection, _, job = snapshot.target.rpartition("/")
    if snapshot.verb != "run" or not collection.endswith("/jobs"):
        return canonical(snapshot)
    started = {} if snapshot.started_at is None else {"startTime": _time(snapshot.started_at)}
    ended = {} if snapshot.ended_at is None else {"completionTime": _time(snapshot.ended_at)}
    return {
        "@type": _type(snapshot, "google.cloud.run", message="Execution"),
        "name": f"{snapshot.target}/executions/{job}-{round(snapshot.created_at * 1000) % 16**5:05x}",
        "job": job,
        "createTime": _time(snapshot.created_at),
        **started,
        **ended,
        "taskCount": 1,
        **({"succeededCount": 1} if snapshot.state == "SUCCEEDED" else {}),
    }


_SHAPES: dict[str, Callable[[Snapshot], dict[str, Any]]] = {
    "aiplatform": vertex,
    "automl": automl,
    "datafusion": data_fusion,
    "developerconnect": canonical,
    "earthengine": earth_engine,
    "run": cloud_run,
}


def _type(snapshot: Snapshot, package: str, message: str = "OperationMetadata") -> str:
    return f"type.googleapis.com/{package}.{snapshot.version}.{message}"


def _kind_of_work(snapshot: Snapshot) -> str:
    """``CreateEndpoint``, ``DeleteModel``; a method's own name (``deployModel``) already says it."""
    if snapshot.verb not in ("create", "update", "delete"):
        return snapshot.verb[:1].upper() + snapshot.verb[1:]
    parts = snapshot.target.split("/")
    # A resource is collection/id; a collection alone is what a create request without an id names.
    collection = parts[-1] if len(parts) % 2 else parts[-2]
    return snapshot.verb.capitalize() + collection[:1].upper() + collection[1:].removesuffix("s")


def _stage(name: str, description: str, done: float) -> dict[str, Any]:
    # The total is an int64, which proto3 JSON writes as a string.
    return {
        "displayName": name,
        "description": description,
        "completeWorkUnits": _double(done),
        "totalWorkUnits": "1",
    }


def _double(value: float) -> float:
    """A double as proto3 JSON writes it: 1, not 1.0."""
    value = round(value, 4)
    return int(value) if value.is_integer() else value


def _end_time(snapshot: Snapshot) -> dict[str, str]:
    return {} if snapshot.ended_at is None else {"endTime": _time(snapshot.ended_at)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
