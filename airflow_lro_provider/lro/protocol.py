"""Every verb of ``google.longrunning.Operations`` over REST as plain data ("sans I/O").

Each function builds a :class:`~airflow_lro_provider.lro.http.messages.Request`, which reads its own response. So what
is sent and what a response means is decided once, for every client.

=======  ==========================================================  ==============================
verb     request                                                     response
=======  ==========================================================  ==============================
get      ``GET {endpoint}/{version}/{name}``                         an operation
poll     the same, or ``wait``, with a field mask                    an operation without its response
list     ``GET {endpoint}/{version}/{parent}/operations``            operations, nextPageToken, unreachable
cancel   ``POST {endpoint}/{version}/{name}:cancel``, empty body     ``{}`` or nothing
delete   ``DELETE {endpoint}/{version}/{name}``                      ``{}`` or nothing
wait     ``POST {endpoint}/{version}/{name}:wait``, with a timeout   an operation, perhaps not done
start    any method that responds with an operation                  an operation, perhaps done
read     ``GET {endpoint}/{version}/{name}`` of another resource     that
=======  ==========================================================  ==============================

Source: google/longrunning/operations.proto and the REST pages of the APIs.

Polls have a field mask (:mod:`~airflow_lro_provider.lro.field_mask`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from airflow_lro_provider.lro import errors
from airflow_lro_provider.lro.field_mask import LIST_FIELDS, POLL_FIELDS, masked, note_unmasked
from airflow_lro_provider.lro.http.body import START_BYTES
from airflow_lro_provider.lro.http.json import JsonLimitError, Row, read_before, read_json, read_page
from airflow_lro_provider.lro.http.messages import Request, Response, unreadable
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method, with_request_id
from airflow_lro_provider.lro.resources.names import OperationReference, Parent, check_name
from airflow_lro_provider.lro.resources.request_body import read_body
from airflow_lro_provider.lro.status import error_from_response

T = TypeVar("T")
_Reader = Callable[[Request[T], Response, datetime | None], T]


@dataclass(frozen=True)
class Page:
    """One page of a list.

    :param next_page_token: what to request the next page with; empty on the last one.
    """

    operations: tuple[Operation, ...]
    next_page_token: str = ""


@dataclass(frozen=True)
class Rows:
    """One page of a list, split but not read: of a thousand rows, few say something new.

    :param rows: the operations, unread (:func:`read_row`).
    :param size: bytes of the response.
    """

    rows: Sequence[Row]
    next_page_token: str = ""
    size: int = 0


def get(reference: OperationReference, endpoint: str) -> Request[Operation]:
    """Get an operation as it is now."""
    return _of_operation("get", reference, endpoint, _read_operation)


def poll(reference: OperationReference, endpoint: str, timeout: float = 0.0) -> Request[Operation]:
    """The state of an operation: without its response, where the service honours a field mask.

    :param timeout: of a ``:wait``, in seconds; 0 for a ``get``.
    """
    request = wait(reference, endpoint, timeout) if timeout else get(reference, endpoint)
    return masked(replace(request, reader=_read_poll), POLL_FIELDS)


def cancel(reference: OperationReference, endpoint: str) -> Request[None]:
    """Request its cancellation. Best effort: success means that the service accepted the request."""
    return _of_operation("cancel", reference, endpoint, _read_nothing)


def delete(reference: OperationReference, endpoint: str) -> Request[None]:
    """Make the service forget it. This never cancels it."""
    return _of_operation("delete", reference, endpoint, _read_nothing)


def wait(reference: OperationReference, endpoint: str, timeout: float) -> Request[Operation]:
    """Let the service respond when it has finished, or after ``timeout`` seconds, whichever is first."""
    request = replace(_of_operation("wait", reference, endpoint, _read_operation), timeout=timeout)
    duration = {"timeout": f"{timeout:.3f}".rstrip("0").rstrip(".") + "s"}
    if find_service(reference.service).wait == "query":
        return replace(request, url=f"{request.url}?{urlencode(duration)}")
    return replace(request, body=json.dumps(duration).encode(), headers={"content-type": "application/json"})


def list_(
    parent: Parent,
    endpoint: str,
    *,
    filter: str | None = None,
    page_size: int | None = None,
    page_token: str | None = None,
    include_response: bool = True,
) -> Request[Page]:
    """One page of the operations of a parent (``parent.name``).

    :param filter: in the service's own dialect.
    :param page_token: of an earlier page; of the first one if not given.
    :param include_response: whether the operations have their responses.
    """
    service = find_service(parent.service)
    service.require("list", parent.name, parent.version)
    if service.filter_required and not filter:
        raise errors.InvalidReferenceError(
            f"{service.title} ({service.name}) lists operations only with a filter; nothing was sent. Give filter=…"
        )
    if page_size is not None and (isinstance(page_size, bool) or not isinstance(page_size, int) or page_size < 0):
        raise errors.InvalidRequestError(f"`page_size` must be a whole number from 1 on, got {page_size!r:.100}")
    query = {"filter": filter, "pageSize": page_size, "pageToken": page_token}
    query = {key: value for key, value in query.items() if value}
    url = _url("list", parent, endpoint)
    request = Request("list", "GET", f"{url}?{urlencode(query)}" if query else url, parent, _read_page)
    return request if include_response else masked(request, LIST_FIELDS)


class PageQuery(NamedTuple):
    """What :func:`list_` takes, as one value."""

    filter: str | None = None
    page_size: int | None = None
    page_token: str | None = None


def rows(parent: Parent, endpoint: str, query: PageQuery) -> Request[Rows]:
    """The same as :func:`list_`, for those who poll: few of the operations on a page are read, and no response."""
    request: Request[Any] = list_(parent, endpoint, **query._asdict())
    return masked(replace(request, reader=_read_rows), LIST_FIELDS)


def start(
    method: Method,
    endpoint: str,
    body: Mapping[str, Any] | None = None,
    *,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Request[dict[str, Any]]:
    """Call a method that starts an operation. What it responds with is read by :func:`started`.

    :param body: the JSON object to send; see :mod:`airflow_lro_provider.lro.resources.request_body`.
    :param request_id: makes the call repeatable, where it takes one (:func:`with_request_id`).
    :param timeout: how long the response may take, in seconds.
    :raises InvalidReferenceError: for a body that has no form as a JSON object.
    """
    query, content, repeatable = with_request_id(method, read_body(body) or {}, request_id)
    data = json.dumps(content).encode() if body is not None or content else b""
    url = _root_url(method, endpoint)
    return Request(
        "start",
        method.http_method,
        f"{url}?{query}" if query else url,
        method,
        _read_object,
        data,
        headers={"content-type": "application/json"} if data else {},
        response_timeout=timeout,
        repeatable=repeatable,
    )


def read_resource(resource: Resource, endpoint: str) -> Request[dict[str, Any]]:
    """Get a resource that is no operation, as it is now."""
    return Request("read", "GET", _root_url(resource, endpoint), resource, _read_object)


def started(request: Request[Any], content: Mapping[str, Any]) -> tuple[Resource, Operation]:
    """Read the response to a start: the operation, and its reference.

    Some services give an operation that has finished at once no usable name: then the method takes its place.

    :raises NotAnOperationError: if the response is a plain resource, or an operation whose name this service is not
        known to have.
    """
    about = request.resource
    service, name = find_service(about.service), content.get("name")
    try:
        # Checked like a name that a user gives: the response may come from anybody.
        good = check_name(name, service, about.version)
        host = about.host
        if host == service.host and not service.is_global:  # a method without a location
            host = service.host_for(good)
    except errors.InvalidReferenceError:
        pass
    else:
        return OperationReference(about.service, about.version, good, host), Operation.from_json(content)
    if content.get("done") is True and ("response" in content or "error" in content):
        return about, Operation.from_json(content)
    what = f"{about.service}: {request.method} {about.name} responded with"
    if "done" in content or (isinstance(name, str) and "operations/" in name):
        raise errors.NotAnOperationError(
            f"{what} an operation of an unknown kind, {name!r:.200}. It may be running, and is not guarded.",
            content,
            is_resource=False,
        )
    raise errors.NotAnOperationError(
        f"{what} {f'the resource {name!r:.200}' if name else 'something else'} and not with an operation: there"
        " is nothing to wait for. If that is intended, set allow_resource=True.",
        content,
    )


def read_row(row: bytes) -> Operation:
    """Read one operation of :class:`Rows`, as strictly as one that was requested by name.

    :raises MalformedResponseError: if it cannot be read.
    """
    try:
        content = read_json(row)
    except ValueError as error:
        raise errors.MalformedResponseError(f"could not read an operation in a list: {error}") from None
    return _polled(Operation.from_json(content))


def _read_rows(request: Request[Any], response: Response, now: datetime | None) -> Rows:
    if not 200 <= response.status < 300:
        raise error_from_response(request, response, now)
    with _reading(request, "it is not JSON, or a field of the list has the wrong type"):
        page = read_page(response.body)
    return Rows(page.operations, page.next_page_token, len(response.body))


def _read_operation(request: Request[Any], response: Response, now: datetime | None) -> Operation:
    content = _read_object(request, response, now)
    try:
        operation = Operation.from_json(content)
        if not operation.name and not {"error", "response", "metadata"} & {*content}:
            raise errors.MalformedResponseError("it does not say which operation it is about")
    except errors.MalformedResponseError as error:
        raise unreadable(request, error) from None
    return _requested(request, operation)


def _requested(request: Request[Any], operation: Operation) -> Operation:
    """The operation, unless it is another one than was requested."""
    name = operation.name
    if name and request.verb != "start" and name.rpartition("/")[2] != request.resource.name.rpartition("/")[2]:
        raise unreadable(request, errors.MalformedResponseError(f"it is about another operation, {name!r:.200}"))
    return operation


def _read_poll(request: Request[Any], response: Response, now: datetime | None) -> Operation:
    operation = _read_operation(request, response, now)
    if "response" in operation.raw:
        note_unmasked(request)
    return _polled(operation) if request.unmasked is not None or "response" not in operation.raw else operation


def _polled(operation: Operation) -> Operation:
    """What a field mask has left of it: of the response perhaps a part."""
    return replace(operation, lacks_response=True) if operation.outcome is Outcome.SUCCEEDED else operation


def read_start(request: Request[Any], error: errors.ResponseTooLargeError) -> Any:
    """What is left of an operation whose response exceeds a limit: its success.

    Services write an operation's fields in their order in the proto, the response last. Where others come after it, it
    says itself that the operation has succeeded: with something in it, it is there only then. An operation that says
    before it that it is not done is running all the same.

    :return: what the request gives; ``None`` if the error is not about the response of such an operation.
    :raises MalformedResponseError: if it is about another operation.
    """
    if request.verb not in ("get", "wait", "start"):
        return None
    try:
        operation = Operation.from_json({"done": True, **read_before(error.start, "response")})
    except (ValueError, errors.MalformedResponseError):
        return None
    _requested(request, operation)
    if operation.error is not None or (request.verb == "start" and not operation.name):
        return None
    if operation.done:
        operation = operation.without_response(missing(request, "is too large to be taken", error))
    return operation.raw if request.verb == "start" else operation


def missing(request: Request[Any], problem: str, error: object) -> str:
    """Says that a response is missing, why, and how to get it."""
    url = request.url.partition("?")[0].removesuffix(":wait")
    return (
        f"The operation succeeded, but its response {problem} ({error}). Get it where the operation has written it, or"
        f' with: curl -H "Authorization: Bearer $(gcloud auth print-access-token)" {url}'
    )


def _read_nothing(request: Request[Any], response: Response, now: datetime | None) -> None:
    if not (200 <= response.status < 300 and not response.body.strip()):
        _read_object(request, response, now)


def _read_page(request: Request[Any], response: Response, now: datetime | None) -> Page:
    content = _read_object(request, response, now)
    rows, token = content.get("operations", []), content.get("nextPageToken", "")
    unreachable = content.get("unreachable", [])
    if not isinstance(rows, list) or not isinstance(token, str) or not isinstance(unreachable, list):
        raise unreadable(request, errors.MalformedResponseError("a field of the list has the wrong type"))
    if unreachable:  # an incomplete list would prove that there is nothing (https://google.aip.dev/217)
        what = ", ".join(map(str, unreachable))
        raise errors.TransportError(f"{request}: the list is not complete, there was no response of {what:.500}")
    try:
        return Page(tuple(Operation.from_json(row) for row in rows), token)
    except errors.MalformedResponseError as error:
        raise unreadable(request, error) from None


_METHODS = {"get": "GET", "cancel": "POST", "delete": "DELETE", "wait": "POST"}


def _of_operation(verb: str, reference: OperationReference, endpoint: str, reader: _Reader[T]) -> Request[T]:
    service = find_service(reference.service)
    if verb != "get":  # the catalog may not know the form of a name that the service knows
        service.require(verb, reference.name, reference.version)
    method = service.http_methods.get(verb, _METHODS[verb])
    return Request(verb, method, _url(verb, reference, endpoint), reference, reader)


def _url(verb: str, reference: Resource, endpoint: str) -> str:
    # The name was checked: it has only path characters, so nothing is really quoted.
    path = find_service(reference.service).path(verb, reference.name, reference.version)
    return f"{endpoint}/{quote(path, safe=_PATH)}"


def _root_url(resource: Resource, endpoint: str) -> str:
    root = find_service(resource.service).root(resource.version)
    return f"{endpoint}/{root}/{quote(resource.name, safe=_PATH)}"


_PATH = "/:@!$&'()*+,;=~-._"


def _read_object(request: Request[Any], response: Response, now: datetime | None) -> dict[str, Any]:
    if not 200 <= response.status < 300:
        raise error_from_response(request, response, now)
    with _reading(request, "it is not JSON", response.body[:START_BYTES]):
        content = read_json(response.body)
    if not isinstance(content, dict):
        problem = f"it is a JSON {type(content).__name__}, not an object"
        raise unreadable(request, errors.MalformedResponseError(problem))
    return content


@contextlib.contextmanager
def _reading(request: Request[Any], otherwise: str, start: bytes = b"") -> Iterator[None]:
    """Turn what is wrong with the JSON of a response into an error of ours."""
    try:
        yield
    except JsonLimitError as error:
        raise unreadable(request, errors.ResponseTooLargeError(str(error), start)) from None
    except ValueError:
        raise unreadable(request, errors.MalformedResponseError(otherwise)) from None
