"""Finding and ending all processes that a local Airflow started.

They are hard to find: a task has a process group of its own, outlives its supervisor, and overwrites the
environment that others see of it; a BashOperator's shell even has a session of its own. So there are three
nets: the session of the component, a marker in the environment, and the descendants of whatever these two hold.

Run as a script this file is the watchdog of one local Airflow, so it imports the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

MARKER = "LOCAL_AIRFLOW_ID"
"""Environment variable by which the processes of one local Airflow are recognised."""

_PROC = Path("/proc")


class Process(NamedTuple):
    """One running process."""

    pid: int
    parent: int
    session: int


def running() -> dict[int, Process]:
    """All processes of this machine but zombies, by process id."""
    found = _from_proc() if (_PROC / "self" / "stat").exists() else _from_ps()
    return {process.pid: process for process in found}


def _from_proc() -> list[Process]:
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name of the program, in brackets, may itself hold brackets and blanks.
            state, parent, _, session = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:4]
            if state not in "ZX":
                found.append(Process(int(folder.name), int(parent), int(session)))
    return found


def _from_ps() -> list[Process]:
    found = []
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    for line in listing.stdout.splitlines():
        pid, parent, state = line.split()[:3]
        with contextlib.suppress(OSError):
            if not state.startswith("Z"):
                found.append(Process(int(pid), int(parent), os.getsid(int(pid))))
    return found


def command_line(pid: int) -> str:
    """What ``ps`` shows of a process; empty if it is gone (or there is no ``/proc``)."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return ""


def _is_marked(pid: int, marker: str) -> bool:
    with contextlib.suppress(OSError):
        return f"{MARKER}={marker}".encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return False


def descendants(*roots: int) -> list[int]:
    """The running ones of these processes and all processes below them, parents first."""
    processes = running()
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    ordered = dict.fromkeys(pid for pid in roots if pid in processes)
    queue = list(roots)
    while queue:
        below = [pid for pid in children.get(queue.pop(), ()) if pid not in ordered]
        ordered.update(dict.fromkeys(below))
        queue.extend(below)
    return list(ordered)


def members(sessions: Collection[int], marker: str | None = None) -> list[int]:
    """All processes of these sessions, all with this marker, and all descendants of both.

    :param sessions: session ids, which are the process ids of the components
    :param marker: value of the environment variable :data:`MARKER`
    """
    roots = [
        process.pid
        for process in running().values()
        if process.session in sessions or (marker and _is_marked(process.pid, marker))
    ]
    return [pid for pid in descendants(*roots) if pid != os.getpid()]


def send(pids: Collection[int], sig: int) -> None:
    """Send a signal to processes, of which some may be gone by now."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sig)


def end(sessions: Collection[int], marker: str | None = None, timeout: float = 15) -> list[int]:
    """Kill all :func:`members` until there are none; return those that would not go."""
    deadline = time.monotonic() + timeout
    while (left := members(sessions, marker)) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        time.sleep(0.02)
    return left


def remove(folder: Path) -> None:
    """Remove a folder in which a dying process may still write."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


class Watchdog:
    """A process that cleans up when this Python ends without doing so itself (SIGTERM, SIGKILL, SIGHUP).

    :param marker: see :data:`MARKER`
    :param folder: removed after the processes have gone
    """

    def __init__(self, marker: str, folder: Path | None) -> None:
        # A session of its own, so that Ctrl-C in the terminal does not reach it. It waits for its standard
        # input to close, which happens when the only other holder, this Python, is gone.
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, marker, str(folder or "")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def watch(self, session: int) -> None:
        """Tell the watchdog of one more session."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{session}\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """End the watchdog; there is nothing left to watch."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


def _watch(marker: str, folder: str) -> None:
    sessions = [int(line) for line in sys.stdin]
    end(sessions, marker)
    if folder:
        remove(Path(folder))


if __name__ == "__main__":
    _watch(sys.argv[1], sys.argv[2])
