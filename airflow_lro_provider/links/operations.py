"""The link from a task to its operation in the Google console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

__all__ = ["OperationLink", "console_url"]


class OperationLink(BaseOperatorLink):
    """Opens the service's page in the Google console, or the logs of the operation."""

    name = "Google Console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Make the URL from the operator's rendered arguments; Airflow stores it when the task ends."""
        return console_url(
            # A task that started its operation knows it by now.
            getattr(operator, "operation_name", None) or getattr(getattr(operator, "attempt", None), "about", None),
            getattr(operator, "service", None),
            getattr(operator, "api_version", None),
        )


def console_url(operation: Any, service: str | None = None, api_version: str | None = None) -> str:
    """The page that shows an operation to a person; empty if it is not known.

    No page of the console shows an operation by its name. Where a service has no page of its own, the
    Logs Explorer finds what the operation logged (audit logs carry its name as ``operation.id``).
    """
    from airflow_lro_provider.lro.errors import InvalidRequestError
    from airflow_lro_provider.lro.resources.catalog import find_service, project_of
    from airflow_lro_provider.lro.resources.hosts import Resource
    from airflow_lro_provider.lro.resources.names import read_reference

    try:
        reference = operation if isinstance(operation, Resource) else read_reference(operation, service, api_version)
    except InvalidRequestError:
        return ""
    project = project_of(reference.name) or ""
    page = find_service(reference.service).console
    if page is not None:
        return page.format(project=quote(project, safe=":"))
    query = quote(f'operation.id="{reference.name}"', safe="")
    return f"https://console.cloud.google.com/logs/query;query={query}?project={quote(project, safe=':')}"
