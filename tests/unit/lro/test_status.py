"""How an HTTP response becomes an error: by the google.rpc status in it, and by the HTTP code only without one."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_lro_provider.lro.errors import (
    AbortedError,
    AlreadyExistsError,
    ApiError,
    FailedPreconditionError,
    InvalidArgumentError,
    MalformedResponseError,
    NotFoundError,
    OperationsError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from airflow_lro_provider.lro.http.messages import Request, Response
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.status import CODES, HTTP_CODES, error_from_response

NAME = "projects/p/locations/us-central1/operations/o"
HTML = b"<!DOCTYPE html><html><title>Error 404 (Not Found)!!1</title></html>"
URL = f"https://datafusion.googleapis.com/v1/{NAME}"
NOW = datetime(2026, 11, 1, 10, 0, 0, tzinfo=timezone.utc)


def read(status: int, body: Any = b"", *, verb: str = "cancel", **headers: str) -> OperationsError:
    """The error that a response means."""
    request = Request(verb, "GET", URL, Resource("datafusion", "v1", NAME, "h"), lambda *_: None)
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from_response(request, Response(status, named, content), NOW)


def api_error(status: int, body: Any = b"", **kwargs: Any) -> ApiError:
    """The same, for a response of the API."""
    error = read(status, body, **kwargs)
    assert isinstance(error, ApiError)
    return error


# google.rpc.Code, its number, the HTTP code that it is sent with (google/rpc/code.proto), our error.
STATUSES = [
    ("CANCELLED", 1, 499, ApiError),
    ("UNKNOWN", 2, 500, UnavailableError),
    ("INVALID_ARGUMENT", 3, 400, InvalidArgumentError),
    ("DEADLINE_EXCEEDED", 4, 504, UnavailableError),
    ("NOT_FOUND", 5, 404, NotFoundError),
    ("ALREADY_EXISTS", 6, 409, AlreadyExistsError),
    ("PERMISSION_DENIED", 7, 403, PermissionDeniedError),
    ("RESOURCE_EXHAUSTED", 8, 429, ResourceExhaustedError),
    ("FAILED_PRECONDITION", 9, 400, FailedPreconditionError),
    ("ABORTED", 10, 409, AbortedError),
    ("OUT_OF_RANGE", 11, 400, InvalidArgumentError),
    ("UNIMPLEMENTED", 12, 501, UnimplementedError),
    ("INTERNAL", 13, 500, UnavailableError),
    ("UNAVAILABLE", 14, 503, UnavailableError),
    ("DATA_LOSS", 15, 500, ApiError),
    ("UNAUTHENTICATED", 16, 401, UnauthenticatedError),
]
TRANSIENT = {ResourceExhaustedError, UnavailableError}


def test_the_codes_are_those_of_google() -> None:
    """All 17 codes are there, with Google's numbers and HTTP codes."""
    assert {"OK": 0, **{status: number for status, number, _, _ in STATUSES}} == CODES
    assert {"OK": 200, **{status: http for status, _, http, _ in STATUSES}} == HTTP_CODES


@pytest.mark.parametrize(("status", "number", "http", "error"), STATUSES, ids=[row[0] for row in STATUSES])
def test_status(status: str, number: int, http: int, error: type[ApiError]) -> None:
    """Each status, sent with its HTTP code, has its error, which is transient or not."""
    body = {"error": {"code": http, "status": status, "message": "Some words."}}
    found = api_error(http, body)
    assert type(found) is error
    assert (found.status, found.http_status, found.message) == (status, http, "Some words.")
    assert found.transient is (error in TRANSIENT)


@pytest.mark.parametrize("reason", ["alreadyExists", "duplicate"])
def test_a_conflict_without_a_status_says_in_its_reason_what_it_is(reason: str) -> None:
    """C9: the older `errors` say that something exists; a status that is sent counts more."""
    error = {"code": 409, "message": "It is there.", "errors": [{"domain": "global", "reason": reason}]}
    assert api_error(409, {"error": error}).status == "ALREADY_EXISTS"
    assert type(api_error(409, {"error": error})) is AlreadyExistsError
    assert api_error(409, {"error": {**error, "status": "ABORTED"}}).status == "ABORTED"
    assert api_error(409, {"error": {**error, "errors": [{"reason": "conflict"}]}}).status == "ABORTED"


@pytest.mark.parametrize(
    ("http", "status", "error"),
    [
        (400, "INVALID_ARGUMENT", InvalidArgumentError),
        (401, "UNAUTHENTICATED", UnauthenticatedError),
        (403, "PERMISSION_DENIED", PermissionDeniedError),
        (404, "NOT_FOUND", NotFoundError),
        (405, "INVALID_ARGUMENT", InvalidArgumentError),
        (408, "UNAVAILABLE", UnavailableError),
        (409, "ABORTED", AbortedError),
        (412, "FAILED_PRECONDITION", FailedPreconditionError),
        (429, "RESOURCE_EXHAUSTED", ResourceExhaustedError),
        (499, "CANCELLED", ApiError),
        (500, "INTERNAL", UnavailableError),
        (501, "UNIMPLEMENTED", UnimplementedError),
        (502, "UNAVAILABLE", UnavailableError),
        (503, "UNAVAILABLE", UnavailableError),
        (504, "DEADLINE_EXCEEDED", UnavailableError),
        (520, "UNAVAILABLE", UnavailableError),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Some words"}},
        {"error": {"message": "Some words", "status": "A_NEW_STATUS"}},
        {"error": {"message": "Some words", "status": 7}},
    ],
    ids=["no status", "an unknown status", "an odd status"],
)
def test_without_a_status_the_http_code_decides(http: int, status: str, error: type[ApiError], body: Any) -> None:
    """Where the body names no status that is known, the HTTP code is read instead."""
    found = api_error(http, body)
    assert (type(found), found.status, found.message) == (error, status, "Some words")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("FAILED_PRECONDITION", FailedPreconditionError),
        ("INVALID_ARGUMENT", InvalidArgumentError),
        ("OUT_OF_RANGE", InvalidArgumentError),
    ],
)
def test_400_is_told_apart_by_its_status(status: str, error: type[ApiError]) -> None:
    """One HTTP code means several things: a finished operation is not a wrong request."""
    body = {"error": {"code": 400, "status": status, "message": "Precondition check failed."}}
    assert type(read(400, body)) is error


@pytest.mark.parametrize("verb", ["get", "list", "cancel", "delete", "wait"])
def test_404_in_json_is_an_unknown_operation(verb: str) -> None:
    """The API itself says in JSON that there is no such operation, whatever the verb."""
    body = {"error": {"code": 404, "status": "NOT_FOUND", "message": "Operation not found"}}
    assert type(read(404, body, verb=verb)) is NotFoundError
    assert type(read(404, {"error": {"code": 404, "message": "gone"}}, verb=verb)) is NotFoundError


@pytest.mark.parametrize("body", [HTML, b""], ids=["HTML", "nothing"])
@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("get", NotFoundError),
        ("list", NotFoundError),
        ("cancel", UnimplementedError),
        ("delete", UnimplementedError),
        ("wait", UnimplementedError),
    ],
)
def test_404_in_html_is_a_verb_without_a_route(verb: str, error: type[ApiError], body: bytes) -> None:
    """The front end, which responds in HTML, has no route for this verb; only get and list have no other reading."""
    assert type(read(404, body, verb=verb)) is error


@pytest.mark.parametrize(
    ("http", "error"), [(400, InvalidArgumentError), (403, PermissionDeniedError), (502, UnavailableError)]
)
@pytest.mark.parametrize("body", [HTML, b"", b"null", b"[]", b'{"error": 7}', b"\xff\xfe\x00", b"[" * 100_000])
def test_a_body_that_is_no_status(http: int, error: type[ApiError], body: bytes) -> None:
    """HTML, nothing and garbage are survived: the HTTP code says what is known."""
    found = api_error(http, body)
    assert type(found) is error
    assert "no explanation was given" in str(found)


def test_an_error_in_a_list() -> None:
    """Streaming methods wrap the error in a list."""
    body = [{"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "over"}}]
    assert type(read(400, body)) is FailedPreconditionError


def quota_body(reason: str, *, legacy: bool, status: str = "PERMISSION_DENIED") -> dict[str, Any]:
    """The body of a 403 for this reason."""
    error: dict[str, Any] = {"code": 403, "message": "Quota exceeded", "status": status}
    if legacy:
        return {"error": {**error, "errors": ["odd", {"reason": reason, "domain": "usageLimits"}]}}
    return {"error": {**error, "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]}}


@pytest.mark.parametrize(
    ("reason", "legacy"),
    [
        ("RATE_LIMIT_EXCEEDED", False),
        ("RESOURCE_QUOTA_EXCEEDED", False),
        ("rateLimitExceeded", True),
        ("userRateLimitExceeded", True),
        ("dailyLimitExceeded", True),
        ("quotaExceeded", True),
        ("QUOTA_EXCEEDED", False),
        ("CPUS_QUOTA_EXCEEDED", False),
        ("EMULATOR_QUOTA_EXCEEDED", False),
        ("servingLimitExceeded", True),
        ("concurrentLimitExceeded", True),
        ("variableTermLimitExceeded", True),
        ("variableTermExpiredDailyExceeded", True),
    ],
)
def test_403_for_a_quota_is_no_missing_permission(reason: str, legacy: bool) -> None:
    """Some APIs say 403 where others say 429: it never ends a wait, and no permission is to be given."""
    error = api_error(403, quota_body(reason, legacy=legacy))
    assert (type(error), error.status, error.reason) == (ResourceExhaustedError, "RESOURCE_EXHAUSTED", reason)
    assert error.transient
    body = quota_body(reason, legacy=legacy)
    del body["error"]["status"]
    assert type(read(403, body)) is ResourceExhaustedError


@pytest.mark.parametrize(
    ("message", "is_quota"),
    [
        ("Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service", True),
        ("Quota exceeded for quota group 'default' and limit 'Queries per user per 100 seconds' of service", True),
        ("Rate Limit Exceeded", True),
        ("User Rate Limit Exceeded. Rate of requests for user exceed configured project quota", True),
        ("Daily Limit Exceeded. The quota will be reset at midnight Pacific Time (PT).", True),
        ("Permission denied: the policy 'Rate Limit Exceeded' is not yours", False),
        ("The caller may not change a quota", False),
    ],
)
def test_403_whose_words_alone_speak_of_a_quota(message: str, is_quota: bool) -> None:
    """B5: with Google's words for a quota at its beginning, and no reason that says something else."""
    body: dict[str, Any] = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": message}}
    assert type(api_error(403, body)) is (ResourceExhaustedError if is_quota else PermissionDeniedError)
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED"}
    body["error"]["details"] = [info]
    assert type(api_error(403, body)) is PermissionDeniedError
    assert api_error(400, {"error": {"code": 400, "message": message}}).status == "INVALID_ARGUMENT"


UNREGISTERED = "Daily Limit for Unauthenticated Use Exceeded. Continued use requires signup."


@pytest.mark.parametrize("verb", ["get", "list", "cancel", "delete", "wait", "start"])
@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("dailyLimitExceededUnreg", UNREGISTERED),
        ("rateLimitExceededUnreg", "Rate Limit Exceeded. Please sign up"),
        ("userRateLimitExceededUnreg", "User Rate Limit Exceeded. Please sign up"),
        (None, UNREGISTERED),
        ("forbidden", "Method doesn't allow unregistered callers (callers without established identity). Please use"),
        ("forbidden", "The request is missing a valid API key."),
    ],
)
def test_who_gives_no_identity_lacks_credentials(reason: str | None, message: str, verb: str) -> None:
    """L4d: an unregistered caller has no quota to wait for and no permission to get: no credentials were sent."""
    body: dict[str, Any] = {"error": {"code": 403, "message": message}}
    if reason is not None:
        body["error"]["errors"] = [{"domain": "usageLimits", "reason": reason, "message": message}]
    for more in ({}, {"status": "PERMISSION_DENIED"}):
        body["error"].update(more)
        error = api_error(403, body, verb=verb)
        assert (type(error), error.status, error.is_ours) == (UnauthenticatedError, "UNAUTHENTICATED", True)
        assert str(error).endswith("is it still enabled, and does its token reach the API?")
        assert (error.transient, error.poll_after) == (False, 0)
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED"}
    body = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": message, "details": [info]}}
    assert type(api_error(403, body, verb=verb)) is PermissionDeniedError


VERBS = ["get", "list", "cancel", "delete", "wait", "start"]
QUOTA_FAILURE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"subject": "project:p", "description": "Too many requests"}],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("http", "status"),
    [(403, "PERMISSION_DENIED"), (400, "FAILED_PRECONDITION"), (400, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED")],
)
@pytest.mark.parametrize("form", ["ErrorInfo", "errors", "ErrorInfo with a name of errors", "QuotaFailure"])
def test_a_quota_is_a_quota(verb: str, http: int, status: str, form: str) -> None:
    """B5: in ErrorInfo, in the older `errors`, or as a QuotaFailure; for every verb and status."""
    body = quota_body("RATE_LIMIT_EXCEEDED" if form == "ErrorInfo" else "rateLimitExceeded", legacy=form == "errors")
    if form == "QuotaFailure":
        body["error"]["details"] = [QUOTA_FAILURE]
    body["error"].update(code=http, status=status)
    error = api_error(http, body, verb=verb)
    assert (type(error), error.status, error.transient) == (ResourceExhaustedError, "RESOURCE_EXHAUSTED", True)
    assert "permission" not in str(error)
    assert "quota" in str(error).rpartition("Quota exceeded")[2]


@pytest.mark.parametrize(
    ("http", "status"),
    [(401, "UNAUTHENTICATED"), (404, "NOT_FOUND"), (409, "ALREADY_EXISTS"), (503, "UNAVAILABLE")],
)
def test_a_quota_hides_nothing_else(http: int, status: str) -> None:
    """B5: no token, nothing there, or an outage stay what they are."""
    body = quota_body("rateLimitExceeded", legacy=True)
    body["error"].update(code=http, status=status)
    assert api_error(http, body).status == status
    empty = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []}
    body = {"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "x", "details": [empty]}}
    assert type(api_error(400, body)) is FailedPreconditionError


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ("dailyLimitExceeded", 60),
        ("quotaExceeded", 60),
        ("CPUS_QUOTA_EXCEEDED", 60),
        ("rateLimitExceeded", 0),
    ],
)
def test_a_long_quota_is_polled_for_seldom(reason: str, seconds: float) -> None:
    """B5: a day's quota does not come back in a second; what the API says of it goes first."""
    error = api_error(403, quota_body(reason, legacy=True))
    assert (error.poll_after, error.retry_after) == (seconds, None)
    assert api_error(403, quota_body(reason, legacy=True), retry_after="7").poll_after == 7


@pytest.mark.parametrize(
    "reason", ["SERVICE_DISABLED", "IAM_PERMISSION_DENIED", "forbidden", "insufficientPermissions"]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_403_for_another_reason_is_a_missing_permission(reason: str, legacy: bool) -> None:
    """Only a quota's reason is a matter of time."""
    assert type(read(403, quota_body(reason, legacy=legacy))) is PermissionDeniedError


@pytest.mark.parametrize("errors", [7, {}, None, [], [None], [{"reason": ["x"]}], [{}]], ids=repr)
def test_odd_legacy_errors_are_ignored(errors: Any) -> None:
    """What is no list of reasons says nothing."""
    body = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no", "errors": errors}}
    assert type(read(403, body)) is PermissionDeniedError


def test_legacy_errors_are_understood() -> None:
    """A response with the older `errors` beside it is read like any other."""
    body = {
        "error": {
            "code": 403,
            "message": "Quota exceeded",
            "status": "RESOURCE_EXHAUSTED",
            "errors": [{"reason": "rateLimitExceeded", "domain": "usageLimits"}],
        }
    }
    assert type(read(403, body)) is ResourceExhaustedError


@pytest.mark.parametrize("http", [300, 301, 302, 303, 307, 308, 399])
def test_a_redirect(http: int) -> None:
    """A redirect is not the API's language, and its target is not repeated."""
    error = read(http, b"", location="https://evil.example/secret")
    assert type(error) is MalformedResponseError
    assert f"redirect (HTTP {http})" in str(error)
    assert "evil" not in str(error)


# --- details ---------------------------------------------------------------------------------------

ERROR_INFO = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "SERVICE_DISABLED",
    "domain": "googleapis.com",
    "metadata": {"service": "datafusion.googleapis.com"},
}


def with_details(*details: Any) -> dict[str, Any]:
    """The body of a 429 with these details."""
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow down", "details": list(details)}}


def test_error_info_gives_the_reason() -> None:
    """The reason of google.rpc.ErrorInfo is an attribute, and stands in the message."""
    body = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "off", "details": [ERROR_INFO]}}
    error = api_error(403, body)
    assert (error.reason, error.details) == ("SERVICE_DISABLED", (ERROR_INFO,))
    assert "PERMISSION_DENIED (SERVICE_DISABLED), HTTP 403: off" in str(error)


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ([], {}, None),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}], {}, 3),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.250s"}], {}, 0.25),
        ([ERROR_INFO, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}], {}, 3),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}], {"retry_after": "9"}, 3),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo"}], {"retry_after": "9"}, 9),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": {"seconds": 3}}], {}, None),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "soon"}], {"retry_after": "9"}, 9),
        ([], {"retry_after": "7"}, 7),
        ([], {"retry_after": "0"}, 0),
        ([], {"retry_after": "-5"}, 0),
        ([], {"retry_after": "86400"}, 3600),
        ([], {"retry_after": "1e999"}, None),
        ([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "inf"}], {"retry_after": "9"}, 9),
        ([], {"retry_after": "nan"}, None),
        ([], {"retry_after": ""}, None),
        ([], {"retry_after": "later"}, None),
        ([], {"retry_after": "Sun, 01 Nov 2026 10:00:42 GMT"}, 42),
        ([], {"retry_after": "Sun, 01 Nov 2026 12:00:42 +0200"}, 42),
        ([], {"retry_after": "Sun, 01 Nov 2026 10:00:42 -0000"}, 42),
        ([], {"retry_after": "Sun, 01 Nov 2026 09:59:00 GMT"}, 0),
        ([], {"retry_after": "Mon, 02 Nov 2026 10:00:00 GMT"}, 3600),
        ([], {"retry_after": "Sun, 99 Nov 2026 10:00:42 GMT"}, None),
        (["RetryInfo", 7, None], {}, None),
    ],
    ids=[
        "nothing",
        "RetryInfo",
        "RetryInfo with a fraction",
        "RetryInfo among others",
        "RetryInfo before Retry-After",
        "RetryInfo without a delay",
        "RetryInfo of an odd shape",
        "RetryInfo that is no duration",
        "seconds",
        "at once",
        "negative",
        "a day is cut to an hour",
        "infinity is no time",
        "RetryInfo that is infinity",
        "not a number",
        "empty",
        "no date",
        "date",
        "date of another zone",
        "date without a zone",
        "date in the past",
        "date of tomorrow is cut to an hour",
        "no such date",
        "odd details",
    ],
)
def test_retry_after(details: list[Any], headers: dict[str, str], seconds: float | None) -> None:
    """How long to wait is read from RetryInfo or Retry-After, in seconds or as a date, and has bounds."""
    assert api_error(429, with_details(*details), **headers).retry_after == seconds


@pytest.mark.parametrize(
    ("details", "headers", "request_id"),
    [
        ([], {}, None),
        ([{"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r-1"}], {"x_request_id": "h"}, "r-1"),
        ([], {"x_request_id": "h-1"}, "h-1"),
        ([], {"x_goog_request_id": "g-1", "x_cloud_trace_context": "t-1"}, "g-1"),
        ([], {"x_cloud_trace_context": "t-1"}, "t-1"),
        ([], {"x_request_id": ""}, None),
        ([{"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": {"odd": 1}}], {}, None),
    ],
    ids=["none", "RequestInfo", "x-request-id", "Google's own first", "trace", "empty", "odd RequestInfo"],
)
def test_request_id(details: list[Any], headers: dict[str, str], request_id: str | None) -> None:
    """What Google's support needs is an attribute, and the end of the message."""
    error = api_error(429, with_details(*details), **headers)
    assert error.request_id == request_id
    assert str(error).endswith(f"Request id: {request_id}.") is (request_id is not None)


def test_details_that_are_no_list_are_ignored() -> None:
    """Odd details do not hide the error."""
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x", "details": "odd"}}
    assert api_error(429, body).details == ()


def test_one_detail_without_its_list_is_read() -> None:
    """B5, B6: an object in place of a list is one of it, and a quota's reason in it is a quota's."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED"}
    for key, detail in (("details", info), ("errors", {"reason": "rateLimitExceeded"})):
        body = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "x", key: detail}}
        assert type(api_error(403, body)) is ResourceExhaustedError


@pytest.mark.parametrize("verb", ["get", "cancel"])
def test_an_error_of_oauth_is_said(verb: str) -> None:
    """B6: what stands between (a gateway) has errors of this form; it is no 404 of the API."""
    body = {"error": "invalid_token", "error_description": "Token has expired"}
    assert "HTTP 401: invalid_token (Token has expired). " in str(api_error(401, body, verb=verb))
    assert "HTTP 404: Not Found. " in str(api_error(404, {"error": "Not Found"}, verb=verb))
    assert (type(read(404, {"error": "Not Found"}, verb=verb)) is UnimplementedError) is (verb == "cancel")


def test_what_was_sent_as_a_secret_is_hidden_wherever_it_is_quoted() -> None:
    """B16: a password of the body, in message and details, also where no name stands before it."""
    sent = json.dumps({"mysql": {"username": "root", "password": 'hunter 2"', "port": 3306}}).encode()
    request = Request("start", "POST", URL, Resource("datafusion", "v1", NAME, "h"), lambda *_: None, sent)
    quoted = {"field": "mysql", "description": 'hunter 2" is too short'}
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [quoted]}]
    error = {"status": "INVALID_ARGUMENT", "message": f"Bad value: {sent.decode()}, hunter 2", "details": details}
    found = error_from_response(request, Response(400, {}, json.dumps({"error": error}).encode()))
    assert isinstance(found, ApiError)
    assert 'hunter 2"' not in f"{found} {found.details}".replace("\\", "")
    assert "mysql: [hidden] is too short" in str(found)
    assert '"username": "root", "password": "[hidden]", "port": 3306' in str(found)


# --- the error itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "next_step"),
    [
        ("INVALID_ARGUMENT", "Check the name of the operation"),
        ("FAILED_PRECONDITION", "Get the operation: it may have finished"),
        ("UNAUTHENTICATED", "Check the key or the account of the connection"),
        ("PERMISSION_DENIED", "datafusion.operations.cancel"),
        ("NOT_FOUND", "Check the name, the service and the API version"),
        ("UNIMPLEMENTED", "datafusion does not support cancel for this operation; it can only be waited for"),
        ("RESOURCE_EXHAUSTED", "Send fewer requests, or raise the quota"),
        ("UNAVAILABLE", "Try again later"),
        ("ABORTED", "Try again later"),
        ("ALREADY_EXISTS", "See the message of the API"),
    ],
)
def test_a_message_says_what_was_tried_and_what_to_do(status: str, next_step: str) -> None:
    """Service, verb, operation, status, HTTP code, the API's words and the next step stand in every message."""
    http = HTTP_CODES[status]
    text = str(read(http, {"error": {"code": http, "status": status, "message": "The API's words."}}))
    assert text.startswith(f"datafusion: cancel {NAME}: {status}, HTTP {http}: The API's words. ")
    assert next_step in text


@pytest.mark.parametrize(
    ("status", "verb", "next_step", "not_said"),
    [
        ("INVALID_ARGUMENT", "start", "Correct the method's path, its query or its body", "filter"),
        ("INVALID_ARGUMENT", "list", "Check the parent, and the filter", "method"),
        ("INVALID_ARGUMENT", "get", "Check the name of the operation", "filter"),
        ("FAILED_PRECONDITION", "start", "Nothing was started", "may have finished"),
        ("PERMISSION_DENIED", "start", "the permission that this method needs", "operations.start"),
        ("PERMISSION_DENIED", "list", "datafusion.operations.list", "method"),
        # Google's provider 22.7 (apache/airflow#68361): one operation at a time is all that some resources take.
        ("ABORTED", "start", "Start them one after the other", "See the message"),
        ("NOT_FOUND", "start", "check the method's path", "30 days"),
        ("NOT_FOUND", "list", "Check the parent", "30 days"),
        ("UNIMPLEMENTED", "start", "has no such method", "waited for"),
        ("UNIMPLEMENTED", "list", "does not support list here", "waited for"),
        ("RESOURCE_EXHAUSTED", "start", "start fewer at a time", "poll_interval"),
        ("RESOURCE_EXHAUSTED", "get", "poll_interval", "Nothing was started"),
    ],
)
def test_the_next_step_fits_the_verb(status: str, verb: str, next_step: str, not_said: str) -> None:
    """B6: who starts or lists gets no advice about a poll."""
    http = HTTP_CODES[status]
    text = str(read(http, {"error": {"code": http, "status": status, "message": "No."}}, verb=verb))
    assert next_step in text
    assert not_said not in text


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("SERVICE_DISABLED", "Enable the API in the project"),
        ("accessNotConfigured", "Enable the API in the project"),
        ("BILLING_DISABLED", "to a billing account"),
        ("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Add what datafusion needs to `scope` of the connection"),
        ("SECURITY_POLICY_VIOLATED", "VPC Service Controls"),
        ("USER_PROJECT_DENIED", "`quota_project_id` of the connection"),
    ],
)
def test_the_next_step_fits_the_reason(verb: str, reason: str, step: str) -> None:
    """B6: a 403 is not always a permission that is missing."""
    text = str(read(403, quota_body(reason, legacy=reason[0].islower()), verb=verb))
    assert step in text
    assert "operations." not in text.rpartition("HTTP 403")[2]
    assert "this method needs" not in text


@pytest.mark.parametrize(("verb", "step"), [("delete", "left to expire"), ("wait", "only be polled")])
def test_what_is_not_supported_has_its_own_next_step(verb: str, step: str) -> None:
    """B6: who cannot delete is not told to wait."""
    text = str(read(501, {"error": {"code": 501, "status": "UNIMPLEMENTED", "message": "No."}}, verb=verb))
    assert step in text
    assert "waited for" not in text


def test_a_refused_start_says_all_details() -> None:
    """B6: field violations, links and the rest stand in the text of a refused request, each once."""
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "a.b", "description": "odd"}],
        },
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Docs", "url": "https://d.example/x"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r-1"},
    ]
    error = {"code": 400, "status": "INVALID_ARGUMENT", "message": "Bad request.", "details": details}
    assert str(read(400, {"error": error}, verb="start")) == (
        f"datafusion: start {NAME}: INVALID_ARGUMENT, HTTP 400: Bad request. a.b: odd; Docs: https://d.example/x."
        " Correct the method's path, its query or its body. Request id: r-1."
    )


@pytest.mark.parametrize(
    ("base", "asks"), [("http://127.0.0.1:8900", True), ("https://proxy.example/datafusion", False)]
)
@pytest.mark.parametrize("body", [HTML, b'{"error": {"code": 404, "status": "NOT_FOUND", "message": "no"}}'])
@pytest.mark.parametrize("verb", ["get", "cancel", "start"])
def test_a_404_at_an_endpoint_says_the_url(base: str, asks: bool, body: bytes, verb: str) -> None:
    """C11: where the connection's endpoint has responded, the URL is said, and `{service}` if it has none."""
    url = f"{base}/v1/{NAME}"
    request = Request(verb, "GET", f"{url}?key=x", Resource("datafusion", "v1", NAME, "h"), lambda *_: None)
    text = str(error_from_response(request, Response(404, {}, body), NOW))
    assert f"The URL was {url}" in text
    assert "key=" not in text
    assert ("`api_endpoint`" in text and "{service}" in text) is asks
    assert "The URL was" not in str(read(404, body, verb=verb))


def test_braces_in_the_apis_words_are_no_template() -> None:
    """The API's text is never formatted."""
    error = api_error(400, {"error": {"message": "bad {service} {0} {verb.x}"}})
    assert "bad {service} {0} {verb.x}" in str(error)


def test_long_words_are_cut() -> None:
    """A message of the API is at most a thousand characters long."""
    assert api_error(400, {"error": {"message": "x y " * 250}}).message == "x y " * 250
    assert api_error(400, {"error": {"message": "x y " * 251}}).message == ("x y " * 250)[:997] + "..."


@pytest.mark.parametrize("message", ["", None, 7, ["x"], {"x": 1}], ids=repr)
def test_words_that_are_none(message: Any) -> None:
    """A message that is empty or no text is said to be missing."""
    assert api_error(400, {"error": {"message": message}}).message == "no explanation was given"


@pytest.mark.parametrize("odd", ["\x1b", "\x00", "\r", "\u202e", "\udc80", "\x7f", "\x9b"])
def test_words_that_would_write_over_a_terminal(odd: str) -> None:
    """Control characters of a response's headers and words are replaced; a line break may stay."""
    error = read(
        403,
        json.dumps({"error": {"message": f"a{odd if odd != chr(0xDC80) else ''}b\nc"}}).encode(),
        **{"x-request-id": f"i{odd}d"},
    )
    assert odd not in str(error)
    assert "b\nc" in str(error)
    assert "i\ufffdd" in str(error)
    str(error).encode()
