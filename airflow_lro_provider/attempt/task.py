"""What all operators and sensors share: their common arguments, a guard, and the way into an attempt.

Operators, sensors and this module import what runs a try inside functions: parsing a Dag needs none of it.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator

from airflow_lro_provider.airflow_compat.task_process import RAISING, context_before_execute, handed_over, is_in_line
from airflow_lro_provider.attempt.guard import CANCEL_TIMEOUT_SECONDS, Guard, Phase
from airflow_lro_provider.attempt.signals import held_back
from airflow_lro_provider.attempt.validation import check_texts
from airflow_lro_provider.exceptions import OperationKilled, OperationRunningError
from airflow_lro_provider.hooks.operations import DEFAULT_CONN_ID, OperationsHook
from airflow_lro_provider.links.operations import OperationLink
from airflow_lro_provider.ownership.decisions import KILLED

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from airflow_lro_provider.attempt.attempt import Attempt
    from airflow_lro_provider.attempt.result import ResultCheck
    from airflow_lro_provider.lro.operation import Operation, Outcome
    from airflow_lro_provider.lro.polling import PollSchedule
    from airflow_lro_provider.lro.resources.names import OperationReference


class OperationTask(BaseOperator):
    """The base of all operators and sensors here.

    Those that are about one operation that is there already take ``operation_name``: a plain name (with ``service``), a
    full resource name, a URL, or the operation itself as an upstream task returned it.

    :param service: the API's discovery name, e.g. ``aiplatform``, or its host. (templated)
    :param api_version: the API version, if not the preferred one. (templated)
    :param gcp_conn_id: the Airflow connection; ``None`` uses application default credentials. (templated)
    :param impersonation_chain: the account to act as, or the chain that leads to it. (templated)
    """

    template_fields: Collection[str] = (
        "operation_name",
        "service",
        "api_version",
        "gcp_conn_id",
        "impersonation_chain",
    )
    operator_extra_links: Collection[BaseOperatorLink] = (OperationLink(),)

    operation_name: Any = None
    body: Any = None
    # What the role of the task says; by default it only observes its operation.
    cancel_on_kill = False
    cancel_on_failure = False
    durable = False
    needs_record = False
    wait_for_completion = True
    failure_is_final = True
    """Whether a retry would only find the same operation again."""
    timeout: Any
    poll_interval: float | None
    deferrable = False
    mode: str
    fail_on: Collection[str]
    result_check: ResultCheck | None = None
    include_response = True
    judges = False
    """Whether a success is judged by what is known of the service, unless ``result_check`` does it."""

    retry_policy: Any = None
    """Airflow's own, from 3.3 on."""
    attempt: Attempt | None = None
    """The try that is under way in this process."""
    _guard: Guard | None = None

    def __init__(
        self,
        *,
        service: str | None = None,
        api_version: str | None = None,
        gcp_conn_id: str | None = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_texts("gcp_conn_id", gcp_conn_id)
        check_texts("impersonation_chain", impersonation_chain, several=True)
        self.service = service
        self.api_version = api_version
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def on_kill(self) -> None:
        """End the task, and cancel its operation if it owns it. See :mod:`airflow_lro_provider.attempt.guard`."""
        guard = self._get_guard()
        is_outside = guard.phase is Phase.NEW or guard.left_to_retry  # not in `execute`, or not any more
        if is_outside and not guard.killed and (context := context_before_execute()) is not None:
            # In a thread: the interrupted frame may be in the middle of a question of its own.
            thread = threading.Thread(target=self._end_before_execute, args=[context, sys.exc_info()[1]], daemon=True)
            thread.start()
            thread.join(CANCEL_TIMEOUT_SECONDS)
        guard.on_kill()

    def _end_before_execute(self, context: Context, error: BaseException | None) -> None:
        """Airflow 2 ends the task without having called it, or when it has left its operation to a retry that there
        will not be: what is there is not forgotten.

        :param error: ``AirflowTaskTimeout`` if the task has waited too long in the triggerer; else it was killed.
        """
        from airflow_lro_provider.triggers.events import is_of_an_end

        known = handed_over(context["ti"])
        if is_of_an_end(known.get("event")):
            return  # there is nothing to lose
        with contextlib.suppress(OperationKilled, AirflowTaskTimeout), self._new_attempt(context, known) as attempt:
            self._note_secrets(attempt)
            if isinstance(error, AirflowTaskTimeout):
                raise error
            attempt.guard.killed = True
            raise OperationKilled(KILLED)

    def _get_guard(self, *, anew: bool = False) -> Guard:
        # Made late: Airflow copies operators, and a kill may come before `execute`.
        if self._guard is not None and anew and self._guard.phase is Phase.RELEASED:
            before, self._guard = self._guard, Guard(self.log, cancels=self.cancel_on_kill)
            if before.killed:  # last: a kill until here has noted itself there
                self._guard.killed = True
        if self._guard is not None:
            return self._guard
        # A kill in this very moment makes one too, and has noted itself there: `setdefault` keeps that one.
        made: Guard = self.__dict__.setdefault("_guard", Guard(self.log, cancels=self.cancel_on_kill))
        return made

    def _hook(self) -> OperationsHook:
        hook = OperationsHook(
            service=self.service,
            api_version=self.api_version,
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
        )
        if self.attempt is not None:
            hook.secrets = self.attempt.secrets
        return hook

    def _new_attempt(self, context: Context, known: Mapping[str, Any] | None = None) -> Attempt:
        """What one try has.

        :param known: of a try that goes on: what it has handed to itself.
        """
        # A kill in the middle of an import waits: `_end_before_execute` needs the same modules, and would wait for it.
        with held_back(*RAISING):
            from airflow_lro_provider.attempt import adoption, start  # noqa: F401
            from airflow_lro_provider.attempt.attempt import Attempt
            from airflow_lro_provider.attempt.resumed import Resumed
            from airflow_lro_provider.attempt.role import Role

        resumed = None if known is None else Resumed.from_kwargs(known)
        role = Role(
            gcp_conn_id=self._hook().gcp_conn_id,
            impersonation_chain=self.impersonation_chain,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_failure=self.cancel_on_failure,
            lets_go=not self.wait_for_completion,
            keeps_record=self.durable,
            needs_record=self.needs_record,
            # Each question changes a policy that counts: a task with nothing to lose asks it nothing.
            retry_policy=self.retry_policy if self.cancel_on_kill or self.durable else None,
        )
        self.attempt = Attempt(
            role, context, guard=self._get_guard(anew=True), hook=self._hook, log=self.log, resumed=resumed
        )
        if self.cancel_on_kill:
            self.attempt.look = functools.partial(self._look, self.attempt)
        return self.attempt

    def _note_secrets(self, attempt: Attempt) -> None:
        """Note what the request that starts the operation sends, and nobody may quote: also in a process that has not
        sent it itself.
        """
        from airflow_lro_provider.lro.redaction import secrets_in
        from airflow_lro_provider.lro.resources.request_body import read_body

        with contextlib.suppress(Exception):  # what is wrong with it is said when it is to be sent
            self.body = read_body(self.body)  # once: of a generator nothing would be left
            attempt.secrets.update(secrets_in(self.body))

    def _run(self, attempt: Attempt) -> Any:
        """Do what the task is there for."""
        raise NotImplementedError

    @property
    def _needs_response(self) -> bool:
        """Whether the response of a successful operation is taken."""
        from airflow_lro_provider.lro.operation import RESPONSES_WITH_FAILURES

        about = None if self.attempt is None else self.attempt.about
        is_judged = self.judges and about is not None and about.service in RESPONSES_WITH_FAILURES
        return self.include_response or self.result_check is not None or is_judged

    def _settle(self, attempt: Attempt, outcome: Outcome, operation: Operation | None) -> Any:
        """Turn the outcome of the operation, once all of that is known, into the task's result, or into its error."""
        from airflow_lro_provider.attempt.adoption import let_missing_go
        from airflow_lro_provider.lro.operation import Outcome

        if outcome is Outcome.NOT_FOUND and (found := let_missing_go(attempt)) is not None:
            outcome, operation = found.outcome or outcome, found
        attempt.guard.finish()
        attempt.log_state(operation.summary() if operation and operation.outcome is outcome else outcome.value)
        if operation is not None and operation.lacks_response and self._needs_response:
            operation = attempt.take_response(operation)
            if operation.outcome is not None and operation.outcome is not Outcome.SUCCEEDED:
                outcome = operation.outcome  # the polls had left that out
                attempt.log_state(operation.summary())
        return self._conclude(attempt, outcome, operation)

    def _conclude(self, attempt: Attempt, outcome: Outcome, operation: Operation | None) -> Any:
        """What the outcome means for the task. There is nothing to cancel any more."""
        from airflow_lro_provider.attempt.result import settle

        assert attempt.about is not None
        if operation is not None and operation.response_missing:
            self.log.warning(operation.response_missing)
        if operation is not None and operation.partial_failures:
            self.log.warning("It succeeded in part only: %s", operation.partial_failures)
        return settle(
            attempt.about,
            outcome,
            operation,
            fail_on=self.fail_on,
            result_check=self.result_check,
            include_response=self.include_response,
            final=self.failure_is_final,
            judges=self.judges,
        )

    def _wait(self, attempt: Attempt) -> tuple[Outcome, Operation | None]:
        """Wait for the operation's end, here or (and then this does not return) in the triggerer.

        :raises OperationRunningError: at the task's ``timeout``.
        """
        from airflow_lro_provider.lro.errors import NotFoundError, WaitTimeoutError
        from airflow_lro_provider.lro.operation import Outcome
        from airflow_lro_provider.lro.polling import PollSchedule, new_schedule

        if self.deferrable:
            schedule = PollSchedule(started=attempt.waiting_since or time.time(), interval=self.poll_interval)
            self._defer(attempt, schedule, timeout=self.timeout)
        attempt.guard.enter(Phase.WAITING)
        schedule = new_schedule(time.monotonic(), timeout=self.timeout, interval=self.poll_interval)
        try:
            operation = attempt.wait(schedule)
        except NotFoundError:
            return Outcome.NOT_FOUND, None
        except WaitTimeoutError as error:
            attempt.last = schedule.last
            raise OperationRunningError(str(error)) from None
        assert operation.outcome is not None
        return operation.outcome, operation

    def _defer(self, attempt: Attempt, schedule: PollSchedule, **timeouts: float | None) -> NoReturn:
        """Let a trigger wait. See :func:`airflow_lro_provider.attempt.deferral.deferral_of`."""
        from airflow_lro_provider.attempt.deferral import deferral_of

        limit = self.execution_timeout  # Airflow does not enforce it on a deferred task
        timeouts["execution_timeout"] = None if limit is None else limit.total_seconds()
        self.defer(**deferral_of(attempt, schedule, timeouts, include_response=self._needs_response))

    def _read_event(self, attempt: Attempt, event: Any) -> tuple[Outcome, Operation | None]:
        """How the wait in the triggerer ended. See :func:`airflow_lro_provider.attempt.deferral.outcome_of`."""
        from airflow_lro_provider.attempt.deferral import outcome_of

        return outcome_of(attempt, event)

    def execute(self, context: Context) -> Any:
        """Run one try of the task.

        ``dags test`` has no triggerer. It runs a trigger in line, forgets what the task has handed over, and calls no
        hook at Ctrl-C: so there the task waits itself.
        """
        if self.deferrable and is_in_line():
            self.log.info("There is no triggerer here: the task waits as with `deferrable=False`.")
            self.deferrable = False
            self.mode = "poke"  # a sensor's: nor does it reschedule itself
        return self._run(self._new_attempt(context))

    def execute_complete(self, context: Context, event: Any, **handed_over: Any) -> Any:
        """Resume the try that has deferred: its trigger has sent an event."""
        attempt = self._new_attempt(context, handed_over)

        from airflow_lro_provider.triggers.events import is_for_another  # not before: that may have to wait

        if is_for_another(event, attempt.token):
            self.log.warning("Airflow delivered the event of another task; polling again.")
            return self._run(attempt)
        with attempt:
            self._note_secrets(attempt)
            if attempt.reference is None and not attempt.recall() and self.operation_name is not None:
                self._connect(attempt)  # deferred by an older release
            return self._settle(attempt, *self._read_event(attempt, event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume, even if only to fail: then the operation must not be forgotten."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except BaseException:
            if next_method != "__fail__":  # the trigger broke, or a timeout of Airflow's own passed
                raise
            with self._new_attempt(context, {}) as attempt:
                self._note_secrets(attempt)
                attempt.look()
                if self.cancel_on_kill and attempt.reference is None:
                    self.log.warning("The operation of this task is not known any more; it is not cancelled.")
                raise

    def _look(self, attempt: Attempt) -> None:
        """Know the operation, although nothing was handed over, and the task has not come so far."""
        from airflow_lro_provider.attempt.adoption import recall_left

        attempt.look = lambda: None  # once
        named = None
        if self.operation_name is not None:
            with contextlib.suppress(Exception):  # what ends the task is more important
                named = self._read_arguments(self._hook())
        with contextlib.suppress(Exception):
            if not attempt.recall():
                recall_left(attempt, named)
        attempt.about = attempt.about or named

    def _connect(self, attempt: Attempt) -> OperationReference:
        """Connect, and return the operation: that which this try began with, whatever the template says by now."""
        known = attempt.reference
        attempt.about = reference = attempt.connect(self._read_arguments if known is None else lambda hook: known)
        return reference

    def _read_arguments(self, hook: OperationsHook) -> OperationReference:
        """Read and check what names the operation; nothing is sent."""
        return hook.reference(self.operation_name)
