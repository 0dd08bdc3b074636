"""One sweep: which entries of the ledger belong to dead tasks, and what becomes of their operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from airflow_lro_provider.ownership.evidence import TaskKey, describe_state, query_states, read_task_state
from airflow_lro_provider.sweep.cancellation import Claims, cancel_all
from airflow_lro_provider.sweep.ledger import Ledger, LedgerEntry, LedgerKey
from airflow_lro_provider.sweep.report import Row, What

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings

MAX_RUN_STATES = 200
"""Dag runs whose state one sweep requests at most, of tasks that wait to run: each is a request."""
MAX_UNDECIDED = 1000
"""How many entries a sweep reports as undecided at most; it counts all."""


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

    def is_gone(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
        """Whether a question about it alone does not find it either."""
        return read_task_state(TaskKey(dag_id, run_id, task_id, map_index)) is Evidence.GONE

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        """Load a connection."""
        return OperationsHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain).settings


@dataclass
class SweepResult:
    """What a sweep found and did.

    :param alive: entries whose task, or another one, still owns the operation.
    :param unknown: entries whose task is not known to be dead or alive.
    :param unreadable: keys and entries that cannot be read.
    :param found: the entries of dead tasks, by their keys.
    """

    alive: int = 0
    unknown: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    found: dict[str, Row] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """The entries of dead tasks."""
        return list(self.found.values())

    @property
    def counts(self) -> dict[str, int]:
        """How many entries were found, and how many of them ended in which way; all but the first add up to it."""
        done = Counter(row.what for row in self.rows)
        counts = {what.value: done[what] for what in What}
        counts[What.UNSURE.value] += len(self.unknown) + len(self.unreadable)
        return {"found": self.alive + sum(counts.values()), "alive": self.alive, **counts}

    def summary(self) -> str:
        """The counts in one line."""
        shown = {what: number for what, number in self.counts.items() if number or what != What.WOULD_CANCEL.value}
        return ", ".join(f"{number} {what}" for what, number in shown.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the counts, all entries of dead tasks, and what a person has to decide."""
        undecided = [
            *({"entry": key, **row.to_dict()} for key, row in self.found.items() if row.what is What.UNSURE),
            *({"entry": key, "why": "it is unknown whether its task is alive"} for key in self.unknown),
            *({"entry": key, "why": "it cannot be read"} for key in self.unreadable),
        ]
        return {
            **self.counts,
            "operations": [row.to_dict() for row in self.rows],
            "undecided": undecided[:MAX_UNDECIDED],
        }


def sweep(airflow: Airflow, *, now: float, dry_run: bool = False, log: Callable[..., object]) -> SweepResult:
    """Sweep once.

    :param airflow: where the ledger is, and what knows the tasks.
    :param now: the time, in seconds since the epoch.
    :param dry_run: poll, but change nothing.
    :param log: a logger's ``info``: gets a line for each operation of a dead task.
    """
    return _Sweep(airflow, now, dry_run, log).run()


def explain(airflow: Airflow, entry: str, *, now: float) -> list[str]:
    """Tell what is known of one entry, and what a sweep would do about it. Changes nothing.

    :param entry: its key, as the result of a sweep has it.
    :return: lines for a person.
    """
    return list(_Sweep(airflow, now, True, lambda *_: None).explain(entry))


class _Sweep:
    """One sweep: what is known of the entries so far."""

    def __init__(self, airflow: Airflow, now: float, dry_run: bool, log: Callable[..., object]) -> None:
        self._airflow, self._now, self._dry_run, self._log = airflow, now, dry_run, log
        self._result = SweepResult()
        self._seen: set[str] = set()
        self._dead: dict[str, str] = {}  # the entries of dead tasks, and how that is known
        self._evidence: dict[str, str] = {}
        self._unread: dict[str, str | None] = {}  # entries that cannot be read, and their operations
        self._keys: dict[str, LedgerKey] = {}
        self._values: dict[str, LedgerEntry] = {}

    def run(self) -> SweepResult:
        self._add(self._airflow.keys())
        let_go = self._judge()
        dead = self._still_unowned() if self._dead else {}
        rows = self._cancel(dead)
        for text in let_go:
            rows[text] = Row(self._values[text], What.FINISHED, "its task has let it go on purpose")
        for text, row in rows.items():
            if row.what is What.FINISHED and not self._dry_run:
                try:
                    self._airflow.remove(text)
                except Exception as error:  # the next sweep finds it again
                    self._log("Could not remove an entry of the ledger (%s): %s", type(error).__name__, text)
            self._log("%s", row)
        self._result.found = rows
        return self._result

    def explain(self, text: str) -> Iterator[str]:
        self._add(self._airflow.keys())
        yield f"entry: {text}"
        if text not in self._seen:
            yield "There is no such entry (any more)."
            return
        let_go = self._judge()
        key, entry = self._keys.get(text), self._value(text)
        if key is None or entry is None:
            yield "It cannot be read, or its key and its value disagree: it is left alone."
            return
        yield f"task: {entry.task} ({self._evidence[text]})"
        if entry.reference is not None:
            yield f"operation: {entry.reference.get('name')} ({entry.reference.get('service')})"
        else:
            began = f"{self._now - entry.armed_since:.0f} s ago"
            yield f"operation: not known; {entry.start} was about to be sent {began} (request id {entry.request_id})"
        for other, its in self._keys.items():
            if other != text and its.operation is not None and its.operation == key.operation:
                yield f"another entry of the same operation: {other} ({self._evidence.get(other, 'not known')})"
        if text in let_go:
            yield "decision: forget it, its task has let it go on purpose"
        elif text not in self._dead:
            yield "decision: leave it, its task is alive, or it is not known to be dead"
        elif text not in self._still_unowned():
            yield "decision: leave it, another task owns the operation, or the entry was removed just now"
        else:
            [row] = self._cancel({text: self._dead[text]}).values()
            yield f"decision: {row.what.value}, {row.why}"
            yield from (f"candidate: {name}" for name in row.candidates)

    def _still_unowned(self) -> dict[str, str]:
        """Read the ledger again, and leave out of the dead what has an owner by now.

        A try that adopts an operation adds its entry before it removes the old one: whoever has done so since the
        first read is found now. And a task that ends well removes its entry before Airflow shows its end: one whose
        entry has vanished has let its operation go, though its task may look dead.
        """
        claims = self._claims()
        dead = {text: why for text, why in self._dead.items() if text in claims.keys}
        unowned = {text: why for text, why in dead.items() if self._keys[text].operation not in claims.owned}
        self._result.alive += len(dead) - len(unowned)  # another task owns it
        return unowned

    def _cancel(self, dead: Mapping[str, str]) -> dict[str, Row]:
        answered = [text for text in dead if self._is_answered(text)]
        return {
            **{text: Row(self._values[text], What.FINISHED, "another entry has what it started") for text in answered},
            **cancel_all(
                {text: (self._values[text], why) for text, why in dead.items() if text not in answered},
                settings=self._airflow.settings,
                claims=self._claims,
                now=self._now,
                dry_run=self._dry_run,
            ),
        }

    def _is_answered(self, text: str) -> bool:
        """Whether it is of a start, and the same try has added an operation later: what that start responded with."""
        key, entry = self._keys[text], self._values[text]
        if key.operation is not None:
            return False
        others = (other for other, its in self._keys.items() if its.operation and its.try_id == key.try_id)
        armed = filter(None, map(self._value, others))
        return any(one.try_number == key.try_number and one.armed_since > entry.armed_since for one in armed)

    def _claims(self) -> Claims:
        """What the ledger has by now.

        Airflow lists Variables page by page, and an entry may be skipped while others are removed: so one that was
        seen before still counts as an owner. One that cannot be read does, too.
        """
        keys = set(self._airflow.keys())
        self._add(keys - self._seen)
        living = {text: key for text, key in self._keys.items() if text not in self._dead}
        starting = [text for text, key in living.items() if key.operation is None and text in keys]
        return Claims(
            keys=keys,
            owned={key.operation for key in living.values() if key.operation} | {*filter(None, self._unread.values())},
            recorded={key.operation for key in self._keys.values() if key.operation},
            starting=[entry for text in starting if (entry := self._value(text)) is not None],
        )

    def _add(self, texts: Iterable[str]) -> None:
        """Read these keys, and the values of those that do not say whose they are."""
        for text in texts:
            self._seen.add(text)
            key = LedgerKey.from_text(text)
            if key is not None and key.owner is not None and key.is_of_first_release:
                if (entry := self._value(text)) is not None:
                    key = replace(key, operation=entry.operation)
            elif key is not None and key.owner is None and (entry := self._value(text)) is not None:
                key = LedgerKey(entry.owner, entry.try_number, entry.try_id, entry.operation)
            if key is not None and key.owner is not None:
                self._keys[text] = key
            elif text not in self._unread:
                self._count_unreadable(text)

    def _value(self, text: str) -> LedgerEntry | None:
        if text not in self._values:
            try:
                entry = self._airflow.read(text)
            except Exception as error:  # of Airflow, of any kind
                self._log("Could not read an entry of the ledger (%s): %s", type(error).__name__, text)
                entry = None
            if entry is None or text not in entry.keys:  # whoever has edited one of them may have edited both
                self._count_unreadable(text)
                return None
            self._values[text] = entry
        return self._values[text]

    def _count_unreadable(self, text: str) -> None:
        if text not in self._unread:
            key = LedgerKey.from_text(text)
            self._unread[text] = None if key is None else key.operation
            self._result.unreadable.append(text)
            self._log("Unreadable, left alone: entry %s of the ledger", text)

    def _judge(self) -> list[str]:
        """Count the living, and note the dead. Returns the entries of tasks that let their operations go."""
        last: dict[TaskKey | None, LedgerKey] = {}
        for key in self._keys.values():
            last[key.owner] = max(key, last.get(key.owner, key), key=lambda one: one.try_number)
        let_go: list[str] = []
        run_states: dict[tuple[str, str], str | None] = {}
        for text, owner, state in self._states():
            superseded = self._keys[text].is_superseded_by(last[owner])
            decide = partial(of_ledger_entry, task_state=state, superseded=superseded)
            run_state = None
            if waits_for_its_run(state) and Decision.OWN in _whatever_the_policy(decide):
                run_state = self._run_state(owner, run_states)
                decide = partial(decide, run_state=run_state)
            of_run = f", its run is {run_state}" if run_state else ""
            of_later = ", a later try has an entry" if superseded else ""
            self._evidence[text] = f"{describe_state(state)}{of_run}{of_later}"
            decisions = _whatever_the_policy(decide)
            if decisions & {Decision.CANCEL} or len(decisions) > 1:  # most often the value need not be read
                if (entry := self._value(text)) is None:
                    continue
                policy = {name: getattr(entry, name) for name in _POLICY}
                policy["lets_go"] = entry.lets_go and entry.reference is not None  # else it died while it started it
                decisions = {decide(**policy)}
            if Decision.CANCEL in decisions:
                in_run = f" in a run that is {run_state}" if run_has_ended(run_state) else ""
                self._dead[text] = (
                    "a later try has another operation" if superseded else f"{describe_state(state)}{in_run}"
                )
            elif Decision.LET_GO in decisions:
                let_go.append(text)
            elif Decision.UNSURE in decisions:
                self._result.unknown.append(text)
            else:
                self._result.alive += 1
        return let_go

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


_POLICY = ("will_adopt", "cancel_on_failure", "lets_go")


def _whatever_the_policy(decide: Callable[..., Decision]) -> set[Decision]:
    """What may be decided about an entry whose value was not read."""
    return {decide(**dict.fromkeys(_POLICY, policy)) for policy in (True, False)}
