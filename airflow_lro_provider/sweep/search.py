"""How to find an operation whose start was sent and got no response: by what it works on, and when it began.

The process that started it is dead, and the response is lost with it. Most of Google's services write into an
operation's metadata what it works on (``target``) and when it was created (``createTime``), e.g.
https://cloud.google.com/developer-connect/docs/api/reference/rest/Shared.Types/OperationMetadata, and a start says the
former before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_lro_provider.lro.http.json import read_as
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.methods import REQUEST_ID, Method
from airflow_lro_provider.lro.resources.names import Parent, check_parent

CLOCK_SKEW_SECONDS = 30.0
"""How far Google's clock and this machine's may be apart."""
ARRIVAL_SECONDS = 300.0
"""Within this time a start with all its retries reaches the service, or never."""
_VERBS = {"DELETE": "delete", "POST": "create"}


@dataclass(frozen=True)
class StartFootprint:
    """What the operation of a start can be recognized by.

    :param host: where it was sent.
    :param parent: where its operation is listed.
    :param target: the resource that the operation works on.
    :param verb: what the metadata calls it, if the service does; empty if that is not known.
    """

    service: str
    version: str
    host: str
    parent: str
    target: str
    verb: str = ""

    @property
    def place(self) -> Parent:
        """The parent, as a list takes it."""
        return Parent(self.service, self.version, self.parent, self.host)

    def to_dict(self) -> dict[str, str]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Any) -> StartFootprint | None:
        """Read it back, and check it again, for records can be tampered with; ``None`` for anything else."""
        try:
            footprint = read_as(cls, stored)
            api = find_service(footprint.service)
            parent = check_parent(footprint.parent, api, api.version(footprint.version))
        except ValueError:  # an InvalidRequestError is one, too
            return None
        return footprint if (api.name, parent) == (footprint.service, footprint.parent) else None


@dataclass(frozen=True)
class Found:
    """What a list of operations shows of a start.

    :param operations: those that it may have started; if there are several, nothing distinguishes them.
    :param is_certain: whether there can be no other one: every operation of that time says what it works on.
    """

    operations: list[Operation]
    is_certain: bool


def footprint_of(method: Method, body: Mapping[str, Any] | None = None) -> StartFootprint | None:
    """How the operation of a start can be recognized; ``None`` if it cannot.

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
            return StartFootprint.from_dict(found.to_dict())  # an id with odd characters is no name: checked there
    return None


def find(footprint: StartFootprint, operations: Iterable[Operation], since: float) -> Found:
    """Find the operations that a start may have started.

    :param operations: those of its parent.
    :param since: when the start was about to be sent, in seconds since the epoch.
    """
    candidates: list[Operation] = []
    is_certain = True
    for operation in operations:
        created = operation.create_time
        if created is None:
            is_certain = False
        elif since - CLOCK_SKEW_SECONDS <= created.timestamp() <= since + ARRIVAL_SECONDS:
            target = operation.target
            is_certain = is_certain and target is not None
            verb = operation.metadata.get("verb")
            is_of_kind = not footprint.verb or not isinstance(verb, str) or verb.lower() == footprint.verb
            if target is not None and is_of_kind and _without_project(target) == _without_project(footprint.target):
                candidates.append(operation)
    return Found(candidates, is_certain)


def _without_project(resource: str) -> str:
    """A name without its project, which services may give by number or by id. All listed are of the same one."""
    return re.sub(r"^(//[^/]+/)?(projects/[^/]+/)?", "", resource)
