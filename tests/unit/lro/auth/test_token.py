"""One token for all threads and event loops: when it is refreshed, and how often."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import google.auth.exceptions
import google.auth.transport.requests
import pytest
from google.auth import _helpers
from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError

from airflow_lro_provider.lro.auth.token import REFRESH_MARGIN, Identity
from airflow_lro_provider.lro.errors import (
    CredentialsError,
    TransportError,
)

SECRET = "c2VjcmV0LWtleS1tYXRlcmlhbA"


class Counted(Credentials):
    """Credentials whose refresh takes as long as nobody else comes, and that count how many are in it."""

    def __init__(self, *, failures: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refreshes = 0
        self.failures = failures
        self.second = threading.Event()

    def refresh(self, request: Any) -> None:
        """Give a new token; a second caller that gets in at the same time is noticed."""
        self.refreshes += 1
        if self.refreshes > 1:
            self.second.set()
        self.second.wait(0.05)
        if self.refreshes <= self.failures:
            raise RuntimeError(SECRET)
        self.token = f"token-{self.refreshes}"
        self.expiry = _helpers.utcnow() + timedelta(hours=1)  # type: ignore[no-untyped-call]


def test_many_threads_refresh_once() -> None:
    """However many threads need a token at the same moment, one of them fetches it for all."""
    credentials = Counted()
    identity = Identity(credentials)
    start = threading.Barrier(8)
    got: list[dict[str, str]] = []

    def ask() -> None:
        start.wait()
        got.append(identity.headers())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [{"authorization": "Bearer token-1"}] * 8
    assert credentials.refreshes == 1


async def test_many_tasks_refresh_once_and_block_nobody() -> None:
    """However many tasks of a loop need a token, it is fetched once, in a thread, while the loop goes on."""
    credentials = Counted()
    identity = Identity(credentials)
    threads: set[int] = set()
    refresh = credentials.refresh

    def noted(request: Any) -> None:
        threads.add(threading.get_ident())
        refresh(request)

    credentials.refresh = noted  # type: ignore[method-assign]
    got = await asyncio.gather(*(identity.async_headers() for _ in range(20)))
    assert got == [{"authorization": "Bearer token-1"}] * 20
    assert credentials.refreshes == 1
    assert threading.get_ident() not in threads


async def test_a_task_that_is_cancelled_leaves_the_token_to_the_others() -> None:
    """The one who began the refresh may go: the others get their token all the same."""
    credentials = Counted()
    identity = Identity(credentials)
    first, second = (asyncio.ensure_future(identity.async_headers()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {"authorization": "Bearer token-1"}
    assert first.cancelled()
    assert credentials.refreshes == 1


async def test_a_failed_refresh_is_told_to_all_and_tried_again_by_the_next() -> None:
    """All who waited hear of the failure, without the secret in its text; the next one tries again."""
    credentials = Counted(failures=1)
    identity = Identity(credentials)
    got = await asyncio.gather(*(identity.async_headers() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in got] == [CredentialsError] * 3
    assert all(str(error).endswith(": RuntimeError.") for error in got)
    assert credentials.refreshes == 1
    assert await identity.async_headers() == {"authorization": "Bearer token-2"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RefreshError("token server is busy", retryable=True), TransportError),
        (RefreshError("invalid_grant\nsecond line", retryable=False), CredentialsError),
        (google.auth.exceptions.TransportError("no route"), TransportError),
    ],
    ids=["a bad moment", "refused", "not reached"],
)
def test_a_bad_moment_is_told_from_a_refusal(error: Exception, expected: type[Exception]) -> None:
    """What google-auth calls retryable is transient, anything else is not; one line of it is reported."""

    class Failing(Counted):
        def refresh(self, request: Any) -> None:
            """Fail in this way."""
            raise error

    with pytest.raises(expected, match=str(error.args[0]).partition("\n")[0]) as caught:
        Identity(Failing()).headers()
    assert "second line" not in str(caught.value)


def test_threads_and_tasks_share_a_token() -> None:
    """A token that a thread fetched is there for the loop, which requests nothing."""
    credentials = Counted()
    identity = Identity(credentials)
    identity.headers()
    assert asyncio.run(identity.async_headers()) == {"authorization": "Bearer token-1"}
    assert credentials.refreshes == 1


def test_rejecting_does_not_wait_for_a_renewal() -> None:
    """It is called on event loops: many triggers that learn of a revoked token at once must not stop the triggerer."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Counted):
        def refresh(self, request: Any) -> None:
            if self.refreshes:
                begun.set()
                go_on.wait(5)
            super().refresh(request)

    identity = Identity(Slow())
    revoked = identity.headers()
    identity.reject(revoked)
    renewal = threading.Thread(target=identity.headers)
    renewal.start()
    assert begun.wait(5)
    begin = time.monotonic()
    identity.reject(revoked)
    took = time.monotonic() - begin
    go_on.set()
    renewal.join()
    assert took < 1
    assert identity.headers() == {"authorization": "Bearer token-2"}


def test_rejecting_makes_room_for_another_token() -> None:
    """Credentials that can get another token do so after a refusal."""
    credentials = Counted()
    identity = Identity(credentials)
    identity.reject(identity.headers())
    assert not identity._lasts(REFRESH_MARGIN)
    assert identity.headers() == {"authorization": "Bearer token-2"}


@pytest.mark.parametrize(
    ("left", "fresh"),
    [(timedelta(hours=1), True), (REFRESH_MARGIN + timedelta(seconds=30), True), (REFRESH_MARGIN, False)],
    ids=["an hour", "just enough", "five minutes"],
)
def test_fresh(left: timedelta, fresh: bool) -> None:
    """A token is fresh while it is good for five minutes more."""
    assert timedelta(minutes=5) == REFRESH_MARGIN
    credentials = Counted()
    credentials.token = "t"
    credentials.expiry = _helpers.utcnow() + left  # type: ignore[no-untyped-call]
    assert Identity(credentials)._lasts(REFRESH_MARGIN) is fresh


def test_a_token_without_an_end_is_fresh() -> None:
    """A token that never expires is never renewed."""
    credentials = Counted()
    credentials.token = "t"
    assert Identity(credentials).headers() == {"authorization": "Bearer t"}
    assert credentials.refreshes == 0


@pytest.mark.parametrize(("seconds", "urgent", "refreshed"), [(60, True, 0), (60, False, 1), (5, True, 1)])
def test_what_is_urgent_does_not_wait_for_another_token(seconds: int, urgent: bool, refreshed: int) -> None:
    """A cancel goes out with the token in hand while that is good for a moment; all else renews it in time."""
    from google.auth import _helpers

    class Credentials:
        token, refreshes = "old", 0
        expiry = _helpers.utcnow() + timedelta(seconds=seconds)

        def refresh(self, request: Any) -> None:
            self.refreshes += 1
            self.token, self.expiry = "new", _helpers.utcnow() + timedelta(hours=1)

        def apply(self, headers: dict[str, str]) -> None:
            headers["authorization"] = f"Bearer {self.token}"

    credentials = Credentials()
    Identity(credentials).headers(urgent=urgent)
    assert credentials.refreshes == refreshed
