"""A task in an `airflow dags test` of its own, and the Ctrl-C that ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.bed.trial import Trial

__all__ = ["end", "interrupt", "launch"]

# Each is an Airflow of its own, which takes its time to start.
_few = threading.BoundedSemaphore(2)


def launch(trial: Trial, operation: str) -> subprocess.Popen[bytes]:
    """Start the test run of a trial, once there is room for it; :func:`end` makes room again."""
    conf = {"key": trial.key, "operation": operation, "script": json.dumps(trial.script)}
    _few.acquire()
    with (trial.bed.airflow.home / f"test-{trial.key}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "airflow", "dags", "test", trial.dag_id, "-c", json.dumps(conf)],
            env=trial.bed.airflow.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C, which reaches all processes of the terminal."""
    os.killpg(process.pid, signal.SIGINT)


def end(process: subprocess.Popen[bytes]) -> None:
    """See to it that it is gone."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _few.release()
