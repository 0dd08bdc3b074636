"""A plain provider for long-running operations, written the way such providers usually are: the yardstick.

It is meant to be good of its kind: it looks its connection up where it needs it, cancels in ``on_kill`` of
operator and trigger, passes its timeouts to ``defer`` and fails when its operation does. What it does not do is
what one does not think of without having watched Airflow kill tasks.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    BaseHook,
    BaseOperator,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
TIMEOUT = 30.0
"""Of one request, in seconds."""


def result_of(operation: Mapping[str, Any]) -> dict[str, Any]:
    """The finished operation.

    :raises AirflowException: if it failed or was cancelled.
    """
    if "error" in operation:
        raise AirflowException(f"{operation['name']} failed: {operation['error']}")
    return dict(operation)


def url_of(extra: Mapping[str, Any], service: str, path: str) -> str:
    """Where a path of an API is; the connection may name another endpoint than Google's."""
    endpoint = extra.get("api_endpoint") or "https://{service}.googleapis.com"
    return f"{endpoint.replace('{service}', service)}/v1/{path}"


def credentials_of(extra: Mapping[str, Any]) -> Any:
    """The credentials of a connection's extra."""
    from google.oauth2 import service_account

    key = extra["keyfile_dict"]
    return service_account.Credentials.from_service_account_info(
        json.loads(key) if isinstance(key, str) else key, scopes=SCOPES
    )


class NaiveOperationsHook(BaseHook):
    """Asks for operations with the identity of a connection.

    :param gcp_conn_id: the connection.
    :param service: the API's name, the first part of its host.
    """

    def __init__(self, gcp_conn_id: str, service: str) -> None:
        super().__init__()
        self.gcp_conn_id = gcp_conn_id
        self.service = service

    def request(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a request, and return its answer."""
        from google.auth.transport.requests import AuthorizedSession

        extra = self.get_connection(self.gcp_conn_id).extra_dejson
        with AuthorizedSession(credentials_of(extra)) as session:
            answer = session.request(method, url_of(extra, self.service, path), json=body, timeout=TIMEOUT)
            answer.raise_for_status()
            return dict(answer.json())

    def start(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Call a method that answers with an operation."""
        return self.request("POST", path, dict(body))

    def get(self, name: str) -> dict[str, Any]:
        """Look at an operation."""
        return self.request("GET", name)

    def cancel(self, name: str) -> None:
        """Ask for the cancellation of an operation."""
        self.request("POST", f"{name}:cancel", {})


class NaiveOperationsAsyncHook(NaiveOperationsHook):
    """The same for triggers."""

    async def arequest(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Send a request, and return its answer."""
        import aiohttp
        from airflow.providers.common.compat.connection import get_async_connection
        from google.auth.transport.requests import Request

        connection = await get_async_connection(self.gcp_conn_id)
        extra = await asyncio.to_thread(lambda: connection.extra_dejson)
        credentials = credentials_of(extra)
        await asyncio.to_thread(credentials.refresh, Request())
        headers = {"authorization": f"Bearer {credentials.token}"}
        limit = aiohttp.ClientTimeout(total=TIMEOUT)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=limit, raise_for_status=True) as session,
            session.request(method, url_of(extra, self.service, path), json=body) as answer,
        ):
            return dict(await answer.json())


class NaiveOperationTrigger(BaseTrigger):
    """Polls an operation until it is over, and cancels it if its task is killed meanwhile.

    :param poll_interval: seconds between two looks.
    """

    def __init__(self, operation_name: str, service: str, gcp_conn_id: str, poll_interval: float) -> None:
        super().__init__()
        self.operation_name = operation_name
        self.service = service
        self.gcp_conn_id = gcp_conn_id
        self.poll_interval = poll_interval
        self.hook = NaiveOperationsAsyncHook(gcp_conn_id, service)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What it takes to make it again."""
        return (
            "naive_provider.NaiveOperationTrigger",
            {
                "operation_name": self.operation_name,
                "service": self.service,
                "gcp_conn_id": self.gcp_conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then hand the operation to the task."""
        while True:
            operation = await self.hook.arequest("GET", self.operation_name)
            if operation.get("done"):
                yield TriggerEvent({"operation": operation})
                return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """Cancel the operation."""
        self.log.info("Cancelling %s", self.operation_name)
        await self.hook.arequest("POST", f"{self.operation_name}:cancel", {})


class _NaiveTask:
    """What sensor and operator have in common; comes before Airflow's class among the bases."""

    operation_name: str | None
    service: str
    gcp_conn_id: str
    poll_interval: float
    log: Any

    @property
    def hook(self) -> NaiveOperationsHook:
        """A hook for the connection."""
        return NaiveOperationsHook(self.gcp_conn_id, self.service)

    def hand_over(self, timeout: timedelta | None) -> None:
        """Let the trigger wait. Does not return."""
        assert self.operation_name is not None
        self.defer(  # type: ignore[attr-defined]
            trigger=NaiveOperationTrigger(self.operation_name, self.service, self.gcp_conn_id, self.poll_interval),
            method_name="execute_complete",
            timeout=timeout,
        )

    def execute_complete(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after the trigger has waited."""
        return result_of(event["operation"])

    def on_kill(self) -> None:
        """Cancel the operation."""
        if self.operation_name:
            self.log.info("Cancelling %s", self.operation_name)
            self.hook.cancel(self.operation_name)


class NaiveOperationSensor(_NaiveTask, BaseSensorOperator):
    """Waits until an operation is over, and cancels it if the task is killed."""

    template_fields = ("operation_name",)

    def __init__(
        self,
        *,
        operation_name: str,
        service: str,
        gcp_conn_id: str = "google_cloud_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.operation_name = operation_name
        self.service = service
        self.gcp_conn_id = gcp_conn_id
        self.deferrable = deferrable
        self.poll_interval = self.poke_interval

    def execute(self, context: Any) -> Any:
        """Poke, or defer if it is not over yet."""
        if not self.deferrable:
            return super().execute(context)
        if not (seen := self.poke(context)):
            self.hand_over(timedelta(seconds=self.timeout))
        return seen.xcom_value

    def poke(self, context: Any) -> PokeReturnValue:
        """Look once."""
        assert self.operation_name is not None
        operation = self.hook.get(self.operation_name)
        if not operation.get("done"):
            return PokeReturnValue(False)
        return PokeReturnValue(True, result_of(operation))


class NaiveRunOperator(_NaiveTask, BaseOperator):
    """Starts an operation, waits until it is over, and cancels it if the task is killed."""

    template_fields = ("method", "body")
    operation_name = None

    def __init__(
        self,
        *,
        service: str,
        method: str,
        body: Mapping[str, Any],
        gcp_conn_id: str = "google_cloud_default",
        poll_interval: float = 10.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.service = service
        self.method = method
        self.body = body
        self.gcp_conn_id = gcp_conn_id
        self.poll_interval = poll_interval
        self.deferrable = deferrable

    def execute(self, context: Any) -> dict[str, Any]:
        """Start and wait."""
        operation = self.hook.start(self.method, self.body)
        self.operation_name = operation["name"]
        if self.deferrable and not operation.get("done"):
            self.hand_over(self.execution_timeout)
        while not operation.get("done"):
            time.sleep(self.poll_interval)
            operation = self.hook.get(self.operation_name)
        return result_of(operation)
