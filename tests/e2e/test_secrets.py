"""Secrets: tokens and keys are in no log, no XCom, no trigger's arguments, nowhere in Airflow's database."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.bed.lab import Lab

WITH_A_KEY = {"connection": "with_a_key"}


def test_no_token_and_no_key_is_written_anywhere(lab: Lab) -> None:
    """Tasks with a real key are run, killed and refused; then every file of Airflow's home is searched.

    This test runs last: the logs of all end-to-end tests lie in that home.
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
    searched = 0
    for file in Path(lab.airflow.home).rglob("*"):
        if file.is_file():
            searched += 1
            content = file.read_bytes()
            found = [secret[:12] for secret in lab.bank.secrets if secret in content]
            assert not found, f"{file} holds {found}"
    assert searched > 10
