"""How the form of a connection is described, in Airflow's web interface.

==============  =====================================  =========================================  ==============
                Airflow 3.2, 3.3                       Airflow 3.1                                Airflow 2.11
==============  =====================================  =========================================  ==============
described by    ``conn-fields`` of the provider's      these two, as methods of the hook; they    the same, with
                description; no hook is imported       make fields of WTForms, or what Airflow    widgets of
                                                       plays as such                              Flask's
==============  =====================================  =========================================  ==============
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.get_provider_info import CONNECTION_FIELDS, FIELD_BEHAVIOUR


def widgets() -> dict[str, Any]:
    """The fields of the connection."""
    from wtforms import BooleanField, IntegerField, PasswordField, StringField

    looks: Any = {}
    if AIRFLOW < (3,):
        from flask_appbuilder import fieldwidgets

        text_field, password_field = fieldwidgets.BS3TextFieldWidget(), fieldwidgets.BS3PasswordFieldWidget()
        looks = {StringField: text_field, IntegerField: text_field, PasswordField: password_field}

    def widget(label: str, description: str, schema: Mapping[str, Any]) -> Any:
        kinds = {"boolean": BooleanField, "integer": IntegerField}
        text = PasswordField if schema.get("format") == "password" else StringField
        field = kinds.get(schema["type"][0], text)
        return field(label, description=description, **({"widget": looks[field]} if field in looks else {}))

    return {name: widget(**field) for name, field in CONNECTION_FIELDS.items()}


def behaviour() -> dict[str, Any]:
    """Which of the standard fields are hidden."""
    return {key.replace("-", "_"): value for key, value in FIELD_BEHAVIOUR.items()}
