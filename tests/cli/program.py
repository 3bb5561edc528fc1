"""The command line as a process: what a shell sees of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.settings_defaults import VENDOR_VARIABLES
from tests.service_process import ROOT

SECONDS = 60
OF_VENDORS = {name for it in VENDOR_VARIABLES.values() for name in (*it.key, *it.base_url)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        """Lines on stderr."""
        return self.err.splitlines()


def command(*arguments: str | Path) -> list[str]:
    """The command line of one invocation."""
    return [sys.executable, "-m", "app.cli", *map(str, arguments)]


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, without settings of its own, and with these variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRATOR_", "FORCE_COLOR")) and name not in OF_VENDORS
    }
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200", **(variables or {})}


def call(*arguments: str | Path, cwd: Path, given: str = "", **variables: str) -> Ended:
    """Run a command to its end; `given` is its standard input."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(variables),
        input=given,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)
