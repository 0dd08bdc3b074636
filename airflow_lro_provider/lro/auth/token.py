"""Who one is: credentials, and one token that all threads and event loops of a process share.

A key or a token is never in a message, a ``repr`` or a log line of this module.
"""

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

from airflow_lro_provider.lro.errors import CredentialsError, OperationsError, TransportError
from airflow_lro_provider.lro.http.redaction import in_brief

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from airflow_lro_provider.lro.auth.token_transport import Refusal

__all__ = ["Identity", "explain"]

REFRESH_MARGIN = timedelta(minutes=5)
"""A token is renewed this long before it expires, so that a kill never has to wait for one."""
LAST_MOMENT = timedelta(seconds=10)
"""So long a token must be good for a request that cannot wait for another one."""
PAUSE = 30.0
"""Seconds until a renewal that failed is tried again, while the token in hand is still good."""
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
_CURES = {
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
_CURE_OF_IMPERSONATION = (
    "Each account of the impersonation chain must grant roles/iam.serviceAccountTokenCreator to the one before it,"
    " and the API iamcredentials.googleapis.com must be enabled."
)
_CURE_OF_METADATA = "Is a service account attached to this machine or pod?"


class Identity:
    """Who one is: credentials, and a token that all threads and loops of this process share.

    :param credentials: of google-auth; ``None`` sends no token.
    :param renewable: whether another token can be had (a fake one stays as it is).
    :param clock: monotonic, in seconds.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        *,
        renewable: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._renewable = renewable
        self._clock = clock
        self._lock = threading.Lock()
        self._flight: Future[OperationsError | None] | None = None
        self._pause_until = float("-inf")
        self._rejected: Any = None
        self.refused = False
        """Whether the last refresh was refused: a key that was replaced since has to be read anew."""
        self._refreshing: dict[asyncio.AbstractEventLoop, asyncio.Task[dict[str, str]]] = {}

    def __repr__(self) -> str:
        return f"<Identity {self.description}>"

    @property
    def description(self) -> str:
        """Who this is, in words without secrets: an email address, else the kind."""
        if self._credentials is None:
            return "anonymous"
        for attribute in ("service_account_email", "_target_principal", "signer_email", "account"):
            value = getattr(self._credentials, attribute, None)
            if isinstance(value, str) and "@" in value:
                return value
        return self.kind

    @property
    def kind(self) -> str:
        """What kind of credentials these are."""
        if self._credentials is None:
            return "anonymous"
        if not self._renewable:
            return "fake token of an emulator"
        module = type(self._credentials).__module__
        return _KINDS.get(module, module.removeprefix("google.") + " credentials")

    @property
    def fresh(self) -> bool:
        """Whether the token is good for at least :data:`REFRESH_MARGIN` more."""
        return self._lasts(REFRESH_MARGIN)

    def _lasts(self, margin: timedelta) -> bool:
        credentials = self._credentials
        if credentials is None:
            return True
        if not credentials.token or credentials.token == self._rejected:
            return False
        expiry: datetime | None = getattr(credentials, "expiry", None)
        if expiry is None:
            return True
        from google.auth import _helpers

        return bool(_helpers.utcnow() + margin < expiry)

    def _good_enough(self, margin: timedelta) -> bool:
        """Whether the token in hand is to be used: while a renewal pauses, any that still lasts."""
        return self._lasts(margin) or (self._clock() < self._pause_until and self._lasts(LAST_MOMENT))

    def headers(self, *, urgent: bool = False) -> dict[str, str]:
        """Headers that authorize a request, with a fresh token.

        A renewal that fails while the token in hand is still good does not matter yet.

        :param urgent: one that is valid for a moment will do; it is not waited for another.
        :raises CredentialsError: if no token can be had.
        :raises TransportError: if the token server cannot be reached now.
        """
        margin = LAST_MOMENT if urgent else REFRESH_MARGIN
        if not self._good_enough(margin):
            try:
                self._renew(margin, join=not urgent)
            except OperationsError:
                if not self._lasts(LAST_MOMENT):
                    raise
                self._pause_until = self._clock() + PAUSE
        return self._apply()

    def _renew(self, margin: timedelta, *, join: bool) -> None:
        """Get another token, or wait for the one that somebody else is getting.

        :param join: whether to wait for somebody else: not in an emergency, for that may be the thread
            whose kill this is, stopped in the middle.
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
            if self._lasts(LAST_MOMENT):
                return

    def _lead(self, flight: Future[OperationsError | None]) -> None:
        error: OperationsError | None = None
        try:
            self._refresh()
        except OperationsError as refused:
            error = refused
            raise
        finally:
            # Whatever else ended this (a signal's exception) is this thread's own: the others try again.
            with self._lock:
                self._flight = None
            flight.set_result(error)

    async def async_headers(self) -> dict[str, str]:
        """The same on an event loop, which a refresh never blocks."""
        if not self._good_enough(REFRESH_MARGIN):
            loop = asyncio.get_running_loop()
            task = self._refreshing.get(loop)
            if task is None:
                task = loop.create_task(asyncio.to_thread(self.headers), name="refresh of a Google token")
                self._refreshing[loop] = task
                task.add_done_callback(lambda _: self._refreshing.pop(loop, None))
            # Shielded: one trigger that is cancelled must not take the token from the others.
            await asyncio.shield(task)
        return self._apply()

    def reject(self, headers: Mapping[str, str]) -> None:
        """The server did not accept the token of these headers: the next request gets a new one."""
        if self._credentials is None or not self._renewable:
            return
        # Not taken away, for somebody may be about to send it; and no lock: nothing here is waited for.
        token = self._credentials.token
        if token and self._apply().get("authorization") == headers.get("authorization"):
            self._rejected = token

    def _apply(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._credentials is not None:
            self._credentials.apply(headers)
        return {key.lower(): value for key, value in headers.items()}

    def _refresh(self) -> None:
        from airflow_lro_provider.lro.auth.token_transport import TokenTransport

        assert self._credentials is not None
        transport = TokenTransport()
        problem: OperationsError | None = None
        try:
            self._credentials.refresh(transport)
            if not _is_token(self._credentials.token):
                self._credentials.token = None
                problem = CredentialsError(f"no token for {self.description}: its server answered without one.")
        except Exception as error:
            # Whatever it is, what it says may quote a token or an answer: it is told in our words, and
            # raised below, because here it would keep that error as its context.
            problem = explain(error, self.description, transport.refusal)
        finally:
            transport.close()
        self.refused = isinstance(problem, CredentialsError)
        if problem is None:
            self._rejected = None  # a metadata server may give the same one again
        if problem is not None:
            raise problem


def _is_token(token: Any) -> bool:
    text = token.decode("latin-1") if isinstance(token, bytes) else token
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def explain(error: Exception, who: str, refusal: Refusal | None = None) -> OperationsError:
    """Why there is no token, in one line without secrets, and what to do.

    :param who: whose token it was to be.
    :param refusal: what the last request was refused with.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.auth.exceptions import TransportError as NotReached

    if isinstance(error, OperationsError):
        return copy.copy(error)
    if refusal is None and not isinstance(error, GoogleAuthError):
        return CredentialsError(f"no token for {who}: {type(error).__name__}.")
    said = str(refusal) if refusal else in_brief(str(error.args[0] if error.args else "")) or type(error).__name__
    passes = refusal.transient if refusal else isinstance(error, NotReached)
    if passes or getattr(error, "retryable", False):
        return TransportError(f"no token for {who} now: {said}.")
    return CredentialsError(f"no token for {who}: {said}. {_cure(refusal)}")


def _cure(refusal: Refusal | None) -> str:
    if refusal is not None and refusal.url.endswith(":generateAccessToken"):
        return _CURE_OF_IMPERSONATION
    if refusal is not None and "/computeMetadata/" in refusal.url:
        return _CURE_OF_METADATA
    return _CURES.get((refusal and refusal.grant) or "", "Check the credentials of the connection.")
