"""The async client: drives the flows over aiohttp, with google-auth's credentials."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from airflow_lro_provider.lro import errors, flows, protocol
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.auth.mtls import TlsSettings, tls_settings_for
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import Identity
from airflow_lro_provider.lro.cancel import CancelResult
from airflow_lro_provider.lro.client import BaseClient
from airflow_lro_provider.lro.flows import Started, send
from airflow_lro_provider.lro.http.async_session import AsyncSession
from airflow_lro_provider.lro.http.messages import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    Request,
    transport_error,
    unreadable,
)
from airflow_lro_provider.lro.metrics import NO_METRICS, Metrics
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.paging import Paging
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT, Absence, Deadline, PollSchedule
from airflow_lro_provider.lro.protocol import PageQuery, Rows
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference, Parent
from airflow_lro_provider.lro.steps import Flow, Renew, Renewed, Sleep
from airflow_lro_provider.lro.threads import in_thread

T = TypeVar("T")


@dataclass(frozen=True)
class CancelReport:
    """The outcome of one cancellation among many: see :meth:`AsyncOperationsClient.cancel_many`.

    :param reference: the operation; its name may be one that cannot be used.
    :param outcome: ``None`` if an error kept it from being known.
    :param message: that error.
    """

    reference: Resource
    outcome: Outcome | None
    message: str = ""

    @property
    def word(self) -> str:
        """The outcome, or ERROR."""
        return "ERROR" if self.outcome is None else self.outcome.value

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {"name": self.reference.name, "outcome": self.word}
        return {**found, "message": self.message} if self.message else found


def count_outcomes(reports: Iterable[CancelReport]) -> dict[str, int]:
    """How many have which outcome, the most frequent first."""
    return dict(Counter(report.word for report in reports).most_common())


class AsyncOperationsClient(BaseClient):
    """:class:`OperationsClient` for coroutines.

    Make one with :meth:`create`, and close it (or use ``async with``): the sessions of the loop are closed with their
    last user.

    :param connections: the largest number of requests to a host at a time: of lists, of cancels, and of all other
        verbs. Clients of one loop with the same number share them.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        identity: Identity,
        *,
        channel: TlsSettings,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS,
        retries: int | None = None,
        connections: int = MAX_IN_FLIGHT,
        metrics: Metrics = NO_METRICS,
        on_trouble: Callable[[str], object] = lambda line: None,
        secrets: set[str] | None = None,
        read_settings: Callable[[], Awaitable[ConnectionSettings]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(settings, identity, channel, retries, metrics, on_trouble, secrets)
        self._read_settings, self._sleep = read_settings, sleep
        self._new_session = partial(AsyncSession, connect=connect_timeout, read=read_timeout, connections=connections)
        self._session = self._new_session(context=channel.context)
        self._renewal: asyncio.Task[bool] | None = None

    @classmethod
    async def create(cls, settings: ConnectionSettings, **kwargs: Any) -> AsyncOperationsClient:
        """Make a client; keys are read and parsed in a thread, not on the loop."""
        identity, channel = await _load(settings)
        return cls(settings, identity, channel=channel, **kwargs)

    async def __aenter__(self) -> AsyncOperationsClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the loop's connections back."""
        await self._session.close()

    async def renew(self, resource: Resource) -> bool:
        """Read the connection again. See :meth:`OperationsClient.renew`."""
        if self._read_settings is None:
            return True
        before, context = self.settings, self._channel.context
        settings = await self._read_settings()
        self._use(settings, await _load(settings), resource)
        if self._channel.context is not context:
            session, self._session = self._session, self._new_session(context=self._channel.context)
            await session.close()
        return settings == before

    async def get(self, reference: OperationReference, *, retries: int | None = None) -> Operation:
        """Get an operation as it is now. See :meth:`OperationsClient.get`."""
        return await self._run(send(protocol.get(reference, self.endpoint(reference)), self._times(retries)))

    async def poll(
        self, reference: OperationReference, timeout: float = 0.0, *, retries: int | None = None
    ) -> Operation:
        """Get the state of an operation, without its response. See :func:`protocol.poll`."""
        request = protocol.poll(reference, self.endpoint(reference), timeout)
        return await self._run(send(request, self._times(retries)))

    async def take_response(self, reference: OperationReference, ended: Operation) -> Operation:
        """Get an operation that has succeeded with its response. See :func:`flows.take_response`."""
        return await self._run(flows.take_response(reference, self.endpoint(reference), ended))

    async def find(self, reference: OperationReference) -> Operation | None:
        """Poll an operation; ``None`` once a 404 is believed. See :func:`flows.find`."""
        request = protocol.poll(reference, self.endpoint(reference))
        try:
            return await self._run(flows.find(request, Absence(), retries=self._retries))
        except errors.NotFoundError:
            return None

    async def cancel(
        self,
        reference: OperationReference,
        *,
        poll: bool = True,
        before: Operation | None = None,
        patience: float = math.inf,
        trouble_patience: float | None = None,
    ) -> CancelResult:
        """Request the cancellation of an operation. See :meth:`OperationsClient.cancel`."""
        flow = self._cancel(reference, poll=poll, before=before, patience=patience, trouble_patience=trouble_patience)
        return await self._run(flow)

    async def cancel_many(
        self,
        operations: Iterable[tuple[OperationReference, Operation]],
        *,
        limit: int = MAX_IN_FLIGHT,
        wait: bool = True,
        timeout: float | None = None,
        poll_interval: float | None = None,
    ) -> list[CancelReport]:
        """Request the cancellation of many operations, and see what each comes to.

        :param operations: each with a poll that was just taken.
        :param limit: how many cancel requests are in flight at a time.
        :param wait: wait for the end of each; if not, one whose cancellation was requested is STILL_RUNNING.
        :param timeout: how long to wait for all of them, in seconds.
        :param poll_interval: seconds between two polls of one of them.
        """
        turn = asyncio.Semaphore(limit)
        deadline = None if timeout is None else Deadline(time.monotonic() + timeout, "timeout", timeout)

        async def outcome_of(reference: OperationReference, before: Operation) -> Outcome:
            async with turn:
                left = math.inf if deadline is None else max(deadline.at - time.monotonic(), 0.0)
                result = await self.cancel(reference, before=before, trouble_patience=left)
            if result.outcome is not None or not wait:
                return result.outcome or Outcome.STILL_RUNNING
            schedule = PollSchedule(started=time.monotonic(), deadline=deadline, interval=poll_interval)
            try:
                ended = await self.wait_until_done(reference, schedule, include_response=False)
                outcome = result.outcome_of(ended)
            except errors.WaitTimeoutError as error:
                if error.last_error is not None:
                    raise
                outcome = Outcome.STILL_RUNNING
            except errors.NotFoundError:
                outcome = Outcome.NOT_FOUND
            self._metrics.cancel(reference.service, outcome.value)
            return outcome

        async def report(reference: OperationReference, before: Operation) -> CancelReport:
            try:
                return CancelReport(reference, await outcome_of(reference, before))
            except errors.OperationsError as error:
                return CancelReport(reference, None, str(error))

        return list(await asyncio.gather(*(report(reference, before) for reference, before in operations)))

    async def start(
        self,
        method: Method,
        body: Mapping[str, Any] | None = None,
        *,
        request_id: str | None = None,
        timeout: float | timedelta | None = None,
        may_continue: Callable[[], bool] = lambda: True,
    ) -> Started:
        """Call a method that starts an operation. See :meth:`OperationsClient.start`."""
        return await self._run(self._start(method, body, request_id, timeout, may_continue))

    async def delete(self, reference: OperationReference) -> None:
        """Make the service forget an operation. This does not cancel it."""
        await self._run(send(protocol.delete(reference, self.endpoint(reference)), self._retries))

    async def list(
        self,
        parent: Parent,
        *,
        filter: str | None = None,
        page_size: int | None = None,
        patience: float = 0.0,
        include_response: bool = True,
    ) -> AsyncIterator[Operation]:
        """All operations of a parent, page by page as they are iterated over. See :meth:`OperationsClient.list`."""
        paging = Paging(parent, self.endpoint(parent), filter, page_size, self._retries, patience, include_response)
        while not paging.done:
            for operation in await self._run(paging.next_page()):
                yield operation

    async def rows(self, parent: Parent, query: PageQuery, *, retries: int | None = None) -> Rows:
        """One page of a parent's operations, unread."""
        return await self._run(send(protocol.rows(parent, self.endpoint(parent), query), self._times(retries)))

    async def wait(
        self, reference: OperationReference, timeout: float = READ_TIMEOUT_SECONDS, *, retries: int | None = None
    ) -> Operation:
        """The service's own ``:wait``. See :meth:`OperationsClient.wait`."""
        request = protocol.wait(reference, self.endpoint(reference), timeout)
        return await self._run(send(request, self._times(retries)))

    async def wait_until_done(
        self,
        reference: OperationReference,
        schedule: PollSchedule,
        *,
        seen: Operation | None = None,
        before_poll: Callable[[], object] = lambda: None,
        on_poll: Callable[[Operation], object] = lambda operation: None,
        on_change: Callable[[str], object] = lambda line: None,
        include_response: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> Operation:
        """Poll until the operation has finished. See :meth:`OperationsClient.wait_until_done`."""
        flow = flows.wait_until_done(
            reference,
            self.endpoint(reference),
            schedule,
            seen=seen,
            before_poll=before_poll,
            on_poll=on_poll,
            on_change=on_change,
            include_response=include_response,
            clock=clock,
        )
        return await self._run(flow)

    async def _run(self, flow: Flow[T]) -> T:
        """Drive a flow: send its requests, sleep its pauses."""
        try:
            step = next(flow)
            while True:
                value: Any = None
                try:
                    if isinstance(step, Sleep):
                        await self._sleep(step.seconds)
                    elif isinstance(step, Renew):
                        value = await self._recover(step)
                    else:
                        value = await self._send(step)
                except errors.OperationsError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(value)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _recover(self, step: Renew) -> Renewed:
        before = self.settings
        renewal = self._renewal  # another flow may begin the next one before this one goes on
        if renewal is not None and not renewal.done():  # of another flow, which logs it
            await asyncio.wait([renewal])
            is_same = renewal.exception() is None and self.settings == before
            return Renewed(self.endpoint(step.resource), is_same)
        self._renewal = asyncio.ensure_future(self.renew(step.resource))
        try:
            is_same = await asyncio.shield(self._renewal)
        except errors.OperationsError as error:
            return self._renewed(step, False, error)
        return self._renewed(step, is_same)

    async def _send(self, request: Request[T]) -> T:
        identity = self.identity  # another one, of a connection that is read meanwhile, is not for this URL
        headers = await identity.async_headers()
        self._check(request)  # only now: the connection may be read again while a token is awaited
        try:
            return await self._send_once(request, headers)
        except errors.UnauthenticatedError:
            # The token may have been revoked, or this machine's clock may be off: one fresh one.
            identity.reject(headers)
            return await self._send_once(request, await identity.async_headers())

    async def _send_once(self, request: Request[T], headers: Mapping[str, str]) -> T:
        with errors.without_context():
            try:
                response = await self._session.fetch(request, headers)
            except errors.TransportError as error:
                raise transport_error(request, error) from None
            except errors.MalformedResponseError as error:
                raise unreadable(request, error, headers) from None
        return self._read(request, response, headers)


async def _load(settings: ConnectionSettings) -> tuple[Identity, TlsSettings]:
    return await in_thread("tokens", lambda: (identity_for(settings), tls_settings_for(settings)))
