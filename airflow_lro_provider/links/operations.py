"""The link from a task to its operation in the Google console."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

__all__ = ["OperationLink", "console_url", "show_link"]


class OperationLink(BaseOperatorLink):
    """Opens the service's page in the Google console, or the logs of the operation."""

    name = "Google Console"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Make the URL from the operator's rendered arguments; Airflow stores it when the task ends.

        While it runs, what :func:`show_link` has left is shown.
        """
        from airflow_lro_provider.airflow_compat.links import link_left

        return link_left(ti_key) or console_url(
            # A task that started its operation knows it by now.
            getattr(operator, "operation_name", None) or getattr(getattr(operator, "attempt", None), "about", None),
            getattr(operator, "service", None),
            getattr(operator, "api_version", None),
        )


def show_link(ti: Any, operation: Any, *, is_end: bool = False) -> None:
    """Leave the link to what a task works on (``None``: nothing yet) for the web interface, from now on."""
    from airflow_lro_provider.airflow_compat.links import leave_link

    leave_link(ti, lambda: console_url(operation) if operation else "", is_end=is_end)


def console_url(operation: Any, service: str | None = None, api_version: str | None = None) -> str:
    """The page that shows an operation to a person; empty if it is not known.

    No page of the console shows an operation by its name. Where a service has no page of its own, the
    Logs Explorer finds what the operation logged (audit logs carry its name as ``operation.id``).

    Another universe than Google's own has a console of its own, at ``console.cloud.DOMAIN``; the domain is that of
    ``GOOGLE_CLOUD_HIGH_VALUE_COOKIE_DOMAIN``, as in Google's own links (``BASE_LINK`` in ``links/base.py`` of its
    provider). Without that variable nothing there is linked to: the same page of Google's console is about another
    project, if any.
    """
    from airflow_lro_provider.lro.errors import InvalidRequestError
    from airflow_lro_provider.lro.resources.catalog import DEFAULT_UNIVERSE, find_service, project_of
    from airflow_lro_provider.lro.resources.hosts import Resource, check_universe, universe_of_environment
    from airflow_lro_provider.lro.resources.names import read_reference

    try:
        universe = universe_of_environment()
        reference = (
            operation
            if isinstance(operation, Resource)
            else read_reference(operation, service, api_version, universe=universe)
        )
        domain = os.environ.get("GOOGLE_CLOUD_HIGH_VALUE_COOKIE_DOMAIN")
        console = f"https://console.cloud.{check_universe(domain) if domain else 'google.com'}"
    except InvalidRequestError:
        return ""
    if universe != DEFAULT_UNIVERSE and not domain:
        return ""
    project = project_of(reference.name) or ""
    page = find_service(reference.service).console
    if page is not None:
        return page.replace("https://console.cloud.google.com", console).format(project=quote(project, safe=":"))
    query = quote(f'operation.id="{reference.name}"', safe="")
    return f"{console}/logs/query;query={query}?project={quote(project, safe=':')}"
