"""Every server on the way to a token, on this machine: one server for all of it.

It checks what it is sent as the real ones do, hands out tokens that can be searched for, and writes down
who received which request, in which order. Nothing here is a fake of google-auth: real requests go over real sockets.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

__all__ = ["EMAIL", "Asked", "IdentityServers"]

EMAIL = "robot@my-project.iam.gserviceaccount.com"
MACHINE = "machine@my-project.iam.gserviceaccount.com"
AUDIENCE = "//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/pool/providers/airflow"
CLIENT_ID = "airflow"
AWS_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"
AWS_KEY_ID = "AKIAEXAMPLE"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = _private.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
_PUBLIC = _private.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


@dataclass(frozen=True)
class Asked:
    """A request as it arrived.

    :param who: whose it is, in one word: key, login, sts, idp, iam, secret, or metadata.
    :param path: the path of the URL.
    :param form: what was sent: the form, the JSON, or the query.
    :param token: the bearer token.
    :param headers: all headers, in lower case.
    """

    who: str
    path: str
    form: dict[str, Any]
    token: str | None
    headers: dict[str, str] = field(repr=False)


class IdentityServers:
    """OAuth's token endpoint, STS, an identity provider, IAM, Secret Manager and a metadata server."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.tokens: list[str] = []
        self.client_secret = f"client-secret-{secrets.token_hex(4)}"
        self.refresh_token = f"1//refresh-{secrets.token_hex(8)}"
        self.subject = f"eyJhbGciOiJub25lIn0.{secrets.token_hex(16)}."
        self.lifetime = 3600
        self.universe = "googleapis.com"
        self.secret: Any = None
        self.answer: dict[str, Callable[[Asked], tuple[int, Any]]] = {}
        """What to respond with instead, by server."""
        self.gate: threading.Event | None = None
        """What every response waits for, if anything."""
        self.location: str | None = None
        """Where every response redirects the caller to."""
        self._numbers = itertools.count(1)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._serve(self)

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> IdentityServers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; later requests are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    # --- what a connection may hold ---

    @property
    def key(self) -> dict[str, str]:
        """A service account's key."""
        return {
            "type": "service_account",
            "project_id": "my-project",
            "private_key_id": "1",
            "private_key": PEM,
            "client_email": EMAIL,
            "token_uri": f"{self.url}/token",
        }

    @property
    def login(self) -> dict[str, str]:
        """What `gcloud auth application-default login` leaves."""
        return {
            "type": "authorized_user",
            "client_id": "gcloud",
            "client_secret": self.client_secret,
            "refresh_token": self.refresh_token,
            "token_uri": f"{self.url}/token",
            "quota_project_id": "of-the-login",
        }

    def federation(self, source: dict[str, Any] | None, *, impersonate: str | None = None) -> dict[str, Any]:
        """A credential configuration of workload identity federation.

        :param source: its ``credential_source``.
        :param impersonate: the account to be.
        """
        configuration: dict[str, Any] = {
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/sts/v1/token",
        }
        if source is not None:
            configuration["credential_source"] = source
        if impersonate:
            configuration["service_account_impersonation_url"] = (
                f"{self.url}/v1/projects/-/serviceAccounts/{impersonate}:generateAccessToken"
            )
        return configuration

    @property
    def secrets(self) -> list[str]:
        """Whatever must not be said by anybody: what was given out, and what a connection holds."""
        lines = [line for line in PEM.splitlines() if len(line) > 40]
        sent = [asked.form["assertion"] for asked in self.asked if "assertion" in asked.form]
        return [*self.tokens, *lines, *sent, self.client_secret, self.refresh_token, self.subject]

    # --- responses ---

    def journey(self) -> list[str]:
        """Which servers had a request, in order; the metadata server's path is in brackets."""
        return [
            f"metadata({asked.path.removeprefix('/computeMetadata/v1/')})" if asked.who == "metadata" else asked.who
            for asked in self.asked
        ]

    def count(self, who: str) -> int:
        """How many requests a server has had."""
        return sum(asked.who == who for asked in self.asked)

    def _token(self, who: str) -> str:
        self.tokens.append(f"ya29.{who}-{next(self._numbers)}-{secrets.token_hex(12)}")
        return self.tokens[-1]

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        asked = self._read(request)
        self.asked.append(asked)
        if self.gate is not None:
            self.gate.wait(10)
        answer = self.answer.get(asked.who) or getattr(self, f"_{asked.who}", lambda _: (404, {}))
        status, content = answer(asked)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(status)
        request.send_header("content-type", "text/plain" if isinstance(content, bytes) else "application/json")
        request.send_header("content-length", str(len(body)))
        request.send_header("metadata-flavor", "Google")
        if self.location is not None:
            request.send_header("location", self.location)
        request.end_headers()
        with suppress(ConnectionError):  # a caller may have given up: some of these tests want it to
            request.wfile.write(body)

    def _read(self, request: BaseHTTPRequestHandler) -> Asked:
        parts = urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("content-length", 0))).decode()
        form = json.loads(body) if body.startswith("{") else {k: v[0] for k, v in parse_qs(body or parts.query).items()}
        headers = {name.lower(): value for name, value in request.headers.items()}
        token = headers.get("authorization", "").removeprefix("Bearer ") or None
        return Asked(_who(parts.path, form), parts.path, form, token, headers)

    def _grant(self, who: str) -> tuple[int, Any]:
        return 200, {"access_token": self._token(who), "expires_in": self.lifetime, "token_type": "Bearer"}

    def _key(self, asked: Asked) -> tuple[int, Any]:
        claims = jwt.decode(asked.form["assertion"], certs=_PUBLIC)  # type: ignore[no-untyped-call]
        asked.form["claims"] = claims
        return self._grant("key") if claims["iss"] == EMAIL else (400, {"error": "invalid_grant"})

    def _login(self, asked: Asked) -> tuple[int, Any]:
        basic = base64.b64decode(asked.headers.get("authorization", "").removeprefix("Basic ")).decode()
        secret = asked.form.get("client_secret") or basic.partition(":")[2]
        right = (asked.form["refresh_token"], secret) == (self.refresh_token, self.client_secret)
        return self._grant("login") if right else (400, {"error": "invalid_grant"})

    def _idp(self, asked: Asked) -> tuple[int, Any]:
        if (asked.form.get("client_id"), asked.form.get("client_secret")) != (CLIENT_ID, self.client_secret):
            return 401, {"error": "invalid_client"}
        return 200, {"access_token": self.subject, "expires_in": 300, "token_type": "Bearer"}

    def _subject(self, asked: Asked) -> tuple[int, Any]:
        return 200, {"id_token": self.subject}

    def _sts(self, asked: Asked) -> tuple[int, Any]:
        if asked.form["subject_token_type"] == AWS_REQUEST:
            signed = json.loads(unquote(asked.form["subject_token"]))
            headers = {header["key"].lower(): header["value"] for header in signed["headers"]}
            right = f"Credential={AWS_KEY_ID}/" in headers["authorization"] and "Signature=" in headers["authorization"]
            return self._grant("sts") if right else (400, {"error": "invalid_grant"})
        right = asked.form.get("subject_token") == self.subject and asked.form["audience"] == AUDIENCE
        return self._grant("sts") if right else (400, {"error": "invalid_grant", "error_description": "Bad subject."})

    def _iam(self, asked: Asked) -> tuple[int, Any]:
        if asked.token not in self.tokens:
            return 401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "Who?"}}
        return 200, {"accessToken": self._token("iam"), "expireTime": "2099-01-01T00:00:00Z"}

    def _secret(self, asked: Asked) -> tuple[int, Any]:
        if asked.token not in self.tokens:
            return 401, {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "Who?"}}
        return 200, {
            "name": asked.path,
            "payload": {"data": base64.b64encode(json.dumps(self.secret).encode()).decode()},
        }

    def _metadata(self, asked: Asked) -> tuple[int, Any]:
        if asked.headers.get("metadata-flavor") != "Google":
            return 403, {}
        path = asked.path.removeprefix("/computeMetadata/v1/")
        if path == "instance/service-accounts/default/token":
            return self._grant("metadata")
        if path == "instance/service-accounts/default/":
            return 200, {"email": MACHINE, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
        known = {"/": b"", "project/project-id": b"my-project", "universe/universe-domain": self.universe.encode()}
        return (200, known[path]) if path in known else (404, {})


def _who(path: str, form: dict[str, Any]) -> str:
    if path == "/token":
        return "login" if form.get("grant_type") == "refresh_token" else "key"
    if path.endswith(":generateAccessToken"):
        return "iam"
    if path.endswith("/versions/latest:access"):
        return "secret"
    return {"/sts/v1/token": "sts", "/idp/token": "idp", "/subject": "subject"}.get(path, "metadata")
