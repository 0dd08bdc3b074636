from __future__ import annotations

import threading

import pytest

from airflow_lro_provider.emulator.responses import RefusedError
from airflow_lro_provider.emulator.script import Failure, Script, ScriptError
from airflow_lro_provider.emulator.store import Store
from airflow_lro_provider.lro.errors import UnknownServiceError
from airflow_lro_provider.lro.resources.catalog import known_services

L = "projects/p/locations/us-central1"


def names(page: dict) -> list[str]:
    return [operation["name"].rpartition("/")[2] for operation in page.get("operations", [])]


@pytest.fixture
def seven(store: Store, clock) -> Store:
    """Seven operations, a to g, of which every other is done."""
    for number, letter in enumerate("abcdefg"):
        store.create("datafusion", f"{L}/operations/{letter}", script={"duration": 100 if number % 2 else 1})
    clock.turn(5)
    return store


@pytest.mark.parametrize("service", sorted(known_services()))
def test_every_api_of_the_table_can_start_something(store, service):
    """A name that is made up is a name that the API can have, in every version."""
    for version in known_services()[service].versions:
        view = store.create(service, version=version)
        assert known_services()[service].has_name(view.name, version)


def test_names_are_only_unique_within_an_api(store):
    """Two APIs may each have an operation of the same name; they do not know of each other."""
    name = f"{L}/operations/same"
    store.create("datafusion", name)
    store.create("automl", name)
    store.cancel("automl", name)
    assert not store.get("datafusion", name).done
    assert store.get("automl", name).done


def test_made_up_names_differ_between_emulators(clock):
    """A name from before a restart never means another operation after it."""
    assert Store(clock).create("datafusion").name != Store(clock).create("datafusion").name


def test_a_name_is_given_once(store):
    """A second operation of one name is refused."""
    store.create("datafusion", f"{L}/operations/o")
    with pytest.raises(RefusedError) as refused:
        store.create("datafusion", f"{L}/operations/o")
    assert refused.value.status == "ALREADY_EXISTS"


def test_a_name_must_fit_the_api(store):
    """A name that the API cannot have is refused, as is an unknown API, with a hint."""
    with pytest.raises(ScriptError, match="Data Fusion"):
        store.create("datafusion", "projects/p/operations/o")
    with pytest.raises(UnknownServiceError, match="aiplatform"):
        store.create("vertex")


def test_a_name_finds_its_version(store):
    """A name that only a later version has is started with that version."""
    name = f"{L}/solvers/s/operations/o"
    assert ".v1beta1." in store.create("aiplatform", name).operation["metadata"]["@type"]


def test_what_is_deleted_is_gone(store):
    """After delete there is nothing to get, list, cancel or delete; its name is free again."""
    name = store.create("datafusion", f"{L}/operations/o").name
    store.delete("datafusion", name)
    for send in (store.get, store.cancel, store.delete, store.due):
        with pytest.raises(RefusedError) as refused:
            send("datafusion", name)
        assert refused.value.status == "NOT_FOUND"
    assert store.page("datafusion", L) == {}
    store.create("datafusion", name)


def test_the_same_request_id_gives_the_same_operation(store):
    """A start that is repeated with its request id does not start another operation."""
    first = store.create("datafusion", parent=L, request_id="r")
    assert store.create("datafusion", parent=L, request_id="r").name == first.name
    assert store.create("datafusion", parent=L, request_id="s").name != first.name
    assert store.create("datafusion", parent=L).name != first.name
    assert store.create("datafusion", parent="projects/q/locations/l", request_id="r").name != first.name
    assert store.create("automl", parent=L, request_id="r").name != first.name


def test_a_request_id_is_free_again_after_delete(store):
    """The request id of a deleted operation starts a new one."""
    first = store.create("datafusion", parent=L, request_id="r").name
    store.delete("datafusion", first)
    assert store.create("datafusion", parent=L, request_id="r").name != first


def test_pages_go_through_all_operations_once(seven):
    """Paging gives every operation once, in order, and the last page has no token."""
    first = seven.page("datafusion", L, page_size="3")
    second = seven.page("datafusion", L, page_size="3", page_token=first["nextPageToken"])
    third = seven.page("datafusion", L, page_size="3", page_token=second["nextPageToken"])
    assert [names(page) for page in (first, second, third)] == [list("abc"), list("def"), ["g"]]
    assert "nextPageToken" not in third


def test_a_full_last_page_has_no_token(seven):
    """There is a token only if there is something behind it."""
    assert "nextPageToken" not in seven.page("datafusion", L, page_size="7")


def test_paging_survives_a_delete(seven):
    """Deleting what was seen does not make the next page skip anything."""
    first = seven.page("datafusion", L, page_size="3")
    seven.delete("datafusion", f"{L}/operations/c")
    assert names(seven.page("datafusion", L, page_size="3", page_token=first["nextPageToken"])) == list("def")


@pytest.mark.parametrize("filter", ["done:true", "done=true", " done = TRUE ", "done : true"])
def test_filter_for_what_is_done(seven, filter):
    """All ways of writing the filter mean the same."""
    assert names(seven.page("datafusion", L, filter)) == list("aceg")


@pytest.mark.parametrize("filter", ["done:false", "done=false"])
def test_filter_for_what_is_running(seven, filter):
    """The filter goes by the state at this moment, and pages count what is left of it."""
    page = seven.page("datafusion", L, filter, page_size="2")
    assert names(page) == ["b", "d"]
    assert names(seven.page("datafusion", L, filter, page_token=page["nextPageToken"])) == ["f"]


@pytest.mark.parametrize(
    "query",
    [
        {"filter": "metadata.verb=create"},
        {"filter": "done"},
        {"filter": "done:maybe"},
        {"filter": "NOT done:true"},
        {"page_size": "-1"},
        {"page_size": "many"},
        {"page_size": "\u0661"},
        {"page_token": "nonsense"},
        {"page_token": "é"},
        {"page_token": "YWZ0ZXIgeA=="},
    ],
)
def test_a_query_that_is_not_understood_is_refused(seven, query):
    """An unknown filter, size or token is INVALID_ARGUMENT, never ignored."""
    with pytest.raises(RefusedError) as refused:
        seven.page("datafusion", L, **query)
    assert refused.value.status == "INVALID_ARGUMENT"


def test_a_list_belongs_to_its_parent(store):
    """Only what is right below the parent is listed; `-` matches any location."""
    store.create("datafusion", f"{L}/operations/here")
    store.create("datafusion", "projects/p/locations/eu/operations/there")
    store.create("datafusion", "projects/q/locations/eu/operations/elsewhere")
    store.create("automl", f"{L}/operations/foreign")
    assert names(store.page("datafusion", L)) == ["here"]
    assert names(store.page("datafusion", "projects/p/locations/-")) == ["here", "there"]
    assert store.page("datafusion", "projects/none/locations/eu") == {}


def test_the_page_size_has_a_limit_and_a_default(store):
    """Without a size a page has 100 operations; a larger size than 1000 is cut."""
    for number in range(1005):
        store.create("datafusion", f"{L}/operations/o{number}")
    assert len(store.page("datafusion", L)["operations"]) == 100
    assert len(store.page("datafusion", L, page_size="0")["operations"]) == 100
    assert len(store.page("datafusion", L, page_size="5000")["operations"]) == 1000


def test_scripts_are_for_what_is_started_afterwards(store):
    """The default script changes nothing that runs already; an API's own goes before the general one."""
    before = store.create("datafusion")
    store.set_script({"cancel": "ignore"})
    store.set_script({"cancel": "unimplemented"}, "automl")
    ignoring, refusing = store.create("datafusion"), store.create("automl")
    store.cancel("datafusion", before.name)
    assert store.get("datafusion", before.name).state == "CANCELLED"
    store.cancel("datafusion", ignoring.name)
    assert store.get("datafusion", ignoring.name).state == "CANCELLING"
    with pytest.raises(RefusedError):
        store.cancel("automl", refusing.name)


def test_an_operation_changes_the_default_script_for_itself(store, clock):
    """What a start request says is laid over the default, not put in its place."""
    store.set_script({"duration": 1, "response": {"a": 1}})
    name = store.create("datafusion", script={"error": {"code": 13}}).name
    clock.turn(1)
    assert store.get("datafusion", name).state == "FAILED"
    assert store.script() == Script(duration=1, response={"a": 1})


def test_an_operations_own_failures_go_first(store):
    """Failures of one operation's script strike its requests only, and before the general ones."""
    name = store.create("datafusion", script={"failures": [{"kind": "429"}]}).name
    other = store.create("datafusion").name
    store.fail(Failure("503"))
    kinds = [store.take_failure("get", "datafusion", about, "t") for about in (name, name, name, other)]
    assert [failure and failure.kind for failure in kinds] == ["429", "503", None, None]


def test_a_failure_of_an_unknown_api_is_refused(store):
    """A failure that could never strike is a mistake."""
    with pytest.raises(UnknownServiceError):
        store.fail(Failure("503", service="vertex"))


def note(store: Store, verb: str, name: str, query: str = "") -> None:
    store.note_request(
        method="GET", path="/x", query=query, verb=verb, service="datafusion", name=name, authorization=True
    )


def test_requests_are_kept_in_order_of_arrival(store, clock):
    """Requests have a number and a time, and can be found by verb and name."""
    for verb, name in (("get", "a"), ("cancel", "a"), ("get", "b")):
        note(store, verb, name)
        clock.turn(1)
    assert [(record.order, record.time - clock.now) for record in store.requests()] == [(1, -3), (2, -2), (3, -1)]
    assert [record.order for record in store.requests("get")] == [1, 3]
    assert [record.order for record in store.requests("get", "b")] == [3]
    assert [record.order for record in store.requests(newest=2)] == [2, 3]


def test_looks_of_clients_are_counted(store, clock):
    """A get, a wait and a list that shows it are polls of an operation; what the emulator itself reads is none."""
    view = store.create("datafusion", parent="projects/p/locations/l")
    assert (view.polls, view.polled_at) == (0, None)
    note(store, "get", view.name)
    note(store, "cancel", view.name)
    clock.turn(1)
    note(store, "wait", view.name)
    clock.turn(1)
    store.page("datafusion", "projects/p/locations/l")
    store.page("datafusion", "projects/p/locations/other")
    seen = store.get("datafusion", view.name)
    assert (seen.polls, seen.polled_at) == (3, clock.now)


@pytest.mark.parametrize("query", ["access_token=ya29.secret&alt=json", "alt=json&key=secret", "oauth_token=secret"])
def test_no_token_is_kept_from_a_query(store, query):
    """A token in the query is blotted out as it comes in."""
    note(store, "get", "a", query)
    kept = store.requests()[0].query
    assert "secret" not in kept
    assert kept.count("=") == query.count("=")


def test_a_record_that_was_handed_out_does_not_change(store):
    """A caller's copy of a record is a copy."""
    note(store, "get", "a")
    store.requests()[0].status = 500
    assert store.requests()[0].status is None


def test_views_can_be_chosen(seven):
    """All operations, those of an API, or the one of a name."""
    seven.create("automl")
    assert len(seven.views()) == 8
    assert len(seven.views("datafusion")) == 7
    assert [view.name for view in seven.views(name=f"{L}/operations/c")] == [f"{L}/operations/c"]
    assert seven.views("automl", f"{L}/operations/c") == []


def test_reset_forgets_everything(seven):
    """After a reset the store is as new."""
    seven.fail(Failure("503"))
    seven.set_script({"duration": 1}, "datafusion")
    note(seven, "get", "a")
    seven.reset()
    assert (seven.views(), seven.requests(), seven.failures()) == ([], [], [])
    assert seven.script("datafusion") == Script()


def test_it_can_be_used_from_many_threads(clock):
    """Threads that start, cancel, list and delete at once lose nothing and break nothing."""
    store, problems = Store(clock), []

    def work(number: int) -> None:
        try:
            for step in range(50):
                name = store.create("datafusion", f"{L}/operations/o{number}-{step}").name
                store.page("datafusion", L, "done:false")
                store.cancel("datafusion", name)
                note(store, "cancel", name)
                if step % 2:
                    store.delete("datafusion", name)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(store.views()) == 150
    assert [record.order for record in store.requests()] == list(range(1, 301))


def test_thousands_of_operations_are_found_by_name(clock):
    """Looking one up is a dictionary's work: it touches none of the others."""
    store = Store(clock)
    for number in range(5000):
        store.create("datafusion", f"{L}/operations/o{number}")

    class Untouchable(dict):
        def __iter__(self):
            raise AssertionError("getting one operation went through all")

        values = items = keys = __iter__

    store._operations = Untouchable(store._operations)
    name = f"{L}/operations/o4321"
    assert store.get("datafusion", name).name == name
    store.cancel("datafusion", name)
    assert store.views("datafusion", name)[0].done
    store.delete("datafusion", name)
