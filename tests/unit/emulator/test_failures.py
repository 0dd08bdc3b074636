from __future__ import annotations

import pytest

from airflow_lro_provider.emulator.failures import FailureList
from airflow_lro_provider.emulator.script import Failure


@pytest.fixture
def failures() -> FailureList:
    return FailureList()


def kinds(failures: FailureList, requests: int, verb: str = "get", token: str = "t") -> list[str | None]:
    taken = [failures.take(verb, "datafusion", "o", token) for _ in range(requests)]
    return [None if failure is None else str(failure.kind) for failure in taken]


def test_failures_are_used_up_in_order(failures):
    """Each request takes one failure, in the order in which they were added, and then all is well."""
    failures.add(Failure("429", times=2))
    failures.add(Failure("503"))
    assert kinds(failures, 4) == ["429", "429", "503", None]
    assert failures.pending() == []


def test_a_failure_may_last_for_ever(failures):
    """Without a number of times a failure never ends."""
    failures.add(Failure("503", times=None))
    assert kinds(failures, 50) == ["503"] * 50
    assert len(failures.pending()) == 1


@pytest.mark.parametrize("limit", [{"verb": "cancel"}, {"service": "automl"}, {"name": "other"}])
def test_a_failure_waits_for_a_request_that_fits(failures, limit):
    """A failure of one verb, API or operation leaves the others alone."""
    failures.add(Failure("503", **limit))
    assert kinds(failures, 3) == [None] * 3
    wanted = {"verb": "get", "service": "datafusion", "name": "o", **limit}
    assert failures.take(wanted["verb"], wanted["service"], wanted["name"], "t") is not None


def test_a_401_stands_until_another_token_comes(failures):
    """A rejected token stays rejected however often it comes; the next token is accepted."""
    failures.add(Failure("401"))
    assert kinds(failures, 3, token="old") == ["401"] * 3
    assert kinds(failures, 1, token="new") == [None]
    assert kinds(failures, 1, token="old") == [None]


def test_a_401_may_reject_several_tokens(failures):
    """`times` of a 401 counts tokens, not requests."""
    failures.add(Failure("401", times=2))
    assert kinds(failures, 2, token="a") == ["401", "401"]
    assert kinds(failures, 2, token="b") == ["401", "401"]
    assert kinds(failures, 2, token="c") == [None, None]


def test_a_401_may_reject_every_token(failures):
    """With `times=None` no token is ever good."""
    failures.add(Failure("401", times=None))
    assert [kinds(failures, 1, token=token) for token in "abca"] == [["401"]] * 4


def test_an_accepted_token_may_meet_the_next_failure(failures):
    """A request that ends a 401 can still get the failure behind it."""
    failures.add(Failure("401"))
    failures.add(Failure("503"))
    assert kinds(failures, 1, token="old") == ["401"]
    assert kinds(failures, 2, token="new") == ["503", None]
