"""The end of the demo: the table, what is wrong with its rows, and the exit status."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_lro_provider.demo._client import AirflowClient, tail
from airflow_lro_provider.demo.dag_run import DAG_ID, RUN_ID
from airflow_lro_provider.demo.printer import Printer
from airflow_lro_provider.demo.rows import Row, table
from airflow_lro_provider.lro.resources.catalog import SYSTEMS, find_service

__all__ = ["report"]


def report(rows: Sequence[Row], airflow: AirflowClient, out: Printer) -> int:
    """Print the table and the verdict.

    :param airflow: has the tasks' logs
    :return: the exit status: 0 if everything was shown, and was as it has to be
    """
    out.line()
    header, *lines = table(rows)
    out.line(header)
    for row, line in zip(rows, lines, strict=True):
        out.line(line, "red" if row.problem else None)
    out.line()
    for row in rows:
        if row.problem:
            out.line(f"{row.remark}: {row.task_id} ({row.title}): {row.problem}. The end of its log:", "red")
            out.line(tail(airflow.log(DAG_ID, RUN_ID, row.task_id), 15) or "(no log)")
            out.line()
    there = {row.service for row in rows}
    missing = [find_service(name).title for name in SYSTEMS if name not in there]
    if missing:
        out.line(f"WRONG: not in the table: {', '.join(missing)}", "red")
    wrong = sum(row.wrong is not None for row in rows)
    not_shown = sum(row.not_shown is not None for row in rows)
    if wrong or missing:
        systems = f", and {len(missing)} systems are not there" if missing else ""
        out.line(f"FAILED: {wrong} of {len(rows)} rows are not as they have to be{systems}.", "red")
        return 1
    if not_shown:
        out.line(f"INCOMPLETE: {not_shown} of {len(rows)} rows show no kill: the task ended before it.", "red")
        out.line("    No operation was left running, and all other rows are as they have to be. Run the demo again.")
        return 1
    out.line(_summary(rows), "green")
    return 0


def _summary(rows: Sequence[Row]) -> str:
    killed = [row for row in rows if row.to_kill]
    left = sum(row.kind == "left_alone" for row in rows)
    on_purpose = sum(row.kind == "cancel" for row in rows)
    return (
        f"OK: {len(killed)} tasks were killed, and all {len(killed)} operations were cancelled:"
        f" {_range(killed, 'running')} after the kill of a running task,\n"
        f"    {_range(killed, 'deferred')} after the kill of a deferred one.\n"
        f"    {left} tasks were left alone, and all {left} operations SUCCEEDED.\n"
        f"    {on_purpose} task cancelled an operation, as intended, and reported CANCELLED."
    )


def _range(rows: Sequence[Row], state: str) -> str:
    after = [row.cancelled_after or 0.0 for row in rows if row.waiting_state == state]
    first, last = f"{min(after):.1f}", f"{max(after):.1f}"
    return f"{first} s" if first == last else f"{first} to {last} s"
