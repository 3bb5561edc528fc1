"""The files that belong to the project, as the architecture tests see them."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {"__pycache__", "dist", "build"}
HIDDEN_BUT_OURS = {".ci"}


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project, relative to its root: what git tracks or would track."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            check=True,
        )
        paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    else:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if not _is_left_out(path)]
    return tuple(sorted(path for path in set(paths) if (ROOT / path).is_file()))


def modules(*folders: str) -> Iterator[Path]:
    """Python files under these top-level folders, relative to the root."""
    for path in files():
        if path.suffix == ".py" and path.parts[0] in folders:
            yield path


def source(path: Path) -> str:
    """The text of a file of the project."""
    return (ROOT / path).read_text(encoding="utf-8")


def syntax(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(source(path), filename=str(path))


def _is_left_out(path: Path) -> bool:
    folders = path.relative_to(ROOT).parts[:-1]
    return any(
        folder in LEFT_OUT
        or folder.endswith(".egg-info")
        or (folder.startswith(".") and folder not in HIDDEN_BUT_OURS)
        for folder in folders
    )
