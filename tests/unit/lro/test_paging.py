"""Which page is asked for next, what is new on it, and where a list ends."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from airflow_lro_provider.lro import paging
from airflow_lro_provider.lro.errors import ResponseTooLargeError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.paging import MAX_TOKEN, Paging
from airflow_lro_provider.lro.protocol import Page
from airflow_lro_provider.lro.resources.hosts import endpoint_of
from airflow_lro_provider.lro.resources.names import read_parent

PARENT = read_parent("projects/p", "earthengine")


def walk() -> Paging:
    """A walk through Earth Engine's operations."""
    return Paging(PARENT, endpoint_of(PARENT), filter="done:false", page_size=5)


def query(of: Paging) -> dict[str, list[str]]:
    """What the next request asks for."""
    request = of.request()
    assert request is not None
    return parse_qs(urlsplit(request.url).query)


def page(*names: str, token: str = "") -> Page:
    """A page with operations of these names."""
    return Page(tuple(Operation(name) for name in names), token)


def test_pages_follow_each_other() -> None:
    """Each request carries the filter and the last token; after a page without one there is none."""
    pages = walk()
    assert query(pages) == {"filter": ["done:false"], "pageSize": ["5"]}
    assert [operation.name for operation in pages.new_on(page("a", "b", token="t/1"))] == ["a", "b"]
    assert query(pages) == {"filter": ["done:false"], "pageSize": ["5"], "pageToken": ["t/1"]}
    assert [operation.name for operation in pages.new_on(page("b", "c"))] == ["c"]
    assert pages.request() is None


def test_operations_without_a_name_are_not_duplicates() -> None:
    """Some services leave the name out: those cannot be told apart, and none is kept back."""
    assert len(list(walk().new_on(page("", "", "a", "a")))) == 3


def test_an_empty_page_does_not_end_a_list() -> None:
    """A filter may leave a page empty, with more to come."""
    pages = walk()
    assert list(pages.new_on(page(token="t"))) == []
    assert pages.request() is not None


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", "b", "a"]])
def test_the_same_token_twice_is_the_end(tokens: list[str]) -> None:
    """It leads to a page that was there before. The error names service and parent, and is final."""
    pages = walk()
    *good, last = tokens
    for token in good:
        list(pages.new_on(page(token=token)))
    with pytest.raises(ResponseTooLargeError, match=r"earthengine: list projects/p: .*same page token twice") as caught:
        list(pages.new_on(page(token=last)))
    assert not caught.value.transient


def test_a_token_that_fits_into_no_url_is_refused() -> None:
    """It is measured, and not sent."""
    with pytest.raises(ResponseTooLargeError, match="page token of 16385 characters"):
        list(walk().new_on(page(token="t" * (MAX_TOKEN + 1))))


def test_there_are_only_so_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new tokens lead to an end all the same, which names the cure."""
    monkeypatch.setattr(paging, "MAX_PAGES", 3)
    pages = walk()
    list(pages.new_on(page(token="1")))
    list(pages.new_on(page(token="2")))
    with pytest.raises(ResponseTooLargeError, match=r"after 3 pages .* filter"):
        list(pages.new_on(page(token="3")))
