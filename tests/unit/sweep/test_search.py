"""By what an operation is found whose start was never answered."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.sweep.search import ARRIVAL_SECONDS, CLOCK_SKEW_SECONDS, StartFootprint, find, footprint_of

L = "projects/p/locations/us-central1"
NOW = 1_700_000_000.0


def traces(
    path: str, http_method: str = "POST", service: str = "datafusion", body: Any = None
) -> StartFootprint | None:
    """Of a method."""
    return footprint_of(read_method(path, http_method, service), body)


@pytest.mark.parametrize(
    ("path", "http_method", "body", "target", "verb"),
    [
        (f"{L}/instances?instanceId=x", "POST", None, f"{L}/instances/x", "create"),
        (f"{L}/instances?instanceId=x&requestId=r", "POST", None, f"{L}/instances/x", "create"),
        (f"{L}/instances", "POST", {"instanceId": "x", "requestId": "r"}, f"{L}/instances/x", "create"),
        (f"v1/{L}/instances/x:restart", "POST", {}, f"{L}/instances/x", ""),
        (f"{L}/instances/x", "PATCH", {}, f"{L}/instances/x", ""),
        (f"{L}/instances/x", "DELETE", None, f"{L}/instances/x", "delete"),
    ],
)
def test_what_a_start_works_on(path: str, http_method: str, body: Any, target: str, verb: str) -> None:
    """A create names its id; all others are called on the resource itself."""
    found = traces(path, http_method, body=body)
    assert found is not None
    assert (found.target, found.verb, found.parent) == (target, verb, L)
    assert (found.place.name, found.place.host) == (L, "datafusion.googleapis.com")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{L}/instances", None),
        (f"{L}/instances?instanceId=", None),
        (f"{L}/instances?instanceId=x&otherId=y", None),
        (f"{L}/instances", {"instanceId": 3}),
        (f"{L}/instances", {"name": "x", "requestId": "r"}),
    ],
)
def test_a_start_that_does_not_say_what_it_creates_leaves_no_traces(path: str, body: Any) -> None:
    """The service makes up a name, or there are two ids: it is not guessed."""
    assert traces(path, body=body) is None


def test_a_project_with_a_colon_is_no_custom_verb() -> None:
    """`example.com:project` is an old, valid project id."""
    found = traces("projects/example.com:p/locations/l/instances/x:restart")
    assert found is not None
    assert found.target == "projects/example.com:p/locations/l/instances/x"


def test_traces_survive_being_stored() -> None:
    """As JSON; what is none is none."""
    found = traces(f"{L}/instances?instanceId=x")
    assert found is not None
    assert StartFootprint.from_dict(found.to_dict()) == found
    for junk in (None, [], {}, "\ud800", {**found.to_dict(), "target": 3}):
        assert StartFootprint.from_dict(junk) is None


def operation(target: str | None = f"{L}/instances/x", at: float | None = NOW, **metadata: Any) -> Operation:
    """One of a list."""
    told = dict(metadata)
    if target is not None:
        told["target"] = target
    if at is not None:
        told["createTime"] = datetime.fromtimestamp(at, timezone.utc).isoformat()
    return Operation.from_json({"name": f"{L}/operations/o", "metadata": told})


def found(*operations: Operation) -> tuple[int, bool]:
    """How many are meant, and whether that is certain."""
    sought = traces(f"{L}/instances?instanceId=x")
    assert sought is not None
    answer = find(sought, operations, NOW)
    return len(answer.operations), answer.is_certain


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (operation(), (1, True)),
        (operation(verb="create"), (1, True)),
        (operation("projects/123/locations/us-central1/instances/x"), (1, True)),
        (operation(f"//datafusion.googleapis.com/{L}/instances/x"), (1, True)),
        (operation(at=NOW + ARRIVAL_SECONDS - 1), (1, True)),
        (operation(at=NOW - CLOCK_SKEW_SECONDS + 1), (1, True)),
        (operation(verb="delete"), (0, True)),
        (operation(f"{L}/instances/y"), (0, True)),
        (operation("projects/p/locations/europe-west1/instances/x"), (0, True)),
        (operation(at=NOW + ARRIVAL_SECONDS + 1), (0, True)),
        (operation(at=NOW - CLOCK_SKEW_SECONDS - 1), (0, True)),
        (operation(at=None), (0, False)),
        (operation(None), (0, False)),
        (operation(None, at=NOW - 3600), (0, True)),
    ],
)
def test_only_what_was_created_then_and_works_on_the_same_is_meant(seen: Operation, expected: tuple[int, bool]) -> None:
    """What does not say what it works on, or since when, makes the result uncertain."""
    assert found(seen) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service", "nothing"),
        ("service", "datafusion.googleapis.com"),
        ("version", "v99"),
        ("parent", "projects/../locations/us-central1"),
        ("parent", f"{L}?x="),
        ("parent", f"{L}/operations"),
        ("parent", "https://evil.example"),
        ("parent", 7),
        ("target", None),
    ],
)
def test_traces_that_were_tampered_with_are_none(field: str, value: Any) -> None:
    """What is read back from a ledger is checked again: it becomes a part of a URL."""
    left = traces(f"{L}/instances?instanceId=x")
    assert left is not None
    assert StartFootprint.from_dict(left.to_dict()) == left
    assert StartFootprint.from_dict({**left.to_dict(), field: value}) is None


@pytest.mark.parametrize("given", ["\x1b[2J", "]", "/"])
def test_an_id_of_odd_characters_leaves_no_traces(given: str) -> None:
    """Where all resources have operations below them, it would become a parent that is refused when it is read back."""
    found = traces("projects/p/locations/us-central1/models", service="aiplatform", body={"instanceId": given})
    assert found is None or StartFootprint.from_dict(found.to_dict()) == found
