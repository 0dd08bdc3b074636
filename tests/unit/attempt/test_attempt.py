"""How a try ends: which exception means what, and what that means for the operation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_lro_provider.attempt.attempt import Attempt, how_it_ended
from airflow_lro_provider.attempt.guard import Guard
from airflow_lro_provider.attempt.role import Role
from airflow_lro_provider.exceptions import OperationKilled, OperationOrphaned, OperationRunningError
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.ownership.decisions import reason_to_cancel, will_go_on


def reason(error: BaseException, *, retries: int, cancel_on_failure: bool = True) -> str | None:
    """Why the first try of a task that ends with this error cancels its operation."""
    how = how_it_ended(error)
    goes_on = will_go_on(how, try_number=1, max_tries=retries, knows_operation=True)
    return reason_to_cancel(how, goes_on=goes_on, cancel_on_failure=cancel_on_failure)


def skip_after(cause: BaseException | None) -> AirflowSkipException:
    """The skip that soft_fail or never_fail makes of an error."""
    skip = AirflowSkipException("skipped")
    skip.__cause__ = cause
    return skip


@pytest.mark.parametrize(
    ("error", "retry_to_come", "gives_up"),
    [
        (TaskDeferred(trigger=None, method_name="x"), False, False),
        (OperationKilled(), True, True),
        (OperationOrphaned(), False, True),
        (AirflowTaskTimeout(), True, True),
        (AirflowSensorTimeout(), True, True),
        (OperationRunningError(), True, True),
        (KeyboardInterrupt(), True, True),
        (skip_after(None), True, True),
        (skip_after(AirflowSensorTimeout()), True, True),
        (skip_after(PermissionError()), True, True),
        (AirflowFailException(), True, True),
        (PermissionError(), False, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_which_ends_of_a_task_cancel(error: BaseException, retry_to_come: bool, gives_up: bool) -> None:
    """Which ends of a task cancel its operation: with a retry to come, and without."""
    with_retry, without = reason(error, retries=1), reason(error, retries=0)
    assert (with_retry is not None, without is not None) == (retry_to_come, gives_up)


@pytest.mark.parametrize("error", [AirflowFailException(), PermissionError(), skip_after(PermissionError())])
def test_cancel_on_failure_may_be_switched_off(error: BaseException) -> None:
    """An ordinary failure leaves the operation alone if the author says so; a timeout does not."""
    assert reason(error, retries=0, cancel_on_failure=False) is None
    assert reason(AirflowTaskTimeout(), retries=0, cancel_on_failure=False) is not None


def test_the_name_is_logged_in_full_once() -> None:
    """The first line of a try has it; the others have the short name, for the web interface cuts long lines off."""
    lines: list[str] = []
    log: Any = SimpleNamespace(info=lambda text, *values: lines.append(text % values))
    role = Role(None, None, False, False, False, False, False, None)
    attempt = Attempt(role, {"ti": None}, guard=Guard(log, cancels=False), hook=lambda: None, log=log)  # type: ignore[arg-type,return-value]
    attempt.about = OperationReference("datafusion", "v1", "projects/p/operations/o", "datafusion.googleapis.com")
    for line in ("Started", "RUNNING · 40%", "SUCCEEDED"):
        attempt.log_state(line)
    assert lines == [
        "Started: //datafusion.googleapis.com/projects/p/operations/o",
        "RUNNING · 40%: o (datafusion)",
        "SUCCEEDED: o (datafusion)",
    ]
