"""Which page of a list to ask for next, and what is new on it. Decided once for the sync and the async client.

Pages come to an end, here if not there: a page token that was given before leads nowhere new, and nobody lists
:data:`MAX_PAGES` pages. While operations come and go, a service may show one on two pages
(https://google.aip.dev/158): it is told once.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_lro_provider.lro import protocol
from airflow_lro_provider.lro.errors import ResponseTooLargeError
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.protocol import Page, Request
from airflow_lro_provider.lro.resources.names import Parent

__all__ = ["MAX_PAGES", "Paging"]

MAX_PAGES = 10_000
MAX_TOKEN = 16_384
"""Characters of a page token; a longer one would not fit into a URL that any server takes."""


class Paging:
    """One walk through the operations of a parent.

    :param parent: below which to look.
    :param endpoint: where to ask.
    :param filter: in the service's own dialect.
    :param page_size: how many to ask for at once.
    """

    def __init__(
        self, parent: Parent, endpoint: str, *, filter: str | None = None, page_size: int | None = None
    ) -> None:
        self._parent, self._endpoint = parent, endpoint
        self._filter, self._page_size = filter, page_size
        self._token: str | None = ""
        self._tokens: set[int] = set()
        self._names: set[str] = set()

    def request(self) -> Request | None:
        """Ask for the next page; ``None`` after the last one."""
        if self._token is None:
            return None
        return protocol.list_(
            self._parent, self._endpoint, filter=self._filter, page_size=self._page_size, page_token=self._token
        )

    def new_on(self, page: Page) -> Iterator[Operation]:
        """The operations of the page that was asked for, without those that were told before.

        :raises ResponseTooLargeError: if there is no end in sight.
        """
        self._turn_to(page.next_page_token)
        for operation in page.operations:
            if not operation.name or operation.name not in self._names:
                self._names.add(operation.name)
                yield operation

    def _turn_to(self, token: str) -> None:
        self._token = token or None
        if not token:
            return
        mark = hash(token)
        what = f"{self._parent.service}: list {self._parent.name}"
        if mark in self._tokens:
            raise ResponseTooLargeError(f"{what}: the service gave the same page token twice; its list has no end.")
        if len(token) > MAX_TOKEN:
            raise ResponseTooLargeError(f"{what}: the service gave a page token of {len(token)} characters.")
        self._tokens.add(mark)
        if len(self._tokens) >= MAX_PAGES:
            raise ResponseTooLargeError(
                f"{what}: after {MAX_PAGES} pages there is no end in sight. Narrow it by a filter."
            )
