"""Those who wait below one parent with one identity, and their requests."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro.auth.credentials import ConnectionSettings, Identity
from airflow_lro_provider.lro.auth.mtls import TlsSettings
from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.lro.shared_poller.planner import Ask, Family

if TYPE_CHECKING:
    from airflow_lro_provider.lro.shared_poller.endpoint_poller import Endpoint
    from airflow_lro_provider.lro.shared_poller.waiting import Waiting

__all__ = ["Group", "Means"]

log = logging.getLogger("airflow_lro_provider.lro.shared_poller.watcher")

SAY_AGAIN = 60.0
"""How often a changed choice of requests is worth a line in the log, in seconds."""

Means = tuple[Identity, TlsSettings]
"""Who one is, and how one speaks TLS."""


class Group:
    """Those who wait below one parent with one identity: their family, their client, their requests."""

    def __init__(
        self,
        endpoint: Endpoint,
        key: tuple[Any, ...],
        settings: ConnectionSettings,
        means: Means,
        reference: OperationReference,
        family: Family,
    ) -> None:
        self.endpoint, self.key, self.family = endpoint, key, family
        self._settings, self._means = settings, means
        self._outdated: list[Any] = []
        self.client = self._make_client()
        self.requests: dict[asyncio.Task[None], Ask] = {}
        self.said, self.said_at = "", -math.inf
        self._like = reference

    @property
    def service(self) -> str:
        """The API's discovery name."""
        return self._like.service

    def reference(self, name: str) -> OperationReference:
        """An operation here, or the parent."""
        return OperationReference(self._like.service, self._like.version, name, self._like.host)

    def leave(self, waiting: Waiting) -> None:
        """One waits no longer."""
        self.family.remove(waiting)
        if waiting.name not in self.family.members:
            for task, ask in self.requests.items():
                if ask.name == waiting.name and ask.verb == "wait":
                    task.cancel()  # it would hold its connection for nobody
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Give everything back if nobody waits any more."""
        if self.family.members or self.endpoint.groups.get(self.key) is not self:
            return
        for task in self.requests:
            task.cancel()
        self.endpoint.drop(self)

    def use(self, means: Means) -> None:
        """Go on with another identity or certificate, if it is another one."""
        if means != self._means and self.endpoint.groups.get(self.key) is self:
            self._means = means
            self._outdated.append(self.client)  # requests may be under way with it
            self.client = self._make_client()

    def _make_client(self) -> Any:
        (identity, channel), watcher = self._means, self.endpoint.watcher
        return watcher.make_client(self._settings, identity, channel=channel, connections=watcher.max_in_flight)

    @property
    def clients(self) -> list[Any]:
        """All that there were, to be closed at the end."""
        return [*self._outdated, self.client]

    async def renew(self) -> None:
        """See whether there is another key or certificate than the one that does not work: they are replaced."""
        try:
            self.use(await self.endpoint.watcher.means(self._settings))
        except OperationsError as error:
            log.warning("%s: %s", self.service, error)

    async def send(self, ask: Ask) -> Any:
        """Make a request: an operation comes of a GET and a ``:wait``, rows of a list."""
        reference = self.reference(ask.name)
        if ask.verb == "get":
            return await self.client.get(reference, retries=0)
        if ask.verb == "wait":
            return await self.client.wait(reference, ask.timeout, retries=0)
        return await self.client.rows(
            reference, filter=ask.filter, page_size=ask.page_size, page_token=ask.page_token, retries=0
        )

    def say_choice(self, now: float) -> None:
        """Log how they are asked for, if that has changed."""
        choice = self.family.choice
        if choice != self.said and now >= self.said_at + SAY_AGAIN:
            self.said, self.said_at = choice, now
            count = len(self.family)
            log.info("%s %s: %d waiting, asked with %s", self.service, self.family.parent, count, choice)
