"""Errors as Google writes them: JSON from an API, a page in HTML from the front end before it.

Standard library only. Shape: https://google.aip.dev/193.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from airflow_lro_provider.lro.status import HTTP_CODES

__all__ = ["RefusedError", "Response", "error_page", "error_response", "no_route", "ok_response"]

JSON_TYPE = "application/json; charset=UTF-8"
HTML_TYPE = "text/html; charset=UTF-8"
_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY = "type.googleapis.com/google.rpc.RetryInfo"
_REASONS = {
    "INVALID_ARGUMENT": "INVALID_ARGUMENT",
    "FAILED_PRECONDITION": "FAILED_PRECONDITION",
    "NOT_FOUND": "RESOURCE_NOT_FOUND",
    "ALREADY_EXISTS": "RESOURCE_ALREADY_EXISTS",
    "PERMISSION_DENIED": "IAM_PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED": "RATE_LIMIT_EXCEEDED",
    "UNAUTHENTICATED": "ACCESS_TOKEN_EXPIRED",
    "UNIMPLEMENTED": "METHOD_NOT_IMPLEMENTED",
}
_TITLES = {403: "Forbidden", 404: "Not Found", 408: "Request Timeout", 502: "Server Error"}


@dataclass(frozen=True)
class Response:
    """One HTTP response."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """A request that gets an error for a response.

    :param status: the name of a ``google.rpc.Code``.
    :param message: the error's message.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def ok_response(content: Any) -> Response:
    """A successful response."""
    return Response(200, json.dumps(content).encode())


def error_response(
    status: str,
    message: str,
    *,
    host: str = "googleapis.com",
    metadata: Mapping[str, str] | None = None,
    retry_after: float | None = None,
) -> Response:
    """An error of an API.

    :param status: the name of a ``google.rpc.Code``; it decides the HTTP code.
    :param host: the API's, which is the domain of the error's reason.
    :param metadata: more about the reason.
    :param retry_after: seconds that the client is told to wait.
    """
    about = {"service": host, **(metadata or {})}
    details: list[dict[str, Any]] = [
        {"@type": _INFO, "reason": _REASONS.get(status, status), "domain": host, "metadata": about}
    ]
    headers = {}
    if retry_after is not None:
        details.append({"@type": _RETRY, "retryDelay": f"{retry_after:.3f}".rstrip("0").rstrip(".") + "s"})
        headers["Retry-After"] = str(math.ceil(retry_after))
    if status == "UNAUTHENTICATED":
        headers["WWW-Authenticate"] = 'Bearer realm="https://accounts.google.com/", error="invalid_token"'
    code = HTTP_CODES[status]
    error = {"error": {"code": code, "message": message, "status": status, "details": details}}
    return Response(code, json.dumps(error).encode(), headers=headers)


def no_route(path: str) -> Response:
    """The front end's response to a path that no API serves: an unknown version or verb."""
    return error_page(404, f"The requested URL <code>{escape(path)}</code> was not found on this server.")


def error_page(code: int, text: str, retry_after: float | None = None) -> Response:
    """An error of something in front of the API: a page.

    :param text: its text, in HTML.
    """
    title = _TITLES.get(code, "Error")
    headers = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
    page = (
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n"
        f"  <title>Error {code} ({title})!!1</title>\n"
        f"  <p><b>{code}.</b> <ins>That&rsquo;s an error.</ins>\n  <p>{text}  <ins>That&rsquo;s all we know.</ins>\n"
    )
    return Response(code, page.encode(), HTML_TYPE, headers)
