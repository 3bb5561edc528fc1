"""One render: the names a template sees, and the account of what it may still do.

A scope belongs to one render and is thrown away after it. It stands where Jinja2's own context would,
and has only what generated code asks of that. Work is counted in units of about 0.1 µs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from jinja2.sandbox import safe_range
from jinja2.utils import Namespace, missing

from app.ports.errors import TemplateFailed

CALLABLE_NAMES: Final[Mapping[str, Any]] = {"range": safe_range, "namespace": Namespace}
"""The functions a template may call by name; only ever in a worker."""


_LIGHT: Final = frozenset({int, float, bool, type(None)})


class OverBudget(Exception):
    """A render wants more work than the event loop is given to; a worker may do it."""


class Scope:
    """Names and budget of one render."""

    __slots__ = ("_most", "_names", "_room", "_work", "environment", "eval_ctx", "exported_vars", "vars")

    def __init__(
        self, environment: Any, names: Mapping[str, Any], *, work: int = sys.maxsize, room: int
    ) -> None:
        self.environment = environment
        self.eval_ctx = environment.evaluation
        self.vars: dict[str, Any] = {}
        self.exported_vars: set[str] = set()
        self._names = names
        self._work = work
        self._room = self._most = room

    def resolve_or_missing(self, name: str) -> Any:
        """The value of a root name, or Jinja2's marker for none."""
        value = self._names.get(name, missing)
        return CALLABLE_NAMES.get(name, missing) if value is missing else value

    def spend(self, units: int) -> None:
        """Account for work that is about to be done, or just was. Raises `OverBudget`."""
        self._work -= units
        if self._work < 0:
            raise OverBudget

    def spend_on(self, value: Any) -> None:
        """Account for a walk over the whole of a value."""
        pending = [value]
        while pending:
            holder = pending.pop()
            if isinstance(holder, str):
                self.spend(len(holder) >> 6)
            if not isinstance(holder, (Mapping, list, tuple)):
                continue
            self.spend(len(holder) + 2)
            texts = 0
            for item in holder.values() if isinstance(holder, Mapping) else holder:
                kind = type(item)
                if kind is str:
                    texts += len(item)
                elif kind not in _LIGHT:
                    pending.append(item)
            self.spend(texts >> 6)

    def allow_text(self, chars: int, *, fresh: int | None = None) -> None:
        """Refuse to build a text that could not be written out any more. Raises `TemplateFailed`.

        `fresh` is how much of it was not accounted for before.
        """
        self.spend((chars if fresh is None else fresh) >> 6)
        if chars > self._room:
            raise TemplateFailed(
                f"the template writes more than {self._most} characters; take a part of the data, "
                "with a slice ([:20]) or truncate(...)"
            )

    def write(self, chars: int) -> None:
        """Account for text that goes out. Raises `TemplateFailed`."""
        self.allow_text(chars)
        self._room -= chars
