"""The sweep: compares what the ledger says is running with what Airflow still wants, and cancels the rest.

Hooks run when Airflow is well and the process lives. The sweep is for everything else: SIGKILL or OOM without a retry,
the death of a supervisor, a worker or a triggerer, a kill in the first second of a deferral. In a Dag file::

    from airflow_lro_provider.sweep import sweep_dag

    dag = sweep_dag()

and ``[lro] ledger = True`` for all workers. Two sweeps side by side are harmless: cancelling twice is, and so is
striking out what is struck out already.

What cannot be judged, or not be reached, is counted and left for the next sweep; it is never guessed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import DAG, BaseOperator

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_lro_provider.lro.credentials import ConnectionSettings
    from airflow_lro_provider.lro.ledger import LedgerEntry
    from airflow_lro_provider.lro.verdict import Evidence

__all__ = ["Airflow", "Row", "SweepOperationsOperator", "SweepResult", "sweep", "sweep_dag"]

RUN_IDS_AT_ONCE = 50
"""So many runs are asked about in one question; their ids stand in a URL."""
PARALLEL = 8
"""So many operations are looked at or cancelled at a time."""
FORGET_AFTER = 30 * 86400.0
"""An entry of a start that was never answered is struck out after so many seconds: so long Google's APIs
remember an operation."""

ALIVE, OVER, CANCELLED, UNSURE = "alive", "over", "cancelled", "unsure"


class Airflow(Protocol):
    """What the sweep needs of Airflow: from within a task, or from outside."""

    def entries(self) -> Iterator[tuple[str, LedgerEntry | None]]:
        """All entries of the ledger, by try."""

    def try_ids(self) -> Iterable[str]:
        """The tries that have an entry."""

    def read(self, try_id: str) -> LedgerEntry | None:
        """One entry; ``None`` if it is gone."""

    def remove(self, try_id: str) -> None:
        """Strike an entry out."""

    def states(
        self, dag_id: str, task_ids: list[str], run_ids: list[str], map_index: int | None
    ) -> Mapping[str, Mapping[str, Any]]:
        """The states of task instances, by run and by task (``TASK_INDEX`` of mapped ones).

        :param map_index: -1 for those that are not mapped; ``None`` for all.
        """

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        """What a connection says."""


@dataclass(frozen=True)
class Row:
    """What the sweep makes of one entry.

    :param what: ``alive``, ``over``, ``cancelled`` or ``unsure``.
    :param why: in words.
    """

    entry: LedgerEntry
    what: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        name = (self.entry.reference or {}).get("name") or self.entry.start
        return {"operation": name, "task": self.entry.task, "what": self.what, "why": self.why}


@dataclass
class SweepResult:
    """What a sweep found and did."""

    rows: list[Row] = field(default_factory=list)
    unreadable: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many entries were found, and what became of them."""
        found = Counter(row.what for row in self.rows)
        return {
            "found": len(self.rows) + self.unreadable,
            **{what: found[what] for what in (ALIVE, OVER, CANCELLED)},
            UNSURE: found[UNSURE] + self.unreadable,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the counts, and all entries but those that are alive."""
        return {**self.counts, "operations": [row.to_dict() for row in self.rows if row.what != ALIVE]}


def sweep(airflow: Airflow, *, now: float, dry_run: bool = False, log: Callable[..., object]) -> SweepResult:
    """Sweep once.

    :param airflow: where the ledger is, and who is asked.
    :param now: the time, in seconds since the epoch.
    :param dry_run: look, but change nothing.
    :param log: is told, as a logger's ``info``, what is done and why.
    """
    result = SweepResult()
    entries: dict[str, LedgerEntry] = {}
    for try_id, entry in airflow.entries():
        if entry is None:
            result.unreadable += 1
            log("The entry of try %s cannot be read; it is left alone", try_id)
        else:
            entries[try_id] = entry
    rows, dead = _judge(airflow, entries)
    result.rows += rows
    if dead:
        # A try that adopts an operation enters it before it strikes the old entry out: whoever has entered it
        # since we looked is found now.
        for try_id in set(airflow.try_ids()) - set(entries):
            if (late := airflow.read(try_id)) is not None:
                entries[try_id] = late
        wanted = {entry.operation for try_id, entry in entries.items() if try_id not in dead}
        for try_id in list(dead):
            if entries[try_id].operation is not None and entries[try_id].operation in wanted:
                result.rows.append(Row(entries[try_id], ALIVE, "another task stands for it"))
                del dead[try_id]
        ended = asyncio.run(_end_all(airflow, [(entries[t], why) for t, why in dead.items()], now, dry_run))
        for row in ended:
            if row.what == OVER and not dry_run:
                airflow.remove(row.entry.try_id)
            log("%s of %s: %s, %s", (row.entry.reference or {}).get("name"), row.entry.task, row.what, row.why)
        result.rows += ended
    return result


def _judge(airflow: Airflow, entries: Mapping[str, LedgerEntry]) -> tuple[list[Row], dict[str, str]]:
    """Tell the entries that are to be left alone from those of dead tasks (and why they are dead)."""
    from airflow_lro_provider.lro.verdict import Evidence, Verdict, of_ledger_entry

    last: dict[tuple[Any, ...], int] = defaultdict(int)
    for entry in entries.values():
        last[_instance(entry)] = max(last[_instance(entry)], entry.try_number)
    rows: list[Row] = []
    dead: dict[str, str] = {}
    for try_id, state in _states(airflow, entries):
        entry = entries[try_id]
        superseded = last[_instance(entry)] > entry.try_number
        verdict = of_ledger_entry(
            task_state=state,
            will_adopt=entry.will_adopt,
            cancel_on_failure=entry.cancel_on_failure,
            superseded=superseded,
        )
        said = "unknown" if state is Evidence.UNKNOWN else "gone" if state is None else state
        why = "a later try has another operation" if superseded else f"its task is {said}"
        if verdict is Verdict.CANCEL:
            dead[try_id] = why
        else:
            rows.append(Row(entry, UNSURE if verdict is Verdict.UNSURE else ALIVE, why))
    return rows, dead


def _instance(entry: LedgerEntry) -> tuple[Any, ...]:
    return entry.dag_id, entry.run_id, entry.task_id, entry.map_index


def _states(airflow: Airflow, entries: Mapping[str, LedgerEntry]) -> Iterator[tuple[str, str | Evidence | None]]:
    """The state of the task of each entry, asked for many at once.

    A mapped task is asked for by itself: ``a_1`` is the name of a task as well as that of the second of ``a``.
    """
    from airflow_lro_provider.lro.verdict import Evidence

    groups: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for try_id, entry in entries.items():
        groups[entry.dag_id, entry.task_id if entry.map_index >= 0 else None].append(try_id)
    for (dag_id, mapped), try_ids in groups.items():
        run_ids = sorted({entries[try_id].run_id for try_id in try_ids})
        for begin in range(0, len(run_ids), RUN_IDS_AT_ONCE):
            chunk = set(run_ids[begin : begin + RUN_IDS_AT_ONCE])
            asked = [try_id for try_id in try_ids if entries[try_id].run_id in chunk]
            task_ids = sorted({entries[try_id].task_id for try_id in asked})
            try:
                answer: Any = airflow.states(dag_id, task_ids, sorted(chunk), None if mapped else -1)
            except Exception:
                answer = None
            for try_id in asked:
                entry = entries[try_id]
                if not isinstance(answer, Mapping):
                    yield try_id, Evidence.UNKNOWN
                    continue
                key = entry.task_id if entry.map_index < 0 else f"{entry.task_id}_{entry.map_index}"
                states = answer.get(entry.run_id) or {}
                if key not in states:
                    yield try_id, None
                else:
                    state = states[key]
                    yield try_id, "none" if state is None else str(getattr(state, "value", state))


async def _end_all(airflow: Airflow, dead: list[tuple[LedgerEntry, str]], now: float, dry_run: bool) -> list[Row]:
    """Look at the operations of dead tasks, and cancel those that run."""
    from airflow_lro_provider.lro.aio import AsyncOperationsClient
    from airflow_lro_provider.lro.errors import OperationsError

    turn = asyncio.Semaphore(PARALLEL)
    clients: dict[str, AsyncOperationsClient | str] = {}
    for entry, _ in dead:
        who = _who(entry)
        if who not in clients and entry.reference is not None:
            try:
                settings = airflow.settings(entry.gcp_conn_id, entry.impersonation_chain)
                clients[who] = await AsyncOperationsClient.create(settings)
            except OperationsError as error:
                clients[who] = str(error)

    async def one(entry: LedgerEntry, why: str) -> Row:
        if entry.reference is None:
            if now - entry.armed_since > FORGET_AFTER:
                return Row(entry, OVER, f"{why}; {entry.start} was never answered, long ago")
            return Row(entry, UNSURE, f"{why} since it sent {entry.start}: look whether that has started something")
        client = clients[_who(entry)]
        if isinstance(client, str):
            return Row(entry, UNSURE, client)
        async with turn:
            return await _end(client, entry, why, dry_run)

    try:
        return list(await asyncio.gather(*(one(entry, why) for entry, why in dead)))
    finally:
        for client in clients.values():
            if not isinstance(client, str):
                await client.close()


def _who(entry: LedgerEntry) -> str:
    return f"{entry.gcp_conn_id!r} as {entry.impersonation_chain!r}"


async def _end(client: Any, entry: LedgerEntry, why: str, dry_run: bool) -> Row:
    from airflow_lro_provider.lro.errors import NotFoundError, OperationsError
    from airflow_lro_provider.lro.operation import State
    from airflow_lro_provider.lro.reference import OperationReference

    try:
        reference = OperationReference.from_dict(entry.reference or {})
        seen = await client.get(reference)
        if seen.done:
            return Row(entry, OVER, f"{why}; {seen.summary()}")
        if dry_run:
            return Row(entry, CANCELLED, f"{why}; would be cancelled: {seen.summary()}")
        if seen.state is not State.CANCELLING:
            await client.cancel(reference)
            seen = await client.get(reference)
        if seen.done:
            return Row(entry, CANCELLED, f"{why}; {seen.summary()}")
        return Row(entry, CANCELLED, f"{why}; asked for: {seen.summary()}")
    except NotFoundError:
        return Row(entry, OVER, f"{why}; the service does not know it any more")
    except OperationsError as error:
        return Row(entry, UNSURE, str(error))


class _FromWithin:
    """Airflow as a running task sees it: no credentials needed."""

    def __init__(self) -> None:
        from airflow_lro_provider.ledger import Ledger

        ledger = Ledger()
        self.entries, self.try_ids, self.read, self.remove = (
            ledger.entries,
            ledger.try_ids,
            ledger.read,
            ledger.remove,
        )

    def states(
        self, dag_id: str, task_ids: list[str], run_ids: list[str], map_index: int | None
    ) -> Mapping[str, Mapping[str, Any]]:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        return RuntimeTaskInstance.get_task_states(
            dag_id=dag_id, task_ids=task_ids, run_ids=run_ids, map_index=map_index
        )

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        from airflow_lro_provider.hooks.operations import OperationsHook

        return OperationsHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain).settings


class SweepOperationsOperator(BaseOperator):
    """Sweeps once: cancels the operations of the ledger that no task stands for any more.

    Returns ``{"found": …, "alive": …, "over": …, "cancelled": …, "unsure": …, "operations": [{…}, …]}``; the
    list has all entries but those that are alive.

    :param dry_run: change nothing; log what would be done.
    """

    ui_color = "#fef7e0"

    def __init__(self, *, dry_run: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.only_looks = dry_run  # `dry_run` is a method of Airflow's operators

    def execute(self, context: Context) -> dict[str, Any]:
        """Sweep."""
        import time

        result = sweep(_FromWithin(), now=time.time(), dry_run=self.only_looks, log=self.log.info)
        counts = result.counts
        self.log.info("Swept: %s", ", ".join(f"{number} {what}" for what, number in counts.items()))
        _count(counts)
        return result.to_dict()


def _count(counts: Mapping[str, int]) -> None:
    """Airflow's metrics ``lro.sweep.found`` and so on."""
    from airflow.providers.common.compat.sdk import Stats

    for what, number in counts.items():
        Stats.gauge(f"lro.sweep.{what}", number)


def sweep_dag(
    dag_id: str = "lro_sweep",
    schedule: str | timedelta | None = "*/5 * * * *",
    *,
    dry_run: bool = False,
    **kwargs: Any,
) -> DAG:
    """A Dag that sweeps.

    :param dag_id: its id.
    :param schedule: how often: an operation without a task lives for two intervals at most, from the moment on
        at which Airflow itself counts its task as dead.
    :param dry_run: change nothing.
    :param kwargs: more arguments of the Dag.
    """
    arguments = {"catchup": False, "max_active_runs": 1, "tags": ["google", "lro"], **kwargs}
    with DAG(dag_id, schedule=schedule, **arguments) as dag:
        SweepOperationsOperator(task_id="sweep", dry_run=dry_run, retries=0)
    return dag
