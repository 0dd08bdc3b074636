"""JSON as services write it: what is taken, and what is refused because it would break something later."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_lro_provider.lro.strict_json import MAX_DEPTH, MAX_DIGITS, MAX_NODES, JsonLimitError, read_json


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b' {"a":[1,-2,0.5,1e3,true,null,"x"]} ', {"a": [1, -2, 0.5, 1000.0, True, None, "x"]}),
        ('{"a":"ö\\u00f6"}'.encode(), {"a": "öö"}),
        (rb'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
        (b'{"a":"NaN"}', {"a": "NaN"}),
        (b"7" * MAX_DIGITS, int("7" * MAX_DIGITS)),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None),
        (b"[" + b"[]," * 500 + b"{}]", None),
        (b"[" + b"{}," * (MAX_NODES - 2) + b"{}]", None),
        (b'{"a":"' + b"[" * 5000 + b'"}', {"a": "[" * 5000}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_is_read(body: bytes, content: Any) -> None:
    """What a service writes is read as Python's own reader would read it."""
    assert read_json(body) == (json.loads(body.removeprefix(b"\xef\xbb\xbf")) if content is None else content)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{",
        b"NaN",
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'"\xff"',
        '"ö"'.encode("latin-1"),
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        rb'"\ud800"',
        rb'{"\uDFFF":1}',
        b'"\xed\xa0\x80"',
    ],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Another charset, numbers that are none, half characters: a ValueError, whatever Python's own reader does."""
    with pytest.raises(ValueError) as caught:
        read_json(body)
    assert not isinstance(caught.value, JsonLimitError)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deeper than 100"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "deeper than 100"),
        (b"[" * 100_000 + b"]" * 100_000, "deeper than 100"),
        (b"[" * 100_000, "deeper than 100"),
        (b"[" + b"{}," * MAX_NODES + b"1]", "more than 300000 objects"),
        (b"1" + b"0" * MAX_DIGITS, "1001 digits"),
        (b"-" + b"9" * 10_000, "10001 digits"),
        (b'{"a":1e999}', "out of range"),
        (b"-1e400", "out of range"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_more_than_is_taken_is_said_so(body: bytes, words: str) -> None:
    """Nesting and numbers have limits, which are named."""
    with pytest.raises(JsonLimitError, match=words):
        read_json(body)
