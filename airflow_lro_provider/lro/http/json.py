"""Strict, bounded JSON: nothing is accepted that a task could not store afterwards.

Python's own reader accepts more than JSON (``NaN``), and passes on what breaks later, far from here: infinite numbers,
lone surrogates that no log can be written with, nesting that exhausts the stack of the next recursive function.

:func:`read_json` reads a whole body, and :func:`read_before` what comes before a field that is too large.
:func:`read_page` splits a list into its rows without reading them: of a thousand rows, few say something new.
Needs msgspec, which Airflow's task SDK requires as well.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from typing import Any, NoReturn, TypeVar

import msgspec

MAX_DEPTH = 100
"""Maximum nesting. Google's responses are written from protocol buffers, whose parsers go no deeper."""
MAX_NODES = 300_000
"""Maximum number of objects and lists in one response. Two bytes of brackets cost Python about a hundred: a small text
can be large as objects. The largest responses of real services have one per fifty bytes."""
MAX_COMMAS = 500_000
"""Maximum number of commas in a page, and so of its rows: each row costs 56 bytes, whatever it holds."""
MAX_SAME_KEYS = 10
"""How many inner objects may have a field of the same name, where only the start of an object is read."""
MAX_DIGITS = 1000
"""Maximum length of an integer: beyond any field of an API, and below what Python itself refuses (4,300)."""

_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"

_T = TypeVar("_T")
Row = msgspec.Raw
"""One element of a list, as the bytes it came in. It is well-formed JSON, and nothing else was checked."""


class JsonLimitError(ValueError):
    """The JSON exceeds a limit; the message says which."""


class RowPage(msgspec.Struct, rename="camel"):
    """A page of ``operations.list``, its rows not read yet."""

    operations: list[msgspec.Raw] = []
    next_page_token: str = ""


class RowHead(msgspec.Struct, gc=False):
    """The fields of an operation that tell whether the rest of its row has to be read."""

    name: str = ""
    done: bool = False


def read_json(body: bytes) -> Any:
    """Read a complete body.

    :raises ValueError: if it is not JSON in UTF-8.
    :raises JsonLimitError: if it exceeds a limit: nesting, number of objects, length or range of a number.
    """
    text = _decoded(body)
    try:
        content = _decode(text)
    except RecursionError:
        raise JsonLimitError(_TOO_DEEP) from None
    if _nodes(text) > MAX_DEPTH:
        _check_depth(content)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate: UnicodeEncodeError is a ValueError
    return content


def read_before(start: bytes, key: str) -> Any:
    """Read the fields of an object that come before one of its fields, of which only the start is there.

    :raises ValueError: if that field does not come, or is no object with something in it, or what is before it cannot
        be read.
    """
    fields = re.compile(rb'(?:,|(?<=\{))\s*"%s"\s*:\s*\{\s*"' % re.escape(key.encode())).finditer(start)
    for found in itertools.islice(fields, MAX_SAME_KEYS):
        with contextlib.suppress(ValueError):  # it is the field of an inner object
            return read_json(start[: found.start()] + b"}")
    raise ValueError(f"it has no field {key!r}")


def read_page(body: bytes) -> RowPage:
    """Split a page into its rows.

    :raises ValueError: if it is not JSON in UTF-8, or a field has the wrong type. How deep rows are and which numbers
        they have is not checked: :func:`read_json` does so for a row that is used.
    :raises JsonLimitError: if it is nested too deeply to be split, or has too many objects or rows.
    """
    _decoded(body)
    if len(body) > 2 * MAX_COMMAS and body.count(b",") > MAX_COMMAS:
        raise JsonLimitError(f"it has more than {MAX_COMMAS} elements")
    try:
        return _read_page(body.removeprefix(b"\xef\xbb\xbf"))
    except RecursionError:
        raise JsonLimitError(_TOO_DEEP) from None
    except msgspec.MsgspecError as error:  # not a ValueError in its older versions
        raise ValueError(str(error)) from None


def read_head(row: Row) -> RowHead:
    """Read the head of a row, and skip the rest.

    :raises ValueError: if it is not an object, or a field of the head has the wrong type.
    """
    try:
        return _read_head(row)
    except RecursionError:
        raise JsonLimitError(_TOO_DEEP) from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def read_as(kind: type[_T], content: Any) -> _T:
    """Read a dataclass from plain data, checking the type of every field.

    :raises ValueError: if a field is missing or has the wrong type, or a text contains a lone surrogate.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.MsgspecError as error:  # not a ValueError in its older versions
        raise ValueError(str(error)) from None


_read_page = msgspec.json.Decoder(RowPage).decode
_read_head = msgspec.json.Decoder(RowHead).decode


def _decoded(body: bytes) -> str:
    text = body.decode("utf-8-sig")
    # Each takes two characters: what is shorter need not be counted.
    if len(text) > 2 * MAX_NODES and _nodes(text) > MAX_NODES:
        raise JsonLimitError(f"it has more than {MAX_NODES} objects and lists")
    return text


def _nodes(text: str) -> int:
    """How many objects and lists it has at most: brackets in strings count as well."""
    return text.count("[") + text.count("{")


def _check_depth(content: Any) -> None:
    level = [content]  # level by level: this must not recurse itself
    for _ in range(MAX_DEPTH):
        inner = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
        if not inner:
            return
        level = inner
    raise JsonLimitError(_TOO_DEEP)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise JsonLimitError(f"a number in it has {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise JsonLimitError("a number in it is out of range")
    return number


_decode = json.JSONDecoder(parse_constant=_no_constant, parse_float=_float, parse_int=_int).decode
