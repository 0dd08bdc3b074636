"""What a flow (:mod:`airflow_lro_provider.lro.flows`) yields to the client that drives it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_lro_provider.lro.http.messages import Request
from airflow_lro_provider.lro.resources.hosts import Resource

T = TypeVar("T")


@dataclass(frozen=True)
class Sleep:
    """Let as many seconds pass."""

    seconds: float


@dataclass(frozen=True)
class Renew:
    """Read the connection again, a key may have been replaced. The response is a :class:`Renewed`.

    :param line: what to log, if anything.
    """

    resource: Resource
    line: str | None


@dataclass(frozen=True)
class Renewed:
    """The connection as it is by now.

    :param endpoint: where requests go.
    :param is_same: whether it could be read, and says what it said before.
    """

    endpoint: str
    is_same: bool


Step = Request[Any] | Sleep | Renew
Flow = Generator[Step, Any, T]
