"""What the package weighs beside Airflow: packages, bytes, time to import: ``python tests/benchmarks/weight.py``.

Run it with a Python that has the package and Airflow installed. The times are of new processes, in turn with those that
import Airflow alone, so that a machine that is busy for a while is so for both.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import airflow_lro_provider

PACKAGE = "airflow-lro-provider"
OURS = """
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
from airflow.providers.common.compat.sdk import BaseHook
import airflow.triggers.base, airflow.sdk.execution_time.task_runner
import time
begun = time.perf_counter()
from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
print(time.perf_counter() - begun)
"""
TABLE = """
import time
from airflow_lro_provider.lro.resources.catalog import known_services
begun = time.perf_counter()
known_services()
print(time.perf_counter() - begun)
"""


def closure(distribution: str, seen: set[str] | None = None) -> set[str]:
    """All that a distribution needs, itself included."""
    seen = set() if seen is None else seen
    name = re.sub(r"[-_.]+", "-", distribution).lower()
    if name in seen:
        return seen
    try:
        required = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for requirement in required:
        text, _, marker = requirement.partition(";")
        if "extra" not in marker:
            closure(re.split(r"[\s\[<>=!~(]", text.strip())[0], seen)
    return seen


def size(distribution: str) -> int:
    """The bytes of its files, without those that Python compiles."""
    if distribution == PACKAGE:  # it may be installed in place
        folder = Path(airflow_lro_provider.__file__).parent
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    files = [Path(str(file.locate())) for file in metadata.files(distribution) or [] if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files if path.is_file())


def seconds(program: str) -> float:
    """What a new process prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure(times: int) -> dict[str, object]:
    """All of it."""
    airflow = closure("apache-airflow")
    added = closure(PACKAGE) - airflow
    ours, table = [], []
    for _ in range(times):
        ours.append(seconds(OURS))
        table.append(seconds(TABLE))
    return {
        "packages_of_airflow": len(airflow),
        "packages_added": {name: size(name) for name in sorted(added)},
        "services_json": Path(airflow_lro_provider.__file__)
        .with_name("lro")
        .joinpath("resources", "services.json")
        .stat()
        .st_size,
        "import_ms": 1000 * statistics.median(ours),
        "table_ms": 1000 * statistics.median(table),
    }


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=15)
    print(json.dumps(measure(parser.parse_args().times), indent=2))


if __name__ == "__main__":
    main()
