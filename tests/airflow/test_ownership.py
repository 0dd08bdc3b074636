"""Whose is it now? Asked by a thousand triggers at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_lro_provider.airflow_compat import task_states as compat
from airflow_lro_provider.airflow_compat.task_process import try_id
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.ownership import evidence as ownership
from airflow_lro_provider.ownership.decisions import ADOPTER, Evidence
from airflow_lro_provider.ownership.evidence import TaskKey, plan_queries, query_states
from tests.airflow.versions import play_task_states, since_3


def owner(dag: str = "d", run: str = "r", task: str = "t", index: int = -1) -> TaskKey:
    """A task instance."""
    return TaskKey(dag, run, task, index)


class Airflow:
    """The supervisor's answers to questions for states; it refuses what would not fit into a URL."""

    def __init__(self, states: dict[TaskKey, str | None]) -> None:
        self.states = states
        self.questions = 0
        self.asking = self.most_asking = 0
        self._lock = threading.Lock()

    def get_task_states(
        self, *, dag_id: str, run_ids: list[str], task_ids: list[str], map_index: int | None
    ) -> dict[str, dict[str, str | None]]:
        """As the execution API answers: runs times tasks, instances by name and index."""
        with self._lock:
            self.questions += 1
            self.asking += 1
            self.most_asking = max(self.most_asking, self.asking)
        assert len(run_ids) <= ownership.MAX_IDS
        assert len(task_ids) <= ownership.MAX_IDS
        time.sleep(0.002)
        found: dict[str, dict[str, str | None]] = {}
        for (dag, run, task, index), state in self.states.items():
            if dag == dag_id and run in run_ids and task in task_ids and map_index in (None, index):
                found.setdefault(run, {})[task if index < 0 else f"{task}_{index}"] = state
        with self._lock:
            self.asking -= 1
        return found


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """An Airflow that knows nobody yet."""
    airflow = Airflow({})
    play_task_states(monkeypatch, airflow.get_task_states)
    return airflow


NAMES = st.sampled_from(["a", "a_1", "b"])
OWNERS = st.builds(owner, NAMES, NAMES, NAMES, st.sampled_from([-1, 0, 1]))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(OWNERS, max_size=30))
def test_every_state_is_requested_once(owners: list[TaskKey]) -> None:
    """Each task instance is in one query, and that query names its run and task."""
    planned = [(query, key) for query in plan_queries(owners) for key in query.keys]
    assert sorted(key for _, key in planned) == sorted(set(owners))
    for query, key in planned:
        assert key.dag_id == query.dag_id
        assert key.run_id in query.run_ids
        assert key.task_id in query.task_ids
        assert query.map_index in (None, key.map_index)
        assert len(query.run_ids) == 1 or len(query.task_ids) == 1


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(OWNERS, st.sampled_from(["failed", "running", None]), max_size=30), st.lists(OWNERS, max_size=9))
def test_every_task_gets_its_own_state(states: dict[TaskKey, str | None], others: list[TaskKey]) -> None:
    """Whatever names they have in common; without a state and gone are told apart."""

    def fetch(dag: str, tasks: Sequence[str], runs: Sequence[str], index: int | None) -> dict[str, dict[str, Any]]:
        return Airflow(states).get_task_states(dag_id=dag, run_ids=list(runs), task_ids=list(tasks), map_index=index)

    expected = {key: states[key] or Evidence.NONE if key in states else Evidence.GONE for key in (*states, *others)}
    assert query_states((*states, *others), fetch) == expected


@pytest.mark.parametrize(
    "owners",
    [
        [owner(index=index) for index in range(1000)],
        [owner(task=f"t{number}") for number in range(1000)],
        [owner(run=f"r{number}") for number in range(1000)],
    ],
    ids=["a mapped task", "a run", "many runs"],
)
async def test_a_thousand_cost_a_few_questions(airflow: Airflow, owners: list[TaskKey]) -> None:
    """All who ask at about the same time get their own state, for at most ten questions, and the loop goes on."""
    airflow.states = {one: f"state {number}" for number, one in enumerate(owners)}
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
    assert airflow.most_asking <= ownership.MAX_CONCURRENT
    assert longest < 0.5, "generous: this machine may be busy"


async def test_an_instance_is_not_taken_for_a_task_of_that_name(airflow: Airflow) -> None:
    """The instance 1 of `a` and the task `a_1` are told apart."""
    owners = [owner(task="a", index=1), owner(task="a_1"), owner(task="a", index=0)]
    airflow.states = {one: f"state {number}" for number, one in enumerate(owners)}
    assert await asyncio.gather(*map(ownership.task_state, owners)) == ["state 0", "state 1", "state 2"]


async def test_no_response_is_no_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails makes the state of each task that it is about UNKNOWN, and so does an odd response."""

    def fail(**_: Any) -> Any:
        raise RuntimeError("the API server is down")

    owners = [owner(), owner(run="other")]
    for answer in (fail, lambda **_: None, lambda **_: ["r"], lambda **_: {"r": 7, "other": 7}):
        play_task_states(monkeypatch, answer)
        assert await asyncio.gather(*map(ownership.task_state, owners)) == [Evidence.UNKNOWN] * 2
        assert [ownership.read_task_state(one) for one in owners] == [Evidence.UNKNOWN] * 2


async def test_a_request_that_takes_too_long_is_no_guess(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger tries again; the thread ends when it can."""
    monkeypatch.setattr(ownership, "TIMEOUT_SECONDS", 0.01)
    play_task_states(monkeypatch, lambda **_: time.sleep(0.1))
    monkeypatch.setattr(compat.XCom, "get_one", lambda **_: time.sleep(0.1))
    assert await ownership.task_state(owner()) is Evidence.UNKNOWN
    assert await ownership.owner_token(owner(), "mine") is Evidence.UNKNOWN


OLD, YOUNG = "01900000-0000-7000-8000-000000000000", "01900000-0001-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("found", "mine", "says"),
    [
        (f"{OLD}/o/1", f"{YOUNG}/o/2", f"{YOUNG}/o/2"),
        (f"{OLD}/other/1", f"{YOUNG}/o/2", f"{YOUNG}/o/2"),
        (f"{YOUNG}/o/1", f"{OLD}/o/2", ADOPTER),
        (f"{YOUNG}/other/1", f"{OLD}/o/2", f"{YOUNG}/other/1"),
        (f"{OLD}/o/1", f"{OLD}/o/1", f"{OLD}/o/1"),
        ("f00", f"{OLD}/o/2", "f00"),
        (f"{OLD}/o/1", "f00", f"{OLD}/o/1"),
        (Evidence.NONE, f"{OLD}/o/2", Evidence.NONE),
        (Evidence.UNKNOWN, f"{OLD}/o/2", Evidence.UNKNOWN),
    ],
    ids=[
        "an older try, which had it before", "an older try, which had another", "a younger one, which has adopted it",
        "a younger one, which has another", "mine", "of another release", "mine is of another release", "none",
        "not known",
    ],
)  # fmt: skip
def test_an_older_try_owns_nothing_any_more(found: Any, mine: str, says: Any) -> None:
    """A process that stood still, or was begun anew elsewhere, may write its token over that of the next try."""
    assert ownership.judge_owner(found, mine) == says


@since_3
def test_the_state_of_a_run_is_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task SDK's enum writes itself as `DagRunState.FAILED`: so the sweep took every run for one that goes on."""
    from airflow.sdk.api.datamodels._generated import DagRunState

    monkeypatch.setattr(compat.RuntimeTaskInstance, "get_dagrun_state", lambda *_: DagRunState.FAILED)
    assert compat.run_state("d", "r") == "failed"


def test_each_deferral_has_a_token_of_its_own() -> None:
    """It says the try, and the operation however its project is spelled."""
    ti = SimpleNamespace(id=OLD, dag_run=SimpleNamespace(id=7), try_number=1, task_id="t", map_index=-1, job_id=3)
    references = [read_reference(f"projects/{p}/locations/l/operations/o", "datafusion") for p in ("p", "p", "123")]
    tokens = [ownership.new_owner_token(ti, reference) for reference in references]
    assert len(set(tokens)) == 3
    assert len({token.rpartition("/")[0] for token in tokens}) == 1
    assert tokens[0].startswith(f"{try_id(ti)}/i")


async def test_the_token_is_read_for_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a thread reads it and as a worker does; none, and no response, are told apart."""
    asked: list[dict[str, Any]] = []
    tokens: list[Any] = ["mine", None, RuntimeError("down")]

    def get_one(**wanted: Any) -> Any:
        asked.append(wanted)
        if isinstance(tokens[0], Exception):
            raise tokens[0]
        return tokens[0]

    monkeypatch.setattr(compat.XCom, "get_one", get_one)
    for expected in ("mine", Evidence.NONE, Evidence.UNKNOWN):
        assert await ownership.owner_token(owner(index=3), "mine") == expected
        assert ownership.read_owner_token(owner(index=3), "mine") == expected
        tokens.pop(0)
    asked = [question for question in asked if question["map_index"] == 3]  # not of a thread of another test
    assert asked == [{"key": "operation_owner", **owner(index=3)._asdict()}] * 8  # that there is none is asked twice


@pytest.mark.parametrize(
    "odd", [{"map_index": None}, {"map_index": "1"}, {"run_id": ["r"]}, {"dag_id": {}}, {"task_id": 1}]
)
def test_an_odd_owner_is_no_task(odd: dict[str, Any]) -> None:
    """A trigger that somebody wrote by hand must not spoil the query that others are part of."""
    stored = {**owner()._asdict(), "token": "mine"}
    assert TaskKey.from_dict(stored) == owner()
    assert TaskKey.from_dict({**stored, **odd}) is None
    assert TaskKey.from_dict({"token": "mine"}) is None


def test_a_running_task_has_a_key() -> None:
    """A task that is not mapped has the index -1, however Airflow says so."""
    ti = {"dag_id": "d", "run_id": "r", "task_id": "t", "id": "x", "try_number": 2}
    assert (
        TaskKey.of(SimpleNamespace(**ti, map_index=None)) == TaskKey.of(SimpleNamespace(**ti, map_index=-1)) == owner()
    )
    assert TaskKey.of(SimpleNamespace(**ti, map_index=2)) == owner(index=2)


async def test_who_is_gone_is_told_from_who_has_no_state(airflow: Airflow) -> None:
    """A deleted task instance, one that was just cleared, and one that is there."""
    airflow.states = {owner(run="there"): "deferred", owner(run="cleared"): None}
    owners = [owner(run="there"), owner(run="cleared"), owner()]
    states = await asyncio.gather(*map(ownership.task_state, owners))
    assert states == ["deferred", Evidence.NONE, Evidence.GONE]
    assert [ownership.read_task_state(one) for one in owners] == states


async def test_one_task_that_is_requested_twice_costs_one_request(airflow: Airflow) -> None:
    """And both get its state."""
    airflow.states = {owner(): "deferred"}
    assert await asyncio.gather(*(ownership.task_state(owner()) for _ in range(3))) == ["deferred"] * 3
    assert airflow.questions == 1
