"""Runs whose task starts its operation itself, which is found by a key that it works on."""

from __future__ import annotations

import secrets
from typing import Any

from tests.e2e.bed.lab import Lab, Run
from tests.e2e.bed.waiting import wait_until

__all__ = ["begin", "operations_of"]


def begin(lab: Lab, dag_id: str, service: str = "developerconnect", **script: Any) -> Run:
    """Start a run, and wait until its task has started an operation (one that never ends)."""
    lab.emulator.script(service, **{"duration": None, **script})
    key = f"k{secrets.token_hex(4)}"
    run_id = lab.airflow.trigger(dag_id, conf={"key": key})
    run = Run(lab, dag_id, run_id, "", service, key=key)
    [run.operation_name] = wait_until(lambda: operations_of(run), f"{dag_id} starts its operation")
    lab.runs.append(run)
    return run


def operations_of(run: Run) -> list[str]:
    """All operations that the task of a run has started, oldest first."""
    views = run.lab.emulator.operations(run.service)
    return [view.operation["name"] for view in views if run.key in view.operation["metadata"]["target"]]
