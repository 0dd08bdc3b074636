"""Cancelling many operations at once, bounded in parallel, with an outcome for each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.errors import NotFoundError, OperationsError, WaitTimeoutError
from airflow_lro_provider.lro.operation import Operation, Outcome
from airflow_lro_provider.lro.polling import Deadline, PollSchedule
from airflow_lro_provider.lro.resources.hosts import Resource
from airflow_lro_provider.lro.resources.names import OperationReference

__all__ = ["Cancelled", "cancel_many", "count"]


@dataclass(frozen=True)
class Cancelled:
    """What came of one cancellation.

    :param reference: the operation; its name may be one that cannot be used.
    :param outcome: what came of it; ``None`` if an error kept it from being known.
    :param message: that error.
    """

    reference: Resource
    outcome: Outcome | None
    message: str = ""

    @property
    def word(self) -> str:
        """The outcome, or ``ERROR``."""
        return "ERROR" if self.outcome is None else self.outcome.value

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        found = {"name": self.reference.name, "outcome": self.word}
        return {**found, "message": self.message} if self.message else found


def count(results: Iterable[Cancelled]) -> dict[str, int]:
    """How many had which outcome, most first."""
    return dict(Counter(result.word for result in results).most_common())


async def cancel_many(
    client: AsyncOperationsClient,
    operations: Iterable[tuple[OperationReference, Operation]],
    *,
    limit: int = 8,
    wait: bool = True,
    timeout: float | None = None,
    poll_interval: float | None = None,
) -> list[Cancelled]:
    """Ask for the cancellation of all of them, and see what comes of each.

    :param operations: with the look at each that was just taken.
    :param limit: how many requests for a cancellation are under way at a time.
    :param wait: wait for the end of each; if not, one whose request was taken is STILL_RUNNING.
    :param timeout: how long to wait for all of them, in seconds.
    :param poll_interval: seconds between two looks at one of them.
    """
    turn = asyncio.Semaphore(limit)
    begun = time.monotonic()
    deadline = None if timeout is None else Deadline(begun + timeout, "timeout", timeout)

    async def one(reference: OperationReference, seen: Operation) -> Cancelled:
        try:
            async with turn:
                result = await client.cancel(reference, before=seen)
            if result.outcome is not None or not wait:
                return Cancelled(reference, result.outcome or Outcome.STILL_RUNNING)
            watch = PollSchedule(started=time.monotonic(), deadline=deadline, interval=poll_interval)
            return Cancelled(reference, result.outcome_of(await client.wait_until_done(reference, watch)))
        except WaitTimeoutError:
            return Cancelled(reference, Outcome.STILL_RUNNING)
        except NotFoundError:
            return Cancelled(reference, Outcome.NOT_FOUND)
        except OperationsError as error:
            return Cancelled(reference, None, str(error))

    return list(await asyncio.gather(*(one(reference, seen) for reference, seen in operations)))
