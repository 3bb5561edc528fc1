"""The names a template may use, and what to tell an author who used another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.templating.advice import nearest
from app.templating.findings import Finding

ROOTS: Final = frozenset({"inputs", "steps", "outputs", "run", "item", "index", "loop"})
RESERVED: Final = frozenset({"inputs", "input", "steps", "outputs", "run", "secrets"})
"""Roots that a template cannot give to a variable of its own: references must stay what they look like."""
_PYTHON_OR_JAVASCRIPT = {"undefined": "null", "nil": "null", "NULL": "null", "TRUE": "true", "FALSE": "false"}


@dataclass(frozen=True, slots=True)
class Reference:
    """What a template reads: `steps.embed.vector` is `Reference("steps", ("embed", "vector"))`.

    `parts` ends before the first index or computed name. The root `input` is given as `inputs`.
    """

    root: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """The root names that are allowed at one place of a document."""

    extra: frozenset[str] = frozenset()
    """What a `map` calls its item, for example."""
    secrets: bool = False

    def allows(self, name: str) -> bool:
        """Whether a template may begin a path with this name."""
        return name in ROOTS or name in self.extra or (self.secrets and name == "secrets")

    def refuse(self, name: str, line: int | None) -> Finding:
        """What to tell about a name that is not allowed."""
        if name == "secrets":
            return Finding(
                "'secrets' cannot be used here", "only fields that are sent as credentials take secrets", line
            )
        detail = f"unknown name {name!r}"
        if name == "this":
            return Finding(detail, "within {% for item in … %} the item is {{ item }}", line)
        if name == "else":
            return Finding(detail, "write {% else %}", line)
        if name in _PYTHON_OR_JAVASCRIPT:
            return Finding(detail, f"write {_PYTHON_OR_JAVASCRIPT[name]}", line)
        hint = "a path begins with inputs, steps, outputs or run: {{ inputs.name }}, {{ steps.id.output }}"
        return Finding(detail, nearest(name, ROOTS | self.extra) or hint, line)
