from __future__ import annotations

import pytest

from airflow_lro_provider.emulator.routes import find_route, parent_of
from airflow_lro_provider.lro.resources.catalog import known_services

L = "projects/p/locations/us-central1"


def route(method: str, path: str) -> tuple:
    found = find_route(known_services(), method, path)
    return found.verb, found.name, found.routed


@pytest.mark.parametrize(
    ("method", "path", "verb", "name"),
    [
        ("GET", f"/datafusion/v1/{L}/operations/o", "get", f"{L}/operations/o"),
        ("DELETE", f"/datafusion/v1beta1/{L}/operations/o", "delete", f"{L}/operations/o"),
        ("POST", f"/developerconnect/v1/{L}/operations/o:cancel", "cancel", f"{L}/operations/o"),
        ("POST", f"/automl/v1/{L}/operations/o:wait", "wait", f"{L}/operations/o"),
        ("GET", f"/datafusion/v1/{L}/operations", "list", L),
        ("GET", f"/aiplatform/v1/{L}/operations", "list", L),
        ("GET", f"/aiplatform/v1/{L}/endpoints/5/operations", "list", f"{L}/endpoints/5"),
        ("GET", "/earthengine/v1alpha/projects/p/operations", "list", "projects/p"),
        ("GET", "/aiplatform/v1/endpoints/5/operations/6", "get", "endpoints/5/operations/6"),
        ("POST", f"/aiplatform/v1/{L}/endpoints/5/operations/6:cancel", "cancel", f"{L}/endpoints/5/operations/6"),
        ("POST", "/earthengine/v1/projects/p/operations/a/b/c:wait", "wait", "projects/p/operations/a/b/c"),
        ("GET", "/datafusion/v1/projects/p/locations/-/operations", "list", "projects/p/locations/-"),
    ],
)
def test_the_five_verbs(method, path, verb, name):
    """Method and path say which verb and which operation (or parent) is meant, per the table."""
    assert route(method, path) == (verb, name, True)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a:b:cancel", "a:b"),
        ("a%3Ab:cancel", "a:b"),
        ("a%3Acancel:cancel", "a:cancel"),
        ("a:cancel:cancel", "a:cancel"),
        ("(default):cancel", "(default)"),
        ("%28default%29:cancel", "(default)"),
        ("a%2Fb:cancel", "a/b"),
        ("x=1,y@z%20w:cancel", "x=1,y@z w"),
        ("%E2%9C%93:cancel", "✓"),
    ],
)
def test_the_verb_is_split_off_the_raw_path(raw, name):
    """A literal :cancel is split off first; what was percent-encoded belongs to the name."""
    assert route("POST", f"/earthengine/v1/projects/p/operations/{raw}") == (
        "cancel",
        f"projects/p/operations/{name}",
        True,
    )


def test_an_encoded_verb_is_part_of_the_name():
    """`%3Acancel` is no verb: the operation is called so, and a plain POST to it has no route."""
    path = "/earthengine/v1/projects/p/operations/a%3Acancel"
    assert route("POST", path) == (None, "projects/p/operations/a:cancel", False)
    assert route("GET", path) == ("get", "projects/p/operations/a:cancel", True)


def test_names_with_colons_are_whole_in_get_and_delete():
    """Only a POST has a verb after a colon."""
    assert route("GET", "/earthengine/v1/projects/p/operations/a:wait")[1] == "projects/p/operations/a:wait"
    assert route("DELETE", "/earthengine/v1/projects/x:p/operations/a:b")[1] == "projects/x:p/operations/a:b"


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        ("POST", f"/datafusion/v1/{L}/operations/o:wait", "wait"),
        ("POST", f"/developerconnect/v1/{L}/operations/o:wait", "wait"),
        ("POST", f"/aiplatform/v1/{L}/featureGroups/g/operations/o:cancel", "cancel"),
        ("POST", "/datafusion/v1/projects/p/operations/o:cancel", "cancel"),
        ("POST", f"/datafusion/v1/{L}/instances/i:cancel", "cancel"),
        ("POST", f"/datafusion/v1/{L}/operations/o", None),
        ("POST", f"/datafusion/v1/{L}/operations/o:cancle", None),
        ("POST", f"/datafusion/v1/{L}/operations", None),
        ("PATCH", f"/datafusion/v1/{L}/operations/o", None),
        ("GET", f"/datafusion/v1/{L}/instances/i", None),
        ("GET", f"/datafusion/v1/{L}/operations/", None),
        ("GET", f"/datafusion/v7/{L}/operations/o", None),
        ("GET", f"/compute/v1/{L}/operations/o", None),
        ("GET", f"/v1/{L}/operations/o", None),
        ("POST", "/datafusion/v1/instances", None),
        ("POST", f"/datafusion/v1/{L}/instances/", None),
        ("POST", "/datafusion/v1/", None),
        ("OPTIONS", f"/datafusion/v1/{L}/instances", None),
        ("GET", "/datafusion/v1", None),
        ("GET", "/favicon.ico", None),
        ("GET", "/", None),
        ("GET", "", None),
    ],
)
def test_what_the_front_end_has_no_route_for(method, path, verb):
    """Unknown APIs, versions and shapes, and verbs that a system does not have, are not routed."""
    found = find_route(known_services(), method, path)
    assert (found.verb, found.routed) == (verb, False)


@pytest.mark.parametrize(
    ("method", "path", "parent", "work", "target"),
    [
        ("POST", f"/datafusion/v1/{L}/instances", L, "create", f"{L}/instances"),
        ("PATCH", f"/datafusion/v1/{L}/instances/i", L, "update", f"{L}/instances/i"),
        ("DELETE", f"/datafusion/v1/{L}/instances/i", L, "delete", f"{L}/instances/i"),
        ("POST", f"/datafusion/v1/{L}/instances/i:restart", L, "restart", f"{L}/instances/i"),
        ("POST", "/earthengine/v1/projects/p/image:export", "projects/p", "export", "projects/p/image"),
        ("POST", f"/aiplatform/v1/{L}/endpoints", L, "create", f"{L}/endpoints"),
        (
            "POST",
            f"/aiplatform/v1/{L}/endpoints/5:deployModel",
            f"{L}/endpoints/5",
            "deployModel",
            f"{L}/endpoints/5",
        ),
    ],
)
def test_other_requests_start_an_operation(method, path, parent, work, target):
    """A POST of anything else starts an operation, below the longest part that can have operations."""
    found = find_route(known_services(), method, path)
    assert (found.verb, found.routed, found.name, found.work, found.target) == ("start", True, parent, work, target)


@pytest.mark.parametrize(
    ("method", "path", "is_known"),
    [
        ("POST", f"/datafusion/v1/{L}/instances", True),
        ("POST", f"/datafusion/v1/{L}/things", False),
        ("PUT", f"/datafusion/v1/{L}/instances/i", False),
        ("POST", f"/datafusion/v1/{L}/instances/i:restart", True),
        ("POST", f"/datafusion/v1/{L}/instances/i:explode", False),
        ("POST", f"/datafusion/v1/{L}/instances/i", False),
        ("POST", f"/cloudbuild/v2/{L}/connections", True),
        ("POST", f"/cloudbuild/v1/{L}/connections", False),
        ("POST", f"/cloudbuild/v1/{L}/triggers/t:run", True),
        ("POST", f"/cloudbuild/v2/{L}/triggers/t:run", False),
        ("POST", f"/translate/v3/{L}:batchTranslateText", True),
        ("POST", "/dns/dns/v1/projects/p/locations/l/outboundEndpoints", True),
        ("POST", f"/automl/v1/{L}/anything", True),
        ("POST", "/earthengine/v1/projects/p/image:export", True),
        ("POST", f"/speech/v2/{L}/recognizers/_:batchRecognize", True),
    ],
)
def test_only_methods_that_discovery_knows_start_something(method, path, is_known):
    """C8: by API and version; APIs without a discovery document (AutoML, Earth Engine, Speech v2) take any."""
    found = find_route(known_services(), method, path)
    assert (found.verb, found.routed) == (("start", True) if is_known else (None, False))


@pytest.mark.parametrize(
    ("method", "path", "parent", "work", "target"),
    [
        ("POST", "/firestore/v1/projects/p/databases", "projects/p/databases/-", "create", "projects/p/databases"),
        ("POST", "/spanner/v1/projects/p/instances", "projects/p/instances/-", "create", "projects/p/instances"),
        ("POST", f"/healthcare/v1/{L}/datasets", f"{L}/datasets/-", "create", f"{L}/datasets"),
        (
            "POST",
            "/firestore/v1/projects/p/databases:restore",
            "projects/p/databases/-",
            "restore",
            "projects/p/databases",
        ),
        ("PATCH", f"/notebooks/v1/{L}/instances/i:setLabels", L, "setLabels", f"{L}/instances/i"),
        (
            "DELETE",
            f"/developerconnect/v1/{L}/accountConnectors/a/users:deleteSelf",
            L,
            "deleteSelf",
            f"{L}/accountConnectors/a/users",
        ),
        ("POST", f"/batch/v1/{L}/jobs/j:cancel", L, "cancel", f"{L}/jobs/j"),
        ("POST", "/speech/v1/speech:longrunningrecognize", "", "longrunningrecognize", "speech"),
        ("POST", "/storagetransfer/v1/transferJobs/1:run", "", "run", "transferJobs/1"),
        ("POST", "/storagetransfer/v1/transferJobs/a/1:run", "", "run", "transferJobs/a/1"),
        ("POST", "/cloudasset/v1/folders/1:exportAssets", "folders/1", "exportAssets", "folders/1"),
        ("POST", "/serviceusage/v1/projects/p/services/s:enable", "", "enable", "projects/p/services/s"),
        (
            "POST",
            f"/pubsublite/v1/admin/{L}/subscriptions/s:seek",
            L,
            "seek",
            f"admin/{L}/subscriptions/s",
        ),
        (
            "POST",
            f"/networkmanagement/v1/{L}/vpcFlowLogsConfigs",
            "projects/p/locations/global",
            "create",
            f"{L}/vpcFlowLogsConfigs",
        ),
        (
            "POST",
            f"/dataproc/v1beta2/{L}/workflowTemplates/t:instantiate",
            "projects/p/regions/us-central1",
            "instantiate",
            f"{L}/workflowTemplates/t",
        ),
        ("POST", "/aiplatform/v1:evaluateDataset", "", "evaluateDataset", "v1"),
    ],
)
def test_what_discovery_knows_starts_an_operation_wherever_that_lies(method, path, parent, work, target):
    """C8: below what is created, elsewhere than its target, or at the collection itself; custom methods of any kind."""
    found = find_route(known_services(), method, path)
    assert (found.verb, found.routed, found.name, found.work, found.target) == ("start", True, parent, work, target)


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        ("POST", f"/speech/v2/{L}/operations/o:wait", "wait"),
        ("POST", f"/automl/v1/{L}/models/m:cancel", "cancel"),
        ("POST", f"/batch/v1/{L}/tasks/t:cancel", "cancel"),
        ("POST", "/automl/v1/anything", None),
        ("POST", "/aiplatform/v1/v1:evaluateDataset", None),
        ("POST", "/datafusion/v1:restart", None),
        ("PATCH", f"/notebooks/v1/{L}/instances/i:explode", None),
        ("POST", f"/datafusion/v1/{L}/instances/i:setLabels", None),
    ],
)
def test_what_nobody_knows_starts_nothing(method, path, verb):
    """C8: as at Google; also of APIs without a discovery document what cannot be a method, or is an operation's."""
    found = find_route(known_services(), method, path)
    assert (found.verb, found.routed) == (verb, False)


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        (f"{L}/operations/o", L),
        ("projects/p/operations/a/operations/b", "projects/p"),
        ("operations/o", ""),
    ],
)
def test_the_parent_of_a_name(name, parent):
    """The parent is all before the first /operations/."""
    assert parent_of(name) == parent
