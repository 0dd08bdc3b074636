"""From a connection's settings to a token, kept fresh and shared.

:class:`ConnectionSettings` is what a Google connection says, under the field names that users have in
their connections today. :func:`identity_for` turns it into an :class:`Identity`: credentials of
google-auth and one token for the whole process, refreshed once however many wait for it.

A key or a token is never in a message, a ``repr`` or a log line of this module.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    CredentialsError,
    TransportError,
    forgetting,
)
from airflow_lro_provider.lro.redaction import without_secrets
from airflow_lro_provider.lro.reference import check_endpoint

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

__all__ = ["ConnectionSettings", "Identity", "identity_for"]

DEFAULT_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
FAKE_TOKEN = "fake-token-for-an-emulator"  # noqa: S105 - no secret
"""The only token that is ever sent where the connection says ``"emulator": true``."""
REFRESH_MARGIN = timedelta(minutes=5)
LAST_MOMENT = timedelta(seconds=10)
"""So long a token must be good for a request that cannot wait for another one."""
"""A token is renewed this long before it expires, so that a kill never has to wait for one."""
NUM_RETRIES = 5
# What may stand in a header after "Bearer" (RFC 6750), and no longer than a server takes a header.
_TOKEN = re.compile(r"[!-~]{1,8000}")
_OLD_PREFIX = "extra__google_cloud_platform__"


@dataclass(frozen=True)
class ConnectionSettings:
    """What a connection says, checked. The names are those of Google connections in Airflow.

    :param key_path: a service account's key file.
    :param keyfile_dict: the content of such a file, as JSON.
    :param scopes: OAuth scopes.
    :param project: the default project.
    :param quota_project_id: the project that quota and billing are counted on.
    :param impersonation_chain: accounts to act as; the last one is the one to be.
    :param num_retries: how often one request is tried again.
    :param is_anonymous: send no token at all.
    :param api_endpoint: where to send requests instead of Google's hosts; ``{service}`` in it becomes
        the API's name.
    :param emulator: the endpoint is not Google: plain http is allowed, and only a fake token is sent.
    """

    key_path: str | None = None
    keyfile_dict: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    project: str | None = None
    quota_project_id: str | None = None
    impersonation_chain: tuple[str, ...] = ()
    num_retries: int = NUM_RETRIES
    is_anonymous: bool = False
    api_endpoint: str | None = None
    emulator: bool = False

    @classmethod
    def from_extra(
        cls,
        extra: Mapping[str, Any],
        *,
        impersonation_chain: str | tuple[str, ...] | list[str] | None = None,
        conn_id: str = "",
    ) -> ConnectionSettings:
        """Read the extra of a connection.

        :param impersonation_chain: the task's own, which goes before the connection's.
        :param conn_id: for messages.
        :raises ConnectionSettingsError: naming the field that cannot be used, never its content.
        """
        reader = _Extra(extra, conn_id)
        endpoint, emulator = reader.text("api_endpoint"), reader.boolean("emulator")
        if endpoint is not None:
            endpoint = check_endpoint(endpoint, emulator=emulator)
        elif emulator:
            raise reader.wrong("emulator", "needs `api_endpoint`: where is the emulator?")
        key_path, keyfile_dict = reader.text("key_path"), reader.key()
        if key_path and keyfile_dict:
            raise reader.wrong("key_path", "and `keyfile_dict` are both given; keep one of them")
        if key_path and not key_path.endswith(".json"):
            raise reader.wrong("key_path", "must be the path of a .json key file")
        scope = reader.texts("scope")
        return cls(
            key_path=key_path,
            keyfile_dict=keyfile_dict,
            scopes=scope or DEFAULT_SCOPES,
            project=reader.text("project"),
            quota_project_id=reader.text("quota_project_id"),
            impersonation_chain=_chain(impersonation_chain) or reader.texts("impersonation_chain"),
            num_retries=reader.number("num_retries", NUM_RETRIES),
            is_anonymous=reader.boolean("is_anonymous"),
            api_endpoint=endpoint,
            emulator=emulator,
        )


def _chain(chain: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    if chain is None:
        return ()
    parts = chain.split(",") if isinstance(chain, str) else chain
    return tuple(part.strip() for part in parts if part.strip())


class _Extra:
    """The extra of a connection, read field by field; old prefixed names are understood."""

    def __init__(self, extra: Mapping[str, Any], conn_id: str) -> None:
        self._extra, self._conn_id = extra, conn_id

    def wrong(self, key: str, why: str) -> ConnectionSettingsError:
        return ConnectionSettingsError(f"connection {self._conn_id!r}: `{key}` {why}.")

    def _get(self, key: str) -> Any:
        value = self._extra.get(key)
        return self._extra.get(_OLD_PREFIX + key) if value in (None, "") else value

    def text(self, key: str) -> str | None:
        value = self._get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self.wrong(key, f"must be a string, not {type(value).__name__}")
        return value.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
            return _chain(list(value))
        return _chain(self.text(key))

    def boolean(self, key: str) -> bool:
        value = self._get(key)
        if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0", "yes", "no"):
            return value.strip().lower() in ("true", "1", "yes")
        if value in (None, ""):
            return False
        if not isinstance(value, (bool, int)):
            raise self.wrong(key, "must be true or false")
        return bool(value)

    def number(self, key: str, default: int) -> int:
        value = self._get(key)
        if value in (None, ""):
            return default
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or (isinstance(value, float) and value != number):
            raise self.wrong(key, "must be a whole number")
        if number < 0:
            raise self.wrong(key, "must not be negative")
        return number

    @forgetting()
    def key(self) -> str | None:
        """The key as canonical JSON. What is wrong with it is said without quoting it."""
        value = self._get("keyfile_dict")
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise self.wrong("keyfile_dict", "is not valid JSON; paste the whole content of the key file") from None
        if not isinstance(value, Mapping):
            raise self.wrong("keyfile_dict", "must be a JSON object: the whole content of the key file")
        key = dict(value)
        if isinstance(key.get("private_key"), str):
            # A key that went through an environment variable often has its newlines escaped.
            key["private_key"] = key["private_key"].replace("\\n", "\n")
        return json.dumps(key, sort_keys=True)


class Identity:
    """Who one is: credentials, and a token that all threads and loops of this process share.

    :param credentials: of google-auth; ``None`` sends no token.
    :param renewable: whether another token can be had (a fake one stays as it is).
    """

    def __init__(self, credentials: Credentials | None, *, renewable: bool = True) -> None:
        self._credentials = credentials
        self._renewable = renewable
        self._lock = threading.Lock()
        self._refreshing: dict[asyncio.AbstractEventLoop, asyncio.Task[dict[str, str]]] = {}

    def __repr__(self) -> str:
        return f"<Identity {self.description}>"

    @property
    def description(self) -> str:
        """Who this is, in words without secrets."""
        if self._credentials is None:
            return "anonymous"
        for attribute in ("service_account_email", "_target_principal", "signer_email"):
            value = getattr(self._credentials, attribute, None)
            if isinstance(value, str) and value and value != "default":
                return value
        return type(self._credentials).__module__.removeprefix("google.") + " credentials"

    @property
    def fresh(self) -> bool:
        """Whether the token is good for at least :data:`REFRESH_MARGIN` more."""
        return self._lasts(REFRESH_MARGIN)

    def _lasts(self, margin: timedelta) -> bool:
        credentials = self._credentials
        if credentials is None:
            return True
        if not credentials.token:
            return False
        expiry: datetime | None = getattr(credentials, "expiry", None)
        if expiry is None:
            return True
        from google.auth import _helpers

        return bool(_helpers.utcnow() + margin < expiry)

    def headers(self, *, urgent: bool = False) -> dict[str, str]:
        """Headers that authorize a request, with a fresh token.

        :param urgent: one that is valid for a moment will do; it is not waited for another.
        :raises CredentialsError: if no token can be had.
        :raises TransportError: if the token server cannot be reached now.
        """
        margin = LAST_MOMENT if urgent else REFRESH_MARGIN
        if not self._lasts(margin):
            with self._lock:
                if not self._lasts(margin):
                    self._refresh()
        return self._apply()

    async def async_headers(self) -> dict[str, str]:
        """The same on an event loop, which a refresh never blocks."""
        if not self.fresh:
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
        with self._lock:
            if self._apply().get("authorization") == headers.get("authorization"):
                self._credentials.token = None

    def _apply(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._credentials is not None:
            self._credentials.apply(headers)
        return {key.lower(): value for key, value in headers.items()}

    @forgetting()
    def _refresh(self) -> None:
        from google.auth.exceptions import GoogleAuthError

        from airflow_lro_provider.lro.transport import TokenRequest

        assert self._credentials is not None
        try:
            self._credentials.refresh(TokenRequest())
        except GoogleAuthError as error:
            # The text of the error may quote the answer of the token server, and that one what it was sent.
            if getattr(error, "retryable", False) or type(error).__name__ == "TransportError":
                raise TransportError(f"no token for {self.description} now: {_first_line(error)}") from None
            raise CredentialsError(
                f"no token for {self.description}: {_first_line(error)}. Check the key, the account and its"
                " rights (impersonation needs roles/iam.serviceAccountTokenCreator)."
            ) from None
        except Exception as error:
            raise CredentialsError(f"no token for {self.description}: {type(error).__name__}.") from None
        token: Any = self._credentials.token
        text = token.decode("latin-1") if isinstance(token, bytes) else token
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            self._credentials.token = None
            raise CredentialsError(f"no token for {self.description}: what the token server gave is none.")


def _first_line(error: BaseException) -> str:
    text = without_secrets(str(error.args[0] if error.args else error).strip())
    return text.splitlines()[0][:300].rstrip(".") if text else type(error).__name__


_identities: dict[str, Identity] = {}
_identities_lock = threading.Lock()


def identity_for(settings: ConnectionSettings) -> Identity:
    """The identity that these settings describe; the same object for the same settings.

    Building one reads files and parses keys: it is done once per process, and belongs in a thread
    where there is an event loop.

    :raises ConnectionSettingsError: if the key cannot be used.
    :raises CredentialsError: if there are no credentials here at all.
    """
    described = (
        settings.key_path,
        settings.keyfile_dict,
        settings.scopes,
        settings.quota_project_id,
        settings.impersonation_chain,
        settings.is_anonymous,
        settings.emulator,
    )
    key = hashlib.sha256(repr(described).encode()).hexdigest()
    with _identities_lock:
        if key not in _identities:
            _identities[key] = Identity(_build(settings), renewable=not settings.emulator)
        return _identities[key]


def _build(settings: ConnectionSettings) -> Any:
    if settings.is_anonymous:
        return None
    if settings.emulator:
        from google.oauth2.credentials import Credentials as TokenCredentials

        return TokenCredentials(token=FAKE_TOKEN)
    credentials = _source(settings)
    if settings.quota_project_id and hasattr(credentials, "with_quota_project"):
        credentials = credentials.with_quota_project(settings.quota_project_id)
    if settings.impersonation_chain:
        from google.auth import impersonated_credentials

        *delegates, target = settings.impersonation_chain
        credentials = impersonated_credentials.Credentials(
            source_credentials=credentials,
            target_principal=target,
            delegates=delegates or None,
            target_scopes=list(settings.scopes),
            quota_project_id=settings.quota_project_id,
        )
    return credentials


@forgetting()
def _source(settings: ConnectionSettings) -> Any:
    if not settings.keyfile_dict and not settings.key_path:
        return _default(settings)
    from google.oauth2 import service_account

    scopes = list(settings.scopes)
    try:
        if settings.keyfile_dict:
            return service_account.Credentials.from_service_account_info(
                json.loads(settings.keyfile_dict), scopes=scopes
            )
        return service_account.Credentials.from_service_account_file(settings.key_path, scopes=scopes)
    except OSError as error:
        raise ConnectionSettingsError(
            f"the connection's `key_path` {settings.key_path!r} cannot be read: {error.strerror}."
        ) from None
    except Exception as error:
        # A key that cannot be parsed: the error's own text may quote a part of it.
        place = "keyfile_dict" if settings.keyfile_dict else "key_path"
        raise ConnectionSettingsError(
            f"the connection's `{place}` holds no usable key of a service account ({type(error).__name__});"
            " expected the JSON file that Google gave, whole and unchanged."
        ) from None


def _default(settings: ConnectionSettings) -> Any:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        return google.auth.default(scopes=list(settings.scopes))[0]
    except GoogleAuthError as error:
        raise CredentialsError(
            f"no Google credentials here: {_first_line(error)}. Give the connection a key, or log this machine"
            " in (gcloud auth application-default login)."
        ) from None
