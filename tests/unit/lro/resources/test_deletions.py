"""What can be deleted: a 404 to anything else says nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from airflow_lro_provider.lro.errors import InvalidReferenceError, InvalidRequestError
from airflow_lro_provider.lro.resources.catalog import known_services
from airflow_lro_provider.lro.resources.deletions import check_deletion
from airflow_lro_provider.lro.resources.methods import read_method
from tools import discovery

L = "projects/p/locations/us-central1"


def paths(method: Mapping[str, Any]) -> Iterator[str]:
    """Paths that a method is called on, made of its ids alone, and not of the pattern that the table has."""
    flat = str(method.get("flatPath", method["path"]))
    flat = re.sub(r"\{(locationsId|regionsId|region)\}", "us-central1", flat).replace("{projectsId}", "example.com:p")
    yield re.sub(r"\{\+?\w+\}", "a1", flat)
    yield re.sub(r"\{\+?\w+\}", "A.b_c~d", flat)


def test_no_deletion_that_discovery_knows_is_refused() -> None:
    """M3: of all DELETE methods of all APIs of the catalog, by their URL."""
    counted, refused, uncallable = Counter[str](), [], Counter[str]()
    for document in discovery.documents():
        service = known_services().get(document.name)
        if service is None or document.version not in service.versions:
            continue
        for method in discovery.methods_of(document.raw):
            if method["httpMethod"] != "DELETE":
                continue
            counted[document.name] += 1
            for path in paths(method):
                try:
                    called = read_method(document.raw["rootUrl"] + path, "DELETE")
                except InvalidRequestError:
                    uncallable[document.name] += 1  # as any method there, whatever it does
                    continue
                try:
                    check_deletion(called)
                except InvalidReferenceError as error:
                    refused.append(f"{method['id']} {path}: {error}")
    assert refused == []
    assert set(uncallable) == {"run", "videointelligence"}
    assert (sum(counted.values()), len(counted)) == (2002, 140)


@pytest.mark.parametrize(
    ("service", "path", "version"),
    [
        ("datafusion", f"{L}/instances/x", "v1"),
        ("datafusion", f"{L}/operations/o", "v1"),
        ("datafusion", f"{L}/instances/x/dnsPeerings/d", "v1beta1"),
        ("aiplatform", f"{L}/models/m@1:deleteVersion", "v1"),
        ("developerconnect", f"{L}/accountConnectors/a/users:deleteSelf", "v1"),
        ("dns", "projects/p/managedZones/z", "v1"),
        ("pubsublite", f"admin/{L}/topics/t", "v1"),
        ("storagetransfer", "transferJobs/a/b", "v1"),
        ("earthengine", "projects/p/assets/a", "v1"),
        ("speech", f"{L}/recognizers/r", "v2"),
    ],
)
def test_what_can_be_deleted_is_known(service: str, path: str, version: str) -> None:
    """M3: whatever it responds with, by its own API's paths; and nothing is known of an API that discovery lacks."""
    check_deletion(read_method(path, "DELETE", service, version))


@pytest.mark.parametrize(
    ("service", "path", "version", "words"),
    [
        ("datafusion", f"{L}/instance/x", "v1", r"\(but projects/\*/locations/\*/instances/\*\); nothing was sent"),
        ("datafusion", f"{L}/instances", "v1", "not known to delete anything like"),
        ("datafusion", f"{L}/instances/x/namespaces/n", "v1", r"Data Fusion \(datafusion v1\) is not known"),
        ("datafusion", f"{L}/instances/x:restart", "v1", None),  # an id may have a colon
        ("dataproc", "projects/p/locations/us-central1/clusters/c", "v1", "not known"),
    ],
)
def test_what_no_method_deletes_is_refused(service: str, path: str, version: str, words: str | None) -> None:
    """M3: a typing error, a collection, a method of another version; with the nearest that there is."""
    method = read_method(path, "DELETE", service, version)
    if words is None:
        check_deletion(method)
        return
    with pytest.raises(InvalidReferenceError, match=words):
        check_deletion(method)
