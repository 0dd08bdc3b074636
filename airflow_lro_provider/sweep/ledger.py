"""The ledger: one entry for each guarded operation, so that somebody else can see that nobody stands for it any more.

It is kept in Airflow's Variables: of all that a task can write without credentials of its own (Airflow 3.3),
only they can be listed. XComs of other Dags cannot be listed by a task, asset states have no list of keys, and
task states can be read by their own task only. An entry is a Variable whose key says whose it is (see
:mod:`airflow_lro_provider.sweep.entries`), so that a sweep over thousands of live tasks reads lists of keys only.

It is off unless ``[lro] ledger`` (``AIRFLOW__LRO__LEDGER``) is true: it costs a task two to four small requests
to Airflow's API, and somebody has to run the sweep (:mod:`airflow_lro_provider.sweep`). Losing it cancels nothing:
without an entry the sweep does not know of an operation.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

if TYPE_CHECKING:
    from airflow_lro_provider.lro.resources.names import OperationReference
    from airflow_lro_provider.ownership.decisions import ArmedRecord
    from airflow_lro_provider.sweep.entries import LedgerEntry
    from airflow_lro_provider.sweep.search import StartFootprint

__all__ = ["PREFIX", "Ledger", "LedgerPage", "ledger_is_on"]

PREFIX = "airflow_lro_provider.ledger."
DESCRIPTION = "An operation that a task stands for; see the sweep of airflow-lro-provider."


def ledger_is_on() -> bool:
    """Whether ``[lro] ledger`` is true."""
    return bool(conf.getboolean("lro", "ledger", fallback=False))


class Ledger:
    """Reads and writes entries from within a task. Every method asks the supervisor."""

    def write(self, entry: LedgerEntry) -> None:
        """Add an entry."""
        _variables().set(PREFIX + entry.key, entry.to_json(), description=DESCRIPTION)

    def remove(self, key: str) -> None:
        """Strike an entry out. No-op if there is none."""
        _variables().delete(PREFIX + key)

    def keys(self) -> list[str]:
        """The keys of all entries."""
        return [str(key)[len(PREFIX) :] for key in _variables().keys(prefix=PREFIX)]

    def read(self, key: str) -> LedgerEntry | None:
        """An entry; ``None`` if there is none (any more), or it cannot be read."""
        from airflow_lro_provider.sweep.entries import LedgerEntry

        return LedgerEntry.from_json(_variables().get(PREFIX + key, default=None))


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
        self._written: set[str] = set()

    def write(
        self,
        reference: OperationReference | None,
        start: str = "",
        request_id: str | None = None,
        traces: StartFootprint | None = None,
    ) -> None:
        """Enter the operation.

        :param reference: ``None`` while it is being started.
        :param start: which method starts it, in words.
        :param request_id: the id that it is started with.
        :param traces: by what it can be found if its name is never known.
        """
        found_by = None if traces is None else traces.to_dict()
        entry = self._entry(reference, start=start, request_id=request_id, traces=found_by)
        before = set(self._written)
        self._written.add(entry.key)  # also if it seems to fail: Airflow may have taken it
        self._ledger.write(entry)
        # Only now: there is no moment without an entry.
        self._strike_out(before - {entry.key})

    def remove(self, reference: OperationReference | None = None, earlier: ArmedRecord | None = None) -> None:
        """Strike it out.

        :param reference: the operation, if this process did not enter it.
        :param earlier: strike that of an earlier try of this task out instead.
        """
        if earlier is not None:
            entry = self._entry(reference)
            old = replace(entry, try_id=earlier.try_id, try_number=earlier.try_number)
            self._strike_out({old.key})
            return
        if reference is not None:
            self._written.add(self._entry(reference).key)
        self._strike_out(set(self._written))

    def _strike_out(self, keys: set[str]) -> None:
        for key in keys:
            self._ledger.remove(key)
            self._written.discard(key)

    def _entry(self, reference: OperationReference | None, **fields: Any) -> LedgerEntry:
        from airflow_lro_provider.ownership.evidence import TaskKey
        from airflow_lro_provider.sweep.entries import LedgerEntry

        ti = self._ti
        return LedgerEntry(
            try_id=str(ti.id),
            **TaskKey.of(ti)._asdict(),
            try_number=ti.try_number,
            armed_since=time.time(),
            reference=None if reference is None else reference.to_dict(),
            **fields,
            **self._policy,
        )


def _variables() -> Any:
    from airflow.providers.common.compat.sdk import Variable

    return Variable
