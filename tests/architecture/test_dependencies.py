"""Dependencies are locked with hashes, complete, and each is accounted for in docs/dependencies.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.tree import ROOT

REQUIREMENTS = ROOT / "requirements"
EXTRAS = ("postgresql", "temporal")
LOCKS = (
    "base.lock",
    "build.lock",
    "dev.lock",
    "local.lock",
    "weights.lock",
    *(f"{it}.lock" for it in EXTRAS),
)
PIN = re.compile(r"^([\w.-]+)==([\w.+!-]+)", re.MULTILINE)


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def names_of(requirements: list[str]) -> set[str]:
    return {name_of(requirement) for requirement in requirements}


def listed(path: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def pins(lock: str) -> set[tuple[str, str]]:
    return {
        (name_of(name), version) for name, version in PIN.findall((REQUIREMENTS / lock).read_text("utf-8"))
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (REQUIREMENTS / lock).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[\w])", text.strip())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert " @ " not in text


def test_the_locks_agree_on_every_version_they_share() -> None:
    versions: dict[str, dict[str, set[str]]] = {}
    for lock in LOCKS:
        for name, version in pins(lock):
            versions.setdefault(name, {}).setdefault(lock, set()).add(version)
    disputed = {
        name: found for name, found in versions.items() if len(set(map(frozenset, found.values()))) > 1
    }
    assert disputed == {}


@pytest.mark.parametrize(
    ("lock", "group"), [("base.lock", None), ("dev.lock", "dev"), ("build.lock", "build")]
)
def test_a_lock_holds_what_pyproject_asks_for(lock: str, group: str | None) -> None:
    wanted = project()["dependency-groups"][group] if group else project()["project"]["dependencies"]
    assert names_of(wanted) - {name for name, _ in pins(lock)} == set()


def test_the_lock_for_development_holds_the_base_too() -> None:
    assert pins("base.lock") <= pins("dev.lock")


def test_the_local_extra_and_its_lock_are_made_from_the_same_list() -> None:
    extra = project()["project"]["optional-dependencies"]["local"]
    assert sorted(listed(REQUIREMENTS / "local.in")) == sorted(extra)
    assert {name for name, _ in pins("local.lock")} == names_of(extra)


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_and_its_lock_are_made_from_the_same_list(name: str) -> None:
    extra = project()["project"]["optional-dependencies"][name]
    assert sorted(listed(REQUIREMENTS / f"{name}.in")) == sorted(extra)
    assert names_of(extra) <= {found for found, _ in pins(f"{name}.lock")}
    assert pins(f"{name}.lock") <= pins("dev.lock")


def test_the_weights_are_pinned_to_the_version_that_was_tried() -> None:
    assert {f"{name}=={version}" for name, version in pins("weights.lock")} == set(
        listed(REQUIREMENTS / "weights.in")
    )


def test_every_dependency_is_accounted_for_and_nothing_else_is() -> None:
    declared = project()
    wanted = names_of(declared["project"]["dependencies"])
    for extra in declared["project"]["optional-dependencies"].values():
        wanted |= names_of(extra)
    for group in declared["dependency-groups"].values():
        wanted |= names_of(group)
    wanted |= names_of(listed(REQUIREMENTS / "weights.in"))
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    told = {
        name_of(name)
        for row in re.findall(r"^\| (`[^|/]+`) \|", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    assert told == wanted
