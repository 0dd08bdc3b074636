"""How quickly and how surely a kill cancels, beside a plain provider: ``python tests/benchmarks/kill_latency.py``.

One real Airflow, one local server, and a service account whose tokens come from this machine. Both providers are
measured in the same run, in turn:

* ``latency``: SIGTERM to the process of a waiting task, until the cancel request is at the server;
* ``asking``: tasks that do nothing but ask their supervisor, marked failed, or hit by SIGTERM;
* ``random``: kills of all kinds at random moments, and how many operations are left running.

The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import kill_asking, kill_direct, kill_random, kill_report
from tests.benchmarks.kill_lab import KillLab, database

PARTS = ("latency", "asking", "random")


def main() -> None:
    """Measure, print, and write the raw numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="of each kind, in `latency` and `asking` (%(default)s)")
    parser.add_argument("--random-kills", type=int, default=55, help="of each provider, in `random` (%(default)s)")
    parser.add_argument("--idle", type=float, default=0.0, help="seconds that a task waits longer, in `latency`")
    parser.add_argument("--only", choices=PARTS, action="append", help="not all parts; may be given again")
    parser.add_argument("--seed", type=int, default=1, help="of moments and kinds (%(default)s)")
    parser.add_argument(
        "--database",
        default="auto",
        metavar="URL",
        help="sqlite, the URL of an empty one (SQLAlchemy), or auto: a PostgreSQL of its own, else SQLite",
    )
    parser.add_argument(
        "--parallelism",
        type=int,
        help="tasks side by side, where time is not measured (4; with SQLite, which writers lock, 1)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the raw numbers")
    given = parser.parse_args()
    with database(given.database) as url:
        print(f"database: {'SQLite' if url is None else url.partition(':')[0]}", flush=True)
        parallelism = given.parallelism or (1 if url is None else 4)
        with KillLab.started(url, parallelism) as lab:
            _measure(lab, given, parallelism)


def _measure(lab: KillLab, given: argparse.Namespace, parallelism: int) -> None:
    chances = {part: random.Random(f"{part} {given.seed}") for part in PARTS}
    parts: dict[str, tuple[Callable[[], list[Any]], Callable[[list[Any]], str]]] = {
        "latency": (
            lambda: kill_direct.measure(lab, given.kills, chances["latency"], given.idle),
            kill_report.direct,
        ),
        "asking": (
            lambda: kill_asking.measure(lab, given.kills, chances["asking"], parallelism),
            kill_report.asking,
        ),
        "random": (
            lambda: kill_random.measure(lab, given.random_kills, chances["random"], parallelism),
            kill_report.random,
        ),
    }
    found = {}
    for part in given.only or PARTS:
        measure, report = parts[part]
        found[part] = measure()
        print(f"\n{report(found[part])}\n", flush=True)
        if given.json:  # after each part: the next one may break
            raw = {name: [dataclasses.asdict(one) for one in some] for name, some in found.items()}
            given.json.write_text(json.dumps({"seed": given.seed, **raw}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
