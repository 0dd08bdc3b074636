"""What a wait costs on the wire if the operation's result is large: ``python tests/benchmarks/response_bytes.py``.

Bytes in both directions, counted between a client and the emulator, with field masks ("after") and without ("before").
A wait takes two polls: one while the operation runs, one when it has ended. ``--size`` is that of the result, in bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from unittest import mock
from urllib.parse import urlsplit

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro import field_mask, protocol
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.flows import send
from airflow_lro_provider.lro.polling import new_schedule
from airflow_lro_provider.lro.protocol import PageQuery
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

PARENT = "projects/p/locations/us-central1"
RUNNING, ENDED = 100, 20


class Relay:
    """Passes bytes on between clients and a server, and counts them."""

    def __init__(self, url: str) -> None:
        self.bytes = 0
        self._server = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._run, args=[started], daemon=True).start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()
            await server.serve_forever()

        self._loop.run_until_complete(serve())

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        await asyncio.gather(self._pass_on(reader, to_server), self._pass_on(from_server, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(2**16):
                self.bytes += len(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()


@contextlib.contextmanager
def masks(sent: bool) -> Iterator[None]:
    """With field masks, or without."""
    field_mask._unmasked.clear()
    with contextlib.nullcontext() if sent else mock.patch.object(protocol, "masked", lambda request, mask: request):
        yield


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=300_000, help="of a result, in bytes")
    result = {"large": "x" * parser.parse_args().size}
    with Emulator() as emulator:
        relay = Relay(emulator.url)
        settings = ConnectionSettings.from_extra({"api_endpoint": f"{relay.url}/{{service}}", "emulator": True})
        parent = read_parent(PARENT, "datafusion")

        def wait(include_response: bool) -> None:
            reference = read_reference(emulator.create("datafusion", duration=None, response=result), "datafusion")
            with OperationsClient(settings, sleep=lambda seconds: None) as client:
                schedule = new_schedule(time.monotonic())

                def end(line: str) -> None:
                    emulator.finish("datafusion", reference.name)

                client.wait_until_done(reference, schedule, include_response=include_response, on_change=end)

        def list_() -> None:
            for number in range(RUNNING + ENDED):
                duration = None if number < RUNNING else 0
                emulator.create("datafusion", f"{PARENT}/operations/{number}", duration=duration, response=result)
            with OperationsClient(settings) as client, contextlib.suppress(protocol.errors.ResponseTooLargeError):
                client._run(send(protocol.rows(parent, client.endpoint(parent), PageQuery(page_size=1000))))

        rows: list[tuple[str, Callable[[], None]]] = [
            ("one wait, the response is not needed (`include_response=False`)", lambda: wait(False)),
            ("one wait, the response is needed", lambda: wait(True)),
            (f"one page of a list: {RUNNING} wait, {ENDED} others have ended", list_),
        ]
        print("| | bytes before | bytes after |\n|---|---|---|")
        for what, measure in rows:
            counted = []
            for sent in (False, True):
                emulator.reset()
                relay.bytes = 0
                with masks(sent):
                    measure()
                counted.append(f"{relay.bytes:,}")
            print(f"| {what} | {' | '.join(counted)} |")


if __name__ == "__main__":
    main()
