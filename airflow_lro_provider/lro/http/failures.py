"""What it means that there was no response: one rule for both clients, and for APIs as for token servers.

Whether a request was sent is a fact, and not read from an error: both clients raise :class:`NotConnectedError` while
they connect, and whatever comes later may have happened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from airflow_lro_provider.lro.errors import TransportError, UnreachableError
from airflow_lro_provider.lro.http import proxy as proxies
from airflow_lro_provider.lro.http import trust


class NotConnectedError(Exception):
    """There was no connection to send a request over. It leaves no client: see :func:`explained`.

    :param cause: the error of the client library, or of the system.
    :param at_proxy: whether the proxy is at fault, if there is one.
    :param refusal: the HTTP code that the proxy responded with, instead of connecting to the server.
    """

    def __init__(self, cause: Exception, *, at_proxy: bool = False, refusal: int | None = None) -> None:
        self.cause, self.at_proxy, self.refusal = cause, at_proxy, refusal
        super().__init__()

    def explain(self, url: str, proxy: str | None) -> TransportError:
        """Say what is wrong, and whether a retry would meet it again."""
        if self.refusal is not None and proxy:
            text, may_pass = proxies.refusal(self.refusal, url, proxy)
            return TransportError(text, sent=False) if may_pass else UnreachableError(text)
        server = f"the proxy {proxies.split_login(proxy)[0]}" if self.at_proxy and proxy else None
        if (problem := trust.problem_of(self.cause, of_proxy=server is not None)) is None:
            return no_response(url, self.cause, sent=False, server=server)
        return UnreachableError(f"the certificate shown for {server or urlsplit(url).hostname} is not {problem}")


def no_response(url: str, error: BaseException, *, sent: bool, server: str | None = None) -> TransportError:
    """Say what went wrong; without the URL's query and account, and without headers.

    :param server: who has not responded, if not the URL's host.
    """
    whose = server or url.split("/")[2].rpartition("@")[2]
    return TransportError(
        f"no response from {whose} ({type(error).__name__}). Check the network, the proxy and the endpoint.", sent=sent
    )


@contextlib.contextmanager
def explained(url: str, proxy: str | None, *lost: type[Exception]) -> Iterator[None]:
    """Say of a request why it had no response.

    :param proxy: what it goes through (:func:`~airflow_lro_provider.lro.http.proxy.proxy_for`).
    :param lost: the errors of a client library, and of the system, that mean that there was none.
    :raises UnreachableError: if a retry would get none either.
    :raises TransportError: if it may.
    """
    try:
        yield
    except NotConnectedError as error:
        raise error.explain(url, proxy) from None
    except lost as error:
        # Both libraries refuse a request that cannot be written down with a ValueError of theirs.
        raise no_response(url, error, sent=not isinstance(error, ValueError)) from None
