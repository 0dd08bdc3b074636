"""The table of APIs against the facts that Google's discovery documents and pages give."""

from __future__ import annotations

import warnings

import pytest

from airflow_lro_provider.lro.errors import UnknownServiceError
from airflow_lro_provider.lro.resources.catalog import (
    SYSTEMS,
    VERBS,
    find_service,
    known_services,
    location_of,
    project_of,
    service_of_host,
)
from airflow_lro_provider.lro.resources.hosts import check_unknown_host
from airflow_lro_provider.lro.resources.names import read_reference

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
ALL = {"get", "list", "cancel", "delete", "wait"}

FACTS = {
    "earthengine": ("earthengine.googleapis.com", {"v1", "v1beta", "v1alpha"}, ALL, "body"),
    "developerconnect": ("developerconnect.googleapis.com", {"v1"}, ALL - {"wait"}, None),
    "datafusion": ("datafusion.googleapis.com", {"v1", "v1beta1"}, ALL - {"wait"}, None),
    "automl": ("automl.googleapis.com", {"v1", "v1beta1"}, ALL, "body"),
    "aiplatform": ("aiplatform.googleapis.com", {"v1", "v1beta1"}, ALL, "query"),
}


def test_the_five_systems_are_there() -> None:
    """Each of the five systems has a row, and a page of the console."""
    assert set(FACTS) == set(SYSTEMS) <= set(known_services())
    assert all(find_service(name).console for name in FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_row(name: str) -> None:
    """Host, versions, verbs and the place of the wait timeout are those of the API."""
    host, versions, verbs, wait = FACTS[name]
    service = known_services()[name]
    assert (service.name, service.host, set(service.versions), set(service.verbs), service.wait) == (
        name,
        host,
        versions,
        verbs,
        wait,
    )


@pytest.mark.parametrize("name", sorted(known_services()))
def test_every_row_is_complete(name: str) -> None:
    """Whoever adds a row gives a pattern for each version, known verbs, a scope, and a timeout's place if it waits."""
    service = known_services()[name]
    assert set(service.names) == set(service.versions)
    assert all(service.names.values())
    assert set(service.verbs) <= set(VERBS)
    assert "get" in service.verbs
    assert (service.wait in ("query", "body")) is ("wait" in service.verbs)
    assert service.scopes
    assert set(service.only) <= set(service.verbs)
    assert service.host.endswith(".googleapis.com")
    pages = ("https://console.cloud.google.com/", "https://code.earthengine.")
    assert service.console is None or service.console.startswith(pages)


@pytest.mark.parametrize("name", FACTS)
def test_v1_is_preferred(name: str) -> None:
    """Without an `api_version`, the stable one is spoken."""
    assert known_services()[name].version(None) == "v1"


def test_an_unknown_version_names_those_there_are() -> None:
    """A version that the API does not have is refused with the list of those it has."""
    with pytest.raises(UnknownServiceError, match=r"Developer Connect .* no API version 'v1beta1'. It has: v1\."):
        known_services()["developerconnect"].version("v1beta1")


@pytest.mark.parametrize(("version", "get", "cancel", "wait"), [("v1", 118, 110, 118), ("v1beta1", 154, 134, 150)])
def test_number_of_vertex_patterns(version: str, get: int, cancel: int, wait: int) -> None:
    """Vertex AI has as many patterns (each with and without its root) per verb as its discovery document."""
    vertex = known_services()["aiplatform"]
    names = [
        pattern.replace("[projects/*/locations/*/]", root).replace("*", "x")
        for pattern in vertex.names[version]
        for root in ("projects/p/locations/us-central1/", "")
    ]
    assert len(set(names)) == get
    assert all(vertex.has_name(name, version) for name in names)
    assert sum(vertex.offers("cancel", name) for name in names) == cancel
    assert sum(vertex.offers("wait", name) for name in names) == wait


@pytest.mark.parametrize(
    ("service", "verb", "name", "offered"),
    [
        ("aiplatform", "cancel", None, True),
        ("aiplatform", "cancel", "projects/p/locations/us-central1/endpoints/1/operations/2", True),
        ("aiplatform", "cancel", "projects/p/locations/us-central1/featureGroups/1/operations/2", False),
        ("aiplatform", "cancel", "projects/p/locations/us-central1/featureGroups/1/features/f/operations/2", False),
        ("aiplatform", "cancel", "projects/p/locations/us-central1/featureOnlineStores/1/operations/2", False),
        ("aiplatform", "cancel", "featureOnlineStores/1/featureViews/v/operations/2", False),
        ("aiplatform", "get", "projects/p/locations/us-central1/featureGroups/1/operations/2", True),
        ("aiplatform", "wait", "projects/p/locations/us-central1/featureGroups/1/operations/2", True),
        ("aiplatform", "wait", "projects/p/locations/us-central1/solvers/1/operations/2", False),
        ("datafusion", "cancel", "projects/p/locations/l/operations/o", True),
        ("datafusion", "wait", "projects/p/locations/l/operations/o", False),
        ("datafusion", "wait", None, False),
        ("earthengine", "wait", "projects/p/operations/o", True),
    ],
)
def test_offers(service: str, verb: str, name: str | None, offered: bool) -> None:
    """A verb is offered per API, and within Vertex AI per kind of resource."""
    assert known_services()[service].offers(verb, name) is offered


def test_require_names_what_is_offered() -> None:
    """A refused verb names the API, the operation and the verbs that are left."""
    name = "projects/p/locations/us-central1/featureGroups/1/operations/2"
    with pytest.raises(UnknownServiceError) as caught:
        known_services()["aiplatform"].require("cancel", name)
    assert (
        str(caught.value)
        == f"Vertex AI (aiplatform) does not offer cancel for {name}. It offers: get, list, delete, wait."
    )


# --- finding one -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("spelling", ["{name}", "{name}.googleapis.com", "{name}.mtls.googleapis.com"])
def test_find_by_name_or_host(name: str, spelling: str) -> None:
    """An API is found by its discovery name, by its host, and by its mTLS host."""
    assert find_service(spelling.format(name=name)).name == name


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("vertex", "aiplatform"),
        ("vertexai", "aiplatform"),
        ("vertex-ai", "aiplatform"),
        ("vertex_ai", "aiplatform"),
        ("Vertex AI", "aiplatform"),
        ("aiplatfrom", "aiplatform"),
        ("AIPLATFORM", "aiplatform"),
        ("data-fusion", "datafusion"),
        ("data_fusion", "datafusion"),
        ("Data Fusion", "datafusion"),
        ("datafusionn", "datafusion"),
        ("ee", "earthengine"),
        ("gee", "earthengine"),
        ("earth-engine", "earthengine"),
        ("Earth Engine", "earthengine"),
        ("earthengin", "earthengine"),
        ("developer-connect", "developerconnect"),
        ("developer_connect", "developerconnect"),
        ("auto-ml", "automl"),
        ("AutoML", "automl"),
    ],
)
def test_near_misses_get_a_did_you_mean(wanted: str, meant: str) -> None:
    """A name that people use instead of the discovery name is refused with the right one."""
    with pytest.raises(UnknownServiceError, match=rf"Did you mean (?:.* or )?'{meant}'") as caught:
        find_service(wanted)
    assert repr(wanted) in str(caught.value)


@pytest.mark.parametrize("wanted", ["zzz", "projects/p", "xn--q", "http://"])
def test_a_far_miss_gets_the_list(wanted: str) -> None:
    """A name that is like none of them is refused without a guess; the error says where the list is."""
    with pytest.raises(UnknownServiceError, match="`airflow-lro services` lists all") as caught:
        find_service(wanted)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("wanted", ["", "  ", None, 7, ["aiplatform"], {"name": "aiplatform"}], ids=repr)
def test_no_name_at_all(wanted: object) -> None:
    """What is no name of an API is refused as such."""
    with pytest.raises(UnknownServiceError, match="`service` must be the name of an API"):
        find_service(wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("compute", r"Compute Engine \(compute\) has operations of its own kind.*Use ComputeEngineInsertInstanceOp"),
        ("container", r"Kubernetes Engine \(container\) has operations of its own kind.*Use GKECreateClusterOperator"),
        ("container.googleapis.com", "Use GKECreateClusterOperator"),
        ("GKE", "Use GKECreateClusterOperator"),
        ("sqladmin", r"Cloud SQL \(sqladmin\) has operations of its own kind.*Use CloudSQLCreateInstanceOperator"),
        ("Cloud SQL", "Use CloudSQLCreateInstanceOperator"),
        ("storage", "operations of its own kind"),
        ("deploymentmanager", r"operations of its own kind.* not supported\.$"),
        ("drive", "operations of its own kind"),
        ("saasservicemgmt", "operations of its own kind"),
        ("bigquery", "jobs of its own kind.*Use BigQueryInsertJobOperator"),
        ("dataflow", "jobs of its own kind.*Use DataflowTemplatedJobStartOperator"),
    ],
)
def test_an_api_with_operations_of_its_own_kind_is_said_to_be_one(wanted: str, words: str) -> None:
    """C10: what these APIs are, and whose operators wait for them."""
    with pytest.raises(UnknownServiceError, match=words):
        find_service(wanted)


# --- hosts and locations ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "name", "host"),
    [
        ("aiplatform", "projects/p/locations/us-central1/endpoints/1/operations/2", "us-central1-aiplatform"),
        ("aiplatform", "projects/p/locations/europe-west12/operations/2", "europe-west12-aiplatform"),
        ("aiplatform", "projects/p/locations/global/operations/2", "aiplatform"),
        ("aiplatform", "projects/p/locations/us/operations/2", "aiplatform.us.rep"),
        ("aiplatform", "projects/p/locations/eu/operations/2", "aiplatform.eu.rep"),
        ("aiplatform", "endpoints/1/operations/2", "aiplatform"),
        ("automl", "projects/p/locations/us-central1/operations/o", "automl"),
        ("automl", "projects/p/locations/eu/operations/o", "eu-automl"),
        ("datafusion", "projects/p/locations/us-central1/operations/o", "datafusion.us-central1.rep"),
        ("datafusion", "projects/p/locations/mars-north1/operations/o", "datafusion"),
        ("datafusion", "projects/p/locations/-", "datafusion"),
        ("developerconnect", "projects/p/locations/us-central1/operations/o", "developerconnect.us-central1.rep"),
        ("earthengine", "projects/p/operations/o", "earthengine"),
        ("dataproc", "projects/p/regions/us-central1/operations/o", "dataproc.us-central1.rep"),
        ("dataproc", "projects/p/regions/global/operations/o", "dataproc"),
        ("composer", "projects/p/locations/us-central1/operations/o", "us-central1-composer"),
        ("contactcenterinsights", "projects/p/locations/us-central1/operations/o", "contactcenterinsights"),
        ("contentwarehouse", "projects/p/locations/us/operations/o", "contentwarehouse"),
        ("translate", "projects/p/locations/eu/operations/o", "translate-eu"),
        ("vision", "projects/p/locations/eu/operations/o", "eu-vision"),
        ("vision", "projects/p/locations/us/files:asyncBatchAnnotate", "us-vision"),
        ("vision", "projects/p/locations/us-west1/productSets:import", "vision"),
        ("pubsublite", "projects/p/locations/us-central1/operations/o", "us-central1-pubsublite"),
        ("pubsublite", "projects/p/locations/us-central1-a/operations/o", "us-central1-pubsublite"),
        ("pubsublite", "admin/projects/p/locations/us-central1-a/topics/t", "us-central1-pubsublite"),
        ("pubsublite", "operations/o", "pubsublite"),
        ("translate", "projects/p/locations/europe-west1/operations/o", "translation"),
        ("aiplatform", "projects/p/locations/us-east4:importFeatureValues", "us-east4-aiplatform"),
    ],
)
def test_host_for(service: str, name: str, host: str) -> None:
    """B1: requests go to the host of the location in the name, if it has one, else to the API's global host."""
    assert known_services()[service].host_for(name) == f"{host}.googleapis.com"


OPTIONS = {
    "aiplatform": ("us-central1", "europe-west4", "asia-south2"),
    "assuredworkloads": ("us-west1", "europe-west3"),
    "contentwarehouse": ("eu",),
    "contactcenterinsights": ("us", "europe-west1"),
    "dialogflow": ("us-central1", "europe-west1", "asia-northeast1", "australia-southeast1"),
    "discoveryengine": ("us", "eu"),
    "documentai": ("us", "eu", "asia-south1", "europe-west2"),
    "speech": ("us", "eu", "us-central1", "asia-southeast1"),
    "texttospeech": ("us", "eu", "us-central1"),
}
"""APIs whose clients have to be given an endpoint for a location; the pages are in `tools/services_by_hand.json`."""


@pytest.mark.parametrize(
    ("service", "location"), [(name, place) for name, places in OPTIONS.items() for place in places]
)
def test_the_documented_regional_option(service: str, location: str) -> None:
    """B1: the host is what Google's pages tell a user of its clients to set as `api_endpoint`."""
    api = known_services()[service]
    assert not api.is_global
    assert api.host_for(f"projects/p/locations/{location}/operations/o") == f"{location}-{service}.googleapis.com"
    assert api.host_for("projects/p/locations/global/operations/o") == f"{service}.googleapis.com"


def test_speech_v2_is_known() -> None:
    """B1: Speech-to-Text v2, which discovery lacks, has what `google.cloud.speech_v2` calls."""
    speech, name = known_services()["speech"], "projects/p/locations/eu/operations/o"
    assert [speech.offers(verb, name, "v2") for verb in ("get", "cancel", "delete")] == [True] * 3
    assert speech.offers("list", "projects/p/locations/eu", "v2")
    assert not speech.offers("cancel", "123", "v1")


def test_vertex_has_its_46_regions() -> None:
    """Every region of Vertex AI's discovery document has its own host, which is known to belong to it."""
    vertex = known_services()["aiplatform"]
    locations = vertex.locations
    assert len(set(locations) - {"us", "eu"}) == 46
    for location in set(locations) - {"us", "eu"}:
        host = vertex.host_for(f"projects/p/locations/{location}/operations/1")
        assert host == f"{location}-aiplatform.googleapis.com"
        assert service_of_host(host) is vertex
        assert vertex.location_of_host(host) == location


@pytest.mark.parametrize(
    ("location", "hint"),
    [("us-centrall1", "us-central1"), ("europ-west4", "europe-west4"), ("europe-north9", ""), ("atlantis-9", "")],
    ids=["near", "near another", "a new region", "far"],
)
def test_an_unknown_location_is_accepted(location: str, hint: str) -> None:
    """B3: Google adds regions: the host follows from the API's pattern, and what looks misspelt gets a warning."""
    vertex = known_services()["aiplatform"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        host = vertex.host_for(f"projects/p/locations/{location}/operations/1")
    assert host == f"{location}-aiplatform.googleapis.com"
    assert vertex.has_host(host)
    assert [hint in str(one.message) for one in caught] == [True] * bool(hint)


@pytest.mark.parametrize(
    ("host", "service", "location"),
    [
        ("datafusion.googleapis.com", "datafusion", None),
        ("datafusion.mtls.googleapis.com", "datafusion", None),
        ("datafusion.us-east1.rep.googleapis.com", "datafusion", "us-east1"),
        ("datafusion.us-east1.rep.mtls.googleapis.com", "datafusion", "us-east1"),
        ("developerconnect.europe-west1.rep.googleapis.com", "developerconnect", "europe-west1"),
        ("us-central1-aiplatform.googleapis.com", "aiplatform", "us-central1"),
        ("us-central1-aiplatform.mtls.googleapis.com", "aiplatform", "us-central1"),
        ("aiplatform.us.rep.googleapis.com", "aiplatform", "us"),
        ("aiplatform.eu.rep.googleapis.com", "aiplatform", "eu"),
        ("eu-automl.googleapis.com", "automl", "eu"),
        ("eu-vision.googleapis.com", "vision", "eu"),
        ("us-central1-pubsublite.mtls.googleapis.com", "pubsublite", "us-central1"),
        ("translate-eu.googleapis.com", "translate", "eu"),
        ("translation.googleapis.com", "translate", None),
        ("contactcenterinsights.googleapis.com", "contactcenterinsights", None),
    ],
)
def test_googles_hosts(host: str, service: str, location: str | None) -> None:
    """Global, mTLS, regional and multi-regional hosts are known, with the location that they serve."""
    api = service_of_host(host)
    assert api is not None
    assert (api.name, api.location_of_host(host)) == (service, location)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "datafusion.googleapis.com.evil.example",
        "evil.example/datafusion.googleapis.com",
        "evildatafusion.googleapis.com",
        "datafusion.googleapis.com.",
        "datafusion.googleapis.com:443",
        "datafusion.googleapis.com\n",
        "datafusionXgoogleapis.com",
        "datafusion.googleapisXcom",
        "datafusion.rep.googleapis.com",
        "datafusion.us-east1.rep.googleapis.com.evil.example",
        "-datafusion.googleapis.com",
        "a.b-datafusion.googleapis.com",
        "x@datafusion.googleapis.com",
        "googleapis.com",
        "storage.googleapis.com",
        "",
    ],
)
def test_hosts_that_are_not_googles(host: str) -> None:
    """Nothing that only looks like a host of one of the APIs is taken for one."""
    assert service_of_host(host) is None


@pytest.mark.parametrize(
    ("service", "path", "place"),
    [
        ("dataproc", "projects/p/locations/l/batches/b:analyze", "body"),
        ("dataproc", "projects/p/locations/l/batches/:analyze", None),
        ("dataproc", "projects/p/locations/l/batches/b:other", None),
        ("dns", "projects/p/locations/l/outboundEndpoints", "query"),
        ("retail", "projects/p/locations/global/catalogs/c/branches/0/products:import", None),
    ],
)
def test_the_request_id_of_a_custom_method_is_known(service: str, path: str, place: str | None) -> None:
    """B12, H5: by the pattern of a method, or of Cloud DNS's paths; one that is said to have no effect is none."""
    assert known_services()[service].place_of_request_id("POST", path) == place


@pytest.mark.parametrize(
    ("name", "location", "project"),
    [
        ("projects/p/locations/us-central1/operations/o", "us-central1", "p"),
        ("projects/p/locations/us-central1", "us-central1", "p"),
        ("projects/p", None, "p"),
        ("projects/p/operations/locations/x", None, "p"),
        ("endpoints/1/operations/2", None, None),
        ("organizations/7/locations/global/operations/o", "global", None),
    ],
)
def test_location_and_project_of(name: str, location: str | None, project: str | None) -> None:
    """Location and project are read from where they stand in names and parents."""
    assert (location_of(name), project_of(name)) == (location, project)


@pytest.mark.parametrize(
    ("service", "parent", "fits"),
    [
        ("earthengine", "projects/p", True),
        ("earthengine", "projects/p/operations/o", False),
        ("datafusion", "projects/p/locations/l", True),
        ("datafusion", "projects/p", False),
        ("aiplatform", "projects/p/locations/us-central1", True),
        ("aiplatform", "projects/p/locations/us-central1/endpoints/1", True),
        ("aiplatform", "endpoints/1", True),
        ("aiplatform", "projects/p/locations/us-central1/operations/o", False),
    ],
)
def test_has_parent(service: str, parent: str, fits: bool) -> None:
    """What comes before `/operations/` in a name is a parent that can be listed, and nothing else is."""
    assert known_services()[service].has_parent(parent, "v1") is fits


@pytest.mark.parametrize("begin", ["https://container.googleapis.com/v1/", "//container.googleapis.com/"])
def test_its_host_in_a_name_is_refused_in_the_same_words(begin: str) -> None:
    """Not as a host that nobody knows: whoever pastes a URL of GKE hears what to use instead."""
    name = f"{begin}projects/p/locations/l/operations/operation-1"
    with pytest.raises(UnknownServiceError, match="Use GKECreateClusterOperator"):
        read_reference(name)
    with pytest.raises(UnknownServiceError, match="Use GKECreateClusterOperator"):
        check_unknown_host(name)
