from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.emulator.script import ScriptError
from airflow_lro_provider.lro.auth.settings import ConnectionSettings

L = "projects/p/locations/us-central1"
PATIENCE = 30  # seconds that nothing here takes, however busy the machine is


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """The threads of emulators that came since the test began: other tests of this process may share one."""
    before = set(threading.enumerate())

    def since() -> list[str]:
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        return [name for name in new if name.startswith("emulator at ")]

    return since


def get(emulator: Emulator, path: str, **kwargs) -> requests.Response:
    return requests.get(f"{emulator.url}{path}", timeout=PATIENCE, **kwargs)


def test_it_serves_on_loopback(emulator):
    """A started emulator responds at its URL, on this machine only."""
    assert emulator.url.startswith("http://127.0.0.1:")
    name = emulator.create("datafusion", duration=None)
    assert get(emulator, f"/datafusion/v1/{name}").json()["name"] == name
    assert [(record.verb, record.status) for record in emulator.requests(name=name)] == [("get", 200)]


def test_the_short_ways_of_the_class(emulator):
    """create, script, fail, finish, operation, operations, requests and reset do what they say."""
    emulator.script("datafusion", duration=None)
    name = emulator.create("datafusion", f"{L}/operations/o")
    emulator.fail(503, verb="cancel")
    url = f"{emulator.url}/datafusion/v1/{name}:cancel"
    assert [requests.post(url, timeout=PATIENCE).status_code for _ in range(2)] == [503, 200]
    view = emulator.operation("datafusion", name)
    assert (view.state, view.cancel_requests) == ("CANCELLED", 1)
    assert [record.status for record in emulator.requests("cancel", name)] == [503, 200]
    other = emulator.create("datafusion")
    assert emulator.finish("datafusion", other, response={"a": 1}).operation["response"] == {"a": 1}
    assert [view.name for view in emulator.operations()] == [name, other]
    emulator.reset()
    assert (emulator.operations(), emulator.requests()) == ([], [])
    with pytest.raises(KeyError, match="datafusion"):
        emulator.operation("datafusion", name)


def test_a_raw_path_arrives_as_it_was_sent(emulator):
    """Over a real connection too, an encoded colon belongs to the name and a literal one to the verb."""
    emulator.create("earthengine", "projects/p/operations/a:cancel", duration=None)
    url = f"{emulator.url}/earthengine/v1/projects/p/operations/a%3Acancel"
    assert requests.post(url, timeout=PATIENCE).status_code == 404
    assert requests.post(f"{url}:cancel", timeout=PATIENCE).json() == {}
    assert emulator.requests("cancel")[0].path.endswith("/a%3Acancel:cancel")


def test_a_reset_drops_the_connection(emulator):
    """A scripted reset is a connection error for the client, and the next request is fine."""
    name = emulator.create("datafusion")
    emulator.fail("reset", times=2)
    with requests.Session() as session:
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                session.get(f"{emulator.url}/datafusion/v1/{name}", timeout=PATIENCE)
        assert session.get(f"{emulator.url}/datafusion/v1/{name}", timeout=PATIENCE).status_code == 200
    assert [(record.status, record.failure) for record in emulator.requests()] == [
        (None, "reset"),
        (None, "reset"),
        (200, None),
    ]


def test_a_reset_is_a_tcp_reset(emulator):
    """The client's socket sees RST, not an orderly end."""
    emulator.fail("reset")
    host, port = urlsplit(emulator.url).hostname, urlsplit(emulator.url).port
    with socket.create_connection((host, port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /datafusion/v1/x HTTP/1.1\r\nhost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_reset_may_lose_only_the_answer(emulator):
    """A cancel whose response is lost was accepted all the same."""
    name = emulator.create("datafusion", duration=None)
    emulator.fail("reset", verb="cancel", after=True)
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{emulator.url}/datafusion/v1/{name}:cancel", timeout=PATIENCE)
    assert emulator.operation("datafusion", name).state == "CANCELLED"


def test_wait_over_a_real_connection(emulator):
    """A :wait in flight gets its response when the operation is cancelled by another client."""
    name = emulator.create("automl", duration=None)
    answers: list[dict] = []
    url = f"{emulator.url}/automl/v1/{name}"
    body = {"timeout": "60s"}
    waiting = threading.Thread(
        target=lambda: answers.append(requests.post(f"{url}:wait", json=body, timeout=PATIENCE).json())
    )
    waiting.start()
    while not emulator.requests("wait"):
        threading.Event().wait(0.005)
    requests.post(f"{url}:cancel", timeout=PATIENCE)
    waiting.join(PATIENCE)
    assert answers[0]["error"]["code"] == 1


def test_stop_leaves_no_thread_and_no_listener(threads, caplog):
    """After stop the thread is gone, the port is closed and nothing was complained about."""
    emulator = Emulator()
    with emulator:
        assert threads() == [f"emulator at {emulator.url}"]
        get(emulator, "/emulator/operations")
    assert threads() == []
    with pytest.raises(requests.ConnectionError):
        get(emulator, "/emulator/operations")
    emulator.stop()
    assert caplog.records == []


def test_stop_answers_those_that_wait(caplog):
    """A stop does not wait for a :wait, nor break it: it gets the operation as it is."""
    answers: list[dict] = []
    with Emulator() as emulator:
        name = emulator.create("automl", duration=None)
        url = f"{emulator.url}/automl/v1/{name}:wait"
        waiting = threading.Thread(target=lambda: answers.append(requests.post(url, timeout=PATIENCE).json()))
        waiting.start()
        while not emulator.requests("wait"):
            threading.Event().wait(0.005)
    waiting.join(PATIENCE)
    assert [answer["name"] for answer in answers] == [name]
    assert caplog.records == []


def test_an_outage(threads, emulator):
    """Stopped and started again, it is at the same address and remembers its operations."""
    name, url = emulator.create("datafusion", duration=None), emulator.url
    emulator.stop()
    with pytest.raises(requests.ConnectionError):
        get(emulator, f"/datafusion/v1/{name}")
    emulator.start()
    assert emulator.url == url
    assert get(emulator, f"/datafusion/v1/{name}").json()["name"] == name
    assert len(threads()) == 1


def test_it_starts_once(emulator):
    """A second start is refused; an emulator that never started has no URL."""
    with pytest.raises(RuntimeError, match="already running"):
        emulator.start()
    with pytest.raises(RuntimeError, match="no address"):
        _ = Emulator().url


def test_a_port_that_is_taken(threads, emulator):
    """A taken port is an OSError at once, and leaves no thread."""
    with pytest.raises(OSError, match="in use"):
        Emulator(port=urlsplit(emulator.url).port).start()
    assert len(threads()) == 1


def test_several_at_once():
    """Two emulators know nothing of each other."""
    with Emulator() as one, Emulator() as other:
        name = one.create("datafusion")
        assert get(one, f"/datafusion/v1/{name}").status_code == 200
        assert get(other, f"/datafusion/v1/{name}").status_code == 404


def test_many_requests_over_many_connections(emulator):
    """Hundreds of requests from several threads all get a response and are all recorded."""
    names = [emulator.create("datafusion", duration=None) for _ in range(50)]

    def work() -> None:
        with requests.Session() as session:
            for name in names:
                assert session.get(f"{emulator.url}/datafusion/v1/{name}", timeout=PATIENCE).status_code == 200

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(emulator.requests("get")) == 300
    assert all(record.status == 200 for record in emulator.requests())


def test_answers_are_not_held_back_by_nagle(emulator):
    """Connections send small packets at once; else each response on a kept connection would take 40 ms."""
    with requests.Session() as session:
        session.get(f"{emulator.url}/emulator/operations", timeout=PATIENCE)
        (connection,) = emulator._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_connection_in_every_form(emulator):
    """Extra, URI and JSON say the same, and are accepted by the settings of the core."""
    extra = emulator.connection_extra()
    assert extra == {"api_endpoint": f"{emulator.url}/{{service}}", "emulator": True}
    assert emulator.connection_extra("automl")["api_endpoint"] == f"{emulator.url}/automl"
    as_json = json.loads(emulator.airflow_connection_json())
    assert as_json == {"conn_type": "google_lro", "extra": extra}
    uri = urlsplit(emulator.connection_uri())
    assert uri.scheme == "google-lro"
    assert json.loads(parse_qs(uri.query)["__extra__"][0]) == extra
    settings = ConnectionSettings.from_extra(extra)
    assert (settings.api_endpoint, settings.emulator) == (extra["api_endpoint"], True)


def test_serve_prints_how_to_reach_it_and_ends_with_ctrl_c():
    """In the foreground it says where it is, gives a line to paste, and Ctrl-C ends it in good order."""
    code = "from airflow_lro_provider.emulator import serve; serve(port=0, echo=lambda text: print(text, flush=True))"
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first, _, command = (process.stdout.readline() for _ in range(3))
        url = next(word for word in first.split() if word.startswith("http://127.0.0.1:"))
        words = shlex.split(command)
        assert words[:4] == ["airflow", "connections", "add", "google_cloud_default"]
        assert json.loads(words[-1]) == {"api_endpoint": f"{url}/{{service}}", "emulator": True}
        assert requests.get(f"{url}/emulator/operations", timeout=PATIENCE).json() == []
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (out, err, process.returncode) == ("Stopped.\n", "", 0)


def test_the_package_imports_no_server():
    """Importing the package, its scripts and its store costs neither Starlette nor uvicorn."""
    code = (
        "import sys, airflow_lro_provider.emulator as emulator; emulator.Script, emulator.Failure, emulator.Store;"
        "print([name for name in ('starlette', 'uvicorn', 'airflow', 'requests', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.strip() == "[]"


def test_the_package_has_nothing_else():
    """A name that the package does not have is an AttributeError."""
    from airflow_lro_provider import emulator

    with pytest.raises(AttributeError, match="Simulator"):
        _ = emulator.Simulator


def test_a_verb_that_there_is_not_is_refused(emulator: Emulator) -> None:
    """A test that looks for it would find nothing, and pass."""
    with pytest.raises(ScriptError, match="`verb` must be one of"):
        emulator.requests(verb="strat")
