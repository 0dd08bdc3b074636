"""The tree of errors: its picture, what travels between processes, and what a secret's error leaves behind."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from airflow_lro_provider.lro import errors
from airflow_lro_provider.lro.errors import (
    AbortedError,
    AlreadyExistsError,
    ApiError,
    ConnectionSettingsError,
    CredentialsError,
    FailedPreconditionError,
    ForbiddenEndpointError,
    InvalidArgumentError,
    InvalidReferenceError,
    InvalidRequestError,
    MalformedResponseError,
    NotFoundError,
    OperationsError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TransportError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnknownServiceError,
    UnreachableError,
    WaitTimeoutError,
)

API_ERRORS = [
    ApiError,
    InvalidArgumentError,
    FailedPreconditionError,
    UnauthenticatedError,
    PermissionDeniedError,
    NotFoundError,
    AlreadyExistsError,
    UnimplementedError,
    ResourceExhaustedError,
    UnavailableError,
]


def api_error(error: type[ApiError], **more: Any) -> ApiError:
    """An error as the API may give it."""
    return error(
        service="datafusion",
        verb="cancel",
        operation="projects/p/locations/us-central1/operations/o",
        http_status=503,
        status="UNAVAILABLE",
        message="words",
        **more,
    )


@pytest.mark.parametrize("error", API_ERRORS)
def test_errors_travel_between_processes(error: type[ApiError]) -> None:
    """Pickled or copied, an error is the same: its class, its text and all its attributes."""
    details = ({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"},)
    original = api_error(error, reason="SERVICE_DISABLED", details=details, request_id="r", retry_after=7.0)
    assert "(SERVICE_DISABLED)" in str(original)
    for twin in (pickle.loads(pickle.dumps(original)), copy.deepcopy(original)):
        assert (type(twin), str(twin), vars(twin)) == (error, str(original), vars(original))


def test_an_error_with_a_note_travels_too() -> None:
    """What somebody attached to an error (PEP 678) does not keep it from being pickled."""
    original = api_error(UnavailableError)
    original.__notes__ = ["while cleaning up"]  # type: ignore[attr-defined]
    twin = pickle.loads(pickle.dumps(original))
    assert (type(twin), str(twin)) == (UnavailableError, str(original))
    assert twin.__notes__ == ["while cleaning up"]


@pytest.mark.parametrize(
    "error",
    [InvalidReferenceError("x"), MalformedResponseError("x"), TransportError("x"), WaitTimeoutError("x")],
    ids=repr,
)
def test_plain_errors_travel_between_processes(error: OperationsError) -> None:
    """The errors that no API sent can be pickled too."""
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin)) == (type(error), "x")


@pytest.mark.parametrize(
    ("error", "parent", "transient"),
    [
        (InvalidRequestError, OperationsError, False),
        (InvalidReferenceError, InvalidRequestError, False),
        (UnknownServiceError, InvalidRequestError, False),
        (ForbiddenEndpointError, InvalidRequestError, False),
        (ConnectionSettingsError, InvalidRequestError, False),
        (ApiError, OperationsError, False),
        (InvalidArgumentError, ApiError, False),
        (FailedPreconditionError, ApiError, False),
        (AbortedError, ApiError, False),
        (UnauthenticatedError, ApiError, False),
        (PermissionDeniedError, ApiError, False),
        (NotFoundError, ApiError, False),
        (UnimplementedError, ApiError, False),
        (ResourceExhaustedError, ApiError, True),
        (UnavailableError, ApiError, True),
        (MalformedResponseError, OperationsError, True),
        (TransportError, OperationsError, True),
        (UnreachableError, TransportError, False),
        (CredentialsError, OperationsError, False),
        (WaitTimeoutError, OperationsError, False),
    ],
)
def test_the_tree_is_the_one_that_is_drawn(error: type[Exception], parent: type[Exception], transient: bool) -> None:
    """Each error has the parent, and the star for transient, that the module's picture gives it."""
    assert error.__bases__[0] is parent
    assert error.transient is transient  # type: ignore[attr-defined]
    [line] = [line for line in (errors.__doc__ or "").splitlines() if f" {error.__name__} " in f"{line} "]
    assert (f"{error.__name__} *" in line) is transient


def test_the_picture_is_complete() -> None:
    """Every error of the module is in its picture."""
    names = {
        name for name, thing in vars(errors).items() if isinstance(thing, type) and issubclass(thing, OperationsError)
    }
    assert {name for name in names if name not in (errors.__doc__ or "")} == set()
    assert len(names) == 25


def test_without_context_drops_the_error_that_holds_a_secret() -> None:
    """An error of the tree comes out without its context; any other error stays as it is."""

    @errors.without_context()
    def fail(kind: type[Exception]) -> None:
        try:
            raise ValueError("s3cret")
        except ValueError:
            raise kind("fine") from None

    with pytest.raises(OperationsError) as caught:
        fail(OperationsError)
    assert caught.value.__context__ is None
    with pytest.raises(KeyError) as other:
        fail(KeyError)
    assert isinstance(other.value.__context__, ValueError)
