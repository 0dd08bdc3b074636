"""The requests that were received, in order. Standard library only."""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_BODY_BYTES", "Journal", "RequestRecord"]

MAX_RECORDS = 200_000
"""The number of requests that are kept: an emulator that runs for weeks must not exhaust the memory."""
MAX_BODY_BYTES = 65_536
"""The longest body that is kept with its request."""
# A token can also be sent in the query; it is not kept either.
_SECRET = re.compile(r"(?<![^&])((?:access_token|oauth_token|key)=)[^&]*")


@dataclass
class RequestRecord:
    """One request to an emulated API, without tokens.

    :param order: its number, by arrival, from 1 on.
    :param time: when it arrived, in seconds since the epoch.
    :param method: GET, POST, …
    :param path: the path as it was sent.
    :param query: the query as it was sent, tokens removed.
    :param verb: get, list, cancel, delete, wait or start; ``None`` if it was none of them.
    :param service: the API's discovery name, or ``None``.
    :param name: the operation's name (of a list: the parent), or ``None``.
    :param status: the HTTP code of the response; ``None`` if there is none (yet).
    :param authorization: whether it had an ``Authorization`` header.
    :param failure: the kind of the scripted failure that it got, or ``None``.
    :param body: of a start that was carried out: the JSON object that it sent; ``None`` if it is bigger than 64 KiB.
    """

    order: int
    time: float
    method: str
    path: str
    query: str
    verb: str | None
    service: str | None
    name: str | None
    authorization: bool
    status: int | None = None
    failure: str | None = None
    body: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))


class Journal:
    """All requests. Not thread-safe: the store's lock protects it."""

    def __init__(self) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=MAX_RECORDS)
        self._last = 0

    def add(self, *, query: str, **fields: Any) -> RequestRecord:
        """Record a request that has arrived. The record's last fields are set when it gets its response."""
        self._last += 1
        record = RequestRecord(order=self._last, query=_SECRET.sub(r"\1...", query), **fields)
        self._records.append(record)
        return record

    def find(self, verb: str | None = None, name: str | None = None, newest: int | None = None) -> list[RequestRecord]:
        """Copies of the requests, oldest first.

        :param verb: only those of this verb.
        :param name: only those about the operation (or parent) of this name.
        :param newest: the maximum number, the newest ones.
        """
        found: list[RequestRecord] = []
        for record in reversed(self._records):
            if newest is not None and len(found) >= newest:
                break
            if verb in (None, record.verb) and name in (None, record.name):
                found.append(copy.copy(record))
        return found[::-1]

    def clear(self) -> None:
        """Remove all. Numbering continues."""
        self._records.clear()
