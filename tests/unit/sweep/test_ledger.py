"""An entry of the ledger is read as it was written, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_lro_provider.sweep.entries import LedgerEntry

TRACES = {
    "service": "datafusion",
    "version": "v1",
    "host": "datafusion.googleapis.com",
    "parent": "projects/p/locations/l",
    "target": "projects/p/locations/l/instances/x",
    "verb": "create",
}
ENTRY = LedgerEntry("id", "d", "r", "t", -1, 1, 7.5, None, "POST …", "request", TRACES, "conn", ["a@x", "b@x"], True)


@pytest.mark.parametrize("entry", [ENTRY, replace(ENTRY, traces=None, request_id=None, impersonation_chain="a@x")])
def test_it_is_read_back_as_it_was(entry: LedgerEntry) -> None:
    """Nothing of it is lost on the way, the traces of a start included."""
    assert LedgerEntry.from_json(entry.to_json()) == entry


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("traces", [TRACES]),
        ("traces", "datafusion"),
        ("traces", {**TRACES, "verb": None}),
        ("traces", {**TRACES, "target": {"a": "b"}}),
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
