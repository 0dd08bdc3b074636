"""A server of operations that speaks TLS under Google's names, and notes who showed which certificate."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.local_server import Handler, LocalServer

__all__ = ["Authority", "TlsServer"]


class Authority:
    """Whoever signs certificates here.

    :param folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.valid_days = (-1, 1)
        """From when and until when what it signs next is valid, from now."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of these tests")])
        self.certificate, _ = self._write("authority", self._sign(self._name, self._key, None), self._key)

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """A certificate and its key.

        :param name: its common name.
        :param hosts: the hosts that it is good for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name, self._sign(subject, key, hosts), key)

    def _sign(self, subject: x509.Name, key: Any, hosts: tuple[str, ...] | None) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=self.valid_days[0]))
            .not_valid_after(now + timedelta(days=self.valid_days[1]))
            .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts is None:  # Python 3.13 takes no authority that does not say what its key is for
            builder = builder.add_extension(_signs_certificates(), critical=True)
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: Any) -> tuple[Path, Path]:
        paths = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class TlsServer(LocalServer):
    """Answers every GET with an operation. All names that it is to have lead to it.

    :param authority: signs its certificate, and those of its callers.
    :param hosts: its names.
    """

    def __init__(self, authority: Authority, *hosts: str) -> None:
        self.seen: list[tuple[str, str | None, str | None]] = []
        """Of each request: the host that was meant, the token, and the name in the client's certificate."""
        outer = self

        class Noting(Handler, BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                peer = self.connection.getpeercert()  # type: ignore[attr-defined]
                names = dict(part for parts in peer["subject"] for part in parts) if peer else {}
                outer.seen.append((self.headers["host"], self.headers["authorization"], names.get("commonName")))
                self.respond({"name": self.path.partition("/v1/")[2], "done": True, "response": {}})

        self._hosts = hosts
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("server", *hosts))
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        super().__init__(Noting)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def take_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the names lead here; every other one but this machine's leads nowhere."""
        real = socket.getaddrinfo

        def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if name in self._hosts:
                return real("127.0.0.1", self.port, *args, **kwargs)
            if name in ("127.0.0.1", "localhost"):
                return real(host, port, *args, **kwargs)
            raise socket.gaierror(f"no such host in this test: {name}")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
