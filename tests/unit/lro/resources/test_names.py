"""Every way to name an operation, and every refusal with its cure. Nothing here reaches a network."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lro_provider.lro.errors import (
    ForbiddenEndpointError,
    InvalidReferenceError,
    InvalidRequestError,
    UnknownServiceError,
)
from airflow_lro_provider.lro.resources.catalog import known_services
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.names import (
    OperationReference,
    Parent,
    operation_in,
    read_parent,
    read_reference,
)

NAMES = {
    "earthengine": "projects/my-project/operations/ABCDEFGHIJKLMNOPQRSTUVWX",
    "developerconnect": "projects/my-project/locations/us-central1/operations/operation-1-2-3",
    "datafusion": "projects/my-project/locations/europe-west4/operations/operation-1-2-3",
    "automl": "projects/123456/locations/us-central1/operations/ICN7134527354",
    "aiplatform": "projects/123456/locations/us-central1/endpoints/4711/operations/8888",
}
HOSTS = {
    **{service: f"{service}.googleapis.com" for service in NAMES},
    "aiplatform": "us-central1-aiplatform.googleapis.com",
    "datafusion": "datafusion.europe-west4.rep.googleapis.com",
    "developerconnect": "developerconnect.us-central1.rep.googleapis.com",
}
VERSIONS = [(service, version) for service in NAMES for version in known_services()[service].versions]
DATAFUSION = NAMES["datafusion"]

FORMS: dict[str, Callable[[str, str, str], tuple[Any, dict[str, str]]]] = {
    "plain name": lambda service, version, name: (name, {"service": service, "api_version": version}),
    "plain name, host as service": lambda service, version, name: (
        name,
        {"service": f"{service}.googleapis.com", "api_version": version},
    ),
    "full name": lambda service, version, name: (
        f"//{service}.googleapis.com/{name}",
        {"api_version": version},
    ),
    "full name, regional host": lambda service, version, name: (
        f"//{HOSTS[service]}/{name}",
        {"api_version": version},
    ),
    "full name and service": lambda service, version, name: (
        f"//{service}.googleapis.com/{name}",
        {"service": service, "api_version": version},
    ),
    "URL": lambda service, version, name: (f"https://{service}.googleapis.com/{version}/{name}", {}),
    "URL, regional host": lambda service, version, name: (f"https://{HOSTS[service]}/{version}/{name}", {}),
    "URL in capitals": lambda service, version, name: (
        f"HTTPS://{service.upper()}.GoogleAPIs.com/{version}/{name}",
        {},
    ),
    "URL, service and version": lambda service, version, name: (
        f"https://{service}.googleapis.com/{version}/{name}",
        {"service": service, "api_version": version},
    ),
    "dict of the operation": lambda service, version, name: (
        {"name": name, "done": False, "metadata": {}},
        {"service": service, "api_version": version},
    ),
    "result of a task of this package": lambda service, version, name: (
        {"outcome": "STILL_RUNNING", "operation": {"name": name}},
        {"service": service, "api_version": version},
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize(("service", "version"), VERSIONS, ids=lambda value: value)
def test_every_form_means_the_same(form: Callable[..., tuple[Any, dict[str, str]]], service: str, version: str) -> None:
    """All systems, all versions, all forms: each gives the same service, version and name, and the location's host.

    A host to connect to, as in a URL, is used as it is; but Vertex AI's global one serves no location.
    """
    value, arguments = form(service, version, NAMES[service])
    named = f"{service}.googleapis.com"
    is_exact = arguments.get("service") == named or str(value).lower().startswith(f"https://{named}/")
    host = named if is_exact and service != "aiplatform" else HOSTS[service]
    assert read_reference(value, **arguments) == OperationReference(service, version, NAMES[service], host)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/" + DATAFUSION, "begins with a slash"),
        ("null", "probably a template of a value that is not there"),
        (" None\n", "probably a template of a value that is not there"),
        ("x", r"Expected projects/\*/locations/\*/operations/\*\.$"),
        (None, "that task returned nothing: it has no XCom"),
        ([DATAFUSION], r"\.expand\(operation_name=…\)"),
        (SimpleNamespace(task_id="start", output=None), "a task and not what it returns: operation_name=start.output"),
        ("locations/l/operations/o", "neither the connection's `project`"),
    ],
    ids=str,
)
def test_what_people_give_instead_of_a_name(value: Any, words: str) -> None:
    """C11: the error says what was probably meant, and what to give."""
    with pytest.raises(InvalidReferenceError, match=words):
        read_reference(value, "datafusion")


def test_an_operation_of_a_published_model_is_said_to_be_one() -> None:
    """B14: Veo's operations are polled by a method of their own; those of a model of one's own are usual ones."""
    root = "projects/p/locations/us-central1"
    with pytest.raises(InvalidReferenceError, match=r"published models \(Veo\) are not supported; nothing was sent"):
        read_reference(f"{root}/publishers/google/models/veo-3.0/operations/o", "aiplatform")
    assert read_reference(f"{root}/models/m/operations/o", "aiplatform").name.endswith("models/m/operations/o")


@pytest.mark.parametrize("service", ["datafusion", "aiplatform"])
def test_a_name_may_begin_with_its_location(service: str) -> None:
    """B15: names and parents lie in the connection's project then."""
    whole = "projects/mine/locations/us-central1"
    assert read_reference("locations/us-central1/operations/o", service, project="mine").name == f"{whole}/operations/o"
    assert read_parent("locations/us-central1", service, project="mine").name == whole
    assert read_reference("locations/l/operations/o", "vision", project="mine").name == "locations/l/operations/o"


@pytest.mark.parametrize("service", NAMES)
def test_the_preferred_version_is_the_default(service: str) -> None:
    """Without a version, v1 is used."""
    assert read_reference(NAMES[service], service).version == "v1"
    assert read_reference(f"//{HOSTS[service]}/{NAMES[service]}").version == "v1"


@pytest.mark.parametrize(
    ("name", "version", "host"),
    [
        ("projects/p/locations/us-central1/operations/1", "v1", "us-central1-aiplatform.googleapis.com"),
        (
            "projects/p/locations/europe-west12/pipelineJobs/j/operations/1",
            "v1",
            "europe-west12-aiplatform.googleapis.com",
        ),
        ("projects/p/locations/us/ragCorpora/1/operations/1", "v1", "aiplatform.us.rep.googleapis.com"),
        ("projects/p/locations/eu/ragCorpora/1/operations/1", "v1", "aiplatform.eu.rep.googleapis.com"),
        ("projects/p/locations/global/operations/1", "v1", "aiplatform.googleapis.com"),
        ("endpoints/4711/operations/1", "v1", "aiplatform.googleapis.com"),
        ("operations/1", "v1", "aiplatform.googleapis.com"),
        ("ragEngineConfig/operations/1", "v1", "aiplatform.googleapis.com"),
        (
            "projects/p/locations/us-east4/tensorboards/1/experiments/2/runs/3/timeSeries/4/operations/5",
            "v1",
            "us-east4-aiplatform.googleapis.com",
        ),
        ("projects/p/locations/us-east4/solvers/1/operations/2", "v1beta1", "us-east4-aiplatform.googleapis.com"),
        ("projects/p/locations/us-east4/agents/1/operations/2", "v1beta1", "us-east4-aiplatform.googleapis.com"),
    ],
)
def test_vertex_hosts(name: str, version: str, host: str) -> None:
    """Requests for Vertex AI go to the host of the name's location; a name without one at the global host."""
    assert read_reference(name, "aiplatform", version).host == host
    assert read_reference(f"//aiplatform.googleapis.com/{name}", None, version).host == host


@pytest.mark.parametrize(
    "value",
    [
        "//datafusion.us-east1.rep.googleapis.com/projects/p/locations/us-east1/operations/o",
        "//us-central1-aiplatform.mtls.googleapis.com/projects/p/locations/us-central1/operations/o",
        "//atlantis9-aiplatform.googleapis.com/projects/p/locations/atlantis9/operations/o",
        "//datafusion.mtls.googleapis.com/projects/p/locations/us-east1/operations/o",
        "//automl.mtls.googleapis.com/projects/p/locations/us-central1/operations/o",
    ],
    ids=["regional", "regional mTLS", "a region newer than this package", "mTLS", "mTLS of a service with regions"],
)
def test_a_named_host_of_google_is_kept(value: str) -> None:
    """Whoever names one of Google's hosts for the service is taken at their word."""
    reference = read_reference(value)
    assert reference.host == value.split("/")[2]
    assert endpoint_of(reference) == f"https://{reference.host}"


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("earthengine", "projects/my-org.com:p/operations/a/b/c"),
        ("earthengine", "projects/earthengine-legacy/operations/(default):x@1=2"),
        ("earthengine", "projects/p/operations/a..b"),
        ("earthengine", "projects/p/operations/..."),
        ("earthengine", "projects/p/operations/cancel"),
        ("earthengine", "projects/p/operations/a:cancel/b"),
        ("earthengine", "projects/p/operations/a:cancelled"),
        ("datafusion", "projects/p/locations/us-central1/operations/operation-1:2~3_4+5"),
        ("datafusion", "projects/p/locations/a/operations/" + "o" * (2048 - 34)),
    ],
)
def test_odd_but_right_names(service: str, name: str) -> None:
    """Colons, parentheses, nested parts and dots within a part are characters of real names."""
    assert read_reference(name, service).name == name


# --- refusals --------------------------------------------------------------------------------------

SEGMENTS = r"Only letters, digits and \. _ ~ - : = @ \( \) and the like are allowed between slashes"
REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    # what was given is no name at all
    "None": (None, {"service": "datafusion"}, InvalidReferenceError, "by a string or by its dict, not by NoneType"),
    "a number": (7.5, {"service": "datafusion"}, InvalidReferenceError, "by a string or by its dict, not by float"),
    "bytes": (b"x", {"service": "datafusion"}, InvalidReferenceError, "by a string or by its dict, not by bytes"),
    "a list": ([DATAFUSION], {"service": "datafusion"}, InvalidReferenceError, "not by list"),
    "empty": ("", {"service": "datafusion"}, InvalidReferenceError, "is empty"),
    "an empty dict": ({}, {"service": "datafusion"}, InvalidReferenceError, "this dict has no `name`"),
    "a dict without a name": (
        {"id": "1", "status": "DONE"},
        {"service": "datafusion"},
        InvalidReferenceError,
        r"no `name`, so it is not an operation \(its keys: id, status\)",
    ),
    "a dict with an odd name": (
        {"name": 7.5},
        {"service": "datafusion"},
        InvalidReferenceError,
        "this dict has no `name`",
    ),
    "a dict that names a URL": (
        {"name": f"https://datafusion.googleapis.com/v1/{DATAFUSION}"},
        {"service": "datafusion"},
        InvalidReferenceError,
        "names a host; a plain name was expected",
    ),
    "a dict that names a host": (
        {"name": f"//evil.example/{DATAFUSION}"},
        {"service": "datafusion"},
        InvalidReferenceError,
        "names a host; a plain name was expected",
    ),
    "a result that names a host": (
        {"operation": {"name": f"//evil.example/{DATAFUSION}"}},
        {"service": "datafusion"},
        InvalidReferenceError,
        "names a host",
    ),
    "a dict that Jinja turned into a string": (
        str({"name": DATAFUSION}),
        {"service": "datafusion"},
        InvalidReferenceError,
        r"Jinja turned into a string.*operation_name=start\.output.*xcom_pull\(task_ids='start'\)\['name'\]",
    ),
    "a dict that became JSON": (
        '  {"name": "' + DATAFUSION + '"}',
        {"service": "datafusion"},
        InvalidReferenceError,
        "Jinja turned into a string",
    ),
    # malformed names
    "a leading slash": ("/" + DATAFUSION, {"service": "datafusion"}, InvalidReferenceError, "a slash"),
    "a trailing slash": (DATAFUSION + "/", {"service": "datafusion"}, InvalidReferenceError, "an empty part"),
    "two slashes": (
        "projects/p//operations/o",
        {"service": "earthengine"},
        InvalidReferenceError,
        "it has an empty part. " + SEGMENTS,
    ),
    "a dot": ("projects/p/operations/./o", {"service": "earthengine"}, InvalidReferenceError, r"the part '\.'"),
    "dots": (
        "projects/p/operations/../../x/operations/o",
        {"service": "earthengine"},
        InvalidReferenceError,
        r"the part '\.\.'\. " + SEGMENTS,
    ),
    "an encoded slash": ("projects/p/operations/a%2Fb", {"service": "earthengine"}, InvalidReferenceError, "'a%2Fb'"),
    "encoded dots": ("projects/p/operations/%2e%2e/b", {"service": "earthengine"}, InvalidReferenceError, "'%2e%2e'"),
    "a query": (DATAFUSION + "?alt=json", {"service": "datafusion"}, InvalidReferenceError, r"operation-1-2-3\?alt"),
    "a fragment": (DATAFUSION + "#x", {"service": "datafusion"}, InvalidReferenceError, "operation-1-2-3#x"),
    "a backslash": ("projects\\p\\operations\\o", {"service": "earthengine"}, InvalidReferenceError, "the part"),
    "a space": ("projects/p /operations/o", {"service": "earthengine"}, InvalidReferenceError, "the part 'p '"),
    "a newline": ("projects/p\n/operations/o", {"service": "earthengine"}, InvalidReferenceError, "the part 'p.n'"),
    "a header": (
        DATAFUSION + "\r\nHost: evil.example",
        {"service": "datafusion"},
        InvalidReferenceError,
        "the part",
    ),
    "a null": ("projects/p/operations/a\x00b", {"service": "earthengine"}, InvalidReferenceError, "the part"),
    "a delete character": (
        "projects/p/operations/a\x7f",
        {"service": "earthengine"},
        InvalidReferenceError,
        "the part",
    ),
    "letters beyond ASCII": (
        "projects/p/operations/ö",
        {"service": "earthengine"},
        InvalidReferenceError,
        "the part 'ö'",
    ),
    "a full-width slash": (
        "projects/p\uff0foperations/o",
        {"service": "earthengine"},
        InvalidReferenceError,
        "the part",
    ),
    "digits beyond ASCII": (
        "projects/p/operations/\u0661",
        {"service": "earthengine"},
        InvalidReferenceError,
        "the part",
    ),
    "a lone surrogate": ("projects/p/operations/\ud800", {"service": "earthengine"}, InvalidReferenceError, "the part"),
    "too long": (
        "projects/p/operations/" + "o" * (2049 - 22),
        {"service": "earthengine"},
        InvalidReferenceError,
        "longer than 2048 characters",
    ),
    "a :cancel": (
        DATAFUSION + ":cancel",
        {"service": "datafusion"},
        InvalidReferenceError,
        "ends in ':cancel', which belongs to the URL of that method and not to the name. Leave it out",
    ),
    "a :wait in a URL": (
        f"https://datafusion.googleapis.com/v1/{DATAFUSION}:wait",
        {},
        InvalidReferenceError,
        "ends in ':wait'",
    ),
    # a name of something else
    "no operation": (
        "projects/p/locations/us-central1/instances/i",
        {"service": "datafusion"},
        InvalidReferenceError,
        r"not a name of an operation of Data Fusion \(datafusion v1\)\."
        r" Expected projects/\*/locations/\*/operations/\*\.$",
    ),
    "an id": (
        "operation-1-2-3",
        {"service": "datafusion"},
        InvalidReferenceError,
        r"Expected projects/\*/locations/\*/operations/\*",
    ),
    "a parent": (
        "projects/p/locations/us-central1/operations",
        {"service": "datafusion"},
        InvalidReferenceError,
        "Expected projects/",
    ),
    "Earth Engine's name at Data Fusion": (
        NAMES["earthengine"],
        {"service": "datafusion"},
        InvalidReferenceError,
        "It looks like one of earthengine, ",
    ),
    "Vertex AI's name at Data Fusion": (
        NAMES["aiplatform"],
        {"service": "datafusion"},
        InvalidReferenceError,
        "It looks like one of aiplatform",
    ),
    "Data Fusion's name at Earth Engine": (
        DATAFUSION,
        {"service": "earthengine"},
        InvalidReferenceError,
        r"Expected projects/\*/operations/\*\*\. It looks like one of .*datafusion",
    ),
    "a name of v1beta1 at v1": (
        "projects/p/locations/us-central1/solvers/1/operations/2",
        {"service": "aiplatform", "api_version": "v1"},
        InvalidReferenceError,
        r"\(aiplatform v1\)\. Expected .* or one of \d+ others\.$",
    ),
    # no service, or another one
    "no service, a shared name": (
        DATAFUSION,
        {},
        InvalidReferenceError,
        r"does not say which API it belongs to; give service=… \(.*datafusion.*developerconnect.*\), or a full name //",
    ),
    "no service, a dict": (
        {"name": DATAFUSION},
        {},
        InvalidReferenceError,
        "does not say which API it belongs to; give service=",
    ),
    "no service, a name of nobody": (
        "buckets/b/operations/o",
        {},
        InvalidReferenceError,
        r"not a name of an operation of any known API \(`airflow-lro services` lists them\)",
    ),
    "service with a near miss": (
        DATAFUSION,
        {"service": "data-fusion"},
        UnknownServiceError,
        "Unknown service 'data-fusion'. Did you mean 'datafusion'",
    ),
    "vertex": (NAMES["aiplatform"], {"service": "vertex"}, UnknownServiceError, "Did you mean 'aiplatform'"),
    "ee": (NAMES["earthengine"], {"service": "ee"}, UnknownServiceError, "Did you mean 'earthengine'"),
    "a full name of another service": (
        f"//automl.googleapis.com/{DATAFUSION}",
        {"service": "datafusion"},
        InvalidReferenceError,
        r"is at AutoML \(automl\), but `service` says 'datafusion'",
    ),
    "a URL of another service": (
        f"https://automl.googleapis.com/v1/{DATAFUSION}",
        {"service": "datafusion"},
        InvalidReferenceError,
        r"is at AutoML \(automl\), but `service` says 'datafusion'",
    ),
    # versions
    "an unknown version": (
        NAMES["developerconnect"],
        {"service": "developerconnect", "api_version": "v1beta1"},
        UnknownServiceError,
        "no API version 'v1beta1'. It has: v1",
    ),
    "a URL of an unknown version": (
        f"https://datafusion.googleapis.com/v2/{DATAFUSION}",
        {},
        UnknownServiceError,
        "no API version 'v2'. It has: v1, v1beta1",
    ),
    "a URL without a version": (
        f"https://datafusion.googleapis.com/{DATAFUSION}",
        {},
        UnknownServiceError,
        "no API version 'projects'. It has: v1, v1beta1",
    ),
    "two versions": (
        f"https://datafusion.googleapis.com/v1/{DATAFUSION}",
        {"api_version": "v1beta1"},
        InvalidReferenceError,
        "is of version 'v1', but `api_version` says 'v1beta1'",
    ),
    # places
    "an odd location": (
        "projects/p/locations/US/operations/1",
        {"service": "datafusion"},
        InvalidReferenceError,
        "'US' is not a location; expected one like 'us-central1'",
    ),
    "a location that would be another host": (
        "projects/p/locations/evil.example:/operations/1",
        {"service": "aiplatform"},
        InvalidReferenceError,
        "is not a location",
    ),
    "all locations": (
        "projects/p/locations/-/operations/1",
        {"service": "datafusion"},
        InvalidReferenceError,
        "'-' is not a location",
    ),
    "host and location differ": (
        "//europe-west4-aiplatform.googleapis.com/projects/p/locations/us-central1/operations/1",
        {},
        InvalidReferenceError,
        "the host serves the location 'europe-west4', but the name is in 'us-central1'",
    ),
    "URL and location differ": (
        "https://datafusion.us-east1.rep.googleapis.com/v1/projects/p/locations/us-west1/operations/1",
        {},
        InvalidReferenceError,
        "the host serves the location 'us-east1', but the name is in 'us-west1'",
    ),
    "multi-region and location differ": (
        "//aiplatform.eu.rep.googleapis.com/projects/p/locations/us/operations/1",
        {},
        InvalidReferenceError,
        "the host serves the location 'eu', but the name is in 'us'",
    ),
    # hosts
    "a foreign host": (
        f"//evil.example/{DATAFUSION}",
        {},
        ForbiddenEndpointError,
        "not a known Google API; nothing was sent.*name it in the connection's extra as `api_endpoint`",
    ),
    "a foreign URL": (f"https://evil.example/v1/{DATAFUSION}", {}, ForbiddenEndpointError, "not a known Google API"),
    "a foreign URL over http": (
        f"http://evil.example/v1/{DATAFUSION}",
        {},
        ForbiddenEndpointError,
        "not a known Google API",
    ),
    "a host that only begins like Google's": (
        f"https://datafusion.googleapis.com.evil.example/v1/{DATAFUSION}",
        {},
        ForbiddenEndpointError,
        "not a known Google API",
    ),
    "another Google host": (
        f"https://workflowexecutions.googleapis.com/v1/{DATAFUSION}",
        {},
        ForbiddenEndpointError,
        "not a known Google API",
    ),
    "http to Google": (
        f"http://datafusion.googleapis.com/v1/{DATAFUSION}",
        {},
        InvalidReferenceError,
        "Google's APIs are reached over https only; nothing was sent",
    ),
    "a user in the URL": (
        f"https://datafusion.googleapis.com@evil.example/v1/{DATAFUSION}",
        {},
        InvalidReferenceError,
        "has no usable host",
    ),
    "a user in the full name": (
        f"//user@datafusion.googleapis.com/{DATAFUSION}",
        {},
        InvalidReferenceError,
        "has no usable host",
    ),
    "a backslash in the host": (
        f"https://evil.example\\datafusion.googleapis.com/v1/{DATAFUSION}",
        {},
        InvalidReferenceError,
        "has no usable host",
    ),
    "no host": (f"///{DATAFUSION}", {}, InvalidReferenceError, "has no usable host"),
    "another scheme": (
        f"ftp://datafusion.googleapis.com/v1/{DATAFUSION}",
        {},
        InvalidReferenceError,
        "must begin with https://",
    ),
    "a page of the console": (
        "https://console.cloud.google.com/data-fusion/instances?project=p",
        {},
        ForbiddenEndpointError,
        "not a known Google API",
    ),
}


@pytest.mark.parametrize(("value", "arguments", "error", "cure"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(value: Any, arguments: dict[str, Any], error: type[Exception], cure: str) -> None:
    """What cannot be a reference is refused before any request, with its own kind of error and the way out."""
    with pytest.raises(InvalidRequestError, match=cure) as caught:
        read_reference(value, **arguments)
    assert type(caught.value) is error


@pytest.mark.parametrize("value", ["{{ ti.xcom_pull(task_ids='start') }}", "{% if x %}"], ids=["{{", "{%"])
def test_a_template_that_was_not_rendered_is_refused(value: str) -> None:
    """A template that reached the core is no name."""
    with pytest.raises(InvalidReferenceError):
        read_reference(value, "datafusion")


def test_messages_do_not_grow_with_what_was_given() -> None:
    """Whatever was given, a message stays readable."""
    with pytest.raises(InvalidReferenceError) as caught:
        read_reference("projects/" + "x y" * 600, "datafusion")
    assert len(str(caught.value)) < 600


def test_the_name_of_the_operation_itself_comes_first() -> None:
    """A dict that is an operation is read as one, whatever else is in it."""
    value = {"name": DATAFUSION, "operation": {"name": "projects/p/locations/l/operations/other"}}
    assert read_reference(value, "datafusion").name == DATAFUSION


def test_refusals_are_value_errors() -> None:
    """A refusal can be caught as what it is in Python: a ValueError."""
    with pytest.raises(ValueError, match="is empty"):
        read_reference("", "datafusion")


# --- the connection's own endpoint -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("api_endpoint", "url", "service"),
    [
        ("https://psc.example", f"https://psc.example/v1/{DATAFUSION}", "datafusion"),
        ("https://psc.example/", f"https://psc.example/v1/{DATAFUSION}", "datafusion"),
        ("http://127.0.0.1:8080/{service}", f"http://127.0.0.1:8080/datafusion/v1/{DATAFUSION}", "datafusion"),
        ("http://127.0.0.1:8080/{service}", f"http://127.0.0.1:8080/datafusion/v1/{DATAFUSION}", None),
    ],
    ids=["host", "trailing slash", "path with the service", "the service is read from the path"],
)
def test_a_url_of_the_connections_endpoint(api_endpoint: str, url: str, service: str | None) -> None:
    """A URL that begins with the connection's endpoint is understood, and goes back there."""
    reference = read_reference(url, service, api_endpoint=api_endpoint)
    assert (reference.service, reference.version, reference.name) == ("datafusion", "v1", DATAFUSION)
    assert f"{endpoint_of(reference, api_endpoint)}/v1/{DATAFUSION}" == url


def test_the_connections_endpoint_serves_every_location() -> None:
    """What the connection names is the user's own word: its host is not held against the operation's location."""
    url = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/operations/1"
    endpoint = "https://europe-west4-aiplatform.googleapis.com"
    reference = read_reference(url, "aiplatform", api_endpoint=endpoint)
    assert endpoint_of(reference, endpoint) == endpoint
    with pytest.raises(InvalidReferenceError, match="the host serves the location 'europe-west4'"):
        read_reference(url, "aiplatform")


def test_a_url_beside_the_connections_endpoint_is_foreign() -> None:
    """A host or path that only begins like the connection's endpoint is not that endpoint."""
    for url in (f"https://psc.example.evil.example/v1/{DATAFUSION}", f"https://psc.example:444/v1/{DATAFUSION}"):
        reference = read_reference(url, "datafusion", api_endpoint="https://psc.example")
        with pytest.raises(ForbiddenEndpointError, match="neither a host of Data Fusion nor the connection's"):
            endpoint_of(reference, "https://psc.example")


@pytest.mark.parametrize(
    ("value", "api_endpoint", "endpoint"),
    [
        (DATAFUSION, None, "https://datafusion.europe-west4.rep.googleapis.com"),
        (NAMES["aiplatform"], None, "https://us-central1-aiplatform.googleapis.com"),
        (DATAFUSION, "https://psc.example/", "https://psc.example"),
        (DATAFUSION, "http://localhost:8080/{service}", "http://localhost:8080/datafusion"),
        (NAMES["aiplatform"], "http://localhost:8080/{service}", "http://localhost:8080/aiplatform"),
        (NAMES["aiplatform"], "https://{service}-mine.p.googleapis.com", "https://aiplatform-mine.p.googleapis.com"),
    ],
)
def test_endpoint_of(value: str, api_endpoint: str | None, endpoint: str) -> None:
    """Requests go to Google's host over https, or to the endpoint that the connection names."""
    service = "aiplatform" if value == NAMES["aiplatform"] else "datafusion"
    assert endpoint_of(read_reference(value, service), api_endpoint) == endpoint


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "datafusion.googleapis.com.evil.example",
        "automl-datafusion.googleapis.com.",
        "datafusion.googleapis.com:443",
        "storage.googleapis.com",
        "automl.googleapis.com",
        "127.0.0.1",
        "169.254.169.254",
        "[::1]:80",
    ],
)
@pytest.mark.parametrize("api_endpoint", [None, "https://psc.example"], ids=["no endpoint", "an endpoint"])
def test_a_foreign_host_is_never_sent_to(host: str, api_endpoint: str | None) -> None:
    """A host that the user's reference names goes nowhere, unless it is Google's or the connection's."""
    reference = OperationReference("datafusion", "v1", DATAFUSION, host)
    with pytest.raises(ForbiddenEndpointError, match=r"nothing was sent") as caught:
        endpoint_of(reference, api_endpoint)
    assert host in str(caught.value)


def test_a_host_that_cannot_exist_is_refused() -> None:
    """A location that makes a host too long for DNS (64 characters in a part) is refused before the network is."""
    location = "x" * 64
    with pytest.raises(InvalidRequestError):
        endpoint_of(
            read_reference(f"//{location}-aiplatform.googleapis.com/projects/p/locations/{location}/operations/1")
        )


def test_http_to_a_foreign_host_is_never_sent() -> None:
    """A plain http URL of a host that nobody vouches for is refused at the latest when it would be used."""
    with pytest.raises(ForbiddenEndpointError, match="nothing was sent"):
        endpoint_of(read_reference(f"http://evil.example/v1/{DATAFUSION}", "datafusion"))


def test_http_in_a_reference_never_lowers_the_connections_https() -> None:
    """The scheme is the connection's, whatever the URL of the reference says."""
    reference = read_reference(f"http://psc.example/v1/{DATAFUSION}", "datafusion", api_endpoint="https://psc.example")
    assert endpoint_of(reference, "https://psc.example") == "https://psc.example"


# --- parents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "parent", "name", "host"),
    [
        ("earthengine", "projects/p", "projects/p", "earthengine"),
        ("earthengine", "projects/p/operations", "projects/p", "earthengine"),
        ("datafusion", "projects/p/locations/l", "projects/p/locations/l", "datafusion"),
        ("datafusion", "projects/p/locations/-", "projects/p/locations/-", "datafusion"),
        ("developerconnect", "projects/p/locations/l", "projects/p/locations/l", "developerconnect"),
        ("automl", "projects/p/locations/eu", "projects/p/locations/eu", "eu-automl"),
        ("aiplatform", "projects/p/locations/us-east4", "projects/p/locations/us-east4", "us-east4-aiplatform"),
        (
            "aiplatform",
            "projects/p/locations/us-east4/endpoints/1",
            "projects/p/locations/us-east4/endpoints/1",
            "us-east4-aiplatform",
        ),
        ("aiplatform", "endpoints/1", "endpoints/1", "aiplatform"),
    ],
)
def test_read_parent(service: str, parent: str, name: str, host: str) -> None:
    """A parent is what stands before `/operations`, with or without it, at the host of its location."""
    assert read_parent(parent, service) == Parent(service, "v1", name, f"{host}.googleapis.com")


@pytest.mark.parametrize(
    ("service", "parent", "why"),
    [
        ("datafusion", None, "a parent is a string, not NoneType"),
        ("datafusion", "", "the parent is empty"),
        ("datafusion", "projects/p", r"Expected projects/\*/locations/\*\."),
        ("datafusion", DATAFUSION, "not a parent of operations of Data Fusion"),
        ("earthengine", "projects/p/locations/l", r"Expected projects/\*\."),
        ("datafusion", "projects/p/locations/../x", "is not a parent: it has the part '..'"),
        ("datafusion", "projects/p/locations/l?x", "is not a parent: it has the part"),
    ],
)
def test_refused_parents(service: str, parent: Any, why: str) -> None:
    """What cannot be listed is refused, and the message says what could be."""
    with pytest.raises(InvalidReferenceError, match=why):
        read_parent(parent, service)


# --- stored references -----------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "version"), VERSIONS, ids=lambda value: value)
def test_a_reference_survives_being_stored(service: str, version: str) -> None:
    """What a trigger or a record stores is read back as the same reference."""
    reference = read_reference(NAMES[service], service, version)
    assert OperationReference.from_dict(reference.to_dict()) == reference


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"service": "nope"}, UnknownServiceError),
        ({"service": None}, UnknownServiceError),
        ({"version": "v9"}, UnknownServiceError),
        ({"name": "projects/p/locations/l/operations/../o"}, InvalidReferenceError),
        ({"name": NAMES["aiplatform"]}, InvalidReferenceError),
        ({"name": None}, InvalidReferenceError),
        ({"host": None}, InvalidReferenceError),
        ({"host": "evil.example/x"}, InvalidReferenceError),
        ({"host": "datafusion.googleapis.com@evil.example"}, InvalidReferenceError),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_a_tampered_record_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    """A stored reference is checked again when it is read."""
    stored = read_reference(DATAFUSION, "datafusion").to_dict()
    with pytest.raises(error):
        OperationReference.from_dict({**stored, **change})


def test_a_tampered_host_is_not_sent_to() -> None:
    """A stored host that is not Google's is stopped where the endpoint is chosen."""
    stored = {**read_reference(DATAFUSION, "datafusion").to_dict(), "host": "evil.example"}
    with pytest.raises(ForbiddenEndpointError, match=r"evil\.example"):
        endpoint_of(OperationReference.from_dict(stored))


def test_a_reference_reads_as_its_full_name() -> None:
    """In messages a reference is its full resource name, which can be pasted back."""
    reference = read_reference(DATAFUSION, "datafusion")
    assert str(reference) == f"//datafusion.europe-west4.rep.googleapis.com/{DATAFUSION}"
    assert read_reference(str(reference)) == reference


@pytest.mark.parametrize("text", ["//{}/" + DATAFUSION, "https://{}/v1/" + DATAFUSION])
def test_a_letter_with_an_ascii_lower_case_makes_no_host(text: str) -> None:
    """A Kelvin sign is no k: hosts are compared only if they are ASCII."""
    assert "\u212a".lower() == "k"
    with pytest.raises(InvalidReferenceError, match="has no usable host"):
        read_reference(text.format("psc.example\u212a"), "datafusion", api_endpoint="https://psc.examplek")


# --- operations of other clients -------------------------------------------------------------------

EARTH = "projects/p/operations/o"


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (EARTH, EARTH),
        ({"name": EARTH}, {"name": EARTH}),
        (SimpleNamespace(name=EARTH, done=False), EARTH),
        (SimpleNamespace(operation=SimpleNamespace(name=EARTH), name="other"), EARTH),
        (SimpleNamespace(operation=EARTH), EARTH),
        (SimpleNamespace(operation={"name": EARTH}), {"name": EARTH}),
        (SimpleNamespace(operation=lambda: None, name=EARTH), EARTH),
        (SimpleNamespace(operation_name=EARTH, name=None, id="o"), EARTH),
        (read_reference(EARTH, "earthengine"), read_reference(EARTH, "earthengine")),
    ],
)
def test_where_other_clients_have_the_name(returned: Any, found: Any) -> None:
    """Futures, messages, tasks of the Earth Engine client, and what is none of these."""
    assert operation_in(returned) == found


def test_the_message_of_google_itself() -> None:
    """What google-api-core's futures have inside, where googleapis-common-protos is installed."""
    operations_pb2 = pytest.importorskip("google.longrunning.operations_pb2")
    message = operations_pb2.Operation(name=EARTH)
    assert operation_in(message) == EARTH
    assert operation_in(SimpleNamespace(operation=message)) == EARTH


@pytest.mark.parametrize("value", [41, "41", " 41\n", {"name": 41}, {"name": "41\n"}], ids=repr)
def test_a_name_of_digits(value: Any) -> None:
    """B9: Airflow's native rendering makes a number of Speech-to-Text's names, and a shell adds a newline."""
    assert read_reference(value, "speech").name == "41"


@pytest.mark.parametrize("where", ["{}\n", "\t{} "], ids=repr)
def test_white_space_at_the_ends_is_no_part_of_a_name(where: str) -> None:
    """B9: nor of a full name, a URL, a parent, a service or a version; within one it stays refused."""
    name = where.format(DATAFUSION)
    for value in (name, {"name": name}, where.format(f"//datafusion.googleapis.com/{DATAFUSION}")):
        assert read_reference(value, where.format("datafusion"), where.format("v1")).name == DATAFUSION
    url = where.format(f"https://datafusion.googleapis.com/v1/{DATAFUSION}")
    for version in (None, where.format("v1")):
        assert read_reference(url, api_version=version).name == DATAFUSION
    assert read_parent(where.format("projects/p/locations/l"), "datafusion").name == "projects/p/locations/l"
    with pytest.raises(InvalidReferenceError, match="names a host"):
        read_reference({"name": where.format("//evil.example/x")}, "datafusion")


@pytest.mark.parametrize(
    ("returned", "hint"), [(None, False), (3, False), (SimpleNamespace(name=None), True), ([EARTH], False)]
)
def test_what_has_no_operation(returned: Any, hint: bool) -> None:
    """An error that names the type; for a task without a name it suggests that it was not started."""
    with pytest.raises(InvalidReferenceError, match=f"no operation in {type(returned).__name__}") as caught:
        operation_in(returned)
    assert ("Was it started?" in str(caught.value)) is hint
