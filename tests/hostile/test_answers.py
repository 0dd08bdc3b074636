"""Answers of a broken or hostile server, over real sockets: bounded in memory and time, and one clear error."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hostile_server import Heard, HostileServer, Play, chunk, for_ever, head, plain
from subjects import KINDS, NAME, REFERENCE, TOKEN, Client

from airflow_lro_provider.lro import flows
from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.credentials import ConnectionSettings, Identity
from airflow_lro_provider.lro.auth.mtls import TlsSettings
from airflow_lro_provider.lro.errors import (
    ApiError,
    InvalidReferenceError,
    MalformedResponseError,
    OperationsError,
    PermissionDeniedError,
    ResponseTooLargeError,
    TransportError,
    UnavailableError,
)
from airflow_lro_provider.lro.http import body as content
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("play", "errors"), BIG.values(), ids=BIG)
def test_a_large_answer_costs_little(kind: str, play: Play, errors: tuple[type[OperationsError], ...]) -> None:
    """However large an answer is or claims to be, it costs a few MB and seconds, and is one error of the tree."""
    bomb()  # which is not to be counted
    with HostileServer(play) as server, Client(kind, server.url, retries=1, read_timeout=1) as client:
        tracemalloc.start()
        begun = time.monotonic()
        try:
            with pytest.raises(errors) as caught:
                client.get(REFERENCE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert time.monotonic() - begun < 10
        assert peak < 4 * content.MAX_BYTES
        assert len(server.heard) == (2 if caught.value.transient else 1)
    assert "datafusion: get projects/p" in str(caught.value)


SLOW: dict[str, Play] = {
    "the body": for_ever(b" ", first=head("200 OK", LENGTH.format(10**6)), every=0.02),
    "chunks": for_ever(chunk(b" "), first=head("200 OK", CHUNKS), every=0.02),
    "a chunk size": for_ever(b"0", first=head("200 OK", CHUNKS), every=0.02),
    "a body without an end": for_ever(b" ", first=head(), every=0.02),
    "headers": for_ever(b"X: y\r\n", first=head()[:-2], every=0.02),
    "a header": for_ever(b"y", first=head()[:-2] + b"X: ", every=0.02),
    "a status line": for_ever(b"x", first=b"HTTP/1.1 200 ", every=0.02),
    "nothing": for_ever(b"", every=0.02),
    "100 Continue": for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.02),
    "an error": for_ever(b" ", first=head("500 Internal Server Error"), every=0.02),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("play", SLOW.values(), ids=SLOW)
def test_a_slow_drip_is_not_waited_for(kind: str, play: Play) -> None:
    """The time is that of the whole answer: a byte now and then does not prolong it."""
    with HostileServer(play) as server, Client(kind, server.url, read_timeout=0.4) as client:
        begun = time.monotonic()
        with pytest.raises(TransportError, match="no response from 127"):
            client.get(REFERENCE, retries=0)
        assert time.monotonic() - begun < 4
        assert len(server.heard) == 1


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("play", "errors"), ODD.values(), ids=ODD)
def test_an_odd_answer_is_one_clear_error(kind: str, play: Play, errors: tuple[type[OperationsError], ...]) -> None:
    """Whatever comes is an error of the tree that names service, verb and operation, asked for thrice at most."""
    with HostileServer(play) as server, Client(kind, server.url, read_timeout=1) as client:
        with pytest.raises(errors) as caught:
            client.get(REFERENCE)
        # aiohttp repeats a GET by itself, once, if the connection is closed without an answer.
        assert len(server.heard) in ((3, 6) if caught.value.transient else (1,))
    assert "datafusion: get projects/p" in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


GOOD: dict[str, Play] = {
    "plain": plain(OPERATION),
    "packed": packed(gzip.compress(OPERATION)),
    "packed in two members": packed(gzip.compress(OPERATION[:9]) + gzip.compress(OPERATION[9:])),
    "in chunks": raw(head("200 OK", CHUNKS), *(chunk(bytes([byte])) for byte in OPERATION), b"0\r\n\r\n"),
    "packed, in chunks": raw(
        head("200 OK", CHUNKS, "Content-Encoding: gzip"), chunk(gzip.compress(OPERATION)), b"0\r\n\r\n"
    ),
    "without a length": raw(head(), OPERATION),
    "with a mark of the byte order": plain(b"\xef\xbb\xbf" + OPERATION),
    "as large as it may be": plain(OPERATION[:-1] + b" " * (content.MAX_BYTES - len(OPERATION)) + b"}"),
    "after 100 Continue": raw(b"HTTP/1.1 100 Continue\r\n\r\n", head(), OPERATION),
    "with a trailer": raw(head("200 OK", CHUNKS), chunk(OPERATION), b"0\r\nX: y\r\n\r\n"),
    "JSON 90 deep": plain(OPERATION[:-1] + b',"metadata":' + b'{"a":' * 90 + b"1" + b"}" * 91),
    "a pair of surrogates": plain(OPERATION[:-1] + rb',"metadata":{"statusMessage":"\ud83d\ude00"}}'),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("play", GOOD.values(), ids=GOOD)
def test_a_good_answer_is_taken_however_it_comes(kind: str, play: Play) -> None:
    """The limits refuse nothing that is right, up to their edge."""
    with HostileServer(play) as server, Client(kind, server.url, read_timeout=20) as client:
        assert client.get(REFERENCE).name == NAME
        assert server.heard[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_more_is_refused(kind: str) -> None:
    """The limit is where it is said to be."""
    body = OPERATION[:-1] + b" " * (content.MAX_BYTES - len(OPERATION) + 1) + b"}"
    for play in (plain(body), packed(gzip.compress(body)), raw(head(), body)):
        with HostileServer(play) as server, Client(kind, server.url) as client:
            with pytest.raises(ResponseTooLargeError, match="larger than 8388608 bytes"):
                client.get(REFERENCE)
            assert client.slept == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_left_over_is_nobodys_answer(kind: str) -> None:
    """A second answer sent along with the first one is not taken for that of the next request."""
    kept = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    other = OPERATION.replace(b"/o", b"/other")

    def smuggle(_: Heard) -> Iterator[bytes | None]:
        yield kept % len(OPERATION) + OPERATION + kept % len(other) + other
        yield None

    with HostileServer(smuggle, plain(OPERATION)) as server, Client(kind, server.url) as client:
        assert client.get(REFERENCE).name == NAME
        assert client.get(REFERENCE).name == NAME
        assert len(server.heard) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_is_kept_and_has_all_its_time_again(kind: str) -> None:
    """The limits of one answer are not those of the next one on the same connection."""
    kept = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OPERATION)
    ports: set[str] = set()

    def answer(request: Heard) -> Iterator[bytes | None]:
        ports.add(request.peer)
        yield kept
        time.sleep(0.4)
        yield OPERATION
        yield None

    with HostileServer(answer) as server, Client(kind, server.url, read_timeout=0.9, retries=0) as client:
        for _ in range(4):
            assert client.get(REFERENCE).name == NAME
        assert len(ports) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_cookies_are_not_kept(kind: str) -> None:
    """A server cannot make the clients carry anything from one request to the next."""
    cookie = plain(OPERATION, "200 OK", "Set-Cookie: a=b; Path=/", "Set-Cookie: c=d")
    with HostileServer(cookie) as server, Client(kind, server.url.replace("127.0.0.1", "localhost")) as client:
        client.get(REFERENCE)
        client.get(REFERENCE)
        assert [request.headers.get("cookie") for request in server.heard] == [None, None]


# -- lists -----------------------------------------------------------------------------------------------

PARENT = read_parent("projects/p/locations/us-central1", "datafusion")


def pages(tokens: Iterator[str], rows: list[dict[str, Any]]) -> Play:
    """A page after each request, with these rows and the next token."""
    return lambda request: plain(json.dumps({"operations": rows, "nextPageToken": next(tokens)}).encode())(request)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [["a"], ["a", "b"]], ids=["the same token", "in a circle"])
def test_a_list_that_goes_in_circles_is_ended(kind: str, tokens: list[str]) -> None:
    """The same page token twice ends the list with an error, as soon as it is seen."""
    endless = (token for _ in range(1000) for token in tokens)
    with HostileServer(pages(endless, [])) as server, Client(kind, server.url) as client:
        with pytest.raises(ResponseTooLargeError, match="same page token twice"):
            client.list(PARENT)
        assert len(server.heard) == len(tokens) + 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_without_an_end_is_ended(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new page tokens are followed for so many pages, and no more."""
    monkeypatch.setattr(flows, "MAX_PAGES", 20)
    with HostileServer(pages(map(str, range(10**6)), [])) as server, Client(kind, server.url) as client:
        with pytest.raises(ResponseTooLargeError, match="after 20 pages there is no end"):
            client.list(PARENT)
        assert len(server.heard) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_on_two_pages_is_told_once(kind: str) -> None:
    """Duplicates, on one page or on several, are one operation."""
    rows = [{"name": NAME}, {"name": NAME}, {"name": NAME + "2"}]
    with HostileServer(pages(iter(["a", "b", ""]), rows)) as server, Client(kind, server.url) as client:
        assert [operation.name for operation in client.list(PARENT)] == [NAME, NAME + "2"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        {"operations": {}},
        {"operations": [7]},
        {"operations": [{"name": 7}]},
        {"operations": [None]},
        {"nextPageToken": 7},
        {"nextPageToken": "x" * 20_000},
        {"unreachable": "x"},
    ],
    ids=lambda body: str(body)[:40],
)
def test_a_list_of_wrong_types(kind: str, body: Any) -> None:
    """A page that is none is an error of the tree."""
    with HostileServer(plain(json.dumps(body).encode())) as server, Client(kind, server.url) as client:
        with pytest.raises(MalformedResponseError, match="datafusion: list projects/p"):
            client.list(PARENT)
        assert len(server.heard) <= 3


def test_names_of_a_list_lead_nowhere_else() -> None:
    """An operation's own name is never taken for an address."""
    for name in (
        "//evil.example/" + NAME,
        "https://evil.example/v1/" + NAME,
        "../../" + NAME,
        "a\r\nHost: evil.example",
    ):
        with pytest.raises(InvalidReferenceError):
            read_reference({"name": name}, "datafusion")


# -- the other verbs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("verb", "arguments"), [("cancel", {"look": False}), ("delete", {})])
def test_verbs_without_an_answer_are_bounded_too(kind: str, verb: str, arguments: dict[str, Any]) -> None:
    """What a cancel or delete is answered with is read within the same limits."""
    with HostileServer(for_ever(b" " * 65536, first=head())) as server, Client(kind, server.url) as client:
        with pytest.raises(ResponseTooLargeError):
            getattr(client, verb)(REFERENCE, **arguments)
        assert len(server.heard) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_wait_ends_with_an_answer_that_is_too_large(kind: str) -> None:
    """A wait does not ask for ever for what it cannot take, though it has no deadline."""
    from airflow_lro_provider.lro.polling import new_schedule

    with HostileServer(plain(OPERATION), packed(bomb())) as server, Client(kind, server.url) as client:
        with pytest.raises(ResponseTooLargeError):
            client.wait_until_done(REFERENCE, new_schedule(time.monotonic()))
        assert len(server.heard) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "503 Service Unavailable"])
def test_a_token_that_is_repeated_is_not_told(kind: str, status: str) -> None:
    """A server that repeats the request in its answer does not get the token into errors or operations."""

    def repeat(request: Heard) -> Iterator[bytes]:
        told = request.headers["authorization"]
        assert TOKEN in told
        body = {"name": NAME, "metadata": {"said": told}, "error": {"message": f"what is {told}?"}}
        yield from plain(json.dumps(body).encode(), status, f"X-Request-Id: {told}")(request)

    with HostileServer(repeat) as server, Client(kind, server.url, retries=0) as client:
        try:
            told = repr(client.get(REFERENCE).raw)
        except OperationsError as error:
            told = f"{error} {vars(error)}"
    assert "[hidden]" in told
    assert "MARKED" not in told


def test_so_many_connections_as_are_allowed() -> None:
    """Twelve requests are under way together where a client may have twelve connections."""
    together = threading.Barrier(12)

    def all_at_once(request: Heard) -> Iterator[bytes | None]:
        together.wait(10)
        yield from plain(OPERATION)(request)

    async def ask(url: str) -> list[Any]:
        settings = ConnectionSettings(num_retries=0, api_endpoint=url)
        async with AsyncOperationsClient(settings, Identity(None), channel=TlsSettings(), connections=12) as client:
            return await asyncio.gather(*(client.get(REFERENCE) for _ in range(12)))

    with HostileServer(all_at_once) as server:
        assert len(asyncio.run(ask(server.url))) == 12


def test_waiting_for_ones_turn_is_not_on_the_clock() -> None:
    """More requests than connections: the last ones wait longer than an answer may take, and are answered."""

    def slowly(request: Heard) -> Iterator[bytes | None]:
        time.sleep(0.25)
        yield from plain(OPERATION)(request)

    async def many(client: Any) -> list[Any]:
        return await asyncio.gather(*(client.get(REFERENCE) for _ in range(3 * MAX_IN_FLIGHT + 1)))

    identity = Identity(None)
    settings = ConnectionSettings(num_retries=0)

    async def ask(url: str) -> list[Any]:
        there = replace(settings, api_endpoint=url)
        async with AsyncOperationsClient(
            there, identity, channel=TlsSettings(), read_timeout=0.4, connect_timeout=0.4
        ) as client:
            return await many(client)

    with HostileServer(slowly) as server:
        begun = time.monotonic()
        assert len(asyncio.run(ask(server.url))) == 25
        assert time.monotonic() - begun > 0.95
