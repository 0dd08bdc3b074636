"""``@task.operation``: a function that starts something becomes a task that waits for it, guarded."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, context_merge, task_decorator_factory

from airflow_lro_provider.attempt.starter import OperationStarter
from airflow_lro_provider.attempt.validation import check_service
from airflow_lro_provider.exceptions import OperationStartError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDecorator

    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.hooks.operations import OperationsHook
    from airflow_lro_provider.lro.flows import Started
    from airflow_lro_provider.sweep.search import StartFootprint

__all__ = ["OperationDecoratedOperator", "operation_task"]


class OperationDecoratedOperator(OperationStarter, DecoratedOperator):
    """Calls a function that starts an operation with any client, and waits for the operation's end.

    The function returns its operation: a name, a full name or URL, a dict, or an object that has it, as the
    clients of Google give: a ``google.api_core.operation.Operation`` future, a generated ``Operation`` message, a
    task of the Earth Engine client. It may be a coroutine function.

    A kill while the function runs does not raise into it; what it returns is cancelled. Airflow leaves a killed
    task 5 seconds, so a function should start the operation as its last step, and return at once. A retry after
    a crash goes on with the operation, and does not call the function again.

    All arguments but the function's own are those of :class:`~airflow_lro_provider.attempt.starter.OperationStarter`.
    """

    template_fields = ("op_args", "op_kwargs", "service", "api_version", "gcp_conn_id", "impersonation_chain")
    template_fields_renderers: ClassVar[dict[str, str]] = {"op_args": "py", "op_kwargs": "py"}
    shallow_copy_attrs: Sequence[str] = ("python_callable",)
    custom_operator_name = "@task.operation"
    ui_color = "#e6f4ea"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_service(self.service, self.api_version)

    @property
    def is_async(self) -> bool:
        """Airflow runs it as any other task; a coroutine function is run to its end within."""
        return False

    def _read_start(self, hook: OperationsHook) -> _CallFunction:
        return _CallFunction(self, hook)


@dataclass(frozen=True)
class _CallFunction:
    """Starts an operation by calling a function. See :class:`~airflow_lro_provider.attempt.start.Start`."""

    operator: OperationDecoratedOperator
    hook: OperationsHook
    # A function that hangs is what an execution_timeout is for. Ctrl-C waits; a second one does not.
    held_back: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGINT,)
    request_id: ClassVar[str | None] = None
    repeatable: ClassVar[bool] = False
    may_start_again: ClassVar[bool] = True
    footprint: ClassVar[StartFootprint | None] = None

    @property
    def description(self) -> str:
        return f"the function {self.operator.python_callable.__name__}"

    def send(self, attempt: Attempt, request_id: str, *, is_first: bool) -> Started:
        from airflow_lro_provider.airflow_compat.decorators import kwargs_for
        from airflow_lro_provider.lro.errors import InvalidRequestError
        from airflow_lro_provider.lro.flows import Started
        from airflow_lro_provider.lro.resources.names import operation_in

        operator = self.operator
        context_merge(attempt.context, operator.op_kwargs)
        kwargs = kwargs_for(operator, attempt.context)
        returned = operator.python_callable(*operator.op_args, **kwargs)
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        try:
            return Started(self.hook.reference(operation_in(returned)), None)
        except InvalidRequestError as error:
            raise OperationStartError(
                f"{operator.python_callable.__name__} did not return an operation: {error} What it has started, if"
                " anything, is not guarded."
            ) from None


def operation_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """Make a task of a function that starts a long-running operation and returns it.

    Known to Dags as ``@task.operation``; see :class:`OperationDecoratedOperator` for its arguments.

    :param python_callable: the function.
    :param multiple_outputs: push every key of the task's result, the operation's response, as an XCom of its own. What
        the function is annotated to return says nothing about that: it returns the operation.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=OperationDecoratedOperator,
        **kwargs,
    )
