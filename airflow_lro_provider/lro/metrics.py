"""What can be counted: the core reports it to a :class:`Metrics`, and does not know where the numbers go."""

from __future__ import annotations


class Metrics:
    """Counts nothing. :mod:`airflow_lro_provider.metrics` counts with Airflow's Stats."""

    def waiting(self, service: str, number: int) -> None:
        """How many operations of a service this process waits for.

        :param service: the API's discovery name, here as below.
        """

    def request(self, service: str, verb: str, result: str) -> None:
        """A request of the shared poller got a response, or failed.

        :param verb: ``get``, ``list`` or ``wait``.
        :param result: ``ok``, or the name of the error (``RESOURCE_EXHAUSTED``, ``TransportError``).
        """

    def throttled(self, service: str) -> None:
        """One of them was answered with 429: the service gets too many requests."""

    def known(self, service: str, seconds: float) -> None:
        """The end of an operation became known; only where the service says when it ended.

        :param seconds: from its end, by the service's clock, to now.
        """

    def cancel(self, service: str, outcome: str) -> None:
        """A cancellation was requested, by whomever: once for each.

        Where its outcome is waited for, that is counted once more (CANCELLED, COMPLETED_DESPITE_CANCEL, …).

        :param outcome: REQUESTED if the service accepted the request, REFUSED if not, or the outcome that was known
            already (an operation that had finished, CANCEL_UNSUPPORTED, …).
        """


NO_METRICS = Metrics()
