"""Tests of tasks in one process: what a task process leaves behind ends with each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_listener_is_left() -> Iterator[None]:
    """A task that defers listens for the end of its process, which never comes here."""
    yield
    from airflow.sdk.listener import get_listener_manager

    plugins = get_listener_manager().pm
    for plugin in plugins.get_plugins():
        if type(plugin).__module__ == "airflow_lro_provider.airflow_compat.task_process":
            plugins.unregister(plugin)
