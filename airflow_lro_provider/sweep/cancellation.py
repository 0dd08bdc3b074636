"""What the sweep does about the operations of dead tasks: it looks at each, and ends those that run.

An operation whose start was never answered has no name. It is looked for among those of its parent
(:mod:`airflow_lro_provider.sweep.search`), and cancelled only if it is the only one that can be meant and no task has
entered it as its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_lro_provider.lro.async_client import AsyncOperationsClient
    from airflow_lro_provider.lro.auth.credentials import ConnectionSettings
    from airflow_lro_provider.lro.operation import Operation
    from airflow_lro_provider.lro.resources.names import OperationReference
    from airflow_lro_provider.sweep.entries import LedgerEntry
    from airflow_lro_provider.sweep.search import StartFootprint

__all__ = ["CANCELLED", "OVER", "UNSURE", "Claims", "Row", "end_all"]

PARALLEL = 8
"""So many operations are looked at or cancelled at a time."""
LONGEST_LIST = 10_000
"""So many operations of a parent are looked through for one without a name."""
LATE = 3600.0
"""What a start has not begun after so many seconds, it never will."""
FORGET_AFTER = 30 * 86400.0
"""An entry of a start that was never answered is struck out after so many seconds: so long Google's APIs
remember an operation."""

OVER, CANCELLED, UNSURE = "over", "cancelled", "unsure"


@dataclass(frozen=True)
class Row:
    """What the sweep makes of one entry that is not alive.

    :param what: ``over``, ``cancelled`` or ``unsure``.
    :param why: in words.
    """

    entry: LedgerEntry
    what: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        name = (self.entry.reference or {}).get("name") or self.entry.start
        return {"operation": name, "task": self.entry.task, "what": self.what, "why": self.why}


@dataclass(frozen=True)
class Claims:
    """What the ledger says of all operations, at one moment.

    :param operations: the fingerprints of those that have an entry of their own.
    :param starting: the entries of starts of living tasks that have no answer yet.
    """

    operations: Collection[str]
    starting: Sequence[LedgerEntry]


async def end_all(
    dead: Sequence[tuple[LedgerEntry, str]],
    *,
    settings: Callable[[str | None, Any], ConnectionSettings],
    claims: Callable[[], Claims],
    now: float,
    dry_run: bool,
) -> list[Row]:
    """Look at the operations of dead tasks, and cancel those that run.

    :param dead: their entries, and why their tasks count as dead.
    :param settings: what a connection and an impersonation chain say.
    :param claims: reads the ledger again.
    :param now: the time, in seconds since the epoch.
    :param dry_run: look, but change nothing.
    """
    ending = _Ending(settings, claims, now, dry_run)
    try:
        return list(await asyncio.gather(*(ending.end(entry, why) for entry, why in dead)))
    finally:
        await ending.close()


class _Ending:
    """One sweep's clients, and what they have listed."""

    def __init__(
        self,
        settings: Callable[[str | None, Any], ConnectionSettings],
        claims: Callable[[], Claims],
        now: float,
        dry_run: bool,
    ) -> None:
        self._settings, self._claims, self._now, self._dry_run = settings, claims, now, dry_run
        self._turn = asyncio.Semaphore(PARALLEL)
        self._search = asyncio.Lock()
        self._clients: dict[str, asyncio.Task[AsyncOperationsClient]] = {}

    async def close(self) -> None:
        for client in await asyncio.gather(*self._clients.values(), return_exceptions=True):
            if not isinstance(client, BaseException):
                await client.close()

    async def end(self, entry: LedgerEntry, why: str) -> Row:
        """Look at the operation of an entry, and end it if it runs."""
        from airflow_lro_provider.lro.errors import NotFoundError, OperationsError
        from airflow_lro_provider.lro.resources.names import OperationReference
        from airflow_lro_provider.sweep.search import StartFootprint

        try:
            if entry.reference is not None:
                client = await self._client(entry)
                async with self._turn:
                    return await self._end(client, OperationReference.from_dict(entry.reference), entry, why)
            traces = StartFootprint.from_dict(entry.traces)
            if traces is not None:
                async with self._search:  # one list at a time
                    return await self._find_and_end(await self._client(entry), traces, entry, why)
        except NotFoundError:
            return Row(entry, OVER, f"{why}; the service does not know it any more")
        except OperationsError as error:
            return Row(entry, UNSURE, str(error))
        return self._unanswered(entry, why, "look whether that has started something")

    async def _client(self, entry: LedgerEntry) -> AsyncOperationsClient:
        """The client for the connection of an entry; made once, and so is its error."""
        who = f"{entry.gcp_conn_id!r} as {entry.impersonation_chain!r}"
        if who not in self._clients:
            self._clients[who] = asyncio.create_task(self._connect(entry))
        return await self._clients[who]

    async def _connect(self, entry: LedgerEntry) -> AsyncOperationsClient:
        from airflow_lro_provider.lro.async_client import AsyncOperationsClient
        from airflow_lro_provider.lro.errors import ConnectionSettingsError, OperationsError
        from airflow_lro_provider.metrics import StatsMetrics

        try:
            settings = self._settings(entry.gcp_conn_id, entry.impersonation_chain)
        except OperationsError:
            raise
        except Exception as error:  # of Airflow: its text may tell more than a report should
            text = f"connection {entry.gcp_conn_id!r} cannot be had: {type(error).__name__}"
            raise ConnectionSettingsError(text) from None
        return await AsyncOperationsClient.create(settings, metrics=StatsMetrics())

    async def _end(
        self, client: AsyncOperationsClient, reference: OperationReference, entry: LedgerEntry, why: str
    ) -> Row:
        from airflow_lro_provider.lro.operation import Outcome, State

        seen = await client.get(reference)
        if seen.done:
            return Row(entry, OVER, f"{why}; {seen.summary()}")
        if self._dry_run:
            return Row(entry, CANCELLED, f"{why}; would be cancelled: {seen.summary()}")
        if seen.state is not State.CANCELLING:
            result = await client.cancel(reference, before=seen)
            if result.outcome is Outcome.NOT_FOUND:
                return Row(entry, OVER, f"{why}; the service does not know it any more")
            if result.outcome is Outcome.CANCEL_UNSUPPORTED:
                return Row(entry, UNSURE, f"{why}; {result.summary()}")
            seen = await client.get(reference)
        if seen.done:
            return Row(entry, CANCELLED, f"{why}; {seen.summary()}")
        return Row(entry, CANCELLED, f"{why}; asked for: {seen.summary()}")

    async def _find_and_end(
        self, client: AsyncOperationsClient, traces: StartFootprint, entry: LedgerEntry, why: str
    ) -> Row:
        """End an operation that has no name yet, if it is certain which one that is."""
        from airflow_lro_provider.sweep.search import StartFootprint, find

        listed: list[Operation] = []
        async for operation in client.list(traces.place):
            listed.append(operation)
            if len(listed) > LONGEST_LIST:
                return self._unanswered(entry, why, f"{traces.parent} has too many operations to look through")
        found = find(traces, listed, entry.armed_since)
        # The ledger is read after the list: whoever starts an operation has announced it there before.
        claims = self._claims()
        if any(StartFootprint.from_dict(other.traces) == traces for other in claims.starting):
            return Row(entry, UNSURE, f"{why}; another task starts the same just now")
        known = [(_reference(traces, operation), operation) for operation in found.operations]
        own = [(ref, seen) for ref, seen in known if _fingerprint(ref) not in claims.operations]
        running = [ref for ref, seen in own if not seen.done]
        if len(running) > 1:
            return self._unanswered(entry, why, f"it may have started any of {', '.join(ref.name for ref in running)}")
        if running:
            return await self._end(client, running[0], entry, f"{why} before it knew that it had started this")
        if own:
            return Row(entry, OVER, f"{why}; {own[0][1].summary()}")
        if found.is_certain and self._now - entry.armed_since > LATE:
            return Row(entry, OVER, f"{why}; {entry.start} has started nothing")
        return self._unanswered(entry, why, "no operation of it is found yet")

    def _unanswered(self, entry: LedgerEntry, why: str, what: str) -> Row:
        if self._now - entry.armed_since > FORGET_AFTER:
            return Row(entry, OVER, f"{why}; {entry.start} was never answered, long ago")
        return Row(entry, UNSURE, f"{why} since it sent {entry.start}: {what}")


def _reference(traces: StartFootprint, operation: Operation) -> OperationReference:
    """The reference of a listed operation: checked, for a name is part of a URL."""
    from airflow_lro_provider.lro.resources.names import read_reference

    return replace(read_reference(operation.name, traces.service, traces.version), host=traces.host)


def _fingerprint(reference: OperationReference) -> str:
    from airflow_lro_provider.sweep.entries import fingerprint

    return fingerprint(reference.to_dict())
