"""docs/coming-from-google.md against the local server: each of its rows and examples starts one operation, and a kill
cancels it.
"""

from __future__ import annotations

import json
import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.operators.operations import RunOperationOperator
from tests.airflow.played import Killable, PlayedTry, Store
from tests.airflow.versions import Killed, dag_bag, may_execute, since_3
from tools.google_operators import PAGE, Row, blocks, read_rows

TEXT = PAGE.read_text("utf-8")
ROWS = [row for row in read_rows(TEXT) if "method" in row.rest]
AFTER = blocks(TEXT, "After")
[PRELUDE] = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.S) if "with DAG" in block]


def name_of(row: Row) -> str:
    """For the test's own name."""
    return row.operator.rpartition(".")[2]


def operator_of(row: Row, **arguments: Any) -> RunOperationOperator:
    """The task of a row, without a warning where the page says that there is no cancel."""
    http_method, method = row.rest["method"].split(" ")
    made = RunOperationOperator(
        task_id="t",
        service=row.rest["service"],
        http_method=http_method,
        method=method,
        body=json.loads(row.rest["body"]) if row.rest["body"] else None,
        poll_interval=0.02,
        **{"cancel_on_kill": row.rest["cancel"] == "yes", **arguments},
    )
    may_execute(made)
    return made


@pytest.fixture
def server(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The local server, as the connection of every task."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    return lro_emulator


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_starts_one_operation_and_returns_its_response(server: Emulator, row: Row) -> None:
    """With the row's own HTTP method, path and body."""
    server.script(duration=0.05, response={"name": "made"})
    assert operator_of(row).execute(PlayedTry(server, Store()).context) == {"name": "made"}
    [request] = server.requests(verb="start")
    http_method, path = row.rest["method"].split(" ")
    assert request.method == http_method
    assert path.partition("?")[0] in request.path
    assert len(server.operations()) == 1
    assert server.requests(verb="cancel") == []


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_killed_row_cancels_its_operation_where_the_api_can(server: Emulator, row: Row, killable: Killable) -> None:
    """What the page is for: SIGTERM while it waits."""
    server.script(duration=None)
    operator = operator_of(row)
    killable(operator, lambda: server.requests(verb="get"))
    with pytest.raises(Killed):
        operator.execute(PlayedTry(server, Store()).context)
    [one] = server.operations()
    assert one.cancel_requests == (1 if row.rest["cancel"] == "yes" else 0)


@pytest.mark.parametrize("row", [row for row in ROWS if row.rest["cancel"] == "no"], ids=name_of)
def test_a_row_without_a_cancel_warns(row: Row) -> None:
    """When the Dag is parsed; `cancel_on_kill=False` says that it is known."""
    with pytest.warns(UserWarning, match="cannot cancel its operations"):
        operator_of(row, cancel_on_kill=True)


def test_the_page_names_all_of_its_apis_that_cannot_cancel() -> None:
    """In its section about them."""
    section = TEXT.partition("## What cannot be cancelled")[2]
    for service in {row.rest["service"] for row in ROWS if row.rest["cancel"] == "no"}:
        assert find_service(service).title.removeprefix("Cloud ") in section


@since_3
@pytest.mark.parametrize("code", AFTER, ids=lambda code: re.findall(r"task_id=\"(\w+)\"", code)[0])
def test_an_example_is_a_dag_and_its_tasks_do_what_they_say(server: Emulator, tmp_path: Path, code: str) -> None:
    """Read as a file, and played: one operation each, but for a sensor."""
    tasks = tasks_of(code, tmp_path)
    server.script(duration=0.05)
    results: dict[str, Any] = {}
    for task in tasks:
        this = PlayedTry(server, Store())
        this.ti.xcom_pull = lambda task_ids, **_: results[task_ids]
        context = {**this.context, "ds_nodash": "20260101"}
        may_execute(task)
        task.render_template_fields(context)
        task.deferrable = False
        results[task.task_id] = task.execute(context)
    starts = server.requests(verb="start")
    if "stop" in results:  # the execution is that of the operation
        assert re.search(r"/jobs/report/executions/report-\w{5}:cancel$", starts[-1].path)
    assert len(starts) == len([task for task in tasks if isinstance(task, RunOperationOperator)])


def tasks_of(code: str, folder: Path) -> list[Any]:
    """The tasks of an example, in the file that the page shows."""
    (folder / "example.py").write_text(PRELUDE.replace("    ...\n", textwrap.indent(code, "    ")))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Cloud Run", UserWarning)
        bag = dag_bag(folder)
    assert bag.import_errors == {}
    return bag.dags["coming_from_google"].topological_sort()


def test_there_is_an_example_before_for_each_after() -> None:
    """And neither is empty."""
    assert len(blocks(TEXT, "Before")) == len(AFTER) == 11
