"""The example Dags, and those of the README, are good Dags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.airflow.versions import dag_bag, since_3

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["example_dags", "tests/e2e/dags"])
def test_example_dags_can_be_read(folder: str) -> None:
    """Airflow reads every file without an error or a warning."""
    bag = dag_bag(ROOT / folder)
    assert bag.import_errors == {}
    assert bag.dags
    assert not [warning for stat in bag.dagbag_stats for warning in getattr(stat, "warnings", ())]


@since_3
def test_the_first_dag_of_the_readme_works(tmp_path: Path) -> None:
    """What a newcomer copies from the README is a Dag."""
    [code] = [
        block
        for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        if "with DAG" in block
    ]
    (tmp_path / "first.py").write_text(code)
    bag = dag_bag(tmp_path)
    assert bag.import_errors == {}
    assert set(bag.dags["three_ways"].task_dict) == {"create", "train", "wait"}


def test_the_readme_names_every_parameter() -> None:
    """No parameter of an operator or sensor is missing from the README."""
    import inspect

    from airflow_lro_provider.attempt.starter import OperationStarter
    from airflow_lro_provider.attempt.task import OperationTask
    from airflow_lro_provider.operators.operations import (
        CancelOperationOperator,
        CancelOperationsOperator,
        RunOperationOperator,
    )
    from airflow_lro_provider.sensors.operations import OperationSensor

    text = (ROOT / "README.md").read_text()
    for made in (
        OperationSensor, CancelOperationOperator, CancelOperationsOperator, RunOperationOperator, OperationStarter,
        OperationTask,
    ):  # fmt: skip
        for name in inspect.signature(made.__init__).parameters:
            assert name in ("self", "kwargs") or f"`{name}`" in text, f"{made.__name__}({name}=)"
