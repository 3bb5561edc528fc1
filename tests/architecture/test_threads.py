"""Who computes in a thread shares the interpreter with the event loop: see `app.ports.turns`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import modules, syntax

INSIDE = {"api", "dsl", "engines", "services", "steps", "templating"}
WAITS = {Path("app/engines/temporal/client.py")}
"""Its thread waits for a connection and computes nothing."""


def calls(path: Path, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node


def test_the_inside_has_its_work_computed_in_short_turns() -> None:
    found = [
        f"{path}:{call.lineno}"
        for path in modules("app")
        if path.parts[1] in INSIDE and path not in WAITS
        for call in calls(path, "to_thread")
    ]
    assert found == [], "use app.ports.turns.computed"


def test_work_for_threads_of_ones_own_is_done_in_short_turns() -> None:
    seen = 0
    for path in modules("app"):
        for call in calls(path, "run_in_executor"):
            seen += 1
            work = call.args[1]
            assert isinstance(work, ast.Name), f"{path}:{call.lineno}"
            assert work.id == "in_short_turns", f"{path}:{call.lineno}"
    assert seen
