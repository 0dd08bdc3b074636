"""What the fuzzer begins with: real names, methods, responses and records, and the bricks of attacks on them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from airflow_lro_provider.lro.resources.catalog import known_services
from airflow_lro_provider.sweep.ledger import LedgerEntry

__all__ = [
    "BRICKS",
    "ENDPOINTS",
    "ERRORS",
    "EVENTS",
    "KEYS",
    "LEDGER",
    "METHODS",
    "NAMES",
    "NOW",
    "OPERATIONS",
    "RECORDS",
    "FOOTPRINTS",
]

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
# Names as the services really give them.
SEEDS = [
    ("earthengine", "projects/my-project/operations/FJ2LPU4ZCDLTSGY7O6MUGV4R"),
    ("earthengine", "projects/my-project/operations/EXPORT/part-1"),
    ("developerconnect", "projects/my-project/locations/us-central1/operations/operation-1731-60a1-ab-cd"),
    ("datafusion", "projects/my-project/locations/europe-west1/operations/operation-1698-6089-2f"),
    ("automl", "projects/123/locations/us-central1/operations/ICN4961234567890"),
    ("aiplatform", "projects/123/locations/us-central1/operations/8523948567"),
    ("aiplatform", "projects/123/locations/us-central1/endpoints/456/operations/789"),
    ("aiplatform", "projects/my-org.com:p/locations/europe-west4/models/m@1/operations/7"),
]


def _filled() -> list[tuple[str, str]]:
    """One name for each pattern of each service, with its bracket and without."""
    found = []
    for service in known_services().values():
        for patterns in service.names.values():
            for pattern in patterns:
                for whole in {pattern.replace("[", "").replace("]", ""), pattern.partition("]")[2] or pattern}:
                    name = whole.replace("locations/*", "locations/us-central1").replace("**", "a/b").replace("*", "x1")
                    found.append((service.name, name))
    return sorted(set(found))


NAMES: list[tuple[str, str]] = [*SEEDS, *_filled()]
METHODS = [
    "projects/p/locations/us-central1/instances?instanceId=x",
    "v1/projects/p/locations/us-central1/connections?connectionId=c&validateOnly=true",
    "https://datafusion.googleapis.com/v1/projects/p/locations/us-central1/instances?instanceId=x",
    "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/models:upload",
    "projects/p/image:export",
    "projects/p/locations/us-central1/endpoints/1:deployModel?requestId=00000000-0000-4000-8000-000000000000",
]
ENDPOINTS = [
    *(None, None, None, "https://psc.example", "https://psc.example/{service}", "http://127.0.0.1:8900/{service}"),
    *("https://restricted.googleapis.com", "https://[::1]:8443", "http://localhost"),
]
OPERATIONS: list[dict[str, Any]] = [
    {"name": "projects/p/operations/o", "done": False},
    {"name": "projects/p/operations/o", "done": True, "response": {}},
    {"name": "projects/p/operations/o", "done": True, "error": {"code": 1, "message": "", "details": []}},
    {"name": "projects/p/operations/o", "done": True, "error": {"code": 13, "message": "out of disk"}},
    {
        "name": "projects/p/operations/o",
        "metadata": {
            "@type": "type.googleapis.com/google.earthengine.v1.OperationMetadata",
            "state": "RUNNING",
            "progress": 0.25,
            "stages": [{"displayName": "a", "completeWorkUnits": 1.5, "totalWorkUnits": "7"}],
            "destinationUris": ["https://code.earthengine.google.com/?asset=a"],
            "createTime": "2026-11-01T10:00:00.123456789Z",
            "attempt": 1,
        },
    },
    {
        "name": "projects/p/locations/us-central1/operations/o",
        "metadata": {
            "@type": "type.googleapis.com/google.cloud.datafusion.v1.OperationMetadata",
            "createTime": "2026-11-01T10:00:00Z",
            "endTime": "2026-11-01T10:20:00+01:00",
            "target": "projects/p/locations/us-central1/instances/i",
            "verb": "create",
            "statusDetail": "Creating",
            "requestedCancellation": True,
            "apiVersion": "v1",
        },
        "done": False,
    },
    {
        "name": "projects/p/locations/us-central1/endpoints/1/operations/o",
        "metadata": {
            "genericMetadata": {"createTime": "2026-11-01T10:00:00Z", "partialFailures": [{"code": 3}]},
            "progressPercentage": "40",
            "deploymentStage": "STARTING",
        },
    },
    {
        "metadata": {
            "commonMetadata": {"state": "CANCELLING", "stateMessage": "x", "updateTime": "2026-11-01T10:00:00Z"}
        }
    },
    {
        "metadata": {
            "operationState": "OPERATION_STATE_PENDING",
            "progressBytes": {"completedWork": "1", "estimatedWork": "9"},
        }
    },
    {
        "metadata": {
            "progress": {"progressPercent": 50, "startTime": "2026-11-01T10:00:00Z"},
            "cancelTime": "2026-11-01T10:00:00Z",
        }
    },
    {"operations": [{"name": "projects/p/operations/o"}, {"name": "p", "done": True}], "nextPageToken": "t"},
    {"operations": [], "unreachable": ["locations/x"]},
    {},
]
ERRORS: list[Any] = [
    {"error": {"code": 403, "message": "Permission 'x.get' denied", "status": "PERMISSION_DENIED"}},
    {
        "error": {
            "code": 429,
            "status": "RESOURCE_EXHAUSTED",
            "message": "Quota",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "RATE_LIMIT",
                    "domain": "googleapis.com",
                },
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"},
                {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "abc"},
            ],
        }
    },
    [{"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "Operation has already finished"}}],
    {"error": "invalid_grant", "error_description": "Invalid JWT"},
    {"error": {"errors": [{"domain": "global", "reason": "notFound"}], "code": 404}},
]
_REFERENCE = {"service": "datafusion", "version": "v1", "name": NAMES[3][1], "host": "datafusion.googleapis.com"}
_ENTRY = LedgerEntry("019a-7", "dag", "manual__2026-11-01T10:00:00+00:00", "task", -1, 1, 1_762_000_000.0, _REFERENCE)
RECORDS: list[dict[str, Any]] = [
    _REFERENCE,
    {"reference": _REFERENCE, "try_number": 1, "try_id": "019a4d6e-0000-7000-8000-000000000000", "max_tries": 2},
    {"reference": None, "request_id": "r", "try_number": 1, "try_id": "x", "max_tries": 0, "killed": "why"},
]
FOOTPRINTS: list[dict[str, Any]] = [
    {
        "service": service,
        "version": "v1",
        "host": f"{service}.googleapis.com",
        "parent": "projects/p/locations/us-central1",
        "target": "projects/p/locations/us-central1/instances/x",
        "verb": verb,
    }
    for service, verb in (("datafusion", "create"), ("developerconnect", "delete"), ("redis", ""))
]
_STARTING = replace(_ENTRY, reference=None, start="POST projects/p/locations/l/instances", footprint=FOOTPRINTS[0])
LEDGER: list[str] = [
    *(_ENTRY.to_json(), *_ENTRY.keys, "airflow_lro_provider.ledger.~/019a-7/0123456789abcdef"),
    *(*_STARTING.keys, _STARTING.to_json()),
]
EVENTS: list[dict[str, Any]] = [
    {"status": "finished", "operation": OPERATIONS[1], "owner": "t"},
    {"status": "gone", "message": "m"},
    {"status": "lost", "message": "m"},
    {"status": "deadline", "cause": "timeout", "seconds": 1.5, "cancel_requested": True, "operation": OPERATIONS[0]},
]
KEYS = sorted(
    {
        key
        for document in (*OPERATIONS, *ERRORS[:2], *RECORDS, *FOOTPRINTS, *EVENTS)
        for key in json.dumps(document).split('"')[1::2]
        if key.isidentifier() or key == "@type"
    }
)
# Bricks of names, URLs and attacks on both.
BRICKS = [
    *("projects/", "locations/", "operations/", "/", "//", "///", "://", "https://", "http://", "HTTPS://", "ftp://"),
    *("..", ".", "/../", "/./", "%2F", "%2e%2e", "%252F", "%0d%0a", "%00", "?", "#", "@", ":", "\\", ";", "&", "="),
    *(":cancel", ":wait", ":443", ":0", ":99999", "*", "**", "-", "{", "}", "{service}", "{0}", "{{", "%s", "[", "]"),
    *(
        "[::1]",
        "[::ffff:1.2.3.4]",
        "127.0.0.1",
        "localhost",
        "169.254.169.254",
        "metadata.google.internal",
        "2130706433",
    ),
    *(
        " ",
        "\t",
        "\r\n",
        "\r\nHost: evil.example\r\n",
        "\x00",
        "\x7f",
        "\x1b[2J",
        "\u2028",
        "\u202e",
        "\u00ad",
        "\ufeff",
    ),
    *(
        "evil.example",
        ".evil.example",
        "@evil.example",
        "googleapis.com",
        ".googleapis.com",
        "googleapis.com.evil.example",
    ),
    *(
        "datafusion",
        "aiplatform",
        "us-central1-",
        "us-central1",
        "europe-west4",
        ".rep",
        ".mtls",
        "v1",
        "v1beta1",
        "global",
    ),
    *("\u3002", "\uff0e", "\uff0f", "\u2044", "\u0430", "\u0130", "\u212a", "\u0661", "\ud800", "\U0001f600", "ö", "ß"),
    *(
        "a" * 64,
        "a" * 300,
        "a." * 200,
        "/x" * 300,
        "o" * 3000,
        "xn--",
        "null",
        "None",
        "true",
        "NaN",
        "1e999",
        "-1",
        "0",
    ),
    *(
        "Bearer ya29.x",
        "eyJhbGciOiJSUzI1NiJ9.e30.x",
        "-----BEGIN PRIVATE KEY-----",
        "$&",
        "(default)",
        "~",
        "!",
        "'",
        "+",
        ",",
    ),
]
