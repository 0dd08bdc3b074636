"""What a try leaves behind if it does not end normally: for the next try, and for the sweep.

* The **armed record**, for the next try, is kept where it survives a retry, a SIGKILL and a clear
  (:mod:`airflow_lro_provider.airflow_compat.record_store`).
* The entry in the **ledger**, for the sweep, where that is switched on (:mod:`airflow_lro_provider.sweep.ledger`).

Losing either never cancels anything: a store that does not respond is logged, and the task goes on without it. Only
before it starts something, Airflow has to confirm by taking the record that this try is the current one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_lro_provider.airflow_compat import task_states  # noqa: F401 - here, and not when a kill is decided about
from airflow_lro_provider.airflow_compat.record_store import record_store, status_of
from airflow_lro_provider.airflow_compat.task_process import (
    is_in_line,
    last_retried_try,
    retry_policy_fails,
    try_id,
)
from airflow_lro_provider.attempt.role import Role
from airflow_lro_provider.exceptions import OperationKilled, OperationWaitError
from airflow_lro_provider.lro.resources.names import OperationReference
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.ownership.decisions import (
    KILLED,
    REPLACED,
    ArmedRecord,
    Decision,
    EndedBy,
    Evidence,
    TaskState,
    of_stopped_task,
    was_stopped,
    will_go_on,
)
from airflow_lro_provider.sweep.ledger import LedgerPage, ledger_is_on

if TYPE_CHECKING:
    from airflow_lro_provider.sweep.search import StartFootprint

KEY = "airflow_lro_provider.armed"
READ_PAUSES_SECONDS = (0.5, 1.0, 2.0)
"""The pauses between two reads of the record, while Airflow does not respond."""
WRITE_PAUSE_SECONDS = 0.2
ANNOUNCE_SECONDS = 120.0
"""How long Airflow may take to confirm that a try is the current one, before it starts something."""
# Airflow gives every try an id of its own, and rejects with these the writes of one that has ended.
_NOT_CURRENT = (404, 409, 410)


class AttemptRecord:
    """The record of one try of a task.

    Every method asks the supervisor: none may be called where a kill may raise (see ``guard.py``).

    :param context: the context of the running task.
    :param log: where to log that the store does not respond.
    :param role: how the task relates to its operation.
    :param is_resumed: whether this try has deferred before.
    :param secrets: what nobody may quote: the same set that the try fills.
    """

    def __init__(
        self, context: Any, log: Any, role: Role, *, is_resumed: bool = False, secrets: Collection[str] = ()
    ) -> None:
        self._store = record_store(context, is_resumed=is_resumed) if role.keeps_record else None
        self._ti = context["ti"]
        self._log = log
        self._role, self._context = role, context
        self._earlier: ArmedRecord | None = None
        self._request_id: str | None = None
        self.left_by_try: int | None = None
        """The earlier try that left the operation which this one has, for its record."""
        self.endpoint: str | None = None
        """Where requests about the operation went, from the try on that has started it."""
        self.is_unread = False
        """Whether it is not known what an earlier try has left: Airflow did not respond."""
        self._policy_fails: dict[type, bool] = {}
        self.told_to_stop = KILLED
        """Who told this process to stop, as far as Airflow has said."""
        self._is_repeatable = False  # whether the next try finds what this one starts, by its request id
        self._footprint: StartFootprint | None = None
        self._recorded: Mapping[str, Any] | None = None  # the operation that a record of this try named last
        self._has_owned = False  # whether a record of this try has ever named the operation
        self._is_there: bool | None = None  # the record of this try; None: not known
        self._rejected_with: int | None = None  # the HTTP code with which Airflow has rejected it, if it has
        self._trouble: Exception | None = None  # the last one
        self._page: LedgerPage | None = None
        if role.cancel_on_kill and ledger_is_on():
            self._page = LedgerPage(
                self._ti,
                secrets,
                gcp_conn_id=role.gcp_conn_id,
                impersonation_chain=role.impersonation_chain,
                cancel_on_failure=role.cancel_on_failure,
                will_adopt=self.will_go_on(EndedBy.FAILED),
                lets_go=role.lets_go,
            )

    @property
    def this_try(self) -> dict[str, Any]:
        """What distinguishes this try from others, as :func:`decisions.of_armed_record` takes it."""
        return {"try_number": self._ti.try_number, "try_id": try_id(self._ti), "max_tries": self._ti.max_tries}

    @property
    def is_outdated(self) -> bool:
        """Whether Airflow has another try of this task by now, and rejected the record for that."""
        return self._rejected_with == 404

    @property
    def is_rejected(self) -> bool:
        """The same; or Airflow does not count this try as running any more."""
        return self._rejected_with in _NOT_CURRENT

    @property
    def follows_lost_start(self) -> bool:
        """Whether an earlier try was about to start an operation, and it is not known whether it did."""
        return self._earlier is not None and self._earlier.reference is None

    def will_go_on(self, ended_by: EndedBy, error: BaseException | None = None) -> bool:
        """Whether, after this end, the next try, or this one itself, goes on with the operation.

        :param ended_by: how this try ends.
        :param error: the error that it ends with, for the operator's retry policy.
        """
        is_kept = self._store is not None and self._is_there is not False
        facts = {
            "try_number": self._ti.try_number,
            "max_tries": last_retried_try(self._ti),
            "knows_operation": is_kept or self._is_repeatable or not self._role.needs_record,
        }
        goes_on, at_least = (will_go_on(ended_by, **facts, retry_policy_fails=fails) for fails in (False, True))
        if goes_on == at_least:
            return goes_on
        # Only where it matters: each question changes a policy that counts.
        if type(error) not in self._policy_fails:  # asked once: a policy may have a memory
            self._policy_fails[type(error)] = retry_policy_fails(self._role.retry_policy, error, self._context)
        return not self._policy_fails[type(error)]

    def read(self, *, is_expected: bool = False) -> ArmedRecord | None:
        """The record that is there, whoever left it.

        :param is_expected: whether there should be one: a first try finds none, as a rule.
        """
        self._earlier = None
        is_expected = is_expected or self._ti.try_number > 1
        if (store := self._store) is None:
            return None
        for pause in (*READ_PAUSES_SECONDS, None):
            with self._tolerating("read"):
                self._earlier = evidence.ask_twice(
                    lambda: ArmedRecord.from_dict(store.get(KEY)),
                    denies=lambda record: record is None and is_expected,
                )
                return self._earlier
            if pause is not None:
                time.sleep(pause)
        is_there = isinstance(self._trouble, ValueError)  # it cannot be decrypted
        self.is_unread = is_there or self._ti.try_number > 1
        return None

    def recall(self) -> Mapping[str, Any] | None:
        """The operation of this try, by its record or its entry in the ledger."""
        record = self.read(is_expected=True)
        if record is not None and record.reference is not None and self.is_own(record):
            self.endpoint, self.left_by_try = self.endpoint or record.endpoint, record.left_by_try
            return record.reference
        if self._page is not None:
            with self._tolerating("read"):
                return self._page.recall()
        return None

    def check(self, reference: OperationReference | None) -> None:
        """See whether the record of this try is there, if another process has written it, and names the operation."""
        if self._is_there is not None or (store := self._store) is None:
            return
        with self._tolerating("read"):
            record = evidence.ask_twice(lambda: ArmedRecord.from_dict(store.get(KEY)))
            self._is_there = record is not None and self.is_own(record)
            if self._is_there and record is not None and record.reference is None and reference is not None:
                self._set(self._of(reference))

    def is_stopped(self) -> bool:
        """Whether Airflow has ended, cleared or deleted this task, although its process lives on."""
        return not is_in_line() and was_stopped(evidence.read_task_state(evidence.TaskKey.of(self._ti)))

    def decide(self, reference: OperationReference, may_ask: bool = True) -> Decision:
        """Whose the operation is, now that this process was told to stop: CANCEL, or ADOPT: another try's.

        :param may_ask: whether Airflow may be asked what has become of the task.
        """
        if is_in_line():  # `dags test`: there is nobody else
            self.told_to_stop = "this process was told to stop"
            return Decision.CANCEL
        named = (self._recorded, None if self._earlier is None else self._earlier.reference)
        is_known = not self._role.needs_record or reference.to_dict() in named or self._is_repeatable
        state: TaskState = Evidence.UNKNOWN
        is_current = False if self.is_outdated else None
        if may_ask:
            state = evidence.read_task_state(evidence.TaskKey.of(self._ti))
            if state in ("running", "success"):
                is_current = self._is_current(reference)
            if state == "success":
                is_current = not self.is_outdated  # or another try has succeeded
            self.told_to_stop = evidence.told_to_stop(state) if is_current is not False else REPLACED
        # Where nothing may be asked, no policy is: it may be the signal handler, and a policy is somebody else's code.
        goes_on = self.will_go_on(EndedBy.KILLED, OperationKilled(KILLED) if may_ask else None)
        decision = of_stopped_task(task_state=state, is_current=is_current, goes_on=goes_on)
        if not is_known and not (may_ask and self._is_current(reference)):
            return Decision.CANCEL  # what no record names, no other try finds
        if state == "restarting" and self._store is not None and not (self._role.needs_record or self._has_owned):
            return Decision.ADOPT  # a sensor that was cleared before it left a record: the next try waits for it
        return decision

    def keep(self) -> None:
        """Leave the record as it is: it says more than this try could."""
        self._store = None

    def is_replaced(self, reference: OperationReference) -> bool:
        """Whether Airflow has another try of this task by now, as it says of a record of this one."""
        return self._store is not None and self._is_current(reference) is False

    def _is_current(self, reference: OperationReference) -> bool | None:
        """Whether Airflow still accepts a record of this try; ``None`` if that is not known."""
        is_accepted = self._set(self._of(reference))
        return True if is_accepted else False if self.is_rejected else None

    def announce(
        self,
        start: str,
        request_id: str,
        footprint: StartFootprint | None,
        *,
        repeatable: bool = False,
        endpoint: str | None = None,
    ) -> None:
        """Record that this try is about to start an operation.

        The process of a task that was cleared lives on for some seconds while the next try begins. Airflow does not
        know this try any more then, and rejects the record: nothing may be started.

        :param repeatable: whether another try that sends the same start again gets the same operation.
        :param endpoint: where requests about what it works on go.
        :raises OperationKilled: if this try is not Airflow's current one any more, or its task has ended.
        :raises OperationWaitError: if Airflow does not confirm that it is.
        """
        self._request_id, self._footprint = request_id, footprint
        sent_since, earlier = time.time(), self._earlier
        if earlier is not None and earlier.request_id == request_id and earlier.sent_since is not None:
            sent_since = earlier.sent_since
        if (page := self._page) is not None:
            with self._tolerating("write"):
                fields = {"start": start, "request_id": request_id, "sent_since": sent_since, "endpoint": endpoint}
                _twice(lambda: page.write(None, footprint, **fields))
                if earlier is not None and earlier.reference is None and earlier.request_id == request_id:
                    self.remove_earlier()  # it is the same start; not every Airflow lets a task list what is there
        # Last of all: between Airflow's word that this is the current try, and the start, nothing takes time.
        announced = self._of(None, request_id=request_id, sent_since=sent_since)
        begin = time.monotonic()
        for pause in (*READ_PAUSES_SECONDS, None):
            self._set(announced)
            if self._is_there or self._store is None or self.is_rejected or pause is None:
                break
            time.sleep(pause)
        self._is_repeatable = repeatable and self._is_there is True
        if self.is_rejected:
            raise OperationKilled("this try is not Airflow's current one any more (cleared?); nothing was started")
        if was_stopped(state := evidence.read_task_state(evidence.TaskKey.of(self._ti))):
            raise OperationKilled(f"the state of this task is {state}; nothing was started")
        is_late = time.monotonic() - begin > ANNOUNCE_SECONDS  # the ledger would say a wrong time of the start
        if is_late or (self._store is not None and not self._is_there):  # another try may have started its own
            raise OperationWaitError(
                "Airflow does not confirm that this is the current try of the task, so nothing was started. If its task"
                " state store is out of order, `durable=False` starts without a record for the next try"
            )

    def write(self, reference: OperationReference, killed: str | None = None) -> None:
        """Record that this try waits for this operation, or (``killed``) why it requested its cancellation."""
        record = self._of(reference, killed=killed)
        # First for whoever sees to it if this try dies now: a retry that finds it by its record only, or the sweep.
        is_for_retry = self._role.needs_record and self._ti.try_number <= last_retried_try(self._ti)
        if is_for_retry:
            self._set(record)
        has_entry = self._page is None
        if (page := self._page) is not None and killed is None:  # else the sweep sees to it that it takes effect
            with self._tolerating("write"):
                _twice(lambda: page.write(reference, endpoint=self.endpoint))
                has_entry = True
        if not is_for_retry:
            self._set(record)
        if killed is not None:
            return
        # Only now: between the two entries there is no moment without one.
        earlier = self._earlier
        if (
            earlier is not None
            and has_entry
            and (
                earlier.reference == record.reference
                # Its start was sent again, and this is the result.
                or (self._request_id is not None and earlier.request_id == self._request_id)
            )
        ):
            self.remove_earlier()

    def remove_earlier(self) -> None:
        """What the earlier try owned is finished, or this one's now."""
        earlier = self._earlier
        if earlier is None or self._page is None or self.is_own(earlier):
            return
        reference = None if earlier.reference is None else OperationReference.from_dict(earlier.reference)
        with self._tolerating("remove"):
            self._page.remove(reference, earlier)

    def remove(self, reference: OperationReference | None = None) -> None:
        """This try ends normally."""
        if self._store is not None:
            with self._tolerating("remove"):
                self._store.delete(KEY)
        self.let_go(reference)

    def let_go(self, reference: OperationReference | None = None) -> None:
        """The operation runs on without an owner: the sweep must not end it."""
        if self._page is not None:
            with self._tolerating("remove"):
                self._page.remove(reference)
        is_retry = self._ti.try_number > 1
        if is_retry and reference is not None and self._page is not None and self._footprint is not None:
            with self._tolerating("read"):
                # What earlier tries may have started works on the same: the sweep would take this one for it.
                self._page.remove_starts(self._footprint)

    def is_own(self, record: ArmedRecord) -> bool:
        """Whether this very try has left it."""
        return record.is_of(self._ti.try_number, try_id(self._ti))

    def _of(self, reference: OperationReference | None, **more: Any) -> ArmedRecord:
        """A record of this try."""
        if reference is not None:
            more.update(left_by_try=self.left_by_try, endpoint=self.endpoint)
        return ArmedRecord(None if reference is None else reference.to_dict(), **self.this_try, **more)

    def _set(self, record: ArmedRecord) -> bool:
        """Write the record of this try; returns whether Airflow has accepted it.

        Two threads may do so at a time: what is known changes only with a response, and in one go.
        """
        if (store := self._store) is None:
            self._is_there = False
            return False
        with self._tolerating("write"):
            try:
                _twice(lambda: store.set(KEY, asdict(record)))
            except Exception as error:
                self._rejected_with = status_of(error)
                is_named = self._recorded is not None and self._recorded == record.reference
                if not is_named:
                    self._is_there, self._recorded = False, None
                elif self.is_rejected:  # by then another try had found it; else the one before it still stands
                    self._is_there = False
                if self.is_rejected:  # as after a clear: that is fine
                    self._log.info(
                        "Airflow has another try of this task by now, or it has ended: this one leaves nothing"
                    )
                    return False
                raise
            self._rejected_with = None
            self._is_there, self._recorded = True, record.reference
            self._has_owned = self._has_owned or record.reference is not None
            return True
        return False

    @contextlib.contextmanager
    def _tolerating(self, verb: str) -> Iterator[None]:
        """Log an error of Airflow's, and go on."""
        try:
            yield
        except Exception as error:
            self._trouble = error
            self._log.info("Could not %s the record of this task: %s", verb, str(error)[:300])


def _twice(write: Callable[[], object]) -> None:
    """Write; if Airflow does not accept it, once more: one odd response says nothing about the task."""
    try:
        write()
    except Exception:
        time.sleep(WRITE_PAUSE_SECONDS)
        write()
