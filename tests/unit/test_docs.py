"""What the documents name is there, and they speak the words of this house."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import airflow_lro_provider
from airflow_lro_provider.emulator import Emulator
from airflow_lro_provider.emulator.script import Failure, Script
from tests.documents import PAGES, ROOT
from tools import draw_waiting

OLD_WORDS = (
    "answer", "answers", "answered", "stands for", "stand for", "strikes", "ripe", "pace", "traces", "so many",
    "so long", "cannot be had", "came of", "is over", "tells", "the room", "looks at",
)  # fmt: skip
"""What the glossary has better words for: response, own, delete, due, throttle, footprint, outcome, finished, says."""
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")
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


def test_all_that_the_local_server_can_do_is_on_its_page() -> None:
    """In its tables: the fields of scripts and failures with their defaults, and the methods that tests call."""
    page = (ROOT / "docs" / "testing.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", page, re.M)
    fields = [*dataclasses.fields(Script), *dataclasses.fields(Failure)]
    assert [name for name, _ in rows if name != "url"] == [field.name for field in fields]
    for (name, said), field in zip(rows, fields, strict=False):
        if isinstance(field.default, float | str) and not isinstance(field.default, bool):
            shown = field.default if isinstance(field.default, str) else f"{field.default:g}"
            assert said.strip("`") == str(shown), name
    public = {name for name in vars(Emulator) if not name.startswith("_")} - {"start", "stop"}
    first_cells = " ".join(re.findall(r"^\| (`.*?) \|", page, re.M))
    assert {name for name in public if f"`{name}" not in first_cells} == set()


def test_every_room_is_in_the_picture() -> None:
    """As an import-linter contract has them all."""
    assert len(NAMES) > 30
    assert [room for room in sorted(ROOMS) if room not in TEXT] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_none_of_the_old_words(page: Path) -> None:
    """Outside of code, and of what others have written."""
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text("utf-8"), flags=re.S)
    assert [word for word in OLD_WORDS if re.search(rf"\b{word}\b", text, re.IGNORECASE)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    """To a file of this project, and to a heading that it has."""
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        if "://" in path:
            continue
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor in anchors_of(target), f"{path}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub name them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S), re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def test_the_readme_is_short() -> None:
    """It sells in a minute: the rest is in docs/."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_page_is_in_the_menu() -> None:
    """MkDocs itself only mentions those that are not."""
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and f": {page.name}" not in menu] == []


def test_the_plot_shows_the_table_of_its_page() -> None:
    """docs/waiting.md: whoever changes a number draws it again (``python -m tools.draw_waiting``)."""
    table = draw_waiting.rows(draw_waiting.PAGE.read_text(encoding="utf-8"))
    assert len(table) == 7
    for scheme in ("light", "dark"):
        drawn = (draw_waiting.PAGE.parent / "images" / f"waiting-{scheme}.svg").read_text(encoding="utf-8")
        assert drawn == draw_waiting.draw(table, scheme)
