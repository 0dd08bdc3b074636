"""The demo, before it starts anything."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from airflow_lro_provider import cli
from airflow_lro_provider.demo.local_airflow import LocalAirflow


def test_a_database_that_has_something_in_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be that of an Airflow that people work with: the demo would write its own connections and Dags there."""
    file = tmp_path / "airflow.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE dag (dag_id TEXT)")
    before = file.read_bytes()
    monkeypatch.setattr(LocalAirflow, "start", lambda *_: pytest.fail("it was started"))
    assert cli.main(["demo", "--database", f"sqlite:///{file}"]) == 1
    said = capsys.readouterr().err
    assert "The database is not empty: it has 1 table (dag)." in said
    assert "nothing was changed" in said
    assert file.read_bytes() == before


def test_a_database_that_cannot_be_used_is_named_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    assert cli.main(["demo", "--database", "strange://me:secret@host/name"]) == 1
    said = capsys.readouterr().err
    assert "The database cannot be used" in said
    assert "secret" not in said
