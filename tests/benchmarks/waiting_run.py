"""One measurement of waiting: a real TriggerRunner with its triggers, in this process.

``python -m tests.benchmarks.waiting_run '{"strategy": "watcher", "count": 1000, …}'`` prints one JSON object.
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
    "floor": "tests.benchmarks.waiting_triggers.Floor",
    "shared session": "tests.benchmarks.waiting_triggers.SharedSession",
    "own session": "tests.benchmarks.waiting_triggers.OwnSession",
    "watcher": "airflow_lro_provider.triggers.operations.OperationTrigger",
    "watcher, no responses": "airflow_lro_provider.triggers.operations.OperationTrigger",
}


def arguments(options: dict[str, Any], number: int) -> dict[str, Any]:
    """The stored arguments of a trigger."""
    name, interval = f"{PARENT}/operations/{number}", options["interval"]
    if options["strategy"] == "floor":
        # As many end as with the others: what the end of a trigger costs Airflow is part of the floor.
        number_of_ends = int(options["count"] * options["end_part"])
        turn, rest = divmod(number, options["count"] // max(number_of_ends, 1))
        if rest or turn >= number_of_ends:
            return {}
        return {"end_after": options["end_after"] + turn * options["end_within"] / number_of_ends}
    if not options["strategy"].startswith("watcher"):
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
        "include_response": options["strategy"] == "watcher",
    }


def resident() -> int:
    """The memory of this process, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fetch(options: dict[str, Any], path: str) -> Any:
    """Get something from the server about itself."""
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    with urllib.request.urlopen(f"{options['url']}{path}", context=context) as answer:
        return json.load(answer)


class Crowd:
    """Airflow's own TriggerRunner, without a supervisor, and the events of its triggers."""

    def __init__(self, options: dict[str, Any]) -> None:
        from airflow.jobs import triggerer_job_runner as module

        known: list[tuple[float, float]] = []
        lost: list[Any] = []

        class Runner(module.TriggerRunner):
            """There is nobody to talk to."""

            async def init_comms(self) -> None:
                """Receive nothing."""
                self.comms_decoder = type("Nobody", (), {})()
                self.comms_decoder._reader_task = asyncio.create_task(asyncio.Event().wait())

            async def sync_state_to_supervisor(self, finished_ids: list[int]) -> None:
                """Drop the events."""
                self.events.clear()

        class Events(list):  # type: ignore[type-arg]
            """The list that a runner appends its events to: records at once how late each is."""

            def append(self, entry: Any) -> None:
                payload = entry.event.payload or {}
                operation = payload.get("operation")
                if operation:
                    end = datetime.fromisoformat(operation["metadata"]["endTime"].replace("Z", "+00:00"))
                    known.append((end.timestamp(), datetime.now(timezone.utc).timestamp()))
                elif payload:
                    lost.append(payload)

        self.options = options
        self.known = known
        """When each operation ended, and when that was known; both in seconds since the epoch."""
        self.lost = lost
        """The events of waits that ended without an operation."""
        self.size = 0
        """How much memory all the triggers take, in bytes."""
        self.runner = Runner()
        self.runner.events = Events()  # type: ignore[assignment]

    async def gather(self) -> None:
        """Start the triggers, and let them settle."""
        from airflow.executors.workloads import RunTrigger
        from airflow.models.trigger import Trigger

        options = self.options
        if options["strategy"] != "own session":
            await self._warm()
        path, count = CLASSES[options["strategy"]], options["count"]
        workloads = [
            RunTrigger(
                id=i + 1, ti=None, classpath=path, encrypted_kwargs=Trigger.encrypt_kwargs(arguments(options, i))
            )
            for i in range(count)
        ]
        before = resident()
        self._running = asyncio.create_task(self.runner.arun())
        begun = time.monotonic()
        for first in range(0, count, 1000):  # as the supervisor hands them over
            self.runner.to_create.extend(workloads[first : first + 1000])
            while self.runner.to_create:
                await asyncio.sleep(0.05)
        await asyncio.sleep(max(options["settle"] - (time.monotonic() - begun), 2.0))
        self.size = resident() - before
        gc.freeze()

    async def _warm(self) -> None:
        """Import and connect once, so that only triggers are measured."""
        one = self.runner.get_trigger_by_classpath(CLASSES[self.options["strategy"]])
        stop = asyncio.create_task(anext(one(**arguments(self.options, 0)).run()))
        await asyncio.sleep(3.0)
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)

    async def observe(self, seconds: float) -> float:
        """Let them wait, and give the longest time that the loop was blocked, in seconds."""
        lag, until = 0.0, time.monotonic() + seconds
        while (at := time.monotonic()) < until:
            await asyncio.sleep(0.02)
            lag = max(lag, time.monotonic() - at - 0.02)
        return lag

    async def until_known(self, number: int) -> None:
        """Wait until this many ends are known, or a minute has passed."""
        until = time.monotonic() + 60
        while len(self.known) < number and time.monotonic() < until:
            await asyncio.sleep(0.1)

    async def fetch(self, path: str) -> Any:
        """Get something from the server about itself."""
        return await asyncio.to_thread(fetch, self.options, path)

    def disperse(self) -> None:
        """Stop them all."""
        self.runner.stop = True
        self._running.cancel()


async def measure(options: dict[str, Any]) -> dict[str, Any]:
    """Start the triggers, let them settle, and observe."""
    crowd = Crowd(options)
    await crowd.gather()
    await crowd.fetch("/begin")
    before, cpu, at, first = await crowd.fetch("/count"), time.process_time(), time.monotonic(), len(crowd.known)
    lag = await crowd.observe(options["seconds"])
    took, cpu = time.monotonic() - at, time.process_time() - cpu
    requests = (await crowd.fetch("/count"))["requests"] - before["requests"]
    if options["strategy"] != "floor":
        await crowd.until_known(first + int(options["count"] * options["end_part"]))
    crowd.disperse()
    late = sorted(seen - end for end, seen in crowd.known[first:])
    return {
        **{key: options[key] for key in ("strategy", "count", "interval", "server")},
        "cpu": 100 * cpu / took,
        "kb": crowd.size / 1024 / options["count"],
        "requests": requests / options["count"] / took * 60,
        "lag_ms": 1000 * lag,
        "known": len(late),
        "median": late[len(late) // 2] if late else None,
        "p95": late[int(len(late) * 0.95)] if late else None,
    }


def main() -> None:
    """Measure, and exit at once: thousands of triggers take long to stop."""
    options = json.loads(sys.argv[1])
    logging.disable(logging.CRITICAL)
    import structlog

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=True)
    asyncio.run(_measured(options))


async def _measured(options: dict[str, Any]) -> None:
    if "trouble" in options:
        from tests.benchmarks.trouble_run import measure as chosen
    else:
        chosen = measure
    found = await chosen(options)
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
