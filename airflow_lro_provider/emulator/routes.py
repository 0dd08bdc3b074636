"""Which API and verb a method and a raw path mean; the catalog decides what exists.

The verb is a *literal* ``:cancel`` or ``:wait`` at the end of the raw path, split off before anything is
percent-decoded: ``operations/a%3Acancel`` is an operation whose name ends in ":cancel". Standard
library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from urllib.parse import unquote

from airflow_lro_provider.lro.resources.catalog import COLLECTIONS, Service
from airflow_lro_provider.lro.resources.locations import location_of
from airflow_lro_provider.lro.resources.patterns import expand
from airflow_lro_provider.lro.resources.starts import is_called, known_starts

__all__ = ["Route", "find_route"]

_STARTERS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_VERBS = ("cancel", "wait")


@dataclass(frozen=True)
class Route:
    """What a request is about.

    :param service: the API; ``None`` if there is none of that name.
    :param version: the API version.
    :param verb: get, list, cancel, delete, wait or start; ``None`` if it is none of them.
    :param name: the operation's name; of a list and a start, the parent of the operations (of a start, perhaps with
        ``-`` for what only the request's query or body can say).
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
        found = Route(service, version, verb, name, routed=service.offers(verb, name, version))
        if found.routed or known_starts(service.name, version) is None:
            return found
        other = _other(service, method, whole)  # resources have methods of the same name: `jobs/j:cancel`
        return other if other.routed else found
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
        root = service.root(version)
        if method == "GET" or not raw_path.startswith((f"{root}/", f"{root}:")):
            continue
        if (found := _without_route(service, version, method, raw_path)) is not None:
            return found
        rest = raw_path.removeprefix(f"{root}/")
        if rest != raw_path and rest.startswith(f"{root}:"):  # the method `v1:evaluateDataset` has no other version
            return Route(service, version)
        known = known_starts(service.name, version)
        # The id of a resource may have a colon in it, which is no custom method then.
        for stem, verb in [_split_verb(rest)] if method == "POST" else [_split_verb(rest), (rest, "")]:
            target, work = unquote(stem), verb or _STARTERS.get(method, "")
            if known is None and (method == "POST" or not verb):
                return _start(service, version, target, work, is_known=False)
            if known is not None and any(is_called(one, method, target, verb) for one in known):
                return _start(service, version, target, work, is_known=True)
        return Route(service, version)
    return Route(service)


def _without_route(service: Service, version: str, method: str, raw_path: str) -> Route | None:
    """What is called on an operation, but is none of its verbs."""
    prefix = f"{service.prefixes.get(version, version)}/"
    stem = _split_verb(raw_path)[0] if method == "POST" else raw_path
    name = unquote(stem.removeprefix(prefix))
    return Route(service, version, name=name) if stem.startswith(prefix) and service.has_name(name, version) else None


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
    return any(service.has_name(name, version) for name in names_below(parent, "-"))


def names_below(parent: str, new_id: str) -> tuple[str, ...]:
    """The names that an operation below a parent may have: some say what the operation does, too."""
    return f"{parent}/operations/{new_id}", f"{parent}/operations/emulated/{new_id}"


def _start(service: Service, version: str, target: str, work: str, *, is_known: bool) -> Route:
    """An operation is below the longest part of its target that can have operations.

    Else (of a create, these may be below what is created) it has the form of names that begins most like the target,
    with ``-`` where only the request can say more: ``projects/p/databases/-``.
    """
    parts = target.split("/")
    if not work or parts[-1] == "operations" or "" in parts:
        return Route(service, version)
    started = Route(service, version, "start", "", routed=True, work=work, target=target)
    for length in range(len(parts), 0, -1):
        parent = "/".join(parts[:length])
        if is_parent(service, version, parent):
            return replace(started, name=parent)
    patterns = service.served("get", version) or service.names[version]
    parents = [_parent_pattern(one) for pattern in patterns for one in expand(pattern)]
    if not is_known:  # any path of an API that discovery lacks is a method, but not one anywhere
        parents = [one for one in parents if not one]
    if not parents:
        return Route(service, version)
    filled = [_fill(one, parts) for one in parents]
    nearest = max(filled, key=lambda one: (_in_common(one, parts), -len(one)))
    return replace(started, name="/".join(nearest))


def _parent_pattern(pattern: str) -> list[str]:
    """The part of a pattern of names above ``operations``; empty if there is none."""
    parts = pattern.split("/")
    above = next((number for number, part in enumerate(parts) if part in COLLECTIONS), 0)
    return parts[:above]


def _fill(pattern: list[str], parts: list[str]) -> list[str]:
    """A pattern with what the target has at the same place, or else in the same collection."""
    filled: list[str] = []
    for number, wanted in enumerate(pattern):
        if wanted == "*" and filled == parts[:number] and number < len(parts):
            filled.append(parts[number])
        elif wanted == "*":
            collection = filled[-1] if filled else ""
            within = parts[parts.index(collection) + 1 :] if collection in parts else []
            default = location_of("/".join(parts)) or "us-central1" if collection in ("locations", "regions") else "-"
            filled.append(within[0] if within else default)
        else:
            filled.append(wanted)
    return filled


def _in_common(one: list[str], other: list[str]) -> int:
    """With how many parts both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _split_verb(raw_path: str) -> tuple[str, str]:
    stem, slash, last = raw_path.rpartition("/")
    before, colon, verb = last.rpartition(":")
    return (stem + slash + before, unquote(verb)) if colon else (raw_path, "")
