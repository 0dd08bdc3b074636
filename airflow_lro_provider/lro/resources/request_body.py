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
``bytes`` and the like                         Base64
a model of Pydantic (2 or 1)                   its fields, by their aliases, each as it is written here
a mapping                                      an object
a sequence, a set, ``dict.keys()``,            a list (an XCom of a mapped task is such a sequence)
``dict.values()``, a generator, an array
=============================================  ==================================================================

Refused is what would be another value there: a ``datetime`` without a time zone (which moment is it?), a ``Decimal``
with more digits than a double has, what a template names and is not there, two keys that are the same in JSON; and what
can be iterated, but is no list for that: a ``NamedTuple`` (an object, or a list?), ``dict.items()``, a file, a table.
"""

from __future__ import annotations

import base64
import math
import numbers
from collections import UserString
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from airflow_lro_provider.lro.errors import InvalidReferenceError

_LISTS = (Sequence, Set, ValuesView, Iterator)


def read_body(body: Any) -> dict[str, Any] | None:
    """Write a body as plain JSON values; nothing lazy is left in it.

    :raises InvalidReferenceError: if it is not a JSON object, saying which part of it has no form in JSON.
    """
    if body is None:
        return None
    try:
        plain = _plain(body, "body")
    except RecursionError:
        raise InvalidReferenceError("`body` contains itself, or is nested too deeply.") from None
    if not isinstance(plain, dict):
        hint = " Did Jinja turn a dict into a string?" if isinstance(body, str) else ""
        raise InvalidReferenceError(f"`body` must be a dict (a JSON object), not {type(body).__name__}.{hint}")
    return plain


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (numbers.Real, Decimal)):
        return _number(value, path)
    if isinstance(value, (date, time, timedelta)):
        return _moment(value, path)
    if isinstance(value, (UUID, UserString)):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if hasattr(type(value), "_fail_with_undefined_error"):  # jinja2.Undefined, which iterates as an empty list
        raise InvalidReferenceError(f"`{path}` is undefined: its template names a value that is not there.")
    if hasattr(type(value), "model_dump"):  # Pydantic's own JSON has other forms of durations
        value = value.model_dump(by_alias=True)
    elif hasattr(type(value), "__fields__") and hasattr(type(value), "__fields_set__"):  # Pydantic's version 1
        value = value.dict(by_alias=True)
        value = value.get("__root__", value)
    elif hasattr(type(value), "tolist"):  # arrays: of the standard library, of NumPy and the like
        return _plain(value.tolist(), path)
    if isinstance(value, Mapping):
        plain = {_key(key, path): _plain(part, f"{path}.{key}") for key, part in value.items()}
        if len(plain) < len(value):
            raise InvalidReferenceError(f"two keys of `{path}` are the same in JSON, where all keys are strings.")
        return plain
    hint = _hint_for(value)
    if isinstance(value, _LISTS) and not hint:
        return [_plain(part, f"{path}[{index}]") for index, part in enumerate(value)]
    raise InvalidReferenceError(f"`{path}` is of type {type(value).__name__}, which has no form in JSON.{hint}")


def _hint_for(value: Any) -> str:
    """What to give in place of a value that can be iterated, and is meant as something else."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return " Give its `_asdict()` for an object, or a plain tuple for a list."
    if isinstance(value, ItemsView):
        return " Give the dict itself."
    if hasattr(value, "read"):
        return " Give what is in it."
    return (
        " Give a list, if it is meant as one." if isinstance(value, Iterable) and not isinstance(value, _LISTS) else ""
    )


def _number(value: numbers.Real | Decimal, path: str) -> int | float | str:
    if isinstance(value, Decimal) and value.is_nan():  # a signaling NaN cannot be converted
        return "NaN"
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        if value in (math.inf, -math.inf):
            return "Infinity" if number > 0 else "-Infinity"
        raise InvalidReferenceError(f"`{path}` is too large for a number in JSON.")
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, Decimal):
        if value == value.to_integral_value():  # it may have more digits than a float
            return int(value)
        if Decimal(repr(number)) != value:
            raise InvalidReferenceError(
                f"`{path}` ({value}) has more digits than a number in JSON keeps: round it, or give it as a string."
            )
    return number


def _moment(value: date | time | timedelta, path: str) -> str:
    if isinstance(value, timedelta):
        # Not the value's own arithmetic: that of Pendulum's intervals breaks.
        micros = timedelta.__floordiv__(value, timedelta(microseconds=1))
        whole, rest = divmod(abs(micros), 1_000_000)
        return f"{'-' if micros < 0 else ''}{whole}.{rest:06}".rstrip("0").rstrip(".") + "s"
    if not isinstance(value, datetime):
        return value.isoformat()
    if value.utcoffset() is None:
        raise InvalidReferenceError(
            f"`{path}` ({value.isoformat()}) has no time zone, so which moment it is is unknown."
        )
    try:
        return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"
    except OverflowError:
        raise InvalidReferenceError(f"`{path}` ({value.isoformat()}) is not in the years 1 to 9999 of UTC.") from None


def _key(key: Any, path: str) -> str:
    key = key.value if isinstance(key, Enum) else key
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise InvalidReferenceError(f"a key in `{path}` is of type {type(key).__name__}; those of JSON are strings.")
    return str(key)
