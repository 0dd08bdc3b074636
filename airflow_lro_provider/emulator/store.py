"""The emulator's state, behind one lock: operations, scripts, failures, requests.

The server's thread and the test's thread share a store. The clock is injected. Standard library only.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_lro_provider.emulator.failures import FailureList
from airflow_lro_provider.emulator.journal import Journal, RequestRecord
from airflow_lro_provider.emulator.responses import RefusedError
from airflow_lro_provider.emulator.routes import names_below, parent_of
from airflow_lro_provider.emulator.script import Failure, Script, ScriptError, check_result
from airflow_lro_provider.emulator.state import EmulatedOperation, OperationView
from airflow_lro_provider.lro.resources.catalog import COLLECTIONS, Service, find_service, known_services

__all__ = ["Store"]

DEFAULT_PAGE, LARGEST_PAGE = 100, 1000
_DONE = re.compile(r"\s*done\s*[:=]\s*(true|false)\s*", re.IGNORECASE)


class Store:
    """The operations of all APIs, by API and name.

    :param clock: returns the time, in seconds since the epoch.
    :param services: the APIs, if not those of the catalog.
    """

    def __init__(self, clock: Callable[[], float] = time.time, services: Mapping[str, Service] | None = None) -> None:
        self.clock = clock
        self.services = known_services() if services is None else services
        self._lock = threading.RLock()
        self._journal = Journal()
        self._failures = FailureList()
        self._last = 0
        self._clear()

    def _clear(self) -> None:
        self._operations: dict[tuple[str, str], EmulatedOperation] = {}
        # The same, by (API, parent) and then by name, for list.
        self._by_parent: dict[tuple[str, str], dict[str, EmulatedOperation]] = {}
        self._requested: dict[tuple[str, str, str], str] = {}
        self._scripts: dict[str | None, Script] = {None: Script()}

    def reset(self) -> None:
        """Remove everything: operations, requests, scripts and failures."""
        with self._lock:
            self._clear()
            self._journal.clear()
            self._failures.clear()

    def service(self, name: str) -> Service:
        """Find an API.

        :raises UnknownServiceError: a ValueError, with a did-you-mean.
        """
        return self.services.get(name) or find_service(name)

    # Scripts and failures

    def script(self, service: str | None = None) -> Script:
        """The script of operations that are started from now on, for an API or in general."""
        with self._lock:
            return self._scripts.get(service, self._scripts[None])

    def set_script(self, changes: Any, service: str | None = None) -> Script:
        """Set it: the fields that are not given get their defaults.

        :param service: only for this API; it takes precedence over the general script.
        :raises ScriptError: naming what is wrong.
        """
        script = Script().but(changes)
        with self._lock:
            self._scripts[None if service is None else self.service(service).name] = script
        return script

    def fail(self, *failures: Failure) -> None:
        """Make future requests fail: all of these, or none if one names an unknown API."""
        for failure in failures:
            if failure.service is not None:
                self.service(failure.service)
        with self._lock:
            for failure in failures:
                self._failures.add(failure)

    def failures(self) -> list[Failure]:
        """The pending failures, without those of single operations."""
        with self._lock:
            return self._failures.pending()

    def take_failure(self, verb: str | None, service: str | None, name: str | None, token: str) -> Failure | None:
        """The failure that this request gets, if any: its operation's own take precedence.

        :param token: a fingerprint of the request's token.
        """
        with self._lock:
            operation = self._operations.get((service or "", name or ""))
            own = operation.failures.take(verb, service, name, token) if operation is not None else None
            return own or self._failures.take(verb, service, name, token)

    def latency(self, service: str, name: str | None, verb: str | None = None) -> float:
        """How long a response about an operation is delayed, in seconds."""
        script = self._script_for(service, name)
        return script.latency + (script.cancel_latency if verb == "cancel" else 0.0)

    def field_mask(self, service: str, name: str | None) -> str:
        """What becomes of a request's field mask. See :class:`Script`."""
        return self._script_for(service, name).field_mask

    def _script_for(self, service: str, name: str | None) -> Script:
        with self._lock:
            operation = self._operations.get((service, name or ""))
            return self.script(service) if operation is None else operation.script

    # Requests

    def note_request(self, **fields: Any) -> RequestRecord:
        """Record a request that has just arrived; see :class:`RequestRecord`."""
        with self._lock:
            now = self.clock()
            operation = self._operations.get((fields["service"] or "", fields["name"] or ""))
            if operation is not None and fields["verb"] in ("get", "wait"):
                operation.note_poll(now)
            return self._journal.add(time=now, **fields)

    def requests(
        self, verb: str | None = None, name: str | None = None, newest: int | None = None
    ) -> list[RequestRecord]:
        """The requests that were received, oldest first. See :meth:`Journal.find`."""
        with self._lock:
            return self._journal.find(verb, name, newest)

    # Operations

    def create(
        self,
        service: str,
        name: str | None = None,
        *,
        version: str | None = None,
        parent: str | None = None,
        script: Any = None,
        verb: str = "create",
        target: str | None = None,
        request_id: str | None = None,
    ) -> OperationView:
        """Start an operation.

        :param service: the API.
        :param name: its name; generated if not given.
        :param version: the API version; by default the preferred one, or the first that has such names.
        :param parent: the parent of a generated name.
        :param script: how it behaves: changes to the API's script.
        :param verb: what it does, for the metadata.
        :param target: the resource that it works on, for the metadata.
        :param request_id: the same id below the same parent returns the operation of the first request.
        :raises RefusedError: INVALID_ARGUMENT, or ALREADY_EXISTS.
        :raises ScriptError: naming what is wrong with the script.
        """
        api = self.service(service)
        with self._lock:
            behaviour = self.script(api.name).but({} if script is None else script)
            known = self._requested.get((api.name, parent or "", request_id)) if request_id else None
            if known is not None and (api.name, known) in self._operations:
                return self._operations[api.name, known].view(self.clock())
            self._last += 1
            # Random, so that it is never the name of an operation of an earlier emulator.
            name = name or _new_name(api, version, parent, f"operation-{self._last}-{secrets.token_hex(4)}")
            if (api.name, name) in self._operations:
                raise RefusedError("ALREADY_EXISTS", f"Operation {name} already exists.")
            operation = EmulatedOperation(
                service=api.name,
                version=_version_for(api, version, name),
                name=name,
                order=self._last,
                script=behaviour,
                created_at=self.clock(),
                verb=verb,
                target=target if target is not None else parent_of(name),
            )
            self._operations[api.name, name] = operation
            self._by_parent.setdefault((api.name, parent_of(name)), {})[name] = operation
            if request_id:
                self._requested[api.name, parent or "", request_id] = name
            return operation.view(self.clock())

    def get(self, service: str, name: str) -> OperationView:
        """Get an operation.

        :raises RefusedError: NOT_FOUND.
        """
        with self._lock:
            return self._find(service, name).view(self.clock())

    def due(self, service: str, name: str) -> float:
        """Seconds until an operation finishes if nothing else happens; may be infinite.

        :raises RefusedError: NOT_FOUND.
        """
        with self._lock:
            return max(self._find(service, name).ends_at() - self.clock(), 0.0)

    def cancel(self, service: str, name: str) -> None:
        """Accept a cancel request, or refuse it.

        :raises RefusedError: NOT_FOUND, UNIMPLEMENTED or FAILED_PRECONDITION.
        """
        with self._lock:
            self._find(service, name).cancel(self.clock())

    def finish(self, service: str, name: str, response: Any = None, error: Any = None) -> OperationView:
        """End an operation now, with this result or with its script's. No-op if it has finished.

        :raises RefusedError: NOT_FOUND.
        :raises ScriptError: if the result has the wrong shape.
        """
        check_result(response, error)
        with self._lock:
            operation = self._find(service, name)
            operation.finish(self.clock(), response, error)
            return operation.view(self.clock())

    def delete(self, service: str, name: str) -> None:
        """Delete an operation.

        :raises RefusedError: NOT_FOUND.
        """
        with self._lock:
            operation = self._find(service, name)
            del self._operations[operation.service, name]
            del self._by_parent[operation.service, parent_of(name)][name]

    def views(self, service: str | None = None, name: str | None = None) -> list[OperationView]:
        """All operations, oldest first.

        :param service: only those of this API.
        :param name: only those of this name.
        """
        with self._lock:
            now = self.clock()
            if service is not None and name is not None:
                known = self._operations.get((service, name))
                return [] if known is None else [known.view(now)]
            return [
                operation.view(now)
                for operation in self._operations.values()
                if service in (None, operation.service) and name in (None, operation.name)
            ]

    def page(
        self, service: str, parent: str, filter: str = "", page_size: str = "", page_token: str = ""
    ) -> dict[str, Any]:
        """One page of a parent's operations, oldest first, as ``list`` returns it.

        :param parent: ``-`` in it matches any one part, as in ``locations/-``.
        :param filter: ``done:true``, ``done=false`` and so on.
        :param page_size: the maximum number; 100 if not given, and never more than 1000.
        :param page_token: the ``nextPageToken`` of the page before.
        :raises RefusedError: INVALID_ARGUMENT.
        """
        wanted, size, after = _read_filter(filter), _read_size(page_size), _read_token(page_token)
        with self._lock:
            now = self.clock()
            found: list[EmulatedOperation] = []
            for operation in self._below(service, parent):
                if operation.order <= after:
                    continue
                operation.advance(now)
                if wanted is None or wanted == (operation.done_at is not None):
                    found.append(operation)
                    if len(found) > size:
                        break
            for operation in found[:size]:
                operation.note_poll(now)
            page: dict[str, Any] = {"operations": [operation.view(now).operation for operation in found[:size]]}
            if len(found) > size:
                page["nextPageToken"] = _token(found[size - 1].order)
        return page if page["operations"] else {}  # proto3 JSON leaves an empty list out

    def _find(self, service: str, name: str) -> EmulatedOperation:
        operation = self._operations.get((self.service(service).name, name))
        if operation is None:
            raise RefusedError("NOT_FOUND", f"Resource '{name}' was not found")
        return operation

    def _below(self, service: str, parent: str) -> list[EmulatedOperation]:
        parent = "" if parent in COLLECTIONS else parent
        if "-" not in parent.split("/"):
            return list(self._by_parent.get((service, parent), {}).values())
        found = [
            operation
            for (owner, above), operations in self._by_parent.items()
            if owner == service and _matches(parent, above)
            for operation in operations.values()
        ]
        return sorted(found, key=lambda operation: operation.order)


def _version_for(api: Service, version: str | None, name: str) -> str:
    """The version that has such a name."""
    candidates = api.versions if version is None else (api.version(version),)
    for candidate in candidates:
        if api.has_name(name, candidate):
            return candidate
    raise ScriptError(f"{name!r:.200} is not a name of an operation of {api.title} ({', '.join(candidates)})")


def _new_name(api: Service, version: str | None, parent: str | None, new_id: str) -> str:
    """A name for an operation: below its parent if it has one, else by the shortest pattern of the API."""
    version = api.version(version)
    if parent:
        possible = names_below(parent, new_id)
        return next((name for name in possible if api.has_name(name, version)), possible[0])
    patterns = api.served("get", version) or api.names[version]
    if parent is not None:
        patterns = tuple(one for one in patterns if one.split("/")[0] in (*COLLECTIONS, "*")) or patterns
    stem, _, _ = min(patterns, key=len).replace("[", "").replace("]", "").rpartition("*")
    stem = stem.rstrip("*").replace("locations/*", "locations/us-central1").replace("*", "emulated")
    return stem + new_id


def _matches(pattern: str, parent: str) -> bool:
    wanted, parts = pattern.split("/"), parent.split("/")
    return len(wanted) == len(parts) and all(want in ("-", part) for want, part in zip(wanted, parts, strict=True))


def _read_filter(filter: str) -> bool | None:
    if not filter.strip():
        return None
    match = _DONE.fullmatch(filter)
    if match is None:
        raise RefusedError("INVALID_ARGUMENT", f"Invalid list filter: {filter:.200}. Only `done` is supported here.")
    return match[1].lower() == "true"


def _read_size(text: str) -> int:
    size = int(text or 0) if re.fullmatch(r"[0-9]{0,9}", text) else -1
    if size < 0:
        raise RefusedError("INVALID_ARGUMENT", f"Invalid value at 'page_size' (TYPE_INT32), {text!r:.50}")
    return min(size or DEFAULT_PAGE, LARGEST_PAGE)


def _token(order: int) -> str:
    return base64.urlsafe_b64encode(f"after {order}".encode()).decode()


def _read_token(token: str) -> int:
    if not token:
        return 0
    try:
        word, _, order = base64.urlsafe_b64decode(token).decode("ascii").partition(" ")
        if word == "after":
            return int(order)
    except (binascii.Error, ValueError):
        pass
    raise RefusedError("INVALID_ARGUMENT", "Invalid page token.")
