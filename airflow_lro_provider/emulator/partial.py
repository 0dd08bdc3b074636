"""Partial responses: the system parameter ``fields`` of Google's REST APIs, which every method takes.

Names are separated by commas, and nested ones follow a slash or a dot, or stand in parentheses; ``*`` is all of them:
``name,done,error/code`` or ``operations(name,done),nextPageToken``. Source: the parameter in all 609 discovery
documents of google-api-python-client 2.202.0, and "Partial response" in
https://developers.google.com/custom-search/v1/performance. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_lro_provider.emulator.responses import RefusedError

__all__ = ["FIELDS", "check_mask", "partial"]

FIELDS = ("fields", "$fields")
"""What the parameter is called."""
_OPERATION: dict[str, Any] = {"name": None, "done": None, "error": None, "metadata": None, "response": None}
_KNOWN: dict[str | None, dict[str, Any]] = {
    "list": {"operations": _OPERATION, "nextPageToken": None, "unreachable": None},
    "cancel": {},
    "delete": {},
}
_TOKEN = re.compile(r"[A-Za-z@*][\w@*]*|[,/.()]")

Mask = dict[str, Any]
"""Names, each with the mask of what is in it; an empty one is all of it."""


def check_mask(text: str, verb: str | None) -> Mask:
    """Read a mask for the response of a verb.

    :raises RefusedError: INVALID_ARGUMENT, as Google's APIs say it, if it is none, or has a field that there is not.
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text:
        raise _refused(text)
    mask, rest = _read(tokens, text)
    if rest:
        raise _refused(text)
    _check(mask, _KNOWN.get(verb, _OPERATION), "")
    return mask


def partial(content: Any, mask: Mapping[str, Any]) -> Any:
    """What a mask leaves of a response."""
    if not mask or "*" in mask:
        return content
    if isinstance(content, list):
        return [partial(one, mask) for one in content]
    if not isinstance(content, Mapping):
        return content
    return {key: partial(value, mask[key]) for key, value in content.items() if key in mask}


def _read(tokens: list[str], text: str) -> tuple[Mask, list[str]]:
    """The mask that begins here, and what follows it."""
    mask: Mask = {}
    while True:
        at = mask
        while True:
            if not tokens or tokens[0] in ",/.()":
                raise _refused(text)
            at, tokens = at.setdefault(tokens[0], {}), tokens[1:]
            if tokens[:1] not in (["/"], ["."]):
                break
            tokens = tokens[1:]
        if tokens[:1] == ["("]:
            inner, tokens = _read(tokens[1:], text)
            if tokens[:1] != [")"]:
                raise _refused(text)
            at.update(inner)
            tokens = tokens[1:]
        if tokens[:1] != [","]:
            return mask, tokens
        tokens = tokens[1:]


def _check(mask: Mask, known: Mapping[str, Any], above: str) -> None:
    for name, inner in mask.items():
        if name != "*" and name not in known:
            raise _refused(f"{above}{name}")
        if known.get(name) is not None:
            _check(inner, known[name], f"{above}{name}.")


def _refused(path: str) -> RefusedError:
    # The words of Google's APIs; there they are in the details of the error (google.rpc.BadRequest).
    return RefusedError(
        "INVALID_ARGUMENT", f"Error expanding 'fields' parameter. Cannot find matching fields for path '{path:.200}'."
    )
