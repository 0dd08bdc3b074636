"""Which states say that a resource is not ready."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_lro_provider.lro.resources.state import unfinished_state


@pytest.mark.parametrize(
    "state",
    [
        *("CREATING", "DELETING", "FAILED", "ERROR", "PENDING", "PROVISIONING", "DELETE_FAILED", "DELETE_REQUESTED"),
        *("STATE_CREATING", "PENDING_APPROVAL", "DEPLOY_IN_PROGRESS", "FAILED_PERMANENTLY", "ERROR_DUE_TO_UPDATE"),
        *("TERMINATED", "DEPROVISIONED", "IMPORT_JOB_STATE_FAILED_VALIDATION", "QUEUED", "CANCELLED", "DELETED"),
    ],
)
@pytest.mark.parametrize("form", ["state", "status", "nested", "code"])
def test_a_resource_that_is_being_made_or_has_failed_is_not_finished(state: str, form: str) -> None:
    """C9: in each form that services write it in."""
    forms: dict[str, Any] = {"nested": {"status": {"state": state}}, "code": {"state": {"code": state}}}
    assert unfinished_state({"name": "x", **forms.get(form, {form: state})}) == state


@pytest.mark.parametrize(
    "resource",
    [
        *({"state": state} for state in ("ACTIVE", "READY", "RUNNING", "UPDATING", "SUSPENDED", "STOPPED", "ENABLED")),
        *({"state": state} for state in ("SUCCEEDED_WITH_ERRORS", "RESTARTING", "STATE_UNSPECIFIED", "REPAIRING", "")),
        {},
        {"state": 3, "status": None},
        {"status": {"state": "RUNNING", "detail": "ERROR"}},
        {"state": ["FAILED"], "labels": {"state": "FAILED"}},
    ],
)
def test_any_other_is(resource: dict[str, Any]) -> None:
    """C9: also one that is changed, or switched off."""
    assert unfinished_state(resource) is None
