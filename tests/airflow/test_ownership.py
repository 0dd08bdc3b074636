"""Whose is it now? Asked by a thousand triggers at once."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lro_provider.ownership import batches as batches_module
from airflow_lro_provider.ownership import evidence as ownership
from airflow_lro_provider.ownership.batches import batches
from airflow_lro_provider.ownership.decisions import Evidence


def owner(dag: str = "d", run: str = "r", task: str = "t", index: int = -1) -> dict[str, Any]:
    """Whose operation it is."""
    return {"dag_id": dag, "run_id": run, "task_id": task, "map_index": index, "token": "mine"}


class Airflow:
    """The supervisor's answers to questions for states; it refuses what would not fit into a URL."""

    def __init__(self, states: dict[tuple[str, str, str, int], str]) -> None:
        self.states = states
        self.questions = 0
        self.asking = self.most_asking = 0
        self._lock = threading.Lock()

    def get_task_states(
        self, *, dag_id: str, run_ids: list[str], task_ids: list[str], map_index: int | None
    ) -> dict[str, dict[str, str]]:
        """As the execution API answers: runs times tasks, instances by name and index."""
        with self._lock:
            self.questions += 1
            self.asking += 1
            self.most_asking = max(self.most_asking, self.asking)
        assert len(run_ids) <= batches_module.LARGEST
        assert len(task_ids) <= batches_module.LARGEST
        time.sleep(0.002)
        found: dict[str, dict[str, str]] = {}
        for (dag, run, task, index), state in self.states.items():
            if dag == dag_id and run in run_ids and task in task_ids and map_index in (None, index):
                found.setdefault(run, {})[task if index < 0 else f"{task}_{index}"] = state
        with self._lock:
            self.asking -= 1
        return found


def key(of: dict[str, Any]) -> tuple[str, str, str, int]:
    """What a task instance is known by."""
    return of["dag_id"], of["run_id"], of["task_id"], of["map_index"]


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """An Airflow that knows nobody yet."""
    airflow = Airflow({})
    monkeypatch.setattr(ownership.RuntimeTaskInstance, "get_task_states", airflow.get_task_states)
    return airflow


NAMES = st.sampled_from(["a", "a_1", "b"])
OWNERS = st.builds(owner, NAMES, NAMES, NAMES, st.sampled_from([-1, 0, 1]))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(OWNERS, max_size=30))
def test_every_question_is_asked_once(owners: list[dict[str, Any]]) -> None:
    """Each owner stands in one question, and that question names its run and task."""
    asked = [(question, one) for question in batches(owners) for one in question.owners]
    assert sorted(id(one) for _, one in asked) == sorted(map(id, owners))
    for question, one in asked:
        assert one["dag_id"] == question.dag_id
        assert one["run_id"] in question.run_ids
        assert one["task_id"] in question.task_ids
        assert question.map_index in (None, one["map_index"])
        assert len(question.run_ids) == 1 or len(question.task_ids) == 1


@pytest.mark.parametrize(
    "owners",
    [
        [owner(index=index) for index in range(1000)],
        [owner(task=f"t{number}") for number in range(1000)],
        [owner(run=f"r{number}") for number in range(1000)],
    ],
    ids=["a mapped task", "a run", "many runs"],
)
async def test_a_thousand_cost_a_few_questions(airflow: Airflow, owners: list[dict[str, Any]]) -> None:
    """All who ask at about the same time get their own state, for at most ten questions, and the loop goes on."""
    airflow.states = {key(one): f"state {number}" for number, one in enumerate(owners)}
    longest, over = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not over:
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - begun)

    watching = asyncio.create_task(watch())
    states = await asyncio.gather(*(ownership.task_state(one) for one in owners))
    over = True
    await watching
    assert states == [f"state {number}" for number in range(1000)]
    assert airflow.questions <= 10
    assert airflow.most_asking <= ownership.AT_ONCE
    assert longest < 0.5, "generous: this machine may be busy"


async def test_an_instance_is_not_taken_for_a_task_of_that_name(airflow: Airflow) -> None:
    """The instance 1 of `a` and the task `a_1` are told apart."""
    owners = [owner(task="a", index=1), owner(task="a_1"), owner(task="a", index=0)]
    airflow.states = {key(one): f"state {number}" for number, one in enumerate(owners)}
    assert await asyncio.gather(*map(ownership.task_state, owners)) == ["state 0", "state 1", "state 2"]


async def test_no_answer_is_no_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that fails, or an owner that is not fully known, is UNKNOWN for each of them."""

    def fail(**_: Any) -> Any:
        raise RuntimeError("the API server is down")

    monkeypatch.setattr(ownership.RuntimeTaskInstance, "get_task_states", fail)
    owners = [owner(), owner(run="other"), {"token": "mine"}]
    assert await asyncio.gather(*map(ownership.task_state, owners)) == [Evidence.UNKNOWN] * 3


@pytest.mark.parametrize("odd", [{"map_index": None}, {"run_id": ["r"]}, {"dag_id": {}}])
async def test_an_odd_owner_spoils_nobody_elses_answer(airflow: Airflow, odd: dict[str, Any]) -> None:
    """A trigger that somebody wrote by hand is killed together with others: they get their answers, and it gets one."""
    airflow.states = {key(owner()): "failed"}
    asked = asyncio.gather(*map(ownership.task_state, [owner(), {**owner(), **odd}]))
    assert await asyncio.wait_for(asked, 5) == ["failed", Evidence.UNKNOWN]


async def test_who_is_gone_has_no_state(airflow: Airflow) -> None:
    """A deleted task instance is None, which is not the same as unknown."""
    airflow.states = {key(owner(run="there")): "deferred"}
    assert await asyncio.gather(*map(ownership.task_state, [owner(run="there"), owner()])) == ["deferred", None]


async def test_who_asks_twice_is_answered_twice(airflow: Airflow) -> None:
    """Also with the very same words."""
    one = owner()
    airflow.states = {key(one): "deferred"}
    assert await asyncio.gather(*(ownership.task_state(one) for _ in range(3))) == ["deferred"] * 3
