"""The sweep from outside: Airflow as its public REST API shows it to an administrator.

For where no Dag may run, or to see what a sweep would do. Connections are read where this runs: from
``AIRFLOW_CONN_…`` variables, as Airflow writes them; in place of one that is not there, the application default
credentials are used if that is allowed.

Requests are those of :mod:`airflow_lro_provider.lro.http.session`: no redirect, no account of ``~/.netrc``, plain http
through no proxy, and the same certificates as for Google's servers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import requests

from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.lro.errors import ConnectionSettingsError, OperationsError
from airflow_lro_provider.lro.http.json import read_json
from airflow_lro_provider.lro.http.messages import CONNECT_TIMEOUT_SECONDS
from airflow_lro_provider.lro.http.session import BoundedSession
from airflow_lro_provider.lro.redaction import in_brief
from airflow_lro_provider.sweep.ledger import PREFIX_OF_BOTH, LedgerEntry, is_key

if TYPE_CHECKING:
    from airflow_lro_provider.lro.auth.settings import ConnectionSettings

PAGE_SIZE = 100
TIMEOUT_SECONDS = 60.0


class AirflowApiError(Exception):
    """A request to Airflow's API failed; the text says how."""


def log_in(url: str, user: str, password: str) -> str:
    """Get a token of Airflow's API for a user and password.

    :raises AirflowApiError: if they are wrong.
    """
    http = BoundedSession()
    try:
        content = _send(http, "POST", f"{url}/auth/token", {"username": user, "password": password}, secret=password)
    finally:
        http.close()
    return str(content["access_token"])


class FromOutside:
    """What :func:`airflow_lro_provider.sweep.reconciler.sweep` needs of Airflow, by its REST API.

    :param url: of Airflow's web interface.
    :param token: of an account that may read and delete Variables and read task instances.
    :param default_credentials: use the application default credentials for connections that are not here.
    """

    def __init__(self, url: str, token: str, *, default_credentials: bool = False) -> None:
        self._url = url.rstrip("/")
        self._http, self._token = BoundedSession(), token
        self._default_credentials = default_credentials
        self._values: dict[str, Any] = {}

    def keys(self) -> list[str]:
        """The keys of all entries; Airflow lists them with their values, which are kept."""
        found = {key: value for key, value in self.variables(PREFIX_OF_BOTH).items() if is_key(key)}
        self._values.update(found)
        return list(found)

    def variables(self, prefix: str) -> dict[str, Any]:
        """All Variables whose keys begin with this."""
        # The second is new in Airflow 3.2, and faster.
        query = {"variable_key_pattern": prefix, "variable_key_prefix_pattern": prefix}
        rows = self._pages("GET", "variables", "variables", query)
        return {str(row["key"]): row.get("value") for row in rows if str(row["key"]).startswith(prefix)}

    def read(self, key: str) -> LedgerEntry | None:
        """An entry; ``None`` if it cannot be read (Airflow hides values whose keys sound secret)."""
        return LedgerEntry.from_json(self._values.get(key))

    def remove(self, key: str) -> None:
        """Remove an entry. No-op if there is none."""
        self.request("DELETE", f"variables/{quote(key, safe='/~:@')}", missing_is_fine=True)

    def states(
        self, dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
    ) -> Mapping[str, Mapping[str, Any]]:
        """The states of task instances, as :class:`airflow_lro_provider.sweep.reconciler.Airflow` has it."""
        body = {"dag_ids": [dag_id], "dag_run_ids": [*run_ids], "task_ids": [*task_ids]}
        states: dict[str, dict[str, Any]] = {}
        path = "dags/~/dagRuns/~/taskInstances/list"
        for row in self._pages("POST", path, "task_instances", body):
            index = int(row["map_index"])
            if map_index in (None, index):
                name = row["task_id"] if index < 0 else f"{row['task_id']}_{index}"
                states.setdefault(row["dag_run_id"], {})[name] = row["state"]
        return states

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        path = f"dags/{quote(dag_id, safe='~:@+')}/dagRuns/{quote(run_id, safe='~:@+')}"
        return str(self.request("GET", path)["state"])

    def is_gone(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
        """Whether there is no such task instance.

        A list leaves out what this user may not read, and what moved from one page to another while it was read
        (a retry gives a task instance another id, and by that they are sorted).
        """
        parts = (dag_id, "dagRuns", run_id, "taskInstances", task_id, str(map_index))
        path = "/".join(quote(part, safe="~:@+") for part in parts)
        return not self.request("GET", f"dags/{path}", missing_is_fine=True)

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        """Load a connection that this process knows of."""
        if gcp_conn_id is not None and f"AIRFLOW_CONN_{gcp_conn_id.upper()}" not in os.environ:
            if not self._default_credentials:
                raise ConnectionSettingsError(
                    f"connection {gcp_conn_id!r} is not known here: set AIRFLOW_CONN_{gcp_conn_id.upper()}, or use"
                    " --default-credentials."
                )
            gcp_conn_id = None
        return OperationsHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain).settings

    def request(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, missing_is_fine: bool = False
    ) -> dict[str, Any]:
        """Send a request to Airflow's API.

        :param path: below ``/api/v2/``.
        :param content: of a GET the query, else what is sent.
        :raises AirflowApiError: for anything but a success.
        """
        url, token = f"{self._url}/api/v2/{path}", self._token
        if method == "GET" and content:
            url, content = f"{url}?{urlencode(content)}", None
        headers = {"authorization": f"Bearer {token}"}
        return _send(self._http, method, url, content, headers, secret=token, missing_is_fine=missing_is_fine)

    def _pages(self, method: str, path: str, rows: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        limit, skip = ("limit", "offset") if method == "GET" else ("page_limit", "page_offset")
        offset = 0
        while True:
            page = self.request(method, path, {**query, limit: PAGE_SIZE, skip: offset})
            yield from page[rows]
            offset += len(page[rows])
            if not page[rows] or offset >= page["total_entries"]:
                return


def _send(
    http: BoundedSession,
    method: str,
    url: str,
    content: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    secret: str,
    missing_is_fine: bool = False,
) -> dict[str, Any]:
    """Send a request with a JSON object; an empty object stands for no content.

    :param secret: what it carries: Airflow quotes the input that it refuses.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise AirflowApiError(f"the URL of Airflow must begin with https:// or http://, not {url[:20]!r}")
    try:
        response = http.fetch(
            method,
            url,
            headers={**(headers or {}), **({} if content is None else {"content-type": "application/json"})},
            body=None if content is None else json.dumps(content),
            connect=CONNECT_TIMEOUT_SECONDS,
            read=TIMEOUT_SECONDS,
        )
    except OperationsError as error:
        raise AirflowApiError(f"Airflow's API cannot be reached: {error}") from None
    if response.status == requests.codes.no_content or (missing_is_fine and response.status == 404):
        return {}
    if not 200 <= response.status < 300:
        words = in_brief(response.body.decode("utf-8", "replace"), [secret, json.dumps(secret)[1:-1]])
        raise AirflowApiError(f"Airflow's API returned {response.status}: {words}")
    try:
        answer = read_json(response.body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise AirflowApiError("Airflow's API returned something other than an object")
    return answer
