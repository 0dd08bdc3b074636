"""How to find an operation whose start was sent and never answered: by what it works on, and when it began.

The process that started it is dead, and took the answer with it. Most of Google's services write into an operation's
metadata what it works on (``target``) and since when (``createTime``), e.g.
https://cloud.google.com/developer-connect/docs/api/reference/rest/Shared.Types/OperationMetadata, and a start says the
same before it is sent. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_lro_provider.lro.errors import InvalidRequestError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.methods import REQUEST_ID, Method
from airflow_lro_provider.lro.resources.names import Parent, check_parent

__all__ = ["Found", "StartFootprint", "find", "footprint_of"]

CLOCKS_DIFFER = 30.0
"""How far Google's clock and this machine's may be apart, in seconds."""
ARRIVES_WITHIN = 300.0
"""A start with all its retries reaches the service within so many seconds, or never."""
_VERBS = {"DELETE": "delete", "POST": "create"}


@dataclass(frozen=True)
class StartFootprint:
    """What a start leaves at the service, if it has come to something.

    :param service: the API's discovery name.
    :param version: the API version.
    :param host: where it was sent.
    :param parent: where its operation is listed.
    :param target: the resource that the operation works on.
    :param verb: what the metadata calls it, if they do; empty if that is not known.
    """

    service: str
    version: str
    host: str
    parent: str
    target: str
    verb: str = ""

    @property
    def place(self) -> Parent:
        """The parent, as a list wants it."""
        return Parent(self.service, self.version, self.parent, self.host)

    def to_dict(self) -> dict[str, str]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Any) -> StartFootprint | None:
        """Read them back, and check them again, for records can be tampered with; ``None`` for anything else."""
        if not isinstance(stored, Mapping):
            return None
        fields: dict[str, Any] = {name: stored.get(name) for name in cls.__dataclass_fields__}
        if not all(isinstance(value, str) for value in fields.values()):
            return None
        traces = cls(**fields)
        try:
            api = find_service(traces.service)
            parent = check_parent(traces.parent, api, api.version(traces.version))
        except InvalidRequestError:
            return None
        return traces if (api.name, parent) == (traces.service, traces.parent) else None


@dataclass(frozen=True)
class Found:
    """What a list of operations says.

    :param operations: those that the start may have started; more than one cannot be told apart.
    :param is_certain: whether there is no other: every operation of that time says what it works on.
    """

    operations: list[Operation]
    is_certain: bool


def footprint_of(method: Method, body: Mapping[str, Any] | None = None) -> StartFootprint | None:
    """What the start of an operation will be known by; ``None`` if that cannot be said.

    * ``POST …/instances?instanceId=x`` creates ``…/instances/x``,
    * ``POST …/instances/x:restart``, ``PATCH …/instances/x`` and ``DELETE …/instances/x`` work on ``…/instances/x``.
    """
    api = find_service(method.service)
    head, slash, last = method.path.rpartition("/")
    name, colon, _ = last.partition(":")
    resource = head + slash + name
    verb = _VERBS.get(method.http_method, "")
    if method.http_method == "POST" and not colon:
        given = {**(body or {}), **method.parameters}
        ids = [value for name, value in given.items() if re.fullmatch(r"[a-z]\w*Id", name) and name != REQUEST_ID]
        if len(ids) != 1 or not isinstance(ids[0], str) or not ids[0]:
            return None
        resource = f"{resource}/{ids[0]}"
    elif colon:
        verb = ""
    if not api.offers("list"):
        return None
    segments = resource.split("/")
    for length in range(len(segments), 0, -1):
        parent = "/".join(segments[:length])
        if api.has_parent(parent, method.version):
            found = StartFootprint(method.service, method.version, method.host, parent, resource, verb)
            return StartFootprint.from_dict(
                found.to_dict()
            )  # an id of odd characters is no name, and nothing is known by it
    return None


def find(traces: StartFootprint, operations: Iterable[Operation], since: float) -> Found:
    """Find what a start has started.

    :param operations: those of its parent.
    :param since: when the start was about to be sent, in seconds since the epoch.
    """
    its: list[Operation] = []
    is_certain = True
    for operation in operations:
        created = operation.create_time
        if created is None:
            is_certain = False
        elif since - CLOCKS_DIFFER <= created.timestamp() <= since + ARRIVES_WITHIN:
            target = operation.target
            is_certain = is_certain and target is not None
            verb = operation.metadata.get("verb")
            is_of_kind = not traces.verb or not isinstance(verb, str) or verb.lower() == traces.verb
            if target is not None and is_of_kind and _without_project(target) == _without_project(traces.target):
                its.append(operation)
    return Found(its, is_certain)


def _without_project(resource: str) -> str:
    """A name without its project: services may give its number for its id. They are listed below one project."""
    return re.sub(r"^(//[^/]+/)?(projects/[^/]+/)?", "", resource)
