"""Answers of a broken or hostile server, over real sockets: bounded in memory and time, and one clear error."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from airflow_lro_provider.lro import paging
from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.mtls import TlsSettings
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import Identity
from airflow_lro_provider.lro.errors import (
    InvalidReferenceError,
    MalformedResponseError,
    OperationsError,
    ResponseTooLargeError,
    TransportError,
)
from airflow_lro_provider.lro.http import body as content
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT
from airflow_lro_provider.lro.resources.names import read_parent, read_reference
from tests.hostile.hostile_server import Heard, HostileServer, Play, chunk, for_ever, head, plain
from tests.hostile.responses import BIG, CHUNKS, LENGTH, ODD, OPERATION, bomb, packed, raw
from tests.hostile.subjects import KINDS, NAME, REFERENCE, TOKEN, Client


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("play", "errors"), BIG.values(), ids=BIG)
def test_a_large_answer_costs_little(kind: str, play: Play, errors: tuple[type[OperationsError], ...]) -> None:
    """However large a response is or claims to be, it costs a few MB and seconds, and is one error of the tree."""
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
    """The time is that of the whole response: a byte now and then does not prolong it."""
    with HostileServer(play) as server, Client(kind, server.url, read_timeout=0.4) as client:
        begun = time.monotonic()
        with pytest.raises(TransportError, match="no response from 127"):
            client.get(REFERENCE, retries=0)
        assert time.monotonic() - begun < 4
        assert len(server.heard) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("play", "errors"), ODD.values(), ids=ODD)
def test_an_odd_answer_is_one_clear_error(kind: str, play: Play, errors: tuple[type[OperationsError], ...]) -> None:
    """Whatever comes is an error of the tree that names service, verb and operation, requested three times at most."""
    with HostileServer(play) as server, Client(kind, server.url, read_timeout=1) as client:
        with pytest.raises(errors) as caught:
            client.get(REFERENCE)
        # aiohttp repeats a GET by itself, once, if the connection is closed without a response.
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
    """A second response sent along with the first one is not taken for that of the next request."""
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
    """The limits of one response are not those of the next one on the same connection."""
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
    """New page tokens without end are followed for a limited number of pages."""
    monkeypatch.setattr(paging, "MAX_PAGES", 20)
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
@pytest.mark.parametrize(("verb", "arguments"), [("cancel", {"poll": False}), ("delete", {})])
def test_verbs_without_an_answer_are_bounded_too(kind: str, verb: str, arguments: dict[str, Any]) -> None:
    """The response to a cancel or delete is read within the same limits."""
    with HostileServer(for_ever(b" " * 65536, first=head())) as server, Client(kind, server.url) as client:
        with pytest.raises(ResponseTooLargeError):
            getattr(client, verb)(REFERENCE, **arguments)
        assert len(server.heard) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_wait_ends_with_an_answer_that_is_too_large(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait does not request for ever what it cannot accept, though it has no deadline; one alone ends nothing."""
    from airflow_lro_provider.lro import polling
    from airflow_lro_provider.lro.polling import new_schedule

    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.0)
    with HostileServer(plain(OPERATION), packed(bomb())) as server, Client(kind, server.url) as client:
        with pytest.raises(ResponseTooLargeError):
            client.wait_until_done(REFERENCE, new_schedule(time.monotonic()))
        assert len(server.heard) == 1 + polling.NOT_FOUND_TIMES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "503 Service Unavailable"])
def test_a_token_that_is_repeated_is_not_told(kind: str, status: str) -> None:
    """A server that repeats the request in its response does not get the token into errors or operations."""

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
    """More requests than connections: the last ones wait longer than a response may take, and get theirs."""

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
