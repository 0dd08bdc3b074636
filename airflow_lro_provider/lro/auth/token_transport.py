"""How requests for tokens travel: never in a log, never in the clear, never to where a redirect leads.

google-auth sends them with a transport that its caller provides. This one fetches answers within the same
limits as ours of an API (:mod:`~airflow_lro_provider.lro.http.session`), adds what a password needs, and remembers
a refusal, so that an error can say who refused what, without what was sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

import requests
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from requests.structures import CaseInsensitiveDict

from airflow_lro_provider.lro.auth.mtls import certificate_for
from airflow_lro_provider.lro.errors import ForbiddenEndpointError, MalformedResponseError
from airflow_lro_provider.lro.http.json import read_json
from airflow_lro_provider.lro.http.redaction import in_brief
from airflow_lro_provider.lro.http.session import BoundedSession

__all__ = ["Refusal", "TokenTransport"]

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
RETRYABLE = (408, 429, 500, 502, 503, 504)
_METADATA_VARIABLES = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
_NOT_SECRET = {"grant_type", "audience", "scope", "requested_token_type", "subject_token_type", "client_id", "resource"}


@dataclass(frozen=True)
class Refusal:
    """What a server that was asked for a token, or for something on the way to one, answered instead.

    :param url: which was asked.
    :param grant: the OAuth ``grant_type``, if the request had one.
    :param status: the HTTP code; ``None`` if there was no answer, or none that can be read.
    :param words: the server's own words, without what was sent to it; ours, if there was no answer.
    :param final: whether it would be so again, if the HTTP code does not say it.
    """

    url: str
    grant: str | None
    status: int | None
    words: str
    final: bool = False

    @property
    def transient(self) -> bool:
        """Whether another moment may be better."""
        return not self.final and (self.status is None or self.status in RETRYABLE)

    def __str__(self) -> str:
        host = urlsplit(self.url).hostname
        if self.status is None:
            return f"{host} {self.words}"
        return f"{self.words} ({host}, HTTP {self.status})" if self.words else f"{host} answered HTTP {self.status}"


@dataclass(frozen=True)
class _Response:
    """An answer under the names of :class:`google.auth.transport.Response`."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class TokenTransport(Request):
    """google-auth's transport without its logging (which has headers), ``~/.netrc``, redirects and endless answers.

    :attr:`refusal` is what the last request was refused with, if it was.
    """

    def __init__(self) -> None:
        self._bounded = BoundedSession()
        # google-auth wants one of its own class, and its session, to give it what mTLS needs for the metadata server.
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
        """Send a request, as google-auth wants it.

        :param timeout: seconds for the whole answer; google-auth's own default of two minutes is cut.
        :param kwargs: ``cert`` or ``verify``, as requests wants them.
        :raises ForbiddenEndpointError: if it would carry a secret over plain http to another machine.
        :raises TransportError: google-auth's, if there is no answer now.
        :raises RefreshError: google-auth's, if the answer is more than is taken of one.
        """
        _check_url(url, method, headers or {})
        form = _form(body)
        grant = form.get("grant_type")
        sent = tuple(_sent_secrets(form, headers or {}))
        seconds = min(timeout or READ_TIMEOUT, READ_TIMEOUT)
        trouble, final = None if kwargs.get("cert") else self._show_certificate(url), False
        if trouble is None:
            try:
                answer = self._bounded.fetch(
                    method,
                    url,
                    headers=headers or {},
                    body=body,
                    connect=min(seconds, CONNECT_TIMEOUT),
                    read=seconds,
                    **kwargs,
                )
            except requests.RequestException as error:
                trouble = f"cannot be reached ({type(error).__name__})"
            except MalformedResponseError as error:
                trouble, final = (
                    f"gave an answer that cannot be read: {in_brief(str(error), sent)}",
                    not error.transient,
                )
        self.refusal = None if trouble is None else Refusal(url, grant, None, trouble, final)
        if self.refusal is not None:  # raised here, because the errors above have the request at hand
            raise (RefreshError if final else TransportError)(str(self.refusal))
        if not 200 <= answer.status < 300:
            is_redirect = 300 <= answer.status < 400
            words = "a redirect, which is not followed" if is_redirect else in_brief(_words(answer.body), sent)
            self.refusal = Refusal(url, grant, answer.status, words)
        return _Response(answer.status, CaseInsensitiveDict(answer.headers), answer.body)

    def _show_certificate(self, url: str) -> str | None:
        """Prepare for a server that takes the client certificate of this machine.

        :return: what is wrong with it, if anything, without what it holds.
        """
        place = urlsplit(url)
        try:
            context = certificate_for(place.hostname or "")
        except (GoogleAuthError, OSError, ValueError) as error:
            return f"cannot be shown the client certificate ({type(error).__name__})"
        if context is not None:
            self._bounded.show_certificate(f"{place.scheme}://{place.netloc.lower()}", context)
        return None


def _words(body: bytes) -> str:
    """What an answer says is wrong: OAuth's error (RFC 6749 section 5.2) or google.rpc.Status; never its raw text."""
    try:
        answer = read_json(body)
    except ValueError:
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


def _sent_secrets(form: Mapping[str, str], headers: Mapping[str, str]) -> Iterator[str]:
    """What was sent and is not to be said, as it is and as it was written in the form."""
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
