"""Kills of all kinds at random moments, and which operations are left running when no task is alive any more."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from airflow_lro_provider.demo.local_airflow import LocalAirflowError
from tests.benchmarks.kill_lab import WHO, KillLab, Task

BY_USER = ("failed", "success", "clear", "run failed")
TIMEOUTS = ("execution_timeout", "timeout")
"""The second one is a sensor's."""
WAITS = ("poke", "deferred", "run_poke", "run_deferred")
"""How the task waits; one with ``run`` has started its operation itself."""
LIMIT = 8.0
"""Of the tasks that time out, in seconds; see ``dags/kill_dags.py``."""
TIMEOUT_NOTICED = LIMIT + 7.0
"""When a timeout must have been acted on, in seconds after the wait began."""
SETTLED = 10.0
"""When a kill must have been acted on, in seconds."""


@dataclass(frozen=True)
class RandomKill:
    """What came of one kill.

    :param wait: one of :data:`WAITS`.
    :param how: how it was killed, or which timeout struck.
    :param delay: seconds from the begin of the wait (as Airflow's state of the task says it) to the kill.
    :param left: how many operations of it are left running, in the end.
    :param cancels: how many cancel requests there were.
    """

    who: str
    wait: str
    how: str
    delay: float
    left: int
    cancels: int


def measure(lab: KillLab, kills: int, chance: random.Random, parallelism: int) -> list[RandomKill]:
    """Kill that many tasks of each kind, the same draws for ours and for the plain provider, side by side."""
    draws = _draw(kills, chance)
    plan = [(who, *draw) for draw in draws for who in WHO]
    tasks: list[Task] = []
    with ThreadPoolExecutor(parallelism) as pool:
        for task in pool.map(lambda one: _kill(lab, *one), plan):
            tasks.append(task)
            print(f"\rrandom: {len(tasks)} of {len(plan)} kills", end="", flush=True)
    print()
    time.sleep(SETTLED)
    found = []
    for task, one in zip(tasks, plan, strict=True):
        left = sum(not view.operation.get("done") for view in task.operations)
        found.append(RandomKill(*one, left=left, cancels=len(task.cancels())))
    for task in tasks:
        task.end()
    return found


def _draw(kills: int, chance: random.Random) -> list[tuple[str, str, float]]:
    """What to do to whom and when: each kind as often as any other, in random order."""
    timeouts = {wait: TIMEOUTS[:1] if wait.startswith("run") else TIMEOUTS for wait in WAITS}
    kinds = [(wait, how) for wait in WAITS for how in BY_USER + timeouts[wait]]
    rounds = [kind for _ in range(-(-kills // len(kinds))) for kind in chance.sample(kinds, len(kinds))]
    return [(*kind, chance.uniform(0.0, 4.0)) for kind in rounds[:kills]]


def _kill(lab: KillLab, who: str, wait: str, how: str, delay: float) -> Task:
    by_user = how in BY_USER
    task = lab.start(f"{who}_{wait}" if by_user else f"{who}_{wait}_{how}")
    with contextlib.suppress(LocalAirflowError):  # what Airflow failed on its own is left alone
        task.reaches("deferred" if wait.endswith("deferred") else "running", timeout=90)
        if by_user:
            time.sleep(delay)
            task.kill(how)
            time.sleep(SETTLED)
        else:
            time.sleep(TIMEOUT_NOTICED)
        if lab.airflow.run_state(task.dag_id, task.run_id) not in ("success", "failed"):
            # The next try of a cleared task, or a timeout that nobody has noticed. After this no task is alive.
            task.kill("run failed")
            time.sleep(SETTLED)
    return task
