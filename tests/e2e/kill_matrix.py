"""The kill matrix, measured: ``python tests/e2e/kill_matrix.py --help``.

Every cell of the table in :mod:`tests.e2e.bed.matrix` is repeated on a real Airflow, side by side where there is
PostgreSQL, and judged by what the local server saw. The exit status is 0 only if everything was as expected.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from airflow_lro_provider.demo.local_airflow import LocalAirflowError
from tests.e2e.bed.bed import Bed, BedError
from tests.e2e.bed.celery_rows import CELERY_ROWS
from tests.e2e.bed.cells import COLUMNS, Row
from tests.e2e.bed.judge import Judgement
from tests.e2e.bed.matrix import ROWS, blanks, cells_of
from tests.e2e.bed.report import (
    DEPLOYMENT,
    GUARANTEES,
    VERSIONS,
    Outcome,
    guarantees_table,
    merge,
    rewrite,
    summary,
    table,
    versions_table,
)
from tests.e2e.bed.trial import Trial
from tools.airflow_environment import run_there

ATTEMPTS = 4
"""How often a repetition is made at most, if Airflow itself spoils it."""
CTRL_C_AT_A_TIME = 2
"""Each of these is an Airflow of its own."""
Echo = Callable[[str], object]
Tell = Callable[[Trial, Outcome], object]


@dataclass(frozen=True)
class Place:
    """One repetition, and where it belongs."""

    row: Row
    column: str
    number: int

    def trial(self, bed: Bed) -> Trial:
        """Begin it, with a key that no other has."""
        key = f"{self.row.name}-{self.column}-{self.number}-{secrets.token_hex(3)}"
        return Trial(bed, self.row, COLUMNS[self.column], self.number, key)


def run(
    bed: Bed,
    rows: Sequence[Row],
    columns: Sequence[str],
    repeat: int,
    echo: Echo,
    *,
    hookless: bool = False,
    keep: Callable[[Outcome], object] = lambda outcome: None,
) -> list[Outcome]:
    """Run these rows and columns.

    :param repeat: how often each cell.
    :param echo: is told how it goes, in lines.
    :param hookless: only the cells in which Airflow calls no hook.
    :param keep: is given each outcome as soon as it is known.
    """

    def tell(trial: Trial, outcome: Outcome) -> None:
        keep(outcome)
        _tell(bed, trial, outcome, echo)

    places = [
        Place(row, column, number)
        for row in rows
        for column, cell in cells_of(row).items()
        if column in columns and (cell.expect == "left" or not hookless)
        for number in range(repeat)
    ]
    single = [place for place in places if not place.row.together and not place.row.test_run]
    outcomes: list[Outcome] = []
    for row in rows:
        for chunk in _chunks([place for place in places if place.row is row and row.together], bed.slots):
            outcomes += _all_at_once(bed, row, chunk, tell)
    tests = [place for place in places if place.row.test_run]
    with ThreadPoolExecutor(bed.slots) as pool, ThreadPoolExecutor(CTRL_C_AT_A_TIME) as other_pool:
        # On SQLite one after the other.
        aside = other_pool if bed.slots > 1 else pool
        try:
            found = [pool.map(lambda place: _one(bed, place, tell), single)]
            found.append(aside.map(lambda place: _one(bed, place, tell), tests))
            outcomes += [outcome for some in found for outcome in some]
        except BaseException:
            bed.stopping.set()
            for one in (pool, other_pool):
                one.shutdown(cancel_futures=True)
            raise
    order = {place: index for index, place in enumerate(places)}
    return sorted(outcomes, key=lambda outcome: order[Place(outcome.row, outcome.column, outcome.number)])


def _one(bed: Bed, place: Place, tell: Tell) -> Outcome:
    """One repetition, again if Airflow itself spoils it."""
    for attempt in range(ATTEMPTS):
        trial = place.trial(bed)
        try:
            trial.prepare()
            trial.strike()
            outcome = _outcome(trial, trial.settle(), attempt)
        except (BedError, LocalAirflowError) as error:
            outcome = _broken(trial, error, attempt)
        finally:
            _tidy(trial)
        if outcome.is_as_expected or not _may_be_spoiled(bed, trial, outcome) or bed.stopping.is_set():
            break
    tell(trial, outcome)
    return outcome


def _all_at_once(bed: Bed, row: Row, places: Sequence[Place], tell: Tell) -> list[Outcome]:
    """Repetitions that meet the same fate; those that Airflow itself spoils, again."""
    outcomes: dict[Place, Outcome] = {}
    for attempt in range(ATTEMPTS):
        left = [place for place in places if place not in outcomes]
        if not left:
            break
        for trial, outcome in _together(bed, row, [place.trial(bed) for place in left], attempt):
            if outcome.is_as_expected or attempt == ATTEMPTS - 1 or not _may_be_spoiled(bed, trial, outcome):
                outcomes[Place(row, trial.column.name, trial.number)] = outcome
                tell(trial, outcome)
    return [outcomes[place] for place in places]


def _together(bed: Bed, row: Row, trials: list[Trial], attempt: int) -> Iterable[tuple[Trial, Outcome]]:
    found: dict[str, Outcome] = {}

    def prepare(trial: Trial) -> None:
        try:
            trial.prepare()
        except (BedError, LocalAirflowError) as error:
            found[trial.key] = _broken(trial, error, attempt)

    def settle(trial: Trial) -> None:
        try:
            found[trial.key] = _outcome(trial, trial.settle(), attempt)
        except (BedError, LocalAirflowError) as error:
            found[trial.key] = _broken(trial, error, attempt)

    assert row.together is not None
    if row.before is not None:
        row.before(bed)
    try:
        with ThreadPoolExecutor(len(trials)) as pool:
            list(pool.map(prepare, trials))
            ready = [trial for trial in trials if trial.key not in found]
            row.together(bed, ready)
            list(pool.map(settle, ready))
    finally:
        for trial in trials:
            _tidy(trial)
        if row.after is not None:
            row.after(bed)
    return [(trial, found[trial.key]) for trial in trials]


def _may_be_spoiled(bed: Bed, trial: Trial, outcome: Outcome) -> bool:
    """Whether it says nothing of the package: Airflow itself has failed the task, or it was never where it should."""
    return outcome.judgement.word == "broken" or bed.spoiled(trial.key, trial.begun)


def _tidy(trial: Trial) -> None:
    with contextlib.suppress(LocalAirflowError):
        trial.tidy()


def _outcome(trial: Trial, judgement: Judgement, attempt: int) -> Outcome:
    return Outcome(
        trial.row, trial.column.name, trial.number, judgement, trial.closed, trial.swept, trial.note, attempt
    )


def _broken(trial: Trial, error: Exception, attempt: int) -> Outcome:
    return _outcome(trial, Judgement("broken", (str(error)[:500],)), attempt)


def _tell(bed: Bed, trial: Trial, outcome: Outcome, echo: Echo) -> None:
    latency = outcome.judgement.latency
    took = "" if latency is None else f", {latency:.1f} s"
    again = f" (repeated {outcome.repeated} times, Airflow's own fault)" if outcome.repeated else ""
    mark = "ok " if outcome.is_as_expected else "NOT"
    note = f" [{outcome.note}]" if outcome.note else ""
    lasted = f" [{time.time() - trial.begun:.0f} s in all]"
    what = f"{outcome.row.name} / {outcome.column} #{outcome.number}: {outcome.judgement.word}"
    echo(f"{mark} {what}{took}{note}{again}{lasted}")
    if not outcome.is_as_expected:
        echo("    " + "; ".join(outcome.judgement.problems) + f"\n    {bed.log_folder(trial.dag_id, trial.key)}")
        echo("    " + bed.story(trial.dag_id, trial.key).replace("\n", "\n    "))


def _chunks(places: Sequence[Place], size: int) -> Iterable[Sequence[Place]]:
    return (places[start : start + size] for start in range(0, len(places), size))


def _list(rows: Iterable[Row]) -> str:
    lines = []
    for row in rows:
        cells = [f"{column}: {cell.expect}" for column, cell in cells_of(row).items()]
        none = [f"{column}: ({why})" for column, why in blanks(row).items()]
        lines.append(f"{row.name}: {row.title}\n    " + "\n    ".join(cells + none))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Measure the kill matrix on a real Airflow.")
    parser.add_argument("--repeat", type=int, default=10, metavar="N", help="how often each cell (10)")
    names = list(dict.fromkeys(row.name for row in (*ROWS, *CELERY_ROWS)))
    parser.add_argument("--rows", nargs="+", metavar="ROW", choices=names, help="only these")
    parser.add_argument("--columns", nargs="+", metavar="COLUMN", choices=list(COLUMNS), help="only these")
    parser.add_argument("--hookless", action="store_true", help="only cells in which Airflow calls no hook")
    parser.add_argument("--sweep", action="store_true", help="with the ledger on, and a sweep a minute")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything that was measured; with --rows, into what is there"
    )
    parser.add_argument("--list", action="store_true", help="show rows, columns and what is expected")
    parser.add_argument("--airflow", metavar="VERSION", help="on this Airflow, in an environment that is made for it")
    parser.add_argument(
        "--celery",
        action="store_true",
        help="two of everything, tasks in Celery's workers; other rows (with --list: them); wants Redis and PostgreSQL",
    )
    parser.add_argument("--database", choices=["auto", "postgres", "sqlite"], default="auto")
    parser.add_argument("--slots", type=int, default=16, metavar="N", help="how many side by side, on PostgreSQL (16)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep Airflow's database and logs there")
    parser.add_argument(
        "--guarantees",
        type=Path,
        nargs=2,
        metavar="FILE",
        help="write the matrix of docs/guarantees.md from these JSONs, without and with --sweep, only",
    )
    parser.add_argument(
        "--versions",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="write the table of docs/versions.md (with those of --celery: docs/deployment.md) from these JSONs, the"
        " newest Airflow first, only",
    )
    given = parser.parse_args(arguments)
    if given.airflow:
        return run_there(given.airflow, __file__, arguments or sys.argv[1:])
    if given.list:
        print(_list(CELERY_ROWS if given.celery else ROWS))
        return 0
    if given.guarantees:
        rewrite(GUARANTEES, guarantees_table(*(json.loads(file.read_text("utf-8")) for file in given.guarantees)))
        return 0
    if given.versions:
        measured = [json.loads(file.read_text("utf-8")) for file in given.versions]
        rewrite(DEPLOYMENT if measured[0].get("celery") else VERSIONS, versions_table(measured))
        return 0
    there_are = CELERY_ROWS if given.celery else ROWS
    rows = [row for row in there_are if not given.rows or row.name in given.rows]
    columns = given.columns or list(COLUMNS)

    def echo(line: str) -> None:
        print(line, flush=True)

    options = {"slots": given.slots, "home": given.keep, "sweep": given.sweep, "celery": given.celery}
    with Bed.started(given.database, **options) as bed:
        echo(f"Airflow runs on {bed.database}{' and Celery' if given.celery else ''}; {bed.slots} side by side.")
        adds = given.json and given.rows and given.json.exists()
        before = json.loads(given.json.read_text("utf-8")) if adds else None
        about = {"database": bed.database, "repeat": given.repeat, "sweeps": given.sweep, "celery": given.celery}
        known: list[Outcome] = []
        writing = threading.Lock()

        def keep(outcome: Outcome) -> None:
            """So that what is measured stays if the run is broken off."""
            with writing:
                known.append(outcome)
                if given.json:
                    done = [row for row in rows if any(one.row is row for one in known)]
                    measured = summary(known, done, **about)
                    measured = measured if before is None else merge(before, measured)
                    given.json.with_suffix(".new").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
                    given.json.with_suffix(".new").replace(given.json)

        outcomes = run(bed, rows, columns, given.repeat, echo, hookless=given.hookless, keep=keep)
    echo(table(summary(outcomes, rows, **about)))
    return 0 if all(outcome.is_as_expected for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
