"""The table of APIs: what each is called, where it lives, which names and verbs it has.

The table is data (``services.json``); another API is a few lines there and none here. A name pattern
is written as in Google's HTTP rules (https://google.aip.dev/127): ``*`` is one segment, ``**`` one or
more, and a part in brackets may be left out.

Standard library only.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from airflow_lro_provider.lro.errors import InvalidReferenceError, UnknownServiceError

__all__ = ["VERBS", "Service", "find_service", "known_services"]

VERBS = ("get", "list", "cancel", "delete", "wait")
DEFAULT_UNIVERSE = "googleapis.com"


@dataclass(frozen=True)
class Service:
    """One API.

    :param name: its discovery name, e.g. ``aiplatform``.
    :param title: its name for people, e.g. ``Vertex AI``.
    :param host: where it lives.
    :param versions: its versions, the preferred one first.
    :param verbs: which of :data:`VERBS` it offers.
    :param names: the patterns of its operations' names, by version.
    :param without: the patterns that a verb does not serve, by verb.
    :param regional: which location of a name lives at which host, if not all at one.
    :param wait: where ``:wait`` takes its timeout: in the ``query`` or in the ``body``.
    :param request_id: where a method that starts an operation takes the id that makes it repeatable
        (https://google.aip.dev/155): in the ``query`` or in the ``body``, and which methods do
        (``POST projects/*/locations/*/connections``).
    :param scopes: OAuth scopes, any of which suffices.
    :param console: a page of the Google console, with ``{project}``.
    """

    name: str
    title: str
    host: str
    versions: tuple[str, ...]
    verbs: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    without: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regional: Mapping[str, Any] = field(default_factory=dict)
    wait: str | None = None
    request_id: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    console: str | None = None

    def version(self, wanted: str | None) -> str:
        """Check a version, or choose the preferred one.

        :raises UnknownServiceError: if this API has no such version.
        """
        if wanted is None:
            return self.versions[0]
        if wanted not in self.versions:
            raise UnknownServiceError(
                f"{self.title} ({self.name}) has no API version {wanted!r}. It has: {', '.join(self.versions)}."
            )
        return wanted

    def has_name(self, name: str, version: str) -> bool:
        """Whether an operation of this API and version can be called this."""
        return any(pattern.fullmatch(name) for pattern in self._patterns[version])

    def has_parent(self, parent: str, version: str) -> bool:
        """Whether operations can be listed below this."""
        return any(pattern.fullmatch(parent) for pattern in self._parents[version])

    def offers(self, verb: str, name: str | None = None) -> bool:
        """Whether this API has a verb, for this name if one is given."""
        if verb not in self.verbs:
            return False
        return name is None or not any(pattern.fullmatch(name) for pattern in self._without.get(verb, ()))

    def require(self, verb: str, name: str | None = None) -> None:
        """Refuse a verb that this API does not have.

        :raises UnknownServiceError: naming the verbs that there are.
        """
        if not self.offers(verb, name):
            offered = ", ".join(v for v in self.verbs if self.offers(v, name))
            place = f" for {name}" if name else ""
            raise UnknownServiceError(f"{self.title} ({self.name}) does not offer {verb}{place}. It offers: {offered}.")

    def place_of_request_id(self, http_method: str, path: str) -> str | None:
        """Where a method takes a request id: ``query``, ``body``, or ``None`` if it is not known to.

        :param path: without the version.
        """
        called = f"{http_method} {path}"
        for place, patterns in self._request_id.items():
            if any(pattern.fullmatch(called) for pattern in patterns):
                return place
        return None

    def host_for(self, name: str) -> str:
        """The host that serves a name (or a parent), by the location in it.

        :raises InvalidReferenceError: for a location that this API is not known to have.
        """
        location = location_of(name)
        if location is None or not self.regional:
            return self.host
        named: Mapping[str, str] = self.regional.get("hosts", {})
        if location in named:
            return named[location]
        template = self.regional.get("host")
        if template is None:
            return self.host
        locations: list[str] = self.regional.get("locations", [])
        if location not in locations:
            near = difflib.get_close_matches(location, [*locations, *named], n=3, cutoff=0.75)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise InvalidReferenceError(
                f"{self.title} ({self.name}) is not known to have a location {location!r} (in {name!r}).{hint}"
                f" If it is new, name its host: //{template.format(location=location)}/{name}"
            )
        return str(template.format(location=location))

    def has_host(self, host: str) -> bool:
        """Whether this is one of Google's hosts for this API: global, mTLS or regional."""
        return (
            host == self.host
            or host in self.regional.get("hosts", {}).values()
            or bool(self._host_pattern.fullmatch(host))
        )

    def location_of_host(self, host: str) -> str | None:
        """The location that a regional host serves; ``None`` for a global one."""
        for location, named in self.regional.get("hosts", {}).items():
            if host == named and host != self.host:
                return str(location)
        match = self._host_pattern.fullmatch(host)
        return match["before"] or match["after"] if match else None

    @cached_property
    def _host_pattern(self) -> re.Pattern[str]:
        stem, _, universe = self.host.partition(".")
        return re.compile(
            rf"(?:(?P<before>[a-z0-9]+(?:-[a-z0-9]+)*)-)?{re.escape(stem)}(?:\.mtls)?"
            rf"(?:\.(?P<after>[a-z0-9]+(?:-[a-z0-9]+)*)\.rep)?\.{re.escape(universe)}"
        )

    @cached_property
    def _patterns(self) -> dict[str, list[re.Pattern[str]]]:
        return {version: [_compile(name) for name in names] for version, names in self.names.items()}

    @cached_property
    def _parents(self) -> dict[str, list[re.Pattern[str]]]:
        return {version: [_compile(parent) for parent in self.parents(version)] for version in self.names}

    def parents(self, version: str) -> list[str]:
        """The patterns of what operations can be listed below."""
        whole = [name for pattern in self.names[version] for name in _expand(pattern)]
        found = (re.sub(r"/operations/\*{1,2}$", "", name) for name in whole if "/operations/" in name)
        return list(dict.fromkeys(found))

    @cached_property
    def _without(self) -> dict[str, list[re.Pattern[str]]]:
        return {verb: [_compile(name) for name in names] for verb, names in self.without.items()}

    @cached_property
    def _request_id(self) -> dict[str, list[re.Pattern[str]]]:
        return {place: [_compile(method) for method in methods] for place, methods in self.request_id.items()}


def location_of(name: str) -> str | None:
    """The location that a name or a parent speaks of: ``projects/*/locations/HERE/…``."""
    match = re.match(r"[^/]+/[^/]+/locations/([^/]+)(?:/|$)", name)
    return match[1] if match else None


def project_of(name: str) -> str | None:
    """The project that a name or a parent belongs to."""
    match = re.match(r"projects/([^/]+)(?:/|$)", name)
    return match[1] if match else None


def _expand(pattern: str) -> tuple[str, ...]:
    """A pattern with its bracket, and without."""
    match = re.fullmatch(r"\[(.*)\](.*)", pattern)
    return (match[1] + match[2], match[2]) if match else (pattern,)


def _compile(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\[", "(?:").replace(r"\]", ")?")
    return re.compile(text.replace(r"\*\*", r"[^/]+(?:/[^/]+)*").replace(r"\*", r"[^/]+"))


@lru_cache(maxsize=1)
def known_services() -> Mapping[str, Service]:
    """All APIs of the table, by discovery name."""
    table = json.loads(Path(__file__).with_name("services.json").read_text(encoding="utf-8"))
    return {
        name: Service(
            name=name,
            title=row["title"],
            host=row["host"],
            versions=tuple(row["versions"]),
            verbs=tuple(row["verbs"]),
            names={version: tuple(names) for version, names in row["names"].items()},
            without={verb: tuple(names) for verb, names in row.get("without", {}).items()},
            regional=row.get("regional", {}),
            wait=row.get("wait"),
            request_id={place: tuple(methods) for place, methods in row.get("request_id", {}).items()},
            scopes=tuple(row.get("scopes", ())),
            aliases=tuple(row.get("aliases", ())),
            console=row.get("console"),
        )
        for name, row in table.items()
    }


def find_service(wanted: str) -> Service:
    """Find an API by its discovery name or by one of its hosts.

    :raises UnknownServiceError: with a did-you-mean for near misses ("vertex" -> "aiplatform").
    """
    services = known_services()
    if not isinstance(wanted, str) or not wanted.strip():
        raise UnknownServiceError(
            f"`service` must be the name of an API, got {wanted!r}. Known: {', '.join(services)}."
        )
    if wanted in services:
        return services[wanted]
    if (by_host := service_of_host(wanted)) is not None:
        return by_host
    word = wanted.strip().lower()
    near = {name for name, service in services.items() if word in (name, service.title.lower(), *service.aliases)}
    words = {alias: name for name, service in services.items() for alias in (name, *service.aliases)}
    near.update(words[match] for match in difflib.get_close_matches(word, words, n=2, cutoff=0.7))
    hint = f" Did you mean {' or '.join(repr(name) for name in sorted(near))}?" if near else ""
    raise UnknownServiceError(
        f"Unknown service {wanted!r}.{hint} It must be the API's discovery name or its host."
        f" Known: {', '.join(services)}."
    )


def service_of_host(host: str) -> Service | None:
    """The API that one of Google's hosts belongs to, or ``None``."""
    return next((service for service in known_services().values() if service.has_host(host)), None)
