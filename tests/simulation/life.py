"""The life of one task in the simulated world, as a state machine: three promises are kept whatever happens to it.

``python -m tests.simulation.life --examples 2000 --seed 1`` tries many interleavings, and says how many; the suite
tries some. The promises, judged by what the service and Airflow saw:

* no operation runs on that nobody will end;
* no operation is cancelled that a living task owns;
* no two operations of one task run side by side; and no task turns green by its own kill.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import logging
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from airflow_lro_provider.attempt.canceller import Canceller
from airflow_lro_provider.lro import field_mask
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from airflow_lro_provider.sweep.ledger import LedgerKey
from airflow_lro_provider.triggers import operations as _triggers  # noqa: F401 - its clocks are to be simulated, too
from tests.simulation.airflow import FINAL, Airflow, in_place_of_the_real
from tests.simulation.service import Service
from tests.simulation.world import World, simulated_time

START = 1_800_000_000.0
PARENT = "projects/p/locations/us-central1"
NAME = f"{PARENT}/operations/given"
SCRIPT = quote(json.dumps({"duration": None}))
STARTS = {
    "starter": ("developerconnect", f"{PARENT}/connections?connectionId=c&script={SCRIPT}"),
    # Without a request id: a start whose response is lost is not sent again.
    "restart": ("datafusion", f"{PARENT}/instances/x:restart?script={SCRIPT}"),
}
TIMEOUT = 25.0
TROUBLE = ("404", "503", "401", "odd", "lost", "slow", "stale")
SECONDS = st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 12.0, 30.0])
"""How much time passes between two events."""
CHANCE = st.integers(0, 2**32)
PORTION = 20
"""How many lives have one seed: of more, hypothesis makes many that are nearly alike."""
counts: Counter[str] = Counter()


def event(**given: Any) -> Callable[[Callable[..., None]], Any]:
    """A rule: something happens, and then some time passes, in an order of its own."""

    def decorate(happens: Callable[..., None]) -> Any:
        def happens_then(self: Life, then: float, chance: int, **values: Any) -> None:
            happens(self, **values)
            self._pass(then, chance)

        happens_then.__name__, happens_then.__doc__ = happens.__name__, happens.__doc__
        return rule(then=SECONDS, chance=CHANCE, **given)(happens_then)

    return decorate


def _is_under_way(life: Life) -> bool:
    return hasattr(life, "airflow") and life.airflow.state not in FINAL


class Life(RuleBasedStateMachine):
    """One task, and what happens to it."""

    world: World
    airflow: Airflow
    service: Service
    shape: str
    timeout: float | None
    cancels: bool

    @initialize(
        shape=st.sampled_from(["sensor", "starter", "starter", "restart"]),
        mode=st.sampled_from(["poke", "reschedule", "deferrable", "deferrable"]),
        timeout=st.sampled_from([None, None, None, TIMEOUT]),
        cancels=st.sampled_from([True, True, True, False]),
        sweeps=st.booleans(),
        trouble=st.sampled_from([None, None, *TROUBLE]),
        retries=st.sampled_from([0, 2]),
        num_retries=st.sampled_from([0, 5]),
        lost_share=st.sampled_from([0.0, 0.0, 0.2]),
        silent=st.booleans(),
        cancel_delay=st.sampled_from([0, 60]),
        first=st.sampled_from([0.0, 1.0, 1.1, 1.3, 2.0, 5.0, 10.0]),
        chance=CHANCE,
    )
    def begin(
        self,
        shape: str,
        mode: str,
        timeout: float | None,
        cancels: bool,
        sweeps: bool,
        trouble: str | None,
        retries: int,
        num_retries: int,
        lost_share: float,
        silent: bool,
        cancel_delay: int,
        first: float,
        chance: int,
    ) -> None:
        """A task begins to run."""
        field_mask._unmasked.clear()  # no life learns from another one: each can be played again
        self.shape, self.timeout, self.cancels = shape, timeout, cancels
        deferrable = mode == "deferrable"
        self.world = World(START)
        self.world.chance.seed(chance)
        random.seed(chance)
        self.service = Service(self.world, silent=silent)
        self.service.store.set_script({"duration": None, "cancel_delay": cancel_delay})
        if shape == "sensor":
            self.service.store.create("developerconnect", NAME)

        def make() -> Any:
            common = {"task_id": "t", "deferrable": deferrable, "retries": retries, "cancel_on_kill": cancels}
            if shape == "sensor":
                how = {"mode": "reschedule" if mode == "reschedule" else "poke", "timeout": timeout or 10**6}
                return OperationSensor(
                    operation_name=NAME, service="developerconnect", poke_interval=2, **how, **common
                )
            service, method = STARTS[shape]
            return RunOperationOperator(method=method, service=service, poll_interval=2, timeout=timeout, **common)

        self.airflow = Airflow(self.world, self.service, make, retries=retries)
        _now_here.append(self.airflow)
        self.airflow.note(f"{shape}, {mode}, {retries=}, {silent=}, {cancel_delay=}, {timeout=}, {cancels=}, {sweeps=}")
        self.airflow.note(f"{num_retries=}, {lost_share=}")
        self.airflow.num_retries, self.airflow.lost_share = num_retries, lost_share
        counts[f"of {shape}, {mode}"] += 1
        if trouble:
            self._begin_trouble(trouble, 3.0)
        if sweeps:
            self.airflow.sweep_often()
        self._pass(first, chance)

    def _pass(self, seconds: float, chance: int = 0) -> None:
        self.world.chance.seed(chance)
        self.world.advance(seconds)
        counts["steps"] += self.world.steps
        self.world.steps = 0
        assert not self.world.errors, self._story(f"broken: {self.world.errors[0]!r}")
        self._judge()

    # -- time passes -------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([2.0, 8.0, 30.0]), chance=CHANCE)
    def time_passes(self, seconds: float, chance: int) -> None:
        """In an order of its own."""
        self._pass(seconds, chance)

    # -- people ------------------------------------------------------------------------------------

    @event(state=st.sampled_from(["failed", "success"]))
    def a_user_marks_it(self, state: str) -> None:
        """As failed, or successful."""
        if self.airflow.state not in FINAL:
            self.airflow.mark(state)

    @event()
    def a_user_clears_it(self) -> None:
        """Whatever its state is."""
        self.airflow.clear()

    # -- machines ----------------------------------------------------------------------------------

    def _has_worker(self) -> bool:
        return hasattr(self, "airflow") and self.airflow.worker is not None and self.airflow.worker.process.is_alive

    @precondition(_has_worker)
    @event()
    def its_worker_shuts_down(self) -> None:
        """SIGTERM."""
        assert self.airflow.worker is not None
        self.airflow.worker.terminate()

    @precondition(_has_worker)
    @event(orphan=st.sampled_from([False, False, True]))
    def its_process_is_killed(self, orphan: bool) -> None:
        """By SIGKILL; or its supervisor is."""
        assert self.airflow.worker is not None
        if orphan:
            self.airflow.worker.orphan()
        else:
            self.airflow.note("SIGKILL of the task")
            self.airflow.worker.process.kill()

    @precondition(_has_worker)
    @event(seconds=st.sampled_from([3.0, 15.0, 40.0]))
    def the_machine_stands_still(self, seconds: float) -> None:
        """And goes on, perhaps while another try runs."""
        worker = self.airflow.worker
        assert worker is not None
        worker.freeze(True)
        self._pass(seconds)
        worker.freeze(False)

    @precondition(_is_under_way)
    @event()
    def another_scheduler_resets_it(self) -> None:
        """The scheduler was killed."""
        self.airflow.reset()

    @precondition(_is_under_way)
    @event(index=st.sampled_from([0, 1]), seconds=st.sampled_from([0.0, 5.0, 30.0]))
    def a_triggerer_stops(self, index: int, seconds: float) -> None:
        """It is killed, and there is a new one; or it stands still, perhaps until another one takes over."""
        if not seconds:
            self.airflow.note(f"triggerer {index} is restarted")
            self.airflow.restart_triggerer(index)
            return
        process = self.airflow.triggerers[index]
        self.airflow.note(f"triggerer {index} stands still")
        process.is_frozen = True
        self._pass(seconds)
        process.is_frozen = False

    @precondition(_is_under_way)
    @event(seconds=st.sampled_from([0.5, 3.0, 25.0]))
    def airflow_does_not_answer(self, seconds: float) -> None:
        """For a while; what it is asked to do, it does in half of the cases."""
        self.airflow.note(f"Airflow does not answer for {seconds} s")
        self.airflow.lost_until = self.world.now + seconds

    @precondition(_is_under_way)
    @event(question=st.integers(1, 12))
    def airflow_does_not_answer_once(self, question: int) -> None:
        """One of the next questions."""
        self.airflow.note(f"Airflow does not answer question {question} from now")
        self.airflow.lost_question = question

    @event()
    def a_sweep_begins(self) -> None:
        """While everything else goes on."""
        self.airflow.sweep()

    # -- the service -------------------------------------------------------------------------------

    @precondition(_is_under_way)
    @event(trouble=st.sampled_from(TROUBLE), seconds=st.sampled_from([0.5, 3.0, 8.0]))
    def the_service_has_trouble(self, trouble: str, seconds: float) -> None:
        """For less than ten seconds: 404, 401, errors that would end a wait; 503; lost, late responses; old lists."""
        self._begin_trouble(trouble, seconds)

    def _begin_trouble(self, trouble: str, seconds: float) -> None:
        self.airflow.note(f"{trouble} for {seconds} s")
        self.service.begin(trouble, seconds)

    @precondition(_is_under_way)
    @event()
    def the_operation_ends(self) -> None:
        """By itself."""
        if live := [view for view in self._views() if not view.done]:
            self.airflow.note(f"{live[-1].name} ends")
            self.service.store.finish(live[-1].service, live[-1].name)

    # -- the promises ------------------------------------------------------------------------------

    def _views(self) -> list[Any]:
        return self.service.store.views()

    def _judge(self) -> None:
        views = {view.name: view for view in self._views()}
        for cancel in self.service.cancels:
            by = self.service.started_by.get(cancel.name, 0)
            done_at = views[cancel.name].done_at
            if done_at is not None and done_at < cancel.at:
                continue  # it did no harm
            was_killed = any(at <= cancel.at and number >= by for at, number in self.airflow.deaths)
            was_late = self.timeout is not None and any(
                at + self.timeout <= cancel.at and number >= by for at, number in self.airflow.began
            )
            # What another try of the task cannot find, the one that has started it may cancel when it is stopped.
            is_lost = self.shape == "restart" and not self._is_recorded(views[cancel.name])
            is_allowed = self.cancels and (was_killed or was_late or is_lost or cancel.task_state in FINAL)
            assert is_allowed, self._story(f"cancelled although its task lives: {cancel}")
        begun = sorted(views.values(), key=lambda view: view.created_at)
        for index, new in enumerate(begun):
            for old in begun[:index]:
                has_ended = old.done_at is not None and old.done_at <= new.created_at
                has_ended = has_ended or self._may_run_on(old, new.created_at)
                has_ended = has_ended or self._came_late(old) or self._came_late(new)
                assert has_ended, self._story(f"two side by side: {old} {new}")

    def _is_recorded(self, view: Any) -> bool:
        return any(view.name in text for text in self.airflow.recorded)

    def _is_known(self, view: Any) -> bool:
        """Whether another try can find it, or the sweep: it is written down, or its start can be sent again."""
        return self.shape != "restart" or any(view.name in text for text in self.airflow.written)

    def _came_late(self, view: Any) -> bool:
        """Whether its try ended while it started this, which the next one cannot find; then it is cancelled soon."""
        by = self.service.started_by.get(view.name, 0)
        was_over = any(at <= view.created_at + 10 and number >= by for at, number in self.airflow.deaths)
        was_over = was_over and not self._is_recorded(view)
        is_young = self.world.time < view.created_at + 30
        return self.shape == "restart" and was_over and (is_young or view.cancel_requested_at is not None)

    def _may_run_on(self, view: Any, until: float) -> bool:
        """Whether its task has ended, and it may run on by then; or nobody can know of it."""
        has_ended = any(at <= until for at, _ in self.airflow.deaths)
        has_ended = has_ended or (until >= self.world.time and self.airflow.state in FINAL)
        return has_ended and not (self.cancels and self._is_known(view))

    def _story(self, what: str) -> str:
        views = "\n".join(str(view) for view in self._views())
        return "\n".join([what, *self.airflow.log, *map(str, self.service.cancels), views])

    def teardown(self) -> None:
        """All trouble ends: then everything must come to a good end."""
        if not hasattr(self, "airflow"):
            return
        try:
            self._come_to_an_end()
        finally:
            self.world.end()
            _now_here.clear()
            for canceller in _cancellers:
                for descriptor in (canceller._wake, canceller._wake_reader, canceller._ask, canceller._asked):
                    _close(descriptor)
                for descriptor in (
                    canceller._done,
                    canceller._decided,
                    canceller._signal_done,
                    canceller._signal_decided,
                ):
                    _close(descriptor)
            _cancellers.clear()
            counts["examples"] += 1
            if counts["examples"] % 50 == 0:
                gc.collect()

    def _come_to_an_end(self) -> None:
        airflow, service = self.airflow, self.service
        airflow.lost_until, airflow.lost_question, airflow.lost_share = 0.0, 0, 0.0
        airflow.is_quiet = True
        service.until.clear()
        airflow.note("all trouble ends")
        for _ in range(8):
            self._pass(60, 1)
            airflow.sweep()
        self._pass(60, 1)
        for view in self._views():
            if view.done or view.cancel_requested_at is not None or not airflow.has_owned:
                continue
            if self._may_run_on(view, self.world.time):
                continue
            assert airflow.state not in FINAL, self._story(f"nobody will end {view}")
            polled_at = view.polled_at or 0.0
            assert self.world.time - polled_at < 150, self._story(f"nobody waits for {view}")
        for view in self._views():
            self.service.store.finish(view.service, view.name)
        self._pass(300, 2)
        assert airflow.state in FINAL, self._story(f"it is still {airflow.state}")
        is_green = airflow.state == "success" and not any("marked success" in line for line in airflow.log)
        is_green = is_green and all(cancel.has_owned for cancel in service.cancels)
        its_own = [view for view in self._views() if not self._came_late(view)]
        assert not is_green or its_own[-1].state == "SUCCEEDED", self._story("green by its own kill")
        airflow.sweep()
        self._pass(60, 3)
        # Of a start whose response was not recorded, the sweep finds no operation: it is forgotten some time later.
        keys = {text: LedgerKey.from_text(text) for text in airflow.variables}
        left = [text for text, key in keys.items() if key is None or key.operation is not None]
        assert not left, self._story(f"left in the ledger: {left}")
        counts[f"ends {airflow.state}"] += 1


_now_here: list[Airflow] = []
_cancellers: list[Any] = []


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        if descriptor >= 0:
            os.close(descriptor)


def run(examples: int, chance: int, steps: int = 10) -> Counter[str]:
    """Try so many lives.

    :return: how many there were, and how they ended.
    """
    counts.clear()
    logging.disable(logging.CRITICAL)
    made = Canceller.__init__

    def init(canceller: Any, *arguments: Any) -> None:
        made(canceller, *arguments)
        _cancellers.append(canceller)

    Canceller.__init__ = init  # type: ignore[method-assign]
    # What a dead process has left in the middle of something is nobody's any more.
    hook, sys.unraisablehook = sys.unraisablehook, lambda *_: None
    try:
        with simulated_time("airflow_lro_provider"), in_place_of_the_real(lambda: _now_here[-1]):
            for first in range(0, examples, PORTION):
                run_state_machine_as_test(  # type: ignore[no-untyped-call]
                    seed(chance * 1000 + first)(Life),
                    settings=settings(
                        max_examples=min(PORTION, examples - first),
                        stateful_step_count=steps,
                        deadline=None,
                        database=None,
                        suppress_health_check=list(HealthCheck),
                        phases=[Phase.generate],
                    ),
                )
    finally:
        Canceller.__init__ = made  # type: ignore[method-assign]
        gc.collect()
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
    return counts


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=10, help="events in one life at most")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    for what, number in sorted(run(given.examples, given.seed, given.steps).items()):
        print(f"{what}: {number}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
