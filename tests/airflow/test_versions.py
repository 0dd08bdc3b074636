"""Which Airflow it is, and what that means, is known in one room only."""

from __future__ import annotations

import ast
from pathlib import Path

import airflow_lro_provider

PACKAGE = Path(airflow_lro_provider.__file__).parent
ROOM = "airflow_compat"
PUBLIC = ("airflow.providers.common.compat", "airflow.triggers.base")
DEMO = (*PUBLIC, "airflow.sdk", "airflow.plugins_manager")
"""The demo's Dag is written as a user would, and its plugin is one of Airflow's."""


def imported(tree: ast.AST) -> set[str]:
    """All modules of Airflow that a module imports, wherever."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module))
    return {name for name in found if name.partition(".")[0] == "airflow"}


def modules() -> dict[str, ast.AST]:
    """The package's modules outside of the room."""
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if ROOM not in path.parts)
    return {str(path.relative_to(PACKAGE)): ast.parse(path.read_text("utf-8")) for path in paths}


def test_no_other_module_imports_what_is_not_public() -> None:
    """Or what has moved between versions."""
    for name, tree in modules().items():
        allowed = DEMO if name.startswith("demo/") else PUBLIC
        strange = {module for module in imported(tree) if not module.startswith(allowed)}
        assert not strange, f"{name} imports {strange}"


def test_no_other_module_asks_for_the_version() -> None:
    """Neither by its number, nor by trying an import or an attribute."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            named = getattr(node, "id", getattr(node, "attr", None))
            assert named != "AIRFLOW", f"{name} knows a version"
            if isinstance(node, ast.Try):
                assert not any(imported(statement) for statement in node.body), f"{name} tries an import"


def test_the_room_is_small() -> None:
    """What depends on a version is what one has to read again for each new one."""
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in (PACKAGE / ROOM).glob("*.py"))
    assert lines < 1150
