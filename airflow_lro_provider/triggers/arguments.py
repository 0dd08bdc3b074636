"""The arguments of a trigger, as thousands of them keep theirs in one process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple


class Given(NamedTuple):
    """A trigger's arguments that are dicts, as a tuple: half the memory. A field that was not given is ``None``."""

    service: Any = None
    version: Any = None
    name: Any = None
    host: Any = None
    at: Any = None
    cause: Any = None
    seconds: Any = None
    dag_id: Any = None
    run_id: Any = None
    task_id: Any = None
    map_index: Any = None
    token: Any = None

    @classmethod
    def of(cls, *parts: Mapping[str, Any] | None) -> Given:
        """Read them."""
        given = {key: value for part in parts if part for key, value in part.items() if key in cls._fields}
        return cls(**{key: value if key in ("name", "token") else common_text(value) for key, value in given.items()})

    def part(self, *fields: str) -> dict[str, Any]:
        """Those of these fields that were given."""
        return {field: value for field in fields if (value := getattr(self, field)) is not None}


def common_text(value: Any) -> Any:
    """The same value; a text that many triggers have in common is one object for all of them."""
    return _kept_once(value) if isinstance(value, str) else value


@lru_cache(maxsize=10_000)
def _kept_once(text: str) -> str:
    return text
