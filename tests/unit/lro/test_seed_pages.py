"""The five pages that this package began with, line by line.

Each page documents one ``cancel`` method. Every line of it that promises or demands something stands
below, with the test that proves it; a page in brackets is the test's id. ``(all)`` is all five pages.

=======================================================================  =========================================
line of the page                                                         test
=======================================================================  =========================================
Method: projects.operations.cancel (Earth Engine),                       test_method[earth-engine]
Method: projects.locations.operations.cancel (Developer Connect,         test_method[developer-connect], [automl],
AutoML, Data Fusion), Full name: projects.locations.operations.cancel    [data-fusion], [vertex]
(Vertex)
Starts asynchronous cancellation on a long-running operation. (all)      test_starts_asynchronous_cancellation
The server makes a best effort to cancel the operation, but success is   test_best_effort_success_is_not_guaranteed
not guaranteed. (all)
If the server doesn't support this method, it returns                    test_unimplemented
google.rpc.Code.UNIMPLEMENTED. (all)
Clients can use Operations.GetOperation or other methods to check        test_get_tells_what_came_of_it
whether the cancellation succeeded … (all)
… or whether the operation completed despite cancellation. (all)         test_completed_despite_cancellation
On successful cancellation, the operation is not deleted; (all)          test_a_cancelled_operation_is_not_deleted
instead, it becomes an operation with an Operation.error value with a    test_cancelled_is_error_code_1
google.rpc.Status.code of 1, corresponding to Code.CANCELLED. (all)
POST https://earthengine.googleapis.com/v1/{name=projects/*/             test_http_request[earth-engine]
operations/**}:cancel
POST https://developerconnect.googleapis.com/v1/{name=projects/*/        test_http_request[developer-connect]
locations/*/operations/*}:cancel
POST https://automl.googleapis.com/v1beta1/{name}:cancel                 test_http_request[automl]
POST https://datafusion.googleapis.com/v1/{name=projects/*/              test_http_request[data-fusion]
locations/*/operations/*}:cancel
post https://{service-endpoint}/v1beta1/{name}:cancel (Vertex)           test_http_request[vertex]
The URL uses gRPC Transcoding syntax. (Earth Engine, Developer           test_grpc_transcoding,
Connect, Data Fusion)                                                    test_not_matched_is_not_sent
Where {service-endpoint} is one of the supported service endpoints.      test_vertex_service_endpoint
(Vertex)
name: string. The name of the operation resource to be cancelled.        test_path_parameter_name
(Earth Engine, AutoML, Vertex; the other two say it by {name=…})
The request body must be empty. (all)                                    test_request_body_is_empty
If successful, the response body is an empty JSON object. (Earth         test_response_body_is_an_empty_json_object
Engine, Developer Connect, Data Fusion, Vertex)
If successful, the response body will be empty. (AutoML)                 test_response_body_is_empty
Requires one of the following OAuth scopes: …/auth/earthengine,          test_scopes[earth-engine]
…/auth/cloud-platform
Requires the following OAuth scope: …/auth/cloud-platform (Developer     test_scopes[developer-connect], [automl],
Connect, AutoML, Data Fusion)                                            [data-fusion]
Requires the following IAM permission on the name resource:              test_iam_permission
developerconnect.operations.cancel
=======================================================================  =========================================

Navigation, feedback widgets and licence lines promise nothing and have no test.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.auth.settings import DEFAULT_SCOPES
from airflow_lro_provider.lro.cancel import cancel, outcome_of_cancel
from airflow_lro_provider.lro.errors import InvalidReferenceError, PermissionDeniedError, UnimplementedError
from airflow_lro_provider.lro.http.messages import Request, Response
from airflow_lro_provider.lro.operation import Operation, Outcome, State
from airflow_lro_provider.lro.resources.catalog import known_services
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.names import OperationReference, read_reference

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
EARTH_ENGINE = "https://www.googleapis.com/auth/earthengine"


@dataclass(frozen=True)
class Page:
    """What one page says, and a name of an operation to say it about."""

    service: str
    version: str
    method: str
    name: str
    url: str
    scopes: frozenset[str] = frozenset({CLOUD_PLATFORM})

    @property
    def reference(self) -> OperationReference:
        """The reference to the operation, at the host that the page names (Vertex AI: at the location's)."""
        return read_reference(self.name, f"{self.service}.googleapis.com", self.version)

    def cancel(self) -> Request[Any]:
        """The request that the page documents."""
        return protocol.cancel(self.reference, endpoint_of(self.reference))

    def poll(self) -> Request[Any]:
        """The same, with no field mask."""
        request = protocol.poll(self.reference, endpoint_of(self.reference)).unmasked
        assert request is not None
        assert request.url == self.get().url
        return request

    def get(self) -> Request[Any]:
        """The request that the page says one can check with."""
        return protocol.get(self.reference, endpoint_of(self.reference))


PAGES = {
    "earth-engine": Page(
        "earthengine",
        "v1",
        "projects.operations.cancel",
        "projects/my-project/operations/EXPORT/part-1",
        "https://earthengine.googleapis.com/v1/projects/my-project/operations/EXPORT/part-1:cancel",
        frozenset({EARTH_ENGINE, CLOUD_PLATFORM}),
    ),
    "developer-connect": Page(
        "developerconnect",
        "v1",
        "projects.locations.operations.cancel",
        "projects/my-project/locations/us-central1/operations/operation-1",
        "https://developerconnect.googleapis.com/v1/projects/my-project/locations/us-central1/operations/operation-1:cancel",
    ),
    "automl": Page(
        "automl",
        "v1beta1",
        "projects.locations.operations.cancel",
        "projects/my-project/locations/us-central1/operations/ICN1",
        "https://automl.googleapis.com/v1beta1/projects/my-project/locations/us-central1/operations/ICN1:cancel",
    ),
    "data-fusion": Page(
        "datafusion",
        "v1",
        "projects.locations.operations.cancel",
        "projects/my-project/locations/us-central1/operations/operation-1",
        "https://datafusion.googleapis.com/v1/projects/my-project/locations/us-central1/operations/operation-1:cancel",
    ),
    "vertex": Page(
        "aiplatform",
        "v1beta1",
        "projects.locations.operations.cancel",
        "projects/my-project/locations/us-central1/operations/4711",
        "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/my-project/locations/us-central1/operations/4711:cancel",
    ),
}


def pages(*names: str) -> Any:
    """Run a test for these pages, all five if none is named."""
    chosen = names or tuple(PAGES)
    return pytest.mark.parametrize("page", [PAGES[name] for name in chosen], ids=chosen)


def response_to(request: Request[Any], status: int, content: Any) -> Any:
    """What is read from a response to a request."""
    return request.read(Response(status, {}, content if isinstance(content, bytes) else json.dumps(content).encode()))


def poll(page: Page, **fields: Any) -> Operation:
    """A poll of the page's operation, off the wire."""
    operation: Operation = response_to(page.get(), 200, {"name": page.name, **fields})
    return operation


@pages()
def test_method(page: Page) -> None:
    """'Method: projects…operations.cancel': the collections of the method are those of the names it takes."""
    *collections, verb = page.method.split(".")
    assert verb in known_services()[page.service].verbs
    name = "/".join(f"{collection}/x" for collection in collections).replace("locations/x", "locations/us-central1")
    assert read_reference(name, page.service, page.version).name == name


@pages()
def test_starts_asynchronous_cancellation(page: Page) -> None:
    """'Starts asynchronous cancellation': a success is no outcome, the operation runs until it says otherwise."""
    flow = cancel(page.reference, endpoint_of(page.reference))
    assert next(flow).unmasked == page.poll()
    assert flow.send(poll(page)) == page.cancel()
    with pytest.raises(StopIteration) as end:
        flow.send(response_to(page.cancel(), 200, {}))
    assert (end.value.value.outcome, end.value.value.requested) == (None, True)
    assert poll(page).state is State.RUNNING


@pages()
def test_best_effort_success_is_not_guaranteed(page: Page) -> None:
    """'Best effort': an operation that goes on after the request is called running, and never cancelled."""
    assert response_to(page.cancel(), 200, {}) is None
    assert outcome_of_cancel(poll(page)) is Outcome.STILL_RUNNING


@pages()
def test_unimplemented(page: Page) -> None:
    """'It returns google.rpc.Code.UNIMPLEMENTED': an error of its own, and the outcome CANCEL_UNSUPPORTED."""
    body = {"error": {"code": 501, "status": "UNIMPLEMENTED", "message": "Operation is not implemented."}}
    with pytest.raises(UnimplementedError, match=f"{page.service} does not support cancel") as caught:
        response_to(page.cancel(), 501, body)
    flow = cancel(page.reference, endpoint_of(page.reference))
    next(flow)
    flow.send(poll(page))
    with pytest.raises(StopIteration) as end:
        flow.throw(caught.value)
    assert (end.value.value.outcome, end.value.value.requested) == (Outcome.CANCEL_UNSUPPORTED, False)


@pages()
def test_get_tells_what_came_of_it(page: Page) -> None:
    """'Clients can use Operations.GetOperation to check': one GET of the same name tells cancelled from the rest."""
    request = page.get()
    assert (request.method, request.url, request.body) == ("GET", page.url.removesuffix(":cancel"), b"")
    cancelled = poll(page, done=True, error={"code": 1})
    failed = poll(page, done=True, error={"code": 13, "message": "boom"})
    assert outcome_of_cancel(cancelled) is Outcome.CANCELLED
    assert outcome_of_cancel(failed) is Outcome.FAILED


@pages()
def test_completed_despite_cancellation(page: Page) -> None:
    """'Completed despite cancellation': a success after a cancel request has an outcome of its own."""
    completed = poll(page, done=True, response={})
    assert completed.outcome is Outcome.SUCCEEDED
    assert outcome_of_cancel(completed) is Outcome.COMPLETED_DESPITE_CANCEL


@pages()
def test_a_cancelled_operation_is_not_deleted(page: Page) -> None:
    """'The operation is not deleted': it can be polled by its name, and cancelling it again sends no second request."""
    cancelled = poll(page, done=True, error={"code": 1, "message": "cancelled"})
    assert cancelled.name == page.name
    flow = cancel(page.reference, endpoint_of(page.reference))
    assert next(flow).unmasked == page.poll()
    with pytest.raises(StopIteration) as end:
        flow.send(cancelled)
    assert (end.value.value.outcome, end.value.value.requested) == (Outcome.CANCELLED, False)


@pages()
@pytest.mark.parametrize(
    ("code", "outcome"),
    [(1, Outcome.CANCELLED), (499, Outcome.FAILED), (10, Outcome.FAILED), (0, Outcome.FAILED)],
    ids=["1", "HTTP's 499", "ABORTED", "OK"],
)
def test_cancelled_is_error_code_1(page: Page, code: int, outcome: Outcome) -> None:
    """'A google.rpc.Status.code of 1': that code and no other means cancelled, whatever the message is."""
    for message in ("", "cancelled", "CANCELLED"):
        assert poll(page, done=True, error={"code": code, "message": message}).outcome is outcome


@pages()
def test_http_request(page: Page) -> None:
    """The HTTP request: POST to the URL of the page, with the name in it and `:cancel` after it."""
    assert (page.cancel().method, page.cancel().url) == ("POST", page.url)


@pytest.mark.parametrize(
    ("service", "pattern", "name"),
    [
        ("earthengine", "projects/*/operations/**", "projects/p/operations/a"),
        ("earthengine", "projects/*/operations/**", "projects/p/operations/a/b/c"),
        ("developerconnect", "projects/*/locations/*/operations/*", "projects/p/locations/l/operations/a"),
        ("datafusion", "projects/*/locations/*/operations/*", "projects/p/locations/l/operations/a"),
    ],
)
def test_grpc_transcoding(service: str, pattern: str, name: str) -> None:
    """'The URL uses gRPC Transcoding syntax': the page's pattern is ours, and the slashes of a match are kept."""
    assert known_services()[service].names["v1"] == (pattern,)
    reference = read_reference(name, service)
    assert protocol.cancel(reference, endpoint_of(reference)).url.endswith(f".com/v1/{name}:cancel")


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("earthengine", "projects/p/operations"),
        ("earthengine", "projects/p/q/operations/a"),
        ("earthengine", "projects/p/locations/l/operations/a"),
        ("developerconnect", "projects/p/operations/a"),
        ("developerconnect", "projects/p/locations/l/operations/a/b"),
        ("datafusion", "projects/p/locations/l/m/operations/a"),
        ("datafusion", "projects/p/locations/l/operations/a/b"),
    ],
)
def test_not_matched_is_not_sent(service: str, name: str) -> None:
    """What gRPC Transcoding would not route (`*` is one segment, `**` one or more) is refused here."""
    with pytest.raises(InvalidReferenceError):
        read_reference(name, service)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
    ],
)
def test_vertex_service_endpoint(location: str, host: str) -> None:
    """'{service-endpoint} is one of the supported service endpoints': the one of the operation's location."""
    reference = read_reference(f"projects/p/locations/{location}/operations/1", "aiplatform", "v1beta1")
    assert protocol.cancel(reference, endpoint_of(reference)).url.startswith(f"https://{host}/v1beta1/")


@pages()
def test_path_parameter_name(page: Page) -> None:
    """'name: the name of the operation resource to be cancelled': it is in the path, unchanged, and nothing else is."""
    path = re.sub(r"https://[^/]+", "", page.cancel().url)
    assert path == f"/{page.version}/{page.name}:cancel"


@pages()
def test_request_body_is_empty(page: Page) -> None:
    """'The request body must be empty': zero bytes, and no header that announces another."""
    assert (page.cancel().body, page.cancel().headers) == (b"", {})


@pages("earth-engine", "developer-connect", "data-fusion", "vertex")
def test_response_body_is_an_empty_json_object(page: Page) -> None:
    """'The response body is an empty JSON object': `{}` is a success, without a result."""
    assert response_to(page.cancel(), 200, {}) is None


@pages("automl")
def test_response_body_is_empty(page: Page) -> None:
    """'The response body will be empty': so is no byte at all; and of the newer pages' `{}` nobody complains."""
    assert response_to(page.cancel(), 200, b"") is None
    assert response_to(page.cancel(), 200, {}) is None


@pages("earth-engine", "developer-connect", "automl", "data-fusion")
def test_scopes(page: Page) -> None:
    """'Requires … OAuth scope': the table has the page's scopes, and the default of a connection is one of them."""
    assert set(known_services()[page.service].scopes) == page.scopes
    assert page.scopes.intersection(DEFAULT_SCOPES)


@pages("developer-connect")
def test_iam_permission(page: Page) -> None:
    """'Requires the IAM permission developerconnect.operations.cancel': a 403 names it as what to give."""
    body = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "The caller does not have permission"}}
    with pytest.raises(PermissionDeniedError, match=r"permission .*developerconnect\.operations\.cancel"):
        response_to(page.cancel(), 403, body)


def test_the_table_above_names_tests_that_exist() -> None:
    """Every test that the table of this file points to is one of this file, and every one is pointed to."""
    named = set(re.findall(r"test_\w+", __doc__ or ""))
    here = {name for name in globals() if name.startswith("test_")}
    assert named == here - {"test_the_table_above_names_tests_that_exist"}
