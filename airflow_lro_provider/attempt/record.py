"""What a try leaves behind if it does not end normally: for the next try, and for the sweep.

* The **armed record**, for the next try, is kept in Airflow's task state store (3.3), which survives a retry,
  a SIGKILL and a clear.
* The entry in the **ledger**, for the sweep, where that is switched on (:mod:`airflow_lro_provider.sweep.ledger`).

Losing either never cancels anything: a store that does not answer is said so, and the task goes on without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.exceptions import OperationKilled

if TYPE_CHECKING:
    from airflow_lro_provider.lro.resources.names import OperationReference
    from airflow_lro_provider.ownership.decisions import ArmedRecord
    from airflow_lro_provider.sweep.ledger import LedgerPage
    from airflow_lro_provider.sweep.search import StartFootprint

__all__ = ["KEY", "ArmedRecords"]

KEY = "airflow_lro_provider.armed"
# Airflow gives every try an id of its own, and answers so to one that is over.
_NOT_CURRENT = (404, 409, 410)


class ArmedRecords:
    """The record of one task instance.

    Every method asks the supervisor: none may be called where a kill may raise (see ``guard.py``).

    :param context: the context of the running task.
    :param log: where to say that the store does not answer.
    :param kept: whether to keep an armed record at all.
    """

    page: LedgerPage | None = None
    """The entry in the ledger, if there is to be one."""
    refused_with: Any = None
    """The HTTP code with which Airflow has refused the record of this try, if it has."""

    def __init__(self, context: Any, log: Any, *, kept: bool = True) -> None:
        self._store = context.get("task_state_store") if kept else None
        self._context = context
        self._ti = context["ti"]
        self._log = log
        self._earlier: ArmedRecord | None = None
        self._announced: str | None = None
        self._traces: StartFootprint | None = None
        self._is_there: bool | None = None  # the record of this try; None: not known

    @property
    def this_try(self) -> dict[str, Any]:
        """What tells this try from others, as :func:`verdict.of_armed_record` wants it."""
        return {"try_number": self._ti.try_number, "try_id": str(self._ti.id), "max_tries": self._ti.max_tries}

    @property
    def is_outdated(self) -> bool:
        """Whether Airflow has another try of this task by now, and refused the record for that."""
        return bool(self.refused_with == 404)

    @property
    def seed(self) -> str:
        """What stands for this try and for no other one: the id alone may be that of an earlier one as well."""
        return f"{self._ti.id}/{self._ti.try_number}"

    @property
    def will_retry(self) -> bool:
        """Whether Airflow will try again after an ordinary failure of this try."""
        max_tries = self._ti.max_tries
        return bool(max_tries) and self._ti.try_number <= max_tries

    @property
    def will_adopt(self) -> bool:
        """Whether that next try will find the record of this one."""
        return self.will_retry and self._store is not None and self._is_there is not False

    def is_last(self, error: BaseException, policy: Any) -> bool:
        """Whether the task's retry policy (Airflow 3.3) ends it after this error, retries or not.

        :param policy: the operator's ``retry_policy``, if it has one.
        """
        if policy is None or not isinstance(error, Exception):
            return False
        from airflow.sdk.definitions.retry_policy import RetryAction

        this = self._ti
        try:
            decision = policy.evaluate(
                exception=error, try_number=this.try_number, max_tries=this.max_tries, context=self._context
            )
        except Exception:
            return False  # as Airflow sees it
        return bool(decision.action is RetryAction.FAIL)

    def read(self) -> ArmedRecord | None:
        """The record that is there, whoever left it."""
        from airflow_lro_provider.ownership.decisions import ArmedRecord

        answer = self._ask("read", self._store, lambda store: store.get(KEY))
        self._earlier = ArmedRecord.from_dict(answer)
        return self._earlier

    def check(self) -> None:
        """See whether the record of this try is there, if another process has written it."""
        from airflow_lro_provider.ownership.decisions import ArmedRecord

        if self._is_there is None:
            answer = self._ask("read", self._store, lambda store: store.get(KEY))
            record = ArmedRecord.from_dict(answer)
            if not isinstance(answer, Exception):
                self._is_there = record is not None and self.is_own(record)

    def announce(self, start: str, request_id: str, traces: StartFootprint | None = None) -> None:
        """Say that this try is about to start an operation.

        The process of a task that was cleared lives on for some seconds, while the next try begins. Airflow does
        not know this try any more then, and refuses the record: nothing may be started.

        :param start: which method starts it, in words.
        :param request_id: the id that it is started with, if the method takes one.
        :param traces: by what the operation can be found if its name is never known.
        :raises OperationKilled: if this try is not Airflow's current one any more, or its task has ended.
        """
        from airflow_lro_provider.ownership.decisions import ArmedRecord, was_stopped
        from airflow_lro_provider.ownership.evidence import TaskKey, read_task_state

        self._announced, self._traces = request_id, traces
        record = ArmedRecord(reference=None, request_id=request_id, **self.this_try)
        self._set(record)
        if self.refused_with in _NOT_CURRENT:
            raise OperationKilled("this try is not Airflow's current one any more (cleared?); nothing was started")
        if was_stopped(state := read_task_state(TaskKey.of(self._ti))):
            raise OperationKilled(f"the state of this task is {state}; nothing was started")
        self._ask("enter", self.page, lambda page: page.write(None, start, request_id, traces))

    def write(self, reference: OperationReference, killed: str | None = None) -> None:
        """Say that this try waits for this operation; or why it asked for its end."""
        from airflow_lro_provider.ownership.decisions import ArmedRecord

        record = ArmedRecord(reference=reference.to_dict(), killed=killed, **self.this_try)
        self._set(record)
        if killed is not None:
            return  # the sweep sees to it that the cancel has come to something
        self._ask("enter", self.page, lambda page: page.write(reference))
        # Only now: between the two entries there is no moment without one.
        if self._earlier is not None and self._earlier.reference == record.reference:
            self.strike_out_earlier()
        elif self._earlier is not None and self._earlier.request_id == self._announced is not None:
            self.strike_out_earlier()  # its start was sent again, and this came of it

    def strike_out_earlier(self) -> None:
        """What the earlier try stood for is over, or this one's now."""
        from airflow_lro_provider.lro.resources.names import OperationReference

        earlier = self._earlier
        if earlier is None or self.is_own(earlier):
            return
        reference = None if earlier.reference is None else OperationReference.from_dict(earlier.reference)
        self._ask("strike out", self.page, lambda page: page.remove(reference, earlier))

    def remove(self, reference: OperationReference | None = None) -> None:
        """This try ends normally.

        :param reference: its operation, if it is known.
        """
        self._ask("remove", self._store, lambda store: store.delete(KEY))
        self.let_go(reference)

    def let_go(self, reference: OperationReference | None = None) -> None:
        """The operation runs on, and is nobody's: the sweep must not end it."""
        self._ask("strike out", self.page, lambda page: page.remove(reference))
        if self._earlier is not None and self._earlier.reference is None and self._traces is not None:
            # What an earlier try may have started works on the same: the sweep would take this one for it.
            self.strike_out_earlier()

    def is_own(self, record: ArmedRecord) -> bool:
        """Whether this very try has left it."""
        return record.is_of(self._ti.try_number, str(self._ti.id))

    def _set(self, record: ArmedRecord) -> Any:
        answer = self._ask("write", self._store, lambda store: store.set(KEY, asdict(record)))
        self._is_there = not isinstance(answer, Exception)
        self.refused_with = _status_of(answer)
        return answer

    def _ask(self, what: str, whom: Any, question: Callable[[Any], Any]) -> Any:
        """Ask, and give the answer, or the error that came instead."""
        if whom is None:
            return None
        try:
            return question(whom)
        except Exception as error:
            # After a clear this try is not the current one any more and may not write: that is fine.
            self._log.info("Could not %s the record of this try: %s", what, str(error)[:300])
            return error


def _status_of(error: Any) -> Any:
    """The HTTP code of Airflow's API in an error of a question to the supervisor."""
    detail = getattr(getattr(error, "error", None), "detail", None)
    return detail.get("status_code") if isinstance(detail, dict) else None
