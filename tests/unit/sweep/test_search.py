"""By what an operation is found whose start was never answered."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_lro_provider.lro.flows import START_RETRY_SECONDS
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.sweep.search import CLOCK_SKEW_SECONDS, StartFootprint, find, footprint_of

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
        (f"{L}:restartAll", "POST", {}, L, ""),
        (f"{L}/instances/x", "PATCH", {}, f"{L}/instances/x", ""),
        (f"{L}/instances/x", "DELETE", None, f"{L}/instances/x", "delete"),
    ],
)
def test_what_a_start_works_on(path: str, http_method: str, body: Any, target: str, verb: str) -> None:
    """A create names its id; all others are called on the resource itself."""
    found = traces(path, http_method, body=body)
    assert found is not None
    assert (found.target, found.verb, found.parent) == (target, verb, L)
    assert (found.place.name, found.place.host) == (L, "datafusion.us-central1.rep.googleapis.com")


def test_a_cluster_is_named_in_the_body() -> None:
    """C9: what `if_exists` knows of a create, the sweep knows, too."""
    found = traces("projects/p/regions/us-central1/clusters", service="dataproc", body={"clusterName": "x"})
    assert found is not None
    assert (found.target, found.names_new) == ("projects/p/regions/us-central1/clusters/x", True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{L}/instances", None),
        (f"{L}/instances?instanceId=", None),
        (f"{L}/instances", {"instanceId": 3}),
        (f"{L}/instances", {"name": "x", "requestId": "r"}),
        (f"{L}/instances?templateId=x", None),
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


def found(sought: StartFootprint | None, *operations: Operation) -> str:
    """What they are to a start."""
    assert sought is not None
    result = find(sought, operations, NOW)
    return "certain" if result.certain else "possible" if result.possible else "absent" if result.is_absent else "none"


END = START_RETRY_SECONDS + 30.0


@pytest.mark.parametrize(("at", "expected"), [(-1, False), (0, True), (60, True), (60 + END, True), (61 + END, False)])
def test_what_two_tries_have_sent_began_between_the_first_and_the_last(at: float, expected: bool) -> None:
    """The same start, with the same request id: the service may have had either of them."""
    sought = traces(f"{L}/instances?instanceId=x")
    assert sought is not None
    result = find(sought, [operation(at=NOW + at, verb="create")], NOW, NOW + 60)
    assert bool(result.certain) is expected
    assert bool(result.possible) is not expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (operation(verb="create"), "certain"),
        (operation("projects/123/locations/us-central1/instances/x", verb="CREATE"), "certain"),
        (operation(f"//datafusion.googleapis.com/{L}/instances/x", verb="create"), "certain"),
        (operation(at=NOW + END, verb="create"), "certain"),
        (operation(), "possible"),
        (operation(at=NOW - 1, verb="create"), "possible"),
        (operation(at=NOW - CLOCK_SKEW_SECONDS, verb="create"), "possible"),
        (operation(at=NOW + END + 1, verb="create"), "possible"),
        (operation(at=NOW + END + CLOCK_SKEW_SECONDS, verb="create"), "possible"),
        (operation(verb="delete"), "absent"),
        (operation(verb="restart"), "absent"),
        (operation(f"{L}/instances/y", verb="create"), "absent"),
        (operation("projects/p/locations/europe-west1/instances/x", verb="create"), "absent"),
        (operation(at=NOW + END + CLOCK_SKEW_SECONDS + 1, verb="create"), "absent"),
        (operation(at=NOW - CLOCK_SKEW_SECONDS - 1, verb="create"), "absent"),
        (operation(at=None, verb="create"), "none"),
        (operation(None, verb="create"), "none"),
        (operation(None, at=NOW - 3600), "absent"),
    ],
)
def test_only_a_create_of_the_very_resource_that_began_then_is_certain(seen: Operation, expected: str) -> None:
    """Row A4: after the start was sent, before its last retry had arrived, by the same verb; else it is possible."""
    assert found(traces(f"{L}/instances?instanceId=x"), seen) == expected


@pytest.mark.parametrize(
    ("path", "http_method", "verb", "of_another"),
    [
        (f"{L}/instances/x:restart", "POST", "restart", "possible"),
        (f"{L}/instances/x", "PATCH", "update", "possible"),
        (f"{L}/instances/x", "DELETE", "delete", "none"),
    ],
)
def test_what_works_on_a_resource_that_is_there_is_never_certain(
    path: str, http_method: str, verb: str, of_another: str
) -> None:
    """Row A4: others work on it, too. Row A5: nor is it ever certain that there is none."""
    sought = traces(path, http_method)
    assert found(sought, operation(verb=verb)) == "possible"
    assert found(sought, operation(verb="create")) == of_another
    assert found(sought) == "none"


def test_an_import_into_a_collection_is_never_certain() -> None:
    """Row A5: it does not say what it creates, so that nothing of it can be missed in a list."""
    sought = traces(f"{L}/instances:import?instanceId=x", body={})
    assert found(sought, operation(verb="create")) == "none"


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
