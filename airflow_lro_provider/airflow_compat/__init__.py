"""Every part of Airflow that is not public, or that differs between versions. No other module knows a version.

=====================  =================================================================================
seam                   what differs
=====================  =================================================================================
`connection_form`      how a connection's form is described
`database`             what Airflow 2 lets a task ask in place of a server
`decorators`           what a decorated function is called with
`exceptions`           where an exception is
`links`                where a task leaves the link to its operation
`local`                how Airflow is started on one machine (demo, test bed)
`outside`              what a process that runs no task can read
`record_store`         where a try leaves its record for the next one, and who rejects an outdated try
`stats`                who sets up Airflow's Stats
`task_process`         what a task process can see of its supervisor, and what follows a deferral
`task_states`          what a task, or a trigger, may ask Airflow
`trigger_loop`         what a trigger is told of a kill
=====================  =================================================================================

Supported: Airflow 2.11, 3.1, 3.2 and 3.3. Each seam has a table of what it offers there, and of what a version cannot
do.
"""

from __future__ import annotations

import re

from airflow import __version__

AIRFLOW = tuple(int(part) for part in re.findall(r"\d+", __version__)[:2])
"""The version of Airflow: (3, 3)."""
IS_SUPPORTED = AIRFLOW in ((2, 11), (3, 1), (3, 2), (3, 3))
TASKS_LIST_VARIABLES = not (3,) <= AIRFLOW < (3, 3)
"""Whether a task can sweep."""
