"""One wait of the watcher: what whoever waits holds, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import PollSchedule
from airflow_lro_provider.lro.shared_poller.queue import Waiter

if TYPE_CHECKING:
    from airflow_lro_provider.lro.shared_poller.group import Group

__all__ = ["Waiting"]


class Waiting(Waiter):
    """One wait. Await it again and again: for a line whenever state or progress changed, and at last for the operation
    that is over. End it with :meth:`leave`, whatever came.
    """

    __slots__ = ("_asked", "_future", "_group", "_more")

    def __init__(self, name: str, watch: PollSchedule, group: Group) -> None:
        super().__init__(name, watch)
        self._group = group
        self._future: asyncio.Future[Operation | str] = asyncio.get_running_loop().create_future()
        # After a line: what has come behind it, before anybody asked for that.
        self._more: list[Operation | BaseException | str] | None = None
        self._asked = False

    def __await__(self) -> Generator[Any, None, Operation | str]:
        if self._asked and self._more is not None:
            self._future = asyncio.get_running_loop().create_future()
            more, self._more = self._more, None
            for what in more:
                self.tell(what)
        self._asked = True
        # At rest there is no frame of ours: thousands would have one.
        return self._future.__await__()

    def now(self) -> float:
        """The time, on the clock of the watch."""
        return self._group.endpoint.watcher.clock()

    def leave(self) -> None:
        """Wait no longer."""
        self._future.cancel()
        self._group.leave(self)

    def tell(self, what: Operation | BaseException | str) -> None:
        """Deliver what the watcher has found out."""
        if self._future.cancelled():
            return
        if self._future.done():
            self._more = [*(self._more or ()), what]
        elif isinstance(what, BaseException):
            self._future.set_exception(what)
            self._future.exception()  # whoever has left meanwhile does not miss it
        else:
            self._future.set_result(what)
            if isinstance(what, str):
                self._more = []
