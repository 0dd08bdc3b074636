"""The body that a Dag author wrote, as JSON that Google's APIs read.

=============================================  ==================================================================
value                                          JSON (https://protobuf.dev/programming-guides/json/)
=============================================  ==================================================================
``datetime`` with a time zone                  ``"2026-01-31T10:00:00Z"``, in UTC (``google.protobuf.Timestamp``)
``date``, ``time`` without a time zone         in the form of ISO 8601
``timedelta``                                  ``"90.5s"`` (``google.protobuf.Duration``)
``Decimal``, other numbers                     a number; ``"NaN"``, ``"Infinity"``, ``"-Infinity"``
``Enum``                                       its value
``UUID``                                       a string
``bytes``                                      Base64
a mapping; anything else that can be iterated  an object; a list (an XCom of a mapped task is such a sequence)
=============================================  ==================================================================

A ``datetime`` without a time zone is refused: which moment it means is not known.
"""

from __future__ import annotations

import base64
import math
import numbers
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from airflow_lro_provider.lro.errors import InvalidReferenceError


def read_body(body: Any) -> dict[str, Any] | None:
    """Write a body as plain JSON values; nothing lazy is left in it.

    :raises InvalidReferenceError: if it is not a JSON object, saying which part of it has no form in JSON.
    """
    if body is None:
        return None
    if not isinstance(body, Mapping):
        hint = " Did Jinja turn a dict into a string?" if isinstance(body, str) else ""
        raise InvalidReferenceError(f"`body` must be a dict (a JSON object), not {type(body).__name__}.{hint}")
    try:
        plain: dict[str, Any] = _plain(body, "body")
    except RecursionError:
        raise InvalidReferenceError("`body` contains itself, or is nested too deeply.") from None
    return plain


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, (numbers.Real, Decimal)):
        return _number(value)
    if isinstance(value, (date, time, timedelta)):
        return _moment(value, path)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {_key(key, path): _plain(part, f"{path}.{key}") for key, part in value.items()}
    if isinstance(value, Iterable):
        return [_plain(part, f"{path}[{index}]") for index, part in enumerate(value)]
    raise InvalidReferenceError(f"`{path}` is of type {type(value).__name__}, which has no form in JSON.")


def _number(value: numbers.Real | Decimal) -> int | float | str:
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    # A whole Decimal may have more digits than a float.
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else number


def _moment(value: date | time | timedelta, path: str) -> str:
    if isinstance(value, timedelta):
        whole, micros = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
        sign = "-" if value < timedelta(0) else ""
        return f"{sign}{whole}.{micros:06}".rstrip("0").rstrip(".") + "s"
    if not isinstance(value, datetime):
        return value.isoformat()
    if value.utcoffset() is None:
        raise InvalidReferenceError(
            f"`{path}` ({value.isoformat()}) has no time zone, so which moment it is is unknown."
        )
    return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def _key(key: Any, path: str) -> str:
    key = key.value if isinstance(key, Enum) else key
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise InvalidReferenceError(f"a key in `{path}` is of type {type(key).__name__}; those of JSON are strings.")
    return str(key)
