"""Which API and verb a method and a raw path mean; the catalog decides what exists.

The verb is a *literal* ``:cancel`` or ``:wait`` at the end of the raw path, split off before anything is
percent-decoded: ``operations/a%3Acancel`` is an operation whose name ends in ":cancel". Standard
library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from airflow_lro_provider.lro.resources.catalog import COLLECTIONS, Service
from airflow_lro_provider.lro.resources.patterns import fits_one

__all__ = ["Route", "find_route"]

_STARTERS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_VERBS = ("cancel", "wait")


@dataclass(frozen=True)
class Route:
    """What a request is about.

    :param service: the API; ``None`` if there is none of that name.
    :param version: the API version.
    :param verb: get, list, cancel, delete, wait or start; ``None`` if it is none of them.
    :param name: the operation's name; of a list and a start, the parent of the operations.
    :param routed: whether the API serves this. If not, the front end responds, with a 404 in HTML.
    :param work: of a start, what the operation does: create, update, delete or a method's own name.
    :param target: of a start, the resource that the operation works on.
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

    :param services: the catalog, by discovery name.
    :param method: GET, POST, …
    :param raw_path: the path as it was sent, ``/{service}/{version}/…``.
    """
    _, _, path = raw_path.partition("/")
    prefix, _, path = path.partition("/")
    service = services.get(unquote(prefix))
    if service is None:
        return Route(None)
    if method == "GET" and (found := _list(service, unquote(path))) is not None:
        return found
    whole = path
    version, path = service.split_path(path)
    stem, verb = _split_verb(path)
    if version in service.versions and verb in _VERBS and method == service.http_methods.get(verb, "POST"):
        name = unquote(stem)
        return Route(service, version, verb, name, routed=service.offers(verb, name, version))
    if version in service.versions and method in ("GET", "DELETE") and service.has_name(unquote(path), version):
        verb, name = ("get" if method == "GET" else "delete"), unquote(path)
        return Route(service, version, verb, name, routed=service.offers(verb, name, version))
    return _other(service, method, whole)


def _list(service: Service, path: str) -> Route | None:
    """A list, if it is one."""
    for version in service.versions:
        if (parent := _listed(service, version, path)) is not None:
            return Route(service, version, "list", parent, routed=service.offers("list", parent, version))
    return None


def _other(service: Service, method: str, raw_path: str) -> Route:
    """A start, or nothing known."""
    for version in service.versions:
        root = f"{service.root(version)}/"
        if method != "GET" and raw_path.startswith(root):
            rest = raw_path.removeprefix(root)
            stem, verb = _split_verb(rest) if method == "POST" else (rest, "")
            if service.has_name(unquote(stem), version):
                return Route(service, version, name=unquote(stem))
            if not starts_operation(service.name, version, method, unquote(stem), verb):
                return Route(service, version)
            return _start(service, version, unquote(stem), verb or _STARTERS.get(method, ""))
    return Route(service)


def starts_operation(service: str, version: str, http_method: str, path: str, verb: str = "") -> bool:
    """Whether a method responds with an operation, as far as discovery knows; of an API that it lacks, all do.

    :param path: without the custom method's name.
    :param verb: the name of the custom method, if it is one.
    """
    versions = _methods().get(service, {})
    if version not in versions:
        return True
    known = versions[versions[version] if isinstance(versions[version], str) else version]
    same = (one for one in known if _custom_method(one) == verb)
    return fits_one(f"{http_method} {path}{verb and ':'}{verb}", same)


def _custom_method(pattern: str) -> str:
    return pattern.rpartition("/")[2].partition(":")[2]


@lru_cache(maxsize=1)
def _methods() -> dict[str, Any]:
    """The patterns of methods by API and version; a string instead of them names a version with the same ones."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("methods.json").read_text(encoding="utf-8"))
    return found


def _listed(service: Service, version: str, path: str) -> str | None:
    """The parent in a list's path; ``None`` if it is none of this version."""
    last = path.rpartition("/")[2]
    if last in COLLECTIONS and path == service.path("list", last, version):
        return last
    root = f"{service.prefixes.get(version, version)}/"
    if not path.startswith(root) or not path.endswith(service.list_suffix):
        return None
    parent = path[len(root) : -len(service.list_suffix)]
    return parent if service.has_parent(parent, version) or is_parent(service, version, parent) else None


def parent_of(name: str) -> str:
    """The parent of an operation: everything before ``/operations/``; empty without one."""
    if name.startswith("operations/") or "/operations/" not in name:
        return ""
    return name.partition("/operations/")[0]


def is_parent(service: Service, version: str, parent: str) -> bool:
    """Whether operations of this API can be below this: whether one there would have a valid name."""
    return service.has_name(f"{parent}/operations/-", version)


def _start(service: Service, version: str, target: str, work: str) -> Route:
    """An operation is below the longest part of its target that can have operations."""
    parts = target.split("/")
    if not work or parts[-1] == "operations" or "" in parts:
        return Route(service, version)
    for length in range(len(parts), 0, -1):
        parent = "/".join(parts[:length])
        if is_parent(service, version, parent):
            return Route(service, version, "start", parent, routed=True, work=work, target=target)
    if any(pattern.split("/")[0] in (*COLLECTIONS, "*") for pattern in service.names[version]):
        return Route(service, version, "start", "", routed=True, work=work, target=target)
    return Route(service, version)


def _split_verb(raw_path: str) -> tuple[str, str]:
    stem, slash, last = raw_path.rpartition("/")
    before, colon, verb = last.rpartition(":")
    return (stem + slash + before, unquote(verb)) if colon else (raw_path, "")
