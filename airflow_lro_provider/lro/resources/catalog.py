"""The catalog of APIs: their names, hosts, versions, name patterns and verbs.

It is data (``services.json``), generated from Google's discovery documents by ``tools/generate_services.py`` of this
project's repository. For its name patterns see :mod:`~airflow_lro_provider.lro.resources.patterns`.
"""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from airflow_lro_provider.lro.errors import InvalidReferenceError, UnknownServiceError
from airflow_lro_provider.lro.resources.locations import location_of, looks_like, region_of
from airflow_lro_provider.lro.resources.patterns import expand, fits_one

VERBS = ("get", "list", "cancel", "delete", "wait")
DEFAULT_UNIVERSE = "googleapis.com"
SYSTEMS = ("aiplatform", "automl", "datafusion", "developerconnect", "earthengine")
"""The APIs that this package began with: they are in the examples and the demo, and are tested most."""
COLLECTIONS = ("operations", "transferOperations")
"""Some APIs list operations at the collection itself, and not at its parent."""
_ANY = "*"
_WITHIN_A_PROJECT = ("locations/", "regions/")
Project = str | Callable[[], str | None] | None
"""The project of a connection, or what says it, for whom it takes requests."""
REGIONAL = f".rep.{DEFAULT_UNIVERSE}"
"""What the hosts of Google's regional endpoints end in."""
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True)
class Service:
    """One API.

    :param name: its discovery name, e.g. ``aiplatform``.
    :param title: its display name, e.g. ``Vertex AI``.
    :param host: its global host.
    :param versions: its versions, the preferred one first.
    :param verbs: which of :data:`VERBS` it offers.
    :param names: the patterns of its operations' names, by version.
    :param only: the patterns that a verb supports, by verb and version, if these are not all names.
    :param listed: the patterns of parents, by version, if they do not follow from the names.
    :param prefixes: the prefix of a name in a URL, by version, if it is not the version.
    :param http_methods: the HTTP method of a verb, if it is not the usual one.
    :param list_suffix: the suffix of a parent in a list's URL, if it is not ``/operations``.
    :param filter_required: whether a list must have a filter.
    :param regional: the locations that have a host of their own, by the pattern of that host (``{region}`` in it is the
        location, or the region of a zone). ``*`` among them: the global host serves no location, so any that is not
        named elsewhere has such a host, too.
    :param wait: where ``:wait`` has its timeout: in the ``query`` or in the ``body``.
    :param request_id: where a method that starts an operation has the id that makes it repeatable
        (https://google.aip.dev/155): in the ``query`` or in the ``body``, and for which methods
        (``POST projects/*/locations/*/connections``).
    :param scopes: OAuth scopes, any of which suffices.
    :param aliases: other names that people use for it.
    :param console: a page of the Google console, with ``{project}``.
    """

    name: str
    title: str
    host: str
    versions: tuple[str, ...]
    verbs: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    only: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    listed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    http_methods: Mapping[str, str] = field(default_factory=dict)
    list_suffix: str = "/operations"
    filter_required: bool = False
    regional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    wait: str | None = None
    request_id: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scopes: tuple[str, ...] = (_CLOUD_PLATFORM,)
    aliases: tuple[str, ...] = ()
    console: str | None = None

    def version(self, wanted: str | None) -> str:
        """Check a version, or choose the preferred one.

        :raises UnknownServiceError: if this API has no such version.
        """
        if wanted is None:
            return self.versions[0]
        wanted = wanted.strip() if isinstance(wanted, str) else wanted
        if wanted not in self.versions:
            raise UnknownServiceError(
                f"{self.title} ({self.name}) has no API version {wanted!r}. It has: {', '.join(self.versions)}."
            )
        return wanted

    def has_name(self, name: str, version: str) -> bool:
        """Whether this can be the name of an operation of this API and version."""
        return fits_one(name, self.names[version])

    def in_project(self, path: str, project: Project) -> str:
        """A name or path that begins with its location lies in this project, unless this API has such names.

        :raises InvalidReferenceError: if there is no project.
        """
        patterns = [pattern.lstrip("[") for names in self.names.values() for pattern in names]
        has_own = any(pattern.startswith("locations/") for pattern in patterns)
        has_projects = any(re.match(r"projects/\*/(locations|regions)/", pattern) for pattern in patterns)
        if not path.startswith(_WITHIN_A_PROJECT) or has_own or not has_projects:
            return path
        if not (project := project() if callable(project) else project):
            raise InvalidReferenceError(
                f"{path!r:.200} begins with its location, but neither the connection's `project` nor its credentials"
                " name one: set `project`, or begin with projects/PROJECT/."
            )
        return f"projects/{project}/{path}"

    def has_parent(self, parent: str, version: str) -> bool:
        """Whether operations can be listed below this."""
        return fits_one(parent, self.parents(version))

    def served(self, verb: str, version: str) -> tuple[str, ...]:
        """The patterns that a verb supports: of names, or of the parents of a list."""
        if verb not in self.verbs:
            return ()
        if verb == "list":
            return self.parents(version)
        return self.only.get(verb, {}).get(version, self.names[version])

    def offers(self, verb: str, name: str | None = None, version: str | None = None) -> bool:
        """Whether this API has a verb, for this name (or parent of a list) and in this version, if they are given."""
        patterns = [self.served(verb, one) for one in ([version] if version else self.versions)]
        return any(patterns) if name is None else any(fits_one(name, some) for some in patterns)

    def cannot_cancel(self, name: str | None = None, version: str | None = None) -> str:
        """What to warn of who counts on a cancellation; empty if it can cancel."""
        if self.offers("cancel", name, version):
            return ""
        what = "operations like this one" if name and self.offers("cancel") else "its operations"
        return f"{self.title} ({self.name}) cannot cancel {what}: when the task is killed, the operation runs on."

    def require(self, verb: str, name: str | None = None, version: str | None = None) -> None:
        """Refuse a verb that this API does not have.

        :raises UnknownServiceError: naming the verbs that it has.
        """
        if not self.offers(verb, name, version):
            offered = ", ".join(v for v in VERBS if self.offers(v, None if v == "list" else name, version))
            what = " ".join(filter(None, [verb, version and f"in {version}", name and f"for {name}"]))
            raise UnknownServiceError(f"{self.title} ({self.name}) does not offer {what}. It offers: {offered}.")

    def path(self, verb: str, name: str, version: str) -> str:
        """The path of a verb's URL, without a leading slash, for a name; for a list, of the parent."""
        if verb == "list" and name in COLLECTIONS:
            return f"{version}/{name}"
        path = f"{self.prefixes.get(version, version)}/{name}"
        if verb == "list":
            return path + self.list_suffix
        return f"{path}:{verb}" if verb in ("cancel", "wait") else path

    def split_path(self, path: str, *, of_method: bool = False) -> tuple[str, str]:
        """Version (perhaps unknown) and name in the path of an operation's or method's URL, without a leading slash."""
        prefixes = [(self.root(one) if of_method else self.prefixes.get(one, one), one) for one in self.versions]
        for prefix, version in sorted(prefixes, key=lambda one: (-len(one[0]), one[0] != one[1])):
            if path.startswith(f"{prefix}/"):
                return version, path[len(prefix) + 1 :]
        version, _, name = path.partition("/")
        return version, name

    def root(self, version: str) -> str:
        """The prefix of the path of all other methods: usually the version, but ``dns/v1``."""
        prefix = self.prefixes.get(version, version)
        return prefix if prefix.endswith(f"/{version}") else version

    def place_of_request_id(self, http_method: str, path: str) -> str | None:
        """Where a method has its request id: ``query``, ``body``, or ``None`` if it is not known to have one."""
        called = f"{http_method} {path}"
        return next((place for place, patterns in self.request_id.items() if fits_one(called, patterns)), None)

    @property
    def is_global(self) -> bool:
        """Whether its global host serves all locations, also those that have a host of their own."""
        return not any(_ANY in locations for locations in self.regional.values())

    @property
    def locations(self) -> tuple[str, ...]:
        """The locations that are known to have a host of their own."""
        return tuple(sorted({one for locations in self.regional.values() for one in locations} - {_ANY}))

    def host_for(self, name: str) -> str:
        """The host that serves a name (or a parent), by the location in it.

        =============================================  ==========================================
        location                                       host
        =============================================  ==========================================
        none, ``global``, ``-``                        the global one
        one that has a host of its own                 that
        another, of an API whose global host serves    the one that it has by the pattern
        no location
        another                                        the global one
        =============================================  ==========================================

        Warns of one that looks like a typing error.
        """
        location = location_of(name)
        if location in (None, "global", "-"):
            return self.host
        if near := looks_like(location, _regions()):
            hint = " or ".join(near)
            warnings.warn(f"no location {location!r} is known (in {name!r:.200}). Did you mean {hint}?", stacklevel=2)
        for wanted in (location, _ANY):
            for pattern, locations in self.regional.items():
                if wanted in locations:
                    return pattern.format(location=location, region=region_of(location))
        return self.host

    def has_host(self, host: str) -> bool:
        """Whether this is one of Google's hosts for this API: global, mTLS or regional."""
        # Most hosts are another API's: that is seen without a pattern.
        return any(stem in host for stem in self._stems) and any(one.fullmatch(host) for one in self._host_patterns)

    def location_of_host(self, host: str) -> str | None:
        """The location that a regional host serves; ``None`` for a global one."""
        matches = filter(None, (pattern.fullmatch(host) for pattern in self._host_patterns))
        return next((location for match in matches if (location := match.groupdict().get("location"))), None)

    @cached_property
    def _stems(self) -> tuple[str, ...]:
        """What its hosts have in common, one of these."""
        first = (host.partition(".")[0] for host in (self.host, *self.regional))
        return tuple({re.sub(r"\{\w+\}-|-\{\w+\}", "", one) for one in first})

    @cached_property
    def _host_patterns(self) -> tuple[re.Pattern[str], ...]:
        """Of Google's hosts for this API: those of the catalog, and of the two forms that nearly all APIs have."""
        stem = self.host.partition(".")[0]
        usual = (self.host, f"{{location}}-{self.host}", f"{stem}.{{location}}{REGIONAL}")
        return tuple(map(_host_pattern, dict.fromkeys((*usual, *self.regional))))

    def parents(self, version: str) -> tuple[str, ...]:
        """The patterns of parents: what operations can be listed below."""
        if "list" not in self.verbs:
            return ()
        if version in self.listed:
            return self.listed[version]
        found = (listed_below(name) for pattern in self.names[version] for name in expand(pattern))
        return tuple(dict.fromkeys(parent for parent in found if parent))


def listed_below(pattern: str) -> str:
    """The pattern of parents that follows from a pattern of names; empty if none does."""
    match = re.fullmatch(r"(.+)/operations/\*{1,2}", pattern)
    return match[1] if match else ""


def parent_of(name: str) -> str:
    """The parent that an operation of this name is listed below; empty if unknown."""
    above, found, _ = name.rpartition("/operations/")
    if found:
        return above
    collection, _, rest = name.partition("/")
    return collection if collection in COLLECTIONS and rest else ""


def project_of(name: str) -> str | None:
    """The project in a name or a parent."""
    match = re.match(r"projects/([^/]+)(?:/|$)", name)
    return match[1] if match else None


@cache
def _regions() -> frozenset[str]:
    """The regions that have a host of their own in some API."""
    return frozenset(one for service in known_services().values() for one in service.locations if "-" in one)


def _host_pattern(host: str) -> re.Pattern[str]:
    """The pattern of a host, with ``{location}`` in it or without, and of the same with mTLS."""
    stem = re.escape(host.removesuffix(f".{DEFAULT_UNIVERSE}").replace("{region}", "{location}"))
    stem = stem.replace(re.escape("{location}"), "(?P<location>[a-z0-9]+(?:-[a-z0-9]+)*)")
    return re.compile(rf"{stem}(?:\.mtls)?\.{re.escape(DEFAULT_UNIVERSE)}")


@lru_cache(maxsize=1)
def known_services() -> Mapping[str, Service]:
    """All APIs of the catalog, by discovery name."""
    table = json.loads(Path(__file__).with_name("services.json").read_text(encoding="utf-8"))
    return {name: _read(name, row) for name, row in table.items()}


def _read(name: str, row: Mapping[str, Any]) -> Service:
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    given["names"] = by_version(row["names"])
    given["only"] = {verb: by_version(found) for verb, found in row.get("only", {}).items()}
    given["listed"] = by_version(given.pop("parents", {}))
    given["regional"] = {host: tuple(found.split()) for host, found in row.get("regional", {}).items()}
    given["request_id"] = {place: tuple(methods) for place, methods in row.get("request_id", {}).items()}
    return Service(name=name, **given)


def by_version(found: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Patterns by version; a string instead of them names a version with the same ones."""
    return {version: tuple(found[some] if isinstance(some, str) else some) for version, some in found.items()}


@cache
def patterns_in(file: str) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """The patterns of a table beside this module, by API and version."""
    table = json.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))
    return {name: by_version(row) for name, row in table.items()}


_OTHERS = {
    "bigquery": ("BigQuery", "jobs", "BigQueryInsertJobOperator", ("bq",)),
    "compute": ("Compute Engine", "operations", "ComputeEngineInsertInstanceOperator", ("gce", "computeengine")),
    "container": ("Kubernetes Engine", "operations", "GKECreateClusterOperator", ("gke", "kubernetes")),
    "dataflow": ("Dataflow", "jobs", "DataflowTemplatedJobStartOperator", ()),
    "deploymentmanager": ("Deployment Manager", "operations", None, ()),
    "drive": ("Google Drive", "operations", None, ()),
    "saasservicemgmt": ("SaaS Runtime", "operations", None, ()),
    "sqladmin": ("Cloud SQL", "operations", "CloudSQLCreateInstanceOperator", ("cloudsql", "cloud-sql", "sql")),
    "storage": ("Cloud Storage", "operations", "GCSSynchronizeBucketsOperator", ("gcs",)),
}
"""APIs whose operations are no ``google.longrunning`` ones: their title, what they have, an operator of Google's own
provider, and other names that people use."""


def refuse_other(word: str) -> None:
    """Say of an API that it has operations of its own kind.

    :raises UnknownServiceError: if it is one of those.
    """
    for name, (title, what, operator, aliases) in _OTHERS.items():
        if word in (name, f"{name}.{DEFAULT_UNIVERSE}", title.lower(), *aliases):
            instead = f" Use {operator} and its like, of apache-airflow-providers-google." if operator else ""
            raise UnknownServiceError(
                f"{title} ({name}) has {what} of its own kind, which are not long-running operations as"
                f" google.longrunning defines them: not supported.{instead}"
            )


_WHICH = "`airflow-lro services` lists all known APIs."


def find_service(wanted: str) -> Service:
    """Find an API by its discovery name or by one of its hosts.

    :raises UnknownServiceError: with a did-you-mean for near misses ("vertex" -> "aiplatform").
    """
    services = known_services()
    if not isinstance(wanted, str) or not (wanted := wanted.strip()):
        raise UnknownServiceError(f"`service` must be the name of an API, got {wanted!r}. {_WHICH}")
    if wanted in services:
        return services[wanted]
    if (by_host := service_of_host(plain_host(wanted))) is not None:
        return by_host
    word = wanted.lower()
    refuse_other(word)
    near = {name for name, service in services.items() if word in (name, service.title.lower(), *service.aliases)}
    words = {alias: name for name, service in services.items() for alias in (name, *service.aliases)}
    near.update(words[match] for match in difflib.get_close_matches(word, words, n=2, cutoff=0.7))
    hint = f" Did you mean {' or '.join(repr(name) for name in sorted(near))}?" if near else ""
    raise UnknownServiceError(
        f"Unknown service {wanted!r}.{hint} It must be the API's discovery name or its host. {_WHICH}"
    )


def plain_host(text: str) -> str:
    """A host, of which people also give the URL of its root, or the port of https."""
    return lower(re.sub(r"(?i)^https://|(:443)?/?$", "", text.strip()))


def lower(host: str) -> str:
    """In lower case if it is ASCII: the lower case of some other letters is an ASCII letter (U+212A is a k)."""
    return host.lower() if host.isascii() else host


def service_of_host(host: str) -> Service | None:
    """The API that one of Google's hosts belongs to, or ``None``."""
    return next((service for service in known_services().values() if service.has_host(host)), None)
