"""Which certificates are trusted: one rule for both clients, and for APIs as for token servers.

===================================  ==================================================================================
set to a file or folder              trusted
===================================  ==================================================================================
``REQUESTS_CA_BUNDLE``               what is there, and nothing else
``CURL_CA_BUNDLE``                   the same, if the first one is not set: in the order of requests
``SSL_CERT_FILE``, ``SSL_CERT_DIR``  what is there in place of the system's file or folder, as OpenSSL has it: of the
                                     two, one may name what is not there
none of them                         certifi's certificates, as in requests, and the system's, as in aiohttp
===================================  ==================================================================================

White space around a path does not count.

A certificate that is not accepted is an :class:`UnreachableError`: a retry would get it again
(:mod:`~airflow_lro_provider.lro.http.failures`). Those that have expired or are another host's are no matter of trust.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Mapping

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from airflow_lro_provider.lro.errors import ConnectionSettingsError

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")

Key = tuple[tuple[str, str, int], ...]
_shared: tuple[Key, ssl.SSLContext] | None = None


def trust_key() -> Key:
    """What the contexts of the same trust have in common: variable, path, and when that was changed."""
    return tuple((name, path, changed) for name, path, changed in _readable(_sources()))


def shared_context() -> ssl.SSLContext:
    """A context without a client certificate: the same object until the environment or the files change.

    This may read files: not on an event loop, unless it was called before.

    :raises ConnectionSettingsError: if a variable names what cannot be used.
    """
    global _shared
    key, known = trust_key(), _shared
    if known is None or known[0] != key:  # no lock: a thread that is interrupted here holds nobody up
        known = _shared = key, new_context()
    return known[1]


def new_context(bundle: str | None = None) -> ssl.SSLContext:
    """A context of its own, for a client certificate.

    :param bundle: a file or folder of certificates that are trusted in place of all others.
    :raises ConnectionSettingsError: if a variable names what cannot be used.
    """
    sources = {"verify": bundle} if bundle else _sources()
    for name, path, _ in _readable(sources):
        if name not in _OPENSSL:
            is_folder = os.path.isdir(path)
            try:
                return ssl.create_default_context(
                    cafile=None if is_folder else path, capath=path if is_folder else None
                )
            except (OSError, ssl.SSLError):
                raise _unusable(name, path) from None
    context = ssl.create_default_context()  # reads OpenSSL's variables, with the white space in them
    if not sources:
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    elif any(os.environ.get(name) != path for name, path in sources.items()):
        with contextlib.suppress(OSError):
            context.load_verify_locations(sources.get("SSL_CERT_FILE"), sources.get("SSL_CERT_DIR"))
    return context


def problem_of(error: BaseException, *, of_proxy: bool = False) -> str | None:
    """What a certificate is not, by OpenSSL's error, wherever urllib3 or aiohttp have put that, and what to do.

    :param of_proxy: whether the proxy has shown it for itself.
    :return: ``None`` for another error.
    """
    left: list[object] = [error]
    for _ in range(20):
        if not left:
            break
        one = left.pop(0)
        words = getattr(one, "verify_message", None)  # of ssl.SSLCertVerificationError; aiohttp's own has none
        if isinstance(words, str):
            return _PROBLEMS.get(getattr(one, "verify_code", 0), _UNTRUSTED).format(
                problem=words.rstrip("."),
                trusted=" and ".join(f"{name}={path}" for name, path in _sources().items()) or "certifi and the system",
                name="Name" if of_proxy else "If a proxy inspects TLS here, name",
            )
        if isinstance(one, BaseException):
            left += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return None


_UNTRUSTED = (
    "trusted: {problem}. Trusted are those of {trusted}. {name} a file with its authority in REQUESTS_CA_BUNDLE."
)
_NOT_NOW = (
    "valid now: {problem}. Check the clock of this machine; else whoever runs that server, or the proxy that inspects"
    " TLS here, has to renew it."
)
_NOT_THIS_HOST = (
    "this host's: {problem}. Check `api_endpoint` of the connection, the proxy, and DNS: another server has responded."
)
# X509_V_ERR_… of OpenSSL (x509_vfy.h): not yet valid, expired; another host, another address.
_PROBLEMS = {9: _NOT_NOW, 10: _NOT_NOW, 62: _NOT_THIS_HOST, 64: _NOT_THIS_HOST}


def _sources() -> Mapping[str, str]:
    named = {name: os.environ.get(name, "").strip() for name in (*_BUNDLES, *_OPENSSL)}
    for name in _BUNDLES:
        if named[name]:
            return {name: named[name]}
    return {name: named[name] for name in _OPENSSL if named[name]}


def _readable(sources: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """The sources that are there, and when each was changed: a file, or the newest of the folders of ``SSL_CERT_DIR``.

    :raises ConnectionSettingsError: if there are sources, and none of them is there.
    """
    found = []
    for name, path in sources.items():
        changed = []
        for part in path.split(os.pathsep) if name == "SSL_CERT_DIR" else [path]:
            with contextlib.suppress(OSError, ValueError):
                changed.append(os.stat(part).st_mtime_ns)
        if changed:
            found.append((name, path, max(changed)))
    if sources and not found:
        raise _unusable(*next(iter(sources.items())))
    return found


def _unusable(name: str, path: str) -> ConnectionSettingsError:
    return ConnectionSettingsError(f"{name} names {path!r}, which holds no certificates that can be read.")
