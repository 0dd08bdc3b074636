"""All operations of a parent, page by page, as a flow (:mod:`airflow_lro_provider.lro.flows`)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from airflow_lro_provider.lro import errors, protocol
from airflow_lro_provider.lro.flows import outlast, send
from airflow_lro_provider.lro.operation import Operation
from airflow_lro_provider.lro.polling import Trouble
from airflow_lro_provider.lro.protocol import Page
from airflow_lro_provider.lro.resources.names import Parent
from airflow_lro_provider.lro.steps import Flow

MAX_PAGES = 10_000
MAX_TOKEN_LENGTH = 16_384
"""Characters of a page token; a longer one would not fit into a URL that any server accepts."""


@dataclass
class Paging:
    """All operations of a parent, page by page.

    Pages come to an end, here if not there: a page token that was given before leads nowhere new, and no list has
    more than :data:`MAX_PAGES`. While operations come and go, a service may show one on two pages
    (https://google.aip.dev/158): it is returned once. Each page has its own retries.

    :param patience: for how many seconds trouble of our own is waited out, at each page.
    :param include_response: whether the operations have their responses.
    """

    parent: Parent
    endpoint: str
    filter: str | None = None
    page_size: int | None = None
    retries: int = 0
    patience: float = 0.0
    include_response: bool = True
    done: bool = field(default=False, init=False)
    """Whether there is no further page."""
    _token: str = field(default="", init=False)
    _tokens: set[int] = field(default_factory=set, init=False)
    _names: set[str] = field(default_factory=set, init=False)

    def next_page(self) -> Flow[list[Operation]]:
        """Get the operations on the next page, without those that were returned before.

        :raises ResponseTooLargeError: if there is no end in sight.
        """
        until = time.monotonic() + self.patience

        def fetch(endpoint: str) -> Flow[Page]:
            request = protocol.list_(
                self.parent,
                endpoint,
                filter=self.filter,
                page_size=self.page_size,
                page_token=self._token,
                include_response=self.include_response,
            )
            return send(request, self.retries)

        page = yield from outlast(fetch, self.parent, self.endpoint, Trouble(), patience=lambda now: until - now)
        token, what = page.next_page_token, f"{self.parent.service}: list {self.parent.name}"
        if hash(token) in self._tokens:
            raise errors.ResponseTooLargeError(
                f"{what}: the service gave the same page token twice; its list has no end."
            )
        if len(token) > MAX_TOKEN_LENGTH:
            raise errors.ResponseTooLargeError(f"{what}: the service gave a page token of {len(token)} characters.")
        if token and len(self._tokens) + 1 >= MAX_PAGES:
            raise errors.ResponseTooLargeError(
                f"{what}: after {MAX_PAGES} pages there is no end in sight. Narrow it by a filter."
            )
        self._tokens.add(hash(token))
        self._token, self.done = token, not token
        new = []
        for operation in page.operations:
            if not operation.name or operation.name not in self._names:
                self._names.add(operation.name)
                new.append(operation)
        return new
