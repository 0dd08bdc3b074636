"""How requests for tokens travel: never in a log, never in the clear, never to where a redirect leads.

google-auth sends them with a transport that its caller provides. This one adds to google-auth's own what
a password needs, and remembers a refusal, so that an error can say who refused what, without what was sent.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from google.auth.exceptions import ClientCertError, MutualTLSChannelError, TransportError
from google.auth.transport.requests import Request, _Response

from airflow_lro_provider.lro.errors import ForbiddenEndpointError

__all__ = ["Refusal", "TokenTransport", "redact"]

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
RETRYABLE = (408, 429, 500, 502, 503, 504)
MAX_QUOTE = 300
_METADATA_VARIABLES = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
_NOT_SECRET = {"grant_type", "audience", "scope", "requested_token_type", "subject_token_type", "client_id", "resource"}
# JSON web tokens, Google's access tokens, PEM, and whatever is long enough to be a key.
_SECRET_LIKE = re.compile(
    r"eyJ[\w-]+(?:\.[\w-]*)*|ya29\.\S+|-----BEGIN.*?(?:-----END[^-]*-----|$)|[A-Za-z0-9+/_-]{40,}={0,2}", re.DOTALL
)


@dataclass(frozen=True)
class Refusal:
    """What a server that was asked for a token, or for something on the way to one, answered instead.

    :param url: which was asked.
    :param grant: the OAuth ``grant_type``, if the request had one.
    :param status: the HTTP code; ``None`` if there was no answer.
    :param words: the server's own words, without what was sent to it.
    """

    url: str
    grant: str | None
    status: int | None
    words: str

    @property
    def transient(self) -> bool:
        """Whether another moment may be better."""
        return self.status is None or self.status in RETRYABLE

    def __str__(self) -> str:
        host = urlsplit(self.url).hostname
        if self.status is None:
            return f"{host} cannot be reached ({self.words})"
        return f"{self.words} ({host}, HTTP {self.status})" if self.words else f"{host} answered HTTP {self.status}"


class TokenTransport(Request):
    """google-auth's transport without its logging (which has headers), ``~/.netrc``, and redirects.

    :attr:`refusal` is what the last request was refused with, if it was.
    """

    def __init__(self) -> None:
        session = requests.Session()
        # Otherwise requests would put what it finds in ~/.netrc in the place of a token.
        session.auth = lambda request: request
        super().__init__(session)
        self.refusal: Refusal | None = None

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a request, as google-auth wants it.

        :param timeout: seconds for an answer; google-auth's own default of two minutes is cut.
        :raises ForbiddenEndpointError: if it would carry a secret over plain http to another machine.
        """
        _check_url(url, method, headers or {})
        form = _form(body)
        grant = form.get("grant_type")
        if not kwargs.get("cert"):
            try:
                self._configure_mtls_if_needed(url)
            except (MutualTLSChannelError, ClientCertError, OSError) as error:
                self.refusal = Refusal(url, grant, None, f"the client certificate: {type(error).__name__}")
                raise TransportError(str(self.refusal)) from None
        try:
            response = self.session.request(
                method,
                url,
                data=body,
                headers=dict(headers or {}),
                timeout=(CONNECT_TIMEOUT, min(timeout or READ_TIMEOUT, READ_TIMEOUT)),
                allow_redirects=False,
                **kwargs,
            )
        except requests.RequestException as error:
            self.refusal = Refusal(url, grant, None, type(error).__name__)
            raise TransportError(str(self.refusal)) from None
        self.refusal = None
        if not 200 <= response.status_code < 300:
            sent = _sent_secrets(form, headers or {})
            self.refusal = Refusal(url, grant, response.status_code, redact(_words(response.content), sent))
        return _Response(response)


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """One line of a text, without these secrets and without what looks like one.

    :param secrets: what must not be in it.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***") if len(secret) > 3 else text
    text = _SECRET_LIKE.sub("***", text).strip()
    return text.splitlines()[0][:MAX_QUOTE].rstrip(" .") if text else ""


def _words(body: bytes) -> str:
    """What an answer says is wrong: OAuth's error (RFC 6749 section 5.2) or google.rpc.Status; never its raw text."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        code, words = error.get("status"), error.get("message")
    else:
        code, words = error, answer.get("error_description") if isinstance(answer, dict) else None
    return ": ".join(part for part in (code, words) if isinstance(part, str) and part)


def _form(body: bytes | str | None) -> dict[str, str]:
    if not body:
        return {}
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    return {} if text.lstrip().startswith("{") else dict(parse_qsl(text))


def _sent_secrets(form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, ...]:
    authorization = [value for name, value in headers.items() if name.lower() == "authorization"]
    words = [word for value in authorization for word in value.split()[1:]]
    return (*words, *(value for name, value in form.items() if name not in _NOT_SECRET))


def _check_url(url: str, method: str, headers: Mapping[str, str]) -> None:
    """Refuse plain http for whatever carries a secret (RFC 6749 section 3.2 demands TLS)."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme == "https" or _is_this_machine_or_its_host(host, parts.netloc.lower()):
        return
    if method == "GET" and "authorization" not in {name.lower() for name in headers}:
        return
    raise ForbiddenEndpointError(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} would be sent a secret over plain http; use https."
    )


def _is_this_machine_or_its_host(host: str, address: str) -> bool:
    """Loopback, and the metadata server of a virtual machine, which speaks http only."""
    named = {os.environ.get(variable, "").lower() for variable in _METADATA_VARIABLES} - {""}
    if host in ("localhost", "metadata.google.internal") or named & {host, address}:
        return True
    try:
        ip = ip_address(host)
    except ValueError:
        return False
    return ip.is_loopback or ip.is_link_local
