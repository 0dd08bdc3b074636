"""Which operation a user means: names are read and checked here, before any request.

A name is unique only within its service, so a **reference** is service, version, name and host. It may be given as

* a plain name, with ``service=``: ``projects/p/locations/l/operations/o``
* a full resource name (https://google.aip.dev/122): ``//datafusion.googleapis.com/projects/…``
* a URL: ``https://datafusion.googleapis.com/v1/projects/…``
* the operation itself, a dict with a ``name`` (an XCom of another task), with ``service=``; the result of a task of
  this package, ``{"outcome": …, "operation": {…}}``, will do as well.

Checked are characters, dots, the service's own name patterns and the host. What other clients return for an operation
is read by :func:`operation_in`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_lro_provider.lro.errors import InvalidReferenceError, UnknownServiceError
from airflow_lro_provider.lro.resources.catalog import (
    DEFAULT_UNIVERSE,
    SYSTEMS,
    Project,
    Service,
    find_service,
    known_services,
)
from airflow_lro_provider.lro.resources.hosts import (
    NamedHost,
    Resource,
    as_written,
    check_version,
    is_host,
    read_full_name,
    read_service,
    read_url,
)
from airflow_lro_provider.lro.resources.locations import location_of

MAX_LENGTH = 2048
# RFC 3986 path characters, without %: an encoded slash or dot does not belong in a name.
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
_LOCATION = re.compile(r"(?=.{1,40}$)[a-z][a-z0-9]*(?:-[a-z0-9]+)*")  # it becomes part of a host's label
_VERB_SUFFIX = re.compile(r":(cancel|wait|delete|get)$")


@dataclass(frozen=True)
class OperationReference(Resource):
    """All that addresses one operation, checked; its ``name`` is the operation's."""

    def to_dict(self) -> dict[str, str]:
        """Plain JSON, for a trigger's arguments and for records."""
        return {"service": self.service, "version": self.version, "name": self.name, "host": self.host}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> OperationReference:
        """Read back what :meth:`to_dict` gave, and check it again: records can be tampered with."""
        service = find_service(stored.get("service", ""))
        version = service.version(stored.get("version"))
        host = stored.get("host")
        if not isinstance(host, str) or not is_host(host):
            raise InvalidReferenceError(f"a stored reference has no usable host: {host!r}")
        return cls(service.name, version, check_name(stored.get("name"), service, version), host)


def identity_of(service: Any, name: Any) -> str:
    """What identifies an operation, however its project is spelled: services may give it by number or by id.

    Nor the host: the same operation may be named with the global host and with a regional one.
    """
    return f"{service}/{re.sub('^projects/[^/]+/', 'projects/-/', str(name))}"


def fingerprint_of(service: Any, name: Any) -> str:
    """A short text that identifies an operation, as :func:`identity_of` does."""
    return "i" + hashlib.sha256(identity_of(service, name).encode()).hexdigest()[1:16]


@dataclass(frozen=True)
class Parent(Resource):
    """What operations are listed below, checked: ``projects/p/locations/l`` for most services."""


def read_reference(
    value: Any,
    service: str | None = None,
    api_version: str | None = None,
    *,
    api_endpoint: str | None = None,
    universe: str = DEFAULT_UNIVERSE,
    project: Project = None,
) -> OperationReference:
    """Read a reference in any of its forms; see the module's text.

    :param service: the API, if ``value`` does not identify it: its discovery name, or one of its hosts, which is used
        then.
    :param api_version: the API version, if not the preferred one.
    :param api_endpoint: the connection's own endpoint; a URL that begins with it is understood.
    :param universe: the domain of the connection's universe.
    :param project: the connection's project, for a name that begins with its location.
    :raises InvalidReferenceError: if it is not a name of an operation of that service.
    :raises UnknownServiceError: if the service or the version is not known.
    """
    named = read_service(service, universe) if service is not None else None
    if isinstance(value, Mapping):
        value = _name_of_resource(value)
    value = as_written(value)
    if not isinstance(value, str):
        raise InvalidReferenceError(
            f"an operation is named by a string or by its dict, not by {type(value).__name__} ({value!r:.100})"
            f"{hint_for(value, 'operation_name')}"
        )
    if value and is_nothing(value):
        raise InvalidReferenceError(
            f"the name of the operation is {value!r}: probably a template of a value that is not there. Has the task"
            " that is to return the operation run, and does it return it?"
        )
    if value.startswith("{"):
        raise InvalidReferenceError(
            f"this looks like an operation that Jinja turned into a string: {value!r:.120}."
            " Pass the task's output itself (operation_name=start.output), or its name:"
            " {{ ti.xcom_pull(task_ids='start')['name'] }}"
        )
    if value.startswith("//"):
        found = read_full_name(value, named, universe)
        return _reference_at(found, "", found.path, api_version, project)
    if "://" in value:
        found = read_url(value, named, api_endpoint=api_endpoint, universe=universe)
        return _reference_at(found, *found.api.split_path(found.path), api_version, project)
    if named is None:
        named = read_service(_service_of(value).name)
    api = named.api
    value = api.in_project(value, project)
    fitting = (version for version in api.versions if api.has_name(value, version))
    version = api.version(api_version) if api_version is not None else next(fitting, api.versions[0])
    name = check_name(value, api, version)
    return OperationReference(api.name, version, name, named.host_for(name))


def _reference_at(
    found: NamedHost, named_version: str, name: str, api_version: str | None, project: Project
) -> OperationReference:
    version = check_version(found.api, named_version, api_version, found.given)
    name = check_name(found.api.in_project(name, project), found.api, version)
    return OperationReference(found.api.name, version, name, found.host_for(name))


def read_parent(
    parent: Any,
    service: str | None,
    api_version: str | None = None,
    *,
    universe: str = DEFAULT_UNIVERSE,
    project: Project = None,
) -> Parent:
    """Read the parent of a list: what operations are listed below; a trailing ``/operations`` is left out.

    For the arguments see :func:`read_reference`.

    :raises InvalidReferenceError: saying what is wrong with it.
    :raises UnknownServiceError: if the service or the version is not known, or lists no operations.
    """
    if service is None:
        raise UnknownServiceError(
            "to list operations, `service` is required: a parent's name does not identify its API."
        )
    named = read_service(service, universe)
    version = named.api.version(api_version)
    parent = as_written(parent)
    if isinstance(parent, str):
        parent = named.api.in_project(parent.removesuffix("/"), project)
    parent = check_parent(parent, named.api, version)
    return Parent(named.api.name, version, parent, named.host_for(parent))


def check_parent(parent: Any, service: Service, version: str) -> str:
    """Check the parent of a list against a service's own patterns, and return it.

    :raises UnknownServiceError: if the service lists no operations.
    :raises InvalidReferenceError: saying what is wrong with it.
    """
    service.require("list", version=version)
    if not isinstance(parent, str):
        raise InvalidReferenceError(f"a parent is a string, not {type(parent).__name__}{hint_for(parent, 'parent')}")
    checked: str = parent.removesuffix("/operations")
    check_segments(checked, "parent", wildcard=True)
    if not service.has_parent(checked, version):
        raise InvalidReferenceError(
            f"{checked!r} is not a parent of operations of {service.title} ({service.name} {version})."
            f" Expected {_examples(service.parents(version))}."
        )
    return checked


def check_name(name: Any, service: Service, version: str) -> str:
    """Check a plain name against a service's own patterns, and return it.

    :raises InvalidReferenceError: saying what is wrong with it, and which API has such names.
    """
    if not isinstance(name, str):
        raise InvalidReferenceError(f"the name of an operation is a string, not {type(name).__name__}")
    check_segments(name, "name of an operation")
    if verb := _VERB_SUFFIX.search(name):
        raise InvalidReferenceError(
            f"{name!r} ends in {verb[0]!r}, which belongs to the URL of that method and not to the name. Leave it out."
        )
    refuse_fetched(service, name)
    if not service.has_name(name, version):
        others = [s for s in known_services().values() if s is not service and _fits(s, name)]
        hint = f" It looks like one of {_some(others)}." if others and "/" in name else ""
        raise InvalidReferenceError(
            f"{name!r} is not a name of an operation of {service.title} ({service.name} {version})."
            f" Expected {_examples(service.names[version])}.{hint}"
        )
    return name


def _name_of_resource(resource: Mapping[str, Any]) -> Any:
    if "name" not in resource and isinstance(resource.get("operation"), Mapping):
        resource = resource["operation"]
    name = as_written(resource.get("name"))
    if not isinstance(name, str) or not name:
        raise InvalidReferenceError(
            f"this dict has no `name`, so it is not an operation (its keys: {', '.join(map(str, resource))[:200]})."
        )
    if name.startswith("//") or "://" in name:
        # The host is never taken from an operation's own text.
        raise InvalidReferenceError(f"the operation's `name` {name!r:.200} names a host; a plain name was expected.")
    return name


def operation_in(returned: Any) -> str | Mapping[str, Any] | OperationReference:
    """Find an operation in what another client returned, for :func:`read_reference`.

    =============================================  =====================================================
    object                                         where its name is
    =============================================  =====================================================
    ``google.api_core.operation.Operation``, and   ``.operation.name``
    its async sibling: what generated clients give
    ``google.longrunning.operations_pb2``          ``.name``
    a task of the Earth Engine client              ``.operation_name``, once it is started
    an object with ``.operation``                  that, if it is a name or a dict
    =============================================  =====================================================

    None of these libraries is imported. A name, a dict or a reference is returned as it is.

    :raises InvalidReferenceError: if there is no operation in it.
    """
    if isinstance(returned, (str, Mapping, OperationReference)):
        return returned
    inner = getattr(returned, "operation", None)
    if isinstance(inner, (str, Mapping)) and inner:
        return inner
    names = (getattr(inner, "name", None), getattr(returned, "operation_name", None), getattr(returned, "name", None))
    for name in names:
        if isinstance(name, str) and name:
            return name
    hint = " Was it started?" if hasattr(returned, "name") or inner is not None else ""
    raise InvalidReferenceError(
        f"no operation in {type(returned).__name__} ({returned!r:.100}): expected its name, its dict, or an object with"
        f" .name, .operation or .operation.name.{hint}"
    )


_FETCHED = re.compile(r"(?:.+/)?publishers/[^/]+/models/[^/]+(?::predictLongRunning|/operations/[^/]+)")


def refuse_fetched(service: Service, path: str) -> None:
    """Refuse operations that no verb of google.longrunning knows: those of Vertex AI's published models (Veo).

    https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/veo-video-generation

    :raises InvalidReferenceError: for the method that starts one, and for the name of one.
    """
    if service.name == "aiplatform" and _FETCHED.fullmatch(path):
        raise InvalidReferenceError(
            f"{path!r:.200}: operations of published models (Veo) are not supported; nothing was sent. Only"
            " `:fetchPredictOperation` polls them, and nothing cancels them. Call the model in a task of your own."
        )


def is_nothing(value: Any) -> bool:
    """Whether a value is nothing, or the text that a template makes of nothing."""
    return value is None or str(value).strip().lower() in ("", "none", "null", "undefined", "nan")


def hint_for(value: Any, argument: str) -> str:
    """What to do about a value that names nothing, because of what people mean by it; empty if nobody knows."""
    if value is None:
        return ". If it is the result of another task, that task returned nothing: it has no XCom"
    if hasattr(value, "task_id") and hasattr(value, "output"):
        return f". That is a task and not what it returns: {argument}={value.task_id}.output"
    if isinstance(value, (list, tuple)):
        return f". For a task for each of several: .expand({argument}=…)"
    return ""


def check_segments(name: str, what: str, *, wildcard: bool = False) -> None:
    """Check the parts of a name or path: their characters, and the location, which may be ``-`` with ``wildcard``.

    :raises InvalidReferenceError: saying which part is wrong.
    """
    if not name or len(name) > MAX_LENGTH:
        raise InvalidReferenceError(f"the {what} is {'empty' if not name else 'longer than 2048 characters'}.")
    if name.startswith("/"):
        raise InvalidReferenceError(f"{name!r:.200} is not a {what}: it begins with a slash. Leave that out.")
    segments = name.split("/")
    for segment in segments:
        if segment in (".", "..") or not _SEGMENT.fullmatch(segment):
            problem = "an empty part" if not segment else f"the part {segment!r:.80}"
            raise InvalidReferenceError(
                f"{name!r:.200} is not a {what}: it has {problem}. Only letters, digits and"
                " . _ ~ - : = @ ( ) and the like are allowed between slashes."
            )
    location = location_of(name)
    if location is not None and not _LOCATION.fullmatch(location) and not (wildcard and location == "-"):
        raise InvalidReferenceError(f"{name!r:.200}: {location!r} is not a location; expected one like 'us-central1'.")


def _service_of(name: str) -> Service:
    """The only API that has such names."""
    # A plain id does not identify its API, although Speech-to-Text has such names.
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


def _some(services: Sequence[Service]) -> str:
    """A few of these APIs, by name, the best known first."""
    names = sorted((service.name for service in services), key=lambda name: (name not in SYSTEMS, name))
    more = f", or one of {len(names) - 5} others" if len(names) > 5 else ""
    return (", ".join(names[:5]) if more else " or ".join(names)) + more


def _fits(service: Service, name: str) -> bool:
    return any(service.has_name(name, version) for version in service.versions)


def _examples(patterns: Sequence[str]) -> str:
    """A few of these patterns, the shortest first, for a message."""
    shown = sorted((re.sub(r"\[|\]", "", pattern) for pattern in patterns), key=len)
    more = f" or one of {len(shown) - 2} others" if len(shown) > 2 else ""
    return " or ".join(shown[:2]) + more
