"""What the ledger says of one guarded operation: whose it is, and how to get at it. Never a secret.

An entry has a **key**, of which thousands can be listed at once, and a **value**, which has to be read one by one. So
the key says what most often decides: whose entry it is, and (by a fingerprint) which operation's::

    DAG/RUN/TASK/MAP-INDEX/TRY-NUMBER/TRY-ID/FINGERPRINT

Ids that are too long or have odd characters are left out of it (``~/TRY-ID/FINGERPRINT``); the value has them.

Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow_lro_provider.lro.http.json import read_json
from airflow_lro_provider.ownership.decisions import is_younger
from airflow_lro_provider.ownership.evidence import TaskKey

__all__ = ["LedgerEntry", "LedgerKey", "fingerprint"]

STARTING = "-"
"""The fingerprint of an operation that has no name yet."""
_LONGEST = 200
_PLAIN = re.compile(r"[A-Za-z0-9_.~:+@-]+")


def fingerprint(reference: Mapping[str, Any]) -> str:
    """What tells an operation from all others, in short.

    :param reference: as :meth:`OperationReference.to_dict` gives it.
    """
    # Not the host: the same operation may be named with the global host and with a regional one.
    text = f"{reference.get('service')}/{reference.get('name')}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LedgerKey:
    """What the key of an entry says.

    :param owner: Dag, run, task and map index; ``None`` if they are left out.
    :param try_number: which try.
    :param try_id: its id.
    :param operation: a fingerprint of the operation; ``None`` while it is being started.
    """

    owner: TaskKey | None
    try_number: int
    try_id: str
    operation: str | None

    def is_superseded_by(self, other: LedgerKey) -> bool:
        """Whether that is a later try of the same task.

        Its number alone does not say so: a task instance that was deleted, or whose run was, and that was made
        anew counts from 1 again.
        """
        return other.try_number > self.try_number and not is_younger(self.try_id, other.try_id)

    @classmethod
    def from_text(cls, text: str) -> LedgerKey | None:
        """Read a key; ``None`` for anything that is not one."""
        parts = text.split("/")
        fingerprint = None if parts[-1] == STARTING else parts[-1]
        if len(parts) == 3 and parts[0] == "~":
            return cls(None, 0, parts[1], fingerprint)
        if len(parts) != 7 or not re.fullmatch(r"-?\d{1,9}", parts[3]) or not re.fullmatch(r"\d{1,9}", parts[4]):
            return None
        return cls(TaskKey(parts[0], parts[1], parts[2], int(parts[3])), int(parts[4]), parts[5], fingerprint)


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
    :param traces: by what it can be found at the service while its name is not known, as
        :meth:`StartFootprint.to_dict` gives it.
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
    traces: Mapping[str, Any] | None = None
    gcp_conn_id: str | None = None
    impersonation_chain: str | Sequence[str] | None = None
    will_adopt: bool = False
    cancel_on_failure: bool = True

    @property
    def operation(self) -> str | None:
        """A fingerprint of the operation: of its service and name. ``None`` while it is being started."""
        return None if self.reference is None else fingerprint(self.reference)

    @property
    def owner(self) -> TaskKey:
        """The task instance."""
        return TaskKey(self.dag_id, self.run_id, self.task_id, self.map_index)

    @property
    def key(self) -> str:
        """Where it is kept; see the module's text."""
        last = f"{self.try_id}/{self.operation or STARTING}"
        ids = (self.dag_id, self.run_id, self.task_id)
        text = f"{'/'.join(ids)}/{self.map_index}/{self.try_number}/{last}"
        return text if len(text) <= _LONGEST and all(map(_PLAIN.fullmatch, ids)) else f"~/{last}"

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
            stored = read_json(text.encode())
            reference = stored.get("reference")
            entry = cls(
                **{field: str(stored[field]) for field in ("try_id", "dag_id", "run_id", "task_id")},
                map_index=int(stored["map_index"]),
                try_number=int(stored["try_number"]),
                armed_since=_moment(stored["armed_since"]),
                reference=dict(reference) if reference is not None else None,
                start=str(stored.get("start") or ""),
                request_id=_text(stored.get("request_id")),
                traces=_texts(stored.get("traces")),
                gcp_conn_id=_text(stored.get("gcp_conn_id")),
                impersonation_chain=_chain(stored.get("impersonation_chain")),
                will_adopt=stored.get("will_adopt") is True,
                cancel_on_failure=stored.get("cancel_on_failure") is not False,
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        return entry


def _moment(value: Any) -> float:
    moment = float(value)
    if not math.isfinite(moment):
        raise ValueError
    return moment


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError


def _texts(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    raise TypeError


def _chain(value: Any) -> str | list[str] | None:
    if isinstance(value, list) and all(isinstance(account, str) for account in value):
        return value
    return _text(value)
