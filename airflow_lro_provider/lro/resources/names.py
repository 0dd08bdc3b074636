"""Reading and checking what a user gives to say which operation is meant.

A name is unique only within its service, so a **reference** is service, version and name. It may be
given as

* a plain name, with ``service=``: ``projects/p/locations/l/operations/o``
* a full resource name (https://google.aip.dev/122): ``//datafusion.googleapis.com/projects/…``
* a URL: ``https://datafusion.googleapis.com/v1/projects/…``
* the operation itself, a dict with a ``name`` (an XCom of another task), with ``service=``; the result
  of a task of this package, ``{"outcome": …, "operation": {…}}``, will do as well.

Everything is checked here, before any request: characters, dots, the service's own name patterns, the
host. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_lro_provider.lro.errors import ForbiddenEndpointError, InvalidReferenceError
from airflow_lro_provider.lro.resources.catalog import (
    SYSTEMS,
    Service,
    find_service,
    known_services,
    location_of,
    service_of_host,
)
from airflow_lro_provider.lro.resources.hosts import (
    DEFAULT_UNIVERSE,
    host_in_table,
    host_to_send_to,
    lower_host,
    split_url,
)

__all__ = ["OperationReference", "check_endpoint", "endpoint_of", "read_parent", "read_reference"]

MAX_LENGTH = 2048
# RFC 3986 path characters, without %: an encoded slash or dot has no business in a name.
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_LOCATION = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
# Labels of at most 63 characters: what DNS cannot carry would break the clients, each in its own way.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::\d{{1,5}})?|\[[0-9a-fA-F:]+\](?::\d{{1,5}})?")
_VERB_SUFFIX = re.compile(r":(cancel|wait|delete|get)$")
_LOOPBACK = re.compile(r"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?")


@dataclass(frozen=True)
class OperationReference:
    """All that addresses one operation, checked.

    :param service: the API's discovery name.
    :param version: the API version to ask with.
    :param name: the operation's name.
    :param host: one of Google's hosts for it, or one that the user named and that the connection has
        to confirm (see :func:`endpoint_of`).
    """

    service: str
    version: str
    name: str
    host: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON, for a trigger's arguments and for records."""
        return {"service": self.service, "version": self.version, "name": self.name, "host": self.host}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> OperationReference:
        """Read back what :meth:`to_dict` gave, and check it again: records can be tampered with."""
        service = find_service(stored.get("service", ""))
        version = service.version(stored.get("version"))
        host = stored.get("host")
        if not isinstance(host, str) or not _HOST.fullmatch(host):
            raise InvalidReferenceError(f"a stored reference has no usable host: {host!r}")
        return cls(service.name, version, check_name(stored.get("name"), service, version), host)

    def __str__(self) -> str:
        return f"//{self.host}/{self.name}"


def read_reference(
    value: Any,
    service: str | None = None,
    api_version: str | None = None,
    *,
    api_endpoint: str | None = None,
    universe: str = DEFAULT_UNIVERSE,
) -> OperationReference:
    """Read a reference in any of its forms. See the module's text.

    :param value: what the user gave.
    :param service: the API, if ``value`` does not say it itself.
    :param api_version: the API version, if not the preferred one.
    :param api_endpoint: the connection's own endpoint; a URL that begins with it is understood.
    :param universe: the domain of the connection's universe.
    :raises InvalidReferenceError: if it is no name of an operation of that service.
    :raises UnknownServiceError: if the service or the version is not known.
    """
    api = find_service(service) if service is not None else None
    if isinstance(value, Mapping):
        value = _name_of_resource(value)
    if not isinstance(value, str):
        raise InvalidReferenceError(
            f"an operation is named by a string or by its dict, not by {type(value).__name__} ({value!r:.100})"
        )
    if value.lstrip().startswith("{"):
        raise InvalidReferenceError(
            f"this looks like an operation that Jinja turned into a string: {value!r:.120}."
            " Hand the task's output over as it is (operation_name=start.output), or take its name:"
            " {{ ti.xcom_pull(task_ids='start')['name'] }}"
        )
    if value.startswith("//"):
        host, _, name = value[2:].partition("/")
        return _with_host(host_in_table(lower_host(host), universe), None, name, api, api_version, value)
    if "://" in value:
        return _read_url(value, api, api_version, api_endpoint, universe)
    if api is None:
        api = _service_of(value)
    version = api.version(api_version) if api_version is not None else _version_of(value, api)
    name = check_name(value, api, version)
    return OperationReference(api.name, version, name, api.host_for(name))


def names_unknown_host(value: Any) -> bool:
    """Whether a reference names a host that is not known to be Google's: only a connection may vouch for it."""
    if not isinstance(value, str):
        return False
    if value.startswith("//"):
        host = lower_host(value[2:].partition("/")[0])
    elif "://" in value:
        host = split_url(value)[1]
    else:
        return False
    return service_of_host(host) is None


def read_parent(parent: Any, service: str, api_version: str | None = None) -> OperationReference:
    """Check the parent of a list: ``projects/p/locations/l`` for most services.

    The answer's ``name`` is the parent.
    """
    api = find_service(service)
    version = api.version(api_version)
    parent = check_parent(parent, api, version)
    return OperationReference(api.name, version, parent, api.host_for(parent))


def check_parent(parent: Any, service: Service, version: str) -> str:
    """Check the parent of a list against a service's own patterns, and give it back.

    :raises UnknownServiceError: if the service lists no operations.
    :raises InvalidReferenceError: saying what is wrong with it.
    """
    service.require("list", version=version)
    if not isinstance(parent, str):
        raise InvalidReferenceError(f"a parent is a string, not {type(parent).__name__}")
    checked: str = parent.removesuffix("/operations")
    check_segments(checked, "parent", wildcard=True)
    if not service.has_parent(checked, version):
        raise InvalidReferenceError(
            f"{checked!r} is not a parent of operations of {service.title} ({service.name} {version})."
            f" Expected {_examples(service.parents(version))}."
        )
    return checked


def check_name(name: Any, service: Service, version: str) -> str:
    """Check a plain name against a service's own patterns, and give it back.

    :raises InvalidReferenceError: saying what is wrong with it, and whose name it may be.
    """
    if not isinstance(name, str):
        raise InvalidReferenceError(f"the name of an operation is a string, not {type(name).__name__}")
    check_segments(name, "name of an operation")
    if verb := _VERB_SUFFIX.search(name):
        raise InvalidReferenceError(
            f"{name!r} ends in {verb[0]!r}, which belongs to the URL of that method and not to the name. Leave it out."
        )
    if not service.has_name(name, version):
        others = [s for s in known_services().values() if s is not service and _fits(s, name)]
        hint = f" It looks like one of {_some(others)}." if others else ""
        raise InvalidReferenceError(
            f"{name!r} is not a name of an operation of {service.title} ({service.name} {version})."
            f" Expected {_examples(service.names[version])}.{hint}"
        )
    return name


def endpoint_of(
    reference: OperationReference,
    api_endpoint: str | None = None,
    universe: str = DEFAULT_UNIVERSE,
    *,
    mtls: bool = False,
) -> str:
    """The base URL to send to, without a trailing slash: Google's host, or the connection's endpoint.

    :param api_endpoint: the connection's; ``{service}`` in it becomes the API's name.
    :param universe: the domain of the connection's universe.
    :param mtls: whether to use Google's mTLS hosts.
    :raises ForbiddenEndpointError: if the user's reference names a host that is neither Google's for
        this service nor that of the connection.
    """
    service = find_service(reference.service)
    googles = service.has_host(reference.host)
    if api_endpoint is None:
        if not googles:
            raise ForbiddenEndpointError(
                f"{reference.host} is not a host of {service.title} ({service.host}); nothing was sent."
                " If it is a private endpoint, name it in the connection's extra as `api_endpoint`."
            )
        return f"https://{host_to_send_to(reference.host, universe, mtls=mtls)}"
    endpoint = api_endpoint.replace("{service}", reference.service).rstrip("/")
    if not googles and reference.host != split_url(endpoint)[1]:
        raise ForbiddenEndpointError(
            f"{reference.host} is neither a host of {service.title} nor the connection's api_endpoint"
            f" ({endpoint}); nothing was sent."
        )
    return endpoint


def check_endpoint(api_endpoint: str, *, emulator: bool = False) -> str:
    """Check an endpoint that a connection names.

    :param emulator: the connection says that this is not Google, so plain http may go anywhere.
    :raises ForbiddenEndpointError: for anything but https, or http to this machine.
    """
    scheme, host, path = split_url(api_endpoint.replace("{service}", "service"))
    if not api_endpoint.isascii() or not _is_server(host) or re.search(r"[^!-~]|[?#\\@%]", path) or "/." in path:
        raise ForbiddenEndpointError(
            f"`api_endpoint` {api_endpoint!r} is not a URL of a server. Expected https://HOST[:PORT][/PATH]."
        )
    if scheme == "http" and not emulator and not _LOOPBACK.fullmatch(host):
        raise ForbiddenEndpointError(
            f"`api_endpoint` {api_endpoint!r} would send a token over plain http to another machine."
            ' Use https, or say "emulator": true in the connection\'s extra: then only a fake token is sent.'
        )
    if scheme not in ("http", "https"):
        raise ForbiddenEndpointError(f"`api_endpoint` {api_endpoint!r} must begin with https:// or http://.")
    return api_endpoint.rstrip("/")


def _is_server(host: str) -> bool:
    """Whether this is a host, perhaps with a port, that a connection may name."""
    if not _HOST.fullmatch(host):
        return False
    try:
        parts = urlsplit(f"//{host}")
        if host.startswith("["):
            from ipaddress import ip_address

            ip_address(parts.hostname or "")
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _read_url(
    url: str, api: Service | None, api_version: str | None, api_endpoint: str | None, universe: str
) -> OperationReference:
    scheme, host, path = split_url(url)
    if not _HOST.fullmatch(host):
        raise InvalidReferenceError(f"{url!r:.200} has no usable host.")
    if scheme not in ("http", "https"):
        raise InvalidReferenceError(f"{url!r:.200} must begin with https://.")
    if api_endpoint is not None:
        for candidate in [api] if api else known_services().values():
            own = api_endpoint.replace("{service}", candidate.name).rstrip("/")
            if url.startswith(own + "/") and (api or "{service}" in api_endpoint):
                version, name = candidate.split_path(url[len(own) + 1 :])
                return _with_host(host, version, name, candidate, api_version, url, trusted=True)
    host = host_in_table(host, universe, exact=True)
    if scheme == "http" and service_of_host(host) is not None:
        raise InvalidReferenceError(f"{url!r:.200}: Google is spoken to over https only; nothing was sent.")
    owner = service_of_host(host) or api
    version, name = owner.split_path(path[1:]) if owner else ("", path[1:])
    return _with_host(host, version, name, api, api_version, url)


def _with_host(
    host: str,
    url_version: str | None,
    name: str,
    api: Service | None,
    api_version: str | None,
    given: str,
    *,
    trusted: bool = False,
) -> OperationReference:
    """Make a reference of a name and a host that was named with it."""
    if not _HOST.fullmatch(host):
        raise InvalidReferenceError(f"{given!r:.200} has no usable host.")
    owner = service_of_host(host)
    if owner is not None and api is not None and owner is not api:
        raise InvalidReferenceError(
            f"{given!r:.200} is at {owner.title} ({owner.name}), but `service` says {api.name!r}."
        )
    api = owner or api
    if api is None:
        raise ForbiddenEndpointError(
            f"{host} is not a known Google API; nothing was sent. If it is a private endpoint, name it in the"
            " connection's extra as `api_endpoint`, and give `service`."
        )
    if url_version and api_version and url_version != api_version:
        raise InvalidReferenceError(
            f"{given!r:.200} is of version {url_version!r}, but `api_version` says {api_version!r}."
        )
    version = api.version(url_version or api_version)
    name = check_name(name, api, version)
    of_host, of_name = api.location_of_host(host), location_of(name)
    if of_host and of_name and of_host != of_name and not trusted:
        raise InvalidReferenceError(
            f"{given!r:.200}: the host serves the location {of_host!r}, the operation is in {of_name!r}."
        )
    if host == api.host and api.regional:
        host = api.host_for(name)  # the global host of a service that lives in regions
    return OperationReference(api.name, version, name, host)


def _name_of_resource(resource: Mapping[str, Any]) -> Any:
    if "name" not in resource and isinstance(resource.get("operation"), Mapping):
        resource = resource["operation"]
    name = resource.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidReferenceError(
            f"this dict has no `name`, so it is not an operation (its keys: {', '.join(map(str, resource))[:200]})."
        )
    if name.startswith("//") or "://" in name:
        # The host is never taken from an operation's own text.
        raise InvalidReferenceError(f"the operation's `name` {name!r:.200} names a host; a plain name was expected.")
    return name


def check_segments(name: str, what: str, *, wildcard: bool = False) -> None:
    """Check the parts of a name or path: which characters, which location.

    :param what: what it is, for messages.
    :param wildcard: whether ``locations/-`` will do.
    :raises InvalidReferenceError: saying which part is wrong.
    """
    if not name or len(name) > MAX_LENGTH:
        raise InvalidReferenceError(f"the {what} is {'empty' if not name else 'longer than 2048 characters'}.")
    segments = name.split("/")
    for segment in segments:
        if segment in (".", "..") or not _SEGMENT.fullmatch(segment):
            problem = "an empty part" if not segment else f"the part {segment!r:.80}"
            raise InvalidReferenceError(
                f"{name!r:.200} is not a {what}: it has {problem}. Only letters, digits and"
                " . _ ~ - : = @ ( ) and the like may stand between the slashes."
            )
    location = location_of(name)
    if location is not None and not _LOCATION.fullmatch(location) and not (wildcard and location == "-"):
        raise InvalidReferenceError(f"{name!r:.200}: {location!r} is not a location; expected one like 'us-central1'.")


def _service_of(name: str) -> Service:
    """The only API that has such names.

    :raises InvalidReferenceError: if there is none, or another one; naming them.
    """
    # A plain id is no name that speaks for itself, although Speech-to-Text has such.
    fitting = [service for service in known_services().values() if "/" in name and _fits(service, name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidReferenceError(
            f"{name!r:.200} does not say which API it belongs to; give service=…"
            f" ({_some(fitting)}), or a full name //HOST/…"
        )
    raise InvalidReferenceError(
        f"{name!r:.200} is not a name of an operation of any known API (`airflow-lro services` lists them)."
    )


def _version_of(name: str, service: Service) -> str:
    """The preferred version that has such names."""
    return next((version for version in service.versions if service.has_name(name, version)), service.versions[0])


def _some(services: Sequence[Service]) -> str:
    """A few of these APIs, by name: the systems that most people use first."""
    names = sorted((service.name for service in services), key=lambda name: (name not in SYSTEMS, name))
    more = f", or one of {len(names) - 5} others" if len(names) > 5 else ""
    return (", ".join(names[:5]) if more else " or ".join(names)) + more


def _fits(service: Service, name: str) -> bool:
    return any(service.has_name(name, version) for version in service.versions)


def _examples(patterns: Sequence[str]) -> str:
    """A few of these patterns, the shortest first, in words."""
    shown = sorted((re.sub(r"\[|\]", "", pattern) for pattern in patterns), key=len)
    more = f" or one of {len(shown) - 2} others" if len(shown) > 2 else ""
    return " or ".join(shown[:2]) + more
