"""One measurement of waiting: a real TriggerRunner with so many triggers, in this process.

``python waiting_run.py '{"strategy": "watcher", "count": 1000, …}'`` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import ssl
import sys
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

PARENT = "projects/p/locations/us-central1"
CLASSES = {
    "floor": "waiting_triggers.Floor",
    "shared session": "waiting_triggers.SharedSession",
    "own session": "waiting_triggers.OwnSession",
    "watcher": "airflow_lro_provider.triggers.operations.OperationTrigger",
}


def arguments(options: dict[str, Any], number: int) -> dict[str, Any]:
    """What a trigger is made of, as it is stored."""
    name, interval = f"{PARENT}/operations/{number}", options["interval"]
    if options["strategy"] == "floor":
        # As many end as with the others: what the end of a trigger costs Airflow is a part of its floor.
        number_of_ends = int(options["count"] * options["end_part"])
        turn, rest = divmod(number, options["count"] // max(number_of_ends, 1))
        if rest or turn >= number_of_ends:
            return {}
        return {"end_after": options["end_after"] + turn * options["end_within"] / number_of_ends}
    if options["strategy"] != "watcher":
        return {"url": f"{options['url']}/v1/{name}", "poll_interval": interval}
    host = "datafusion.googleapis.com"
    owner = {"dag_id": "d", "run_id": "manual__2026", "task_id": "t", "map_index": number, "token": f"token-{number}"}
    return {
        "reference": {"service": "datafusion", "version": "v1", "name": name, "host": host},
        "gcp_conn_id": "google_cloud_default",
        "impersonation_chain": None,
        "started": time.time(),
        "deadline": {"at": time.time() + 86400, "cause": "timeout", "seconds": 86400.0},
        "poll_interval": interval,
        "exponential_backoff": False,
        "max_wait": None,
        "tolerant": False,
        "cancel_on_kill": True,
        "owner": owner,
        "include_response": True,
    }


def resident() -> int:
    """The memory of this process, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def requests(options: dict[str, Any]) -> int:
    """How many requests the server has had."""
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    with urllib.request.urlopen(f"{options['url']}/count", context=context) as answer:
        return int(json.load(answer))


async def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Start the triggers, let them settle, and look on."""
    from airflow.executors.workloads.trigger import RunTrigger
    from airflow.jobs import triggerer_job_runner as module
    from airflow.models.trigger import Trigger

    late: list[float] = []

    class Runner(module.TriggerRunner):
        """Airflow's own, without a supervisor."""

        async def init_comms(self) -> None:
            """There is nobody to talk to."""
            self.comms_decoder = type("Nobody", (), {})()
            self.comms_decoder._reader_task = asyncio.create_task(asyncio.Event().wait())

        async def sync_state_to_supervisor(self, finished_ids: list[int]) -> None:
            """Take note of the events."""
            self.events.clear()

    class Events(list):  # type: ignore[type-arg]
        """What a runner appends its events to: notes at once how old each is."""

        def append(self, entry: Any) -> None:
            operation = (entry.event.payload or {}).get("operation")
            if operation:
                end = datetime.fromisoformat(operation["metadata"]["endTime"].replace("Z", "+00:00"))
                late.append((datetime.now(timezone.utc) - end).total_seconds())

    async def warm() -> None:
        """Import and connect once, so that only triggers are measured."""
        one = runner.get_trigger_by_classpath(CLASSES[options["strategy"]])
        stop = asyncio.create_task(anext(one(**arguments(options, 0)).run()))
        stop.get_coro()
        await asyncio.sleep(3.0)
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)

    runner = Runner()
    runner.events = Events()  # type: ignore[assignment]
    if options["strategy"] != "own session":
        await warm()
    path, count = CLASSES[options["strategy"]], options["count"]
    workloads = [
        RunTrigger(id=i + 1, classpath=path, encrypted_kwargs=Trigger.encrypt_kwargs(arguments(options, i)))
        for i in range(count)
    ]
    before = resident()
    running = asyncio.create_task(runner.arun())
    begun = time.monotonic()
    for first in range(0, count, 1000):  # as the supervisor hands them over
        runner.to_create.extend(workloads[first : first + 1000])
        while runner.to_create:
            await asyncio.sleep(0.05)
    await asyncio.sleep(max(options["settle"] - (time.monotonic() - begun), 2.0))
    size = resident() - before
    gc.freeze()
    lag, over = 0.0, False

    async def watch() -> None:
        nonlocal lag
        while not over:
            at = time.monotonic()
            await asyncio.sleep(0.02)
            lag = max(lag, time.monotonic() - at - 0.02)

    asked, cpu, at, lates = await asyncio.to_thread(requests, options), time.process_time(), time.monotonic(), len(late)
    watching = asyncio.create_task(watch())
    await asyncio.sleep(options["seconds"])
    over, took, cpu = True, time.monotonic() - at, time.process_time() - cpu
    await watching
    asked = await asyncio.to_thread(requests, options) - asked
    runner.stop = True
    running.cancel()
    late = sorted(late[lates:])
    return {
        **{key: options[key] for key in ("strategy", "count", "interval", "server")},
        "cpu": 100 * cpu / took,
        "kb": size / 1024 / count,
        "requests": asked / count / took * 60,
        "lag_ms": 1000 * lag,
        "known": len(late),
        "median": late[len(late) // 2] if late else None,
        "p95": late[int(len(late) * 0.95)] if late else None,
    }


def main() -> None:
    """Measure, and leave at once: thousands of triggers take long to say goodbye."""
    options = json.loads(sys.argv[1])
    logging.disable(logging.CRITICAL)
    import structlog

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=True)
    asyncio.run(_measured(options))


async def _measured(options: dict[str, Any]) -> None:
    found = await measure(options)
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
