"""Which fields of an operation are requested.

Polls need no response, and the largest ones have megabytes: a field mask leaves it out (``fields=``, a system parameter
of all APIs: the 609 discovery documents of google-api-python-client 2.202.0 have it, for "which fields to include in a
partial response"; the syntax: https://developers.google.com/custom-search/v1/performance). A service that rejects a
mask, or does not honour it, is sent none again by this process.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeVar

from airflow_lro_provider.lro.http.messages import Request

T = TypeVar("T")

POLL_FIELDS = "name,done,error,metadata"
"""The fields of an operation that a poll needs: all but the response."""
LIST_FIELDS = f"operations({POLL_FIELDS}),nextPageToken,unreachable"
"""The same of a list, and what says that it is not complete."""
DOUBT_REQUESTS = 100
"""How many requests have no field mask after one that was denied: perhaps that was why."""
_unmasked: dict[tuple[str, str, str], float] = {}  # how many more requests have none


def masked(request: Request[T], mask: str) -> Request[T]:
    """The same request with a field mask, unless there is a reason to send none."""
    kind = _kind(request)
    if left := _unmasked.get(kind):
        _unmasked[kind] = left - 1
        return request
    return replace(request, url=f"{request.url}{'&' if '?' in request.url else '?'}fields={mask}", unmasked=request)


def note_unmasked(request: Request[Any]) -> None:
    """Send no field mask again with this verb to this service there: it rejects them, or does not honour them."""
    _unmasked[_kind(request)] = math.inf


def doubt_mask(request: Request[Any], requests: float) -> None:
    """Send no field mask for so many requests with this verb to this service there: one failed for whatever reason."""
    kind = _kind(request)
    _unmasked[kind] = max(_unmasked.get(kind, 0), requests)


def _kind(request: Request[Any]) -> tuple[str, str, str]:
    return request.url.split("/")[2], request.resource.service, request.verb
