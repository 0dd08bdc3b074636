"""JSON as the services write it, and nothing that a task could not keep afterwards.

Python's own reader takes more than JSON (``NaN``), and hands on what breaks later, far from here: numbers that
are infinite, lone surrogates that cannot be written to any log, nesting that the next recursive function dies of.

Standard library only.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

__all__ = ["MAX_DEPTH", "JsonLimitError", "check_depth", "read_json"]

MAX_DEPTH = 100
"""Brackets within brackets. Google's answers are written from protocol buffers, whose parsers go no deeper."""
MAX_NODES = 300_000
"""Objects and lists in one answer. Two bytes of brackets cost Python some hundred: what is small enough as a text may
be large as objects. The largest answers of real services have one in fifty bytes."""
MAX_DIGITS = 1000
"""Of one whole number: beyond any field of an API, and below what Python itself refuses (4,300)."""


class JsonLimitError(ValueError):
    """It is JSON, but more than is taken; the text says what."""


def read_json(body: bytes, *, deeply: bool = True) -> Any:
    """Read the body of an answer.

    :param deeply: whether to look how deep it is; if not, :func:`check_depth` has to be asked about each part of it
        that is used.
    :raises ValueError: if it is no JSON in UTF-8.
    :raises JsonLimitError: if it is nested too deeply, has too many objects, or a number that is too long or infinite.
    """
    text = body.decode("utf-8-sig")
    nodes = text.count("[") + text.count("{")  # or more, if there are some in its texts
    if nodes > MAX_NODES:
        raise JsonLimitError(f"it has more than {MAX_NODES} objects and lists")
    try:
        content = json.loads(text, parse_constant=_no_constant, parse_float=_float, parse_int=_int)
    except RecursionError:
        raise JsonLimitError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    if deeply and nodes > MAX_DEPTH:
        check_depth(content)
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate: UnicodeEncodeError is a ValueError
    return content


def check_depth(content: Any) -> None:
    """Refuse what has more levels than it may.

    :raises JsonLimitError: if it has.
    """
    level = [content]  # found level by level: this must not recurse itself
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
    raise JsonLimitError(f"it is nested deeper than {MAX_DEPTH} levels")


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
