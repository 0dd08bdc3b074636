"""What the triggers of one event loop share: the poller, the metrics, its pulse, and the settings of their connections.

A thousand triggers that start at once mostly have the same connection. Requesting it from the supervisor a thousand
times takes longer than all the rest of their start.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import conf

from airflow_lro_provider.hooks.operations import OperationsAsyncHook
from airflow_lro_provider.lro.errors import ConnectionSettingsError, OperationsError
from airflow_lro_provider.lro.polling import MAX_IN_FLIGHT
from airflow_lro_provider.metrics import StatsMetrics

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.shared_poller.watcher import Watcher

log = logging.getLogger(__name__)

METRICS = StatsMetrics()
PULSE_SECONDS = 1.0
"""How often a triggerer notes that it runs."""
STANDSTILL_SECONDS = 10.0
"""A triggerer that has not run for so long has stood still: others take over after 30 s, or as Airflow is set up."""
SETTINGS_TTL_SECONDS = 10.0
"""How long the settings of a connection are shared with triggers that start later."""

_Key = tuple["str | None", "str | tuple[str, ...] | None"]
_read: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, tuple[float, asyncio.Task[ConnectionSettings]]]] = (
    WeakKeyDictionary()
)


async def settings_of(gcp_conn_id: str | None, impersonation_chain: str | Sequence[str] | None) -> ConnectionSettings:
    """The settings of a connection, read once for all triggers that start at about the same time.

    :raises ConnectionSettingsError: if the connection does not exist or cannot be used.
    """
    chain = impersonation_chain
    key = (gcp_conn_id, chain if chain is None or isinstance(chain, str) else tuple(chain))
    loop, now = asyncio.get_running_loop(), time.monotonic()
    known = _read.setdefault(loop, {})
    for old in [other for other, (at, task) in known.items() if task.done() and now >= at + SETTINGS_TTL_SECONDS]:
        del known[old]
    if key not in known:
        hook = OperationsAsyncHook(gcp_conn_id=gcp_conn_id, impersonation_chain=chain)
        # The task belongs to no trigger: the first one may be killed, and the others still need the settings.
        task = contextvars.Context().run(loop.create_task, hook.settings())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody is there to
        known[key] = (now, task)
    _, task = known[key]
    try:
        return await asyncio.shield(task)
    except BaseException as error:
        if task.done() and known.get(key, (0, None))[1] is task:
            del known[key]  # an error is not kept
        if isinstance(error, OperationsError) or not isinstance(error, Exception):
            raise
        # Of Airflow: its text may contain what the connection does.
        kind = type(error).__name__
    raise ConnectionSettingsError(f"could not load connection {gcp_conn_id!r} from Airflow: {kind}.")


class Pulse:
    """Notices whether an event loop has stood still, as when its machine was suspended.

    :param clock: the wall clock: it goes on when the machine does not.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._last = clock, clock()
        self._stood_still_until = -math.inf

    def beat(self) -> None:
        """Note that the loop runs."""
        now = self._clock()
        if now - self._last >= STANDSTILL_SECONDS:
            self._stood_still_until = now
        self._last = now

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat as long as the loop runs."""
        self.beat()
        loop.call_later(PULSE_SECONDS, self.start, loop, context=contextvars.Context())

    def has_stood_still(self, since: float) -> bool:
        """Whether the loop has stood still since then, in seconds since the epoch."""
        self.beat()
        return self._stood_still_until >= since


_pulses: WeakKeyDictionary[asyncio.AbstractEventLoop, Pulse] = WeakKeyDictionary()


def pulse_of_loop() -> Pulse:
    """The pulse of the running loop, which begins with the first question for it."""
    loop = asyncio.get_running_loop()
    if loop not in _pulses:
        _pulses[loop] = Pulse()
        _pulses[loop].start(loop)
    return _pulses[loop]


def watcher_of_loop() -> Watcher:
    """The shared poller of all triggers of the running loop."""
    from airflow_lro_provider.lro.shared_poller.watcher import Watcher

    return Watcher.of_loop(lambda: Watcher(METRICS, max_in_flight=_max_in_flight()))


def _max_in_flight() -> int:
    """``[lro] max_in_flight``, from 1 to 999. An invalid value must not fail the waits of a whole triggerer."""
    given = str(conf.get("lro", "max_in_flight", fallback=MAX_IN_FLIGHT)).strip()
    if found := re.fullmatch("0*([1-9][0-9]{0,2})", given):
        return int(found[1])
    log.warning("[lro] max_in_flight is %.20r, not a number from 1 to 999; using %d", given, MAX_IN_FLIGHT)
    return MAX_IN_FLIGHT
