"""Which locations of an API have a host of their own, and which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit


def regional_hosts(raws: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The locations that have a host of their own, by the pattern of that host.

    Of two hosts of a location the one below ``googleapis.com`` itself comes first: networks that reach Google by
    private addresses know those, but not the ones below ``rep.googleapis.com``. Hosts of other patterns are for other
    purposes (``batch-datastore…``, ``…-preprod…``).
    """
    stem = urlsplit(raws[0]["rootUrl"]).netloc.partition(".")[0]
    patterns = (f"{{location}}-{stem}.googleapis.com", f"{stem}.{{location}}.rep.googleapis.com")
    hosts = {(one["location"], urlsplit(one["endpointUrl"]).netloc) for raw in raws for one in raw.get("endpoints", [])}
    found: dict[str, list[str]] = {}
    for location in sorted({location for location, _ in hosts}):
        for pattern in patterns:
            if (location, pattern.format(location=location)) in hosts:
                found.setdefault(pattern, []).append(location)
                break
    return found


def add_regional(found: Mapping[str, Sequence[str]], by_hand: Mapping[str, str]) -> dict[str, str]:
    """Hosts of locations by hand go before those that were found."""
    merged = {pattern: locations.split() for pattern, locations in by_hand.items()}
    named = {location for locations in merged.values() for location in locations}
    for pattern, locations in found.items():
        rest = [location for location in locations if location not in named]
        if rest:
            merged[pattern] = [*rest, *merged.get(pattern, [])]
    return {pattern: " ".join(sorted(locations)) for pattern, locations in merged.items()}
