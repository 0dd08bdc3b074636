"""Tables and figures of the kill benchmark, from its raw numbers."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tests.benchmarks.kill_asking import KINDS, AskingKill
from tests.benchmarks.kill_direct import DirectKill
from tests.benchmarks.kill_lab import WHO
from tests.benchmarks.kill_random import RandomKill

__all__ = ["asking", "direct", "random"]


def table(title: str, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[Any]]]) -> str:
    """A table as text: one line for each row, its numbers below the heads."""
    lines = [title, f"{'':44}" + "".join(f"{head:>22}" for head in heads)]
    lines += [f"  {name:42}" + "".join(f"{_text(value):>22}" for value in values) for name, values in rows]
    return "\n".join(lines)


def direct(kills: Sequence[DirectKill]) -> str:
    """SIGTERM to a waiting task; milliseconds."""
    by = {who: [kill for kill in kills if kill.who == who] for who in WHO}
    cancel = {who: [kill.cancel for kill in some if kill.cancel is not None] for who, some in by.items()}
    over = {
        who: [kill.cancel - kill.round_trip for kill in some if kill.cancel is not None] for who, some in by.items()
    }
    gone = {who: [kill.gone for kill in some if kill.gone is not None] for who, some in by.items()}
    trips = {who: [kill.round_trip for kill in some] for who, some in by.items()}
    rows: list[tuple[str, Sequence[Any]]] = [
        ("kills", [len(by[who]) for who in WHO]),
        ("cancels lost", [len(by[who]) - len(cancel[who]) for who in WHO]),
        ("processes that hung", [len(by[who]) - len(gone[who]) for who in WHO]),
        ("network round trip, median", [_ms(_at(trips[who], 50)) for who in WHO]),
    ]
    measured = {"kill to cancel": cancel, "kill to cancel, less the round trip": over, "kill to process gone": gone}
    for what, values in measured.items():
        rows += [(f"{what}, {name}", [_ms(_at(values[who], part)) for who in WHO]) for name, part in PARTS.items()]
    return table("SIGTERM to a waiting task, one at a time (milliseconds)", WHO, rows)


def asking(kills: Sequence[AskingKill]) -> str:
    """Kills in the middle of a question."""
    some = [[kill for kill in kills if (kill.who, kill.how) == kind] for kind in KINDS]
    rows: list[tuple[str, Sequence[Any]]] = [
        ("kills", [len(kind) for kind in some]),
        ("cancels that arrived within 10 s", [sum(kill.cancels > 0 for kill in kind) for kind in some]),
        ("cancels lost", [sum(kill.cancels == 0 for kill in kind) for kind in some]),
        ("cancelled more than once", [sum(kill.cancels > 1 for kill in kind) for kind in some]),
        ("processes that hung until SIGKILL", [sum(kill.hung for kill in kind) for kind in some]),
        ("tasks that ended in success", [sum(kill.state == "success" for kill in kind) for kind in some]),
        ("tasks in the right state", [sum(kill.state == kill.expected for kill in kind) for kind in some]),
        ("logs with answers that do not fit", [sum(bool(kill.trouble) for kill in kind) for kind in some]),
        ("a callback asked afterwards", [sum(kill.wrong is not None for kill in kind) for kind in some]),
        ("  and got a wrong answer", [sum(bool(kill.wrong) for kill in kind) for kind in some]),
        ("  and the record says so", [_of(kill.is_recorded for kill in kind if kill.recorded) for kind in some]),
    ]
    return table("Kills of a task that only asks its supervisor", [f"{who}, {how}" for who, how in KINDS], rows)


def random(kills: Sequence[RandomKill]) -> str:
    """Kills of all kinds."""
    by = {who: [kill for kill in kills if kill.who == who] for who in WHO}
    rows: list[tuple[str, Sequence[Any]]] = [
        ("tasks killed", [len(by[who]) for who in WHO]),
        ("left an operation running", [sum(kill.left > 0 for kill in by[who]) for who in WHO]),
    ]
    all_cells = Counter((kill.wait, kill.how) for kill in kills)
    left = Counter((kill.who, kill.wait, kill.how) for kill in kills if kill.left)
    for wait, how in sorted(all_cells):
        if any(left[who, wait, how] for who in WHO):
            each = all_cells[wait, how] // len(WHO)
            rows.append((f"  {wait}, {how}", [f"{left[who, wait, how]} of {each}" for who in WHO]))
    return table("Kills of all kinds at random moments", WHO, rows)


PARTS = {"median": 50, "p95": 95, "max": 100}


def _at(values: Sequence[float], part: int) -> float | None:
    """A percentile; the median is the usual one, all others are values that were measured."""
    if not values:
        return None
    if part == 50:
        return statistics.median(values)
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None else f"{seconds * 1000:.1f}"


def _of(all_of_them: Iterable[bool]) -> str:
    found = list(all_of_them)
    return f"{sum(found)} of {len(found)}"


def _text(value: Any) -> str:
    return str(value)
