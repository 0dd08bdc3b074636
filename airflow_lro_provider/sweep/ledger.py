"""The ledger: one entry for each operation that a task guards, so that others can see when no task owns it any more.

It is kept in Airflow's Variables: of all that a task can write without credentials of its own, only they can be listed
(XComs of other Dags cannot, asset states have no list of keys, task states can be read by their own task only).

An entry says whose the operation is, and how to get at it; never a secret. It has a **key**, of which thousands can be
listed at once, and a **value**, which has to be read one by one. So the key says what most often decides: whose entry
it is, and (by a fingerprint) which operation's::

    airflow_lro_provider_ledger_DAG-_RUN-_TASK-_MAP_INDEX-_TRY_NUMBER-_TRY_ID-_FINGERPRINT

Airflow asks every secrets backend for a Variable before its own database, and a backend takes few characters for a
name: Google's Secret Manager letters, digits, ``_`` and ``-``
(https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets/create). So all others are written
as ``-`` and two hexadecimal digits: ``-2E`` is a dot. Nor is there a ``--`` in a key: with teams, Google's backend
warns of one (``TEAM_SEP`` in ``secrets/secret_manager.py`` of its provider). Ids that make it too long are left out
(``airflow_lro_provider_ledger_-_TRY_ID-_FINGERPRINT``); the value has them.

It is off unless ``[lro] ledger`` (``AIRFLOW__LRO__LEDGER``) is true: it costs a task two to four small requests
to Airflow's API, and somebody has to run the sweep (:mod:`airflow_lro_provider.sweep`). Losing it cancels nothing:
without an entry the sweep does not know of an operation.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow.providers.common.compat.sdk import conf

from airflow_lro_provider.lro.http.json import read_as, read_json
from airflow_lro_provider.ownership.evidence import TaskKey
from airflow_lro_provider.ownership.tries import is_younger

if TYPE_CHECKING:
    from airflow_lro_provider.lro.resources.names import OperationReference
    from airflow_lro_provider.ownership.decisions import ArmedRecord
    from airflow_lro_provider.sweep.search import StartFootprint

PREFIX = "airflow_lro_provider_ledger_"
_BETWEEN = "-_"
PREFIX_OF_FIRST_RELEASE = "airflow_lro_provider.ledger."
PREFIX_OF_BOTH = "airflow_lro_provider"
"""What all keys begin with, by which Airflow lists them; see :func:`is_key`."""
DESCRIPTION = "An operation that a task owns; see the sweep of airflow-lro-provider."
STARTING = "start"
"""The fingerprint of an operation that has no name yet."""
_MAX_KEY_LENGTH = 230
"""Airflow takes 250 characters, Secret Manager 255 with the ``airflow-variables-`` that Airflow adds."""

_STARTING_OF_FIRST_RELEASE = "-"
_MAX_KEY_LENGTH_OF_FIRST_RELEASE = 200
_PLAIN_IN_FIRST_RELEASE = re.compile(r"[A-Za-z0-9_.~:+@-]+")


def ledger_is_on() -> bool:
    """Whether ``[lro] ledger`` is true."""
    return bool(conf.getboolean("lro", "ledger", fallback=False))


def is_key(variable: str) -> bool:
    """Whether a Variable of this key is an entry of the ledger."""
    return variable.startswith((PREFIX, PREFIX_OF_FIRST_RELEASE))


def _key_of(*parts: str) -> str:
    def plain(odd: re.Match[str]) -> str:
        return "".join(f"-{byte:02X}" for byte in odd[0].encode())

    return PREFIX + _BETWEEN.join(re.sub("[^A-Za-z0-9_]", plain, part) for part in parts)


def fingerprint(reference: Mapping[str, Any]) -> str:
    """A short text that identifies an operation.

    :param reference: as :meth:`OperationReference.to_dict` gives it.
    """
    from airflow_lro_provider.lro.resources.names import fingerprint_of

    return fingerprint_of(reference.get("service"), reference.get("name"))


def fingerprints(reference: Mapping[str, Any]) -> tuple[str, str]:
    """The same, and what the first release took for it, which told a project's number and its id apart."""
    first = f"{reference.get('service')}/{reference.get('name')}"
    return fingerprint(reference), hashlib.sha256(first.encode()).hexdigest()[:16]


# -- an entry: nothing here requests anything -----------------------------------------------------------


@dataclass(frozen=True)
class LedgerKey:
    """What the key of an entry says.

    :param owner: the task instance; ``None`` if it is left out.
    :param operation: a fingerprint of the operation; ``None`` while it is being started.
    """

    owner: TaskKey | None
    try_number: int
    try_id: str
    operation: str | None

    @property
    def is_of_first_release(self) -> bool:
        """Whether the first release has written it: it told a project's number and its id apart."""
        return self.operation is not None and re.fullmatch("[0-9a-f]{16}", self.operation) is not None

    def is_superseded_by(self, other: LedgerKey) -> bool:
        """Whether that is a later try of the same task.

        Its number alone does not prove it: a task instance that was deleted, or whose run was, and that was made
        anew counts from 1 again.
        """
        return other.try_number > self.try_number and not is_younger(self.try_id, other.try_id)

    @classmethod
    def from_text(cls, text: str) -> LedgerKey | None:
        """Read a key, also one of the first release; ``None`` for anything that is not one."""
        if text.startswith(PREFIX):
            parts = [unquote(part.replace("-", "%")) for part in text.removeprefix(PREFIX).split(_BETWEEN)]
        else:
            parts = text.removeprefix(PREFIX_OF_FIRST_RELEASE).split("/")
        operation = None if parts[-1] in (STARTING, _STARTING_OF_FIRST_RELEASE) else parts[-1]
        if len(parts) == 3 and parts[0] in ("", "~"):
            return cls(None, 0, parts[1], operation)
        if len(parts) != 7 or not re.fullmatch(r"-?\d{1,9}", parts[3]) or not re.fullmatch(r"\d{1,9}", parts[4]):
            return None
        return cls(TaskKey(parts[0], parts[1], parts[2], int(parts[3])), int(parts[4]), parts[5], operation)


@dataclass(frozen=True)
class LedgerEntry:
    """One guarded operation of one try of a task.

    :param try_id: the task instance's id, which Airflow changes with every try.
    :param map_index: of a mapped task, else -1.
    :param armed_since: when it was armed, in seconds since the epoch.
    :param reference: the operation, as :meth:`OperationReference.to_dict` gives it; ``None`` while it is
        being started.
    :param start: which method starts it, in words, while its name is not known yet.
    :param request_id: the id that it is started with, if the method takes one.
    :param footprint: how to find it at the service while its name is not known, as
        :meth:`StartFootprint.to_dict` gives it.
    :param gcp_conn_id: the connection to cancel it with.
    :param impersonation_chain: the account to act as.
    :param will_adopt: whether a retry goes on with it.
    :param cancel_on_failure: whether it is to be cancelled when the task fails by itself.
    :param lets_go: whether the task ends with the start, and leaves the operation to nobody on purpose.
    :param sent_since: since when an earlier try may have sent the same start, in seconds since the epoch.
    :param endpoint: where requests about it go.
    :param discreet: whether nothing that the service says is quoted: its start has sent secrets, which that may quote.
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
    footprint: Mapping[str, str] | None = None
    gcp_conn_id: str | None = None
    impersonation_chain: str | Sequence[str] | None = None
    will_adopt: bool = False
    cancel_on_failure: bool = True
    lets_go: bool = False
    sent_since: float | None = None
    endpoint: str | None = None
    discreet: bool = False

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
        last = (self.try_id, self.operation or STARTING)
        full = _key_of(*map(str, (*self.owner, self.try_number)), *last)
        return full if len(full) <= _MAX_KEY_LENGTH else _key_of("", *last)

    @property
    def keys(self) -> tuple[str, str]:
        """The same, and where the first release kept it."""
        operation = _STARTING_OF_FIRST_RELEASE if self.reference is None else fingerprints(self.reference)[1]
        ids = (self.dag_id, self.run_id, self.task_id)
        text = "/".join((*ids, *map(str, (self.map_index, self.try_number, self.try_id, operation))))
        if len(text) > _MAX_KEY_LENGTH_OF_FIRST_RELEASE or not all(map(_PLAIN_IN_FIRST_RELEASE.fullmatch, ids)):
            text = f"~/{self.try_id}/{operation}"
        return self.key, PREFIX_OF_FIRST_RELEASE + text

    @property
    def task(self) -> str:
        """The task instance, for a log."""
        index = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{index} of {self.run_id}, try {self.try_number}"

    def to_json(self) -> str:
        """As it is stored."""
        stored = asdict(self)
        stored["traces"] = stored.pop("footprint")  # its name in the first release
        return json.dumps(stored)

    @classmethod
    def from_json(cls, text: Any) -> LedgerEntry | None:
        """Read it back; ``None`` for anything that is not an entry."""
        try:
            stored = read_json(text.encode())
            stored["footprint"] = stored.pop("traces", None)
            return read_as(cls, stored)
        except (AttributeError, TypeError, ValueError, OverflowError, RecursionError):
            return None


# -- where entries are kept -----------------------------------------------------------------------------


class Ledger:
    """Reads and writes entries from within a task. Every method requests something of the supervisor."""

    def write(self, entry: LedgerEntry) -> None:
        """Add an entry."""
        _variables().set(entry.key, entry.to_json(), description=DESCRIPTION)

    def remove(self, key: str) -> None:
        """Remove an entry. No-op if there is none."""
        _variables().delete(key)

    def keys(self) -> list[str]:
        """The keys of all entries in Airflow's database."""
        return [key for key in map(str, _variables().keys(prefix=PREFIX_OF_BOTH)) if is_key(key)]

    def read(self, key: str) -> LedgerEntry | None:
        """An entry; ``None`` if there is none (any more), or it cannot be read."""
        return LedgerEntry.from_json(_variables().get(key, default=None))


def _variables() -> Any:
    from airflow_lro_provider.airflow_compat.task_states import variables  # a Dag's parse need not pay for its import

    return variables()


class LedgerPage:
    """The entry of one try of a task.

    :param ti: the running task instance.
    :param secrets: what its start sends, and nobody may quote; the try fills it.
    :param policy: ``gcp_conn_id``, ``impersonation_chain``, ``cancel_on_failure``, ``will_adopt`` and ``lets_go`` of
        :class:`LedgerEntry`.
    """

    def __init__(self, ti: Any, secrets: Collection[str] = (), **policy: Any) -> None:
        from airflow_lro_provider.airflow_compat.task_process import try_id

        self._ledger = Ledger()
        self._ti, self._try_id = ti, try_id(ti)
        self._secrets, self._policy = secrets, policy
        self._written: set[str] = set()

    def write(
        self, reference: OperationReference | None, footprint: StartFootprint | None = None, **fields: Any
    ) -> None:
        """Add the operation, in place of what this try has added before. For ``fields`` see :class:`LedgerEntry`."""
        entry = self._entry(reference, footprint=None if footprint is None else footprint.to_dict(), **fields)
        before = set(self._written)
        self._written.add(entry.key)  # also if it seems to fail: Airflow may have written it
        self._ledger.write(entry)
        # Only now: there is no moment without an entry.
        self._remove(before - {entry.key})

    def remove(self, reference: OperationReference | None = None, earlier: ArmedRecord | None = None) -> None:
        """Remove the operation.

        :param reference: the operation, if it was not this process that added it.
        :param earlier: remove the entry of this earlier try of the task instead.
        """
        if earlier is not None:
            self._remove({key for known in {reference, None} for key in self._of(earlier, known).keys})
            return
        if reference is not None:
            self._written.add(self._entry(reference).key)
        self._remove(set(self._written))

    def recall(self) -> Mapping[str, Any] | None:
        """The operation that this try has an entry of. Lists the whole ledger."""
        keys = self._ledger.keys()
        for text in keys:
            key = LedgerKey.from_text(text)
            if key is None or key.try_id != self._try_id or key.operation is None:
                continue
            entry = self._ledger.read(text)
            if entry is not None and entry.try_number == self._ti.try_number:
                return entry.reference
        return None

    def remove_starts(self, footprint: StartFootprint) -> None:
        """Remove what earlier tries of this task may have started, if it works on the same. Lists the whole ledger."""
        owner, found_by, keys = TaskKey.of(self._ti), footprint.to_dict(), self._ledger.keys()
        for text in keys:
            key = LedgerKey.from_text(text)
            if key is None or key.operation is not None or key.owner not in (None, owner):
                continue
            entry = self._ledger.read(text)
            if entry is not None and entry.owner == owner and entry.footprint == found_by:
                self._ledger.remove(text)

    def _of(self, earlier: ArmedRecord, reference: OperationReference | None) -> LedgerEntry:
        return replace(self._entry(reference), try_id=earlier.try_id, try_number=earlier.try_number)

    def _remove(self, keys: set[str]) -> None:
        for key in sorted(keys):  # always in the same order: the same life has the same story
            self._ledger.remove(key)
            self._written.discard(key)

    def _entry(self, reference: OperationReference | None, **fields: Any) -> LedgerEntry:
        return LedgerEntry(
            try_id=self._try_id,
            **TaskKey.of(self._ti)._asdict(),
            try_number=self._ti.try_number,
            armed_since=time.time(),
            reference=None if reference is None else reference.to_dict(),
            discreet=bool(self._secrets),
            **fields,
            **self._policy,
        )
