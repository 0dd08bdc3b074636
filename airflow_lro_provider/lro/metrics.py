"""What can be counted: the core says it to a meter, and does not know where the numbers go.

Standard library only.
"""

from __future__ import annotations

__all__ = ["Metrics"]


class Metrics:
    """Counts nothing. The Airflow-facing rooms give one that knows Airflow's Stats."""

    def waiting(self, service: str, number: int) -> None:
        """So many operations of a service are waited for, in this process."""

    def request(self, service: str, verb: str, result: str) -> None:
        """A request was answered.

        :param result: ``ok``, or the name of the error (``RESOURCE_EXHAUSTED``, ``TransportError``).
        """

    def throttled(self, service: str) -> None:
        """A service said that it is asked too often."""

    def known(self, service: str, seconds: float) -> None:
        """The end of an operation became known so long after it, by the service's own clock."""

    def cancel(self, service: str, outcome: str) -> None:
        """A cancellation was asked for (``REQUESTED``), or what came of one was seen."""
