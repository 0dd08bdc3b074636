"""Words from outside, made fit for an error or a log: without secrets, and without what writes over a terminal.

Standard library only.
"""

from __future__ import annotations

import re

__all__ = ["legible", "without_secrets"]

# What would write over a terminal, or turn the direction of its text, or (half a character) cannot be written at all.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What a server that quotes a request in its complaint may quote: access tokens, JWTs, refresh tokens, client secrets,
# keys, and whatever is as long as those without a break. No name of an operation has such parts.
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)"
    r"|\b(?:ya29\.|GOCSPX-|1//|eyJ)[\w.+/=~-]{6,}"
    r"|(?i:\b(?:bearer|basic)(?:\s|%20|\+)+)[\w.+/=~%-]{16,}"
    r"|[\w.+=~-]{90,}",
    re.ASCII | re.DOTALL,
)


def without_secrets(text: str) -> str:
    """A text from outside, fit for an error or a log: without anything that looks like a token or a key."""
    return _SECRET.sub("[hidden]", text)


def legible(text: str) -> str:
    """A text whose control characters are replaced; line breaks and tabs stay."""
    return _CONTROL.sub("\ufffd", text)
