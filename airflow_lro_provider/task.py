"""What all tasks about one operation have in common: which operation, who asks, and what a kill does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.exceptions import OperationInputError
from airflow_lro_provider.guard import Guard
from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.links.operations import OperationLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink

    from airflow_lro_provider.lro.reference import OperationReference

__all__ = ["OperationTask"]


class OperationTask:
    """Comes before ``BaseOperator`` or a class of that among the bases of an operator."""

    template_fields: Collection[str] = (
        "operation_name",
        "service",
        "api_version",
        "gcp_conn_id",
        "impersonation_chain",
    )
    operator_extra_links: Collection[BaseOperatorLink] = (OperationLink(),)

    operation_name: Any
    service: str | None
    api_version: str | None
    gcp_conn_id: str | None
    impersonation_chain: str | Sequence[str] | None
    cancel_on_kill = False
    """Whether a kill of the task cancels the operation."""

    _guard: Guard | None = None
    _reference: OperationReference

    def on_kill(self) -> None:
        """End the task, and cancel its operation if it stands for it. See :mod:`airflow_lro_provider.guard`."""
        self._get_guard().on_kill()

    def _get_guard(self) -> Guard:
        # Made late: Airflow copies operators, and a kill may come before `execute`.
        if self._guard is None:
            self._guard = Guard(self.log, cancels=self.cancel_on_kill)  # type: ignore[attr-defined]
        return self._guard

    def _hook(self) -> OperationsHook:
        return OperationsHook(
            service=self.service,
            api_version=self.api_version,
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
        )

    def _connect(self) -> OperationsHook:
        """Read the connection and the reference. Nothing is sent.

        :raises OperationInputError: if one of them cannot be used.
        """
        from airflow_lro_provider.lro.credentials import identity_for
        from airflow_lro_provider.lro.errors import InvalidRequestError

        hook = self._hook()
        try:
            self._reference = hook.reference(self.operation_name)
            identity_for(hook.settings)
        except InvalidRequestError as error:
            raise OperationInputError(str(error)) from None
        return hook
