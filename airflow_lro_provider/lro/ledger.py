"""What the ledger says of one guarded operation: whose it is, and how to get at it. Never a secret.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LedgerEntry"]


@dataclass(frozen=True)
class LedgerEntry:
    """One guarded operation of one try of a task.

    :param try_id: the task instance's id, which Airflow changes with every try.
    :param dag_id: the Dag.
    :param run_id: its run.
    :param task_id: the task.
    :param map_index: of a mapped task, else -1.
    :param try_number: which try.
    :param armed_since: when it was armed, in seconds since the epoch.
    :param reference: the operation, as :meth:`OperationReference.to_dict` gives it; ``None`` while it is
        being started.
    :param start: which method is to start it, in words, while that is not known yet.
    :param request_id: the id that it is started with, if the method takes one.
    :param gcp_conn_id: the connection to cancel it with.
    :param impersonation_chain: the account to act as.
    :param will_adopt: whether a retry goes on with it.
    :param cancel_on_failure: whether it is to be cancelled when the task fails by itself.
    """

    try_id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    armed_since: float
    reference: Mapping[str, Any] | None
    start: str = ""
    request_id: str | None = None
    gcp_conn_id: str | None = None
    impersonation_chain: str | Sequence[str] | None = None
    will_adopt: bool = False
    cancel_on_failure: bool = True

    @property
    def operation(self) -> tuple[str, str, str] | None:
        """What tells the operation from all others: service, host and name."""
        if self.reference is None:
            return None
        service, host, name = (str(self.reference.get(key)) for key in ("service", "host", "name"))
        return service, host, name

    @property
    def task(self) -> str:
        """The task instance, for a log."""
        index = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{index} of {self.run_id}, try {self.try_number}"

    def to_json(self) -> str:
        """For the place where it is kept."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: Any) -> LedgerEntry | None:
        """Read it back; ``None`` for anything that is not an entry."""
        try:
            stored = json.loads(text)
            reference = stored.get("reference")
            entry = cls(
                **{field: str(stored[field]) for field in ("try_id", "dag_id", "run_id", "task_id")},
                map_index=int(stored["map_index"]),
                try_number=int(stored["try_number"]),
                armed_since=float(stored["armed_since"]),
                reference=dict(reference) if reference is not None else None,
                start=str(stored.get("start") or ""),
                request_id=stored.get("request_id"),
                gcp_conn_id=stored.get("gcp_conn_id"),
                impersonation_chain=stored.get("impersonation_chain"),
                will_adopt=stored.get("will_adopt") is True,
                cancel_on_failure=stored.get("cancel_on_failure") is not False,
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            return None
        return entry
