"""Where an API lives, and where requests to it may go.

The catalog knows Google's hosts under ``googleapis.com``. Another universe (a sovereign or partner cloud) has the same
services under a domain of its own, and credentials of its own, which must never be sent to a host of another universe.
A :class:`Resource` therefore always carries the host as the catalog knows it; :func:`endpoint_of` alone turns it into
what a connection sends to. A host that a user names is read by :func:`read_url` or :func:`read_full_name`, with the
same checks for operations and methods.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from airflow_lro_provider.lro.errors import ConnectionSettingsError, ForbiddenEndpointError, InvalidReferenceError
from airflow_lro_provider.lro.resources.catalog import (
    DEFAULT_UNIVERSE,
    REGIONAL,
    Service,
    find_service,
    known_services,
    lower,
    plain_host,
    refuse_other,
    service_of_host,
)
from airflow_lro_provider.lro.resources.locations import location_of, region_of

_DOMAIN = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
# Labels of at most 63 characters: what DNS cannot carry would break the clients, each in its own way.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::\d{{1,5}})?|\[[0-9a-fA-F:]+\](?::\d{{1,5}})?")
_LOOPBACK = re.compile(r"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?")


@dataclass(frozen=True)
class Resource:
    """What a request is about, checked: an operation, the parent of a list, or what a method is called on.

    :param service: the API's discovery name.
    :param version: the API version to use.
    :param name: its name, or its path, below the version.
    :param host: one of Google's hosts for it, or one that the user named and the connection has to confirm
        (:func:`endpoint_of`).
    """

    service: str
    version: str
    name: str
    host: str

    def __str__(self) -> str:
        return f"//{self.host}/{self.name}"

    @property
    def short(self) -> str:
        """The end of its name and its API, for log lines: the web interface cuts long ones off."""
        return f"{self.name.rpartition('/')[2]} ({self.service})"


@dataclass(frozen=True)
class NamedHost:
    """A host that a user named, and the path after it.

    :param api: the API there: the host's own, or the one that the user named.
    :param host: the host, as the catalog knows it.
    :param given: what the user gave, for messages.
    :param path: what follows the host (or the connection's endpoint), without a leading slash.
    :param is_endpoint: whether it is the endpoint that the connection itself names.
    :param is_exact: whether it is a host to connect to, and not the name of the service (``//HOST/NAME``).
    """

    api: Service
    host: str
    given: str
    path: str = ""
    is_endpoint: bool = False
    is_exact: bool = False

    def host_for(self, name: str) -> str:
        """The host that serves an operation's name, or a method's path, there: that host, or the location's own.

        :raises InvalidReferenceError: if the host serves another location than the one in the name.
        """
        of_host, of_name = self.api.location_of_host(self.host), location_of(name)
        if of_host and of_name not in (None, "-") and not _lies_in(of_name, of_host) and not self.is_endpoint:
            raise InvalidReferenceError(
                f"{self.given!r:.200}: the host serves the location {of_host!r}, but the name is in {of_name!r}."
            )
        is_named = self.host != self.api.host or (self.is_exact and self.api.is_global)
        return self.host if is_named else self.api.host_for(name)


def _lies_in(location: str, wider: str) -> bool:
    """Whether a host that serves a location serves another one: a region its zones, ``eu`` the regions of Europe."""
    return wider in (location, region_of(location)) or location.startswith(
        {"eu": "europe-", "us": "us-"}.get(wider, " ")
    )


def read_service(service: str, universe: str = DEFAULT_UNIVERSE) -> NamedHost:
    """Read a service: the discovery name of an API, or one of its hosts, which is used then.

    :raises UnknownServiceError: if there is none.
    """
    if isinstance(service, str) and "." in service:
        host = host_in_table(plain_host(service), universe)
        if (owner := service_of_host(host)) is not None:
            return NamedHost(owner, host, service, is_exact=True)
    api = find_service(service)
    return NamedHost(api, api.host, service)


def check_version(api: Service, named: str, wanted: str | None, given: str) -> str:
    """Check the version in a URL or path; without one, the user's ``api_version`` or the preferred one.

    :raises InvalidReferenceError: if they differ.
    :raises UnknownServiceError: if the API has no such version.
    """
    version = api.version(wanted if wanted is not None else named or None)
    if named and named != version:
        raise InvalidReferenceError(f"{given!r:.200} is of version {named!r}, but `api_version` says {version!r}.")
    return version


def read_full_name(full_name: str, named: NamedHost | None, universe: str = DEFAULT_UNIVERSE) -> NamedHost:
    """Read a full resource name: ``//HOST/NAME`` (https://google.aip.dev/122).

    :param named: the API that the user named, if any (:func:`read_service`).
    :raises InvalidReferenceError: if its host is none, or another API's.
    :raises ForbiddenEndpointError: if neither the host nor the user identifies the API.
    """
    host, _, name = full_name[2:].partition("/")
    host = host_in_table(lower(host), universe)
    _check_host(host, full_name)
    return _locate(host, name, named, full_name, is_exact=False)


def read_url(
    url: str, named: NamedHost | None, *, api_endpoint: str | None = None, universe: str = DEFAULT_UNIVERSE
) -> NamedHost:
    """Read a URL; for the arguments see :func:`~airflow_lro_provider.lro.resources.names.read_reference`.

    :raises InvalidReferenceError: if it is no URL of an API, or one of another API.
    :raises ForbiddenEndpointError: if neither the host nor the user identifies the API, or if the host is of another
        universe.
    """
    scheme, host, path = split_url(url)
    _check_host(host, url)
    if scheme not in ("http", "https"):
        raise InvalidReferenceError(f"{url!r:.200} must begin with https://.")
    if api_endpoint is not None:
        candidates = [named] if named else (NamedHost(one, one.host, url) for one in known_services().values())
        for candidate in candidates:
            base = _endpoint_for(api_endpoint, candidate.api.name)
            if url.startswith(base + "/") and (named or "{service}" in api_endpoint):
                return _locate(host, url[len(base) + 1 :], candidate, url, is_endpoint=True)
    host = host_in_table(host, universe, exact=True)
    if scheme == "http" and service_of_host(host) is not None:
        raise InvalidReferenceError(f"{url!r:.200}: Google's APIs are reached over https only; nothing was sent.")
    return _locate(host, path[1:], named, url)


def _locate(host: str, path: str, named: NamedHost | None, given: str, **more: bool) -> NamedHost:
    """Find out which API has this host."""
    owner = service_of_host(host)
    if owner is not None and named is not None and owner is not named.api:
        raise InvalidReferenceError(
            f"{given!r:.200} is at {owner.title} ({owner.name}), but `service` says {named.api.name!r}."
        )
    if named is not None and host == named.api.host != named.host:
        host = named.host
    api = named.api if named is not None else owner
    if api is None:
        refuse_other(host)
        raise ForbiddenEndpointError(
            f"{host} is not a known Google API; nothing was sent. If it is a private endpoint, name it in the"
            " connection's extra as `api_endpoint`, and give `service`."
        )
    return NamedHost(api, host, given, path, **{"is_exact": True, **more})


def as_written(value: Any) -> Any:
    """What a name or a path was before a shell added a newline, or Airflow's native rendering made a number of it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else value


def names_unknown_host(value: object) -> bool:
    """Whether a name or URL has a host that is not known to be Google's: only a connection may vouch for it."""
    host = _host_in(value)
    return host is not None and service_of_host(host) is None


def check_unknown_host(value: object) -> None:
    """Refuse a host that only looks like Google's, and warn of another one, when only a connection may vouch for it.

    :raises ForbiddenEndpointError: if it is below ``googleapis.com``, but no API's, nor a private one
        (``…-NAME.p.googleapis.com``, of Private Service Connect).
    """
    host = _host_in(value) or ""
    if belongs_to(host, DEFAULT_UNIVERSE) and not belongs_to(host, f"p.{DEFAULT_UNIVERSE}"):
        refuse_other(host)
        raise ForbiddenEndpointError(f"{host} (in {value!r:.200}) is not a known Google API.")
    if not _LOOPBACK.fullmatch(host):
        warnings.warn(
            f"{host} (in {value!r:.200}) is not Google's. The task fails, with nothing sent, unless its connection"
            " names that host in its extra as `api_endpoint`; a plain name and `service` are enough then.",
            stacklevel=2,
        )


def lies_in(value: object, universe: str) -> bool:
    """Whether a host, or a name or URL with its host, is of this universe, which is not Google's own."""
    value = as_written(value)
    host = _host_in(value) or (plain_host(value) if isinstance(value, str) else "")
    return universe != DEFAULT_UNIVERSE and belongs_to(host, universe)


def _host_in(value: object) -> str | None:
    """The host in a name or URL, if it has one."""
    value = as_written(value)
    if not isinstance(value, str):
        return None
    if value.startswith("//"):
        return lower(value[2:].partition("/")[0])
    return split_url(value)[1] if "://" in value else None


def endpoint_of(
    resource: Resource, api_endpoint: str | None = None, universe: str = DEFAULT_UNIVERSE, *, mtls: bool = False
) -> str:
    """The base URL to send to, without a trailing slash: Google's host, or the connection's endpoint.

    :param api_endpoint: the connection's; ``{service}`` in it becomes the API's name.
    :param mtls: whether to use Google's mTLS hosts.
    :raises ForbiddenEndpointError: if the host is neither Google's for this service nor that of the connection.
    """
    service = find_service(resource.service)
    is_google = service.has_host(resource.host)
    if api_endpoint is None:
        if not is_google:
            raise ForbiddenEndpointError(
                f"{resource.host} is not a host of {service.title} ({service.host}); nothing was sent."
                " If it is a private endpoint, name it in the connection's extra as `api_endpoint`."
            )
        host = resource.host
        if host.endswith(REGIONAL) and service.is_global and (mtls or universe != DEFAULT_UNIVERSE):
            host = service.host  # whether the regional host is there, too, is known of no universe and with no mTLS
        return f"https://{host_to_send_to(host, universe, mtls=mtls)}"
    endpoint = _endpoint_for(api_endpoint, resource.service)
    if not is_google and resource.host != split_url(endpoint)[1]:
        raise ForbiddenEndpointError(
            f"{resource.host} is neither a host of {service.title} nor the connection's api_endpoint"
            f" ({endpoint}); nothing was sent."
        )
    return endpoint


def leads_elsewhere(endpoint: str, known: str | None) -> bool:
    """Whether requests about an operation go to another server than the one that has it, as far as that is known.

    All of Google's hosts are one: which of them a request goes to depends on the machine, too (mTLS).

    :param endpoint: where they go (:func:`endpoint_of`).
    :param known: where they went.
    """
    if known is None or endpoint == known:
        return False
    return not (_is_google(endpoint) and _is_google(known))


def address(resource: Resource, endpoint: str | None) -> str:
    """What a resource is called in full, and where requests about it go, if that is known, and is not Google."""
    if endpoint is None or _is_google(endpoint):
        return str(resource)
    return f"{resource} (at {endpoint})"


def _is_google(endpoint: str) -> bool:
    return belongs_to(split_url(endpoint)[1], DEFAULT_UNIVERSE)


def _endpoint_for(api_endpoint: str, service: str) -> str:
    return api_endpoint.replace("{service}", service).rstrip("/")


def check_endpoint(api_endpoint: str, *, emulator: bool = False) -> str:
    """Check an endpoint that a connection names.

    :param emulator: the connection says that this is not Google, so plain http may go anywhere.
    :raises ForbiddenEndpointError: for anything but https, or http to this machine.
    """
    scheme, host, path = split_url(api_endpoint.replace("{service}", "service"))
    if "@" in api_endpoint:
        raise ForbiddenEndpointError("`api_endpoint` has an account in it. Expected https://HOST[:PORT][/PATH].")
    if not api_endpoint.isascii() or not is_server(host) or re.search(r"[^!-~]|[?#\\@%]", path) or "/." in path:
        raise ForbiddenEndpointError(
            f"`api_endpoint` {api_endpoint!r} is not a URL of a server. Expected https://HOST[:PORT][/PATH]."
        )
    if scheme == "http" and not emulator and not _LOOPBACK.fullmatch(host):
        raise ForbiddenEndpointError(
            f"`api_endpoint` {api_endpoint!r} would send a token over plain http to another machine."
            ' Use https, or set "emulator": true in the connection\'s extra: then only a fake token is sent.'
        )
    if scheme not in ("http", "https"):
        raise ForbiddenEndpointError(f"`api_endpoint` {api_endpoint!r} must begin with https:// or http://.")
    return api_endpoint.rstrip("/")


def is_host(host: str) -> bool:
    """Whether this has the form of a host, perhaps with a port."""
    return _HOST.fullmatch(host) is not None


def _check_host(host: str, given: str) -> None:
    if not is_host(host):
        raise InvalidReferenceError(f"{given!r:.200} has no usable host.")


def is_server(host: str) -> bool:
    """Whether this is a host, perhaps with a port, that one can connect to."""
    if not is_host(host):
        return False
    try:
        parts = urlsplit(f"//{host}")
        if host.startswith("["):
            ip_address(parts.hostname or "")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def check_universe(domain: str) -> str:
    """Check the domain of a universe, as a connection or the environment names it.

    :raises ConnectionSettingsError: if it is no domain.
    """
    checked = domain.strip().lower()
    if not domain.isascii() or not _DOMAIN.fullmatch(checked):  # a Kelvin sign is no k
        raise ConnectionSettingsError(
            f"`universe_domain` {domain!r:.100} is not a domain; expected one like {DEFAULT_UNIVERSE!r}."
        )
    return checked


def universe_of_environment() -> str:
    """The default universe: the one that Google's own clients use."""
    return check_universe(os.environ.get("GOOGLE_CLOUD_UNIVERSE_DOMAIN") or DEFAULT_UNIVERSE)


def belongs_to(host: str, universe: str) -> bool:
    """Whether a host lies below the domain of a universe; a port does not matter."""
    return host.partition(":")[0].endswith(f".{universe}")


def host_in_table(host: str, universe: str, *, exact: bool = False) -> str:
    """A host as the catalog knows it; a host that is not Google's stays as it is.

    :param exact: whether the host is one to connect to, as in a URL. In a resource name
        (``//aiplatform.googleapis.com/…``) it is the name of the service, the same in all universes.
    :raises ForbiddenEndpointError: if it is a host to connect to, and of another universe.
    """
    if universe == DEFAULT_UNIVERSE:
        return host
    if exact and belongs_to(host, DEFAULT_UNIVERSE):
        raise ForbiddenEndpointError(
            f"{host} is of the universe {DEFAULT_UNIVERSE}, but this connection is of {universe}; nothing was sent."
        )
    return f"{host[: -len(universe)]}{DEFAULT_UNIVERSE}" if belongs_to(host, universe) else host


def host_to_send_to(host: str, universe: str, *, mtls: bool = False) -> str:
    """The host that a connection sends to, for a host of the catalog.

    :param mtls: whether to use mTLS hosts (https://google.aip.dev/auth/4114): those end in ``.mtls.googleapis.com``,
        also regional ones (``google/auth/credentials.py``). A host that does so already is kept.
    """
    stem = host.removesuffix(DEFAULT_UNIVERSE)
    if mtls and not stem.endswith(".mtls."):
        stem += "mtls."
    return stem + universe


def split_url(endpoint: str) -> tuple[str, str, str]:
    """Scheme, host (both in lower case, without the port of https) and path of a URL."""
    scheme, _, rest = endpoint.partition("://")
    host, slash, path = rest.partition("/")
    scheme, host = lower(scheme), lower(host)
    return scheme, host.removesuffix(":443") if scheme == "https" else host, slash + path
