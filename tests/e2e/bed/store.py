"""The local server's store of operations, which counts what is asked of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from airflow_lro_provider.emulator import Store

__all__ = ["CountingStore", "operation_of"]


def operation_of(key: str) -> str:
    """The name of a key's operation. Each has a parent of its own, so that a look at it is by whoever waits for it."""
    return f"projects/{key}/locations/us-central1/operations/{key}"


class CountingStore(Store):
    """A store that remembers what keys started, and what was asked: quicker to ask than the journal."""

    def __init__(self) -> None:
        super().__init__()
        self.requests_of: Counter[str] = Counter()
        self.asked_for: set[str] = set()
        self.service_of: dict[str, str] = {}
        self.cancels: dict[str, list[float]] = defaultdict(list)
        self.of_key: dict[str, dict[str, str]] = defaultdict(dict)

    def create(self, service: str, name: str | None = None, **how: Any) -> Any:
        """Start an operation, and remember its key: the last part of its target, or of its own name."""
        view = super().create(service, name, **how)
        key = (how.get("target") or view.name).rpartition("/")[2]
        self.of_key[key].setdefault(view.name, view.service)
        self.service_of[view.name] = view.service
        return view

    def note_request(self, **fields: Any) -> Any:
        """Count it."""
        self.requests_of[fields["verb"]] += 1
        if fields["verb"] in ("get", "wait"):
            self.asked_for.add(fields["name"])
        elif fields["verb"] == "cancel":
            self.cancels[fields["name"]].append(self.clock())
        return super().note_request(**fields)

    def amend(self, name: str, **changes: Any) -> None:
        """Let an operation that there is behave otherwise from now on; see :class:`Script` for the fields."""
        with self._lock:
            [operation] = [one for (_, known), one in self._operations.items() if known == name]
            operation.script = operation.script.but(changes)
