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
from airflow_lro_provider.lro import flows, protocol
from airflow_lro_provider.lro.credentials import ConnectionSettings, Identity, identity_for
from airflow_lro_provider.lro.errors import OperationsError, TransportError, UnauthenticatedError
from airflow_lro_provider.lro.longpoll import LongPolls
from airflow_lro_provider.lro.method import Method
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import Watch
from airflow_lro_provider.lro.protocol import Answer, Page, Request
from airflow_lro_provider.lro.reference import OperationReference, endpoint_of
from airflow_lro_provider.lro.services import find_service

__all__ = ["OperationsClient"]

USER_AGENT = f"airflow-lro-provider/{__version__}"
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
Content = Union[Operation, Page, dict[str, Any], None]  # noqa: UP007 - evaluated at run time on Python 3.10
_T = TypeVar("_T")


class OperationsClient:
    """Speaks to ``google.longrunning.Operations`` of any service.

    :param settings: what the connection says.
    :param identity: who one is; taken from the settings if not given.
    :param connect_timeout: seconds for a connection.
    :param read_timeout: seconds for an answer.
    :param retries: how often a request is tried again after a transient error; as the connection says
        if not given.
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.identity = identity or identity_for(settings)
        self._timeouts = (connect_timeout, read_timeout)
        self._retries = settings.num_retries if retries is None else retries
        self._sleep = sleep
        self.urgent = False
        """Whether a token that is about to be renewed will do: there is no time to wait for another."""
        self._session = requests.Session()
        # Otherwise requests would put what it finds in ~/.netrc in the place of the token.
        self._session.auth = lambda request: request

    def __enter__(self) -> OperationsClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def endpoint(self, reference: OperationReference) -> str:
        """Where requests about this operation go."""
        return endpoint_of(reference, self.settings.api_endpoint)

    def get(self, reference: OperationReference, *, retries: int | None = None) -> Operation:
        """Look at an operation.

        :raises ApiError: among others :class:`NotFoundError`.
        """
        return cast(Operation, self._send(protocol.get(reference, self.endpoint(reference)), retries))

    def cancel(self, reference: OperationReference, *, retries: int | None = None) -> Operation | None:
        """Ask for the cancellation of an operation: best effort, and no more than a request.

        :return: the operation if it was over already, else ``None``.
        :raises UnimplementedError: if the service cannot cancel it.
        """
        return self._run(flows.cancel(reference, self.endpoint(reference)), retries)

    def ask_for_cancel(self, reference: OperationReference) -> flows.Asked:
        """Look, ask for the cancellation, and say what is known of it at once."""
        return self._run(flows.ask_for_cancel(reference, self.endpoint(reference)))

    def start(
        self, method: Method, body: Mapping[str, Any] | None = None, *, request_id: str | None = None
    ) -> flows.Started:
        """Call a method that starts an operation. See :func:`flows.start`.

        :param request_id: see :func:`protocol.start`.
        """
        endpoint = endpoint_of(method.about, self.settings.api_endpoint)
        return self._run(flows.start(method, endpoint, body, request_id))

    def delete(self, reference: OperationReference) -> None:
        """Make the service forget an operation. This does not cancel it."""
        self._send(protocol.delete(reference, self.endpoint(reference)))

    def list(
        self, parent: OperationReference, *, filter: str | None = None, page_size: int | None = None
    ) -> Iterator[Operation]:
        """All operations of a parent, page by page as they are asked for.

        :param filter: in the service's own dialect, e.g. ``done:false``.
        """
        token: str | None = None
        while True:
            request = protocol.list_(
                parent, self.endpoint(parent), filter=filter, page_size=page_size, page_token=token
            )
            page = cast(Page, self._send(request))
            yield from page.operations
            token = page.next_page_token
            if not token:
                return

    def wait(self, reference: OperationReference, timeout: float = READ_TIMEOUT) -> Operation:
        """The service's own ``:wait``: it answers when the operation is over or the timeout has passed.

        :param timeout: in seconds.
        :raises UnknownServiceError: if the service has no ``:wait``; :meth:`wait_until_done` works
            everywhere.
        """
        return cast(Operation, self._send(protocol.wait(reference, self.endpoint(reference), timeout)))

    def look(self, reference: OperationReference, timeout: float = 0.0) -> Operation:
        """One look of a wait, which is not tried again: a ``:wait`` of so many seconds, or else a GET."""
        if not timeout:
            return self.get(reference, retries=0)
        return cast(Operation, self._send(protocol.wait(reference, self.endpoint(reference), timeout), 0))

    def wait_until_done(
        self,
        reference: OperationReference,
        watch: Watch,
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
        polls = LongPolls(find_service(reference.service).offers("wait", reference.name))
        while True:
            asked = clock()
            timeout = polls.timeout([watch], asked)
            try:
                operation = self.look(reference, timeout) if look is None else look(timeout)
            except OperationsError as error:
                if timeout:
                    polls.failed(clock())
                    if not error.transient:
                        continue  # a GET tells whose error it is
                line, timeout = watch.failed(error, clock()), 0.0
            else:
                line = watch.saw(operation)
            if line:
                on_change(line)
            if watch.done:
                return watch.done
            now = clock()
            watch.check_deadline(now, str(reference))
            if timeout:
                polls.judge(timeout, now - asked, now)
                self._sleep(polls.delay(watch, now - asked, now))
            else:
                self._sleep(watch.delay(now))

    def _run(self, flow: Generator[Request, Any, _T], retries: int | None = None) -> _T:
        try:
            request = next(flow)
            while True:
                try:
                    result = self._send(request, retries)
                except OperationsError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(result)
        except StopIteration as end:
            return cast(_T, end.value)

    def _send(self, request: Request, retries: int | None = None) -> Content:
        retrying = tenacity.Retrying(
            retry=retry_of(request),
            stop=tenacity.stop_after_attempt(1 + (self._retries if retries is None else retries)),
            wait=wait_before_retry,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._send_authorized, request)

    def _send_authorized(self, request: Request) -> Content:
        headers = self.identity.headers(urgent=self.urgent)
        try:
            return self._send_once(request, headers)
        except UnauthenticatedError:
            # The token may have been revoked, or this machine's clock may be off: one fresh one.
            self.identity.reject(headers)
            return self._send_once(request, self.identity.headers())

    def _send_once(self, request: Request, headers: dict[str, str]) -> Content:
        connect, read = self._timeouts
        try:
            response = self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers={"user-agent": USER_AGENT, **request.headers, **headers},
                timeout=(connect, read + request.timeout),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise transport_error(request, error, sent=_was_sent(error)) from None
        answer = Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, response.content)
        return protocol.read(request, answer, datetime.now(timezone.utc))


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
