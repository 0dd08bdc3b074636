"""Which hosts are Google's, in which universe, and where one sends to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    ForbiddenEndpointError,
    InvalidReferenceError,
    InvalidRequestError,
    UnknownServiceError,
)
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import (
    DEFAULT_UNIVERSE,
    address,
    belongs_to,
    check_endpoint,
    check_universe,
    endpoint_of,
    host_in_table,
    host_to_send_to,
    leads_elsewhere,
    names_unknown_host,
)
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

UNIVERSE = "universe.example"
NAME = "projects/my-project/locations/europe-west4/operations/operation-1-2-3"
VERTEX = "projects/123456/locations/us-central1/endpoints/4711/operations/8888"


@pytest.mark.parametrize(
    ("host", "belongs"),
    [
        ("aiplatform.universe.example", True),
        ("us-central1-aiplatform.universe.example", True),
        ("aiplatform.universe.example:443", True),
        ("universe.example", False),
        ("aiplatformuniverse.example", False),
        ("aiplatform.universe.example.evil.example", False),
        ("universe.example.evil.example", False),
        ("aiplatform.googleapis.com", False),
    ],
)
def test_belongs_to(host: str, belongs: bool) -> None:
    """A host is of a universe if its name ends below that domain, and not if it only looks like it."""
    assert belongs_to(host, UNIVERSE) is belongs


@pytest.mark.parametrize(
    ("host", "universe", "known_as"),
    [
        ("aiplatform.googleapis.com", DEFAULT_UNIVERSE, "aiplatform.googleapis.com"),
        ("aiplatform.universe.example", DEFAULT_UNIVERSE, "aiplatform.universe.example"),
        ("aiplatform.universe.example", UNIVERSE, "aiplatform.googleapis.com"),
        ("eu-automl.universe.example", UNIVERSE, "eu-automl.googleapis.com"),
        ("aiplatform.googleapis.com", UNIVERSE, "aiplatform.googleapis.com"),
        ("psc.example", UNIVERSE, "psc.example"),
        ("aiplatform.universe.example.evil.example", UNIVERSE, "aiplatform.universe.example.evil.example"),
    ],
)
def test_host_in_table(host: str, universe: str, known_as: str) -> None:
    """A host of the connection's universe is known by its name in Google's own; any other stays what it is."""
    assert host_in_table(host, universe) == known_as


def test_an_exact_host_of_another_universe() -> None:
    """A host to connect to, unlike the name of a service, must be of the connection's universe."""
    assert host_in_table("aiplatform.googleapis.com", DEFAULT_UNIVERSE, exact=True) == "aiplatform.googleapis.com"
    with pytest.raises(ForbiddenEndpointError, match=r"is of the universe googleapis\.com.*nothing was sent"):
        host_in_table("aiplatform.googleapis.com", UNIVERSE, exact=True)


@pytest.mark.parametrize(
    ("host", "universe", "mtls", "sent_to"),
    [
        ("aiplatform.googleapis.com", DEFAULT_UNIVERSE, False, "aiplatform.googleapis.com"),
        ("aiplatform.googleapis.com", DEFAULT_UNIVERSE, True, "aiplatform.mtls.googleapis.com"),
        ("aiplatform.mtls.googleapis.com", DEFAULT_UNIVERSE, True, "aiplatform.mtls.googleapis.com"),
        ("aiplatform.mtls.googleapis.com", DEFAULT_UNIVERSE, False, "aiplatform.mtls.googleapis.com"),
        ("aiplatform.us.rep.googleapis.com", DEFAULT_UNIVERSE, True, "aiplatform.us.rep.mtls.googleapis.com"),
        ("us-east1-aiplatform.googleapis.com", UNIVERSE, False, "us-east1-aiplatform.universe.example"),
    ],
)
def test_host_to_send_to(host: str, universe: str, mtls: bool, sent_to: str) -> None:
    """The table's host becomes the universe's, or Google's mTLS one; one that is that already is kept."""
    assert host_to_send_to(host, universe, mtls=mtls) == sent_to


@pytest.mark.parametrize(
    ("service", "universe", "mtls", "endpoint"),
    [
        ("datafusion", DEFAULT_UNIVERSE, False, "datafusion.us-central1.rep.googleapis.com"),
        ("datafusion", DEFAULT_UNIVERSE, True, "datafusion.mtls.googleapis.com"),
        ("datafusion", UNIVERSE, False, "datafusion.universe.example"),
        ("aiplatform", DEFAULT_UNIVERSE, True, "us-central1-aiplatform.mtls.googleapis.com"),
        ("aiplatform", UNIVERSE, False, "us-central1-aiplatform.universe.example"),
        ("composer", DEFAULT_UNIVERSE, True, "us-central1-composer.mtls.googleapis.com"),
    ],
)
def test_a_regional_endpoint_is_used_where_it_is_known(service: str, universe: str, mtls: bool, endpoint: str) -> None:
    """B1: discovery tells of them below googleapis.com, without mTLS; elsewhere the global host serves."""
    reference = read_reference("projects/p/locations/us-central1/operations/o", service)
    assert endpoint_of(reference, universe=universe, mtls=mtls) == f"https://{endpoint}"
    assert endpoint_of(reference, "https://{service}.googleapis.com") == f"https://{service}.googleapis.com"


@pytest.mark.parametrize(
    ("service", "name", "host"),
    [
        ("eu-documentai.googleapis.com", "projects/p/locations/eu/operations/o", "eu-documentai.googleapis.com"),
        ("EU-DocumentAI.googleapis.com ", "projects/p/locations/eu/operations/o", "eu-documentai.googleapis.com"),
        ("eu-documentai.googleapis.com:443", "projects/p/locations/eu/operations/o", "eu-documentai.googleapis.com"),
        (
            "https://eu-documentai.googleapis.com",
            "projects/p/locations/eu/operations/o",
            "eu-documentai.googleapis.com",
        ),
        (
            "HTTPS://EU-DocumentAI.googleapis.com:443/\n",
            "projects/p/locations/eu/operations/o",
            "eu-documentai.googleapis.com",
        ),
        (
            "documentai.eu.rep.googleapis.com",
            "projects/p/locations/eu/operations/o",
            "documentai.eu.rep.googleapis.com",
        ),
        ("documentai.googleapis.com", "projects/p/locations/eu/operations/o", "eu-documentai.googleapis.com"),
        ("datafusion.googleapis.com", "projects/p/locations/us-west1/operations/o", "datafusion.googleapis.com"),
        (
            "translate-eu.googleapis.com",
            "projects/p/locations/europe-west1/operations/o",
            "translate-eu.googleapis.com",
        ),
        (
            "eu-documentai.googleapis.com",
            "//documentai.googleapis.com/projects/p/operations/o",
            "eu-documentai.googleapis.com",
        ),
        (
            "us-central1-aiplatform.googleapis.com",
            "endpoints/1/operations/2",
            "us-central1-aiplatform.googleapis.com",
        ),
    ],
)
def test_a_host_given_as_service_is_used(service: str, name: str, host: str) -> None:
    """B2: for operations, methods and parents; a global host only if it serves the location."""
    assert read_reference(name, service).host == host
    assert find_service(service).name == read_reference(name, service).service
    if not name.startswith("//"):
        method, parent = name.rpartition("/operations/")[0] + "/things", name.rpartition("/operations/")[0]
        assert read_method(method, service=service).host == host
        assert read_parent(parent, service).host == host


def test_a_host_of_another_universe_given_as_service_is_used() -> None:
    """B2: a connection's universe has the same hosts below its own domain."""
    named = {"service": "eu-documentai.universe.example", "universe": UNIVERSE}
    reference = read_reference("projects/p/locations/eu/operations/o", **named)
    assert endpoint_of(reference, universe=UNIVERSE) == "https://eu-documentai.universe.example"
    assert read_parent("projects/p/locations/eu", **named).host == reference.host


def test_a_parent_of_all_locations_is_of_the_host_that_is_given() -> None:
    """B2: `locations/-` lies at every host; it is no location that the host may not serve."""
    for host in ("us-central1-aiplatform.googleapis.com", "aiplatform.googleapis.com"):
        assert read_parent("projects/p/locations/-", host).host == host


def test_a_url_may_have_the_port_of_https() -> None:
    """B2: it is the same host; with another port it is another one."""
    reference = read_reference(f"https://europe-west4-aiplatform.googleapis.com:443/v1/{NAME}")
    assert endpoint_of(reference) == "https://europe-west4-aiplatform.googleapis.com"
    for host in ("europe-west4-aiplatform.googleapis.com:444", "europe-west4-aiplatform.googleapis.com:443:443"):
        with pytest.raises(InvalidRequestError):
            endpoint_of(read_reference(f"https://{host}/v1/{NAME}", "aiplatform"))


@pytest.mark.parametrize("service", ["http://eu-documentai.googleapis.com", "https://evil.example", "https://"])
def test_what_is_no_host_of_google_is_no_service(service: str) -> None:
    """B2: plain http is none, nor is another host."""
    with pytest.raises(UnknownServiceError):
        read_reference("projects/p/locations/eu/operations/o", service)


@pytest.mark.parametrize("read", [read_reference, read_parent])
def test_a_host_given_as_service_serves_the_location(read: Any) -> None:
    """B2: a host of another location than the name's is refused before anything is sent."""
    name = "projects/p/locations/us/operations/o" if read is read_reference else "projects/p/locations/us"
    with pytest.raises(InvalidReferenceError, match="serves the location 'eu', but the name is in 'us'"):
        read(name, "eu-documentai.googleapis.com")


@pytest.mark.parametrize("domain", ["googleapis.com", " Universe.Example\n", "a-b.c1.example"])
def test_check_universe(domain: str) -> None:
    """A domain is taken in lower case and without blanks."""
    assert check_universe(domain) == domain.strip().lower()


@pytest.mark.parametrize("domain", ["com", "a..b", "1.2.3.4", "a_b.example", "x.example:443", "x.example/p", "x" * 300])
def test_no_universe(domain: str) -> None:
    """What is no domain, in particular an address, a port or a path, is refused."""
    with pytest.raises(ConnectionSettingsError, match="is not a domain"):
        check_universe(domain)


# --- endpoints and hosts that somebody names --------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "emulator", "kept"),
    [
        ("https://psc.example", False, "https://psc.example"),
        ("https://psc.example/", False, "https://psc.example"),
        ("https://psc.example:8443/base/{service}", False, "https://psc.example:8443/base/{service}"),
        ("https://{service}-mine.p.googleapis.com", False, "https://{service}-mine.p.googleapis.com"),
        ("http://localhost:8080", False, "http://localhost:8080"),
        ("http://127.0.0.1:8080/{service}", False, "http://127.0.0.1:8080/{service}"),
        ("http://[::1]:8080", False, "http://[::1]:8080"),
        ("http://emulator:8080", True, "http://emulator:8080"),
        ("http://10.0.0.7", True, "http://10.0.0.7"),
    ],
)
def test_endpoints_that_a_connection_may_name(endpoint: str, emulator: bool, kept: str) -> None:
    """Https anywhere, http on this machine, http to an emulator; with {service} where the user wants it."""
    assert check_endpoint(endpoint, emulator=emulator) == kept


@pytest.mark.parametrize(
    ("endpoint", "emulator", "why"),
    [
        ("http://psc.example", False, 'plain http to another machine.*"emulator": true'),
        ("http://localhost.evil.example", False, "plain http to another machine"),
        ("http://127.0.0.1.evil.example", False, "plain http to another machine"),
        ("http://10.0.0.7", False, "plain http to another machine"),
        ("ftp://psc.example", False, "must begin with https://"),
        ("ftp://psc.example", True, "must begin with https://"),
        ("psc.example", False, "not a URL of a server"),
        ("https://", False, "not a URL of a server"),
        ("https://user:pw@psc.example", False, "has an account in it"),
        ("https://psc.example?x=1", False, "not a URL of a server"),
        ("https://psc.example/?x=1", False, "not a URL of a server"),
        ("https://psc.example/#x", False, "not a URL of a server"),
        ("https://psc.example/../x", False, "not a URL of a server"),
        ("https://psc.example/a%2Fb", False, "not a URL of a server"),
        ("https://psc.example/a b", False, "not a URL of a server"),
        ("https://psc.example/a\\b", False, "not a URL of a server"),
        ("https://psc.example/a\r\nb", False, "not a URL of a server"),
        ("https://psc.example/a\x00b", False, "not a URL of a server"),
        ("https://psc.example/a\x7fb", False, "not a URL of a server"),
        ("https://psc example", False, "not a URL of a server"),
        ("https://psc.example:99999", False, "not a URL of a server"),
        ("https://[:::]", False, "not a URL of a server"),
        ("https://psc.example:\u0668\u0660", False, "not a URL of a server"),
        ("https://.", False, "not a URL of a server"),
        ("https://psc..example", False, "not a URL of a server"),
        ("https://psc.example\u212a", False, "not a URL of a server"),  # its lower case is an ASCII k
        ("https://" + "x" * 64 + ".example", False, "not a URL of a server"),
        ("https://psc.exämple", False, "not a URL of a server"),
    ],
    ids=lambda value: repr(value) if isinstance(value, str) else None,
)
def test_endpoints_that_a_connection_may_not_name(endpoint: str, emulator: bool, why: str) -> None:
    """Anything that is no plain server, or would send a token in the clear, is refused."""
    with pytest.raises(ForbiddenEndpointError, match=why):
        check_endpoint(endpoint, emulator=emulator)


def test_no_connection_is_an_emulator_by_default() -> None:
    """Unless somebody says emulator, http to another machine is refused."""
    with pytest.raises(ForbiddenEndpointError, match="plain http to another machine"):
        check_endpoint("http://emulator:8080")


@pytest.mark.parametrize(
    ("value", "unknown"),
    [
        (NAME, False),
        (f"//datafusion.googleapis.com/{NAME}", False),
        (f"//US-central1-AIplatform.googleapis.com/{VERTEX}", False),
        (f"https://datafusion.googleapis.com/v1/{NAME}", False),
        (f"HTTPS://DataFusion.googleapis.com/v1/{NAME}", False),
        (f"//psc.example/{NAME}", True),
        (f"https://psc.example/v1/{NAME}", True),
        (f"https://datafusion.googleapis.com.evil.example/v1/{NAME}", True),
        ({"name": f"//psc.example/{NAME}"}, False),
        (None, False),
    ],
    ids=str,
)
def test_names_unknown_host(value: Any, unknown: bool) -> None:
    """A name or URL with a host that is not Google's is one that only a connection can vouch for."""
    assert names_unknown_host(value) is unknown


def test_all_hosts_of_google_are_one_place() -> None:
    """Which of them a request goes to depends on the machine, too: with a client certificate it is another one."""
    plain, mtls = "https://datafusion.googleapis.com", "https://datafusion.mtls.googleapis.com"
    assert not leads_elsewhere(mtls, plain)
    assert not leads_elsewhere("http://127.0.0.1:8900", None)
    assert leads_elsewhere("http://127.0.0.1:8900", plain)
    assert leads_elsewhere(plain, "https://googleapis.com.example.org")


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (None, f"//datafusion.googleapis.com/{NAME}"),
        ("https://datafusion.mtls.googleapis.com", f"//datafusion.googleapis.com/{NAME}"),
        (
            "http://127.0.0.1:8900/datafusion",
            f"//datafusion.googleapis.com/{NAME} (at http://127.0.0.1:8900/datafusion)",
        ),
    ],
)
def test_a_name_says_where_requests_go_unless_that_is_google(endpoint: str | None, text: str) -> None:
    """The name of an operation has Google's host, also where a local server takes its place."""
    reference = read_reference(NAME, "datafusion")
    assert address(replace(reference, host="datafusion.googleapis.com"), endpoint) == text
