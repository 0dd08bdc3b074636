"""Secrets: tokens and keys are in no log, no XCom, no trigger's arguments, nowhere in Airflow's database."""

from __future__ import annotations

from tests.e2e.bed.lab import WITH_A_KEY, Lab


def test_no_token_and_no_key_is_written_anywhere(lab: Lab) -> None:
    """Tasks with a real key are run, killed and refused; then every file of Airflow's home is searched.

    This test runs last: the logs of all tests that share this Airflow lie in that home.
    """
    assert lab.bank is not None
    done = [lab.start(dag_id, conf=WITH_A_KEY, duration=5) for dag_id in ("poke", "deferred", "cancel_deferred")]
    killed = [lab.start(shape, conf=WITH_A_KEY).waits() for shape in ("poke", "deferred")]
    for run in killed:
        lab.kill(run, "failed")
        run.is_cancelled()
    for run in done:
        run.reaches("success")
    forbidden = lab.emulator.create("datafusion", duration=None)
    lab.emulator.fail(403, times=None, name=forbidden)
    refused = lab.run("poke", forbidden, conf=WITH_A_KEY)
    refused.reaches("failed")
    assert "PERMISSION_DENIED" in refused.log()
    assert lab.bank.tokens, "the tasks had real tokens"
    assert all(request.authorization for request in lab.emulator.requests(name=done[0].operation_name))
    assert lab.search_for_secrets() > 10
