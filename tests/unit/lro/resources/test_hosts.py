"""Which hosts are Google's, in which universe, and where one sends to."""

from __future__ import annotations

import pytest

from airflow_lro_provider.lro.errors import ConnectionSettingsError, ForbiddenEndpointError
from airflow_lro_provider.lro.resources.hosts import (
    DEFAULT_UNIVERSE,
    belongs_to,
    check_universe,
    host_in_table,
    host_to_send_to,
)

UNIVERSE = "universe.example"


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
        ("aiplatform.us.rep.googleapis.com", DEFAULT_UNIVERSE, True, "aiplatform.mtls.us.rep.googleapis.com"),
        ("us-east1-aiplatform.googleapis.com", UNIVERSE, False, "us-east1-aiplatform.universe.example"),
    ],
)
def test_host_to_send_to(host: str, universe: str, mtls: bool, sent_to: str) -> None:
    """The table's host becomes the universe's, or Google's mTLS one; one that is that already is kept."""
    assert host_to_send_to(host, universe, mtls=mtls) == sent_to


@pytest.mark.parametrize("domain", ["googleapis.com", " Universe.Example\n", "a-b.c1.example"])
def test_check_universe(domain: str) -> None:
    """A domain is taken in lower case and without blanks."""
    assert check_universe(domain) == domain.strip().lower()


@pytest.mark.parametrize("domain", ["com", "a..b", "1.2.3.4", "a_b.example", "x.example:443", "x.example/p", "x" * 300])
def test_no_universe(domain: str) -> None:
    """What is no domain, in particular an address, a port or a path, is refused."""
    with pytest.raises(ConnectionSettingsError, match="is not a domain"):
        check_universe(domain)
