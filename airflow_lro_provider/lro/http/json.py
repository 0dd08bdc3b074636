"""JSON as the services write it, and nothing that a task could not keep afterwards.

Python's own reader takes more than JSON (``NaN``), and hands on what breaks later, far from here: numbers that
are infinite, lone surrogates that cannot be written to any log, nesting that the next recursive function dies of.

Standard library only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator
from typing import Any, NoReturn

__all__ = ["MAX_DEPTH", "JsonLimitError", "check_depth", "read_json", "read_members"]

MAX_DEPTH = 100
"""Brackets within brackets. Google's answers are written from protocol buffers, whose parsers go no deeper."""
MAX_NODES = 300_000
"""Objects and lists in one answer. Two bytes of brackets cost Python some hundred: what is small enough as a text may
be large as objects. The largest answers of real services have one in fifty bytes."""
MAX_DIGITS = 1000
"""Of one whole number: beyond any field of an API, and below what Python itself refuses (4,300)."""


class JsonLimitError(ValueError):
    """It is JSON, but more than is taken; the text says what."""


def read_json(body: bytes) -> Any:
    """Read the body of an answer.

    :raises ValueError: if it is no JSON in UTF-8.
    :raises JsonLimitError: if it is nested too deeply, has too many objects, or a number that is too long or infinite.
    """
    text = _Text(body)
    content, end = text.value(text.space(0))
    if text.space(end) != len(text.text):
        raise ValueError("there is more behind it")
    if text.nodes > MAX_DEPTH:
        check_depth(content)
    return content


def read_members(
    body: bytes, field: str, known: Callable[[str, int], int] | None = None
) -> Generator[tuple[Any, str], None, dict[str, Any]]:
    """Read an object, and what one of its lists has in it one by one, each with its text: never all are there.

    How deep a member is has not been looked at; :func:`check_depth` has to be asked about what is used.

    :param field: the list's.
    :param known: is shown the text and where in it a member begins, and says where the member ends if it was read
        some other time: then it is left out. 0 if it is not known.
    :return: the other fields, and this one if it is no list.
    :raises ValueError: as :func:`read_json`; and, perhaps after some members, if it is no object.
    """
    text = _Text(body)
    del body
    rest: dict[str, Any] = {}
    at, more = text.opened(text.space(0), "{", "}")
    while more:
        key, at = text.value(at)
        if not isinstance(key, str):
            raise ValueError("a field has no name")
        at = text.space(text.passed(text.space(at), ":"))
        if key == field and text.has(at, "["):
            at, more = text.opened(at, "[", "]")
            while more:
                begin, at = at, known(text.text, at) if known is not None else 0
                if not at:
                    member, at = text.value(begin)
                    yield member, text.text[begin:at]
                    del member
                at, more = text.next(at, "]")
        else:
            rest[key], at = text.value(at)
        at, more = text.next(at, "}")
    if at != len(text.text):
        raise ValueError("there is more behind it")
    return rest


_space = re.compile(r"[ \t\n\r]*").match
_comma = re.compile(r"[ \t\n\r]*,[ \t\n\r]*").match


class _Text:
    """A text in JSON, and how to get on in it. Every method gives a place in the text."""

    def __init__(self, body: bytes) -> None:
        self.text = text = body.decode("utf-8-sig")
        # Each takes two characters: what is shorter need not be counted.
        if len(text) > 2 * MAX_NODES and self.nodes > MAX_NODES:
            raise JsonLimitError(f"it has more than {MAX_NODES} objects and lists")
        self._surrogates = "\\" in text and ("\\ud" in text or "\\uD" in text)
        self._decode = json.JSONDecoder(parse_constant=_no_constant, parse_float=_float, parse_int=_int).raw_decode

    @property
    def nodes(self) -> int:
        """How many objects and lists it has, or more, if there are brackets in its texts."""
        return self.text.count("[") + self.text.count("{")

    def value(self, at: int) -> tuple[Any, int]:
        """The value that begins here, and where it ends."""
        try:
            content, end = self._decode(self.text, at)
        except RecursionError:
            raise JsonLimitError(f"it is nested deeper than {MAX_DEPTH} levels") from None
        if self._surrogates:
            json.dumps(content, ensure_ascii=False).encode()  # a lone surrogate: UnicodeEncodeError is a ValueError
        return content, end

    def space(self, at: int) -> int:
        """Where the white space from here on ends."""
        found = _space(self.text, at)
        return at if found is None else found.end()

    def has(self, at: int, character: str) -> bool:
        """Whether this character is here."""
        return self.text.startswith(character, at)

    def passed(self, at: int, character: str) -> int:
        """Behind this character.

        :raises ValueError: if another one is here.
        """
        if not self.has(at, character):
            raise ValueError(f"{character!r} is missing")
        return at + 1

    def opened(self, at: int, opening: str, closing: str) -> tuple[int, bool]:
        """Where a list or an object that begins here has its first member, or else ends; and whether it has one."""
        at = self.space(self.passed(at, opening))
        return (at, True) if not self.has(at, closing) else (self.space(at + 1), False)

    def next(self, at: int, closing: str) -> tuple[int, bool]:
        """From the end of a member: where the next one is, or else the end; and whether there is one."""
        if (found := _comma(self.text, at)) is not None:
            return found.end(), True
        at = self.space(at)
        if not self.has(at, closing):
            raise ValueError(f"{closing!r} is missing")
        return self.space(at + 1), False


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
