"""What the layers may import, beyond the contracts in pyproject.toml that import-linter checks."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import modules, syntax


def imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level) + (node.module or "")


def test_the_core_imports_the_standard_library_and_itself_only() -> None:
    foreign = [
        f"{path} imports {name}"
        for path in modules("app")
        if path.parts[1] == "core"
        for name in imported_by(path)
        if not name.startswith("app.core") and name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert foreign == []


def test_the_core_reads_no_clock_no_random_source_and_does_no_io() -> None:
    impure = {
        "time",
        "random",
        "secrets",
        "uuid",
        "os",
        "io",
        "pathlib",
        "socket",
        "asyncio",
        "threading",
        "subprocess",
        "sqlite3",
        "logging",
        "datetime",
    }
    used = [
        f"{path} imports {name}"
        for path in modules("app")
        if path.parts[1] == "core"
        for name in imported_by(path)
        if name.partition(".")[0] in impure
    ]
    assert used == []


def test_imports_are_absolute() -> None:
    relative = [
        f"{path} imports {name}"
        for path in modules("app", "tests")
        for name in imported_by(path)
        if name.startswith(".")
    ]
    assert relative == []


def test_the_app_does_not_import_its_tests() -> None:
    backwards = [
        str(path)
        for path in modules("app")
        if any(name.partition(".")[0] == "tests" for name in imported_by(path))
    ]
    assert backwards == []


def test_only_settings_read_the_environment() -> None:
    readers = [
        f"{path}:{node.lineno}"
        for path in modules("app")
        if path.name not in {"settings.py", "cli.py"}
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in {("os", "environ"), ("os", "getenv")}
    ]
    assert readers == []
