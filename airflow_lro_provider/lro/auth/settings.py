"""A connection's settings, checked: the fields of Google connections in Airflow, and three of our own.

They are read from the connection's extra in every form in which Airflow stores one: JSON with its types, the strings
of a URI, and the old names with the prefix ``extra__google_cloud_platform__``. No file is opened and no request is
sent here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from airflow_lro_provider.lro.errors import ConnectionSettingsError
from airflow_lro_provider.lro.resources.catalog import DEFAULT_UNIVERSE
from airflow_lro_provider.lro.resources.hosts import (
    Resource,
    as_written,
    belongs_to,
    check_endpoint,
    check_universe,
    endpoint_of,
    split_url,
    universe_of_environment,
)

DEFAULT_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
NUM_RETRIES = 5
START_TIMEOUT_SECONDS = 60
_OLD_PREFIX = "extra__google_cloud_platform__"
_KINDS = ("key_path", "keyfile_dict", "credential_config_file", "key_secret_name")
# Besides those of the class: as they are called in an extra.
_NAMES_IN_EXTRA = {"scope", "idp_extra_params"}
# Near a field, and not meant: of keys and other hooks.
_NOT_MEANT = {"project_id", "client_email", "key"}
_MEANT = dict.fromkeys(("keyfile", "key_file", "keyfile_json", "credentials_path"), ("key_path", "keyfile_dict"))
MAX_NUMBER = 1_000_000  # as seconds, eleven days
_SECRET_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,99}")


@dataclass(frozen=True)
class ConnectionSettings:
    """A connection's settings, checked. The names are those of Google connections in Airflow.

    :param key_path: a service account's key file.
    :param keyfile_dict: contents of a service account key (JSON).
    :param credential_config_file: a credential configuration, e.g. of workload identity federation: its path or JSON.
    :param key_secret_name: the secret of Secret Manager that holds a key, read with application default credentials.
    :param key_secret_project_id: the project of that secret; by default that of those credentials.
    :param idp_issuer_url: the token endpoint of an identity provider whose tokens the credential configuration
        exchanges (client credentials grant, RFC 6749 section 4.4).
    :param client_id: the client's id there.
    :param client_secret: the client's secret there.
    :param idp_extra_parameters: more parameters for that request, as a JSON object.
    :param scopes: OAuth scopes.
    :param project: the project of names and paths that begin with their location (``locations/us-central1/…``); by
        default the one that the credentials name.
    :param quota_project_id: the project that is charged for quota and billing.
    :param impersonation_chain: service accounts to impersonate; requests are made as the last one.
    :param num_retries: how often a request is retried after a transient error.
    :param start_timeout: how long the response to a start may take, in seconds: some services respond only when half of
        the work is done, and a start whose response is not awaited may have started an operation.
    :param is_anonymous: send no token at all.
    :param universe_domain: the domain of the universe that credentials and APIs belong to; by default the value of
        ``GOOGLE_CLOUD_UNIVERSE_DOMAIN``, else ``googleapis.com``.
    :param api_endpoint: where to send requests instead of Google's hosts; ``{service}`` in it becomes the API's name.
    :param emulator: the endpoint is not Google: plain http is allowed, and only a fake token is sent.
    """

    key_path: str | None = None
    keyfile_dict: str | None = field(default=None, repr=False)
    credential_config_file: str | None = field(default=None, repr=False)
    key_secret_name: str | None = None
    key_secret_project_id: str | None = None
    idp_issuer_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    idp_extra_parameters: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    project: str | None = None
    quota_project_id: str | None = None
    impersonation_chain: tuple[str, ...] = ()
    num_retries: int = NUM_RETRIES
    start_timeout: int = START_TIMEOUT_SECONDS
    is_anonymous: bool = False
    universe_domain: str = DEFAULT_UNIVERSE
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

        :param impersonation_chain: the task's own, which takes precedence over the connection's.
        :param conn_id: for messages.
        :raises ConnectionSettingsError: naming the field that cannot be used, never its value.
        """
        reader = _Extra(extra, conn_id)
        reader.check_names({field.name for field in fields(cls)} - {"scopes"})
        named = reader.text("universe_domain")
        universe = check_universe(named) if named else universe_of_environment()
        settings = cls(
            key_path=reader.text("key_path"),
            keyfile_dict=reader.key(),
            credential_config_file=reader.configuration(),
            key_secret_name=reader.text("key_secret_name"),
            key_secret_project_id=reader.text("key_secret_project_id"),
            idp_issuer_url=reader.text("idp_issuer_url"),
            client_id=reader.text("client_id"),
            client_secret=reader.text("client_secret"),
            idp_extra_parameters=reader.parameters(),
            scopes=reader.texts("scope") or DEFAULT_SCOPES,
            project=reader.text("project"),
            quota_project_id=reader.text("quota_project_id"),
            impersonation_chain=_chain(impersonation_chain) or reader.texts("impersonation_chain"),
            num_retries=reader.number("num_retries", NUM_RETRIES),
            start_timeout=reader.number("start_timeout", START_TIMEOUT_SECONDS, minimum=1),
            is_anonymous=reader.boolean("is_anonymous"),
            universe_domain=universe,
            api_endpoint=_endpoint(reader, universe),
            emulator=reader.boolean("emulator"),
        )
        _check_credentials(settings, reader)
        return settings

    def endpoint(self, resource: Resource, *, mtls: bool = False) -> str:
        """The base URL that requests about this resource go to, without a trailing slash.

        :raises ForbiddenEndpointError: if its host is neither Google's nor that of the connection's endpoint.
        """
        return endpoint_of(resource, self.api_endpoint, self.universe_domain, mtls=mtls)


def _endpoint(reader: _Extra, universe: str) -> str | None:
    endpoint, emulator = reader.text("api_endpoint"), reader.boolean("emulator")
    if endpoint is None:
        if emulator:
            raise reader.wrong("emulator", "needs `api_endpoint`: where is the emulator?")
        return None
    endpoint = check_endpoint(endpoint, emulator=emulator)
    host = split_url(endpoint.replace("{service}", "service"))[1]
    if universe != DEFAULT_UNIVERSE and belongs_to(host, DEFAULT_UNIVERSE):
        raise reader.wrong(
            "api_endpoint", f"is of the universe {DEFAULT_UNIVERSE}, but the connection is of {universe}"
        )
    return endpoint


def _check_credentials(settings: ConnectionSettings, reader: _Extra) -> None:
    """Refuse settings that do not identify one account."""
    given = [kind for kind in _KINDS if getattr(settings, kind)]
    if len(given) > 1:
        raise reader.wrong(given[0], f"and `{given[1]}` are both given; keep one of them")
    if settings.key_path and not settings.key_path.endswith(".json"):
        raise reader.wrong("key_path", "must be the path of a .json key file")
    if settings.key_secret_name and not _SECRET_NAME.fullmatch(settings.key_secret_name):
        raise reader.wrong(
            "key_secret_name", "must be the plain name of a secret (letters, digits, - and _), without its project"
        )
    for key in ("project", "key_secret_project_id", "quota_project_id"):
        if (project := getattr(settings, key)) and not _PROJECT.fullmatch(project):
            raise reader.wrong(key, "must be a project id")
    if settings.idp_issuer_url and not set(given) - {"credential_config_file"}:
        if not settings.credential_config_file:
            raise reader.wrong(
                "idp_issuer_url", "needs `credential_config_file`: which pool takes the identity provider's tokens?"
            )
        for key in ("client_id", "client_secret"):
            if not getattr(settings, key):
                raise reader.wrong("idp_issuer_url", f"needs `{key}`")


def _chain(chain: str | tuple[str, ...] | list[str] | None) -> tuple[str, ...]:
    """Scopes or accounts, separated by commas as in Google's own hook, or by spaces as in OAuth (RFC 6749, 3.3)."""
    given = (chain,) if isinstance(chain, str) else chain or ()
    return tuple(part for text in given for part in re.split(r"[,\s]+", text) if part)


class _Extra:
    """The extra of a connection, read field by field; old prefixed names are understood."""

    def __init__(self, extra: Mapping[str, Any], conn_id: str) -> None:
        self._extra, self._conn_id = extra, conn_id

    def wrong(self, key: str, why: str) -> ConnectionSettingsError:
        end = "" if why.endswith("?") else "."
        return ConnectionSettingsError(f"connection {self._conn_id!r}: `{key}` {why}{end}")

    def _get(self, key: str) -> Any:
        # As in Google's own hook (`get_field` of base_google.py): a field that was emptied is empty, whatever its old
        # name says. Else the same connection would be one account there, and another one here.
        return self._extra.get(key if key in self._extra else _OLD_PREFIX + key)

    def check_names(self, known: set[str]) -> None:
        """Refuse what looks like a field and is none: left out, it would silently be another account, or other scopes.

        Whatever is nothing like a field of ours is somebody else's.
        """
        known = known | _NAMES_IN_EXTRA
        if self._extra.get("type") == "service_account" and self._extra.get("private_key"):
            raise self.wrong("private_key", "belongs into `keyfile_dict`, with the whole key file around it")
        for name in self._extra:
            plain = re.sub("[^a-z]+", "_", name.removeprefix(_OLD_PREFIX).lower()).strip("_")
            if name.removeprefix(_OLD_PREFIX) in known or plain in _NOT_MEANT or self._extra[name] in (None, ""):
                continue
            near = _MEANT.get(plain) or difflib.get_close_matches(plain, known, 1, cutoff=0.8)
            if near:
                raise self.wrong(name, f"is no field of a connection; did you mean `{'` or `'.join(near)}`?")

    def text(self, key: str) -> str | None:
        value = self._get(key)
        if "project" in key:
            value = as_written(value)  # it may be given by its number
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self.wrong(key, f"must be a string, not {type(value).__name__}")
        return value.strip() or None

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

    def number(self, key: str, default: int, minimum: int = 0) -> int:
        value = self._get(key)
        if value in (None, ""):
            return default
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or (isinstance(value, float) and value != number):
            raise self.wrong(key, "must be a whole number")
        if number < minimum:
            raise self.wrong(key, f"must be at least {minimum}" if minimum else "must not be negative")
        if number > MAX_NUMBER:
            raise self.wrong(key, f"must be at most {MAX_NUMBER}")
        return number

    def key(self) -> str | None:
        """The key as canonical JSON. Errors never quote it."""
        key = self._object("keyfile_dict", "paste the whole contents of the key file")
        if key is None:
            return None
        if isinstance(key.get("private_key"), str):
            # A key that went through an environment variable often has its newlines escaped.
            key["private_key"] = key["private_key"].replace("\\n", "\n")
        return json.dumps(key, sort_keys=True)

    def configuration(self) -> str | None:
        """A credential configuration: the path of its file, or its contents as canonical JSON."""
        value = self._get("credential_config_file")
        if isinstance(value, str) and not value.lstrip().startswith("{"):
            return self.text("credential_config_file")
        content = self._object("credential_config_file", "give the path of the file, or its whole contents")
        return None if content is None else json.dumps(content, sort_keys=True)

    def parameters(self) -> str | None:
        """More parameters for the identity provider, as canonical JSON.

        Google's own hook shows the field as `idp_extra_parameters`, but reads `idp_extra_params`.
        """
        for key in ("idp_extra_parameters", "idp_extra_params"):
            content = self._object(key, "give a JSON object of request parameters")
            if content is None:
                continue
            if not all(isinstance(part, (str, int, float, bool)) for part in content.values()):
                raise self.wrong(key, "must hold plain values")
            return json.dumps(content, sort_keys=True)
        return None

    def _object(self, key: str, hint: str) -> dict[str, Any] | None:
        """A JSON object, given as one or as text."""
        value = self._get(key)
        if value is None or value == "":
            return None
        problem = "must be a JSON object"
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value, problem = None, "is not valid JSON"
        if not isinstance(value, Mapping):  # raised here, because the error above carries the text
            raise self.wrong(key, f"{problem}; {hint}")
        return dict(value)
