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
google/rpc/error_details.proto (https://google.aip.dev/193). An object where a list belongs is a list of one. However
many there are, few are put into words: an event loop waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from airflow_lro_provider.lro.redaction import legible, without_secrets

MAX_PART, MAX_TEXT = 300, 1500
MAX_PARTS = 100
"""How many details, violations, links and the like are put into words at most."""
Detail = Mapping[str, Any]
_Parts = Iterator[tuple[str, str]]  # what each is about, and the words


def read_details(values: Any) -> tuple[Detail, ...]:
    """The details that are objects; whatever else a server sends is left out."""
    values = [values] if isinstance(values, Mapping) else values
    return tuple(value for value in values if isinstance(value, Mapping)) if isinstance(values, list) else ()


def find_detail(details: tuple[Detail, ...], kind: str) -> Detail | None:
    """The first detail of a type of google.rpc."""
    return next((detail for detail in details if _kind(detail) == kind), None)


def describe(details: tuple[Detail, ...], said: str = "") -> str:
    """All of them in one line, without what was said already."""
    parts: list[str] = []
    for kind, about, words in islice(_parts(details), MAX_PARTS):
        words = shorten(" ".join(words.split()), MAX_PART).rstrip(". ")
        if len(words) > 3 and words in said:  # what it is about may be news all the same
            about, words = "" if kind in _NAMES_ALONE_SAY_NOTHING else about, ""
        part = ": ".join(filter(None, (shorten(about, MAX_PART).rstrip(". "), words)))
        if part and part not in said:
            parts.append(part)
            said = f"{said}\n{part}"
        if sum(map(len, parts)) > MAX_TEXT:
            break
    return shorten("; ".join(parts), MAX_TEXT)


def _parts(details: tuple[Detail, ...]) -> Iterator[tuple[str, str, str]]:
    """The kind of each, what it is about, and the words."""
    for detail in details:
        kind = _kind(detail)
        for about, words in _FORMS.get(kind, _nothing)(detail):
            yield kind, about, words[: 20 * MAX_PART]


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


def _violations(detail: Detail, key: str, *names: str) -> _Parts:
    """What each is about, and its description; in place of one that is not there, its message or reason."""
    for each in read_details(detail.get(key)):
        localized = each.get("localizedMessage")
        words = _text(each, "description") or (_text(localized, "message") if isinstance(localized, Mapping) else "")
        limits = [f"{word} {_text(each, name)}" for name, word in _LIMITS.items() if _text(each, name)]
        dimensions = each.get("quotaDimensions")
        if isinstance(dimensions, Mapping):
            limits += [f"{name} {_text(dimensions, name)}" for name in islice(dimensions, MAX_PARTS)]
        words = words or _text(each, "reason")
        yield (
            " ".join(filter(None, (_text(each, name) for name in names))),
            f"{words} ({', '.join(limits)})" if words and limits else words or ", ".join(limits),
        )


_LIMITS = {"quotaMetric": "metric", "quotaId": "quota", "quotaValue": "limit", "futureQuotaValue": "limit to come"}


def _error_info(detail: Detail) -> _Parts:
    yield "", _text(detail, "reason")
    metadata = detail.get("metadata")
    if isinstance(metadata, Mapping):
        yield from ((str(key), _text(metadata, key)) for key in metadata if _text(metadata, key))


def _help(detail: Detail) -> _Parts:
    for link in read_details(detail.get("links")):
        yield _text(link, "description"), _text(link, "url")


def _resource(detail: Detail) -> _Parts:
    owner = _text(detail, "owner")
    words = _text(detail, "description") + (f" (owner: {owner})" if owner else "")
    yield " ".join(filter(None, (_text(detail, "resourceType"), _text(detail, "resourceName")))), words


def _older(detail: Detail) -> _Parts:
    yield _text(detail, "location"), _text(detail, "message")
    yield "", _text(detail, "extendedHelp")


def _said_as(key: str, words: str = "") -> Callable[[Detail], _Parts]:
    def form(detail: Detail) -> _Parts:
        if value := _text(detail, key):
            yield "", words + value

    return form


def _nothing(detail: Detail) -> _Parts:
    yield from ()


_NAMES_ALONE_SAY_NOTHING = ("ErrorInfo", "Help", "")
_FORMS: dict[str, Callable[[Detail], _Parts]] = {
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
