"""The ways in which a task is killed, and the moments at which it is: what the rows of the kill matrix are made of."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from datetime import datetime, timezone

import psutil

from airflow_lro_provider.airflow_compat import local
from tests.e2e.bed.bed import Bed, BedError
from tests.e2e.bed.celery import WORKERS, CeleryAirflow
from tests.e2e.bed.ctrl_c import interrupt
from tests.e2e.bed.judge import FINAL
from tests.e2e.bed.trial import Trial, waits

TAKEN_OVER = 22.0
"""Seconds after which another triggerer has what a stalled one had: its heartbeat, its health, a look at both."""


# Moments


def before_its_deadline(trial: Trial) -> None:
    """Its time runs already."""
    waits(trial) if trial.column.name == "completing" else first_look(trial)


def scheduled(trial: Trial) -> None:
    """Waiting for a slot: there is no process yet."""
    trial.until(lambda: trial.state in ("scheduled", "queued"), "waits for a slot")


def held(trial: Trial) -> None:
    """There is a process, before ``execute``."""
    trial.until(lambda: trial.bed.has_told(trial.key, "held"), "is held before execute", 90)


def starting(trial: Trial) -> None:
    """The request that starts the operation has arrived, and is not answered yet; all others are answered at once."""
    [operation] = trial.until(lambda: trial.operations, "has sent the start", 90)
    trial.bed.store.amend(operation.name, latency=0)


def first_look(trial: Trial) -> None:
    """Its first look, or its start, has arrived and is not answered: it will defer in a moment."""
    trial.until(lambda: trial.operations and (trial.column.starts or trial.looks()), "looks", 90)


def just_deferred(trial: Trial) -> None:
    """The moment after the deferral. The bed's own watch is too slow for that."""
    airflow = trial.bed.airflow
    trial.until(lambda: airflow.task_instance(trial.dag_id, trial.key, "it")["state"] == "deferred", "is deferred", 90)


def asking(trial: Trial) -> None:
    """It asks its supervisor most of the time."""
    trial.until(lambda: trial.looks() >= 2, "asks and looks", 90)


# One task


def mark(state: str) -> Callable[[Trial], None]:
    """Mark the task as a user would."""

    def act(trial: Trial) -> None:
        trial.marked_success = state == "success"
        trial.kill(lambda: trial.bed.airflow.set_task_state(trial.dag_id, trial.key, "it", state))

    return act


def mark_run(state: str) -> Callable[[Trial], None]:
    """Mark the whole run."""

    def act(trial: Trial) -> None:
        trial.marked_success = state == "success"
        trial.kill(lambda: trial.bed.airflow.set_run_state(trial.dag_id, trial.key, state))

    return act


def clear(trial: Trial) -> None:
    """Clear the task."""
    trial.kill(lambda: trial.bed.airflow.clear(trial.dag_id, trial.key, "it"))


def clear_again(trial: Trial) -> None:
    """Clear it, and when its next try has failed, because its operation fell to the first clear, clear it again."""
    clear(trial)
    trial.sees(lambda: trial.task.tries >= 2 and trial.state in FINAL, 60)
    # The run's end comes a moment after its task's: a clear in between is lost, for Airflow then ends the run.
    trial.sees(lambda: trial.bed.airflow.run_state(trial.dag_id, trial.key) in FINAL, 60)
    trial.bed.airflow.clear(trial.dag_id, trial.key, "it")


def send(whom: str, sig: int) -> Callable[[Trial], None]:
    """Send a signal to the task's process or to its supervisor."""

    def act(trial: Trial) -> None:
        pid = 0

        def kill() -> None:
            nonlocal pid
            pid = trial.bed.send(trial.dag_id, trial.key, whom, sig)

        trial.kill(kill)
        # The bound is generous: the orphan looks once a second, but finishes a completion first.
        is_orphan = whom == "supervisor" and sig == signal.SIGKILL
        if is_orphan and not trial.sees(lambda: not psutil.pid_exists(pid), 20):
            trial.faults.append("the orphan did not end")

    return act


def twice(trial: Trial) -> None:
    """Mark it, and while Airflow comes for it, SIGTERM."""
    mark("failed")(trial)
    time.sleep(0.5)
    try:
        trial.bed.send(trial.dag_id, trial.key, "task", signal.SIGTERM)
    except BedError:
        trial.note = "it was gone before the second kill"


def forbid(trial: Trial) -> None:
    """From now on nobody may look at the operation; the task fails by itself."""
    trial.bed.emulator.fail(403, verb="get", name=trial.operations[-1].name, times=None)
    trial.killed_at = time.time()


def forbid_once(trial: Trial) -> None:
    """Looks are refused for ten seconds, which ends the try: with polls a second apart, the eleventh is believed.

    What is left of them meets the next try, which doubts it.
    """
    trial.bed.emulator.fail(403, verb="get", name=trial.operations[-1].name, times=12)
    trial.killed_at = time.time()


def refuse_a_cancel_once(trial: Trial) -> None:
    """The server is not available at the moment of the cancel."""
    trial.bed.emulator.fail(503, verb="cancel", name=trial.operations[-1].name)
    mark("failed")(trial)


def finish_meanwhile(trial: Trial) -> None:
    """The operation ends in the second of the kill, before or after it: each repetition at another moment."""
    kill = mark("failed") if trial.column.deferred else send("task", signal.SIGTERM)
    first, second = kill, lambda trial: trial.bed.finish(trial.key)
    if trial.number % 2:
        first, second = second, first
    first(trial)
    # Most often within the first quarter of the second: that is where looks and cancels cross.
    time.sleep(random.Random(trial.number).random() ** 2)
    try:
        second(trial)
    except BedError:
        trial.killed_at = time.time()
        trial.note = "it was over before the kill"


def deadline(trial: Trial) -> None:
    """Nobody does anything: its time runs out."""


def finish(trial: Trial) -> None:
    """The operation ends after a while, and nobody is killed."""
    # Airflow 3.3.2 itself fails tasks that are queued again within a few seconds.
    time.sleep(6)
    trial.bed.finish(trial.key)


def ctrl_c(trial: Trial) -> None:
    """Ctrl-C in the terminal of the test run."""
    assert trial.process is not None
    process = trial.process
    trial.kill(lambda: interrupt(process))


# All tasks at once


def each(act: Callable[[Trial], None], trials: list[Trial]) -> None:
    """Kill one after the other."""
    for trial in trials:
        act(trial)


def restart_triggerers(bed: Bed, trials: list[Trial]) -> None:
    """SIGTERM of the triggerers, and new ones."""
    _noted(trials)
    for index in range(bed.triggerers):
        bed.airflow.restart("triggerer", index)


def kill_triggerers(bed: Bed, trials: list[Trial]) -> None:
    """SIGKILL of the triggerers, and new ones."""
    _noted(trials)
    for index in range(bed.triggerers):
        bed.airflow.kill("triggerer", index)
        bed.airflow.restart("triggerer", index)


def stall_triggerers(bed: Bed, trials: list[Trial]) -> None:
    """Each triggerer in turn stands still until the other one has taken its triggers over, then goes on."""
    _noted(trials)
    for index in range(bed.triggerers):
        bed.stall(index)
        try:
            time.sleep(TAKEN_OVER)
        finally:
            bed.stall(index, signal.SIGCONT)
        time.sleep(8)  # the first one notices, and is told to kill what is not its own any more


def kill_the_owner(bed: Bed, trials: list[Trial]) -> None:
    """The triggerer that has all triggers dies, and before the other one has them, the tasks are marked."""
    bed.airflow.restart("triggerer", 1)
    bed.airflow.kill("triggerer", 0)
    each(mark("failed"), trials)


def without_triggerers(bed: Bed, trials: list[Trial]) -> None:
    """There is no triggerer when the tasks are marked; then there are again."""
    for index in range(bed.triggerers):
        bed.airflow.kill("triggerer", index)
    each(mark("failed"), trials)
    time.sleep(TAKEN_OVER)  # a triggerer takes over only what one had that counts as dead
    for trial in trials:
        trial.killed_at = time.time()  # nobody could hear of it before; the first one is there before the last
    for index in range(bed.triggerers):
        bed.airflow.restart("triggerer", index)


def freeze(bed: Bed, trials: list[Trial]) -> None:
    """Task and supervisor stand still until Airflow has given them up, and the next try waits; then they go on."""
    frozen = []
    for trial in trials:
        for pid in bed.airflow.task_pids(trial.dag_id, trial.key, "it")[-1:]:
            task = psutil.Process(pid)
            frozen += [task.parent(), task]
    for process in frozen:
        if process is not None:
            process.suspend()
    try:
        for trial in trials:
            trial.sees(
                lambda task=trial.task: (task.tries >= 2 and task.state == "running") or task.state in FINAL, 120
            )
        time.sleep(5)
    finally:
        _noted(trials)
        for process in frozen:
            if process is not None:
                process.resume()


def kill_scheduler(bed: Bed, trials: list[Trial]) -> None:
    """SIGKILL of the scheduler alone, and a new one."""
    _noted(trials)
    replace_scheduler(bed)


def replace_scheduler(bed: Bed) -> None:
    """SIGKILL of the scheduler, and a new one; the processes of its tasks live on."""
    bed.airflow.kill("scheduler", tree=False)
    time.sleep(2)
    bed.airflow.restart("scheduler")


def without_api_server(bed: Bed, trials: list[Trial]) -> None:
    """There is no API server for 40 s: a supervisor that is not heard kills its task, and cannot say so."""
    _noted(trials)
    bed.airflow.kill(local.WEB)
    time.sleep(40)
    bed.airflow.restart(local.WEB)


def restart_scheduler(bed: Bed, trials: list[Trial]) -> None:
    """SIGTERM of the scheduler, and a new one."""
    _noted(trials)
    bed.airflow.restart("scheduler")


def pause(bed: Bed, trials: list[Trial]) -> None:
    """The Dags are paused for a while."""
    _noted(trials)
    dags = sorted({trial.dag_id for trial in trials})
    for is_paused in (True, False):
        for dag_id in dags:
            bed.airflow.api("PATCH", f"dags/{dag_id}", {"is_paused": is_paused})
        if is_paused:
            time.sleep(10)


# Celery's workers


def shut_down_workers(bed: Bed, trials: list[Trial]) -> None:
    """SIGTERM of the workers: they take nothing new, and wait for what they have."""
    _noted(trials)
    for index in range(WORKERS):
        bed.airflow.signal("worker", signal.SIGTERM, index, tree=False)
    time.sleep(10)


def kill_workers(bed: Bed, trials: list[Trial]) -> None:
    """SIGKILL of the workers with all that is below them, and new ones."""
    _noted(trials)
    for index in range(WORKERS):
        bed.airflow.kill("worker", index)
    new_workers(bed)


def new_workers(bed: Bed) -> None:
    """See to it that there are workers."""
    for index in range(WORKERS):
        bed.airflow.restart("worker", index)


def deliver_again(bed: Bed, trials: list[Trial]) -> None:
    """The broker gives all messages that are not acknowledged to a worker once more, as after a visibility timeout."""
    assert isinstance(bed.airflow, CeleryAirflow)
    _noted(trials)
    if not bed.airflow.deliver_again():
        raise BedError("there was nothing to deliver again")
    time.sleep(10)


def cut(what: str) -> Callable[[Bed, list[Trial]], None]:
    """The workers hear nothing from the broker, the database or the API servers for 40 s."""

    def act(bed: Bed, trials: list[Trial]) -> None:
        assert isinstance(bed.airflow, CeleryAirflow)
        _noted(trials)
        bed.airflow.cut(what)
        try:
            time.sleep(40)
        finally:
            bed.airflow.mend(what)
        time.sleep(5)

    return act


cut_off_broker, cut_off_database, cut_off_api_servers = cut("broker"), cut("database"), cut("api")


def change_dags(bed: Bed, trials: list[Trial]) -> None:
    """The Dags are deployed anew: their tasks have another poll interval, and one argument more."""
    _noted(trials)
    file = bed.dags / "bed_dags.py"
    text = file.read_text("utf-8")
    old, new = '"poke_interval": 1, "deferrable": True', '"poke_interval": 2, "deferrable": True, "doc": "new"'
    before, after = (new, old) if new in text else (old, new)
    begun = datetime.now(timezone.utc)
    file.write_text(text.replace(before, after), "utf-8")
    for dag_id in {trial.dag_id for trial in trials}:
        bed.until(lambda dag_id=dag_id: bed.airflow.parsed_at(dag_id) > begun, f"{dag_id} is parsed again", 120)
    time.sleep(5)


def change_dags_and_mark(bed: Bed, trials: list[Trial]) -> None:
    """The Dags are deployed anew, and then the tasks are marked failed."""
    change_dags(bed, trials)
    for trial in trials:
        trial.killed_at = None
    each(mark("failed"), trials)


def only_one_triggerer(bed: Bed) -> None:
    """Let the first triggerer have everything."""
    bed.airflow.kill("triggerer", 1)


def all_triggerers(bed: Bed) -> None:
    """Start the one that was killed."""
    bed.airflow.restart("triggerer", 0)


def _noted(trials: list[Trial]) -> None:
    for trial in trials:
        trial.killed_at = time.time()
