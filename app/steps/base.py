"""What a step kind does when it has nothing special to do.

Kinds inherit it for brevity; `app.steps.kind.StepKind` is the contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from app.ports.problems import Problem
from app.steps.bounds import CallBound
from app.steps.kind import Scope


class BaseKind:
    """A kind without short forms, without further checks, and harmless to repeat but not to forget."""

    expressions: ClassVar[frozenset[str]] = frozenset()
    retried_by_default: ClassVar[bool] = True
    only_reads: ClassVar[bool] = False

    def normalise(self, config: Mapping[str, Any], scope: Scope) -> Mapping[str, Any]:
        """Nothing to rewrite."""
        return config

    def check(self, config: Any) -> Iterable[Problem]:
        """Nothing that the model does not see."""
        return ()

    def repeatable(self, config: Any) -> bool:
        """Running it twice is harmless."""
        return True

    def bound(self, config: Any, *, max_tokens: int | None) -> Sequence[CallBound]:
        """It calls no model."""
        return ()
