"""The sync client: the protocol over requests, with google-auth's credentials."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar, Union, cast

import requests
import tenacity
from urllib3.exceptions import NewConnectionError

from airflow_lro_provider import __version__
from airflow_lro_provider.lro import flows, longpoll, protocol
from airflow_lro_provider.lro.auth.credentials import ConnectionSettings, Identity, identity_for
from airflow_lro_provider.lro.auth.mtls import channel_for
from airflow_lro_provider.lro.errors import (
    MalformedResponseError,
    OperationsError,
    TransportError,
    UnauthenticatedError,
    forgetting,
)
from airflow_lro_provider.lro.flows import CancelResult
from airflow_lro_provider.lro.http.session import BoundedSession
from airflow_lro_provider.lro.metrics import Metrics
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.paging import Paging
from airflow_lro_provider.lro.polling import PollSchedule
from airflow_lro_provider.lro.protocol import Page, Request
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.names import OperationReference, Parent

__all__ = ["OperationsClient"]

USER_AGENT = f"airflow-lro-provider/{__version__}"
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
Content = Union[Operation, Page, dict[str, Any], None]  # noqa: UP007 - evaluated at run time on Python 3.10
_T = TypeVar("_T")
_NO_METRICS = Metrics()


class OperationsClient:
    """Speaks to ``google.longrunning.Operations`` of any service.

    :param settings: what the connection says.
    :param identity: who one is; taken from the settings if not given.
    :param connect_timeout: seconds for a connection.
    :param read_timeout: seconds for an answer, the whole of it.
    :param retries: how often a request is tried again after a transient error; as the connection says
        if not given.
    :param metrics: where cancellations are counted.
    :param sleep: what waits between tries.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        identity: Identity | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        retries: int | None = None,
        metrics: Metrics = _NO_METRICS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.identity = identity or identity_for(settings)
        self._timeouts = (connect_timeout, read_timeout)
        self._retries = settings.num_retries if retries is None else retries
        self._sleep = sleep
        self._metrics = metrics
        self.abandons: Callable[[], bool] = lambda: False
        """Whether a start that was refused is given up instead of being sent again: its task was killed meanwhile."""
        self._channel = channel_for(settings)
        self._session = BoundedSession(self._channel.context)

    def __enter__(self) -> OperationsClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def endpoint(self, resource: Resource) -> str:
        """Where requests about it go: the base URL."""
        return self.settings.endpoint(resource, mtls=self._channel.mtls_hosts)

    def get(self, reference: OperationReference, *, retries: int | None = None) -> Operation:
        """Look at an operation.

        :raises ApiError: among others :class:`NotFoundError`.
        """
        return cast(Operation, self._send(protocol.get(reference, self.endpoint(reference)), retries))

    def cancel(
        self,
        reference: OperationReference,
        *,
        look: bool = True,
        before: Operation | None = None,
        retries: int | None = None,
        urgent: bool = False,
    ) -> CancelResult:
        """Request the cancellation of an operation. See :func:`flows.cancel <airflow_lro_provider.lro.flows.cancel>`.

        :param look: whether there is time for a poll before the request.
        :param before: that poll, if it was just taken.
        :param urgent: whether a token that is about to expire will do: there is no time to wait for another one.
        :raises OperationsError: if the request was not accepted, or nobody knows.
        """
        flow = flows.cancel(reference, self.endpoint(reference), look=look, before=before, metrics=self._metrics)
        return self._run(flow, retries, urgent=urgent)

    def start(
        self, method: Method, body: Mapping[str, Any] | None = None, *, request_id: str | None = None
    ) -> flows.Started:
        """Call a method that starts an operation. See :func:`flows.start`.

        :param request_id: see :func:`protocol.start`.
        """
        return self._run(flows.start(method, self.endpoint(method), body, request_id))

    def delete(self, reference: OperationReference) -> None:
        """Make the service forget an operation. This does not cancel it."""
        self._send(protocol.delete(reference, self.endpoint(reference)))

    def list(self, parent: Parent, *, filter: str | None = None, page_size: int | None = None) -> Iterator[Operation]:
        """All operations of a parent, page by page as they are asked for.

        :param filter: in the service's own dialect, e.g. ``done:false``.
        :raises ResponseTooLargeError: if the pages do not come to an end.
        """
        paging = Paging(parent, self.endpoint(parent), filter=filter, page_size=page_size)
        while (request := paging.request()) is not None:
            yield from paging.new_on(cast(Page, self._send(request)))

    def wait(
        self, reference: OperationReference, timeout: float = READ_TIMEOUT, *, retries: int | None = None
    ) -> Operation:
        """The service's own ``:wait``: it answers when the operation is over or the timeout has passed.

        :param timeout: in seconds.
        :raises UnknownServiceError: if the service has no ``:wait``; :meth:`wait_until_done` works
            everywhere.
        """
        return cast(Operation, self._send(protocol.wait(reference, self.endpoint(reference), timeout), retries))

    def look(self, reference: OperationReference, timeout: float = 0.0) -> Operation:
        """One look of a wait, which is not tried again: a ``:wait`` of so many seconds, or else a GET."""
        return self.wait(reference, timeout, retries=0) if timeout else self.get(reference, retries=0)

    def wait_until_done(
        self,
        reference: OperationReference,
        watch: PollSchedule,
        *,
        look: Callable[[float], Operation] | None = None,
        on_change: Callable[[str], object] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Operation:
        """Poll until the operation is over; where the service has a ``:wait``, with that.

        :param watch: when to look, and until when; on the same clock.
        :param look: how to look, if not by :meth:`look`: it is given the seconds that a ``:wait`` may take,
            or 0 for a GET.
        :param on_change: is told, in one line, whenever state or progress changed.
        :raises WaitTimeoutError: at the deadline. The operation runs on.
        """
        wait = longpoll.looks(
            watch,
            str(reference),
            offered=find_service(reference.service).offers("wait", reference.name, reference.version),
            on_change=on_change,
            clock=clock,
        )
        try:
            step = next(wait)
            while True:
                if isinstance(step, longpoll.Pause):
                    self._sleep(step.seconds)
                    step = next(wait)
                    continue
                try:
                    operation = self.look(reference, step.timeout) if look is None else look(step.timeout)
                except OperationsError as error:
                    step = wait.throw(error)
                else:
                    step = wait.send(operation)
        except StopIteration as end:
            return cast(Operation, end.value)

    def _run(self, flow: Generator[Request, Any, _T], retries: int | None = None, *, urgent: bool = False) -> _T:
        try:
            request = next(flow)
            while True:
                try:
                    result = self._send(request, retries, urgent=urgent)
                except OperationsError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(result)
        except StopIteration as end:
            return cast(_T, end.value)

    def _send(self, request: Request, retries: int | None = None, *, urgent: bool = False) -> Content:
        errors: list[Any] = []

        def pause(seconds: float) -> None:
            self._sleep(seconds)
            if request.verb == "start" and not errors[-1].may_have_happened and self.abandons():
                raise errors[-1]

        retrying = tenacity.Retrying(
            retry=retry_of(request),
            stop=tenacity.stop_after_attempt(1 + (self._retries if retries is None else retries)),
            wait=wait_before_retry,
            before_sleep=lambda state: errors.append(state.outcome and state.outcome.exception()),
            sleep=pause,
            reraise=True,
        )
        return retrying(self._send_authorized, request, urgent)

    def _send_authorized(self, request: Request, urgent: bool) -> Content:
        headers = self.identity.headers(urgent=urgent)
        try:
            return self._send_once(request, headers)
        except UnauthenticatedError:
            # The token may have been revoked, or this machine's clock may be off: one fresh one.
            self.identity.reject(headers)
            return self._send_once(request, self.identity.headers())

    @forgetting()  # requests' errors have the request at hand, with its headers
    def _send_once(self, request: Request, headers: dict[str, str]) -> Content:
        connect, read = self._timeouts
        try:
            answer = self._session.fetch(
                request.method,
                request.url,
                body=request.body,
                headers={"user-agent": USER_AGENT, **request.headers, **headers},
                connect=connect,
                read=read + request.timeout,
            )
        except requests.RequestException as error:
            raise transport_error(request, error, sent=_was_sent(error)) from None
        except MalformedResponseError as error:
            raise protocol.unreadable(request, error) from None
        return protocol.read(request, answer.without(headers), datetime.now(timezone.utc))


def retry_of(request: Request) -> tenacity.retry_base:
    """Which errors of a request are worth sending it again: those that pass, if nothing is done twice."""

    def worth(error: BaseException) -> bool:
        passes = isinstance(error, OperationsError) and error.transient
        return passes and (request.repeatable or not error.may_have_happened)  # type: ignore[attr-defined]

    return tenacity.retry_if_exception(worth)


_backoff = tenacity.wait_exponential(multiplier=0.5, max=20) + tenacity.wait_random(0, 0.5)


def wait_before_retry(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: what the API asked for, else exponential with jitter."""
    error = state.outcome.exception() if state.outcome else None
    return max(getattr(error, "retry_after", None) or 0.0, _backoff(state))


def transport_error(request: Request, error: BaseException, *, sent: bool) -> TransportError:
    """Name what was tried and what went wrong; without the URL's query, and without headers.

    :param sent: whether the request may have reached the service.
    """
    host = request.url.split("/")[2]
    return TransportError(
        f"{request.reference.service}: {request.verb} {request.reference.name}: no answer from {host}"
        f" ({type(error).__name__}). Check the network, the proxy and the endpoint.",
        sent=sent,
    )


def _was_sent(error: requests.RequestException) -> bool:
    """Whether there was a connection to send a request over."""
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.SSLError, requests.exceptions.ProxyError)):
        return False
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return not isinstance(reason, NewConnectionError)
