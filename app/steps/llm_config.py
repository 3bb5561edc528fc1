"""What an `llm` step says: its keys, and what is wrong with them that their types do not show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.ports.problems import Problem, pointer
from app.steps.fallbacks import MOST_FALLBACKS
from app.steps.fields import FilledText, Flag, Int, Name, Number, TextOr
from app.steps.kind import StepConfig, Templated, is_template
from app.steps.repair import MOST_REPAIRS
from app.steps.structured import schema_problems
from app.steps.templates import holds_template

MaxTokens = Annotated[Int, Field(ge=1, le=10_000_000)]


class ContentPart(StepConfig):
    """One part of a turn, in the provider's own shape."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Name


class MessageConfig(StepConfig):
    """One turn. Further keys (`name`, `tool_calls`, `tool_call_id`) go to the provider."""

    model_config = ConfigDict(extra="allow", frozen=True)

    role: Templated[Literal["system", "user", "assistant", "tool"]]
    """Who speaks."""
    content: Templated[TextOr[list[ContentPart]]] | None = None
    """Text, or parts in the provider's shape (`[{type, …}]`)."""

    @model_validator(mode="after")
    def _says_something(self) -> MessageConfig:
        if self.content in (None, []) and not (self.model_extra or {}).get("tool_calls"):
            raise PydanticCustomError("empty_message", "This message says nothing; give it a 'content'")
        return self


class FallbackConfig(StepConfig):
    """A model that is asked where those before it could not answer."""

    provider: Templated[Name]
    """A configured provider."""
    model: Templated[Name]
    """A model, by the name that the provider knows."""
    max_tokens: Templated[MaxTokens] | None = None
    """Bounds this model's answer. If absent: as the step says."""


class OnInvalidConfig(StepConfig):
    """What is done about an answer that does not fit `response_schema`."""

    repair_attempts: Templated[Annotated[Int, Field(ge=1, le=MOST_REPAIRS)]]
    """How often the model is told what is wrong and asked again, within one attempt."""


class LlmConfig(StepConfig):
    """Keys of an `llm` step."""

    model_config = ConfigDict(extra="allow", frozen=True)

    provider: Templated[Name]
    """A configured provider."""
    model: Templated[Name]
    """A model, by the name that the provider knows."""
    prompt: Templated[FilledText] | None = None
    """What the user says. Exactly one of `prompt` and `messages`."""
    messages: Templated[Annotated[list[Templated[MessageConfig]], Field(min_length=1)]] | None = None
    """A whole conversation: `[{role, content}]`; further keys of a turn go to the provider."""
    system: Templated[FilledText] | None = None
    """Instructions, before the prompt or the messages."""
    temperature: Templated[Annotated[Number, Field(ge=0, le=2)]] | None = None
    """How much chance there is in the answer."""
    top_p: Templated[Annotated[Number, Field(gt=0, le=1)]] | None = None
    """The share of likely words that are chosen from."""
    max_tokens: Templated[MaxTokens] | None = None
    """Bounds the answer."""
    stop: Templated[TextOr[Annotated[list[FilledText], Field(min_length=1, max_length=64)]]] | None = None
    """Texts that end the answer where they come up."""
    seed: Templated[Annotated[Int, Field(ge=-(2**63), lt=2**63)]] | None = None
    """The same seed gives the same answer, as far as the provider can."""
    stream: Templated[Flag] = False
    """Send pieces of the answer to those who follow the run; the outputs are the same."""
    response_schema: Templated[dict[str, Any]] | None = None
    """JSON Schema that the answer must fit; `text` is the parsed value then."""
    on_invalid: Templated[OnInvalidConfig] | None = None
    """Have the model repair an answer that does not fit `response_schema`."""
    fallbacks: (
        Templated[Annotated[list[Templated[FallbackConfig]], Field(max_length=MOST_FALLBACKS)]] | None
    ) = None
    """Models to ask, in order, where those before them cannot answer: `[{provider, model}]`."""
    tools: Templated[list[dict[str, Any]]] | None = None
    """Functions that the model may ask for, in the provider's shape. `tool_calls` tells which; nothing calls
    them."""
    extra: Templated[dict[str, Any]] = Field(default_factory=dict)
    """Further options for the provider. They may stand beside the keys of the step as well."""

    @model_validator(mode="after")
    def _one_question(self) -> LlmConfig:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("one_question", "Give exactly one of 'prompt' and 'messages'")
        return self

    @property
    def further(self) -> dict[str, Any]:
        """What goes to the provider unchanged; a key of the step wins over the same key in `extra`."""
        return {**self.extra, **(self.model_extra or {})}


def problems_of(config: LlmConfig) -> Iterable[Problem]:
    """Keys that do not go together or are hidden in `extra`, and schemas that do not compile."""
    yield from _repair_problems(config)
    yield from _fallback_problems(config)
    if isinstance(config.extra, dict):
        for key in config.extra:
            if key in LlmConfig.model_fields:
                yield Problem(
                    pointer=pointer("extra", key),
                    detail=f"{key!r} is a key of the step and cannot stand in 'extra'",
                    hint=f"write {key!r} beside 'model'",
                )
    schema = config.response_schema
    if isinstance(schema, dict) and not holds_template(schema):
        for found in schema_problems(schema):
            yield replace(found, pointer=pointer("response_schema") + found.pointer)


def _repair_problems(config: LlmConfig) -> Iterable[Problem]:
    if config.on_invalid is None:
        return
    if config.response_schema is None:
        yield Problem(
            pointer=pointer("on_invalid"),
            detail="'on_invalid' is about answers that do not fit 'response_schema', and there is none",
            hint="say in 'response_schema' what the answer must be like, or remove 'on_invalid'",
        )
    if config.stream is True:
        yield Problem(
            pointer=pointer("stream"),
            detail="an answer that is streamed cannot be taken back to be repaired",
            hint="remove 'stream' or 'on_invalid'",
        )


def _fallback_problems(config: LlmConfig) -> Iterable[Problem]:
    listed: Any = config.fallbacks  # or a template that gives them
    fallbacks: Sequence[Any] = listed if isinstance(listed, list) else ()
    seen = {(config.provider, config.model)}
    for place, named in enumerate(fallbacks):
        if not isinstance(named, FallbackConfig) or is_template(named.provider) or is_template(named.model):
            continue
        if (named.provider, named.model) in seen:
            yield Problem(
                pointer=pointer("fallbacks", place),
                detail=f"the model {named.model!r} of {named.provider!r} is asked before already",
                hint="name another one; 'retry' asks the same one again",
            )
        seen.add((named.provider, named.model))
