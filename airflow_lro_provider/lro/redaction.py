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
# keys, and whatever is as long as those without a break. No name of an operation has such parts.
_SECRET = re.compile(
    r"-----BEGIN(?:.*?-----END[^-]*-----|.*)"
    r"|(?<![A-Za-z0-9])(?:ya29\.|GOCSPX-|1//|eyJ)[\w.+/=~-]{6,}"
    r"|(?i:\b(?:bearer|basic)(?:\s|%20|\+)+)[\w.+/=~%-]{16,}"
    r"|[\w.+=~-]{90,}",
    re.ASCII | re.DOTALL,
)
# Servers that give out tokens speak of no operations, whose ids may be as long as a key.
_PERHAPS_SECRET = re.compile(r"ya29\.\S+|eyJ[\w-]+(?:\.[\w-]*)*|[A-Za-z0-9+/_-]{40,}={0,2}", re.ASCII)


def without_secrets(text: str, known: Iterable[str] = ()) -> str:
    """A text from outside, fit for an error or a log: without anything that looks like a token or a key.

    :param known: what must not be in it, whatever it looks like; too short to be a secret are three characters.
    """
    return _SECRET.sub(HIDDEN, _without(known, text))


def in_brief(text: str, known: Iterable[str] = ()) -> str:
    """What somebody who gives out tokens says is wrong: its first line, without secrets, rather too few words."""
    text = without_secrets(_without(known, text)[: 20 * MAX_BRIEF])
    text = _PERHAPS_SECRET.sub(HIDDEN, text).strip()
    return legible(text.splitlines()[0])[:MAX_BRIEF].rstrip(" .") if text else ""


def legible(text: str) -> str:
    """A text whose control characters are replaced; line breaks and tabs stay."""
    return _CONTROL.sub("\ufffd", text)


def _without(known: Iterable[str], text: str) -> str:
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN) if len(secret) > 3 else text
    return text
