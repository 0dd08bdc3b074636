"""What the documents name is there: every room, module and function of docs/architecture.md."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import airflow_lro_provider

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text("utf-8")
ROOMS = {module.name for module in pkgutil.iter_modules(airflow_lro_provider.__path__)}
NAMES = sorted({name for name in re.findall(r"`([a-z_]+(?:\.\w+)+)`", TEXT) if name.partition(".")[0] in ROOMS})
METHODS = sorted(set(re.findall(r"`([A-Z]\w+)\.(\w+)`", TEXT)))


def find(name: str) -> object:
    """A module of the package, or what is in one."""
    thing: object = airflow_lro_provider
    path = airflow_lro_provider.__name__
    for part in name.split("."):
        path = f"{path}.{part}"
        try:
            thing = importlib.import_module(path)
        except ImportError:
            thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize("name", NAMES)
def test_a_module_or_function_is_there(name: str) -> None:
    """Under the path that the document gives."""
    assert find(name) is not None


@pytest.mark.parametrize(("cls", "method"), METHODS)
def test_a_method_is_there(cls: str, method: str) -> None:
    """On a class that the document places in a module."""
    modules = {name[: end.start()] for name in NAMES for end in re.finditer(r"\.[A-Z]|$", name)}
    classes = [getattr(find(name), cls, None) for name in modules]
    assert any(hasattr(one, method) for one in classes if isinstance(one, type)), f"{cls}.{method}"


def test_every_room_is_in_the_picture() -> None:
    """As an import-linter contract has them all."""
    assert len(NAMES) > 30
    assert [room for room in sorted(ROOMS) if room not in TEXT] == []
