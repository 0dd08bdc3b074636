"""Parsing a Dag that uses this package costs milliseconds, because it imports almost nothing."""

from __future__ import annotations

import subprocess
import sys

from airflow_lro_provider.airflow_compat import AIRFLOW

HEAVY = ("google", "requests", "aiohttp", "airflow.triggers", "starlette", "uvicorn")


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after a statement, beyond what Airflow needs for operators."""
    code = (
        "import sys\n"
        "from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_dag_file_imports_nothing_heavy() -> None:
    """Operators and sensors, and making tasks of them, import no client library and no trigger."""
    modules = imported_by(
        "from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator\n"
        "from airflow_lro_provider.decorators.operation import operation_task\n"
        "from airflow_lro_provider.sensors.operations import OperationSensor\n"
        "with DAG('d'):\n"
        "    name = 'projects/p/locations/us-central1/operations/1'\n"
        "    OperationSensor(task_id='s', operation_name=name, service='aiplatform', deferrable=True)\n"
        "    CancelOperationOperator(task_id='c', operation_name=name, service='datafusion')\n"
        "    RunOperationOperator(task_id='r', method='projects/p/locations/l/instances', service='datafusion')\n"
        "    operation_task(lambda: name, task_id='d', service='datafusion')\n"
    )
    assert "airflow_lro_provider.sensors.operations" in modules
    heavy = {module for module in modules for name in HEAVY if module == name or module.startswith(f"{name}.")}
    # `google` itself may be a namespace package that Airflow's own telemetry looks at.
    assert heavy - {"google"} == set()


def test_the_catalog_is_loaded_for_the_first_name_and_not_before() -> None:
    """A Dag file whose names are all templates does not need it."""
    modules = imported_by(
        "from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator\n"
        "from airflow_lro_provider.decorators.operation import operation_task\n"
        "from airflow_lro_provider.sensors.operations import OperationSensor"
    )
    assert "airflow_lro_provider.attempt.guard" in modules
    assert "airflow_lro_provider.lro.operation" not in modules
    assert not {module for module in modules if module.startswith("airflow_lro_provider.lro.resources")}


def test_what_can_be_deleted_is_read_only_for_those_who_believe_a_404() -> None:
    """M3: the table costs nothing where there is no `if_missing="return"`."""
    statement = (
        "from airflow_lro_provider.operators.operations import RunOperationOperator\n"
        "given = {'method': 'projects/p/locations/l/instances/i', 'http_method': 'DELETE', 'service': 'datafusion'}\n"
        "RunOperationOperator(task_id='r', **given%s)\n"
    )
    table = "airflow_lro_provider.lro.resources.deletions"
    assert table not in imported_by(statement % "")
    assert table in imported_by(statement % ", if_missing='return'")


def test_the_pure_core_imports_only_the_standard_library_and_msgspec() -> None:
    """The rooms that decide need neither Airflow nor a client library. msgspec comes with Airflow 3."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "from airflow_lro_provider.lro import errors, flows, operation, polling, protocol, status\n"
        "from airflow_lro_provider.lro.resources import catalog, hosts, methods, names\n"
        "from airflow_lro_provider.lro.auth import settings\n"
        "from airflow_lro_provider.ownership import decisions\n"
        "catalog.known_services()\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if name not in sys.stdlib_module_names}
    # msgspec imports typing_extensions.
    assert foreign - {"typing_extensions"} == {"airflow_lro_provider", "msgspec"}
    assert AIRFLOW < (3,) or imported_by("import msgspec") == set()
