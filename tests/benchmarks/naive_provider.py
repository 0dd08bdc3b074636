"""The yardstick: a plain provider, as such providers are usually written.

The connection is looked up where it is needed, credentials are built from it, ``on_kill`` sends the cancel, and
timeouts are left to Airflow. Nothing in it is wrong on purpose.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseHook, BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent


class NaiveHook(BaseHook):
    """Asks for operations with a service account's key."""

    def __init__(self, gcp_conn_id: str = "google_cloud_default", service: str = "datafusion") -> None:
        super().__init__()
        self.gcp_conn_id, self.service = gcp_conn_id, service

    def request(self, method: str, path: str) -> dict[str, Any]:
        """Send a request."""
        from google.auth.transport.requests import AuthorizedSession
        from google.oauth2.service_account import Credentials

        extra = self.get_connection(self.gcp_conn_id).extra_dejson
        credentials = Credentials.from_service_account_info(
            extra["keyfile_dict"], scopes=["https://www.googleapis.com/auth/cloud-platform"]
        )
        url = f"{extra['api_endpoint'].replace('{service}', self.service)}/v1/{path}"
        with AuthorizedSession(credentials) as session:
            answer = session.request(method, url, timeout=30)
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            return found

    def get(self, name: str) -> dict[str, Any]:
        """Look at an operation."""
        return self.request("GET", name)

    def cancel(self, name: str) -> None:
        """Cancel it."""
        self.request("POST", f"{name}:cancel")


class NaiveTrigger(BaseTrigger):
    """Polls, and cancels when Airflow says so."""

    def __init__(self, name: str, poll_interval: float) -> None:
        super().__init__()
        self.name, self.poll_interval = name, poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """For the database."""
        return "naive_provider.NaiveTrigger", {"name": self.name, "poll_interval": self.poll_interval}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until it is done."""
        hook = NaiveHook()
        while True:
            operation = await asyncio.to_thread(hook.get, self.name)
            if operation.get("done"):
                yield TriggerEvent(operation)
                return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """Cancel it."""
        await asyncio.to_thread(NaiveHook().cancel, self.name)


class NaiveSensor(BaseSensorOperator):
    """Waits for an operation."""

    template_fields = ("operation_name",)

    def __init__(self, *, operation_name: str, deferrable: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.operation_name, self.deferrable = operation_name, deferrable

    def execute(self, context: Any) -> Any:
        """Poke, or defer."""
        if not self.deferrable:
            return super().execute(context)
        return self.defer(
            trigger=NaiveTrigger(self.operation_name, self.poke_interval),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def poke(self, context: Any) -> bool:
        """Look."""
        return bool(NaiveHook().get(self.operation_name).get("done"))

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Judge the event."""
        if "error" in event:
            raise RuntimeError(event["error"])

    def on_kill(self) -> None:
        """Cancel it."""
        NaiveHook().cancel(self.operation_name)


class NaiveOperator(BaseOperator):
    """Starts an operation and waits for it."""

    template_fields = ("path",)

    def __init__(self, *, path: str, poll_interval: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path, self.poll_interval = path, poll_interval
        self.operation_name: str | None = None

    def execute(self, context: Any) -> Any:
        """Start and wait."""
        hook = NaiveHook()
        self.operation_name = hook.request("POST", self.path)["name"]
        while not (operation := hook.get(self.operation_name)).get("done"):
            time.sleep(self.poll_interval)
        if "error" in operation:
            raise RuntimeError(operation["error"])
        return operation.get("response")

    def on_kill(self) -> None:
        """Cancel it."""
        if self.operation_name:
            NaiveHook().cancel(self.operation_name)
