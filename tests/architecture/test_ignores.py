"""Every silenced check carries its reason beside it, in code and in configuration."""

from __future__ import annotations

import io
import re
import tokenize
import tomllib
from collections.abc import Iterator

import pytest

from tests.architecture.tree import ROOT, modules, source

CONFIGURATION = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MARK = re.compile(
    r"(?:type:\s*ignore|noqa|nosec|pragma:\s*no cover|mypy:|ruff:|pyright:)"
    r"(?:\[[\w, -]+\]|:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?"
)
WITHOUT_CODE = re.compile(r"type:\s*ignore(?!\[)|noqa(?!:)")
SHORTEST_REASON = 2
"""Words."""
CODE = re.compile(r'"[A-Z]+\d*"')


def is_bare(comment: str) -> bool:
    """Whether a comment silences a check without saying which one and why."""
    if not MARK.search(comment):
        return False
    reason = MARK.sub(" ", comment).replace("#", " ").split()
    return bool(WITHOUT_CODE.search(comment)) or len(reason) < SHORTEST_REASON


def comments() -> Iterator[tuple[str, str]]:
    for path in modules("app", "tests"):
        for token in tokenize.generate_tokens(io.StringIO(source(path)).readline):
            if token.type == tokenize.COMMENT:
                yield f"{path}:{token.start[0]}", token.string


@pytest.mark.parametrize(
    "comment",
    [
        "# type: ignore",
        "# type: ignore[arg-type]",
        "# noqa",
        "# noqa: S101",
        "# noqa: C901, PLR0912",
        "# type: ignore[misc]  # noqa: S101",
    ],
)
def test_a_bare_ignore_is_found(comment: str) -> None:
    assert is_bare(comment)


@pytest.mark.parametrize(
    "comment",
    [
        "# type: ignore[arg-type]  # the stubs lag behind the library",
        "# noqa: C901, PLR0912  one case an event",
        "# noqa: S101  a reason it is",
    ],
)
def test_a_reasoned_ignore_passes(comment: str) -> None:
    assert not is_bare(comment)


def test_every_ignore_in_code_has_a_code_and_a_reason() -> None:
    bare = [f"{place} {comment}" for place, comment in comments() if is_bare(comment)]
    assert bare == []


def test_every_exception_in_the_configuration_has_a_reason() -> None:
    lint = CONFIGURATION.split("[tool.ruff.lint]")[1].split("[tool.ruff.lint.mccabe]")[0]
    listed = lint.split("ignore = [")[1].splitlines()
    warnings = tomllib.loads(CONFIGURATION)["tool"]["pytest"]["ini_options"]["filterwarnings"][1:]
    bare = [line for line in listed if CODE.search(line) and "#" not in line]
    lines = CONFIGURATION.splitlines()
    bare += [entry for entry in warnings if not any(entry in line and "#" in line for line in lines)]
    assert bare == []


def test_the_import_contracts_have_no_exceptions() -> None:
    contracts = tomllib.loads(CONFIGURATION)["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts if "ignore_imports" in contract] == []
