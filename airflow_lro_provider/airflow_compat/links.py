"""Where a task leaves the link to its operation for the web interface.

====================  =========================================  ==============================================
                      Airflow 3                                  Airflow 2.11
====================  =========================================  ==============================================
who makes the link    the process of the task, at its end, as    the web server, when somebody looks: it knows
                      an XCom; what is there before, is shown    the Dag's arguments only, and what the task has
                      before                                     left as an XCom
====================  =========================================  ==============================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from airflow_lro_provider.airflow_compat import AIRFLOW

KEY = "_link_OperationLink" if AIRFLOW >= (3,) else "google_console"  # there it is Airflow's own


def leave_link(ti: Any, make: Callable[[], str], *, is_end: bool = False) -> None:
    """Leave the link. It costs one request to Airflow.

    :param make: makes it; empty if there is none.
    :param is_end: whether the task ends now; then Airflow may make it itself.
    """
    if is_end and AIRFLOW >= (3,):
        return
    with contextlib.suppress(Exception):  # whatever is wrong with it, the task has its own end
        if url := make():
            ti.xcom_push(key=KEY, value=url)


def link_left(ti_key: Any) -> str:
    """The link that a task has left; empty if it is not kept in this way."""
    if AIRFLOW >= (3,):
        return ""
    from airflow.providers.common.compat.sdk import XCom

    return str(XCom.get_value(key=KEY, ti_key=ti_key) or "")
