"""Which API and verb a method and a raw path mean; the table of services decides what there is.

The verb is a *literal* ``:cancel`` or ``:wait`` at the end of the raw path, split off before anything is
percent-decoded: ``operations/a%3Acancel`` is an operation whose name ends in ":cancel". Standard
library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from airflow_lro_provider.lro.services import Service

__all__ = ["Route", "find_route"]

_STARTERS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_POST_VERBS = ("cancel", "wait")


@dataclass(frozen=True)
class Route:
    """What a request is about.

    :param service: the API; ``None`` if there is none of this name.
    :param version: the API version.
    :param verb: get, list, cancel, delete, wait or start; ``None`` if it is none of them.
    :param name: the operation's name; of a list and a start, the parent of the operations.
    :param routed: whether the API serves this. If not, the front end answers, with a 404 in HTML.
    :param work: of a start, what the operation does: create, update, delete or a method's own name.
    :param target: of a start, the resource that it does it to.
    """

    service: Service | None
    version: str = ""
    verb: str | None = None
    name: str | None = None
    routed: bool = False
    work: str = ""
    target: str = ""


def find_route(services: Mapping[str, Service], method: str, raw_path: str) -> Route:
    """Find out what a request is about.

    :param services: the table, by discovery name.
    :param method: GET, POST, …
    :param raw_path: the path as it was sent, ``/{service}/{version}/…``.
    """
    _, _, path = raw_path.partition("/")
    prefix, _, path = path.partition("/")
    version, _, path = path.partition("/")
    service, version = services.get(unquote(prefix)), unquote(version)
    if service is None or version not in service.versions:
        return Route(service)
    if method == "GET":
        return _look(service, version, unquote(path))
    stem, verb = _split_verb(path) if method == "POST" else (path, "")
    name = unquote(stem)
    if verb in _POST_VERBS:
        served = service.has_name(name, version) and service.offers(verb, name)
        return Route(service, version, verb, name, routed=served)
    if service.has_name(name, version):
        deletes = method == "DELETE"
        return Route(
            service, version, "delete" if deletes else None, name, routed=deletes and service.offers("delete", name)
        )
    return _start(service, version, name, verb or _STARTERS.get(method, ""))


def parent_of(name: str) -> str:
    """The parent of an operation: all before ``/operations/``."""
    return "" if name.startswith("operations/") else name.partition("/operations/")[0]


def is_parent(service: Service, version: str, parent: str) -> bool:
    """Whether operations of this API can stand below this: whether one there would have a good name."""
    return service.has_name(f"{parent}/operations/-", version)


def _look(service: Service, version: str, name: str) -> Route:
    if service.has_name(name, version):
        return Route(service, version, "get", name, routed=service.offers("get", name))
    parent, _, last = name.rpartition("/")
    if last == "operations" and is_parent(service, version, parent):
        return Route(service, version, "list", parent, routed=service.offers("list"))
    return Route(service, version)


def _start(service: Service, version: str, target: str, work: str) -> Route:
    """An operation stands below the longest part of its target that can have operations."""
    parts = target.split("/")
    if not work or parts[-1] == "operations" or "" in parts:
        return Route(service, version)
    for length in range(len(parts), 0, -1):
        parent = "/".join(parts[:length])
        if is_parent(service, version, parent):
            return Route(service, version, "start", parent, routed=True, work=work, target=target)
    return Route(service, version)


def _split_verb(raw_path: str) -> tuple[str, str]:
    stem, slash, last = raw_path.rpartition("/")
    before, colon, verb = last.rpartition(":")
    return (stem + slash + before, unquote(verb)) if colon else (raw_path, "")
