"""What holds for any input at all: nothing but our own errors, and never a request to somebody else."""

from __future__ import annotations

import json
import pickle
import string
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import (
    ApiError,
    ForbiddenEndpointError,
    InvalidRequestError,
    MalformedResponseError,
    OperationsError,
    UnknownServiceError,
)
from airflow_lro_provider.lro.http.messages import Request, Response
from airflow_lro_provider.lro.operation import Operation, Outcome, State
from airflow_lro_provider.lro.polling import SHORTEST_INTERVAL_SECONDS, Deadline, PollSchedule
from airflow_lro_provider.lro.resources.catalog import find_service, known_services
from airflow_lro_provider.lro.resources.hosts import Resource, check_endpoint, endpoint_of
from airflow_lro_provider.lro.resources.names import OperationReference, read_parent, read_reference
from airflow_lro_provider.lro.status import CODES, MAX_RETRY_AFTER_SECONDS, error_from_response
from airflow_lro_provider.ownership.decisions import ArmedRecord

# The same examples in every run: a red run means that the code has changed.
fuzz = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

SERVICES = sorted(known_services())
# Bricks of names, URLs and attacks on both.
BRICKS = [
    *("projects", "locations", "operations", "endpoints", "p", "us-central1", "global", "-", "v1", "v1beta1", "o"),
    *("/", "//", "://", "https://", "http://", "ftp:", "..", ".", "/../", "%2F", "%2e%2e", "?", "#", "@", ":", "\\"),
    *(":cancel", ":443", "*", "{", "}", "{service}", "[", "]", "[::1]", " ", "\t", "\r\n", "\x00", "\x7f", "\u2028"),
    *("datafusion", ".googleapis.com", "aiplatform", "us-central1-", ".rep", ".mtls", "evil.example", "localhost"),
    *(
        "projects/p/locations/us-central1/operations/",
        "projects/p/operations/",
        "https://datafusion.googleapis.com/v1/",
    ),
    *("//us-central1-aiplatform.googleapis.com/", "//earthengine.googleapis.com/", "ö", "\u0661", "\uff0f", "\ud800"),
]
messy = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(BRICKS), max_size=8).map("".join))
segments = st.text(string.ascii_letters + string.digits + "._~!$&'()*+,;=:@-", min_size=1, max_size=12).filter(
    lambda part: part not in (".", "..") and not part.endswith((":cancel", ":wait", ":delete", ":get"))
)
messy_segments = st.one_of(segments, messy)

numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 2**63, 1e308]))
times = st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z")
KEYS = [
    *("@type", "state", "operationState", "status", "progress", "progressPercent", "progressPercentage", "target"),
    *("percentComplete", "progressDocuments", "progressBytes", "completedWork", "estimatedWork", "destinationUris"),
    *("statusMessage", "statusDetail", "stateMessage", "progressMessage", "description", "details", "genericMetadata"),
    *("commonMetadata", "requestedCancellation", "cancelRequested", "cancelTime", "createTime", "startTime", "endTime"),
    *("updateTime", "lastUpdateTime", "doneTime", "name", "done", "error", "response", "metadata", "code", "message"),
    *("operations", "nextPageToken", "unreachable", "reason", "retryDelay", "requestId", "operation", "resource"),
]
WORDS = ["CANCELLING", "RUNNING", "PENDING", "50", "1", "-1", "NaN", "1e999", "3s", "type.googleapis.com/earthengine.X"]
TYPES = [f"type.googleapis.com/google.rpc.{kind}" for kind in ("ErrorInfo", "RetryInfo", "RequestInfo")]
leaves = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=10), times, st.sampled_from(WORDS + TYPES))
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=6)), inner, max_size=6),
    ),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from(KEYS), documents, max_size=8)
statuses = st.sampled_from([*CODES, "A_NEW_ONE", "", 7, None])
details = st.fixed_dictionaries(
    {"@type": st.sampled_from(TYPES)}, optional={"reason": leaves, "retryDelay": leaves, "requestId": documents}
)
error_bodies = st.fixed_dictionaries(
    {
        "error": st.fixed_dictionaries(
            {
                "status": st.one_of(statuses, leaves),
                "message": leaves,
                "details": st.one_of(st.lists(details, max_size=2), documents),
            }
        )
    }
)
contents = st.one_of(error_bodies, error_bodies.map(lambda body: [body]), documents)
bodies = st.one_of(contents.map(lambda content: json.dumps(content).encode()), st.binary(max_size=60))
headers = st.dictionaries(
    st.sampled_from(["retry-after", "x-goog-request-id", "x-request-id", "content-type"]),
    st.one_of(st.text(max_size=30), st.sampled_from(["3", "-1", "nan", "Sun, 01 Nov 2026 10:00:42 GMT"])),
    max_size=3,
)


def names(service: str, version: str, parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Names after one of the patterns of a service, made of these parts."""

    def fill(pattern: str) -> st.SearchStrategy[str]:
        pieces: list[st.SearchStrategy[str]] = []
        before = ""
        for word in pattern.split("/"):
            if word == "**":
                pieces.append(st.lists(parts, min_size=1, max_size=3).map("/".join))
            elif word == "*":
                pieces.append(st.just("us-central1") if before in ("locations", "regions") else parts)
            else:
                pieces.append(st.just(word))
            before = word
        return st.tuples(*pieces).map("/".join)

    patterns = known_services()[service].names[version]
    whole = [pattern.replace("[", "").replace("]", "") for pattern in patterns]
    rootless = [pattern.partition("]")[2] or pattern for pattern in patterns]
    return st.sampled_from(whole + rootless).flatmap(fill)


@st.composite
def addressed(draw: st.DrawFn, parts: st.SearchStrategy[str]) -> tuple[str, str, str]:
    """A service, one of its versions, and a name after its pattern."""
    service = draw(st.sampled_from(SERVICES))
    version = draw(st.sampled_from(known_services()[service].versions))
    return service, version, draw(names(service, version, parts))


def check_requests(reference: OperationReference, endpoint: str) -> None:
    """Every request about an operation goes to this endpoint, to a plain path below it."""
    base = urlsplit(endpoint)
    for build in (protocol.get, protocol.cancel, protocol.delete):
        try:
            request = build(reference, endpoint)
        except UnknownServiceError:
            continue  # this kind of operation has no such verb
        url = urlsplit(request.url)
        assert (url.scheme, url.netloc, url.username, url.query, url.fragment) == (
            base.scheme,
            base.netloc,
            None,
            "",
            "",
        )
        suffix = ":cancel" if request.verb == "cancel" else ""
        before = known_services()[reference.service].prefixes.get(reference.version, reference.version)
        assert request.url == f"{endpoint}/{before}/{reference.name}{suffix}"
        assert not {".", "..", ""} & set(url.path.split("/")[1:])
        assert not set(request.url) - set(string.ascii_letters + string.digits + "/._~!$&'()*+,;=:@-")


@fuzz
@given(
    value=st.one_of(messy, documents, objects, st.binary(max_size=5)),
    service=st.one_of(st.none(), st.sampled_from(SERVICES), messy),
    version=st.one_of(st.none(), st.sampled_from(["v1", "v1beta1"]), messy),
    api_endpoint=st.sampled_from([None, "https://psc.example", "http://127.0.0.1:1/{service}"]),
)
def test_any_reference_is_read_or_refused(value: Any, service: Any, version: Any, api_endpoint: str | None) -> None:
    """Whatever is given as a reference, it is refused by an error of ours, or its requests go where they may."""
    try:
        reference = read_reference(value, service, version, api_endpoint=api_endpoint)
        endpoint = endpoint_of(reference, api_endpoint)
    except InvalidRequestError:
        return
    if api_endpoint is None:
        assert known_services()[reference.service].has_host(urlsplit(endpoint).netloc)
        assert endpoint == f"https://{reference.host}"
    else:
        assert endpoint == api_endpoint.replace("{service}", reference.service)
    check_requests(reference, endpoint)


@fuzz
@given(operation=addressed(messy_segments), prefix=st.sampled_from(["", "//{host}/", "https://{host}/{version}/"]))
def test_a_name_with_anything_in_it(operation: tuple[str, str, str], prefix: str) -> None:
    """Anything between the slashes of a real name: refused by an error of ours, or sent to Google's host as it is."""
    service, version, name = operation
    host = known_services()[service].host
    try:
        reference = read_reference(prefix.format(host=host, version=version) + name, service, version)
        endpoint = endpoint_of(reference)
    except InvalidRequestError:
        return
    assert known_services()[service].has_host(urlsplit(endpoint).netloc)
    check_requests(reference, endpoint)


@fuzz
@given(operation=addressed(segments))
def test_a_right_name_is_never_refused(operation: tuple[str, str, str]) -> None:
    """A name after the pattern, of path characters, is taken as it is, and survives being stored."""
    service, version, name = operation
    reference = read_reference(name, service, version)
    assert (reference.service, reference.version, reference.name) == operation
    assert OperationReference.from_dict(json.loads(json.dumps(reference.to_dict()))) == reference
    assert read_reference(str(reference), None, version) == reference
    check_requests(reference, endpoint_of(reference))


@fuzz
@given(
    operation=addressed(segments),
    host=st.one_of(messy, st.sampled_from(["evil.example", "datafusion.googleapis.com", "automl.googleapis.com:443"])),
)
def test_no_stored_host_leads_elsewhere(operation: tuple[str, str, str], host: str) -> None:
    """Whatever host stands in a stored reference, requests go to one of the service's hosts or nowhere."""
    service, version, name = operation
    stored = {"service": service, "version": version, "name": name, "host": host}
    try:
        endpoint = endpoint_of(OperationReference.from_dict(stored))
    except InvalidRequestError:
        return
    assert known_services()[service].has_host(urlsplit(endpoint).netloc)


@fuzz
@given(stored=st.dictionaries(st.sampled_from(["service", "version", "name", "host"]), st.one_of(documents, messy)))
def test_any_stored_reference_is_read_or_refused(stored: dict[str, Any]) -> None:
    """A record with anything in it is a reference or an error of ours."""
    try:
        OperationReference.from_dict(stored)
    except InvalidRequestError:
        return
    assert stored["host"]


@fuzz
@given(parent=st.one_of(messy, documents), service=st.sampled_from(SERVICES))
def test_any_parent_is_read_or_refused(parent: Any, service: str) -> None:
    """A list goes to Google's host, below the parent, or is refused by an error of ours."""
    try:
        reference = read_parent(parent, service)
    except InvalidRequestError:
        return
    api = known_services()[service]
    url = urlsplit(protocol.list_(reference, endpoint_of(reference), filter=parent or "x", page_token=parent).url)
    assert api.has_host(url.netloc)
    assert (url.path, url.fragment) == (f"/{api.path('list', reference.name, reference.version)}", "")


@fuzz
@given(wanted=st.one_of(messy, documents))
def test_any_service_is_found_or_refused(wanted: Any) -> None:
    """What is found was asked for by its name or host (B9: whatever is around it); anything else is refused."""
    try:
        service = find_service(wanted)
    except UnknownServiceError:
        return
    assert wanted.strip() == service.name or service.has_host(wanted.strip())


@fuzz
@given(
    endpoint=st.one_of(
        st.tuples(
            st.sampled_from(["https://", "http://", "HTTPS://"]),
            st.sampled_from(["psc.example", "localhost:8080", "127.0.0.1", "[::1]", "{service}.example"]),
            st.one_of(st.just(""), messy.map("/{}".format), messy),
        ).map("".join),
        messy.map("https://{}".format),
        messy,
    ),
    emulator=st.booleans(),
)
def test_any_endpoint_is_plain_or_refused(endpoint: str, emulator: bool) -> None:
    """An endpoint that is taken has a host, no user, no query, and speaks https unless it is near or an emulator."""
    try:
        kept = check_endpoint(endpoint, emulator=emulator)
    except ForbiddenEndpointError:
        return
    url = urlsplit(kept.replace("{service}", "datafusion"))
    assert url.hostname
    assert (url.username, url.query, url.fragment) == (None, "", "")
    assert not {".", ".."} & set(url.path.split("/"))
    assert url.scheme == "https" or emulator or url.hostname in ("localhost", "::1") or url.hostname.startswith("127.")
    assert kept.isprintable()
    assert kept.isascii()


@fuzz
@given(
    extra=st.fixed_dictionaries(
        {},
        optional={
            **{key: st.one_of(messy, documents) for key in ("key_path", "keyfile_dict", "project", "api_endpoint")},
            **{key: st.one_of(numbers, documents) for key in ("num_retries", "is_anonymous", "emulator")},
            **{key: st.one_of(messy, documents) for key in ("scope", "impersonation_chain", "quota_project_id")},
            "extra__google_cloud_platform__num_retries": st.one_of(numbers, messy),
        },
    )
)
def test_any_connection_is_read_or_refused(extra: dict[str, Any]) -> None:
    """A connection with anything in it is settings or an error of ours."""
    try:
        read = ConnectionSettings.from_extra(extra, conn_id="c")
    except InvalidRequestError:
        return
    assert read.num_retries >= 0
    assert read.scopes


# --- responses ---------------------------------------------------------------------------------------


@fuzz
@given(raw=st.one_of(documents, objects))
def test_any_json_is_an_operation_or_malformed(raw: Any) -> None:
    """Any JSON is read as an operation or is malformed, and only `done` makes it over."""
    try:
        operation = Operation.from_json(raw)
    except MalformedResponseError:
        return
    assert (operation.outcome is not None) is (raw.get("done") is True)
    check_attributes(operation)


@fuzz
@given(
    metadata=st.one_of(objects, objects.map(lambda inner: {"genericMetadata": inner}), documents),
    error=st.one_of(st.none(), st.dictionaries(st.sampled_from(["code", "message", "details"]), leaves)),
    done=st.booleans(),
)
def test_any_metadata_is_survived(metadata: Any, error: dict[str, Any] | None, done: bool) -> None:
    """Whatever a service says about its operation, no attribute raises, and each has its type."""
    check_attributes(Operation.from_json({"name": "operations/o", "done": done, "error": error, "metadata": metadata}))


def check_attributes(operation: Operation) -> None:
    """Every attribute of an operation is what its annotation says."""
    assert (operation.state is None) is operation.done
    assert operation.state is None or isinstance(operation.state, State)
    assert operation.outcome is None or isinstance(operation.outcome, Outcome)
    assert operation.error_code is None or isinstance(operation.error_code, int)
    assert operation.progress is None or 0 <= operation.progress <= 1
    assert isinstance(operation.cancel_requested, bool)
    for text in (operation.message, operation.target):
        assert text is None or (isinstance(text, str) and text)
    for time in (operation.create_time, operation.update_time, operation.end_time):
        assert time is None or time.utcoffset() == timezone.utc.utcoffset(None)
    assert isinstance(operation.error_message, str)
    assert len(operation.summary()) < 400


@fuzz
@given(
    status=st.integers(300, 599),
    body=bodies,
    headers=headers,
    verb=st.sampled_from(["get", "list", "cancel", "delete", "wait"]),
    now=st.one_of(st.none(), st.just(datetime(2026, 11, 1, tzinfo=timezone.utc))),
)
def test_any_error_body_is_an_error_of_ours(
    status: int, body: bytes, headers: dict[str, str], verb: str, now: datetime | None
) -> None:
    """Any response that is not a success is one of our errors, with attributes of their types, and can be pickled."""
    request = Request(verb, "GET", "https://h/", Resource("datafusion", "v1", "o", "h"), lambda *_: None)
    error = error_from_response(request, Response(status, headers, body), now)
    assert isinstance(error, ApiError | MalformedResponseError)
    assert isinstance(error, MalformedResponseError) is (status < 400)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin)) == (type(error), str(error))
    if isinstance(error, ApiError):
        assert error.status in CODES
        assert error.http_status == status
        assert error.reason is None or isinstance(error.reason, str)
        assert error.request_id is None or isinstance(error.request_id, str)
        assert error.retry_after is None or 0 <= error.retry_after <= MAX_RETRY_AFTER_SECONDS
        assert 0 < len(error.message) <= 1000


@pytest.mark.parametrize("verb", ["get", "list", "cancel", "delete", "wait"])
@settings(fuzz, max_examples=60)
@given(status=st.sampled_from([200, 204, 302, 400, 404, 500]), body=bodies, headers=headers)
def test_any_answer_is_read_or_an_error_of_ours(verb: str, status: int, body: bytes, headers: dict[str, str]) -> None:
    """Whatever responds, each verb returns what it promises or raises an error of ours."""
    endpoint = "https://earthengine.googleapis.com"
    if verb == "list":
        request = protocol.list_(read_parent("projects/p", "earthengine"), endpoint)
    else:
        reference = read_reference("projects/p/operations/o", "earthengine")
        request = getattr(protocol, verb)(reference, endpoint, *([1.0] if verb == "wait" else []))
    try:
        result = request.read(Response(status, headers, body))
    except OperationsError:
        return
    assert status < 300
    promised = {"list": protocol.Page, "get": Operation, "wait": Operation}.get(verb, type(None))
    assert isinstance(result, promised)


# --- waiting, and what is stored -------------------------------------------------------------------


@fuzz
@given(
    interval=st.one_of(st.none(), st.floats(0.01, 1e5)),
    max_wait=st.one_of(st.none(), st.floats(0.01, 1e5)),
    backoff=st.booleans(),
    dice=st.floats(0, 1),
    polls=st.integers(0, 10_000),
    age=st.floats(-10, 1e6),
    left=st.one_of(st.none(), st.floats(-10, 1e6)),
)
def test_any_delay_is_one_that_can_be_slept(
    interval: float | None,
    max_wait: float | None,
    backoff: bool,
    dice: float,
    polls: int,
    age: float,
    left: float | None,
) -> None:
    """However a wait is set up, its next sleep is a number, not negative, and within its limits."""
    now = 1_762_000_000.0
    schedule = PollSchedule(
        started=now - age,
        deadline=None if left is None else Deadline(now + left, "timeout", 1.0),
        interval=interval,
        exponential_backoff=backoff,
        max_wait=max_wait,
        rng=lambda: dice,
    )
    schedule.polls = polls
    delay = schedule.delay(now)
    assert 0 <= delay < float("inf")
    assert max_wait is None or delay <= max(max_wait, SHORTEST_INTERVAL_SECONDS)  # never more often than once a second
    assert left is None or delay <= max(left, 0) + 1e-6


@fuzz
@given(at=st.floats(allow_nan=False), cause=st.text(), seconds=st.floats(allow_nan=False))
def test_any_deadline_survives_being_stored(at: float, cause: str, seconds: float) -> None:
    """A deadline in a trigger's arguments comes back as it was."""
    deadline = Deadline(at, cause, seconds)
    assert Deadline.from_dict(json.loads(json.dumps(deadline.to_dict()))) == deadline


@fuzz
@given(
    stored=st.one_of(
        documents,
        st.fixed_dictionaries(
            {},
            optional={
                "reference": st.one_of(documents, objects),
                "try_number": st.one_of(documents, st.integers()),
                "try_id": documents,
                "max_tries": st.one_of(documents, st.integers()),
                "killed": documents,
            },
        ),
    )
)
def test_any_record_is_read_or_none(stored: Any) -> None:
    """Whatever stands in the store is a record or nothing."""
    record = ArmedRecord.from_dict(stored)
    if record is not None:
        assert isinstance(record.try_number, int)
        assert isinstance(record.max_tries, int)
        assert record.reference == stored["reference"]
        assert record.killed is None or isinstance(record.killed, str)
