"""A link between two processes of this machine that can be cut, as a network is."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType

from tests.e2e.bed.service import free_port

__all__ = ["Link"]


class Link:
    """Passes on what comes to its own port, until it is cut.

    A cut link is silent: nothing passes, new connections are made and hear nothing, as behind a firewall that drops
    every packet. When it is mended, what went over it is closed, as by a peer that has forgotten it.

    :param target: the port that it leads to.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"link to {target}", daemon=True)
        self._ready = threading.Event()
        self._whole: asyncio.Event
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Link:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> None:
        """From now on nothing passes."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self) -> None:
        """Close what there is; new connections pass again."""

        def mend() -> None:
            for writer in self._writers:
                writer.transport.abort()
            self._whole.set()

        self._loop.call_soon_threadsafe(mend)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._whole = asyncio.Event()
        self._whole.set()
        self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._whole.wait()
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(there_writer)
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))
        self._writers -= {writer, there_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            await self._whole.wait()
            writer.close()
