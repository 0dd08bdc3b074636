"""The kill matrix: how a task dies, by what it is doing; one declarative table.

A row has a cell for each column: what is expected there (a word of :data:`judge.WORDS`), or why there is no such
cell. :func:`deaths` has what the rows do, and :class:`trial.Trial` does it.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace

from airflow_lro_provider.airflow_compat import AIRFLOW
from tests.e2e.bed import deaths
from tests.e2e.bed.cells import COLUMNS, Cell, Row

__all__ = ["ROWS", "blanks", "cells_of"]

CANCELLED = Cell("cancelled")
OVER = Cell("over", ends=("failed", "success"))
ADOPTED = Cell("adopted", ends=("success",), tries=2)
ALIVE = Cell("alive", ends=("success",))
FRESH = Cell("replaced", ends=("success",), tries=2)
NEXT_FAILS = Cell("cancelled", tries=2)
"""A sensor's next try: its operation is gone, and it must not turn green by that."""
BOTH_CANCEL = {"late": True}
"""Of a clear while deferred the trigger hears and the next try: both cancel, one of them perhaps after the end."""
NOTHING = Cell("nothing")
LATE = Cell("cancelled", **BOTH_CANCEL)

NO_PROCESS = "no process while deferred"
NO_TRIGGER = "not in the triggerer"
NO_WAIT = "its wait is over"
NO_START = "starts nothing"
NO_CANCEL = "has cancelled before"
SAME = "as when marked failed"


def sweep(**how: object) -> Cell:
    """No hook, and no next try by itself: left, until the task is cleared or the sweep finds it."""
    return Cell("left", closes="the next try", **how)  # type: ignore[arg-type]


def marked(state: str, **others: Cell | str) -> Mapping[str, Cell | str]:
    """Killed by a user, in a way that leaves the task in a state."""
    cell = Cell("cancelled", ends=(state,))
    return {**dict.fromkeys(COLUMNS, cell), "completing": OVER, **others}


def process_only(cell: Cell, **others: Cell | str) -> Mapping[str, Cell | str]:
    """What befalls a process."""
    found = {name: NO_PROCESS if column.deferred else cell for name, column in COLUMNS.items()}
    return {**found, "completing": OVER, **others}


def waiting_only(cell: Cell, **others: Cell | str) -> Mapping[str, Cell | str]:
    """What needs an operation that runs."""
    return {**dict.fromkeys(COLUMNS, cell), "completing": NO_WAIT, "cancel": NO_CANCEL, **others}


def triggerer_only(cell: Cell) -> Mapping[str, Cell | str]:
    """What befalls a triggerer."""
    return {name: cell if column.deferred else NO_TRIGGER for name, column in COLUMNS.items()}


AGAIN = {
    "running": FRESH,
    "poke": NEXT_FAILS,
    "deferred": replace(NEXT_FAILS, **BOTH_CANCEL),
    "started": replace(FRESH, **BOTH_CANCEL),
    "decorator": FRESH,
}
"""What follows a clear."""
TRIED_AGAIN = Cell("cancelled", ends=("success",), tries=2)
DONE_AGAIN = Cell("over", ends=("success",), tries=2)
NEVER_RAN = Cell("left", closes="nobody (the sensor never ran)")
NOT_RETURNED = Cell("left", closes="nobody (its function had not returned)")
IN_FLIGHT = {"poke": NO_START, "deferred": NO_START, "completing": NO_START, "cancel": NO_START}

ROWS = [
    Row("failed", "marked failed", marked("failed"), deaths.mark("failed")),
    Row("success", "marked success", marked("success"), deaths.mark("success")),
    Row("clear", "cleared", {**AGAIN, "completing": DONE_AGAIN, "cancel": TRIED_AGAIN}, deaths.clear),
    Row(
        "clear-again",
        "cleared, and cleared again when that try has ended",
        {
            **dict.fromkeys(COLUMNS, "each try starts afresh"),
            "poke": Cell("cancelled", tries=3),
            "deferred": Cell("cancelled", tries=3, **BOTH_CANCEL),
            "completing": NO_WAIT,
            "cancel": NO_CANCEL,
        },
        deaths.clear_again,
    ),
    Row("run-failed", "run marked failed", marked("failed"), deaths.mark_run("failed")),
    Row("run-success", "run marked success", marked("success"), deaths.mark_run("success")),
    Row(
        "dagrun-timeout",
        "`dagrun_timeout`",
        marked("skipped", completing=SAME),
        deaths.deadline,
        situation=deaths.before_its_deadline,
        variant="run_timeout",
        within=40,
    ),
    Row(
        "execution-timeout",
        "`execution_timeout`",
        marked("failed", completing=Cell("over")),
        deaths.deadline,
        variant="execution_timeout",
        situation=deaths.before_its_deadline,
    ),
    Row(
        "timeout",
        "the sensor's or operator's own `timeout`",
        marked("failed", completing=NO_WAIT),
        deaths.deadline,
        situation=deaths.before_its_deadline,
        variant="timeout",
    ),
    Row("error", "an error that ends the task (403)", waiting_only(CANCELLED, cancel=CANCELLED), deaths.forbid),
    Row("error-retry", "an error, with a retry", waiting_only(ADOPTED), deaths.forbid_once, variant="retry"),
    Row("sigterm", "SIGTERM of the task", process_only(CANCELLED), deaths.send("task", signal.SIGTERM)),
    Row(
        "sigterm-supervisor",
        "SIGTERM of its supervisor (worker shuts down)",
        process_only(CANCELLED),
        deaths.send("supervisor", signal.SIGTERM),
    ),
    Row(
        "sigterm-retry",
        "SIGTERM of the task, with a retry",
        process_only(ADOPTED, completing=NO_WAIT, cancel=NO_CANCEL),
        deaths.send("task", signal.SIGTERM),
        variant="retry",
    ),
    Row(
        "sigterm-supervisor-retry",
        "SIGTERM of its supervisor (worker shuts down), with a retry",
        process_only(ADOPTED, completing=NO_WAIT, cancel=NO_CANCEL),
        deaths.send("supervisor", signal.SIGTERM),
        variant="retry",
    ),
    Row(
        "frozen-retry",
        "frozen with its supervisor until its next try runs, then going on",
        process_only(ADOPTED, completing=NO_WAIT, cancel=NO_CANCEL),
        together=deaths.freeze,
        variant="retry",
    ),
    Row(
        "frozen",
        "frozen with its supervisor until Airflow has failed it, then going on",
        process_only(CANCELLED, completing=NO_WAIT, cancel=NO_CANCEL),
        together=deaths.freeze,
    ),
    Row(
        "scheduler-sigkill",
        "SIGKILL of the scheduler alone, and a new one, which begins its tasks anew",
        process_only(ADOPTED, completing=NO_WAIT, cancel=NO_CANCEL),
        together=deaths.kill_scheduler,
    ),
    Row(
        "api-server-away-retry",
        "API server away for 40 s, with a retry after it",
        process_only(ADOPTED, completing=NO_WAIT, cancel=NO_CANCEL),
        together=deaths.without_api_server,
        variant="late_retry",
    ),
    Row(
        "api-server-away",
        "API server away for 40 s, no retry",
        process_only(CANCELLED, completing=NO_WAIT, cancel=NO_CANCEL),
        together=deaths.without_api_server,
        within=60,
    ),
    Row(
        "sigkill-retry",
        "SIGKILL or OOM of the task, with a retry",
        process_only(ADOPTED, completing=DONE_AGAIN, cancel=TRIED_AGAIN),
        deaths.send("task", signal.SIGKILL),
        variant="retry",
    ),
    Row(
        "sigkill-supervisor-retry",
        "SIGKILL of its supervisor, with a retry",
        process_only(ADOPTED, completing=DONE_AGAIN, cancel=TRIED_AGAIN),
        deaths.send("supervisor", signal.SIGKILL),
        variant="retry",
    ),
    Row(
        "sigkill-supervisor",
        "SIGKILL of its supervisor, no retry",
        process_only(CANCELLED),
        deaths.send("supervisor", signal.SIGKILL),
    ),
    Row(
        "sigkill",
        "SIGKILL or OOM of the task, no retry",
        process_only(sweep(), cancel=CANCELLED),
        deaths.send("task", signal.SIGKILL),
    ),
    Row(
        "sigint",
        "SIGINT of the task's process",
        process_only(sweep(), cancel=CANCELLED),
        deaths.send("task", signal.SIGINT),
    ),
    Row(
        "queued",
        "marked failed before it has a process",
        {
            "running": NOTHING,
            "poke": NEVER_RAN,
            "deferred": NEVER_RAN,
            "started": NOTHING,
            "completing": NO_WAIT,
            "decorator": NOTHING,
            "cancel": NOTHING,
        },
        deaths.mark("failed"),
        situation=deaths.scheduled,
        variant="queued",
    ),
    Row(
        "before-execute",
        "marked failed before `execute`",
        {
            "running": NOTHING,
            "poke": CANCELLED,
            "deferred": CANCELLED,
            "started": NOTHING,
            "completing": NO_WAIT,
            "decorator": NOTHING,
            "cancel": NOTHING,
        },
        deaths.mark("failed"),
        situation=deaths.held,
        variant="held",
    ),
    Row(
        "deferring",
        "marked failed while running, deferred before the next heartbeat",
        triggerer_only(CANCELLED),
        deaths.mark("failed"),
        situation=deaths.first_look,
        script={"latency": 1.5},
    ),
    Row(
        "just-deferred",
        "marked failed in the second after the deferral",
        triggerer_only(sweep()),
        deaths.mark("failed"),
        situation=deaths.just_deferred,
    ),
    Row(
        "just-deferred-clear",
        "cleared in the second after the deferral",
        {**triggerer_only(AGAIN["deferred"]), "started": AGAIN["started"]},
        deaths.clear,
        situation=deaths.just_deferred,
    ),
    Row(
        "start-in-flight",
        "marked failed while its start is in flight (2 s)",
        waiting_only(CANCELLED, **IN_FLIGHT),
        deaths.mark("failed"),
        situation=deaths.starting,
        script={"latency": 2},
    ),
    Row(
        "long-start-in-flight",
        "marked failed while its start is in flight (12 s)",
        waiting_only(sweep(), decorator=NOT_RETURNED, **IN_FLIGHT),
        deaths.mark("failed"),
        situation=deaths.starting,
        script={"latency": 12},
    ),
    Row(
        "sigkill-start",
        "SIGKILL or OOM while its start is in flight, no retry",
        waiting_only(sweep(), decorator=NOT_RETURNED, **IN_FLIGHT),
        deaths.send("task", signal.SIGKILL),
        situation=deaths.starting,
        script={"latency": 4},
    ),
    Row(
        "asking",
        "marked failed during a request to its supervisor",
        {
            **dict.fromkeys(COLUMNS, "asks nothing while it waits"),
            "running": CANCELLED,
            "poke": CANCELLED,
        },
        deaths.mark("failed"),
        situation=deaths.asking,
        variant="asking",
        within=10,
    ),
    Row(
        "finishing",
        "killed in the second in which the operation ends",
        waiting_only(Cell("over", ends=("failed", "success"), late=True)),
        deaths.finish_meanwhile,
    ),
    Row(
        "twice",
        "killed twice in a row (marked failed, SIGTERM)",
        process_only(CANCELLED, completing=OVER),
        deaths.twice,
    ),
    Row("cancel-503", "the cancel is refused with 503 once", waiting_only(CANCELLED), deaths.refuse_a_cancel_once),
    Row(
        "cancel-slow",
        "the response to the cancel takes 6 s",
        waiting_only(CANCELLED),
        deaths.mark("failed"),
        script={"cancel_latency": 6},
    ),
    Row("triggerer-restart", "triggerers restarted", triggerer_only(ALIVE), together=deaths.restart_triggerers),
    Row("triggerer-sigkill", "triggerers killed and restarted", triggerer_only(ALIVE), together=deaths.kill_triggerers),
    Row(
        "triggerer-stall",
        "a triggerer stalls, is taken over, goes on",
        triggerer_only(ALIVE),
        together=deaths.stall_triggerers,
    ),
    Row(
        "triggerer-dead",
        "its triggerer dies, and it is marked failed before another has it",
        triggerer_only(sweep()),
        together=deaths.kill_the_owner,
        before=deaths.only_one_triggerer,
        after=deaths.all_triggerers,
    ),
    Row(
        "no-triggerer",
        "marked failed while there is no triggerer",
        triggerer_only(CANCELLED),
        together=deaths.without_triggerers,
        within=60,
    ),
    Row(
        "scheduler-restart",
        "scheduler restarted",
        {
            **dict.fromkeys(COLUMNS, "LocalExecutor's tasks are the scheduler's own processes"),
            "deferred": ALIVE,
            "started": ALIVE,
        },
        together=deaths.restart_scheduler,
    ),
    Row("pause", "Dag paused", waiting_only(ALIVE), together=deaths.pause),
    Row(
        "ctrl-c",
        "Ctrl-C in `airflow dags test`",
        waiting_only(Cell("cancelled", ends=())),
        deaths.ctrl_c,
        variant="tested",
        test_run=True,
    ),
    Row("normal", "the operation ends", waiting_only(ALIVE), deaths.finish),
]

LIVES_ON = process_only(ALIVE, completing=NO_WAIT, cancel=NO_CANCEL)
BEFORE_3_3 = {
    "sigterm-supervisor": ("SIGTERM of its supervisor, which ignores it", LIVES_ON),
    "sigterm-supervisor-retry": ("SIGTERM of its supervisor, which ignores it, with a retry", LIVES_ON),
}
"""What is otherwise on Airflow 3.1 and 3.2: titles and cells, by row."""
SLOW_ON_2 = {"success": 45, "run-success": 45, "failed": 30, "asking": 30, "error": 40, "clear": 30, "clear-again": 30}
"""Airflow 2 looks at the state of a task at every second heartbeat only, and lets one that was marked as a success
work for 20 s more (``[core] task_success_overtime``); a process for a task that is resumed takes it seconds. By row, in
seconds."""
WITHOUT_WEB = ("web server away for 40 s, which no task needs", LIVES_ON)
ON_2: dict[str, tuple[str, Mapping[str, Cell | str]]] = {
    # Its trigger hears of it, and so does a process that Airflow starts for that.
    "execution-timeout": (
        "`execution_timeout`",
        marked("failed", completing=Cell("over"), deferred=LATE, started=LATE),
    ),
    # The orphan completes, and is heard: it is at the database itself.
    "sigkill-supervisor-retry": (
        "SIGKILL of its supervisor, with a retry",
        process_only(ADOPTED, completing=OVER, cancel=TRIED_AGAIN),
    ),
    # In execute_complete it is over before the second heartbeat.
    "clear": ("cleared", {**AGAIN, "completing": OVER, "cancel": TRIED_AGAIN}),
    "api-server-away": WITHOUT_WEB,
    "api-server-away-retry": WITHOUT_WEB,
    # The first thing that a triggerer does is to delete the triggers of tasks that are not deferred any more.
    "no-triggerer": ("marked failed while there is no triggerer", triggerer_only(sweep())),
    "long-start-in-flight": (
        "marked failed while its start is in flight (12 s; SIGKILL follows after 60)",
        waiting_only(CANCELLED, **IN_FLIGHT),
    ),
}
"""What is otherwise on Airflow 2: titles and cells, by row."""


def here(row: Row) -> Row:
    """The row as it is on this Airflow."""
    if AIRFLOW < (3,):
        row = replace(row, within=SLOW_ON_2.get(row.name, row.within))
    others = {} if AIRFLOW >= (3, 3) else BEFORE_3_3 if AIRFLOW >= (3,) else ON_2
    title, cells = others.get(row.name, (row.title, row.cells))
    return replace(row, title=title, cells=cells)


ROWS = [here(row) for row in ROWS]

SILENT = ["clear", "sigterm", "sigterm-supervisor", "sigterm-retry", "sigterm-supervisor-retry"]
SILENT += ["frozen", "frozen-retry", "scheduler-sigkill", "api-server-away", "api-server-away-retry"]
"""What is tried once more on a service that shows no CANCELLING and takes a minute to cancel."""


def silently(row: Row) -> Row:
    """The same on AutoML, whose metadata have neither a state nor a flag."""
    cells = {name: NO_WAIT if name == "completing" else cell for name, cell in row.cells.items()} | {
        "cancel": NO_CANCEL
    }
    script = {**row.script, "cancel_delay": 60}
    title = f"{row.title}; cancelling takes a minute, and does not show"
    return replace(row, name=f"{row.name}-silent", title=title, cells=cells, service="automl", script=script)


ROWS += [silently(row) for row in ROWS if row.name in SILENT]


def cells_of(row: Row) -> dict[str, Cell]:
    """The cells of a row that there are, by column."""
    return {name: cell for name, cell in row.cells.items() if isinstance(cell, Cell)}


def blanks(row: Row) -> dict[str, str]:
    """Why there are no others."""
    return {name: cell for name, cell in row.cells.items() if isinstance(cell, str)}
