"""The body of a response: unpacked piece by piece, within its limit."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from airflow_lro_provider.lro.errors import MalformedResponseError, ResponseTooLargeError
from airflow_lro_provider.lro.http.body import MAX_BYTES, START_BYTES, Body

TEXT = b'{"name":"operations/o"}' * 40


def fed(body: Body, data: bytes, size: int = 7) -> bytes:
    """Feed data in pieces while more is wanted, and finish."""
    for begin in range(0, len(data), size):
        if not body.feed(data[begin : begin + size]):
            break
    return body.finish()


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("", TEXT),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT, mtime=0)),
        (" GZIP ", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        ("gzip", gzip.compress(TEXT[:50], mtime=0) + gzip.compress(TEXT[50:], mtime=0)),
    ],
)
def test_a_body_is_put_together(size: int, encoding: str, data: bytes) -> None:
    """However it is packed and cut into pieces."""
    assert fed(Body(200, {"content-encoding": encoding}), data, size) == TEXT


def test_an_empty_body_may_be_called_packed() -> None:
    """A service that has nothing to say may still name its encoding."""
    assert Body(204, {"content-encoding": "gzip"}).finish() == b""


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "\x00"])
def test_what_was_not_asked_for_is_not_unpacked(encoding: str) -> None:
    """Only gzip is requested, and only once."""
    with pytest.raises(MalformedResponseError, match="was not requested"):
        Body(200, {"content-encoding": encoding})


def test_an_encoding_that_may_be_a_secret_is_not_told() -> None:
    """A word is named; whatever else stands there may repeat what the server was sent."""
    with pytest.raises(MalformedResponseError, match="packed as 'zstd'"):
        Body(200, {"content-encoding": "zstd"})
    with pytest.raises(MalformedResponseError, match="packed in a way that was not"):
        Body(200, {"content-encoding": "s3cr3t"})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello", "cannot be unpacked"),
        (gzip.compress(TEXT, mtime=0)[:-5], "cut off"),
        (gzip.compress(TEXT, mtime=0)[:-9] + b"\0" * 9, "cannot be unpacked"),
        (gzip.compress(TEXT, mtime=0) + b"rest", "cannot be unpacked"),
    ],
)
def test_what_cannot_be_unpacked_is_malformed(data: bytes, words: str) -> None:
    """Another response may be better: it is transient."""
    with pytest.raises(MalformedResponseError, match=words) as caught:
        fed(Body(200, {"content-encoding": "gzip"}), data)
    assert caught.value.transient


def test_the_limit_counts_what_comes_out() -> None:
    """A body of exactly the limit is accepted, one byte more is not, packed or not."""
    for encoding, pack in (("", bytes), ("gzip", gzip.compress)):
        assert fed(Body(200, {"content-encoding": encoding}, limit=920), pack(TEXT)) == TEXT
        with pytest.raises(ResponseTooLargeError, match="larger than 919 bytes") as caught:
            fed(Body(200, {"content-encoding": encoding}, limit=919), pack(TEXT))
        assert not caught.value.transient


@pytest.mark.parametrize("length", [str(MAX_BYTES + 1), "9" * 5000])
def test_a_length_is_believed_before_anything_is_read(length: str) -> None:
    """Of what says that it is too large, only the start is read."""
    body, pieces = Body(200, {"content-length": length}), iter([b"x" * (START_BYTES // 2)] * 9)
    with pytest.raises(ResponseTooLargeError, match=f"larger than {MAX_BYTES} bytes") as caught:
        all(map(body.feed, pieces))
    assert len(list(pieces)) == 7
    assert caught.value.start == b"x" * START_BYTES
    with pytest.raises(ResponseTooLargeError):
        Body(200, {"content-length": length}).finish()


@pytest.mark.parametrize("length", ["", "-1", "abc", "1e9", "\u0661", str(MAX_BYTES)])
def test_odd_lengths_are_left_to_http(length: str) -> None:
    """They are the client library's to judge."""
    assert Body(200, {"content-length": length}).wanted


@pytest.mark.parametrize("status", [403, 503])
@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"content-length": "999999999"}, b""),
        ({}, b"x" * 200),
        ({"content-encoding": "gzip"}, gzip.compress(b"x" * 200, mtime=0)),
        ({"content-encoding": "gzip"}, b"hello"),
        ({"content-encoding": "gzip"}, gzip.compress(TEXT, mtime=0)[:20]),
        ({"content-encoding": "br"}, b"x"),
    ],
)
def test_an_error_loses_its_explanation_only(status: int, headers: dict[str, str], data: bytes) -> None:
    """The status says what is wrong; a body that cannot be accepted does not hide it."""
    body = Body(status, headers, limit=100)
    assert fed(body, data) == b""
    assert not body.wanted or not data or "content-encoding" in headers


def test_the_body_of_a_redirect_is_not_wanted() -> None:
    """It is not followed, and not read."""
    body = Body(302, {})
    assert not body.wanted
    assert not body.feed(b"x")
    assert body.finish() == b""


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    """A hundred million zeros, packed into a hundred thousand bytes, are never all there."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(10**6)) for _ in range(100)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLargeError):
            Body(200, {"content-encoding": "gzip"}, limit=10**6).feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2 * 10**6
    finally:
        tracemalloc.stop()
