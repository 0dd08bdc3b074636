"""An entry of the ledger is read as it was written, or not at all."""

from __future__ import annotations

import json
import re
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
    stored = json.loads(ENTRY.to_json())
    assert [stored.pop(new) for new in ("endpoint", "discreet")] == [None, False]  # later ones, which it skips
    assert stored == {
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
    key = "airflow_lro_provider.ledger.d/r/t/-1/1/id/-"
    assert (ENTRY.keys[1], LedgerKey.from_text(key)) == (key, LedgerKey(ENTRY.owner, 1, "id", None))


NAMED = replace(ENTRY, reference={"service": "datafusion.googleapis.com", "name": "projects/p/operations/o"})


@pytest.mark.parametrize("entry", [ENTRY, NAMED])
@pytest.mark.parametrize("dag_id", ["d", "a.b-c~d", "données/€", "-", "--", "-2E", "_", "a-_b", "d" * 250])
@pytest.mark.parametrize("run_id", ["r", "scheduled__2026-11-26T09:00:00.123456+00:00", "a b%2F\n"])
@pytest.mark.parametrize("try_id", ["019ac0de-0000-7000-8000-000000000000", "019ac0de"])
def test_no_secrets_backend_minds_a_key(entry: LedgerEntry, dag_id: str, run_id: str, try_id: str) -> None:
    """B18: any id makes a name that Secret Manager takes, and it says who the owner is, unless that is too long.

    Google's provider 22.3 (apache/airflow#70869): nor one that it warns of, where there are teams.
    """
    entry = replace(entry, dag_id=dag_id, run_id=run_id, try_id=try_id)
    assert re.fullmatch("[A-Za-z0-9_-]{1,255}", f"airflow-variables-{entry.key}")
    assert "--" not in entry.key
    assert len(entry.key) <= 250  # Airflow's own limit
    is_long = len(dag_id) > 200
    owner, number = (None, 0) if is_long else (entry.owner, entry.try_number)
    assert LedgerKey.from_text(entry.key) == LedgerKey(owner, number, try_id, entry.operation)


@pytest.mark.parametrize("entry", [ENTRY, NAMED])
@pytest.mark.parametrize("dag_id", ["d", "a b"])
def test_a_key_of_the_first_release_is_read(entry: LedgerEntry, dag_id: str) -> None:
    """Entries that it has left are found and removed where they are."""
    entry = replace(entry, dag_id=dag_id)
    key = LedgerKey.from_text(entry.keys[1])
    assert key is not None
    assert key.owner == (entry.owner if dag_id == "d" else None)
    assert key.is_of_first_release is (entry.reference is not None)


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
