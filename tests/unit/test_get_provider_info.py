"""What Airflow reads to discover the provider is right by Airflow's own schema, and tells the truth."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from airflow_lro_provider.get_provider_info import get_provider_info
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from tests.airflow.versions import since_3

INFO = get_provider_info()
[CONNECTION] = INFO["connection-types"]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    """Airflow's own schema of what a provider may say."""
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_airflows_schema_is_kept(validator: jsonschema.Draft7Validator) -> None:
    """The description is valid by Airflow's provider_info.schema.json."""
    assert list(validator.iter_errors(INFO)) == []


@since_3
@pytest.mark.parametrize(
    "broken",
    [
        {**INFO, "hooks": "airflow_lro_provider.hooks.operations"},
        {**INFO, "connection-types": [{"connection-type": 7}]},
        {key: value for key, value in INFO.items() if key != "name"},
    ],
    ids=["hooks", "connection types", "no name"],
)
def test_the_schema_can_say_no(validator: jsonschema.Draft7Validator, broken: dict[str, Any]) -> None:
    """The check above is one that a wrong description does not pass."""
    assert not validator.is_valid(broken)


@since_3
def test_airflow_knows_every_key(validator: jsonschema.Draft7Validator) -> None:
    """No key of the description is one that Airflow would silently ignore."""
    assert set(INFO) <= set(validator.schema["properties"])
    of_connections = set(validator.schema["properties"]["connection-types"]["items"]["properties"])
    # Read by the ProvidersManager of a later Airflow (the name), or of this one: its schema does not list them yet.
    assert set(CONNECTION) <= of_connections | {"hook-name", "conn-fields", "ui-field-behaviour"}


def modules() -> list[str]:
    """Every module that the description names."""
    named = [
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for row in INFO[kind]
        for module in row["python-modules"]
    ]
    classes = [CONNECTION["hook-class-name"], *INFO["extra-links"]]
    return named + [name.rpartition(".")[0] for name in classes]


@pytest.mark.parametrize("module", modules())
def test_every_module_is_there(module: str) -> None:
    """Each module that is named can be found."""
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_no_module_is_forgotten(kind: str) -> None:
    """Each public module of a folder that has a class of its kind (OperationsHook in hooks/) is named."""
    folder = files("airflow_lro_provider").joinpath(kind)
    word = kind.removesuffix("s").capitalize()
    found = {
        f"airflow_lro_provider.{kind}.{path.name.removesuffix('.py')}"
        for path in folder.iterdir()
        if path.name.endswith(".py")
        and not path.name.startswith("_")
        and re.search(rf"^class [A-Z]\w*{word}\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {module for row in INFO[kind] for module in row["python-modules"]} == found


def test_every_class_is_there() -> None:
    """The hook and the link that are named are classes of theirs, and the hook agrees about the connection."""
    for name in (CONNECTION["hook-class-name"], *INFO["extra-links"]):
        module, _, attribute = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), attribute), type)
    hook = importlib.import_module("airflow_lro_provider.hooks.operations").OperationsHook
    assert (hook.conn_type, hook.hook_name) == (CONNECTION["connection-type"], CONNECTION["hook-name"])


def test_integrations_are_those_that_are_named() -> None:
    """Hooks, operators, sensors and triggers belong to an integration that is described."""
    described = {row["integration-name"] for row in INFO["integrations"]}
    named = {row["integration-name"] for kind in ("hooks", "operators", "sensors", "triggers") for row in INFO[kind]}
    assert named == described


# A value of each field that differs from what a connection without it means.
VALUES: dict[str, Any] = {
    "project": "p",
    "key_path": "/keys/k.json",
    "keyfile_dict": "{}",
    "credential_config_file": "/keys/federation.json",
    "key_secret_name": "key",
    "key_secret_project_id": "p",
    "idp_issuer_url": "https://idp.example/token",
    "client_id": "client",
    "client_secret": "s3cret",
    "idp_extra_parameters": '{"audience": "x"}',
    "impersonation_chain": "a@x",
    "quota_project_id": "q",
    "scope": "https://www.googleapis.com/auth/earthengine",
    "num_retries": 2,
    "start_timeout": 90,
    "api_endpoint": "https://psc.example",
    "emulator": True,
    "is_anonymous": True,
    "universe_domain": "universe.example",
}
# Fields that say nothing by themselves.
COMPANY: dict[str, dict[str, Any]] = {
    "emulator": {"api_endpoint": "https://psc.example"},
    "idp_issuer_url": {"credential_config_file": "/keys/f.json", "client_id": "c", "client_secret": "s"},
}


def test_the_form_has_the_fields_of_the_settings() -> None:
    """Every field of the connection form is in the table of this file, and every setting has a field."""
    assert set(CONNECTION["conn-fields"]) == set(VALUES)
    assert {field.name for field in dataclasses.fields(ConnectionSettings)} == {*VALUES, "scopes"} - {"scope"}


@pytest.mark.parametrize("field", CONNECTION["conn-fields"])
def test_each_field_of_the_form_is_read(field: str) -> None:
    """What a user fills in, as the form's own schema allows it, changes the settings; left empty it does not."""
    base = COMPANY.get(field, {})
    schema = CONNECTION["conn-fields"][field]["schema"]
    jsonschema.validate(VALUES[field], schema)
    jsonschema.validate(None, schema)
    plain = ConnectionSettings.from_extra(base)
    assert ConnectionSettings.from_extra({**base, field: VALUES[field]}) != plain
    assert ConnectionSettings.from_extra({**base, field: None}) == plain


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("num_retries", -1),
        ("start_timeout", 0),
        ("num_retries", "2"),
        ("emulator", "yes"),
        ("is_anonymous", 1),
        ("project", 7),
    ],
)
def test_the_form_refuses_what_is_of_another_type(field: str, wrong: Any) -> None:
    """The form does not store what could not be read."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, CONNECTION["conn-fields"][field]["schema"])


def test_secrets_are_hidden_in_the_form() -> None:
    """The fields that hold a secret are password fields."""
    hidden = {name for name, field in CONNECTION["conn-fields"].items() if field["schema"].get("format") == "password"}
    assert hidden == {"keyfile_dict", "client_secret"}


def test_it_is_installed_as_an_entry_point() -> None:
    """Airflow finds the function by the entry point of the package."""
    [entry] = [
        entry for entry in entry_points(group="apache_airflow_provider") if entry.module.startswith("airflow_lro")
    ]
    assert entry.load() is get_provider_info


def test_each_caller_gets_a_description_of_its_own() -> None:
    """Airflow may change what it got."""
    get_provider_info()["hooks"].clear()
    assert get_provider_info()["hooks"]


def test_it_imports_nothing() -> None:
    """Discovery costs every Airflow command: it imports neither Airflow nor the rest of this package."""
    script = (
        "import sys; before = set(sys.modules); from airflow_lro_provider.get_provider_info import get_provider_info\n"
        "get_provider_info(); print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    foreign = {name for name in done.stdout.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign == {"airflow_lro_provider", "airflow_lro_provider.get_provider_info"}
