"""What the outputs of a step are called: by its kind, and by position by its author.

`steps.<id>.<name>` takes both. `outputs.<id>` is the first output, and `outputs.<name>` the output that
one step alone gives that name; where a step has the id, the id wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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

    @property
    def known(self) -> tuple[str, ...]:
        """Everything that may follow `steps.<id>.`"""
        return (*self.own, *(name for name in self.given if name not in self.own))

    def under_steps(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """What `steps.<id>` holds, from a step's outputs by the kind's names."""
        named = {
            given: outputs[own] for own, given in zip(self.own, self.given, strict=False) if own in outputs
        }
        return {**named, **outputs}

    def under_outputs(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the step adds to `outputs`, from its outputs by the kind's names."""
        named = {alias: outputs[own] for alias, own in self.aliases.items() if own in outputs}
        return {**named, self.step: self.first(outputs)}

    def first(self, outputs: Mapping[str, Any]) -> Any:
        """The first output; None for a kind without any."""
        return outputs.get(self.own[0]) if self.own else None

    def recovered(self, value: Any) -> dict[str, Any]:
        """The outputs of a step whose `on_error` value stands in: it is the first one, the rest is null."""
        return {name: value if position == 0 else None for position, name in enumerate(self.own)}
