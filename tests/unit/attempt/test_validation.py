"""What is wrong in a Dag file is said when the file is parsed; what is not known yet is left for later."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lro_provider.attempt.validation import (
    check_cancel,
    check_method,
    check_outcomes,
    check_parent,
    check_reference,
    is_literal,
)
from airflow_lro_provider.lro.errors import ForbiddenEndpointError, InvalidReferenceError, UnknownServiceError
from airflow_lro_provider.lro.operation import Outcome

NAME = "projects/p/locations/us-central1/operations/o"


class Later:
    """Something that Airflow resolves at run time, such as an XComArg."""

    def __repr__(self) -> str:
        return "later"


def same_name(value: object) -> str:
    """A test's name that is the same in every process: a set has another order in each."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__} {sorted(value, key=str)}"
    return repr(value)


LATER = Later()
TEMPLATE = "{{ ti.xcom_pull(task_ids='start')['name'] }}"


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (None, True),
        (True, True),
        (7, True),
        (1.5, True),
        ("", True),
        (NAME, True),
        ("a { b } c", True),
        (["a", 1], True),
        (("a",), True),
        ({"name": NAME, "metadata": {"n": [1]}}, True),
        (TEMPLATE, False),
        ("{% if x %}a{% endif %}", False),
        ("projects/{{ params.p }}/operations/o", False),
        (["a", TEMPLATE], False),
        ({"name": TEMPLATE}, False),
        ({"operation": {"name": LATER}}, False),
        (LATER, False),
        ([LATER], False),
    ],
    ids=same_name,
)
def test_is_literal(value: Any, literal: bool) -> None:
    """A value is known at parse time if nothing in it is a template or is resolved later."""
    assert is_literal(value) is literal


@pytest.mark.parametrize(
    "arguments",
    [
        (NAME, "datafusion", None, "google_lro_default"),
        (NAME, "datafusion", "v1beta1", None),
        ({"name": NAME}, "datafusion", None, None),
        (f"//datafusion.googleapis.com/{NAME}", None, None, None),
        (f"https://datafusion.googleapis.com/v1/{NAME}", None, None, None),
        (TEMPLATE, "datafusion", None, None),
        (TEMPLATE, None, None, None),
        (LATER, "datafusion", None, None),
        (NAME, TEMPLATE, None, None),
        ("no name at all", LATER, None, None),
        ("no name at all", "datafusion", TEMPLATE, None),
        ("no name at all", "{{ params.service }}", "v99", None),
        ({"name": LATER}, "datafusion", None, None),
        ("https://psc.example/v1/" + NAME, "datafusion", None, "google_lro_default"),
        ("https://psc.example/v1/" + NAME, None, None, "google_lro_default"),
        ("https://psc.example/v1/" + NAME, None, None, TEMPLATE),
        ("https://psc.example/base/v1/" + NAME, "datafusion", None, "google_lro_default"),
        ("http://127.0.0.1:8080/datafusion/v1/" + NAME, "datafusion", None, "google_lro_default"),
    ],
    ids=same_name,
)
@pytest.mark.filterwarnings("ignore:psc.example:UserWarning")
def test_what_may_be_right_is_let_through(arguments: tuple[Any, ...]) -> None:
    """Right literals pass, and so does what only the run or the connection can tell."""
    check_reference(*arguments)


def test_without_a_connection_the_environment_names_the_universe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default credentials belong to the universe of GOOGLE_CLOUD_UNIVERSE_DOMAIN: its hosts pass, others do not."""
    url = f"https://datafusion.universe.example/v1/{NAME}"
    method = "https://datafusion.universe.example/v1/projects/p/locations/l/instances"
    with pytest.raises(ForbiddenEndpointError):
        check_reference(url, None, None, None)
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "universe.example")
    check_reference(url, None, None, None)
    check_method(method, "POST", None, None, None, None)
    with pytest.raises(ForbiddenEndpointError, match=r"of the universe googleapis\.com"):
        check_reference(f"https://datafusion.googleapis.com/v1/{NAME}", None, None, None)


@pytest.mark.filterwarnings("error")
def test_the_hosts_of_the_environments_universe_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's provider 21.3, 22.0 (apache/airflow#66159, #66917): a private cloud has its own hosts."""
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "universe.example")
    host, instances = "datafusion.universe.example", "projects/p/locations/l/instances"
    check_reference(f"https://{host}/v1/{NAME}", None, None, "c", "cancel")
    check_reference(f"//{host}/{NAME}", None, None, "c")
    check_reference(NAME, host, None, "c", "cancel")
    check_method(instances, "POST", None, f" {host}\n", None, "c")
    check_method(f"https://{host}/v1/{instances}", "POST", None, None, None, "c")
    check_parent("projects/p/locations/l", host, None)
    check_cancel(host, None)
    # What only a connection may name is not refused because of the environment, nor is a plain name.
    check_reference(f"https://datafusion.googleapis.com/v1/{NAME}", None, None, "c")
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "no domain")
    check_reference(NAME, "datafusion", None, "c")
    with pytest.raises(UnknownServiceError):
        check_reference(NAME, host, None, "c")


@pytest.mark.parametrize(
    ("arguments", "error", "cure"),
    [
        ((NAME, "data-fusion", None, "c"), UnknownServiceError, "Did you mean 'datafusion'"),
        ((TEMPLATE, "vertex", None, "c"), UnknownServiceError, "Did you mean 'aiplatform'"),
        ((LATER, "ee", TEMPLATE, "c"), UnknownServiceError, "Did you mean 'earthengine'"),
        ((TEMPLATE, "datafusion", "v9", "c"), UnknownServiceError, "It has: v1, v1beta1"),
        ((NAME, "", None, "c"), UnknownServiceError, "`service` must be the name of an API"),
        ((NAME, 7, None, "c"), UnknownServiceError, "`service` must be the name of an API"),
        ((NAME, None, None, "c"), InvalidReferenceError, "give service="),
        ((None, "datafusion", None, "c"), InvalidReferenceError, "not by NoneType"),
        (("", "datafusion", None, "c"), InvalidReferenceError, "is empty"),
        ((NAME + ":cancel", "datafusion", None, "c"), InvalidReferenceError, "Leave it out"),
        (({"id": 1}, "datafusion", None, "c"), InvalidReferenceError, "no `name`"),
        (
            (f"https://datafusion.googleapis.com/v1/{NAME}", None, "v1beta1", "c"),
            InvalidReferenceError,
            "but `api_version` says 'v1beta1'",
        ),
        (
            (f"http://datafusion.googleapis.com/v1/{NAME}", None, None, "c"),
            InvalidReferenceError,
            "https only",
        ),
        ((f"https://psc.example/v1/{NAME}", "datafusion", None, None), ForbiddenEndpointError, "nothing was sent"),
        ((f"https://psc.example/v1/{NAME}", None, None, None), ForbiddenEndpointError, "nothing was sent"),
    ],
    ids=same_name,
)
def test_what_can_never_be_right_is_refused(arguments: tuple[Any, ...], error: type[Exception], cure: str) -> None:
    """A literal that no run can make right fails the parsing, with the way out."""
    with pytest.raises(error, match=cure):
        check_reference(*arguments)


@pytest.mark.parametrize(
    "check",
    [
        lambda value: check_reference(value, "datafusion", None, "c"),
        lambda value: check_method(value, "POST", None, "datafusion", None, "c"),
        lambda value: check_parent(value, "datafusion", None),
    ],
    ids=["name", "method", "parent"],
)
def test_a_task_is_not_what_it_returns(check: Callable[[Any], None]) -> None:
    """C11: a task without `.output` is refused when the Dag is parsed."""
    with pytest.raises(InvalidReferenceError, match=r"is SimpleNamespace\. That is a task and .*=start\.output"):
        check(SimpleNamespace(task_id="start", output=None))


@pytest.mark.parametrize("where", ["//datafusionn.googleapis.com/", "https://workflowexecutions.googleapis.com/v1/"])
def test_a_host_that_is_like_googles_is_refused(where: str) -> None:
    """C11: below googleapis.com only a private endpoint can be unknown; of another host only the connection knows."""
    with pytest.raises(ForbiddenEndpointError, match="is not a known Google API"):
        check_reference(where + NAME, "datafusion", None, "c")
    with pytest.raises(ForbiddenEndpointError, match="is not a known Google API"):
        check_method(where + NAME, "POST", None, "datafusion", None, "c")


def test_a_foreign_host_gets_a_warning() -> None:
    """C11: it is said when the Dag is parsed that the connection has to name it."""
    with pytest.warns(UserWarning, match=r"psc\.example .* is not Google's.*`api_endpoint`"):
        check_method(f"https://psc.example/v1/{NAME}", "POST", None, "datafusion", None, "c")


def test_names_and_paths_in_the_connections_project() -> None:
    """B15: what begins with its location passes when the Dag is parsed."""
    check_reference("locations/us-central1/operations/o", "datafusion", None, "c")
    check_method("locations/us-central1/instances", "POST", None, "datafusion", None, "c")
    check_parent("locations/us-central1", "datafusion", None)


@pytest.mark.parametrize(
    ("outcomes", "names"),
    [
        ([], set()),
        ({"FAILED", "CANCELLED"}, {"FAILED", "CANCELLED"}),
        ([Outcome.FAILED, "CANCELLED"], {"FAILED", "CANCELLED"}),
        ("FAILED", {"FAILED"}),
        (Outcome.NOT_FOUND, {"NOT_FOUND"}),
        (tuple(Outcome), {outcome.value for outcome in Outcome}),
    ],
    ids=same_name,
)
def test_check_outcomes(outcomes: Any, names: set[str]) -> None:
    """One outcome or several, by name or as such, become a set of names."""
    checked = check_outcomes("fail_on", outcomes)
    assert checked == names
    assert {type(name) for name in checked} <= {str}


@pytest.mark.parametrize("outcomes", ["failed", "FAILED,CANCELLED", ["FAILED", "DONE"], [None], [7]], ids=repr)
def test_check_outcomes_refuses(outcomes: Any) -> None:
    """A word that is no outcome is refused with the words that are."""
    with pytest.raises(ValueError, match=r"^`fail_on` has no outcome .*; there are: SUCCEEDED, FAILED, CANCELLED, "):
        check_outcomes("fail_on", outcomes)


@pytest.mark.parametrize("outcomes", [None, 7, [["FAILED"]]], ids=repr)
def test_check_outcomes_refuses_what_is_no_set_of_words(outcomes: Any) -> None:
    """What is no word and no collection of words is refused by a ValueError that names the argument, too."""
    with pytest.raises(ValueError, match="`fail_on`"):
        check_outcomes("fail_on", outcomes)
