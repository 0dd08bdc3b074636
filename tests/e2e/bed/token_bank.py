"""A token endpoint on this machine, so that tests have real tokens to search for."""

from __future__ import annotations

import secrets
from http.server import BaseHTTPRequestHandler

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.local_server import Handler, LocalServer

__all__ = ["TokenBank"]


class TokenBank(LocalServer):
    """A token endpoint on this machine, and a service account's key for it."""

    def __init__(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.tokens: list[str] = []
        bank = self

        class Issuing(Handler, BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                bank.tokens.append(f"ya29.{secrets.token_hex(24)}")
                self.respond({"access_token": bank.tokens[-1], "expires_in": 3600, "token_type": "Bearer"})

        super().__init__(Issuing)
        self.key = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": "robot@p.iam.gserviceaccount.com",
            "token_uri": f"{self.url}/token",
        }

    @property
    def secrets(self) -> list[bytes]:
        """What must not be found anywhere: all tokens, and each line of the key."""
        lines = [line for line in self.key["private_key"].splitlines() if len(line) > 40]
        return [text.encode() for text in (*self.tokens, *lines)]
