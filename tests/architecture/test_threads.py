"""Who computes in a thread shares the interpreter with the event loop: see `app.ports.turns`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.architecture.tree import modules, syntax

STARTERS = frozenset(
    {"to_thread", "run_in_threadpool", "run_sync", "Thread", "ThreadPoolExecutor", "start_new_thread"}
)
"""What starts a thread, or hands work to one."""
COMPUTES_NOTHING: Mapping[str, str] = {
    "app/ports/turns.py": "it is what the others are to use",
    "app/stores/sql/readers.py": "hands all work over in short turns; waits for its threads to end",
    "app/stores/sql/writer.py": "takes short turns where it does; waits for its thread to end",
    "app/stores/vectors.py": "hands all work over in short turns",
    "app/steps/transforms/workbench.py": "hands all work over in short turns",
    "app/observability/log_writer.py": "waits for a stream",
    "app/engines/temporal/client.py": "waits for a connection",
    "app/bootstrap.py": "waits for the exporter's last spans",
    "app/main.py": "waits for the log's last lines",
    "app/server.py": "waits for the log's last lines",
    "app/worker.py": "waits for the log's last lines",
    "app/stores/sql/sqlite.py": "opens the store, when nobody is served yet",
    "app/stores/postgresql/store.py": "opens the store, when nobody is served yet",
    "app/providers/transport.py": "imports, once",
    "app/stores/pgvector/pool.py": "imports, once",
    "app/demo.py": "the command line's",
    "app/local_plan.py": "the command line's",
    "app/local_run.py": "the command line's",
    "app/migration.py": "the command line's",
    "app/doctor/examination.py": "the command line's",
    "app/doctor/store.py": "the command line's",
    "app/stores/backups.py": "the command line's",
    "app/stores/migrations/postgresql.py": "the command line's",
    "app/stores/migrations/sqlite.py": "the command line's",
}
"""Modules that may start threads, and why the event loop does not suffer by it."""


def calls(path: Path, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node


def starters(path: Path) -> set[str]:
    """The names among `STARTERS` that a module imports, reads or calls."""
    found: set[str] = set()
    for node in ast.walk(syntax(path)):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name):
                found.add(name)
            case _:
                pass
    return found & STARTERS


def test_whoever_starts_a_thread_has_its_work_computed_in_short_turns() -> None:
    found = {str(path): starters(path) for path in modules("app") if starters(path)}
    others = {path: names for path, names in found.items() if path not in COMPUTES_NOTHING}
    assert others == {}, "use app.ports.turns.computed"
    assert COMPUTES_NOTHING.keys() == found.keys()


def test_work_for_threads_of_ones_own_is_done_in_short_turns() -> None:
    seen = 0
    for path in modules("app"):
        for call in calls(path, "run_in_executor"):
            seen += 1
            work = call.args[1]
            assert isinstance(work, ast.Name), f"{path}:{call.lineno}"
            assert work.id == "in_short_turns", f"{path}:{call.lineno}"
    assert seen
