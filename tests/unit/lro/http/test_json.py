"""JSON as services write it: what is taken, and what is refused because it would break something later."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_lro_provider.lro.http.json import (
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_NODES,
    JsonLimitError,
    read_json,
    read_members,
)


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


def members_of(body: bytes, field: str = "operations") -> tuple[list[Any], dict[str, Any]]:
    """All members, and the rest. The text of each is what it was read from."""
    found: list[Any] = []
    members = read_members(body, field)
    while True:
        try:
            member, text = next(members)
        except StopIteration as end:
            return found, end.value
        assert json.loads(text) == member
        found.append(member)


simple = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    simple | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(st.lists(values), st.dictionaries(st.text(st.characters(codec="utf-8")), values), st.sampled_from([None, 0, 3]))
def test_members_are_read_one_by_one(members: list[Any], others: dict[str, Any], indent: int | None) -> None:
    """What is read piece by piece is what is read at once, wherever the list stands and however it is indented."""
    others.pop("operations", None)
    for content in ({"operations": members, **others}, {**others, "operations": members}):
        body = json.dumps(content, indent=indent, ensure_ascii=indent is None).encode()
        assert members_of(body) == (members, others)


@pytest.mark.parametrize(
    ("body", "members", "rest"),
    [
        (b"{}", [], {}),
        (b" { } ", [], {}),
        (b'{"operations":[]}', [], {}),
        (b'\xef\xbb\xbf{"operations":[1],"a":2}', [1], {"a": 2}),
        (b'{"operations":null}', [], {"operations": None}),
        (b'{"a":{"operations":[1]}}', [], {"a": {"operations": [1]}}),
    ],
)
def test_an_object_without_members(body: bytes, members: list[Any], rest: dict[str, Any]) -> None:
    """An empty list, none at all, another type, or one that stands elsewhere."""
    assert members_of(body) == (members, rest)


@pytest.mark.parametrize("cut", [*range(1, 34)])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    """Wherever an answer ends too early, that is noticed; the members before it have been read."""
    body = b'{"operations": [{"a": 1}], "b": 2}'
    with pytest.raises(ValueError):
        members_of(body[:cut])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"1", b"null", b"{} {}", b"{}x", b"{1:2}", b'{"a" 1}', b'{"a":1,}', b'{"a":1 "b":2}'),
        *(b'{"operations":[1,]}', b'{"operations":[1 2]}', b'{"operations":[,1]}', b'{"operations":[NaN]}'),
        *(rb'{"operations":["\ud800"]}', b'{"operations":["\xff"]}', b'{"operations":[1]}]', b'{"operations":[1}'),
    ],
)
def test_members_of_what_is_no_object_are_refused(body: bytes) -> None:
    """The same is refused as when it is read at once, and all that is no object."""
    with pytest.raises(ValueError) as caught:
        members_of(body)
    assert not isinstance(caught.value, JsonLimitError)


@pytest.mark.parametrize(
    "body",
    [
        b'{"operations":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        b'{"operations":[' + b"{}," * MAX_NODES + b"{}]}",
        b'{"operations":[1' + b"0" * MAX_DIGITS + b"]}",
    ],
    ids=["deep", "many", "long"],
)
def test_the_limits_hold_for_members_too(body: bytes) -> None:
    """What would be too much at once is too much in pieces."""
    with pytest.raises(JsonLimitError):
        members_of(body)
