"""What Airflow says of a deployment: read in its database, or requested of its REST API from elsewhere.

Both are read only. The tables and columns are the same in Airflow 2.11 to 3.3; the API is that of Airflow 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from airflow.providers.common.compat.sdk import conf

from airflow_lro_provider.airflow_compat.outside import query
from airflow_lro_provider.sweep.ledger import PREFIX_OF_BOTH, is_key
from airflow_lro_provider.sweep.rest_api import AirflowApiError, FromOutside

_OPERATOR = "SweepOperationsOperator"


class CannotTellError(Exception):
    """It cannot be known from here; the text says why, without a secret."""


@dataclass(frozen=True)
class Run:
    """The last run of a sweep in a Dag.

    :param at: when it ended; of one that runs, when it began.
    :param paused: whether its Dag is paused.
    """

    dag_id: str
    state: str
    at: datetime
    paused: bool


class Deployment(Protocol):
    """What the doctor asks. Every method may raise a :class:`CannotTellError`."""

    name: str

    def triggerers(self, now: datetime) -> list[str]:
        """The triggerers that live, as far as is known of each."""

    def last_sweep(self) -> Run | None:
        """The last time that a task has swept."""

    def entries(self) -> int:
        """How many entries the ledger has."""

    def clock(self) -> datetime | None:
        """The time there; ``None`` if it is this machine's clock."""


def database_is_there() -> bool:
    """Whether this process has a metadata database. Asked for a file that is not there, SQLite would make one."""
    dialect, _, path = _url().partition("://")
    return bool(dialect) and (dialect != "sqlite" or Path(path.partition("?")[0][1:]).is_file())


def _url() -> str:
    return str(conf.get("database", "sql_alchemy_conn", fallback="") or "")


class FromDatabase:
    """A deployment, by its metadata database."""

    def __init__(self) -> None:
        self._dialect = _url().partition(":")[0].partition("+")[0]  # the rest may have a password
        self.name = f"Airflow's database: {self._dialect}"
        no_database = "this process has no database of Airflow's ([database] sql_alchemy_conn)"
        self._refusal = "" if database_is_there() else no_database

    def triggerers(self, now: datetime) -> list[str]:
        """Those whose last heartbeat is not older than Airflow itself allows."""
        limit = conf.getfloat("triggerer", "triggerer_health_check_threshold", fallback=30.0)
        rows = self._query(
            "select hostname, latest_heartbeat from job where job_type = 'TriggererJob' and state = 'running'"
        )
        ages = ((host, (now - _time(at)).total_seconds()) for host, at in rows if at is not None)
        return [f"{host}, {max(age, 0):.0f} s ago" for host, age in ages if age <= limit]

    def last_sweep(self) -> Run | None:
        """See :class:`Deployment`."""
        rows = self._query(
            "select ti.dag_id, ti.state, coalesce(ti.end_date, ti.start_date), dag.is_paused"
            " from task_instance ti left join dag on dag.dag_id = ti.dag_id"
            " where ti.operator = :operator and ti.start_date is not null order by ti.start_date desc limit 1",
            operator=_OPERATOR,
        )
        return next((Run(dag_id, str(state), _time(at), bool(paused)) for dag_id, state, at, paused in rows), None)

    def entries(self) -> int:
        """See :class:`Deployment`."""
        rows = self._query("select variable.key from variable where variable.key like :like", like=f"{PREFIX_OF_BOTH}%")
        return sum(is_key(str(key)) for (key,) in rows)

    def clock(self) -> datetime | None:
        """See :class:`Deployment`."""
        if self._dialect == "sqlite":
            return None
        [[now]] = self._query("select current_timestamp")
        return _time(now)

    def _query(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        if self._refusal:
            raise CannotTellError(self._refusal)
        try:
            return query(statement, **values)
        except Exception as error:  # of the database's driver: its text may have the URL, with the password
            self._refusal = f"{self.name} cannot be read from here ({type(error).__name__})"  # one is enough
            raise CannotTellError(self._refusal) from None


class FromApi:
    """A deployment, by Airflow's REST API.

    :param url: of Airflow's web interface.
    :param token: of an account that may read Variables, Dags and task instances.
    """

    def __init__(self, url: str, token: str) -> None:
        self.name = "Airflow's API"
        self._airflow = FromOutside(url, token)

    def triggerers(self, now: datetime) -> list[str]:
        """The one that was heard of last: the API reports no other."""
        found = self._get("monitor/health").get("triggerer") or {}
        return [f"last heard of at {found['latest_triggerer_heartbeat']}"] if found.get("status") == "healthy" else []

    def last_sweep(self) -> Run | None:
        """See :class:`Deployment`."""
        path = "dags/~/dagRuns/~/taskInstances"
        found = self._get(path, {"operator": _OPERATOR, "order_by": "-start_date", "limit": 1})["task_instances"]
        for row in found:
            if row.get("operator") == _OPERATOR and (at := row.get("end_date") or row.get("start_date")):
                paused = self._get(f"dags/{row['dag_id']}").get("is_paused")
                return Run(str(row["dag_id"]), str(row["state"]), _time(at), bool(paused))
        return None

    def entries(self) -> int:
        """See :class:`Deployment`."""
        try:
            return len(self._airflow.keys())
        except AirflowApiError as error:
            raise CannotTellError(str(error)) from None

    def clock(self) -> datetime | None:
        """Nothing in it says the time."""
        return None

    def _get(self, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            return self._airflow.request("GET", path, content)
        except AirflowApiError as error:
            raise CannotTellError(str(error)) from None


def _time(value: Any) -> datetime:
    """A time, as a driver or JSON has it; without a zone it is UTC."""
    # Python 3.10 reads no Z.
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
