"""The errors that a task of this package ends with. Unless they say otherwise, it retries if it has any retries left.

A sensor's timeout is Airflow's own ``AirflowSensorTimeout`` (no retry), an execution timeout its
``AirflowTaskTimeout`` (retries), in poke mode and deferred.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_lro_provider.airflow_compat.exceptions import TaskTerminated

__all__ = [
    *("OperationInputError", "OperationStartError", "OperationFailedError", "FinalOperationFailedError"),
    *("OperationRunningError", "OperationWaitError", "OperationKilled", "OperationOrphaned"),
]


class OperationInputError(AirflowFailException):
    """An argument or a connection cannot be used. Nothing was sent. Fails at once: a retry would not help."""


class OperationStartError(AirflowFailException):
    """The result of a start is not known, or is no operation. Fails at once: a start must not be repeated."""


class OperationFailedError(AirflowException):
    """The operation is finished, with an outcome that the task's ``fail_on`` names. A retry starts anew."""


class FinalOperationFailedError(OperationFailedError, AirflowFailException):
    """The same of a task that did not start it. Fails at once: a retry would only find the same operation again."""


class OperationRunningError(AirflowException):
    """The operation is still running at the task's timeout."""


class OperationWaitError(Exception):
    """The operation cannot be polled any more (its account lost the permission); it may run on."""


class OperationKilled(TaskTerminated):  # type: ignore[valid-type,misc]
    """Airflow told this task to stop.

    Not an ``Exception``: a sensor's ``silent_fail`` would swallow one, and ``never_fail`` would turn it
    into a skip. It would also be taken for a failure of the operation.
    """


class OperationOrphaned(OperationKilled):
    """The supervisor of this task process is gone: Airflow does not know of this process any more."""
