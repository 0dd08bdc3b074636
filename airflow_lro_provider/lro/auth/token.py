"""An identity: credentials, and one token that all threads and event loops of a process share."""

from __future__ import annotations

import asyncio
import copy
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.auth import _helpers
from google.auth.exceptions import GoogleAuthError
from google.auth.exceptions import TransportError as NotReachedError

from airflow_lro_provider.lro.auth.token_transport import Refusal, TokenTransport
from airflow_lro_provider.lro.errors import CredentialsError, OperationsError, TransportError, without_context
from airflow_lro_provider.lro.redaction import in_brief
from airflow_lro_provider.lro.threads import in_thread

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

REFRESH_MARGIN = timedelta(minutes=5)
"""A token is renewed this long before it expires, so that a kill never has to wait for one."""
MINIMUM_LIFETIME = timedelta(seconds=10)
"""Minimum remaining lifetime of a token that is sent at all; enough for an urgent request."""
RENEWAL_PAUSE_SECONDS = 30.0
"""How long a failed renewal is not retried while the current token is still valid."""
# What may stand in a header after "Bearer" (RFC 6750), and no longer than a server takes a header.
_TOKEN = re.compile(r"[!-~]{1,8000}")

_KINDS = {
    "google.oauth2.service_account": "key of a service account",
    "google.oauth2.credentials": "a user's login",
    "google.auth.impersonated_credentials": "impersonated service account",
    "google.auth.compute_engine.credentials": "service account of this machine (metadata server)",
    "google.auth.identity_pool": "workload identity federation",
    "google.auth.aws": "workload identity federation with AWS",
    "google.auth.pluggable": "workload identity federation with an executable",
    "google.auth.external_account_authorized_user": "workforce identity federation",
}
_HINTS = {
    "urn:ietf:params:oauth:grant-type:jwt-bearer": (
        "Check the key and the account: is the key whole, not deleted or expired, is the account enabled, this"
        " machine's clock right?"
    ),
    "urn:ietf:params:oauth:grant-type:token-exchange": (
        "Check the credential configuration: its audience, and the pool's provider with its attribute conditions."
    ),
    "client_credentials": "Check the identity provider: `idp_issuer_url`, `client_id`, `client_secret`.",
    "refresh_token": "Log in again (gcloud auth application-default login).",
}
_IMPERSONATION_HINT = (
    "Each account of the impersonation chain must grant roles/iam.serviceAccountTokenCreator to the one before it,"
    " and the API iamcredentials.googleapis.com must be enabled."
)
_METADATA_HINT = "Is a service account attached to this machine or pod?"


class Identity:
    """Credentials, and their token.

    :param credentials: of google-auth; ``None`` sends no token.
    :param project: the project that they name, if any.
    :param renewable: whether the token can be renewed; a fake one cannot.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        project: str | None = None,
        *,
        renewable: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self.project = project
        self._renewable = renewable
        self._clock = clock
        self._lock = threading.Lock()
        self._flight: Future[OperationsError | None] | None = None
        self._pause_until = float("-inf")
        self._rejected: Any = None
        self.refused = False
        """Whether the last refresh was refused: the key may have been replaced since and has to be read again."""
        self._refreshing: dict[asyncio.AbstractEventLoop, asyncio.Task[dict[str, str]]] = {}

    def __repr__(self) -> str:
        return f"<Identity {self.description}>"

    @property
    def description(self) -> str:
        """The account, without secrets: its email address, else the kind of credentials."""
        if self._credentials is None:
            return "anonymous"
        for attribute in ("service_account_email", "_target_principal", "signer_email", "account"):
            value = getattr(self._credentials, attribute, None)
            if isinstance(value, str) and "@" in value:
                return value
        return self.kind

    @property
    def kind(self) -> str:
        """The kind of credentials, for people."""
        if self._credentials is None:
            return "anonymous"
        if not self._renewable:
            return "fake token for an emulator"
        module = type(self._credentials).__module__
        return _KINDS.get(module, module.removeprefix("google.") + " credentials")

    def _lasts(self, margin: timedelta) -> bool:
        credentials = self._credentials
        if credentials is None:
            return True
        if not credentials.token or credentials.token == self._rejected:
            return False
        expiry: datetime | None = getattr(credentials, "expiry", None)
        if expiry is None:
            return True
        return bool(_helpers.utcnow() + margin < expiry)

    def _good_enough(self, margin: timedelta) -> bool:
        """Whether to use the current token: after a failed renewal, any that is still valid."""
        return self._lasts(margin) or (self._clock() < self._pause_until and self._lasts(MINIMUM_LIFETIME))

    def headers(self, *, urgent: bool = False) -> dict[str, str]:
        """Headers that authorize a request, with a fresh token.

        A renewal that fails while the current token is still valid is no error yet.

        :param urgent: use any valid token, and do not wait for a renewal by another thread.
        :raises CredentialsError: if no token can be obtained.
        :raises TransportError: if the token server cannot be reached now.
        """
        margin = MINIMUM_LIFETIME if urgent else REFRESH_MARGIN
        if not self._good_enough(margin):
            try:
                self._renew(margin, join=not urgent)
            except OperationsError:
                if not self._lasts(MINIMUM_LIFETIME):
                    raise
                self._pause_until = self._clock() + RENEWAL_PAUSE_SECONDS
        return self._apply()

    def _renew(self, margin: timedelta, *, join: bool) -> None:
        """Get a new token, or wait for the one that another thread is getting.

        :param join: whether to wait for another thread. An urgent request does not: that thread may be the very one
            that was interrupted by the kill.
        """
        while True:
            with self._lock:
                if self._lasts(margin):
                    return
                flight = self._flight
                if flight is None:
                    mine = self._flight = Future()
            if flight is None:
                self._lead(mine)
                return
            if not join:
                self._refresh()
                return
            error = flight.result()
            if error is not None:
                raise copy.copy(error)
            if self._lasts(MINIMUM_LIFETIME):
                return

    def _lead(self, flight: Future[OperationsError | None]) -> None:
        error: OperationsError | None = None
        try:
            self._refresh()
        except OperationsError as refused:
            error = refused
            raise
        finally:
            # Anything else that ended this (a signal's exception) concerns this thread only: the others try again.
            with self._lock:
                self._flight = None
            flight.set_result(error)

    async def async_headers(self) -> dict[str, str]:
        """The same as :meth:`headers`, on an event loop, which a refresh never blocks."""
        if not self._good_enough(REFRESH_MARGIN):
            loop = asyncio.get_running_loop()
            task = self._refreshing.get(loop)
            if task is None:
                task = loop.create_task(in_thread("tokens", self.headers), name="refresh of a Google token")
                self._refreshing[loop] = task
                task.add_done_callback(lambda _: self._refreshing.pop(loop, None))
            # Shielded: one trigger that is cancelled must not take the token from the others.
            await asyncio.shield(task)
        return self._apply()

    def reject(self, headers: Mapping[str, str]) -> None:
        """Note that the server did not accept the token of these headers: the next request gets a new one."""
        if self._credentials is None or not self._renewable:
            return
        # The token stays in place, because another thread may be about to send it; and no lock, so that nothing waits.
        token = self._credentials.token
        if token and self._apply().get("authorization") == headers.get("authorization"):
            self._rejected = token

    def _apply(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._credentials is not None:
            self._credentials.apply(headers)
        return {key.lower(): value for key, value in headers.items()}

    @without_context()  # google-auth's errors may quote a token or a response
    def _refresh(self) -> None:
        assert self._credentials is not None
        transport = TokenTransport()
        try:
            self._credentials.refresh(transport)
            token = self._credentials.token
            text = token.decode("latin-1") if isinstance(token, bytes) else token
            if not isinstance(text, str) or not _TOKEN.fullmatch(text):
                self._credentials.token = None
                raise CredentialsError(f"no token for {self.description}: the server's response has none.")
        except Exception as error:
            problem = explain(error, self.description, transport.refusal)
            self.refused = isinstance(problem, CredentialsError)
            raise problem from None
        finally:
            transport.close()
        self.refused = False
        self._rejected = None  # a metadata server may return the same one again


def explain(error: Exception, who: str, refusal: Refusal | None = None) -> OperationsError:
    """Say why there is no token for an account, in one line without secrets, and what to do."""
    if isinstance(error, OperationsError):
        return copy.copy(error)
    if refusal is None and not isinstance(error, GoogleAuthError):
        return CredentialsError(f"no token for {who}: {type(error).__name__}.")
    said = str(refusal) if refusal else in_brief(str(error.args[0] if error.args else "")) or type(error).__name__
    transient = refusal.transient if refusal else isinstance(error, NotReachedError)
    if transient or getattr(error, "retryable", False):
        return TransportError(f"no token for {who} now: {said}.")
    return CredentialsError(f"no token for {who}: {said}. {_hint(refusal)}")


def _hint(refusal: Refusal | None) -> str:
    if refusal is not None and refusal.url.endswith(":generateAccessToken"):
        return _IMPERSONATION_HINT
    if refusal is not None and "/computeMetadata/" in refusal.url:
        return _METADATA_HINT
    return _HINTS.get((refusal and refusal.grant) or "", "Check the credentials of the connection.")
