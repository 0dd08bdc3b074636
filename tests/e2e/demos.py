"""The demo, again and again, on an idle and on a busy machine: ``python tests/e2e/demos.py --count 20 --loaded 10``.

Each run is ``airflow-lro demo`` as a user starts it. A run is good if its exit status is 0, and no cancel came later
after its kill than ``--within``. What a bad run printed is shown, and the exit status is 1 then. On Airflow 2
(``--airflow 2.11.2``) each has a PostgreSQL of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_lro_provider.airflow_compat import local
from tests.e2e.bed.postgres import LocalPostgres
from tools.airflow_environment import run_there

_BUSY = "while True: pass"
_INSTALL = "while :; do {python} -m pip install --quiet --force-reinstall requests aiohttp pydantic; sleep 0.1; done"
_CANCELLED_AFTER = re.compile(r" CANCELLED +(-?\d+\.\d) s ")
_DEMO_TIMEOUT_SECONDS = 1200


@dataclass(frozen=True)
class Demo:
    """One run of the demo.

    :param status: its exit status
    :param cancels: seconds from each kill to its cancel, as the demo's table has them
    :param duration: seconds, from start to end
    :param output: all that it printed
    """

    status: int
    cancels: list[float]
    duration: float
    output: str

    @property
    def slowest_cancel(self) -> float:
        """Seconds; 0 if there was none."""
        return max(self.cancels, default=0.0)

    def is_good(self, within: float) -> bool:
        """Whether all went well, and no cancel took longer than this many seconds."""
        return self.status == 0 and bool(self.cancels) and self.slowest_cancel <= within


@contextlib.contextmanager
def load() -> Iterator[None]:
    """Two busy loops, and packages that are installed into a scratch environment again and again."""
    with tempfile.TemporaryDirectory(prefix="demos-load-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = _INSTALL.format(python=Path(folder, "bin", "python"))
        commands = [[sys.executable, "-c", _BUSY], [sys.executable, "-c", _BUSY], ["sh", "-c", install]]
        processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for command in commands
        ]
        try:
            yield
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def run_demo() -> Demo:
    """Run the demo once."""
    command = [sys.executable, "-m", "airflow_lro_provider.cli", "demo"]
    with contextlib.ExitStack() as stack:
        if not local.RUNS_ON_SQLITE:
            command += ["--database", stack.enter_context(LocalPostgres()).url]
        began = time.monotonic()
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_DEMO_TIMEOUT_SECONDS,
            check=False,
        )
    cancels = [float(seconds) for seconds in _CANCELLED_AFTER.findall(done.stdout)]
    return Demo(done.returncode, cancels, time.monotonic() - began, done.stdout)


def main() -> int:
    """Run them, print a line for each, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="how many demos (default: 20)")
    parser.add_argument("--loaded", type=int, default=10, help="how many of them on a busy machine (default: 10)")
    parser.add_argument("--within", type=float, default=15.0, help="seconds a cancel may take (default: 15)")
    parser.add_argument("--airflow", metavar="VERSION", help="on this Airflow, in an environment that is made for it")
    given = parser.parse_args()
    if given.airflow:
        return run_there(given.airflow, __file__, sys.argv[1:])
    demos = []
    for number in range(1, given.count + 1):
        loaded = number > given.count - given.loaded
        with load() if loaded else contextlib.nullcontext():
            demo = run_demo()
        demos.append(demo)
        print(
            f"{number:3} {'loaded' if loaded else 'idle':6}  exit status {demo.status}, {len(demo.cancels)} cancels,"
            f" slowest {demo.slowest_cancel:.1f} s, {demo.duration:.0f} s",
            flush=True,
        )
        if not demo.is_good(given.within):
            print(demo.output, flush=True)
    bad = [demo for demo in demos if not demo.is_good(given.within)]
    slowest = max((demo.slowest_cancel for demo in demos), default=0.0)
    print(f"{len(demos) - len(bad)} of {len(demos)} demos good; the slowest cancel of all took {slowest:.1f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
