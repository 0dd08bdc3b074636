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
=======  ==========================================================  ==============================

Standard library only. Source: google/longrunning/operations.proto and the REST pages of the APIs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from airflow_lro_provider.lro.errors import MalformedAnswerError, error_from_answer
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.reference import OperationReference
from airflow_lro_provider.lro.services import find_service

__all__ = ["Answer", "Page", "Request"]


@dataclass(frozen=True)
class Request:
    """One HTTP request, without the token.

    :param verb: get, list, cancel, delete or wait.
    :param url: complete, the query included.
    :param body: what to send; an empty one is sent with ``Content-Length: 0``.
    :param timeout: how long the server itself may take, in seconds (only ``wait``).
    """

    verb: str
    method: str
    url: str
    reference: OperationReference
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0


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


def read(request: Request, answer: Answer, now: datetime | None = None) -> Operation | Page | None:
    """Read the answer to a request: an operation (get, wait), a page (list) or nothing (cancel, delete).

    :param now: the time, for a ``Retry-After`` that is a date.
    :raises ApiError: the error that the API answered with.
    :raises MalformedAnswerError: for an answer that is not what the verb promises.
    """
    if request.verb in ("cancel", "delete"):
        if not (200 <= answer.status < 300 and not answer.body.strip()):
            _read_object(request, answer, now)
        return None
    content = _read_object(request, answer, now)
    try:
        return _read_page(content) if request.verb == "list" else Operation.from_json(content)
    except MalformedAnswerError as error:
        raise _malformed(request, str(error)) from None


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
