"""The command line in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def airflow_lro(
    *arguments: str, stderr: int = subprocess.PIPE, ctrl_c: Any = signal.SIG_DFL, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """``airflow-lro``, as a user's pipe has it: Ctrl-C works even if it does not in this process, and Python buffers.

    :param stderr: where standard error goes.
    :param ctrl_c: what is inherited for SIGINT.
    :param environment: variables besides those of this process.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-m", "airflow_lro_provider.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=inherited | environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, ctrl_c),
    ) as process:
        try:
            yield process
        finally:
            process.kill()
