"""Spoiling what is right: texts, JSON and bytes. All chance comes from the generator that is handed in."""

from __future__ import annotations

import json
import zlib
from random import Random
from typing import Any

from tests.fuzz.corpus import BRICKS, KEYS

__all__ = ["spoil_bytes", "spoil_json", "spoil_text"]

_NUMBERS = [0, 1, -1, 2, 13, 16, 17, 99, 100, 1.0, 0.5, 1e18, 1e308, -0.0, 2**31, 2**63, 10**40, 10**400]
_ODD = [None, True, False, "", [], {}, "x", float("nan"), float("inf"), b"x", ("a",), {"a": {"b": []}}, {7: 7}, object]


def spoil_text(text: str, random: Random, others: list[str] | None = None) -> str:
    """A text with a few things wrong with it; now and then with none."""
    for _ in range(random.choice((0, 0, 0, 1, 1, 1, 2, 5))):
        at = random.randint(0, len(text))
        way = random.randrange(9)
        if way <= 2:
            text = text[:at] + random.choice(BRICKS) + text[at:]
        elif way == 3:
            text = text[:at] + text[at + random.randint(1, 12) :]
        elif way == 4:
            end = at + random.randint(1, 20)
            text = text[:end] + text[at:end] * random.randint(1, 3) + text[end:]
        elif way == 5:
            text = text[:at] + chr(random.choice((random.randrange(128), random.randrange(0x110000)))) + text[at + 1 :]
        elif way == 6 and others:
            other = random.choice(others)
            text = text[:at] + other[random.randint(0, len(other)) :]
        elif way == 7:
            text = random.choice((text.upper(), text.swapcase(), text[::-1], text.strip("/"), "/" + text, text + "/"))
        else:
            parts = text.split("/")
            parts[random.randrange(len(parts))] = random.choice((random.choice(BRICKS), ""))
            text = "/".join(parts)
    return text


def spoil_json(document: Any, random: Random, depth: int = 0) -> Any:
    """A document with a few things wrong with it. What was handed in stays as it is."""
    if depth > 6 or random.random() < 0.08:
        return _anything(random)
    if isinstance(document, dict):
        copy = {
            key: spoil_json(value, random, depth + 1) if random.random() < 0.5 else value
            for key, value in document.items()
        }
        way = random.randrange(10)
        if way == 0 and copy:
            copy.pop(random.choice(list(copy)))
        elif way == 1:
            copy[random.choice(KEYS)] = _anything(random)
        elif way == 2 and copy:
            copy[random.choice(KEYS)] = copy.pop(random.choice(list(copy)))
        elif way == 3:
            copy = {random.choice(KEYS): copy}
        return copy
    if isinstance(document, list):
        copied = [spoil_json(value, random, depth + 1) for value in document]
        return copied * random.choice((0, 1, 1, 1, 2))
    if isinstance(document, str):
        return spoil_text(document, random) if random.random() < 0.7 else _anything(random)
    return _anything(random) if random.random() < 0.5 else document


def _anything(random: Random) -> Any:
    way = random.randrange(12)
    if way <= 3:
        return random.choice(_NUMBERS)
    if way <= 6:
        return random.choice(_ODD)
    if way <= 9:
        return random.choice(BRICKS)
    if way == 10:
        nested: Any = 1
        for _ in range(random.choice((3, 30, 120))):
            nested = [nested] if random.random() < 0.5 else {random.choice(KEYS): nested}
        return nested
    return {random.choice(KEYS): _anything(random) for _ in range(3)}


def spoil_bytes(document: Any, random: Random) -> bytes:
    """What a server might respond with in place of a document."""
    try:
        body = json.dumps(document, default=str).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError):
        body = b"{}"
    way = random.randrange(20)
    if way <= 5 or way > 13:
        return body
    at = random.randint(0, len(body))
    if way == 6:
        return body[:at]
    if way == 7:
        return body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]
    if way == 8:
        return body[:at] + random.choice(BRICKS).encode("utf-8", "surrogatepass") + body[at:]
    if way == 9:
        deep = random.choice((5, 99, 101, 2000))
        return b'{"metadata":' + b"[" * deep + body + b"]" * random.choice((deep, deep, 1)) + b"}"
    if way == 10:
        return body.decode("utf-8", "replace").encode(
            random.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")), "replace"
        )
    if way == 11:
        return (
            b'{"metadata":{"progress":'
            + random.choice((b"9" * 1500, b"NaN", b"-Infinity", b"1e999", b"1" + b"0" * 990))
            + b"}}"
        )
    if way == 12:
        return random.choice(
            (b"", b"<html>", b"\x00", b"null", b"[]", b'"x"', b"[{}]", b"{", body + body, b" " * 99 + body)
        )
    return zlib.compress(body)
