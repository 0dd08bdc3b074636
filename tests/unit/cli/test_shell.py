"""Operations from a shell, against the local server."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_lro_provider import cli
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.lro.resources.catalog import known_services
from tests.airflow.played import once
from tests.commands import airflow_lro
from tests.e2e.bed.waiting import wait_until
from tests.late_success import succeed_after_cancel

L = "projects/p/locations/us-central1"


@pytest.fixture
def shell(lro_emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command against the local server; gives exit status, output and messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main([*arguments, "--emulator", lro_emulator.url])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_all_services_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each, with title and verbs."""
    assert cli.main(["services"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(known_services()) > 140
    assert any(line.split() == ["cloudtasks", "Cloud", "Tasks", "get"] for line in lines)


def test_one_service_is_told_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """Hosts, locations, versions, scopes, and for each version its verbs with the patterns that they serve."""
    assert cli.main(["services", "aiplatform"]) == 0
    text = capsys.readouterr().out
    for words in ("Vertex AI", "aiplatform.googleapis.com", "us-central1", "v1, v1beta1", "cloud-platform", "wait"):
        assert words in text
    assert cli.main(["services", "storagetransfer.googleapis.com"]) == 0
    assert "list needs a filter" in capsys.readouterr().out


def test_an_unknown_service_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """A near miss is named."""
    assert cli.main(["services", "vertex"]) == 1
    assert "Did you mean 'aiplatform'?" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["127.0.0.1:8900", "http://127.0.0.1:8900/emulator", "ftp://127.0.0.1", ""])
def test_an_address_that_is_no_servers_is_refused_by_its_flag(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """The flag is named, and what it takes; the page of the local server has another address than its API."""
    with pytest.raises(SystemExit):
        cli.main(["get", "projects/p/locations/l/operations/o", "--service", "datafusion", "--emulator", url])
    assert "argument --emulator: " in (said := capsys.readouterr().err)
    assert "such as http://127.0.0.1:8900" in said


def test_get(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """One line, or the whole operation."""
    name = lro_emulator.create("datafusion", duration=None)
    assert shell("get", name, "--service", "datafusion") == (0, "RUNNING\n", "")
    status, out, _ = shell("get", f"//datafusion.googleapis.com/{name}", "--json")
    assert (status, json.loads(out)["name"]) == (0, name)


@pytest.mark.parametrize(("end", "status"), [({}, 0), ({"error": {"code": 3, "message": "no"}}, 1)])
def test_wait(
    shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator, end: dict[str, Any], status: int
) -> None:
    """The exit status says how it ended; changes go to standard error."""
    name = lro_emulator.create("datafusion", duration=None)
    once(lambda: lro_emulator.requests(verb="get"), lambda: lro_emulator.finish("datafusion", name, **end))
    found = shell("wait", name, "--service", "datafusion", "--poll-interval", "0.05")
    assert found[0] == status
    assert found[1].startswith("SUCCEEDED" if status == 0 else "FAILED")
    assert "RUNNING" in found[2]


def test_a_failure_says_all_details(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """B6: the code's name, the message and the details of a failed operation."""
    violations = [{"field": "instance.type", "description": "must be set"}]
    details = [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    name = lro_emulator.create("datafusion", duration=0, error={"code": 3, "message": "No.", "details": details})
    for command in ("get", "wait"):
        out = shell(command, name, "--service", "datafusion")[1]
        assert out == "FAILED · INVALID_ARGUMENT: No. instance.type: must be set\n"


def test_a_success_in_part_is_said(
    shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's provider 16.1 (apache/airflow#51364): Vertex AI's import succeeds although files were not read."""
    metadata = {"genericMetadata": {"partialFailures": [{"code": 5, "message": "gs://b/1.csv"}]}}
    monkeypatch.setattr("airflow_lro_provider.emulator.state.metadata_of", lambda snapshot: metadata)
    name = lro_emulator.create("aiplatform", duration=0)
    for command in ("get", "wait"):
        status, out, _ = shell(command, name, "--service", "aiplatform")
        assert (status, out) == (0, "SUCCEEDED · in part only: NOT_FOUND: gs://b/1.csv\n")


def test_a_failure_inside_a_success_is_none(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """B13: a cancelled execution of Cloud Run is done without an error, and the exit status is that of a failure."""
    response = {"@type": "type.googleapis.com/google.cloud.run.v2.Execution", "taskCount": 2, "cancelledCount": 2}
    name = lro_emulator.create("run", duration=0, response=response)
    status, out, err = shell("wait", name, "--service", "run")
    assert (status, out.split()[0]) == (1, "SUCCEEDED")
    assert "it reports no error, but 0 of 2 tasks of the execution succeeded (0 failed, 2 cancelled)" in err


def test_wait_gives_up_at_the_timeout(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """Exit status 3; the operation runs on."""
    name = lro_emulator.create("datafusion", duration=None)
    status, out, err = shell("wait", name, "--service", "datafusion", "--timeout", "0.1", "--poll-interval", "0.05")
    assert (status, out) == (3, "")
    assert "still running at the timeout of 0.1 s" in err
    assert lro_emulator.requests(verb="cancel") == []


def test_wait_says_what_was_seen_last(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """C5: what was not found, or what no longer responds, is not "still running"; exit status 1."""
    status, _, err = shell("wait", f"{L}/operations/gone", "--service", "datafusion", "--timeout", "0.1")
    assert status == 1
    assert "the timeout of 0.1 s passed, and the last poll failed (datafusion: get " in err
    assert "NOT_FOUND" in err
    assert "still running" not in err
    name = lro_emulator.create("datafusion", duration=None)
    lro_emulator.fail(503, verb="cancel", times=99)
    once(lambda: lro_emulator.requests(verb="get"), lambda: lro_emulator.fail(503, verb="get", times=99))
    status, _, err = shell("wait", name, "--service", "datafusion", "--timeout", "4")
    assert (status, "the last poll failed" in err, "UNAVAILABLE" in err) == (1, True, True)


def test_wait_at_a_dead_port(capsys: pytest.CaptureFixture[str]) -> None:
    """C5: nothing was ever seen there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    arguments = ("--service", "datafusion", "--timeout", "0.1", "--emulator", url)
    assert cli.main(["wait", f"{L}/operations/o", *arguments]) == 1
    err = capsys.readouterr().err
    assert "the timeout of 0.1 s passed, and the last poll failed" in err
    assert "still running" not in err


def test_cancel_waits_for_the_truth(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """0 if it is cancelled, 1 if it succeeds all the same."""
    patience = ("--poll-interval", "0.05")
    name = lro_emulator.create("datafusion", duration=None)
    status, out, err = shell("cancel", name, "--service", "datafusion", *patience)
    assert (status, out.split()[0]) == (0, "CANCELLED")
    assert "the service accepted it" in err
    stubborn = lro_emulator.create("datafusion", duration=None, cancel="ignore")
    succeed_after_cancel(lro_emulator, stubborn)
    status, out, err = shell("cancel", stubborn, "--service", "datafusion", *patience)
    assert (status, out.split()[0]) == (1, "SUCCEEDED")
    assert "COMPLETED_DESPITE_CANCEL" in err


def test_cancel_without_waiting(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """Only the request."""
    name = lro_emulator.create("datafusion", duration=None, cancel_delay=60)
    assert shell("cancel", name, "--service", "datafusion", "--no-wait")[:2] == (0, "")
    assert lro_emulator.operation("datafusion", name).cancel_requests == 1


def test_what_has_finished_is_not_cancelled(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """The outcome is printed, and nothing is sent."""
    name = lro_emulator.create("datafusion", duration=0)
    status, out, err = shell("cancel", name, "--service", "datafusion")
    assert (status, out.split()[0]) == (0, "SUCCEEDED")
    assert "Not cancelled, already finished (SUCCEEDED · Finished)" in err
    assert lro_emulator.requests(verb="cancel") == []


def test_a_service_that_cannot_cancel(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """Known before anything is sent."""
    name = lro_emulator.create("cloudtasks", duration=None)
    status, _, err = shell("cancel", name, "--service", "cloudtasks")
    assert (status, "Not cancelled, Cloud Tasks cannot cancel it" in err) == (1, True)
    assert lro_emulator.requests(verb="cancel") == []


def test_list(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """A line for each, up to the limit; as JSON, a document in each line."""
    names = [lro_emulator.create("datafusion", f"{L}/operations/o{number}", duration=None) for number in range(3)]
    status, out, _ = shell("list", L, "--service", "datafusion", "--limit", "2")
    assert (status, [line.split()[0] for line in out.splitlines()]) == (0, names[:2])
    _, out, _ = shell("list", L, "--service", "datafusion", "--json")
    assert [json.loads(line)["name"] for line in out.splitlines()] == names
    assert ["fields=" in request.query for request in lro_emulator.requests(verb="list")] == [True, False]  # B11


_WITH_DATABASE = """
import contextlib, os, sys
with contextlib.redirect_stdout(sys.stderr):  # Airflow 3.2 logs that it is imported
    from airflow.models.connection import Connection
from airflow_lro_provider.cli import main
from sqlalchemy import create_engine

engine, table = create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]), Connection.__table__
with engine.begin() as database:
    table.create(database)
    database.execute(table.insert().values(conn_id="stored", conn_type="google_lro", extra=sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("conn_id", "status"), [("stored", 0), ("nobody_made_it", 1)])
def test_a_connection_of_airflows_database(lro_emulator: Emulator, tmp_path: Path, conn_id: str, status: int) -> None:
    """C6: it is found as AIRFLOW_CONN_… is; one that is not there may only be invisible from here."""
    name = lro_emulator.create("datafusion", duration=None)
    arguments = ("get", name, "--service", "datafusion", "--json", "--gcp-conn-id", conn_id)
    found = subprocess.run(
        [sys.executable, "-c", _WITH_DATABASE, json.dumps(lro_emulator.connection_extra()), *arguments],
        env={**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == status, found.stderr
    if status == 0:
        assert json.loads(found.stdout)["name"] == name  # and no log line of Airflow's
    else:
        assert "not defined, or not visible here" in found.stderr
        assert "set AIRFLOW_CONN_NOBODY_MADE_IT" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("get", "x"), "is not a name of an operation of any known API"),
        (("get", f"{L}/operations/o"), "does not say which API it belongs to; give --service (aiplatform, "),
        (("get", f"//datafusion.googleapis.com/{L}/operations/o", "--service", "aiplatform"), "but --service says"),
        (("get", f"{L}/operations/gone", "--service", "datafusion"), "NOT_FOUND"),
        (("list", L, "--service", "cloudtasks"), "does not offer list"),
        (
            ("list", "transferOperations", "--service", "storagetransfer"),
            "only with a filter; nothing was sent. Give --filter",
        ),
        (("get", "//evil.example/v1/x"), "nothing was sent"),
    ],
)
def test_errors_are_plain(shell: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], words: str) -> None:
    """One sentence on standard error, exit status 1, no traceback."""
    status, out, err = shell(*arguments)
    assert (status, out) == (1, "")
    assert words in err
    assert "Traceback" not in err


def test_ctrl_c_ends_the_wait_and_not_the_operations(lro_emulator: Emulator) -> None:
    """Exit status 130, as shells expect; what has finished is printed, and it says that nothing was cancelled."""
    one, two = (lro_emulator.create("datafusion", f"{L}/operations/{name}", duration=None) for name in ("one", "two"))
    lro_emulator.finish("datafusion", two)
    with airflow_lro("wait", one, two, "--service", "datafusion", "--emulator", lro_emulator.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == f"{two}  SUCCEEDED · Finished\n"
        while f"{one}  RUNNING" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.endswith(f"interrupted; no operation was cancelled by that. Not waited for any longer: {one}\n")
    assert lro_emulator.requests(verb="cancel") == []


def test_ctrl_c_in_the_middle_of_a_line_leaves_no_stack(lro_emulator: Emulator) -> None:
    """Whoever reads the output gets whole lines, also if the interrupt comes while one of them is being written."""
    one, two = (lro_emulator.create("datafusion", f"{L}/operations/{name}", duration=None) for name in ("one", "two"))
    lro_emulator.finish("datafusion", two, response={"more than a pipe holds": "x" * 300_000})
    command = ("wait", one, two, "--json", "--service", "datafusion", "--emulator", lro_emulator.url)
    with airflow_lro(*command) as process:
        assert select.select([process.stdout], [], [], 30)[0]
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)  # it is writing, and nobody reads
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["name"] == two
    assert "Traceback" not in err
    assert err.endswith(f"interrupted; no operation was cancelled by that. Not waited for any longer: {one}\n")


def test_an_interrupt_that_was_ignored_stays_so(lro_emulator: Emulator) -> None:
    """A shell starts what it puts into the background like that: a Ctrl-C is meant for something else."""
    name = lro_emulator.create("datafusion", f"{L}/operations/one", duration=None)
    ignores = {"ctrl_c": signal.SIG_IGN}
    with airflow_lro("wait", name, "--service", "datafusion", "--emulator", lro_emulator.url, **ignores) as process:
        assert process.stderr is not None
        assert "RUNNING" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        lro_emulator.finish("datafusion", name)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_an_end_is_said_although_its_response_cannot_be_taken(lro_emulator: Emulator) -> None:
    """At Ctrl-C: how the operation has ended, and that it was still waited for."""
    name = lro_emulator.create("datafusion", f"{L}/operations/one", duration=None, latency=1)
    command = ("wait", name, "--service", "datafusion", "--poll-interval", "1", "--emulator", lro_emulator.url)
    with airflow_lro(*command) as process:
        assert process.stderr is not None
        assert "RUNNING" in process.stderr.readline()
        lro_emulator.finish("datafusion", name, response={"a": "result"})
        before = len(lro_emulator.requests(verb="get"))
        wait_until(lambda: len(lro_emulator.requests(verb="get")) > before, "a poll sees the end, and has no response")
        lro_emulator.fail(503, verb="get", times=None)
        assert "SUCCEEDED" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.endswith(f"Not waited for any longer: {name}\n")


def test_ctrl_c_in_the_middle_of_a_cancel_says_what_is_not_known(lro_emulator: Emulator) -> None:
    """Whether the request has come through; and how to find out."""
    name = lro_emulator.create("datafusion", f"{L}/operations/one", duration=None, cancel_latency=30)
    with airflow_lro("cancel", name, "--service", "datafusion", "--emulator", lro_emulator.url) as process:
        wait_until(lambda: lro_emulator.requests(verb="cancel"), "it was requested")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "interrupted; the cancellation was perhaps requested" in err
    assert name in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (["SUCCEEDED", "SUCCEEDED"], 0),
        (["SUCCEEDED", "FAILED"], 1),
        (["SUCCEEDED", "CANCELLED"], 1),
        (["SUCCEEDED", "runs on"], 3),
        (["FAILED", "runs on"], 1),
        (["gone", "SUCCEEDED"], 1),
    ],
)
def test_the_status_of_several(
    shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator, ends: list[str], status: int
) -> None:
    """0 if all succeeded, 1 if anything went wrong, 3 if nothing did and one runs on; each that ended has a line."""
    names, finished = [], []
    for number, end in enumerate(ends):
        name = f"{L}/operations/o{number}"
        names.append(name)
        if end == "gone":
            continue
        errors = {"FAILED": {"code": 3, "message": "no"}, "CANCELLED": {"code": 1, "message": "stopped"}}
        how = {"error": errors[end]} if end in errors else {}
        lro_emulator.create("datafusion", name, duration=None if end == "runs on" else 0, **how)
        if end != "runs on":
            finished.append((name, end))
    found, out, err = shell("wait", *names, "--service", "datafusion", "--timeout", "1")
    assert found == status
    assert sorted(tuple(line.split()[:2]) for line in out.splitlines()) == finished
    assert ("still running at the timeout of 1 s" in err) == ("runs on" in ends)
    assert ("NOT_FOUND" in err) == ("gone" in ends)


def test_several_as_json(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """A line for each that has finished; what is named twice, in whatever form, is waited for once."""
    names = [lro_emulator.create("datafusion", f"{L}/operations/o{number}", duration=0) for number in range(2)]
    status, out, _ = shell(
        "wait", *names, f"//datafusion.googleapis.com/{names[0]}", "--service", "datafusion", "--json"
    )
    assert status == 0
    assert sorted(json.loads(line)["name"] for line in out.splitlines()) == names


def test_several_of_several_apis(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """Each with its full name: the name alone may be that of another one."""
    one = f"//automl.googleapis.com/{lro_emulator.create('automl', duration=0)}"
    two = f"//datafusion.googleapis.com/{lro_emulator.create('datafusion', duration=0)}"
    status, out, _ = shell("wait", one, two)
    assert status == 0
    assert {line.partition("/")[0] + "//" for line in out.splitlines()} == {"//"}
    assert all(name.rpartition("/")[2] in out for name in (one, two))


def test_a_wrong_name_among_several_sends_nothing(
    shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator
) -> None:
    """All are checked before the first request."""
    name = lro_emulator.create("datafusion", duration=None)
    status, out, err = shell("wait", name, "x", "--service", "datafusion")
    assert (status, out) == (1, "")
    assert "'x'" in err
    assert lro_emulator.requests() == []


def test_more_than_eight_are_waited_for_at_a_time(
    shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator
) -> None:
    """A `:wait` that lasts keeps a connection, and no other operation from being polled."""
    names = [lro_emulator.create("earthengine", duration=None) for _ in range(10)]

    def all_have_their_wait() -> bool:
        return len({request.name for request in lro_emulator.requests(verb="wait")}) == len(names)

    def finish() -> None:
        for name in names:
            lro_emulator.finish("earthengine", name)

    once(all_have_their_wait, finish)
    status, out, _ = shell("wait", *names, "--service", "earthengine", "--timeout", "60")
    assert (status, len(out.splitlines())) == (0, 10)
    assert len(lro_emulator.requests(verb="wait")) == 10  # nobody's first one came after another one's second


def test_cancel_as_json(shell: Callable[..., tuple[int, str, str]], lro_emulator: Emulator) -> None:
    """One document, in which "requested" and "cancelled" are different words."""
    slow = lro_emulator.create("datafusion", duration=None, cancel_delay=60)
    status, out, _ = shell("cancel", slow, "--service", "datafusion", "--no-wait", "--json")
    assert (status, json.loads(out)["outcome"], json.loads(out)["operation"]["name"]) == (0, "REQUESTED", slow)
    status, out, _ = shell("cancel", slow, "--service", "datafusion", "--json", "--timeout", "0.1")
    assert (status, json.loads(out)["outcome"]) == (3, "STILL_RUNNING")
    name = lro_emulator.create("datafusion", duration=None)
    status, out, _ = shell("cancel", name, "--service", "datafusion", "--json")
    document = json.loads(out)
    assert (status, document["outcome"], document["operation"]["done"]) == (0, "CANCELLED", True)


def test_services_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One document: a list of all, or one in full."""
    assert cli.main(["services", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in listed} == set(known_services())
    assert cli.main(["services", "aiplatform", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["title"], "us-central1" in one["locations"], "v1" in one["names"]) == ("Vertex AI", True, True)


def test_the_table_of_a_terminal(
    lro_emulator: Emulator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a table is redrawn on standard error, and the results follow when it is gone; list makes one."""
    for stream in ("stderr", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    names = [lro_emulator.create("earthengine", duration=0.4) for _ in range(2)]
    more = ("--service", "earthengine", "--emulator", lro_emulator.url)
    assert cli.main(["wait", *names, "--poll-interval", "0.05", *more]) == 0
    told = capsys.readouterr()
    assert told.err.count("OPERATION") >= 2
    assert "█" in told.err
    assert told.err.rindex("\x1b[2K") > told.err.rindex("SUCCEEDED")
    assert sorted(line.split()[0] for line in told.out.splitlines()) == sorted(names)
    assert cli.main(["list", names[0].partition("/operations")[0], "--limit", "1", *more]) == 0
    told = capsys.readouterr()
    assert "PROGRESS" in told.out
    assert names[0].rpartition("/")[2] in told.out
    assert "these are the first 1; --limit shows more" in told.err
    assert cli.main(["list", "projects/nobody", *more]) == 0
    assert capsys.readouterr() == ("", "airflow-lro: there are none.\n")
