"""One HTTP request and its response, as plain data, and what goes wrong between them.

A :class:`Request` carries the function that reads its response, so that a client knows the type of the result, and
nothing else about the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from airflow_lro_provider import __version__
from airflow_lro_provider.lro.errors import MalformedResponseError, ResponseTooLargeError, TransportError
from airflow_lro_provider.lro.redaction import HIDDEN
from airflow_lro_provider.lro.resources.hosts import Resource

USER_AGENT = f"airflow-lro-provider/{__version__}"
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """One HTTP response. ``headers`` have names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def without(self, sent: Mapping[str, str]) -> Response:
        """The same response without the token in the headers that were sent, should the server repeat it."""
        token = sent.get("authorization", "").rpartition(" ")[2]
        body = self.body
        if b"\\" in body and (b"\\u00" in body or b"\\/" in body):
            body = _ESCAPED.sub(_unescape, body)
        if len(token) < 8 or not (token.encode() in body or any(token in value for value in self.headers.values())):
            return self
        headers = {key: value.replace(token, HIDDEN) for key, value in self.headers.items()}
        return Response(self.status, headers, body.replace(token.encode(), HIDDEN.encode()))


# Characters that JSON may escape and need not; an escaped backslash does not begin one.
_ESCAPED = re.compile(rb"\\\\|\\u00(2[013-9A-Fa-f]|[346][0-9A-Fa-f]|5[0-9ABD-Fabd-f]|7[0-9A-Ea-e])|\\(/)")


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode()) if found[1] else found[2] or found[0]


@dataclass(frozen=True)
class Request(Generic[T]):
    """One HTTP request, without the token.

    :param verb: get, list, cancel, delete, wait or start; read for a resource that is no operation.
    :param url: complete, the query included.
    :param resource: what it is about.
    :param reader: reads a response to this request, given both and the time; see :meth:`read`.
    :param body: an empty one is sent with ``Content-Length: 0``.
    :param timeout: how long the server itself may take, in seconds (only ``wait``).
    :param response_timeout: how long its response may take, if not as long as the client says (only ``start``).
    :param repeatable: whether it may be sent again if its response was lost: a start only with a request id.
    :param unmasked: the same request without a field mask, for a service that rejects that.
    """

    verb: str
    method: str
    url: str
    resource: Resource
    reader: Callable[[Request[T], Response, datetime | None], T] = field(repr=False)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 0.0
    response_timeout: float | None = None
    repeatable: bool = True
    unmasked: Request[T] | None = None

    def read(self, response: Response, now: datetime | None = None) -> T:
        """Read a response to this request.

        :param now: the time, for a ``Retry-After`` that is a date.
        :raises ApiError: the error that the API responded with.
        :raises MalformedResponseError: for a response that is not what the verb promises.
        """
        return self.reader(self, response, now)

    def __str__(self) -> str:
        return f"{self.resource.service}: {self.verb} {self.resource.name}"


def transport_error(request: Request[Any], error: TransportError) -> TransportError:
    """The same error, with what was tried."""
    return type(error)(f"{request}: {error}", sent=error.may_have_happened)


def unreadable(
    request: Request[Any], error: MalformedResponseError, sent: Mapping[str, str] | None = None
) -> MalformedResponseError:
    """The same error, with what was tried and what to do next; without the token in the headers that were sent."""
    text = f"{request}: could not read the response: {error}."
    if isinstance(error, ResponseTooLargeError):
        return ResponseTooLargeError(text, Response(200, {}, error.start).without(sent or {}).body)
    return type(error)(f"{text} Check that the endpoint is the API's and that no proxy responds in its place.")
