"""The location in a name: where something of Google's is, in a region, a zone, or nowhere in particular."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache

from airflow_lro_provider.lro.resources.patterns import LIKENESS


def location_of(name: str) -> str | None:
    """The location in a name, a parent or a method's path: ``projects/*/locations/HERE/…``, ``…/HERE:importData``.

    Dataproc calls it a region: ``projects/*/regions/HERE/…``. Pub/Sub Lite's methods are below ``admin/projects/…``.
    """
    match = re.match(r"(?:admin/)?[^/]+/[^/]+/(?:locations|regions)/([^/]+?)(?:/|(?::[A-Za-z][A-Za-z0-9]*)?$)", name)
    return match[1] if match else None


def region_of(location: str) -> str:
    """The region of a zone (``us-central1-a``); any other location is returned as it is."""
    return re.sub(r"(?<=\d)-[a-z]$", "", location)


@lru_cache(maxsize=1024)
def looks_like(location: str, regions: frozenset[str]) -> Sequence[str]:
    """The regions that a location looks like, if it is one of them, misspelt; empty if it is not.

    Another number is a new region, and what follows it a zone.
    """
    if _without_number(location) in map(_without_number, regions):
        return ()
    return difflib.get_close_matches(location, sorted(regions), n=2, cutoff=LIKENESS)


def _without_number(location: str) -> str:
    return re.sub(r"\d+(-[a-z0-9]+)?$", "", location)
