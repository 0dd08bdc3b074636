"""The provider's description, which Airflow reads to discover it. Imports nothing."""

from __future__ import annotations

from typing import Any

_GOOGLE = "Google long-running operations"


def _text(label: str, description: str, **schema: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


_CONNECTION_FIELDS: dict[str, Any] = {
    "project": _text("Project id", "The default project."),
    "key_path": _text("Key file path", "Path of a service account's key file (.json) on the workers."),
    "keyfile_dict": _text("Key file JSON", "Contents of a service account key (JSON).", format="password"),
    "credential_config_file": _text(
        "Credential configuration file",
        "Workload identity federation: the path of the configuration on the workers, or its contents (JSON).",
    ),
    "key_secret_name": _text(
        "Key file secret name",
        "The secret in Google's Secret Manager that holds a service account key; it is read with the application"
        " default credentials.",
    ),
    "key_secret_project_id": _text("Key file secret project id", "The project of that secret."),
    "idp_issuer_url": _text(
        "IdP token URL",
        "The token endpoint (client credentials grant) of the identity provider whose tokens the"
        " credential configuration exchanges.",
    ),
    "client_id": _text("IdP client id", "The client's id at the identity provider."),
    "client_secret": _text("IdP client secret", "The client's secret at the identity provider.", format="password"),
    "idp_extra_parameters": _text(
        "IdP extra parameters", "Additional parameters for the token request, as a JSON object."
    ),
    "impersonation_chain": _text(
        "Impersonation chain",
        "Service accounts to impersonate, comma separated; requests are made as the last one.",
    ),
    "quota_project_id": _text("Quota project id", "The project that is charged for quota and billing."),
    "scope": _text("Scopes", "OAuth scopes, comma separated. Default: cloud-platform."),
    "num_retries": {
        "label": "Number of retries",
        "description": "How often a request is retried after a transient error. Default: 5.",
        "schema": {"type": ["integer", "null"], "minimum": 0},
    },
    "universe_domain": _text(
        "Universe domain",
        "The domain of Google's APIs and credentials. Default: GOOGLE_CLOUD_UNIVERSE_DOMAIN, else googleapis.com.",
    ),
    "api_endpoint": _text(
        "API endpoint",
        "Where to send requests instead of Google's hosts: a private endpoint or an emulator."
        " {service} in it is replaced with the name of the API.",
    ),
    "emulator": {
        "label": "Emulator",
        "description": "The endpoint is an emulator: plain http is allowed, and only a fake token is sent.",
        "schema": {"type": ["boolean", "null"]},
    },
    "is_anonymous": {
        "label": "Anonymous",
        "description": "Send no token.",
        "schema": {"type": ["boolean", "null"]},
    },
}


def get_provider_info() -> dict[str, Any]:
    """The provider's description, valid against Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-lro-provider",
        "name": _GOOGLE,
        "description": "Start, wait for and cancel long-running operations of any Google API, even if a task dies.",
        "integrations": [
            {
                "integration-name": _GOOGLE,
                "external-doc-url": "https://google.aip.dev/151",
                "tags": ["gcp"],
            }
        ],
        "hooks": [
            {"integration-name": _GOOGLE, "python-modules": ["airflow_lro_provider.hooks.operations"]},
        ],
        "operators": [
            {"integration-name": _GOOGLE, "python-modules": ["airflow_lro_provider.operators.operations"]},
        ],
        "sensors": [
            {"integration-name": _GOOGLE, "python-modules": ["airflow_lro_provider.sensors.operations"]},
        ],
        "triggers": [
            {"integration-name": _GOOGLE, "python-modules": ["airflow_lro_provider.triggers.operations"]},
        ],
        "task-decorators": [
            {"name": "operation", "class-name": "airflow_lro_provider.decorators.operation.operation_task"},
        ],
        "config": {
            "lro": {
                "description": "Options of the provider for Google long-running operations.",
                "options": {
                    "ledger": {
                        "description": (
                            "Record every guarded operation in a ledger (one Airflow Variable each), so that the sweep"
                            " can cancel those whose task died where Airflow calls no hook. It costs a task two or"
                            " three small requests to Airflow's API. The sweep must be scheduled: see `sweep_dag`."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "max_in_flight": {
                        "description": (
                            "Maximum number of concurrent requests (1 to 999) of a triggerer to each endpoint, for all"
                            " deferred tasks that wait there. More than 8 help if thousands wait at a service"
                            " that cannot list its operations; each costs a connection, and the quota must allow it."
                        ),
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "32",
                        "default": "8",
                    },
                },
            },
        },
        "extra-links": ["airflow_lro_provider.links.operations.OperationLink"],
        "connection-types": [
            {
                "connection-type": "google_lro",
                "hook-class-name": "airflow_lro_provider.hooks.operations.OperationsHook",
                "hook-name": _GOOGLE,
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "password", "port"],
                    "relabeling": {},
                    "placeholders": {},
                },
                "conn-fields": _CONNECTION_FIELDS,
            }
        ],
    }
