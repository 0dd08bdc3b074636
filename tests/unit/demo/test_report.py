"""The demo's rows and report: what is right, what is wrong, and what was not shown."""

from __future__ import annotations

import io

import pytest

from airflow_lro_provider.demo.printer import Printer
from airflow_lro_provider.demo.report import report
from airflow_lro_provider.demo.rows import Row, plan, table
from airflow_lro_provider.lro.resources.catalog import SYSTEMS, find_service


def test_every_system_is_planned_in_every_way() -> None:
    """The demo kills a running and a deferred task of every system, and leaves one alone."""
    rows = plan({name: find_service(name).title for name in SYSTEMS})
    for service in SYSTEMS:
        assert {"left_alone", "poke", "deferred"} <= {row.kind for row in rows if row.service == service}
    assert [row.kind for row in rows].count("cancel") == 1


KILLED = {"killed_at": 10.0, "cancelled_at": 10.8, "task_state": "failed", "operation_state": "CANCELLED"}
ALONE = {"task_state": "success", "operation_state": "SUCCEEDED", "outcome": "SUCCEEDED"}


@pytest.mark.parametrize(
    ("kind", "fields", "wrong"),
    [
        ("poke", KILLED, None),
        ("poke", KILLED | {"cancelled_at": None, "operation_state": "RUNNING"}, "saw no cancel request"),
        ("poke", KILLED | {"operation_state": "SUCCEEDED"}, "is SUCCEEDED"),
        ("poke", KILLED | {"task_state": "success"}, "is success"),
        ("deferred", {"task_state": "queued"}, "could not be killed while deferred: it is queued"),
        ("deferred", {"task_state": "failed"}, "ended (failed) before it could be killed, and its operation should"),
        ("deferred", KILLED | {"cancelled_at": 9.9, "operation_state": "SUCCEEDED"}, "ended (failed) before it could"),
        ("left_alone", ALONE, None),
        ("left_alone", ALONE | {"task_state": "deferred"}, "is deferred"),
        ("left_alone", ALONE | {"operation_state": "CANCELLED"}, "ended SUCCEEDED, but is CANCELLED"),
        ("left_alone", ALONE | {"cancelled_at": 3.0}, "nobody killed"),
        ("left_alone", ALONE | {"outcome": None}, "reported None"),
        ("cancel", ALONE | {"operation_state": "CANCELLED", "outcome": "CANCELLED"}, None),
        ("cancel", ALONE | {"operation_state": "CANCELLED", "outcome": "STILL_RUNNING"}, "reported STILL_RUNNING"),
    ],
)
def test_a_row_says_what_is_wrong_with_it(kind: str, fields: dict[str, object], wrong: str | None) -> None:
    """A row is right only if task and operation both ended as they have to."""
    waits = "deferred" if kind == "deferred" else "poke"
    row = Row("datafusion", "Data Fusion", kind, waits, "projects/p/locations/l/operations/o", **fields)  # type: ignore[arg-type]
    assert row.wrong is None if wrong is None else wrong in str(row.wrong)
    assert row.remark == ("ok" if wrong is None else "WRONG")


@pytest.mark.parametrize("fields", [{"killed_at": None}, {"cancelled_at": 9.9}], ids=["no kill", "cancel before kill"])
def test_a_task_that_ended_before_its_kill_shows_nothing(fields: dict[str, object]) -> None:
    """Its operation was cancelled, but not by the kill: no time is given, and it is neither right nor wrong."""
    row = Row("datafusion", "Data Fusion", "deferred", "deferred", "operations/o", **(KILLED | fields))  # type: ignore[arg-type]
    assert row.wrong is None
    assert row.not_shown == "its task ended (failed) before it could be killed; its operation was cancelled"
    assert row.cells()[3:] == ("-", "failed", "CANCELLED", "-", "NOT SHOWN")


def test_a_row_is_not_finished_before_its_operation_is() -> None:
    """Neither after a kill nor after an end of its own; but the wait for it has an end."""
    for moment in ("killed_at", "ended_at"):
        row = Row("datafusion", "Data Fusion", "poke", "poke", "operations/o", task_state="failed", **{moment: 10.0})  # type: ignore[arg-type]
        assert not row.is_finished(11.0, patience=60)
        assert row.is_finished(71.0, patience=60)
        row.operation_state = "CANCELLED"
        assert row.is_finished(11.0, patience=60)
        row.task_state = "running"
        assert not row.is_finished(71.0, patience=60)


def test_a_slow_cancel_is_said_in_the_table() -> None:
    """A cancel that comes late is right, but its row says that it was slow."""
    row = Row("datafusion", "Data Fusion", "poke", "poke", "operations/o", **(KILLED | {"cancelled_at": 22.5}))  # type: ignore[arg-type]
    header, line = table([row])
    assert line.index("12.5 s") == header.index("CANCELLED AFTER")
    assert line.endswith("ok, but slow")


def all_rows() -> list[Row]:
    """The demo's rows, all as they have to be."""
    rows = plan({name: find_service(name).title for name in SYSTEMS})
    for row in rows:
        fields = KILLED if row.to_kill else ALONE
        if row.kind == "cancel":
            fields = fields | {"operation_state": "CANCELLED", "outcome": "CANCELLED", "cancelled_at": 3.0}
        vars(row).update(fields)
    return rows


class NoLogs:
    """An Airflow of which nothing is asked but logs."""

    def log(self, *_: object) -> str:
        """The log of a task."""
        return "the last words of the task"


@pytest.mark.parametrize("spoil", ["nothing", "cancel", "system", "early", "early and left"])
def test_the_exit_status_is_the_tables(spoil: str) -> None:
    """One row that is wrong or shows nothing, or a system that is not there, is named, and makes the exit status 1."""
    rows = all_rows()
    if spoil == "cancel":
        rows[1].cancelled_at, rows[1].operation_state = None, "RUNNING"
    elif spoil == "system":
        rows = [row for row in rows if row.service != "earthengine"]
    elif spoil.startswith("early"):
        rows[1].killed_at = None
        rows[1].operation_state = "RUNNING" if spoil == "early and left" else "CANCELLED"
    stream = io.StringIO()
    status = report(rows, NoLogs(), Printer(stream))  # type: ignore[arg-type]
    text = stream.getvalue()
    assert status == (0 if spoil == "nothing" else 1)
    assert ("OK: 10 tasks were killed" in text) == (spoil == "nothing")
    if spoil == "cancel":
        assert "WRONG: aiplatform.poke (Vertex AI): the server saw no cancel request" in text
        assert "the last words of the task" in text
    if spoil == "system":
        assert "WRONG: not in the table: Earth Engine" in text
    if spoil == "early":
        assert "NOT SHOWN: aiplatform.poke (Vertex AI): its task ended (failed) before it could be killed" in text
        assert "INCOMPLETE: 1 of 16 rows show no kill: the task ended before it." in text
        assert "the last words of the task" in text
        assert "WRONG" not in text
    if spoil == "early and left":
        assert "WRONG: aiplatform.poke (Vertex AI): its task ended (failed) before it could be killed, and" in text
        assert "FAILED: 1 of 16 rows" in text
