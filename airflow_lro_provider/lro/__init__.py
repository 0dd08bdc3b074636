"""``google.longrunning.Operations`` of any Google API: start, get, wait for, cancel, list and delete operations.

This package knows nothing of Airflow, and works without it::

    import time

    from airflow_lro_provider.lro import ConnectionSettings, OperationsClient, new_schedule, read_reference

    settings = ConnectionSettings.from_extra({})  # application default credentials
    reference = read_reference("projects/p/locations/us-central1/operations/o", "datafusion")
    with OperationsClient(settings) as client:
        result = client.cancel(reference)
        print(result.summary())  # Cancellation requested; the service accepted it
        operation = client.wait_until_done(reference, new_schedule(time.monotonic(), timeout=600))
        print(result.outcome_of(operation).value)  # CANCELLED, or COMPLETED_DESPITE_CANCEL

:class:`AsyncOperationsClient` has the same methods as coroutines. Names are loaded on first use: importing this package
imports no client library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_lro_provider.lro.async_client import AsyncOperationsClient
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.cancel import CancelResult
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.errors import OperationsError
    from airflow_lro_provider.lro.operation import Operation, Outcome, State
    from airflow_lro_provider.lro.polling import PollSchedule, new_schedule
    from airflow_lro_provider.lro.resources.methods import read_method
    from airflow_lro_provider.lro.resources.names import OperationReference, read_parent, read_reference

__all__ = [
    "AsyncOperationsClient",
    "OperationsClient",
    "ConnectionSettings",
    "OperationsError",
    "Operation",
    "Outcome",
    "State",
    "CancelResult",
    "PollSchedule",
    "new_schedule",
    "OperationReference",
    "read_reference",
    "read_parent",
    "read_method",
]

_MODULES = {
    "AsyncOperationsClient": "async_client",
    "ConnectionSettings": "auth.settings",
    "OperationsClient": "client",
    "OperationsError": "errors",
    "CancelResult": "cancel",
    "Operation": "operation",
    "Outcome": "operation",
    "State": "operation",
    "PollSchedule": "polling",
    "new_schedule": "polling",
    "read_method": "resources.methods",
    "OperationReference": "resources.names",
    "read_parent": "resources.names",
    "read_reference": "resources.names",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found  # the next time Python finds it by itself
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
