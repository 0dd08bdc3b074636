"""The guard, with real signals, a real thread and a real server: what a kill does in each phase."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowTaskTimeout,
)

from airflow_lro_provider.attempt import guard as guard_module
from airflow_lro_provider.attempt.guard import Guard, Phase
from airflow_lro_provider.attempt.start import held_back
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import (
    OperationKilled,
    OperationOrphaned,
    OperationWaitError,
)
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.client import OperationsClient
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.names import OperationReference, read_reference
from airflow_lro_provider.ownership.decisions import Decision
from tests.airflow.versions import since_3, since_3_2
from tests.e2e.bed.waiting import wait_until


class Log:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.levels: list[int] = []

    def log(self, level: int, line: str) -> None:
        """Remember a line of this level."""
        self.levels.append(level)
        self.lines.append(line)

    def info(self, line: str, *args: Any) -> None:
        """Remember a line."""
        self.lines.append(line % args if args else line)

    exception = info


class Task:
    """A task process in miniature: a guard, its operation, and SIGTERM wired to on_kill."""

    def __init__(self, emulator: Emulator, *, cancels: bool = True, **script: Any) -> None:
        self.emulator = emulator
        self.log = Log()
        self.guard = Guard(self.log, cancels=cancels)
        self.settings = ConnectionSettings.from_extra(emulator.connection_extra())
        self.reference = read_reference(emulator.create("datafusion", **{"duration": None, **script}), "datafusion")

    def arm(self, decide: Callable[[bool], Decision] = lambda may_ask: Decision.CANCEL) -> OperationReference:
        """Arm the guard and wait, as the sensor does."""
        self.guard.arm(OperationsClient(self.settings, connect_timeout=2, read_timeout=3), self.reference, decide)
        self.guard.enter(Phase.WAITING)
        return self.reference

    @property
    def cancels(self) -> int:
        """How many cancel requests the server saw."""
        return len(self.emulator.requests(verb="cancel", name=self.reference.name))


@pytest.fixture
def make_task(lro_emulator: Emulator) -> Iterator[Callable[..., Task]]:
    """Make tasks whose SIGTERM is handled as Airflow's task runner does it."""
    before = signal.getsignal(signal.SIGTERM)
    tasks: list[Task] = []

    def make(**kwargs: Any) -> Task:
        task = Task(lro_emulator, **kwargs)
        tasks.append(task)
        signal.signal(signal.SIGTERM, lambda *_: task.guard.on_kill())
        return task

    yield make
    signal.signal(signal.SIGTERM, before)
    for task in tasks:
        task.guard.release()


def terminate_in(seconds: float) -> threading.Timer:
    """Send this process a SIGTERM a little later."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    return timer


def sleep_until_killed() -> None:
    """Sleep as a poking sensor does; a test that nothing wakes fails."""
    time.sleep(30)
    pytest.fail("the kill did not end the wait")


def test_a_kill_while_waiting_cancels_and_ends_the_wait(make_task: Callable[..., Task]) -> None:
    """SIGTERM in the middle of a sleep: one cancel at the server, and the wait is over at once."""
    task = make_task()
    task.arm()
    terminate_in(0.2)
    with pytest.raises(OperationKilled):
        sleep_until_killed()
    assert task.cancels == 1
    assert task.emulator.operation("datafusion", task.reference.name).operation["error"]["code"] == 1


def test_a_kill_of_a_process_whose_task_lives_leaves_the_operation(make_task: Callable[..., Task]) -> None:
    """The wait ends, nothing is cancelled, and the error says why (A1)."""
    task = make_task()
    asked: list[bool] = []
    task.arm(lambda may_ask: asked.append(may_ask) or Decision.ADOPT)
    terminate_in(0.2)
    with pytest.raises(OperationKilled, match="the next try of the task goes on"):
        sleep_until_killed()
    task.guard.release()
    assert (task.cancels, asked[-1], task.guard.is_left) == (0, True, True)


@pytest.mark.parametrize(("without", "cancels"), [(Decision.ADOPT, 0), (Decision.CANCEL, 1)])
@pytest.mark.parametrize("trouble", ["hangs", "fails"])
def test_airflow_does_not_say_what_became_of_the_task(
    make_task: Callable[..., Task], without: Decision, cancels: int, trouble: str
) -> None:
    """Then it is decided without it, a second later at most, and there is time for the cancel (A1)."""
    task, release = make_task(), threading.Event()

    def decide(may_ask: bool) -> Decision:
        if may_ask and trouble == "fails":
            raise RuntimeError
        if may_ask:
            release.wait(20)
        return without

    task.arm(decide)
    terminate_in(0.2)
    with pytest.raises(OperationKilled):
        sleep_until_killed()
    release.set()
    assert task.cancels == cancels


def test_the_first_look_warms_the_connection_and_is_kept(make_task: Callable[..., Task]) -> None:
    """What the guard saw when it warmed up is the task's own first look."""
    task = make_task()
    task.arm()
    seen = task.guard.first_poll.result(10)
    assert isinstance(seen, Operation)
    assert seen.name == task.reference.name


def test_a_kill_while_the_log_is_locked_still_cancels(make_task: Callable[..., Task]) -> None:
    """A lock that the interrupted frame holds, here the log's, does not hold the cancel up."""
    task = make_task()
    lock = threading.Lock()
    task.log.info = lambda line, *args: lock.acquire() and None  # type: ignore[method-assign]
    task.arm()
    terminate_in(0.2)
    with pytest.raises(OperationKilled), lock:
        sleep_until_killed()
    assert task.cancels == 1


@pytest.mark.parametrize(
    "prepare", [lambda guard: None, lambda guard: guard.enter(Phase.PREPARING)], ids=["new", "preparing"]
)
def test_an_early_kill_is_noted_and_acted_on_when_armed(
    make_task: Callable[..., Task], prepare: Callable[[Guard], None]
) -> None:
    """Before there is a guard to cancel with, a kill waits; arming cancels the known operation and raises."""
    task = make_task()
    prepare(task.guard)
    os.kill(os.getpid(), signal.SIGTERM)
    assert task.cancels == 0
    with pytest.raises(OperationKilled):
        task.arm()
    assert task.cancels == 1


def test_a_kill_while_starting_waits_for_the_answer(make_task: Callable[..., Task]) -> None:
    """A request that starts something is not interrupted; the next checkpoint raises."""
    task = make_task()
    task.guard.enter(Phase.STARTING)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(OperationKilled):
        task.guard.enter(Phase.WAITING)


def test_a_kill_while_handing_on_cancels_but_raises_only_at_a_checkpoint(make_task: Callable[..., Task]) -> None:
    """While the supervisor is being asked, on_kill returns; the deferral is called off."""
    task = make_task()
    task.arm()
    task.guard.enter(Phase.ASKING)
    os.kill(os.getpid(), signal.SIGTERM)
    assert task.cancels == 1
    with pytest.raises(OperationWaitError, match="not deferred"):
        task.guard.defer()


def test_a_released_guard_does_nothing(make_task: Callable[..., Task]) -> None:
    """After the operation is over, a kill is none of the guard's business."""
    task = make_task()
    task.arm()
    task.guard.finish()
    task.guard.release()
    os.kill(os.getpid(), signal.SIGTERM)
    assert task.cancels == 0
    assert task.guard.phase is Phase.RELEASED


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.ASKING, Phase.WAITING])
def test_what_is_finished_is_never_cancelled(make_task: Callable[..., Task], phase: Phase) -> None:
    """B11: whatever the task still does, e.g. read its connection again, to take the response."""
    task = make_task()
    task.arm()
    task.guard.finish()
    task.guard.enter(phase)
    with contextlib.suppress(OperationKilled):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(OperationKilled):
        task.guard.checkpoint()
    task.guard.release("its task has failed")
    assert task.cancels == 0


def test_an_observer_ends_without_cancelling(make_task: Callable[..., Task]) -> None:
    """With cancel_on_kill=False the task ends, and the operation runs on."""
    task = make_task(cancels=False)
    task.guard.enter(Phase.WAITING)
    terminate_in(0.2)
    with pytest.raises(OperationKilled):
        sleep_until_killed()
    assert task.cancels == 0


def test_two_kills_in_a_row_are_one_cancel(make_task: Callable[..., Task]) -> None:
    """A second SIGTERM in the middle of the first one's cancel changes nothing."""
    task = make_task(latency=0.5)
    task.arm()
    task.guard.first_poll.result(10)
    terminate_in(0.2)
    terminate_in(0.4)
    with pytest.raises(OperationKilled):
        sleep_until_killed()
    assert task.cancels == 1


def test_an_alarm_in_the_middle_of_a_kill_loses_nothing(make_task: Callable[..., Task]) -> None:
    """execution_timeout (SIGALRM) may strike while on_kill waits for the cancel: it is sent all the same."""
    task = make_task(latency=0.6)
    task.arm()
    task.guard.first_poll.result(10)

    def alarm(*_: Any) -> None:
        raise AirflowTaskTimeout("too late")

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        terminate_in(0.1)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(AirflowTaskTimeout):
            sleep_until_killed()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    task.guard.release("the task's execution_timeout has passed")
    assert task.cancels == 1


def test_one_bad_moment_of_the_server_does_not_lose_the_cancel(make_task: Callable[..., Task]) -> None:
    """A cancel that is answered with 503 is sent again."""
    task = make_task()
    task.arm()
    task.guard.first_poll.result(10)
    task.emulator.fail(503, verb="cancel")
    terminate_in(0.1)
    with pytest.raises(OperationKilled):
        sleep_until_killed()
    assert task.cancels == 2
    assert task.emulator.operation("datafusion", task.reference.name).operation["done"]


def test_release_with_a_reason_cancels_and_says_why(make_task: Callable[..., Task]) -> None:
    """Any other way out cancels too, and the log says who asked for it and why."""
    task = make_task()
    task.arm()
    task.guard.release("the sensor's timeout has passed")
    assert task.cancels == 1
    assert task.guard.cancelled_because == "the sensor's timeout has passed"
    assert any(
        "the sensor's timeout has passed" in line and "the service accepted it" in line for line in task.log.lines
    )


def test_a_refused_cancel_is_logged_as_refused(make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was only requested is never called cancelled; one refusal is not believed."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.2)
    task = make_task()
    task.arm()
    task.guard.first_poll.result(10)
    task.emulator.fail(403, verb="cancel", times=None)
    task.guard.release("a reason")
    assert len(task.emulator.requests("cancel")) == 3
    [line] = task.log.lines
    assert "Cancellation not accepted" in line
    assert "PERMISSION_DENIED" in line
    assert "(a reason)" in line


def test_a_cancel_that_the_service_does_not_have_is_logged_so(make_task: Callable[..., Task]) -> None:
    """C4: it was answered, and the operation runs on: a warning."""
    task = make_task(cancel="unimplemented")
    task.arm()
    task.guard.release("a reason")
    [line] = task.log.lines
    assert task.log.levels == [logging.WARNING]
    assert "cannot cancel it (a reason;" in line


def test_a_guard_leaves_no_descriptor_and_no_thread(make_task: Callable[..., Task]) -> None:
    """Many guards in one process (`dags test`) do not pile up."""
    task = make_task()
    task.arm()
    task.guard.first_poll.result(10)
    task.guard.release()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        guard = Guard(task.log, cancels=True)
        guard.arm(OperationsClient(task.settings), task.reference)
        guard.first_poll.result(10)
        guard.release()
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2


def test_an_orphan_notices_that_its_supervisor_is_gone(make_task: Callable[..., Task]) -> None:
    """A changed parent process is the sign."""
    task = make_task()
    task.guard.check_supervisor()
    task.guard._supervisor = -1
    with pytest.raises(OperationOrphaned):
        task.guard.check_supervisor()


@since_3
def test_a_run_without_a_supervisor_has_none_to_lose(
    make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dags test` in the background: the shell that began it may end, and the run goes on."""
    played = type("InProcessSupervisorComms", (), {})
    for name, module in {
        "supervisor": SimpleNamespace(InProcessSupervisorComms=played),
        "task_runner": SimpleNamespace(SUPERVISOR_COMMS=played()),
    }.items():
        monkeypatch.setitem(sys.modules, f"airflow.sdk.execution_time.{name}", module)
    task = make_task()
    task.guard._supervisor = -1
    task.guard.check_supervisor()


def test_a_kill_that_came_before_is_not_held_up_by_the_first_look(make_task: Callable[..., Task]) -> None:
    """A task that was killed while it started sends its cancel at once, without warming up."""
    task = make_task(latency=0.3)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(OperationKilled):
        task.arm()
    assert [request.verb for request in task.emulator.requests()] == ["cancel"]


def test_a_guard_can_have_another_operation_after_the_first(make_task: Callable[..., Task]) -> None:
    """Disarmed when the old one is over, armed again with the new one: the kill cancels the new one only."""
    task = make_task()
    task.arm()
    task.guard.disarm()
    old, new = task.reference, read_reference(task.emulator.create("datafusion", duration=None), "datafusion")
    task.reference = new
    task.arm()
    terminate_in(0.1)
    with pytest.raises(OperationKilled):
        sleep_until_killed()
    assert task.cancels == 1
    assert task.emulator.requests(verb="cancel", name=old.name) == []


def test_a_kill_while_disarmed_is_not_lost(make_task: Callable[..., Task]) -> None:
    """Between the two operations it is noted, and the next checkpoint raises."""
    task = make_task()
    task.arm()
    task.guard.killed = True
    with pytest.raises(OperationKilled):
        task.guard.disarm()


def test_a_kill_while_airflow_takes_the_deferral_is_only_noted(make_task: Callable[..., Task]) -> None:
    """Whether the task is dead or handed on is found out afterwards; nothing is cancelled by guess."""
    task = make_task()
    task.arm()
    task.guard.defer()
    os.kill(os.getpid(), signal.SIGTERM)
    assert (task.guard.killed, task.cancels) == (True, 0)


def test_an_alarm_is_held_back_and_not_lost() -> None:
    """It strikes at the end of the block, also if an exception leaves it; without one nothing happens."""

    def alarm(*_: Any) -> None:
        raise AirflowTaskTimeout("too late")

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with held_back(signal.SIGALRM):
            pass
        reached: list[bool] = []

        def strike(error: Exception | None) -> None:
            with held_back(signal.SIGALRM):
                signal.raise_signal(signal.SIGALRM)
                reached.append(True)
                if error is not None:
                    raise error

        for error in (None, ValueError()):
            with pytest.raises(AirflowTaskTimeout):
                strike(error)
        assert len(reached) == 2
        assert signal.getsignal(signal.SIGALRM) is alarm
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_alarm_is_left_alone_in_other_threads() -> None:
    """Only the main thread has signals."""
    ran: list[bool] = []

    def work() -> None:
        with held_back(signal.SIGALRM):
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran


def test_a_second_ctrl_c_is_not_held_back() -> None:
    """The first one waits for the end of the block; whoever presses it again means it."""
    reached: list[str] = []

    def press(times: int) -> None:
        with held_back(signal.SIGINT):
            for number in range(times):
                signal.raise_signal(signal.SIGINT)
                reached.append(f"{number + 1} of {times}")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for times in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                press(times)
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["1 of 1", "1 of 2"]


def test_an_ignored_signal_stays_ignored() -> None:
    """A process in the background of a shell ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back(signal.SIGINT):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_kill_during_a_slow_first_look_is_not_held_up(make_task: Callable[..., Task]) -> None:
    """The server takes its time with looks: the cancel is sent beside, not after."""
    task = make_task(latency=1.5)
    task.arm()
    time.sleep(0.2)
    begin = time.time()
    terminate_in(0.1)
    with pytest.raises(OperationKilled):
        sleep_until_killed()
    [cancel] = task.emulator.requests(verb="cancel")
    assert cancel.time - begin < 1.0


def test_a_kill_that_python_drops_ends_the_wait_at_the_next_look(make_task: Callable[..., Task]) -> None:
    """An exception in a finalizer is lost; the kill is not: every look begins with a checkpoint."""
    task = make_task()
    task.arm()

    class Finalizer:
        def __del__(self) -> None:
            with contextlib.suppress(OperationKilled):  # as Python does with what strikes here
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)

    Finalizer()
    assert task.cancels == 1
    with pytest.raises(OperationKilled):
        task.guard.checkpoint()
    assert task.cancels == 1


@since_3
def test_a_kill_in_the_middle_of_a_question_does_not_raise_there(
    make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided once the channel is free, which the interrupted frame holds; the next checkpoint ends the task."""
    task, lock = make_task(), threading.Lock()

    def decide(may_ask: bool) -> Decision:
        with lock:
            return Decision.CANCEL

    task.arm(decide)
    runner = SimpleNamespace(SUPERVISOR_COMMS=SimpleNamespace(_thread_lock=lock))
    monkeypatch.setitem(sys.modules, "airflow.sdk.execution_time.task_runner", runner)
    with lock:
        os.kill(os.getpid(), signal.SIGTERM)
        assert task.cancels == 0
    with pytest.raises(OperationKilled):
        task.guard.checkpoint()
    assert task.cancels == 1


@since_3_2
def test_the_lock_of_airflows_channel_is_where_we_look_for_it() -> None:
    """A private name of Airflow 3.3; without it a kill inside a question would leave the channel out of step."""
    import inspect

    from airflow.sdk.execution_time.comms import CommsDecoder

    assert "_thread_lock" in inspect.getsource(CommsDecoder)


def test_a_task_that_asks_without_a_pause_is_cancelled_all_the_same(
    make_task: Callable[..., Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever decides never gets the channel: a second later it is decided without (A1)."""
    task, over = make_task(), threading.Event()
    task.arm(lambda may_ask: (may_ask and over.wait(20) and False) or Decision.CANCEL)
    monkeypatch.setattr(guard_module, "is_asking_supervisor", lambda: True)
    os.kill(os.getpid(), signal.SIGTERM)
    wait_until(lambda: task.cancels, "it is cancelled", 4)
    with pytest.raises(OperationKilled):
        task.guard.checkpoint()
    over.set()
    assert task.cancels == 1


def test_a_child_that_was_forked_meanwhile_holds_no_signal_back() -> None:
    """A pool of processes that a user's function leaves is ended by SIGTERM: it would be waited for in vain."""

    def leave(*_: Any) -> None:
        os._exit(7)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with held_back(signal.SIGTERM) as came:
            child = os.fork()
            if not child:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert came == set()
    finally:
        signal.signal(signal.SIGTERM, before)
