"""The errors of this package.

::

    OperationsError
    ├── InvalidRequestError (ValueError)   refused here: nothing was sent
    │   ├── InvalidReferenceError          a malformed name, or one that this service cannot have
    │   ├── UnknownServiceError            no such API, version or verb in the table
    │   ├── ForbiddenEndpointError         a host that is neither Google's nor the connection's
    │   └── ConnectionSettingsError +      a connection that cannot be used as it is
    ├── ApiError                           the API responded, with a google.rpc.Status
    │   ├── InvalidArgumentError           400
    │   ├── FailedPreconditionError        400: not in this state, e.g. it has finished
    │   ├── AbortedError                   409: something else is at work on it
    │   ├── UnauthenticatedError +         401, or 403 for a caller without an identity
    │   ├── PermissionDeniedError          403
    │   ├── NotFoundError                  404: no such operation
    │   ├── AlreadyExistsError             409: what it is to create exists already
    │   ├── UnimplementedError             501, or a verb that the API has no route for
    │   ├── ResourceExhaustedError *       429, or 403 for a quota's reason
    │   └── UnavailableError *             500, 502, 503, 504
    ├── MalformedResponseError *           a response, but not one of the API
    │   └── ResponseTooLargeError          a response that exceeds our limits: final
    ├── TransportError *                   no response: connection, TLS, timeout
    │   └── UnreachableError               a certificate or proxy that cannot be used: final
    ├── StartUnknownError                  a start without a response: it may have started an operation
    ├── NotAnOperationError                a start whose response is not an operation
    ├── CredentialsError +                 no token could be obtained
    └── WaitTimeoutError                   not finished at the deadline

Those with a * are transient: they never fail a wait before its deadline. Nor do those with a +, trouble of our own that
says nothing about an operation: meanwhile the connection is read again (:class:`polling.Trouble`).

Errors of the API are distinguished by ``error.status`` (a ``google.rpc.Code`` name, https://google.aip.dev/193),
not by the HTTP code alone: 400 is FAILED_PRECONDITION as well as INVALID_ARGUMENT. What a response means is decided in
:mod:`airflow_lro_provider.lro.status`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

from airflow_lro_provider.lro.details import describe
from airflow_lro_provider.lro.redaction import without_credentials


class OperationsError(Exception):
    """Base of all errors. The text says what was tried and what to do next."""

    transient: ClassVar[bool] = False
    is_ours: ClassVar[bool] = False
    """Whether it is about our own credentials, and not about the operation."""
    may_have_happened: bool = False
    """Whether the service may have carried out the request all the same."""
    retry_after: float | None = None
    """How long to wait before a retry, in seconds, if the API said so (``Retry-After``, ``google.rpc.RetryInfo``)."""

    def __init__(self, message: str = "") -> None:
        # The one place for it: most texts quote what a user, a connection or a server gave.
        super().__init__(without_credentials(message))

    @property
    def poll_after(self) -> float:
        """How long a wait pauses before its next poll at least, in seconds."""
        return self.retry_after or 0.0


@contextlib.contextmanager
def without_context() -> Iterator[None]:
    """Errors of this tree are raised without the error that caused them, whose text or attributes hold a secret.

    ``raise … from None`` only hides that error; it stays reachable as ``__context__``.
    """
    try:
        yield
    except OperationsError as error:
        error.__context__ = None
        raise


class InvalidRequestError(OperationsError, ValueError):
    """Refused before anything was sent."""


class InvalidReferenceError(InvalidRequestError):
    """A malformed name, or one that this service cannot have."""


class UnknownServiceError(InvalidRequestError):
    """No such API, version or verb in the table of services."""


class ForbiddenEndpointError(InvalidRequestError):
    """A host that is neither Google's nor named by the connection."""


class ConnectionSettingsError(InvalidRequestError):
    """The connection is missing, or one of its settings cannot be used."""

    is_ours = True


class MalformedResponseError(OperationsError):
    """A response, but not one of the API (a proxy's page, a truncated body)."""

    transient = True
    may_have_happened = True


class ResponseTooLargeError(MalformedResponseError):
    """A response that is larger, deeper or longer than our limits. A retry would get it again.

    :param start: what was read of it: enough to tell which operation it is.
    """

    transient = False

    def __init__(self, message: str, start: bytes = b"") -> None:
        self.start = start
        super().__init__(message)


class TransportError(OperationsError):
    """No response: no connection, no TLS, or a timeout.

    :param sent: whether the request may have reached the service: there was a connection to send it over.
    """

    transient = True

    def __init__(self, message: str, *, sent: bool = True) -> None:
        self.may_have_happened = sent
        super().__init__(message)


class UnreachableError(TransportError):
    """No response, nor would a retry get one: a certificate that is not trusted, a proxy that cannot be used."""

    transient = False

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message, sent=sent)


class StartUnknownError(OperationsError):
    """The response to a request that starts an operation was lost: it may have started one."""

    may_have_happened = True


class NotAnOperationError(OperationsError):
    """The response of a method that was expected to start an operation is something else.

    :param response: its JSON.
    :param is_resource: whether that is a plain resource; else it is an operation of an unknown kind.
    """

    may_have_happened = True

    def __init__(self, message: str, response: Mapping[str, Any] | None = None, *, is_resource: bool = True) -> None:
        self.response = dict(response or {})
        self.is_resource = is_resource
        super().__init__(message)


class CredentialsError(OperationsError):
    """No token could be obtained with the connection's credentials."""

    is_ours = True


class WaitTimeoutError(OperationsError):
    """The operation had not finished at the deadline of a wait.

    :param last_error: why the last poll failed; ``None`` if it has shown that the operation is still running.
    """

    def __init__(self, message: str, last_error: str | None = None) -> None:
        self.last_error = last_error
        super().__init__(message)


@dataclass(kw_only=True, eq=False, repr=False)
class ApiError(OperationsError):
    """The API responded with an error.

    :param service: the API's name.
    :param verb: get, list, cancel, delete, wait or start; read for a resource that is no operation.
    :param operation: the operation's name; of a list, the parent; of a start, the method's path.
    :param http_status: the HTTP code.
    :param status: the ``google.rpc.Code`` name, as sent, or derived from the HTTP code.
    :param message: the API's own words.
    :param reason: ``google.rpc.ErrorInfo.reason``, if any.
    :param details: all ``details`` of the status, and the older ``errors``.
    :param request_id: identifies the request for Google's support, if the response has it.
    :param is_stated: whether the API itself has sent the status; else a front end or a proxy may have responded.
    :param url: what was requested, if the connection's endpoint has responded in Google's place.
    """

    next_step: ClassVar[str] = "See the message of the API."
    next_steps: ClassVar[Mapping[str, str]] = {}
    """Another next step for some verbs."""
    next_steps_by_reason: ClassVar[Mapping[str, str]] = {}
    """Another one for some reasons, whatever the verb."""

    service: str
    verb: str
    operation: str
    http_status: int
    status: str
    message: str
    reason: str | None = None
    details: tuple[Mapping[str, Any], ...] = ()
    request_id: str | None = None
    retry_after: float | None = None
    is_stated: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        # 503 says that the request was refused (https://google.aip.dev/194); so do all below 500 but these.
        http = self.http_status
        self.may_have_happened = http in (408, 499) or (http >= 500 and http not in (501, 503))
        because = f" ({self.reason})" if self.reason else ""
        request = f"Request id: {self.request_id}." if self.request_id else ""
        said = f"{self.message} {because} request id {self.request_id}"
        more = [f"{self.message.rstrip('. ')}.", describe(self.details, said), self._advice(), request]
        super().__init__(
            f"{self.service}: {self.verb} {self.operation}: {self.status}{because}, HTTP {self.http_status}: "
            + " ".join(part if part.endswith((".", "?")) else f"{part}." for part in more if part)
        )

    def _advice(self) -> str:
        reasons = [self.reason, *(detail.get("reason") for detail in self.details)]
        known = (self.next_steps_by_reason.get(reason) for reason in reasons if isinstance(reason, str))
        step = next(filter(None, known), self.next_steps.get(self.verb, self.next_step))
        step = step.format(service=self.service, verb=self.verb)
        if not self.url or self.status not in ("NOT_FOUND", "UNIMPLEMENTED"):
            return step
        asked = f"The URL was {self.url}"
        if self.service in self.url.partition(f"/{self.operation}")[0]:
            return f"{asked}. {step}"
        return (
            f"{asked}: is `api_endpoint` of the connection right, and does it serve {self.service} there? {{service}}"
            " in it becomes the API's name."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Its arguments are keyword-only: it could not be unpickled without this.
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        return partial(type(self), **arguments), (), vars(self)


class InvalidArgumentError(ApiError):
    """400: the request itself is wrong."""

    next_step = "Check the name of the operation."
    next_steps: ClassVar[Mapping[str, str]] = {
        "list": "Check the parent, and the filter if there is one.",
        "read": "Check the id of the resource.",
        "start": "Correct the method's path, its query or its body.",
    }


class FailedPreconditionError(ApiError):
    """400: not possible in the present state."""

    next_step = "Get the operation: it may have finished."
    next_steps: ClassVar[Mapping[str, str]] = {
        "list": "See the message of the API.",
        "read": "See the message of the API.",
        "start": "Nothing was started: bring what the method works on into the state that it needs, and start again.",
    }


class AbortedError(ApiError):
    """409: something else is at work on the same resource (https://google.aip.dev/151)."""

    next_step = "Try again later."
    next_steps: ClassVar[Mapping[str, str]] = {
        "start": "Nothing was started: another operation is at work on it. Start them one after the other, or try again"
        " later.",
    }


class UnauthenticatedError(ApiError):
    """401: the token was not accepted, nor was a fresh one; or 403: none has reached the API."""

    is_ours = True

    next_step = "Check the key or the account of the connection: is it still enabled, and does its token reach the API?"


class PermissionDeniedError(ApiError):
    """403: the account may not do this."""

    next_step = (
        "Give the account of the connection the permission that the message names on this project"
        " (often {service}.operations.{verb}; docs/permissions.md lists them), and check that the API is enabled."
    )
    next_steps: ClassVar[Mapping[str, str]] = {
        "start": "Give the account of the connection the permission that this method needs on what it works on (the"
        " method's page names it), and check that the API is enabled.",
        "read": "Give the account of the connection the permission to get this resource (its page names it).",
    }
    # google/api/error_reason.proto; accessNotConfigured is what SERVICE_DISABLED was called before.
    next_steps_by_reason: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("SERVICE_DISABLED", "accessNotConfigured"),
            "Enable the API in the project that the message names, and wait a few minutes. If that is another project"
            " than expected: it is the one of the connection's credentials, or its `quota_project_id`.",
        ),
        "BILLING_DISABLED": "Link the project that the message names to a billing account; no permission is missing.",
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT": "The token lacks a scope; no permission is missing. Add what {service} needs"
        " to `scope` of the connection (https://www.googleapis.com/auth/cloud-platform is the default); a token of the"
        " metadata server has the scopes of its machine.",
        "SECURITY_POLICY_VIOLATED": "A perimeter of VPC Service Controls refuses it; no permission of the account"
        " helps. Request from inside the perimeter, or have an ingress or egress rule added; its administrators find"
        " the refusal by the identifier in the message.",
        "USER_PROJECT_DENIED": "Give the account of the connection roles/serviceusage.serviceUsageConsumer on the"
        " project that is charged (`quota_project_id` of the connection or of its credentials), or name another one"
        " there.",
    }


class NotFoundError(ApiError):
    """404: no such operation."""

    next_step = (
        "Check the name, the service and the API version; services delete operations some time"
        " (often 30 days) after their end."
    )
    next_steps: ClassVar[Mapping[str, str]] = {
        "list": "Check the parent, the service and the API version.",
        "read": "It is gone by now, or has another name than the one that was read from the request.",
        "start": "Nothing was started: check the method's path, the API version, and that what it names exists.",
    }


class AlreadyExistsError(ApiError):
    """409: what the method is to create exists already."""

    next_steps: ClassVar[Mapping[str, str]] = {
        "start": 'Nothing was started: it exists already. With `if_exists="return"` a task returns it, if it can be'
        " read.",
    }


class UnimplementedError(ApiError):
    """501, or 404 for a verb that has no route: the service does not support it."""

    next_step = "{service} does not support {verb} for this operation; it can only be waited for."
    next_steps: ClassVar[Mapping[str, str]] = {
        "delete": "{service} does not support {verb} for this operation: it is left to expire after its end.",
        "wait": "{service} does not support {verb} for this operation; it can only be polled.",
        "get": "{service} does not support {verb} here: check the service and the API version.",
        "list": "{service} does not support {verb} here: check the parent, the service and the API version.",
        "read": "{service} has no method that gets this resource: check the service and the API version.",
        "start": "Nothing was started: {service} has no such method. Check path, `http_method` and API version.",
    }


LONG_QUOTA_SECONDS = 60.0
"""The pause between two polls while a quota is used up that is not one per minute."""
_LONG_QUOTA = re.compile(r"\w*QUOTA_EXCEEDED|(?:dailyLimit|quota)Exceeded(?:402)?|variableTermExpiredDailyExceeded")


class ResourceExhaustedError(ApiError):
    """429, or another code for a quota's reason: over quota, or too many requests."""

    transient = True
    next_step = "Poll less often (poll_interval), or raise the quota of the project."
    next_steps: ClassVar[Mapping[str, str]] = {
        "start": "Nothing was started: start fewer at a time, or raise the quota of the project.",
        "cancel": "Send fewer requests, or raise the quota of the project.",
        "delete": "Send fewer requests, or raise the quota of the project.",
        "read": "Send fewer requests, or raise the quota of the project.",
    }

    @property
    def poll_after(self) -> float:
        """See :attr:`OperationsError.poll_after`: a day's quota does not come back in a second."""
        pause = LONG_QUOTA_SECONDS if _LONG_QUOTA.fullmatch(self.reason or "") else 0.0
        return self.retry_after or pause


class UnavailableError(ApiError):
    """500, 502, 503, 504: the service is unavailable for a moment."""

    transient = True
    next_step = "Try again later."
