"""The body of a response, and how much of it is read: the limits of everything that comes from outside.

A server may be broken or hostile, and a proxy may respond in its place. So no response costs more memory than
:data:`MAX_BYTES`, however small it was on the wire: a gzip bomb counts by what it unpacks to. The sessions limit the
time: the whole response has to arrive within the read timeout, not only each piece of it.

A response that is too large is an error of the service (:class:`ResponseTooLargeError`), and is not requested again: it
would not get smaller. The error has its first :data:`START_BYTES`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping

from airflow_lro_provider.lro.errors import MalformedResponseError, ResponseTooLargeError

MAX_BYTES = 8 * 2**20
"""The largest response, unpacked. Operations have kilobytes; gRPC accepts 4 MiB by default."""
START_BYTES = 2**18
"""How much of a response that is too large is kept: what an operation says before its result has kilobytes."""
MAX_WIRE_BYTES = MAX_BYTES + 2**20
"""The same, as read from the network: the body with its headers, chunk sizes and trailers."""
ACCEPT_ENCODING = "gzip"
_PIECE = 2**16
_WORD = re.compile(r"[a-z]{1,10}")  # anything else may repeat what was sent


class Body:
    """The body of one response, fed with pieces from the network, still packed.

    :param limit: bytes that are accepted, unpacked.
    :raises ResponseTooLargeError: also from :meth:`feed`, if a successful response is larger than that.
    :raises MalformedResponseError: if it is packed in a way that was not requested.
    """

    def __init__(self, status: int, headers: Mapping[str, str], limit: int = MAX_BYTES) -> None:
        self._is_good = 200 <= status < 300
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.wanted = not 300 <= status < 400
        """Whether more of it should be read. A redirect's is never read: it is not followed."""
        encoding = headers.get("content-encoding", "").strip().lower()
        self._packed: zlib._Decompress | None = None
        if encoding in ("gzip", "x-gzip"):
            self._packed = _gzip()
        elif encoding not in ("", "identity"):
            word = f"as {encoding!r}, which" if _WORD.fullmatch(encoding) else "in a way that"
            self._give_up(MalformedResponseError(f"it is packed {word} was not requested"))
        length = headers.get("content-length", "")
        self._most = limit
        """How much is read: of a response that says itself that it is too large, only the start."""
        if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
            self._most = min(limit, START_BYTES) - 1
            self.wanted = self.wanted and self._is_good

    def feed(self, piece: bytes) -> bool:
        """Add the next piece; returns whether more is wanted."""
        while piece and self.wanted:
            if self._packed is None:
                unpacked, piece = piece, b""
            else:
                unpacked, piece = self._unpack(self._packed, piece)
            self._size += len(unpacked)
            self._parts.append(unpacked)
            if self._size > self._most:
                self._give_up(self._too_large())
        return self.wanted

    def finish(self) -> bytes:
        """The whole body, once there is no more."""
        if self._most < self._limit and self.wanted:
            self._give_up(self._too_large())
        if self._packed is not None and self.wanted and self._size and not self._packed.eof:
            self._give_up(MalformedResponseError("it is cut off"))
        return b"".join(self._parts)

    def _unpack(self, packed: zlib._Decompress, piece: bytes) -> tuple[bytes, bytes]:
        """Unpack a little, and return the rest of the piece."""
        if packed.eof:  # a gzip file may have several members
            packed = self._packed = _gzip()
        try:
            unpacked = packed.decompress(piece, _PIECE)
        except zlib.error:
            self._give_up(MalformedResponseError("it cannot be unpacked"))
            return b"", b""
        return unpacked, packed.unconsumed_tail or packed.unused_data

    def _too_large(self) -> ResponseTooLargeError:
        start = bytearray()
        for part in self._parts:
            start += part[: START_BYTES - len(start)]
        return ResponseTooLargeError(f"it is larger than {self._limit} bytes", bytes(start))

    def _give_up(self, error: MalformedResponseError) -> None:
        """Raise the error; of a response that is an error itself, only the explanation is lost."""
        if self._is_good:
            raise error
        self.wanted = False
        self._parts.clear()


def _gzip() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)
