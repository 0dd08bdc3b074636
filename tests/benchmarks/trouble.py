"""What a thousand waiting triggers do in trouble: an outage, a storm of 429, a triggerer that loses them all.

``python tests/benchmarks/trouble.py`` takes about five minutes (``--short``: two, with a trouble of 15 s). Real
``TriggerRunner``, as in ``waiting.py``; a fifth of the operations end while the endpoint is in trouble.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from typing import Any

from tests.benchmarks.waiting import measured
from tests.benchmarks.waiting_server import certificate
from tests.outage import most_requests_of_an_outage

TROUBLES = ("outage", "storm", "redistribution")


def run(trouble: str, chosen: argparse.Namespace, files: tuple[str, str]) -> dict[str, Any]:
    """One trouble."""
    settle = 8 + chosen.count / 250
    ends = chosen.count // 5 if trouble != "redistribution" else 0
    ending = {"end_after": 4.0, "end_part": ends / chosen.count, "end_within": max(chosen.seconds - 8.0, 1.0)}
    task = {
        **{"strategy": "watcher", "count": chosen.count, "server": "pages of 1,000", "interval": chosen.interval},
        **{"settle": settle, "seconds": chosen.seconds, "trouble": trouble, "ends": ends},
    }
    options = {"operations": chosen.count, "certificate": files, **ending}
    return measured(task, options, settle + chosen.seconds + 200, chosen.verbose)


def verdict(row: dict[str, Any], chosen: argparse.Namespace) -> tuple[str, bool]:
    """A row in words, and whether it is within its bounds."""
    if "failed" in row:
        return f"{row['server']}: did not finish", False
    lag = f"largest loop lag {row['lag_ms']:.0f} ms"
    if row["trouble"] == "redistribution":
        text = (
            f"{chosen.count:,} triggers redistributed at once: {row['states']} requests for states and {row['tokens']}"
            f" for tokens in {row['seconds']:.1f} s, {row['cancels']} operations cancelled, {row['left']} left; {lag}"
        )
        return text, not row["cancels"] and not row["left"] and row["states"] <= chosen.count / 50
    bound = most_requests_of_an_outage(chosen.seconds, chosen.interval)
    if row["trouble"] == "outage":
        bound *= 2  # aiohttp sends a GET again, once, if its connection breaks; this server counts both
    text = (
        f"{row['trouble']} of {chosen.seconds:g} s with {chosen.count:,} waiting: {row['requests']} requests (bound"
        f" {bound}), {row['failed_waits']} waits failed, {row['ended']} operations ended meanwhile, the last known"
        f" {row['known_after'] or 0:.1f} s after its end (two intervals: {2 * chosen.interval:g} s); {lag}"
    )
    good = row["requests"] <= bound and not row["failed_waits"] and row["ended"] and not row["unknown"]
    return text, bool(good and row["known_after"] <= 2 * chosen.interval)


def main() -> int:
    """Run every scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=TROUBLES, default=TROUBLES)
    parser.add_argument("--interval", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of the trouble")
    parser.add_argument("--short", action="store_true", help="15 s of trouble")
    parser.add_argument("--verbose", action="store_true")
    chosen = parser.parse_args()
    if chosen.short:
        chosen.seconds = 15.0
    good = True
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder)
        for trouble in chosen.only:
            row = run(trouble, chosen, files)
            print(json.dumps(row), file=sys.stderr, flush=True)
            text, fine = verdict(row, chosen)
            good = good and fine
            print(f"{'OK' if fine else 'FAILED'}: {text}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
