"""Every verb of ``google.longrunning.Operations`` over REST as plain data ("sans I/O").

A function builds the :class:`Request`; the client, sync or async, sends it; another function reads the
:class:`Answer`. So what is asked and what an answer means is decided once.

=======  ==========================================================  ==============================
verb     request                                                     answer
=======  ==========================================================  ==============================
get      ``GET {endpoint}/{version}/{name}``                         an operation
list     ``GET {endpoint}/{version}/{parent}/operations``            operations, nextPageToken
cancel   ``POST {endpoint}/{version}/{name}:cancel``, empty body     ``{}`` or nothing
delete   ``DELETE {endpoint}/{version}/{name}``                      ``{}`` or nothing
wait     ``POST {endpoint}/{version}/{name}:wait``, with a timeout   an operation, perhaps not done
start    any method that answers with an operation                   an operation, perhaps done
=======  ==========================================================  ==============================

Standard library only. Source: google/longrunning/operations.proto and the REST pages of the APIs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from airflow_lro_provider.lro.errors import (
    InvalidReferenceError,
    MalformedAnswerError,
    NotAnOperationError,
    error_from_answer,
)
from airflow_lro_provider.lro.method import REQUEST_ID, Method, check_body
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.reference import OperationReference
from airflow_lro_provider.lro.services import find_service

__all__ = ["Answer", "Page", "Request", "Rows"]


@dataclass(frozen=True)
class Request:
    """One HTTP request, without the token.

    :param verb: get, list, cancel, delete, wait or start.
    :param url: complete, the query included.
    :param body: what to send; an empty one is sent with ``Content-Length: 0``.
    :param timeout: how long the server itself may take, in seconds (only ``wait``).
    :param repeatable: whether it may be sent again when its answer was lost: a start only with a request
        id.
    """

    verb: str
    method: str
    url: str
    reference: OperationReference
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0
    repeatable: bool = True


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. ``headers`` have names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Page:
    """One page of a list.

    :param operations: the operations on it.
    :param next_page_token: what to ask the next page with; empty on the last one.
    :param unreachable: locations that did not answer (only with ``locations/-``).
    """

    operations: tuple[Operation, ...]
    next_page_token: str = ""
    unreachable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rows:
    """One page of a list as it came: whoever looks for a few in thousands builds an operation of those only.

    :param rows: the operations on it, unchecked.
    :param size: how many bytes the answer had.
    """

    rows: Sequence[Any]
    next_page_token: str = ""
    size: int = 0


def get(reference: OperationReference, endpoint: str) -> Request:
    """Ask how an operation is doing."""
    return Request("get", "GET", _url(reference, endpoint), reference)


def cancel(reference: OperationReference, endpoint: str) -> Request:
    """Ask for its cancellation. Best effort: a good answer says that the request was taken."""
    find_service(reference.service).require("cancel", reference.name)
    return Request("cancel", "POST", _url(reference, endpoint) + ":cancel", reference)


def delete(reference: OperationReference, endpoint: str) -> Request:
    """Ask the service to forget it. This never cancels it."""
    find_service(reference.service).require("delete", reference.name)
    return Request("delete", "DELETE", _url(reference, endpoint), reference)


def wait(reference: OperationReference, endpoint: str, timeout: float) -> Request:
    """Ask the service to answer when it is over, or after ``timeout`` seconds, whichever is first."""
    service = find_service(reference.service)
    service.require("wait", reference.name)
    url, duration = _url(reference, endpoint) + ":wait", f"{timeout:.3f}".rstrip("0").rstrip(".") + "s"
    if service.wait == "query":
        return Request("wait", "POST", f"{url}?{urlencode({'timeout': duration})}", reference, timeout=timeout)
    body = json.dumps({"timeout": duration}).encode()
    return Request("wait", "POST", url, reference, body, headers={"content-type": "application/json"}, timeout=timeout)


def list_(
    parent: OperationReference,
    endpoint: str,
    *,
    filter: str | None = None,
    page_size: int | None = None,
    page_token: str | None = None,
) -> Request:
    """Ask for one page of the operations of a parent (``parent.name``)."""
    find_service(parent.service).require("list")
    query = {"filter": filter, "pageSize": page_size, "pageToken": page_token}
    query = {key: value for key, value in query.items() if value}
    url = f"{_url(parent, endpoint)}/operations"
    return Request("list", "GET", f"{url}?{urlencode(query)}" if query else url, parent)


def start(
    method: Method, endpoint: str, body: Mapping[str, Any] | None = None, *, request_id: str | None = None
) -> Request:
    """Call a method that starts an operation.

    :param body: the JSON object to send.
    :param request_id: makes the call repeatable, where :meth:`Service.place_of_request_id` knows a place
        for it; one that the caller wrote into query or body stays.
    :raises InvalidReferenceError: for a body that is no JSON object.
    """
    check_body(body)
    content, query = dict(body or {}), method.query
    own = {REQUEST_ID, "request_id"} & {*content, *method.parameters}
    place = find_service(method.service).place_of_request_id(method.http_method, method.path)
    if request_id is not None and not own:
        if place == "query":
            query = method.with_parameter(REQUEST_ID, request_id)
        elif place == "body":
            content[REQUEST_ID] = request_id
    try:
        data = json.dumps(content).encode() if body is not None or content else b""
    except (TypeError, ValueError) as error:
        raise InvalidReferenceError(f"`body` cannot be written as JSON: {error}") from None
    url = f"{endpoint}/{method.version}/{quote(method.path, safe=_PATH)}"
    return Request(
        "start",
        method.http_method,
        f"{url}?{query}" if query else url,
        method.about,
        data,
        headers={"content-type": "application/json"} if data else {},
        repeatable=bool(own) or (place is not None and request_id is not None),
    )


def started(request: Request, content: Mapping[str, Any]) -> tuple[OperationReference, Operation]:
    """Read what a start answered: the operation, and its reference.

    Some services give an operation that is over at once no usable name; its reference has the method's path.

    :raises NotAnOperationError: if it answered with a plain resource, or with an operation of a name that
        this service is not known to have.
    """
    about = request.reference
    service, name = find_service(about.service), content.get("name")
    if isinstance(name, str) and service.has_name(name, about.version):
        host = about.host if about.host != service.host else service.host_for(name)
        return OperationReference(about.service, about.version, name, host), Operation.from_json(content)
    if content.get("done") is True and ("response" in content or "error" in content):
        return about, Operation.from_json(content)
    what = f"{about.service}: {request.method} {about.name} was answered with"
    if "done" in content or (isinstance(name, str) and "operations/" in name):
        raise NotAnOperationError(
            f"{what} an operation of an unknown kind, {name!r:.200}. It may be running, and is not guarded.",
            content,
            is_resource=False,
        )
    raise NotAnOperationError(
        f"{what} {f'the resource {name!r:.200}' if name else 'something else'} and not with an operation: there"
        " is nothing to wait for. If that is what is wanted, say allow_resource=True.",
        content,
    )


def read(request: Request, answer: Answer, now: datetime | None = None) -> Operation | Page | dict[str, Any] | None:
    """Read the answer to a request: an operation (get, wait), a page (list), nothing (cancel, delete), or
    whatever JSON a start answered with.

    :param now: the time, for a ``Retry-After`` that is a date.
    :raises ApiError: the error that the API answered with.
    :raises MalformedAnswerError: for an answer that is not what the verb promises.
    """
    if request.verb in ("cancel", "delete"):
        if not (200 <= answer.status < 300 and not answer.body.strip()):
            _read_object(request, answer, now)
        return None
    content = _read_object(request, answer, now)
    if request.verb == "start":
        return content
    try:
        return _read_page(content) if request.verb == "list" else Operation.from_json(content)
    except MalformedAnswerError as error:
        raise _malformed(request, str(error)) from None


def read_rows(request: Request, answer: Answer, now: datetime | None = None) -> Rows:
    """Read the answer to a list without reading what is listed.

    :raises ApiError: the error that the API answered with.
    :raises MalformedAnswerError: for an answer that is no list.
    """
    content = _read_object(request, answer, now)
    rows, token = content.get("operations", []), content.get("nextPageToken", "")
    if not isinstance(rows, list) or not isinstance(token, str):
        raise _malformed(request, "a field of the list has the wrong type")
    return Rows(rows, token, len(answer.body))


def _read_page(content: dict[str, Any]) -> Page:
    rows, token = content.get("operations", []), content.get("nextPageToken", "")
    unreachable = content.get("unreachable", [])
    if not isinstance(rows, list) or not isinstance(token, str) or not isinstance(unreachable, list):
        raise MalformedAnswerError("a field of the list has the wrong type")
    return Page(tuple(Operation.from_json(row) for row in rows), token, tuple(map(str, unreachable)))


def _url(reference: OperationReference, endpoint: str) -> str:
    # The name has been checked: only path characters are left in it, so nothing is really quoted.
    return f"{endpoint}/{reference.version}/{quote(reference.name, safe=_PATH)}"


_PATH = "/:@!$&'()*+,;=~-._"


def _read_object(request: Request, answer: Answer, now: datetime | None) -> dict[str, Any]:
    if not 200 <= answer.status < 300:
        raise error_from_answer(
            service=request.reference.service,
            verb=request.verb,
            operation=request.reference.name,
            http_status=answer.status,
            headers=answer.headers,
            body=answer.body,
            now=now,
        )
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise _malformed(request, "it is not JSON") from None
    if not isinstance(content, dict):
        raise _malformed(request, f"it is a JSON {type(content).__name__}, not an object")
    return content


def _malformed(request: Request, why: str) -> MalformedAnswerError:
    return MalformedAnswerError(
        f"{request.reference.service}: {request.verb} {request.reference.name}: the answer cannot be read: {why}."
        " Check that the endpoint is the API's and that no proxy answers in its place."
    )
