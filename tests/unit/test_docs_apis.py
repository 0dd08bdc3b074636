"""docs/apis.md: its tables are those of the catalog, and what it quotes is what the code says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.cancel import CancelResult, cancel_line
from airflow_lro_provider.lro.errors import InvalidRequestError, NotAnOperationError, UnknownServiceError
from airflow_lro_provider.lro.operation import Outcome
from airflow_lro_provider.lro.resources import catalog
from airflow_lro_provider.lro.resources.catalog import find_service, known_services
from airflow_lro_provider.lro.resources.methods import read_method
from airflow_lro_provider.lro.resources.names import OperationReference, read_reference
from tools import apis_page

PAGE = apis_page.PAGE.read_text("utf-8")
README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
PLACE = "projects/p/locations/us-central1"
REGION = "projects/p/regions/us-central1"


def block(heading: str) -> list[str]:
    """The lines that the part below this heading quotes."""
    part = re.split(r"^#{2,3} ", PAGE.partition(f"### {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return [line for quoted in re.findall(r"```text\n(.*?)```", part, re.DOTALL) for line in quoted.splitlines()]


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """What is said before anything is sent."""
    with pytest.raises(InvalidRequestError) as caught:
        call(*arguments)
    return str(caught.value)


def started(service: str, path: str, response: dict[str, Any]) -> Any:
    """What the response to a POST of this path is read as."""
    method = read_method(path, "POST", service)
    return protocol.started(protocol.start(method, f"https://{find_service(service).host}", {}), response)


def operators() -> Iterator[str]:
    """The operators of Google's that the page names."""
    yield from re.findall(r"`(\w+Operator)`", PAGE.partition("## No such operations")[2].partition("### ")[0])


def test_the_tables_are_those_of_the_catalog() -> None:
    """`python -m tools.apis_page` has been run since the catalog was changed, and rewrites nothing else."""
    assert apis_page.render(PAGE) == PAGE
    assert apis_page.main(["--check"]) == 0


def test_a_page_that_is_not_up_to_date_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was changed by hand fails the check, and is put right without it; the text around stays."""
    page = tmp_path / "apis.md"
    page.write_text(PAGE.replace("| AlloyDB |", "| Alloy |"), encoding="utf-8")
    monkeypatch.setattr(apis_page, "PAGE", page)
    assert apis_page.main(["--check"]) == 1
    assert apis_page.main([]) == 0
    assert page.read_text("utf-8") == PAGE


def test_a_page_without_a_table_is_refused() -> None:
    """A marker that was lost is an error, and not a page without that table."""
    with pytest.raises(ValueError, match="systems"):
        apis_page.render(PAGE.replace("<!-- systems: ", "<!-- "))


def test_every_api_has_its_row() -> None:
    """All 145 are in the table, each with its verbs, and 32 of them without cancel, as the README says, too."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([a-z, ]+) \| ([^|]+) \|$", PAGE.partition("## All 145")[2], re.MULTILINE)
    assert [(name, tuple(verbs.split(", "))) for name, verbs, _ in rows] == [
        (service.name, service.verbs) for service in known_services().values()
    ]
    without = [name for name, _, cancel in rows if cancel == "**no**"]
    assert without == [service.name for service in known_services().values() if "cancel" not in service.verbs]
    assert (len(rows), len(without)) == (145, 32)
    for text in (PAGE, README):
        assert "145 Google APIs" in text
        assert re.search(r"\b32 (?:of the )?APIs", text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alloydb", "yes"),
        ("run", "**no**"),
        ("artifactregistry", "yes; not in v1beta2, v1beta1"),
        ("vision", "yes; 3 of 4 kinds of names not in v1"),
    ],
)
def test_the_column_of_cancel(name: str, text: str) -> None:
    """It says whether an API can cancel everything, nothing, or which part not."""
    assert apis_page.can_cancel(find_service(name)).startswith(text)


def test_what_is_said_of_those_without_cancel() -> None:
    """The warning, the refusal and the line of the log are quoted as they are."""
    run, vertex = find_service("run"), find_service("aiplatform")
    text = " ".join(PAGE.split())
    group = f"{PLACE}/featureOnlineStores/1/operations/2"
    reference = read_reference(f"{PLACE}/operations/1", "run")
    line = cancel_line(reference, CancelResult(False, Outcome.CANCEL_UNSUPPORTED, None))
    assert f"`{run.cannot_cancel()}`" in text
    assert f"`{vertex.cannot_cancel(group, 'v1')}`" in text
    assert f"`{refusal(run.require, 'cancel')}`" in text
    assert f"`{line.partition(':')[0]}`" in text


def test_the_links_of_others_lead_there() -> None:
    """The README and the page's own links find their headings."""
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", PAGE, re.M)
    }
    assert "no-such-operations" in headings
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
    for path in re.findall(r"\]\((\.\./[^)#]+|\w+\.md)", PAGE):
        assert (apis_page.PAGE.parent / path).exists(), path


def test_what_a_service_says() -> None:
    """An API with operations of another kind, an unknown one and a foreign host are refused in these words."""
    others = ["container", "sqladmin", "compute", "bigquery", "dataflow", "storage", "deploymentmanager"]
    said = [refusal(find_service, name) for name in [*others, "workflowexecutions"]]
    said.append(refusal(read_reference, f"https://workflowexecutions.googleapis.com/v1/{PLACE}/operations/1"))
    assert block("What a service says") == said


@pytest.mark.parametrize("name", ["workflowexecutions", "bigquerydatatransfer", "dlp"])
def test_an_api_that_is_said_to_be_unknown_is(name: str) -> None:
    """Those that the table sends to that answer get it."""
    with pytest.raises(UnknownServiceError, match="Unknown service"):
        find_service(name)


def test_every_api_of_another_kind_is_in_the_table() -> None:
    """All that the catalog refuses by name, with the operator that it recommends."""
    table = PAGE.partition("## No such operations")[2].partition("**Near them")[0]
    named = {"container": "Kubernetes Engine (GKE)"}
    for name, (title, _, operator, _) in catalog._OTHERS.items():
        assert named.get(name, title) in table, name
        assert operator is None or f"`{operator}`" in table, name


def test_what_a_name_says() -> None:
    """The name of a job in the place of an operation's is refused in these words."""
    names = [
        (f"{PLACE}/customJobs/1", "aiplatform"),
        (f"{REGION}/jobs/j", "dataproc"),
        (f"{PLACE}/jobs/j/executions/e", "run"),
        ("transferJobs/1", "storagetransfer"),
        (f"{PLACE}/publishers/google/models/veo-3/operations/1", "aiplatform"),
    ]
    assert block("What a name says") == [refusal(read_reference, *each) for each in names]


@pytest.mark.parametrize(
    ("name", "service"),
    [
        *((f"{PLACE}/{kind}/1", "aiplatform") for kind in ("trainingPipelines", "batchPredictionJobs", "pipelineJobs")),
        (f"{PLACE}/hyperparameterTuningJobs/1", "aiplatform"),
        (f"{PLACE}/jobs/1", "batch"),
        (f"{PLACE}/repositories/r/workflowInvocations/1", "dataform"),
        (f"{PLACE}/dataScans/d/jobs/1", "dataplex"),
    ],
)
def test_no_job_passes_for_an_operation(name: str, service: str) -> None:
    """Every job of the table whose API is in the catalog is refused as the name of an operation."""
    assert "is not a name of an operation of" in refusal(read_reference, name, service)


def test_what_a_start_says() -> None:
    """A method that responds with a job fails the task in these words."""
    said = []
    for service, path, response in (
        ("aiplatform", f"{PLACE}/customJobs", {"name": "projects/1/locations/us-central1/customJobs/2"}),
        ("dataproc", f"{REGION}/jobs:submit", {"reference": {"jobId": "j"}, "status": {"state": "PENDING"}}),
    ):
        with pytest.raises(NotAnOperationError) as caught:
            started(service, path, response)
        assert caught.value.is_resource  # `allow_resource=True` makes it the task's result
        said.append(str(caught.value))
    assert block("What a start says") == said


@pytest.mark.parametrize(
    ("service", "path", "name"),
    [
        ("aiplatform", f"{PLACE}/datasets", f"{PLACE}/datasets/1/operations/2"),
        ("aiplatform", f"{PLACE}/customJobs/1", f"{PLACE}/customJobs/1/operations/2"),
        ("dataproc", f"{REGION}/jobs:submitAsOperation", f"{REGION}/operations/1"),
        ("dataproc", f"{PLACE}/batches", f"{PLACE}/operations/1"),
        ("run", f"{PLACE}/jobs/j:run", f"{PLACE}/operations/1"),
        ("storagetransfer", "transferJobs/j:run", "transferOperations/transferJobs-j-1"),
        ("batch", f"{PLACE}/jobs/1:cancel", f"{PLACE}/operations/1"),
    ],
)
def test_the_true_ones_beside_them(service: str, path: str, name: str) -> None:
    """What the page calls an operation is read as one, by name and as the response to a start."""
    reference, operation = started(service, path, {"name": name, "metadata": {}})
    assert reference == read_reference(name, service)
    assert isinstance(reference, OperationReference)
    assert not operation.done


def responds_with_operation(service: str, version: str, pattern: str) -> bool:
    """Whether a method does, by Google's discovery documents, of which the emulator has such a list."""
    text = resources.files("airflow_lro_provider.lro.resources").joinpath("starts.json").read_text("utf-8")
    methods = json.loads(text).get(service, {})
    found = methods.get(version, [])
    return pattern in (methods[found] if isinstance(found, str) else found)


@pytest.mark.parametrize(
    ("service", "version", "pattern"),
    [
        ("aiplatform", "v1", "DELETE projects/*/locations/*/customJobs/*"),
        ("dataproc", "v1", "POST projects/*/regions/*/jobs:submitAsOperation"),
        ("dataproc", "v1", "POST projects/*/locations/*/batches"),
        ("dataproc", "v1", "POST projects/*/regions/*/workflowTemplates/*:instantiate"),
        ("run", "v2", "POST projects/*/locations/*/jobs/*:run"),
        ("run", "v2", "POST projects/*/locations/*/jobs/*/executions/*:cancel"),
        ("storagetransfer", "v1", "POST transferJobs/**:run"),
        ("cloudbuild", "v1", "POST projects/*/locations/*/builds"),
        ("datafusion", "v1", "POST projects/*/locations/*/instances/*:restart"),
        ("composer", "v1", "POST projects/*/locations/*/environments"),
        ("batch", "v1", "DELETE projects/*/locations/*/jobs/*"),
        ("batch", "v1", "POST projects/*/locations/*/jobs/*:cancel"),
    ],
)
def test_google_says_so_of_the_true_ones(service: str, version: str, pattern: str) -> None:
    """By its discovery documents each of these methods responds with an operation."""
    assert responds_with_operation(service, version, pattern)


@pytest.mark.parametrize(
    ("service", "version", "pattern"),
    [
        ("aiplatform", "v1", "POST projects/*/locations/*/customJobs"),
        ("aiplatform", "v1", "POST projects/*/locations/*/trainingPipelines"),
        ("aiplatform", "v1", "POST projects/*/locations/*/batchPredictionJobs"),
        ("aiplatform", "v1", "POST projects/*/locations/*/hyperparameterTuningJobs"),
        ("aiplatform", "v1", "POST projects/*/locations/*/pipelineJobs"),
        ("dataproc", "v1", "POST projects/*/regions/*/jobs:submit"),
        ("batch", "v1", "POST projects/*/locations/*/jobs"),
        ("dataform", "v1", "POST projects/*/locations/*/repositories/*/workflowInvocations"),
        ("dataplex", "v1", "POST projects/*/locations/*/dataScans/*:run"),
        ("cloudbuild", "v2", "POST projects/*/locations/*/builds"),
    ],
)
def test_google_says_so_of_the_jobs(service: str, version: str, pattern: str) -> None:
    """By its discovery documents none of these methods responds with an operation."""
    assert not responds_with_operation(service, version, pattern)


def test_the_operators_are_named_like_googles() -> None:
    """Each is named once or more, and none is one of this package's."""
    import airflow_lro_provider.operators.operations as ours

    found = set(operators())
    assert len(found) > 20
    assert found.isdisjoint(vars(ours))
