"""What a try that has deferred hands to itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Resumed:
    """What a deferral hands to the process that resumes the task, as the arguments of ``execute_complete``.

    :param token: what the trigger's event has to carry.
    :param reference: the operation, as :meth:`OperationReference.to_dict` gives it: a template may name another one by
        now. ``None`` for a task that an old release deferred.
    :param waiting_since: when the wait began, in seconds since the epoch.
    :param left_by_try: which earlier try has left the operation.
    :param endpoint: where requests about it went.
    """

    token: str | None = None
    reference: Mapping[str, Any] | None = None
    waiting_since: float | None = None
    left_by_try: int | None = None
    endpoint: str | None = None

    @classmethod
    def from_kwargs(cls, stored: Mapping[str, Any]) -> Resumed:
        """Read back the fields, also those of another release."""
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__ if name in stored})
