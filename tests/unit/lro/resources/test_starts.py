"""Which methods respond with an operation, as far as Google's discovery documents know."""

from __future__ import annotations

import json
import re
from importlib import resources

import pytest

from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.starts import doubts_about, known_starts

LOCATION = "projects/p/locations/us-central1"
TABLE = json.loads(resources.files("airflow_lro_provider.lro.resources").joinpath("starts.json").read_text("utf-8"))


REFUSED = {
    ("aiplatform", "publishers/*/models/*:predictLongRunning"),
    ("cloudresourcemanager", "v2/folders"),
}
"""Those that no method may be: of published models, and with another version in the path."""


@pytest.mark.parametrize("service", TABLE)
def test_no_method_that_discovery_knows_is_doubted(service: str) -> None:
    """Of every API and version, with and without a custom method."""
    for version in TABLE[service]:
        for pattern in known_starts(service, version) or ():
            http_method, _, path = pattern.partition(" ")
            if any(service == name and part in path for name, part in REFUSED):
                continue
            named = path.replace("**", "a/b").replace("*", "x")
            assert doubts_about(read_method(named, http_method, service, version)) == "", pattern


@pytest.mark.parametrize(
    ("service", "version", "call", "words"),
    [
        (
            "aiplatform",
            None,
            f"POST {LOCATION}/customJobs",
            "not known to respond to POST .*customJobs' with an operation",
        ),
        ("aiplatform", None, f"POST {LOCATION}/pipelineJobs?pipelineJobId=x", "what it has started runs on"),
        ("cloudbuild", None, f"POST {LOCATION}/builds", 'v1 is: give api_version="v1"'),
        ("dataproc", None, "POST projects/p/regions/r/jobs:submit", "not known"),
        ("datafusion", None, f"POST {LOCATION}/instances/i:explode", "not known"),
        ("datafusion", None, f"PUT {LOCATION}/instances/i", "not known to respond to PUT"),
    ],
)
def test_what_it_lacks_is_doubted(service: str, version: str | None, call: str, words: str) -> None:
    """A job is started, and the task knows nothing of it: said before it is."""
    http_method, _, path = call.partition(" ")
    assert re.search(words, doubts_about(read_method(path, http_method, service, version)))


@pytest.mark.parametrize(
    ("service", "call"),
    [
        ("earthengine", "POST projects/p/image:export"),  # discovery has no document of it
        ("cloudbuild", f"POST v1/{LOCATION}/builds"),
        ("dataproc", "POST projects/p/regions/r/jobs:submitAsOperation"),
        ("datafusion", f"POST {LOCATION}/instances/i:restart"),
        ("datastore", "POST projects/p:export"),
        ("firestore", "POST projects/p/databases/(default):exportDocuments"),
    ],
)
def test_what_may_be_right_is_not_doubted(service: str, call: str) -> None:
    """Also of an API that nobody knows more about."""
    http_method, _, path = call.partition(" ")
    assert doubts_about(read_method(path, http_method, service)) == ""
