"""Which methods of each API respond with an operation, as Google's discovery documents have it.

The table (``starts.json``, by ``tools/generate_services.py`` of this project's repository) is older than the API that
is called, and some APIs show methods only to those who are invited: what it lacks is doubted, and not refused.
"""

from __future__ import annotations

from airflow_lro_provider.lro.resources.catalog import find_service, patterns_in
from airflow_lro_provider.lro.resources.methods import Method
from airflow_lro_provider.lro.resources.patterns import fits_one, misspelt


def doubts_about(method: Method) -> str:
    """Why a method may not respond with an operation, in a sentence or two; empty if nothing speaks against it.

    What such a method starts (a custom job of Vertex AI) would run on, owned by no task.
    """
    service = find_service(method.service)
    if (known := known_starts(service.name, method.version)) is None or _is_one(method, known):
        return ""
    others = [
        version for version in service.versions
        if version != method.version and _is_one(method, known_starts(service.name, version) or ())
    ]  # fmt: skip
    instead = f' {others[0]} is: give api_version="{others[0]}".' if others else ""
    calls = (call.partition(" ") for call in known)
    if near := misspelt(method.path, [path for http_method, _, path in calls if http_method == method.http_method]):
        instead = f" Did you mean {near}?"
    return (
        f"{service.title} ({service.name} {method.version}) is not known to respond to {method.http_method}"
        f" {method.path!r:.200} with an operation.{instead} If it responds with something else, what it has"
        " started runs on, and the task fails."
    )


def known_starts(service: str, version: str) -> tuple[str, ...] | None:
    """The methods that respond with an operation (``POST projects/*/jobs/*:run``); ``None`` of an unknown version."""
    return patterns_in("starts.json").get(service, {}).get(version)


def is_called(pattern: str, http_method: str, path: str, verb: str) -> bool:
    """Whether one of them is meant.

    :param path: what it is called on.
    :param verb: the custom method (https://google.aip.dev/136); may be empty.
    """
    called, _, rest = pattern.partition(" ")
    stem, _, custom = rest.partition(":")
    return called == http_method and custom == verb and fits_one(path, [stem])


def _is_one(method: Method, known: tuple[str, ...]) -> bool:
    head, colon, tail = method.path.rpartition(":")
    calls = {(method.path, "")} | ({(head, tail)} if colon and "/" not in tail else set())
    return any(is_called(pattern, method.http_method, path, verb) for pattern in known for path, verb in calls)
