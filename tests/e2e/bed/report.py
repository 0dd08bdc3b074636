"""What the kill matrix has measured: as data, as a table for the terminal, and as the tables of the documentation."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow import __version__

from tests.e2e.bed.celery_rows import CELERY_ROWS
from tests.e2e.bed.cells import COLUMNS, Cell, Row
from tests.e2e.bed.judge import Judgement
from tests.e2e.bed.matrix import ROWS, blanks

__all__ = [
    "DEPLOYMENT",
    "GUARANTEES",
    "VERSIONS",
    "Outcome",
    "merge",
    "guarantees_table",
    "rewrite",
    "summary",
    "table",
    "versions_table",
]

GUARANTEES = Path(__file__).parents[3] / "docs" / "guarantees.md"
VERSIONS = GUARANTEES.with_name("versions.md")
DEPLOYMENT = VERSIONS.with_name("deployment.md")
BEGIN, END = "<!-- kill matrix: begin -->", "<!-- kill matrix: end -->"
RUNNING, DEFERRED = ("running", "poke", "decorator"), ("deferred", "started")
COUNTS = ("leaks", "false_kills", "duplicates", "green", "late")


@dataclass(frozen=True)
class Outcome:
    """One repetition.

    :param closed: of an operation that was left: whether the next try, or the sweep, ended it, if that was tried.
    :param swept: how long after its task's death the sweep has ended it, in seconds.
    :param note: what is worth knowing.
    :param repeated: how often Airflow itself had spoiled it before.
    """

    row: Row
    column: str
    number: int
    judgement: Judgement
    closed: bool | None = None
    swept: float | None = None
    note: str = ""
    repeated: int = 0

    @property
    def cell(self) -> Cell:
        """What was expected."""
        cell = self.row.cells[self.column]
        assert isinstance(cell, Cell)
        return cell

    @property
    def is_hookless(self) -> bool:
        """Whether Airflow calls no hook at this death, so that a leak is expected."""
        return self.cell.expect == "left"

    @property
    def is_as_expected(self) -> bool:
        """Whether there is nothing to say against it. That no hook is expected is no reason to complain of one."""
        if self.closed is False:
            return False
        if self.is_hookless and self.judgement.word == "cancelled":
            return not (self.judgement.false_kills or self.judgement.duplicates or self.judgement.green)
        return not self.judgement.problems


def summary(
    outcomes: Sequence[Outcome],
    rows: Sequence[Row],
    *,
    database: str,
    repeat: int,
    sweeps: bool = False,
    celery: bool = False,
) -> dict[str, Any]:
    """Everything, as plain JSON, in the order of the table: no times of day, no paths, no names of machines."""
    found = []
    for row in rows:
        for column in COLUMNS:
            mine = [outcome for outcome in outcomes if outcome.row is row and outcome.column == column]
            if mine:
                found.append(_cell(row, column, mine))
    return {
        "airflow": __version__,
        "database": database,
        "repeat": repeat,
        "sweeps": sweeps,
        "celery": celery,
        "cells": found,
        "blank": [
            {"row": row.name, "column": column, "why": why} for row in rows for column, why in blanks(row).items()
        ],
        "totals": _totals(found),
    }


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured earlier, but for the rows that were measured again.

    :raises ValueError: if the two cannot be compared.
    """
    if any(old.get(what, False) != new[what] for what in ("airflow", "database", "sweeps", "celery")):
        raise ValueError(
            "what was measured on another Airflow, database or executor, or without the sweep, is not mixed"
        )
    rows = CELERY_ROWS if new["celery"] else ROWS
    order = {name: index for index, name in enumerate([*(row.name for row in rows), *COLUMNS])}
    again = {cell["row"] for cell in new["cells"]}

    def both(what: str) -> list[dict[str, Any]]:
        kept = [one for one in old[what] if one["row"] in order and one["row"] not in again]
        return sorted([*kept, *new[what]], key=lambda one: (order[one["row"]], order[one["column"]]))

    cells = both("cells")
    return {**old, "cells": cells, "blank": both("blank"), "totals": _totals(cells)}


def _cell(row: Row, column: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    cell = outcomes[0].cell
    latencies = [one.judgement.latency for one in outcomes if one.judgement.latency is not None]
    problems = {problem for one in outcomes if not one.is_as_expected for problem in one.judgement.problems}
    tried = [one.closed for one in outcomes if one.closed is not None]
    swept = [one.swept for one in outcomes if one.swept is not None]
    return {
        "row": row.name,
        "title": row.title,
        "column": column,
        "expected": cell.expect,
        "hookless": outcomes[0].is_hookless,
        "closes": cell.closes,
        "runs": len(outcomes),
        "as_expected": sum(one.is_as_expected for one in outcomes),
        "seen": dict(sorted(Counter(one.judgement.word for one in outcomes).items())),
        **{count: sum(getattr(one.judgement, count) for one in outcomes) for count in COUNTS},
        "closed": f"{sum(tried)}/{len(tried)}" if tried else "",
        "swept": {"median": round(statistics.median(swept), 1), "max": round(max(swept), 1)} if swept else None,
        "latency": {"median": round(statistics.median(latencies), 1), "max": round(max(latencies), 1)}
        if latencies
        else None,
        "repeated": sum(one.repeated for one in outcomes),
        "problems": sorted(problems),
        "notes": dict(sorted(Counter(one.note for one in outcomes if one.note).items())),
    }


def _totals(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    hooked = [cell for cell in cells if not cell["hookless"]]
    hookless = [cell for cell in cells if cell["hookless"]]
    return {
        "cells": len(cells),
        "runs": sum(cell["runs"] for cell in cells),
        "as_expected": sum(cell["as_expected"] for cell in cells),
        **{count: sum(cell[count] for cell in (hooked if count == "leaks" else cells)) for count in COUNTS},
        "hookless_runs": sum(cell["runs"] for cell in hookless),
        "hookless_leaks": sum(cell["leaks"] for cell in hookless),
        "to_sweep": sum(cell["runs"] for cell in hookless if cell["swept"]),
        "swept": sum(cell["as_expected"] for cell in hookless if cell["swept"]),
        "repeated": sum(cell["repeated"] for cell in cells),
    }


def table(measured: Mapping[str, Any]) -> str:
    """For the terminal: a line for each cell, and the totals."""
    lines = []
    before = ""
    for cell in measured["cells"]:
        if cell["row"] != before:
            lines.append(f"\n{cell['title']}")
            before = cell["row"]
        seen = ", ".join(f"{word} {number}" if len(cell["seen"]) > 1 else word for word, number in cell["seen"].items())
        latency = (
            "" if not cell["latency"] else f"{cell['latency']['median']:.1f} s, max {cell['latency']['max']:.1f} s"
        )
        extra = [f"{cell[count]} {count.replace('_', ' ')}" for count in COUNTS if cell[count]]
        if cell["hookless"]:
            if cell["swept"]:
                extra.append(f"no hook; swept {cell['closed']} within {cell['swept']['max']:.0f} s")
            else:
                extra.append(f"no hook; closes: {cell['closes']} {cell['closed']}".rstrip())
        if cell["repeated"]:
            extra.append(f"{cell['repeated']} repeated")
        score = f"{cell['as_expected']}/{cell['runs']}"
        title = COLUMNS[cell["column"]].title
        lines.append(f"  {title:<20} {score:>7}  {seen:<24} {latency:<22} {'; '.join(extra)}".rstrip())
        lines += [f"      NOT: {problem}" for problem in cell["problems"]]
    totals = measured["totals"]
    lines.append(
        f"\n{totals['as_expected']} of {totals['runs']} repetitions of {totals['cells']} cells as expected:"
        f" {totals['leaks']} leaks, {totals['false_kills']} false kills, {totals['duplicates']} duplicates,"
        f" {totals['green']} green by their own kill."
        f"\nWithout a hook: {totals['hookless_leaks']} of {totals['hookless_runs']} left."
        f" Repeated because Airflow itself had failed the task: {totals['repeated']}."
    )
    return "\n".join(lines)


def guarantees_table(measured: Mapping[str, Any], swept: Mapping[str, Any] | None = None) -> str:
    """The table of the guarantees: what holds in the columns that matter most, and what closes it where no hook does.

    :param measured: without the sweep.
    :param swept: with it.
    """
    cells = {(cell["row"], cell["column"]): cell for cell in measured["cells"]}
    swept_cells = {(cell["row"], cell["column"]): cell for cell in swept["cells"]} if swept else {}
    lines = [
        "| how the task ends | running | deferred | from kill to cancel | with the sweep |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        running = [cells[row.name, name] for name in RUNNING if (row.name, name) in cells]
        deferred = [cells[row.name, name] for name in DEFERRED if (row.name, name) in cells]
        with_sweep = [swept_cells[row.name, name] for name in (*RUNNING, *DEFERRED) if (row.name, name) in swept_cells]
        if running or deferred:
            texts = _holds(running), _holds(deferred), _latency([*running, *deferred]), _swept(with_sweep)
            lines.append(" ".join(["|", *(f"{text} |".lstrip() for text in (row.title, *texts))]))
    totals = measured["totals"]
    lines += [
        "",
        f"{totals['runs']} kills in {totals['cells']} cells: {totals['leaks']} operations left where there is a hook,"
        f" {totals['false_kills']} false kills, {totals['duplicates']} started beside a running one,"
        f" {totals['green']} tasks green by their own kill; where Airflow calls no hook,"
        f" {totals['hookless_leaks']} of {totals['hookless_runs']} were left at first.",
    ]
    if swept:
        lines.append(_with_the_sweep(swept))
    return "\n".join(lines)


def versions_table(measured: Sequence[Mapping[str, Any]]) -> str:
    """What holds on each version of Airflow, running and deferred; a dash is where it is not measured.

    :param measured: of each version, the newest first; all of them on Celery, or none. What was measured with the sweep
        has a sentence below the table.
    """
    swept = {one["airflow"]: one for one in measured if one.get("sweeps")}
    measured = [one for one in measured if not one.get("sweeps")]
    rows = CELERY_ROWS if measured[0].get("celery") else ROWS
    heads = [f"{one['airflow']}, {what}" for one in measured for what in ("running", "deferred")]
    lines = [" | ".join(["| how the task ends", *heads]) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        texts, title = [], ""
        for one in measured:
            cells = [cell for cell in one["cells"] if cell["row"] == row.name]
            title = title or (cells[0]["title"] if cells else "")
            for columns in (RUNNING, DEFERRED):
                texts.append(_briefly([cell for cell in cells if cell["column"] in columns]))
        if set(texts) != {"-"}:
            lines.append(" | ".join([f"| {title}", *texts]) + " |")
    for one in measured:
        totals = one["totals"]
        lines += [
            "",
            f"{one['airflow']}: {totals['runs']} kills in {totals['cells']} cells: {totals['leaks']} operations left"
            f" where there is a hook, {totals['false_kills']} false kills, {totals['duplicates']} duplicates,"
            f" {totals['green']} green by their own kill.",
        ]
        if one["airflow"] in swept:
            lines[-1] += f" {_with_the_sweep(swept[one['airflow']])}"
    return "\n".join(lines)


def _with_the_sweep(swept: Mapping[str, Any]) -> str:
    totals = swept["totals"]
    return (
        f"With the sweep, once a minute, {totals['runs']} more in {totals['cells']} cells: {totals['swept']} of"
        f" {totals['to_sweep']} operations without a hook were cancelled within two sweeps of their task's end;"
        f" {totals['false_kills']} false kills, {totals['duplicates']} duplicates."
    )


def _briefly(cells: Sequence[Mapping[str, Any]]) -> str:
    words = {"left": "no hook", "alive": "goes on", "nothing": "nothing started", "over": "left alone"}
    parts = []
    for expected in dict.fromkeys(cell["expected"] for cell in cells):
        same = [cell for cell in cells if cell["expected"] == expected]
        score = f"{sum(cell['as_expected'] for cell in same)}/{sum(cell['runs'] for cell in same)}"
        parts.append(f"{words.get(expected, expected)} {score}")
    return ", ".join(parts) or "-"


def _holds(cells: Sequence[Mapping[str, Any]]) -> str:
    """What holds in these columns; the same word for several of them stands once."""
    if not cells:
        return "-"
    parts = []
    for expected, closes in dict.fromkeys((cell["expected"], cell["closes"]) for cell in cells):
        same = [cell for cell in cells if (cell["expected"], cell["closes"]) == (expected, closes)]
        runs = sum(cell["runs"] for cell in same)
        if expected == "left":
            # Why not even the next try cancels it, if so, is in brackets.
            why = "no hook runs" if closes == "the next try" else closes.replace("nobody", "no hook runs")
            parts.append(f"not cancelled ({sum(cell['leaks'] for cell in same)}/{runs}): {why}")
        else:
            word = {"alive": "goes on", "nothing": "nothing started", "over": "left alone"}.get(expected, expected)
            parts.append(f"{word} ({sum(cell['as_expected'] for cell in same)}/{runs})")
    return ", ".join(parts)


def _swept(cells: Sequence[Mapping[str, Any]]) -> str:
    """What the sweep did about the cells without a hook."""
    own = [cell for cell in cells if cell["hookless"] and cell["swept"]]
    if not own:
        return ""
    score = f"{sum(cell['as_expected'] for cell in own)}/{sum(cell['runs'] for cell in own)}"
    return f"cancelled ({score}), at most {max(cell['swept']['max'] for cell in own):.0f} s"


def _latency(cells: Sequence[Mapping[str, Any]]) -> str:
    known = [cell["latency"] for cell in cells if cell["latency"] and not cell["hookless"]]
    if not known:
        return ""
    median, longest = statistics.median(one["median"] for one in known), max(one["max"] for one in known)
    return f"{median:.1f} s, at most {longest:.1f} s"


def rewrite(page: Path, table: str) -> None:
    """Put a table into a page, between its two markers.

    :raises ValueError: if they are not there.
    """
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page.name} has no {BEGIN} … {END}")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")
