"""What a sweep reports of each entry whose task is dead."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.sweep.ledger import LedgerEntry

if TYPE_CHECKING:
    from airflow_lro_provider.lro.cancel import CancelResult


class What(str, enum.Enum):
    """What a sweep did about an operation that no task owns any more."""

    FINISHED = "finished"
    """It had finished, by itself or by an earlier cancellation; or it is gone, or was never started. Its entry goes."""
    CANCELLED = "cancelled"
    """This sweep requested its cancellation, and saw it CANCELLED. The next sweep removes the entry."""
    REQUESTED = "requested"
    """Its cancellation was requested, now or before, and it has not ended yet. The next sweep polls it again."""
    WOULD_CANCEL = "would_cancel"
    """It runs, and a sweep that is no dry run would request its cancellation."""
    UNSURE = "unsure"
    """It cannot be judged, reached or cancelled. It is left to the next sweep, or to a person."""


@dataclass(frozen=True)
class Row:
    """The result for one entry whose task is dead.

    :param candidates: the names of operations of which one may be that of the entry, for a person to decide.
    """

    entry: LedgerEntry
    what: What
    why: str
    candidates: tuple[str, ...] = ()

    @property
    def operation(self) -> str:
        """The operation's name; of one that has none yet, how it was started."""
        return str((self.entry.reference or {}).get("name") or self.entry.start)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {"operation": self.operation, "task": self.entry.task, "what": self.what.value, "why": self.why}
        return {**found, "candidates": list(self.candidates)} if self.candidates else found

    def __str__(self) -> str:
        return f"{self.what.value}, {self.why} ({self.entry.task}): {self.operation.rpartition('/')[2]}"


def reported(result: CancelResult, later: Operation | None, *, words: bool = True) -> tuple[What, str]:
    """What to report of a cancellation.

    ==============================  ==========================================  =========
    result of the request           a later poll                                reported
    ==============================  ==========================================  =========
    accepted                        CANCELLED                                   cancelled
    accepted                        ended otherwise, although it was requested  finished
    accepted                        still running, or failed                    requested
    CANCEL_UNSUPPORTED                                                          unsure
    had ended, or is gone                                                       finished
    ==============================  ==========================================  =========

    :param words: see :meth:`Operation.summary <airflow_lro_provider.lro.operation.Operation.summary>`.
    """
    if result.outcome is Outcome.CANCEL_UNSUPPORTED:
        return What.UNSURE, result.summary(words=words)
    if not result.requested:
        return What.FINISHED, result.summary(words=words)
    if later is None or later.outcome is None:
        return What.REQUESTED, result.summary(words=words) if later is None else later.summary(words=words)
    if later.outcome is Outcome.CANCELLED:
        return What.CANCELLED, later.summary(words=words)
    return What.FINISHED, f"{result.outcome_of(later).value} ({later.summary(words=words)})"
