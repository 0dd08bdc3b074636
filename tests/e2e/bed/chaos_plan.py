"""What befalls the tasks of a chaos: all of it follows from the seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AIRFLOW", "TRIGGERERS", "Blow", "Life", "Upheaval", "life", "upheavals"]

SHAPES = {"running": 3, "decorator": 2, "started": 3, "poke": 2, "deferred": 2}
"""How often each shape comes, relative to the others."""
STARTING = frozenset({"running", "decorator", "started"})
DEFERRED = frozenset({"deferred", "started"})
USER = {"failed": 3, "success": 2, "clear": 4, "run-failed": 2}
"""What users do."""
CRASHES = {"sigkill": 3, "sigkill-supervisor": 2, "sigterm": 3, "sigterm-supervisor": 1, "freeze": 2}
"""After which a retry goes on with the operation."""
PROCESS = {**CRASHES, "error": 1}
"""What befalls a process."""
TROUBLE: dict[str, int] = {
    **{"": 6, "cancel-503": 1, "cancel-404": 1, "cancel-slow": 1, "cancel-reset": 1},
    **{"get-503": 1, "get-404": 2, "get-403": 2, "get-reset": 1},
}
"""What the server does meanwhile."""
TRIGGERERS = {"restart": 2, "kill": 3, "stall": 2}
"""What befalls the triggerers."""
AIRFLOW = {**TRIGGERERS, "scheduler": 1, "api-server": 1}
"""The same, and what befalls the others: the scheduler is killed, the API server is away."""
SLOW = {"cancel-slow": {"cancel_latency": 6.0}}
MAX_BLOWS = 4


@dataclass(frozen=True)
class Blow:
    """One kill.

    :param kind: one of those above.
    :param delay: seconds that the task is left in peace before.
    :param early: whether the peace begins with its process, or its deferral, and not with its wait.
    """

    kind: str
    delay: float
    early: bool


@dataclass(frozen=True)
class Life:
    """One task, and what befalls it.

    :param number: which one.
    :param shape: a column of the kill matrix.
    :param variant: of its Dag: ``retries``, a timeout, or none.
    :param blows: one after the other; between two, a task that starts its operation itself is cleared if it is dead.
    :param trouble: what the server does, one of :data:`TROUBLE`.
    """

    number: int
    shape: str
    variant: str
    blows: tuple[Blow, ...]
    trouble: str = ""

    @property
    def starts(self) -> bool:
        """Whether it starts its operations itself."""
        return self.shape in STARTING

    @property
    def script(self) -> Mapping[str, Any]:
        """How its operations behave."""
        return {"duration": None, "cancel_delay": float(self.number % 3), **SLOW.get(self.trouble, {})}


@dataclass(frozen=True)
class Upheaval:
    """Something that befalls a part of Airflow.

    :param kind: one of :data:`AIRFLOW`.
    :param pause: seconds of peace before.
    :param index: which triggerer.
    :param seconds: how long it stands still, or is away, if it is.
    """

    kind: str
    pause: float
    index: int
    seconds: float = field(default=0.0)


def life(seed: int, number: int) -> Life:
    """The life of a number; the same for the same seed, in whatever order they are asked for."""
    dice = random.Random(f"{seed}-{number}")
    shape = _one_of(dice, SHAPES)
    trouble = _one_of(dice, TROUBLE)
    if dice.random() < 0.1:
        variant = dice.choice(["execution_timeout", "timeout"])
        return Life(number, shape, variant, (Blow("deadline", 0.0, True),), trouble)
    variant = dice.choice(["", "retries"])
    kinds = USER if shape in DEFERRED else {**USER, **PROCESS}
    blows = [_blow(dice, kinds) for _ in range(dice.randint(2, MAX_BLOWS))] if shape in STARTING else []
    if not blows:
        # The operation of a sensor is not started again: only its last kill may cancel.
        crashes = dice.randint(0, 2) if shape == "poke" and variant == "retries" else 0
        blows = [*(_blow(dice, CRASHES) for _ in range(crashes)), _blow(dice, kinds)]
    return Life(number, shape, variant, tuple(blows), trouble)


def upheavals(seed: int, triggerers: int) -> Iterator[Upheaval]:
    """What befalls Airflow, one after the other, for ever."""
    dice = random.Random(f"{seed}-triggerers")
    while True:
        yield Upheaval(
            _one_of(dice, AIRFLOW), dice.uniform(10, 30), dice.randrange(triggerers), dice.choice([4.0, 20.0, 40.0])
        )


def _blow(dice: random.Random, kinds: Mapping[str, int]) -> Blow:
    return Blow(_one_of(dice, kinds), round(dice.uniform(0, 1) ** 2 * 6, 2), dice.random() < 0.25)


def _one_of(dice: random.Random, weights: Mapping[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]
