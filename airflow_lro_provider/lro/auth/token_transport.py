"""The transport of requests for tokens: never logged, never in the clear, never redirected.

google-auth sends them with a transport that its caller provides. This one reads responses within the same
limits as those of an API (:mod:`~airflow_lro_provider.lro.http.session`), refuses plain http for secrets, and
remembers a refusal, so that an error can say who refused what, without what was sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from requests.structures import CaseInsensitiveDict

from airflow_lro_provider.lro.auth.mtls import certificate_for
from airflow_lro_provider.lro.errors import (
    ForbiddenEndpointError,
    MalformedResponseError,
    OperationsError,
    UnreachableError,
)
from airflow_lro_provider.lro.errors import TransportError as NoResponseError
from airflow_lro_provider.lro.http.json import read_json
from airflow_lro_provider.lro.http.messages import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS
from airflow_lro_provider.lro.http.session import BoundedSession
from airflow_lro_provider.lro.http.trust import new_context
from airflow_lro_provider.lro.redaction import in_brief

RETRYABLE = (408, 429, 500, 502, 503, 504)
_METADATA_VARIABLES = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
_NOT_SECRET = {"grant_type", "audience", "scope", "requested_token_type", "subject_token_type", "client_id", "resource"}


@dataclass(frozen=True)
class Refusal:
    """How a server refused a request for a token, or for something that is needed to get one.

    :param grant: the OAuth ``grant_type``, if the request had one.
    :param status: the HTTP code; ``None`` if there was no response, or none that could be read.
    :param words: the server's own words, without what was sent to it; ours, if there was no response.
    :param final: whether a retry would fail as well, if the HTTP code does not say so.
    """

    url: str
    grant: str | None
    status: int | None
    words: str
    final: bool = False

    @property
    def transient(self) -> bool:
        """Whether a retry may succeed."""
        return not self.final and (self.status is None or self.status in RETRYABLE)

    def __str__(self) -> str:
        host = urlsplit(self.url).hostname
        if self.status is None:
            return f"{host} {self.words}"
        if not self.words:
            return f"{host} responded with HTTP {self.status}"
        return f"{self.words} ({host}, HTTP {self.status})"


class TokenTransport(Request):
    """google-auth's transport without its logging (of headers), ``~/.netrc``, redirects and endless responses.

    :attr:`refusal` says how the last request was refused, if it was.
    """

    def __init__(self) -> None:
        self._bounded = BoundedSession()
        # google-auth requires its own class, and its session, to set up mTLS for the metadata server.
        super().__init__(self._bounded.session)
        self.refusal: Refusal | None = None

    def close(self) -> None:
        """Close the connections."""
        self._bounded.close()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a request, in the form that google-auth expects.

        :param timeout: seconds for the whole response; google-auth's own default of two minutes is cut.
        :param kwargs: ``cert`` (the files of a client certificate and its key) or ``verify`` (a file or folder of
            certificates to trust), in the form that requests expects.
        :raises ForbiddenEndpointError: if it would carry a secret over plain http to another machine.
        :raises UnreachableError: if the certificate of the server is not trusted, or the proxy cannot be used.
        :raises TransportError: google-auth's, if there is no response now.
        :raises RefreshError: google-auth's, if the response exceeds the limits.
        """
        _check_url(url, method, headers or {})
        form = _form(body)
        grant = form.get("grant_type")
        sent = tuple(_sent_secrets(form, headers or {}))
        seconds = min(timeout or READ_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS)
        problem, final = self._mount_certificate(url, **kwargs), False
        if problem is None:
            try:
                response = self._bounded.fetch(
                    method,
                    url,
                    headers=headers or {},
                    body=body,
                    connect=min(seconds, CONNECT_TIMEOUT_SECONDS),
                    read=seconds,
                )
            except UnreachableError:
                raise
            except NoResponseError as error:
                problem = f"cannot be reached: {str(error).rstrip('.')}"
            except MalformedResponseError as error:
                problem = f"sent a response that cannot be read: {in_brief(str(error), sent)}"
                final = not error.transient
        self.refusal = None if problem is None else Refusal(url, grant, None, problem, final)
        if self.refusal is not None:  # raised here, because the errors above hold the request
            raise (RefreshError if final else TransportError)(str(self.refusal))
        if not 200 <= response.status < 300:
            is_redirect = 300 <= response.status < 400
            words = "a redirect, which is not followed" if is_redirect else in_brief(_words(response.body), sent)
            self.refusal = Refusal(url, grant, response.status, words)
        found = CaseInsensitiveDict(response.headers)
        return SimpleNamespace(status=response.status, headers=found, data=response.body)  # google-auth's names

    def _mount_certificate(self, url: str, cert: Any = None, verify: Any = None) -> str | None:
        """Use the client certificate that is given, or that of this machine for a server that takes it.

        :return: what is wrong with it, if anything, without its content.
        """
        parts = urlsplit(url)
        try:
            context = certificate_for(parts.hostname or "")
            if cert or isinstance(verify, str):
                context = new_context(verify if isinstance(verify, str) else None)
                if cert:
                    context.load_cert_chain(*cert)
        except OperationsError:  # of the certificates that are trusted
            raise
        except (GoogleAuthError, OSError, ValueError) as error:
            return f"needs the client certificate, which cannot be used ({type(error).__name__})"
        if context is not None:
            self._bounded.show_certificate(f"{parts.scheme}://{parts.netloc.lower()}", context)
        return None


def _words(body: bytes) -> str:
    """The error in a response: OAuth's (RFC 6749 section 5.2) or google.rpc.Status; never its raw text."""
    try:
        content = read_json(body)
    except ValueError:
        return ""
    if not isinstance(content, dict):
        return ""
    error = content.get("error")
    if isinstance(error, dict):
        code, words = error.get("status"), error.get("message")
    else:
        code, words = error, content.get("error_description")
    return ": ".join(part for part in (code, words) if isinstance(part, str) and part)


def _form(body: bytes | str | None) -> dict[str, str]:
    if not body:
        return {}
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    return {} if text.lstrip().startswith("{") else dict(parse_qsl(text))


def _sent_secrets(form: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[str]:
    """The secrets that were sent, plain and as encoded in the form."""
    for name, value in headers.items():
        if name.lower() == "authorization":
            yield from value.split()[1:]
    for name, value in form.items():
        if name not in _NOT_SECRET:
            yield value
            yield quote_plus(value)


def _check_url(url: str, method: str, headers: Mapping[str, str]) -> None:
    """Refuse plain http for whatever carries a secret (RFC 6749 section 3.2 demands TLS)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme == "https" or _is_loopback_or_metadata_server(host, parts.netloc.lower()):
        return
    if method == "GET" and "authorization" not in {name.lower() for name in headers}:
        return
    raise ForbiddenEndpointError(
        f"a secret would be sent over plain http to {parts.scheme}://{parts.netloc.rpartition('@')[2]}; use https."
    )


def _is_loopback_or_metadata_server(host: str, address: str) -> bool:
    """Whether it is loopback, or the metadata server of a virtual machine, which supports http only."""
    named = {os.environ.get(variable, "").lower() for variable in _METADATA_VARIABLES} - {""}
    if host in ("localhost", "metadata.google.internal") or named & {host, address}:
        return True
    try:
        ip = ip_address(host)
    except ValueError:
        return False
    return ip.is_loopback or ip.is_link_local
