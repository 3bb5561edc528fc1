"""What no file may name (registries, a developer's machine), and what documents may not invent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, files, source

TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".lock",
    ".in",
    ".txt",
    ".cfg",
    ".ini",
    ".json",
    ".html",
    ".js",
    ".css",
    "",
}
REGISTRIES = re.compile(
    r"(?:\bpypi\.(?:org|python)|pythonhosted\.|registry\.npmjs\.|registry\.yarnpkg\.|\bghcr\.io|\bquay\.io"
    r"|\bdocker\.io|index\.docker|crates\.io|proxy\.golang\.|conda\.anaconda|huggingface\.co|hf\.co)"
    r"|--(?:extra-)?index-url|--find-links|--trusted-host",
    re.IGNORECASE,
)
MACHINE = re.compile(
    r"(?<![\w.~$}/-])/(?:work|root|home|Users)/[\w.-]+|file:///(?:work|root|home|Users|opt)/"
)
NAMES_REGISTRIES = {Path("tests/architecture/test_files.py")}
"""This file, which has to name what it forbids."""

PATH = re.compile(r"(?:app|tests|docs|deploy|examples|requirements|\.ci)/[\w./-]*[\w/]")
FILE_NAME = re.compile(
    r"[\w-]+\.(?:py|md|lock)|Makefile|Dockerfile|LICENSE|docker-compose\.yml|pyproject\.toml"
)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def text_files() -> list[Path]:
    return [path for path in files() if path.suffix in TEXT and path not in NAMES_REGISTRIES]


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


@pytest.mark.parametrize(
    "text",
    [
        "https://files." + "python" + "hosted.org/x",
        "--index-url http://mirror/simple",
        "image: ghcr" + ".io/x/y",
    ],
)
def test_a_registry_is_recognised(text: str) -> None:
    assert REGISTRIES.search(text)


@pytest.mark.parametrize("text", ["see /home/ann/project", "path = '/" + "root" + "/x'", "file:///opt/x"])
def test_a_machines_path_is_recognised(text: str) -> None:
    assert MACHINE.search(text)


def test_no_file_names_a_package_registry_or_an_index() -> None:
    named = [f"{path}: {match[0]}" for path in text_files() for match in REGISTRIES.finditer(source(path))]
    assert named == []


def test_no_file_holds_a_path_of_a_developers_machine() -> None:
    named = [f"{path}: {match[0]}" for path in text_files() for match in MACHINE.finditer(source(path))]
    assert named == []


def test_documents_link_to_files_that_exist() -> None:
    broken = [
        f"{document}: {target}"
        for document in documents()
        for target in LINK.findall(source(document))
        if not (ROOT / document.parent / target).exists()
    ]
    assert broken == []


def test_documents_name_files_that_exist() -> None:
    names = {path.name for path in files()}
    missing = [
        f"{document}: {token}"
        for document in documents()
        for token in re.findall(r"`([^`\s]+)`", source(document))
        if (PATH.fullmatch(token) and not (ROOT / token).exists())
        or (FILE_NAME.fullmatch(token) and token not in names)
    ]
    assert missing == []
