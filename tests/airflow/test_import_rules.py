"""Who may import whom. Read from the sources, so that a rule cannot be broken by goodwill."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_lro_provider

PACKAGE = Path(airflow_lro_provider.__file__).parent
STANDARD_ONLY = {
    *("operation", "reference", "method", "foreign", "services", "protocol", "flows", "errors", "polling", "verdict"),
    *("content", "hosts", "ledger", "paging", "redaction", "settings", "strict_json", "traces"),
    *("listing", "pace", "waiters", "watching", "meter", "longpoll"),
}
CLIENTS = {
    *("client", "aio", "many", "watcher", "credentials", "identity", "mtls"),
    *("token_transport", "token_sources", "transport"),
}
CLIENT_LIBRARIES = {"google", "requests", "aiohttp", "tenacity", "urllib3", "yarl"}
LAZY = {"google", "requests", "aiohttp", "tenacity", "urllib3", "yarl", "starlette", "uvicorn"}


def modules() -> list[Path]:
    """All modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, top_level: bool) -> Iterator[str]:
    """The modules that a file imports: at import time, or anywhere (but not only for type checking)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, in_function: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            inside = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            if not (top_level and in_function):
                if isinstance(child, ast.Import):
                    yield from (alias.name for alias in child.names)
                elif isinstance(child, ast.ImportFrom) and child.module:
                    yield child.module
            yield from walk(child, inside)

    yield from walk(tree, False)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_room_imports_only_what_it_may(path: Path) -> None:
    """Pure rooms: standard library; clients: plus client libraries, never Airflow; Airflow's: those only lazily."""
    room, name = path.relative_to(PACKAGE).parts[0], path.stem
    anywhere = {module.split(".")[0] for module in imports(path, top_level=False)}
    at_import = {module.split(".")[0] for module in imports(path, top_level=True)}
    full = set(imports(path, top_level=False))
    if room == "lro":
        assert "airflow" not in anywhere, "the core knows no Airflow"
        if name in STANDARD_ONLY:
            assert not anywhere & CLIENT_LIBRARIES, "a pure room uses the standard library only"
            assert not {f"airflow_lro_provider.lro.{client}" for client in CLIENTS} & full
    elif room not in ("emulator", "demo", "cli.py", "shell.py"):
        assert not at_import & LAZY, "an Airflow-facing room reaches client libraries only inside functions"
        assert not any(module.startswith("airflow_lro_provider.lro.client") for module in imports(path, top_level=True))
    if room not in ("emulator", "demo", "cli.py", "shell.py"):
        ours = {module.split(".")[1] for module in full if module.startswith("airflow_lro_provider.")}
        assert not ours & {"emulator", "demo", "cli"}, "the product does not depend on its tools"
    if room not in ("triggers", "demo", "emulator"):
        eager = {module for module in imports(path, top_level=True) if module.startswith("airflow.triggers")}
        assert not eager, "airflow.triggers.base alone costs 10 ms"
    if name in ("provider_info", "__init__") and path.parent == PACKAGE:
        assert anywhere <= {"__future__", "typing"}, "what Airflow reads to discover us imports nothing"
