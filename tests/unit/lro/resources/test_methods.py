"""The method that starts an operation: read, checked, and made into a request."""

from __future__ import annotations

import json
import re
import string
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.errors import (
    ForbiddenEndpointError,
    InvalidReferenceError,
    InvalidRequestError,
    NotAnOperationError,
    UnknownServiceError,
)
from airflow_lro_provider.lro.resources.catalog import known_services
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.methods import (
    Method,
    id_among,
    new_request_id,
    new_resource,
    read_method,
    request_id_of,
)
from tools import discovery

LOCATION = "projects/p/locations/us-central1"
INSTANCES = f"{LOCATION}/instances"
HOST = "datafusion.us-central1.rep.googleapis.com"


@pytest.mark.parametrize(
    ("value", "service", "version", "host", "path", "query"),
    [
        (INSTANCES, "datafusion", "v1", HOST, INSTANCES, ""),
        (f"{INSTANCES}?instanceId=x", "datafusion", "v1", HOST, INSTANCES, "instanceId=x"),
        (f"v1beta1/{INSTANCES}", "datafusion", "v1beta1", HOST, INSTANCES, ""),
        (
            f"https://datafusion.googleapis.com/v1/{INSTANCES}?a=b",
            None,
            "v1",
            "datafusion.googleapis.com",
            INSTANCES,
            "a=b",
        ),
        (
            f"{LOCATION}/datasets",
            "aiplatform",
            "v1",
            "us-central1-aiplatform.googleapis.com",
            f"{LOCATION}/datasets",
            "",
        ),
        (
            f"https://aiplatform.googleapis.com/v1/{LOCATION}/datasets",
            None,
            "v1",
            "us-central1-aiplatform.googleapis.com",
            f"{LOCATION}/datasets",
            "",
        ),
        (
            "https://dns.googleapis.com/dns/v1/projects/p/managedZones",
            None,
            "v1",
            "dns.googleapis.com",
            "projects/p/managedZones",
            "",
        ),
        (
            "https://pubsublite.googleapis.com/v1/admin/projects/p/locations/europe-west1-b/subscriptions/s:seek",
            None,
            "v1",
            "europe-west1-pubsublite.googleapis.com",
            "admin/projects/p/locations/europe-west1-b/subscriptions/s:seek",
            "",
        ),
        (
            "projects/p/locations/us-central1:batchTranslateText",
            "translate",
            "v3",
            "translation.googleapis.com",
            "projects/p/locations/us-central1:batchTranslateText",
            "",
        ),
        (
            "projects/p/locations/eu:setUpDataConnectorV2",
            "discoveryengine",
            "v1",
            "eu-discoveryengine.googleapis.com",
            "projects/p/locations/eu:setUpDataConnectorV2",
            "",
        ),
        (f"{LOCATION}:deploy", "aiplatform", "v1", "us-central1-aiplatform.googleapis.com", f"{LOCATION}:deploy", ""),
        (
            f"v1/{LOCATION}:deploy",
            "aiplatform",
            "v1",
            "us-central1-aiplatform.googleapis.com",
            f"{LOCATION}:deploy",
            "",
        ),
        ("projects/p/image:export", "earthengine", "v1", "earthengine.googleapis.com", "projects/p/image:export", ""),
    ],
)
def test_what_a_method_is_given_as(
    value: str, service: str | None, version: str, host: str, path: str, query: str
) -> None:
    """A path with a service, with or without the version, and a URL; regional hosts are found.

    B12: also for a custom method of a location.
    """
    method = read_method(value, service=service)
    assert (method.version, method.host, method.path, method.query) == (version, host, path, query)


def test_white_space_at_the_ends_is_no_part_of_a_method() -> None:
    """B9: of a path or URL, of the service, of the verb."""
    for value in (f" {INSTANCES}?a=b\n", f"\thttps://datafusion.googleapis.com/v1/{INSTANCES}?a=b "):
        method = read_method(value, "patch\n", "datafusion\n")
        assert (method.path, method.query, method.http_method) == (INSTANCES, "a=b", "PATCH")


@pytest.mark.parametrize(
    ("service", "value", "path"),
    [
        ("datafusion", "locations/l/instances?instanceId=x", "projects/mine/locations/l/instances"),
        ("datafusion", "v1/locations/l/instances", "projects/mine/locations/l/instances"),
        ("aiplatform", "locations/us-central1/datasets", "projects/mine/locations/us-central1/datasets"),
        ("dataproc", "regions/us-central1/clusters", "projects/mine/regions/us-central1/clusters"),
        ("iam", "locations/global/workforcePools", "locations/global/workforcePools"),
        ("cloudresourcemanager", "locations/l/tagBindingCollections/t", "locations/l/tagBindingCollections/t"),
        ("datafusion", INSTANCES, INSTANCES),
        (None, "https://datafusion.googleapis.com/v1/locations/l/instances", "projects/mine/locations/l/instances"),
    ],
)
def test_a_path_may_begin_with_its_location(service: str | None, value: str, path: str) -> None:
    """B15, L1: it lies in the connection's project then, unless the API has such paths, and also in a URL."""
    for project in ("mine", lambda: "mine"):
        assert read_method(value, service=service, project=project).path == path


@pytest.mark.parametrize("service", ["datafusion", "dataproc"])
def test_the_id_of_a_method_is_no_path(service: str) -> None:
    """Google's pages name methods by it."""
    with pytest.raises(InvalidReferenceError, match="is the id of a method; give its path"):
        read_method("projects.locations.instances.create", "POST", service)


def test_no_known_method_is_called_incomplete() -> None:
    """C11: of all methods that discovery knows to start an operation, none is refused."""
    wrong = []
    for document in discovery.documents():
        service = known_services().get(document.name)
        for start in document.starts if service and document.version in service.versions else ():
            http_method, path = start.split()
            path = path.replace("**", "a/b").replace("locations/*", "locations/us-central1").replace("*", "x1")
            try:
                read_method(path.replace("regions/x1", "regions/l"), http_method, document.name, document.version)
            except InvalidReferenceError as error:
                if "is incomplete" in str(error):
                    wrong.append((document.name, start))
    assert wrong == []


@pytest.mark.parametrize(
    ("value", "arguments", "error", "words"),
    [
        (None, {"service": "datafusion"}, InvalidReferenceError, "must be a path or a URL, not NoneType"),
        ("", {"service": "datafusion"}, InvalidReferenceError, "must be a path or a URL"),
        (INSTANCES, {}, InvalidReferenceError, "does not say which API"),
        (f"POST {INSTANCES}", {"service": "datafusion"}, InvalidReferenceError, "give http_method='POST'"),
        (f"https://datafusion.googleapis.com//{INSTANCES}", {}, InvalidReferenceError, "empty part"),
        (INSTANCES, {"service": "vertex"}, UnknownServiceError, "Did you mean 'aiplatform'"),
        (INSTANCES, {"service": "datafusion", "http_method": "GET"}, InvalidReferenceError, "one of POST, PUT"),
        (INSTANCES, {"service": "datafusion", "http_method": None}, InvalidReferenceError, "one of POST, PUT"),
        (INSTANCES, {"service": "datafusion", "api_version": "v9"}, UnknownServiceError, "no API version 'v9'"),
        (
            f"v1/{INSTANCES}",
            {"service": "datafusion", "api_version": "v1beta1"},
            InvalidReferenceError,
            "is of version 'v1'",
        ),
        ("/" + INSTANCES, {"service": "datafusion"}, InvalidReferenceError, "begins with a slash"),
        ("/v1/" + INSTANCES, {"service": "datafusion"}, InvalidReferenceError, "begins with a slash"),
        (
            "instances",
            {"service": "datafusion"},
            InvalidReferenceError,
            "those of Data Fusion (datafusion) begin with projects/",
        ),
        ("instances/x:restart", {"service": "datafusion"}, InvalidReferenceError, "begin with projects/PROJECT"),
        (
            "locations/l/instances",
            {"service": "datafusion"},
            InvalidReferenceError,
            "neither the connection's `project`",
        ),
        (
            f"{LOCATION}/publishers/google/models/veo-3.0:predictLongRunning",
            {"service": "aiplatform"},
            InvalidReferenceError,
            "Only `:fetchPredictOperation` polls them",
        ),
        (["a"], {"service": "datafusion"}, InvalidReferenceError, "For a task for each of several: .expand(method=…)"),
        (f"{LOCATION}/../x", {"service": "datafusion"}, InvalidReferenceError, "'..'"),
        (f"{LOCATION}/a%2Fb", {"service": "datafusion"}, InvalidReferenceError, "'a%2Fb'"),
        (f"{INSTANCES}#x", {"service": "datafusion"}, InvalidReferenceError, "'instances#x'"),
        (f"{INSTANCES}?a=b#c", {"service": "datafusion"}, InvalidReferenceError, "percent-encoded"),
        (f"{INSTANCES}?a=%zz", {"service": "datafusion"}, InvalidReferenceError, "percent-encoded"),
        (f"{INSTANCES}?a=b\nHost: x", {"service": "datafusion"}, InvalidReferenceError, "percent-encoded"),
        (
            f"{INSTANCES}?access_token=x",
            {"service": "datafusion"},
            InvalidReferenceError,
            "must not have 'access_token'",
        ),
        (
            f"{INSTANCES}?%61ccess_token=x",
            {"service": "datafusion"},
            InvalidReferenceError,
            "must not have 'access_token'",
        ),
        (f"{INSTANCES}?key=x", {"service": "datafusion"}, InvalidReferenceError, "must not have 'key'"),
        (f"{INSTANCES}?alt=media", {"service": "datafusion"}, InvalidReferenceError, "must not have 'alt'"),
        ("https://evil.example/v1/projects/p", {}, ForbiddenEndpointError, "not a known Google API"),
        ("http://datafusion.googleapis.com/v1/projects/p", {}, InvalidReferenceError, "over https only"),
        (
            "https://datafusion.googleapis.com/v1/projects/p",
            {"service": "automl"},
            InvalidReferenceError,
            "is at Data Fusion",
        ),
        (
            "https://datafusion.googleapis.com@evil.example/v1/projects/p",
            {"service": "datafusion"},
            InvalidReferenceError,
            "evil.example/v1/projects/p' has no usable host",
        ),
        (
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/datasets",
            {},
            InvalidReferenceError,
            "the host serves the location 'europe-west4', but the name is in 'us-central1'",
        ),
        (
            "ftp://psc.example/v1/projects/p",
            {"service": "datafusion"},
            InvalidReferenceError,
            "must begin with https://",
        ),
        (
            "https://datafusion.googleapis.com/v9/projects/p",
            {},
            UnknownServiceError,
            "no API version 'v9'. It has: v1, v1beta1",
        ),
        (
            "https://datafusion.googleapis.com/projects/p",
            {},
            UnknownServiceError,
            "no API version 'projects'",
        ),
        ("projects/p/locations/x.evil.com%00/d", {"service": "aiplatform"}, InvalidReferenceError, "has the part"),
    ],
)
def test_what_is_no_method_is_refused(
    value: Any, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    """In words that name the problem, and before anything is sent: the endpoint is checked last."""
    with pytest.raises(error, match=None) as caught:
        endpoint_of(read_method(value, **arguments))
    assert words in str(caught.value)


def test_the_connections_own_endpoint_is_understood() -> None:
    """A URL at the endpoint that the connection names is read, with and without {service}."""
    endpoint = "http://127.0.0.1:1/{service}"
    method = read_method(f"http://127.0.0.1:1/datafusion/v1/{INSTANCES}", api_endpoint=endpoint)
    assert (method.service, method.path) == ("datafusion", INSTANCES)
    assert endpoint_of(method, endpoint) == "http://127.0.0.1:1/datafusion"


@pytest.mark.parametrize(
    "value",
    [
        "https://dns.googleapis.com/dns/v1/projects/p/managedZones",
        "https://us-east1-pubsublite.googleapis.com/v1/admin/projects/p/locations/us-east1-b/subscriptions/s:seek",
        "https://cloudresourcemanager.googleapis.com/v2/folders",
        "https://speech.googleapis.com/v1/speech:longrunningrecognize",
        f"https://datafusion.googleapis.com/v1beta1/{INSTANCES}?instanceId=x",
    ],
)
def test_a_url_is_called_as_it_was_given(value: str) -> None:
    """Wherever a service has its version in the path."""
    method = read_method(value)
    assert protocol.start(method, endpoint_of(method)).url == value


@given(value=st.text(string.printable, max_size=60), service=st.sampled_from(["datafusion", "earthengine", None]))
def test_nothing_but_google_is_ever_addressed(value: str, service: str | None) -> None:
    """Whatever is given: a clear refusal, or a URL at Google's host of that service."""
    try:
        method = read_method(value, service=service)
        url = protocol.start(method, endpoint_of(method)).url
    except InvalidRequestError:
        return
    assert url.partition("//")[2].partition("/")[0].endswith(".googleapis.com")
    assert not set(url) & set(" \t\r\n#\\")


GLOBAL = "projects/p/locations/global"
DATAPROC, SPANNER = "projects/p/regions/us-central1", "projects/p/instances/i"
POOLS = "locations/global/workforcePools"


@pytest.mark.parametrize(
    ("service", "value", "body", "name"),
    [
        ("datafusion", f"{INSTANCES}?instanceId=x", None, f"{INSTANCES}/x"),
        ("datafusion", f"{INSTANCES}?instance_id=x", None, f"{INSTANCES}/x"),
        ("spanner", "projects/p/instances", {"instanceId": "x"}, "projects/p/instances/x"),
        (
            "developerconnect",
            f"{LOCATION}/connections/c/gitRepositoryLinks?git_repository_link_id=x",
            {},
            f"{LOCATION}/connections/c/gitRepositoryLinks/x",
        ),
        ("apigateway", f"{LOCATION}/apis/a/configs?apiConfigId=x", None, f"{LOCATION}/apis/a/configs/x"),
        ("iam", f"{POOLS}/p/providers?workforcePoolProviderId=x", {}, f"{POOLS}/p/providers/x"),
        ("iam", f"{POOLS}/p/providers/q/keys?workforcePoolProviderKeyId=x", {}, f"{POOLS}/p/providers/q/keys/x"),
        ("dataproc", f"{DATAPROC}/clusters", {"projectId": "p", "clusterName": "x"}, f"{DATAPROC}/clusters/x"),
        (
            "managedidentities",
            "projects/p/locations/global/domains?domainName=ad.example.com",
            {},
            "projects/p/locations/global/domains/ad.example.com",
        ),
        ("spanner", f"{SPANNER}/databases", {"createStatement": "CREATE DATABASE `x-1`"}, f"{SPANNER}/databases/x-1"),
        ("spanner", f"{SPANNER}/databases", {"createStatement": 'create database "x" '}, f"{SPANNER}/databases/x"),
        ("apigee", "organizations/o/environments", {"name": "x"}, "organizations/o/environments/x"),
        ("apigee", "organizations/o/envgroups?name=x", {}, "organizations/o/envgroups/x"),
        ("networkmanagement", f"{GLOBAL}/connectivityTests?testId=x", {}, f"{GLOBAL}/connectivityTests/x"),
        (
            "cloudbuild",
            f"{LOCATION}/githubEnterpriseConfigs?gheConfigId=x",
            {},
            f"{LOCATION}/githubEnterpriseConfigs/x",
        ),
        ("appengine", "apps/a/services/s/versions", {"id": "x"}, "apps/a/services/s/versions/x"),
        ("alloydb", f"{LOCATION}/clusters:createsecondary?clusterId=x", {}, f"{LOCATION}/clusters/x"),
        ("alloydb", f"{LOCATION}/clusters:createsecondary?cluster_id=x", {"name": "y"}, f"{LOCATION}/clusters/x"),
        (
            "alloydb",
            f"{LOCATION}/clusters/c/instances:createsecondary?instanceId=x",
            {},
            f"{LOCATION}/clusters/c/instances/x",
        ),
        ("spanner", f"{SPANNER}/databases:restore", {"databaseId": "x", "backup": "b"}, f"{SPANNER}/databases/x"),
        ("datafusion", f"{INSTANCES}?instanceId=x", {"instanceName": "y", "name": "z"}, f"{INSTANCES}/x"),
        ("datafusion", f"{INSTANCES}?instanceId=x", {"instanceId": "y"}, f"{INSTANCES}/x"),
        (
            "composer",
            f"{LOCATION}/environments",
            {"name": "projects/123/locations/us-central1/environments/x"},
            "projects/123/locations/us-central1/environments/x",
        ),
    ],
)
def test_what_a_create_names(service: str, value: str, body: Any, name: str) -> None:
    """C9, L4: by an id in query or body, in either spelling, with its parents' names or without, or by a name."""
    assert new_resource(read_method(value, service=service), body).name == name


@pytest.mark.parametrize(
    ("service", "value", "body"),
    [
        ("datafusion", f"{INSTANCES}?templateId=x", None),
        ("datafusion", f"{INSTANCES}?instanceId=a/b", None),
        ("ftp", f"{LOCATION}/servers/s/users", {"username": "u"}),
        ("dataproc", f"{DATAPROC}/clusters", {"clusterName": None}),
        ("spanner", f"{SPANNER}/databases", {"createStatement": "CREATE DATABASE a; DROP DATABASE b"}),
        ("spanner", f"{SPANNER}/databases", {"createStatement": 3}),
        ("apigee", "organizations/o/environments", {"displayName": "x"}),
        ("composer", f"{LOCATION}/environments", {"name": "projects/p/locations/us-east1/environments/x"}),
        ("composer", f"{LOCATION}/environments", {"name": "projects/other/locations/us-central1/environments/x"}),
        ("datafusion", f"{INSTANCES}?instanceId=x&instance_id=y", None),
        ("datafusion", f"{INSTANCES}/x:restart?instanceId=x", None),
        ("alloydb", f"{LOCATION}/clusters:createsecondary", {"name": f"{LOCATION}/clusters/x"}),
    ],
)
def test_what_names_nothing_new(service: str, value: str, body: Any) -> None:
    """C9, A5, L4: another resource's id, somebody's name, two names, another project: it is not guessed."""
    with pytest.raises(InvalidReferenceError):
        new_resource(read_method(value, service=service), body)


def test_the_creates_of_discovery_name_what_they_create() -> None:
    """C9: of all creates, as many have an id as the table says, and none has two."""
    found, counted = 0, 0
    for document in discovery.documents():
        service = known_services().get(document.name)
        if service is None or document.version not in service.versions:
            continue
        for method in discovery.methods_of(document.raw):
            start = discovery.read_start(document.raw, method)
            if start is None or start[0] not in document.starts or not re.match(r"POST (.*/)?[^/:*]+$", start[0]):
                continue
            path = start[0].removeprefix("POST ").replace("*", "a1")
            body = discovery.schema_of(document.raw, method.get("request")).get("properties", {})
            given = [name for name, one in method["parameters"].items() if one["location"] == "query"]
            ids = {name for name in [*given, *body] if id_among(path, {name: "CREATE DATABASE x"})}
            assert len(ids) <= 1, (path, ids)
            found, counted = found + len(ids), counted + 1
    assert (found, counted) == (644, 792)


# -- the request -----------------------------------------------------------------------------------------

ID = "b8a8a5a2-8d3c-4f3e-9a4b-000000000001"


def request(value: str, service: str, body: Any = None, http_method: str = "POST", request_id: str | None = ID) -> Any:
    """The request that starts something."""
    method = read_method(value, http_method, service)
    return protocol.start(method, endpoint_of(method), body, request_id=request_id)


def test_a_start_has_the_body_as_json() -> None:
    """What the author gave, and nothing else where no request id is taken."""
    made = request(f"{INSTANCES}?instanceId=x", "datafusion", {"type": "BASIC"})
    assert (made.method, made.url) == ("POST", f"https://{HOST}/v1/{INSTANCES}?instanceId=x")
    assert json.loads(made.body) == {"type": "BASIC"}
    assert made.headers["content-type"] == "application/json"
    assert not made.repeatable


def test_a_start_without_a_body_sends_none() -> None:
    """As DELETE wants it."""
    made = request(f"{INSTANCES}/x", "datafusion", http_method="DELETE")
    assert (made.method, made.body, dict(made.headers)) == ("DELETE", b"", {})


@pytest.mark.parametrize(
    ("path", "http_method"),
    [
        ("connections?connectionId=c", "POST"),
        ("connections/c", "PATCH"),
        ("connections/c", "DELETE"),
        ("connections/c/gitRepositoryLinks?gitRepositoryLinkId=l", "POST"),
        ("accountConnectors/a/users/u", "DELETE"),
    ],
)
def test_developer_connect_takes_the_id_in_the_query(path: str, http_method: str) -> None:
    """The methods that its discovery document says so of (requestId)."""
    made = request(f"{LOCATION}/{path}", "developerconnect", http_method=http_method)
    assert made.url.endswith(f"requestId={ID}")
    assert made.repeatable


@pytest.mark.parametrize("path", ["accountConnectors/a/users:deleteSelf", "insightsConfigs?insightsConfigId=i"])
def test_methods_without_one_get_none(path: str) -> None:
    """An unknown query parameter would be refused by Google."""
    made = request(f"{LOCATION}/{path}", "developerconnect")
    assert "requestId" not in made.url
    assert not made.repeatable


def test_the_earth_engine_takes_the_id_in_the_body() -> None:
    """Its page projects.image.export has `requestId` among the fields of the body."""
    made = request("projects/p/image:export", "earthengine", {"description": "d"})
    assert json.loads(made.body) == {"description": "d", "requestId": ID}
    assert made.repeatable


@pytest.mark.parametrize("own", ["requestId", "request_id"])
@pytest.mark.parametrize(("given", "sent"), [(None, "mine"), (ID, ID)], ids=["first", "sent again"])
def test_an_id_of_the_author_stays_until_a_start_is_sent_again(own: str, given: str | None, sent: str) -> None:
    """In either spelling; it makes the start repeatable. The one that was sent before takes its place."""
    made = request(f"{LOCATION}/connections?a=b&{own}=mine", "developerconnect", request_id=given)
    assert made.url.endswith(f"?a=b&{own}={sent}")
    made = request("projects/p/table:export", "earthengine", {own: "mine"}, request_id=given)
    assert json.loads(made.body) == {own: sent}
    assert made.repeatable


def test_the_id_of_the_author_is_known_wherever_it_stands() -> None:
    """A number is text then; what is nothing is none."""
    method = read_method(f"{LOCATION}/connections?connectionId=c&request_id=a%20b", "POST", "developerconnect")
    assert request_id_of(method, {"requestId": ""}) == "a b"
    plain = read_method("projects/p/table:export", "POST", "earthengine")
    assert (request_id_of(plain, {"requestId": 7}), request_id_of(plain, None)) == ("7", None)


RETAIL = "projects/p/locations/global/catalogs/c/branches/0/products:import"


@pytest.mark.parametrize("own", ["requestId", "request_id"])
@pytest.mark.parametrize(
    ("service", "path"),
    [("datafusion", f"{INSTANCES}/x:restart"), ("run", f"{LOCATION}/jobs/j:run"), ("retail", RETAIL)],
)
def test_an_id_of_the_author_that_no_method_takes_changes_nothing(service: str, path: str, own: str) -> None:
    """L4c: an id makes a start repeatable only where the method is known to take one."""
    assert not request(f"{path}?{own}=mine", service).repeatable
    assert not request(path, service, {own: "mine"}).repeatable


@pytest.mark.parametrize("nothing", [None, "", " ", "None", "null"])
@pytest.mark.parametrize("own", ["requestId", "request_id"])
def test_an_id_that_is_nothing_is_none(own: str, nothing: Any) -> None:
    """B9: what a template makes of a value that is not there makes no start repeatable; ours takes its place."""
    path = f"{LOCATION}/connections?connectionId=c"
    made = request(f"{path}&{own}={quote(nothing or '')}&a=b&a=b", "developerconnect")
    assert made.url.partition("?")[2] == f"connectionId=c&a=b&a=b&requestId={ID}"
    made = request(path, "developerconnect", {own: nothing, "a": 1})
    assert made.url.endswith(f"?connectionId=c&requestId={ID}")
    assert json.loads(made.body) == {"a": 1}
    made = request("projects/p/table:export", "earthengine", {own: nothing})
    assert json.loads(made.body) == {"requestId": ID}
    for service, start in (("developerconnect", path), ("datafusion", f"{INSTANCES}?instanceId=x&{own}=")):
        assert not request(start, service, {own: nothing}, request_id=None).repeatable
        assert not request(path, "developerconnect", request_id=nothing).repeatable
    made = request(f"{path}&{own}=mine", "developerconnect", {own: nothing}, request_id=None)
    assert made.url.endswith(f"&{own}=mine")


def test_request_ids_are_stable_random_uuids() -> None:
    """The same for the same try, another for another, and in the form that AIP-155 wants."""
    assert new_request_id("a") == new_request_id("a") != new_request_id("b")
    assert uuid.UUID(new_request_id("a")).version == 4


# -- the response ----------------------------------------------------------------------------------------

NAME = f"{LOCATION}/operations/o"


def started(content: Any, value: str = INSTANCES, service: str = "datafusion") -> Any:
    """What a response means."""
    return protocol.started(request(value, service), content)


def test_an_operation_gets_its_reference() -> None:
    """Service, version and host are those of the method; the name is the response's."""
    reference, operation = started({"name": NAME, "metadata": {}})
    assert str(reference) == f"//{HOST}/{NAME}"
    assert not operation.done
    reference, _ = started({"name": NAME}, f"{LOCATION}/datasets", "aiplatform")
    assert reference.host == "us-central1-aiplatform.googleapis.com"


@pytest.mark.parametrize("name", [None, "", "operations/noop.DONE_OPERATION"])
def test_one_that_is_over_needs_no_name(name: Any) -> None:
    """Some services respond like this; nothing has to be guarded."""
    reference, operation = started({"name": name or "", "done": True, "response": {"a": 1}})
    assert reference.name == INSTANCES
    assert operation.response == {"a": 1}


@pytest.mark.parametrize(
    ("content", "is_resource"),
    [
        ({"name": f"{INSTANCES}/x", "state": "RUNNING"}, True),
        ({}, True),
        ({"name": "tenants/t/operations/o"}, False),
        ({"name": "x", "done": False}, False),
        ({"done": True}, False),
    ],
)
def test_what_is_no_operation_is_told_apart(content: Any, is_resource: bool) -> None:
    """A plain resource, or an operation that cannot be guarded; never a success."""
    with pytest.raises(NotAnOperationError) as caught:
        started(content)
    assert caught.value.is_resource is is_resource
    assert caught.value.response == content


def test_a_method_reads_well() -> None:
    """For logs."""
    assert str(Method("datafusion", "v1", INSTANCES, "h", "POST", "a=b")) == f"POST //h/{INSTANCES}"
