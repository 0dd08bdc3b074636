"""Every credential that a Google connection may hold, over real HTTP, from the connection to the token.

The table :data:`ROWS` compares field by field with Google's own hook (``GoogleBaseHook`` of
apache-airflow-providers-google): what a field does here, and the way to the token that proves it. Where
something differs on purpose, ``differs`` says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from airflow_lro_provider.hooks.operations import OperationsAsyncHook, OperationsHook
from airflow_lro_provider.lro.auth.credentials import identity_for
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.auth.token import Identity
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.errors import UnavailableError
from airflow_lro_provider.lro.resources.names import read_reference
from tests.contract.identity_servers import (
    AWS_KEY_ID,
    AWS_REQUEST,
    CLIENT_ID,
    EMAIL,
    JWT_BEARER,
    MACHINE,
    TOKEN_EXCHANGE,
    IdentityServers,
)

CLOUD = "https://www.googleapis.com/auth/cloud-platform"
EARTH = "https://www.googleapis.com/auth/earthengine"
NAME = "projects/p/locations/us-central1/operations/o"
OLD = "extra__google_cloud_platform__"

# The fields of Google's form (base_google.py, get_connection_form_widgets) and what its documentation adds
# (docs/connections/gcp.rst). `idp_extra_params` is in neither: the form has `idp_extra_parameters`, but the
# hook reads the other, so connections that work today hold that.
FIELDS_OF_GOOGLES_HOOK = {
    "project",
    "key_path",
    "keyfile_dict",
    "credential_config_file",
    "scope",
    "key_secret_name",
    "key_secret_project_id",
    "num_retries",
    "impersonation_chain",
    "idp_issuer_url",
    "client_id",
    "client_secret",
    "idp_extra_parameters",
    "idp_extra_params",
    "is_anonymous",
    "quota_project_id",
}


@dataclass
class Place:
    """Where a connection is used: the servers, a folder for files, and the machine's own login."""

    servers: IdentityServers
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def file(self, content: Any) -> str:
        """A file with this content."""
        path = self.folder / f"file-{len(list(self.folder.iterdir()))}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    def logged_in(self) -> None:
        """Application default credentials: a user's login."""
        self.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", self.file(self.servers.login))

    def subject(self) -> dict[str, str]:
        """The source of a subject token: a file."""
        return {"file": self.file(self.servers.subject)}

    def program(self) -> str:
        """A program that prints a subject token."""
        answer = {
            "version": 1,
            "success": True,
            "token_type": "urn:ietf:params:oauth:token-type:jwt",
            "id_token": self.servers.subject,
            "expiration_time": 4_000_000_000,
        }
        return f"cat {self.file(answer)}"

    def on_aws(self) -> None:
        """A machine of AWS, by its variables."""
        for name, value in {
            "AWS_ACCESS_KEY_ID": AWS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": self.servers.client_secret,
            "AWS_REGION": "eu-west-1",
        }.items():
            self.monkeypatch.setenv(name, value)

    def key(self) -> dict[str, Any]:
        """The extra with a key, to which other fields are added."""
        return {"keyfile_dict": self.servers.key}

    def idp(self, **more: Any) -> dict[str, Any]:
        """The extra with an identity provider."""
        return {
            "credential_config_file": self.file(self.servers.federation(None)),
            "idp_issuer_url": f"{self.servers.url}/idp/token",
            "client_id": CLIENT_ID,
            "client_secret": self.servers.client_secret,
            **more,
        }

    def secret(self, **more: Any) -> dict[str, Any]:
        """The extra with a key in Secret Manager."""
        self.logged_in()
        self.servers.secret = self.servers.key
        return {"key_secret_name": "my-key", **more}


def _always(servers: IdentityServers, headers: dict[str, str], identity: Identity) -> bool:
    return True


@dataclass
class Row:
    """A field, what it does here, and what is seen on the way to the token.

    :param fields: the fields of the connection.
    :param does: what they do here.
    :param extra: the extra of a connection that holds them.
    :param journey: the servers that get a request, in order.
    :param token: who gave the token that requests carry; ``None`` for no token.
    :param who: the identity's description.
    :param seen: what else must be true.
    :param differs: what Google's hook does instead, where it is not the same.
    """

    fields: tuple[str, ...]
    does: str
    extra: Callable[[Place], dict[str, Any]]
    journey: list[str]
    token: str | None
    who: str
    seen: Callable[[IdentityServers, dict[str, str], Identity], object] = _always
    differs: str = ""


def _claims(servers: IdentityServers) -> dict[str, Any]:
    claims: dict[str, Any] = next(asked.form["claims"] for asked in servers.asked if asked.who == "key")
    return claims


def _asked(servers: IdentityServers, who: str) -> Any:
    return next(asked for asked in servers.asked if asked.who == who)


METADATA = [
    "metadata(/)",
    "metadata(project/project-id)",
    "metadata(universe/universe-domain)",
    "metadata(instance/service-accounts/default/)",
    "metadata(instance/service-accounts/default/token)",
]

ROWS: dict[str, Row] = {
    "key_path": Row(
        ("key_path",),
        "the path of a service account's key file (.json)",
        lambda place: {"key_path": place.file(place.servers.key)},
        ["key"],
        "key",
        EMAIL,
        lambda servers, *_: _asked(servers, "key").form["grant_type"] == JWT_BEARER,
    ),
    "keyfile_dict": Row(
        ("keyfile_dict",),
        "the content of such a file, as an object",
        lambda place: {"keyfile_dict": place.servers.key},
        ["key"],
        "key",
        EMAIL,
    ),
    "keyfile_dict as text": Row(
        ("keyfile_dict",),
        "the same as text, with newlines that an environment variable escaped",
        lambda place: {
            "keyfile_dict": json.dumps(
                {**place.servers.key, "private_key": place.servers.key["private_key"].replace("\n", "\\n")}
            )
        },
        ["key"],
        "key",
        EMAIL,
    ),
    "credential_config_file": Row(
        ("credential_config_file",),
        "the path of a credential configuration; its token is exchanged at STS",
        lambda place: {"credential_config_file": place.file(place.servers.federation(place.subject()))},
        ["sts"],
        "sts",
        "workload identity federation",
        lambda servers, *_: (
            _asked(servers, "sts").form["grant_type"] == TOKEN_EXCHANGE
            and _asked(servers, "sts").form["scope"] == CLOUD
        ),
        differs="requests the project's name from Resource Manager as well, which nothing here needs",
    ),
    "credential_config_file as an object": Row(
        ("credential_config_file",),
        "its content, here with a subject token from a URL",
        lambda place: {
            "credential_config_file": place.servers.federation(
                {
                    "url": f"{place.servers.url}/subject",
                    "format": {"type": "json", "subject_token_field_name": "id_token"},
                }
            )
        },
        ["subject", "sts"],
        "sts",
        "workload identity federation",
    ),
    "credential_config_file as text": Row(
        ("credential_config_file",),
        "its content as text, here with an account to be (service_account_impersonation_url)",
        lambda place: {
            "credential_config_file": json.dumps(place.servers.federation(place.subject(), impersonate="robot@pool"))
        },
        ["sts", "iam"],
        "iam",
        "robot@pool",
    ),
    "credential_config_file with a login": Row(
        ("credential_config_file",),
        "any other type of google-auth's credential files",
        lambda place: {"credential_config_file": place.file(place.servers.login)},
        ["login"],
        "login",
        "a user's login",
        lambda servers, headers, _: headers["x-goog-user-project"] == "of-the-login",
    ),
    "credential_config_file with an impersonated login": Row(
        ("credential_config_file",),
        "what `gcloud auth application-default login --impersonate-service-account` leaves",
        lambda place: {
            "credential_config_file": place.file(
                {
                    "type": "impersonated_service_account",
                    "source_credentials": place.servers.login,
                    "service_account_impersonation_url": "https://iam/v1/serviceAccounts/robot@pool:generateAccessToken",
                    "delegates": [],
                }
            )
        },
        ["login", "iam"],
        "iam",
        "robot@pool",
    ),
    "credential_config_file with a workforce login": Row(
        ("credential_config_file",),
        "what `gcloud auth application-default login` leaves for a workforce pool",
        lambda place: {
            "credential_config_file": {
                "type": "external_account_authorized_user",
                "audience": "//iam.googleapis.com/locations/global/workforcePools/pool/providers/p",
                "token_url": f"{place.servers.url}/token",
                "refresh_token": place.servers.refresh_token,
                "client_id": "gcloud",
                "client_secret": place.servers.client_secret,
            }
        },
        ["login"],
        "login",
        "workforce identity federation",
    ),
    "credential_config_file with a program": Row(
        ("credential_config_file",),
        "a program that prints the subject token, where the environment allows it",
        lambda place: (
            place.monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
            or {"credential_config_file": place.servers.federation({"executable": {"command": place.program()}})}
        ),
        ["sts"],
        "sts",
        "workload identity federation with an executable",
    ),
    "credential_config_file of AWS": Row(
        ("credential_config_file",),
        "a signed request of AWS is the subject token",
        lambda place: (
            place.on_aws()
            or {
                "credential_config_file": {
                    **place.servers.federation(
                        {
                            "environment_id": "aws1",
                            "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity",
                        }
                    ),
                    "subject_token_type": AWS_REQUEST,
                }
            }
        ),
        ["sts"],
        "sts",
        "workload identity federation with AWS",
    ),
    "credential_config_file with a key": Row(
        ("credential_config_file",),
        "a service account's key in that place",
        lambda place: {"credential_config_file": place.file(place.servers.key)},
        ["key"],
        "key",
        EMAIL,
    ),
    "quota_project_id by its variable": Row(
        ("credential_config_file",),
        "GOOGLE_CLOUD_QUOTA_PROJECT counts for files of credentials, as for the default ones",
        lambda place: (
            place.monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "payer")
            or {"credential_config_file": place.servers.key}
        ),
        ["key"],
        "key",
        EMAIL,
        lambda servers, headers, _: headers["x-goog-user-project"] == "payer",
    ),
    "key_secret_name": Row(
        ("key_secret_name",),
        "a secret of Secret Manager (latest version) that holds a key, read with the default credentials",
        lambda place: place.monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-adc") or place.secret(),
        ["login", "secret", "key"],
        "key",
        EMAIL,
        lambda servers, *_: (
            _asked(servers, "secret").path == "/v1/projects/of-adc/secrets/my-key/versions/latest:access"
            and _asked(servers, "secret").token.startswith("ya29.login")
        ),
    ),
    "key_secret_project_id": Row(
        ("key_secret_name", "key_secret_project_id"),
        "the project of that secret, if not that of the default credentials",
        lambda place: place.secret(key_secret_project_id="vault"),
        ["login", "secret", "key"],
        "key",
        EMAIL,
        lambda servers, *_: (
            _asked(servers, "secret").path == "/v1/projects/vault/secrets/my-key/versions/latest:access"
        ),
    ),
    "idp_issuer_url": Row(
        ("idp_issuer_url", "client_id", "client_secret", "credential_config_file"),
        "an identity provider's token (client credentials grant), exchanged as the configuration says",
        lambda place: place.idp(),
        ["idp", "sts"],
        "sts",
        "workload identity federation",
        lambda servers, *_: (
            _asked(servers, "idp").form
            == {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": servers.client_secret}
        ),
        differs="refuses it without a project; keeps the provider's token, where we keep Google's",
    ),
    "idp_extra_parameters": Row(
        ("idp_extra_parameters",),
        "more parameters for that request, as a JSON object",
        lambda place: place.idp(idp_extra_parameters='{"audience": "google", "expires": 60}'),
        ["idp", "sts"],
        "sts",
        "workload identity federation",
        lambda servers, *_: _asked(servers, "idp").form.items() >= {"audience": "google", "expires": "60"}.items(),
        differs="the form's field is never read",
    ),
    "idp_extra_params": Row(
        ("idp_extra_params",),
        "the same by the name that Google's hook reads",
        lambda place: place.idp(idp_extra_params={"audience": "google"}),
        ["idp", "sts"],
        "sts",
        "workload identity federation",
        lambda servers, *_: _asked(servers, "idp").form["audience"] == "google",
        differs="reads it, and does not send it",
    ),
    "impersonation_chain": Row(
        ("impersonation_chain",),
        "the account to act as",
        lambda place: {**place.key(), "impersonation_chain": "target@x"},
        ["key", "iam"],
        "iam",
        "target@x",
        lambda servers, *_: (
            _asked(servers, "iam").path.endswith("/serviceAccounts/target@x:generateAccessToken")
            and _asked(servers, "iam").form["scope"] == [CLOUD]
            and not _asked(servers, "iam").form["delegates"]
        ),
    ),
    "impersonation_chain, comma separated": Row(
        ("impersonation_chain",),
        "the accounts that lead to the one to be",
        lambda place: {**place.key(), "impersonation_chain": "first@x, second@x, target@x"},
        ["key", "iam"],
        "iam",
        "target@x",
        lambda servers, *_: _asked(servers, "iam").form["delegates"] == ["first@x", "second@x"],
    ),
    "impersonation_chain as a list": Row(
        ("impersonation_chain",),
        "the same as a list, here from a federated identity",
        lambda place: {
            "credential_config_file": place.servers.federation(place.subject()),
            "impersonation_chain": ["first@x", "target@x"],
        },
        ["sts", "iam"],
        "iam",
        "target@x",
        lambda servers, *_: _asked(servers, "iam").form["delegates"] == ["first@x"],
    ),
    "scope": Row(
        ("scope",),
        "the OAuth scopes, comma separated, of the token; default cloud-platform",
        lambda place: {**place.key(), "scope": f"{EARTH}, {CLOUD}"},
        ["key"],
        "key",
        EMAIL,
        lambda servers, *_: _claims(servers)["scope"] == f"{EARTH} {CLOUD}",
    ),
    "quota_project_id": Row(
        ("quota_project_id",),
        "the project that requests are counted and billed on",
        lambda place: {**place.key(), "quota_project_id": "payer"},
        ["key"],
        "key",
        EMAIL,
        lambda servers, headers, _: headers["x-goog-user-project"] == "payer",
    ),
    "quota_project_id with impersonation": Row(
        ("quota_project_id",),
        "not of the request for the token, which is made by another account",
        lambda place: {**place.key(), "quota_project_id": "payer", "impersonation_chain": "target@x"},
        ["key", "iam"],
        "iam",
        "target@x",
        lambda servers, headers, _: (
            headers["x-goog-user-project"] == "payer" and "x-goog-user-project" not in _asked(servers, "iam").headers
        ),
    ),
    "project": Row(
        ("project",),
        "is kept (`settings.project`); operations are named in full, so no request needs it",
        lambda place: {**place.key(), "project": "mine"},
        ["key"],
        "key",
        EMAIL,
        differs="the default project of operators",
    ),
    "num_retries": Row(
        ("num_retries",),
        "is honoured: how often one request is tried again (see below); default 5",
        lambda place: {**place.key(), "num_retries": "3"},
        ["key"],
        "key",
        EMAIL,
    ),
    "is_anonymous": Row(
        ("is_anonymous",),
        "no token is sent, whatever else the connection holds",
        lambda place: {**place.key(), "is_anonymous": True},
        [],
        None,
        "anonymous",
        lambda servers, headers, _: headers == {},
        differs="refuses other credentials beside it, though its form says that it ignores them",
    ),
    "nothing, and a variable": Row(
        (),
        "application default credentials: GOOGLE_APPLICATION_CREDENTIALS",
        lambda place: place.logged_in() or {},
        ["login"],
        "login",
        "a user's login",
    ),
    "nothing, and a variable that names a federation": Row(
        (),
        "application default credentials of workload identity federation",
        lambda place: (
            place.monkeypatch.setenv(
                "GOOGLE_APPLICATION_CREDENTIALS", place.file(place.servers.federation(place.subject()))
            )
            or {"scope": EARTH}
        ),
        ["sts"],
        "sts",
        "workload identity federation",
        lambda servers, *_: _asked(servers, "sts").form["scope"] == EARTH,
    ),
    "nothing, and gcloud": Row(
        (),
        "application default credentials: what gcloud left",
        lambda place: _gcloud(place) or {"quota_project_id": "payer"},
        ["login"],
        "login",
        "a user's login",
        lambda servers, headers, _: headers["x-goog-user-project"] == "payer",
    ),
    "nothing, on a machine of Google": Row(
        (),
        "application default credentials: the metadata server",
        lambda place: {},
        METADATA,
        "metadata",
        MACHINE,
    ),
    "impersonation from a machine of Google": Row(
        ("impersonation_chain",),
        "the account to act as, from the metadata server's",
        lambda place: {"impersonation_chain": "target@x", "scope": EARTH},
        [*METADATA, "iam"],
        "iam",
        "target@x",
        lambda servers, *_: _asked(servers, "iam").form["scope"] == [EARTH],
    ),
}


def _gcloud(place: Place) -> None:
    folder = Path(os.environ["CLOUDSDK_CONFIG"])
    folder.mkdir(parents=True)
    (folder / "application_default_credentials.json").write_text(json.dumps(place.servers.login), encoding="utf-8")
    place.monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")  # google-auth would run gcloud to know it


@pytest.fixture
def place(servers: IdentityServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where a connection is used."""
    (tmp_path / "files").mkdir()
    return Place(servers, tmp_path / "files", monkeypatch)


def in_json(place: Place, extra: dict[str, Any]) -> None:
    """The connection in the environment, as JSON."""
    definition = {"conn_type": "google_cloud_platform", "extra": extra}
    place.monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(definition))


def in_uri(place: Place, extra: dict[str, Any]) -> None:
    """The connection in the environment, as a URI: every value is a string."""
    texts = {key: _text(value) for key, value in extra.items()}
    place.monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", f"google-cloud-platform://?{urlencode(texts)}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def with_old_names(place: Place, extra: dict[str, Any]) -> None:
    """The connection with the names that Airflow 2 gave the fields of its form."""
    in_json(place, {OLD + key: value for key, value in extra.items()})


SPELLINGS: dict[str, Callable[[Place, dict[str, Any]], None]] = {
    "JSON": in_json,
    "URI": in_uri,
    "old names": with_old_names,
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_kind_of_credential(place: Place, row: Row, spell: Callable[[Place, dict[str, Any]], None]) -> None:
    """A connection of Google's hook, as it is, gets the token it means, by the way it means, once."""
    spell(place, row.extra(place))
    identity = OperationsHook().get_conn().identity
    headers = identity.headers()
    assert place.servers.journey() == row.journey
    if row.token is None:
        assert "authorization" not in headers
    else:
        assert headers["authorization"] == f"Bearer {place.servers.tokens[-1]}"
        assert place.servers.tokens[-1].startswith(f"ya29.{row.token}-")
    assert identity.description == row.who
    assert row.seen(place.servers, headers, identity)
    # A second connection, a thread and an event loop find the token there.
    assert asyncio.run(OperationsHook().get_conn().identity.async_headers()) == headers
    assert place.servers.journey() == row.journey


def test_the_table_has_every_field_of_googles_hook() -> None:
    """No field of Google's form is forgotten, and each row says what it does."""
    assert {name for row in ROWS.values() for name in row.fields} == FIELDS_OF_GOOGLES_HOOK
    assert all(row.does for row in ROWS.values())


@pytest.mark.parametrize("retries", [0, 2])
def test_num_retries_is_honoured(servers: IdentityServers, retries: int) -> None:
    """A request that the API cannot serve now is sent once, and as often again as the connection says."""
    servers.answer["metadata"] = lambda _: (503, {"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}})
    extra = {"num_retries": retries, "is_anonymous": True, "api_endpoint": servers.url}
    client = OperationsClient(ConnectionSettings.from_extra(extra), sleep=lambda _: None)
    with client, pytest.raises(UnavailableError):
        client.get(read_reference(NAME, "datafusion"))
    assert len(servers.asked) == 1 + retries


def test_the_default_project_is_kept(place: Place) -> None:
    """`project` can be read from the settings, from a URI as well."""
    in_uri(place, {"project": "mine"})
    assert OperationsHook().settings.project == "mine"


def _default_project(place: Place, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    place.logged_in()
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-adc")
    return {}


PROJECTS: dict[str, tuple[Callable[[Place, pytest.MonkeyPatch], dict[str, Any]], str]] = {
    "the connection's": (lambda place, _: {**place.key(), "project": "mine"}, "mine"),
    "of a key": (lambda place, _: place.key(), "my-project"),
    "of a file with a key": (lambda place, _: {"key_path": place.file(place.servers.key)}, "my-project"),
    "of a key in Secret Manager": (lambda place, _: place.secret(key_secret_project_id="vault"), "my-project"),
    "of the default credentials": (_default_project, "of-adc"),
    "of the account that is impersonated": (
        lambda place, _: {**place.key(), "impersonation_chain": "a@theirs.iam.gserviceaccount.com"},
        "theirs",
    ),
}


@pytest.mark.parametrize(("make", "project"), PROJECTS.values(), ids=PROJECTS.keys())
async def test_a_location_lies_in_the_project_that_google_would_take(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Place, pytest.MonkeyPatch], dict[str, Any]],
    project: str,
) -> None:
    """B15: the project of names that begin with their location is that of Google's own hook, for both hooks."""
    in_json(place, make(place, monkeypatch))
    hook = OperationsHook(service="datafusion")
    assert hook.reference(" locations/l/operations/o").name == f"projects/{project}/locations/l/operations/o"
    shared = OperationsAsyncHook(service="datafusion")
    assert (await shared.reference("locations/l/operations/o")).name == f"projects/{project}/locations/l/operations/o"


def test_credentials_are_not_read_for_a_name_with_its_project(place: Place) -> None:
    """A reference is read without a request, or a file: only a project that is missing is asked for."""
    in_json(place, {"key_path": "/nowhere.json"})
    assert OperationsHook(service="datafusion").reference(NAME).name == NAME


def test_the_metadata_server_is_found_by_its_variables(servers: IdentityServers) -> None:
    """GCE_METADATA_HOST, read by a process of its own, leads to the machine's account."""
    code = (
        "from airflow_lro_provider.lro.auth.credentials import identity_for\n"
        "from airflow_lro_provider.lro.auth.settings import ConnectionSettings\n"
        "identity = identity_for(ConnectionSettings.from_extra({}))\n"
        "print(identity.headers()['authorization'], identity.description)"
    )
    environment = {**os.environ, "GCE_METADATA_HOST": servers.host, "GCE_METADATA_IP": servers.host}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["Bearer", servers.tokens[-1], MACHINE]
    assert servers.journey() == METADATA


def test_a_federated_machine_reads_a_secret_by_its_projects_number(place: Place) -> None:
    """Federated default credentials name a project by number only, which Secret Manager takes."""
    extra = place.secret()
    federation = place.file(place.servers.federation(place.subject()))
    place.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", federation)
    assert identity_for(ConnectionSettings.from_extra(extra)).description == EMAIL
    assert _asked(place.servers, "secret").path == "/v1/projects/123456/secrets/my-key/versions/latest:access"


def test_a_configuration_with_a_source_of_its_own_takes_the_identity_provider(place: Place) -> None:
    """`gcloud` always writes a source into a configuration; the connection's identity provider goes before it."""
    extra = place.idp(credential_config_file=place.servers.federation({"file": "/nowhere"}))
    identity_for(ConnectionSettings.from_extra(extra)).headers()
    assert place.servers.journey() == ["idp", "sts"]
