"""One sweep: which entries of the ledger belong to dead tasks, and what becomes of their operations.

What cannot be judged, or not be reached, is counted and left for the next sweep; it is never guessed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from airflow_lro_provider.sweep.cancellation import CANCELLED, OVER, UNSURE, Claims, Row, end_all

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.credentials import ConnectionSettings
    from airflow_lro_provider.ownership.decisions import TaskState
    from airflow_lro_provider.sweep.entries import LedgerEntry, LedgerKey

__all__ = ["Airflow", "Row", "SweepResult", "sweep"]

RUNS_TO_ASK_FOR = 200
"""So many runs are asked for their state in one sweep, of tasks that wait to run: one question each."""


class Airflow(Protocol):
    """What the sweep needs of Airflow: from within a task, or from outside."""

    def keys(self) -> Iterable[str]:
        """The keys of all entries."""

    def read(self, key: str) -> LedgerEntry | None:
        """One entry; ``None`` if it is gone, or is none."""

    def remove(self, key: str) -> None:
        """Strike an entry out."""

    def states(
        self, dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
    ) -> Mapping[str, Mapping[str, Any]]:
        """The states of task instances, by run and by task (``TASK_INDEX`` of mapped ones).

        :param map_index: -1 for those that are not mapped; ``None`` for all.
        """

    def is_gone(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
        """Whether there is no such task instance. Asked of one that :meth:`states` left out."""

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        """What a connection says."""


@dataclass
class SweepResult:
    """What a sweep found and did."""

    alive: int = 0
    unknown: int = 0
    unreadable: int = 0
    rows: list[Row] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries were found, and what became of them."""
        what = Counter(row.what for row in self.rows)
        return {
            "found": self.alive + self.unknown + self.unreadable + len(self.rows),
            "alive": self.alive,
            **{word: what[word] for word in (OVER, CANCELLED)},
            UNSURE: what[UNSURE] + self.unknown + self.unreadable,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the counts, and all entries of dead tasks."""
        return {**self.counts, "operations": [row.to_dict() for row in self.rows]}


def sweep(airflow: Airflow, *, now: float, dry_run: bool = False, log: Callable[..., object]) -> SweepResult:
    """Sweep once.

    :param airflow: where the ledger is, and who is asked.
    :param now: the time, in seconds since the epoch.
    :param dry_run: look, but change nothing.
    :param log: is told, as a logger's ``info``, what is done and why.
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
        result = self._result
        self._take(self._airflow.keys())
        dead = self._judge()
        if dead:
            # A try that adopts an operation enters it before it strikes the old entry out: whoever has entered
            # it since we looked is found now. And a task that ends well strikes its entry out before Airflow shows
            # its end: one that has vanished is none of ours, though its task may look dead.
            entered = set(self._airflow.keys())
            self._take(entered - self._seen)
            dead = {text: why for text, why in dead.items() if text in entered}
            living = entered - set(dead)
            wanted = {key.operation for text, key in self._keys.items() if text in living and key.operation}
            for text in [text for text in dead if self._keys[text].operation in wanted]:
                result.alive += 1  # another task stands for it
                del dead[text]
        entries = [(self._values[text], why) for text, why in dead.items()]
        ended = asyncio.run(
            end_all(
                entries,
                settings=self._airflow.settings,
                claims=lambda: self._claims(dead),
                now=self._now,
                dry_run=self._dry_run,
            )
        )
        for text, row in zip(dead, ended, strict=True):
            if row.what == OVER and not self._dry_run:
                self._strike_out(text)
            name = (row.entry.reference or {}).get("name") or row.entry.start
            self._log("%s of %s: %s, %s", name, row.entry.task, row.what, row.why)
        result.rows = ended
        return result

    def _claims(self, dead: Collection[str]) -> Claims:
        """What the ledger says by now of operations that have an entry, and of those that are being started."""
        self._take(set(self._airflow.keys()) - self._seen)
        starting = [text for text, key in self._keys.items() if key.operation is None and text not in dead]
        return Claims(
            operations={key.operation for key in self._keys.values() if key.operation},
            starting=[entry for text in starting if (entry := self._value(text)) is not None],
        )

    def _take(self, texts: Iterable[str]) -> None:
        """Read these keys, and the values of those that do not say whose they are."""
        from airflow_lro_provider.sweep.entries import LedgerKey

        for text in texts:
            self._seen.add(text)
            key = LedgerKey.from_text(text)
            if key is not None and key.owner is None and (entry := self._value(text)) is not None:
                key = LedgerKey(entry.owner, entry.try_number, entry.try_id, key.operation)
            if key is not None and key.owner is not None:
                self._keys[text] = key
            elif key is None:
                self._unreadable(text)

    def _value(self, text: str) -> LedgerEntry | None:
        if text not in self._values:
            try:
                entry = self._airflow.read(text)
            except Exception as error:
                self._log("Airflow does not give %s: %s", text, type(error).__name__)
                entry = None
            if entry is None:
                self._unreadable(text)
                return None
            self._values[text] = entry
        return self._values[text]

    def _strike_out(self, text: str) -> None:
        try:
            self._airflow.remove(text)
        except Exception as error:  # the next sweep finds it again
            self._log("The entry %s cannot be struck out: %s", text, type(error).__name__)

    def _unreadable(self, text: str) -> None:
        self._result.unreadable += 1
        self._log("The entry %s cannot be read; it is left alone", text)

    def _judge(self) -> dict[str, str]:
        """Count the living, and give the keys of the entries of dead tasks, with the reason."""
        from airflow_lro_provider.ownership.decisions import (
            Decision,
            of_ledger_entry,
            run_is_over,
            waits_for_its_run,
        )

        last: dict[Any, LedgerKey] = {}
        for key in self._keys.values():
            last[key.owner] = max(key, last.get(key.owner, key), key=lambda one: one.try_number)
        dead: dict[str, str] = {}
        run_states: dict[tuple[str, str], str | None] = {}
        for text, state in _states(self._airflow, self._keys):
            superseded = self._keys[text].is_superseded_by(last[self._keys[text].owner])
            judge = partial(of_ledger_entry, task_state=state, superseded=superseded)
            verdicts = {judge(will_adopt=policy, cancel_on_failure=policy) for policy in (True, False)}
            run_state = None
            if Decision.OWN in verdicts and waits_for_its_run(state):
                run_state = self._run_state(self._keys[text], run_states)
                judge = partial(judge, run_state=run_state)
                verdicts = {judge(will_adopt=policy, cancel_on_failure=policy) for policy in (True, False)}
            # Most often the policy does not matter, and the value need not be read.
            if len(verdicts) > 1 or Decision.CANCEL in verdicts:
                if (entry := self._value(text)) is None:
                    continue
                verdicts = {judge(will_adopt=entry.will_adopt, cancel_on_failure=entry.cancel_on_failure)}
            said = str(state)
            if run_is_over(run_state):
                said += f" in a run that is {run_state}"
            if Decision.CANCEL in verdicts:
                dead[text] = "a later try has another operation" if superseded else f"its task is {said}"
            elif Decision.UNSURE in verdicts:
                self._result.unknown += 1
            else:
                self._result.alive += 1
        return dead

    def _run_state(self, key: LedgerKey, known: dict[tuple[str, str], str | None]) -> str | None:
        """The state of a task's run; ``None`` if it is not known, or too many were asked for in this sweep."""
        dag_id, run_id, *_ = key.owner or ("", "")
        if (dag_id, run_id) not in known and len(known) < RUNS_TO_ASK_FOR:
            try:
                known[dag_id, run_id] = str(self._airflow.run_state(dag_id, run_id))
            except Exception:
                known[dag_id, run_id] = None
        return known.get((dag_id, run_id))


def _states(airflow: Airflow, keys: Mapping[str, LedgerKey]) -> Iterator[tuple[str, TaskState]]:
    """The state of the task of each entry."""
    from airflow_lro_provider.ownership.decisions import Evidence
    from airflow_lro_provider.ownership.evidence import query_states

    owners = {text: key.owner for text, key in keys.items() if key.owner is not None}
    states = query_states(owners.values(), airflow.states)
    for text, owner in owners.items():
        state = states[owner]
        if state is Evidence.GONE and not _is_gone(airflow, *owner):
            state = Evidence.UNKNOWN
        yield text, state


def _is_gone(airflow: Airflow, *task: Any) -> bool:
    try:
        return airflow.is_gone(*task)
    except Exception:
        return False
