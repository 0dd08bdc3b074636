"""What the sweep does about the operations of dead tasks: it polls each, and cancels those that run.

An operation whose start got no response has no known name. It is searched for among those of its parent
(:mod:`airflow_lro_provider.sweep.search`), and cancelled only if it is the only candidate and no task owns it
according to the ledger.

Nothing is requested of Airflow inside a coroutine: its channel to a task blocks, and serves one thread at a time. So
the connections are loaded before the event loop runs, and the ledger is read again between two runs of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.errors import ConnectionSettingsError, NotFoundError, OperationsError
from airflow_lro_provider.lro.operation import Operation, Outcome, State
from airflow_lro_provider.lro.resources.names import OperationReference, read_reference
from airflow_lro_provider.metrics import StatsMetrics
from airflow_lro_provider.sweep.ledger import LedgerEntry, fingerprint
from airflow_lro_provider.sweep.search import Found, StartFootprint, find

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.flows import CancelResult

MAX_LISTED = 10_000
"""Operations of a parent that are searched at most for one without a name."""
LATE_SECONDS = 3600.0
"""What a start has not begun after this time, it never will."""
FORGET_AFTER_SECONDS = 30 * 86400.0
"""An entry of a start that got no response is removed after this time: Google's APIs remember no operation longer."""


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
    """The result for one entry whose task is dead."""

    entry: LedgerEntry
    what: What
    why: str

    @property
    def operation(self) -> str:
        """The operation's name; of one that has none yet, how it was started."""
        return str((self.entry.reference or {}).get("name") or self.entry.start)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"operation": self.operation, "task": self.entry.task, "what": self.what.value, "why": self.why}

    def __str__(self) -> str:
        return f"{self.what.value}, {self.why} ({self.entry.task}): {self.operation.rpartition('/')[2]}"


@dataclass(frozen=True)
class Claims:
    """What the ledger has on all operations, at one moment.

    :param operations: the fingerprints of those that have an entry of their own.
    :param starting: the entries of starts of living tasks that have no response yet.
    """

    operations: Collection[str]
    starting: Sequence[LedgerEntry]


@dataclass(frozen=True)
class _Case:
    """An entry whose task is dead.

    :param why: how that is known.
    :param settings: of the connection that its operation is reached by.
    :param subject: the operation, or how to find it.
    """

    entry: LedgerEntry
    why: str
    settings: ConnectionSettings
    subject: OperationReference | StartFootprint

    def row(self, what: What, more: str) -> Row:
        return Row(self.entry, what, f"{self.why}; {more}")


def cancel_all(
    dead: Sequence[tuple[LedgerEntry, str]],
    *,
    settings: Callable[[str | None, Any], ConnectionSettings],
    claims: Callable[[], Claims],
    now: float,
    dry_run: bool,
) -> list[Row]:
    """Poll the operations of dead tasks, and cancel those that run; returns a row for each, in their order.

    :param dead: their entries, and how it is known that their tasks are dead.
    :param settings: loads a connection, with an impersonation chain.
    :param claims: reads the ledger again.
    """
    worker = _Worker(settings, now, dry_run)
    rows: dict[int, Row] = {}
    cases: dict[int, _Case] = {}
    for number, (entry, why) in enumerate(dead):
        subject: OperationReference | StartFootprint | None
        try:
            if entry.reference is not None:
                subject = OperationReference.from_dict(entry.reference)
            else:
                subject = StartFootprint.from_dict(entry.footprint)
            if subject is None:
                rows[number] = _unanswered(entry, why, "check whether it has started something", now)
            else:
                cases[number] = _Case(entry, why, worker.settings_for(entry), subject)
        except OperationsError as error:
            rows[number] = Row(entry, What.UNSURE, str(error))
    results = worker.run(cases)
    # The ledger is read after the lists: whoever starts an operation has announced it there before.
    known = claims() if any(isinstance(result, Found) for result in results.values()) else Claims((), ())
    chosen: dict[int, _Case] = {}
    for number, result in results.items():
        case = cases[number]
        try:
            found = _choose(case, result, known, now) if isinstance(result, Found) else result
        except OperationsError as error:  # a listed name that is none
            found = Row(case.entry, What.UNSURE, str(error))
        if isinstance(found, Row):
            rows[number] = found
        else:
            chosen[number] = replace(case, subject=found, why=f"{case.why} before it knew that it had started this")
    rows.update((number, row) for number, row in worker.run(chosen).items() if isinstance(row, Row))
    return [rows[number] for number in range(len(dead))]


class _Worker:
    """Polls, lists and cancels. Each client limits how many requests to a host are in flight.

    :param load: loads a connection.
    """

    def __init__(self, load: Callable[[str | None, Any], ConnectionSettings], now: float, dry_run: bool) -> None:
        self._load, self._now, self._dry_run = load, now, dry_run
        self._loaded: dict[str, ConnectionSettings | OperationsError] = {}
        self._clients: dict[int, asyncio.Task[AsyncOperationsClient]] = {}

    def settings_for(self, entry: LedgerEntry) -> ConnectionSettings:
        """Load a connection once, and so its error."""
        key = f"{entry.gcp_conn_id!r} as {entry.impersonation_chain!r}"
        if key not in self._loaded:
            try:
                self._loaded[key] = self._load(entry.gcp_conn_id, entry.impersonation_chain)
            except OperationsError as error:
                self._loaded[key] = error
            except Exception as error:  # of Airflow: its text may contain more than a report should
                text = f"could not load connection {entry.gcp_conn_id!r}: {type(error).__name__}"
                self._loaded[key] = ConnectionSettingsError(text)
        loaded = self._loaded[key]
        if isinstance(loaded, OperationsError):
            raise loaded
        return loaded

    def run(self, cases: Mapping[int, _Case]) -> dict[int, Row | Found]:
        """Cancel the operations that have a name, and search for those that have none."""
        return dict(zip(cases, asyncio.run(self._run(cases.values())), strict=True)) if cases else {}

    async def _run(self, cases: Iterable[_Case]) -> list[Row | Found]:
        one_list = asyncio.Lock()  # at a time: it may be long
        try:
            return await asyncio.gather(
                *(
                    self._search(case, case.subject, one_list)
                    if isinstance(case.subject, StartFootprint)
                    else self._end(case, case.subject)
                    for case in cases
                )
            )
        finally:
            clients, self._clients = self._clients, {}
            for client in await asyncio.gather(*clients.values(), return_exceptions=True):
                if not isinstance(client, BaseException):
                    await client.close()

    async def _client(self, case: _Case) -> AsyncOperationsClient:
        """The client of a connection, made once, and so is its error."""
        key = id(case.settings)
        if key not in self._clients:
            made = AsyncOperationsClient.create(case.settings, metrics=StatsMetrics())
            self._clients[key] = asyncio.create_task(made)
        return await self._clients[key]

    async def _end(self, case: _Case, reference: OperationReference) -> Row:
        """Poll an operation, and cancel it if it runs."""
        try:
            client = await self._client(case)
            if (seen := await client.find(reference)) is None:
                if not self._dry_run:
                    result = await client.cancel(reference, poll=False, patience=0.0)  # before it is let go
                    return case.row(*_reported(result, None))
                return case.row(What.FINISHED, "the service has no such operation")
            if seen.done:
                return case.row(What.FINISHED, seen.summary())
            if self._dry_run:
                return case.row(What.WOULD_CANCEL, seen.summary())
            if seen.state is State.CANCELLING:
                return case.row(What.REQUESTED, f"its cancellation was requested before: {seen.summary()}")
            result, later = await client.cancel(reference, before=seen), None
            if result.requested:
                with contextlib.suppress(OperationsError):  # the request was accepted; the next sweep sees more
                    later = await client.get(reference)
            return case.row(*_reported(result, later))
        except NotFoundError:
            return case.row(What.FINISHED, "the service has no such operation")
        except OperationsError as error:
            return Row(case.entry, What.UNSURE, str(error))

    async def _search(self, case: _Case, footprint: StartFootprint, turn: asyncio.Lock) -> Row | Found:
        """Find what a start without a response may have started."""
        listed: list[Operation] = []
        try:
            async with turn:
                client = await self._client(case)
                async for operation in client.list(footprint.place):
                    listed.append(operation)
                    if len(listed) > MAX_LISTED:
                        text = f"{footprint.parent} has too many operations to search"
                        return _unanswered(case.entry, case.why, text, self._now)
        except OperationsError as error:  # a 404 too: that of a list proves nothing about an operation
            return _unanswered(case.entry, case.why, str(error), self._now)
        return find(footprint, listed, case.entry.armed_since)


def _reported(result: CancelResult, later: Operation | None) -> tuple[What, str]:
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
    """
    if result.outcome is Outcome.CANCEL_UNSUPPORTED:
        return What.UNSURE, result.summary()
    if not result.requested:
        return What.FINISHED, result.summary()
    if later is None or later.outcome is None:
        return What.REQUESTED, result.summary() if later is None else later.summary()
    if later.outcome is Outcome.CANCELLED:
        return What.CANCELLED, later.summary()
    return What.FINISHED, f"{result.outcome_of(later).value} ({later.summary()})"


def _choose(case: _Case, found: Found, claims: Claims, now: float) -> Row | OperationReference:
    """Which of the operations that were found is the one of a start, if that is certain and it runs."""
    entry, why, footprint = case.entry, case.why, case.subject
    assert isinstance(footprint, StartFootprint)
    if any(StartFootprint.from_dict(other.footprint) == footprint for other in claims.starting):
        return case.row(What.UNSURE, "another task starts the same just now")
    unclaimed = []
    for seen in found.operations:
        reference = read_reference(seen.name, footprint.service, footprint.version)  # checked: it is part of a URL
        if fingerprint(reference.to_dict()) not in claims.operations:
            unclaimed.append((replace(reference, host=footprint.host), seen))
    running = [ref for ref, seen in unclaimed if not seen.done]
    if len(running) > 1:
        text = f"it may have started any of {', '.join(ref.name for ref in running)}"
        return _unanswered(entry, why, text, now)
    if running:
        return running[0]
    if unclaimed:
        return case.row(What.FINISHED, unclaimed[0][1].summary())
    if found.is_certain and now - entry.armed_since > LATE_SECONDS:
        return case.row(What.FINISHED, f"{entry.start} started no operation")
    return _unanswered(entry, why, "no operation of it is found yet", now)


def _unanswered(entry: LedgerEntry, why: str, what: str, now: float) -> Row:
    if now - entry.armed_since > FORGET_AFTER_SECONDS:
        return Row(entry, What.FINISHED, f"{why}; {entry.start} got no response, long ago")
    return Row(entry, What.UNSURE, f"{why} since it sent {entry.start}: {what}")
