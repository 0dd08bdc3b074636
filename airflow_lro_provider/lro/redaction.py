"""Words from outside, made fit for an error or a log: without secrets, and without what writes over a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "[hidden]"
"""What stands in the place of a secret."""
MAX_BRIEF = 300
# What would write over a terminal, or turn the direction of its text, or (half a character) cannot be written at all.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What a server that quotes a request in its complaint may quote: access tokens, JWTs, refresh tokens, client secrets,
# API keys, private keys.
_SECRET = re.compile(
    r"-----BEGIN(?:.*?-----END[^-]*-----|.*)"
    r"|(?<![A-Za-z0-9])(?:ya29\.|GOCSPX-|1//|eyJ|AIza)[\w.+/=~-]{6,}"
    r"|(?i:\b(?:bearer|basic)(?:\s|%20|\+)+)[\w.+/=~%-]{16,}",
    re.ASCII | re.DOTALL,
)
# What is as long as those without a break. No name of an operation has such parts.
_LONG = re.compile(r"[\w.+=~-]{90,}", re.ASCII)
# What a user may paste with a URL: an account, also one that was cut off, and parameters whose names say what they are.
_ACCOUNT = re.compile(r"(?<=//)(?:[^/\s@'\"]{1,500}@|[^/\s:@'\"\[]+:(?!\d{1,5}\b)[^/\s@'\"]+)")
_BARE_ACCOUNT = re.compile(
    r"(?<![\w.%~+:/-])(?P<member>(?:user|group|serviceAccount|domain|principal\w*)(?=:))?[\w.%~+-]*:[^\s/:@'\"]{1,500}@"
    r"(?P<host>[\w.-]*)(?P<path>(?::\d+)?/)?"
)
_PARAMETER = re.compile(
    r"([?&;][\w.-]{0,60}(?:token|key|secret|passw|pwd|sig|credential|auth|code|assertion)[\w.-]{0,60}="
    r"|\b(?:access_?token|refresh_?token|id_?token|client_?secret|password|api_?key|private_?key)=)[^\s&;#'\"<>]+",
    re.ASCII | re.IGNORECASE,
)
# Servers that give out tokens speak of no operations, whose ids may be as long as a key; but of pages that help.
_PERHAPS_SECRET = re.compile(
    r"(?P<page>https?://[\w.-]+(?:/[a-z][a-z0-9.-]{0,39})+(?![\w+/=-]))"
    r"|ya29\.\S+|eyJ[\w-]+(?:\.[\w-]*)*|[A-Za-z0-9+/_-]{40,}={0,2}",
    re.ASCII,
)


def without_credentials(text: str) -> str:
    """A text that quotes what a user or a server gave: without tokens and keys that show what they are, and without
    accounts and telling parameters of URLs.
    """
    text = _PARAMETER.sub(rf"\1{HIDDEN}", _SECRET.sub(HIDDEN, text))
    return _BARE_ACCOUNT.sub(_without_account, _ACCOUNT.sub(_hide_account, text))


def _hide_account(found: re.Match[str]) -> str:
    return f"{HIDDEN}@" if found[0].endswith("@") else HIDDEN


def _without_account(found: re.Match[str]) -> str:
    """The host alone; a member of an IAM policy (``user:NAME@HOST``) is no account with a password."""
    host, path = found["host"], found["path"] or ""
    is_member = found["member"] and not path and "." in host and not host.endswith("googleapis.com")
    return found[0] if is_member else f"{HIDDEN}@{host}{path}"


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """A text from outside, fit for an error or a log: without anything that looks like a token or a key.

    :param known: what must not be in it, whatever it looks like; too short to be a secret are three characters.
    """
    return _LONG.sub(HIDDEN, without_credentials(_without(known, text)))


def in_brief(text: str, known: Iterable[str] = ()) -> str:
    """What somebody who gives out tokens says is wrong: its first line, without secrets, rather too few words."""
    text = without_secrets(_without(known, text)[: 20 * MAX_BRIEF])
    text = _PERHAPS_SECRET.sub(lambda found: found["page"] or HIDDEN, text).strip()
    return legible(text.splitlines()[0])[:MAX_BRIEF].rstrip(" .") if text else ""


def legible(text: str) -> str:
    """A text whose control characters are replaced; line breaks and tabs stay."""
    return _CONTROL.sub("\ufffd", text)


def _without(known: Iterable[str], text: str) -> str:
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if len(secret) > 3 else text
    return text
