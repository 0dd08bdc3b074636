"""One run of the demo's Dag: some of its tasks are killed as a user would; what happens is printed as it happens."""

from __future__ import annotations

import time

from airflow_lro_provider.demo._client import AirflowClient, LocalAirflowError, poll
from airflow_lro_provider.demo.printer import Printer
from airflow_lro_provider.demo.rows import Row, plan
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.resources.catalog import SYSTEMS, find_service

__all__ = ["DAG_ID", "RUN_ID", "TASKS_AT_A_TIME", "DagRun"]

DAG_ID = "lro_demo"
RUN_ID = "demo"
TASKS_AT_A_TIME = 4
END_WITHIN_SECONDS = 420.0
"""How long the whole Dag may take."""
CANCEL_WITHIN_SECONDS = 60.0
"""How long a cancel may take, after the kill or after an end of the task's own."""
LEFT_ALONE_SECONDS = 6.0
"""How long a task that is left alone waits until its operation succeeds."""
CANCEL_DELAY_SECONDS = 0.5
"""How long the server takes to cancel an operation."""
POLL_INTERVAL_SECONDS = 0.4
ERRORS_IN_A_ROW = 10
"""How often Airflow's API may fail before the demo gives up."""


class DagRun:
    """One run of the Dag, from its start until there is nothing more to see.

    :param airflow: where the tasks are
    :param emulator: where the operations are
    :param out: where to print what happens
    """

    def __init__(self, airflow: AirflowClient, emulator: Emulator, out: Printer) -> None:
        self._airflow, self._emulator, self._out = airflow, emulator, out
        self._rows = plan({name: find_service(name).title for name in SYSTEMS})
        self._errors = 0

    def run(self) -> list[Row]:
        """Start it, print what happens, and return the rows as they are at the end."""
        for row in self._rows:
            # It never ends by itself: a kill is the only reason for it to be cancelled.
            row.operation = self._emulator.create(row.service, duration=None, cancel_delay=CANCEL_DELAY_SECONDS)
        names = {row.task_id: row.operation for row in self._rows}
        self._airflow.trigger(DAG_ID, run_id=RUN_ID, conf=names)
        self._out.event(
            "triggered",
            f"the Dag {DAG_ID}: {len(self._rows)} tasks that wait for an operation each,"
            f" at most {TASKS_AT_A_TIME} running at a time",
        )
        for _ in poll(self._update_patiently, END_WITHIN_SECONDS, interval=POLL_INTERVAL_SECONDS):
            if all(row.is_finished(time.time(), CANCEL_WITHIN_SECONDS) for row in self._rows):
                break
        self._update_finally()
        return self._rows

    def _update_patiently(self) -> None:
        """Update the rows; a request to Airflow that fails is printed, and made again with the next update."""
        try:
            self._update()
        except LocalAirflowError as error:
            self._errors += 1
            self._out.event("no response", str(error).splitlines()[0])
            if self._errors >= ERRORS_IN_A_ROW:
                raise LocalAirflowError(f"Airflow no longer responds. {error}") from error
        else:
            self._errors = 0

    def _update_finally(self) -> None:
        """See that what was finished has stayed so, and what the tasks returned."""
        states = self._states()
        for row in self._rows:
            self._update_operation(row)
            row.task_state = states.get(row.task_id)
            if row.task_state == "success":
                row.outcome = self._outcome(row)

    def _states(self) -> dict[str, str | None]:
        return {task["task_id"]: task["state"] for task in self._airflow.task_instances(DAG_ID, RUN_ID)}

    def _update(self) -> None:
        states = self._states()
        for row in self._rows:
            self._update_operation(row)
            if not row.task_is_finished:
                self._update_task(row, states.get(row.task_id))

    def _update_operation(self, row: Row) -> None:
        view = self._emulator.operation(row.service, row.operation)
        row.operation_state, row.polls = view.state, view.polls
        if row.cancelled_at is None and view.cancel_requested_at is not None:
            row.cancelled_at = view.cancel_requested_at
            if row.cancelled_after is not None:
                why = f"the server saw it {row.cancelled_after:.1f} s after the kill"
            elif row.kind == "cancel":
                why = "requested by the task, as intended"
            else:
                why = "though nobody killed the task"
            self._out.event("cancelled", f"{row.short_name} of {row.task_id}: {why}")

    def _update_task(self, row: Row, state: str | None) -> None:
        row.task_state = state
        if row.task_is_finished:
            row.ended_at = time.time()
            if row.killed_at is None:
                early = " before it could be killed" if row.to_kill else ""
                self._out.event("ended", f"{row.task_id}: {state}{early}")
            return
        if row.waits_since is None and self._is_waiting(row):
            row.waits_since = time.time()
            if row.kind == "left_alone":
                self._out.event("waits", f"{_about(row)} for {row.short_name}")
        if row.waits_since is None:
            return
        if row.to_kill and row.killed_at is None:
            self._kill(row)
        elif (
            row.kind == "left_alone" and row.finished_at is None and time.time() - row.waits_since > LEFT_ALONE_SECONDS
        ):
            row.finished_at = time.time()
            self._emulator.finish(row.service, row.operation)
            self._out.event("succeeded", f"{row.short_name} of {row.task_id}, which was left alone")

    def _is_waiting(self, row: Row) -> bool:
        """Whether the task is well into its wait: it polled again, or the triggerer polled."""
        polls = {"poke": 2, "deferred": 3, "operator": 1}[row.waits]
        return row.task_state == row.waiting_state and row.polls >= polls

    def _kill(self, row: Row) -> None:
        """Mark the task failed. Where Airflow refuses that (it has just ended by itself), it was not killed."""
        row.killed_at = time.time()
        try:
            self._airflow.set_task_state(DAG_ID, RUN_ID, row.task_id, "failed")
        except LocalAirflowError as error:
            # Without a response it has most likely been done all the same.
            if error.status is not None:
                row.killed_at = None
            raise
        self._out.event("killed", f"{_about(row)}: marked failed")

    def _outcome(self, row: Row) -> str | None:
        result = self._airflow.xcom(DAG_ID, RUN_ID, row.task_id)
        return result.get("outcome") if isinstance(result, dict) else None


def _about(row: Row) -> str:
    return f"{row.task_id} ({row.title}, {row.waiting_state})"
