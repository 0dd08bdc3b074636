"""The kill matrix is complete, and so is what it is made of and turned into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_lro_provider.airflow_compat import AIRFLOW
from tests.airflow.versions import since_3_3
from tests.e2e.bed.airflow_faults import is_of_run, own_trouble
from tests.e2e.bed.celery_rows import CELERY_ROWS
from tests.e2e.bed.cells import COLUMNS, Cell
from tests.e2e.bed.judge import WORDS, Judgement
from tests.e2e.bed.matrix import ROWS, blanks, cells_of
from tests.e2e.bed.report import (
    BEGIN,
    DEPLOYMENT,
    END,
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
from tests.e2e.kill_matrix import main


def outcomes(repeat: int = 2) -> list[Outcome]:
    """A matrix in which everything is as expected."""
    return [
        Outcome(row, column, number, Judgement(cell.expect, latency=float(number)))
        for row in ROWS
        for column, cell in cells_of(row).items()
        for number in range(repeat)
    ]


def test_every_row_has_every_column_or_a_reason() -> None:
    """No cell is forgotten, on the LocalExecutor and on Celery."""
    for rows in (ROWS, CELERY_ROWS):
        assert len({row.name for row in rows}) == len(rows)
    for row in [*ROWS, *CELERY_ROWS]:
        assert set(row.cells) == set(COLUMNS), row.name
        assert set(cells_of(row)) | set(blanks(row)) == set(COLUMNS), row.name
        assert all(blanks(row).values()), row.name
        assert cells_of(row) or AIRFLOW < (3,), row.name
        assert (row.act is None) != (row.together is None), row.name


@pytest.mark.parametrize("row", [*ROWS, *CELERY_ROWS], ids=lambda row: row.name)
def test_what_is_expected_can_be_seen(row: object) -> None:
    """Every expectation is a word of the judge, and a death without a hook says what closes it."""
    for column, cell in row.cells.items():  # type: ignore[attr-defined]
        if isinstance(cell, Cell):
            assert cell.expect in WORDS, column
            assert bool(cell.closes) == (cell.expect == "left"), column


def test_every_dag_is_there() -> None:
    """Each cell's Dag is made by the Dags' file."""
    text = (Path(__file__).parents[2] / "e2e" / "dags" / "bed_dags.py").read_text("utf-8")
    for row in ROWS:
        for cell in cells_of(row).values():
            variant = row.variant if cell.variant is None else cell.variant
            assert f'"{variant}"' in text


def test_the_summary_is_deterministic_and_names_no_machine() -> None:
    """In the order of the table, whatever the order of the outcomes; plain JSON."""
    there, back = (summary(found, ROWS, database="postgres", repeat=2) for found in (outcomes(), outcomes()[::-1]))
    assert there == back
    assert json.loads(json.dumps(there)) == there
    assert there["totals"]["as_expected"] == there["totals"]["runs"] == len(outcomes())
    assert {(blank["row"], blank["column"]) for blank in there["blank"]} == {
        (row.name, column) for row in ROWS for column in blanks(row)
    }


def test_hookless_leaks_are_counted_apart() -> None:
    """They are expected, and no leak of ours."""
    row = next(row for row in ROWS if row.name == "sigkill")
    left = [Outcome(row, "poke", 0, Judgement("left", leaks=1), closed=True)]
    totals = summary(left, [row], database="postgres", repeat=1)["totals"]
    assert (totals["leaks"], totals["hookless_leaks"], totals["as_expected"]) == (0, 1, 1)
    forgotten = Outcome(row, "poke", 0, Judgement("left", leaks=1), closed=False)
    assert not forgotten.is_as_expected, "the next try must close it"


def test_rows_that_are_measured_again_replace_the_old_ones() -> None:
    """All others stay, in the order of the table, and the totals are of all."""
    old = summary(outcomes(1), ROWS, database="postgres", repeat=1)
    row = ROWS[3]
    again = [Outcome(row, column, 0, Judgement("left", ("left",), leaks=1)) for column in cells_of(row)]
    new = summary(again, [row], database="postgres", repeat=1)
    both = merge(old, new)
    assert [(cell["row"], cell["column"]) for cell in both["cells"]] == [
        (cell["row"], cell["column"]) for cell in old["cells"]
    ]
    assert both["blank"] == old["blank"]
    assert both["totals"]["as_expected"] == old["totals"]["as_expected"] - len(again)
    with pytest.raises(ValueError, match="not mixed"):
        merge(old, {**new, "sweeps": True})


def test_what_the_sweep_has_ended_is_the_last_column() -> None:
    """In time: as expected. Too late, or never: not."""
    row = next(row for row in ROWS if row.name == "sigkill")

    def measured(**how: object) -> dict[str, object]:
        one = Outcome(row, "poke", 0, Judgement("cancelled"), **how)  # type: ignore[arg-type]
        return summary([one], [row], database="postgres", repeat=1, sweeps=True)

    without = summary([Outcome(row, "poke", 0, Judgement("left", leaks=1))], [row], database="postgres", repeat=1)
    assert "cancelled (1/1), at most 62 s" in guarantees_table(without, measured(closed=True, swept=61.6))
    assert "cancelled (0/1), at most 150 s" in guarantees_table(without, measured(closed=False, swept=150.0))
    assert "1 of 1 operations without a hook" in guarantees_table(without, measured(closed=True, swept=61.6))
    assert "swept 1/1 within 62 s" in table(measured(closed=True, swept=61.6))


def test_the_tables_show_what_is_wrong() -> None:
    """A leak, a false kill and their number are in the terminal's table and in that of the documentation."""
    row = ROWS[0]
    wrong = [Outcome(row, "poke", 0, Judgement("left", ("left, not cancelled",), leaks=1))]
    measured = summary(wrong, [row], database="sqlite", repeat=1)
    assert "NOT: left, not cancelled" in table(measured)
    assert "1 leaks" in table(measured)
    assert "cancelled (0/1)" in guarantees_table(measured)


def test_a_page_is_rewritten_between_its_markers(tmp_path: Path) -> None:
    """All else stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    measured = summary(outcomes(), ROWS, database="postgres", repeat=2)
    rewrite(page, guarantees_table(measured))
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| how the task ends |")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    page.write_text("no markers")
    with pytest.raises(ValueError, match="kill matrix: begin"):
        rewrite(page, "| |")


def test_the_list_needs_no_airflow(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` shows every row with every column."""
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{row.name}: {row.title}" in shown for row in ROWS)


def test_airflows_own_trouble_is_that_of_one_run() -> None:
    """Its bug with quickly queued tasks, of exactly this run."""
    log = (
        "ERROR - Executor LocalExecutor(parallelism=24) reported that the task instance <TaskInstance: bed_poke.it"
        " failed-poke-1-ab12cd [queued]> finished with state success, but the task instance's state attribute is"
        " queued. Learn more: …"
    )
    killed = log.replace("failed-poke-1", "sigkill-poke-1").replace("state success", "state failed")
    [instance] = own_trouble(f"task failed-poke-3-ab12cd finished\n{killed}\n{log}\n")
    assert is_of_run(instance, "failed-poke-1-ab12cd")
    assert not is_of_run(instance, "failed-poke-1-ab12c")
    assert not is_of_run(instance, "poke-1-ab12cd")
    assert not is_of_run(instance, "failed-poke-2-ab12cd")


MEASURED = [Path(__file__).parents[2] / "e2e" / name for name in ("kill_matrix.json", "kill_matrix_sweep.json")]


@since_3_3
def test_the_guarantees_show_what_was_measured() -> None:
    """Its table is the one that is made from the two files beside the matrix."""
    without, swept = (json.loads(file.read_text("utf-8")) for file in MEASURED)
    text = GUARANTEES.read_text("utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == guarantees_table(without, swept)


@since_3_3
def test_what_was_measured_is_the_matrix_as_it_is() -> None:
    """Every cell of today's matrix, ten times, with nothing wrong; the sweep's file has those without a hook."""
    without, swept = (json.loads(file.read_text("utf-8")) for file in MEASURED)
    cells = {(row.name, column): cell for row in ROWS for column, cell in cells_of(row).items()}
    assert {(cell["row"], cell["column"]) for cell in without["cells"]} == set(cells)
    hookless = {place for place, cell in cells.items() if cell.expect == "left"}
    assert {(cell["row"], cell["column"]) for cell in swept["cells"]} == hookless
    for measured in (without, swept):
        assert all(cell["runs"] == cell["as_expected"] >= 10 for cell in measured["cells"])
        assert [measured["totals"][what] for what in ("leaks", "false_kills", "duplicates", "green")] == [0, 0, 0, 0]


def of_version(airflow: str, **changes: object) -> dict[str, object]:
    """What was measured on a version."""
    return {**summary(outcomes(), ROWS, database="postgres", repeat=2), "airflow": airflow, **changes}


def test_the_page_of_versions_has_a_row_for_each_death() -> None:
    """And two columns for each version, the newest first; what is not measured there is a dash."""
    without_first = [cell for cell in of_version("3.1.8")["cells"] if cell["row"] != ROWS[0].name]  # type: ignore[index]
    shown = versions_table([of_version("3.3.2"), of_version("3.1.8", cells=without_first)])
    head, _, first, *others = shown.splitlines()
    assert head == "| how the task ends | 3.3.2, running | 3.3.2, deferred | 3.1.8, running | 3.1.8, deferred |"
    assert first == f"| {ROWS[0].title} | cancelled 6/6 | cancelled 4/4 | - | - |"
    assert sum(line.startswith("| ") for line in others) == len(ROWS) - 1
    assert others[-1].startswith("3.1.8: ")


def test_the_page_of_versions_says_what_the_sweep_has_done() -> None:
    """Beside the count of the same version: how many of those without a hook it has cancelled."""
    shown = versions_table([of_version("3.3.2"), of_version("3.1.8"), of_version("3.1.8", sweeps=True)])
    *_, newest, _, older = shown.splitlines()
    assert "With the sweep" not in newest
    assert "own kill. With the sweep, once a minute, " in older


@since_3_3
@pytest.mark.parametrize(("page", "name"), [(VERSIONS, "kill_matrix"), (DEPLOYMENT, "kill_matrix_celery")])
def test_the_page_of_versions_shows_what_was_measured(page: Path, name: str) -> None:
    """Its table is the one that is made from the files beside the matrix; nothing in them is wrong."""
    folder = MEASURED[0].parent
    files = sorted(folder.glob(f"{name}-*.json"), reverse=True)
    if page is VERSIONS:
        files += sorted(folder.glob("kill_matrix_sweep*.json"))
    measured = [json.loads(file.read_text("utf-8")) for file in (folder / f"{name}.json", *files)]
    text = page.read_text("utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == versions_table(measured)
    for one in measured:
        assert [one["totals"][what] for what in ("leaks", "false_kills", "duplicates", "green")] == [0, 0, 0, 0]
        assert one["totals"]["runs"] == one["totals"]["as_expected"]
