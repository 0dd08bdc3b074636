"""Kills that strike in the middle of a question: of tasks that do nothing but ask their supervisor."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.benchmarks.kill_lab import KillLab, Task, gone_within, until

CANCELLED_WITHIN = 10.0
"""Seconds after the kill in which the cancel has to arrive: Airflow's heartbeat, its 5 s until SIGKILL, and some."""
SIGKILL_AFTER = 5.0
"""Seconds from SIGTERM to SIGKILL, if Airflow kills."""
TROUBLE = re.compile(
    r"out of order|Unexpected|Unable to decode|Top level error|Failed to report|ValidationError|DecodeError"
    r"|AssertionError|TypeError|AttributeError|Could not \w+ the record"
)
"""What the log of a task has whose answers do not belong to its questions."""
ASKED = "asked after the kill: "
KINDS = (("ours", "marked failed"), ("naive", "marked failed"), ("ours", "SIGTERM"))


@dataclass(frozen=True)
class AskingKill:
    """What came of one kill.

    :param how: ``marked failed`` (a user did), or ``SIGTERM`` (sent to the process directly).
    :param cancels: how many cancel requests arrived in time.
    :param gone: seconds from the kill until the process was gone; ``None`` if it hung.
    :param hung: whether only SIGKILL ended it.
    :param state: the task's state afterwards.
    :param expected: the state that is right.
    :param trouble: lines of its log that speak of answers which do not fit.
    :param wrong: wrong answers to what a callback asked after the kill; ``None`` if no callback came to ask.
    :param recorded: what the record says of the kill, read by that callback; ``None`` if it could not be asked for:
        once a retry is due, Airflow shows a task's record only to the next try.
    :param end_of_log: the end of its log, if something of this is not right.
    """

    who: str
    how: str
    cancels: int
    gone: float | None
    hung: bool
    state: str
    expected: str
    trouble: list[str]
    wrong: list[str] | None
    recorded: str | None
    end_of_log: list[str]

    @property
    def is_recorded(self) -> bool:
        """Whether the next try can know that this one was killed."""
        return (self.recorded or "").startswith("Airflow told this task to stop")

    @property
    def is_right(self) -> bool:
        """Whether all is as it should be."""
        recorded = self.is_recorded or self.expected == "up_for_retry"
        return self.cancels == 1 and self.state == self.expected and self.wrong == [] and recorded


def measure(lab: KillLab, kills: int, chance: random.Random, parallelism: int) -> list[AskingKill]:
    """Kill that many tasks of each kind, some at a time, all kinds side by side."""
    plan = [(who, how, number, chance.uniform(0.5, 2.0)) for number in range(kills) for who, how in KINDS]
    found = []
    with ThreadPoolExecutor(parallelism) as pool:
        for kill in pool.map(lambda one: _kill(lab, *one), plan):
            found.append(kill)
            print(f"\rasking: {len(found)} of {len(plan)} kills", end="", flush=True)
    print()
    return found


def _kill(lab: KillLab, who: str, how: str, number: int, delay: float) -> AskingKill:
    direct = how == "SIGTERM"
    # Every second one that is ended by a signal has a retry left: that is reported by another message.
    with_retry = direct and number % 2 == 1
    task = lab.start(f"{who}_asking_retry" if with_retry else f"{who}_asking")
    until(lambda: task.looks() >= 2, f"{task.dag_id} asks", timeout=120)
    time.sleep(delay)
    process = task.process()
    begin = time.time()
    if direct:
        process.send_signal(signal.SIGTERM)
    else:
        task.kill("failed")
    ended = gone_within(process, 3 * SIGKILL_AFTER)
    gone = time.time() - begin
    if not ended:
        process.kill()
    state = until(lambda: _over(task), f"the state of {task.dag_id} is known", timeout=90, interval=0.5)
    cancels = [at for at in task.cancels() if at - begin <= CANCELLED_WITHIN]
    log = task.log()
    _, asked, text = log.partition(ASKED)
    answers = json.JSONDecoder().raw_decode(text)[0] if asked else None
    result = AskingKill(
        who=who,
        how=how,
        cancels=len(cancels),
        gone=gone if ended else None,
        # What hangs lives for 5 s from the signal on, which comes with the heartbeat after the kill; and what is
        # ended by SIGKILL calls nobody back.
        hung=not ended or (gone >= SIGKILL_AFTER and not asked),
        state=state,
        expected="up_for_retry" if with_retry else "failed",
        trouble=[line[:300] for line in log.splitlines() if TROUBLE.search(line) and ASKED not in line],
        wrong=answers["wrong"] if asked else None,
        recorded=str(answers["killed"]) if asked and not with_retry else None,
        end_of_log=[line[:300] for line in log.splitlines()[-30:]],
    )
    task.end()
    return dataclasses.replace(result, end_of_log=[]) if result.is_right else result


def _over(task: Task) -> str | None:
    state = task.instance["state"]
    return None if state in (None, "running", "queued", "restarting") else str(state)
