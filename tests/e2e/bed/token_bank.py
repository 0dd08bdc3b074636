"""A token endpoint on this machine, so that tests have real tokens to search for."""

from __future__ import annotations

import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

__all__ = ["TokenBank"]


class TokenBank:
    """A token endpoint on this machine, and a service account's key for it."""

    def __init__(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.tokens: list[str] = []
        bank = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                bank.tokens.append(f"ya29.{secrets.token_hex(24)}")
                body = json.dumps({"access_token": bank.tokens[-1], "expires_in": 3600, "token_type": "Bearer"})
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.key = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": "robot@p.iam.gserviceaccount.com",
            "token_uri": f"http://127.0.0.1:{self._server.server_port}/token",
        }

    def __enter__(self) -> TokenBank:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def secrets(self) -> list[bytes]:
        """What must not be found anywhere: all tokens, and each line of the key."""
        lines = [line for line in self.key["private_key"].splitlines() if len(line) > 40]
        return [text.encode() for text in (*self.tokens, *lines)]
