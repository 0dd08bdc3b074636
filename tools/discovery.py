"""Google's discovery documents, as google-api-python-client ships them (a development dependency)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from airflow_lro_provider.lro.resources.catalog import VERBS


@dataclass(frozen=True)
class Verb:
    """A method of a discovery document that manages operations.

    :param id: as the document calls it.
    :param pattern: of the operation's name, or of the parent of a list.
    :param prefix: what precedes the name in the path; usually the version.
    :param suffix: what follows it, without the verb's own suffix.
    """

    id: str
    verb: str
    http_method: str
    pattern: str
    prefix: str
    suffix: str = ""
    query: tuple[str, ...] = ()
    body: bool = False
    filter_required: bool = False


@dataclass
class Document:
    """A discovery document, as far as operations are concerned.

    :param false_friends: patterns of resources that are called operations, but are not.
    :param starts: the methods that start an operation, and where each has its request id.
    :param deletions: what DELETE methods are called on.
    """

    raw: Mapping[str, Any]
    verbs: list[Verb] = field(default_factory=list)
    false_friends: set[str] = field(default_factory=set)
    starts: dict[str, str | None] = field(default_factory=dict)
    deletions: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The API's name."""
        return str(self.raw["name"])

    @property
    def version(self) -> str:
        """The API's version."""
        return str(self.raw["version"])


def documents_folder() -> Path:
    """The folder where google-api-python-client has them."""
    import googleapiclient

    return Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"


def methods_of(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All methods of a document, however deep."""
    yield from node.get("methods", {}).values()
    for child in node.get("resources", {}).values():
        yield from methods_of(child)


@lru_cache(maxsize=1)
def documents() -> list[Document]:
    """All documents."""
    found = []
    for file in sorted(documents_folder().glob("*.json")):
        raw = json.loads(file.read_text("utf-8"))
        if "name" not in raw or "version" not in raw:
            continue
        document = Document(raw)
        for method in methods_of(raw):
            if method["httpMethod"] == "DELETE":
                document.deletions.add(re.sub(r"^v\d\w*/", "", called_on(raw, method)))
            if (verb := read_verb(raw, method)) is not None:
                document.verbs.append(verb)
            elif _parts(method)[1] == "get" and re.search(_RESOURCE, _parts(method)[0]):
                document.false_friends.update(_name_patterns(method))
            elif (start := read_start(raw, method)) is not None:
                document.starts[start[0]] = start[1]
        found.append(document)
    return found


def read_verb(document: Mapping[str, Any], method: Mapping[str, Any]) -> Verb | None:
    """Read a method as a verb of the operations service; ``None`` if it is not one."""
    resource, verb = _parts(method)
    if verb not in VERBS or not re.search(_RESOURCE, resource):
        return None
    schema = schema_of(document, method.get("response"))
    if (verb == "get" and not _is_operation(schema)) or (verb == "list" and not _lists_operations(document, schema)):
        return None
    path = str(method["path"])
    if document.get("servicePath"):
        return None
    version = str(document["version"])
    if match := re.fullmatch(r"(v[^/]+)/apps/\{appsId\}/operations(/\{operationsId\})?", path):  # App Engine
        return Verb(method["id"], verb, method["httpMethod"], "apps/*/operations/*" if match[2] else "apps/*", version)
    if re.fullmatch(r"v[^/]+/projects/\{projectsId\}/locations/\{locationsId\}/operations(/\{operationsId\})?", path):
        name = "projects/*/locations/*" + ("/operations/*" if verb != "list" else "")
        return Verb(method["id"], verb, method["httpMethod"], name, version)
    parameters = method.get("parameters", {})
    query = tuple(name for name, one in parameters.items() if one.get("location") == "query")
    if verb == "list" and re.fullmatch(r"v[^/]+/operations", path):
        return Verb(method["id"], verb, "GET", "operations", version, "", query)
    match = re.fullmatch(r"(?P<prefix>.+?)/\{\+(?P<name>name|parent)\}(?P<rest>.*)", path)
    if match is None or "{" in match["rest"]:
        return None
    pattern = pattern_of(parameters[match["name"]])
    if pattern == "**":  # the ids of Speech-to-Text: plain numbers
        pattern = "*"
    suffix = match["rest"].removeprefix("/operations") if verb == "list" else match["rest"].removeprefix(f":{verb}")
    if verb == "list" and match["rest"] not in ("", "/operations", "/lro"):
        return None  # Spanner's lists of one kind of operation
    if verb == "list" and match["rest"] == "":
        if pattern.endswith("/operations"):
            pattern = pattern.removesuffix("/operations")  # the same path, split at another place
        elif pattern not in ("operations", "transferOperations"):
            return None
    return Verb(
        method["id"],
        verb,
        str(method["httpMethod"]),
        pattern,
        match["prefix"],
        suffix,
        query,
        "request" in method,
        bool(parameters.get("filter", {}).get("required")),
    )


_RESOURCE = r"(?i)operations?$|lro$"


def _parts(method: Mapping[str, Any]) -> tuple[str, str]:
    """The last two parts of a method's id: ``operations``, ``get``."""
    *_, resource, verb = ["", *str(method["id"]).split(".")]
    return resource, verb


def _name_patterns(method: Mapping[str, Any]) -> Iterator[str]:
    for one in method.get("parameters", {}).values():
        if one.get("location") == "path":
            yield pattern_of(one)


def pattern_of(parameter: Mapping[str, Any]) -> str:
    """Google's regular expression, as a pattern of segments."""
    return str(parameter.get("pattern", "*")).strip("^$").replace("[^/]+", "*").replace(".*", "**")


def read_start(document: Mapping[str, Any], method: Mapping[str, Any]) -> tuple[str, str | None] | None:
    """Read a method that starts an operation, and where it has a request id: ``query``, ``body`` or ``None``."""
    if not _is_operation(schema_of(document, method.get("response"))) or method["httpMethod"] == "GET":
        return None
    of_body = schema_of(document, method.get("request")).get("properties", {})
    place = None
    if "requestId" in (parameters := method.get("parameters", {})):
        place = "query" if _has_effect(parameters["requestId"]) else None
    elif "requestId" in of_body:
        place = "body" if _has_effect(of_body["requestId"]) else None
    return f"{method['httpMethod']} {called_on(document, method)}", place


def called_on(document: Mapping[str, Any], method: Mapping[str, Any]) -> str:
    """The pattern of the paths that a method is called on, below the version."""
    path = str(method["path"])
    for name, one in method.get("parameters", {}).items():
        if one.get("location") == "path":
            path = path.replace(f"{{+{name}}}", pattern_of(one)).replace(f"{{{name}}}", "*")
    return re.sub(rf"^(\w+/)?{document['version']}/", "", path)


def _has_effect(parameter: Mapping[str, Any]) -> bool:
    """Whether a parameter still does something: Retail's request id is "Deprecated. This field has no effect."."""
    words = str(parameter.get("description", ""))
    return not parameter.get("deprecated") and not re.search(r"(?i)\bdeprecated\b|\bno effect\b", words)


def schema_of(document: Mapping[str, Any], holder: Any) -> Mapping[str, Any]:
    """The schema that a method's request or response refers to; empty without one."""
    found: Mapping[str, Any] = document.get("schemas", {}).get((holder or {}).get("$ref"), {})
    return found


def _is_operation(schema: Mapping[str, Any]) -> bool:
    properties = set(schema.get("properties", {}))
    return {"name", "done"} <= properties and bool({"error", "response", "metadata"} & properties)


def _lists_operations(document: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    items = schema.get("properties", {}).get("operations", {}).get("items", {})
    return _is_operation(schema_of(document, items))
