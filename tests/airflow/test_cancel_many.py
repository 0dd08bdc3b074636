"""Cancelling all operations of a parent, against the local server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.exceptions import OperationFailedError, OperationInputError, OperationRunningError
from airflow_lro_provider.lro import polling
from airflow_lro_provider.lro.async_client import AsyncOperationsClient
from airflow_lro_provider.lro.errors import UnauthenticatedError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.operators.operations import CancelOperationsOperator
from tests.airflow.played import replace_the_key
from tests.late_success import succeed_after_cancel

PARENT = "projects/p/locations/us-central1"


@pytest.fixture(autouse=True)
def connection(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default connection leads to the local server."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", lro_emulator.airflow_connection_json())


def make(emulator: Emulator, parent: str = PARENT, **script: Any) -> str:
    """An operation below the parent."""
    return emulator.create("datafusion", parent=parent, **{"duration": None, **script})


def run(**arguments: Any) -> Any:
    """Execute the operator as the task runner does."""
    given = {"parent": PARENT, "service": "datafusion", "poll_interval": 0.02, **arguments}
    operator = CancelOperationsOperator(task_id="t", **given)
    return operator.execute({"ti": SimpleNamespace(id="i", try_number=1, max_tries=0, task=SimpleNamespace(retries=0))})


def test_each_has_its_outcome(lro_emulator: Emulator) -> None:
    """Cancelled at once or late, completed all the same; what was over before is none of its business."""
    names = [make(lro_emulator), make(lro_emulator, cancel_delay=0.2), make(lro_emulator, cancel="ignore")]
    make(lro_emulator, duration=0)
    make(lro_emulator, parent="projects/other/locations/us-central1")
    succeed_after_cancel(lro_emulator, names[2])
    result = run()
    assert result["outcomes"] == {"CANCELLED": 2, "COMPLETED_DESPITE_CANCEL": 1}
    assert [row["name"] for row in result["operations"]] == names
    assert len(lro_emulator.requests(verb="cancel")) == 3


def test_one_of_an_unknown_kind_does_not_keep_the_others(
    lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may list operations of names that we do not know of: reported, and the others are cancelled."""
    make(lro_emulator)
    real = AsyncOperationsClient.list

    async def with_another(self: Any, *args: Any, **kwargs: Any) -> Any:
        yield Operation.from_json({"name": "tenants/t/operations/o"})
        async for seen in real(self, *args, **kwargs):
            yield seen

    monkeypatch.setattr(AsyncOperationsClient, "list", with_another)
    with pytest.raises(OperationFailedError, match=r"1 of 2 .*: ERROR"):
        run()
    assert len(lro_emulator.requests(verb="cancel")) == 1


@pytest.mark.parametrize("verb", ["list", "cancel", "get"])
def test_trouble_of_our_own_is_waited_out(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Row A10: a token that is not accepted, wherever it is met, and a connection that has another one then."""
    for _ in range(3):
        make(lro_emulator, cancel_delay=0.2)
    replace_the_key(lro_emulator, monkeypatch, verb)
    assert run()["outcomes"] == {"CANCELLED": 3}


def test_trouble_of_our_own_ends_with_the_timeout(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing was cancelled, and the error says why."""
    monkeypatch.setattr(polling, "TROUBLE_PAUSE_SECONDS", 0.01)
    make(lro_emulator)
    lro_emulator.fail(401, verb="list", times=None)
    with pytest.raises(UnauthenticatedError, match="401"):
        run(timeout=0.3)
    assert len(lro_emulator.requests("list")) > 2


def test_a_dry_run_cancels_nothing(lro_emulator: Emulator) -> None:
    """It reports what would be cancelled."""
    name = make(lro_emulator)
    assert run(dry_run=True) == {
        "outcomes": {"STILL_RUNNING": 1},
        "operations": [{"name": name, "outcome": "STILL_RUNNING"}],
    }
    assert lro_emulator.requests(verb="cancel") == []


def test_nothing_to_do_is_fine() -> None:
    """No operations, no outcomes, no failure."""
    assert run() == {"outcomes": {}, "operations": []}


def test_one_that_is_refused_does_not_keep_the_others_from_it(lro_emulator: Emulator) -> None:
    """403 for one of three: the others are cancelled, and the task fails with its name."""
    make(lro_emulator)
    bad = make(lro_emulator)
    make(lro_emulator)
    lro_emulator.fail(403, verb="cancel", name=bad)
    with pytest.raises(
        OperationFailedError, match=f"1 of 3 operations below {PARENT}: ERROR.*{bad}.*PERMISSION_DENIED"
    ):
        run()
    assert [view.cancel_requests for view in lro_emulator.operations()] == [1, 0, 1]


def test_one_that_cannot_be_cancelled_fails_unless_that_is_fine(lro_emulator: Emulator) -> None:
    """As for a single one, fail_on decides."""
    make(lro_emulator, cancel="unimplemented")
    with pytest.raises(OperationFailedError, match="CANCEL_UNSUPPORTED"):
        run()
    assert run(fail_on=set())["outcomes"] == {"CANCEL_UNSUPPORTED": 1}


def test_those_that_do_not_end_in_time_are_worth_a_retry(lro_emulator: Emulator) -> None:
    """STILL_RUNNING at the timeout, for all of them together."""
    for _ in range(3):
        make(lro_emulator, cancel="ignore")
    with pytest.raises(OperationRunningError, match="3 of 3"):
        run(timeout=0.2)


def test_one_whose_polls_fail_is_not_said_to_run(lro_emulator: Emulator) -> None:
    """C5: what became of it is not known, and the last error is reported."""
    make(lro_emulator, cancel="ignore")
    lro_emulator.fail(503, verb="get", times=99)
    [row] = run(timeout=0.2, fail_on=set())["operations"]
    assert (row["outcome"], "the last poll failed (datafusion: get" in row["message"]) == ("ERROR", True)


def test_without_waiting_the_requests_are_all(lro_emulator: Emulator) -> None:
    """What was asked for is STILL_RUNNING, and no failure."""
    make(lro_emulator, cancel_delay=60)
    assert run(wait_for_completion=False)["outcomes"] == {"STILL_RUNNING": 1}
    assert len(lro_emulator.requests(verb="get")) == 0


def test_many_are_bounded_in_parallel(lro_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more requests under way than asked for, over several pages of the list."""
    from airflow_lro_provider.lro.async_client import AsyncOperationsClient

    for _ in range(130):
        make(lro_emulator)
    under_way, most = 0, 0
    real = AsyncOperationsClient.cancel

    async def cancel(*args: Any, **kwargs: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await real(*args, **kwargs)
        finally:
            under_way -= 1

    monkeypatch.setattr(AsyncOperationsClient, "cancel", cancel)
    assert run(max_parallel=5)["outcomes"] == {"CANCELLED": 130}
    assert most == 5
    assert len(lro_emulator.requests(verb="list")) == 2


def test_a_filter_is_handed_on(lro_emulator: Emulator) -> None:
    """In the service's own dialect."""
    make(lro_emulator)
    run(filter="done:false")
    [request] = lro_emulator.requests(verb="list")
    assert request.query.startswith("filter=done%3Afalse&fields=")


def test_bad_input_is_refused_early(lro_emulator: Emulator) -> None:
    """A literal when the Dag is parsed, the rest before anything is sent."""
    with pytest.raises(ValueError, match="is not a parent of operations"):
        run(parent="folders/f")
    with pytest.raises(ValueError, match="max_parallel"):
        run(max_parallel=0)
    operator = CancelOperationsOperator(task_id="t", parent="{{ x }}", service="datafusion")
    operator.parent = "projects/../x"
    with pytest.raises(OperationInputError):
        operator.execute({"ti": SimpleNamespace(id="i", try_number=1, max_tries=0, task=SimpleNamespace(retries=0))})
    assert lro_emulator.requests() == []
