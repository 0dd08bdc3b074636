"""The example Dags, and every block of code in the documentation, are what they say."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import pytest

from airflow_lro_provider.attempt.starter import OperationStarter
from airflow_lro_provider.attempt.task import OperationTask
from airflow_lro_provider.operators.operations import (
    CancelOperationOperator,
    CancelOperationsOperator,
    RunOperationOperator,
)
from airflow_lro_provider.sensors.operations import OperationSensor
from tests.airflow.versions import dag_bag
from tests.documents import PAGES, ROOT, blocks

# Airflow 2.11 has no `airflow.sdk`; the documents say what its first line is there.
ANY_VERSION = {"from airflow.sdk import": "from airflow.providers.common.compat.sdk import"}
# Those for whoever comes from Google's operators, half of which need Google's provider, have a test of their own.
BLOCKS = {
    f"{page.name}-{number}": code
    for page in PAGES
    if page.name != "coming-from-google.md"
    for number, code in blocks(page, "python")
}
# What stands in a page alone, without what a Dag file begins with.
BEGIN = """
from airflow.providers.common.compat.sdk import DAG, task
from airflow_lro_provider.hooks.operations import OperationsHook
with DAG("copied", schedule=None):
"""


@pytest.mark.parametrize("folder", ["example_dags", "tests/e2e/dags"])
def test_example_dags_can_be_read(folder: str) -> None:
    """Airflow reads every file without an error or a warning."""
    bag = dag_bag(ROOT / folder)
    assert bag.import_errors == {}
    assert bag.dags
    assert not [warning for stat in bag.dagbag_stats for warning in getattr(stat, "warnings", ())]


@pytest.mark.parametrize("place", [place for place, code in BLOCKS.items() if "def test_" not in code])
def test_a_block_of_the_documentation_can_be_read(place: str, tmp_path: Path) -> None:
    """What a newcomer copies is a Dag, without an error or a warning."""
    code = BLOCKS[place]
    if "import" not in code:
        code = BEGIN + textwrap.indent(code, "    ")
    for ours, theirs in ANY_VERSION.items():
        code = code.replace(ours, theirs)
    (tmp_path / "copied.py").write_text(code)
    bag = dag_bag(tmp_path)
    assert bag.import_errors == {}
    assert bag.dags
    assert all(dag.task_dict for dag in bag.dags.values())
    assert not [warning for stat in bag.dagbag_stats for warning in getattr(stat, "warnings", ())]


def test_the_first_dag_of_the_readme_has_three_tasks() -> None:
    """It shows the three ways."""
    assert len(re.findall("# .* operation", BLOCKS["README.md-1"])) == 3


def test_the_documentation_names_every_parameter() -> None:
    """No parameter of an operator or sensor is missing from the page of the operators."""
    text = (ROOT / "docs" / "operators.md").read_text("utf-8")
    for made in (
        OperationSensor, CancelOperationOperator, CancelOperationsOperator, RunOperationOperator, OperationStarter,
        OperationTask,
    ):  # fmt: skip
        for name in inspect.signature(made.__init__).parameters:
            assert name in ("self", "kwargs") or f"`{name}`" in text, f"{made.__name__}({name}=)"
