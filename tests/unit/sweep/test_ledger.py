"""An entry of the ledger is read as it was written, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_lro_provider.sweep.ledger import LedgerEntry, LedgerKey

FOOTPRINT = {
    "service": "datafusion",
    "version": "v1",
    "host": "datafusion.googleapis.com",
    "parent": "projects/p/locations/l",
    "target": "projects/p/locations/l/instances/x",
    "verb": "create",
}
ENTRY = LedgerEntry("id", "d", "r", "t", -1, 1, 7.5, None, "POST …", "request", FOOTPRINT, "conn", ["a@x", "b@x"], True)


@pytest.mark.parametrize("entry", [ENTRY, replace(ENTRY, footprint=None, request_id=None, impersonation_chain="a@x")])
def test_it_is_read_back_as_it_was(entry: LedgerEntry) -> None:
    """Nothing of it is lost on the way, the footprint of a start included."""
    assert LedgerEntry.from_json(entry.to_json()) == entry


def test_it_is_stored_as_the_first_release_did() -> None:
    """A sweep of one release reads the entries of another: the names of the fields stay."""
    assert json.loads(ENTRY.to_json()) == {
        "try_id": "id",
        "dag_id": "d",
        "run_id": "r",
        "task_id": "t",
        "map_index": -1,
        "try_number": 1,
        "armed_since": 7.5,
        "reference": None,
        "start": "POST …",
        "request_id": "request",
        "traces": FOOTPRINT,
        "gcp_conn_id": "conn",
        "impersonation_chain": ["a@x", "b@x"],
        "will_adopt": True,
        "cancel_on_failure": True,
        "lets_go": False,
        "sent_since": None,  # the only one that it did not have
    }
    key = LedgerKey.from_text("d/r/t/-1/1/id/-")
    assert (ENTRY.key, key) == ("d/r/t/-1/1/id/-", LedgerKey(ENTRY.owner, 1, "id", None))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("traces", [FOOTPRINT]),
        ("traces", "datafusion"),
        ("traces", {**FOOTPRINT, "verb": None}),
        ("traces", {**FOOTPRINT, "target": {"a": "b"}}),
        ("request_id", 7),
        ("gcp_conn_id", ["c"]),
        ("impersonation_chain", {"a@x": 1}),
        ("impersonation_chain", ["a@x", 7]),
        ("reference", "datafusion"),
        ("armed_since", "nan"),
        ("armed_since", 10**400),
        ("map_index", None),
    ],
)
def test_what_has_the_wrong_type_is_no_entry(field: str, value: Any) -> None:
    """A field that was tampered with makes it nobody's entry, and breaks nothing later."""
    assert LedgerEntry.from_json(json.dumps({**json.loads(ENTRY.to_json()), field: value})) is None
