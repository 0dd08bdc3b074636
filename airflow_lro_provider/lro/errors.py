"""The errors of this package, and how an HTTP answer becomes one of them.

::

    OperationsError
    ├── InvalidRequestError (ValueError)   refused here: nothing was sent
    │   ├── InvalidReferenceError          a malformed name, or one that this service cannot have
    │   ├── UnknownServiceError            no such API, version or verb in the table
    │   ├── ForbiddenEndpointError         a host that is neither Google's nor the connection's
    │   └── ConnectionSettingsError        a connection that cannot be used as it is
    ├── ApiError                           the API answered, with a google.rpc.Status
    │   ├── InvalidArgumentError           400
    │   ├── FailedPreconditionError        400: not in this state, e.g. it is over already
    │   ├── UnauthenticatedError           401
    │   ├── PermissionDeniedError          403
    │   ├── NotFoundError                  404: no such operation
    │   ├── UnimplementedError             501, or a verb that the API has no route for
    │   ├── ResourceExhaustedError *       429
    │   └── UnavailableError *             500, 502, 503, 504
    ├── MalformedAnswerError *             something answered, but not in the API's language
    │   └── OversizedAnswerError           an answer that is more than is taken of one: final
    ├── TransportError *                   nothing answered: connection, TLS, time
    ├── StartUnknownError                  a start whose answer was lost: it may have started something
    ├── NotAnOperationError                a start that was answered with something else
    ├── CredentialsError                   no token could be had
    └── WaitTimeoutError                   still running at the deadline

Those with a * are transient: they never fail a wait before its deadline.

Errors are told apart by ``error.status`` (a ``google.rpc.Code`` name, https://google.aip.dev/193),
not by the HTTP code alone: 400 is FAILED_PRECONDITION as well as INVALID_ARGUMENT. Standard library
only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from airflow_lro_provider.lro.http.json import read_json
from airflow_lro_provider.lro.http.redaction import legible, without_secrets

# google/rpc/code.proto, and the HTTP code that each is sent with.
CODES: dict[str, int] = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
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


class OperationsError(Exception):
    """Anything that goes wrong here. Its text names what was tried and what to do next."""

    transient: ClassVar[bool] = False

    @property
    def may_have_happened(self) -> bool:
        """Whether the service may have done what was asked all the same."""
        return False


class forgetting(contextlib.ContextDecorator):  # noqa: N801 - used like a function
    """Errors of this tree get out without the error that they stand for: that one's text or attributes hold a secret.

    ``raise … from None`` keeps it from being shown, but not from being there.
    """

    def __enter__(self) -> None:
        """Nothing yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Cut the tie."""
        if isinstance(error, OperationsError):
            error.__context__ = None


class InvalidRequestError(OperationsError, ValueError):
    """Refused before anything was sent."""


class InvalidReferenceError(InvalidRequestError):
    """A malformed name, or one that this service cannot have."""


class UnknownServiceError(InvalidRequestError):
    """No such API, version or verb in the table of services."""


class ForbiddenEndpointError(InvalidRequestError):
    """A host that is neither Google's nor named by the connection."""


class ConnectionSettingsError(InvalidRequestError):
    """The connection is missing, or holds something that cannot be used."""


class MalformedAnswerError(OperationsError):
    """Something answered, but not in the API's language (a proxy's page, a truncated body)."""

    transient = True
    retry_after: float | None = None
    may_have_happened = True


class OversizedAnswerError(MalformedAnswerError):
    """An answer that is larger, deeper or longer than any that is taken. It would be so again."""

    transient = False


class TransportError(OperationsError):
    """Nothing answered: no connection, no TLS, no answer in time.

    :param sent: whether the request may have reached the service.
    """

    transient = True
    retry_after: float | None = None

    def __init__(self, message: str, *, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message)

    @property
    def may_have_happened(self) -> bool:
        """Not if there was no connection to send it over."""
        return self.sent


class StartUnknownError(OperationsError):
    """The answer to a request that starts an operation was lost: it may have started one."""

    may_have_happened = True


class NotAnOperationError(OperationsError):
    """A method that was to start an operation answered with something else.

    :param answer: what it answered.
    :param is_resource: whether that is a plain resource; else it is an operation of an unknown kind.
    """

    may_have_happened = True

    def __init__(self, message: str, answer: Mapping[str, Any] | None = None, *, is_resource: bool = True) -> None:
        self.answer = dict(answer or {})
        self.is_resource = is_resource
        super().__init__(message)


class CredentialsError(OperationsError):
    """No token could be had with the connection's credentials."""


class WaitTimeoutError(OperationsError):
    """The operation was still running at the deadline of a wait."""


class ApiError(OperationsError):
    """The API answered with an error.

    :param service: the API's name.
    :param verb: get, list, cancel, delete, wait or start.
    :param operation: the name that was asked about; of a start, the method's path.
    :param http_status: the HTTP code.
    :param status: the ``google.rpc.Code`` name, as sent, or derived from the HTTP code.
    :param message: the API's own words.
    :param reason: ``google.rpc.ErrorInfo.reason``, if any.
    :param details: all ``details`` of the status.
    :param request_id: what to tell Google's support, if the answer named it.
    :param retry_after: how long to wait before another try, in seconds, if the API said so
        (``Retry-After`` or ``google.rpc.RetryInfo``).
    """

    next_step: ClassVar[str] = "See the message of the API."

    def __init__(
        self,
        *,
        service: str,
        verb: str,
        operation: str,
        http_status: int,
        status: str,
        message: str,
        reason: str | None = None,
        details: tuple[Mapping[str, Any], ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.service = service
        self.verb = verb
        self.operation = operation
        self.http_status = http_status
        self.status = status
        self.message = message
        self.reason = reason
        self.details = details
        self.request_id = request_id
        self.retry_after = retry_after
        because = f" ({reason})" if reason else ""
        request = f" Request id: {request_id}." if request_id else ""
        super().__init__(
            f"{service}: {verb} {operation}: {status}{because}, HTTP {http_status}: "
            f"{message.rstrip('.')}. {self.next_step.format(service=service, verb=verb)}{request}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only arguments; without this it could not be pickled.
        arguments = {key: value for key, value in vars(self).items() if key != "__notes__"}
        return (
            _rebuild,
            (type(self), arguments),
            {"__notes__": self.__notes__} if hasattr(self, "__notes__") else None,
        )


def _rebuild(cls: type[ApiError], arguments: dict[str, Any]) -> ApiError:
    return cls(**arguments)


class InvalidArgumentError(ApiError):
    """400: the request itself is wrong."""

    next_step = "Check the name of the operation, and the filter if there is one."


class FailedPreconditionError(ApiError):
    """400: not possible in the operation's present state."""

    next_step = "Get the operation: it may be over already."


class UnauthenticatedError(ApiError):
    """401: the token was not accepted, also not a fresh one."""

    next_step = "Check the key or the account of the connection: is it still enabled?"


class PermissionDeniedError(ApiError):
    """403: the account may not do this."""

    next_step = (
        "Give the account of the connection the permission that the message names on this project"
        " (usually {service}.operations.{verb}), and check that the API is enabled."
    )


class NotFoundError(ApiError):
    """404: no such operation."""

    next_step = (
        "Check the name, the service and the API version; operations are forgotten some time"
        " (often 30 days) after their end."
    )


class UnimplementedError(ApiError):
    """501, or 404 for a verb that has no route: the service cannot do this."""

    next_step = "{service} does not offer {verb} for this operation; only waiting for its end is left."


class ResourceExhaustedError(ApiError):
    """429: over quota, or too many requests."""

    transient = True
    next_step = "Poll less often (poll_interval), or raise the quota of the project."


class UnavailableError(ApiError):
    """500, 502, 503, 504: the service has a bad moment."""

    transient = True
    next_step = "It is worth another try."

    @property
    def may_have_happened(self) -> bool:
        """Not with 503: that one refuses (https://google.aip.dev/194)."""
        return self.http_status != HTTP_CODES["UNAVAILABLE"]


_BY_STATUS: dict[str, type[ApiError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "OUT_OF_RANGE": InvalidArgumentError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "NOT_FOUND": NotFoundError,
    "UNIMPLEMENTED": UnimplementedError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "UNAVAILABLE": UnavailableError,
    "INTERNAL": UnavailableError,
    "UNKNOWN": UnavailableError,
    "DEADLINE_EXCEEDED": UnavailableError,
}
# Only where the body names no status. 502 is a proxy's way to say 503.
_BY_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "UNAVAILABLE",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_REQUEST_IDS = ("x-goog-request-id", "x-request-id", "x-guploader-uploadid", "x-cloud-trace-context")
MAX_RETRY_AFTER = 3600.0


def error_from_answer(
    *,
    service: str,
    verb: str,
    operation: str,
    http_status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime | None = None,
) -> OperationsError:
    """Turn an answer that is no success into the error that it means.

    :param headers: names in lower case.
    :param now: the time that a ``Retry-After`` date is compared with; without it a date is ignored.
    """
    if 300 <= http_status < 400:
        return MalformedAnswerError(
            f"{service}: {verb} {operation}: the answer is a redirect (HTTP {http_status}), which is not"
            " followed: the token must not travel. Check the endpoint of the connection."
        )
    error = _status_of(body)
    status = error.get("status") if error else None
    if not isinstance(status, str) or status not in CODES:
        status = _BY_HTTP.get(http_status) or ("UNAVAILABLE" if http_status >= 500 else "INVALID_ARGUMENT")
        if error is None and http_status == 404 and verb not in ("get", "list"):
            # An unknown operation is answered in JSON. A page in HTML comes from the front end,
            # which has no route for this verb.
            status = "UNIMPLEMENTED"
    details = error.get("details") if error else None
    details = tuple(d for d in details if isinstance(d, Mapping)) if isinstance(details, list) else ()
    message = error.get("message") if error else None
    reason = _detail(details, "google.rpc.ErrorInfo", "reason")
    request_id = _detail(details, "google.rpc.RequestInfo", "requestId") or next(
        (headers[key] for key in _REQUEST_IDS if headers.get(key)), None
    )
    return _BY_STATUS.get(status, ApiError)(
        service=service,
        verb=verb,
        operation=operation,
        http_status=http_status,
        status=status,
        message=_shorten(message) if isinstance(message, str) and message else "no explanation was given",
        reason=_shorten(reason, 100) if isinstance(reason, str) else None,
        details=details,
        request_id=_shorten(request_id, 100) if isinstance(request_id, str) and request_id else None,
        retry_after=_retry_after(headers.get("retry-after"), details, now),
    )


def _status_of(body: bytes) -> Mapping[str, Any] | None:
    """The ``error`` of a JSON answer; ``None`` if it is something else (HTML, nothing, garbage)."""
    try:
        content = read_json(body)
    except ValueError:
        return None
    if isinstance(content, list) and content:  # streaming methods wrap it in a list
        content = content[0]
    error = content.get("error") if isinstance(content, dict) else None
    return error if isinstance(error, dict) else None


def _detail(details: tuple[Mapping[str, Any], ...], kind: str, key: str) -> Any:
    for detail in details:
        if str(detail.get("@type", "")).endswith(kind):
            return detail.get(key)
    return None


def _retry_after(header: str | None, details: tuple[Mapping[str, Any], ...], now: datetime | None) -> float | None:
    delay = _detail(details, "google.rpc.RetryInfo", "retryDelay")
    seconds: float | None = None
    if isinstance(delay, str):
        seconds = _seconds(delay.removesuffix("s"))
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
    return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds == seconds else None


def _shorten(text: str, limit: int = 1000) -> str:
    text = legible(without_secrets(text[: 20 * limit]))
    return text if len(text) <= limit else text[: limit - 3] + "..."
