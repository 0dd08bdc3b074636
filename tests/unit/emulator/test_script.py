from __future__ import annotations

import json

import pytest

from airflow_lro_provider.emulator.script import Failure, Script, ScriptError


def test_fields_that_are_not_given_have_defaults():
    """A script from an empty object is the default one: ten seconds, then success."""
    assert Script().but({}) == Script(duration=10.0, response=None, error=None, cancel="honour", cancel_delay=0.0)


def test_a_new_result_takes_the_place_of_the_old_one():
    """Overriding a scripted error by a response is no contradiction, and the other way round."""
    failing = Script(error={"code": 13, "message": "boom"})
    assert failing.but({"response": {"a": 1}}).error is None
    assert Script(response={}).but({"error": {"code": 3}}).response is None


def test_a_script_is_plain_json():
    """What a script says survives JSON, failures included."""
    script = Script(duration=None, response={"a": 1}, failures=(Failure("429", verb="get", retry_after=0.5),))
    assert Script().but(json.loads(json.dumps(script.to_dict()))) == script


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"durration": 1}, "durration"),
        ({"duration": -1}, "duration"),
        ({"duration": "5s"}, "duration"),
        ({"duration": True}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"pending": None}, "pending"),
        ({"cancel": "honor"}, "cancel"),
        ({"cancel_when_done": "no"}, "cancel_when_done"),
        ({"response": [1]}, "response"),
        ({"error": {"message": "no code"}}, "error"),
        ({"error": {"code": 17}}, "error"),
        ({"error": {"code": True}}, "error"),
        ({"response": {}, "error": {"code": 3}}, "not both"),
        ({"failures": {"kind": "503"}}, "failures"),
        ({"failures": ["503"]}, "failure"),
        (["duration"], "JSON object"),
    ],
)
def test_a_wrong_script_is_refused_by_name(fields, named):
    """A mistake in a script is named, never guessed away."""
    with pytest.raises(ScriptError, match=named):
        Script().but(fields)


@pytest.mark.parametrize(
    ("kind", "http_code", "status"),
    [
        (429, 429, "RESOURCE_EXHAUSTED"),
        ("503", 503, "UNAVAILABLE"),
        ("400", 400, "INVALID_ARGUMENT"),
        ("FAILED_PRECONDITION", 400, "FAILED_PRECONDITION"),
        ("409", 409, "ABORTED"),
        (500, 500, "INTERNAL"),
        ("UNAUTHENTICATED", 401, "UNAUTHENTICATED"),
        (502, 502, None),
        ("reset", None, None),
    ],
)
def test_kinds_of_failures(kind, http_code, status):
    """A failure is named by its HTTP code or by its google.rpc.Code."""
    failure = Failure(kind)
    assert (failure.http_code, failure.status) == (http_code, status)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "200"},
        {"kind": "OK"},
        {"kind": "timeout"},
        {"kind": "\u0664\u0662\u0669"},
        {"kind": "503", "verb": "poll"},
        {"kind": "503", "times": 0},
        {"kind": "503", "times": 1.5},
        {"kind": "503", "times": "2"},
        {"kind": "503", "retry_after": -1},
        {"kind": "503", "after": "yes"},
        {"kind": "503", "name": 5},
        {"kind": "503", "service": ["datafusion"]},
        {"kind": "503", "when": "now"},
    ],
)
def test_a_wrong_failure_is_refused(fields):
    """A failure that makes no sense never waits in silence for a request."""
    with pytest.raises(ScriptError):
        Failure.read(fields)
