"""Both clients, called in one way, with a token that can be searched for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.oauth2.credentials import Credentials

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.mtls import TlsSettings
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import Identity
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.resources.names import OperationReference, read_reference

__all__ = ["KINDS", "NAME", "REFERENCE", "TOKEN", "Client"]

CONNECT_TIMEOUT = 0.5
KINDS = ["sync", "async"]
TOKEN = "ya29.MARKED-TOKEN-not-to-be-seen-anywhere"
NAME = "projects/p/locations/us-central1/operations/o"
REFERENCE: OperationReference = read_reference(NAME, "datafusion")


class Client:
    """A client of either kind. Sleeping is noted and not done.

    :param kind: ``sync`` or ``async``.
    :param endpoint: where it sends to; ``None`` for Google.
    :param identity: who it is; somebody with the marked token if not given.
    """

    def __init__(
        self,
        kind: str,
        endpoint: str | None,
        *,
        identity: Identity | None = None,
        read_timeout: float = 2.0,
        retries: int = 2,
    ) -> None:
        self.slept: list[float] = []
        settings = ConnectionSettings(api_endpoint=endpoint, num_retries=retries)
        identity = identity or Identity(Credentials(token=TOKEN), renewable=False)
        self._loop = asyncio.new_event_loop() if kind == "async" else None
        self._client: Any
        if self._loop is None:
            self._client = OperationsClient(
                settings,
                identity=identity,
                sleep=self.slept.append,
                read_timeout=read_timeout,
                connect_timeout=CONNECT_TIMEOUT,
            )
        else:

            async def sleep(seconds: float) -> None:
                self.slept.append(seconds)

            self._client = AsyncOperationsClient(
                settings,
                identity,
                channel=TlsSettings(),
                sleep=sleep,
                read_timeout=read_timeout,
                connect_timeout=CONNECT_TIMEOUT,
            )

    def __getattr__(self, verb: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = getattr(self._client, verb)(*args, **kwargs)
            if self._loop is None:
                return list(result) if verb == "list" else result
            if isinstance(result, AsyncIterator):

                async def collect() -> list[Any]:
                    return [row async for row in result]

                return self._loop.run_until_complete(collect())
            return self._loop.run_until_complete(result)

        return call

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
        if self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
