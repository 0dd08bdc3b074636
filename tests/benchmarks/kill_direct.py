"""How quickly a kill cancels: SIGTERM to the process of a waiting task, one task at a time."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass

from tests.benchmarks.kill_lab import WHO, KillLab, gone_within, until

PATIENCE = 10.0
"""How long a killed process may take, in seconds: Airflow itself gives it 5."""


@dataclass(frozen=True)
class DirectKill:
    """What came of one kill. Times are in seconds from the signal on.

    :param cancel: when the cancel request arrived at the server; ``None`` if it never did.
    :param gone: when the process was gone; ``None`` if it hung.
    :param round_trip: what a look took just before (the median of several).
    :param waited: how long the task had waited.
    """

    who: str
    cancel: float | None
    gone: float | None
    round_trip: float
    waited: float


def measure(lab: KillLab, kills: int, chance: random.Random, idle: float = 0.0) -> list[DirectKill]:
    """Kill that many tasks of each kind, in turn.

    :param idle: how long each is left alone before, in seconds. After 5 s the server closes an idle connection.
    """
    found = []
    for number in range(kills):
        # Not always the same one first, and at any moment between two looks.
        for who in WHO if number % 2 else reversed(WHO):
            found.append(_kill(lab, who, idle + chance.uniform(0.0, 1.0)))
        print(f"\rlatency: {number + 1} of {kills} pairs", end="", flush=True)
    print()
    return found


def _kill(lab: KillLab, who: str, delay: float) -> DirectKill:
    task = lab.start(f"{who}_poke")
    until(lambda: task.looks() >= 2, f"{task.dag_id} polls", interval=0.05)
    begin_of_wait = time.time()
    process = task.process()
    trips = sorted(lab.round_trips(5))
    time.sleep(delay)
    begin = time.time()
    process.send_signal(signal.SIGTERM)
    gone = time.time() - begin if gone_within(process, PATIENCE) else None
    if gone is None:
        process.kill()
    cancels = task.cancels()
    task.end()
    return DirectKill(
        who=who,
        cancel=cancels[0] - begin if cancels else None,
        gone=gone,
        round_trip=trips[len(trips) // 2],
        waited=begin - begin_of_wait,
    )
