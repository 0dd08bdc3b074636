"""What many triggers do while something goes wrong; run by ``waiting_run.py``, for ``trouble.py``."""

from __future__ import annotations

import threading
import time
from typing import Any

from tests.benchmarks.waiting_run import Crowd


async def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Start the triggers, let them settle, and cause the trouble."""
    crowd = Crowd(options)
    await crowd.gather()
    found = await (_redistribution if options["trouble"] == "redistribution" else _endpoint)(crowd)
    crowd.disperse()
    return {**{key: options[key] for key in ("strategy", "count", "server", "trouble")}, **found}


async def _endpoint(crowd: Crowd) -> dict[str, Any]:
    """The endpoint breaks every connection, or responds to everything with 429."""
    options = crowd.options
    before = (await crowd.fetch("/count"))["requests"]
    begin = time.time()
    await crowd.fetch("/begin")
    await crowd.fetch(f"/trouble?kind={options['trouble']}&seconds={options['seconds']}")
    lag = await crowd.observe(options["seconds"] - 0.5)
    requests = (await crowd.fetch("/count"))["requests"] - before
    end = begin + options["seconds"]
    lag = max(lag, await crowd.observe(end + 4 * options["interval"] - time.time()))
    missed = [known - end for ended, known in crowd.known if begin <= ended < end]
    return {
        "requests": requests,
        "lag_ms": 1000 * lag,
        "ended": len(missed),
        "known_after": max(missed, default=None),
        "unknown": options["ends"] - len(crowd.known),
        "failed_waits": len(crowd.lost),
    }


async def _redistribution(crowd: Crowd) -> dict[str, Any]:
    """Another triggerer takes all of them: Airflow 3.3 kills each, and each checks who owns its operation."""
    from airflow_lro_provider.airflow_compat import task_states

    questions, lock = {"states": 0, "tokens": 0}, threading.Lock()

    def states(*, run_ids: list[str], task_ids: list[str], **_: Any) -> dict[str, dict[str, str]]:
        with lock:
            questions["states"] += 1
        time.sleep(0.05)  # as long as Airflow takes for a hundred
        keys = [*task_ids, *(f"{task}_{index}" for task in task_ids for index in range(crowd.options["count"]))]
        return {run: dict.fromkeys(keys, "deferred") for run in run_ids}

    def token(*, map_index: int, **_: Any) -> str:
        with lock:
            questions["tokens"] += 1
        time.sleep(0.005)
        return f"token-{map_index}"

    task_states.RuntimeTaskInstance.get_task_states = staticmethod(states)  # type: ignore[method-assign,assignment]
    task_states.XCom.get_one = staticmethod(token)  # type: ignore[method-assign,assignment]
    before = (await crowd.fetch("/count"))["cancels"]  # the one that warmed up was interrupted
    begin = time.monotonic()
    crowd.runner.to_cancel.extend(range(1, crowd.options["count"] + 1))
    lag = 0.0
    while crowd.runner.triggers and time.monotonic() < begin + 60:
        lag = max(lag, await crowd.observe(0.2))
    return {
        "lag_ms": 1000 * lag,
        "seconds": time.monotonic() - begin,
        "left": len(crowd.runner.triggers),
        **questions,
        "cancels": (await crowd.fetch("/count"))["cancels"] - before,
    }
