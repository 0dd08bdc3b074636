"""Patterns of names, as in Google's HTTP rules (https://google.aip.dev/127).

``*`` is one segment, ``**`` one or more, and a part in brackets is optional.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache

LIKENESS = 0.75
"""How much alike two words are at least, if one of them is the other, misspelt."""


def expand(pattern: str) -> tuple[str, ...]:
    """A pattern with its optional part, and without."""
    match = re.fullmatch(r"\[(.*)\](.*)", pattern)
    return (match[1] + match[2], match[2]) if match else (pattern,)


@lru_cache(maxsize=4096)
def _segments(pattern: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(one.split("/")) for one in expand(pattern))


def fits_one(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name matches one of these patterns."""
    parts = name.split("/")
    return all(parts) and any(_fits(parts, one) for pattern in patterns for one in _segments(pattern))


def misspelt(name: str, patterns: Iterable[str]) -> str:
    """The pattern that a name fits but for one part, which looks much alike; empty if there is none."""
    parts = name.split("/")
    for wanted in (one for pattern in patterns for one in _segments(pattern) if len(one) == len(parts)):
        others = [(part, known) for part, known in zip(parts, wanted, strict=True) if not _same(part, known)]
        if len(others) == 1 and difflib.SequenceMatcher(None, *others[0]).ratio() >= LIKENESS:
            return "/".join(wanted)
    return ""


def _fits(parts: list[str], pattern: tuple[str, ...]) -> bool:
    if "**" in pattern:
        many = pattern.index("**")
        rest = len(pattern) - many - 1
        if len(parts) < len(pattern):
            return False
        parts = [*parts[:many], "**", *parts[len(parts) - rest :]]
    return len(parts) == len(pattern) and all(map(_same, parts, pattern))


def _same(part: str, wanted: str) -> bool:
    if wanted.startswith("*:"):  # a custom method: https://google.aip.dev/136
        return part.endswith(wanted[1:]) and len(part) >= len(wanted)
    return wanted in ("*", "**") or part == wanted
