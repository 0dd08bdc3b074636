"""Reading and checking the method that a task calls to start an operation.

It is given as

* a path, with ``service=``: ``projects/p/locations/l/instances?instanceId=x`` (the API version may stand
  before it: ``v1/projects/…``)
* a URL: ``https://datafusion.googleapis.com/v1/projects/p/locations/l/instances?instanceId=x``

Everything is checked here, before any request. Standard library only.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from airflow_lro_provider.lro.errors import ForbiddenEndpointError, InvalidReferenceError
from airflow_lro_provider.lro.resources.catalog import Service, find_service, known_services, service_of_host
from airflow_lro_provider.lro.resources.hosts import DEFAULT_UNIVERSE, host_in_table, split_url
from airflow_lro_provider.lro.resources.names import OperationReference, check_segments

__all__ = ["HTTP_METHODS", "Method", "check_body", "new_request_id", "read_method"]

HTTP_METHODS = ("POST", "PUT", "PATCH", "DELETE")
REQUEST_ID = "requestId"
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
# A token has no business in a URL, and another format of the answer could not be read.
_FORBIDDEN = {"access_token", "oauth_token", "key", "alt", "$alt", "callback", "upload_protocol", "uploadType"}


@dataclass(frozen=True)
class Method:
    """A method of an API that starts an operation, checked.

    :param service: the API's discovery name.
    :param version: the API version.
    :param http_method: one of :data:`HTTP_METHODS`.
    :param path: what it is called on, without the version and the query.
    :param query: the query, encoded, without ``?``; may be empty.
    :param host: one of Google's hosts for it, or one that the connection has to confirm.
    """

    service: str
    version: str
    http_method: str
    path: str
    query: str
    host: str

    @property
    def about(self) -> OperationReference:
        """What an error names, and what :func:`endpoint_of` checks: the path in the place of a name."""
        return OperationReference(self.service, self.version, self.path, self.host)

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def with_parameter(self, name: str, value: str) -> str:
        """The query with one more parameter."""
        return "&".join(filter(None, [self.query, urlencode({name: value})]))

    def __str__(self) -> str:
        return f"{self.http_method} //{self.host}/{self.path}"


def read_method(
    value: Any,
    http_method: str = "POST",
    service: str | None = None,
    api_version: str | None = None,
    *,
    api_endpoint: str | None = None,
    universe: str = DEFAULT_UNIVERSE,
) -> Method:
    """Read a method in any of its forms. See the module's text.

    :param value: the path or URL.
    :param http_method: POST, PUT, PATCH or DELETE.
    :param service: the API, if ``value`` does not say it itself.
    :param api_version: the API version, if not the preferred one.
    :param api_endpoint: the connection's own endpoint; a URL that begins with it is understood.
    :param universe: the domain of the connection's universe.
    :raises InvalidReferenceError: if it cannot be a method.
    :raises UnknownServiceError: if the service or the version is not known.
    """
    api = find_service(service) if service is not None else None
    if not isinstance(value, str) or not value:
        raise InvalidReferenceError(f"`method` must be a path or a URL, not {type(value).__name__} ({value!r:.100})")
    if not isinstance(http_method, str) or http_method.upper() not in HTTP_METHODS:
        raise InvalidReferenceError(f"`http_method` must be one of {', '.join(HTTP_METHODS)}, not {http_method!r:.50}")
    address, _, query = value.partition("?")
    _check_query(query, address)
    host: str | None = None
    if "://" in address:
        api, host, address = _split(address, api, api_endpoint, universe)
    if api is None:
        raise InvalidReferenceError(f"{address!r:.200} does not say which API it belongs to; give service=…")
    version, path = _split_version(address, api, api_version)
    check_segments(path, "path of a method")
    if host is None or (host == api.host and api.regional):
        host = api.host_for(path)
    return Method(api.name, version, http_method.upper(), path, query, host)


def check_body(body: Any) -> None:
    """Refuse a body that no API takes.

    :raises InvalidReferenceError: if it is no JSON object.
    """
    if body is not None and not isinstance(body, Mapping):
        hint = " Did Jinja turn a dict into a string?" if isinstance(body, str) else ""
        raise InvalidReferenceError(f"`body` must be a dict (a JSON object), not {type(body).__name__}.{hint}")


def new_request_id(seed: str) -> str:
    """A request id that is always the same for the same seed, and another for another one.

    It has the form of a random UUID, as https://google.aip.dev/155 wants it.

    :param seed: what the id stands for: a try of a task.
    """
    return str(uuid.UUID(bytes=uuid.uuid5(uuid.NAMESPACE_URL, f"airflow-lro-provider:{seed}").bytes, version=4))


def _check_query(query: str, address: str) -> None:
    if not _QUERY.fullmatch(query):
        raise InvalidReferenceError(
            f"the query of the method {address!r:.200} has characters that must be percent-encoded"
            " (urllib.parse.quote does it)."
        )
    for name in (name for name, _ in parse_qsl(query, keep_blank_values=True) if name in _FORBIDDEN):
        raise InvalidReferenceError(f"the query of the method {address!r:.200} must not have {name!r}.")


def _split(address: str, api: Service | None, api_endpoint: str | None, universe: str) -> tuple[Service, str, str]:
    """Take a URL apart: the API, the host, version and path."""
    scheme, host, path = split_url(address)
    if api_endpoint is not None:
        for candidate in [api] if api else known_services().values():
            own = api_endpoint.replace("{service}", candidate.name).rstrip("/")
            if address.startswith(own + "/") and (api or "{service}" in api_endpoint):
                return candidate, host, address[len(own) + 1 :]
    host = host_in_table(host, universe, exact=True)
    owner = service_of_host(host)
    if owner is None and api is None:
        raise ForbiddenEndpointError(
            f"{host} is not a known Google API; nothing was sent. If it is a private endpoint, name it in the"
            " connection's extra as `api_endpoint`, and give `service`."
        )
    if owner is not None and api is not None and owner is not api:
        raise InvalidReferenceError(
            f"{address!r:.200} is at {owner.title} ({owner.name}), but `service` says {api.name!r}."
        )
    if owner is not None and scheme != "https":
        raise InvalidReferenceError(f"{address!r:.200}: Google is spoken to over https only; nothing was sent.")
    found = owner or api
    assert found is not None
    return found, host, path.removeprefix("/")


def _split_version(address: str, api: Service, api_version: str | None) -> tuple[str, str]:
    first, slash, rest = address.partition("/")
    if slash and first in api.versions:
        if api_version is not None and api_version != first:
            raise InvalidReferenceError(
                f"{address!r:.200} is of version {first!r}, but `api_version` says {api_version!r}."
            )
        return first, rest
    return api.version(api_version), address
