"""The provider's description, which Airflow reads to discover it. Imports nothing."""

from __future__ import annotations

from typing import Any

_GOOGLE = "Google long-running operations"


def _field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


_ACCOUNT, _KEYS = "Project and account", "Other service account keys"
_IDP = "Workload identity federation"
_REQUESTS, _HOSTS = "Requests", "Another host than Google's"

# In the order of the form.
CONNECTION_FIELDS: dict[str, Any] = {
    "project": _field("Project id", "The project of names that say none.", section=_ACCOUNT),
    "impersonation_chain": _field(
        "Impersonation chain",
        "Service accounts to impersonate, comma separated: the last one makes the requests.",
        section=_ACCOUNT,
    ),
    "key_path": _field(
        "Key file path",
        "A service account's key file (.json), on every worker and triggerer. Without any key: the credentials of the"
        " machine (application default credentials).",
        section=_ACCOUNT,
    ),
    "keyfile_dict": _field(
        "Key file JSON", "The contents of a service account's key file.", format="password", section=_KEYS
    ),
    "key_secret_name": _field(
        "Key file secret name",
        "The secret of Google's Secret Manager that holds a key file; it is read with the credentials of the machine.",
        section=_KEYS,
    ),
    "key_secret_project_id": _field("Key file secret project id", "The project of that secret.", section=_KEYS),
    "credential_config_file": _field(
        "Credential configuration file",
        "The path of the configuration on every worker and triggerer, or its contents (JSON).",
        section=_IDP,
    ),
    "idp_issuer_url": _field(
        "IdP token URL",
        "The token endpoint (client credentials grant) of the identity provider whose tokens the configuration"
        " exchanges.",
        section=_IDP,
    ),
    "client_id": _field("IdP client id", "The client's id at the identity provider.", section=_IDP),
    "client_secret": _field(
        "IdP client secret", "The client's secret at the identity provider.", format="password", section=_IDP
    ),
    "idp_extra_parameters": _field(
        "IdP extra parameters", "Additional parameters for the token request, as a JSON object.", section=_IDP
    ),
    "scope": _field(
        "Scopes", "OAuth scopes, separated by commas or spaces. Default: cloud-platform.", section=_REQUESTS
    ),
    "quota_project_id": _field("Quota project id", "The project that pays, and whose quota counts.", section=_REQUESTS),
    "num_retries": _field(
        "Number of retries",
        "How often a request is sent again after a passing error. Default: 5.",
        "integer",
        minimum=0,
        section=_REQUESTS,
    ),
    "start_timeout": _field(
        "Start timeout",
        "How long the response to a start may take, in seconds. Default: 60.",
        "integer",
        minimum=1,
        section=_REQUESTS,
    ),
    "universe_domain": _field(
        "Universe domain",
        "The domain of Google's APIs and credentials. Default: GOOGLE_CLOUD_UNIVERSE_DOMAIN, else googleapis.com.",
        section=_HOSTS,
    ),
    "api_endpoint": _field(
        "API endpoint",
        "Where to send requests instead of Google's hosts: a private endpoint, or an emulator. {service} in it becomes"
        " the name of the API.",
        section=_HOSTS,
    ),
    "emulator": _field(
        "Emulator",
        "The endpoint is an emulator: plain http is allowed, and no real token is sent.",
        "boolean",
        section=_HOSTS,
    ),
    "is_anonymous": _field("Anonymous", "Send no token at all.", "boolean", section=_HOSTS),
}
FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["host", "schema", "login", "password", "port"],
    "relabeling": {},
    "placeholders": {},
}


def get_provider_info() -> dict[str, Any]:
    """The provider's description, valid against Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-lro-provider",
        "name": _GOOGLE,
        "description": "Start, wait for and cancel long-running operations of any Google API, even if a task dies.",
        "integrations": [
            {"integration-name": _GOOGLE, "external-doc-url": "https://google.aip.dev/151", "tags": ["gcp"]},
        ],
        **{
            room: [{"integration-name": _GOOGLE, "python-modules": [f"airflow_lro_provider.{room}.operations"]}]
            for room in ("hooks", "operators", "sensors", "triggers")
        },
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
                "ui-field-behaviour": FIELD_BEHAVIOUR,
                "conn-fields": CONNECTION_FIELDS,
            }
        ],
    }
