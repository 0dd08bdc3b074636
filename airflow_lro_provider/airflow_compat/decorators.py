"""What a decorated function is called with.

====================================  ==============================  ======================================
                                      Airflow 3.2, 3.3                Airflow 3.1, 2.11
====================================  ==============================  ======================================
who reads the function's parameters   a method of the operator        a function of Airflow's core
====================================  ==============================  ======================================
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from airflow_lro_provider.airflow_compat import AIRFLOW


def kwargs_for(operator: Any, context: Any) -> Mapping[str, Any]:
    """What of a context, in which the operator's own arguments are, the function of a decorated operator takes."""
    if AIRFLOW >= (3, 2):
        return operator.determine_kwargs(context)  # type: ignore[no-any-return]
    helpers: Any = importlib.import_module("airflow.utils.operator_helpers")
    found: Mapping[str, Any] = helpers.determine_kwargs(operator.python_callable, operator.op_args, context)
    return found
