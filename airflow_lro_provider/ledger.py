"""The ledger: one entry for each guarded operation, so that somebody else can see that nobody stands for it any more.

It is kept in Airflow's Variables: of all that a task can write without credentials of its own (Airflow 3.3),
only they can be listed. XComs of other Dags cannot be listed by a task, asset states have no list of keys, and
task states can be read by their own task only. An entry is a Variable ``airflow_lro_provider.ledger.TRY-ID``.

It is off unless ``[lro] ledger`` (``AIRFLOW__LRO__LEDGER``) is true: it costs a task two or three small requests
to Airflow's API, and somebody has to run the sweep (:mod:`airflow_lro_provider.sweep`). Losing it cancels nothing:
without an entry the sweep does not know of an operation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

if TYPE_CHECKING:
    from airflow_lro_provider.lro.ledger import LedgerEntry
    from airflow_lro_provider.lro.reference import OperationReference

__all__ = ["PREFIX", "Ledger", "LedgerPage", "ledger_is_on"]

PREFIX = "airflow_lro_provider.ledger."
DESCRIPTION = "An operation that a task stands for; see the sweep of airflow-lro-provider."


def ledger_is_on() -> bool:
    """Whether ``[lro] ledger`` is true."""
    return bool(conf.getboolean("lro", "ledger", fallback=False))


class Ledger:
    """Reads and writes entries from within a task. Every method asks the supervisor."""

    def write(self, entry: LedgerEntry) -> None:
        """Add or replace the entry of a try."""
        _variables().set(PREFIX + entry.try_id, entry.to_json(), description=DESCRIPTION)

    def remove(self, try_id: str) -> None:
        """Remove the entry of a try. No-op if there is none."""
        _variables().delete(PREFIX + try_id)

    def try_ids(self) -> list[str]:
        """The tries that have an entry."""
        return [str(key)[len(PREFIX) :] for key in _variables().keys(prefix=PREFIX)]

    def read(self, try_id: str) -> LedgerEntry | None:
        """The entry of a try; ``None`` if there is none (any more), or it cannot be read."""
        from airflow_lro_provider.lro.ledger import LedgerEntry

        return LedgerEntry.from_json(_variables().get(PREFIX + try_id, default=None))

    def entries(self) -> Iterator[tuple[str, LedgerEntry | None]]:
        """All entries, by try."""
        for try_id in self.try_ids():
            yield try_id, self.read(try_id)


class LedgerPage:
    """The entry of one try of a task.

    :param ti: the running task instance.
    :param policy: ``gcp_conn_id``, ``impersonation_chain``, ``cancel_on_failure`` and ``will_adopt`` of
        :class:`LedgerEntry`.
    """

    def __init__(self, ti: Any, **policy: Any) -> None:
        self._ledger = Ledger()
        self._ti = ti
        self._policy = policy

    def write(self, reference: OperationReference | None, start: str = "", request_id: str | None = None) -> None:
        """Enter the operation.

        :param reference: ``None`` while it is being started.
        :param start: which method starts it, in words.
        :param request_id: the id that it is started with.
        """
        from airflow_lro_provider.lro.ledger import LedgerEntry

        ti = self._ti
        entry = LedgerEntry(
            try_id=str(ti.id),
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            try_number=ti.try_number,
            armed_since=time.time(),
            reference=None if reference is None else reference.to_dict(),
            start=start,
            request_id=request_id,
            **self._policy,
        )
        self._ledger.write(entry)

    def remove(self, try_id: str | None = None) -> None:
        """Remove it.

        :param try_id: that of another try, instead.
        """
        self._ledger.remove(str(self._ti.id) if try_id is None else try_id)


def _variables() -> Any:
    from airflow.providers.common.compat.sdk import Variable

    return Variable
