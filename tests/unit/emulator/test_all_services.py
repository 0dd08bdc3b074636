"""The local server speaks for every API of the table, in the words of the core's own protocol."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.http.messages import Request, Response
from airflow_lro_provider.lro.operation import Outcome
from airflow_lro_provider.lro.resources import starts
from airflow_lro_provider.lro.resources.catalog import Service, known_services, patterns_in
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

SERVICES = sorted(known_services())


def sample(pattern: str) -> list[str]:
    """Names of this form."""
    match = re.fullmatch(r"\[(.*)\](.*)", pattern)
    whole = [match[1] + match[2], match[2]] if match else [pattern]
    filled = [one.replace("**", "a/b").replace("*", "x-1") for one in whole]
    return [one.replace("locations/x-1", "locations/us-central1") for one in filled]


def names(service: Service, verb: str) -> list[tuple[str, str]]:
    """Version and name of everything that a verb serves."""
    return [
        (version, name)
        for version in service.versions
        for pattern in service.served(verb, version)
        for name in sample(pattern)
    ]


@pytest.fixture
def speak(send: Any) -> Any:
    """Requests built and responses read by the core's own protocol."""

    def speak(request: Request[Any]) -> Any:
        url = request.url.removeprefix("http://emulator")
        reply = send(request.method, url, data=request.body, headers=dict(request.headers))
        return request.read(Response(reply.status, reply.headers, reply.body))

    return speak


@pytest.mark.parametrize("name", SERVICES)
def test_every_verb_of_every_name_is_served(store: Any, speak: Any, name: str) -> None:
    """Where the table says that an API has a verb, the local server has it, at the same place."""
    service, endpoint = known_services()[name], f"http://emulator/{name}"
    seen = 0
    for verb in service.verbs:
        for version, one in names(service, verb):
            seen += 1
            store.reset()
            if verb == "list":
                parent = read_parent(one, name, version)
                page = speak(protocol.list_(parent, endpoint, filter="done:true"))
                assert page.operations == (), (verb, version, one)
                continue
            reference = read_reference(one, name, version)
            assert reference.version == version
            store.create(name, one, version=version)
            request = (
                protocol.wait(reference, endpoint, 0.1)
                if verb == "wait"
                else getattr(protocol, verb)(reference, endpoint)
            )
            answer = speak(request)
            assert answer is None if verb in ("cancel", "delete") else answer.name == one, (verb, version, one)
            if verb == "cancel" and (version, one) in names(service, "get"):
                assert speak(protocol.get(reference, endpoint)).outcome is Outcome.CANCELLED
    assert seen


@pytest.mark.parametrize("name", SERVICES)
def test_a_name_is_made_up_for_every_api_and_it_can_be_listed(store: Any, speak: Any, name: str) -> None:
    """An operation with a generated name can be got, and is found in the list of its parent if there is one."""
    service, endpoint = known_services()[name], f"http://emulator/{name}"
    view = store.create(name, script={"duration": 0})
    reference = read_reference(view.name, name)
    assert speak(protocol.get(reference, endpoint)).done
    for parent in ("operations", "transferOperations", view.name.rpartition("/operations/")[0]):
        if parent and service.offers("list", parent, reference.version):
            listed = speak(protocol.list_(read_parent(parent, name, reference.version), endpoint, filter="done:true"))
            if view.name.startswith(f"{parent}/"):
                assert [one.name for one in listed.operations] == [view.name]


def called(pattern: str) -> str:
    """A path of this form."""
    parts: list[str] = []
    for part in pattern.split("/"):
        in_location = parts[-1:] in (["locations"], ["regions"])
        parts.append(part.replace("**", "a/b").replace("*", "us-central1" if in_location else "x-1"))
    return "/".join(parts)


@pytest.mark.parametrize("name", sorted(patterns_in("starts.json")))
def test_every_method_that_discovery_knows_starts_an_operation(store: Any, speak: Any, send: Any, name: str) -> None:
    """C8: one with a name that its API has, so that it can be polled and, where the API can, cancelled."""
    service, endpoint = known_services()[name], f"http://emulator/{name}"
    for version in service.versions:
        for pattern in starts.known_starts(name, version) or ():
            http_method, _, path = pattern.partition(" ")
            root = "" if path.startswith(f"{service.root(version)}:") else f"{service.root(version)}/"
            reply = send(http_method, f"/{name}/{root}{called(path)}")
            assert reply.status == 200, (pattern, version)
            reference = read_reference(reply.json["name"], name, version)
            assert service.offers("get", reference.name, version), (pattern, reference.name)
            assert not speak(protocol.get(reference, endpoint)).done
            if service.offers("cancel", reference.name, version):
                speak(protocol.cancel(reference, endpoint))
                assert speak(protocol.get(reference, endpoint)).outcome is Outcome.CANCELLED
        store.reset()


@pytest.mark.parametrize(
    ("name", "url", "body", "parent"),
    [
        ("firestore", "/firestore/v1/projects/p/databases?databaseId=d", {}, "projects/p/databases/d"),
        ("firestore", "/firestore/v1/projects/p/databases:restore", {"databaseId": "d"}, "projects/p/databases/d"),
        ("spanner", "/spanner/v1/projects/p/instances", {"instanceId": "i"}, "projects/p/instances/i"),
        ("appengine", "/appengine/v1/apps", {"id": "a"}, "apps/a"),
        ("apigee", "/apigee/v1/organizations?parent=projects/p", {"name": "x/y"}, "organizations/emulated"),
        ("cloudasset", "/cloudasset/v1/projects/p:exportAssets", {}, "projects/p/operations/emulated"),
    ],
)
def test_an_operation_lies_below_what_it_creates(
    store: Any, send: Any, name: str, url: str, body: Any, parent: str
) -> None:
    """C8: by the id that the request gives it, in its query or its body."""
    started = send("POST", url, body).json["name"]
    assert started.startswith(f"{parent}/")
    assert store.get(name, started).name == started
