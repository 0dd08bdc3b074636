"""From a connection's settings to an identity: credentials of google-auth, of every kind that a connection can name.

:func:`identity_for` returns the same :class:`Identity` for the same settings, so that a process has one token for
each, refreshed once however many tasks wait for it.

A key or a token is never in a message, a ``repr`` or a log line of this room.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import google.auth
from google.auth.credentials import with_scopes_if_required
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError
from google.auth.identity_pool import SubjectTokenSupplier

from airflow_lro_provider.lro import errors
from airflow_lro_provider.lro.auth.settings import DEFAULT_SCOPES, ConnectionSettings
from airflow_lro_provider.lro.auth.token import Identity, explain
from airflow_lro_provider.lro.auth.token_transport import TokenTransport
from airflow_lro_provider.lro.http.json import read_json
from airflow_lro_provider.lro.redaction import in_brief

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

FAKE_TOKEN = "fake-token-for-an-emulator"  # noqa: S105 - no secret
"""The only token that is ever sent where the connection says ``"emulator": true``."""
SECRET_MANAGER = "https://secretmanager.{universe}"  # noqa: S105 - an address

MAX_IDENTITIES = 64
"""How many a process shares; the one that was not asked for the longest time is let go first, and is built anew."""

_identities: dict[str, Identity] = {}
_building: dict[str, threading.Lock] = {}
_identities_lock = threading.Lock()
_AWS_TOKEN = "urn:ietf:params:aws:token-type:aws4_request"  # noqa: S105 - a name
# The only settings that decide neither which account is used nor what it may do.
_INDIFFERENT = {"project", "num_retries", "start_timeout", "api_endpoint"}
# What makes the credentials of a type of file. The modules are imported one by one: most workers need one kind only.
_MAKERS = {
    "service_account": ("google.oauth2.service_account", "from_service_account_info"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_info"),
    "external_account": ("google.auth.identity_pool", "from_info"),
    "external_account_authorized_user": ("google.auth.external_account_authorized_user", "from_info"),
    "impersonated_service_account": ("google.auth.impersonated_credentials", "from_impersonated_service_account_info"),
}


def identity_for(settings: ConnectionSettings) -> Identity:
    """The identity that these settings describe; the same object for the same settings.

    Building one reads files, parses keys, and may send requests to the metadata server or Secret Manager: it is done
    once per process, and belongs in a thread where there is an event loop. One that was refused is built anew: its
    key may have been replaced at its source.

    :raises ConnectionSettingsError: if the key cannot be used.
    :raises CredentialsError: if no credentials are found.
    :raises TransportError: if a server that provides them cannot be reached now.
    """
    described = [getattr(settings, field.name) for field in fields(settings) if field.name not in _INDIFFERENT]
    key = hashlib.sha256(repr(described).encode()).hexdigest()
    with _identities_lock:
        building = _building.setdefault(key, threading.Lock())
    with building:  # a slow server delays only those who need the same identity
        known = _identities.get(key)
        if known is None or known.refused:
            try:
                known = Identity(*_build(settings), renewable=not settings.emulator)
            except errors.OperationsError:
                _building.pop(key, None)
                raise
        with _identities_lock:
            _identities.pop(key, None)
            _identities[key] = known  # the last one in the order of the dict
            for old in list(_identities)[:-MAX_IDENTITIES]:
                del _identities[old]
                _building.pop(old, None)
        return known


def naming_of(settings: ConnectionSettings) -> dict[str, Any]:
    """What a connection says of names and paths, for the functions that read them: the universe, and the project.

    Without one of its own that is the one that the credentials name. It is asked for only for what begins with its
    location, for that may take requests; see :func:`identity_for` for what is raised then.
    """
    return {
        "universe": settings.universe_domain,
        "project": settings.project or (lambda: identity_for(settings).project),
    }


@errors.without_context()  # google-auth's errors may quote what it read
def _build(settings: ConnectionSettings) -> tuple[Credentials | None, str | None]:
    """The credentials, and the project that they name."""
    if settings.is_anonymous:
        return None, None
    if settings.emulator:
        from google.oauth2.credentials import Credentials as TokenCredentials

        return TokenCredentials(token=FAKE_TOKEN), None
    try:
        credentials, project = _source(settings)
        _check_universe_of(credentials, settings)
        project = _project_of_account(settings) or project or getattr(credentials, "project_id", None)
        return _impersonate(credentials, settings), project
    except errors.OperationsError:
        raise
    except Exception as error:  # google-auth may have sent requests already
        raise explain(error, "these credentials") from None


def _check_universe_of(credentials: Credentials, settings: ConnectionSettings) -> None:
    universe = credentials.universe_domain
    if universe != settings.universe_domain:
        raise errors.ConnectionSettingsError(
            f"the credentials belong to the universe {universe}, but the connection to {settings.universe_domain};"
            f" nothing was sent. Set the connection's `universe_domain` (or GOOGLE_CLOUD_UNIVERSE_DOMAIN) to"
            f" {universe}, or use credentials of {settings.universe_domain}."
        )


def _impersonate(credentials: Any, settings: ConnectionSettings) -> Credentials:
    """Apply the impersonation chain and the quota project; requests for a token are not billed to that."""
    if settings.impersonation_chain:
        from google.auth import impersonated_credentials

        *delegates, target = settings.impersonation_chain
        credentials = impersonated_credentials.Credentials(
            source_credentials=credentials,
            target_principal=target,
            delegates=delegates or None,
            target_scopes=list(settings.scopes),
        )
    if settings.quota_project_id:
        if not hasattr(credentials, "with_quota_project"):
            raise errors.ConnectionSettingsError(
                f"credentials of this kind ({type(credentials).__module__}) cannot charge another project; leave"
                " `quota_project_id` out."
            )
        credentials = credentials.with_quota_project(settings.quota_project_id)
    found: Credentials = credentials
    return found


def _project_of_account(settings: ConnectionSettings) -> str | None:
    """The project of the account that is impersonated, as in Google's own hook (``credentials_provider.py``)."""
    account = settings.impersonation_chain[-1] if settings.impersonation_chain else ""
    found = re.search(r"@([^.@]+)\.iam\.gserviceaccount\.com$", account)
    return found[1] if found else None


def _source(settings: ConnectionSettings) -> tuple[Credentials, str | None]:
    """The credentials that the connection holds or names, in the same order of precedence as Google's own hook.

    And the project that they name, unless they have it themselves.
    """
    scopes = settings.scopes
    if settings.key_path:
        return _service_account(_read_json(settings.key_path, "key_path"), scopes, "`key_path`"), None
    if settings.key_secret_name:
        return _service_account(_key_of_secret(settings), scopes, f"secret {settings.key_secret_name!r}"), None
    if settings.keyfile_dict:
        return _service_account(json.loads(settings.keyfile_dict), scopes, "`keyfile_dict`"), None
    if settings.credential_config_file:
        return _configured(settings), None
    return _default(scopes, at=settings.api_endpoint or "")


def _read_json(path: str, field: str) -> Any:
    """Read a JSON file; ``None`` if it is not JSON."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise errors.ConnectionSettingsError(
            f"the connection's `{field}` {path!r} could not be read: {error.strerror}."
        ) from None
    except (ValueError, RecursionError):
        return None


def _service_account(key: Any, scopes: tuple[str, ...], place: str) -> Credentials:
    """Credentials of a service account's key, which is at this place."""
    from google.oauth2 import service_account

    try:
        found: Credentials = service_account.Credentials.from_service_account_info(key, scopes=list(scopes))
        return found
    except Exception as error:
        raise errors.ConnectionSettingsError(
            f"the connection's {place} holds no usable key of a service account ({type(error).__name__});"
            " expected the JSON file that Google gave, whole and unchanged."
        ) from None


def _configured(settings: ConnectionSettings) -> Credentials:
    """Credentials of a credential configuration: of any type that google-auth knows."""
    given = settings.credential_config_file or ""
    info = json.loads(given) if given.startswith("{") else _read_json(given, "credential_config_file")
    try:
        if settings.idp_issuer_url and info["type"] == "external_account":
            info = {**info, "subject_token_supplier": _IdentityProvider(settings)}
            info.pop("credential_source", None)  # google-auth takes one or the other
        return _of_type(info["type"], info, list(settings.scopes))
    except Exception as error:
        raise errors.ConnectionSettingsError(
            "the connection's `credential_config_file` holds no usable credential configuration"
            f" ({type(error).__name__}); expected the JSON of `gcloud iam workload-identity-pools create-cred-config`,"
            " or a file of credentials."
        ) from None


def _of_type(kind: str, info: dict[str, Any], scopes: list[str]) -> Credentials:
    """What google-auth makes of a file of credentials.

    Its own function for all types is deprecated, and for a federated identity it gets a token just to look up the
    project's name, which is not needed here.
    """
    if kind not in _MAKERS:
        raise ValueError("an unknown type of credentials")
    module, maker = _MAKERS[kind]
    if kind == "external_account" and info.get("subject_token_type") == _AWS_TOKEN:
        module = "google.auth.aws"
    elif kind == "external_account" and (info.get("credential_source") or {}).get("executable") is not None:
        module = "google.auth.pluggable"
    # A login has its scopes already, in its file.
    scoped = {} if kind == "external_account_authorized_user" else {"scopes": scopes}
    found = getattr(import_module(module).Credentials, maker)(info, **scoped)
    credentials: Credentials = found.with_quota_project_from_environment()
    return credentials


def _default(scopes: tuple[str, ...], at: str = "") -> tuple[Credentials, str | None]:
    """The application default credentials, scoped only afterwards (see :func:`_of_type`), and the project they name.

    :param at: the endpoint that the connection names.
    """
    try:
        credentials, project = google.auth.default(request=TokenTransport())
        return with_scopes_if_required(credentials, list(scopes)), project
    except DefaultCredentialsError as error:
        problem = in_brief(str(error.args[0] if error.args else error))
        advice = "Give the connection a key, or log this machine in (gcloud auth application-default login)."
        if at.lower().startswith("http:"):  # this machine: no other is allowed
            advice += f" If at {at} is a local server that needs none, say `emulator` in the connection's extra."
        raise errors.CredentialsError(f"no Google credentials found: {problem}. {advice}") from None


def _key_of_secret(settings: ConnectionSettings) -> Any:
    """The key that Secret Manager keeps, read with the application default credentials; ``None`` if it is not JSON.

    (https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access)
    """
    credentials, project = _default(DEFAULT_SCOPES)
    _check_universe_of(credentials, settings)
    # Secret Manager takes a project's number as well, which is all that a federated identity names.
    project = settings.key_secret_project_id or project or getattr(credentials, "project_number", None)
    if not project:
        raise errors.ConnectionSettingsError(
            "the connection's `key_secret_name` needs `key_secret_project_id`: the application default credentials"
            " name no project."
        )
    reader = Identity(credentials)
    resource = f"projects/{quote(project, safe=':')}/secrets/{quote(str(settings.key_secret_name))}"
    url = f"{SECRET_MANAGER.format(universe=settings.universe_domain)}/v1/{resource}/versions/latest:access"
    headers = reader.headers()
    transport = TokenTransport()
    try:
        response = transport(url, headers=headers)
        if transport.refusal is None:
            return _content(response.data)
    except GoogleAuthError:
        pass  # the refusal says it
    finally:
        transport.close()
    refusal = transport.refusal
    if refusal is not None and refusal.transient:
        raise errors.TransportError(f"the key in {resource} could not be read now: {refusal}.")
    raise errors.CredentialsError(
        f"the key in {resource} could not be read: {refusal}. {reader.description} needs"
        " roles/secretmanager.secretAccessor on it, and the secret a version that is enabled."
    )


def _content(response: bytes) -> Any:
    try:
        return read_json(base64.b64decode(read_json(response)["payload"]["data"]))
    except (ValueError, KeyError, TypeError):
        return None


class _IdentityProvider(SubjectTokenSupplier):
    """An identity provider whose tokens Google exchanges: OAuth's client credentials grant.

    Nothing is cached: Google's token is shared and renewed, and each renewal needs a fresh token of the provider.
    (https://www.rfc-editor.org/rfc/rfc6749#section-4.4)
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._url = settings.idp_issuer_url
        self._form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
            **json.loads(settings.idp_extra_parameters or "{}"),
        }

    def get_subject_token(self, context: Any, request: Any) -> str:
        """Get a token with google-auth's transport; the request is the same for all pools.

        :raises RefreshError: google-auth's, if the response has none.
        """
        response = request(
            url=self._url,
            method="POST",
            headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
            body=urlencode(self._form).encode(),
        )
        try:
            token = read_json(response.data).get("access_token") if response.status == 200 else None
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token:
            raise RefreshError("the identity provider (`idp_issuer_url`) returned no `access_token`")
        return token
