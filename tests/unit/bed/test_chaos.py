"""The chaos: its plan follows from the seed, and its judge excuses nothing without evidence."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from tests.e2e.bed.chaos_judge import NEVER_RAN, STALLED, Account, Struck, settle
from tests.e2e.bed.chaos_plan import CRASHES, DEFERRED, PROCESS, life, upheavals
from tests.e2e.bed.judge import Seen

LIVES = [life(7, number) for number in range(400)]
LEFT = Seen("a", "RUNNING", 50.0)
CANCELLED = Seen("a", "CANCELLED", 50.0, 103.0, 102.0)


def struck(kind: str, at: float = 100.0, state: str = "running", **how: Any) -> Struck:
    """A kill of a task that has run, or waited, for a while."""
    return Struck(kind, at, state, **{"since": at - 30, "may_retry": False, "looked": at - 1, **how})


def test_a_sensor_that_never_looked_had_no_operation() -> None:
    """Killed in its first moment, before it stood for anything; one that has looked is not excused."""
    assert [one.why for one in settle(Account([LEFT], "failed", [struck("sigterm")], unseen=True))] == [NEVER_RAN]
    assert [one.why for one in settle(Account([LEFT], "failed", [struck("sigterm")]))] == [""]


@pytest.mark.parametrize(("run_state", "why"), [("running", STALLED), ("queued", STALLED), ("failed", ""), (None, "")])
def test_a_cleared_task_that_airflow_does_not_begin_again(run_state: str | None, why: str) -> None:
    """In a run that goes on it lives, for Airflow; in one that has ended its operation has to be, and may be."""
    account = Account([LEFT], None, [struck("failed"), struck("revived", at=100.5)], run_state=run_state)
    assert [one.why for one in settle(account)] == [why]
    late = Seen("a", "CANCELLED", 50.0, 403.0, 402.0)
    found = settle(Account([late], None, [struck("revived", at=100.5)], run_state=run_state))
    assert [one.what for one in found] == ([] if run_state == "failed" else ["false kill"])


def test_the_plan_follows_from_the_seed() -> None:
    """The same for the same seed, in whatever order it is asked for."""
    assert [life(7, number) for number in reversed(range(50))] == LIVES[:50][::-1]
    assert [life(8, number) for number in range(50)] != LIVES[:50]
    assert list(islice(upheavals(7, 2), 20)) == list(islice(upheavals(7, 2), 20))


def test_the_plan_makes_sense() -> None:
    """Every shape comes; nobody sends signals to what has no process; a sensor is cancelled only in the end."""
    assert {one.shape for one in LIVES} == {"running", "decorator", "started", "poke", "deferred"}
    for one in LIVES:
        kinds = [blow.kind for blow in one.blows]
        assert kinds
        assert not (one.shape in DEFERRED and set(kinds) & set(PROCESS))
        if not one.starts:
            assert set(kinds[:-1]) <= set(CRASHES)
            assert len(kinds) == 1 or one.variant == "retries"
    assert sum(len(one.blows) for one in LIVES) / len(LIVES) > 2


@pytest.mark.parametrize(
    ("blow", "why"),
    [
        (struck("sigkill"), "SIGKILL of the task without a retry"),
        (struck("failed", state="queued"), "killed while it had no process (it was queued)"),
        (
            struck("clear", state="deferred", since=99.0, looked=98.8),
            "killed in the moment of its deferral, before a triggerer had it",
        ),
        (struck("airflow", state="queued"), "Airflow itself had failed the task (its bug, not a kill)"),
    ],
)
def test_a_leak_is_excused_where_airflow_calls_no_hook(blow: Struck, why: str) -> None:
    """Each with its evidence."""
    [finding] = settle(Account([LEFT], "failed", [blow]))
    assert (finding.what, finding.why) == ("leak", why)


def test_a_leak_without_evidence_is_a_defect() -> None:
    """Where a hook is called, nothing excuses it."""
    for blow in (
        struck("failed"),
        struck("failed", state="deferred"),
        struck("failed", state="deferred", since=98.0, looked=99.5),
        struck("sigkill", may_retry=True),
        struck("sigkill-supervisor"),
        struck("sigterm"),
        struck("deadline"),
    ):
        assert [finding.why for finding in settle(Account([LEFT], "failed", [blow]))] == [""]
    [before] = settle(Account([LEFT], "failed", [struck("sigkill", at=20.0)]))
    assert before.why == "", "a kill before the operation was started has nothing to do with it"


def test_a_triggerer_that_is_down_excuses_deferred_tasks_only() -> None:
    """And only around that time."""
    silent = struck("failed", state="deferred", looked=92.0)
    assert settle(Account([LEFT], "failed", [silent], down=[90.0]))[0].why == "its triggerer was down"
    looked_at = struck("failed", state="deferred")
    assert settle(Account([LEFT], "failed", [looked_at], down=[105.0]))[0].why.startswith("its triggerer went down")
    for blow, down in ((looked_at, 90.0), (silent, 20.0), (looked_at, 130.0), (struck("failed"), 101.0)):
        assert settle(Account([LEFT], "failed", [blow], down=[down]))[0].why == ""


def test_a_triggerer_that_died_after_the_last_look_was_down() -> None:
    """Nobody has looked since: however short a time before the kill that was."""
    blow = struck("failed", state="deferred", looked=98.5)
    assert settle(Account([LEFT], "failed", [blow], down=[99.0]))[0].why == "its triggerer was down"
    assert settle(Account([LEFT], "failed", [blow], down=[98.0]))[0].why == "", "somebody has looked since"


def test_a_process_that_was_gone_already_hears_of_no_kill() -> None:
    """SIGKILL of a supervisor, and marked failed before Airflow has missed it."""
    gone = struck("sigkill-supervisor", at=80.0, may_retry=True)
    assert settle(Account([LEFT], "failed", [gone, struck("failed", looked=81.0)]))[0].why.startswith("killed when its")
    assert settle(Account([LEFT], "failed", [gone, struck("failed", looked=99.0)]))[0].why == "", "another try looks"


def test_a_cancel_needs_a_kill_that_cancels() -> None:
    """A crash with a retry, or a triggerer that is restarted, is none."""
    assert settle(Account([CANCELLED], "failed", [struck("failed")])) == []
    assert settle(Account([CANCELLED], "failed", [struck("sigkill-supervisor")])) == []
    assert settle(Account([CANCELLED], "failed", [struck("sigterm")])) == []
    left = [[struck(kind, may_retry=True)] for kind in sorted(CRASHES)]
    for blows in ([], *left, [struck("failed", at=110.0)]):
        assert [finding.what for finding in settle(Account([CANCELLED], "failed", blows))] == ["false kill"]


def test_a_cleared_task_may_begin_again_after_its_retry_delay() -> None:
    """Five minutes by default: only then does a try cancel what the one before it has left."""
    late = Seen("a", "CANCELLED", 50.0, 420.0, 419.0)
    assert settle(Account([late], "failed", [struck("clear")])) == []
    later = Seen("a", "CANCELLED", 50.0, 440.0, 439.0)
    assert [one.what for one in settle(Account([later], "failed", [struck("clear")]))] == ["false kill"]


@pytest.mark.parametrize("kind", ["failed", "success", "run-failed", "deadline"])
def test_what_a_user_has_ended_may_be_swept_at_any_time(kind: str) -> None:
    """Nobody has it since; of an operation that was begun after that kill this is not said."""
    late = Seen("a", "CANCELLED", 50.0, 640.0, 639.0)
    assert settle(Account([late], "failed", [struck(kind)])) == []
    younger = Seen("a", "CANCELLED", 200.0, 640.0, 639.0)
    assert [one.what for one in settle(Account([younger], "failed", [struck(kind)]))] == ["false kill"]


def test_what_was_started_while_the_api_server_was_away_is_nobodys() -> None:
    """No record names it, another try has started its own, and the late process cancels what it alone knows."""
    own = Seen("b", "SUCCEEDED", 103.5, 110.0, None)
    assert settle(Account([CANCELLED, own], "success", [], outages=[(45.0, 60.0)], may_retry=True)) == []
    for operations, away in (([CANCELLED, own], (60.0, 70.0)), ([CANCELLED], (45.0, 60.0))):
        found = settle(Account(operations, "failed", [], outages=[away], may_retry=True))
        assert [one.what for one in found] == ["false kill"]


@pytest.mark.parametrize("kind", ["freeze", "sigterm"])
def test_a_process_that_has_not_begun_calls_no_hook(kind: str) -> None:
    """What an earlier try has left is lost with it; one that has looked at it is not excused."""
    young = struck(kind, since=99.8, looked=95.0)
    assert settle(Account([LEFT], "failed", [young]))[0].why.startswith("killed before its process had begun")
    assert settle(Account([LEFT], "failed", [struck(kind, since=99.0, looked=99.5)]))[0].why == ""
    assert settle(Account([LEFT], "failed", [struck(kind, since=90.0, looked=85.0)]))[0].why == ""


def test_an_api_server_that_is_away_ends_only_tasks_without_retries() -> None:
    """Their supervisors kill them; what has retries left is left to the next try, which may be unable to begin."""
    away = [(80.0, 101.0)]
    assert settle(Account([CANCELLED], "failed", [], outages=away)) == []
    assert settle(Account([CANCELLED], "failed", [], outages=[(10.0, 50.0)])) != []
    [found] = settle(Account([CANCELLED], "failed", [], outages=away, may_retry=True))
    assert found.what == "false kill"
    [left] = settle(Account([LEFT], "failed", [], outages=away, may_retry=True))
    assert left.why == "its tries could not begin while the API server was away"


def test_a_duplicate_is_excused_only_by_a_start_without_an_answer() -> None:
    """SIGKILL in the moment of the start."""
    second = Seen("b", "SUCCEEDED", 104.0, 110.0)
    [found, _] = settle(Account([LEFT, second], "success", [struck("sigkill", at=50.2, may_retry=True)]))[::-1]
    assert (found.what, found.why) == ("duplicate", "SIGKILL before the start was answered")
    later = settle(Account([LEFT, second], "success", [struck("sigkill", at=90.0, may_retry=True)]))
    assert ("duplicate", "") in [(finding.what, finding.why) for finding in later]


def test_green_by_its_own_kill() -> None:
    """Unless a user said so."""
    kinds = [finding.what for finding in settle(Account([CANCELLED], "success", [struck("clear")]))]
    assert kinds == ["green"]
    assert settle(Account([CANCELLED], "success", [struck("success")])) == []
