"""Write the catalog of APIs, ``deletions.json`` and ``starts.json`` beside it.

``python -m tools.generate_services [--check]``

It is generated from the discovery documents that google-api-python-client ships (a development dependency), and from
``services_by_hand.json`` beside this file, which adds what they lack: two APIs, nicknames, hosts of locations (with
their ``source``), and pages of the console. ``*`` among the locations of a host means any that is not named elsewhere.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_lro_provider.lro.resources.catalog import VERBS, listed_below
from tools.discovery import Document, Verb, documents, methods_of, read_verb
from tools.regional_hosts import add_regional, regional_hosts

HERE = Path(__file__).parent
BY_HAND = HERE / "services_by_hand.json"
TABLE = HERE.parent / "airflow_lro_provider" / "lro" / "resources" / "services.json"
DELETIONS = TABLE.with_name("deletions.json")
METHODS = TABLE.with_name("starts.json")
DEFAULT_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
DEFAULT_METHODS = {"get": "GET", "list": "GET", "cancel": "POST", "delete": "DELETE", "wait": "POST"}
LOCATION = "projects/*/locations/*/"
LEFT_OUT = {
    "storage": "operations have no name of their own: bucket and id are separate",
    "drive": "its operations have no documented names",
}
"""APIs that respond with operations, but whose paths are of another kind."""


# -- one API of several documents ---------------------------------------------------------------------------


def preferred_first(versions: Sequence[str]) -> list[str]:
    """Stable ones before others, newer ones before older ones."""

    def rank(version: str) -> tuple[int, int, int, str]:
        match = re.fullmatch(r"v(\d+)(?:(alpha|beta|p\d+beta|p\d+alpha)(\d*))?(.*)", version)
        if match is None:
            return (3, 0, 0, version)
        stage = {"": 0, "b": 1, "p": 1, "a": 2}[(match[2] or "")[:1]]
        return (stage, -int(match[1]), -int(match[3] or 0), version)

    return sorted(versions, key=rank)


def table_of(name: str, given: Sequence[Document]) -> dict[str, Any] | None:
    """The entry of one API; ``None`` if it has no operations that can be got."""
    by_version = {document.version: document for document in given if _has_operations(document)}
    if not any(one.verb == "get" for document in by_version.values() for one in document.verbs):
        return None
    raw = [document.raw for document in by_version.values()]
    preferred = [document.version for document in given if document.raw.get("preferred")]
    row: dict[str, Any] = {
        "title": _title(raw[0]),
        "host": raw[0]["rootUrl"].removeprefix("https://").rstrip("/"),
        "versions": sorted(preferred_first(list(by_version)), key=lambda v: _rank(by_version[v], v in preferred)),
    }
    names: dict[str, list[str]] = {}
    only: dict[str, dict[str, list[str]]] = {}
    parents: dict[str, list[str]] = {}
    row["prefixes"], row["http_methods"] = {}, {}
    for version in row["versions"]:
        document = by_version[version]
        served = {verb: list(_served(document, verb)) for verb in VERBS}
        patterns = {verb: {one.pattern for one in served[verb]} for verb in VERBS}
        of_names = set().union(*(patterns[verb] for verb in VERBS if verb != "list"))
        names[version] = compact(of_names)
        if patterns["list"] != {parent for pattern in of_names if (parent := listed_below(pattern))}:
            parents[version] = compact(patterns["list"])
        for verb in VERBS:
            if verb != "list" and patterns[verb] != of_names:
                only.setdefault(verb, {})[version] = compact(patterns[verb])
            for one in served[verb]:
                if one.prefix != version:
                    row["prefixes"][version] = one.prefix
                if one.http_method != DEFAULT_METHODS[verb]:
                    row["http_methods"][verb] = one.http_method
    everything = [one for document in by_version.values() for verb in VERBS for one in _served(document, verb)]
    row["verbs"] = [verb for verb in VERBS if any(one.verb == verb for one in everything)]
    row["names"], row["parents"] = same_once(names), same_once(parents)
    row["only"] = {verb: same_once(found) for verb, found in only.items() if verb in row["verbs"]}
    row["list_suffix"] = next((one.suffix for one in everything if one.verb == "list" and one.suffix), None)
    row["filter_required"] = any(one.filter_required for one in everything)
    waits = [one for one in everything if one.verb == "wait"]
    row["wait"] = None if not waits else "query" if "timeout" in waits[0].query else "body" if waits[0].body else "none"
    row["scopes"] = _scopes(raw)
    row["regional"] = regional_hosts(raw)
    row["request_id"] = _request_ids(list(by_version.values()))
    return {key: value for key, value in row.items() if value}


def _has_operations(document: Document) -> bool:
    return document.name not in LEFT_OUT and any(True for verb in VERBS for _ in _served(document, verb))


def _rank(document: Document, is_preferred: bool) -> tuple[bool, bool]:
    """First those with a get, then what Google prefers."""
    return not any(one.verb == "get" for one in document.verbs), not is_preferred


def _served(document: Document, verb: str) -> Iterator[Verb]:
    """The methods of a verb; of two spellings of the same, the plain one."""
    friends = set() if verb == "list" else document.false_friends
    mine = [one for one in document.verbs if one.verb == verb and one.pattern not in friends]
    plain = [one for one in mine if one.prefix == document.version] or mine
    others = {one.pattern for one in plain} - {"operations"}
    # `operations?name=…` beside `{name}/operations` is the same in another spelling.
    yield from (one for one in plain if not (one.pattern == "operations" and "name" in one.query and others))


def compact(patterns: set[str]) -> list[str]:
    """Merge two patterns that differ only by project and location into one, with a bracket."""
    found = []
    for pattern in sorted(patterns):
        if pattern.startswith(LOCATION) and pattern.removeprefix(LOCATION) in patterns:
            found.append(f"[{LOCATION}]{pattern.removeprefix(LOCATION)}")
        elif LOCATION + pattern not in patterns:
            found.append(pattern)
    return sorted(found)


def same_once(by_version: Mapping[str, list[str]]) -> dict[str, Any]:
    """Replace what a version has in common with an earlier one by that version."""
    written: dict[str, Any] = {}
    for version, value in by_version.items():
        twin = next((v for v, known in written.items() if known == value), None)
        written[version] = value if twin is None else twin
    return written


def _title(raw: Mapping[str, Any]) -> str:
    title = str(raw.get("canonicalName") or raw["title"])
    title = re.sub(r"\s+(Admin\s+)?API$", "", str(raw["title"])) or title
    return re.sub(r"^(Google )?Cloud (?=\S+ )|^Google (?=\S+ )", "", title)


def _scopes(raws: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scopes any of which suffices for a get; empty if it is cloud-platform alone."""
    found: set[str] = set()
    for raw in raws:
        for method in methods_of(raw):
            if read_verb(raw, method) is not None:
                found.update(method.get("scopes", []))
    return [] if not found or found == {DEFAULT_SCOPE} else sorted(found)


def _request_ids(given: Sequence[Document]) -> dict[str, list[str]]:
    """The methods with a request id, by its place, if all versions of the method agree on it."""
    places: dict[str, set[str | None]] = {}
    for document in given:
        for start, place in document.starts.items():
            places.setdefault(start, set()).add(place)
    found: dict[str, list[str]] = {}
    for start, seen in sorted(places.items()):
        if len(seen) == 1 and (place := next(iter(seen))):
            found.setdefault(place, []).append(start)
    return found


# -- all of them ---------------------------------------------------------------------------------------------


def generate() -> dict[str, Any]:
    """The whole catalog."""
    by_name: dict[str, list[Document]] = {}
    for document in documents():
        by_name.setdefault(document.name, []).append(document)
    by_hand = json.loads(BY_HAND.read_text("utf-8"))
    table = {}
    for name in sorted({*by_name, *by_hand}):
        row, more = table_of(name, by_name.get(name, [])) or {}, dict(by_hand.get(name, {}))
        regional = add_regional(row.get("regional", {}), more.pop("regional", {}))
        row.update({key: value for key, value in more.items() if key != "source"})
        if regional:
            row["regional"] = regional
        if row:
            table[name] = row
    return table


def starts(table: Mapping[str, Any]) -> dict[str, Any]:
    """The methods that start an operation, by API and version."""
    return _by_version(table, lambda document: sorted(document.starts))


def deletions(table: Mapping[str, Any]) -> dict[str, Any]:
    """What DELETE methods are called on, whatever they respond with; of operations the catalog itself knows."""

    def others(document: Document) -> list[str]:
        named = {one.pattern for one in _served(document, "delete") if one.prefix == document.version}
        return compact(document.deletions - named)

    return _by_version(table, others)


def _by_version(table: Mapping[str, Any], listed: Callable[[Document], list[str]]) -> dict[str, Any]:
    """What is listed of each API and version of the catalog."""
    found: dict[str, dict[str, list[str]]] = {}
    for document in documents():
        if document.version in table.get(document.name, {}).get("versions", ()):
            found.setdefault(document.name, {})[document.version] = listed(document)
    return {name: same_once(by_version) for name, by_version in sorted(found.items())}


def render(table: Mapping[str, Any]) -> str:
    """Render it with one line per API: short, and easy to compare."""
    rows = [f"{json.dumps(name)}:{json.dumps(row, separators=(',', ':'))}" for name, row in table.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Write the catalog of APIs from Google's discovery documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the catalog is not up to date")
    given = parser.parse_args(arguments)
    table = generate()
    texts = {TABLE: render(table), DELETIONS: render(deletions(table)), METHODS: render(starts(table))}
    if given.check:
        old = [file.name for file, text in texts.items() if not file.exists() or file.read_text("utf-8") != text]
        print(f"not up to date: {', '.join(old)}" if old else "the catalog is up to date")
        return 1 if old else 0
    for file, text in texts.items():
        file.write_text(text, "utf-8")
        print(f"{file.name}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
