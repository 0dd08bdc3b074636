"""What waiting costs a triggerer: CPU, memory, requests, loop lag, delay. A table.

Needs nothing but this package with its ``dev`` extra, and openssl::

    python tests/benchmarks/waiting.py                 # all: 100, 1,000 and 5,000, about 30 minutes
    python tests/benchmarks/waiting.py --short         # 1,000 only, about 2 minutes
    python tests/benchmarks/waiting.py --count 5000 --only floor watcher --server "pages of 1,000" --repeat 5

The real ``TriggerRunner`` of Airflow, one process for each row, a server in a process of its own with TLS and 50 ms
latency (``waiting_server.py``). The rows of one count are compared with its floor: a trigger that awaits a
future. 4 % of the operations end during the measurement, and as many triggers of the floor: each costs Airflow
a millisecond. A busy machine varies by more from minute to minute than the watcher costs: ``--repeat`` measures
the rows in turns, and takes the median of each figure (of the largest lag, the largest).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.waiting_server import certificate

BEGIN_SECONDS = 8.0
"""From the beginning of a measurement to the first end."""
SERVERS: dict[str, dict[str, Any]] = {
    "pages of 1,000": {},
    "pages of 100": {"page_size": 100},
    "no list": {"no_list": True},
    "no list, 64 at a time": {"no_list": True, "max_in_flight": 64},
    "history 100 times as long": {"history": 100, "no_filter": True},
}
ROWS = [
    ("floor", "pages of 1,000"),
    ("watcher", "pages of 1,000"),
    ("watcher, no responses", "pages of 1,000"),
    ("watcher", "pages of 100"),
    ("watcher", "no list"),
    ("watcher", "no list, 64 at a time"),
    ("watcher", "history 100 times as long"),
    ("shared session", "pages of 1,000"),
    ("own session", "pages of 1,000"),
]


@contextlib.contextmanager
def server(options: dict[str, Any]) -> Iterator[str]:
    """A server in a process of its own; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.waiting_server", json.dumps(options)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"https://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def measured(task: dict[str, Any], options: dict[str, Any], timeout: float, verbose: bool) -> dict[str, Any]:
    """What a process of its own measured, with a server of its own.

    :param task: what ``waiting_run.py`` is to do.
    :param options: the server's.
    """
    with server(options) as url, tempfile.TemporaryDirectory() as home:
        extra = {"api_endpoint": url, "emulator": True}
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")},
            "AIRFLOW_HOME": home,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps({"conn_type": "google_lro", "extra": extra}),
            "AIRFLOW__LRO__MAX_IN_FLIGHT": str(options.get("max_in_flight", 8)),
            "SSL_CERT_FILE": options["certificate"][0],
            "REQUESTS_CA_BUNDLE": options["certificate"][0],
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.waiting_run", json.dumps({**task, "url": url})],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=None if verbose else subprocess.PIPE,
            text=True,
            timeout=timeout,
        )
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"strategy"'):
            found: dict[str, Any] = json.loads(line)
            return found
    print((done.stderr or "")[-3000:], file=sys.stderr)
    return {**{key: task[key] for key in ("strategy", "server", "count")}, "failed": done.returncode}


def run(strategy: str, kind: str, count: int, chosen: argparse.Namespace, files: tuple[str, str]) -> dict[str, Any]:
    """One row."""
    # 1,000 triggers are created in about two seconds; then all of them are polled for the first time.
    settle = chosen.settle + count / 250
    options = {
        **SERVERS[kind],
        "operations": count,
        "certificate": files,
        "end_after": BEGIN_SECONDS,
        "end_part": 0.04,
        "end_within": max(chosen.seconds - BEGIN_SECONDS, 1.0),
    }
    task = {
        **{"strategy": strategy, "count": count, "server": kind, "interval": chosen.interval},
        **{"settle": settle, "seconds": chosen.seconds},
        **{key: options[key] for key in ("end_part", "end_within")},
        "end_after": settle + BEGIN_SECONDS,
    }
    return measured(task, options, settle + chosen.seconds + 300, chosen.verbose)


def together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of several runs of it."""
    good = [row for row in runs if "failed" not in row]
    if not good:
        return runs[0]
    figures = {key: [row[key] for row in good if row[key] is not None] for key in good[0]}
    middle = {key: statistics.median(figures[key] or [0.0]) for key in ("cpu", "kb", "requests")}
    late = {key: statistics.median(figures[key]) if figures[key] else None for key in ("median", "p95")}
    return {**good[0], **middle, **late, "lag_ms": max(figures["lag_ms"]), "known": sum(figures["known"])}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| triggers | strategy | server | CPU over floor, % of a core | KB per trigger over floor"
        " | requests per operation and minute | largest loop lag, ms | done to known: median, p95, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    floors = {row["count"]: row for row in rows if row["strategy"] == "floor"}
    for row in rows:
        start = f"| {row['count']:,} | {row['strategy']} | {row['server']} "
        if "failed" in row:
            lines.append(f"{start}| did not finish | | | | |")
            continue
        floor = floors.get(row["count"])
        if row is floor:
            cpu, memory = f"(floor: {row['cpu']:.2f})", f"(floor: {row['kb']:.1f})"
        else:
            cpu = f"{row['cpu'] - (floor['cpu'] if floor else 0):.2f}"
            memory = f"{row['kb'] - (floor['kb'] if floor else 0):.1f}"
        known = "" if row["median"] is None else f"{row['median']:.2f}, {row['p95']:.2f} ({row['known']})"
        lines.append(f"{start}| {cpu} | {memory} | {row['requests']:.3f} | {row['lag_ms']:.0f} | {known} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--only", nargs="+", choices=sorted({strategy for strategy, _ in ROWS}))
    parser.add_argument("--server", nargs="+", choices=list(SERVERS))
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each measurement")
    parser.add_argument("--settle", type=float, default=15.0, help="how long it settles before; longer for many")
    parser.add_argument("--repeat", type=int, default=1, help="number of measurements of each row, in turns")
    parser.add_argument("--short", action="store_true", help="1,000 triggers, few rows, 15 s each")
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    rows = ROWS
    if chosen.short:
        chosen.count, chosen.seconds, chosen.settle = [1000], 15.0, 6.0
        chosen.server = ["pages of 1,000"]
    rows = [row for row in rows if not chosen.only or row[0] in chosen.only]
    rows = [row for row in rows if not chosen.server or row[1] in chosen.server or row[0] == "floor"]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder)
        for count in chosen.count:
            runs: list[list[dict[str, Any]]] = [[] for _ in rows]
            for _ in range(chosen.repeat):
                for (strategy, kind), those in zip(rows, runs, strict=True):
                    those.append(run(strategy, kind, count, chosen, files))
                    print(json.dumps(those[-1]), file=sys.stderr, flush=True)
            found += [together(those) for those in runs]
    print(table(found))


if __name__ == "__main__":
    main()
