"""The sweep of the test bed: once a minute where the ledger is on, else only when it is asked for.

Where no task may list Variables, the bed sweeps from outside.
"""

from __future__ import annotations

from airflow_lro_provider.airflow_compat import TASKS_LIST_VARIABLES
from airflow_lro_provider.sweep import sweep_dag
from airflow_lro_provider.sweep.ledger import ledger_is_on

dag = sweep_dag("bed_sweep", "* * * * *" if ledger_is_on() and TASKS_LIST_VARIABLES else None)
