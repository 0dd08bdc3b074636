"""C9: creating what exists already, and deleting what is not there, against a server that says so."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partialmethod
from typing import Any

import pytest

from airflow_lro_provider.attempt.record import KEY
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.emulator.connection import connection_json
from airflow_lro_provider.exceptions import OperationFailedError, OperationInputError
from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.errors import AlreadyExistsError, ApiError, PermissionDeniedError
from airflow_lro_provider.lro.polling import NOT_FOUND_TIMES
from airflow_lro_provider.lro.resources.methods import new_resource
from airflow_lro_provider.operators.operations import RunOperationOperator
from airflow_lro_provider.ownership.decisions import ArmedRecord
from tests.airflow.played import TIME_TO_CORRECT_SECONDS, Killable, PlayedTry, Store, once
from tests.airflow.versions import Killed, may_execute
from tests.hostile.hostile_server import HostileServer, plain

PLACE = "projects/p/locations/us-central1/instances"
INSTANCE = {"name": f"{PLACE}/i", "state": "ACTIVE", "apiEndpoint": "https://x.example"}
FOUND = plain(json.dumps(INSTANCE).encode())
LINE = f"GET /datafusion/v1/{PLACE}/i HTTP/1.1"


def refused(status: str, http: int = 409) -> Any:
    """A refusal as Google writes it."""
    error = {"code": http, "status": status, "message": f"Resource '{PLACE}/i' already exists"}
    return plain(json.dumps({"error": error}).encode(), f"{http} Refused")


EXISTS = refused("ALREADY_EXISTS")
OLD = {"code": 409, "message": "it is there", "errors": [{"domain": "global", "reason": "alreadyExists"}]}
OLD_EXISTS = plain(json.dumps({"error": OLD}).encode(), "409 Conflict")


def run(server: HostileServer, monkeypatch: pytest.MonkeyPatch, emulator: Emulator, **arguments: Any) -> Any:
    """Run a task against a server; the try is returned with it, for its record."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(server.url))
    store = arguments.pop("store", Store())
    given = {"method": f"{PLACE}?instanceId=i", "service": "datafusion", "if_exists": "return", **arguments}
    task = RunOperationOperator(task_id="t", **given)
    may_execute(task)
    return task.execute(PlayedTry(emulator, store).context)


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({}, INSTANCE),
        ({"deferrable": True}, INSTANCE),
        ({"method": PLACE, "body": {"name": f"{PLACE}/i"}}, INSTANCE),
        ({"return_operation": True}, {"done": True, "response": INSTANCE}),
        ({"wait_for_completion": False}, INSTANCE),
    ],
    ids=["by its id", "deferrable", "by its name", "the whole operation", "without waiting"],
)
def test_what_exists_is_the_result(
    arguments: dict[str, Any], result: Any, lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C9: one start, one look at the resource, and no record is left."""
    store = Store()
    with HostileServer(EXISTS, FOUND) as server:
        assert run(server, monkeypatch, lro_emulator, store=store, **arguments) == result
        assert [request.line.split()[0] for request in server.heard] == ["POST", "GET"]
        assert server.heard[1].line == LINE
    assert store == {}


@pytest.mark.parametrize(
    ("service", "method", "path"),
    [
        ("alloydb", "locations/l/clusters:createsecondary?clusterId=i", "locations/l/clusters/i"),
        ("networkmanagement", "locations/global/connectivityTests?testId=i", "locations/global/connectivityTests/i"),
    ],
)
def test_what_exists_is_found_by_whatever_its_id_is_called(
    service: str, method: str, path: str, lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L4b: also by a method of the collection that creates it in its own way."""
    with HostileServer(EXISTS, FOUND) as server:
        given = {"service": service, "method": f"projects/p/{method}"}
        assert run(server, monkeypatch, lro_emulator, **given) == INSTANCE
        assert server.heard[1].line == f"GET /{service}/v1/projects/p/{path} HTTP/1.1"


def test_a_name_in_another_project_is_refused_when_the_dag_is_parsed() -> None:
    """L4a: it is not in the collection that the method is called on, and not what exists there."""
    name = f"{PLACE}/i".replace("projects/p", "projects/other")
    with pytest.raises(ValueError, match="needs the name of the resource"):
        RunOperationOperator(task_id="t", service="datafusion", method=PLACE, body={"name": name}, if_exists="return")


def test_an_error_in_the_older_form_says_that_it_exists(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C9: a 409 without a status, of which `errors` has the reason, is no ABORTED."""
    with HostileServer(OLD_EXISTS, FOUND) as server:
        assert run(server, monkeypatch, lro_emulator) == INSTANCE


def test_what_may_not_be_read_is_a_resource(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """C9, C11: a permission to get it is missing, and none of operations; and a plain 409 says what to do."""
    denied = refused("PERMISSION_DENIED", 403)
    with HostileServer(denied, EXISTS) as server:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(server.url))
        hook = OperationsHook(service="datafusion")
        with pytest.raises(
            PermissionDeniedError, match=f"^datafusion: read {PLACE}/i: .* to get this resource"
        ) as read:
            hook.get_conn().read_resource(new_resource(hook.method(f"{PLACE}?instanceId=i"), None))
        assert "operation" not in str(read.value)
        with pytest.raises(AlreadyExistsError, match=r'exists already\. With `if_exists="return"` a task returns it'):
            hook.start(f"{PLACE}?instanceId=i", {})


def test_a_check_judges_what_exists(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """C9: whatever its state is, and the task retries."""
    with HostileServer(EXISTS, FOUND) as server, pytest.raises(OperationFailedError, match="ACTIVE"):
        run(server, monkeypatch, lro_emulator, result_check=lambda operation: operation["response"]["state"])
    failed = plain(json.dumps({"name": f"{PLACE}/i", "state": "FAILED"}).encode())
    with HostileServer(EXISTS, failed) as server:
        assert run(server, monkeypatch, lro_emulator, result_check=lambda operation: None)["state"] == "FAILED"


@pytest.mark.parametrize("state", [{"state": "CREATING"}, {"state": "FAILED"}, {"status": {"state": "DELETING"}}])
def test_what_is_not_ready_is_no_result(
    state: dict[str, Any], lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C9: it may be what an earlier try of this task has left half made; a retry starts again."""
    store = Store()
    found = plain(json.dumps({"name": f"{PLACE}/i", **state}).encode())
    words = r"instances/i exists already, but is [A-Z]+, and so not taken"
    with HostileServer(EXISTS, found) as server, pytest.raises(OperationFailedError, match=words):
        run(server, monkeypatch, lro_emulator, store=store)
    assert store == {}


@pytest.mark.parametrize(
    ("plays", "arguments"),
    [
        ([EXISTS], {"if_exists": "fail"}),
        ([refused("ABORTED")], {}),
        ([EXISTS, refused("PERMISSION_DENIED", 403)], {}),
        ([EXISTS, refused("NOT_FOUND", 404)], {}),
    ],
    ids=["not wanted", "another conflict", "not readable", "gone by now"],
)
def test_it_fails_otherwise(
    plays: list[Any], arguments: dict[str, Any], lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C9: with the error of the start; a retry may start anew."""
    store = Store()
    with HostileServer(*plays) as server:
        with pytest.raises(ApiError, match="HTTP 409") as caught:
            run(server, monkeypatch, lro_emulator, store=store, **arguments)
        assert len(server.heard) == len(plays)
    assert caught.value.verb == "start"
    assert store == {}


def test_what_a_lost_start_may_have_made_is_no_result(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """C9, A13: after a start whose response was lost, what exists may be its own, and still be being made."""
    store = Store()
    record = {"reference": None, "request_id": "r", "try_number": 1, "try_id": "x", "max_tries": 1, "sent_since": 1.0}
    store[KEY] = record
    with HostileServer(EXISTS, FOUND) as server:
        with pytest.raises(ApiError, match="HTTP 409"):
            run(server, monkeypatch, lro_emulator, store=store)
        assert [request.line.split()[0] for request in server.heard] == ["POST"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": PLACE},
        {"method": f"{PLACE}/i?instanceId=i", "http_method": "PATCH"},
        {"method": f"{PLACE}/i:restart"},
        {"method": f"{PLACE}/i:restart", "body": {"name": "x"}},
        {"method": PLACE, "body": {"name": "projects/p/locations/us-east1/instances/i"}},
        {"method": PLACE, "body": {"name": ""}},
        {"if_exists": "skip"},
        {"if_exists": True},
    ],
    ids=str,
)
def test_what_names_no_resource_is_refused(arguments: dict[str, Any]) -> None:
    """C9: when the Dag is parsed, where the arguments are literal."""
    given = {"method": f"{PLACE}?instanceId=i", "service": "datafusion", "if_exists": "return", **arguments}
    with pytest.raises(ValueError, match="if_exists"):
        RunOperationOperator(task_id="t", **given)


def test_a_template_that_names_no_resource_is_refused(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """C9: first thing in `execute`; nothing is sent."""
    with HostileServer(FOUND) as server:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(server.url))
        task = RunOperationOperator(task_id="t", method="{{ m }}", service="datafusion", if_exists="return")
        task.method = PLACE
        may_execute(task)
        with pytest.raises(OperationInputError, match="instanceId=x"):
            task.execute(PlayedTry(lro_emulator, Store()).context)
        assert server.heard == []


GONE = refused("NOT_FOUND", 404)
ENDED = plain(json.dumps({"name": "projects/p/locations/us-central1/operations/o", "done": True}).encode())


def delete(server: HostileServer, monkeypatch: pytest.MonkeyPatch, emulator: Emulator, **arguments: Any) -> Any:
    """Run a task that deletes something which may not be there."""
    given = {"method": f"{PLACE}/i", "http_method": "DELETE", "if_exists": "fail", "if_missing": "return", **arguments}
    return run(server, monkeypatch, emulator, **given)


@pytest.mark.parametrize("arguments", [{}, {"deferrable": True}, {"wait_for_completion": False}], ids=str)
def test_what_is_missing_need_not_be_deleted(
    arguments: dict[str, Any], lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's provider 19.4 (apache/airflow#60083): a deletion that is run again succeeds; one 404 is no evidence."""
    store = Store()
    with HostileServer(*[GONE] * 20) as server:
        assert delete(server, monkeypatch, lro_emulator, store=store, **arguments) in (None, {"done": True})
        assert {request.line.split()[0] for request in server.heard} == {"DELETE"}
        assert len(server.heard) >= NOT_FOUND_TIMES
    assert store == {}


def test_what_is_found_after_all_is_deleted(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apache/airflow#60083: a 404 that another response refutes."""
    with HostileServer(GONE, ENDED) as server:
        assert delete(server, monkeypatch, lro_emulator, return_operation=True)["name"].endswith("/o")
        assert len(server.heard) == 2


def test_what_another_server_does_not_find_is_deleted_at_the_right_one(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apache/airflow#60083: a secrets backend gave another connection for a moment: its 404s are no evidence."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", TIME_TO_CORRECT_SECONDS)
    with HostileServer(*[GONE] * 20) as other, HostileServer(ENDED) as right:
        connection = connection_json(right.url)
        once(lambda: other.heard, lambda: monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection))
        assert delete(other, monkeypatch, lro_emulator, return_operation=True)["name"].endswith("/o")
        assert len(other.heard) >= NOT_FOUND_TIMES
        assert [request.line.split()[0] for request in right.heard] == ["DELETE"]


@pytest.mark.parametrize(
    ("response", "arguments", "sent"),
    [
        (GONE, {"if_missing": "fail"}, 1),
        (refused("PERMISSION_DENIED", 403), {}, 1),
        (plain(b"<html>", "404 Not Found"), {}, 1),  # no route: the path or the version is wrong
    ],
    ids=["fail", "403", "no route"],
)
def test_another_error_of_a_deletion_fails(
    response: Any, arguments: dict[str, Any], sent: int, lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apache/airflow#60083: only a 404 of the API itself, and only if that is asked for."""
    with HostileServer(response) as server:
        with pytest.raises(ApiError):
            delete(server, monkeypatch, lro_emulator, **arguments)
        assert len(server.heard) == sent


def test_a_kill_does_not_wait_until_a_404_is_believed(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, killable: Killable
) -> None:
    """Apache/airflow#60083: a task that is told to stop while it asks again has started nothing, and ends."""
    monkeypatch.setattr(polling, "NOT_FOUND_SECONDS", 3600.0)
    store = Store()
    task = RunOperationOperator(
        task_id="t", service="datafusion", method=f"{PLACE}/i", http_method="DELETE", if_missing="return"
    )
    may_execute(task)
    with HostileServer(GONE) as server:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(server.url))
        killable(task, lambda: server.heard)
        with pytest.raises((ApiError, Killed)):
            task.execute(PlayedTry(lro_emulator, store).context)
        assert len(server.heard) == 1
    assert store == {}


def test_a_deletion_that_a_lost_one_may_have_begun_is_none(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apache/airflow#60083: what is missing after a start without a response may be on its way: its record stays."""
    lost = ArmedRecord(None, 1, "x", 0, request_id="6f9619ff-8b86-4d01-b42d-00cf4fc964ff")
    store = Store({KEY: asdict(lost)})
    monkeypatch.setattr(PlayedTry, "__init__", partialmethod(PlayedTry.__init__, number=2))
    arguments = {"service": "developerconnect", "method": f"{PLACE[:-9]}connections/c"}
    with HostileServer(GONE) as server, pytest.raises(ApiError):
        delete(server, monkeypatch, lro_emulator, store=store, **arguments)
    assert store[KEY]["request_id"] == lost.request_id


def test_a_path_that_no_method_has_is_not_missing(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """M3: its 404 would say nothing: refused when the Dag is parsed, or before anything is sent."""
    wrong = f"{PLACE[:-1]}/i"
    with pytest.raises(ValueError, match="not known to delete anything like"):
        RunOperationOperator(task_id="t", service="datafusion", method=wrong, http_method="DELETE", if_missing="return")
    with pytest.warns(UserWarning, match="not known to respond to DELETE"):
        RunOperationOperator(task_id="t", service="datafusion", method=wrong, http_method="DELETE")
    with HostileServer(GONE) as server:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection_json(server.url))
        task = RunOperationOperator(
            task_id="t", service="datafusion", method="{{ wrong }}", http_method="DELETE", if_missing="return"
        )
        task.method = wrong  # as rendered
        may_execute(task)
        with pytest.raises(OperationInputError, match="not known to delete anything like"):
            task.execute(PlayedTry(lro_emulator, Store()).context)
        assert server.heard == []


@pytest.mark.parametrize("arguments", [{"if_missing": "ignore", "http_method": "DELETE"}, {"if_missing": "return"}])
def test_what_cannot_be_missing_is_refused(arguments: dict[str, Any]) -> None:
    """Apache/airflow#60083: when the Dag is parsed."""
    with pytest.raises(ValueError, match="`if_missing"):
        RunOperationOperator(task_id="t", service="datafusion", method=f"{PLACE}/i", **arguments)
