"""The value of a name that is not there.

It is false, iterates as empty, equals null, and can be reached into; writing it out, calculating with it
or giving it to a field fails with a message that names the whole path and what to do. It never holds
data: only names appear in its message.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from jinja2.exceptions import UndefinedError
from jinja2.runtime import Undefined
from jinja2.utils import missing

Key = str | int


def spell(label: str, keys: tuple[Key, ...]) -> str:
    """A path as its author would write it: `steps.search.hits[0]`, `inputs['a b']`."""
    parts = [label]
    for key in keys:
        if isinstance(key, str) and key.isidentifier():
            parts.append(f".{key}")
        else:
            parts.append(f"[{key!r}]")
    return "".join(parts)


class Missing(Undefined):
    """What the sandbox yields where a look-up finds nothing."""

    __slots__ = ("_failed_at", "_holder", "_keys", "_label")

    def __init__(
        self,
        hint: str | None = None,
        obj: Any = missing,
        name: str | None = None,
        exc: type[Exception] = UndefinedError,
    ) -> None:
        super().__init__(hint, obj, name, UndefinedError)
        self._label: str = name or "the value"
        self._keys: tuple[Key, ...] = ()
        self._failed_at = -1
        self._holder: Any = None

    @classmethod
    def at(cls, label: str, keys: tuple[Key, ...], failed_at: int, holder: Any) -> Missing:
        """`keys` were followed from `label`; `keys[failed_at]` was not in `holder`."""
        found = cls(name=label)
        found._keys = keys
        found._failed_at = failed_at
        found._holder = holder
        return found

    def extend(self, keys: tuple[Key, ...]) -> Missing:
        """The same lack, reached through a longer path."""
        if self._undefined_hint:
            return self
        return Missing.at(self._label, self._keys + keys, self._failed_at, self._holder)

    def explain(self) -> str:
        """What is missing, why as far as names tell, and what to do."""
        if self._undefined_hint:
            return f"{self._undefined_hint}; use the filter default(...) to go on without it"
        path = spell(self._label, self._keys)
        return (
            f"{path} is not there: {self._cause()}; to go on without it use {{{{ {path} | default(...) }}}}"
        )

    def _cause(self) -> str:
        if self._failed_at < 0:
            return f"nothing is called {self._label!r} at this place"
        key = self._keys[self._failed_at]
        if self._label in {"steps", "outputs"} and self._failed_at == 0:
            return f"the step {key!r} was skipped or has not run"
        owner = spell(self._label, self._keys[: self._failed_at])
        cause = f"{owner} has no {key!r}"
        if self._label in {"steps", "outputs"} and self._failed_at == 1:
            cause = f"the step {self._keys[0]!r} gave no {key!r}"
        return cause + self._suggestion(key)

    def _suggestion(self, key: Key) -> str:
        if not isinstance(self._holder, Mapping) or not isinstance(key, str):
            return ""
        near = get_close_matches(key, [name for name in self._holder if isinstance(name, str)], n=1)
        return f" (did you mean {near[0]!r}?)" if near else ""

    @property
    def _undefined_message(self) -> str:
        return self.explain()

    def __str__(self) -> str:
        raise UndefinedError(self.explain())

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Missing)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(None)
