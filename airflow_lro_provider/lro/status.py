"""What a response that is no success means: the one place where it becomes an error.

======================================================  ======================================================
response                                                error
======================================================  ======================================================
3xx                                                     MalformedResponseError: redirects are not followed
``error.status`` is a name of google.rpc.Code           that status decides, not the HTTP code
no such status                                          the HTTP code decides
404 that is not JSON, except for get, list and read     UnimplementedError: the front end has no route for it
a quota's reason, whatever the status and the verb      ResourceExhaustedError: wait, no permission is missing
a quota of those, or a refusal, who give no identity    UnauthenticatedError: no credentials have reached the API
409 without a status, for a resource that is there      AlreadyExistsError, and not ABORTED
======================================================  ======================================================

A quota's reason stands in ErrorInfo or in the older ``errors``; a QuotaFailure that names one counts, too, and, in a
403 without a reason, a message that begins as Google's about quotas do. What our own request has sent under a telling
name (a password) is hidden in all that is quoted of a response.

The errors themselves are in :mod:`airflow_lro_provider.lro.errors`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro import errors
from airflow_lro_provider.lro.details import Detail, find_detail, read_details, shorten
from airflow_lro_provider.lro.http.json import read_json
from airflow_lro_provider.lro.redaction import hide_known, secrets_in

if TYPE_CHECKING:
    from airflow_lro_provider.lro.http.messages import Request, Response

# google/rpc/code.proto in the order of its numbers, from 0, and the HTTP code that each is sent with.
HTTP_CODES: dict[str, int] = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
CODES: dict[str, int] = {name: number for number, name in enumerate(HTTP_CODES)}

_BY_STATUS: dict[str, type[errors.ApiError]] = {
    "INVALID_ARGUMENT": errors.InvalidArgumentError,
    "OUT_OF_RANGE": errors.InvalidArgumentError,
    "FAILED_PRECONDITION": errors.FailedPreconditionError,
    "ABORTED": errors.AbortedError,
    "UNAUTHENTICATED": errors.UnauthenticatedError,
    "PERMISSION_DENIED": errors.PermissionDeniedError,
    "NOT_FOUND": errors.NotFoundError,
    "ALREADY_EXISTS": errors.AlreadyExistsError,
    "UNIMPLEMENTED": errors.UnimplementedError,
    "RESOURCE_EXHAUSTED": errors.ResourceExhaustedError,
    "UNAVAILABLE": errors.UnavailableError,
    "INTERNAL": errors.UnavailableError,
    "UNKNOWN": errors.UnavailableError,
    "DEADLINE_EXCEEDED": errors.UnavailableError,
}
# Only where the body names no status. Others are INVALID_ARGUMENT, and from 500 on UNAVAILABLE: 502 is a proxy's 503.
_BY_HTTP = {
    **{http: status for status, http in reversed(HTTP_CODES.items())},
    408: "UNAVAILABLE",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    500: "INTERNAL",
}
_REQUEST_IDS = ("x-goog-request-id", "x-request-id", "x-guploader-uploadid", "x-cloud-trace-context")
# Of google.rpc.ErrorInfo (google/api/error_reason.proto, which has some …QUOTA_EXCEEDED), and of the older `errors`
# with the domain usageLimits (ResourceManagerException.java of google-cloud-java,
# https://developers.google.com/drive/api/guides/handle-errors).
_QUOTA_REASON = re.compile(
    r"RATE_LIMIT_EXCEEDED|(?:[A-Z0-9]+_)*QUOTA_EXCEEDED"
    r"|(?:concurrentL|dailyL|l|rateL|servingL|userRateL|variableTermL)imitExceeded(?:402)?"
    r"|quotaExceeded(?:402)?|variableTermExpiredDailyExceeded"
)
# https://github.com/alextselegidis/easyappointments/issues/995, https://github.com/murer/dsopz/issues/6,
# https://github.com/jupyterlab/jupyterlab-google-drive/issues/46, https://github.com/tidyverse/googledrive/issues/380
_QUOTA_WORDS = re.compile(
    r"Quota exceeded for quota (?:metric|group) |(?:User )?Rate Limit Exceeded|Daily Limit (?:for [\w ]+ )?Exceeded",
    re.IGNORECASE,
)
# What is said to those who give no identity (googleapis/google-api-dotnet-client#1069, googleapis/
# google-api-php-client#1975; chicago-tool-library/circulate#1437; GoogleCloudPlatform/php-docs-samples#867).
_UNREGISTERED_REASON = re.compile(r"\w+Unreg")
_UNREGISTERED_WORDS = re.compile(
    r"Daily Limit for Unauthenticated Use Exceeded|Method doesn't allow unregistered callers"
    r"|The request is missing a valid API key",
    re.IGNORECASE,
)
# Of the older `errors`: Cloud DNS (apache/libcloud#378) and BigQuery (googleapis/java-bigquery#4074) send these.
_EXISTS_REASONS = ("alreadyExists", "duplicate")
# What a quota is never the reason of: no token, nothing there, or something there already.
_NOT_FOR_QUOTAS = {"UNAUTHENTICATED", "NOT_FOUND", "ALREADY_EXISTS", "UNIMPLEMENTED"}
MAX_RETRY_AFTER_SECONDS = 3600.0


def error_from_response(
    request: Request[Any], response: Response, now: datetime | None = None
) -> errors.OperationsError:
    """Turn a response that is no success into the error that it means. See the module's table.

    :param now: the time that a ``Retry-After`` date is compared with; without it a date is ignored.
    """
    http_status, headers = response.status, response.headers
    if 300 <= http_status < 400:
        return errors.MalformedResponseError(
            f"{request}: the response is a redirect (HTTP {http_status}), which is not followed: the token must not go"
            " elsewhere. Check the endpoint of the connection."
        )
    error, words = _status_of(response.body, secrets_in(request.body))
    status = error.get("status") if error else None
    is_stated = isinstance(status, str) and status in CODES
    if not isinstance(status, str) or not is_stated:
        status = _BY_HTTP.get(http_status) or ("UNAVAILABLE" if http_status >= 500 else "INVALID_ARGUMENT")
        if error is None and http_status == 404 and request.verb not in ("get", "list", "read"):
            # The API's own 404 is JSON. A page in HTML comes from the front end, which has no route for this verb.
            status = "UNIMPLEMENTED"
    stated = read_details(error.get("details")) if error else ()
    details = (*stated, *(read_details(error.get("errors")) if error else ()))
    if not is_stated and http_status == 409 and any(detail.get("reason") in _EXISTS_REASONS for detail in details):
        status = "ALREADY_EXISTS"
    reason = _detail(stated, "ErrorInfo", "reason")
    if status not in _NOT_FOR_QUOTAS and http_status < 500:
        reasons = [one for detail in details if isinstance(one := detail.get("reason"), str)]
        quota = next(filter(_QUOTA_REASON.fullmatch, reasons), None)
        is_plain = status == "PERMISSION_DENIED" and reason is None  # its words alone say why
        is_said = is_plain and bool(_QUOTA_WORDS.match(words))
        unregistered = next(filter(_UNREGISTERED_REASON.fullmatch, reasons), None)
        if unregistered or (is_plain and _UNREGISTERED_WORDS.match(words)):
            status, reason = "UNAUTHENTICATED", unregistered or reason
        elif quota or is_said or read_details(_detail(stated, "QuotaFailure", "violations")):
            status, reason = "RESOURCE_EXHAUSTED", quota or reason
    request_id = _detail(stated, "RequestInfo", "requestId") or next(
        (headers[key] for key in _REQUEST_IDS if headers.get(key)), None
    )
    return _BY_STATUS.get(status, errors.ApiError)(
        service=request.resource.service,
        verb=request.verb,
        operation=request.resource.name,
        http_status=http_status,
        status=status,
        message=shorten(words, 1000) if words else "no explanation was given",
        reason=shorten(reason, 100) if isinstance(reason, str) else None,
        details=details,
        request_id=shorten(request_id, 100) if isinstance(request_id, str) and request_id else None,
        retry_after=_retry_after(headers.get("retry-after"), stated, now),
        is_stated=is_stated,
        url="" if _is_googles(request) else request.url.partition("?")[0],
    )


def _status_of(body: bytes, secrets: Collection[str]) -> tuple[Mapping[str, Any] | None, str]:
    """The ``error`` of a JSON response, and its message; ``None`` if it is something else (HTML, nothing, garbage).

    OAuth 2 has an ``error`` of another form: a word, with an ``error_description``. No API of Google's sends that, but
    what stands between.
    """
    try:
        content = read_json(body)
    except ValueError:
        return None, ""
    if isinstance(content, list) and content:  # streaming methods wrap it in a list
        content = content[0]
    content = hide_known(secrets, content) if secrets else content
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict):
        message = error.get("message")
        return error, message if isinstance(message, str) else ""
    if not isinstance(error, str):
        return None, ""
    more = content.get("error_description")
    return None, f"{error} ({more})" if isinstance(more, str) and more else error


def _is_googles(request: Request[Any]) -> bool:
    """Whether a request goes to the API's own host, or to its sibling for client certificates."""
    host = request.url.split("/")[2]
    return host == request.resource.host or host.endswith(".googleapis.com")


def _detail(details: tuple[Detail, ...], kind: str, key: str) -> Any:
    detail = find_detail(details, kind)
    return detail.get(key) if detail else None


def _retry_after(header: str | None, details: tuple[Detail, ...], now: datetime | None) -> float | None:
    delay = _detail(details, "RetryInfo", "retryDelay")
    seconds = _seconds(delay.removesuffix("s")) if isinstance(delay, str) else None
    if seconds is None and header:
        seconds = _seconds(header)
        if seconds is None and now is not None:
            try:
                moment = parsedate_to_datetime(header)
                if moment.tzinfo is None:
                    moment = moment.replace(tzinfo=timezone.utc)
                seconds = (moment - now).total_seconds()
            except (ValueError, TypeError, IndexError, OverflowError):
                return None
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None
