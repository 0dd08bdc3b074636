"""Which proxy the environment names, and what a proxy means that opens no tunnel. Over real sockets: tests/contract."""

from __future__ import annotations

import pytest

from airflow_lro_provider.lro.errors import UnreachableError
from airflow_lro_provider.lro.http.proxy import proxy_for, refusal, split_login

URL = "https://datafusion.googleapis.com/v1"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names none yet."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "https://datafusion.googleapis.com/v1", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://datafusion.googleapis.com/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://datafusion.googleapis.com/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".googleapis.com"}, "https://datafusion.googleapis.com/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "https://datafusion.googleapis.com/v1", None),
        ({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, "http://127.0.0.1:8900/v1", None),
        ({"HTTP_PROXY": "http://p:1", "ALL_PROXY": "http://p:1"}, "http://emulator:8900/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://metadata.google.internal/token", None),
    ],
)
def test_only_what_is_encrypted_goes_through_a_proxy(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment names proxies for https alone."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "SOCKS4A", "ftp"])
def test_a_proxy_of_another_kind_is_refused(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """B15: in one place for both sessions, without the proxy's account; a host of NO_PROXY needs none."""
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://me:s3cret@proxy.example:1080")
    monkeypatch.setenv("NO_PROXY", "sts.googleapis.com")
    with pytest.raises(UnreachableError, match=f"at {scheme.lower()}:// for datafusion.googleapis.com; only") as caught:
        proxy_for("https://datafusion.googleapis.com/v1")
    assert "s3cret" not in str(caught.value)
    assert proxy_for("https://sts.googleapis.com/v1/token") is None


@pytest.mark.parametrize(
    "value",
    [
        "http://proxy:abc",
        "http://",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:65536",
        "http://[::1:3128",
        "http://[1:2]:3128",
        "http://pro xy:3128",
        "http://a..b:3128",
        "//proxy:3128",
        "me:s3cret@http://proxy:3128",
        "http://me:s3cret",
        "http://me:s3/cret@proxy:3128",
        "http://me:12#s3cret@proxy:3128",
    ],
)
def test_a_proxy_that_is_no_url_of_a_server_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """B15: in plain words, and without what may be a password; a host of NO_PROXY needs none."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    monkeypatch.setenv("NO_PROXY", "sts.googleapis.com")
    with pytest.raises(UnreachableError, match=r"names a proxy that is no URL of a server for datafusion\.g") as caught:
        proxy_for(URL)
    assert "s3" not in str(caught.value)
    assert "cret" not in str(caught.value)
    assert proxy_for("https://sts.googleapis.com/v1/token") is None


@pytest.mark.parametrize(
    ("value", "address", "header"),
    [
        (" http://proxy:3128 ", "http://proxy:3128", None),
        ("proxy.example.", "http://proxy.example.", None),
        ("HTTPS://[::1]:3128/path?x", "https://[::1]:3128", None),
        ("http://@proxy", "http://proxy", None),
        ("http://:@proxy", "http://proxy", None),
        ("http://token@proxy", "http://proxy", "dG9rZW46"),  # token:
        ("http://me:@proxy", "http://proxy", "bWU6"),  # me:
        ("http://me:p%40ss@proxy", "http://proxy", "bWU6cEBzcw=="),  # me:p@ss
        ("http://me:p@ss@proxy", "http://proxy", "bWU6cEBzcw=="),
        ("http://me:p%ss@proxy", "http://proxy", "bWU6cCVzcw=="),  # me:p%ss
        ("http://me:\u00e4@proxy", "http://proxy", "bWU65A=="),  # as requests and aiohttp encode it
        ("http://me:\u20ac@proxy", "http://proxy", "bWU64oKs"),  # which they cannot
    ],
)
def test_a_login_is_read_in_one_place(
    value: str, address: str, header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B15: a user without a password is a login, too; and white space does not count."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    proxy = proxy_for(URL)
    assert proxy is not None
    login = {"Proxy-Authorization": f"Basic {header}"} if header else {}
    assert split_login(proxy) == (address, login)


@pytest.mark.parametrize(
    ("code", "proxy", "words", "may_pass"),
    [
        (407, "http://proxy:3128", "HTTP 407, it requires a login. HTTPS_PROXY has to contain", False),
        (407, "http://me:s3cret@proxy:3128", "HTTP 407, the login in the proxy's URL was not accepted. ", False),
        (403, "http://proxy:3128", "HTTP 403. The proxy has to allow it, or NO_PROXY ", False),
        (302, "http://proxy:3128", "HTTP 302. The proxy has to allow it, or NO_PROXY ", False),
        (429, "http://proxy:3128", "HTTP 429. Check the network, the proxy", True),
        (503, "http://proxy:3128", "HTTP 503. Check the network, the proxy", True),
    ],
)
def test_what_a_proxy_means_that_opens_no_tunnel(code: int, proxy: str, words: str, may_pass: bool) -> None:
    """B15: a login, a rule, or trouble that may pass."""
    text, passes = refusal(code, URL, proxy)
    assert f"the proxy http://proxy:3128 opened no connection to datafusion.googleapis.com: {words}" in text
    assert passes is may_pass
    assert "s3cret" not in text
