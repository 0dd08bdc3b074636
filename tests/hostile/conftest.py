"""What the hostile tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.wire import watched


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests has no part in them."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def strangers() -> Iterator[list[str]]:
    """The hosts that were connected to (or resolved) during the test, this machine aside."""
    with watched() as noted:
        yield noted
