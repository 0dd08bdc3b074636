"""docs/coming-from-google.md against Google's discovery documents: every method, its path, its query and its body."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.methods import Method, read_method
from tools import discovery
from tools.google_operators import PAGE, Row, blocks, read_rows

TEXT = PAGE.read_text("utf-8")


def calls_of(code: str) -> list[dict[str, Any]]:
    """The arguments of all calls in an example that are literal."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [{str(one.arg): ast.literal_eval(one.value) for one in call.keywords} for call in calls]


def row_of(call: Mapping[str, Any]) -> Row:
    """A call of an example, as a row; what is a template has some value."""
    method = call["method"].replace("{{ ti.xcom_pull(task_ids='start')['metadata']['name'] }}", EXECUTION)
    rest = {
        "service": call["service"],
        "method": f"{call.get('http_method', 'POST')} {re.sub(r'{{.*?}}', 'x', method)}",
        "body": json.dumps(call["body"]) if "body" in call else "",
    }
    return Row(f"example.{call['task_id']}", "", "", {}, rest)


EXECUTION = "projects/p/locations/us-central1/jobs/report/executions/report-1"
ROWS = [row for row in read_rows(TEXT) if "method" in row.rest]
OTHERS = [row for row in read_rows(TEXT) if "starts" in row.rest]
EXAMPLES = [row_of(call) for code in blocks(TEXT, "After") for call in calls_of(code) if "method" in call]
DOCUMENT_OF = {"sql": "sqladmin"}
"""APIs whose methods' ids do not begin with their name."""


def name_of(row: Row) -> str:
    """For the test's own name."""
    return row.operator.rpartition(".")[2]


@cache
def document(api: str, version: str) -> Mapping[str, Any]:
    """A discovery document."""
    read: Mapping[str, Any] = json.loads((discovery.documents_folder() / f"{api}.{version}.json").read_text("utf-8"))
    return read


def method_of(row: Row) -> tuple[Method, Mapping[str, Any]]:
    """What a row calls, and the discovery document's method that it is."""
    http_method, path = row.rest["method"].split(" ")
    method = read_method(path, http_method, row.rest["service"])
    found = [
        one
        for one in discovery.methods_of(document(method.service, method.version))
        if one["httpMethod"] == http_method
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/:]+", one["flatPath"]), f"{method.version}/{method.path}")
    ]
    assert len(found) == 1, f"{method}: {[one['id'] for one in found]}"
    return method, found[0]


def wrong_in(schemas: Mapping[str, Any], schema: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
    """What a schema does not have of a value."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "object")
    if kind == "any":
        return
    if kind == "object" and isinstance(value, Mapping):
        known = schema.get("properties", {})
        for name, part in value.items():
            if name not in known and "additionalProperties" not in schema:
                yield f"{where}.{name} is not known"
            else:
                yield from wrong_in(schemas, known.get(name) or schema["additionalProperties"], part, f"{where}.{name}")
    elif kind == "array" and isinstance(value, list):
        for part in value:
            yield from wrong_in(schemas, schema["items"], part, f"{where}[]")
    elif not isinstance(value, {"string": str, "integer": int, "number": (int, float), "boolean": bool}.get(kind, ())):
        yield f"{where} is {kind}, not {value!r}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where} is one of {schema['enum']}, not {value!r}"


def test_there_are_forty_operators_of_nineteen_apis() -> None:
    """As the page says: the table must not become empty, and has nobody twice."""
    assert len({row.operator for row in ROWS}) == len(ROWS) == 40
    assert len({row.rest["service"] for row in ROWS}) == 19
    assert len({row.operator for row in OTHERS}) == len(OTHERS) == 17


@pytest.mark.parametrize("row", [*ROWS, *EXAMPLES], ids=name_of)
def test_the_method_is_documented_and_starts_an_operation(row: Row) -> None:
    """Path and HTTP method are those of one method, the query has only what it takes, the response is an operation."""
    method, found = method_of(row)
    raw = document(method.service, method.version)
    assert discovery.read_start(raw, found) is not None, "its response is no operation"
    taken = {name for name, one in found["parameters"].items() if one["location"] == "query"}
    assert set(method.parameters) <= taken


@pytest.mark.parametrize("row", [*ROWS, *EXAMPLES], ids=name_of)
def test_the_body_is_of_the_methods_schema(row: Row) -> None:
    """Down to the last field, and with what the documents call required."""
    method, found = method_of(row)
    raw = document(method.service, method.version)
    body = json.loads(row.rest["body"] or "{}")
    if "request" not in found:
        assert not body
        return
    assert list(wrong_in(raw["schemas"], found["request"], body, "body")) == []
    if found["httpMethod"] == "POST":
        known = discovery.schema_of(raw, found["request"])["properties"]
        required = {name for name, one in known.items() if one.get("description", "").startswith("Required.")}
        assert required - {name for name in known if known[name].get("deprecated")} - set(body) <= NAMED_BY_THE_QUERY


NAMED_BY_THE_QUERY = {"name"}
"""Memorystore requires a name of an instance, and takes it from ``instanceId``, as all of Google's clients do."""


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_the_api_has_a_cancel_where_the_page_says_so(row: Row) -> None:
    """In the document, and in our catalog."""
    method, _ = method_of(row)
    verbs = [discovery.read_verb(document(method.service, method.version), one) for one in _methods(method)]
    assert row.rest["cancel"] == ("yes" if any(verb and verb.verb == "cancel" for verb in verbs) else "no")
    assert row.rest["cancel"] == ("no" if find_service(method.service).cannot_cancel(version=method.version) else "yes")


def _methods(method: Method) -> list[Mapping[str, Any]]:
    return list(discovery.methods_of(document(method.service, method.version)))


@pytest.mark.parametrize("row", OTHERS, ids=name_of)
def test_the_others_are_no_operations_of_this_kind(row: Row) -> None:
    """What they call is documented, and responds with something else; so is what cancels it."""
    starts, cancels = row.rest["starts"], row.rest["cancels"]
    api = DOCUMENT_OF.get(starts.partition(".")[0], starts.partition(".")[0])
    raws = [json.loads(file.read_text("utf-8")) for file in discovery.documents_folder().glob(f"{api}.v*.json")]
    [(raw, start)] = [
        (raw, one)
        for raw in raws
        if raw["version"] in NEWEST
        for one in discovery.methods_of(raw)
        if one["id"] == starts
    ]
    assert discovery.read_start(raw, start) is None
    assert not cancels or cancels in {one["id"] for one in discovery.methods_of(raw)}


NEWEST = ("v1", "v2", "v1b3")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("aiplatform.v1 projects.locations.customJobs.delete", "`projects/p/locations/us-central1/customJobs/1`"),
        ("batch.v1 projects.locations.jobs.cancel", "`projects/p/locations/us-central1/jobs/j:cancel`"),
        ("datastream.v1 projects.locations.streams.run", "Datastream"),
        ("file.v1 projects.locations.instances.create", "Filestore"),
        ("speech.v1 speech.longrunningrecognize", "`speech:longrunningrecognize`"),
        ("storagetransfer.v1 transferJobs.run", "POST transferJobs/1:run"),
        ("vision.v1 files.asyncBatchAnnotate", "`files:asyncBatchAnnotate`"),
    ],
)
def test_what_the_text_calls_an_operation_is_one(method: str, words: str) -> None:
    """What is said beside the tables."""
    api, _, name = method.partition(" ")
    raw = document(*api.split("."))
    [found] = [one for one in discovery.methods_of(raw) if one["id"] == f"{raw['name']}.{name}"]
    assert discovery.read_start(raw, found) is not None
    assert words in TEXT


def test_an_example_before_is_of_an_operator_of_the_page() -> None:
    """So that its arguments are held against the wheel, as all that is said of it."""
    known = {row.operator for row in ROWS} | {row.operator for row in OTHERS}
    for code in blocks(TEXT, "Before"):
        used = [
            f"{str(one.module).removeprefix('airflow.providers.google.')}.{alias.name}"
            for one in ast.parse(code).body
            if isinstance(one, ast.ImportFrom)
            for alias in one.names
        ]
        assert used
        assert set(used) <= known
        assert len(calls_of(code)) == len(used)
