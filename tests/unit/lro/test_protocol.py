"""Each verb as plain data: what is sent, and what a response means."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.errors import (
    MalformedResponseError,
    NotFoundError,
    OperationsError,
    ResourceExhaustedError,
    ResponseTooLargeError,
    TransportError,
    UnknownServiceError,
)
from airflow_lro_provider.lro.http.messages import Request, Response, unreadable
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.protocol import Page
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

NAMES = {
    "earthengine": "projects/p/operations/o/nested",
    "developerconnect": "projects/p/locations/us-central1/operations/o",
    "datafusion": "projects/p/locations/us-central1/operations/o",
    "automl": "projects/p/locations/us-central1/operations/ICN1",
    "aiplatform": "projects/p/locations/us-central1/endpoints/1/operations/2",
}
BASES = {
    "earthengine": "https://earthengine.googleapis.com/v1/",
    "developerconnect": "https://developerconnect.us-central1.rep.googleapis.com/v1/",
    "datafusion": "https://datafusion.us-central1.rep.googleapis.com/v1/",
    "automl": "https://automl.googleapis.com/v1/",
    "aiplatform": "https://us-central1-aiplatform.googleapis.com/v1/",
}


def build(verb: str, service: str, *arguments: Any, version: str | None = None) -> Request[Any]:
    """The request of a verb for the service's sample name, to Google's own host."""
    reference = read_reference(NAMES[service], service, version)
    request: Request[Any] = getattr(protocol, verb)(reference, endpoint_of(reference), *arguments)
    return request


def response(status: int, content: Any = b"", **headers: str) -> Response:
    """A response with a body of bytes, or of this content as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(status, headers, body)


# --- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", NAMES)
@pytest.mark.parametrize(
    ("verb", "method", "suffix"), [("get", "GET", ""), ("cancel", "POST", ":cancel"), ("delete", "DELETE", "")]
)
def test_request(service: str, verb: str, method: str, suffix: str) -> None:
    """Method and URL are those of the HTTP rule, the body is empty, and no header is needed."""
    request = build(verb, service)
    assert (request.verb, request.method, request.url) == (verb, method, BASES[service] + NAMES[service] + suffix)
    assert (request.body, request.headers, request.timeout) == (b"", {}, 0.0)


@pytest.mark.parametrize(
    ("service", "version"),
    [
        ("earthengine", "v1beta"),
        ("earthengine", "v1alpha"),
        ("datafusion", "v1beta1"),
        ("automl", "v1beta1"),
        ("aiplatform", "v1beta1"),
    ],
)
def test_the_version_is_in_the_path(service: str, version: str) -> None:
    """Every verb speaks the version of the reference."""
    for verb in ("get", "cancel", "delete"):
        assert urlsplit(build(verb, service, version=version).url).path.startswith(f"/{version}/projects/")


@pytest.mark.parametrize(
    ("timeout", "text"),
    [(7, "7s"), (0, "0s"), (100.0, "100s"), (0.05, "0.05s"), (2.5, "2.5s"), (1.23456, "1.235s")],
)
def test_wait_of_vertex_has_its_timeout_in_the_query(timeout: float, text: str) -> None:
    """Vertex AI reads the timeout from the query, as a Duration, and the body is empty."""
    request = build("wait", "aiplatform", timeout)
    url = urlsplit(request.url)
    assert (request.method, url.path) == ("POST", f"/v1/{NAMES['aiplatform']}:wait")
    assert parse_qs(url.query) == {"timeout": [text]}
    assert (request.body, request.headers, request.timeout) == (b"", {}, timeout)


@pytest.mark.parametrize("service", ["earthengine", "automl"])
@pytest.mark.parametrize(("timeout", "text"), [(7, "7s"), (300.0, "300s"), (0.25, "0.25s")])
def test_wait_of_the_others_has_its_timeout_in_the_body(service: str, timeout: float, text: str) -> None:
    """Earth Engine and AutoML read the timeout from a JSON body, and the URL has no query."""
    request = build("wait", service, timeout)
    assert (request.method, request.url) == ("POST", BASES[service] + NAMES[service] + ":wait")
    assert json.loads(request.body) == {"timeout": text}
    assert (request.headers, request.timeout) == ({"content-type": "application/json"}, timeout)


@pytest.mark.parametrize(
    ("service", "parent", "path"),
    [
        ("earthengine", "projects/p", "/v1/projects/p/operations"),
        ("datafusion", "projects/p/locations/l", "/v1/projects/p/locations/l/operations"),
        ("datafusion", "projects/p/locations/-", "/v1/projects/p/locations/-/operations"),
        (
            "aiplatform",
            "projects/p/locations/us-east4/endpoints/1",
            "/v1/projects/p/locations/us-east4/endpoints/1/operations",
        ),
    ],
)
def test_list(service: str, parent: str, path: str) -> None:
    """A list is a GET of the parent's operations, without a query where none is needed."""
    reference = read_parent(parent, service)
    request = protocol.list_(reference, endpoint_of(reference))
    url = urlsplit(request.url)
    assert (request.verb, request.method, url.path, url.query, request.body) == ("list", "GET", path, "", b"")


def test_list_query() -> None:
    """Filter, page size and page token go into the query under their own names, quoted."""
    reference = read_parent("projects/p", "earthengine")
    request = protocol.list_(
        reference, endpoint_of(reference), filter="done:false AND name=a&b#c", page_size=5, page_token="t=/+?"
    )
    url = urlsplit(request.url)
    assert (url.path, url.fragment) == ("/v1/projects/p/operations", "")
    assert parse_qs(url.query) == {
        "filter": ["done:false AND name=a&b#c"],
        "pageSize": ["5"],
        "pageToken": ["t=/+?"],
    }


@pytest.mark.parametrize("nothing", [{}, {"filter": "", "page_token": ""}, {"page_size": None}], ids=repr)
def test_list_leaves_out_what_is_not_asked(nothing: dict[str, Any]) -> None:
    """An empty argument is no parameter."""
    reference = read_parent("projects/p", "earthengine")
    assert "?" not in protocol.list_(reference, endpoint_of(reference), **nothing).url


def test_odd_characters_of_real_names_stay_as_they_are() -> None:
    """Colons, parentheses and the like are path characters, which no encoding changes."""
    reference = read_reference("projects/my-org.com:p/operations/(default):x@1=2/a+b~c!$&'*,;", "earthengine")
    assert urlsplit(protocol.cancel(reference, endpoint_of(reference)).url).path == f"/v1/{reference.name}:cancel"


def test_an_endpoint_with_a_path_keeps_it() -> None:
    """The connection's endpoint may have a path, which comes before the version."""
    reference = read_reference(NAMES["datafusion"], "datafusion")
    request = protocol.get(reference, endpoint_of(reference, "http://127.0.0.1:1/{service}/"))
    assert request.url == f"http://127.0.0.1:1/datafusion/v1/{NAMES['datafusion']}"


@pytest.mark.parametrize(
    ("verb", "service", "name", "arguments"),
    [
        ("wait", "datafusion", NAMES["datafusion"], (1.0,)),
        ("wait", "developerconnect", NAMES["developerconnect"], (1.0,)),
        ("cancel", "aiplatform", "projects/p/locations/us-central1/featureGroups/1/operations/2", ()),
        ("cancel", "aiplatform", "featureOnlineStores/1/featureViews/2/operations/3", ()),
    ],
    ids=["Data Fusion's wait", "Developer Connect's wait", "Vertex feature groups' cancel", "rootless"],
)
def test_a_verb_that_is_not_there_is_refused(verb: str, service: str, name: str, arguments: tuple[float, ...]) -> None:
    """What an API does not offer is refused before there is a request, with what it offers."""
    reference = read_reference(name, service)
    with pytest.raises(UnknownServiceError, match=rf"does not offer {verb} in v1 for {name}\. It offers: get, list"):
        getattr(protocol, verb)(reference, endpoint_of(reference), *arguments)


# --- responses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["cancel", "delete"])
@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize(
    "body",
    [b"{}", b"", b" \n", b'{"@type": "type.googleapis.com/google.protobuf.Empty"}', b'{"new": "field"}'],
    ids=["{}", "nothing", "white space", "typed", "with a field"],
)
def test_an_empty_answer_is_good(verb: str, status: int, body: bytes) -> None:
    """Cancel and delete return `{}` or nothing at all, and neither says how the operation will end."""
    assert build(verb, "datafusion").read(response(status, body)) is None


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"null", b'"ok"', b"{"])
@pytest.mark.parametrize("verb", ["cancel", "delete", "get", "wait", "list"])
def test_a_good_status_with_a_bad_body_is_malformed(verb: str, body: bytes) -> None:
    """A proxy's page with status 200 is not a response of the API, for any verb, and the message says what to check."""
    with pytest.raises(
        MalformedResponseError, match=r"could not read the response: .* no proxy responds in its place"
    ) as e:
        any_request(verb).read(response(200, body))
    assert e.value.transient


def any_request(verb: str) -> Request[Any]:
    """A request of any verb."""
    if verb == "list":
        reference = read_parent("projects/p", "earthengine")
        return protocol.list_(reference, endpoint_of(reference))
    return build(verb, "earthengine", *([1.0] if verb == "wait" else []))


@pytest.mark.parametrize("verb", ["get", "wait"])
def test_an_operation_is_read(verb: str) -> None:
    """Get and wait give the operation, done or not."""
    raw = {"name": NAMES["earthengine"], "metadata": {"state": "RUNNING"}}
    operation = any_request(verb).read(response(200, raw))
    assert operation == Operation.from_json(raw)


@pytest.mark.parametrize("verb", ["get", "wait"])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"done": "yes"}', b'{"status": "DONE"}', b"\xff\xfe"])
def test_what_is_no_operation_is_malformed(verb: str, body: bytes) -> None:
    """An object that is no operation, or no text at all, fails closed and names verb and operation."""
    with pytest.raises(MalformedResponseError, match=f"earthengine: {verb} {NAMES['earthengine']}: "):
        any_request(verb).read(response(200, body))


@pytest.mark.parametrize("verb", ["get", "wait", "poll"])
@pytest.mark.parametrize(
    "content", [{"name": "projects/p/operations/other", "done": True, "response": {}}, {"done": True}]
)
def test_what_is_about_no_or_another_operation_proves_nothing(verb: str, content: dict[str, Any]) -> None:
    """A response that somebody mixed up, or a fragment of one, is asked for again, and is no success."""
    request = any_request(verb)
    with pytest.raises(MalformedResponseError, match=f"{request.verb} {NAMES['earthengine']}: .*operation") as caught:
        request.read(response(200, content))
    assert caught.value.transient


@pytest.mark.parametrize("name", ["projects/123/operations/o/nested", "operations/nested", ""])
def test_a_name_may_be_spelled_otherwise(name: str) -> None:
    """Services give a project by its number, or leave out what is before the id, or all of it."""
    raw = {"name": name, "done": True, "response": {}}
    assert any_request("get").read(response(200, raw)) == Operation.from_json(raw)


def test_json_that_is_nested_too_deeply_is_malformed() -> None:
    """A body made to exhaust the parser is an error like any other."""
    with pytest.raises(ResponseTooLargeError, match="it is nested deeper than 100 levels"):
        any_request("get").read(response(200, b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


@pytest.mark.parametrize(
    ("content", "page"),
    [
        ({}, Page(())),
        ({"operations": []}, Page(())),
        (
            {"operations": [{"name": "a"}, {"name": "b", "done": True}], "nextPageToken": "t"},
            Page((Operation.from_json({"name": "a"}), Operation.from_json({"name": "b", "done": True})), "t"),
        ),
        ({"unreachable": []}, Page(())),
    ],
    ids=["empty", "none", "two and a token", "all reachable"],
)
def test_a_page_is_read(content: dict[str, Any], page: Page) -> None:
    """A page has operations and the next token; an empty one is `{}`."""
    assert any_request("list").read(response(200, content)) == page


def test_a_list_without_a_location_is_no_list() -> None:
    """Of one that did not respond nothing is known, and whoever lists wants to know all: it is requested again."""
    content = {"operations": [{"name": "a"}], "unreachable": ["projects/p/locations/x"]}
    with pytest.raises(TransportError, match="not complete, there was no response of projects/p/locations/x") as caught:
        any_request("list").read(response(200, content))
    assert caught.value.transient


@pytest.mark.parametrize(
    "content",
    [
        {"operations": {}},
        {"operations": None},
        {"operations": ["a"]},
        {"operations": [{}]},
        {"nextPageToken": 7},
        {"unreachable": "x"},
    ],
    ids=repr,
)
def test_a_page_of_the_wrong_shape_is_malformed(content: dict[str, Any]) -> None:
    """A list whose fields have the wrong type fails closed, as a whole."""
    with pytest.raises(MalformedResponseError, match="earthengine: list projects/p: "):
        any_request("list").read(response(200, content))


@pytest.mark.parametrize("verb", ["get", "list", "cancel", "delete", "wait"])
def test_an_error_is_raised_for_every_verb(verb: str) -> None:
    """An error of the API has the verb and the name of its request."""
    body = {"error": {"code": 404, "status": "NOT_FOUND", "message": "gone"}}
    with pytest.raises(NotFoundError, match="gone") as caught:
        any_request(verb).read(response(404, body))
    request = any_request(verb)
    assert (caught.value.verb, caught.value.operation) == (verb, request.resource.name)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """A redirect is said to be one: the token does not travel."""
    with pytest.raises(OperationsError, match=rf"a redirect \(HTTP {status}\).*Check the endpoint"):
        any_request("get").read(response(status, {"name": "o"}, location="https://evil.example/"))
    with pytest.raises(OperationsError, match="a redirect"):
        any_request("cancel").read(response(status))


def test_a_retry_after_date_needs_the_time() -> None:
    """The time that a date is compared with comes in from outside."""
    date = "Sun, 01 Nov 2026 10:00:30 GMT"
    now = datetime(2026, 11, 1, 10, 0, 0, tzinfo=timezone.utc)
    late = response(429, b"", **{"retry-after": date})
    with pytest.raises(ResourceExhaustedError) as caught:
        any_request("get").read(late, now)
    assert caught.value.retry_after == 30
    with pytest.raises(ResourceExhaustedError) as caught:
        any_request("get").read(late)
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    "told",
    [
        b"Bearer ya29.SECRET/x",
        b"ya29.SECRET/x",
        rb"ya29.SECRET\/x",
        rb"\u0079a29\u002eSECRET\u002fx",
        rb"\\\u0079a29.SECRET/x",
    ],
)
def test_a_response_forgets_the_token_that_it_repeats(told: bytes) -> None:
    """However JSON spells it, in the body and in the headers; the rest of the response stays."""
    found = Response(200, {"x": f"<{told.decode()}>"}, b'{"metadata":{"a":"' + told + b'","b":"\\u00e4"}}')
    kept = found.without({"authorization": "Bearer ya29.SECRET/x"})
    content = json.loads(kept.body)
    assert "SECRET" not in str(content)
    assert "[hidden]" in content["metadata"]["a"]
    assert content["metadata"]["b"] == "ä"
    assert "ya29.SECRET/x" not in kept.headers["x"]


def test_the_start_of_a_response_forgets_the_token_too() -> None:
    """B11: what is kept of a response that is too large."""
    error = ResponseTooLargeError("it is too large", b'{"metadata":{"a":"ya29.SECRET/x"},"response":')
    kept = unreadable(any_request("get"), error, {"authorization": "Bearer ya29.SECRET/x"})
    assert isinstance(kept, ResponseTooLargeError)
    assert kept.start == b'{"metadata":{"a":"[hidden]"},"response":'


@pytest.mark.parametrize("sent", [{}, {"authorization": "Bearer ya29.other-token"}, {"authorization": "Bearer a"}])
def test_an_answer_without_the_token_stays_as_it_is(sent: dict[str, str]) -> None:
    """Nothing is rewritten that need not be: not even how it is escaped."""
    found = Response(200, {"x": "a"}, rb'{"a":"\\u0061 \u0061 \/ \u0022"}')
    assert found.without(sent) is found


def test_escapes_that_have_a_meaning_are_kept() -> None:
    """A quote, a backslash and a control character stay escaped; what follows an escaped backslash is text."""
    found = Response(200, {}, rb'{"a":"\u0022 \u005c \u000a \\u0061 \\\u0061","t":"ya29.SECRET"}')
    kept = found.without({"authorization": "Bearer ya29.SECRET"})
    assert json.loads(kept.body) == {**json.loads(found.body), "t": "[hidden]"}


# --- polls -----------------------------------------------------------------------------------------

MASK = "fields=name,done,error,metadata"
DONE: dict[str, Any] = {"name": NAMES["earthengine"], "metadata": {"a": [1]}, "done": True}


@pytest.mark.parametrize(
    ("service", "timeout", "suffix"),
    [
        ("datafusion", 0.0, f"?{MASK}"),
        ("automl", 2.0, f":wait?{MASK}"),
        ("aiplatform", 2.0, f":wait?timeout=2s&{MASK}"),
    ],
)
def test_a_poll_asks_for_all_but_the_response(service: str, timeout: float, suffix: str) -> None:
    """B11: with a field mask, which the same request without one goes along with."""
    request = build("poll", service, timeout)
    assert request.url == f"{BASES[service]}{NAMES[service]}{suffix}"
    plain = build("wait", service, timeout) if timeout else build("get", service)
    assert request.unmasked is not None
    assert (request.unmasked.url, request.unmasked.body) == (plain.url, plain.body)
    assert plain.unmasked is None


def test_a_list_that_is_polled_asks_for_all_but_the_responses() -> None:
    """B11: as rows, and as a page; one that is read by people has them."""
    parent = read_parent("projects/p/locations/us-central1", "datafusion")
    suffix = f"?pageSize=5&fields=operations({MASK.removeprefix('fields=')}),nextPageToken,unreachable"
    rows = protocol.rows(parent, endpoint_of(parent), protocol.PageQuery(page_size=5))
    page = protocol.list_(parent, endpoint_of(parent), page_size=5, include_response=False)
    assert rows.url == page.url == f"{BASES['datafusion']}projects/p/locations/us-central1/operations{suffix}"
    assert protocol.list_(parent, endpoint_of(parent), page_size=5).url.endswith("?pageSize=5")


@pytest.mark.parametrize(
    ("more", "lacks"),
    [
        ({}, True),
        ({"response": {}}, True),  # perhaps the husk that a mask has left
        ({"error": {"code": 1}}, False),
        ({"done": False}, False),
    ],
)
def test_a_success_without_its_response_says_so(more: dict[str, Any], lacks: bool) -> None:
    """B11: polled by name or in a list with a mask; what was got whole lacks nothing."""
    raw = {**DONE, **more}
    poll = build("poll", "earthengine")
    assert poll.read(response(200, raw)).lacks_response is lacks
    assert protocol.read_row(json.dumps(raw).encode()).lacks_response is lacks
    assert not build("get", "earthengine").read(response(200, raw)).lacks_response
    if "response" in more:  # the next poll has no mask: so what it gets is whole
        assert not build("poll", "earthengine").read(response(200, raw)).lacks_response


def test_a_service_that_does_not_honour_masks_is_sent_none() -> None:
    """B11: once its response to one has what was left out; other services, and lists, still are."""
    request = build("poll", "earthengine")
    request.read(response(200, {**DONE, "response": {}}))
    assert build("poll", "earthengine") == request.unmasked
    assert build("poll", "datafusion").unmasked is not None
    parent = read_parent("projects/p", "earthengine")
    assert protocol.rows(parent, endpoint_of(parent), protocol.PageQuery()).unmasked is not None


@pytest.mark.parametrize("verb", ["get", "poll", "wait"])
@pytest.mark.parametrize(
    ("start", "succeeded"),
    [
        (json.dumps(DONE)[:-1] + ', "response": {"large": "xxx', True),
        (json.dumps(DONE)[:-1] + ', "response": null, "metadata": {"large": "xxx', False),
        (json.dumps(DONE)[:-1] + ', "response": {}, "metadata": {"large": "xxx', False),
        (json.dumps(DONE)[:-1] + ', "response": {', False),
        (json.dumps(DONE)[:-1] + ', "response": [{"large": "xxx', False),
        (json.dumps(DONE)[:-1] + ', "response": "xxx', False),
        ('{"response": null, ' + json.dumps(DONE)[1:-1] + ', "metadata": {"large": "xxx', False),
        ('{"response": {}, "error": {"code": 13}, "done": true, "metadata": {"large": "xxx', False),
        (json.dumps(DONE, indent=2)[:-2] + ',\n  "response" : {"large": "xxx', True),
        ('{"metadata": {"b": 1, "response": {}}, ' + json.dumps(DONE)[1:-1] + ', "response": {"a": [', True),
        (json.dumps({**DONE, "error": {"code": 1}})[:-1] + ', "response": {"large": "xxx', False),
        (
            json.dumps({"name": NAMES["earthengine"]})[:-1] + ', "response": {"large": "xxx',
            True,
        ),  # its done comes later
        ('{"metadata": {}, "response": {"large": "xxx', True),
        ('{"response": {"large": "xxx', True),
        (json.dumps(DONE)[:-1] + ', "metadata": {"response": {"large": "xxx', False),
        (json.dumps(DONE)[:-1] + ', "large": ", \\"response\\": {', False),
        ("<html>", False),
        ("", False),
    ],
)
def test_what_comes_before_a_response_that_is_too_large_is_read(verb: str, start: str, succeeded: bool) -> None:
    """B11, M1: a success stays one, and says what is missing and how to get it; nothing else is taken for one."""
    request = build(verb, "earthengine", *([2.0] if verb == "wait" else []))
    found = protocol.read_start(request, ResponseTooLargeError("it is larger than 9 bytes", start.encode()))
    if not succeeded:
        assert found is None
        return
    assert (found.outcome, found.response) == (Outcome.SUCCEEDED, None)
    assert found.name == (NAMES["earthengine"] if '"name"' in start else "")
    assert not found.lacks_response
    assert "too large to be taken (it is larger than 9 bytes)" in found.response_missing
    assert found.response_missing.endswith(f" {BASES['earthengine']}{NAMES['earthengine']}")


@pytest.mark.parametrize("verb", ["get", "poll", "wait"])
def test_what_comes_before_may_be_another_operation_or_a_running_one(verb: str) -> None:
    """M1: its name is checked as everywhere, and one that says that it is not done is running."""
    request = build(verb, "earthengine", *([2.0] if verb == "wait" else []))
    before = json.dumps({**DONE, "done": False})[:-1] + ', "response": {"large": "xxx'
    found = protocol.read_start(request, ResponseTooLargeError("it is too large", before.encode()))
    assert (found.name, found.outcome, found.response_missing) == (NAMES["earthengine"], None, "")
    other = json.dumps({**DONE, "name": NAMES["earthengine"] + "2"})
    start = (other[:-1] + ', "response": {"large": "xxx').encode()
    with pytest.raises(MalformedResponseError, match="it is about another operation"):
        request.read(response(200, other.encode()))
    with pytest.raises(MalformedResponseError, match="it is about another operation") as caught:
        protocol.read_start(request, ResponseTooLargeError("it is too large", start))
    assert caught.value.transient


def test_json_beyond_a_limit_is_read_up_to_it() -> None:
    """B11: the same if the response has too many levels, digits or objects, and not too many bytes."""
    request = build("poll", "earthengine")
    with pytest.raises(ResponseTooLargeError) as caught:
        request.read(
            response(200, json.dumps(DONE)[:-1].encode() + b', "response": {"a": ' + b"[" * 999 + b"]" * 999 + b"}}")
        )
    assert protocol.read_start(request, caught.value).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("verb", ["cancel", "delete", "list"])
def test_other_responses_that_are_too_large_say_nothing(verb: str) -> None:
    """B11: a list is split, and polled by name; the others have nothing to say."""
    start = json.dumps(DONE)[:-1].encode() + b', "response": {"a": '
    assert protocol.read_start(any_request(verb), ResponseTooLargeError("it is too large", start)) is None


def test_a_start_whose_response_is_too_large_has_started_something() -> None:
    """B11: and that has succeeded already."""
    method = read_method("projects/p/locations/l/instances?instanceId=i", "POST", "datafusion")
    request = protocol.start(method, endpoint_of(method))
    content = {"name": NAMES["datafusion"], "done": True, "response": {"a": 1}}
    start = json.dumps(content).encode()[:-3]
    found = protocol.read_start(request, ResponseTooLargeError("it is too large", start))
    reference, operation = protocol.started(request, found)
    assert (reference.name, operation.outcome) == (NAMES["datafusion"], Outcome.SUCCEEDED)
    assert operation.response_missing
    error = ResponseTooLargeError("it is too large", b'{"done": true, "response": {"a": [')
    assert protocol.read_start(request, error) is None  # what has no name may be a resource
