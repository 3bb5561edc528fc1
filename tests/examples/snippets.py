"""Fenced blocks of the documentation, each with its language, its place and what is to be done with it.

A comment right above a fence says what is special about it:

    <!-- snippet: service -->              starts the service that the shell blocks of all documents talk to
    <!-- snippet: output -->               what the blocks before it print, `…` standing for anything
    <!-- snippet: environment -->          variables that hold as settings, one a line
    <!-- snippet: invalid: REASON -->      is refused, with REASON in one of its problems
    <!-- snippet: not run here: REASON --> is not executed by the tests
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"sh", "yaml", "json", "python", "text", "mermaid"}
MARKS = {"", "service", "output", "environment", "invalid", "not run here"}

_BLOCK = re.compile(
    r"(?:^<!-- snippet: (?P<mark>[a-z ]+?)(?:: (?P<note>[^\n]+?))? -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """One block. `mark` and `note` come from the comment above it."""

    document: str
    line: int
    language: str
    text: str
    mark: str
    note: str

    @property
    def place(self) -> str:
        """For messages and test ids."""
        return f"{self.document}:{self.line}"


def snippets_of(document: Path) -> Iterator[Snippet]:
    """The blocks of a document in order."""
    content = document.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(content):
        yield Snippet(
            document=document.relative_to(ROOT).as_posix(),
            line=content.count("\n", 0, match.start("language")) + 1,
            language=match["language"],
            text=match["text"],
            mark=match["mark"] or "",
            note=match["note"] or "",
        )


def all_snippets() -> list[Snippet]:
    """The blocks of every document."""
    return [snippet for document in DOCUMENTS for snippet in snippets_of(document)]


def shows(printed: str, expected: str) -> bool:
    """Whether `expected` is in `printed`, white space aside, `…` standing for anything."""
    parts = ["".join(part.split()) for part in expected.split("…")]
    pattern = ".*?".join(re.escape(part) for part in parts)
    return re.search(pattern, "".join(printed.split()), re.DOTALL) is not None
