"""One sweep: which entries of the ledger belong to dead tasks, and what becomes of their operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.ownership.decisions import (
    Decision,
    Evidence,
    TaskState,
    of_ledger_entry,
    run_has_ended,
    waits_for_its_run,
)
from airflow_lro_provider.ownership.evidence import TaskKey, query_states
from airflow_lro_provider.sweep.cancellation import Claims, Row, What, cancel_all
from airflow_lro_provider.sweep.ledger import Ledger, LedgerEntry, LedgerKey

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings

MAX_RUN_STATES = 200
"""Dag runs whose state one sweep requests at most, of tasks that wait to run: each is a request."""


class Airflow(Protocol):
    """What the sweep needs of Airflow: from within a task, or from outside. Every method blocks."""

    def keys(self) -> Iterable[str]:
        """The keys of all entries of the ledger."""

    def read(self, key: str) -> LedgerEntry | None:
        """An entry; ``None`` if it is gone, or cannot be read."""

    def remove(self, key: str) -> None:
        """Remove an entry."""

    def states(
        self, dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
    ) -> Mapping[str, Mapping[str, Any]]:
        """See :func:`airflow_lro_provider.airflow_compat.task_states.task_states`."""

    def is_gone(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
        """Whether there is no such task instance; requested of each that :meth:`states` left out."""

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a Dag run."""

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        """Load a connection."""


class FromWithin(Ledger):
    """Airflow as a running task sees it: no credentials needed."""

    def __init__(self) -> None:
        from airflow_lro_provider.airflow_compat.task_states import run_state, task_states

        self.states, self.run_state = task_states, run_state

    def is_gone(self, *_: Any) -> bool:
        """Yes: a task sees the states of all others, and in one piece."""
        return True

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        """Load a connection."""
        return OperationsHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain).settings


@dataclass
class SweepResult:
    """What a sweep found and did.

    :param alive: entries whose task, or another one, still owns the operation.
    :param unknown: entries whose task is not known to be dead or alive.
    :param unreadable: keys and entries that cannot be read.
    :param rows: the entries of dead tasks.
    """

    alive: int = 0
    unknown: int = 0
    unreadable: int = 0
    rows: list[Row] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries were found, and how many of them ended in which way; all but the first add up to it."""
        done = Counter(row.what for row in self.rows)
        counts = {what.value: done[what] for what in What}
        counts[What.UNSURE.value] += self.unknown + self.unreadable
        return {"found": self.alive + sum(counts.values()), "alive": self.alive, **counts}

    def summary(self) -> str:
        """The counts in one line."""
        return ", ".join(f"{number} {what}" for what, number in self.counts.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the counts, and all entries of dead tasks."""
        return {**self.counts, "operations": [row.to_dict() for row in self.rows]}


def sweep(airflow: Airflow, *, now: float, dry_run: bool = False, log: Callable[..., object]) -> SweepResult:
    """Sweep once.

    :param airflow: where the ledger is, and what knows the tasks.
    :param now: the time, in seconds since the epoch.
    :param dry_run: poll, but change nothing.
    :param log: a logger's ``info``: gets a line for each operation of a dead task.
    """
    return _Sweep(airflow, now, dry_run, log).run()


class _Sweep:
    """One sweep: what is known of the entries so far."""

    def __init__(self, airflow: Airflow, now: float, dry_run: bool, log: Callable[..., object]) -> None:
        self._airflow, self._now, self._dry_run, self._log = airflow, now, dry_run, log
        self._result = SweepResult()
        self._seen: set[str] = set()
        self._keys: dict[str, LedgerKey] = {}
        self._values: dict[str, LedgerEntry] = {}

    def run(self) -> SweepResult:
        self._add(self._airflow.keys())
        dead = self._judge()
        if dead:
            dead = self._still_unowned(dead)
        rows = cancel_all(
            [(self._values[text], why) for text, why in dead.items()],
            settings=self._airflow.settings,
            claims=lambda: self._claims(dead),
            now=self._now,
            dry_run=self._dry_run,
        )
        for text, row in zip(dead, rows, strict=True):
            if row.what is What.FINISHED and not self._dry_run:
                try:
                    self._airflow.remove(text)
                except Exception as error:  # the next sweep finds it again
                    self._log("Could not remove an entry of the ledger (%s): %s", type(error).__name__, text)
            self._log("%s", row)
        self._result.rows = rows
        return self._result

    def _still_unowned(self, dead: dict[str, str]) -> dict[str, str]:
        """Read the ledger again, and leave out what has an owner by now.

        A try that adopts an operation adds its entry before it removes the old one: whoever has done so since the
        first read is found now. And a task that ends well removes its entry before Airflow shows its end: one whose
        entry has vanished has let its operation go, though its task may look dead.
        """
        entries = set(self._airflow.keys())
        self._add(entries - self._seen)
        dead = {text: why for text, why in dead.items() if text in entries}
        others = [key for text, key in self._keys.items() if text in entries and text not in dead]
        owned = {key.operation for key in others if key.operation is not None}
        unowned = {text: why for text, why in dead.items() if self._keys[text].operation not in owned}
        self._result.alive += len(dead) - len(unowned)  # another task owns it
        return unowned

    def _claims(self, dead: Collection[str]) -> Claims:
        """What the ledger has by now: operations with an entry, and those that are being started."""
        self._add(set(self._airflow.keys()) - self._seen)
        starting = [text for text, key in self._keys.items() if key.operation is None and text not in dead]
        return Claims(
            operations={key.operation for key in self._keys.values() if key.operation},
            starting=[entry for text in starting if (entry := self._value(text)) is not None],
        )

    def _add(self, texts: Iterable[str]) -> None:
        """Read these keys, and the values of those that do not say whose they are."""
        for text in texts:
            self._seen.add(text)
            key = LedgerKey.from_text(text)
            if key is not None and key.owner is None and (entry := self._value(text)) is not None:
                key = LedgerKey(entry.owner, entry.try_number, entry.try_id, key.operation)
            if key is not None and key.owner is not None:
                self._keys[text] = key
            elif key is None:
                self._count_unreadable(text)

    def _value(self, text: str) -> LedgerEntry | None:
        if text not in self._values:
            try:
                entry = self._airflow.read(text)
            except Exception as error:  # of Airflow, of any kind
                self._log("Could not read an entry of the ledger (%s): %s", type(error).__name__, text)
                entry = None
            if entry is None:
                self._count_unreadable(text)
                return None
            self._values[text] = entry
        return self._values[text]

    def _count_unreadable(self, text: str) -> None:
        self._result.unreadable += 1
        self._log("Unreadable, left alone: entry %s of the ledger", text)

    def _judge(self) -> dict[str, str]:
        """Count the living, and give the keys of the entries of dead tasks, with the reason."""
        last: dict[TaskKey | None, LedgerKey] = {}
        for key in self._keys.values():
            last[key.owner] = max(key, last.get(key.owner, key), key=lambda one: one.try_number)
        dead: dict[str, str] = {}
        run_states: dict[tuple[str, str], str | None] = {}
        for text, owner, state in self._states():
            superseded = self._keys[text].is_superseded_by(last[owner])
            decide = partial(of_ledger_entry, task_state=state, superseded=superseded)
            run_state = None
            if waits_for_its_run(state) and Decision.OWN in _whatever_the_policy(decide):
                run_state = self._run_state(owner, run_states)
                decide = partial(decide, run_state=run_state)
            decisions = _whatever_the_policy(decide)
            if decisions & {Decision.CANCEL} or len(decisions) > 1:  # most often the value need not be read
                if (entry := self._value(text)) is None:
                    continue
                decisions = {decide(will_adopt=entry.will_adopt, cancel_on_failure=entry.cancel_on_failure)}
            if Decision.CANCEL in decisions:
                in_run = f" in a run that is {run_state}" if run_has_ended(run_state) else ""
                dead[text] = "a later try has another operation" if superseded else f"its task is {state}{in_run}"
            elif Decision.UNSURE in decisions:
                self._result.unknown += 1
            else:
                self._result.alive += 1
        return dead

    def _states(self) -> Iterator[tuple[str, TaskKey, TaskState]]:
        """The key of each entry, its task, and the state of that."""
        owners = {text: key.owner for text, key in self._keys.items() if key.owner is not None}
        states = query_states(owners.values(), self._airflow.states)
        for text, owner in owners.items():
            state = states[owner]
            if state is Evidence.GONE and not self._is_gone(owner):
                state = Evidence.UNKNOWN
            yield text, owner, state

    def _is_gone(self, task: TaskKey) -> bool:
        try:
            return self._airflow.is_gone(*task)
        except Exception:  # of Airflow, of any kind
            return False

    def _run_state(self, task: TaskKey, known: dict[tuple[str, str], str | None]) -> str | None:
        """The state of a task's run; ``None`` if it is not known, or this sweep has requested too many."""
        run = (task.dag_id, task.run_id)
        if run not in known and len(known) < MAX_RUN_STATES:
            try:
                known[run] = str(self._airflow.run_state(*run))
            except Exception:  # of Airflow, of any kind
                known[run] = None
        return known.get(run)


def _whatever_the_policy(decide: Callable[..., Decision]) -> set[Decision]:
    """What may be decided about an entry whose value was not read."""
    return {decide(will_adopt=policy, cancel_on_failure=policy) for policy in (True, False)}
