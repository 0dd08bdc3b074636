"""How an emulated operation behaves and which requests fail: plain data, checked when it is created.

Both are given as keywords in Python and as a JSON object elsewhere; the fields are the same. Standard
library only.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_lro_provider.lro.resources.catalog import VERBS
from airflow_lro_provider.lro.status import CODES, HTTP_CODES

__all__ = ["Failure", "Script", "ScriptError"]

REQUEST_VERBS = (*VERBS, "start")
"""The verbs of requests: the five of the API, and ``start`` for any method that starts an operation."""
CANCEL = ("honour", "ignore", "unimplemented")
CANCEL_WHEN_DONE = ("ok", "failed_precondition")
FIELD_MASK = ("honour", "ignore", "reject")
RESET = "reset"
_ERRORS = [name for name in CODES if name != "OK"]
# Where an HTTP code has several names, the first of the table is the usual one, with two exceptions.
_STATUS_OF_HTTP = {str(HTTP_CODES[name]): name for name in reversed(_ERRORS)} | {"409": "ABORTED", "500": "INTERNAL"}


class ScriptError(ValueError):
    """An invalid script or failure; the text names the field."""


@dataclass(frozen=True)
class Failure:
    """A pending failure. The first request that matches it gets it.

    :param kind: ``"reset"`` drops the connection; an HTTP code (``"429"``, ``503``) or the name of a
        ``google.rpc.Code`` (``"UNAVAILABLE"``) is the error of the response. Codes that Google's APIs know
        are sent in JSON, all others (``502``) as a page in HTML, as a proxy would. ``"401"``
        rejects one token: it stays until a request with another ``Authorization`` header arrives.
    :param verb: only for this verb: get, list, cancel, delete, wait, or start.
    :param service: only for this API.
    :param name: only for the operation (or, of a list, the parent) of this name.
    :param times: how many requests get it (of ``"401"``: how many tokens); ``None`` is all of them.
    :param retry_after: seconds that the response says to wait, in ``Retry-After`` (rounded up, HTTP knows
        whole seconds only) and, in JSON, in ``google.rpc.RetryInfo`` (exact). For a 429 it is 1 if
        not given.
    :param after: fail after the request was carried out: only its response is lost.
    """

    kind: str | int
    verb: str | None = None
    service: str | None = None
    name: str | None = None
    times: int | None = 1
    retry_after: float | None = None
    after: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        kind = str(self.kind)
        if kind != RESET and kind not in _ERRORS and not re.fullmatch("[45][0-9]{2}", kind):
            raise ScriptError(
                f"`kind` must be 'reset', an HTTP code from 400 to 599 or a code's name, not {kind!r:.50}"
            )
        object.__setattr__(self, "kind", kind)
        check_verb(self.verb)
        _text("service", self.service)
        _text("name", self.name)
        if self.times is not None and (not _is_number(self.times) or self.times != int(self.times) or self.times < 1):
            raise ScriptError(f"`times` must be a whole number of at least 1, or null for no limit, not {self.times!r}")
        _seconds("retry_after", self.retry_after, optional=True)
        if not isinstance(self.after, bool):
            raise ScriptError("`after` must be true or false")

    @property
    def rejects_token(self) -> bool:
        """Whether it rejects a token, and not a number of requests."""
        return self.http_code == 401

    @property
    def http_code(self) -> int | None:
        """The HTTP code of the response; ``None`` if there is no response."""
        kind = str(self.kind)
        return None if kind == RESET else HTTP_CODES[kind] if kind in _ERRORS else int(kind)

    @property
    def status(self) -> str | None:
        """The name of the ``google.rpc.Code``; ``None`` for a code that Google's APIs do not send."""
        kind = str(self.kind)
        return kind if kind in _ERRORS else _STATUS_OF_HTTP.get(kind)

    def matches(self, verb: str | None, service: str | None, name: str | None) -> bool:
        """Whether a request gets this failure."""
        return (
            (self.verb is None or self.verb == verb)
            and (self.service is None or self.service == service)
            and (self.name is None or self.name == name)
        )

    @classmethod
    def read(cls, fields: Any) -> Failure:
        """Read it from its JSON."""
        return cls(**_fields(cls, fields, "a failure"))


@dataclass(frozen=True)
class Script:
    """How an operation behaves. Times are in seconds.

    :param duration: from its start until it finishes on its own; ``None``: it never does.
    :param pending: how long it is PENDING at the beginning.
    :param response: its result; an empty message if not given. It is sent as it is: official
        clients expect an ``@type`` in it.
    :param error: how it fails: a ``google.rpc.Status`` (``code`` from 1 to 16, ``message``,
        ``details``). Not together with ``response``.
    :param cancel: how it reacts to a cancel request: ``honour`` it, ``ignore`` it (it is accepted, and the
        operation completes all the same), or ``unimplemented`` (501).
    :param cancel_delay: how long an honoured request takes; the operation is CANCELLING meanwhile, and
        completes if its own end comes first.
    :param cancel_when_done: the response to a cancel request for a finished operation: ``ok``
        (``{}``) or ``failed_precondition`` (400). The systems differ in this.
    :param latency: how long every response about it is delayed, the one to its start included. Requests
        are carried out when they arrive.
    :param cancel_latency: how much longer the response to a cancel request is delayed.
    :param field_mask: what becomes of the query parameter ``fields``: ``honour`` it, as Google's APIs do, ``ignore``
        it, or ``reject`` it (400). For a list the script of the API counts.
    :param failures: failures of requests about it (only those that name it: not list, not start).
    """

    duration: float | None = 10.0
    pending: float = 0.0
    response: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    cancel: str = "honour"
    cancel_delay: float = 0.0
    cancel_when_done: str = "ok"
    latency: float = 0.0
    cancel_latency: float = 0.0
    field_mask: str = "honour"
    failures: tuple[Failure, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        _seconds("duration", self.duration, optional=True)
        for field in ("pending", "cancel_delay", "latency", "cancel_latency"):
            _seconds(field, getattr(self, field))
        _choice("cancel", self.cancel, CANCEL)
        _choice("cancel_when_done", self.cancel_when_done, CANCEL_WHEN_DONE)
        _choice("field_mask", self.field_mask, FIELD_MASK)
        check_result(self.response, self.error)
        failures = [f if isinstance(f, Failure) else Failure.read(f) for f in _list("failures", self.failures)]
        object.__setattr__(self, "failures", tuple(failures))

    def but(self, changes: Any) -> Script:
        """This script with some fields changed. A new result replaces the old one.

        :param changes: fields by name, e.g. parsed JSON.
        :raises ScriptError: naming what is wrong.
        """
        fields = _fields(Script, changes, "a script")
        if fields.get("response") is not None:
            fields.setdefault("error", None)
        if fields.get("error") is not None:
            fields.setdefault("response", None)
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self)


def read_json(text: str | bytes) -> Any:
    """Parse a script's JSON.

    :raises ScriptError: if it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ScriptError("it is not JSON") from None


def check_result(response: Any, error: Any) -> None:
    """Check the result that an operation is to end with.

    :raises ScriptError: if both are given, or one has the wrong shape.
    """
    if response is not None and error is not None:
        raise ScriptError("an operation has a `response` or an `error`, not both")
    if response is not None and not isinstance(response, Mapping):
        raise ScriptError("`response` must be a JSON object")
    if error is not None:
        code = error.get("code") if isinstance(error, Mapping) else None
        if isinstance(code, bool) or not isinstance(code, int) or not 1 <= code <= 16:
            raise ScriptError('`error` must be a google.rpc.Status: {"code": 1 to 16, "message": …}')


def _fields(cls: type, given: Any, what: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ScriptError(f"{what} must be a JSON object")
    known = [field.name for field in dataclasses.fields(cls)]
    if unknown := [key for key in given if key not in known]:
        raise ScriptError(f"{what} has no field {unknown[0]!r}; it has: {', '.join(known)}")
    if cls is Failure and "kind" not in given:
        raise ScriptError("a failure needs a `kind`")
    return dict(given)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(field: str, value: Any, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if not _is_number(value) or value < 0:
        raise ScriptError(f"`{field}` must be a number of seconds, not {value!r:.50}")


def check_verb(verb: str | None) -> None:
    """Check what is to be the verb of requests.

    :raises ScriptError: if there is no such verb.
    """
    _choice("verb", verb, (None, *REQUEST_VERBS))


def _choice(field: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ScriptError(f"`{field}` must be one of {', '.join(map(str, choices))}, not {value!r:.50}")


def _text(field: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise ScriptError(f"`{field}` must be a string")


def _list(field: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ScriptError(f"`{field}` must be a list")
    return list(value)
