"""What the kill matrix is made of: its columns are shapes of tasks, its rows deaths, its cells what is expected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.bed.bed import Bed
    from tests.e2e.bed.trial import Trial

__all__ = ["COLUMNS", "HOOKS", "Cell", "Column", "Row"]

HOOKS = 20.0
"""How long a hook is waited for before an operation counts as left, in seconds: loaded, Airflow took 10."""


@dataclass(frozen=True)
class Column:
    """A shape of task.

    :param name: also part of the name of its Dags.
    :param title: for people.
    :param starts: whether the task starts its operation itself.
    :param deferred: whether it waits in the triggerer.
    :param owns: whether it stands for its operation.
    :param script: how its operations behave.
    """

    name: str
    title: str
    starts: bool = False
    deferred: bool = False
    owns: bool = True
    script: Mapping[str, Any] = field(default_factory=dict)


COLUMNS = {
    column.name: column
    for column in (
        Column("running", "started, running", starts=True),
        Column("poke", "sensor, poking"),
        Column("deferred", "sensor, deferred", deferred=True),
        Column("started", "started, deferred", starts=True, deferred=True),
        Column("completing", "in execute_complete"),
        Column("decorator", "@task.operation", starts=True),
        Column("cancel", "cancelling", owns=False, script={"cancel_delay": 30}),
    )
}


@dataclass(frozen=True)
class Cell:
    """What is expected of a row's death in a column.

    :param expect: one of :data:`judge.WORDS`.
    :param ends: the states in which Airflow's task may end; empty for any.
    :param tries: how many tries it has at least.
    :param closes: of a death without a hook: who ends the operation that is left, or that nobody does, and why.
    :param variant: the variant of the Dag, if not the row's.
    :param late: whether a cancel may come after the end of the operation, which does no harm: the task is killed
        before it can know of the end.
    """

    expect: str
    ends: Collection[str] = ("failed",)
    tries: int = 1
    closes: str = ""
    variant: str | None = None
    late: bool = False

    @property
    def is_swept(self) -> bool:
        """Whether the sweep ends what is left."""
        return self.expect == "left" and not self.closes.startswith("nobody")


@dataclass(frozen=True, eq=False)
class Row:
    """A way in which a task dies.

    :param name: a word or two, for the command line.
    :param title: for people.
    :param act: does it to one task.
    :param cells: what is expected, by column; a text says why there is no such cell.
    :param situation: waits until a task is where it is to be killed; unset, where its column says.
    :param variant: the variant of the Dags.
    :param script: how the operations behave.
    :param service: of which service they are, if not of the column's.
    :param within: how long after the kill the cancel may reach the server, in seconds.
    :param together: does it to all tasks of the row at once, instead of `act`: what befalls a whole Airflow.
    :param before: what it needs before any of its tasks begins.
    :param after: undoes that.
    :param test_run: whether the task runs in an `airflow dags test` of its own.
    """

    name: str
    title: str
    cells: Mapping[str, Cell | str]
    act: Callable[[Trial], None] | None = None
    situation: Callable[[Trial], None] | None = None
    variant: str = ""
    script: Mapping[str, Any] = field(default_factory=dict)
    service: str = ""
    within: float = HOOKS
    together: Callable[[Bed, list[Trial]], None] | None = None
    before: Callable[[Bed], None] | None = None
    after: Callable[[Bed], None] | None = None
    test_run: bool = False
