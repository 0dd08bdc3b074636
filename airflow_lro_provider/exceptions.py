"""The errors that a task of this package ends with, and what Airflow makes of each.

===================================  =================================================================
:class:`OperationInputError`         fails at once: what was given will not get better by a retry
:class:`OperationStartError`         fails at once: a start that must not be repeated
:class:`OperationFailedError`        fails, and retries if the task has any left: the next try starts anew
:class:`FinalOperationFailedError`   the same of a task that did not start it: fails at once, a finished
                                     operation does not change any more
:class:`OperationRunningError`       fails, and retries if the task has any left
:class:`OperationWaitError`          the same: waiting became impossible, the operation may run on
:class:`OperationKilled`             ends the task that Airflow told to stop
===================================  =================================================================

A sensor's timeout is Airflow's own ``AirflowSensorTimeout`` (no retry), an execution timeout its
``AirflowTaskTimeout`` (retries), in poke mode and deferred.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

__all__ = [
    "FinalOperationFailedError",
    "OperationFailedError",
    "OperationInputError",
    "OperationKilled",
    "OperationOrphaned",
    "OperationRunningError",
    "OperationStartError",
    "OperationWaitError",
]


class OperationInputError(AirflowFailException):
    """An argument or a connection cannot be used. Nothing was sent."""


class OperationStartError(AirflowFailException):
    """The result of a start is not known, or it was something other than an operation."""


class OperationFailedError(AirflowException):
    """The operation is finished, with an outcome that the task's ``fail_on`` names."""


class FinalOperationFailedError(OperationFailedError, AirflowFailException):
    """The same, where a retry would only find the same operation again."""


class OperationRunningError(AirflowException):
    """The operation is still running at the task's timeout."""


class OperationWaitError(Exception):
    """The operation cannot be polled any more (permission lost, malformed response)."""


class OperationKilled(BaseException):
    """Airflow told this task to stop.

    Not an ``Exception``: a sensor's ``silent_fail`` would swallow one, and ``never_fail`` would turn it
    into a skip. It would also be taken for a failure of the operation.
    """


class OperationOrphaned(OperationKilled):
    """The supervisor of this task process is gone: Airflow does not know of this process any more."""
