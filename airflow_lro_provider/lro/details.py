"""The details of a ``google.rpc.Status`` in words, for refused requests and for failed operations.

=====================  ================================================================================
of google.rpc          in words
=====================  ================================================================================
ErrorInfo              its reason, and its metadata (``service: …``)
BadRequest             ``field: what is wrong with it``
PreconditionFailure    ``type subject: what is missing``
QuotaFailure           ``subject: what is exceeded (quota metric, id, limit)``
Help                   ``what it is about: URL``
LocalizedMessage       the message
ResourceInfo           ``type name: what is wrong with it (owner)``
RequestInfo            ``request id …``
RetryInfo              ``retry after 3s``
=====================  ================================================================================

Others, DebugInfo among them, are for programs. So are details without a type: the older ``errors`` of JSON APIs, of
which message, place and link are said. What the message says already is not repeated. The fields are those of
google/rpc/error_details.proto (https://google.aip.dev/193).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_lro_provider.lro.redaction import legible, without_secrets

MAX_PART, MAX_TEXT = 300, 1500
Detail = Mapping[str, Any]


def read_details(values: Any) -> tuple[Detail, ...]:
    """The details that are objects; whatever else a server sends is left out."""
    return tuple(value for value in values if isinstance(value, Mapping)) if isinstance(values, list) else ()


def find_detail(details: tuple[Detail, ...], kind: str) -> Detail | None:
    """The first detail of a type of google.rpc."""
    return next((detail for detail in details if _kind(detail) == kind), None)


def describe(details: tuple[Detail, ...], said: str = "") -> str:
    """All of them in one line, without what was said already."""
    parts: list[str] = []
    for detail in details:
        for words in _FORMS.get(_kind(detail), _nothing)(detail):
            part = shorten(" ".join(words.split()), MAX_PART).rstrip(". ")
            if part and part not in said and part not in parts:
                parts.append(part)
    return shorten("; ".join(parts), MAX_TEXT)


def shorten(text: str, limit: int) -> str:
    """A text from outside, without secrets and not too long."""
    text = legible(without_secrets(text[: 20 * limit]))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _kind(detail: Detail) -> str:
    kind = str(detail.get("@type", ""))
    return kind.rpartition("google.rpc.")[2] if "google.rpc." in kind else kind


def _text(detail: Detail, key: str) -> str:
    value = detail.get(key)
    return str(value) if isinstance(value, (str, int, float)) else ""


def _violations(detail: Detail, key: str, *names: str) -> Iterator[str]:
    """``names: description`` of each; in place of a description that is not there, its message or reason."""
    for each in read_details(detail.get(key)):
        about = " ".join(filter(None, (_text(each, name) for name in names)))
        localized = each.get("localizedMessage")
        words = _text(each, "description") or (_text(localized, "message") if isinstance(localized, Mapping) else "")
        limits = ", ".join(f"{word} {_text(each, name)}" for name, word in _LIMITS.items() if _text(each, name))
        words = _about(about, words or _text(each, "reason"))
        yield f"{words} ({limits})" if limits else words


_LIMITS = {"quotaMetric": "metric", "quotaId": "quota", "quotaValue": "limit", "futureQuotaValue": "limit to come"}


def _about(what: str, words: str) -> str:
    return ": ".join(filter(None, (what, words)))


def _error_info(detail: Detail) -> Iterator[str]:
    yield _text(detail, "reason")
    metadata = detail.get("metadata")
    if isinstance(metadata, Mapping):
        yield from (_about(str(key), _text(metadata, key)) for key in metadata)


def _help(detail: Detail) -> Iterator[str]:
    for link in read_details(detail.get("links")):
        yield _about(_text(link, "description"), _text(link, "url"))


def _resource(detail: Detail) -> Iterator[str]:
    named = " ".join(filter(None, (_text(detail, "resourceType"), _text(detail, "resourceName"))))
    owner = _text(detail, "owner")
    yield _about(named, _text(detail, "description")) + (f" (owner: {owner})" if owner else "")


def _older(detail: Detail) -> Iterator[str]:
    yield _about(_text(detail, "location"), _text(detail, "message"))
    yield _text(detail, "extendedHelp")


def _said_as(key: str, words: str = "") -> Callable[[Detail], Iterator[str]]:
    def form(detail: Detail) -> Iterator[str]:
        if value := _text(detail, key):
            yield words + value

    return form


def _nothing(detail: Detail) -> Iterator[str]:
    yield from ()


_FORMS: dict[str, Callable[[Detail], Iterator[str]]] = {
    "ErrorInfo": _error_info,
    "BadRequest": lambda detail: _violations(detail, "fieldViolations", "field"),
    "PreconditionFailure": lambda detail: _violations(detail, "violations", "type", "subject"),
    "QuotaFailure": lambda detail: _violations(detail, "violations", "subject"),
    "Help": _help,
    "LocalizedMessage": _said_as("message"),
    "ResourceInfo": _resource,
    "RequestInfo": _said_as("requestId", "request id "),
    "RetryInfo": _said_as("retryDelay", "retry after "),
    "": _older,
}
