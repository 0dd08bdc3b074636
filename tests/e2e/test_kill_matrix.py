"""The kill matrix, the chaos and the thousand, in short: a few cells, a minute of kills, four mapped tasks.

All of them: ``python tests/e2e/kill_matrix.py``, ``python tests/e2e/chaos.py`` and ``python tests/e2e/thousand.py``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.bed.bed import Bed
from tests.e2e.bed.cells import Row
from tests.e2e.bed.lab import Lab
from tests.e2e.bed.matrix import ROWS
from tests.e2e.bed.postgres import LocalPostgres
from tests.e2e.bed.report import Outcome, summary, table
from tests.e2e.chaos import Chaos, in_words
from tests.e2e.kill_matrix import run
from tests.e2e.thousand import Thousand, is_good

# Those that are cheap, and that no other test of this folder has.
CELLS = {
    "failed": ["completing", "cancel"],
    "before-execute": ["poke", "started"],
    "error": ["started"],
    "error-retry": ["decorator"],
    "twice": ["running"],
    "cancel-503": ["deferred"],
    "cancel-slow": ["running"],
    "normal": ["started"],
}
# One after the other, on SQLite, each takes 20 s.
FEW = {"before-execute": ["poke"], "cancel-503": ["deferred"], "error-retry": ["decorator"]}
SEED = 1


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """On PostgreSQL, side by side, where there is one; else on the Airflow of all other tests, in sequence."""
    if LocalPostgres.available():
        # A triggerer that starts on a busy machine is not taken for dead: two would have, and cancel, the same.
        with Bed.started("postgres", slots=8, silence=30) as bed:
            yield bed
    else:
        lab: Lab = request.getfixturevalue("lab")
        with Bed(lab.airflow, lab.emulator, database="sqlite", slots=1, triggerers=lab.triggerers) as bed:
            yield bed


def test_a_few_cells_of_the_kill_matrix(bed: Bed) -> None:
    """Each as expected."""
    lines: list[str] = []
    rows = {row.name: row for row in ROWS}
    cells = CELLS if bed.slots > 1 else FEW
    chosen = [_only(rows[name], columns) for name, columns in cells.items()]
    columns = sorted({column for some in cells.values() for column in some})
    outcomes: list[Outcome] = run(bed, chosen, columns, 1, lines.append)
    assert len(outcomes) == sum(map(len, cells.values()))
    measured = summary(outcomes, chosen, database=bed.database, repeat=1)
    assert all(outcome.is_as_expected for outcome in outcomes), "\n".join([*lines, table(measured)])


def test_a_little_chaos(bed: Bed) -> None:
    """Random kills from a seed: no leak, no false kill, no duplicate, nothing green by its own kill."""
    lines: list[str] = []
    # What has not come to an end by then, on a busy machine, is left as it is: who lives still is no defect.
    until, patience = time.monotonic() + 20, 130.0
    chaos = Chaos(bed, SEED, kills=12 if bed.slots > 1 else 2, until=until, patience=patience, echo=lines.append)
    chaos.run(bed.slots)
    report = chaos.report()
    assert report["kills"] > 0, report
    defects = [report[count] for count in ("leaks", "false_kills", "duplicates", "green")]
    assert defects == [0, 0, 0, 0], "\n".join([*lines, in_words(report)])


def test_mapped_tasks_of_which_half_are_killed(bed: Bed) -> None:
    """They wait in one watcher, and are looked at with lists: the killed ones are cancelled once, the others never."""
    before = bed.store.requests_of["list"]
    report = Thousand(bed, 4, rest=6.0, echo=lambda _: None).run(kill=2)
    assert is_good(report), report
    assert bed.store.requests_of["list"] > before, report


def _only(row: Row, columns: list[str]) -> Row:
    """A row with these cells only; a busy machine may take its time."""
    cells = {column: cell for column, cell in row.cells.items() if column in columns}
    return Row(**{**vars(row), "cells": cells, "within": 90.0})
