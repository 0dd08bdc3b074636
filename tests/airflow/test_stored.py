"""What one version of Airflow, or an older release of ours, has stored is read by all others.

The files in ``stored`` are what Airflow keeps while tasks wait: triggers, what their tasks are resumed with, events,
records and entries of the ledger, as release 0.1.0 wrote them on each version of Airflow. They are not changed: a
release that writes something else adds its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_lro_provider.airflow_compat import AIRFLOW
from airflow_lro_provider.airflow_compat.record_store import VariableStore
from airflow_lro_provider.attempt.record import KEY
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.operators.operations import CancelOperationOperator, RunOperationOperator
from airflow_lro_provider.ownership import evidence
from airflow_lro_provider.ownership.evidence import TaskKey
from airflow_lro_provider.sensors.operations import OperationSensor
from airflow_lro_provider.sweep import ledger
from airflow_lro_provider.sweep.ledger import LedgerEntry, LedgerKey, is_key
from airflow_lro_provider.triggers.events import Finished, read_event
from airflow_lro_provider.triggers.operations import OperationTrigger
from tests.airflow.played import PlayedTry, Store, Variables
from tests.airflow.versions import may_execute

RELEASE = "0.1.0"
FOLDER = Path(__file__).with_name("stored")
FILES = sorted(FOLDER.glob("*.json"))
HERE = FOLDER / f"{RELEASE}-on-{AIRFLOW[0]}.{AIRFLOW[1]}.json"
NAME = "projects/p/locations/us-central1/operations/o"
LOCATION = "projects/p/locations/us-central1"
URL = "http://local.server"
"""Stands for the local server's, which has another port each time."""
# It lasts: the files are read for years.
WAITING: dict[str, Any] = {"deferrable": True, "timeout": 100 * 365 * 86400}
SHAPES: dict[str, Callable[[], Any]] = {
    "sensor": lambda: OperationSensor(
        task_id="t", operation_name=NAME, service="datafusion", poke_interval=1, cancel_on_kill=True, **WAITING
    ),
    "starter": lambda: RunOperationOperator(
        task_id="t", service="datafusion", method=f"{LOCATION}/instances?instanceId=i", poll_interval=1, **WAITING
    ),
    "cancel": lambda: CancelOperationOperator(
        task_id="t", operation_name=NAME, service="datafusion", poll_interval=1, fail_on=set(), **WAITING
    ),
}


def made(shape: str) -> Any:
    """An operator that may be executed."""
    operator = SHAPES[shape]()
    may_execute(operator)
    return operator


async def event_of(trigger: OperationTrigger) -> Any:
    """What a trigger says at the end."""
    trigger.trigger_id = 7
    events = [event async for event in trigger.run()]
    await trigger.cleanup()
    return events[0].payload


def in_a_variable(a_try: PlayedTry) -> dict[str, str]:
    """What Airflow 2.11, 3.1 and 3.2 keep of the record of a try."""
    kept = KeptVariable()
    if record := a_try.store.get(KEY):
        VariableStore(a_try.ti, kept).set(KEY, record)
    return kept.kept


def stored_now(emulator: Emulator, variables: Variables) -> dict[str, Any]:
    """What this release stores on this Airflow."""
    found: dict[str, Any] = {}
    for shape in SHAPES:
        variables.clear()
        emulator.reset()
        emulator.script(duration=None)
        if shape != "starter":
            emulator.create("datafusion", NAME, duration=None, cancel="ignore")
        a_try = PlayedTry(emulator, Store(), max_tries=1)
        a_try.ti.id = uuid.UUID(int=1)
        with pytest.raises(TaskDeferred) as deferral:
            made(shape).execute(a_try.context)
        path, arguments = deferral.value.trigger.serialize()
        [view] = emulator.operations()
        emulator.finish(view.service, view.name)
        found[shape] = {
            "trigger": [path, arguments],
            "resumed_with": [deferral.value.method_name, deferral.value.kwargs],
            "event": asyncio.run(event_of(OperationTrigger(**arguments))),
            "record": a_try.store.get(KEY),
            "variable": in_a_variable(a_try),
            "ledger": {key: value for key, value in variables.items() if is_key(key)},
        }
    return dict(json.loads(json.dumps(found).replace(emulator.url, URL)))


class KeptVariable:
    """One Variable, in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def read(self, key: str) -> str | None:
        """What was written."""
        return self.kept.get(key)

    def write(self, key: str, value: str | None) -> None:
        """Write."""
        self.kept[key] = str(value)


@pytest.fixture(autouse=True)
def variables(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Variables:
    """The connection leads to the local server, and the ledger is on."""
    variables = Variables()
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())
    monkeypatch.setenv("AIRFLOW__LRO__LEDGER", "True")
    monkeypatch.setattr(ledger, "_variables", lambda: variables)
    return variables


def of_files(*shapes: str) -> Any:
    """Each of these shapes in each file of this Airflow, or of an older one."""
    cases = [
        pytest.param(file, shape, id=f"{file.stem}-{shape}")
        for file in FILES
        if tuple(map(int, file.stem.rpartition("-")[2].split("."))) <= AIRFLOW[:2]
        for shape in shapes
    ]
    return pytest.mark.parametrize(("file", "shape"), cases)


def stored_in(file: Path, shape: str, emulator: Emulator, duration: float | None = 0.2) -> dict[str, Any]:
    """What was stored, and an operation for it."""
    stored: dict[str, Any] = json.loads(file.read_text("utf-8").replace(URL, emulator.url))[shape]
    reference = stored["trigger"][1]["reference"]
    emulator.create(reference["service"], reference["name"], duration=duration, response={"of": shape})
    return stored


@of_files(*SHAPES)
def test_a_stored_trigger_waits_on(file: Path, shape: str, lro_emulator: Emulator) -> None:
    """It finds its class and its operation, and tells its end; nothing is cancelled."""
    path, arguments = stored_in(file, shape, lro_emulator)["trigger"]
    module, _, name = path.rpartition(".")
    trigger = getattr(import_module(module), name)(**arguments)
    event = read_event(asyncio.run(event_of(trigger)))
    assert isinstance(event, Finished)
    assert lro_emulator.requests(verb="cancel") == []


@of_files("sensor", "starter")
def test_a_stored_trigger_cancels_when_it_is_killed(
    file: Path, shape: str, lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task was marked failed: one request."""
    monkeypatch.setattr(evidence, "_read_states", lambda query: dict.fromkeys(query.keys, "failed"))
    stored = stored_in(file, shape, lro_emulator, duration=None)

    async def killed() -> None:
        trigger = OperationTrigger(**stored["trigger"][1])
        trigger.trigger_id = 7
        await trigger.on_kill()

    asyncio.run(killed())
    assert len(lro_emulator.requests(verb="cancel")) == 1


@of_files(*SHAPES)
@pytest.mark.parametrize("is_new", [False, True], ids=["its event", "an event of now"])
def test_a_task_is_resumed_with_what_was_stored(file: Path, shape: str, is_new: bool, lro_emulator: Emulator) -> None:
    """It returns the end of its operation; nothing is started, nothing is cancelled."""
    stored = stored_in(file, shape, lro_emulator)
    method, kwargs = stored["resumed_with"]
    event = asyncio.run(event_of(OperationTrigger(**stored["trigger"][1]))) if is_new else stored["event"]
    a_try = PlayedTry(lro_emulator, Store({KEY: stored["record"]} if stored["record"] else {}), max_tries=1)
    with contextlib.suppress(ValueError):  # of Airflow 2 it is no UUID
        a_try.ti.id = uuid.UUID(stored["trigger"][1]["owner"]["token"].partition("/")[0])
    result = made(shape).resume_execution(method, {**kwargs, "event": event}, a_try.context)
    assert result["outcome"] == "SUCCEEDED" if shape == "sensor" else result
    assert lro_emulator.requests(verb="cancel") == lro_emulator.requests(verb="start") == []


@of_files("starter")
def test_a_stored_record_is_adopted(file: Path, shape: str, lro_emulator: Emulator) -> None:
    """The next try goes on with the operation, wherever the record was kept."""
    stored = stored_in(file, shape, lro_emulator)
    a_try = PlayedTry(lro_emulator, Store({KEY: stored["record"]}), number=2, max_tries=1)
    kept = KeptVariable()
    kept.kept = stored["variable"]
    assert VariableStore(a_try.ti, kept).get(KEY) == stored["record"]
    operator = made(shape)
    operator.deferrable = False
    assert operator.execute(a_try.context) == {"of": shape}
    assert lro_emulator.requests(verb="start") == []


@of_files("sensor", "starter")
def test_a_stored_entry_of_the_ledger_is_read(file: Path, shape: str, lro_emulator: Emulator) -> None:
    """Its key says whose it is, its value which operation's."""
    stored = stored_in(file, shape, lro_emulator)
    [(key, value)] = stored["ledger"].items()
    read = LedgerKey.from_text(key)
    assert read is not None
    assert read.owner == TaskKey("d", "r", "t")
    entry = LedgerEntry.from_json(value)
    assert entry is not None
    assert entry.reference == stored["trigger"][1]["reference"]


def test_what_is_stored_now_has_the_form_of_this_release(lro_emulator: Emulator, variables: Variables) -> None:
    """What differs is a new form, which workers and triggerers of the old release have to read: it wants a new file."""
    now = stored_now(lro_emulator, variables)
    if not HERE.exists():
        HERE.write_text(json.dumps(now, indent=2, sort_keys=True) + "\n", "utf-8")
        pytest.fail(f"{HERE.name} is new: see whether the releases before this one can read it")
    assert form(now) == form(json.loads(HERE.read_text("utf-8")))


def form(stored: Any) -> Any:
    """The keys and types of what is stored, without its ids and times."""
    if isinstance(stored, dict):
        return {re.sub("(?<=airflow_lro_provider_).*", "", key): form(value) for key, value in stored.items()}
    if isinstance(stored, list):
        return [form(value) for value in stored]
    return type(stored).__name__
