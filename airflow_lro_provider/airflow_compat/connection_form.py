"""How the form of a connection is described, in Airflow's web interface.

==================  =====================================  ====================================================
                    Airflow 3.2, 3.3                       Airflow 3.1
==================  =====================================  ====================================================
described by        ``conn-fields`` of the provider's      these two, as methods of the hook; they make fields
                    description; no hook is imported       of WTForms, or what Airflow plays as such
==================  =====================================  ====================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_lro_provider.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR


def widgets() -> dict[str, Any]:
    """The fields of the connection."""
    from wtforms import BooleanField, IntegerField, PasswordField, StringField

    def widget(label: str, description: str, schema: Mapping[str, Any]) -> Any:
        kinds = {"boolean": BooleanField, "integer": IntegerField}
        text = PasswordField if schema.get("format") == "password" else StringField
        return kinds.get(schema["type"][0], text)(label, description=description)

    return {name: widget(**field) for name, field in CONNECTION_FIELDS.items()}


def behaviour() -> dict[str, Any]:
    """Which of the standard fields are hidden."""
    return {key.replace("-", "_"): value for key, value in FIELD_BEHAVIOUR.items()}
