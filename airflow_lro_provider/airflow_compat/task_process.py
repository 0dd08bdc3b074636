"""What is not public of the process that runs a task on a worker.

=========================  =============================  ===========================  ===============================
                           Airflow 3.3                    Airflow 3.1, 3.2             Airflow 2.11
=========================  =============================  ===========================  ===============================
SIGTERM                    ``on_kill`` is called, and     the same                     ``on_kill`` is called, and an
                           the task goes on                                            error raised where the task is
a deferral is rejected     ``before_stopping``, and       no listener runs, and the    it never is: Airflow forgets
(its task was marked or    questions are still answered   channel is closed; what      that its task was marked. So it
cleared meanwhile)                                        ``atexit`` runs may open it  is looked at before
                                                          again: the supervisor        (:func:`takes_any_deferral`)
                                                          serves it until the process
                                                          ends
``execution_timeout`` of   is not looked at               the same                     ``on_kill`` of an operator that
a task that was deferred                                                               has not run in this process
retry policies             yes                            none                         none
Ctrl-C in ``dags test``    ends a try: the next begins    the same                     ends it
a try is known by          the task instance's id         the same                     its run's id, and its number
=========================  =============================  ===========================  ===============================
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import json
import signal
import sys
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pluggy

from airflow_lro_provider.airflow_compat import AIRFLOW

_hook = pluggy.HookimplMarker("airflow")


def is_in_line() -> bool:
    """Whether this process has no supervisor but plays its own (``dags test``, ``dag.test()``). Imports nothing."""
    if AIRFLOW < (3,):
        return _runs_without_job()
    supervisor = sys.modules.get("airflow.sdk.execution_time.supervisor")
    played = getattr(supervisor, "InProcessSupervisorComms", None)
    return played is not None and isinstance(_channel(), played)


def _context() -> Any:
    """The context of the task that Airflow 2 runs in this process; ``None`` if there is none."""
    contexts = getattr(sys.modules.get("airflow.models.taskinstance"), "_CURRENT_CONTEXT", None)
    return contexts[-1] if contexts else None


def retries_an_interrupt() -> bool:
    """Whether this is a ``dags test`` that would try again what Ctrl-C or SIGTERM has ended."""
    return AIRFLOW >= (3,) and is_in_line()


_without_job: list[bool] = []


def _runs_without_job() -> bool:
    # Once: in a signal handler it may not be asked of the database.
    if not _without_job and (context := _context()) is not None:
        _without_job.append(context["ti"].job_id is None)
    return bool(_without_job and _without_job[0])


def is_asking_supervisor() -> bool:
    """Whether the main thread is in the middle of a question, and so holds a lock. Safe in a signal handler.

    An exception that is raised there leaves the response unread, and every later question gets the response
    to the one before.
    """
    if AIRFLOW < (3,):
        database = sys.modules.get("airflow_lro_provider.airflow_compat.database")
        return database is not None and bool(database.is_asked_by_main_thread())
    lock = getattr(_channel(), "_thread_lock", None)
    return lock is not None and bool(lock.locked())


def _channel() -> Any:
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return getattr(runner, "SUPERVISOR_COMMS", None)


RAISING: tuple[signal.Signals, ...] = (signal.SIGTERM,) if AIRFLOW < (3,) else ()
"""The signals by which Airflow raises an error, whatever ``on_kill`` does."""


def try_id(ti: Any) -> str:
    """What no other try of any task has; of two that it belongs to, a later one has a greater one.

    See :func:`airflow_lro_provider.ownership.tries.is_younger`.
    """
    if AIRFLOW >= (3,):
        return str(ti.id)
    if ti.job_id is None:  # `tasks test` and `dags test` may have the number of a real one
        return str(uuid.uuid5(_PROCESS, json.dumps([ti.run_id, ti.task_id, ti.map_index, ti.try_number])))
    task = hashlib.sha256(json.dumps([ti.task_id, ti.map_index]).encode()).hexdigest()[:12]
    return f"{ti.dag_run.id}.{ti.try_number}.{task}"


_PROCESS = uuid.uuid4()


def start_seed(ti: Any) -> str:
    """What makes the request id of a start: no other try of any Airflow anywhere has it.

    Airflow 2 knows a try by its database's own count only. There it is another one each time, of which only the record
    tells the next process.
    """
    return f"{try_id(ti)}/{ti.try_number}" if AIRFLOW >= (3,) else str(uuid.uuid4())


def last_retried_try(ti: Any) -> int:
    """The number of the last try after which another one may follow. Airflow 2 asks the Dag, too, as it is by now."""
    return 0 if AIRFLOW < (3,) and not ti.task.retries else ti.max_tries or 0


def takes_any_deferral() -> bool:
    """Whether Airflow defers, reschedules or tries again a task also if a user has ended it meanwhile."""
    return AIRFLOW < (3,)


def execution_timeout_begins(ti: Any) -> float | None:
    """From when on Airflow counts a deferred task's ``execution_timeout``, since the epoch; ``None`` if it does not."""
    return ti.start_date.timestamp() if AIRFLOW < (3,) and ti.start_date is not None else None


def first_reschedule_date(context: Any) -> datetime | None:
    """When a sensor in reschedule mode has polled first, in this and earlier tries of it."""
    ti = context["ti"]
    found: datetime | None
    if AIRFLOW >= (3,):
        found = ti.get_first_reschedule_date(context)
        return found
    first_try = (ti.max_tries or 0) - (ti.task.retries or 0) + 1
    task = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
    found = importlib.import_module("airflow.sensors.base")._orig_start_date(**task, try_number=first_try)
    return found


def context_before_execute() -> Any:
    """What there is of the context of a task that Airflow kills before it has called it, and never will.

    ``None`` if it will. To be called by ``on_kill``.
    """
    if AIRFLOW >= (3,):
        return None
    if (context := _context()) is not None:
        return context
    frame: Any = sys._getframe()
    while (frame := frame.f_back) is not None:  # the handler of the signal has the task instance
        if frame.f_code.co_name == "signal_handler" and hasattr(ti := frame.f_locals.get("self"), "next_method"):
            return {"ti": ti}
    return None


def handed_over(ti: Any) -> dict[str, Any]:
    """What a task has handed to itself when it deferred, and with what event it was woken, in Airflow 2."""
    return dict(ti.next_kwargs or {})


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


def retry_policy_fails(policy: Any, error: BaseException | None, context: Any) -> bool:
    """Whether an operator's retry policy ends the task after this error, retries left or not.

    :param policy: the operator's ``retry_policy`` (new in Airflow 3.3); ``None`` leaves the decision to ``retries``.
    :param error: what ends the try; Airflow asks about a kill, too.
    """
    if policy is None or error is None:
        return False
    from airflow.sdk.definitions.retry_policy import RetryAction

    ti = context["ti"]
    try:
        decision = policy.evaluate(exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=context)
    except Exception:
        return False  # as Airflow does
    return bool(decision.action is RetryAction.FAIL)
