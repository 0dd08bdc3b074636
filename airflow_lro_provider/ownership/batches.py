"""Which questions ask for the states of many task instances. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Question", "batches", "one_question"]

LARGEST = 100
"""So many runs or tasks at most stand in one question: it becomes a URL."""


@dataclass(frozen=True)
class Question:
    """One question for states: of the runs, times the tasks.

    :param owners: whom it is about: ``dag_id``, ``run_id``, ``task_id`` and ``map_index`` of each.
    :param map_index: -1 for tasks that are not mapped, ``None`` for all instances of a mapped one.
    """

    dag_id: str
    run_ids: tuple[str, ...]
    task_ids: tuple[str, ...]
    map_index: int | None
    owners: tuple[Mapping[str, Any], ...]


def one_question(owner: Mapping[str, Any]) -> Question:
    """The question for one task instance."""
    return Question(owner["dag_id"], (owner["run_id"],), (owner["task_id"],), owner["map_index"], (owner,))


def batches(owners: Iterable[Mapping[str, Any]]) -> Iterator[Question]:
    """As few questions as there need to be.

    A mapped task has a question of its own, because in an answer the instance 1 of the task ``a`` and the
    task ``a_1`` have the same name.
    """
    mapped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    plain: dict[str, list[Mapping[str, Any]]] = {}
    for owner in owners:
        if owner["map_index"] < 0:
            plain.setdefault(owner["dag_id"], []).append(owner)
        else:
            mapped.setdefault((owner["dag_id"], owner["task_id"]), []).append(owner)
    for group in mapped.values():
        yield from _cut(group, "run_id", None)
    for group in plain.values():
        by_run, by_task = _by(group, "run_id"), _by(group, "task_id")
        # Never runs times tasks: what nobody has asked for would be answered, too.
        few, many = (by_run, "task_id") if len(by_run) <= len(by_task) else (by_task, "run_id")
        for part in few.values():
            yield from _cut(part, many, -1)


def _by(owners: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for owner in owners:
        found.setdefault(owner[key], []).append(owner)
    return found


def _cut(owners: list[Mapping[str, Any]], key: str, map_index: int | None) -> Iterator[Question]:
    """Questions about owners that differ in one field (and the map index), in pieces."""
    groups = list(_by(owners, key).values())
    for first in range(0, len(groups), LARGEST):
        part = [owner for group in groups[first : first + LARGEST] for owner in group]
        if len(part) == 1:
            yield one_question(part[0])
            continue
        yield Question(
            part[0]["dag_id"],
            tuple(dict.fromkeys(owner["run_id"] for owner in part)),
            tuple(dict.fromkeys(owner["task_id"] for owner in part)),
            map_index,
            tuple(part),
        )
