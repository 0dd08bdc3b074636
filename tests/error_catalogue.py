"""The catalogue of errors, ``docs/errors.md``: made from bodies that Google has sent, by the code that reads them.

``python -m tests.error_catalogue`` writes it; tests/unit/test_error_catalogue.py compares.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow.providers.common.compat.sdk import AirflowFailException
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from airflow_lro_provider import exceptions
from airflow_lro_provider.attempt.result import settle
from airflow_lro_provider.exceptions import OperationFailedError
from airflow_lro_provider.lro import flows, protocol
from airflow_lro_provider.lro.auth import credentials
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import explain
from airflow_lro_provider.lro.auth.token_transport import Refusal
from airflow_lro_provider.lro.errors import MalformedResponseError, OperationsError, ResponseTooLargeError
from airflow_lro_provider.lro.http.failures import NotConnectedError, explained, no_response
from airflow_lro_provider.lro.http.messages import Request, Response, transport_error, unreadable
from airflow_lro_provider.lro.http.proxy import proxy_for
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

__all__ = ["PAGE", "entries", "render"]

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
PROJECT = "projects/p/locations/us-central1"
NAME = f"{PROJECT}/operations/operation-1"
REFERENCE = read_reference(NAME, "datafusion")
METHOD = read_method(f"{PROJECT}/instances?instanceId=i", "POST", "datafusion")
API = "https://datafusion.googleapis.com"
REQUESTS: dict[str, Request[Any]] = {
    "get": protocol.get(REFERENCE, API),
    "cancel": protocol.cancel(REFERENCE, API),
    "list": protocol.list_(read_parent(PROJECT, "datafusion"), API),
    "start": protocol.start(METHOD, API, {"type": "BASIC"}, request_id="r"),
}
RPC = "type.googleapis.com/google.rpc."
ACTIVATE = "https://console.developers.google.com/apis/api/datafusion.googleapis.com/overview?project=p"
DISABLED = (
    f"Cloud Data Fusion API has not been used in project p before or it is disabled. Enable it by visiting {ACTIVATE}"
    " then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and"
    " retry."
)
QUOTA = (
    "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of service"
    " 'datafusion.googleapis.com' for consumer 'project_number:123'."
)
UNKNOWN_FIELD = "Invalid JSON payload received. Unknown name \"typ\" at 'instance': Cannot find field."


@dataclass(frozen=True)
class Body:
    """A response that was seen.

    :param what: what is wrong, in a few words.
    :param source: where it was seen; names and projects are changed.
    """

    what: str
    verb: str
    http: int
    error: dict[str, Any] | None
    source: str

    @property
    def content(self) -> bytes:
        """The bytes of the body; of a front end that knows no API, a page."""
        if self.error is None:
            return b"<!DOCTYPE html><title>Error (Not Found)!!1</title>"
        return json.dumps({"error": {"code": self.http, **self.error}}).encode()


BODIES = [
    Body(
        "An argument of the method is wrong",
        "start",
        400,
        {
            "message": UNKNOWN_FIELD,
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": f"{RPC}BadRequest",
                    "fieldViolations": [{"field": "instance", "description": UNKNOWN_FIELD}],
                }
            ],
        },
        "https://github.com/mnfst/llm-gateway/issues/1858",
    ),
    Body(
        "The name of a new resource is wrong",
        "start",
        400,
        {
            "message": "Invalid CreateInstance request.",
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": f"{RPC}BadRequest",
                    "fieldViolations": [
                        {
                            "field": "instance.name",
                            "description": "Invalid instance ID: `a`. Instance ID must start with a lowercase letter,"
                            " be 6-30 characters long.",
                        }
                    ],
                }
            ],
        },
        "https://github.com/googleapis/google-cloud-php/issues/509",
    ),
    Body(
        "It has finished already, or is not in the state for it",
        "cancel",
        400,
        {"message": "Precondition check failed.", "status": "FAILED_PRECONDITION"},
        "https://github.com/broadinstitute/cromwell/issues/5986",
    ),
    Body(
        "The token was not accepted",
        "get",
        401,
        {
            "message": "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or"
            " other valid authentication credential. See"
            " https://developers.google.com/identity/sign-in/web/devconsole-project.",
            "status": "UNAUTHENTICATED",
        },
        "https://github.com/rohitaryal/imageFX-api/issues/2",
    ),
    Body(
        "A permission is missing",
        "get",
        403,
        {
            "message": f"Permission 'datafusion.operations.get' denied on resource '//datafusion.googleapis.com/{NAME}'"
            " (or it may not exist).",
            "status": "PERMISSION_DENIED",
            "details": [
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "IAM_PERMISSION_DENIED",
                    "domain": "datafusion.googleapis.com",
                    "metadata": {"permission": "datafusion.operations.get", "resource": NAME},
                }
            ],
        },
        "https://github.com/CrowdStrike/falcon-integration-gateway/pull/98, google/api/error_reason.proto",
    ),
    Body(
        "The API is not enabled",
        "start",
        403,
        {
            "message": DISABLED,
            "status": "PERMISSION_DENIED",
            "details": [
                {
                    "@type": f"{RPC}Help",
                    "links": [{"description": "Google developers console API activation", "url": ACTIVATE}],
                },
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "SERVICE_DISABLED",
                    "domain": "googleapis.com",
                    "metadata": {"service": "datafusion.googleapis.com", "consumer": "projects/p"},
                },
            ],
        },
        "https://github.com/vivet/GoogleApi/issues/397",
    ),
    Body(
        "The token lacks a scope",
        "get",
        403,
        {
            "message": "Request had insufficient authentication scopes.",
            "status": "PERMISSION_DENIED",
            "details": [
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                    "domain": "googleapis.com",
                    "metadata": {"service": "datafusion.googleapis.com"},
                }
            ],
        },
        "google/api/error_reason.proto",
    ),
    Body(
        "The project has no billing account",
        "start",
        403,
        {
            "message": "This API method requires billing to be enabled. Please enable billing on project #p then"
            " retry.",
            "status": "PERMISSION_DENIED",
            "details": [
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "BILLING_DISABLED",
                    "domain": "googleapis.com",
                    "metadata": {"service": "datafusion.googleapis.com", "consumer": "projects/p"},
                }
            ],
        },
        "google/api/error_reason.proto",
    ),
    Body(
        "A perimeter of VPC Service Controls",
        "start",
        403,
        {
            "message": "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: abc",
            "status": "PERMISSION_DENIED",
            "details": [
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "SECURITY_POLICY_VIOLATED",
                    "domain": "googleapis.com",
                    "metadata": {"uid": "abc", "service": "datafusion.googleapis.com"},
                }
            ],
        },
        "google/api/error_reason.proto",
    ),
    Body(
        "The project that is charged is another one's",
        "get",
        403,
        {
            "message": "Caller does not have required permission to use project p. Grant the caller the"
            " roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use"
            " permission.",
            "status": "PERMISSION_DENIED",
            "details": [
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "USER_PROJECT_DENIED",
                    "domain": "googleapis.com",
                    "metadata": {"service": "datafusion.googleapis.com", "consumer": "projects/p"},
                }
            ],
        },
        "google/api/error_reason.proto",
    ),
    Body(
        "Too many requests, said as a missing permission",
        "get",
        403,
        {
            "message": "User Rate Limit Exceeded.",
            "errors": [
                {
                    "domain": "usageLimits",
                    "reason": "userRateLimitExceeded",
                    "message": "User Rate Limit Exceeded.",
                    "extendedHelp": "https://console.developers.google.com/apis/api/datafusion.googleapis.com/quotas?project=p",
                }
            ],
        },
        "https://github.com/tidyverse/googledrive/issues/380",
    ),
    Body(
        "The quota of a day is used up",
        "get",
        403,
        {
            "message": "Daily Limit Exceeded. Please sign up",
            "errors": [
                {
                    "domain": "usageLimits",
                    "reason": "dailyLimitExceeded",
                    "message": "Daily Limit Exceeded. Please sign up",
                    "extendedHelp": "https://code.google.com/apis/console",
                }
            ],
        },
        "https://stackoverflow.com/questions/59655238",
    ),
    Body(
        "No credentials have reached the API",
        "get",
        403,
        {
            "message": "Daily Limit for Unauthenticated Use Exceeded. Continued use requires signup.",
            "errors": [
                {
                    "domain": "usageLimits",
                    "reason": "dailyLimitExceededUnreg",
                    "message": "Daily Limit for Unauthenticated Use Exceeded. Continued use requires signup.",
                    "extendedHelp": "https://code.google.com/apis/console",
                }
            ],
        },
        "https://github.com/googleapis/google-api-php-client/issues/1975",
    ),
    Body(
        "There is no such operation",
        "get",
        404,
        {"message": f"Resource '{NAME}' was not found", "status": "NOT_FOUND"},
        "https://google.aip.dev/151",
    ),
    Body(
        "The parent of a new resource is not there",
        "start",
        404,
        {"message": f"Location {PROJECT} is not found or access is unauthorized.", "status": "NOT_FOUND"},
        "https://google.aip.dev/133",
    ),
    Body("The front end has no route for the verb", "cancel", 404, None, "tests/unit/lro/test_status.py"),
    Body(
        "Another operation is at work on the same resource",
        "start",
        409,
        {"message": "unable to queue the operation", "status": "ABORTED"},
        "hashicorp/terraform-provider-google#17593; the status as in https://google.aip.dev/151",
    ),
    Body(
        "What is to be created is there already",
        "start",
        409,
        {"message": f"Resource '{PROJECT}/instances/i' already exists", "status": "ALREADY_EXISTS"},
        "https://google.aip.dev/133",
    ),
    Body(
        "Too many requests",
        "get",
        429,
        {
            "message": QUOTA,
            "status": "RESOURCE_EXHAUSTED",
            "errors": [{"message": QUOTA, "domain": "global", "reason": "rateLimitExceeded"}],
            "details": [
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "RATE_LIMIT_EXCEEDED",
                    "domain": "googleapis.com",
                    "metadata": {
                        "quota_metric": "datafusion.googleapis.com/read_requests",
                        "quota_limit": "ReadRequestsPerMinutePerProject",
                    },
                },
                {
                    "@type": f"{RPC}Help",
                    "links": [
                        {
                            "description": "Request a higher quota limit.",
                            "url": "https://cloud.google.com/docs/quota#requesting_higher_quota",
                        }
                    ],
                },
            ],
        },
        "https://github.com/google-gemini/gemini-cli/issues/10925",
    ),
    Body(
        "A quota is used up",
        "start",
        429,
        {
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {
                    "@type": f"{RPC}QuotaFailure",
                    "violations": [
                        {
                            "quotaMetric": "datafusion.googleapis.com/instances",
                            "quotaId": "InstancesPerProjectPerRegion",
                            "quotaDimensions": {"location": "us-central1"},
                            "quotaValue": "10",
                        }
                    ],
                },
                {"@type": f"{RPC}RetryInfo", "retryDelay": "26s"},
            ],
        },
        "https://github.com/RooCodeInc/Roo-Code/issues/3883",
    ),
    Body(
        "The service does not support the verb",
        "cancel",
        501,
        {"message": "Operation is not implemented, or supported, or enabled.", "status": "UNIMPLEMENTED"},
        "google/longrunning/operations.proto",
    ),
    Body(
        "The service is unavailable",
        "get",
        503,
        {"message": "The service is currently unavailable.", "status": "UNAVAILABLE"},
        "https://google.aip.dev/194",
    ),
]

# `error` of operations that have failed: google.rpc.Status, whose code is a number.
FAILED: list[tuple[str, dict[str, Any]]] = [
    ("An operation was cancelled", {"code": 1, "message": "The operation was cancelled."}),
    (
        "An operation failed, and says what was missing",
        {
            "code": 9,
            "message": "Permission denied to enable service [dataproc.googleapis.com]",
            "details": [
                {"@type": f"{RPC}PreconditionFailure", "violations": [{"type": "googleapis.com", "subject": "110002"}]},
                {
                    "@type": f"{RPC}ErrorInfo",
                    "reason": "AUTH_PERMISSION_DENIED",
                    "domain": "serviceusage.googleapis.com",
                },
            ],
        },
    ),
    (
        "An operation failed of a quota",
        {
            "code": 8,
            "message": "Resource has been exhausted (e.g. check quota).",
            "details": [
                {
                    "@type": f"{RPC}QuotaFailure",
                    "violations": [{"subject": "QUOTA_EXCEEDED", "description": "FBS quota limit exceeded"}],
                }
            ],
        },
    ),
]


def _raised(call: Callable[[], Any]) -> OperationsError:
    try:
        call()
    except OperationsError as error:
        return error
    raise AssertionError("it raised nothing")


def _untrusted(code: int, message: str) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    with explained(f"{API}/v1/{NAME}", None):
        raise NotConnectedError(error)


def _refused(code: int) -> None:
    with explained(f"{API}/v1/{NAME}", "http://proxy.example:3128"):
        raise NotConnectedError(OSError(), refusal=code)


def _no_credentials() -> None:
    said = (
        "Your default credentials were not found. To set up Application Default Credentials, see"
        " https://cloud.google.com/docs/authentication/external/set-up-adc for more information."
    )
    with patch("google.auth.default", side_effect=DefaultCredentialsError(said)):
        credentials._default(())


def _lost_start() -> OperationsError:
    request = protocol.start(METHOD, API, {})
    flow = flows.start(METHOD, API, {})
    next(flow)
    return _raised(lambda: flow.throw(transport_error(request, no_response(request.url, TimeoutError(), sent=True))))


def _connection(**extra: Any) -> OperationsError:
    return _raised(lambda: ConnectionSettings.from_extra(extra, conn_id="google_cloud_default"))


def _token(status: int, words: str, grant: str) -> OperationsError:
    refusal = Refusal("https://oauth2.googleapis.com/token", grant, status, words)
    return explain(RefreshError(), "robot@p.iam.gserviceaccount.com", refusal)


def _others() -> Iterator[tuple[str, str, OperationsError]]:
    """Errors that are no response of an API: what is wrong, whose it is, and the error."""
    request, jwt = REQUESTS["get"], "urn:ietf:params:oauth:grant-type:jwt-bearer"
    yield (
        "There is no connection",
        "network",
        transport_error(request, no_response(request.url, ConnectionError(), sent=False)),
    )
    for what, code, words in (
        ("The certificate is not trusted", 20, "unable to get local issuer certificate"),
        ("The certificate has expired", 10, "certificate has expired"),
        ("The certificate is another host's", 62, "Hostname mismatch, certificate is not valid for 'h'"),
    ):
        yield what, "network", _raised(partial(_untrusted, code, words))
    with patch.dict(os.environ, {"HTTPS_PROXY": "socks5://proxy.example:1080"}):
        yield "The proxy is of another kind", "network", _raised(lambda: proxy_for(f"{API}/v1"))
    with patch.dict(os.environ, {"HTTPS_PROXY": "http://proxy.example:port"}):
        yield "The proxy is no URL of a server", "network", _raised(lambda: proxy_for(f"{API}/v1"))
    yield "The proxy requires a login", "network", _raised(lambda: _refused(407))
    yield "The proxy does not allow it", "network", _raised(lambda: _refused(403))
    redirect = Response(302, {"location": "https://login.example"}, b"")
    yield "A page that asks for a login comes", "network", _raised(lambda: request.read(redirect))
    yield (
        "A page comes in place of an operation",
        "network",
        _raised(lambda: request.read(Response(200, {}, b"<html>"))),
    )
    yield "A response is cut off", "network", unreadable(request, MalformedResponseError("it is cut off"))
    large = ResponseTooLargeError("it is larger than 8388608 bytes")
    yield "A response is too large", "network", unreadable(request, large)
    yield "The response to a start was lost", "start", _lost_start()
    resource = {"name": f"{PROJECT}/instances/i"}
    not_one = _raised(lambda: protocol.started(REQUESTS["start"], resource))
    yield "A method starts no operation", "start", not_one
    yield "There are no credentials", "connection", _raised(_no_credentials)
    yield "The key is not valid any more", "connection", _token(400, "invalid_grant: Invalid JWT Signature", jwt)
    yield "The token server is busy", "connection", _token(503, "", jwt)
    elsewhere = protocol.get(REFERENCE, "http://127.0.0.1:8900")
    page = Response(404, {}, b"<html>Not found</html>")
    yield "The endpoint serves something else", "connection", _raised(lambda: elsewhere.read(page))
    yield "A field is misspelt", "connection", _connection(keyfile="…")
    yield "The extra is a key", "connection", _connection(type="service_account", private_key="…")
    yield "A name is not one", "argument", _raised(lambda: read_reference(f"{NAME}?key=abc", "datafusion"))
    yield "A service is unknown", "argument", _raised(lambda: read_reference(NAME, "datafusio"))


@dataclass(frozen=True)
class Entry:
    """One error as it is shown.

    :param sent: what the service sent.
    :param error: its class.
    :param means: what that means, by its docstring.
    :param again: whether it is tried again.
    """

    section: str
    what: str
    sent: str
    error: str
    means: str
    again: str
    text: str


def _again(error: OperationsError, verb: str) -> str:
    if error.is_ours:
        return "yes, until the deadline; the connection is read again meanwhile"
    if verb == "argument":
        return "no, nothing was sent"
    if error.transient and verb == "start":
        return "yes, `num_retries` times within five minutes, if nothing can be done twice"
    if error.transient:
        return "yes, until the deadline"
    return "no" if verb == "start" else "no, once it is confirmed"


def _means(error: Exception) -> str:
    return (type(error).__doc__ or "").partition("\n")[0].rstrip(".").replace("``", "`")


def _settled(error: dict[str, Any]) -> Exception:
    operation = Operation.from_json({"name": NAME, "done": True, "error": error})
    assert operation.outcome is not None
    try:
        settle(REFERENCE, operation.outcome, operation, fail_on={operation.outcome.value}, final=False)
    except OperationFailedError as failed:
        return failed
    raise AssertionError("it is no failure")


def entries() -> list[Entry]:
    """All errors of the catalogue."""
    variables = [name for name in os.environ if name.upper().endswith(("_PROXY", "_CA_BUNDLE")) or "SSL_CERT" in name]
    with patch.dict(os.environ):
        for name in variables:
            del os.environ[name]
        return list(_entries())


def _entries() -> Iterator[Entry]:
    for body in BODIES:
        response, request = Response(body.http, {}, body.content), REQUESTS[body.verb]
        error: Any = _raised(lambda request=request, response=response: request.read(response))  # type: ignore[misc]
        again = _again(error, body.verb)
        sent = f"{body.http} to {body.verb}"
        kind = f"{type(error).__name__}, {error.status}"
        yield Entry("Refused requests", body.what, sent, kind, _means(error), again, str(error))
    for what, status in FAILED:
        again = "by a retry of the task that has started it; a sensor fails at once"
        failed = _settled(status)
        kind = OperationFailedError.__name__
        yield Entry("Failed operations", what, f"code {status['code']}", kind, _means(failed), again, str(failed))
    titles = {
        "network": "No response, or none that can be read",
        "start": "Starts",
        "connection": "Credentials and connections",
        "argument": "Arguments",
    }
    for what, verb, error in _others():
        yield Entry(titles[verb], what, "", type(error).__name__, _means(error), _again(error, verb), str(error))


INTRODUCTION = """\
# Errors

What can go wrong, as a task's log shows it: what it means, whether it is tried again, and what to do. This page is
generated from responses that Google's APIs have sent (`tests/error_catalogue.py` has their sources), by the code that
reads them, and a test compares. Names are changed; the tree of the classes is in `airflow_lro_provider/lro/errors.py`.

"Until the deadline" is the task's `timeout`: such an error never ends a wait, and a task without a timeout waits on.
"Confirmed" is an error that was given three times in at least ten seconds: one alone ends no wait.
"""


def _ends() -> Iterator[str]:
    """The errors that a task itself ends with, as a table."""
    yield "A task that fails ends with one of these (`airflow_lro_provider.exceptions`), or with one of those below:\n"
    yield "| error | what it means | a retry follows, if there is one left |\n|---|---|---|"
    for name in exceptions.__all__:
        error = getattr(exceptions, name)
        means = " ".join(error.__doc__.partition("\n\n")[0].split())
        means = means.replace("The same", "`OperationFailedError`").replace("``", "`")
        again = "no" if issubclass(error, AirflowFailException) else "yes"
        if issubclass(error, exceptions.OperationKilled):
            again = "yes, unless somebody has marked or cleared the task"
        yield f"| `{name}` | {means} | {again} |"


def render() -> str:
    """The whole page."""
    lines, section = [INTRODUCTION, *_ends(), ""], ""
    for entry in entries():
        if entry.section != section:
            section = entry.section
            lines.append(f"## {section}\n")
        sent = f"{entry.sent}: " if entry.sent else ""
        lines.append(f"### {entry.what}\n\n{sent}`{entry.error}`: {entry.means}. Tried again: {entry.again}.\n")
        lines.append(f"```text\n{entry.text}\n```\n")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
