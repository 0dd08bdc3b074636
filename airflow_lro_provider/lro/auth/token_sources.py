"""What a connection may name as the place of its credentials: an identity provider, or Secret Manager."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from google.auth.exceptions import GoogleAuthError, RefreshError
from google.auth.identity_pool import SubjectTokenSupplier

from airflow_lro_provider.lro.auth.token_transport import TokenTransport
from airflow_lro_provider.lro.errors import CredentialsError
from airflow_lro_provider.lro.errors import TransportError as NotReachedError
from airflow_lro_provider.lro.http.json import read_json

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings
    from airflow_lro_provider.lro.auth.token import Identity

__all__ = ["IdentityProvider", "read_secret"]

SECRET_MANAGER = "https://secretmanager.{universe}"  # noqa: S105 - an address


class IdentityProvider(SubjectTokenSupplier):
    """An identity provider whose tokens Google exchanges: OAuth's client credentials grant.

    Nothing is kept: Google's token is shared and renewed, and each renewal wants a fresh one of these.
    (https://www.rfc-editor.org/rfc/rfc6749#section-4.4)

    :param settings: what the connection says of it.
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
        """Ask for a token.

        :param context: which pool it is for; the provider is asked the same for all.
        :param request: google-auth's transport.
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
            raise RefreshError("the identity provider (`idp_issuer_url`) answered without an `access_token`")
        return token


def read_secret(reader: Identity, project: str, name: str, universe: str) -> Any:
    """The latest version of a secret, as JSON; ``None`` if it is none.

    (https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access)

    :param reader: who may read it.
    :param project: the project's id or number.
    :param name: the secret's plain name.
    :param universe: the domain of the universe that it is in.
    :raises CredentialsError: if it cannot be read, with what to do.
    :raises TransportError: if Secret Manager cannot be reached now.
    """
    resource = f"projects/{quote(project, safe=':')}/secrets/{quote(name)}"
    url = f"{SECRET_MANAGER.format(universe=universe)}/v1/{resource}/versions/latest:access"
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
        raise NotReachedError(f"the key in {resource} cannot be read now: {refusal}.")
    raise CredentialsError(
        f"the key in {resource} cannot be read: {refusal}. {reader.description} needs"
        " roles/secretmanager.secretAccessor on it, and the secret a version that is enabled."
    )


def _content(answer: bytes) -> Any:
    try:
        return read_json(base64.b64decode(read_json(answer)["payload"]["data"]))
    except (ValueError, KeyError, TypeError):
        return None
