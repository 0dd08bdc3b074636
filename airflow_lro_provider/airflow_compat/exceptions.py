"""Exceptions of Airflow that have moved, and that `common.compat` does not know.

========================  ==========================  ===========================================================
                          Airflow 3                   Airflow 2.11
========================  ==========================  ===========================================================
a task that was told to   any error will do: a state  the one of these that is an ``AirflowTaskTerminated``; after
stop ends with            that a user has set stays;  any other, Airflow overwrites what the user has set
                          ``SystemExit``: no stack
========================  ==========================  ===========================================================
"""

from __future__ import annotations

import importlib

from airflow_lro_provider.airflow_compat import AIRFLOW

_room = importlib.import_module("airflow.sdk.exceptions" if AIRFLOW >= (3, 2) else "airflow.exceptions")

AirflowRescheduleException: type[BaseException] = _room.AirflowRescheduleException

TaskTerminated: type[BaseException] = _room.AirflowTaskTerminated if AIRFLOW < (3,) else SystemExit
"""What the error of a task that was told to stop has to be."""
