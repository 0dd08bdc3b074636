"""``airflow-lro demo`` as a user starts it. It brings an Airflow of its own, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_lro_provider.lro.resources.catalog import SYSTEMS, find_service
from tests.commands import airflow_lro


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for all temporary files; with a short name, as sockets may be made in it."""
    with tempfile.TemporaryDirectory(prefix="lro-") as folder:
        yield Path(folder)


def left_behind(folder: Path) -> list[str]:
    """The command lines of all processes whose environment or working directory names this folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            with suppress(OSError):
                environment = (process / "environ").read_bytes()
                command = (process / "cmdline").read_bytes()
                if command and (str(folder).encode() in environment or str(folder) in os.readlink(process / "cwd")):
                    found.append(command.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def nothing_is_left(folder: Path) -> None:
    """Neither processes nor files; the last process may need a moment to go."""
    deadline = time.monotonic() + 10
    while (processes := left_behind(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes == []
    assert list(folder.iterdir()) == []


def test_the_demo_shows_every_system_and_leaves_nothing_behind(temporary: Path) -> None:
    """Every killed task's operation is cancelled, every other one succeeds, and all of it is removed."""
    with airflow_lro("demo", stderr=subprocess.STDOUT, TMPDIR=str(temporary)) as process:
        out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    table = out[out.index("\nSYSTEM ") :]
    for service in map(find_service, SYSTEMS):
        rows = re.findall(rf"^{service.title} .*$", table, re.MULTILINE)
        assert sum("SUCCEEDED" in row for row in rows) >= 1, out
        assert sum(bool(re.search(r"poke +running +failed +CANCELLED +\d+\.\d s", row)) for row in rows) == 1, out
        assert sum(bool(re.search(r"deferred +failed +CANCELLED +\d+\.\d s", row)) for row in rows) == 1, out
    assert re.search(r"operator +- +success +CANCELLED", table), out
    assert "WRONG" not in out
    assert "Traceback" not in out
    assert "\033" not in out, "colours are for terminals"
    nothing_is_left(temporary)


@pytest.mark.parametrize("moment", ["starting", "killed"])
def test_ctrl_c_stops_the_demo_and_leaves_nothing_behind(temporary: Path, moment: str) -> None:
    """Ctrl-C while Airflow starts, or is at work, ends it with 130, and all of it is removed."""
    with airflow_lro("demo", stderr=subprocess.STDOUT, TMPDIR=str(temporary)) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if f" s  {moment} " in line:
                break
        time.sleep(1)
        assert left_behind(temporary), f"it should run, but said: {''.join(seen)}"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    out = "".join(seen) + rest
    assert process.returncode == 130, out
    assert "interrupted; everything is stopped and removed" in out
    assert "Traceback" not in out
    nothing_is_left(temporary)
