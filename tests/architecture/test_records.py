"""Records are frozen by the type checker (`app.ports.records`): here is what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.ports.models import Usage
from tests.architecture.tree import ROOT

SET = "from app.ports.models import Usage\nUsage(input_tokens=1).input_tokens = 2\n"
BY_POSITION = "from app.ports.models import Usage\nUsage(1)\n"
UNKNOWN = "from app.ports.models import Usage\nUsage(inputs=1)\n"
RIGHT = (
    "from dataclasses import replace\nfrom app.ports.models import Usage\nreplace(Usage(), input_tokens=1)\n"
)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        pytest.param(SET, 'Property "input_tokens" defined in "Usage" is read-only', id="setting a field"),
        pytest.param(BY_POSITION, "Too many positional arguments", id="a field by its position"),
        pytest.param(UNKNOWN, 'Unexpected keyword argument "inputs"', id="a field that there is not"),
        pytest.param(RIGHT, "Success: no issues found", id="a changed copy"),
    ],
)
def test_the_type_checker_keeps_records_frozen(code: str, complaint: str, tmp_path: Path) -> None:
    module = tmp_path / "uses_records.py"
    module.write_text(code, encoding="utf-8")
    # A process of its own: mypy raises the recursion limit of the one it runs in.
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", module.name]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert complaint in done.stdout


def test_records_are_told_apart_by_their_fields() -> None:
    assert Usage(input_tokens=1) == Usage(input_tokens=1)
    assert len({Usage(input_tokens=1), Usage(input_tokens=1), Usage(input_tokens=2)}) == 2
