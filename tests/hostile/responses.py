"""Answers that a broken or hostile server gives, and the errors that each of them may lead to."""

from __future__ import annotations

import gzip
import json
import zlib
from functools import cache

from airflow_lro_provider.lro.errors import (
    ApiError,
    MalformedResponseError,
    OperationsError,
    PermissionDeniedError,
    ResponseTooLargeError,
    TransportError,
    UnavailableError,
)
from tests.hostile.hostile_server import Play, chunk, for_ever, head, plain
from tests.hostile.subjects import NAME

__all__ = ["BIG", "CHUNKS", "LENGTH", "MB", "ODD", "OPERATION", "bomb", "packed", "raw"]

MB = 2**20
OPERATION = json.dumps({"name": NAME, "done": False}).encode()
UNREADABLE = (MalformedResponseError, TransportError)
LENGTH = "Content-Length: {}"
CHUNKS = "Transfer-Encoding: chunked"


@cache
def bomb(size: int = 200 * MB) -> bytes:
    """So many zeros, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(MB)
    return b"".join(packer.compress(zeros) for _ in range(size // MB)) + packer.flush()


def packed(body: bytes, status: str = "200 OK", encoding: str = "gzip") -> Play:
    """A packed body."""
    return lambda _: [head(status, LENGTH.format(len(body)), f"Content-Encoding: {encoding}"), body]


def raw(*pieces: bytes) -> Play:
    """These bytes, and the end."""
    return lambda _: pieces


BIG: dict[str, tuple[Play, tuple[type[OperationsError], ...]]] = {
    "200 MB, said so": (
        for_ever(bytes(MB), first=head("200 OK", LENGTH.format(200 * MB)), times=200),
        (ResponseTooLargeError,),
    ),
    "200 MB in chunks": (for_ever(chunk(bytes(MB)), first=head("200 OK", CHUNKS), times=200), (ResponseTooLargeError,)),
    "an endless body": (for_ever(b" " * 65536, first=head()), (ResponseTooLargeError,)),
    "endless chunks": (for_ever(chunk(b" " * 65536), first=head("200 OK", CHUNKS)), (ResponseTooLargeError,)),
    "endless tiny chunks": (
        for_ever(chunk(b" ") * 9999, first=head("200 OK", CHUNKS)),
        (ResponseTooLargeError, TransportError),  # whichever is reached first, the size or the time
    ),
    "an endless chunk size": (for_ever(b"0" * 65536, first=head("200 OK", CHUNKS)), UNREADABLE),
    "an endless chunk extension": (for_ever(b"x" * 65536, first=head("200 OK", CHUNKS) + b"1;"), UNREADABLE),
    "endless trailers": (
        for_ever(b"X-Y: z\r\n" * 9999, first=head("200 OK", CHUNKS) + chunk(OPERATION) + b"0\r\n"),
        UNREADABLE,
    ),
    "endless headers": (for_ever(b"X-Y: z\r\n" * 9999, first=head()[:-2]), UNREADABLE),
    "a header without an end": (for_ever(b"x" * 65536, first=head()[:-2] + b"X-Y: "), UNREADABLE),
    "a status line without an end": (for_ever(b"x" * 65536, first=b"HTTP/1.1 200 "), UNREADABLE),
    "for ever 100 Continue": (for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 999), UNREADABLE),
    "a gzip bomb": (lambda _: packed(bomb())(_), (ResponseTooLargeError,)),
    "a gzip bomb of many members": (
        lambda _: for_ever(gzip.compress(bytes(MB)), first=head("200 OK", "Content-Encoding: gzip"))(_),
        (ResponseTooLargeError,),
    ),
    "a gzip bomb in a gzip bomb": (lambda _: packed(gzip.compress(bomb()), encoding="gzip, gzip")(_), UNREADABLE),
    "a deflate bomb": (packed(zlib.compress(bytes(20 * MB)), encoding="deflate"), UNREADABLE),
    "an error with 200 MB": (
        for_ever(bytes(MB), first=head("403 Forbidden", LENGTH.format(200 * MB)), times=200),
        (PermissionDeniedError,),
    ),
    "an endless error": (for_ever(b"x" * 65536, first=head("403 Forbidden")), (PermissionDeniedError,)),
    "an error with a gzip bomb": (lambda _: packed(bomb(), "503 Unavailable")(_), (UnavailableError,)),
    "an endless redirect": (for_ever(b"x" * 65536, first=head("302 Found", "Location: /")), UNREADABLE),
}


ODD: dict[str, tuple[Play, tuple[type[OperationsError], ...]]] = {
    "deep JSON": (plain(b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), (ResponseTooLargeError,)),
    "deep JSON, not closed": (plain(b"[" * 100_000), (ResponseTooLargeError,)),
    "JSON 500 deep": (plain(b'{"metadata":' + b'{"a":' * 500 + b"1" + b"}" * 501), (ResponseTooLargeError,)),
    "millions of objects": (plain(b'{"metadata":{"a":[' + b"{}," * 2_500_000 + b"1]}}"), (ResponseTooLargeError,)),
    "NaN": (plain(b'{"name":"operations/o","metadata":{"a":NaN}}'), (MalformedResponseError,)),
    "Infinity": (plain(b'{"name":"operations/o","metadata":{"a":-Infinity}}'), (MalformedResponseError,)),
    "an infinite number": (plain(b'{"name":"operations/o","metadata":{"a":1e999}}'), (ResponseTooLargeError,)),
    "10,000 digits": (plain(b'{"metadata":{"a":' + b"7" * 10_000 + b"}}"), (ResponseTooLargeError,)),
    "a lone surrogate": (plain(rb'{"name":"operations/o","metadata":{"a":"\ud800"}}'), (MalformedResponseError,)),
    "UTF-16": (plain(OPERATION.decode().encode("utf-16")), (MalformedResponseError,)),
    "Latin-1": (plain('{"name":"operations/ö"}'.encode("latin-1")), (MalformedResponseError,)),
    "HTML": (plain(b"<html><body>Sign in</body></html>"), (MalformedResponseError,)),
    "an empty body": (plain(b""), (MalformedResponseError,)),
    "no object": (plain(b"[]"), (MalformedResponseError,)),
    "a name that is a number": (plain(b'{"name":7}'), (MalformedResponseError,)),
    "a done that is a word": (plain(b'{"name":"operations/o","done":"true"}'), (MalformedResponseError,)),
    "an error that is a list": (plain(b'{"name":"operations/o","done":true,"error":[]}'), (MalformedResponseError,)),
    "a body that is cut off": (raw(head("200 OK", LENGTH.format(99)), OPERATION[:20]), UNREADABLE),
    "a body that is longer than it says": (raw(head("200 OK", LENGTH.format(20)), OPERATION), UNREADABLE),
    "chunks that are cut off": (raw(head("200 OK", CHUNKS), chunk(OPERATION)), UNREADABLE),
    "a chunk size that is none": (raw(head("200 OK", CHUNKS), b"zz\r\n"), UNREADABLE),
    "a negative chunk size": (raw(head("200 OK", CHUNKS), b"-5\r\nhello\r\n0\r\n\r\n"), UNREADABLE),
    "a huge chunk size": (raw(head("200 OK", CHUNKS), b"ffffffffffffffffff\r\n" + OPERATION), UNREADABLE),
    "two lengths": (raw(head("200 OK", LENGTH.format(5), LENGTH.format(50)), OPERATION), UNREADABLE),
    "a length of many digits": (raw(head("200 OK", LENGTH.format("9" * 5000)), OPERATION), UNREADABLE),
    "gzip that is none": (packed(OPERATION), (MalformedResponseError,)),
    "gzip that is cut off": (packed(gzip.compress(OPERATION)[:-9]), (MalformedResponseError,)),
    "an encoding of its own": (packed(OPERATION, encoding="rot13"), (MalformedResponseError,)),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n"), UNREADABLE),
    "nothing at all": (raw(), (TransportError,)),
    "a status that is none": (raw(b"HTTP/1.1 abc OK\r\n\r\n"), UNREADABLE),
    "a status of 999": (plain(b"{}", "999 Odd"), (ApiError,)),
    "a status of 42": (plain(b"{}", "042 Odd"), (ApiError, *UNREADABLE)),
    "a huge header": (plain(OPERATION, "200 OK", "X-Y: " + "z" * 70_000), UNREADABLE),
    "control characters in a header": (plain(b"{}", "403 Forbidden", "X-Request-Id: a\x00b"), (ApiError, *UNREADABLE)),
    "an error that is deep": (plain(b"[" * 100_000, "403 Forbidden"), (PermissionDeniedError,)),
    "an error with a message of 1 MB": (
        plain(json.dumps({"error": {"status": "PERMISSION_DENIED", "message": "x " * MB}}).encode(), "403 Forbidden"),
        (PermissionDeniedError,),
    ),
    "an error with a reason of 1 MB": (
        plain(
            json.dumps(
                {"error": {"details": [{"@type": "google.rpc.ErrorInfo", "reason": "x " * MB}], "message": "no"}}
            ).encode(),
            "403 Forbidden",
        ),
        (PermissionDeniedError,),
    ),
    "an error with wrong types": (
        plain(b'{"error":{"status":[],"message":{},"details":{"a":1},"code":"x"}}', "403 Forbidden"),
        (PermissionDeniedError,),
    ),
}
