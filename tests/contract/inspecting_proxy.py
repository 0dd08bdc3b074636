"""A proxy that inspects TLS, as companies have them: it shows certificates of its own authority for every host."""

from __future__ import annotations

import hashlib
import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.contract.tls_server import Authority
from tests.local_server import Handler, LocalServer

__all__ = ["InspectingProxy", "hashed_folder"]


class InspectingProxy(LocalServer):
    """Responds in place of Google's servers: with a token, or with an operation that has finished.

    :param authority: signs what it shows.
    :param hosts: whose certificates it shows.
    """

    def __init__(self, authority: Authority, *hosts: str) -> None:
        self.connects: list[str] = []
        """The hosts that a connection was requested to."""
        self.requests: list[tuple[str, str]] = []
        """Host and path of each request inside of TLS."""
        outer = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("proxy", *hosts))

        class Inspecting(Handler, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_CONNECT(self) -> None:
                outer.connects.append(self.path.partition(":")[0])
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                try:
                    self.connection = context.wrap_socket(self.connection, server_side=True)
                except OSError:  # the client does not trust us
                    self.close_connection = True
                    return
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb", 0)
                self.close_connection = False

            def do_GET(self) -> None:
                self._respond({"name": self.path.partition("/v1/")[2], "done": True, "response": {}})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self._respond({"access_token": "ya29.of-the-proxy", "expires_in": 3600})

            def _respond(self, content: dict[str, Any]) -> None:
                outer.requests.append((str(self.headers["host"]), self.path))
                self.respond(content)

        super().__init__(Inspecting)


def hashed_folder(certificate: Path, common_name: str, folder: Path) -> Path:
    """A folder as ``openssl rehash`` makes it: the file's name is a hash of the certificate's subject.

    That is its canonical form (lower case, UTF-8) without the outer header, of which SHA-1's first four bytes count.
    """
    text = common_name.lower().encode()
    attribute = b"\x06\x03\x55\x04\x03\x0c" + bytes([len(text)]) + text
    sequence = b"\x30" + bytes([len(attribute)]) + attribute
    digest = hashlib.sha1(b"\x31" + bytes([len(sequence)]) + sequence).digest()
    folder.mkdir()
    (folder / f"{int.from_bytes(digest[:4], 'little'):08x}.0").write_bytes(certificate.read_bytes())
    return folder
