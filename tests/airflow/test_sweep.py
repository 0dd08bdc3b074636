"""The ledger and the sweep in one process: Airflow's answers are played, the server of the operations is real."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_lro_provider.airflow_compat.exceptions import AirflowRescheduleException
from airflow_lro_provider.airflow_compat.task_process import try_id
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.auth.settings import ConnectionSettings
from airflow_lro_provider.lro.errors import ConnectionSettingsError, PermissionDeniedError
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import read_reference
from airflow_lro_provider.metrics import StatsMetrics
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.sensors.operations import OperationSensor
from airflow_lro_provider.sweep import cancellation, ledger
from airflow_lro_provider.sweep.ledger import PREFIX, LedgerEntry
from airflow_lro_provider.sweep.reconciler import SweepResult, explain, sweep
from airflow_lro_provider.sweep.report import What
from airflow_lro_provider.sweep.search import footprint_of
from tests.airflow.played import PlayedTry, Store, Variables
from tests.airflow.versions import may_execute

SECRET = "-----BEGIN PRIVATE KEY-----"


class PlayedAirflow:
    """What the sweep requests of Airflow, from dicts."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.kept: dict[str, LedgerEntry | None] = {}
        self.looks = self.reads = 0
        self.task_states: dict[tuple[str, str, str, int], Any] = {}
        self.questions: list[tuple[Any, ...]] = []
        self.run_states: dict[tuple[str, str], str] = {}
        self.run_questions: list[tuple[str, str]] = []
        self.down = False
        self.before_second_read: Callable[[], None] = lambda: None
        self.without_retries = False
        self.number = 0

    def keys(self) -> list[str]:
        """All; at the second read something may have happened since the first."""
        self.looks += 1
        if self.looks % 2 == 0:
            self.before_second_read()
        return list(self.kept)

    def read(self, key: str) -> LedgerEntry | None:
        """One."""
        self.reads += 1
        return self.kept.get(key)

    def remove(self, key: str) -> None:
        """Remove."""
        self.kept.pop(key, None)

    def states(
        self, dag_id: str, task_ids: Sequence[str], run_ids: Sequence[str], map_index: int | None
    ) -> Mapping[str, Mapping[str, Any]]:
        """As Airflow 3.3 answers, with its names for mapped tasks."""
        self.questions.append((dag_id, tuple(task_ids), tuple(run_ids), map_index))
        if self.down:
            raise RuntimeError("the API server is down")
        answer: dict[str, dict[str, Any]] = {}
        for (dag, run, task, index), state in self.task_states.items():
            if dag == dag_id and run in run_ids and task in task_ids and map_index in (None, index):
                answer.setdefault(run, {})[task if index < 0 else f"{task}_{index}"] = state
        return answer

    def is_gone(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> bool:
        """Whether there is no such task instance at all."""
        return (dag_id, run_id, task_id, map_index) not in self.task_states

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Of runs."""
        self.run_questions.append((dag_id, run_id))
        return self.run_states.get((dag_id, run_id), "running")

    def settings(self, gcp_conn_id: str | None, impersonation_chain: Any) -> ConnectionSettings:
        """One connection is there."""
        if gcp_conn_id != "google_cloud_default":
            raise ConnectionSettingsError(f"connection {gcp_conn_id!r} is not defined")
        retries = {"num_retries": 0} if self.without_retries else {}
        return ConnectionSettings.from_extra({**self.emulator.connection_extra(), **retries})

    def add(self, state: Any = "gone", operation: str | None = None, **change: Any) -> LedgerEntry:
        """An entry, its operation (one that never ends), and the state of its task ("gone": there is no such task)."""
        self.number += 1
        name = operation or self.emulator.create("datafusion", duration=None)
        fields: dict[str, Any] = {
            "try_id": f"try-{self.number}", "dag_id": "d", "run_id": f"r{self.number}", "task_id": "t", "map_index": -1,
            "try_number": 1, "armed_since": time.time(), "gcp_conn_id": "google_cloud_default",
            "reference": read_reference(name, "datafusion").to_dict(), **change,
        }  # fmt: skip
        entry = LedgerEntry(**fields)
        self.kept[entry.key] = entry
        if state != "gone":
            self.task_states[entry.dag_id, entry.run_id, entry.task_id, entry.map_index] = state
        return entry

    def sweep(self, dry_run: bool = False, now: float | None = None) -> SweepResult:
        """Sweep once."""
        self.looks = 0
        return sweep(self, now=time.time() if now is None else now, dry_run=dry_run, log=lambda *_: None)

    @property
    def cancels(self) -> int:
        """How many cancel requests the server saw."""
        return len(self.emulator.requests(verb="cancel"))


@pytest.fixture
def airflow(lro_emulator: Emulator) -> PlayedAirflow:
    """Airflow, played."""
    return PlayedAirflow(lro_emulator)


def counts(**some: int) -> dict[str, int]:
    """All counts of a sweep: these, and no others."""
    words = ("found", "alive", "finished", "cancelled", "requested", "would_cancel", "unsure")
    return {**dict.fromkeys(words, 0), **some}


ALIVE = ["running", "deferred", "queued", "scheduled", "restarting", "up_for_reschedule", None]


@pytest.mark.parametrize("state", ALIVE)
def test_what_lives_is_left_alone(airflow: PlayedAirflow, state: str | None) -> None:
    """In none of these states an operation is so much as polled."""
    airflow.add(state)
    assert airflow.sweep().counts == counts(found=1, alive=1)
    assert airflow.emulator.requests() == []
    assert (airflow.looks, airflow.reads) == (1, 0), "a list of keys says it all"
    assert airflow.questions == [("d", ("t",), ("r1",), -1)]


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "upstream_failed", "removed", "gone"])
def test_what_nobody_owns_is_cancelled_confirmed_and_removed(airflow: PlayedAirflow, state: str) -> None:
    """One sweep cancels and sees it; the next removes the entry, and does not cancel again."""
    airflow.add(state)
    assert airflow.sweep().counts == counts(found=1, cancelled=1)
    assert airflow.sweep().counts == counts(found=1, finished=1)
    assert airflow.sweep().counts == counts()
    assert airflow.cancels == 1


@pytest.mark.parametrize(("adopts", "what"), [(True, "alive"), (False, "cancelled")])
def test_a_task_that_waits_for_its_retry(airflow: PlayedAirflow, adopts: bool, what: str) -> None:
    """Its operation lives if the retry goes on with it."""
    airflow.add("up_for_retry", will_adopt=adopts)
    assert airflow.sweep().counts[what] == 1


@pytest.mark.parametrize("state", ["up_for_retry", "queued", "scheduled", None])
@pytest.mark.parametrize(("run", "what"), [("running", "alive"), ("queued", "alive"), ("failed", "cancelled")])
def test_a_task_that_waits_in_a_run_that_is_over_waits_in_vain(
    airflow: PlayedAirflow, state: str | None, run: str, what: str
) -> None:
    """Airflow 3.3.2 can leave one so that was marked in the moment in which it failed by itself."""
    entry = airflow.add(state, will_adopt=True)
    airflow.run_states[entry.dag_id, entry.run_id] = run
    result = airflow.sweep()
    assert result.counts[what] == 1
    assert airflow.run_questions == [(entry.dag_id, entry.run_id)]


@pytest.mark.parametrize("state", ["running", "deferred", "up_for_reschedule", "failed"])
def test_the_run_is_not_asked_for_if_the_task_says_enough(airflow: PlayedAirflow, state: str) -> None:
    """One question for each run would be too many for thousands of tasks."""
    airflow.add(state)
    airflow.sweep()
    assert airflow.run_questions == []


def test_a_failure_that_its_author_wants_to_leave_the_operation_is_not_second_guessed(airflow: PlayedAirflow) -> None:
    """cancel_on_failure=False, failed: by itself or killed? It is counted and left."""
    airflow.add("failed", cancel_on_failure=False)
    airflow.add("success", cancel_on_failure=False)
    assert airflow.sweep().counts == counts(found=2, unsure=1, cancelled=1)


def test_an_operation_that_a_later_try_has_replaced_is_cancelled(airflow: PlayedAirflow) -> None:
    """The later try's own is not."""
    old = airflow.add("running")
    new = airflow.add("running", run_id=old.run_id, try_number=2)
    airflow.sweep()
    requests = airflow.emulator.requests(verb="cancel")
    assert [request.name for request in requests] == [old.reference["name"]]  # type: ignore[index]
    assert new.key in airflow.kept


def test_an_operation_that_a_later_try_has_adopted_lives(airflow: PlayedAirflow) -> None:
    """Two entries for one operation, as between the two writes of an adoption."""
    old = airflow.add("running")
    airflow.add("running", old.reference["name"], run_id=old.run_id, try_number=2)  # type: ignore[index]
    assert airflow.sweep().counts["alive"] == 2
    assert airflow.cancels == 0


def test_an_adoption_in_the_middle_of_a_sweep_is_seen(airflow: PlayedAirflow) -> None:
    """Whoever has recorded the operation since the ledger was first read keeps it alive."""
    old = airflow.add("failed")

    def adopt() -> None:
        airflow.add("running", old.reference["name"], run_id=old.run_id, try_number=2)  # type: ignore[index]

    airflow.before_second_read = adopt
    assert airflow.sweep().counts["alive"] == 1
    assert airflow.cancels == 0


def test_another_task_that_waits_for_the_same_operation_keeps_it_alive(airflow: PlayedAirflow) -> None:
    """Two sensors, one of them dead."""
    dead = airflow.add("failed")
    airflow.add("deferred", dead.reference["name"], dag_id="other")  # type: ignore[index]
    airflow.sweep()
    assert airflow.cancels == 0


def test_names_of_mapped_tasks_are_not_confused(airflow: PlayedAirflow) -> None:
    """`a_1` is a task, and the second of the mapped task `a`: each has its own state."""
    dead = airflow.add("failed", task_id="a", map_index=1, run_id="r")
    airflow.add("running", task_id="a_1", run_id="r")
    for index in range(100):
        airflow.add("running", task_id="b", map_index=index, run_id="r")
    assert airflow.sweep().counts == counts(found=102, cancelled=1, alive=101)
    assert [request.name for request in airflow.emulator.requests(verb="cancel")] == [dead.reference["name"]]  # type: ignore[index]
    assert len(airflow.questions) == 3


def test_many_runs_are_asked_about_in_few_questions(airflow: PlayedAirflow) -> None:
    """A hundred runs at a time: their ids stand in a URL. The same of tasks."""
    shared = airflow.emulator.create("datafusion", duration=None)
    for _ in range(120):
        airflow.add("running", shared)
    for number in range(120):
        airflow.add("running", shared, dag_id="other", run_id="r", task_id=f"t{number}")
    assert airflow.sweep().counts["alive"] == 240
    assert [(len(tasks), len(runs)) for _, tasks, runs, _ in airflow.questions] == [
        (1, 100),
        (1, 20),
        (100, 1),
        (20, 1),
    ]


def uuid7(moment: int) -> str:
    """An id as Airflow gives them: the time is in it."""
    return str(uuid.UUID(int=(moment << 80) | (7 << 76) | (2 << 62) | 1))


def test_a_task_that_was_made_anew_has_not_been_replaced_by_its_past(airflow: PlayedAirflow) -> None:
    """A run that was deleted and made again counts its tries from 1: what is left of the old one's try 2 is older."""
    airflow.add("running", try_number=2, try_id=uuid7(1000), run_id="r")
    new = airflow.add("running", try_number=1, try_id=uuid7(2000), run_id="r")
    airflow.sweep()
    assert new.reference is not None
    assert airflow.emulator.requests(verb="cancel", name=new.reference["name"]) == []


def test_what_is_removed_in_the_middle_of_a_sweep_is_not_cancelled(airflow: PlayedAirflow) -> None:
    """A task that does not wait for its operation has ended well meanwhile: the operation is nobody's, and runs on."""
    entry = airflow.add("success", run_id="a run whose id does not fit into a key")
    airflow.before_second_read = lambda: airflow.remove(entry.key)
    assert airflow.sweep().counts["cancelled"] == 0
    assert airflow.cancels == 0


@pytest.mark.parametrize("what", ["read", "settings", "remove"])
def test_one_entry_that_cannot_be_dealt_with_does_not_keep_the_others(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever Airflow answers about it: it is left and counted, and the others are cancelled."""
    bad = airflow.add("failed", gcp_conn_id="bad")
    if what == "remove":
        airflow.emulator.finish("datafusion", bad.reference["name"])  # type: ignore[index]
        bad = airflow.add("failed", airflow.emulator.create("datafusion", duration=0))
    airflow.add("failed")
    real = getattr(airflow, what)

    def fail(first: Any, *rest: Any) -> Any:
        if first in (bad.key, "bad"):
            raise RuntimeError("500")
        return real(first, *rest)

    monkeypatch.setattr(airflow, what, fail)
    assert airflow.sweep().counts["cancelled"] == 1
    assert bad.key in airflow.kept


def test_what_cannot_be_judged_is_left_and_counted(airflow: PlayedAirflow) -> None:
    """Airflow does not answer: nothing is cancelled."""
    airflow.add("failed")
    airflow.down = True
    assert airflow.sweep().counts["unsure"] == 1
    assert airflow.cancels == 0


def test_what_cannot_be_reached_is_left_and_counted(airflow: PlayedAirflow) -> None:
    """No permission, no connection, an entry that is none, a reference that was tampered with: the others go on."""
    refused = airflow.add("failed")
    airflow.emulator.fail(403, verb="get", name=refused.reference["name"])  # type: ignore[index]
    airflow.add("failed", gcp_conn_id="another")
    airflow.add("failed", reference={"service": "datafusion", "version": "v1", "name": "../x", "host": "evil.example"})
    airflow.kept["junk"] = None
    airflow.add("failed")
    result = airflow.sweep()
    assert result.counts == counts(found=5, cancelled=1, unsure=4)
    assert len(airflow.kept) == 5
    assert any("PERMISSION_DENIED" in row.why for row in result.rows)


def test_a_start_that_was_never_answered_is_reported(airflow: PlayedAirflow) -> None:
    """Its operation, if there is one, has no name that we know: counted, told, and forgotten after a month."""
    airflow.add("failed", reference=None, start="POST //datafusion.googleapis.com/projects/p/locations/l/instances")
    result = airflow.sweep()
    assert result.counts["unsure"] == 1
    assert "check whether it has started something" in result.rows[0].why
    assert airflow.sweep(now=time.time() + 31 * 86400).counts["finished"] == 1
    assert airflow.kept == {}


class Lost:
    """A task that died before its start was answered, and what the server has begun for it.

    :param state: of its task.
    """

    def __init__(self, airflow: PlayedAirflow, state: str = "failed", **change: Any) -> None:
        self.airflow = airflow
        method = read_method("projects/p/locations/l/instances?instanceId=x", "POST", "datafusion")
        traces = footprint_of(method)
        assert traces is not None
        entry = {"reference": None, "start": str(method), "footprint": traces.to_dict(), **change}
        self.entry = airflow.add(state, **entry)

    def begun(self, target: str = "projects/p/locations/l/instances/x", **script: Any) -> str:
        """An operation at the server."""
        parent = "projects/p/locations/l"
        store = self.airflow.emulator.store
        return store.create("datafusion", parent=parent, target=target, script={"duration": None, **script}).name


@pytest.mark.parametrize(
    ("path", "http_method", "verb"),
    [
        ("instances/x:restart", "POST", "restart"),
        ("instances/x", "PATCH", "update"),
        ("instances/x", "PATCH", "create"),
        ("instances/x", "DELETE", "delete"),
        ("instances?instanceId=x", "POST", ""),
    ],
)
def test_somebody_elses_operation_is_not_taken_for_that_of_a_lost_start(
    airflow: PlayedAirflow, path: str, http_method: str, verb: str
) -> None:
    """Row A4: others work on the same resource, without an entry: nothing is cancelled, and a person is told of it.

    In the last case the service does not say what it does to the resource.
    """
    method = read_method(f"projects/p/locations/l/{path}", http_method, "datafusion")
    footprint = footprint_of(method)
    assert footprint is not None
    entry = airflow.add("failed", reference=None, start=str(method), footprint=footprint.to_dict())
    store = airflow.emulator.store
    target = "projects/p/locations/l/instances/x"
    name = store.create(
        "datafusion", parent="projects/p/locations/l", target=target, verb=verb, script={"duration": None}
    ).name
    result = airflow.sweep()
    assert (result.counts["unsure"], airflow.cancels) == (1, 0)
    [undecided] = result.to_dict()["undecided"]
    assert (undecided["entry"], undecided["candidates"]) == (entry.key, [name])


def test_a_create_that_began_before_the_start_is_somebody_elses(airflow: PlayedAirflow) -> None:
    """Row A4: at the same place, of the same id, a moment before it was sent."""
    lost = Lost(airflow, armed_since=time.time() + 10)
    name = lost.begun()
    result = airflow.sweep(now=time.time() + 20)
    assert (result.counts["unsure"], airflow.cancels, result.rows[0].candidates) == (1, 0, (name,))


@pytest.mark.parametrize("field_mask", ["honour", "ignore", "reject"])
def test_a_result_that_is_too_large_does_not_hide_the_end(airflow: PlayedAirflow, field_mask: str) -> None:
    """B11: what is over is not cancelled, nor left to a person."""
    large = {"large": "x" * (9 * 2**20)}
    airflow.add("failed", airflow.emulator.create("datafusion", duration=0, response=large, field_mask=field_mask))
    assert airflow.sweep().counts == counts(found=1, finished=1)
    assert (airflow.cancels, airflow.kept) == (0, {})


def test_an_operation_that_was_let_go_on_purpose_is_forgotten(airflow: PlayedAirflow) -> None:
    """Row A6: the task succeeded, and only removing its entry failed. Of one that was killed it is cancelled."""
    airflow.add("success", lets_go=True)
    assert airflow.sweep().counts == counts(found=1, finished=1)
    assert (airflow.kept, airflow.emulator.requests()) == ({}, [])
    airflow.add("failed", lets_go=True)
    assert airflow.sweep().counts == counts(found=1, cancelled=1)
    airflow.kept.clear()
    airflow.add("success", lets_go=True, reference=None, start="POST …")  # killed in its start, then marked success
    assert airflow.sweep().counts == counts(found=1, unsure=1)


@pytest.mark.parametrize("skipped_in", [2, 3])
def test_an_entry_that_a_list_skips_still_counts(airflow: PlayedAirflow, skipped_in: int) -> None:
    """Row A7: Airflow lists page by page, and skips one while another is removed: its operation lives."""
    dead = airflow.add("failed")
    alive = airflow.add("running", dead.reference["name"], dag_id="other")  # type: ignore[index]
    airflow.add("failed", airflow.emulator.create("datafusion", duration=None))
    real, lists = airflow.keys, itertools.count(1)

    def keys() -> list[str]:
        skips = next(lists) >= skipped_in
        return [key for key in real() if not skips or key != alive.key]

    airflow.keys = keys  # type: ignore[method-assign]
    airflow.sweep()
    assert [r for r in airflow.emulator.requests(verb="cancel") if r.name == dead.reference["name"]] == []  # type: ignore[index]


def test_an_entry_that_the_last_list_skips_is_kept(airflow: PlayedAirflow) -> None:
    """Row A7: nothing is cancelled or removed because a list does not show it; the next sweep sees to it."""
    entry = airflow.add("failed")
    real, lists = airflow.keys, itertools.count(1)
    airflow.keys = lambda: [key for key in real() if next(lists) < 3]  # type: ignore[method-assign]
    assert airflow.sweep().counts == counts(found=1, unsure=1)
    assert (list(airflow.kept), airflow.cancels) == ([entry.key], 0)


def test_one_operation_that_is_slow_holds_up_no_other(airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row A9: a long Retry-After of one is not waited for by its neighbours at the same endpoint."""
    monkeypatch.setattr(cancellation, "ENDPOINT_TIMEOUT_SECONDS", 3.0)
    slow = airflow.add("failed")
    airflow.emulator.fail(429, verb="get", name=slow.reference["name"], times=None, retry_after=120.0)  # type: ignore[index]
    for _ in range(3):
        airflow.add("failed")
    assert airflow.sweep().counts == counts(found=4, cancelled=3, unsure=1)


def test_a_ledger_that_cannot_be_read_again_ends_no_sweep(airflow: PlayedAirflow) -> None:
    """What was not confirmed is not cancelled, and said so; the others are reported."""
    airflow.add("failed", airflow.emulator.create("datafusion", duration=0))
    airflow.add("failed")
    real, reads = airflow.keys, itertools.count(1)

    def keys() -> list[str]:
        if next(reads) >= 3:
            raise RuntimeError("502, and a secret")
        return real()

    airflow.keys = keys  # type: ignore[method-assign]
    result = airflow.sweep()
    assert (result.counts, airflow.cancels) == (counts(found=2, finished=1, unsure=1), 0)
    assert any("the ledger could not be read again (RuntimeError)" in row.why for row in result.rows)


@pytest.mark.parametrize("numbered", ["dead", "alive"])
def test_a_task_of_the_first_release_keeps_its_operation(airflow: PlayedAirflow, numbered: str) -> None:
    """Row A8: its key has another fingerprint, which tells a project's number and its id apart."""
    name = airflow.emulator.create("datafusion", duration=None)
    other = re.sub("^projects/[^/]+/", "projects/123456/", name)
    airflow.add("failed", other if numbered == "dead" else name)
    alive = airflow.add("running", name if numbered == "dead" else other, dag_id="other")
    airflow.kept[alive.keys[1]] = airflow.kept.pop(alive.key)
    assert airflow.sweep().counts == counts(found=2, alive=2)
    assert airflow.cancels == 0


def test_the_ledger_is_read_again_right_before_a_cancel(airflow: PlayedAirflow) -> None:
    """Row A7: whoever has adopted the operation while it was polled keeps it."""
    dead = airflow.add("failed")
    real = airflow.keys

    def keys() -> list[str]:
        if airflow.emulator.requests(verb="get"):
            airflow.add("running", dead.reference["name"], run_id=dead.run_id, try_number=2)  # type: ignore[index]
        return real()

    airflow.keys = keys  # type: ignore[method-assign]
    [row] = airflow.sweep().rows
    assert (row.what, airflow.cancels) == (What.UNSURE, 0)
    assert "another task owns it by now" in row.why


@pytest.mark.parametrize("numbered", ["the dead one's", "the living one's"])
def test_a_project_is_the_same_by_number_and_by_id(airflow: PlayedAirflow, numbered: str) -> None:
    """Row A8: two tasks name one operation, each in its way."""
    name = airflow.emulator.create("datafusion", duration=None)
    other = re.sub("^projects/[^/]+/", "projects/123456/", name)
    airflow.add("failed", other if numbered == "the dead one's" else name)
    airflow.add("running", name if numbered == "the dead one's" else other, dag_id="other")
    assert airflow.sweep().counts == counts(found=2, alive=2)
    assert airflow.cancels == 0


def test_an_endpoint_that_does_not_respond_delays_nobody_else(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A9: two hundred operations at one that accepts connections and says nothing: it is given up for now."""
    monkeypatch.setattr(cancellation, "ENDPOINT_TIMEOUT_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        real = airflow.settings

        def settings(gcp_conn_id: str | None, chain: Any) -> ConnectionSettings:
            found = real("google_cloud_default", chain)
            return found if gcp_conn_id != "silent" else replace(found, api_endpoint=url)

        monkeypatch.setattr(airflow, "settings", settings)
        for number in range(200):
            name = f"projects/p/locations/l/operations/o{number}"
            airflow.add("failed", name, gcp_conn_id="silent")
        airflow.add("failed")
        result = airflow.sweep()
    assert result.counts == counts(found=201, cancelled=1, unsure=200)
    assert "took longer than 2 s" in result.rows[0].why


@pytest.mark.parametrize("forged", [{"run_id": "another"}, {"try_id": "another"}, {"reference": None}])
def test_an_entry_whose_key_and_value_disagree_is_unreadable(airflow: PlayedAirflow, forged: dict[str, Any]) -> None:
    """Row A15: an edited Variable cancels nothing, and says so."""
    entry = airflow.add("failed")
    airflow.kept[entry.key] = replace(entry, **forged)
    result = airflow.sweep()
    assert (result.counts, airflow.cancels) == (counts(found=1, unsure=1), 0)
    assert result.to_dict()["undecided"] == [{"entry": entry.key, "why": "it cannot be read"}]


def test_an_entry_that_cannot_be_read_keeps_its_operation_alive(airflow: PlayedAirflow) -> None:
    """Row A16: it may be that of a living task; its key says which operation it is about."""
    dead = airflow.add("failed")
    other = replace(dead, run_id="a run whose id does not fit into a key", try_id="other")
    airflow.kept[other.key] = None
    assert airflow.sweep().counts == counts(found=2, alive=1, unsure=1)
    assert airflow.cancels == 0


def test_the_evidence_of_one_entry_is_told(airflow: PlayedAirflow) -> None:
    """For a person who has to decide; nothing is changed."""
    dead, alive = airflow.add("failed"), airflow.add("running")
    unread = airflow.add("failed")
    airflow.kept[unread.key] = None
    lost = Lost(airflow)
    name = lost.begun(), lost.begun()

    def told(key: str) -> str:
        airflow.looks = 0
        return "\n".join(explain(airflow, key, now=time.time()))

    assert "its task is failed" in told(dead.key)
    assert "decision: would_cancel" in told(dead.key)
    assert "decision: leave it, its task is alive" in told(alive.key)
    assert "cannot be read" in told(unread.key)
    assert "no such entry" in told("junk")
    assert all(f"candidate: {one}" in told(lost.entry.key) for one in name)
    assert (len(airflow.kept), airflow.cancels) == (4, 0)


def test_an_operation_whose_start_was_never_answered_is_found_and_cancelled(airflow: PlayedAirflow) -> None:
    """By what it works on and when it began; nothing else is touched; the next sweep removes the entry."""
    lost = Lost(airflow)
    lost.begun("projects/p/locations/l/instances/y")
    name = lost.begun()
    result = airflow.sweep()
    assert (result.counts["cancelled"], result.rows[0].to_dict()["operation"]) == (1, lost.entry.start)
    assert [request.name for request in airflow.emulator.requests(verb="cancel")] == [name]
    assert airflow.sweep().counts["finished"] == 1
    assert (airflow.kept, airflow.cancels) == ({}, 1)


def test_a_found_operation_that_another_task_has_recorded_is_left_alone(airflow: PlayedAirflow) -> None:
    """A later try has started it, and owns it, alive."""
    lost = Lost(airflow)
    airflow.add("running", lost.begun(), run_id=lost.entry.run_id, try_number=2)
    assert airflow.sweep().counts == counts(found=2, unsure=1, alive=1)
    assert airflow.cancels == 0


def test_a_found_operation_that_is_recorded_during_the_search_is_left_alone(airflow: PlayedAirflow) -> None:
    """The ledger is read after the list: whoever has started it meanwhile had announced it before."""
    lost = Lost(airflow)
    name = lost.begun()
    looks: list[int] = []
    real = airflow.keys

    def keys() -> list[str]:
        looks.append(len(airflow.emulator.requests(verb="list")))
        if len(looks) == 3:
            airflow.add("running", name, dag_id="other")
        return real()

    airflow.keys = keys  # type: ignore[method-assign]
    assert airflow.sweep().counts["cancelled"] == 0
    assert (looks, airflow.cancels) == ([0, 0, 1], 0)


def test_while_a_living_task_starts_the_same_nothing_is_cancelled(airflow: PlayedAirflow) -> None:
    """Whose operation it is that the list shows cannot be said until that start is answered."""
    lost = Lost(airflow)
    Lost(airflow, "running", dag_id="other")
    lost.begun()
    assert airflow.sweep().counts == counts(found=2, unsure=1, alive=1)
    assert airflow.cancels == 0


def test_of_two_running_operations_none_is_guessed(airflow: PlayedAirflow) -> None:
    """Both work on the same, and began in the same minute."""
    lost = Lost(airflow)
    names = [lost.begun(), lost.begun()]
    result = airflow.sweep()
    assert result.counts["unsure"] == 1
    assert all(name in result.rows[0].why for name in names)
    assert airflow.cancels == 0


@pytest.mark.parametrize("later", [True, False])
def test_a_start_whose_response_was_recorded_is_over(airflow: PlayedAirflow, later: bool) -> None:
    """Its entry could not be removed when the operation got one. One from before that start says nothing of it."""
    lost = Lost(airflow)
    its = {name: getattr(lost.entry, name) for name in ("try_id", "run_id", "try_number")}
    armed = lost.entry.armed_since + (1.0 if later else -1.0)
    operation = airflow.add("failed", lost.begun(), armed_since=armed, **its)
    result = airflow.sweep()
    expected = {"finished": 1} if later else {"unsure": 1}
    assert result.counts == counts(found=2, cancelled=1, **expected)
    assert (lost.entry.key in airflow.kept, operation.key in airflow.kept) == (not later, True)


def test_a_start_that_has_begun_nothing_is_removed_after_an_hour(airflow: PlayedAirflow) -> None:
    """Before, its request may still be under way."""
    Lost(airflow)
    assert airflow.sweep().counts["unsure"] == 1
    result = airflow.sweep(now=time.time() + 4000)
    assert result.counts["finished"] == 1
    assert "started no operation" in result.rows[0].why
    assert airflow.kept == {}


@pytest.mark.parametrize(("code", "error"), [(403, "PERMISSION_DENIED"), (404, "NOT_FOUND")])
def test_a_list_that_fails_leaves_the_entry(airflow: PlayedAirflow, code: int, error: str) -> None:
    """No permission to list, or no such parent: unsure, and said so. The parent proves nothing about an operation."""
    entry = Lost(airflow, armed_since=time.time() - 86400).entry
    airflow.emulator.fail(code, verb="list")
    result = airflow.sweep()
    assert result.counts == counts(found=1, unsure=1)
    assert error in result.rows[0].why
    assert entry.key in airflow.kept


def test_a_dry_run_tells_what_an_unanswered_start_has_begun(airflow: PlayedAirflow) -> None:
    """And cancels nothing."""
    Lost(airflow).begun()
    result = airflow.sweep(dry_run=True)
    assert (result.counts, airflow.cancels) == (counts(found=1, would_cancel=1), 0)


def test_a_start_under_way_is_alive(airflow: PlayedAirflow) -> None:
    """Nothing to look at yet."""
    airflow.add("running", reference=None, start="POST //x/y")
    assert airflow.sweep().counts["alive"] == 1


def test_a_request_that_was_accepted_is_not_a_cancellation(airflow: PlayedAirflow) -> None:
    """CANCELLING: it is called requested, and not requested twice, until a sweep sees how it ended."""
    name = airflow.emulator.create("datafusion", duration=None, cancel_delay=60)
    entry = airflow.add("failed", name)
    for _ in range(2):
        assert airflow.sweep().counts == counts(found=1, requested=1)
        assert entry.key in airflow.kept
    assert airflow.cancels == 1
    airflow.emulator.finish("datafusion", name)
    assert airflow.sweep().counts == counts(found=1, finished=1)
    assert (airflow.kept, airflow.cancels) == ({}, 1)


@pytest.mark.parametrize(
    ("script", "what", "why"),
    [
        ({"cancel_delay": 0}, "cancelled", "CANCELLED"),
        ({"cancel_delay": 60}, "requested", "CANCELLING"),
        ({"cancel": "ignore"}, "requested", "CANCELLING"),
        ({"cancel": "unimplemented"}, "unsure", "cannot cancel it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_cancel_came_to_is_told_apart(
    airflow: PlayedAirflow, script: dict[str, Any], what: str, why: str
) -> None:
    """In the counts, in the report and in the log."""
    airflow.add("failed", airflow.emulator.create("datafusion", duration=None, **script))
    lines: list[str] = []
    result = sweep(airflow, now=time.time(), log=lambda text, *values: lines.append(text % values))
    assert result.counts == counts(found=1, **{what: 1})
    [row] = result.to_dict()["operations"]
    assert row["what"] == what
    assert why in row["why"]
    assert lines == [f"{what}, {row['why']} ({row['task']}): {row['operation'].rpartition('/')[2]}"]


def test_an_operation_that_ends_well_although_it_was_cancelled_is_finished(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It completed between the request and the poll after it: nothing was cancelled."""
    name = airflow.emulator.create("datafusion", duration=None, cancel="ignore")
    airflow.add("failed", name)
    real = AsyncOperationsClient.cancel

    async def cancel(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await real(self, *args, **kwargs)
        airflow.emulator.finish("datafusion", name)
        return result

    monkeypatch.setattr(AsyncOperationsClient, "cancel", cancel)
    result = airflow.sweep()
    assert result.counts == counts(found=1, finished=1)
    assert "COMPLETED_DESPITE_CANCEL" in result.rows[0].why
    assert (airflow.kept, airflow.cancels) == ({}, 1)


def test_a_cancel_whose_end_cannot_be_polled_was_requested(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service accepted it: what it came to is for the next sweep."""
    airflow.add("failed")
    real = AsyncOperationsClient.cancel

    async def cancel(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await real(self, *args, **kwargs)
        airflow.emulator.fail(403, verb="get")
        return result

    monkeypatch.setattr(AsyncOperationsClient, "cancel", cancel)
    assert airflow.sweep().counts == counts(found=1, requested=1)
    assert len(airflow.kept) == 1


def test_every_cancel_is_counted(airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """In ``lro.cancels``, as all cancels."""
    counted: list[tuple[str, str]] = []
    monkeypatch.setattr(StatsMetrics, "cancel", lambda self, service, outcome: counted.append((service, outcome)))
    airflow.add("failed")
    airflow.sweep()
    assert counted == [("datafusion", "REQUESTED")]


def test_one_that_has_finished_or_is_gone_is_removed(airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to remember; and one that is gone has been asked to end, before it is forgotten."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.1)
    gone = airflow.add("failed", armed_since=time.time() - 3600)
    airflow.emulator.store.delete("datafusion", gone.reference["name"])  # type: ignore[index]
    airflow.add("failed", airflow.emulator.create("datafusion", duration=0))
    assert airflow.sweep().counts == counts(found=2, finished=2)
    assert (airflow.kept, airflow.cancels) == ({}, 1)


def test_a_connection_that_leads_elsewhere_forgets_nothing(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One odd answer of a secrets backend: that server knows none of them, and is not believed."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 0.1)
    entries = [airflow.add("failed") for _ in range(3)]
    right = airflow.settings
    with Emulator() as other:
        odd = iter([ConnectionSettings.from_extra(other.connection_extra())])
        monkeypatch.setattr(airflow, "settings", lambda *given: next(odd, None) or right(*given))
        assert airflow.sweep().counts == counts(found=3, unsure=3)
    assert set(airflow.kept) == {entry.key for entry in entries}
    assert airflow.sweep().counts == counts(found=3, cancelled=3)


def test_airflow_is_asked_for_one_thing_at_a_time_and_not_on_the_event_loop(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its channel to a task blocks, and serves one thread at a time: the ledger is read in a thread meanwhile."""
    Lost(airflow).begun()
    Lost(airflow, dag_id="other", gcp_conn_id="another")
    airflow.add("failed")
    seen: set[str] = set()
    channel = threading.RLock()  # a read of the ledger asks for several things

    def checked(name: str) -> Callable[..., Any]:
        real = getattr(airflow, name)

        def ask(*args: Any) -> Any:
            seen.add(name)
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            assert channel.acquire(blocking=False)
            try:
                time.sleep(0.05)
                return real(*args)
            finally:
                channel.release()

        return ask

    for name in ("keys", "read", "remove", "states", "is_gone", "settings"):
        monkeypatch.setattr(airflow, name, checked(name))
    assert airflow.sweep().counts == counts(found=3, cancelled=2, unsure=1)
    assert seen >= {"keys", "read", "states", "settings"}


def test_operations_that_are_slow_do_not_hold_up_the_others(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep itself lets nobody wait for a turn: only the connections to one host are limited."""
    real, at = AsyncOperationsClient.poll, {}

    async def poll(self: Any, reference: Any, **kwargs: Any) -> Any:
        if reference.name != other.reference["name"]:  # type: ignore[index]
            await asyncio.sleep(0.5)
        at[reference.name] = time.monotonic()
        return await real(self, reference, **kwargs)

    for _ in range(20):
        airflow.add("failed")
    other = airflow.add("failed")
    monkeypatch.setattr(AsyncOperationsClient, "poll", poll)
    assert airflow.sweep().counts == counts(found=21, cancelled=21)
    assert min(at, key=lambda name: at[name]) == other.reference["name"]  # type: ignore[index]


def test_a_dry_run_changes_nothing(airflow: PlayedAirflow) -> None:
    """It tells what would be done."""
    airflow.add("failed")
    airflow.add("failed", airflow.emulator.create("datafusion", duration=0))
    result = airflow.sweep(dry_run=True)
    assert result.counts == counts(found=2, would_cancel=1, finished=1)
    assert (len(airflow.kept), airflow.cancels) == (2, 0)


def test_two_sweeps_side_by_side_are_harmless(airflow: PlayedAirflow) -> None:
    """The second one, in the middle of the first, does the same and harms nothing."""
    airflow.add("failed")
    others: list[SweepResult] = []

    def meanwhile() -> None:
        airflow.before_second_read = lambda: None
        others.append(airflow.sweep())

    airflow.before_second_read = meanwhile
    assert airflow.sweep().counts == counts(found=1, finished=1)
    assert others[0].counts == counts(found=1, cancelled=1)
    assert (airflow.kept, airflow.cancels) == ({}, 1)


@pytest.mark.parametrize(
    "odd", [{"run_id": "r/" * 5}, {"run_id": "manual run of Ümit"}, {"task_id": "t" * 250}, {"dag_id": "d" * 150}]
)
def test_ids_that_do_not_fit_into_a_key_are_read_from_the_value(airflow: PlayedAirflow, odd: dict[str, Any]) -> None:
    """Alive stays alive, and dead is cancelled."""
    airflow.add("running", **odd)
    airflow.add("failed", **{"dag_id": "other", **odd})
    assert all(len(key) <= 250 for key in airflow.kept)
    assert airflow.sweep().counts == counts(found=2, alive=1, cancelled=1)


ODD_KEYS = ["", "x", "a/b/c", "a/b/c/x/1/id/op", "a/b/c/-1/x/id/op", "a/b/c/-1/1/id/op/more"]


@pytest.mark.parametrize("text", [*ODD_KEYS, *(f"{PREFIX}{key.replace('/', '--')}" for key in ODD_KEYS)])
def test_what_is_no_key_is_left_alone(airflow: PlayedAirflow, text: str) -> None:
    """Somebody's own Variable below our prefix."""
    airflow.kept[text] = None
    assert airflow.sweep().counts["unsure"] == 1
    assert text in airflow.kept


def test_the_report_is_plain_json_and_leaves_the_living_out(airflow: PlayedAirflow) -> None:
    """It goes to XCom."""
    airflow.add("running")
    airflow.add("failed")
    report = json.loads(json.dumps(airflow.sweep().to_dict()))
    [row] = report["operations"]
    assert (row["task"], row["what"]) == ("d.t of r2, try 1", "cancelled")


def test_a_task_that_an_answer_leaves_out_is_not_taken_for_gone(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not readable for whoever sweeps, or lost between two pages: its operation lives, and is counted as unsure."""
    airflow.add("running")
    monkeypatch.setattr(airflow, "states", lambda *_: {})
    assert airflow.sweep().counts["unsure"] == 1
    assert airflow.cancels == 0


def test_a_task_that_cannot_be_asked_about_is_not_taken_for_gone(
    airflow: PlayedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second question fails (403): nothing is cancelled, and the others are judged."""

    def refuse(*_: Any) -> bool:
        raise RuntimeError("403")

    airflow.add("gone")
    airflow.add("running", dag_id="other")
    monkeypatch.setattr(airflow, "is_gone", refuse)
    assert airflow.sweep().counts == counts(found=2, unsure=1, alive=1)
    assert airflow.cancels == 0


# -- what tasks enter ------------------------------------------------------------------------------------


@pytest.fixture
def variables(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Variables:
    """The ledger is on, and Airflow's Variables are played."""
    given = Variables()
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    monkeypatch.setattr(ledger, "_variables", lambda: given)
    return given


def execute(task: Any, this: PlayedTry) -> Any:
    """As the task runner does it."""
    may_execute(task)
    return task.execute(this.context)


def starter(**arguments: Any) -> RunOperationOperator:
    """An operator that starts."""
    given = {"method": "projects/p/locations/l/connections", "service": "developerconnect", "poll_interval": 0.02}
    return RunOperationOperator(task_id="t", **{**given, **arguments})


def entries(variables: Variables) -> list[LedgerEntry]:
    """What is in the ledger."""
    found = [LedgerEntry.from_json(text) for text in variables.values()]
    assert all(found)
    return found  # type: ignore[return-value]


def test_a_start_is_recorded_before_it_is_sent_and_removed_at_the_end(
    lro_emulator: Emulator, variables: Variables
) -> None:
    """Two writes, each with its removal; nothing is left."""
    lro_emulator.script(duration=0.1)
    execute(starter(), PlayedTry(lro_emulator, Store()))
    assert variables.asked == ["set", "set", "delete", "delete"]
    assert dict(variables) == {}


def test_the_entry_has_all_that_a_sweep_needs_and_no_secret(lro_emulator: Emulator, variables: Variables) -> None:
    """Whose it is, how to reach it, and the policy."""
    lro_emulator.script(duration=None)
    this = PlayedTry(lro_emulator, Store(), max_tries=1)
    with pytest.raises(TaskDeferred):
        execute(starter(deferrable=True, body={"secret": SECRET}), this)
    [entry] = entries(variables)
    assert (entry.try_id, entry.task, entry.will_adopt) == (try_id(this.ti), "d.t of r, try 1", True)
    assert (
        entry.reference == read_reference(lro_emulator.operations()[0].operation["name"], "developerconnect").to_dict()
    )
    assert entry.gcp_conn_id == "google_cloud_default"
    assert SECRET not in json.dumps(dict(variables))


def die_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies in the moment in which it would send a start."""
    from airflow_lro_provider.lro.client import OperationsClient

    def die(*_: Any, **__: Any) -> Any:
        raise SystemExit

    monkeypatch.setattr(OperationsClient, "start", die)


def test_a_death_during_the_start_is_seen(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is there before the request is sent, with its request id."""
    die_at_the_start(monkeypatch)
    with pytest.raises(SystemExit):
        execute(starter(), PlayedTry(lro_emulator, Store()))
    [entry] = entries(variables)
    assert entry.reference is None
    assert entry.start == "POST //developerconnect.googleapis.com/projects/p/locations/l/connections"
    assert entry.request_id


def test_a_start_that_says_what_it_creates_leaves_a_footprint(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By it the sweep finds the operation, if the process dies before the response."""
    die_at_the_start(monkeypatch)
    with pytest.raises(SystemExit):
        execute(starter(method="projects/p/locations/l/connections?connectionId=x"), PlayedTry(lro_emulator, Store()))
    [entry] = entries(variables)
    assert entry.footprint is not None
    assert entry.footprint["target"] == "projects/p/locations/l/connections/x"


@pytest.mark.parametrize("waits", [True, False])
def test_a_start_that_is_sent_again_has_one_entry(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """The next try's; with wait_for_completion=False none: the sweep must not find what is nobody's."""
    from airflow_lro_provider.lro.client import OperationsClient

    lro_emulator.script(duration=None)
    real, store = OperationsClient.start, Store()

    def die(*arguments: Any, **others: Any) -> Any:
        real(*arguments, **others)
        raise SystemExit

    how = {"method": "projects/p/locations/l/connections?connectionId=x", "deferrable": True}
    with monkeypatch.context() as patch:
        patch.setattr(OperationsClient, "start", die)
        with pytest.raises(SystemExit):
            execute(starter(**how), PlayedTry(lro_emulator, store, max_tries=1))
    second = PlayedTry(lro_emulator, store, 2, 1)
    if waits:
        with pytest.raises(TaskDeferred):
            execute(starter(**how), second)
    else:
        execute(starter(**how, wait_for_completion=False), second)
    assert len(lro_emulator.operations()) == 1
    assert [entry.try_id for entry in entries(variables)] == ([try_id(second.ti)] if waits else [])


def test_a_start_that_was_refused_leaves_no_entry(lro_emulator: Emulator, variables: Variables) -> None:
    """Nothing was started."""
    lro_emulator.fail(403, verb="start")
    with pytest.raises(PermissionDeniedError):
        execute(starter(), PlayedTry(lro_emulator, Store()))
    assert dict(variables) == {}


def test_an_adoption_is_recorded_before_the_old_entry_is_removed(lro_emulator: Emulator, variables: Variables) -> None:
    """There is no moment without one."""
    lro_emulator.script(duration=None)
    store = Store()
    with pytest.raises(TaskDeferred):
        execute(starter(deferrable=True), PlayedTry(lro_emulator, store, max_tries=1))
    variables.asked.clear()
    second = PlayedTry(lro_emulator, store, 2, 1)
    with pytest.raises(TaskDeferred):
        execute(starter(deferrable=True), second)
    # The first release had another key for it; and of a start that was killed in its middle the entry is another.
    assert variables.asked == ["set", "delete", "delete", "delete", "delete"]
    assert [entry.try_id for entry in entries(variables)] == [try_id(second.ti)]


@pytest.mark.parametrize("max_tries", [1, 2], ids=["a retry", "a clear"])
def test_a_start_that_a_later_try_has_found_out_is_removed(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch, max_tries: int
) -> None:
    """Sent again with its request id, and taken over or ended: nobody has to search for it for a month."""
    from airflow_lro_provider.lro.client import OperationsClient

    def die(*_: Any, **__: Any) -> Any:
        raise SystemExit

    store = Store()
    with monkeypatch.context() as patch:
        patch.setattr(OperationsClient, "start", die)
        with pytest.raises(SystemExit):
            execute(starter(), PlayedTry(lro_emulator, store, max_tries=1))
    assert len(entries(variables)) == 1
    lro_emulator.script(duration=None)
    second = PlayedTry(lro_emulator, store, 2, max_tries)
    with pytest.raises(TaskDeferred):
        execute(starter(deferrable=True), second)
    assert [entry.try_id for entry in entries(variables)] == [try_id(second.ti)]


def test_of_a_start_that_is_sent_again_and_again_one_entry_is_left(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the time of the first, also where a task cannot list what its earlier tries have left (Airflow 3.1, 3.2)."""
    from airflow_lro_provider.lro.client import OperationsClient

    def die(*_: Any, **__: Any) -> Any:
        raise SystemExit

    def refuse(prefix: str = "") -> Any:
        raise NotImplementedError

    store, began = Store(), time.time()
    monkeypatch.setattr(variables, "keys", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(OperationsClient, "start", die)
        for number in (1, 2):
            with pytest.raises(SystemExit):
                execute(starter(), PlayedTry(lro_emulator, store, number, max_tries=2))
    [entry] = entries(variables)
    assert entry.try_number == 2
    assert began <= (entry.sent_since or 0.0) < entry.armed_since
    lro_emulator.script(duration=None)
    execute(starter(wait_for_completion=False), PlayedTry(lro_emulator, store, 3, max_tries=2))
    assert dict(variables) == {}


@pytest.mark.parametrize("how", ["the answer is lost", "the task waits for nothing"])
def test_an_entry_whose_writing_seemed_to_fail_is_removed_all_the_same(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Airflow took it, and its answer was lost: a task that does not wait would have its operation swept."""
    real = variables.set

    def set_and_fail(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        if how == "the answer is lost":
            raise RuntimeError("504")

    monkeypatch.setattr(variables, "set", set_and_fail)
    lro_emulator.script(duration=None)
    execute(starter(wait_for_completion=False), PlayedTry(lro_emulator, Store()))
    assert dict(variables) == {}


def test_a_failure_whose_operation_is_left_alone_leaves_no_entry(lro_emulator: Emulator, variables: Variables) -> None:
    """cancel_on_failure=False: the sweep must not do what the author did not want."""
    lro_emulator.script(duration=None)
    lro_emulator.fail(403, verb="get", times=None)
    with pytest.raises(PermissionDeniedError):
        execute(starter(cancel_on_failure=False), PlayedTry(lro_emulator, Store()))
    assert dict(variables) == {}


def test_a_cancel_is_left_for_the_sweep_to_confirm(lro_emulator: Emulator, variables: Variables) -> None:
    """After a timeout the entry stays, until somebody has seen that the operation has finished."""
    lro_emulator.script(duration=None)
    with pytest.raises(Exception, match="still running"):
        execute(starter(timeout=0.05), PlayedTry(lro_emulator, Store()))
    assert len(entries(variables)) == 1


def test_an_observer_enters_nothing(lro_emulator: Emulator, variables: Variables) -> None:
    """What is not its own is not in the ledger."""
    name = lro_emulator.create("datafusion", duration=0.1)
    arguments = {"task_id": "t", "operation_name": name, "service": "datafusion", "poke_interval": 0.02}
    execute(OperationSensor(**arguments, cancel_on_kill=False), PlayedTry(lro_emulator, Store()))
    assert variables.asked == []


def test_reschedule_mode_is_possible_with_the_ledger(lro_emulator: Emulator, variables: Variables) -> None:
    """The sweep closes what has no process."""
    name = lro_emulator.create("datafusion", duration=None)
    this = PlayedTry(lro_emulator, Store())
    for _ in range(2):  # a process each
        made = OperationSensor(task_id="t", operation_name=name, service="datafusion", mode="reschedule")
        with pytest.raises(AirflowRescheduleException):
            execute(made, this)
    assert lro_emulator.requests(verb="cancel") == []
    assert [entry.try_id for entry in entries(variables)] == [try_id(this.ti)]
    lro_emulator.finish("datafusion", name)
    made = OperationSensor(task_id="t", operation_name=name, service="datafusion", mode="reschedule")
    assert execute(made, this)["outcome"] == "SUCCEEDED"
    assert dict(variables) == {}


def test_a_ledger_that_is_down_stops_nothing(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task goes on without, and says so."""

    def down(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the API server is down")

    monkeypatch.setattr(variables, "set", down)
    monkeypatch.setattr(variables, "delete", down)
    lro_emulator.script(duration=0.1)
    assert execute(starter(), PlayedTry(lro_emulator, Store())) is not None


def test_one_write_of_the_ledger_that_is_lost_is_repeated(
    lro_emulator: Emulator, variables: Variables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by simulated time: a rescheduled sensor, marked as failed in that poll, left its operation to nobody."""
    write = Variables.set
    lost = [True]

    def lose_one(self: Variables, key: str, value: str, description: str | None = None) -> None:
        if lost:
            lost.clear()
            raise RuntimeError("no response")
        write(self, key, value, description)

    monkeypatch.setattr(Variables, "set", lose_one)
    name = lro_emulator.create("datafusion", duration=None)
    made = OperationSensor(task_id="t", operation_name=name, service="datafusion", mode="reschedule")
    with pytest.raises(AirflowRescheduleException):
        execute(made, PlayedTry(lro_emulator, Store()))
    assert (lost, len(variables)) == ([], 1)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "3", "junk", '{"try_id": 1}', '{"map_index": "x"}', "[" * 9999])
def test_what_is_no_entry_is_none(text: Any) -> None:
    """Whatever somebody writes into such a Variable is no entry, and no error."""
    assert LedgerEntry.from_json(text) is None


def test_entries_survive_being_stored(airflow: PlayedAirflow) -> None:
    """As JSON in a Variable."""
    entry = airflow.add("running", impersonation_chain=["a@b"], request_id="r", will_adopt=True)
    assert LedgerEntry.from_json(entry.to_json()) == entry


def test_a_connection_that_leads_elsewhere_by_now_ends_nothing(airflow: PlayedAirflow) -> None:
    """Its operation is at the server that it was started at: another one has none, or another's of the same name."""
    entry = airflow.add("failed", endpoint=f"{airflow.emulator.url}/datafusion")
    right = airflow.settings
    with Emulator() as other:
        name = entry.reference["name"]  # type: ignore[index]
        airflow.settings = lambda *_: ConnectionSettings.from_extra(other.connection_extra())  # type: ignore[method-assign]
        result = airflow.sweep()
        assert result.counts == counts(found=1, unsure=1)
        assert "its connection led to" in result.rows[0].why
        assert other.requests() == []
    airflow.settings = right  # type: ignore[method-assign]
    assert airflow.sweep().counts == counts(found=1, cancelled=1)
    assert airflow.emulator.operation("datafusion", name).cancel_requests == 1


def test_a_task_records_where_its_operation_is(lro_emulator: Emulator, variables: Variables) -> None:
    """While it is being started, and afterwards."""
    lro_emulator.script(duration=None)
    place = f"{lro_emulator.url}/developerconnect"
    with pytest.raises(TaskDeferred):
        execute(starter(deferrable=True), PlayedTry(lro_emulator, Store()))
    assert [entry.endpoint for entry in entries(variables)] == [place]
    with pytest.MonkeyPatch.context() as patch:
        die_at_the_start(patch)
        method = "projects/p/locations/l/connections?connectionId=x"
        with pytest.raises(SystemExit):
            execute(starter(method=method), PlayedTry(lro_emulator, Store()))
    assert [entry.endpoint for entry in entries(variables)] == [place, place]
