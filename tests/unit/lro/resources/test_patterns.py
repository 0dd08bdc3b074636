"""What a name is, that is nearly one."""

from __future__ import annotations

import pytest

from airflow_lro_provider.lro.resources.patterns import misspelt

KNOWN = ("projects/*/locations/*/instances", "projects/*/locations/*/instances/*:restart", "[projects/*/]folders/*")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("projects/p/locations/l/instance", KNOWN[0]),
        ("projects/p/location/l/instances", KNOWN[0]),
        ("projects/p/locations/l/instances/i:restrat", KNOWN[1]),
        ("folder/f", "folders/*"),
        ("projects/p/folder/f", "projects/*/folders/*"),
        ("projects/p/locations/l/customJobs", ""),
        ("project/p/location/l/instances", ""),
        ("projects/p", ""),
    ],
)
def test_one_part_that_looks_much_alike_is_misspelt(name: str, meant: str) -> None:
    """Two such parts, or one that looks otherwise, say nothing."""
    assert misspelt(name, KNOWN) == meant
