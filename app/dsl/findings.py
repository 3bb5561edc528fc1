"""Everything that is wrong with one document, gathered until all of it has been looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from app.dsl.loader import LoadedDocument
from app.dsl.spelling import Speller
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem

MOST_PROBLEMS: Final = 500
MOST_COMPARISONS: Final = 50_000
"""Names compared for the hints of one document."""


class Findings:
    """Problems of one document, each with its place in the text."""

    __slots__ = ("_document", "_problems", "spelling")

    def __init__(self, document: LoadedDocument) -> None:
        self._document = document
        self._problems: list[Problem] = []
        self.spelling = Speller(MOST_COMPARISONS)

    def add(self, pointer: str, detail: str, hint: str | None = None) -> None:
        """One thing to mend."""
        self._problems.append(Problem(pointer=pointer, detail=detail, hint=hint))

    def extend(self, problems: Iterable[Problem], *, under: str) -> None:
        """Problems whose pointers are relative to `under`."""
        self._problems.extend(replace(problem, pointer=under + problem.pointer) for problem in problems)

    def raise_if_any(self) -> None:
        """Raise `DefinitionInvalid` with every problem, in document order."""
        if not self._problems:
            return
        located = [self._located(problem) for problem in dict.fromkeys(self._problems)]
        located.sort(key=lambda problem: (problem.line or 0, problem.column or 0))
        if len(located) > MOST_PROBLEMS:
            rest = len(located) - MOST_PROBLEMS
            located[MOST_PROBLEMS:] = [Problem(pointer="", detail=f"there are {rest} more problems")]
        raise DefinitionInvalid(located)

    def _located(self, problem: Problem) -> Problem:
        place = self._document.locate(problem.pointer)
        return replace(problem, line=place[0], column=place[1]) if place else problem
