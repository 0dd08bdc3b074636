"""The details of a status in words: every type of google.rpc, for refused requests and failed operations."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_lro_provider.lro.details import MAX_TEXT, describe, read_details
from airflow_lro_provider.lro.operation import Operation

GOOGLE = "type.googleapis.com/google.rpc."

# All fields are those of google/rpc/error_details.proto.
DETAILS: list[tuple[str, dict[str, Any], str]] = [
    (
        "ErrorInfo",
        {"reason": "SERVICE_DISABLED", "domain": "googleapis.com", "metadata": {"service": "a.googleapis.com"}},
        "SERVICE_DISABLED; service: a.googleapis.com",
    ),
    (
        "BadRequest",
        {
            "fieldViolations": [
                {"field": "instance.type", "description": "must be set"},
                {"field": "x", "reason": "BAD"},
            ]
        },
        "instance.type: must be set; x: BAD",
    ),
    (
        "BadRequest",
        {"fieldViolations": [{"field": "f", "localizedMessage": {"locale": "en", "message": "too long"}}]},
        "f: too long",
    ),
    (
        "PreconditionFailure",
        {"violations": [{"type": "TOS", "subject": "google.com/cloud", "description": "Terms not accepted"}]},
        "TOS google.com/cloud: Terms not accepted",
    ),
    (
        "QuotaFailure",
        {
            "violations": [
                {
                    "subject": "project:p",
                    "description": "CPUs",
                    "quotaMetric": "compute.googleapis.com/cpus",
                    "quotaId": "CPUS-per-region",
                    "quotaValue": "24",
                    "quotaDimensions": {"region": "us-east1"},
                }
            ]
        },
        "project:p: CPUs (metric compute.googleapis.com/cpus, quota CPUS-per-region, limit 24, region us-east1)",
    ),
    (
        "Help",
        {
            "links": [
                {"description": "Enable it", "url": "https://console.example/apis?project=1"},
                {"url": "https://b"},
            ]
        },
        "Enable it: https://console.example/apis?project=1; https://b",
    ),
    ("LocalizedMessage", {"locale": "de", "message": "Nicht erlaubt."}, "Nicht erlaubt"),
    (
        "ResourceInfo",
        {"resourceType": "instance", "resourceName": "i", "owner": "user:a@example.com", "description": "is locked"},
        "instance i: is locked (owner: user:a@example.com)",
    ),
    ("RequestInfo", {"requestId": "r-1", "servingData": "x"}, "request id r-1"),
    ("RetryInfo", {"retryDelay": "3s"}, "retry after 3s"),
    ("DebugInfo", {"detail": "internal", "stackEntries": ["a"]}, ""),
]


@pytest.mark.parametrize(("kind", "fields", "words"), DETAILS)
def test_every_detail_is_in_words(kind: str, fields: dict[str, Any], words: str) -> None:
    """B6: each type of google.rpc, in the text of a failed operation as well."""
    detail = {"@type": GOOGLE + kind, **fields}
    assert describe((detail,)) == words
    error = {"code": 9, "message": "It failed.", "details": [detail]}
    operation = Operation.from_json({"name": "o", "done": True, "error": error})
    assert operation.failure == "FAILED_PRECONDITION: It failed" + (f". {words}" if words else "")


def test_older_errors_are_in_words() -> None:
    """B6: message, place and link of the older `errors` of JSON APIs."""
    older = {"domain": "usageLimits", "reason": "x", "location": "parent", "message": "No", "extendedHelp": "https://h"}
    assert describe((older,)) == "parent: No; https://h"


def test_what_was_said_is_not_repeated() -> None:
    """B6: short: the message says most of it already."""
    detail = {"@type": GOOGLE + "LocalizedMessage", "message": "Not allowed."}
    info = {"@type": GOOGLE + "ErrorInfo", "reason": "R", "metadata": {"a": "b"}}
    assert describe((detail, detail, info), "R: Not allowed.") == "a: b"
    info["metadata"] = {"activationUrl": "https://h/activate", "service": "a.googleapis.com"}
    violations = {"@type": GOOGLE + "BadRequest", "fieldViolations": [{"field": "a.b", "description": "Not set."}]}
    assert describe((info, violations), "R: Not set, see https://h/activate.") == "service: a.googleapis.com; a.b"


@pytest.mark.parametrize("odd", [None, 7, [], {}, [7], [{}], [{"field": 7}], {"a": []}, "x" * 10_000], ids=repr)
@pytest.mark.parametrize("kind", [kind for kind, _, _ in DETAILS] + ["Odd", ""])
def test_odd_details_are_survived(kind: str, odd: Any) -> None:
    """B6: whatever a server sends in their place."""
    keys = ("fieldViolations", "violations", "links", "metadata", "message", "reason", "requestId", "localizedMessage")
    assert len(describe(({"@type": GOOGLE + kind, **dict.fromkeys(keys, odd)},))) <= MAX_TEXT


@pytest.mark.parametrize(
    ("kind", "key", "fields"),
    [
        ("BadRequest", "fieldViolations", {"field": "f", "description": "d"}),
        ("PreconditionFailure", "violations", {"subject": "f", "description": "d"}),
        ("Help", "links", {"description": "f", "url": "d"}),
    ],
)
def test_an_object_in_place_of_a_list_is_one(kind: str, key: str, fields: dict[str, str]) -> None:
    """B6: in a detail, and for all of them, of failed operations as well; and the `errors` of other APIs."""
    detail = {"@type": GOOGLE + kind, key: fields}
    assert describe((detail,)) == "f: d"
    error = {"code": 3, "message": "No.", "details": detail}
    assert Operation.from_json({"name": "o", "done": True, "error": error}).failure == "INVALID_ARGUMENT: No. f: d"
    error = {"errors": [{"code": "RESOURCE_IN_USE", "message": "in use"}]}
    assert Operation.from_json({"name": "o", "done": True, "error": error}).failure == "an error without a code. in use"


class Counted(dict[str, str]):
    """A detail that counts how often it is read."""

    read = 0

    def get(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
        """See :class:`dict`."""
        Counted.read += 1
        return super().get(key, default)


@pytest.mark.parametrize("words", ["the same", "number %d", ""])
def test_few_of_many_details_are_read(words: str) -> None:
    """B6: an error body of two megabytes takes no time to speak of, whatever is in it: an event loop waits for it."""
    Counted.read = 0
    each = [Counted(field="", description=words % index if "%" in words else words) for index in range(40_000)]
    details = [{"@type": GOOGLE + "BadRequest", "fieldViolations": each}] * 3
    text = describe(read_details(details))
    assert len(text) <= MAX_TEXT
    assert Counted.read < 2_000
    error = {"code": 3, "message": "No.", "details": details}
    assert len(Operation.from_json({"name": "o", "done": True, "error": error}).failure) < 2 * MAX_TEXT
    assert Counted.read < 4_000
    quota = {"violations": [{"description": "q", "quotaDimensions": dict.fromkeys(map(str, range(40_000)), "v")}]}
    assert len(describe(({"@type": GOOGLE + "QuotaFailure", **quota},))) <= MAX_TEXT


def test_secrets_in_details_are_hidden() -> None:
    """B16: details are quoted without tokens."""
    detail = {"@type": GOOGLE + "Help", "links": [{"url": "https://h/x?access_token=abc123"}]}
    token = {"@type": GOOGLE + "LocalizedMessage", "message": "Bad ya29.abcdefgh"}
    assert describe((detail, token)) == "https://h/x?access_token=[hidden]; Bad [hidden]"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (8, "RESOURCE_EXHAUSTED: no disk"),
        (404, "code 404: no disk"),
        ("x", "code x: no disk"),
        ("ABORTED", "ABORTED: no disk"),
    ],
)
def test_a_code_is_said_by_its_name(code: Any, words: str) -> None:
    """C11: "(code 8)" is RESOURCE_EXHAUSTED."""
    error = {"code": code, "message": "no disk"}
    assert Operation.from_json({"name": "o", "done": True, "error": error}).failure == words
