"""What is fuzzed, and what must hold: each target makes one input from chance, feeds it in, and judges what comes.

An error of the package's own tree (or the one that a docstring promises) is a good result. Anything else that is
raised is a crash, and so is an assertion: a promise that was broken.
"""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlsplit

from urllib3.util import parse_url
from yarl import URL

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.cancel import outcome_of_cancel
from airflow_lro_provider.lro.errors import ApiError, InvalidRequestError, MalformedResponseError, OperationsError
from airflow_lro_provider.lro.http.body import Body
from airflow_lro_provider.lro.http.json import Row
from airflow_lro_provider.lro.http.messages import Request, Response
from airflow_lro_provider.lro.operation import Operation, Outcome, State
from airflow_lro_provider.lro.paging import Paging
from airflow_lro_provider.lro.polling import PollSchedule
from airflow_lro_provider.lro.protocol import Page
from airflow_lro_provider.lro.redaction import without_secrets
from airflow_lro_provider.lro.resources.catalog import find_service, known_services
from airflow_lro_provider.lro.resources.hosts import Resource, check_endpoint, endpoint_of, split_url
from airflow_lro_provider.lro.resources.methods import Method, new_request_id, read_method
from airflow_lro_provider.lro.resources.names import OperationReference, read_parent, read_reference
from airflow_lro_provider.lro.shared_poller.planner import ParentPlan
from airflow_lro_provider.lro.shared_poller.queue import Waiter
from airflow_lro_provider.lro.status import CODES, MAX_RETRY_AFTER_SECONDS, error_from_response
from airflow_lro_provider.lro.steps import Sleep
from airflow_lro_provider.ownership import decisions as verdict
from airflow_lro_provider.sweep.ledger import LedgerEntry, LedgerKey
from airflow_lro_provider.sweep.search import StartFootprint, find, footprint_of
from airflow_lro_provider.triggers import events
from tests.fuzz.corpus import (
    BRICKS,
    ENDPOINTS,
    ERRORS,
    EVENTS,
    FOOTPRINTS,
    LEDGER,
    METHODS,
    NAMES,
    NOW,
    OPERATIONS,
    RECORDS,
)
from tests.fuzz.mutate import spoil_bytes, spoil_json, spoil_text

__all__ = ["TARGETS", "ForeignHostError", "check_request"]

Target = Callable[[Random], object]
"""Raises what is wrong; gives the input back, so that it can be shown."""


class ForeignHostError(AssertionError):
    """A request was made that leads elsewhere."""


_NAMES = [name for _, name in NAMES]
_SERVICES = sorted(known_services())
_HOSTS = ["datafusion.googleapis.com", "us-central1-aiplatform.googleapis.com", "earthengine.googleapis.com"]
_UNIVERSE = "universe.example"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._~!$&'()*+,;=:@-%?[]")


def check_request(request: Request[Any], endpoint: str, googles: bool) -> None:
    """A request goes where it may, by the judgement of three readers of URLs, those of both clients among them.

    :param endpoint: where it may go.
    :param googles: whether that has to be one of Google's hosts.
    """
    url, base = urlsplit(request.url), urlsplit(endpoint)
    asked = {
        (url.scheme, url.hostname, url.port),
        (URL(request.url, encoded=True).scheme, URL(request.url, encoded=True).raw_host, url.port),
        (parse_url(request.url).scheme, (parse_url(request.url).host or "").strip("[]"), parse_url(request.url).port),
    }
    if asked != {(base.scheme, base.hostname, base.port)} or url.username is not None or url.fragment:
        raise ForeignHostError(f"{request.url!r:.300} is not at {endpoint!r}")
    if googles and not (request.resource.host == base.hostname and str(base.hostname).endswith(".googleapis.com")):
        raise ForeignHostError(f"{endpoint!r} is not Google's")
    version = request.resource.version  # some APIs have more than that before a name: dns/v1
    roots = {version, known_services()[request.resource.service].prefixes.get(version, version)}
    if not request.url.startswith(tuple(f"{endpoint}/{root}/" for root in roots)):
        raise ForeignHostError(f"{request.url!r:.300} is not below {endpoint!r}")
    assert not {".", ".."} & set(url.path.split("/")), request.url[:300]
    assert not set(request.url) - _PLAIN, request.url[:300]
    assert all(text.isascii() and text.isprintable() for pair in request.headers.items() for text in pair)


def _requests(reference: OperationReference, endpoint: str) -> list[Request[Any]]:
    made = [protocol.get(reference, endpoint)]
    for build in (protocol.cancel, protocol.delete, lambda *where: protocol.wait(*where, 1.5)):
        try:
            made.append(build(reference, endpoint))
        except InvalidRequestError:
            continue  # this kind of operation has no such verb
    return made


def _name(random: Random) -> tuple[str, str]:
    service, name = random.choice(NAMES)
    return service, spoil_text(name, random, _NAMES)


def _given(random: Random) -> tuple[Any, Any, Any]:
    """What a user might give as a reference."""
    service, name = _name(random)
    way = random.randrange(8)
    value: Any = name
    host = random.choice((known_services()[service].host, *_HOSTS))
    if way == 1:
        value = spoil_text(f"//{host}/{name}", random)
    elif way == 2:
        value = spoil_text(f"https://{host}/v1/{name}", random)
    elif way == 3:
        value = spoil_json({"name": name, "done": False}, random)
    elif way == 4:
        value = spoil_json({"outcome": "SUCCEEDED", "operation": {"name": name}}, random)
    elif way == 5 and random.random() < 0.2:
        value = spoil_json(random.choice(OPERATIONS), random)
    wanted: Any = random.choice((*(service,) * 9, None, random.choice(_SERVICES), random.choice(BRICKS)))
    version: Any = random.choice((*(None,) * 9, "v1", "v1beta1", random.choice(BRICKS), 7))
    return value, wanted, version


def fuzz_reference(random: Random) -> object:
    """Whatever is given as a reference is refused, or requested where it may be."""
    given = (*_given(random), random.choice(ENDPOINTS))
    value, service, version, api_endpoint = given
    try:
        reference = read_reference(value, service, version, api_endpoint=api_endpoint)
        endpoint = endpoint_of(reference, api_endpoint)
        for request in _requests(reference, endpoint):
            check_request(request, endpoint, api_endpoint is None)
            if api_endpoint is not None:
                assert endpoint == api_endpoint.replace("{service}", reference.service)
        assert OperationReference.from_dict(json.loads(json.dumps(reference.to_dict()))) == reference
    except InvalidRequestError as error:
        assert len(str(error)) < 6000
    return given


def fuzz_universe(random: Random) -> object:
    """Whatever is given with a connection of another universe leads there, or nowhere; and so it is with mTLS hosts."""
    value, service, version = _given(random)
    if isinstance(value, str) and random.random() < 0.5:
        value = value.replace("googleapis.com", _UNIVERSE)
    universe, mtls = random.choice((_UNIVERSE, "googleapis.com")), random.random() < 0.5
    given = (value, service, version, universe, mtls)
    try:
        reference = read_reference(value, service, version, universe=universe)
        # A reference carries the name that the table knows.
        assert universe != _UNIVERSE or not reference.host.endswith(f".{_UNIVERSE}")
        endpoint = endpoint_of(reference, None, universe, mtls=mtls)
        if not str(urlsplit(endpoint).hostname).endswith(f".{universe}"):
            raise ForeignHostError(f"{endpoint!r} is not of {universe}")
        for request in _requests(reference, endpoint):
            check_request(request, endpoint, False)
    except InvalidRequestError:
        pass
    return given


def fuzz_footprint(random: Random) -> object:
    """What a start leaves in the ledger can be read back; what was tampered with is listed at Google, or nowhere."""
    stored = spoil_json(random.choice(FOOTPRINTS), random)
    method, body = spoil_text(random.choice(METHODS), random, METHODS), {"instanceId": random.choice(BRICKS)}
    given = (stored, method, body)
    try:
        left = footprint_of(read_method(method, random.choice(("POST", "DELETE", "PATCH")), None), body)
        assert left is None or StartFootprint.from_dict(json.loads(json.dumps(left.to_dict()))) == left
    except InvalidRequestError:
        pass
    footprint = StartFootprint.from_dict(stored)
    if footprint is not None:
        try:
            endpoint = endpoint_of(footprint.place)
            check_request(protocol.list_(footprint.place, endpoint), endpoint, True)
        except InvalidRequestError:
            pass
        rows = [spoil_json(random.choice(OPERATIONS), random) for _ in range(3)]
        operations = [Operation.from_json(row) for row in rows if _is_operation(row)]
        found = find(footprint, operations, NOW.timestamp())
        assert all(one in operations for one in (*found.certain, *found.possible))
        assert footprint.names_new or not (found.certain or found.is_absent)
    return given


def _is_operation(raw: object) -> bool:
    try:
        Operation.from_json(raw)
    except MalformedResponseError:
        return False
    return True


def fuzz_record(random: Random) -> object:
    """Whatever stands in a record or in a trigger's arguments leads to Google, or nowhere."""
    stored = spoil_json(RECORDS[0], random) if random.random() < 0.4 else dict(RECORDS[0])
    if isinstance(stored, dict) and random.random() < 0.5:
        stored["service"], stored["name"] = _name(random)
        stored["host"] = known_services()[stored["service"]].host
    elif isinstance(stored, dict) and random.random() < 0.3:
        stored["name"] = _name(random)[1]
    if isinstance(stored, dict) and random.random() < 0.5:
        stored["host"] = spoil_text(random.choice(_HOSTS), random)
    if isinstance(stored, dict):
        try:
            reference = OperationReference.from_dict(stored)
            endpoint = endpoint_of(reference)
            for request in _requests(reference, endpoint):
                check_request(request, endpoint, True)
        except InvalidRequestError:
            pass
    return stored


def fuzz_parent(random: Random) -> object:
    """A list goes below its parent, whatever its filter and its page tokens are."""
    service, name = _name(random)
    given = (name.rpartition("/operations/")[0], service, spoil_text("done:false", random), random.choice(BRICKS))
    parent, _, filter_, token = given
    try:
        reference = read_parent(parent, service)
        endpoint = endpoint_of(reference)
        paging = Paging(reference, endpoint, filter=_sendable(filter_), page_size=random.choice((None, 0, 5)))
        while not paging.done and token is not None:
            flow = paging.next_page()
            request = next(flow)
            assert not isinstance(request, Sleep)
            check_request(request, endpoint, True)
            rows = tuple(Operation(name=random.choice(("a", "b", ""))) for _ in range(3))
            try:
                flow.send(Page(rows, _sendable(token)))
            except StopIteration as end:
                names = [operation.name for operation in end.value if operation.name]
                assert len(names) == len(set(names))
            token = None if paging.done else ""
    except InvalidRequestError:
        pass
    return given


def _sendable(text: str) -> str:
    """Page tokens come out of JSON, which has no lone surrogates here."""
    return text.encode("utf-8", "replace").decode()


def fuzz_method(random: Random) -> object:
    """A start goes to its service, whatever the method; and its response is an operation or an error."""
    method = spoil_text(random.choice(METHODS), random, [*METHODS, *_NAMES])
    service = random.choice((None, "datafusion", "aiplatform", "earthengine", random.choice(_SERVICES)))
    http_method: Any = random.choice(("POST", "post", "DELETE", "GET", "", 7, "PO\r\nST"))
    body = spoil_json({"type": "BASIC", "requestId": "r"}, random) if random.random() < 0.3 else None
    response = spoil_json(random.choice(OPERATIONS), random)
    api_endpoint = random.choice(ENDPOINTS)
    given = (method, service, http_method, body, response, api_endpoint)
    try:
        read = read_method(method, http_method, service, api_endpoint=api_endpoint)
        endpoint = endpoint_of(read, api_endpoint)
        request_id = random.choice((None, new_request_id(method.encode("utf-8", "replace").decode())))
        request = protocol.start(read, endpoint, body, request_id=request_id)
        check_request(request, endpoint, api_endpoint is None)
        assert isinstance(read, Method)
        if isinstance(response, dict):
            reference, _ = protocol.started(request, response)
            check_request(
                protocol.get(reference, endpoint_of(reference, api_endpoint)),
                endpoint_of(reference, api_endpoint),
                api_endpoint is None,
            )
    except OperationsError:
        pass
    return given


def fuzz_endpoint(random: Random) -> object:
    """An endpoint of a connection is plain, or refused."""
    endpoint = spoil_text(random.choice([e for e in ENDPOINTS if e]), random)
    emulator = random.random() < 0.3
    try:
        kept = check_endpoint(endpoint, emulator=emulator)
    except InvalidRequestError:
        return endpoint
    url = urlsplit(kept.replace("{service}", "datafusion"))
    assert url.hostname
    assert (url.username, url.query, url.fragment) == (None, "", "")
    assert (
        split_url(kept)[0] == "https"
        or emulator
        or url.hostname in ("localhost", "::1")
        or url.hostname.startswith("127.")
    )
    assert str(URL(kept.replace("{service}", "datafusion"), encoded=True).raw_host).lower() == url.hostname
    return endpoint


def fuzz_settings(random: Random) -> object:
    """A connection is read, or refused by an error of the tree that quotes no secret of it."""
    extra = spoil_json(
        {
            "api_endpoint": random.choice(ENDPOINTS),
            "keyfile_dict": {"type": "service_account", "private_key": "MARKED"},
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "num_retries": 5,
            "impersonation_chain": ["a@x"],
            "emulator": random.random() < 0.5,
            "is_anonymous": "false",
        },
        random,
    )
    extra = json.loads(json.dumps(extra, default=str))  # it was stored as JSON
    if isinstance(extra, dict):
        try:
            assert "MARKED" not in repr(ConnectionSettings.from_extra(extra, conn_id="c"))
        except InvalidRequestError as error:
            assert "MARKED" not in str(error)
    return extra


def fuzz_service(random: Random) -> object:
    """A service is found by its name or host, or refused."""
    wanted: Any = (
        spoil_text(random.choice(_SERVICES + _HOSTS), random) if random.random() < 0.9 else spoil_json({}, random)
    )
    try:
        service = find_service(wanted)
        assert wanted == service.name or service.has_host(wanted)
    except InvalidRequestError:
        pass
    return wanted


def check_operation(operation: Operation) -> None:
    """Every attribute of an operation is what its annotation says."""
    assert (operation.state is None) is operation.done is (operation.outcome is not None)
    assert operation.state is None or isinstance(operation.state, State)
    assert operation.outcome is None or isinstance(operation.outcome, Outcome)
    assert operation.error_code is None or isinstance(operation.error_code, int)
    assert operation.progress is None or 0 <= operation.progress <= 1
    assert isinstance(operation.cancel_requested, bool)
    assert all(text is None or (isinstance(text, str) and text) for text in (operation.message, operation.target))
    times = (operation.create_time, operation.update_time, operation.end_time)
    assert all(time is None or time.utcoffset() is not None for time in times)
    assert isinstance(operation.error_message, str)
    assert len(operation.summary()) < 400
    assert isinstance(outcome_of_cancel(operation), Outcome)


def fuzz_operation(random: Random) -> object:
    """Any JSON is an operation or malformed; only `done: true` makes it over."""
    raw = spoil_json(random.choice(OPERATIONS), random)
    try:
        operation = Operation.from_json(raw)
    except MalformedResponseError:
        return raw
    assert operation.done is (raw.get("done") is True)
    check_operation(operation)
    check_operation(operation.without_response())
    return raw


def _headers(random: Random) -> dict[str, str]:
    values = [
        "3",
        "-1",
        "nan",
        "inf",
        "1e9",
        "Sun, 01 Nov 2026 10:00:42 GMT",
        "Sun, 99 Nov 99999 10:00:42 GMT",
        *BRICKS,
    ]
    names = ["retry-after", "x-goog-request-id", "x-request-id", "content-type", "content-length", "content-encoding"]
    return {random.choice(names): spoil_text(random.choice(values), random) for _ in range(random.randrange(3))}


def fuzz_error(random: Random) -> object:
    """Any response that is no success is an error of ours, short, and fit to be pickled."""
    body = spoil_bytes(spoil_json(random.choice(ERRORS), random), random)
    status, headers = (
        random.choice((300, 302, 400, 401, 403, 404, 409, 429, 499, 500, 501, 503, 504, 599, 999)),
        _headers(random),
    )
    verb = random.choice(("get", "list", "cancel", "delete", "wait", "start"))
    request = Request(verb, "GET", "https://h/", Resource("datafusion", "v1", "o", "h"), lambda *_: None)
    error = error_from_response(request, Response(status, headers, body), random.choice((None, NOW)))
    given = (status, headers, verb, body)
    assert isinstance(error, ApiError | MalformedResponseError)
    assert len(str(error)) < 2500
    str(error).encode()
    if isinstance(error, ApiError):
        assert error.status in CODES
        assert error.retry_after is None or 0 <= error.retry_after <= MAX_RETRY_AFTER_SECONDS
        assert error.request_id is None or isinstance(error.request_id, str)
        if random.random() < 0.05:
            assert str(pickle.loads(pickle.dumps(error))) == str(error)
    return given


_ABOUT = read_reference("projects/p/operations/o", "earthengine")
_ENDPOINT = endpoint_of(_ABOUT)
_ROWS = protocol.rows(read_parent("projects/p", "earthengine"), _ENDPOINT, protocol.PageQuery())
_ASKED = [
    *_requests(_ABOUT, _ENDPOINT),
    protocol.list_(read_parent("projects/p", "earthengine"), _ENDPOINT),
    protocol.start(read_method("projects/p/image:export", service="earthengine"), _ENDPOINT, {}),
]
_PROMISED = {"list": Page, "get": Operation, "wait": Operation, "start": dict}


def fuzz_response(random: Random) -> object:
    """Whatever the response, each verb gives what it promises, fit to be kept, or raises an error of ours."""
    document = spoil_json(random.choice([*OPERATIONS, *OPERATIONS, *ERRORS]), random)
    given = (
        random.choice(_ASKED),
        random.choice((*(200,) * 9, 204, 299, 404, 503)),
        _headers(random),
        spoil_bytes(document, random),
    )
    request, status, headers, body = given
    try:
        response = Response(status, headers, body).without({"authorization": "Bearer ya29.MARKED"})
        result = request.read(response, NOW)
    except OperationsError as error:
        str(error).encode()
        return given
    assert status < 300
    assert isinstance(result, _PROMISED.get(request.verb, type(None)))
    for operation in result.operations if isinstance(result, Page) else [result]:
        if isinstance(operation, Operation):
            check_operation(operation)
            json.dumps(dict(operation.raw), allow_nan=False, ensure_ascii=False).encode()
            event = events.Finished(operation).to_dict()
            assert isinstance(events.read_event(event), events.Finished) if operation.done else True
    return given


def fuzz_page(random: Random) -> object:
    """Whatever a page of a list has in it, whoever waits is notified of what its row says, or polled by name."""
    rows = [spoil_json(random.choice(OPERATIONS), random) for _ in range(random.randrange(5))]
    document = {"operations": rows, "nextPageToken": "t"}
    body = spoil_bytes(document if random.random() < 0.7 else spoil_json(document, random), random)
    names = {row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)}
    plan = ParentPlan("projects/p", lists=True, waits=False)
    for name in [*sorted(names), *map(str, range(10))]:
        plan.add(Waiter(name, PollSchedule(started=0.0)), 0.0)
    [request] = plan.requests(1.0, 99)
    assert request.verb == "list"
    try:
        page = _ROWS.read(Response(200, {}, body))
    except MalformedResponseError as error:
        str(error).encode()
        plan.lists.failed(error, 1.0)
        news = []
    else:
        news = plan.rows(page.rows, 1.0)
        plan.end_page("", page.size, 1.0)
    for waiter, what in news:
        if isinstance(what, Operation):
            assert what.done
            assert what.name == waiter.name
            assert any(_says(row, what.raw) for row in page.rows)
            check_operation(what)
            json.dumps(dict(what.raw), allow_nan=False, ensure_ascii=False).encode()
            plan.remove(waiter)
        else:
            assert isinstance(what, str)
    unseen = {waiter.name for waiter in plan.waiters if not waiter.listed_in}
    assert {request.name for request in plan.requests(1.0, 99)} == unseen
    return body


def _says(row: Row, raw: object) -> bool:
    try:
        return bool(json.loads(bytes(row)) == raw)
    except (ValueError, RecursionError):
        return False


def fuzz_body(random: Random) -> object:
    """However a body is packed and cut, it is unpacked within its limit, or an error of ours."""
    body = spoil_bytes(random.choice(OPERATIONS), random)
    encoding = random.choice(
        ("gzip", "gzip", "x-gzip", "GZIP ", "", "identity", "br", "deflate", random.choice(BRICKS))
    )
    if "gzip" in encoding.lower():
        body = gzip.compress(body, 1)
        at = random.randint(0, len(body))
        body = random.choice((body, body, body[:at], body[:at] + b"\xff" + body[at:], body + body, body + b"rest"))
    headers = {"content-encoding": encoding}
    if random.random() < 0.3:
        headers["content-length"] = spoil_text(str(len(body)), random)
    status, limit = random.choice((200, 200, 302, 403, 503)), random.choice((10, 100, 100_000))
    given = (status, headers, limit, body)
    try:
        content = Body(status, headers, limit)
        while body and content.wanted:
            size = random.randint(1, 200)
            content.feed(body[:size])
            body = body[size:]
        assert len(content.finish()) <= limit
    except MalformedResponseError:
        assert status == 200
    return given


def fuzz_verdict(random: Random) -> object:
    """Whatever stands in the task state store is a record or nothing, and is judged."""
    stored = spoil_json(random.choice(RECORDS[1:]), random)
    record = verdict.ArmedRecord.from_dict(stored)
    if record is not None:
        assert isinstance(record.try_number, int)
        assert isinstance(record.max_tries, int)
        ids = [
            record.try_id,
            "019a4d6e-0000-7000-8000-000000000000",
            "019b4d6e-0000-7000-8000-000000000000",
            random.choice(BRICKS),
        ]
        judged = verdict.of_armed_record(
            record,
            try_number=random.choice((0, 1, 2)),
            try_id=random.choice(ids),
            max_tries=2,
            seen=random.choice((None, *map(Operation.from_json, OPERATIONS[:4]))),
        )
        assert isinstance(judged, verdict.Decision)
    told: Any = random.choice((*verdict.Evidence, "failed", "deferred", "running", "mine", *BRICKS))
    token: Any = random.choice((verdict.Evidence.NONE, verdict.Evidence.UNKNOWN, "mine", *BRICKS))
    for judge in (verdict.of_killed_trigger, verdict.of_deferral):
        assert isinstance(judge(task_state=told, owner_token=token, my_token="mine"), verdict.Decision)
    entry = {key: random.random() < 0.5 for key in ("will_adopt", "cancel_on_failure", "superseded")}
    assert isinstance(verdict.of_ledger_entry(task_state=told, **entry), verdict.Decision)
    return stored, told, token


def fuzz_event(random: Random) -> object:
    """Whatever a trigger sends is an event of ours or a ValueError, and never a success by mistake."""
    stored = spoil_json(random.choice(EVENTS), random)
    try:
        event = events.read_event(stored)
    except ValueError as error:
        assert "counts as a failure" in str(error)
        return stored
    if isinstance(event, events.Finished):
        assert event.operation.done
        check_operation(event.operation)
    event.to_dict()
    assert isinstance(events.is_for_another(stored, "t"), bool)
    return stored


def fuzz_ledger(random: Random) -> object:
    """Whatever stands in the ledger is an entry or nothing, and an entry has a key that can be read back."""
    text: Any = spoil_text(random.choice(LEDGER), random, LEDGER)
    if random.random() < 0.5:
        text = json.dumps(spoil_json(json.loads(random.choice((LEDGER[0], LEDGER[-1]))), random), default=str)
    LedgerKey.from_text(str(text))
    entry = LedgerEntry.from_json(text)
    if entry is not None:
        key = LedgerKey.from_text(entry.key)
        assert isinstance(entry.task, str)
        assert key is None or key.owner in (None, entry.owner)
        assert LedgerEntry.from_json(entry.to_json()) == entry
        assert entry.footprint is None or all(isinstance(text, str) for text in entry.footprint.values())
    return text


def fuzz_secrets(random: Random) -> object:
    """No token in a text from outside gets through, and the filter takes no time to speak of."""
    secret = random.choice(
        (
            "ya29." + "aB3_-" * 9,
            "eyJhbGciOiJSUzI1NiJ9.e30." + "x" * 40,
            "Bearer " + "q" * 30,
            "1//0" + "g" * 60,
            "hunter2-x",
        )
    )
    forms = (
        ["%s"] if secret != "hunter2-x" else ['{"password": "%s"}', "token=%s", "a secret: %s.", "https://me:%s@h/x"]
    )
    quoted = random.choice(forms) % secret
    text = spoil_text(random.choice(BRICKS), random) + " " + quoted + " " + spoil_text("an response", random)
    assert secret not in without_secrets(text), text
    return text


TARGETS: dict[str, tuple[Target, int]] = {
    "reference": (fuzz_reference, 6),
    "universe": (fuzz_universe, 3),
    "record": (fuzz_record, 3),
    "footprint": (fuzz_footprint, 3),
    "parent": (fuzz_parent, 2),
    "method": (fuzz_method, 4),
    "endpoint": (fuzz_endpoint, 1),
    "settings": (fuzz_settings, 1),
    "service": (fuzz_service, 1),
    "operation": (fuzz_operation, 4),
    "error": (fuzz_error, 4),
    "response": (fuzz_response, 5),
    "page": (fuzz_page, 4),
    "body": (fuzz_body, 2),
    "verdict": (fuzz_verdict, 2),
    "event": (fuzz_event, 2),
    "ledger": (fuzz_ledger, 2),
    "secrets": (fuzz_secrets, 1),
}
"""What is fuzzed, and how often compared to the others."""
