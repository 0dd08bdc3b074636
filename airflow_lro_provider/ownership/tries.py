"""The ids of tries: which of two is the younger one.

Airflow 3 gives every try a UUID of version 7, which contains the time. Airflow 2 has none; for it they are put together
of the row of its run, which counts, the try's number and the task
(:func:`airflow_lro_provider.airflow_compat.task_process.try_id`).
"""

from __future__ import annotations

import re
import uuid

_OF_AIRFLOW_2 = re.compile(r"(\d+)\.(\d+)\.[0-9a-f]{12}")


def is_same(one: str, other: str) -> bool:
    """Whether two ids are of one try, if its number is the same: an upgrade from Airflow 2 to 3 gives it another id."""
    return one == other or (_OF_AIRFLOW_2.fullmatch(one) is None) != (_OF_AIRFLOW_2.fullmatch(other) is None)


def is_younger(one: str, other: str) -> bool:
    """Whether a try is younger than another. Not, if that cannot be known."""
    if (ours := _OF_AIRFLOW_2.fullmatch(one)) and (theirs := _OF_AIRFLOW_2.fullmatch(other)):
        return (int(ours[1]), int(ours[2])) > (int(theirs[1]), int(theirs[2]))
    try:
        first, second = uuid.UUID(one), uuid.UUID(other)
    except ValueError:
        return False
    return first.version == second.version == 7 and first.int >> 80 > second.int >> 80
