"""What the outputs of a step are called: by its kind, and by position by its author.

`steps.<id>.<name>` takes both. `outputs.<id>` is the first output, and `outputs.<name>` the output that
one step alone gives that name; where a step has the id, the id wins. All of this holds within one block
and for the blocks around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.steps.control import Names

FAILURE: Final = "error"
"""What `steps.<id>` holds of a failed step, besides its outputs: `{class, message}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputNames:
    """The names of one step's outputs."""

    step: str
    own: tuple[str, ...]
    """The kind's, in order."""
    given: tuple[str, ...] = ()
    """The author's; the n-th is another name of the kind's n-th."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The author's names that no other step uses and no step has as its id → the kind's."""
    open: bool = False
    """Whether the members of the first output can be named as well (a child's outputs)."""
    whole: bool = False
    """Whether all outputs together stand for the first one (those of a `parallel`)."""
    inside: Names = field(default_factory=dict)
    """What is known to be in outputs, by the kind's names."""

    @property
    def known(self) -> tuple[str, ...]:
        """Everything that may follow `steps.<id>.`"""
        return (*self.own, *(name for name in self.given if name not in self.own))

    def has(self, name: str) -> bool:
        """Whether `steps.<id>.<name>` can be there."""
        return self.open or name == FAILURE or name in self.known

    def under_steps(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """What `steps.<id>` holds, from a step's outputs by the kind's names."""
        if not self.given and not self.open:
            return dict(outputs)
        named = {
            given: outputs[own] for own, given in zip(self.own, self.given, strict=False) if own in outputs
        }
        first = self.first(outputs) if self.open else None
        return {**(first if isinstance(first, Mapping) else {}), **named, **outputs}

    def under_outputs(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the step adds to `outputs`, from its outputs by the kind's names."""
        if not self.aliases:
            return {self.step: self.first(outputs)}
        named = {alias: outputs[own] for alias, own in self.aliases.items() if own in outputs}
        return {**named, self.step: self.first(outputs)}

    def first(self, outputs: Mapping[str, Any]) -> Any:
        """The first output; None for a kind without any."""
        if self.whole:
            return {name: outputs[name] for name in self.own if name in outputs}
        return outputs.get(self.own[0]) if self.own else None

    def recovered(self, value: Any) -> dict[str, Any]:
        """The outputs of a step whose `on_error` value stands in: it is the first one, the rest is null.

        Where the outputs together are the first one, the value is taken for them.
        """
        if self.whole:
            given = value if isinstance(value, Mapping) else {}
            return {name: given.get(name) for name in self.own}
        return {name: value if position == 0 else None for position, name in enumerate(self.own)}
