"""The local server's fast mode for the benchmark of waiting: TLS, thousands of operations, no scripts.

It responds like the emulator, but its responses are made beforehand, so that it is never the bottleneck:
``GET …/operations/{id}``, ``GET …/operations`` with ``pageSize``, ``pageToken`` and ``filter=done=false`` (unless told
otherwise), each after the latency. ``GET /count`` gives the number of requests so far, and of cancels among them. From
``GET /begin`` on, operations end. ``GET /trouble?kind=outage&seconds=60`` lets the server break every connection for a
while, ``kind=storm`` respond to everything with 429. ``python waiting_server.py '{"operations": 1000, …}'`` prints the
port.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import random
import ssl
import subprocess
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

PARENT = "projects/p/locations/us-central1"


def certificate(folder: str) -> tuple[str, str]:
    """A certificate for this machine's loopback, and its key: paths of two files."""
    cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    request = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*request.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


class Operations:
    """The operations: the awaited ones, and the history that lies before them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.names = [f"{PARENT}/operations/old-{i}" for i in range(options["operations"] * options.get("history", 0))]
        self.old = len(self.names)
        self.names += [f"{PARENT}/operations/{i}" for i in range(options["operations"])]
        self.ends: dict[str, float] = dict.fromkeys(self.names[: self.old], time.time())
        self.rows = [self._row(name) for name in self.names]
        self.place = {name: number for number, name in enumerate(self.names)}
        self.count = self.cancels = 0
        self.trouble, self.trouble_until = "", 0.0
        self.begun = asyncio.Event()

    @property
    def is_in(self) -> str:
        """The trouble that it is in; empty for none."""
        return self.trouble if time.monotonic() < self.trouble_until else ""

    def _row(self, name: str) -> bytes:
        metadata: dict[str, Any] = {
            "@type": "type.googleapis.com/google.cloud.datafusion.v1.OperationMetadata",
            "createTime": "2026-11-21T08:03:12.915839Z",
            "target": PARENT,
            "verb": "create",
            "requestedCancellation": False,
            "apiVersion": "v1",
            "statusDetail": "Running.",
        }
        if name not in self.ends:
            return json.dumps({"name": name, "metadata": metadata}).encode()
        end = datetime.datetime.fromtimestamp(self.ends[name], datetime.timezone.utc)
        metadata["endTime"] = end.isoformat().replace("+00:00", "Z")
        return json.dumps({"name": name, "metadata": metadata, "done": True}).encode()

    async def end_some(self) -> None:
        """Let some end, spread over a time, once a measurement has begun."""
        plan = self.options
        await self.begun.wait()
        await asyncio.sleep(plan["end_after"])
        number = int(plan["operations"] * plan["end_part"])
        step = plan["operations"] // max(number, 1)
        # In no order: whoever polls them in order would always come just before the end, or just after it.
        for i in random.Random(1).sample(range(number), number):
            name = f"{PARENT}/operations/{i * step}"
            self.ends[name] = time.time()
            self.rows[self.place[name]] = self._row(name)
            await asyncio.sleep(plan["end_within"] / number)

    def respond(self, target: str) -> tuple[int, bytes]:
        """Status and body."""
        url = urlsplit(target)
        if url.path == "/count":
            return 200, json.dumps({"requests": self.count, "cancels": self.cancels}).encode()
        if url.path == "/begin":
            self.begun.set()
            return 200, b"{}"
        if url.path == "/trouble":
            query = parse_qs(url.query)
            self.trouble, self.trouble_until = query["kind"][0], time.monotonic() + float(query["seconds"][0])
            return 200, b"{}"
        self.count += 1
        if url.path.endswith(":cancel"):
            self.cancels += 1
            return 200, b"{}"
        if self.is_in == "storm":
            return 429, b'{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota"}}'
        name = url.path.removeprefix("/v1/")
        if name in self.place:
            row = self.rows[self.place[name]]
            if name in self.ends and "fields=" not in url.query:
                row = row[:-1] + b', "response": {}}'
            return 200, row
        if name != f"{PARENT}/operations" or self.options.get("no_list"):
            return 404, b'{"error": {"code": 404, "status": "UNIMPLEMENTED", "message": "no"}}'
        query = parse_qs(url.query)
        first = int(query.get("pageToken", ["0"])[0])
        size = min(int(query.get("pageSize", ["100"])[0]), self.options.get("page_size", 1000))
        if "filter" in query:
            if self.options.get("no_filter"):
                return 400, b'{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no filter"}}'
            rows = [r for n, r in zip(self.names[self.old :], self.rows[self.old :], strict=True) if n not in self.ends]
        else:
            rows = self.rows
        token = b', "nextPageToken": "%d"' % (first + size) if first + size < len(rows) else b""
        return 200, b'{"operations": [' + b", ".join(rows[first : first + size]) + b"]" + token + b"}"


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive; a body is not read."""

    def __init__(self, operations: Operations) -> None:
        self._operations, self._received = operations, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to respond."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Response after the latency."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            own = target in ("/count", "/begin") or target.startswith("/trouble")
            if not own and self._operations.is_in == "outage":
                self._operations.count += 1
                self._transport.abort()
                return
            latency = 0.0 if own else self._operations.options.get("latency", 0.05)
            asyncio.get_running_loop().call_later(latency, self._respond, target)

    def _respond(self, target: str) -> None:
        if self._transport.is_closing():
            return
        status, body = self._operations.respond(target)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)  # type: ignore[attr-defined]


async def main() -> None:
    """Serve until killed."""
    options = json.loads(sys.argv[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*options["certificate"])
    operations = Operations(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(operations), "127.0.0.1", 0, ssl=context, backlog=8192)
    print(server.sockets[0].getsockname()[1], flush=True)
    await operations.end_some()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
