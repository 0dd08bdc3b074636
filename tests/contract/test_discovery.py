"""Every API and verb of Google's discovery documents: our requests are those of Google's own client.

googleapiclient is the judge: it builds its request from the document, we build ours from the table, and neither sends
anything. What differs has to stand in :data:`DIFFERENCES`, with its reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from googleapiclient.discovery import build_from_document, fix_method_name
from googleapiclient.http import HttpRequest

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.http.messages import Request
from airflow_lro_provider.lro.resources.catalog import known_services
from airflow_lro_provider.lro.resources.names import read_parent, read_reference
from tools import discovery, generate_services

VERBS = ("get", "list", "cancel", "delete", "wait")
BY_HAND = {("automl", "v1"), ("automl", "v1beta1"), ("speech", "v2")} | {
    ("earthengine", version) for version in ("v1", "v1beta", "v1alpha")
}
"""These have no discovery document."""


@lru_cache(maxsize=1)
def documents() -> dict[tuple[str, str], Mapping[str, Any]]:
    """All documents, by API and version."""
    found = {}
    for file in discovery.documents_folder().glob("*.json"):
        raw = json.loads(file.read_text("utf-8"))
        if "name" in raw and "version" in raw:
            found[raw["name"], raw["version"]] = raw
    return found


def calls(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Where in a document there are methods for operations."""
    for name, method in node.get("methods", {}).items():
        if name in VERBS and path and re.search(r"(?i)operations?$|lro$", path[-1]):
            yield path, name, method
    for name, child in node.get("resources", {}).items():
        yield from calls(child, (*path, name))


def only(node: Mapping[str, Any], keep: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """A document's resources without all that is of no interest: quicker to build a client from."""
    pruned: dict[str, Any] = {}
    if path in keep:
        pruned["methods"] = {name: one for name, one in node.get("methods", {}).items() if name in VERBS}
    children = {
        name: only(child, keep, (*path, name))
        for name, child in node.get("resources", {}).items()
        if any(kept[: len(path) + 1] == (*path, name) for kept in keep)
    }
    return {**pruned, **({"resources": children} if children else {})}


def sample(parameter: Mapping[str, Any]) -> str:
    """A value that fits the pattern of a path parameter."""
    pattern = str(parameter.get("pattern", "[^/]+")).strip("^$")
    if pattern == ".*":  # Speech-to-Text's ids
        return "123"
    value = pattern.replace("[^/]+", "x-1").replace(".*", "a/b")
    return value.replace("locations/x-1", "locations/us-central1") if re.fullmatch(r"[\w/.-]+", value) else "x-1"


def _shape(document: Mapping[str, Any], method: Mapping[str, Any]) -> set[str]:
    return set(document["schemas"].get(method.get("response", {}).get("$ref"), {}).get("properties", {}))


def difference(document: Mapping[str, Any], path: tuple[str, ...], verb: str, method: Mapping[str, Any]) -> str:
    """Why a method is not in the table; empty if it has to be."""
    name, template = document["name"], method["path"]
    if name in OTHER_PROTOCOLS:
        return f"{name}: {OTHER_PROTOCOLS[name]}"
    if name == "dns" and "managedZone" in template:
        return "dns: the operations of managed zones are of another kind (status pending or done)"
    if re.search(r"(?i)(unit|unitGroup|api|discoveredApi|bucket)operations$", path[-1]):
        return "resources that are only called operations"
    if verb == "get" and not {"name", "done"} <= _shape(document, method):
        return "resources that are only called operations"
    if name == "apihub" and "versions" in path:
        return "resources that are only called operations"
    if name == "spanner" and path[-1] != "operations" and path[-1].endswith("Operations"):
        return "spanner: lists of one kind of operation, beside the list of all"
    if verb == "list" and template.endswith("/operations") and "{" not in template and "name" in method["parameters"]:
        if name in known_services() and "operations" not in known_services()[name].parents(document["version"]):
            return "a second spelling, `operations?name=`, of `{name}/operations`"
        return ""
    if name == "videointelligence" and template.startswith("v1/operations/"):
        return "videointelligence: a second spelling, `v1/operations/{name}`, of `v1/{name}`"
    return ""


OTHER_PROTOCOLS = {
    "compute": "operations of its own kind: status, no done",
    "container": "operations of its own kind: status, no done",
    "sqladmin": "operations of its own kind: status, no done",
    "deploymentmanager": "operations of its own kind: status, no done",
    "storage": "bucket and id instead of a name",
    "drive": "its operations have no documented names",
    "saasservicemgmt": "its operations are resources of its own",
}
"""APIs that the table leaves out."""


def ours(api: str, version: str, verb: str, name: str, host: str) -> Request[Any]:
    """Our request, with every option that a list and a wait have."""
    endpoint = f"https://{host}"
    if verb == "list":
        parent = read_parent(name, api, version)
        return protocol.list_(parent, endpoint, filter="done:true", page_size=7, page_token="t")
    reference = read_reference(name, api, version)
    return protocol.wait(reference, endpoint, 5) if verb == "wait" else getattr(protocol, verb)(reference, endpoint)


def theirs(client: Any, path: tuple[str, ...], verb: str, method: Mapping[str, Any], name: str) -> HttpRequest:
    """The same request, as googleapiclient builds it."""
    for part in path:
        client = getattr(client, fix_method_name(part))()
    parameters = method.get("parameters", {})
    given: dict[str, Any] = {key: sample(one) for key, one in parameters.items() if one.get("location") == "path"}
    options = {"filter": "done:true", "pageSize": 7, "pageToken": "t"} if verb == "list" else {}
    if verb == "wait":
        options = {"timeout": "5s"}
        if "request" in method:
            given["body"] = {"timeout": "5s"}
    given.update({key: value for key, value in options.items() if key in parameters})
    return getattr(client, verb)(**given)


def compare(mine: Request[Any], its: HttpRequest, verb: str) -> str:
    """In what the two differ; empty if in nothing."""
    one, other = urlsplit(mine.url), urlsplit(its.uri)
    query, wanted = dict(parse_qsl(one.query)), dict(parse_qsl(other.query))
    assert wanted.pop("alt") == "json"
    if verb == "list" and "filter" not in wanted:
        query.pop("filter", None)  # one service has none
    differences = []
    if mine.method != its.method:
        differences.append(f"{mine.method} and not {its.method}")
    if (one.scheme, one.netloc, unquote(one.path)) != (other.scheme, other.netloc, unquote(other.path)):
        differences.append(f"{mine.url} and not {its.uri}")
    if query != wanted:
        differences.append(f"the query {query} and not {wanted}")
    if verb == "wait" and json.loads(mine.body or b"{}") != json.loads(its.body or "{}"):
        differences.append(f"the body {mine.body!r} and not {its.body!r}")
    return "; ".join(differences)


def test_every_request_is_that_of_googles_client() -> None:
    """In method, URL, query and (of a wait) body; what is left out stands here with its reason, none unexplained."""
    same, left_out, wrong = Counter[str](), Counter[str](), []
    for (api, version), document in sorted(documents().items()):
        found = list(calls(document))
        if not found:
            continue
        explained = [(where, difference(document, *where)) for where in found]
        left_out.update(why for _, why in explained if why)
        wanted = [where for where, why in explained if not why]
        if not wanted:
            continue
        pruned = {**document, **only(document, {path for path, _, _ in wanted}), "schemas": {}}
        client = build_from_document(_without_schemas(pruned), http=object())
        for path, verb, method in wanted:
            names = [sample(one) for one in method["parameters"].values() if one.get("location") == "path"]
            name = _plain_name(method, names)
            host = urlsplit(document["rootUrl"]).netloc
            try:
                mine = ours(api, version, verb, name, host)
            except OperationsError as error:
                wrong.append(f"{api} {version} {verb} {name}: {error}")
                continue
            if problem := compare(mine, theirs(client, path, verb, method, name), verb):
                wrong.append(f"{api} {version} {verb} {name}: {problem}")
            else:
                same[verb] += 1
    assert wrong == []
    assert dict(same) == SAME, "as many as there are: the comparison must not become empty"
    assert set(left_out) == EXPECTED_REASONS


SAME = {"get": 686, "list": 559, "cancel": 458, "delete": 447, "wait": 277}
EXPECTED_REASONS = {
    *(f"{name}: {why}" for name, why in OTHER_PROTOCOLS.items()),
    "dns: the operations of managed zones are of another kind (status pending or done)",
    "resources that are only called operations",
    "spanner: lists of one kind of operation, beside the list of all",
    "a second spelling, `operations?name=`, of `{name}/operations`",
    "videointelligence: a second spelling, `v1/operations/{name}`, of `v1/{name}`",
}


def _without_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Only what requests are made of: the schemas are for the client's own help texts."""
    text = json.dumps(document)
    names = set(re.findall(r'"\$ref": "([^"]+)"', text))
    return {**document, "schemas": {name: {"id": name, "type": "object", "properties": {}} for name in names}}


def _plain_name(method: Mapping[str, Any], names: list[str]) -> str:
    """The name (or parent) that the path of a method speaks of."""
    path = str(method["path"])
    if re.search(r"/apps/\{appsId\}/operations", path):
        return "apps/x-1/operations/x-1" if len(names) == 2 else "apps/x-1"
    if re.search(r"/projects/\{projectsId\}/locations/\{locationsId\}/operations", path):
        return "projects/x-1/locations/x-1" + ("/operations/x-1" if len(names) == 3 else "")
    if not names:
        return "operations"
    [name] = names
    return name.removesuffix("/operations") if "/" in name and path.endswith("{+name}") else name


def test_the_table_claims_nothing_that_is_not_documented() -> None:
    """Every verb of every API and version of the table, for every name, is a method of a document."""
    for api, service in known_services().items():
        for version in service.versions:
            if (api, version) in BY_HAND:
                continue
            patterns: dict[str, set[str]] = {}
            for path, verb, method in calls(documents()[api, version]):
                if not difference(documents()[api, version], path, verb, method):
                    parameters = method.get("parameters", {}).values()
                    names = [sample(one) for one in parameters if one.get("location") == "path"]
                    patterns.setdefault(verb, set()).add(_plain_name(method, names))
            for verb in VERBS:
                for pattern in service.served(verb, version):
                    for name in _samples_of(pattern, api):
                        assert name in patterns.get(verb, ()), (api, version, verb, name)


def _samples_of(pattern: str, api: str) -> set[str]:
    """What :func:`sample` makes of the same pattern."""
    match = re.fullmatch(r"\[(.*)\](.*)", pattern)
    whole = {match[1] + match[2], match[2]} if match else {pattern}
    if api == "appengine":  # whose documents give no patterns
        return {one.replace("*", "x-1") for one in whole}
    if pattern == "*":  # `.*` of Speech-to-Text
        return {"123"}
    filled = {one.replace("**", "a/b").replace("*", "x-1") for one in whole}
    return {one.replace("locations/x-1", "locations/us-central1") for one in filled}


def test_every_regional_endpoint_is_that_of_discovery() -> None:
    """B1: of every API, host by location is what its documents say; what differs stands here with its reason."""
    same, different, without_location = 0, [], set()
    for (api, version), document in sorted(documents().items()):
        service = known_services().get(api)
        if service is None or version not in service.versions:
            continue
        for endpoint in document.get("endpoints", []):
            location, host = endpoint["location"], urlsplit(endpoint["endpointUrl"]).netloc
            if not any("locations" in name or "regions" in name for names in service.names.values() for name in names):
                without_location.add(api)
            ours = service.host_for(f"projects/p/locations/{location}/operations/o")
            assert service.location_of_host(ours) in (location, None)
            if ours == host:
                same += 1
            elif not (why := _why_another_host(api, location, host, ours)):
                different.append((api, location, host, ours))
            else:
                assert service.has_host(host) is (why is not _OTHER_PURPOSE)
    assert different == []
    assert same == SAME_HOSTS, "as many as there are: the comparison must not become empty"
    assert without_location == {"apigee", "datastore", "firestore", "securitycenter", "spanner"}, "used by no name"


SAME_HOSTS = 2444
_OTHER_PURPOSE = "a host for another purpose"


def _why_another_host(api: str, location: str, host: str, ours: str) -> str:
    """Why a location's host is not the one of the document; empty for no reason."""
    if re.match(rf"(batch-{api}|{api}-preprod|logging\.)", host) and host != f"{api}.{location}.rep.googleapis.com":
        return _OTHER_PURPOSE
    if ours == f"{location}-{api}.googleapis.com" and host == f"{api}.{location}.rep.googleapis.com":
        return "a location with two hosts: the one below googleapis.com, or the one that Google's pages name"
    return ""


def test_the_table_is_what_the_generator_writes() -> None:
    """`python -m tools.generate_services` changes nothing."""
    assert generate_services.main(["--check"]) == 0


def test_the_table_is_small() -> None:
    """At most 150 KB, and half of that for what can be deleted."""
    assert generate_services.TABLE.stat().st_size < 150_000
    assert generate_services.DELETIONS.stat().st_size < 75_000
