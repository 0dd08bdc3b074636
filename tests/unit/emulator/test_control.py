from __future__ import annotations

import pytest

from airflow_lro_provider.emulator.page import ROWS

L = "projects/p/locations/us-central1"
O = f"{L}/operations/o"  # noqa: E741 - an operation
HOSTILE = "projects/p/operations/<img src=x onerror=alert(1)>"


def test_an_operation_of_a_given_name(send, clock):
    """The control surface starts an operation of a given name and script."""
    made = send("POST", "/emulator/operations", {"service": "datafusion", "name": O, "script": {"duration": 3}}).json
    assert made["operation"]["name"] == O
    clock.turn(3)
    assert send("GET", f"/datafusion/v1/{O}").json["done"] is True


def test_an_operation_below_a_given_parent(send):
    """Without a name one is made up, below the parent, in the version."""
    body = {"service": "datafusion", "parent": "projects/q/locations/l", "version": "v1beta1"}
    made = send("POST", "/emulator/operations", body).json["operation"]
    assert made["name"].startswith("projects/q/locations/l/operations/")
    assert made["metadata"]["apiVersion"] == "v1beta1"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"service": 5}, 400),
        ({"service": "vertex"}, 400),
        ({"service": "datafusion", "name": "o"}, 400),
        ({"service": "datafusion", "version": "v9"}, 400),
        ({"service": "datafusion", "script": {"duration": "long"}}, 400),
        ({"service": "datafusion", "script": 5}, 400),
        ({"service": "datafusion", "scirpt": {}}, 400),
        ({"service": "datafusion", "name": O}, 409),
    ],
)
def test_nonsense_is_answered_with_an_error(store, send, body, status):
    """A mistake in a control request is reported in JSON and starts nothing."""
    store.create("datafusion", O)
    reply = send("POST", "/emulator/operations", body)
    assert reply.status == status
    assert reply.json["error"]["message"]
    assert len(store.views()) == 1


def test_all_operations_with_what_only_the_emulator_knows(store, clock, send):
    """The list says when each was started, first requested to end, how often, and when it finished."""
    store.create("datafusion", O, script={"cancel_delay": 2})
    store.create("automl", O)
    begin = clock.now
    clock.turn(1)
    send("POST", f"/datafusion/v1/{O}:cancel")
    clock.turn(1)
    send("POST", f"/datafusion/v1/{O}:cancel")
    clock.turn(1)
    first, second = send("GET", "/emulator/operations").json
    assert first["operation"]["error"]["code"] == 1
    del first["operation"]
    assert first == {
        "service": "datafusion",
        "state": "CANCELLED",
        "created_at": begin,
        "done_at": begin + 3,
        "cancel_requested_at": begin + 1,
        "cancel_requests": 2,
        "polls": 0,
        "polled_at": None,
    }
    assert (second["service"], second["done_at"], second["cancel_requests"]) == ("automl", None, 0)
    assert len(send("GET", "/emulator/operations?service=automl").json) == 1
    assert len(send("GET", f"/emulator/operations?name={O}").json) == 2


def test_the_requests_can_be_chosen(store, send):
    """Recorded requests are shown, all or by verb and name."""
    store.create("datafusion", O)
    send("GET", f"/datafusion/v1/{O}")
    send("POST", f"/datafusion/v1/{O}:cancel")
    send("GET", f"/datafusion/v1/{O}x")
    assert len(send("GET", "/emulator/requests").json) == 3
    (cancel,) = send("GET", f"/emulator/requests?verb=cancel&name={O}").json
    assert (cancel["verb"], cancel["status"], cancel["order"]) == ("cancel", 200, 2)


def test_the_default_script_is_set(send, clock):
    """A script for an API, or for all, holds for what is started afterwards."""
    send("POST", "/emulator/script", {"script": {"duration": 5}})
    answer = send("POST", "/emulator/script", {"service": "automl", "script": {"duration": 50}}).json
    assert answer["duration"] == 50
    names = {
        api: send("POST", f"/{api}/v1/{L}/{things}").json["name"]
        for api, things in {"datafusion": "instances", "automl": "models", "developerconnect": "connections"}.items()
    }
    clock.turn(5)
    done = {api: send("GET", f"/{api}/v1/{name}").json.get("done", False) for api, name in names.items()}
    assert done == {"datafusion": True, "automl": False, "developerconnect": True}


@pytest.mark.parametrize("body", [{"script": {"x": 1}}, {"duration": 5}, {"service": "nope", "script": {}}])
def test_a_wrong_default_script_is_refused(send, body):
    """A default script with a mistake in it changes nothing."""
    assert send("POST", "/emulator/script", body).status == 400


def test_failures_are_added(store, send):
    """One failure or a list of them; those pending can be listed."""
    store.create("datafusion", O)
    send("POST", "/emulator/failures", {"kind": 503, "verb": "get"})
    send("POST", "/emulator/failures", [{"kind": "429"}, {"kind": "502", "verb": "list"}])
    assert [failure["kind"] for failure in send("GET", "/emulator/failures").json] == ["503", "429", "502"]
    assert [send("GET", f"/datafusion/v1/{O}").status for _ in range(3)] == [503, 429, 200]
    assert [failure["kind"] for failure in send("GET", "/emulator/failures").json] == ["502"]


def test_a_list_with_a_wrong_failure_adds_none(store, send):
    """A mistake in one failure refuses the whole list."""
    assert send("POST", "/emulator/failures", [{"kind": "429"}, {"kind": "?"}]).status == 400
    assert store.failures() == []
    assert send("POST", "/emulator/failures", [{"kind": "429"}, {"kind": "429", "service": "vertex"}]).status == 400
    assert store.failures() == []


def test_an_operation_is_finished_by_hand(store, send):
    """An operation can be ended now, with a result of one's choice."""
    store.create("datafusion", O, script={"duration": None})
    body = {"service": "datafusion", "name": O, "error": {"code": 13, "message": "boom"}}
    assert send("POST", "/emulator/finish", body).json["state"] == "FAILED"
    assert send("POST", "/emulator/finish", {"service": "datafusion", "name": "x"}).status == 404
    assert send("POST", "/emulator/finish", {"service": "datafusion"}).status == 400


def test_reset(store, send):
    """A reset forgets operations, requests, scripts and failures."""
    store.create("datafusion", O)
    send("GET", f"/datafusion/v1/{O}")
    assert send("POST", "/emulator/reset").json == {}
    assert send("GET", "/emulator/operations").json == []
    assert send("GET", "/emulator/requests").json == []


def test_a_body_that_is_no_json(send):
    """A body that is no JSON is a 400."""
    assert send("POST", "/emulator/script", data=b"{").status == 400


def test_other_methods_are_refused(send):
    """The control surface has no other methods; a path that it does not know is a 404."""
    assert send("DELETE", "/emulator/operations").status == 405
    assert send("GET", "/emulator/nothing").status == 404


@pytest.mark.parametrize("path", ["/", "/emulator"])
def test_the_page_for_people(store, clock, send, path):
    """The page shows operations and requests, refreshes itself and loads nothing from elsewhere."""
    assert b"None so far" in send("GET", path).body
    store.create("datafusion", O, script={"cancel_delay": 9})
    store.create("earthengine", script={"duration": 10})
    clock.turn(5)
    send("POST", f"/datafusion/v1/{O}:cancel", headers={"authorization": "Bearer secret"})
    reply = send("GET", path)
    text = reply.body.decode()
    assert reply.headers["content-type"].startswith("text/html")
    assert 'http-equiv="refresh"' in text
    assert all(word in text for word in (O, "CANCELLING", "RUNNING", 'value="0.50"', "first after 5.0 s"))
    assert "http://" not in text.replace("http-equiv", "")
    assert "https://" not in text
    assert "secret" not in text


def test_the_same_request_has_one_row(store, send):
    """Polls do not hide the rest: they are counted."""
    store.create("datafusion", O)
    send("POST", f"/datafusion/v1/{O}:cancel")
    for _ in range(120):
        send("GET", f"/datafusion/v1/{O}")
    text = send("GET", "/").body.decode()
    assert text.count("<code>GET ") == text.count("<code>POST ") == 1
    assert "<td>120</td><td>get</td>" in text


def test_the_page_escapes_what_it_shows(store, send):
    """Neither a name nor a path can bring markup into the page."""
    store.create("earthengine", HOSTILE)
    send("GET", "/<script>alert(1)</script>")
    reply = send("GET", "/")
    assert b"<img" not in reply.body
    assert b"<script" not in reply.body
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_stays_small(store, send):
    """With thousands of operations the page shows the newest, and the number of all."""
    for number in range(3000):
        store.create("datafusion", f"{L}/operations/o{number}")
    text = send("GET", "/").body.decode()
    assert text.count("<tr>") == ROWS + 1
    assert "3000 operations" in text
    assert "o2999" in text
