"""What the sweep does about the operations of dead tasks: it polls each, and cancels those that run.

An operation whose start got no response has no known name. It is searched for among those of its parent
(:mod:`airflow_lro_provider.sweep.search`), and cancelled only if it is certainly that one, and no task owns it
according to the ledger.

Each endpoint is worked on by itself, and for a limited time: one that does not respond delays nobody else. The ledger
is read again right before each cancel, in a thread: Airflow's channel to a task blocks, and serves one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    NotFoundError,
    OperationsError,
    ResponseTooLargeError,
)
from airflow_lro_provider.lro.operation import Operation, State
from airflow_lro_provider.lro.resources.hosts import Resource, leads_elsewhere
from airflow_lro_provider.lro.resources.names import OperationReference, Parent, read_reference
from airflow_lro_provider.lro.threads import in_thread
from airflow_lro_provider.metrics import StatsMetrics
from airflow_lro_provider.sweep.ledger import LedgerEntry, fingerprints
from airflow_lro_provider.sweep.report import Row, What, reported
from airflow_lro_provider.sweep.search import Found, StartFootprint, find

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings

ENDPOINT_TIMEOUT_SECONDS = 60.0
"""How long one sweep works on one endpoint at most; the rest is left to the next one."""
MAX_LISTED = 10_000
"""Operations of a parent that are searched at most for one without a name."""
LATE_SECONDS = 3600.0
"""What a start has not begun after this time, it never will."""
FORGET_AFTER_SECONDS = 30 * 86400.0
"""An entry of a start that got no response is removed after this time: Google's APIs remember no operation longer."""


@dataclass(frozen=True)
class Claims:
    """What the ledger has on all operations, at one moment.

    :param keys: the entries that are there.
    :param owned: the fingerprints of operations that belong to a task which is not known to be dead.
    :param recorded: those of all operations that have an entry, whoever's it is.
    :param starting: the entries of starts of such tasks that have no response yet.
    """

    keys: Collection[str] = ()
    owned: Collection[str] = ()
    recorded: Collection[str] = ()
    starting: Sequence[LedgerEntry] = ()


@dataclass(frozen=True)
class _Case:
    """An entry whose task is dead.

    :param key: where the entry is.
    :param why: how it is known that its task is dead.
    :param settings: of the connection that its operation is reached by.
    :param subject: the operation, or how to find it.
    """

    key: str
    entry: LedgerEntry
    why: str
    settings: ConnectionSettings
    subject: OperationReference | StartFootprint

    @property
    def place(self) -> Resource:
        """What requests about it are about."""
        return self.subject.place if isinstance(self.subject, StartFootprint) else self.subject

    def row(self, what: What, more: str, candidates: Iterable[str] = ()) -> Row:
        return Row(self.entry, what, f"{self.why}; {more}", tuple(candidates))

    def unanswered(self, what: str, now: float, candidates: Iterable[str] = ()) -> Row:
        return _unanswered(self.entry, self.why, what, now, tuple(candidates))


def cancel_all(
    dead: Mapping[str, tuple[LedgerEntry, str]],
    *,
    settings: Callable[[str | None, Any], ConnectionSettings],
    claims: Callable[[], Claims],
    now: float,
    dry_run: bool,
) -> dict[str, Row]:
    """Poll the operations of dead tasks, and cancel those that run.

    :param dead: the entries of dead tasks by their keys, each with the reason why its task is known to be dead.
    :param settings: loads a connection.
    :param claims: reads the ledger again.
    :return: a row for each key.
    """
    connections = _Connections(settings)
    rows: dict[str, Row] = {}
    cases: list[_Case] = []
    for key, (entry, why) in dead.items():
        subject: OperationReference | StartFootprint | None
        try:
            if entry.reference is not None:
                subject = OperationReference.from_dict(entry.reference)
            else:
                subject = StartFootprint.from_dict(entry.footprint)
            if subject is None:
                rows[key] = _unanswered(entry, why, "check whether it has started something", now)
            else:
                cases.append(_Case(key, entry, why, connections.of(entry), subject))
        except OperationsError as error:
            rows[key] = Row(entry, What.UNSURE, str(error))
    if cases:
        rows.update(asyncio.run(_cancel_cases(cases, _Reader(claims, connections.again), now, dry_run)))
    return {key: rows[key] for key in dead}


class _Connections:
    """Loads each connection once, and so its error."""

    def __init__(self, load: Callable[[str | None, Any], ConnectionSettings]) -> None:
        self._load = load
        self._loaded: dict[str, ConnectionSettings | OperationsError] = {}

    def of(self, entry: LedgerEntry) -> ConnectionSettings:
        """That of an entry."""
        key = f"{entry.gcp_conn_id!r} as {entry.impersonation_chain!r}"
        if key not in self._loaded:
            try:
                self._loaded[key] = self.again(entry)
            except OperationsError as error:
                self._loaded[key] = error
        loaded = self._loaded[key]
        if isinstance(loaded, OperationsError):
            raise loaded
        return loaded

    def again(self, entry: LedgerEntry) -> ConnectionSettings:
        """The same, loaded once more."""
        try:
            return self._load(entry.gcp_conn_id, entry.impersonation_chain)
        except OperationsError:
            raise
        except Exception as error:  # of Airflow: its text may contain more than a report should
            text = f"could not load connection {entry.gcp_conn_id!r}: {type(error).__name__}"
            raise ConnectionSettingsError(text) from None


async def _cancel_cases(cases: Iterable[_Case], reader: _Reader, now: float, dry_run: bool) -> dict[str, Row]:
    """Work on all endpoints side by side."""
    endpoints: dict[tuple[int, str], _Endpoint] = {}
    for case in cases:
        key = (id(case.settings), case.subject.host)
        endpoints.setdefault(key, _Endpoint(reader, now, dry_run)).cases.append(case)
    rows: dict[str, Row] = {}
    for endpoint in await asyncio.gather(*(endpoint.run() for endpoint in endpoints.values())):
        rows.update(endpoint)
    return rows


class _Reader:
    """Reads the ledger again, one read at a time, in a thread; all who ask before it begins share one."""

    def __init__(self, claims: Callable[[], Claims], again: Callable[[LedgerEntry], ConnectionSettings]) -> None:
        self._claims, self._again, self._turn = claims, again, asyncio.Lock()
        self._next: asyncio.Task[Claims] | None = None

    async def read(self) -> Claims:
        """What the ledger has, read after this was called."""
        if self._next is None:
            self._next = asyncio.create_task(self._read())
        return await asyncio.shield(self._next)

    async def _read(self) -> Claims:
        async with self._turn:
            self._next = None
            return await in_thread("airflow", self._claims)

    async def load(self, case: _Case) -> ConnectionSettings:
        """The connection of a case, as it is now."""
        async with self._turn:
            return await in_thread("airflow", lambda: self._again(case.entry))


class _Endpoint:
    """Polls, lists and cancels at one endpoint, each operation by itself. Its client limits the requests in flight.

    :param reader: reads the ledger again.
    """

    def __init__(self, reader: _Reader, now: float, dry_run: bool) -> None:
        self.cases: list[_Case] = []
        self._reader, self._now, self._dry_run = reader, now, dry_run
        self._loaded: asyncio.Task[ConnectionSettings] | None = None
        self._rows: dict[str, Row] = {}
        self._lists: dict[tuple[Parent, bool], asyncio.Task[tuple[list[Operation], Claims]]] = {}
        self._client: AsyncOperationsClient

    async def run(self) -> dict[str, Row]:
        """A row for each case."""
        problem = "it was not reached"
        try:
            await asyncio.wait_for(self._work(), ENDPOINT_TIMEOUT_SECONDS)
        except asyncio.TimeoutError:
            problem = f"its endpoint took longer than {ENDPOINT_TIMEOUT_SECONDS:g} s"
        except OperationsError as error:  # of the connection
            problem = str(error)
        for case in self.cases:
            if case.key not in self._rows:
                self._rows[case.key] = case.row(What.UNSURE, problem)
        return self._rows

    async def _work(self) -> None:
        random.shuffle(self.cases)  # what is not reached in time is not always the same
        async with await AsyncOperationsClient.create(self.cases[0].settings, metrics=StatsMetrics()) as self._client:
            try:
                await asyncio.gather(*map(self._end, self.cases))
            finally:
                for task in self._lists.values():
                    task.cancel()

    async def _end(self, case: _Case) -> None:
        try:
            self._rows[case.key] = await self._row(case)
        except OperationsError as error:
            if isinstance(case.subject, StartFootprint):  # a 404 too: that of a list proves nothing about an operation
                self._rows[case.key] = case.unanswered(str(error), self._now)
            else:
                self._rows[case.key] = Row(case.entry, What.UNSURE, str(error))
        except Exception as error:  # of Airflow, about the ledger
            self._rows[case.key] = case.row(What.UNSURE, f"the ledger could not be read again ({type(error).__name__})")

    async def _row(self, case: _Case) -> Row:
        """Poll an operation, and cancel it if it runs and has no owner by now."""
        reference = case.subject
        known, leads_to = case.entry.endpoint, self._client.endpoint(case.place)
        if leads_elsewhere(leads_to, known):  # another server has none, or another one of that name
            return case.row(What.UNSURE, f"its connection led to {known}, and leads to {leads_to} by now")
        if isinstance(reference, StartFootprint):
            chosen = await self._find_started(case, reference)
            if chosen is None:  # one list is no evidence
                await asyncio.sleep(polling.NOT_FOUND_SECONDS)
                if await self._settings_now(case) != case.settings:
                    return case.unanswered("its connection has changed", self._now)
                chosen = await self._find_started(case, reference, again=True)
            if chosen is None:
                return case.row(What.FINISHED, f"{case.entry.start} started no operation")
            if isinstance(chosen, Row):
                return chosen
            case = replace(case, why=f"{case.why} before it knew that it had started this")
            reference = chosen
        words = not case.entry.discreet
        seen = await self._client.find(reference)
        if seen is None and await self._settings_now(case) != case.settings:  # it may be another server that has none
            return case.row(What.UNSURE, "the service does not find it, but its connection has changed")
        if seen is not None and seen.done:
            return case.row(What.FINISHED, seen.summary(words=words))
        if seen is not None and seen.state is State.CANCELLING and not self._dry_run:
            return case.row(What.REQUESTED, f"its cancellation was requested before: {seen.summary(words=words)}")
        claims = await self._reader.read()
        if case.key not in claims.keys:  # removed by its task; or skipped, for lists of Airflow's are read page by page
            return case.row(What.UNSURE, "its entry was not there any more")
        if not set(fingerprints(reference.to_dict())).isdisjoint(claims.owned):
            return case.row(What.UNSURE, "another task owns it by now")
        if self._dry_run:
            return case.row(What.WOULD_CANCEL, seen.summary(words=words) if seen else "the service does not find it")
        try:
            if seen is None:  # before it is let go
                result = await self._client.cancel(reference, poll=False, patience=0.0)
                return case.row(*reported(result, None, words=words))
            result, later = await self._client.cancel(reference, before=seen), None
            if result.requested:
                with contextlib.suppress(OperationsError):  # the request was accepted; the next sweep sees more
                    later = await self._client.poll(reference)
            return case.row(*reported(result, later, words=words))
        except NotFoundError:
            return case.row(What.FINISHED, "the service has no such operation")

    async def _find_started(
        self, case: _Case, footprint: StartFootprint, *, again: bool = False
    ) -> Row | OperationReference | None:
        """What the list of its parent shows of a start. See :func:`_choose`."""
        listed, claims = await self._list(footprint.place, again)
        sent_last = case.entry.armed_since
        found = find(footprint, listed, case.entry.sent_since or sent_last, sent_last)
        return _choose(case, footprint, found, claims, self._now)

    async def _settings_now(self, case: _Case) -> ConnectionSettings:
        """The connection, loaded once more for all cases."""
        if self._loaded is None:
            self._loaded = asyncio.create_task(self._reader.load(case))
        return await asyncio.shield(self._loaded)

    async def _list(self, parent: Parent, again: bool) -> tuple[list[Operation], Claims]:
        """The operations of a parent, listed once (or ``again``), and what the ledger has afterwards.

        :raises ResponseTooLargeError: if there are too many to search.
        """

        async def fetch() -> tuple[list[Operation], Claims]:
            listed: list[Operation] = []
            async for operation in self._client.list(parent, include_response=False):
                listed.append(operation)
                if len(listed) > MAX_LISTED:
                    raise ResponseTooLargeError(f"{parent.name} has too many operations to search")
            # Only now: whoever starts an operation has announced it in the ledger before.
            return listed, await self._reader.read()

        if (parent, again) not in self._lists:
            self._lists[parent, again] = asyncio.create_task(fetch())
        return await self._lists[parent, again]


def _choose(
    case: _Case, footprint: StartFootprint, found: Found, claims: Claims, now: float
) -> Row | OperationReference | None:
    """Which of the operations that were found is the one of a start, if that is certain and it runs.

    :return: the operation; what to report if there is no telling; or ``None`` if it has started none.

    :raises OperationsError: if a listed name is none.
    """
    if any(StartFootprint.from_dict(other.footprint) == footprint for other in claims.starting):
        return case.row(What.UNSURE, "another task starts the same just now")

    def unrecorded(operations: Iterable[Operation]) -> Iterator[tuple[OperationReference, Operation]]:
        for seen in operations:
            reference = read_reference(seen.name, footprint.service, footprint.version)  # checked: part of a URL
            if set(fingerprints(reference.to_dict())).isdisjoint(claims.recorded):
                yield replace(reference, host=footprint.host), seen

    certain, possible = list(unrecorded(found.certain)), list(unrecorded(found.possible))
    running = [reference for reference, seen in certain if not seen.done]
    if len(running) == 1:
        return running[0]
    names = [reference.name for reference, seen in (*certain, *possible) if not seen.done]
    if names:
        return case.unanswered(f"it may have started any of {', '.join(names)}", now, names)
    if certain:
        return case.row(What.FINISHED, certain[0][1].summary(words=not case.entry.discreet))
    if found.is_absent and not possible and now - case.entry.armed_since > LATE_SECONDS:
        return None
    return case.unanswered("no operation of it is found yet", now, [reference.name for reference, _ in possible])


def _unanswered(entry: LedgerEntry, why: str, what: str, now: float, candidates: tuple[str, ...] = ()) -> Row:
    if now - entry.armed_since > FORGET_AFTER_SECONDS:
        return Row(entry, What.FINISHED, f"{why}; {entry.start} got no response, long ago")
    return Row(entry, What.UNSURE, f"{why} since it sent {entry.start}: {what}", candidates)
