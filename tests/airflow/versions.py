"""What the tests need of Airflow that has moved between its versions, or is not in all of them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_lro_provider.airflow_compat import AIRFLOW

DagBag: Any
DagSerialization: Any
ExceptionRetryPolicy: Any
RetryAction: Any
RetryDecision: Any
RetryPolicy: Any
RetryRule: Any

if AIRFLOW >= (3, 2):
    pass
else:
    pass

if AIRFLOW >= (3, 3):
    from airflow.sdk.definitions.retry_policy import (
        ExceptionRetryPolicy,
        RetryAction,
        RetryDecision,
        RetryPolicy,
        RetryRule,
    )
else:
    ExceptionRetryPolicy = RetryAction = RetryDecision = RetryPolicy = RetryRule = object

since_3_3 = pytest.mark.skipif(AIRFLOW < (3, 3), reason="new in Airflow 3.3")
"""For what earlier versions do not have."""

__all__ = [
    *("DagBag", "DagSerialization", "ExceptionRetryPolicy", "RetryAction", "RetryDecision", "RetryPolicy", "RetryRule"),
    "since_3_3",
]
