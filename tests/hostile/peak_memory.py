"""What hostile responses cost: ``python tests/hostile/peak_memory.py``. Each case in a process of its own.

Printed are the seconds, the error, and by how much the process's memory (RSS) was higher at its peak than before
the response. Linux only: the peak is reset by /proc.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_lro_provider.lro.errors import OperationsError
from airflow_lro_provider.lro.http.body import MAX_BYTES
from airflow_lro_provider.lro.http.json import MAX_NODES
from tests.hostile.hostile_server import HostileServer, Play, chunk, for_ever, head
from tests.hostile.responses import CHUNKS, MB, bomb, packed
from tests.hostile.subjects import KINDS, NAME, REFERENCE, Client


def _whole(body: bytes) -> Play:
    return lambda _: [head("200 OK", f"Content-Length: {len(body)}"), body]


def _filled(piece: bytes) -> bytes:
    """The largest response that is accepted, made of these pieces in a list, or the most objects, and a text."""
    start, end = json.dumps({"name": NAME, "metadata": {"a": []}}).encode().split(b"[]")
    room = (MAX_BYTES - len(start) - len(end) - 50) // (len(piece) + 1)
    if piece.startswith(b"{"):
        room = min(room, MAX_NODES - 10)
    filled = start + b"[" + b",".join([piece] * room) + b"]" + end
    return filled[:-1] + b',"response":"' + b"x" * (MAX_BYTES - len(filled) - 20) + b'"}'


CASES: dict[str, Callable[[], Play]] = {
    "an ordinary response": lambda: _whole(json.dumps({"name": NAME}).encode()),
    "200 MB, said so": lambda: for_ever(bytes(MB), first=head("200 OK", f"Content-Length: {200 * MB}"), times=200),
    "200 MB in chunks": lambda: for_ever(chunk(bytes(MB)), first=head("200 OK", CHUNKS), times=200),
    "an endless body": lambda: for_ever(b" " * 65536, first=head()),
    "endless chunks of a byte": lambda: for_ever(chunk(b" ") * 9999, first=head("200 OK", CHUNKS)),
    "an endless chunk size": lambda: for_ever(b"0" * 65536, first=head("200 OK", CHUNKS)),
    "endless headers": lambda: for_ever(b"X-Y: z\r\n" * 9999, first=head()[:-2]),
    "a header without an end": lambda: for_ever(b"x" * 65536, first=head()[:-2] + b"X-Y: "),
    "endless trailers": lambda: for_ever(b"X-Y: z\r\n" * 9999, first=head("200 OK", CHUNKS) + chunk(b"{}") + b"0\r\n"),
    "for ever 100 Continue": lambda: for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 999),
    "gzip bomb, 200 MB": lambda: packed(bomb(200 * MB)),
    "gzip bomb, 2 GB": lambda: packed(bomb(2048 * MB)),
    "gzip bomb as a 503": lambda: packed(bomb(200 * MB), "503 Unavailable"),
    "a slow drip": lambda: for_ever(b" ", first=head(), every=0.05),
    "100,000 brackets": lambda: _whole(b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "as large as may be: a text": lambda: _whole(_filled(b'"' + b"x" * 1000 + b'"')),
    "as large as may be: numbers": lambda: _whole(_filled(b"1234567")),
    "as many objects as may be": lambda: _whole(_filled(b'{"a":1}')),
    "more objects": lambda: _whole(b'{"metadata":{"a":[' + b"{}," * 2_500_000 + b"1]}}"),
}
TIMEOUT = 3.0


def _memory(what: str) -> int:
    """``VmRSS`` is the memory of this process now, ``VmHWM`` its peak."""
    rows = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(rows[what].split()[0]) * 1024


def _ask(kind: str, url: str) -> dict[str, Any]:
    """In a process of its own: send one request, and measure."""
    with Client(kind, url, retries=0, read_timeout=TIMEOUT) as client:
        with HostileServer(CASES["an ordinary response"]()) as ordinary, Client(kind, ordinary.url) as warm:
            warm.get(REFERENCE)  # everything is imported then
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before, begun, said = _memory("VmRSS"), time.monotonic(), "taken"
        try:
            client.get(REFERENCE)
        except OperationsError as error:
            said = type(error).__name__
        return {"seconds": time.monotonic() - begun, "said": said, "before": before, "more": _memory("VmHWM") - before}


def main() -> None:
    """Print the table."""
    print(f"limit of a response {MAX_BYTES / MB:.0f} MiB, read timeout {TIMEOUT:g} s")
    print(f"{'response':<30}{'client':<7}{'seconds':>8}{'MiB more':>10}{'of MiB':>8}  error")
    for case, play in CASES.items():
        with HostileServer(play()) as server:
            for kind in KINDS:
                command = [sys.executable, __file__, kind, server.url]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout)
                print(
                    f"{case:<30}{kind:<7}{found['seconds']:>8.2f}{found['more'] / MB:>10.1f}"
                    f"{found['before'] / MB:>8.0f}  {found['said']}",
                    flush=True,
                )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(_ask(sys.argv[1], sys.argv[2])))
    else:
        main()
