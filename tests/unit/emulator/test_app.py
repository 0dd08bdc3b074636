from __future__ import annotations

import json

import pytest

from airflow_lro_provider.emulator.app import create_app, raw_path
from airflow_lro_provider.emulator.journal import MAX_BODY_BYTES
from airflow_lro_provider.emulator.script import Failure
from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from airflow_lro_provider.lro.http.messages import Response
from airflow_lro_provider.lro.operation import Outcome
from airflow_lro_provider.lro.resources.catalog import SYSTEMS, find_service
from airflow_lro_provider.lro.resources.names import read_parent, read_reference

L = "projects/p/locations/us-central1"
O = f"{L}/operations/o"  # noqa: E741 - an operation
U = f"/datafusion/v1/{O}"
NAMES = {
    "aiplatform": f"{L}/endpoints/5/operations/o",
    "automl": O,
    "datafusion": O,
    "developerconnect": O,
    "earthengine": "projects/p/operations/a/b",
}


@pytest.fixture
def speak(send):
    """Requests built and responses read by the core's own protocol."""

    def speak(request):
        url = request.url.removeprefix("http://emulator")
        reply = send(request.method, url, data=request.body, headers=dict(request.headers))
        return request.read(Response(reply.status, reply.headers, reply.body))

    return speak


def endpoint(service: str) -> str:
    return f"http://emulator/{service}"


@pytest.mark.parametrize("service", sorted(NAMES))
def test_the_life_of_an_operation(store, clock, speak, service):
    """In each of the five systems: get, cancel honoured late, get, delete, gone; in the core's words."""
    reference = read_reference(NAMES[service], service)
    store.create(service, reference.name, script={"cancel_delay": 3})
    assert not speak(protocol.get(reference, endpoint(service))).done
    assert speak(protocol.cancel(reference, endpoint(service))) is None
    assert not speak(protocol.get(reference, endpoint(service))).done
    clock.turn(3)
    assert speak(protocol.get(reference, endpoint(service))).outcome is Outcome.CANCELLED
    assert speak(protocol.delete(reference, endpoint(service))) is None
    with pytest.raises(NotFoundError):
        speak(protocol.get(reference, endpoint(service)))


@pytest.mark.parametrize("service", [name for name in SYSTEMS if "wait" in find_service(name).verbs])
def test_wait_ends_with_the_operation(store, clock, pause, speak, service):
    """Where the system has :wait it responds right at the operation's end, wherever the timeout is given."""
    reference = read_reference(NAMES.get(service, O), service)
    store.create(service, reference.name, script={"duration": 7})
    begin = clock.now
    assert speak(protocol.wait(reference, endpoint(service), 20)).outcome is Outcome.SUCCEEDED
    assert clock.now == pytest.approx(begin + 7)


@pytest.mark.parametrize("service", [name for name in SYSTEMS if "wait" in find_service(name).verbs])
def test_wait_ends_with_its_timeout(store, clock, speak, service):
    """An operation that takes longer than the timeout is returned as it is then."""
    reference = read_reference(NAMES.get(service, O), service)
    store.create(service, reference.name, script={"duration": 100})
    begin = clock.now
    assert not speak(protocol.wait(reference, endpoint(service), 2.5)).done
    assert clock.now == pytest.approx(begin + 2.5)


def test_wait_notices_a_cancel(store, clock, pause, send):
    """A cancel that arrives during a :wait ends it."""
    store.create("automl", O, script={"duration": 100})
    begin = clock.now
    pause.meanwhile = lambda: store.cancel("automl", O) if clock.now > begin + 2 else None
    assert send("POST", f"/automl/v1/{O}:wait", {"timeout": "50s"}).json["error"]["code"] == 1
    assert clock.now < begin + 3


def test_wait_for_what_is_deleted_meanwhile(store, pause, send):
    """A :wait whose operation is deleted gets a 404."""
    store.create("automl", O)
    pause.meanwhile = lambda: store.delete("automl", O)
    assert send("POST", f"/automl/v1/{O}:wait").error["status"] == "NOT_FOUND"


def test_wait_ends_when_the_server_stops(store, pause, send):
    """A stopping server responds with the operation as it is."""
    store.create("automl", O)
    pause.stopped = True
    assert "done" not in send("POST", f"/automl/v1/{O}:wait").json
    assert len(pause.slept) == 1


def test_wait_has_a_longest_time(store, clock, send):
    """Without a timeout, or with a very long one, the server responds after a minute."""
    store.create("automl", O, script={"duration": None})
    begin = clock.now
    send("POST", f"/automl/v1/{O}:wait")
    assert clock.now == pytest.approx(begin + 60)
    send("POST", f"/automl/v1/{O}:wait", {"timeout": "900000s"})
    assert clock.now == pytest.approx(begin + 120)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/automl/v1/{O}:wait", {"timeout": "5"}),
        (f"/automl/v1/{O}:wait", {"timeout": 5}),
        (f"/automl/v1/{O}:wait", {"timeout": "-5s"}),
        (f"/automl/v1/{O}:wait", {"time": "5s"}),
        (f"/automl/v1/{O}:wait?timeout=5s", None),
        (f"/aiplatform/v1/{O}:wait?timeout=soon", None),
        (f"/aiplatform/v1/{O}:wait", {"timeout": "5s"}),
    ],
)
def test_a_timeout_in_the_wrong_place_or_shape_is_refused(store, send, path, body):
    """A system takes the timeout of :wait from the query or from the body, and not from the other."""
    store.create("automl", O)
    store.create("aiplatform", O)
    assert send("POST", path, body).error["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("service", ["datafusion", "developerconnect"])
def test_a_system_without_wait_has_no_route_for_it(store, send, service):
    """Google's front end responds to an unrouted verb with a 404 in HTML, not with a JSON error."""
    store.create(service, O)
    reply = send("POST", f"/{service}/v1/{O}:wait")
    assert (reply.status, reply.headers["content-type"]) == (404, "text/html; charset=UTF-8")
    assert b"was not found on this server" in reply.body
    assert store.requests("wait")[0].status == 404


def test_an_unrouted_path_is_escaped_on_the_page(send):
    """A path is shown on the 404 page as text."""
    reply = send("GET", "/x/<script>")
    assert b"&lt;script&gt;" in reply.body
    assert b"<script>" not in reply.body


def test_an_unknown_operation_is_not_found(send):
    """An operation that is not there is a JSON 404, with the reason in ErrorInfo."""
    error = send("GET", U).error
    assert (error["code"], error["status"]) == (404, "NOT_FOUND")
    assert O in error["message"]
    assert error["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "RESOURCE_NOT_FOUND",
            "domain": "datafusion.googleapis.com",
            "metadata": {"service": "datafusion.googleapis.com"},
        }
    ]


@pytest.mark.parametrize("verb", ["cancel", "delete", "wait"])
def test_every_verb_finds_nothing_in_the_same_way(send, verb):
    """Cancel, delete and wait of an unknown operation are NOT_FOUND in JSON."""
    method, suffix = ("DELETE", "") if verb == "delete" else ("POST", f":{verb}")
    assert send(method, f"/automl/v1/{O}{suffix}").error["status"] == "NOT_FOUND"


def test_cancel_answers_with_an_empty_object(store, send):
    """The response to an accepted cancel request is `{}`, with or without a body."""
    store.create("datafusion", O)
    assert send("POST", f"{U}:cancel").json == {}
    assert send("POST", f"{U}:cancel", {}).json == {}
    assert send("POST", f"{U}:cancel", data=b" \n").json == {}
    assert store.get("datafusion", O).cancel_requests == 3


@pytest.mark.parametrize("data", [b'{"force": true}', b"[]", b"null", b"no json", b'"x"'])
def test_cancel_must_have_an_empty_body(store, send, data):
    """The request body of cancel must be empty; anything else is INVALID_ARGUMENT, and nothing is cancelled."""
    store.create("datafusion", O)
    assert send("POST", f"{U}:cancel", data=data).error["status"] == "INVALID_ARGUMENT"
    assert store.get("datafusion", O).cancel_requests == 0


def test_cancel_may_be_unimplemented(store, send, speak):
    """A scripted 501 is UNIMPLEMENTED for the core."""
    store.create("datafusion", O, script={"cancel": "unimplemented"})
    error = send("POST", f"{U}:cancel").error
    assert (error["code"], error["status"]) == (501, "UNIMPLEMENTED")
    with pytest.raises(UnimplementedError):
        speak(protocol.cancel(read_reference(O, "datafusion"), endpoint("datafusion")))


def test_cancel_of_what_is_over_may_be_refused(store, speak):
    """A scripted refusal after the end is 400 FAILED_PRECONDITION."""
    store.create("datafusion", O, script={"duration": 0, "cancel_when_done": "failed_precondition"})
    with pytest.raises(FailedPreconditionError) as refused:
        speak(protocol.cancel(read_reference(O, "datafusion"), endpoint("datafusion")))
    assert refused.value.http_status == 400


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a%3Ab", "a:b"),
        ("a:b", "a:b"),
        ("%28default%29", "(default)"),
        ("(default)", "(default)"),
        ("a%3Acancel", "a:cancel"),
        ("a/b%20c", "a/b c"),
    ],
)
def test_raw_paths_are_decoded_once_the_verb_is_off(store, send, raw, name):
    """However a client writes a name with colons or brackets, the same operation is meant."""
    store.create("earthengine", f"projects/p/operations/{name}")
    url = f"/earthengine/v1/projects/p/operations/{raw}"
    assert send("GET", url).json["name"] == f"projects/p/operations/{name}"
    assert send("POST", f"{url}:cancel").json == {}
    assert store.requests("cancel")[0].path == f"{url}:cancel"
    assert send("DELETE", url).json == {}


def test_a_server_without_raw_path_is_served_all_the_same():
    """`raw_path` is optional in ASGI; without it the decoded path is encoded again."""
    assert raw_path({"path": "/a b/(c):cancel"}) == "/a%20b/(c):cancel"


def test_list_in_pages(store, clock, send):
    """List takes filter, page size and token from the query, under Google's names."""
    for letter in "abc":
        store.create("datafusion", f"{L}/operations/{letter}")
    url = f"/datafusion/v1/{L}/operations?filter=done%3Dfalse&pageSize=2"
    first = send("GET", url).json
    assert [row["name"][-1] for row in first["operations"]] == ["a", "b"]
    second = send("GET", f"{url}&pageToken={first['nextPageToken']}").json
    assert [row["name"][-1] for row in second["operations"]] == ["c"]
    assert "nextPageToken" not in second
    clock.turn(100)
    assert send("GET", url).json == {}


def test_list_in_the_words_of_the_core(store, send):
    """An unknown filter is an InvalidArgumentError for the core."""
    reply = send("GET", f"/datafusion/v1/{L}/operations?filter=verb:create")
    request = protocol.list_(read_parent(L, "datafusion"), endpoint("datafusion"))
    with pytest.raises(InvalidArgumentError):
        request.read(Response(reply.status, reply.headers, reply.body))


def test_the_version_of_the_path_decides_which_names_there_are(store, send):
    """An operation can be requested in any version that knows such names, and in no other."""
    name = f"{L}/solvers/s/operations/o"
    store.create("aiplatform", name)
    assert send("GET", f"/aiplatform/v1beta1/{name}").status == 200
    reply = send("GET", f"/aiplatform/v1/{name}")
    assert (reply.status, reply.headers["content-type"]) == (404, "text/html; charset=UTF-8")


def test_a_post_starts_an_operation(store, clock, send):
    """Any other POST returns a running operation, which can be got by its name."""
    started = send("POST", f"/datafusion/v1/{L}/instances?instanceId=x", {"type": "BASIC"}).json
    assert started["name"].startswith(f"{L}/operations/")
    assert started["metadata"]["target"] == f"{L}/instances/x"
    assert started["metadata"]["verb"] == "create"
    assert send("GET", f"/datafusion/v1/{started['name']}").json == started
    assert store.requests("start")[0].name == started["name"]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_start_may_bring_its_script(send, clock, how):
    """The header x-emulator-script, or the query's script, says how the new operation behaves."""
    script = json.dumps({"duration": 3, "error": {"code": 8, "message": "no quota"}})
    url, headers = f"/datafusion/v1/{L}/instances", {}
    if how == "header":
        headers["X-Emulator-Script"] = script
    else:
        url += "?script=" + script.replace(" ", "%20").replace('"', "%22")
    name = send("POST", url, headers=headers).json["name"]
    clock.turn(3)
    assert send("GET", f"/datafusion/v1/{name}").json["error"] == {"code": 8, "message": "no quota"}


@pytest.mark.parametrize("script", ["{", "[]", '{"duratoin": 1}', '{"duration": -1}'])
def test_a_wrong_script_starts_nothing(store, send, script):
    """A start with a script that makes no sense is a 400."""
    reply = send("POST", f"/datafusion/v1/{L}/instances", headers={"x-emulator-script": script})
    assert reply.error["status"] == "INVALID_ARGUMENT"
    assert store.views() == []


@pytest.mark.parametrize(
    ("query", "body"),
    [("?requestId=r", None), ("?request_id=r", None), ("", {"requestId": "r"}), ("", {"request_id": "r"})],
)
def test_a_repeated_start_with_a_request_id(store, send, query, body):
    """A start that is sent twice with one request id, in query or body, starts one operation."""
    first, second = (send("POST", f"/datafusion/v1/{L}/instances{query}", body).json for _ in range(2))
    assert first == second
    assert len(store.views()) == 1


def test_a_start_needs_json_if_it_has_a_body(store, send):
    """A body that is no JSON object is refused and starts nothing."""
    assert send("POST", f"/datafusion/v1/{L}/instances", data=b"name=x").error["status"] == "INVALID_ARGUMENT"
    assert store.views() == []


def test_latency_holds_the_answer_back_and_not_the_request(store, clock, pause, send):
    """A slow response to cancel comes late, but the cancel took effect when it arrived."""
    store.create("datafusion", O, script={"latency": 4})
    begin = clock.now
    send("POST", f"{U}:cancel")
    assert clock.now == begin + 4
    assert store.get("datafusion", O).done_at == begin


def test_the_answer_to_a_cancel_alone_can_be_slow(store, clock, pause, send):
    """A slow cancel, between looks that are as quick as ever."""
    store.create("datafusion", O, script={"latency": 1, "cancel_latency": 4})
    send("GET", U)
    send("POST", f"{U}:cancel")
    assert pause.slept == [1, 5]


def test_latency_of_the_default_script_holds_back_start_and_list(store, pause, send):
    """Where there is no operation yet, the API's default script says how slow the response is."""
    store.set_script({"latency": 2}, "datafusion")
    send("POST", f"/datafusion/v1/{L}/instances")
    send("GET", f"/datafusion/v1/{L}/operations")
    send("GET", f"/automl/v1/{L}/operations")
    assert pause.slept == [2, 2]


# Scripted failures


def test_429_says_when_to_come_again(store, send, speak):
    """A scripted 429 carries Retry-After in whole seconds and RetryInfo exactly."""
    store.create("datafusion", O)
    store.fail(Failure("429", retry_after=1.5, times=2))
    reply = send("GET", U)
    assert (reply.status, reply.headers["retry-after"]) == (429, "2")
    assert reply.error["status"] == "RESOURCE_EXHAUSTED"
    with pytest.raises(ResourceExhaustedError) as refused:
        speak(protocol.get(read_reference(O, "datafusion"), endpoint("datafusion")))
    assert refused.value.retry_after == 1.5
    assert send("GET", U).status == 200


def test_429_has_a_retry_after_by_default(send, store):
    """A 429 without a time of its own says one second; a 503 says nothing."""
    store.fail(Failure("429"))
    store.fail(Failure("503"))
    assert send("GET", U).headers["retry-after"] == "1"
    assert "retry-after" not in send("GET", U).headers


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("503", 503, UnavailableError),
        ("500", 500, UnavailableError),
        ("504", 504, UnavailableError),
        ("502", 502, UnavailableError),
        ("403", 403, PermissionDeniedError),
        ("401", 401, UnauthenticatedError),
        ("501", 501, UnimplementedError),
        ("404", 404, NotFoundError),
        ("FAILED_PRECONDITION", 400, FailedPreconditionError),
    ],
)
def test_failures_in_the_words_of_the_core(store, speak, kind, status, error):
    """Each scripted failure is the error that the core has for it, and is written down."""
    store.create("datafusion", O)
    store.fail(Failure(kind))
    with pytest.raises(error):
        speak(protocol.get(read_reference(O, "datafusion"), endpoint("datafusion")))
    record = store.requests()[0]
    assert (record.status, record.failure) == (status, kind)


def test_403_names_the_permission(store, send):
    """A scripted 403 reads like Google's: which permission, on what."""
    store.fail(Failure("403", verb="cancel"))
    error = send("POST", f"{U}:cancel").error
    assert error["message"].startswith(f"Permission 'datafusion.operations.cancel' denied on resource '{O}'")
    assert error["details"][0]["reason"] == "IAM_PERMISSION_DENIED"


def test_502_is_a_page_of_a_proxy(store, send):
    """A scripted 502 is HTML, as a proxy in between would write it."""
    store.fail(Failure("502"))
    reply = send("GET", U)
    assert (reply.status, reply.headers["content-type"]) == (502, "text/html; charset=UTF-8")


def test_401_until_the_token_is_refreshed(store, send):
    """A token that was rejected stays so; another one is accepted. No token is shown anywhere."""
    store.create("datafusion", O)
    store.fail(Failure("401"))
    old, new = {"authorization": "Bearer old-secret"}, {"authorization": "Bearer new-secret"}
    replies = [send("GET", U, headers=headers) for headers in (old, old, new, new)]
    assert [reply.status for reply in replies] == [401, 401, 200, 200]
    assert replies[0].headers["www-authenticate"].startswith("Bearer")
    assert "secret" not in send("GET", "/emulator/requests").body.decode()
    assert "secret" not in repr(store.requests())


def test_a_reset_without_a_connection_raises(store, send):
    """In an app that has no connection to drop, a scripted reset is an exception."""
    store.fail(Failure("reset"))
    with pytest.raises(ConnectionResetError):
        send("GET", U)
    record = store.requests()[0]
    assert (record.status, record.failure) == (None, "reset")


def test_a_failure_is_limited_to_its_verb(store, send):
    """A failing cancel lets get through, before and after."""
    store.create("datafusion", O)
    store.fail(Failure("503", verb="cancel"))
    assert send("GET", U).status == 200
    assert send("POST", f"{U}:cancel").status == 503
    assert store.get("datafusion", O).cancel_requests == 0
    assert send("POST", f"{U}:cancel").status == 200


def test_a_failure_may_lose_only_the_answer(store, send):
    """A failure that strikes afterwards: the operation was started, and its request id finds it again."""
    store.fail(Failure("503", verb="start", after=True))
    url = f"/datafusion/v1/{L}/instances?requestId=r"
    assert send("POST", url).status == 503
    assert [view.name for view in store.views()] == [send("POST", url).json["name"]]


def test_a_failure_that_strikes_before_does_nothing(store, send):
    """A failure that strikes before the request is carried out starts and cancels nothing."""
    store.fail(Failure("503", verb="start"))
    assert send("POST", f"/datafusion/v1/{L}/instances").status == 503
    assert store.views() == []


# The record of requests


def test_what_is_recorded_of_a_request(store, clock, send):
    """Time, order, method, path, query, verb, API, name, response, and only whether there was a token."""
    store.create("datafusion", O)
    clock.turn(5)
    send("POST", f"{U}:cancel?alt=json", headers={"authorization": "Bearer secret"})
    assert store.requests()[0].to_dict() == {
        "order": 1,
        "time": clock.now,
        "method": "POST",
        "path": f"{U}:cancel",
        "query": "alt=json",
        "verb": "cancel",
        "service": "datafusion",
        "name": O,
        "authorization": True,
        "status": 200,
        "failure": None,
        "body": None,
    }


@pytest.mark.parametrize(
    ("body", "recorded"),
    [
        ({"type": "BASIC"}, {"type": "BASIC"}),
        (None, {}),
        ({"type": "B" * MAX_BODY_BYTES}, None),
        ([1], None),
    ],
    ids=["an object", "nothing", "too much", "no object"],
)
def test_the_body_of_a_start_is_recorded(store, send, body, recorded):
    """So that a test of a Dag sees what its templates came to."""
    send("POST", f"/datafusion/v1/{L}/instances", body)
    [record] = store.requests()
    assert record.body == recorded


def test_what_is_not_routed_is_recorded_too(store, send):
    """Requests to nowhere are recorded, with what is known of them; those to /emulator are not."""
    send("GET", "/nothing/v1/here")
    send("GET", "/emulator/requests")
    records = store.requests()
    assert [(record.service, record.verb, record.name, record.status) for record in records] == [
        (None, None, None, 404)
    ]
    assert records[0].authorization is False


def test_an_answer_that_is_no_operation_is_malformed_for_the_core(store, send):
    """A page where an operation was expected is not taken for one."""
    reply = send("GET", "/")
    request = protocol.get(read_reference(O, "datafusion"), endpoint("datafusion"))
    with pytest.raises(MalformedResponseError):
        request.read(Response(reply.status, reply.headers, reply.body))


def test_the_app_stands_alone(store):
    """An app can be made without a server."""
    assert create_app(store).router.default is not None


@pytest.mark.parametrize("key", ["fields", "$fields"])
def test_fields_select_what_is_sent(store, send, key):
    """B11: of an operation, of a list, of a start and of a `:wait`; a mask with an unknown field is refused."""
    store.create("datafusion", O, script={"duration": 0, "response": {"large": "x" * 1000}})
    whole = json.loads(send("GET", U).body)
    assert json.loads(send("GET", f"{U}?{key}=name,done").body) == {"name": O, "done": True}
    page = json.loads(send("GET", f"{U.rpartition('/')[0]}?pageSize=5&{key}=operations(name,response)").body)
    assert page == {"operations": [{"name": O, "response": whole["response"]}]}
    started = json.loads(send("POST", f"/datafusion/v1/{L}/instances?instanceId=i&{key}=name").body)
    assert list(started) == ["name"]
    assert send("GET", f"{U}?{key}=name,size").status == 400


@pytest.mark.parametrize(("how", "status"), [("ignore", 200), ("reject", 400)])
def test_fields_may_be_ignored_or_rejected(store, send, how, status):
    """B11: as a service might, that is no API of Google's; a list as the script of the API says."""
    store.create("datafusion", O, script={"duration": 0, "response": {"large": "x"}, "field_mask": how})
    reply = send("GET", f"{U}?fields=name")
    assert reply.status == status
    assert reply.body == send("GET", U).body or b'Unknown name \\"fields\\"' in reply.body
    listed = f"{U.rpartition('/')[0]}?fields=operations(name)"
    assert json.loads(send("GET", listed).body) == {"operations": [{"name": O}]}
    store.set_script({"field_mask": how}, "datafusion")
    assert send("GET", listed).status == status
    assert send("GET", U).status == 200
