"""Names that a document writes out and the operator's configuration does not have.

They are no problems: a workflow may be registered before its provider is configured, and on an instance that
never runs it. So they are warnings, for whoever misspelt one. A name that a template yields is not known
before the run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from app.dsl.loader import Format, load_document
from app.dsl.spelling import Speller
from app.ports.problems import Problem, pointer
from app.steps.kind import is_template
from app.steps.registry import STEP_KINDS

MOST_WARNINGS: Final = 100
MOST_COMPARISONS: Final = 5_000
_BLOCKS: Final = ("steps", "on_failure", "finally")
_WORDS: Final = {"provider": "provider", "database": "vector database"}
"""Keys whose values name something of the configuration, and what that is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What there is, by name."""

    providers: frozenset[str]
    databases: frozenset[str]
    keyless: frozenset[str] = frozenset()
    """Those among the providers that need a key and have none."""

    def missing(
        self,
        document: Mapping[str, Any],
        source: bytes,
        *,
        format: Format = "auto",
        further: Sequence[Problem] = (),
    ) -> tuple[Problem, ...]:
        """A warning for each name in a valid document that is not configured, and further ones, each with its
        place in `source`."""
        found = [*self.unknown_names(document), *further]
        if not found:
            return ()
        text = load_document(source, format=format)
        places = [text.locate(problem.pointer) or (None, None) for problem in found]
        return tuple(
            replace(problem, line=line, column=column)
            for problem, (line, column) in zip(found, places, strict=True)
        )

    def unknown_names(self, document: Mapping[str, Any]) -> list[Problem]:
        """The same warnings, without places in a text."""
        known = {"provider": sorted(self.providers), "database": sorted(self.databases)}
        spelling = Speller(MOST_COMPARISONS)
        found: list[Problem] = []
        for place, key, name in _names(document):
            if name not in known[key] and len(found) < MOST_WARNINGS:
                hint = spelling.hint(name, known[key]) or f"configure it, or name another {_WORDS[key]}"
                detail = f"{_WORDS[key]} {name!r} is not configured"
                found.append(Problem(pointer=place, detail=detail, hint=hint))
        return found

    def without_keys(self, document: Mapping[str, Any], used: Collection[str]) -> list[Problem]:
        """A warning for each provider that is used and has no key, where the document names it first; for one
        that a template yields, at the whole of it."""
        named = [(name, place) for place, key, name in _names(document) if key == "provider"]
        places = dict(reversed(named))
        return [
            Problem(
                pointer=places.get(name, ""),
                detail=f"provider {name!r} has no API key",
                hint="ask the operator to configure one",
            )
            for name in sorted(self.keyless.intersection(used))
        ]


def _names(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Place, key and name of all that the steps of a document call."""
    for block in _BLOCKS:
        yield from _named(document.get(block), f"/{block}")


def _named(value: Any, at: str) -> Iterator[tuple[str, str, str]]:
    """Place, key and name of what steps call, however deeply they are nested."""
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from _named(item, f"{at}/{position}")
    if not isinstance(value, Mapping):
        return
    kind = STEP_KINDS.get(value["type"]) if isinstance(value.get("type"), str) else None
    for key in _WORDS.keys() & (kind.config_model.model_fields if kind else {}):
        yield from _literal(value, key, at)
        fallbacks = value.get("fallbacks")
        for position, item in enumerate(fallbacks if isinstance(fallbacks, list) else ()):
            yield from _literal(item, key, f"{at}/fallbacks/{position}")
    for name, item in value.items():
        yield from _named(item, at + pointer(name))


def _literal(value: Any, key: str, at: str) -> Iterator[tuple[str, str, str]]:
    name = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(name, str) and not is_template(name):
        yield f"{at}/{key}", key, name
