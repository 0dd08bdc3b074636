"""Which of two tries is the younger one, by their ids alone."""

from __future__ import annotations

import pytest

from airflow_lro_provider.ownership.tries import is_same, is_younger

OLD, YOUNG = "019ac0de-0000-7000-8000-000000000000", "019ac0de-0001-7000-8000-000000000000"
RANDOM = "1431d668-97e4-416d-ad1d-26d9b9f15d00"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (YOUNG, OLD, True),
        (OLD, YOUNG, False),
        (OLD, OLD, False),
        (RANDOM, OLD, False),
        ("id", OLD, False),
        ("7.2.0123456789ab", "7.1.0123456789ab", True),
        ("8.1.0123456789ab", "7.12.0123456789ab", True),
        ("10.1.0123456789ab", "9.1.0123456789ab", True),
        ("7.1.0123456789ab", "7.1.0123456789ab", False),
        ("7.1.0123456789ab", "7.2.0123456789ab", False),
        (YOUNG, "7.1.0123456789ab", False),
        ("7.1.0123456789ab", OLD, False),
    ],
)
def test_a_younger_try_is_known_by_its_id(one: str, other: str, expected: bool) -> None:
    """By the time in a UUID of version 7, or (Airflow 2) by the row of its run and its number; else it is not known."""
    assert is_younger(one, other) is expected


def test_an_upgrade_from_airflow_2_makes_no_other_try() -> None:
    """It gives a deferred task another id; its number stays."""
    assert is_same(OLD, OLD)
    assert not is_same(OLD, YOUNG)
    assert is_same(YOUNG, "7.1.0123456789ab")
    assert not is_same("7.1.0123456789ab", "7.1.ba9876543210")
