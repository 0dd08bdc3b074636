"""The client certificate of this machine, where Google's environment variables ask for one.

``GOOGLE_API_USE_CLIENT_CERTIFICATE`` decides whether a certificate is shown, and
``GOOGLE_API_USE_MTLS_ENDPOINT`` (``auto``, ``always``, ``never``) whether requests go to Google's mTLS
hosts; where the certificate lies is google-auth's to know. See https://google.aip.dev/auth/4114: an
endpoint that the user names is used as it is, and is shown the certificate as well.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter

from airflow_lro_provider.lro.errors import ConnectionSettingsError
from airflow_lro_provider.lro.hosts import DEFAULT_UNIVERSE

if TYPE_CHECKING:
    import ssl

    from airflow_lro_provider.lro.settings import ConnectionSettings

__all__ = ["CertificateAdapter", "Channel", "channel_for"]


@dataclass(frozen=True)
class Channel:
    """How a client speaks TLS.

    :param context: has the client certificate; ``None`` shows none.
    :param mtls_hosts: whether Google's mTLS hosts are used.
    """

    context: ssl.SSLContext | None = field(default=None, repr=False)
    mtls_hosts: bool = False


class CertificateAdapter(HTTPAdapter):
    """Lets ``requests`` show the client certificate.

    :param context: has the certificate.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give the context to direct connections."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Give the context to connections through a proxy."""
        return super().proxy_manager_for(proxy, **kwargs, ssl_context=self._context)


_current: tuple[str, ssl.SSLContext] | None = None
_lock = threading.Lock()


def channel_for(settings: ConnectionSettings) -> Channel:
    """What the environment says about certificates. It may read files or run a program: not on a loop.

    :raises ConnectionSettingsError: if the certificate or a variable cannot be used, or if there are no
        mTLS hosts where the connection wants to go.
    """
    if settings.emulator:
        return Channel()
    from google.auth.exceptions import ClientCertError, GoogleAuthError, MutualTLSChannelError
    from google.auth.transport import mtls

    try:
        context = _context()
        mtls_hosts = settings.api_endpoint is None and mtls.should_use_mtls_endpoint(context is not None)
    except (MutualTLSChannelError, ClientCertError, GoogleAuthError, OSError, ValueError) as error:
        # The text may quote the output of a program that hands out keys.
        problem = str(error) if "GOOGLE_API_USE_MTLS_ENDPOINT" in str(error) else type(error).__name__
    else:
        if mtls_hosts and settings.universe_domain != DEFAULT_UNIVERSE:
            raise ConnectionSettingsError(
                f"Google has mTLS hosts in the universe {DEFAULT_UNIVERSE} only, and the connection is of"
                f" {settings.universe_domain}: set GOOGLE_API_USE_MTLS_ENDPOINT=never."
            )
        return Channel(context, mtls_hosts)
    raise ConnectionSettingsError(
        f"the client certificate that GOOGLE_API_USE_CLIENT_CERTIFICATE asks for cannot be used: {problem}."
    )


def _context() -> ssl.SSLContext | None:
    """A context with the certificate: the same one while that is the same, so that clients share connections."""
    global _current
    from google.auth.transport import mtls

    if not mtls.should_use_client_cert() or not mtls.has_default_client_cert_source():
        return None
    certificate, key = mtls.default_client_cert_source()()
    fingerprint = hashlib.sha256(certificate + b"\0" + key).hexdigest()
    with _lock:
        if _current is None or _current[0] != fingerprint:
            context = mtls.get_default_ssl_context()
            if context is None:
                return None
            _current = (fingerprint, context)
        return _current[1]
