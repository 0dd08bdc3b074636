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

from airflow_lro_provider.lro.flows import START_RETRY_SECONDS
from airflow_lro_provider.lro.http.json import read_as
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.resources.catalog import find_service
from airflow_lro_provider.lro.resources.methods import Method, id_of_new
from airflow_lro_provider.lro.resources.names import Parent, check_parent

ARRIVAL_SECONDS = START_RETRY_SECONDS + 30.0
"""Within this time a start with all its retries reaches the service, or never. (Its response may take longer.)"""
CLOCK_SKEW_SECONDS = 600.0
"""How far Google's clock and this machine's may be apart: what began this much earlier or later is not certain."""
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
    def names_new(self) -> bool:
        """Whether the start creates a resource whose id it says: only its own operation can be that."""
        return self.verb == "create"

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

    :param certain: those that it has started, and nobody else: they create the resource that it names, and began after
        it was sent, and before its last retry had arrived.
    :param possible: others that it may have started.
    :param is_absent: whether it is certain that there is none: the start creates a resource that it names, and every
        operation of that time says what it works on.
    """

    certain: list[Operation]
    possible: list[Operation]
    is_absent: bool


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
        if (new_id := id_of_new(method, body)) is None:
            return None
        resource = f"{resource}/{new_id}"
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


def find(footprint: StartFootprint, operations: Iterable[Operation], since: float, until: float | None = None) -> Found:
    """Find the operations that a start may have started.

    ==============================================  =====================================  =========================
    works on                                        began                                  it is
    ==============================================  =====================================  =========================
    the resource that the start creates, by a       after the first or the last try had    certain
    ``create``                                      sent it, and before all of its
                                                    requests had arrived
    the same                                        in between; or as much earlier or      possible
                                                    later as clocks differ
    the same, by a method that it does not say      in that time                           possible
    what the start works on, which is no create     in that time                           possible
    anything else, or at another time                                                      none of it
    it does not say, or not when it began                                                  unknown: nothing is absent
    ==============================================  =====================================  =========================

    :param operations: those of its parent.
    :param since: when the start was about to be sent, in seconds since the epoch.
    :param until: the same of the last time, if it was sent by several tries.
    """
    until = since if until is None else max(since, until)
    certain: list[Operation] = []
    possible: list[Operation] = []
    is_absent = footprint.names_new
    for operation in operations:
        created, target = operation.create_time, operation.target
        if created is None:
            is_absent = False
            continue
        began, arrived_by = created.timestamp(), until + ARRIVAL_SECONDS
        if not since - CLOCK_SKEW_SECONDS <= began <= arrived_by + CLOCK_SKEW_SECONDS:
            continue
        is_absent = is_absent and target is not None
        if target is None or _without_project(target) != _without_project(footprint.target):
            continue
        told = operation.metadata.get("verb")
        verb = told.lower() if isinstance(told, str) else ""
        is_in_time = any(0.0 <= began - sent <= ARRIVAL_SECONDS for sent in (since, until))
        if footprint.names_new and verb == footprint.verb and is_in_time:
            certain.append(operation)
        elif not verb or not footprint.verb or verb == footprint.verb:
            possible.append(operation)
    return Found(certain, possible, is_absent)


def _without_project(resource: str) -> str:
    """A name without its project, which services may give by number or by id. All listed are of the same one."""
    return re.sub(r"^(//[^/]+/)?(projects/[^/]+/)?", "", resource)
