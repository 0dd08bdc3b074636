"""The scripted failures that are pending. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_lro_provider.emulator.script import Failure

__all__ = ["FailureList"]


@dataclass
class _Armed:
    failure: Failure
    left: int | None
    rejected: str | None = None  # of a 401: the fingerprint of the token that is rejected


class FailureList:
    """Failures in the order in which they were added. Not thread-safe: the store's lock protects it."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, failure: Failure) -> None:
        """Add one at the end."""
        self._armed.append(_Armed(failure, failure.times))

    def clear(self) -> None:
        """Remove all."""
        self._armed.clear()

    def pending(self) -> list[Failure]:
        """Those that are not used up."""
        return [armed.failure for armed in self._armed]

    def take(self, verb: str | None, service: str | None, name: str | None, token: str) -> Failure | None:
        """The failure that a request gets, if any: the first that fits.

        :param token: a fingerprint of the request's token, to tell two apart.
        """
        for armed in list(self._armed):
            if not armed.failure.matches(verb, service, name):
                continue
            if self._apply(armed, token):
                return armed.failure
        return None

    def _apply(self, armed: _Armed, token: str) -> bool:
        if not armed.failure.rejects_token:
            self._count(armed)
            return True
        if armed.rejected is None:
            armed.rejected = token
        elif armed.rejected != token:
            if not self._count(armed):
                return False
            armed.rejected = token
        return True

    def _count(self, armed: _Armed) -> bool:
        """Count one down. Returns whether any are left."""
        if armed.left is None:
            return True
        armed.left -= 1
        if armed.left == 0:
            self._armed.remove(armed)
        return armed.left > 0
