"""What a trigger is given, in little memory: thousands of them wait in one process.

A dict of a few fields takes twice the memory of a tuple, and most of what is in it is the same for all. So all
dicts of a trigger are one tuple: their shape (which dicts with which fields), kept once for all triggers, and the
values; those that many have in common are kept once too. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

__all__ = ["once", "pack", "unpack"]

_OWN = ("name", "token", "at", "map_index")
"""What no two triggers have in common."""
_T = TypeVar("_T")
_Shape = tuple[tuple[str, tuple[str, ...] | None], ...]

_shapes: dict[_Shape, _Shape] = {}
_common: dict[Any, Any] = {}


def pack(**stored: Mapping[str, Any] | None) -> tuple[Any, ...]:
    """Some dicts as one tuple; see :func:`unpack`."""
    shape = tuple((name, None if fields is None else tuple(fields)) for name, fields in stored.items())
    values = [
        value if key in _OWN else once(value)
        for fields in stored.values()
        if fields is not None
        for key, value in fields.items()
    ]
    return (_shapes.setdefault(shape, shape), *values)


def unpack(packed: tuple[Any, ...], wanted: str) -> dict[str, Any] | None:
    """One of the dicts of :func:`pack`, as it was."""
    shape, first = cast(_Shape, packed[0]), 1
    for name, keys in shape:
        if name == wanted:
            return None if keys is None else dict(zip(keys, packed[first:], strict=False))
        first += len(keys or ())
    raise KeyError(wanted)


def once(value: _T) -> _T:
    """The same value, kept once for all who have it."""
    if len(_common) > 10_000:
        _common.clear()
    try:
        return cast(_T, _common.setdefault((type(value), value), value))
    except TypeError:  # whatever it is, it is not what a trigger should be given, and that is told elsewhere
        return value
