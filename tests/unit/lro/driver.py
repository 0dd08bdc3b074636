"""Drives a flow by hand, and what its tests have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_lro_provider.lro.errors import (
    ApiError,
    CredentialsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OperationsError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TransportError,
    UnavailableError,
    UnimplementedError,
)
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.lro.steps import Flow, Renew, Renewed, Sleep

NAME = "projects/p/locations/us-central1/operations/o"
ENDPOINT = "https://datafusion.googleapis.com"
REFERENCE = read_reference(NAME, "datafusion")
NO_CANCEL = read_reference("projects/p/locations/us-central1/featureGroups/1/operations/2", "aiplatform")

RUNNING = Operation.from_json({"name": NAME, "metadata": {"state": "RUNNING"}})
SUCCEEDED = Operation.from_json({"name": NAME, "done": True, "response": {}})
POLLED = Operation.from_json({"name": NAME, "done": True, "metadata": {"a": 1}})
POLLED = replace(POLLED, lacks_response=True)
FAILED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 13, "message": "boom"}})
CANCELLED = Operation.from_json({"name": NAME, "done": True, "error": {"code": 1}})
ACCEPTED = None


def error(kind: type[ApiError], status: str, http: int, **more: Any) -> ApiError:
    """An error of the API."""
    return kind(
        service="datafusion", verb="cancel", operation=NAME, http_status=http, status=status, message="m", **more
    )


INVALID = error(InvalidArgumentError, "INVALID_ARGUMENT", 400)
PRECONDITION = error(FailedPreconditionError, "FAILED_PRECONDITION", 400)
NOT_FOUND = error(NotFoundError, "NOT_FOUND", 404)
UNIMPLEMENTED = error(UnimplementedError, "UNIMPLEMENTED", 501, is_stated=True)
NO_ROUTE = error(UnimplementedError, "UNIMPLEMENTED", 404)
DENIED = error(PermissionDeniedError, "PERMISSION_DENIED", 403)
UNAVAILABLE = error(UnavailableError, "UNAVAILABLE", 503)
LOST = TransportError("no connection")
UNSENT = TransportError("no connection", sent=False)
NO_KEY = CredentialsError("no key")


def busy_for(seconds: float) -> ApiError:
    """An API that says for how long it is overloaded."""
    return error(ResourceExhaustedError, "RESOURCE_EXHAUSTED", 429, retry_after=seconds)


class Clock:
    """A clock that stands still between two sleeps."""

    now = 100.0

    def __call__(self) -> float:
        """Its time, in seconds."""
        return self.now


def drive(flow: Flow[Any], *responses: Any, clock: Clock | None = None) -> tuple[list[str | float], Any]:
    """Give the flow these responses, one per request.

    :param clock: the flow's clock, which its sleeps move.
    :return: the verbs that it requested ("renew" for the connection, after trouble of our own) and the seconds that it
        slept, and what it returned or raised. A flow that sends more or fewer requests than there are responses fails
        the test. The connection never changes.
    """
    steps: list[str | float] = []
    left = list(responses)
    response: Any = None
    endpoint = ""
    try:
        step = next(flow)
        while True:
            if isinstance(step, Sleep):
                steps.append(step.seconds)
                if clock is not None:
                    clock.now += step.seconds
                step = next(flow)
                continue
            if isinstance(step, Renew):
                if isinstance(response, OperationsError) and response.is_ours:
                    steps.append("renew")
                step = flow.send(Renewed(endpoint or endpoint_of(step.resource), is_same=True))
                continue
            steps.append(step.verb)
            endpoint, found, _ = step.url.partition(f"/v1/{step.resource.name}")
            assert found
            response = left.pop(0)
            step = flow.throw(response) if isinstance(response, Exception) else flow.send(response)
    except StopIteration as end:
        result: Any = end.value
    except OperationsError as raised:
        result = raised
    assert left == []
    return steps, result
