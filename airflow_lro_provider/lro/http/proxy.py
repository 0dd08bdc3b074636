"""Through which proxy a request goes: one rule for both clients, and for APIs as for token servers.

A proxy cannot read what goes through it encrypted. So what is not encrypted (to this machine, to an emulator, to
Google's metadata server) never goes through one, whatever the environment says.
"""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import quote_from_bytes, unquote, unquote_to_bytes, urlsplit

from requests.utils import get_environ_proxies, select_proxy

from airflow_lro_provider.lro.errors import UnreachableError
from airflow_lro_provider.lro.resources.hosts import is_server


def proxy_for(url: str) -> str | None:
    """The proxy that this machine's environment names for a URL; ``None`` for a direct connection.

    :return: ``http://HOST:PORT``, or with a login (:func:`split_login`), in a form that both clients read alike.
    :raises UnreachableError: if it is of a kind that not both clients can use (SOCKS), or is no URL of a server.
    """
    if not url.startswith("https://"):
        return None
    named = (select_proxy(url, get_environ_proxies(url)) or "").strip()
    if not named:
        return None
    scheme, _, rest = (named if "://" in named else f"http://{named}").partition("://")
    scheme, authority = scheme.lower(), re.split("[/?#]", rest, maxsplit=1)[0]
    login, _, server = authority.rpartition("@")
    if re.fullmatch("(?!https?$)[a-z][a-z0-9+.-]*", scheme):
        raise _unusable(f"a proxy at {scheme}://", url, "only proxies at http:// and https:// are supported. Name one")
    is_valid = scheme in ("http", "https") and is_server(re.sub(r"\.(?=:\d+$|$)", "", server))
    # An "@" behind that is of a login that a special character has cut off. Nothing of it is shown: it may be secret.
    if not is_valid or "@" in rest[len(authority) :]:
        how = "expected is a URL like http://proxy.example:3128, with any login percent-encoded. Correct it"
        raise _unusable("a proxy that is no URL of a server", url, how)
    return f"{scheme}://{_encoded(login)}{server}"


def split_login(proxy: str) -> tuple[str, dict[str, str]]:
    """A proxy's URL without the login, and the header with the login that the proxy is sent, if there is one."""
    scheme, _, rest = proxy.partition("://")
    login, found, server = rest.rpartition("@")
    basic = b64encode(unquote_to_bytes(login)).decode("ascii")
    return f"{scheme}://{server}", {"Proxy-Authorization": f"Basic {basic}"} if found else {}


def refusal(code: int, url: str, proxy: str) -> tuple[str, bool]:
    """What it means that a proxy opens no tunnel to a server, and whether a later request may get one.

    ==================  ====================================================================
    HTTP                means
    ==================  ====================================================================
    407                 a login is required, or not the one that was sent
    408, 425, 429, 5xx  it is busy, or cannot reach the server: that may pass
    any other           it does not allow it (403), or wants a login at a page first (302)
    ==================  ====================================================================
    """
    (address, headers), host = split_login(proxy), urlsplit(url).hostname
    what = f"the proxy {address} opened no connection to {host}: HTTP {code}"
    if code == 407:
        wrong = "the login in the proxy's URL was not accepted" if headers else "it requires a login"
        return f"{what}, {wrong}. HTTPS_PROXY has to contain user and password (Basic authentication).", False
    if code in (408, 425, 429) or code >= 500:
        return f"{what}. Check the network, the proxy and the endpoint.", True
    return f"{what}. The proxy has to allow it, or NO_PROXY has to except the host.", False


def _encoded(login: str) -> str:
    """A login in the one form that both clients read alike: always with a colon, and in bytes."""
    if login in ("", ":"):
        return ""
    plain = unquote(login) + ("" if ":" in login else ":")
    try:
        raw = plain.encode("latin-1")  # as requests and aiohttp do
    except UnicodeEncodeError:
        raw = plain.encode("utf-8", "surrogateescape")
    return f"{quote_from_bytes(raw, safe=':')}@"


def _unusable(what: str, url: str, instead: str) -> UnreachableError:
    return UnreachableError(
        f"the environment (HTTPS_PROXY, ALL_PROXY) names {what} for {urlsplit(url).hostname}; {instead}, or except the"
        " host in NO_PROXY."
    )
