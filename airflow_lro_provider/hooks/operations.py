"""Hooks for ``google.longrunning.Operations`` of any Google API."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_lro_provider.airflow_compat import connection_form
from airflow_lro_provider.airflow_compat.task_process import is_in_line
from airflow_lro_provider.hooks.connections import usable
from airflow_lro_provider.lro.threads import in_thread
from airflow_lro_provider.metrics import StatsMetrics

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_lro_provider.lro.async_client import AsyncOperationsClient
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.cancel import CancelResult
    from airflow_lro_provider.lro.client import OperationsClient
    from airflow_lro_provider.lro.operation import Operation
    from airflow_lro_provider.lro.resources.hosts import Resource
    from airflow_lro_provider.lro.resources.methods import Method
    from airflow_lro_provider.lro.resources.names import OperationReference, Parent

__all__ = ["DEFAULT_CONN_ID", "OperationsAsyncHook", "OperationsHook"]

DEFAULT_CONN_ID = "google_cloud_default"
_R = TypeVar("_R", bound="Resource")


class _OperationsBaseHook(BaseHook):
    """What both hooks have in common: arguments, references, and how a connection is read.

    :param service: the API's discovery name (``aiplatform``) or host; not needed for full names (``//HOST/…``).
    :param api_version: the API version, if not the preferred one.
    :param gcp_conn_id: the Airflow connection; ``None`` uses the application default credentials.
    :param impersonation_chain: the account to act as, or the chain that leads to it; overrides the connection's own.
    """

    conn_name_attr = "gcp_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "google_lro"
    hook_name = "Google long-running operations"

    def __init__(
        self,
        service: str | None = None,
        api_version: str | None = None,
        gcp_conn_id: str | None = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.service = service
        self.api_version = api_version
        self.gcp_conn_id = gcp_conn_id.strip() if isinstance(gcp_conn_id, str) else gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self._settings: ConnectionSettings | None = None
        self.secrets: set[str] = set()
        """What no operation's error may quote: what its clients' starts have sent, and its owner adds."""

    def _read(self, extra: dict[str, Any]) -> ConnectionSettings:
        from airflow_lro_provider.lro.auth.settings import ConnectionSettings

        chain = self.impersonation_chain
        return ConnectionSettings.from_extra(
            extra,
            impersonation_chain=chain if chain is None or isinstance(chain, str) else list(chain),
            conn_id=self.gcp_conn_id or "",
        )

    def _read_extra(self) -> dict[str, Any]:
        connection = None
        with contextlib.suppress(AirflowNotFoundException):
            connection = self.get_connection(str(self.gcp_conn_id))
        extra: dict[str, Any] = usable(connection, self.gcp_conn_id).extra_dejson
        return extra

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        from airflow_lro_provider.lro.errors import ConnectionSettingsError, OperationsError

        try:
            yield
        except OperationsError:
            raise
        except Exception as error:  # of Airflow: its text may contain what the connection does
            text = f"connection {self.gcp_conn_id!r} cannot be read: {type(error).__name__}"
            raise ConnectionSettingsError(text) from None

    def _reference(self, name: Any, settings: ConnectionSettings) -> OperationReference:
        from airflow_lro_provider.lro.resources.names import OperationReference, read_reference

        return self._checked(OperationReference, read_reference, settings, name)

    def _method(self, method: Any, http_method: str, settings: ConnectionSettings) -> Method:
        from airflow_lro_provider.lro.resources.methods import Method, read_method

        return self._checked(Method, read_method, settings, method, http_method)

    def _checked(
        self, kind: type[_R], read: Callable[..., _R], settings: ConnectionSettings, given: Any, *more: Any
    ) -> _R:
        """Read what was given, unless it is read already, and refuse a foreign host."""
        from airflow_lro_provider.lro.auth.credentials import naming_of

        checked = given
        if not isinstance(checked, kind):
            named, where = (*more, self.service, self.api_version), naming_of(settings)
            checked = read(given, *named, api_endpoint=settings.api_endpoint, **where)
        settings.endpoint(checked)
        return checked

    def _parent(self, parent: str, settings: ConnectionSettings) -> Parent:
        from airflow_lro_provider.lro.auth.credentials import naming_of
        from airflow_lro_provider.lro.resources.names import read_parent

        return read_parent(parent, self.service, self.api_version, **naming_of(settings))


class OperationsHook(_OperationsBaseHook):
    """Starts, gets, cancels, lists, deletes and waits for long-running operations.

    An operation is given as a plain name (with ``service``), a full resource name, a URL, or its dict. It is checked
    before anything is sent.
    """

    @property
    def settings(self) -> ConnectionSettings:
        """What the connection says; it is read once.

        :raises ConnectionSettingsError: if it is missing, or cannot be read or used.
        """
        return self._settings or self.read_again()

    def read_again(self) -> ConnectionSettings:
        """Read the connection (again): it may have changed."""
        with self._reading():
            self._settings = self._read({} if self.gcp_conn_id is None else self._read_extra())
        return self._settings

    def reference(self, name: Any) -> OperationReference:
        """Read and check a reference; nothing is sent.

        :raises InvalidRequestError: saying what is wrong with it.
        """
        return self._reference(name, self.settings)

    def method(self, method: Any, http_method: str = "POST") -> Method:
        """Read and check a method that starts an operation; nothing is sent.

        :param method: a path (with the hook's ``service``) or a URL.
        :raises InvalidRequestError: saying what is wrong with it.
        """
        return self._method(method, http_method, self.settings)

    def make_client(self, **kwargs: Any) -> OperationsClient:
        """A new client with this connection; see :class:`OperationsClient` for its arguments."""
        from airflow_lro_provider.lro.client import OperationsClient

        defaults = {"metrics": StatsMetrics(), "read_settings": self.read_again, "on_trouble": self.log.info}
        return OperationsClient(self.settings, **{**defaults, "secrets": self.secrets, **kwargs})

    def get_conn(self) -> OperationsClient:
        """The client that the other methods use."""
        if not hasattr(self, "_client"):
            self._client = self.make_client()
        return self._client

    def get(self, name: Any) -> Operation:
        """Get an operation as it is now.

        :raises NotFoundError: if there is none of this name.
        """
        return self.get_conn().get(self.reference(name))

    def start(
        self,
        method: Any,
        body: Mapping[str, Any] | None = None,
        *,
        http_method: str = "POST",
        request_id: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Operation:
        """Call a method that responds with an operation. The caller owns the operation.

        :param method: a path (with the hook's ``service``) or a URL.
        :param body: the JSON object to send.
        :param request_id: a UUID that makes the start repeatable, where the method takes one
            (https://google.aip.dev/155).
        :param timeout: how long the response may take, in seconds or as a timedelta; by default as the connection says.
        :raises NotAnOperationError: if it responded with something else.
        :raises StartUnknownError: if the response was lost: it may have started something.
        """
        checked = self.method(method, http_method)
        operation = self.get_conn().start(checked, body, request_id=request_id, timeout=timeout).operation
        assert operation is not None
        return operation

    def cancel(self, name: Any) -> CancelResult:
        """Request the cancellation of an operation, after a poll. A request that was accepted is not a cancellation.

        :return: what is known right afterwards; the outcome is known by a later poll
            (:meth:`CancelResult.outcome_of <airflow_lro_provider.lro.cancel.CancelResult.outcome_of>`).
        :raises OperationsError: if the request was not accepted, or it is unknown whether it was.
        """
        return self.get_conn().cancel(self.reference(name))

    def list(self, parent: str, filter: str | None = None, page_size: int | None = None) -> Iterator[Operation]:
        """All operations below a parent, e.g. ``projects/p/locations/l``.

        :param filter: in the service's own dialect, e.g. ``done:false``.
        :param page_size: how many to request at once.
        """
        return self.get_conn().list(self.parent(parent), filter=filter, page_size=page_size)

    def parent(self, parent: str) -> Parent:
        """Read and check the parent of operations; nothing is sent."""
        return self._parent(parent, self.settings)

    def delete(self, name: Any) -> None:
        """Make the service forget an operation. This does not cancel it."""
        self.get_conn().delete(self.reference(name))

    def wait(
        self,
        name: Any,
        timeout: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        on_change: Callable[[str], object] | None = None,
    ) -> Operation:
        """Wait until an operation has finished, and return it however it ended.

        :param timeout: in seconds or as a timedelta; ``None`` waits for ever.
        :param poll_interval: in seconds or as a timedelta, at least 1; if ``None`` it grows with the age of the wait.
        :param on_change: is given one line whenever state or progress has changed; by default it is logged.
        :raises WaitTimeoutError: at the timeout. The operation runs on.
        """
        from airflow_lro_provider.lro.polling import new_schedule

        reference = self.reference(name)
        schedule = new_schedule(time.monotonic(), timeout=timeout, interval=poll_interval)
        log = on_change or (lambda line: self.log.info("%s: %s", line, reference.short))
        return self.get_conn().wait_until_done(reference, schedule, on_change=log)

    get_connection_form_widgets = staticmethod(connection_form.widgets)
    get_ui_field_behaviour = staticmethod(connection_form.behaviour)

    def test_connection(self) -> tuple[bool, str]:
        """Get a token, and report whose it is, with which scopes, and what is missing; never a secret."""
        from airflow_lro_provider.lro.errors import OperationsError

        try:
            settings, identity = self.settings, self.get_conn().identity
            identity.headers()
        except OperationsError as error:
            return False, str(error)
        except Exception as error:  # not ours: its text may quote what the connection holds
            return False, f"No token: {type(error).__name__}."
        where = f" at {settings.api_endpoint}" if settings.api_endpoint else ""
        if settings.is_anonymous:
            return True, f"Requests are sent without a token{where}: Google's own APIs refuse them (`is_anonymous`)."
        if settings.emulator:
            return True, f"For a local server{where}: a fake token is sent, which no API of Google takes (`emulator`)."
        kind = "" if identity.description == identity.kind else f" ({identity.kind})"
        scopes = f"{', '.join(settings.scopes)}.{missing_scopes(settings, self.service)}"
        return True, f"Got a token for {identity.description}{kind}{where}. Scopes: {scopes}"


def missing_scopes(settings: ConnectionSettings, service: str | None) -> str:
    """Which scopes an API, or nearly all APIs, would need; empty if none is missing."""
    from airflow_lro_provider.lro.auth.settings import DEFAULT_SCOPES
    from airflow_lro_provider.lro.resources.catalog import known_services
    from airflow_lro_provider.lro.resources.hosts import read_service

    scopes = settings.scopes
    if service is not None:
        api = read_service(service, settings.universe_domain).api
        enough = not api.scopes or set(scopes) & set(api.scopes)
        return "" if enough else f" {api.title} needs another one: add {' or '.join(api.scopes)} to `scope`."
    if set(scopes) & set(DEFAULT_SCOPES):
        return ""  # enough for all but a few APIs, which have scopes of their own
    fitting = sorted(api.title for api in known_services().values() if set(scopes) & set(api.scopes))
    others = f"Other APIs than {', '.join(fitting)} need" if fitting else "Every API needs"
    return f" {others} another one: add {DEFAULT_SCOPES[0]} to `scope`."


class OperationsAsyncHook(_OperationsBaseHook):
    """:class:`OperationsHook` with coroutines, for triggers."""

    async def settings(self) -> ConnectionSettings:
        """What the connection says; it is read once."""
        return self._settings or await self.read_again()

    async def _extra(self) -> dict[str, Any]:
        if is_in_line():  # the supervisor that `dags test` plays has no asynchronous questions
            return self._read_extra()
        from airflow.providers.common.compat.connection import get_async_connection

        from airflow_lro_provider.airflow_compat.trigger_loop import ask_in_thread, undisturbed

        connection = None
        with contextlib.suppress(AirflowNotFoundException):
            connection = await undisturbed(get_async_connection(str(self.gcp_conn_id)))
        connection = usable(connection, self.gcp_conn_id)
        # Reading the extra masks its secrets, with a request to the supervisor: not synchronously on a loop.
        if hasattr(connection, "aextra_dejson"):  # since Airflow 3.3.2
            extra: dict[str, Any] = await undisturbed(connection.aextra_dejson())
            return extra
        return await ask_in_thread(lambda: dict(connection.extra_dejson))

    async def read_again(self) -> ConnectionSettings:
        """Read the connection again. See :meth:`OperationsHook.read_again`."""
        with self._reading():
            self._settings = self._read({} if self.gcp_conn_id is None else await self._extra())
        return self._settings

    async def reference(self, name: Any) -> OperationReference:
        """Read and check a reference; nothing is sent."""
        settings = await self.settings()
        return await in_thread("tokens", lambda: self._reference(name, settings))

    async def get_conn(self) -> AsyncOperationsClient:
        """The client that the other methods use. Close it with :meth:`close`."""
        from airflow_lro_provider.lro.async_client import AsyncOperationsClient

        if not hasattr(self, "_client"):
            self._client = await AsyncOperationsClient.create(
                await self.settings(),
                metrics=StatsMetrics(),
                read_settings=self.read_again,
                on_trouble=self.log.info,
                secrets=self.secrets,
            )
        return self._client

    async def close(self) -> None:
        """Give the connections back."""
        if hasattr(self, "_client"):
            await self._client.close()

    async def get(self, name: Any) -> Operation:
        """Get an operation as it is now. See :meth:`OperationsHook.get`."""
        return await (await self.get_conn()).get(await self.reference(name))

    async def start(
        self,
        method: Any,
        body: Mapping[str, Any] | None = None,
        *,
        http_method: str = "POST",
        request_id: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Operation:
        """Call a method that responds with an operation. See :meth:`OperationsHook.start`."""
        settings, client = await self.settings(), await self.get_conn()
        checked = await in_thread("tokens", lambda: self._method(method, http_method, settings))
        operation = (await client.start(checked, body, request_id=request_id, timeout=timeout)).operation
        assert operation is not None
        return operation

    async def cancel(self, name: Any) -> CancelResult:
        """Request the cancellation of an operation. See :meth:`OperationsHook.cancel`."""
        return await (await self.get_conn()).cancel(await self.reference(name))

    async def list(
        self, parent: str, filter: str | None = None, page_size: int | None = None
    ) -> AsyncIterator[Operation]:
        """All operations below a parent. See :meth:`OperationsHook.list`."""
        settings, client = await self.settings(), await self.get_conn()
        checked = await in_thread("tokens", lambda: self._parent(parent, settings))
        async for operation in client.list(checked, filter=filter, page_size=page_size):
            yield operation

    async def delete(self, name: Any) -> None:
        """Make the service forget an operation. This does not cancel it."""
        await (await self.get_conn()).delete(await self.reference(name))

    async def wait(
        self,
        name: Any,
        timeout: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        on_change: Callable[[str], object] | None = None,
    ) -> Operation:
        """Wait until an operation has finished. See :meth:`OperationsHook.wait`."""
        from airflow_lro_provider.lro.polling import new_schedule

        reference = await self.reference(name)
        return await (await self.get_conn()).wait_until_done(
            reference,
            new_schedule(time.monotonic(), timeout=timeout, interval=poll_interval),
            on_change=on_change or (lambda line: self.log.info("%s: %s", line, reference.short)),
        )
