"""A real installation: two of everything, tasks through Celery and Redis, and links to the workers that can be cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from airflow_lro_provider.airflow_compat import local
from airflow_lro_provider.demo.local_airflow import Component, LocalAirflow
from tests.e2e.bed.link import Link
from tests.e2e.bed.postgres import LocalPostgres
from tests.e2e.bed.service import free_port

__all__ = ["CeleryAirflow"]

WORKERS = 2


class CeleryAirflow(LocalAirflow):
    """Two API servers (of 2.11: web servers), schedulers, triggerers and Celery workers; on Airflow 3 a Dag processor.

    Each worker talks to an API server of its own, as behind a load balancer that knows its clients.

    :param database: the port of PostgreSQL.
    :param broker: the port of Redis.
    :param slots: how many tasks may run at a time in each worker.
    :param options: as :class:`LocalAirflow` has them.
    """

    def __init__(
        self, home: Path | None = None, *, dags: Path, database: int, broker: int, slots: int, **options: Any
    ) -> None:
        environment = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            **_celery(broker, database),
            # Else a worker keeps the next message to itself, while the other one has nothing to do.
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
            **options.pop("environment", {}),
        }
        url = LocalPostgres.url_at(database)
        super().__init__(home, dags=dags, environment=environment, database=url, triggerers=2, **options)
        self._slots = slots
        self._second_port = free_port()
        self._stack = contextlib.ExitStack()
        self.links = {
            "broker": [Link(broker)],
            "database": [Link(database)],
            "api": [Link(self._api_port), Link(self._second_port)],
        }

    def cut(self, what: str) -> None:
        """Cut the workers off from the broker, the database or the API servers."""
        for link in self.links[what]:
            link.cut()

    def mend(self, what: str) -> None:
        """Undo it."""
        for link in self.links[what]:
            link.mend()

    def deliver_again(self) -> int:
        """Have the broker deliver what is not acknowledged, as it does after its visibility timeout; how much it is."""
        from kombu import Connection

        with Connection(self.environment["AIRFLOW__CELERY__BROKER_URL"]) as connection:
            channel = connection.channel()
            tags = [tag.decode() for tag in channel.client.hkeys(channel.unacked_key)]
            for tag in tags:
                channel.qos.restore_by_tag(tag)
        return len(tags)

    def start(self, timeout: float = 240) -> LocalAirflow:
        """Start everything; see :meth:`LocalAirflow.start`."""
        for link in [link for links in self.links.values() for link in links]:
            self._stack.enter_context(link)
        return super().start(timeout)

    def stop(self) -> None:
        """End everything."""
        super().stop()
        self._stack.close()

    def _plan(self) -> Iterator[Component]:
        yield from super()._plan()
        for arguments in local.components(self._second_port):
            if arguments[0] in (local.WEB, "scheduler"):
                yield self._second(arguments[0], 1, arguments)
        for index in range(WORKERS):
            [broker], [database], api = (self.links[what] for what in ("broker", "database", "api"))
            name = f"worker-{index}" if index else "worker"
            command = ["celery", "worker", "--concurrency", str(self._slots), "--celery-hostname", name]
            environment = {
                **_celery(broker.port, database.port),
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": LocalPostgres.url_at(database.port),
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api[index].port}/execution/",
            }
            yield self._second("worker", index, [*command, "--skip-serve-logs"], environment)

    def _second(
        self, kind: str, index: int, arguments: list[str], environment: Mapping[str, str] | None = None
    ) -> Component:
        name = f"{kind}-{index}" if index else kind
        return Component(kind, name, arguments, self.home / f"{name}.log", dict(environment or {}))

    def _is_ready(self, component: Component, components: list[Component]) -> bool:
        if component.kind == "worker":
            return component.has_logged(" ready")
        if component.name == f"{local.WEB}-1":
            path = "/execution/health" if local.HAS_JOBS else f"{local.API}health"
            with contextlib.suppress(requests.RequestException):
                return self._http.get(f"http://127.0.0.1:{self._second_port}{path}", timeout=60).ok
            return False
        return super()._is_ready(component, components)


def _celery(broker: int, database: int) -> dict[str, str]:
    """Where Celery's messages and results are."""
    results = f"db+{LocalPostgres.url_at(database)}"
    return {
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": results,
        # Celery refuses to run as root, in words, unless it is told that it may.
        **({"C_FORCE_ROOT": "1"} if os.geteuid() == 0 else {}),
    }
