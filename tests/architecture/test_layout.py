"""Sizes, names and empty packages: what keeps every file readable at one sitting."""

from __future__ import annotations

import ast

from tests.architecture.tree import modules, source, syntax

APP_LINES = 500
TEST_LINES = 800
FUNCTION_LINES = 50
VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}


def test_no_module_of_the_app_is_longer_than_it_may_be() -> None:
    lengths = {path: source(path).count("\n") for path in modules("app")}
    assert {str(path): n for path, n in lengths.items() if n > APP_LINES} == {}


def test_no_test_module_is_longer_than_it_may_be() -> None:
    lengths = {path: source(path).count("\n") for path in modules("tests")}
    assert {str(path): n for path, n in lengths.items() if n > TEST_LINES} == {}


def test_no_function_is_longer_than_it_may_be() -> None:
    too_long = [
        f"{path}:{node.lineno} {node.name} has {length} lines"
        for path in modules("app", "tests")
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert too_long == []


def test_package_files_are_empty() -> None:
    filled = [
        str(path) for path in modules("app", "tests") if path.name == "__init__.py" and source(path).strip()
    ]
    assert filled == []


def test_nothing_has_a_name_that_says_nothing() -> None:
    vague = [
        str(path)
        for path in modules("app", "tests")
        if any(VAGUE & set(part.removesuffix(".py").split("_")) for part in path.parts)
    ]
    assert vague == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path)
        for path in modules("app", "tests")
        if path.name != "__init__.py" and ast.get_docstring(syntax(path)) is None
    ]
    assert silent == []
