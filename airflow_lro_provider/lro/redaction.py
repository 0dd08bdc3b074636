"""Words from outside, made fit for an error or a log: without secrets, and without what writes over a terminal.

======================================  ===============================================================================
hidden                                  how it is recognised
======================================  ===============================================================================
tokens and keys                         by their form: Google's, JWTs, private keys, GitHub's, GitLab's, Slack's, AWS'
credentials of HTTP                     ``Bearer`` and a token; ``Basic`` and what decodes to ``NAME:PASSWORD``
values                                  by the name before them, in JSON, URLs, headers, forms and plain words
accounts                                between ``//`` and ``@``, and ``NAME:PASSWORD@HOST``
what a request of ours has sent         by its name in the body (:func:`secrets_in`), wherever it is quoted: in the
.                                       response, and in what the operation that it began says later
======================================  ===============================================================================

All of them percent-encoded, too. Names of resources and operations, images, members of IAM policies and what is said
*about* a password stay. Each expression takes linear time.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

HIDDEN = "[hidden]"
"""What stands in the place of a secret."""
MAX_BRIEF = 300
# What would write over a terminal, or turn the direction of its text, or (half a character) cannot be written at all.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SPACE = r"(?:\s|%(?:25)*20|\+)+"
# What a server that quotes a request in its complaint may quote. A JWT has dots; without one it may be an id in a name.
_SECRET = re.compile(
    r"-----BEGIN(?:.*?-----END[^-]*-----|.*)"
    r"|(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2}))(?:"
    r"(?:ya29\.|GOCSPX-|1//|AIza|(?<!/)eyJ)[\w.+/=~%-]{6,}|eyJ[\w-]{6,}\.[\w.+/=~%-]*"
    r"|gh[oprsu]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{8,}"
    r"|A[KS]IA[A-Z0-9]{12,}(?:\W{1,5}[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/]))?)"
    rf"|(?i:\bbearer{_SPACE})[\w.+/=~%-]{{16,}}",
    re.ASCII | re.DOTALL,
)
_BASIC = re.compile(rf"\b(basic{_SPACE})([\w+/=%.-]{{4,}})", re.ASCII | re.IGNORECASE)
_BASE64 = re.compile(r"([A-Za-z0-9+/]+)(?:=|%(?:25)*3D)*", re.IGNORECASE)
# What is as long as those without a break. Of names only the ids of operations have such parts (Cloud Functions').
_LONG = re.compile(r"(?<![\w.+=~-])(?<!operations/)[\w.+=~-]{90,}", re.ASCII)
# Names that say what their value is. In a URL shorter ones do, too, as words of their own. Words that are also said in
# sentences (a pass, credentials) are names where they are quoted, or an equals sign follows.
_KEYS = "access|account|api|auth|client|encryption|hmac|license|master|private|raw|secret|shared|signing"
_TELLING = (
    r"(?:(?:token|_pass|auth[_-]?string|(?:passw(?:or)?d|passphrase|passcode|pwd|secret|authorization|assertion|signature"
    rf"|(?:{_KEYS})[_-]?key)s?)(?:[_-]?(?:value|data|string|text|\d))?"
    r"|(?:(?<![a-z])pass|(?-i:(?<=[A-Za-z\d])Pass)|(?<!application_)credentials?)(?=\\{0,8}[\"']|\s{0,9}=|\Z))"
)
_IN_URLS = r"[?&;](?:[\w.-]{0,60}[_.-])?(?:key|sig|auth|code|pass|credentials?)"
_TELLING_NAME = re.compile(rf"{_TELLING}\Z", re.IGNORECASE)
_SCHEME = rf"(?:(?:apikey|basic|bearer|digest|negotiate|token){_SPACE})?"
_GAP, _QUOTE = r"\s{0,9}", r"\\{0,8}[\"']"
# `name=`, `"name": `, `{"name": "NAME", "value": `, `<name>`, and Google's words: `'name' (TYPE_STRING), `.
_IS = (
    rf"(?:(?:{_QUOTE}|%(?:25)*22)?{_GAP}(?:[:=]{{1,2}}|%(?:25)*3[AD])"
    rf"|{_QUOTE}?,?{_GAP}(?:{_QUOTE})?value(?:{_QUOTE})?{_GAP}[:=]|>(?=\S)|{_QUOTE}\s\([\w.]{{1,60}}\),){_GAP}"
)
# Names below a telling one whose value is the secret, in an object that has more to it.
_VALUE = r"\w{0,60}(?:value|plain_?text)"
_TELLING_VALUE = re.compile(rf"{_VALUE}\Z", re.IGNORECASE)
# A value is quoted, and ends with the quote that is not escaped; or it ends at a break. It may be in an object, or be a
# list. It is no secret if it is the name of a resource, true or false, or the beginning of a sentence.
_QUOTED = r"(?:.*?(?<!\\)(?P=quote)|.*)"
_NAMED = re.compile(
    rf"((?:{_TELLING}|{_IN_URLS}){_IS}(?:\{{{_GAP}{_QUOTE}{_VALUE}{_QUOTE}{_GAP}:{_GAP})?(?P<list>\[{_GAP}(?={_QUOTE}))?)"
    rf"(?!(?:{_QUOTE})?(?:projects/|{_SCHEME}\[hidden\])|(?:true|false|null)(?:[\s,}}\])]|\Z))"
    rf"(?:(?P<quote>{_QUOTE}){_QUOTED}(?(list)(?:{_GAP},{_GAP}(?P=quote){_QUOTED})*)"
    r"|(?!(?:a|an|are|at|can|cannot|could|does|expected|field|has|invalid|is|may|missing|must|no|not|only|please|required"
    r"|see|should|the|this|too|unknown|was|will)(?=[.,:;!?)\]}>\"']{0,3}(?:\s|\Z)))"
    rf"{_SCHEME}(?:[{{\[](?=\w)|\\(?![\\\"'])|[^\s&;'\"<>{{\[\\])(?:[^\s&;'\"<>]|['\"](?=\w))*)",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
# The same in a list of variables, where the value may come before the name.
_VALUE_FIRST = re.compile(
    rf"((?P<quote>{_QUOTE}){_VALUE}(?P=quote){_GAP}:{_GAP}(?P=quote))(?!projects/)(?:(?!(?P=quote))(?:\\.|[^\\]))+"
    rf"(?=(?P=quote){_GAP},{_GAP}(?P=quote)(?:name|key)(?P=quote){_GAP}:{_GAP}(?P=quote)[\w.-]{{0,60}}{_TELLING}(?P=quote))",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
_COOKIE = re.compile(r"(\bcookie2?\\*[\"']?\s{0,3}[:=]\s{0,3}\\*[\"']?)[^\s'\"][^\r\n'\"]*", re.ASCII | re.IGNORECASE)
# What a user may paste with a URL: an account, also one that was cut off, or whose password has @ and / in it.
_ACCOUNT = re.compile(
    r"(?i:(?<=%2F%2F))(?:(?!%2[Ff]|%3[Ff])[^\s/'\"])+?%40"
    r"|(?<=//)(?:[^\s/:@'\"\[]+:(?!\d{1,5}(?![^\s/?#'\"]))[^\s'\"]{1,500}@|[^/\s'\"]{1,500}@"
    r"|[^/\s:@'\"\[]+:(?!\d{1,5}\b)[^/\s@'\"]+)"
)
_BARE_ACCOUNT = re.compile(
    r"(?<![\w.%~+:/-])(?P<member>(?:user|group|serviceAccount|domain|principal\w*)(?=:))?[\w.%~+-]*:"
    r"(?:[^\s/:@'\"]{1,500}@)+(?P<host>[\w.-]*)(?P<path>(?::\d+(?!\w))?/)?"
)
# Servers that give out tokens speak of no operations, whose ids may be as long as a key; but of pages that help.
_PERHAPS_SECRET = re.compile(
    r"(?P<page>https?://[\w.-]+(?:/[a-z][a-z0-9.-]{0,39})+(?![\w+/=-]))"
    r"|ya29\.\S+|eyJ[\w-]+(?:\.[\w-]*)*|[A-Za-z0-9+/_-]{40,}={0,2}",
    re.ASCII,
)


def without_credentials(text: str) -> str:
    """A text that quotes what a user or a server gave, without secrets: see the module's table."""
    text = _BASIC.sub(_hide_basic, _SECRET.sub(HIDDEN, text))
    text = _VALUE_FIRST.sub(rf"\1{HIDDEN}", _NAMED.sub(_hide_value, text))
    text = _COOKIE.sub(rf"\1{HIDDEN}", text)
    return _BARE_ACCOUNT.sub(_without_account, _ACCOUNT.sub(_hide_account, text))


def _hide_value(found: re.Match[str]) -> str:
    closing = found["quote"] or ""
    return f"{found[1]}{closing}{HIDDEN}{closing}"


def _hide_basic(found: re.Match[str]) -> str:
    """Hidden if it is base64 of ``NAME:PASSWORD``, and no word: nothing else has a colon and no control characters."""
    token = _BASE64.fullmatch(found[2])
    account = base64.b64decode(token[1][: len(token[1]) // 4 * 4]) if token else b""
    return f"{found[1]}{HIDDEN}" if b":" in account and min(account) >= 32 else found[0]


def _hide_account(found: re.Match[str]) -> str:
    return HIDDEN + next((end for end in ("@", "%40") if found[0].endswith(end)), "")


def _without_account(found: re.Match[str]) -> str:
    """The host alone; a member of an IAM policy (``user:NAME@HOST``) is no account with a password, nor is the digest
    of an image (``nginx:1.25@sha256:…``).
    """
    host, path = found["host"], found["path"] or ""
    is_member = found["member"] and not path and "." in host and not host.endswith("googleapis.com")
    is_member = is_member or host.endswith(".gserviceaccount.com")
    is_digest = host in ("sha256", "sha512") and found.string.startswith(":", found.end())
    return found[0] if is_member or is_digest else f"{HIDDEN}@{host}{path}"


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """A text from outside, fit for an error or a log: without anything that looks like a token or a key.

    :param known: what must not be in it, whatever it looks like; too short to be a secret are three characters.
    """
    return _LONG.sub(HIDDEN, without_credentials(without_known(known, text)))


def secrets_in(body: bytes | Mapping[str, Any] | None) -> list[str]:
    """What a request of ours sends (bytes, or their JSON) under a name that tells a secret, as it may be quoted back.

    A ``secret`` alone is the name of one in Secret Manager (in Cloud Run, Cloud Functions, Vertex AI), and errors are
    about it.
    """
    try:
        found = list(_secrets_below(json.loads(body) if isinstance(body, bytes) else body)) if body else []
    except ValueError:
        return []
    return [form for one in found for form in (one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1])]


def _secrets_below(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        named = value.get("name", value.get("key"))  # of a list of variables, as Cloud Run has them
        for key, below in value.items():
            names = (named, name) if _TELLING_VALUE.match(key) else ()
            yield from _secrets_below(below, next((one for one in names if _is_telling(one)), key))
    elif isinstance(value, list):
        for below in value:
            yield from _secrets_below(below, name)
    elif type(value) in (str, int) and _is_telling(name):
        yield from () if str(value).startswith("projects/") else (str(value),)


def _is_telling(name: Any) -> bool:
    return isinstance(name, str) and name != "secret" and _TELLING_NAME.search(name) is not None


def in_brief(text: str, known: Iterable[str] = ()) -> str:
    """What somebody who gives out tokens says is wrong: its first line, without secrets, rather too few words."""
    text = without_secrets(without_known(known, text)[: 20 * MAX_BRIEF])
    text = _PERHAPS_SECRET.sub(lambda found: found["page"] or HIDDEN, text).strip()
    return legible(text.splitlines()[0])[:MAX_BRIEF].rstrip(" .") if text else ""


def legible(text: str) -> str:
    """A text whose control characters are replaced; line breaks and tabs stay."""
    return _CONTROL.sub("\ufffd", text)


def without_known(known: Iterable[str], text: str) -> str:
    """A text without what must not be in it, whatever that looks like."""
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if len(secret) > 3 else text
    return text


# What decides what an error means, whatever a password is.
_DECIDES = ("@type", "code", "status", "reason", "retryDelay")


def hide_known(known: Collection[str], value: Any, below: Collection[str] | None = None) -> Any:
    """The same JSON without what must not be in its texts.

    :param below: only those below these keys; all of them if not given.
    """
    if isinstance(value, str):
        return without_known(known, value) if below is None else value
    if isinstance(value, list):
        return [hide_known(known, one, below) for one in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: one
        if isinstance(one, str) and key in _DECIDES
        else hide_known(known, one, None if below is None or key in below else below)
        for key, one in value.items()
    }
