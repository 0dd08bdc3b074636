"""Where a task leaves the link to its operation for the web interface.

====================  =========================================  ==============================================
                      Airflow 3                                  Airflow 2.11
====================  =========================================  ==============================================
who makes the link    the process of the task, at its end; the   the web server, when somebody looks: it knows
                      same XCom is shown before that             the Dag's arguments only, and the XCom that the
                                                                 task has left when it deferred or ended
====================  =========================================  ==============================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from airflow_lro_provider.airflow_compat import AIRFLOW

KEY = "_link_OperationLink" if AIRFLOW >= (3,) else "google_console"  # there it is Airflow's own


def leave_link(ti: Any, make: Callable[[], str], *, is_end: bool = False) -> None:
    """Leave the link that ``make`` makes, if any: as a task begins to work; in Airflow 2 as it ends or defers."""
    if is_end is (AIRFLOW >= (3,)):
        return
    with contextlib.suppress(Exception):  # whatever is wrong with it, the task has its own end
        if (url := make()) and AIRFLOW < (3,):
            ti.xcom_push(key=KEY, value=url)
        elif url:
            from airflow.sdk.execution_time.task_runner import _xcom_push_to_db  # past a custom XCom backend

            _xcom_push_to_db(ti, key=KEY, value=url)


def link_left(ti_key: Any) -> str:
    """The link that a task has left; empty if it is not kept in this way."""
    if AIRFLOW >= (3,):
        return ""
    from airflow.providers.common.compat.sdk import XCom

    return str(XCom.get_value(key=KEY, ti_key=ti_key) or "")
