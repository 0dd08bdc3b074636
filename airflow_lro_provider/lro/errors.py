"""The errors of this package.

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
    ├── MalformedResponseError *             something answered, but not in the API's language
    │   └── ResponseTooLargeError           an answer that is more than is taken of one: final
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
from typing import Any, ClassVar


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


class MalformedResponseError(OperationsError):
    """Something answered, but not in the API's language (a proxy's page, a truncated body)."""

    transient = True
    retry_after: float | None = None
    may_have_happened = True


class ResponseTooLargeError(MalformedResponseError):
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
        return self.http_status != 503
