"""What is not public of the process that runs a task on a worker; read in Airflow 3.3."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pluggy

_hook = pluggy.HookimplMarker("airflow")


def is_in_line() -> bool:
    """Whether this process has no supervisor but plays its own (``dags test``, ``dag.test()``). Imports nothing."""
    supervisor = sys.modules.get("airflow.sdk.execution_time.supervisor")
    played = getattr(supervisor, "InProcessSupervisorComms", None)
    return played is not None and isinstance(_channel(), played)


def is_asking_supervisor() -> bool:
    """Whether the main thread is in the middle of a question, and so holds a lock. Safe in a signal handler.

    An exception that is raised there leaves the response unread, and every later question gets the response
    to the one before.
    """
    lock = getattr(_channel(), "_thread_lock", None)
    return lock is not None and bool(lock.locked())


def _channel() -> Any:
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return getattr(runner, "SUPERVISOR_COMMS", None)


def call_before_stopping(callback: Callable[[], object]) -> None:
    """Call back once, in this process, when the task has reported how it ended; questions are still answered then.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/listeners.html
    """
    from airflow.sdk.listener import get_listener_manager

    get_listener_manager().add_listener(_BeforeStopping(callback))  # type: ignore[no-untyped-call]


class _BeforeStopping:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback

    @_hook
    def before_stopping(self, component: Any) -> None:
        from airflow.sdk.listener import get_listener_manager

        get_listener_manager().pm.unregister(self)
        self._callback()


def retry_policy_fails(policy: Any, error: BaseException | None, context: Any) -> bool:
    """Whether an operator's retry policy ends the task after this error, retries left or not.

    :param policy: the operator's ``retry_policy`` (new in Airflow 3.3); ``None`` leaves the decision to ``retries``.
    :param error: what ends the try. Airflow asks a policy about an ``Exception`` only.
    """
    if policy is None or not isinstance(error, Exception):
        return False
    from airflow.sdk.definitions.retry_policy import RetryAction

    ti = context["ti"]
    try:
        decision = policy.evaluate(exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=context)
    except Exception:
        return False  # as Airflow does
    return bool(decision.action is RetryAction.FAIL)
