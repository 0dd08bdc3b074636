"""What is not public of the process that runs a task on a worker.

=======================  ====================================  =================================================
                         Airflow 3.3                           Airflow 3.1, 3.2
=======================  ====================================  =================================================
a deferral is rejected   ``before_stopping``, and questions    no listener runs, and the channel is closed; what
(its task was marked     are still answered                    ``atexit`` runs may open it again: the supervisor
or cleared meanwhile)                                          serves it until the process ends
retry policies           yes                                   none
=======================  ====================================  =================================================
"""

from __future__ import annotations

import atexit
import importlib
import sys
from collections.abc import Callable
from typing import Any

import pluggy

from airflow_lro_provider.airflow_compat import AIRFLOW

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
    listeners().add_listener(_BeforeStopping(callback))


class _BeforeStopping:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        if AIRFLOW < (3, 3) and (channel := getattr(_channel(), "socket", None)) is not None:
            self._channel = channel.dup()
            atexit.register(self._at_exit)

    @_hook
    def before_stopping(self, component: Any) -> None:
        atexit.unregister(self._at_exit)
        listeners().pm.unregister(self)
        self._callback()

    def _at_exit(self) -> None:
        """The deferral was rejected: the process ends by that error."""
        _channel().socket = self._channel
        self._callback()


def listeners() -> Any:
    """Airflow's manager of listeners, in a task process."""
    room = "airflow.sdk.listener" if AIRFLOW >= (3, 2) else "airflow.listeners.listener"
    return importlib.import_module(room).get_listener_manager()


def retry_policy_of(operator: Any) -> Any:
    """The operator's ``retry_policy``; ``None`` if it has none."""
    return getattr(operator, "retry_policy", None)


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
