"""What a trigger is given, in little memory."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_lro_provider.triggers.packing import once, pack, unpack


@pytest.mark.parametrize("deadline", [None, {}, {"at": 1.5, "cause": "timeout"}])
def test_what_is_packed_comes_back(deadline: Any) -> None:
    """Each dict as it was, whatever stands before it; and one that is not there as None."""
    reference = {"service": "datafusion", "name": "o", "odd": ["a list"]}
    owner = {"token": "t", "map_index": 3}
    packed = pack(reference=reference, deadline=deadline, owner=owner)
    assert unpack(packed, "reference") == reference
    assert unpack(packed, "deadline") == deadline
    assert unpack(packed, "owner") == owner
    with pytest.raises(KeyError):
        unpack(packed, "other")


def test_what_many_have_in_common_is_kept_once() -> None:
    """The shape and the common values are the same objects; 1 is not taken for True."""
    one, other = (pack(reference={"service": "x" * n, "name": str(n), "flag": 1}) for n in (40, 40))
    assert one[0] is other[0]
    assert one[1] is other[1]
    assert once(True) is True
    assert type(once(1)) is int
