"""The location in a name, and what looks like one."""

from __future__ import annotations

import pytest

from airflow_lro_provider.lro.resources.locations import looks_like, region_of

REGIONS = frozenset({"us-central1", "europe-west1", "europe-west12", "northamerica-northeast1"})


@pytest.mark.parametrize(
    ("location", "meant"),
    [
        ("us-centrall1", ["us-central1"]),
        ("uscentral1", ["us-central1"]),
        ("europe-wset1", ["europe-west1", "europe-west12"]),
        ("us-central9", []),  # may be new
        ("us-central1-a", []),  # a zone
        ("us-central1-ai1a", []),
        ("eu", []),
        ("nam4", []),
        ("asia", []),
    ],
)
def test_a_region_that_is_misspelt(location: str, meant: list[str]) -> None:
    """Another number is a new region, what follows it a zone, and what looks otherwise something else."""
    assert list(looks_like(location, REGIONS)) == meant


def test_the_region_of_a_zone() -> None:
    """Any other location is its own."""
    assert list(map(region_of, ("us-central1-a", "us-central1", "eu"))) == ["us-central1", "us-central1", "eu"]
