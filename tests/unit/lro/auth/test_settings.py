"""A connection's settings: what is understood, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_lro_provider.lro.auth.settings import DEFAULT_SCOPES, ConnectionSettings
from airflow_lro_provider.lro.errors import (
    ConnectionSettingsError,
    ForbiddenEndpointError,
    InvalidRequestError,
)

OLD = "extra__google_cloud_platform__"
SECRET = "c2VjcmV0LWtleS1tYXRlcmlhbA"
SCOPE_A, SCOPE_B = "https://www.googleapis.com/auth/earthengine", "https://www.googleapis.com/auth/cloud-platform"


def read(**extra: Any) -> ConnectionSettings:
    """The settings of a connection with this extra."""
    return ConnectionSettings.from_extra(extra, conn_id="my_google")


# --- settings --------------------------------------------------------------------------------------


def test_an_empty_connection() -> None:
    """Without any extra: default credentials, all of Google Cloud, five retries, Google's hosts."""
    assert read() == ConnectionSettings()
    assert ConnectionSettings() == ConnectionSettings(
        key_path=None,
        keyfile_dict=None,
        scopes=("https://www.googleapis.com/auth/cloud-platform",),
        project=None,
        quota_project_id=None,
        impersonation_chain=(),
        num_retries=5,
        start_timeout=60,
        is_anonymous=False,
        api_endpoint=None,
        emulator=False,
        credential_config_file=None,
        key_secret_name=None,
        key_secret_project_id=None,
        idp_issuer_url=None,
        client_id=None,
        client_secret=None,
        idp_extra_parameters=None,
        universe_domain="googleapis.com",
    )


IDP = {
    "credential_config_file": "/keys/federation",
    "idp_issuer_url": "https://idp.example/token",
    "client_id": "me",
    "client_secret": SECRET,
}
FIELDS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "project": ({"project": "p"}, "project", "p"),
    "project with blanks": ({"project": " p\n"}, "project", "p"),
    "project as a number": ({"project": 123456}, "project", "123456"),
    "quota project as a number": ({"quota_project_id": 123456}, "quota_project_id", "123456"),
    "key_path": ({"key_path": "/keys/k.json"}, "key_path", "/keys/k.json"),
    "quota_project_id": ({"quota_project_id": "q"}, "quota_project_id", "q"),
    "keyfile_dict as text": ({"keyfile_dict": '{"b": 1, "a": 2}'}, "keyfile_dict", '{"a": 2, "b": 1}'),
    "keyfile_dict as an object": ({"keyfile_dict": {"b": 1, "a": 2}}, "keyfile_dict", '{"a": 2, "b": 1}'),
    "keyfile_dict, escaped newlines": (
        {"keyfile_dict": {"private_key": "-----BEGIN\\nx\\n"}},
        "keyfile_dict",
        json.dumps({"private_key": "-----BEGIN\nx\n"}),
    ),
    "credential_config_file, a path": (
        {"credential_config_file": "/keys/federation"},
        "credential_config_file",
        "/keys/federation",
    ),
    "credential_config_file as text": (
        {"credential_config_file": ' {"b": 1, "a": 2}'},
        "credential_config_file",
        '{"a": 2, "b": 1}',
    ),
    "credential_config_file as an object": (
        {"credential_config_file": {"b": 1, "a": 2}},
        "credential_config_file",
        '{"a": 2, "b": 1}',
    ),
    "key_secret_name": ({"key_secret_name": "my_key-1"}, "key_secret_name", "my_key-1"),
    "key_secret_project_id": ({"key_secret_project_id": "example.com:p"}, "key_secret_project_id", "example.com:p"),
    "idp_issuer_url": ({**IDP}, "idp_issuer_url", "https://idp.example/token"),
    "idp_issuer_url beside a key": (
        {"idp_issuer_url": "https://idp.example/token", "key_path": "/keys/k.json"},
        "key_path",
        "/keys/k.json",
    ),
    "client_id": ({**IDP}, "client_id", "me"),
    "client_secret": ({**IDP}, "client_secret", SECRET),
    "idp_extra_parameters as text": (
        {"idp_extra_parameters": '{"b": 1, "a": "x"}'},
        "idp_extra_parameters",
        '{"a": "x", "b": 1}',
    ),
    "idp_extra_params": ({"idp_extra_params": {"a": "x"}}, "idp_extra_parameters", '{"a": "x"}'),
    "universe_domain": ({"universe_domain": "Universe.Example"}, "universe_domain", "universe.example"),
    "scope": ({"scope": f"{SCOPE_A},{SCOPE_B}"}, "scopes", (SCOPE_A, SCOPE_B)),
    "scope with blanks": ({"scope": f" {SCOPE_A} , {SCOPE_B},"}, "scopes", (SCOPE_A, SCOPE_B)),
    "scope as a list": ({"scope": [SCOPE_A, SCOPE_B]}, "scopes", (SCOPE_A, SCOPE_B)),
    "scope, empty": ({"scope": ""}, "scopes", DEFAULT_SCOPES),
    "num_retries": ({"num_retries": 2}, "num_retries", 2),
    "num_retries from a URI": ({"num_retries": "2"}, "num_retries", 2),
    "num_retries, none": ({"num_retries": 0}, "num_retries", 0),
    "num_retries, empty": ({"num_retries": ""}, "num_retries", 5),
    "num_retries, null": ({"num_retries": None}, "num_retries", 5),
    "start_timeout": ({"start_timeout": "90"}, "start_timeout", 90),
    "start_timeout, long": ({"start_timeout": 1_000_000}, "start_timeout", 1_000_000),
    "start_timeout, none": ({}, "start_timeout", 60),
    "is_anonymous": ({"is_anonymous": True}, "is_anonymous", True),
    "is_anonymous from a URI": ({"is_anonymous": "True"}, "is_anonymous", True),
    "is_anonymous as 1": ({"is_anonymous": "1"}, "is_anonymous", True),
    "is_anonymous as yes": ({"is_anonymous": " Yes "}, "is_anonymous", True),
    "is_anonymous, false from a URI": ({"is_anonymous": "false"}, "is_anonymous", False),
    "is_anonymous, 0 from a URI": ({"is_anonymous": "0"}, "is_anonymous", False),
    "is_anonymous as no": ({"is_anonymous": "no"}, "is_anonymous", False),
    "is_anonymous as 0": ({"is_anonymous": 0}, "is_anonymous", False),
    "is_anonymous, empty": ({"is_anonymous": ""}, "is_anonymous", False),
    "impersonation_chain": ({"impersonation_chain": "a@x"}, "impersonation_chain", ("a@x",)),
    "impersonation_chain, several": ({"impersonation_chain": "a@x, b@x"}, "impersonation_chain", ("a@x", "b@x")),
    "impersonation_chain as a list": (
        {"impersonation_chain": ["a@x", " b@x "]},
        "impersonation_chain",
        ("a@x", "b@x"),
    ),
    "api_endpoint": ({"api_endpoint": "https://psc.example/"}, "api_endpoint", "https://psc.example"),
    "api_endpoint on this machine": (
        {"api_endpoint": "http://127.0.0.1:8080"},
        "api_endpoint",
        "http://127.0.0.1:8080",
    ),
    "api_endpoint of an emulator": (
        {"api_endpoint": "http://emulator:8080", "emulator": "true"},
        "api_endpoint",
        "http://emulator:8080",
    ),
    "emulator": ({"api_endpoint": "http://emulator:8080", "emulator": True}, "emulator", True),
}


@pytest.mark.parametrize("prefix", ["", OLD], ids=["today's name", "old name"])
@pytest.mark.parametrize(("extra", "name", "value"), FIELDS.values(), ids=FIELDS.keys())
def test_fields(extra: dict[str, Any], name: str, value: Any, prefix: str) -> None:
    """Each field is read from JSON and from the strings of a URI, under its present and its old name."""
    assert getattr(read(**{prefix + key: part for key, part in extra.items()}), name) == value


def test_the_present_name_goes_before_the_old_one() -> None:
    """A connection that has both names means the present one."""
    assert read(project="new", **{OLD + "project": "old"}).project == "new"


@pytest.mark.parametrize("empty", ["", None])
@pytest.mark.parametrize("name", ["key_path", "impersonation_chain", "quota_project_id", "is_anonymous"])
def test_a_field_that_was_emptied_is_empty(name: str, empty: Any) -> None:
    """Google's provider 19.1 (apache/airflow#58348): its hooks take no value of an old name then."""
    assert read(**{name: empty, OLD + name: "/old.json" if name == "key_path" else "1"}) == ConnectionSettings()


def test_false_is_a_value_of_the_present_name() -> None:
    """A present `false` is not overruled by an old `true`."""
    assert read(is_anonymous=False, **{OLD + "is_anonymous": True}).is_anonymous is False


@pytest.mark.parametrize(
    ("given", "chain"),
    [
        (None, ("connection@x",)),
        ("", ("connection@x",)),
        ([], ("connection@x",)),
        ("task@x", ("task@x",)),
        ("a@x,task@x", ("a@x", "task@x")),
        (["a@x", "task@x"], ("a@x", "task@x")),
        (("a@x", "task@x"), ("a@x", "task@x")),
    ],
    ids=repr,
)
def test_the_tasks_impersonation_goes_before_the_connections(given: Any, chain: tuple[str, ...]) -> None:
    """A task that names accounts overrules the connection."""
    extra = {"impersonation_chain": "connection@x"}
    assert ConnectionSettings.from_extra(extra, impersonation_chain=given).impersonation_chain == chain


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "project is a path": ({"project": "projects/p"}, "`project` must be a project id"),
    "project is true": ({"project": True}, "`project` must be a string, not bool"),
    "key_path is a list": ({"key_path": ["k.json"]}, "`key_path` must be a string, not list"),
    "key_path is no .json": ({"key_path": "/keys/key.p12"}, "`key_path` must be the path of a .json key file"),
    "two keys": (
        {"key_path": "/k.json", "keyfile_dict": "{}"},
        "`key_path` and `keyfile_dict` are both given; keep one of them",
    ),
    "a key and a secret": (
        {"keyfile_dict": "{}", "key_secret_name": "k"},
        "`keyfile_dict` and `key_secret_name` are both given; keep one of them",
    ),
    "a key and a configuration": (
        {"key_path": "/k.json", "credential_config_file": "/f"},
        "`key_path` and `credential_config_file` are both given; keep one of them",
    ),
    "credential_config_file is broken JSON": (
        {"credential_config_file": f'{{"client_secret": "{SECRET}"'},
        "`credential_config_file` is not valid JSON; give the path",
    ),
    "credential_config_file is a list": (
        {"credential_config_file": [SECRET]},
        "`credential_config_file` must be a JSON object; give the path",
    ),
    "key_secret_name with its project": (
        {"key_secret_name": "projects/p/secrets/s"},
        "`key_secret_name` must be the plain name of a secret",
    ),
    "key_secret_name that leads elsewhere": ({"key_secret_name": "../x"}, "`key_secret_name` must be the plain name"),
    "key_secret_project_id that leads elsewhere": (
        {"key_secret_name": "s", "key_secret_project_id": "p/secrets/other"},
        "`key_secret_project_id` must be a project id",
    ),
    "quota_project_id that no header can hold": (
        {"quota_project_id": "a\nb"},
        "`quota_project_id` must be a project id",
    ),
    "idp_issuer_url alone": (
        {"idp_issuer_url": "https://idp.example/token"},
        "`idp_issuer_url` needs `credential_config_file`",
    ),
    "idp_issuer_url without client_id": (
        {key: value for key, value in IDP.items() if key != "client_id"},
        "`idp_issuer_url` needs `client_id`",
    ),
    "idp_issuer_url without client_secret": (
        {key: value for key, value in IDP.items() if key != "client_secret"},
        "`idp_issuer_url` needs `client_secret`",
    ),
    "idp_extra_parameters is no JSON": (
        {"idp_extra_parameters": SECRET},
        "`idp_extra_parameters` is not valid JSON; give a JSON object",
    ),
    "idp_extra_parameters has a list": (
        {"idp_extra_parameters": {"a": [SECRET]}},
        "`idp_extra_parameters` must hold plain values",
    ),
    "client_secret is a number": ({"client_secret": 7}, "`client_secret` must be a string, not int"),
    "keyfile_dict is broken JSON": (
        {"keyfile_dict": f'{{"private_key": "{SECRET}"'},
        "`keyfile_dict` is not valid JSON; paste the whole contents of the key file",
    ),
    "keyfile_dict is nested without end": ({"keyfile_dict": "[" * 100_000}, "`keyfile_dict` is not valid JSON"),
    "keyfile_dict is a list": ({"keyfile_dict": f'["{SECRET}"]'}, "`keyfile_dict` must be a JSON object"),
    "keyfile_dict is a number": ({"keyfile_dict": 7}, "`keyfile_dict` must be a JSON object"),
    "scope is a number": ({"scope": 7}, "`scope` must be a string, not int"),
    "scope has a number": ({"scope": [SCOPE_A, 7]}, "`scope` must be a string, not list"),
    "num_retries is a word": ({"num_retries": "many"}, "`num_retries` must be a whole number"),
    "num_retries is a list": ({"num_retries": [1]}, "`num_retries` must be a whole number"),
    "num_retries is not a number": ({"num_retries": float("nan")}, "`num_retries` must be a whole number"),
    "num_retries is infinite": ({"num_retries": float("inf")}, "`num_retries` must be a whole number"),
    "num_retries is a fraction": ({"num_retries": 2.7}, "`num_retries` must be a whole number"),
    "num_retries is negative": ({"num_retries": "-1"}, "`num_retries` must not be negative"),
    "start_timeout is zero": ({"start_timeout": 0}, "`start_timeout` must be at least 1"),
    "start_timeout is too long": ({"start_timeout": 9999999999}, "`start_timeout` must be at most 1000000"),
    "is_anonymous is a word": ({"is_anonymous": "maybe"}, "`is_anonymous` must be true or false"),
    "is_anonymous is a list": ({"is_anonymous": []}, "`is_anonymous` must be true or false"),
    "emulator without an endpoint": ({"emulator": True}, "`emulator` needs `api_endpoint`: where is the emulator"),
    "impersonation_chain is an object": ({"impersonation_chain": {"a": 1}}, "`impersonation_chain` must be a string"),
}


@pytest.mark.parametrize(("extra", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(extra: dict[str, Any], sentence: str) -> None:
    """What cannot be used is refused in one sentence that names the connection and the field, never its content."""
    with pytest.raises(ConnectionSettingsError) as caught:
        read(**extra)
    message = str(caught.value)
    assert message.startswith(f"connection 'my_google': {sentence}")
    assert "\n" not in message
    assert SECRET not in message + repr(caught.value)


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"api_endpoint": "http://psc.example"}, "plain http to another machine"),
        ({"api_endpoint": "http://psc.example", "emulator": "false"}, "plain http to another machine"),
        ({"api_endpoint": "psc.example"}, "not a URL of a server"),
        ({"api_endpoint": "ftp://psc.example", "emulator": True}, "must begin with https://"),
    ],
    ids=["http", "http, and no emulator", "no scheme", "ftp"],
)
def test_endpoints_are_checked_with_the_connection(extra: dict[str, Any], why: str) -> None:
    """An endpoint that would see a token in the clear is refused when the connection is read."""
    with pytest.raises(ForbiddenEndpointError, match=why):
        read(**extra)


def test_a_repr_of_settings_has_no_key() -> None:
    """Settings can be printed: the key is not in them."""
    settings = read(
        keyfile_dict={"private_key": SECRET},
        idp_extra_parameters={"assertion": SECRET},
        client_secret=SECRET,
        project="visible",
    )
    assert SECRET not in repr(settings)
    assert "visible" in repr(settings)
    assert SECRET not in repr(read(credential_config_file={"client_secret": SECRET}))


def test_refusals_are_of_one_family() -> None:
    """Everything that is wrong with a connection is refused before anything is sent."""
    assert issubclass(ConnectionSettingsError, InvalidRequestError)
    assert issubclass(ForbiddenEndpointError, InvalidRequestError)


# --- what is misspelt ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("keypath", "key_path"),
        ("keyPath", "key_path"),
        ("keyfile_path", "key_path"),
        ("keyfile", "key_path` or `keyfile_dict"),
        (f"{OLD}keyfile_json", "key_path` or `keyfile_dict"),
        ("scopes", "scope"),
        ("impersonate_chain", "impersonation_chain"),
        ("quota_project", "quota_project_id"),
        ("endpoint", "api_endpoint"),
        ("anonymous", "is_anonymous"),
    ],
)
def test_a_misspelt_field_is_refused(name: str, meant: str) -> None:
    """C11: a field that is nearly one of ours would silently be other credentials; its value is not quoted."""
    with pytest.raises(ConnectionSettingsError) as caught:
        read(**{name: SECRET})
    assert str(caught.value).endswith(f"`{name}` is no field of a connection; did you mean `{meant}`?")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["project_id", "location", "instance", "use_legacy_sql", "labels", "database_type"])
def test_fields_of_other_hooks_are_left_to_them(name: str) -> None:
    """C11: what is nothing like a field of ours does not keep a connection from being used."""
    assert read(**{name: "x"}) == ConnectionSettings()


def test_a_key_in_place_of_the_extra_is_refused() -> None:
    """C11: a pasted key file would silently be the application default credentials."""
    with pytest.raises(ConnectionSettingsError, match="belongs into `keyfile_dict`") as caught:
        read(type="service_account", project_id="p", private_key=SECRET, client_email="a@b")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "scope",
    [
        f"{SCOPE_A},{SCOPE_B}",
        f"{SCOPE_A} {SCOPE_B}",
        f" {SCOPE_A} ,\n{SCOPE_B} ",
        [SCOPE_A, SCOPE_B],
        [f"{SCOPE_A} {SCOPE_B}"],
    ],
)
def test_scopes_are_separated_by_commas_or_spaces(scope: Any) -> None:
    """B15: by commas as in Google's hook, by spaces as in OAuth, or in a list."""
    assert read(scope=scope).scopes == (SCOPE_A, SCOPE_B)
