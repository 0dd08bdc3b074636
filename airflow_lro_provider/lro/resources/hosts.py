"""Which hosts are Google's: the universe that a credential belongs to, and its mTLS hosts.

The table of services knows Google's hosts under ``googleapis.com``. Another universe (a sovereign or
partner cloud) has the same services under a domain of its own, and credentials of its own, which must
never be sent to a host of another universe. References therefore always carry the name that the table
knows, and :func:`host_to_send_to` alone says which host that is for a connection. Standard library only.
"""

from __future__ import annotations

import os
import re

from airflow_lro_provider.lro.errors import ConnectionSettingsError, ForbiddenEndpointError
from airflow_lro_provider.lro.resources.catalog import DEFAULT_UNIVERSE

__all__ = [
    "DEFAULT_UNIVERSE",
    "belongs_to",
    "check_universe",
    "host_in_table",
    "host_to_send_to",
    "lower_host",
    "split_url",
    "universe_of_environment",
]

_DOMAIN = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


def check_universe(domain: str) -> str:
    """Check the domain of a universe, as a connection or the environment names it.

    :raises ConnectionSettingsError: if it is no domain.
    """
    if not domain.isascii() or not _DOMAIN.fullmatch(domain.strip().lower()):  # a Kelvin sign is no k
        raise ConnectionSettingsError(
            f"`universe_domain` {domain!r:.100} is not a domain; expected one like {DEFAULT_UNIVERSE!r}."
        )
    return domain.strip().lower()


def universe_of_environment() -> str:
    """The universe of whoever says nothing else: what Google's own clients take."""
    return check_universe(os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or DEFAULT_UNIVERSE)


def belongs_to(host: str, universe: str) -> bool:
    """Whether a host lies below the domain of a universe; a port does not matter."""
    return host.partition(":")[0].endswith(f".{universe}")


def host_in_table(host: str, universe: str, *, exact: bool = False) -> str:
    """The name under which the table of services knows a host; another host than Google's stays as it is.

    :param universe: the connection's.
    :param exact: whether the host is one to connect to, as in a URL. In a resource name
        (``//aiplatform.googleapis.com/…``) it is the name of the service, the same in all universes.
    :raises ForbiddenEndpointError: if it is exactly a host of another universe.
    """
    if universe == DEFAULT_UNIVERSE:
        return host
    if exact and belongs_to(host, DEFAULT_UNIVERSE):
        raise ForbiddenEndpointError(
            f"{host} is of the universe {DEFAULT_UNIVERSE}, but this connection is of {universe}; nothing was sent."
        )
    return f"{host[: -len(universe)]}{DEFAULT_UNIVERSE}" if belongs_to(host, universe) else host


def host_to_send_to(host: str, universe: str, *, mtls: bool = False) -> str:
    """The host that a connection sends to, for one of the table's.

    :param universe: the connection's.
    :param mtls: whether requests go to mTLS hosts (https://google.aip.dev/auth/4114): those have the
        label ``mtls`` after their first one. A host that has it already keeps it.
    """
    first, _, rest = host.partition(".")
    if mtls and not rest.startswith("mtls."):
        host = f"{first}.mtls.{rest}"
    return host if universe == DEFAULT_UNIVERSE else f"{host[: -len(DEFAULT_UNIVERSE)]}{universe}"


def split_url(endpoint: str) -> tuple[str, str, str]:
    """Scheme, host (both in lower case) and path of a URL."""
    scheme, _, rest = endpoint.partition("://")
    host, slash, path = rest.partition("/")
    return lower_host(scheme), lower_host(host), slash + path


def lower_host(host: str) -> str:
    """In lower case, if it can be a host: some letters have an ASCII one as their lower case (U+212A is a k)."""
    return host.lower() if host.isascii() else host
