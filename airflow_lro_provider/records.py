"""The armed record: what a try leaves behind if it does not end normally.

It is kept in Airflow's task state store (3.3), which survives a retry, a SIGKILL and a clear. Losing it
never cancels anything: a store that does not answer is said so, and the task goes on without.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_lro_provider.lro.reference import OperationReference
    from airflow_lro_provider.lro.verdict import ArmedRecord

__all__ = ["KEY", "ArmedRecords"]

KEY = "airflow_lro_provider.armed"


class ArmedRecords:
    """The record of one task instance.

    Every method asks the supervisor: none may be called where a kill may raise (see ``guard.py``).

    :param context: the context of the running task.
    :param log: where to say that the store does not answer.
    :param kept: whether to keep one at all.
    """

    def __init__(self, context: Any, log: Any, *, kept: bool = True) -> None:
        self._store = context.get("task_state_store") if kept else None
        self._ti = context["ti"]
        self._log = log

    @property
    def this_try(self) -> dict[str, Any]:
        """What tells this try from others, as :func:`verdict.of_armed_record` wants it."""
        return {"try_number": self._ti.try_number, "try_id": str(self._ti.id), "max_tries": self._ti.max_tries}

    @property
    def will_retry(self) -> bool:
        """Whether Airflow will try again after an ordinary failure of this try."""
        max_tries = self._ti.max_tries
        return bool(max_tries) and self._ti.try_number <= max_tries

    @property
    def will_adopt(self) -> bool:
        """Whether that next try will find the record of this one."""
        return self.will_retry and self._store is not None

    def read(self) -> ArmedRecord | None:
        """The record that is there, whoever left it."""
        from airflow_lro_provider.lro.verdict import ArmedRecord

        return ArmedRecord.from_dict(self._ask("read", lambda store: store.get(KEY)))

    def write(
        self, reference: OperationReference | None, killed: str | None = None, request_id: str | None = None
    ) -> None:
        """Say that this try waits for this operation; and why it asked for its end, if it did.

        :param reference: ``None`` while it is being started.
        :param request_id: the id that it is started with.
        """
        from airflow_lro_provider.lro.verdict import ArmedRecord

        stored = None if reference is None else reference.to_dict()
        record = ArmedRecord(reference=stored, killed=killed, request_id=request_id, **self.this_try)
        self._ask("write", lambda store: store.set(KEY, asdict(record)))

    def remove(self) -> None:
        """This try ends normally."""
        self._ask("remove", lambda store: store.delete(KEY))

    def _ask(self, what: str, question: Any) -> Any:
        if self._store is None:
            return None
        try:
            return question(self._store)
        except Exception as error:
            # After a clear this try is not the current one any more and may not write: that is fine.
            self._log.info("Could not %s the record of this try: %s", what, str(error)[:300])
            return None
