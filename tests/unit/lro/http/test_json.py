"""JSON as services write it: what is accepted, and what is refused because it would break something later."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_lro_provider.lro.http.json import (
    MAX_COMMAS,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_NODES,
    JsonLimitError,
    Row,
    RowHead,
    read_before,
    read_head,
    read_json,
    read_page,
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
    """Another charset, what is not a number, half characters: a ValueError, whatever Python's own reader does."""
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
def test_what_exceeds_a_limit_is_said_so(body: bytes, words: str) -> None:
    """Nesting and numbers have limits, which are named."""
    with pytest.raises(JsonLimitError, match=words):
        read_json(body)


def page_of(body: bytes) -> tuple[list[Any], str]:
    """All rows, read, and the token."""
    page = read_page(body)
    return [json.loads(bytes(row)) for row in page.operations], page.next_page_token


simple = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    simple | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(
    st.lists(values),
    st.dictionaries(st.text(st.characters(codec="utf-8")), values),
    st.text(st.characters(codec="utf-8")),
    st.sampled_from([None, 0, 3]),
)
def test_rows_are_what_is_read_at_once(rows: list[Any], others: dict[str, Any], token: str, indent: int | None) -> None:
    """Wherever the list stands among other fields, and however it is indented."""
    others.pop("operations", None)
    others["nextPageToken"] = token
    for content in ({"operations": rows, **others}, {**others, "operations": rows}):
        body = json.dumps(content, indent=indent, ensure_ascii=indent is None).encode()
        assert page_of(body) == (rows, token)
        for row, content in zip(read_page(body).operations, rows, strict=True):
            assert read_json(bytes(row)) == content


@pytest.mark.parametrize(
    ("body", "rows", "token"),
    [
        (b"{}", [], ""),
        (b" { } ", [], ""),
        (b'{"operations":[]}', [], ""),
        (b'\xef\xbb\xbf{"operations":[1],"a":2}', [1], ""),
        (b'{"a":{"operations":[1],"nextPageToken":"b"}}', [], ""),
        (b'{"\\u006fperations":[1],"nextPageToken":"a\\u0062"}', [1], "ab"),
        (b'{"operations":[1],"operations":[2]}', [2], ""),
    ],
)
def test_pages_without_rows_and_odd_ones(body: bytes, rows: list[Any], token: str) -> None:
    """An empty list, none at all, one that stands elsewhere; of two the last one, as Python's own reader has it."""
    assert page_of(body) == (rows, token)


@pytest.mark.parametrize("cut", [*range(1, 34)])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    """Wherever a response ends too early, that is noticed."""
    body = b'{"operations": [{"a": 1}], "b": 2}'
    with pytest.raises(ValueError):
        read_page(body[:cut])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"1", b"null", b"{} {}", b"{}x", b"{1:2}", b'{"a" 1}', b'{"a":1,}', b'{"a":1 "b":2}'),
        *(b'{"operations":[1,]}', b'{"operations":[1 2]}', b'{"operations":[,1]}', b'{"operations":[NaN]}'),
        *(rb'{"operations":["\ud800"]}', b'{"operations":["\xff"]}', b'{"operations":[1]}]', b'{"operations":[1}'),
        *(b'{"operations":null}', b'{"operations":{}}', b'{"nextPageToken":1}', b'{"nextPageToken":null}'),
        *(
            b'{"a":NaN}',
            b'{"a":"\xff"}',
            b'{"a":-Infinity}',
            rb'{"a":"\x"}',
            b'{"a":01}',
            b"{}".join([b"\xff\xfe"] * 2),
        ),
        *("{}".encode("utf-16"), "{}".encode("utf-32"), b'{"operations":["a\nb"]}', b'{"a":[1,}'),
    ],
)
def test_what_is_no_page_is_refused(body: bytes) -> None:
    """The same is refused as when it is read at once, and all that is no object, or has fields of other types."""
    with pytest.raises(ValueError) as caught:
        read_page(body)
    assert not isinstance(caught.value, JsonLimitError)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"operations":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "deeper than 100"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeper than 100"),
        (b'{"a":' + b'{"a":' * 100_000, "deeper than 100"),
        (b'{"operations":[' + b"{}," * MAX_NODES + b"{}]}", "more than 300000 objects"),
        (b'{"operations":[' + b"1," * (MAX_COMMAS + 1) + b"1]}", "more than 500000 elements"),
    ],
    ids=["deep", "deep elsewhere", "deep and cut off", "many", "many numbers"],
)
def test_the_limits_hold_for_pages_too(body: bytes, words: str) -> None:
    """What would be too much at once is too much in rows."""
    with pytest.raises(JsonLimitError, match=words):
        read_page(body)


@pytest.mark.parametrize(
    "row",
    [
        b"1" + b"0" * MAX_DIGITS,
        b'{"a":1e999}',
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    ],
    ids=["long", "infinite", "deep"],
)
def test_the_limits_hold_for_a_row_that_is_read(row: bytes) -> None:
    """A page is split all the same: the others must not suffer from what nobody waits for."""
    page = read_page(b'{"operations":[{"name":"a","done":true},' + row + b"]}")
    assert read_head(page.operations[0]) == RowHead("a", True)
    with pytest.raises(JsonLimitError):
        read_json(bytes(page.operations[1]))


@pytest.mark.parametrize(
    ("row", "head"),
    [
        (b"{}", RowHead()),
        (b' {"done" : true, "a": [{}], "name": "b"} ', RowHead("b", True)),
        (b'{"name":"a","name":"b"}', RowHead("b")),
        ('{"name":"ö\\u00f6"}'.encode(), RowHead("öö")),
        *((row, None) for row in (b"1", b"null", b"[]", b'"a"', b'{"name":1}', b'{"done":0}', b'{"done":null}')),
    ],
)
def test_the_head_of_a_row(row: bytes, head: RowHead | None) -> None:
    """Name and end, wherever they stand; what has none of the right type is refused."""
    [found] = read_page(b'{"operations":[' + row + b"]}").operations
    if head is None:
        with pytest.raises(ValueError):
            read_head(found)
    else:
        assert read_head(found) == head


def test_a_head_that_the_stack_does_not_reach_is_refused() -> None:
    """A row may be split at one depth of the stack, and read at another: here, at one that no interpreter allows."""
    levels = 200_000
    with pytest.raises(JsonLimitError):
        read_head(Row(b'{"a":' + b"[" * levels + b"]" * levels + b"}"))


@pytest.mark.parametrize(
    ("start", "before"),
    [
        (b'{"a": 1, "key": {"b": [1, 2', {"a": 1}),
        (b'{"a": {"b": 1, "key": {"c": 2}}, "c": [3] ,\n "key"\n:\t{ "', {"a": {"b": 1, "key": {"c": 2}}, "c": [3]}),
        (b'{"a": ", \\"key\\": {\\"", "key": {"x', {"a": ', "key": {"'}),
        (b'{"a": 1, "key', None),
        (b'{"key": {"b": 1', {}),
        (b'{ "key" :{"', {}),
        (b'{"key": 1, "b": [', None),
        (b'{"key": null, "b": [', None),
        (b'{"key": {}, "b": [', None),
        (b'{"key": {', None),
        (b'{"key": [{"b": [', None),
        (b'{"key": null, "key": {"b": [', {"key": None}),
        (b'{"a": {"key": {"b', None),
        (b'{"a": "{"key": {"b', None),
        (b'{"a": {"b": 1, "key": {"c', None),
        (b'{"a": 1, "b": NaN, "key": {"c', None),
        (b'{"a": {' + b'"b": 1, "key": {"d": 2}, ' * 20 + b'"c": 3}, "key": {"d', None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_the_fields_before_one_are_read_without_it(start: bytes, before: Any) -> None:
    """B11, M1: only a field of the object itself ends it, with something in it; and finding that takes little."""
    if before is not None:
        assert read_before(start, "key") == before
        return
    with pytest.raises(ValueError):
        read_before(start, "key")
