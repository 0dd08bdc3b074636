"""The sync client: drives the flows over requests, with google-auth's credentials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar, cast

from airflow_lro_provider.lro import errors, flows, protocol
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.auth.mtls import TlsSettings, tls_settings_for
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import Identity
from airflow_lro_provider.lro.cancel import CancelResult, cancel
from airflow_lro_provider.lro.durations import check_start_timeout
from airflow_lro_provider.lro.flows import Started, send
from airflow_lro_provider.lro.http.messages import (
    CONNECT_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    USER_AGENT,
    Request,
    Response,
    transport_error,
    unreadable,
)
from airflow_lro_provider.lro.http.session import BoundedSession
from airflow_lro_provider.lro.metrics import NO_METRICS, Metrics
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.paging import Paging
from airflow_lro_provider.lro.polling import PollSchedule
from airflow_lro_provider.lro.redaction import secrets_in
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference, Parent
from airflow_lro_provider.lro.steps import Flow, Renew, Renewed, Sleep

T = TypeVar("T")


class BaseClient:
    """What the sync and the async client share.

    :param retries: how often a request is sent again after an error that passes; as the connection says if not given.
    :param metrics: where cancellations are counted.
    :param on_trouble: is given a line when trouble of our own begins, changes, or lasts.
    :param secrets: what no operation's error may quote; what its starts send is added.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        identity: Identity,
        channel: TlsSettings,
        retries: int | None,
        metrics: Metrics,
        on_trouble: Callable[[str], object],
        secrets: set[str] | None,
    ) -> None:
        self.settings, self.identity, self._has_changed = settings, identity, False
        self._channel, self._metrics, self._on_trouble = channel, metrics, on_trouble
        self._retries = settings.num_retries if retries is None else retries
        self._secrets = set() if secrets is None else secrets

    def endpoint(self, resource: Resource) -> str:
        """Where requests about it go: the base URL."""
        return self.settings.endpoint(resource, mtls=self._channel.mtls_hosts)

    def _times(self, retries: int | None) -> int:
        return self._retries if retries is None else retries

    def _cancel(self, reference: OperationReference, **how: Any) -> Flow[CancelResult]:
        how = {"retries": self._retries, "metrics": self._metrics, **how}
        return cancel(reference, self.endpoint(reference), **how)

    def _start(
        self,
        method: Method,
        body: Mapping[str, Any] | None,
        request_id: str | None,
        timeout: float | timedelta | None,
        may_continue: Callable[[], bool],
    ) -> Flow[Started]:
        started = yield from flows.start(
            method,
            self.endpoint(method),
            body,
            request_id,
            timeout=check_start_timeout("timeout", timeout) or self.settings.start_timeout,
            retries=self._retries,
            may_continue=may_continue,
        )
        operation = started.operation
        return replace(started, operation=None if operation is None else operation.without(self._secrets))

    def _read(self, request: Request[T], response: Response, sent: Mapping[str, str]) -> T:
        """Read a response: without the token in the headers that were sent, and what starts have sent."""
        if request.verb == "start":
            self._secrets.update(secrets_in(request.body))
        result: Any = request.read(response.without(sent), datetime.now(timezone.utc))
        if isinstance(result, Operation):
            return cast("T", result.without(self._secrets))
        if isinstance(result, protocol.Page):
            return cast("T", replace(result, operations=tuple(one.without(self._secrets) for one in result.operations)))
        return cast("T", result)

    def _use(self, settings: ConnectionSettings, access: tuple[Identity, TlsSettings], resource: Resource) -> None:
        settings.endpoint(resource, mtls=access[1].mtls_hosts)  # refused before a token of it goes anywhere
        self.settings, (self.identity, self._channel), self._has_changed = settings, access, True

    def _check(self, request: Request[Any]) -> None:
        """Send no token of a new connection to where the old one led: whoever began with that has to begin anew."""
        if self._has_changed and not request.url.startswith(f"{self.endpoint(request.resource)}/"):
            raise errors.ConnectionSettingsError(f"{request}: the connection has changed, and leads elsewhere by now")

    def _renewed(self, step: Renew, is_same: bool, error: errors.OperationsError | None = None) -> Renewed:
        if step.line:
            self._on_trouble(f"{step.line}. {error}" if error else step.line)
        return Renewed(self.endpoint(step.resource), is_same)


class OperationsClient(BaseClient):
    """A client for ``google.longrunning.Operations`` of any service; see :class:`BaseClient` for the other arguments.

    :param identity: taken from the settings if not given.
    :param connect_timeout: seconds for a connection.
    :param read_timeout: seconds for a response, the whole of it.
    :param read_settings: reads the connection again, after trouble of our own.
    :param sleep: lets seconds pass between requests.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        identity: Identity | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout: float = READ_TIMEOUT_SECONDS,
        retries: int | None = None,
        metrics: Metrics = NO_METRICS,
        on_trouble: Callable[[str], object] = lambda line: None,
        secrets: set[str] | None = None,
        read_settings: Callable[[], ConnectionSettings] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        access = (identity or identity_for(settings), tls_settings_for(settings))
        super().__init__(settings, *access, retries, metrics, on_trouble, secrets)
        self._timeouts, self._sleep, self._read_settings = (connect_timeout, read_timeout), sleep, read_settings
        self._session = BoundedSession(self._channel.context)

    def __enter__(self) -> OperationsClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def renew(self, resource: Resource) -> bool:
        """Read the connection again: a key may have been replaced.

        :param resource: what the next request is about.
        :return: whether it says what it said before.
        :raises OperationsError: if it cannot be used. Then that which was read before stays.
        """
        if self._read_settings is None:
            return True
        settings, before, context = self._read_settings(), self.settings, self._channel.context
        self._use(settings, (identity_for(settings), tls_settings_for(settings)), resource)
        if self._channel.context is not context:
            self._session.close()
            self._session = BoundedSession(self._channel.context)
        return settings == before

    def get(self, reference: OperationReference, *, retries: int | None = None) -> Operation:
        """Get an operation as it is now.

        :raises ApiError: among others :class:`NotFoundError`.
        """
        return self._run(send(protocol.get(reference, self.endpoint(reference)), self._times(retries)))

    def poll(self, reference: OperationReference, timeout: float = 0.0, *, retries: int | None = None) -> Operation:
        """Get the state of an operation, without its response. See :func:`protocol.poll`."""
        return self._run(send(protocol.poll(reference, self.endpoint(reference), timeout), self._times(retries)))

    def take_response(self, reference: OperationReference, ended: Operation) -> Operation:
        """Get an operation that has succeeded with its response. See :func:`flows.take_response`."""
        return self._run(flows.take_response(reference, self.endpoint(reference), ended))

    def cancel(
        self,
        reference: OperationReference,
        *,
        poll: bool = True,
        before: Operation | None = None,
        patience: float = math.inf,
        trouble_patience: float | None = None,
        urgent: bool = False,
    ) -> CancelResult:
        """Request the cancellation of an operation. See :func:`~airflow_lro_provider.lro.cancel.cancel`.

        :param urgent: whether a token that is about to expire will do: there is no time to wait for another one.
        :raises OperationsError: if the request was not accepted, or it is unknown whether it was.
        """
        flow = self._cancel(reference, poll=poll, before=before, patience=patience, trouble_patience=trouble_patience)
        return self._run(flow, urgent=urgent)

    def start(
        self,
        method: Method,
        body: Mapping[str, Any] | None = None,
        *,
        request_id: str | None = None,
        timeout: float | timedelta | None = None,
        may_continue: Callable[[], bool] = lambda: True,
    ) -> Started:
        """Call a method that starts an operation. See :func:`flows.start <airflow_lro_provider.lro.flows.start>`.

        :param timeout: how long its response may take, in seconds or as a timedelta; by default as the connection says.
        """
        return self._run(self._start(method, body, request_id, timeout, may_continue))

    def read_resource(self, resource: Resource) -> dict[str, Any]:
        """Get a resource that is no operation, as it is now."""
        return self._run(send(protocol.read_resource(resource, self.endpoint(resource)), self._retries))

    def delete(self, reference: OperationReference) -> None:
        """Make the service forget an operation. This does not cancel it."""
        self._run(send(protocol.delete(reference, self.endpoint(reference)), self._retries))

    def list(
        self,
        parent: Parent,
        *,
        filter: str | None = None,
        page_size: int | None = None,
        patience: float = 0.0,
        include_response: bool = True,
    ) -> Iterator[Operation]:
        """All operations of a parent, page by page as they are iterated over.

        :param filter: in the service's own dialect, e.g. ``done:false``.
        :param patience: for how many seconds trouble of our own is waited out, at each page.
        :param include_response: whether to take the responses of those that have succeeded.
        :raises ResponseTooLargeError: if the pages do not come to an end.
        """
        paging = Paging(parent, self.endpoint(parent), filter, page_size, self._retries, patience, include_response)
        while not paging.done:
            yield from self._run(paging.next_page())

    def wait(
        self, reference: OperationReference, timeout: float = READ_TIMEOUT_SECONDS, *, retries: int | None = None
    ) -> Operation:
        """The service's own ``:wait``: it responds when the operation has finished or the timeout has passed.

        :param timeout: in seconds.
        :raises UnknownServiceError: if the service has no ``:wait``; :meth:`wait_until_done` works everywhere.
        """
        return self._run(send(protocol.wait(reference, self.endpoint(reference), timeout), self._times(retries)))

    def wait_until_done(
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
        """Poll until the operation has finished; where the service has a ``:wait``, with that.

        No error that passes ends it, nor does trouble of our own: the connection is read again, and the wait goes on.

        :param schedule: when to poll, and until when; on the same clock.
        :param seen: a poll that was just taken; it counts as the first one.
        :param before_poll: called before each poll. What it raises ends the wait.
        :param on_poll: is given every poll.
        :param on_change: is given one line whenever state or progress has changed, or polls begin to fail.
        :param include_response: whether to take the operation's response once it has succeeded: polls need none.
        :raises WaitTimeoutError: at the deadline. The operation runs on.
        """
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
        return self._run(flow)

    def _run(self, flow: Flow[T], *, urgent: bool = False) -> T:
        """Drive a flow: send its requests, sleep its pauses."""
        try:
            step = next(flow)
            while True:
                value: Any = None
                try:
                    if isinstance(step, Sleep):
                        self._sleep(step.seconds)
                    elif isinstance(step, Renew):
                        value = self._recover(step)
                    else:
                        value = self._send(step, urgent)
                except errors.OperationsError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(value)
        except StopIteration as end:
            result: T = end.value
            return result

    def _recover(self, step: Renew) -> Renewed:
        try:
            is_same = self.renew(step.resource)
        except errors.OperationsError as error:
            return self._renewed(step, False, error)
        return self._renewed(step, is_same)

    def _send(self, request: Request[T], urgent: bool) -> T:
        self._check(request)
        identity = self.identity  # another one, of a connection that is read meanwhile, is not for this URL
        headers = identity.headers(urgent=urgent)
        try:
            return self._send_once(request, headers)
        except errors.UnauthenticatedError:
            # The token may have been revoked, or this machine's clock may be off: one fresh one.
            identity.reject(headers)
            return self._send_once(request, identity.headers())

    @errors.without_context()
    def _send_once(self, request: Request[T], headers: dict[str, str]) -> T:
        connect, read = self._timeouts
        try:
            response = self._session.fetch(
                request.method,
                request.url,
                body=request.body,
                headers={"user-agent": USER_AGENT, **request.headers, **headers},
                connect=connect,
                read=(request.response_timeout or read) + request.timeout,
            )
        except errors.TransportError as error:
            raise transport_error(request, error) from None
        except errors.MalformedResponseError as error:
            raise unreadable(request, error, headers) from None
        return self._read(request, response, headers)
