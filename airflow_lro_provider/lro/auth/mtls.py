"""The client certificate of this machine, where Google's environment variables require one.

``GOOGLE_API_USE_CLIENT_CERTIFICATE`` decides whether a certificate is used, and ``GOOGLE_API_USE_MTLS_ENDPOINT``
(``auto``, ``always``, ``never``) whether requests go to Google's mTLS hosts; google-auth finds the certificate.
See https://google.aip.dev/auth/4114: the certificate is used for an endpoint that the user names as well, and that
endpoint stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.auth.exceptions import ClientCertError, GoogleAuthError, MutualTLSChannelError
from google.auth.transport import mtls

from airflow_lro_provider.lro.errors import ConnectionSettingsError, without_context
from airflow_lro_provider.lro.http.trust import Key, new_context, shared_context, trust_key
from airflow_lro_provider.lro.resources.catalog import DEFAULT_UNIVERSE

if TYPE_CHECKING:
    import ssl

    from airflow_lro_provider.lro.auth.settings import ConnectionSettings

# Where Google takes client certificates, as google-auth has it: mTLS hosts, and Private Service Connect.
_MTLS_HOSTS = (".mtls.googleapis.com", ".mtls.sandbox.googleapis.com", ".p.googleapis.com", ".mtls.run.app")


@dataclass(frozen=True)
class TlsSettings:
    """How a client speaks TLS.

    :param context: has the certificates that are trusted, and the client certificate if there is one; ``None`` is as
        :func:`~airflow_lro_provider.lro.http.trust.shared_context`.
    """

    context: ssl.SSLContext | None = field(default=None, repr=False)
    mtls_hosts: bool = False


def _wants_mtls_hosts(has_certificate: bool) -> bool:
    """What ``GOOGLE_API_USE_MTLS_ENDPOINT`` says."""  # only the newest google-auth has it
    given = os.environ.get("GOOGLE_API_USE_MTLS_ENDPOINT") or "auto"
    wanted = {"always": True, "never": False, "auto": has_certificate}.get(given.strip().lower())
    if wanted is None:
        raise ConnectionSettingsError(
            f"GOOGLE_API_USE_MTLS_ENDPOINT must be auto, always or never, and is {given!r:.50}."
        )
    return wanted


_current: tuple[tuple[str, Key], ssl.SSLContext] | None = None
_lock = threading.Lock()


@without_context()  # google-auth's errors may quote the output of a program that provides keys
def tls_settings_for(settings: ConnectionSettings) -> TlsSettings:
    """Read the environment's settings of certificates. This may read files or run a program: not on an event loop.

    :raises ConnectionSettingsError: if the certificate or a variable cannot be used, or if the connection's universe
        has no mTLS hosts.
    """
    if settings.emulator:
        return TlsSettings()
    try:
        context = _context()
    except ConnectionSettingsError:
        raise
    except (MutualTLSChannelError, ClientCertError, GoogleAuthError, OSError, ValueError) as error:
        raise ConnectionSettingsError(
            "the client certificate that GOOGLE_API_USE_CLIENT_CERTIFICATE requires cannot be used:"
            f" {type(error).__name__}."
        ) from None
    mtls_hosts = settings.api_endpoint is None and _wants_mtls_hosts(context is not None)
    if mtls_hosts and settings.universe_domain != DEFAULT_UNIVERSE:
        raise ConnectionSettingsError(
            f"Google has mTLS hosts in the universe {DEFAULT_UNIVERSE} only, and the connection is of"
            f" {settings.universe_domain}: set GOOGLE_API_USE_MTLS_ENDPOINT=never."
        )
    return TlsSettings(context or shared_context(), mtls_hosts)


def certificate_for(host: str) -> ssl.SSLContext | None:
    """A context with the certificate for a token server that takes one; ``None`` for any other, or without one.

    :raises GoogleAuthError: or ``OSError`` or ``ValueError``, if the certificate cannot be used. Their text may
        quote it.
    """
    return _context() if f".{host.rstrip('.').lower()}".endswith(_MTLS_HOSTS) else None


def _context() -> ssl.SSLContext | None:
    """A context with the certificate: the same object until the certificate changes, so that clients share it."""
    global _current
    if not mtls.should_use_client_cert() or not mtls.has_default_client_cert_source():
        return None
    certificate, key = mtls.default_client_cert_source()()
    fingerprint = hashlib.sha256(certificate + b"\0" + key).hexdigest(), trust_key()
    with _lock:
        if _current is None or _current[0] != fingerprint:
            context = new_context()
            with tempfile.NamedTemporaryFile() as file:  # for this user only; ssl reads no bytes
                file.write(certificate + b"\n" + key)
                file.flush()
                context.load_cert_chain(file.name)
            _current = (fingerprint, context)
        return _current[1]
