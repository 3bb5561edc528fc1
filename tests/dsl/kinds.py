"""Small step kinds to compile documents with: what a kind may do, and nothing of what real ones do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from app.ports.problems import Problem
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.kind import Scope, StepConfig, StepKind, Templated


class Part(StepConfig):
    """A nested object."""

    weight: Annotated[int, Field(strict=True)]


class AskConfig(StepConfig):
    """Keys of `ask`."""

    prompt: Templated[str]
    heat: Templated[Annotated[float, Field(strict=True, ge=0, le=2)]] | None = None
    parts: list[Templated[Part]] = Field(default_factory=list)
    once: bool = False


class AskKind(BaseKind):
    """Two outputs, retried by default, repeatable unless the author says `once`."""

    name: ClassVar[str] = "ask"
    config_model: ClassVar[type[StepConfig]] = AskConfig
    outputs: ClassVar[tuple[str, ...]] = ("text", "model")

    def check(self, config: AskConfig) -> Iterable[Problem]:
        """A prompt must not shout."""
        if config.prompt.isupper():
            yield Problem(pointer="/prompt", detail="do not shout", hint="write in lower case")

    def repeatable(self, config: AskConfig) -> bool:
        """Once is once."""
        return not config.once

    async def execute(self, config: AskConfig, context: StepContext) -> StepOutcome:
        """Repeat the question."""
        return StepOutcome(outputs={"text": config.prompt, "model": context.workflow})


class ComputeConfig(StepConfig):
    """Keys of `compute`."""

    expression: Any = None
    inputs: list[Any] = Field(default_factory=list)


class ComputeKind(BaseKind):
    """An expression, and names of steps for short."""

    name: ClassVar[str] = "compute"
    config_model: ClassVar[type[StepConfig]] = ComputeConfig
    outputs: ClassVar[tuple[str, ...]] = ("result",)
    expressions: ClassVar[frozenset[str]] = frozenset({"expression"})
    retried_by_default: ClassVar[bool] = False

    def normalise(self, config: Mapping[str, Any], scope: Scope) -> Mapping[str, Any]:
        """Bare names are references."""
        names = config.get("inputs", [])
        if not isinstance(names, list):
            return config
        return {**config, "inputs": [f"{{{{ outputs.{name} }}}}" for name in names]}

    async def execute(self, config: ComputeConfig, context: StepContext) -> StepOutcome:
        """The value."""
        return StepOutcome(outputs={"result": [config.expression, context.workflow]})


class TellConfig(StepConfig):
    """Keys of `tell`."""

    message: Templated[str] = ""


class TellKind(BaseKind):
    """No outputs at all."""

    name: ClassVar[str] = "tell"
    config_model: ClassVar[type[StepConfig]] = TellConfig
    outputs: ClassVar[tuple[str, ...]] = ()

    async def execute(self, config: TellConfig, context: StepContext) -> StepOutcome:
        """Nothing."""
        return StepOutcome(outputs={}, model=config.message or context.workflow)


KINDS: Final[Mapping[str, StepKind]] = {"ask": AskKind(), "compute": ComputeKind(), "tell": TellKind()}
