"""The method that a task calls to start an operation: it is read and checked here, before any request.

It may be given as

* a path, with ``service=``: ``projects/p/locations/l/instances?instanceId=x`` (with or without the API version:
  ``v1/projects/…``)
* a URL: ``https://datafusion.googleapis.com/v1/projects/p/locations/l/instances?instanceId=x``
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from airflow_lro_provider.lro.errors import InvalidReferenceError
from airflow_lro_provider.lro.resources.catalog import DEFAULT_UNIVERSE, Project, Service, find_service, project_of
from airflow_lro_provider.lro.resources.hosts import Resource, as_written, check_version, read_service, read_url
from airflow_lro_provider.lro.resources.names import check_segments, hint_for, identity_of, is_nothing, refuse_fetched

HTTP_METHODS = ("POST", "PUT", "PATCH", "DELETE")
REQUEST_ID = "requestId"
_REQUEST_IDS = (REQUEST_ID, "request_id")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
# A token does not belong in a URL, and a response in another format could not be read.
_FORBIDDEN = {"access_token", "oauth_token", "key", "alt", "$alt", "callback", "upload_protocol", "uploadType"}


@dataclass(frozen=True)
class Method(Resource):
    """A method of an API that starts an operation, checked; its ``name`` is the path that it is called on.

    :param http_method: one of :data:`HTTP_METHODS`.
    :param query: encoded, without ``?``; may be empty.
    """

    http_method: str = "POST"
    query: str = ""

    @property
    def path(self) -> str:
        """What it is called on, without the version and the query."""
        return self.name

    @property
    def is_create(self) -> bool:
        """Whether it is called on a collection, as those are that create a resource (https://google.aip.dev/133)."""
        return self.http_method == "POST" and ":" not in self.path.rpartition("/")[2]

    @property
    def parameters(self) -> dict[str, str]:
        """The query, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def __str__(self) -> str:
        return f"{self.http_method} {super().__str__()}"


def read_method(
    value: Any,
    http_method: str = "POST",
    service: str | None = None,
    api_version: str | None = None,
    *,
    api_endpoint: str | None = None,
    universe: str = DEFAULT_UNIVERSE,
    project: Project = None,
) -> Method:
    """Read a method in any of its forms. See the module's text, and :func:`read_reference` for the other arguments.

    :param value: the path or URL. A path that begins with its location lies in the ``project`` of the connection.
    :param http_method: one of :data:`HTTP_METHODS`.
    :raises InvalidReferenceError: if it cannot be a method.
    :raises UnknownServiceError: if the service or the version is not known.
    """
    host = read_service(service, universe) if service is not None else None
    value, http_method = as_written(value), as_written(http_method)
    if not isinstance(value, str) or not value:
        raise InvalidReferenceError(
            f"`method` must be a path or a URL, not {type(value).__name__} ({value!r:.100}){hint_for(value, 'method')}"
        )
    if not isinstance(http_method, str) or http_method.upper() not in HTTP_METHODS:
        raise InvalidReferenceError(f"`http_method` must be one of {', '.join(HTTP_METHODS)}, not {http_method!r:.50}")
    verb, _, rest = value.partition(" ")
    if rest and verb in (*HTTP_METHODS, "GET"):
        raise InvalidReferenceError(f"{value!r:.200} has the HTTP method in it; give http_method={verb!r} beside it.")
    address, _, query = value.partition("?")
    _check_query(query, address)
    if re.fullmatch(r"[a-z]\w*(\.[a-z]\w*){2,}", address):
        raise InvalidReferenceError(
            f"{value!r:.200} is the id of a method; give its path, e.g. projects/PROJECT/locations/LOCATION/instances."
        )
    if "://" in address:
        host = read_url(address, host, api_endpoint=api_endpoint, universe=universe)
        named, path = host.api.split_path(host.path, of_method=True)
        if not named:
            raise InvalidReferenceError(f"{address!r:.200} has an empty part in its path.")
    elif host is not None:
        named, path = host.api.split_path(address, of_method=True)
        if named not in host.api.versions:  # a path may begin with its version
            named, path = "", address
    else:
        raise InvalidReferenceError(f"{address!r:.200} does not say which API it belongs to; give service=…")
    path = host.api.in_project(path, project)
    version = check_version(host.api, named, api_version, address)
    check_segments(path, "path of a method")
    _check_root(host.api, version, path)
    refuse_fetched(host.api, path)
    return Method(host.api.name, version, path, host.host_for(path), http_method.upper(), query)


def id_of_new(method: Method, body: Mapping[str, Any] | None) -> str | None:
    """The id of the resource that a create names itself (:func:`id_among`).

    ``None`` if the method is no such create, or leaves the id to the service.
    """
    return id_among(method.path, method.parameters, body or {}) if method.is_create else None


def id_among(collection: str, *given: Mapping[str, Any]) -> str | None:
    """The id of a new resource of a collection, in the query or the body of its create; ``None`` if it is not there.

    It is called after the singular of the collection (https://google.aip.dev/133). ``templateId`` is another
    resource's. Of the 792 creates in the discovery documents of google-api-python-client 2.202.0:

    =========================================================  ========================================================
    ``instances?instanceId=x``, ``?instance_id=x``             589 (a URL may have the name of the proto's field, too)
    ``apis/*/configs?apiConfigId=x``, with its parents' names  27
    ``clusters`` and ``{"clusterName": "x"}``                  6, of Dataproc, Managed Microsoft AD, Service Management
    ``databases`` and ``{"createStatement": "CREATE … `x`"}``  1, of Spanner
    ``connectivityTests?testId=x``                             2, of Network Management
    ``githubEnterpriseConfigs?gheConfigId=x``                  2, of Cloud Build
    ``workerpools`` and ``{"poolId": "x"}``                    1, of Remote Build Execution
    ``versions`` and ``{"id": "x"}``                           16, of App Engine, and Vertex AI's agents
    another one, or none: the service chooses it               the others
    =========================================================  ========================================================

    :param given: the query, and then the body: the first that has such an id decides.
    """
    *parents, last = collection.split("/")[::-1][::2][::-1]
    named = "".join(f"(?:{_singulars(parent)})?" for parent in parents)
    own_id = re.compile(f"(?i:{named}(?:{_singulars(last)}))(?:Id|Name)|{_OTHER_IDS.get(last, '(?!)')}")
    for some in given:
        named_as = ((re.sub("_.", lambda found: found[0][1].upper(), key), value) for key, value in some.items())
        ids = [value for key, value in named_as if own_id.fullmatch(key)]
        if last == "databases" and (found := _CREATE_DATABASE.fullmatch(str(some.get("createStatement")))):
            ids.append(found[2])
        if ids:
            return ids[0] if len(ids) == 1 and isinstance(ids[0], str) and ids[0] else None
    return None


_OTHER_IDS = {
    "connectivityTests": "testId",
    "githubEnterpriseConfigs": "gheConfigId",
    "workerpools": "poolId",
    **dict.fromkeys(("agents", "apps", "domainMappings", "versions"), "id"),
}
# https://cloud.google.com/spanner/docs/reference/rest/v1/projects.instances.databases/create
_CREATE_DATABASE = re.compile(r"""(?i)\s*CREATE\s+DATABASE\s+([`"]?)([a-z][a-z0-9_-]*)\1\s*""")


def _singulars(collection: str) -> str:
    """The singular of a collection, as a regular expression."""
    stem = collection.removesuffix("s")
    return "|".join(map(re.escape, {collection, stem, stem.removesuffix("e"), re.sub("ie$", "y", stem)}))


def new_resource(method: Method, body: Mapping[str, Any] | None) -> Resource:
    """The resource that a method creates: a create, or another method of a collection that names what it makes.

    ======================================================  ======================================================
    a create with an id (:func:`id_of_new`)                 that
    a create with a ``name``, the whole one (Cloud          that, if it lies in the collection; a project's number
    Composer) or its end (Apigee)                           may stand for its id
    ``clusters:createsecondary?clusterId=x`` (AlloyDB),     that, by the same rule: 43 methods in the discovery
    ``databases:restore`` and ``{"databaseId": "x"}``, …    documents make what they give an id to
    ======================================================  ======================================================

    (https://cloud.google.com/composer/docs/reference/rest/v1/projects.locations.environments/create,
    https://cloud.google.com/apigee/docs/reference/apis/apigee/rest/v1/organizations.environments/create,
    https://cloud.google.com/alloydb/docs/reference/rest/v1/projects.locations.clusters/createsecondary)

    :raises InvalidReferenceError: if the request does not say its name.
    """
    head, slash, last = method.path.rpartition("/")
    collection = head + slash + last.partition(":")[0]
    name: Any = None
    if method.http_method == "POST" and len(collection.split("/")) % 2:  # `x:restart` is called on a resource
        name = id_among(collection, method.parameters, body or {})
    if name is None and method.is_create:
        name = {**(body or {}), **method.parameters}.get("name")
    if isinstance(name, str) and name and "/" not in name:
        name = f"{collection}/{name}"
    if not isinstance(name, str) or not _is_same(name.rpartition("/")[0], collection):
        raise InvalidReferenceError(
            f'if_exists="return" needs the name of the resource that exists already, which {method} does not say: give'
            " its id (…/instances?instanceId=x), or its `name` in the body."
        )
    check_segments(name, "name of a resource")
    return Resource(method.service, method.version, name, method.host)


def _is_same(one: str, other: str) -> bool:
    """Whether two names may be of the same: one may have its project's number, and the other its id."""
    projects = {project_of(one), project_of(other)}
    is_numbered = any(project is not None and project.isdigit() for project in projects)
    return identity_of("", one) == identity_of("", other) and (len(projects) == 1 or is_numbered)


def request_id_of(method: Method, body: Mapping[str, Any] | None) -> str | None:
    """The request id that an author gives, in the query or the body; ``None`` without one."""
    given = {**(body or {}), **method.parameters}
    return next((str(given[name]) for name in _REQUEST_IDS if not is_nothing(given.get(name))), None)


def with_request_id(
    method: Method, body: Mapping[str, Any], request_id: str | None
) -> tuple[str, dict[str, Any], bool]:
    """The query and the body of a start with its request id, and whether that makes it repeatable.

    ============================  ========================================================================
    the author's, in either       stays where it stands; if this is another one (of the try whose start is
                                  sent again), this one takes its place. It makes repeatable what has a
                                  place for it
    this one                      added where :meth:`Service.place_of_request_id` knows a place for it
    one that is nothing           left out, as if it was not there: a template of a value that is not
                                  there makes no start repeatable (``?requestId=``, ``None``)
    ============================  ========================================================================
    """
    content = {name: value for name, value in body.items() if not _is_empty_id(name, value)}
    parts = [(part, parse_qsl(part, keep_blank_values=True)) for part in method.query.split("&") if part]
    parts = [(part, pairs) for part, pairs in parts if not any(_is_empty_id(*pair) for pair in pairs)]
    query = "&".join(part for part, _ in parts)
    place = find_service(method.service).place_of_request_id(method.http_method, method.path)
    if not {*content, *(name for _, pairs in parts for name, _ in pairs)}.isdisjoint(_REQUEST_IDS):
        if not is_nothing(request_id):
            content = {name: request_id if name in _REQUEST_IDS else value for name, value in content.items()}
            query = "&".join(
                urlencode({name: request_id}) if name in _REQUEST_IDS else part
                for part, name in ((part, pairs[0][0] if pairs else "") for part, pairs in parts)
            )
        return query, content, place is not None
    if place is None or is_nothing(request_id):
        return query, content, False
    if place == "body":
        return query, {**content, REQUEST_ID: request_id}, True
    return "&".join(filter(None, [query, urlencode({REQUEST_ID: request_id})])), content, True


def _is_empty_id(name: str, value: Any) -> bool:
    return name in _REQUEST_IDS and is_nothing(value)


def new_request_id(seed: str) -> str:
    """A request id that is always the same for the same seed, and different for another one.

    It has the form of a random UUID, as https://google.aip.dev/155 requires.

    :param seed: identifies the start: a try of a task.
    """
    return str(uuid.UUID(bytes=uuid.uuid5(uuid.NAMESPACE_URL, f"airflow-lro-provider:{seed}").bytes, version=4))


def _check_root(api: Service, version: str, path: str) -> None:
    """Refuse a path without its project, of an API where everything lies in one."""
    roots = ("projects/", "organizations/", "folders/")
    head = path.partition("/")[0]
    is_rooted = not api.prefixes and all(re.match(r"[a-z]+/\*/locations/", name) for name in api.names[version])
    if is_rooted and ":" not in head and not path.startswith(roots):
        raise InvalidReferenceError(
            f"the method {path!r:.200} is incomplete: those of {api.title} ({api.name}) begin with"
            " projects/PROJECT/locations/LOCATION/, or with locations/LOCATION/ in the project of the connection."
        )


def _check_query(query: str, address: str) -> None:
    if not _QUERY.fullmatch(query):
        raise InvalidReferenceError(
            f"the query of the method {address!r:.200} has characters that must be percent-encoded"
            " (urllib.parse.quote does it)."
        )
    for name in (name for name, _ in parse_qsl(query, keep_blank_values=True) if name in _FORBIDDEN):
        raise InvalidReferenceError(f"the query of the method {address!r:.200} must not have {name!r}.")
