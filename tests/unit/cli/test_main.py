"""The command line, but for the demo itself (see ``tests/e2e/test_demo.py``)."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys

import pytest
import requests

from airflow_lro_provider import __version__, cli
from airflow_lro_provider.demo.local_airflow import LocalAirflow, LocalAirflowError
from airflow_lro_provider.hooks.operations import OperationsHook
from airflow_lro_provider.lro.resources.catalog import SYSTEMS
from tests.commands import airflow_lro


def head(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What the emulator prints first: its URL, and the command that adds the connection."""
    assert process.stdout is not None
    first, _, command = (process.stdout.readline() for _ in range(3))
    return next(word for word in first.split() if word.startswith("http://")), command


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What argparse says of bad arguments."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["get", "x", "--emulater", "http://127.0.0.1:1"], "did you mean --emulator?"),
        (["wait", "x", "--jsno"], "did you mean --json?"),
        (["doctor", "--emulator=http://127.0.0.1:1"], "unrecognized arguments: --emulator=http://127.0.0.1:1\n"),
    ],
)
def test_a_command_refuses_what_it_does_not_know(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its own usage, and the option that was perhaps meant."""
    said = failure(arguments, capsys)
    assert said.startswith(f"usage: airflow-lro {arguments[0]} ")
    assert hint in said


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names both commands."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "emulator" in text
    assert "demo" in text


@pytest.mark.parametrize(
    ("command", "options"),
    [("emulator", ["--host", "--port", "--duration", "127.0.0.1", "8900"]), ("demo", ["--keep"])],
)
def test_help_of_a_command_names_its_options(
    command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """COMMAND --help names all options and their defaults."""
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in options)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version is the package's."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"airflow-lro {__version__}\n"


def test_no_command_is_an_error_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command it prints the help and fails."""
    assert cli.main([]) == 2
    assert "emulator" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http", "", "8_900", "٣"])
def test_a_bad_port_is_named(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no port is refused, with its name."""
    assert f"{port!r} is not a port" in failure(["emulator", f"--port={port}"], capsys)


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "long"])
def test_a_bad_duration_is_named(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no number of seconds is refused, with its name."""
    assert f"{seconds!r} is not a number of seconds" in failure(["emulator", f"--duration={seconds}"], capsys)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command is named."""
    assert "destroy" in failure(["destroy"], capsys)


def test_the_emulator_serves_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves HTTP, the connection that it prints is good for OperationsHook, and Ctrl-C ends it with 0."""
    with airflow_lro("emulator", "--port", "0", "--duration", "0.01") as process:
        url, command = head(process)
        words = shlex.split(command)
        assert words[:3] == ["airflow", "connections", "add"]
        options = dict(zip(words[4::2], words[5::2], strict=True))
        connection = {"conn_type": options["--conn-type"], "extra": json.loads(options["--conn-extra"])}
        monkeypatch.setenv(f"AIRFLOW_CONN_{words[3].upper()}", json.dumps(connection))
        for service in SYSTEMS:
            answer = requests.post(f"{url}/emulator/operations", json={"service": service}, timeout=10)
            name = answer.json()["operation"]["name"]
            assert OperationsHook(service=service).wait(name, timeout=10, poll_interval=0.05).outcome == "SUCCEEDED"
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=15)
        assert process.returncode == 0
        assert rest == "Stopped.\n"
        assert errors == ""


def test_the_emulator_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the URL and a connection that Airflow takes as it is; nothing else, also at the end."""
    with airflow_lro("emulator", "--port", "0", "--json") as process:
        assert process.stdout is not None
        document = json.loads(process.stdout.readline())
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(document["connection"]))
        assert OperationsHook().test_connection()[0]
        assert requests.get(f"{document['url']}/emulator", timeout=10).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=15) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize(
    "command", ["emulator", "demo", "sweep", "doctor", "services", "get", "wait", "cancel", "list"]
)
def test_every_command_has_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And its help says what is in it."""
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "--json" in capsys.readouterr().out


def test_help_says_how_completion_is_turned_on(capsys: pytest.CaptureFixture[str]) -> None:
    """With a line for each shell, as it is to be copied."""
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert 'eval "$(register-python-argcomplete airflow-lro)"' in capsys.readouterr().out


def test_a_port_in_use_is_one_sentence() -> None:
    """A port in use is reported in one sentence that names it, with exit status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with airflow_lro("emulator", "--port", str(port)) as process:
            out, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert out == ""
        assert errors == f"airflow-lro: port {port} is in use; choose another one with --port (0 takes a free one).\n"


def test_an_address_that_is_not_ours_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that cannot be listened at is said in one sentence."""
    assert cli.main(["emulator", "--host", "192.0.2.1", "--port", "0"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("airflow-lro: cannot listen on 192.0.2.1, port 0: ")
    assert text.count("\n") == 1


@pytest.mark.parametrize(("command", "needs"), [("emulator", "uvicorn"), ("demo", "airflow")])
def test_a_missing_package_is_one_sentence(
    command: str, needs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be imported is named, with the command that installs it."""
    find = cli.importlib.util.find_spec
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None if name == needs else find(name))
    assert cli.main([command]) == 1
    text = capsys.readouterr().err
    assert text.startswith(f"airflow-lro: {needs} cannot be imported")
    assert "pip install" in text


def test_an_airflow_that_does_not_start_fails_with_its_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of the log that tells why is printed, and no traceback."""

    def start(*_: object) -> None:
        raise LocalAirflowError("airflow scheduler ended with 3:\nthe reason")

    monkeypatch.setattr(LocalAirflow, "start", start)
    assert cli.main(["demo"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("airflow-lro: Airflow did not start. airflow scheduler ended with 3:\nthe reason\n")
    assert "Traceback" not in text


def test_a_port_that_somebody_else_took_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Airflow is started on other ports, but not for ever."""
    ports: list[str] = []

    def start(self: LocalAirflow, *_: object) -> None:
        ports.append(self.url)
        raise LocalAirflowError("airflow api-server ended with 1:\n[Errno 98] ... address already in use")

    monkeypatch.setattr(LocalAirflow, "start", start)
    assert cli.main(["demo"]) == 1
    assert len(ports) == 3
    captured = capsys.readouterr()
    assert captured.out.count("another program took a port") == 2
    assert "Airflow did not start" in captured.err


def test_importing_the_command_line_is_light() -> None:
    """The command line imports neither Airflow nor a web server before it knows what to do."""
    heavy = {"airflow", "uvicorn", "starlette", "requests", "aiohttp", "google", "rich", "argcomplete", "asyncio"}
    code = f"import sys, airflow_lro_provider.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout == "[]\n"


def test_a_sweep_wants_to_know_who_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token or a user nothing is sent."""
    for variable in ("AIRFLOW_API_TOKEN", "AIRFLOW_API_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)
    assert cli.main(["sweep", "--url", "http://127.0.0.1:1"]) == 1
    assert "no credentials for Airflow's API" in capsys.readouterr().err
    assert cli.main(["sweep", "--url", "http://127.0.0.1:1", "--user", "admin"]) == 1
    assert "AIRFLOW_API_PASSWORD" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["airflow.example.com", "localhost:8080", "ftp://a.example", "https://", "https://u:pw@a"]
)
def test_a_sweep_wants_a_whole_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """C11: one without a scheme says what to write; a password in it is not repeated."""
    told = failure(["sweep", "--url", url], capsys)
    assert "argument --url: give the whole URL, with https://" in told
    assert "pw" not in told


def test_a_sweep_without_an_airflow_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and no token in it."""
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "very-secret")
    assert cli.main(["sweep", "--url", "http://127.0.0.1:1"]) == 1
    told = capsys.readouterr().err
    assert "Airflow's API cannot be reached" in told
    assert "very-secret" not in told
