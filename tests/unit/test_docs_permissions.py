"""docs/permissions.md: its rows fit the catalog, and what it quotes is what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.auth.exceptions import RefreshError

from airflow_lro_provider.lro import flows, protocol
from airflow_lro_provider.lro.auth.token import explain
from airflow_lro_provider.lro.auth.token_transport import Refusal
from airflow_lro_provider.lro.cancel import cancel_level, cancel_line
from airflow_lro_provider.lro.errors import CredentialsError, OperationsError, PermissionDeniedError
from airflow_lro_provider.lro.http.messages import Request, Response
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import NOT_FOUND_SECONDS, NOT_FOUND_TIMES, PollSchedule
from airflow_lro_provider.lro.resources.catalog import SYSTEMS, VERBS, find_service, known_services
from airflow_lro_provider.lro.resources.names import read_parent, read_reference
from airflow_lro_provider.lro.shared_poller.list_strategy import ListRun, ListStrategy, ListVariant
from airflow_lro_provider.lro.status import error_from_response

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "permissions.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
PLACE = "projects/p/locations/us-central1"
REFERENCE = read_reference(f"{PLACE}/operations/operation-1", "datafusion")
API = "https://datafusion.googleapis.com"
QUOTED = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)


def denied(request: Request[Any], message: str) -> OperationsError:
    """The error of a 403 as IAM sends it."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED"}
    error = {"code": 403, "status": "PERMISSION_DENIED", "message": message, "details": [info]}
    return error_from_response(request, Response(403, {}, json.dumps({"error": error}).encode()))


def permissions(text: str) -> set[str]:
    """The permissions in a cell: `a.b.{c,d}` are two."""
    found = set()
    for stem, many, one in re.findall(r"`([a-z]+\.\w+)\.(?:\{([\w,]+)\}|(\w+))`", text):
        found |= {f"{stem}.{last}" for last in (many.split(",") if many else [one])}
    return found


def test_the_five_systems_and_thirty_others() -> None:
    """Four of the systems have a row, the fifth a table of its own, and all rows are of APIs of the catalog."""
    names = [name for name, *_ in ROWS]
    assert set(SYSTEMS) - set(names) == {"aiplatform"}
    assert "### Vertex AI" in PAGE
    assert len(names) == len(set(names)) >= 25
    assert set(names) <= set(known_services())


@pytest.mark.parametrize(("name", "cell", "source", "wait", "cancel"), ROWS)
def test_a_row(name: str, cell: str, source: str, wait: str, cancel: str) -> None:
    """It speaks of each verb that the API has and of no other, names its source, and a role or why there is none."""
    verbs = find_service(name).verbs
    spoken = {permission.rpartition(".")[2] for permission in permissions(cell)} & set(VERBS)
    for some in re.findall(r"([a-z, ]+): ", cell):
        spoken |= set(some.replace(" ", "").split(","))
    assert set(verbs) <= spoken
    assert spoken - set(verbs) <= ({"cancel"} if name == "workflows" else set())  # what its delete asks for
    assert re.search(r"\]\(https://(?:docs\.)?(?:cloud|developers)(?:\.cloud)?\.google\.com/\S+\)", source)
    claimed = re.match(r"\[([a-z, ]+)\]", source)
    if claimed and claimed[1] != "all":
        assert set(claimed[1].split(", ")) <= set(verbs)
    for role in (wait, cancel):
        assert re.match(r"`roles/[a-z]+\.\w+(\.\w+)?` \(\d+\)|not documented|cannot cancel", role)
    assert (cancel == "cannot cancel") == ("cancel" not in verbs)


@pytest.mark.parametrize("line", re.findall(r"--permissions=(\S+)", PAGE))
def test_a_custom_role_has_the_permissions_of_its_row(line: str) -> None:
    """What it needs to get and to cancel is in it, as the row says."""
    given = set(line.split(","))
    service = next(iter(given)).partition(".")[0]
    if service == "aiplatform":
        row = re.search(r"^\| import into a dataset \| `(.*?)` \| `(.*?)` \| `(.*?)` \|", PAGE, re.MULTILINE)
        assert row
        assert set(row.groups()) <= given
        return
    cell = next(cell for name, cell, *_ in ROWS if name == service)
    needed = permissions(cell) - {f"{service}.operations.delete"}
    assert needed <= given


def test_there_is_a_custom_role_for_each_system() -> None:
    """Five commands, one for each."""
    found = {line.partition(".")[0] for line in re.findall(r"--permissions=(\S+)", PAGE)}
    assert found == set(SYSTEMS)
    assert PAGE.count("gcloud iam roles create lro") == len(SYSTEMS)


def test_the_scopes_are_those_of_the_catalog() -> None:
    """The APIs that the default scope is not enough for, and the two that take another one."""
    default = "https://www.googleapis.com/auth/cloud-platform"
    own = [one.name for one in known_services().values() if one.scopes and default not in one.scopes]
    part = PAGE.partition("An API with a scope of its own")[2].partition("`airflow-lro")[0]
    assert [name for name in re.findall(r"`(\w+)`", part) if name in known_services()] == own
    for name in ("earthengine", "aiplatform"):
        assert set(find_service(name).scopes) == {default, f"https://www.googleapis.com/auth/{name}"}
        assert f"`https://www.googleapis.com/auth/{name}`" in PAGE


def test_a_403_is_quoted_as_it_is() -> None:
    """The error of a cancel without a permission, with Google's message and what to do."""
    operation = f"//datafusion.googleapis.com/{REFERENCE.name}"
    message = f"Permission 'datafusion.operations.cancel' denied on resource '{operation}' (or it may not exist)."
    error = denied(protocol.cancel(REFERENCE, API), message)
    assert isinstance(error, PermissionDeniedError)
    assert QUOTED[0] == str(error)


def test_a_list_that_is_refused_costs_only_itself() -> None:
    """Each operation is polled by name, the log says why, and it is tried again after ten minutes."""
    strategy = ListStrategy(lists=True, max_in_flight=8)
    variant = ListVariant()
    strategy.run = ListRun(variant, 1, 0.0, 10)
    request = protocol.list_(read_parent(PLACE, "datafusion"), API)
    line = strategy.failed(denied(request, "Permission 'datafusion.operations.list' denied."), 0.0)
    assert QUOTED[1] == line
    assert not variant.usable(1000, 599.0)
    assert variant.usable(1000, 600.0)


def test_a_cancel_that_is_refused_is_a_warning() -> None:
    """The line of the log, and its level."""
    error = denied(protocol.cancel(REFERENCE, API), "Permission 'datafusion.operations.cancel' denied.")
    assert QUOTED[2] == cancel_line(REFERENCE, error, "the task was killed")
    assert cancel_level(error) >= 30


def test_a_403_ends_a_wait_once_it_is_confirmed() -> None:
    """Three times in ten seconds, and not before."""
    error = denied(protocol.get(REFERENCE, API), "Permission 'datafusion.operations.get' denied.")
    schedule = PollSchedule(started=0.0)
    assert (NOT_FOUND_TIMES, NOT_FOUND_SECONDS) == (3, 10.0)
    schedule.failed(error, 0.0)
    schedule.failed(error, 5.0)
    schedule.failed(error, 9.9)
    with pytest.raises(PermissionDeniedError):
        schedule.failed(error, 10.0)


def test_a_wait_that_is_refused_is_followed_by_a_get() -> None:
    """A 403 to `:wait` does not end the wait: after two there is a GET."""
    reference = read_reference("projects/p/operations/1", "earthengine")
    flow = flows.wait_until_done(reference, "https://earthengine.googleapis.com", PollSchedule(started=0.0))
    running = Operation.from_json({"name": reference.name, "metadata": {"state": "RUNNING"}})
    done = Operation.from_json({"name": reference.name, "done": True, "response": {}})
    assert next(flow).verb == "get"
    step: Any = flow.send(running)
    while not isinstance(step, Request):
        step = flow.send(None)
    assert step.verb == "wait"
    step = flow.throw(denied(step, "no"))
    assert step.verb == "wait"
    step = flow.throw(denied(step, "no"))
    assert step.verb == "get"
    with pytest.raises(StopIteration) as ended:
        flow.send(done)
    assert ended.value.value is done


def test_no_right_to_impersonate_is_trouble_of_our_own() -> None:
    """It ends no wait, and names the role; nor is a cancel said to be refused that was never sent."""
    url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam.gserviceaccount.com"
    refusal = Refusal(f"{url}:generateAccessToken", None, 403, "Permission 'iam.serviceAccounts.getAccessToken' denied")
    error = explain(RefreshError("no"), "a@p.iam.gserviceaccount.com", refusal)
    assert isinstance(error, CredentialsError)
    assert error.is_ours
    assert "roles/iam.serviceAccountTokenCreator" in str(error)
    assert cancel_line(REFERENCE, error).startswith("Cancellation could not be sent")
    assert "`Cancellation could not be sent`" in PAGE


def test_the_links_lead_there() -> None:
    """To headings of this page, and to pages and headings beside it."""

    def headings(path: Path) -> set[str]:
        found = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in found}

    for file, anchor in re.findall(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)", PAGE):
        path = DOCS / (file or "permissions.md")
        assert path.exists(), file
        assert not anchor or anchor in headings(path), anchor
