"""The `llm` kind: one completion of a chat model.

Keys that the step does not know go to the provider unchanged. Repairing an invalid answer and falling
back to another model do not belong here: an attempt is one call, and retries are the scheduler's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.ports.errors import CallError, TemporaryError
from app.ports.models import ChatDelta, ChatModel, ChatRequest, ChatResult, Message
from app.ports.problems import Problem, pointer
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.bounds import CallBound, chat_bound, limits_itself
from app.steps.fields import FilledText, Flag, Int, Name, Number, TextOr
from app.steps.kind import StepConfig, Templated
from app.steps.structured import parse_answer, schema_problem
from app.steps.templates import holds_template
from app.steps.usage import usage_output

NOT_YET: Final = ("fallbacks", "on_invalid")


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
    max_tokens: Templated[Annotated[Int, Field(ge=1, le=10_000_000)]] | None = None
    """Bounds the answer."""
    stop: Templated[TextOr[Annotated[list[FilledText], Field(min_length=1, max_length=64)]]] | None = None
    """Texts that end the answer where they come up."""
    seed: Templated[Annotated[Int, Field(ge=-(2**63), lt=2**63)]] | None = None
    """The same seed gives the same answer, as far as the provider can."""
    stream: Templated[Flag] = False
    """Send pieces of the answer to those who follow the run; the outputs are the same."""
    response_schema: Templated[dict[str, Any]] | None = None
    """JSON Schema that the answer must fit; `text` is the parsed value then."""
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


class LlmKind(BaseKind):
    """Asks a chat model.

    Outputs: `text` (text, or with `response_schema` the value that the answer holds), `model` (that
    answered), `usage` (`{input_tokens, output_tokens, cached_tokens, reasoning_tokens}`),
    `finish_reason`, and `tool_calls` (a list, empty when the model called none). An answer that consists
    of tool calls only is not held against the schema.

    Raises what the provider raises, and `TemporaryError("invalid_output")` for an answer that is no JSON
    or breaks `response_schema`; one Markdown code fence around the JSON is taken off first.
    """

    name: ClassVar[str] = "llm"
    config_model: ClassVar[type[StepConfig]] = LlmConfig
    outputs: ClassVar[tuple[str, ...]] = ("text", "model", "usage", "finish_reason", "tool_calls")

    def check(self, config: LlmConfig) -> Iterable[Problem]:
        """Keys of later versions, keys hidden in `extra`, and schemas that do not compile."""
        for key in NOT_YET:
            if key in (config.model_extra or {}):
                yield Problem(
                    pointer=pointer(key),
                    detail=f"{key!r} is not supported by this version",
                    hint=f"remove {key!r}; 'retry' repeats a failed step",
                )
        if isinstance(config.extra, dict):
            for key in config.extra:
                if key in LlmConfig.model_fields:
                    yield Problem(
                        pointer=pointer("extra", key),
                        detail=f"{key!r} is a key of the step and cannot stand in 'extra'",
                        hint=f"write {key!r} beside 'model'",
                    )
        schema = config.response_schema
        if isinstance(schema, dict) and not holds_template(schema) and (reason := schema_problem(schema)):
            yield Problem(
                pointer=pointer("response_schema"),
                detail=f"this is no usable JSON Schema: {reason}",
                hint="references must stay inside the schema, patterns do without look-around",
            )

    async def execute(self, config: LlmConfig, context: StepContext) -> StepOutcome:
        """Make one call; with `stream` every delta goes to the live listeners."""
        model = context.services.chat(config.provider)
        request = _request(config, context.max_tokens)
        if config.stream:
            result = await _streamed(model, request, context)
        else:
            result = await model.complete(request, context.call)
        try:
            return _outcome(config, result, _answer(config, result))
        except CallError as error:
            error.billed = _outcome(config, result, None)
            raise

    def bound(self, config: LlmConfig, *, max_tokens: int | None) -> Sequence[CallBound]:
        """One call."""
        return (chat_bound(config.provider, _request(config, max_tokens)),)


def _answer(config: LlmConfig, result: ChatResult) -> Any:
    if config.response_schema is None or (result.tool_calls and not result.text):
        return result.text
    return parse_answer(result.text, config.response_schema, cut_off=result.finish_reason == "length")


def _outcome(config: LlmConfig, result: ChatResult, answer: Any) -> StepOutcome:
    return StepOutcome(
        outputs={
            "text": answer,
            "model": result.model,
            "usage": usage_output(result.usage),
            "finish_reason": result.finish_reason,
            "tool_calls": [dict(call) for call in result.tool_calls],
        },
        usage=result.usage,
        provider=config.provider,
        model=result.model,
        asked_model=config.model,
    )


def _request(config: LlmConfig, max_tokens: int | None) -> ChatRequest:
    if config.max_tokens is not None or limits_itself(config.further):
        max_tokens = config.max_tokens
    return ChatRequest(
        model=config.model,
        messages=_messages(config),
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=max_tokens,
        stop=[config.stop] if isinstance(config.stop, str) else config.stop,
        seed=config.seed,
        response_schema=config.response_schema,
        tools=config.tools,
        extra=config.further,
    )


def _messages(config: LlmConfig) -> Sequence[Message]:
    messages = [] if config.system is None else [Message(role="system", content=config.system)]
    if config.prompt is not None:
        return [*messages, Message(role="user", content=config.prompt)]
    for turn in config.messages or ():
        content = turn.content or ""
        parts = content if isinstance(content, str) else [part.model_dump() for part in content]
        messages.append(Message(role=turn.role, content=parts, extra=turn.model_extra or {}))
    return messages


async def _streamed(model: ChatModel, request: ChatRequest, context: StepContext) -> ChatResult:
    result: ChatResult | None = None
    async for item in model.stream(request, context.call):
        match item:
            case ChatDelta(text=text):
                context.emit(text)
            case ChatResult():
                result = item
    if result is None:
        raise TemporaryError("connection", "the provider's stream ended before the answer was complete")
    return result
