"""The `llm` kind: a question to a chat model.

Keys that the step does not know go to the provider unchanged. An attempt is one call, unless the author has
it ask other models (`fallbacks`) or repair what does not fit (`on_invalid`); retries are the scheduler's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from app.ports.errors import CallError, PermanentError
from app.ports.models import CallContext, ChatRequest, ChatResult, Message, Usage
from app.ports.problems import Problem
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.bounds import CallBound, chat_bound, limits_itself
from app.steps.fallbacks import Candidate, Found, first_answer
from app.steps.kind import StepConfig
from app.steps.llm_config import LlmConfig, problems_of
from app.steps.model_calls import ModelCalls, answer
from app.steps.repair import Fit, fitting, repair_bounds
from app.steps.structured import parse_answer
from app.steps.usage import total, usage_output


class LlmKind(BaseKind):
    """Asks a chat model.

    Outputs: `text` (text, or with `response_schema` the value that the answer holds), `model` (that
    answered), `usage` (`{input_tokens, output_tokens, cached_tokens, reasoning_tokens}` of all calls),
    `finish_reason`, `tool_calls` (a list, empty when the model called none), `repairs` (how many it took),
    and `tried` (`[{provider, model, error_class, detail}]`: who was asked before and did not answer). An
    answer that consists of tool calls only is not held against the schema.

    Raises what the provider raises, and `TemporaryError("invalid_output")` for an answer that is no JSON
    or breaks `response_schema`; one Markdown code fence around the JSON is taken off first.
    """

    name: ClassVar[str] = "llm"
    config_model: ClassVar[type[StepConfig]] = LlmConfig
    outputs: ClassVar[tuple[str, ...]] = (
        "text",
        "model",
        "usage",
        "finish_reason",
        "tool_calls",
        "repairs",
        "tried",
    )
    only_reads: ClassVar[bool] = True

    def check(self, config: LlmConfig) -> Iterable[Problem]:
        """Keys that do not go together or are hidden in `extra`, and schemas that do not compile."""
        return problems_of(config)

    async def execute(self, config: LlmConfig, context: StepContext) -> StepOutcome:
        """Ask for an answer; with `stream` every delta goes to the live listeners."""
        if config.fallbacks or config.on_invalid is not None:
            return await _ask_on(config, context)
        model = context.services.chat(config.provider)
        request = _request(config, config.model, config.max_tokens, context.max_tokens)
        result = await answer(model, request, context.call, context.emit if config.stream else None)
        try:
            outputs = _outputs(result, _value(config, result), result.usage)
        except CallError as error:
            error.billed = _outcome(config, result, {})
            raise
        return _outcome(config, result, outputs)

    def bound(self, config: LlmConfig, *, max_tokens: int | None) -> Sequence[CallBound]:
        """Every call that an attempt may make, in the order of the models and their repairs."""
        bounds: list[CallBound] = []
        for candidate in _candidates(config, max_tokens):
            first = chat_bound(candidate.provider, candidate.request)
            if bounds:
                first = replace(first, input_estimate=0)
            bounds += repair_bounds(first, _repairs(config))
        return bounds


# --- one call -----------------------------------------------------------------------------------------


def _value(config: LlmConfig, result: ChatResult) -> Any:
    if config.response_schema is None or (result.tool_calls and not result.text):
        return result.text
    return parse_answer(result.text, config.response_schema, cut_off=result.finish_reason == "length")


def _outputs(
    result: ChatResult,
    value: Any,
    usage: Usage,
    *,
    repairs: int = 0,
    tried: Sequence[Mapping[str, str]] = (),
) -> Mapping[str, Any]:
    return {
        "text": value,
        "model": result.model,
        "usage": usage_output(usage),
        "finish_reason": result.finish_reason,
        "tool_calls": [dict(call) for call in result.tool_calls],
        "repairs": repairs,
        "tried": list(tried),
    }


def _outcome(config: LlmConfig, result: ChatResult, outputs: Mapping[str, Any]) -> StepOutcome:
    return StepOutcome(
        outputs=outputs,
        usage=result.usage,
        provider=config.provider,
        model=result.model,
        asked_model=config.model,
    )


def _request(config: LlmConfig, model: str, limit: int | None, default_limit: int | None) -> ChatRequest:
    if limit is None and not limits_itself(config.further):
        limit = default_limit
    return ChatRequest(
        model=model,
        messages=_messages(config),
        temperature=config.temperature,
        top_p=config.top_p,
        max_tokens=limit,
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


# --- several calls ------------------------------------------------------------------------------------


async def _ask_on(config: LlmConfig, context: StepContext) -> StepOutcome:
    """Ask one model after another, and each to repair its answer, as the author says."""
    calls = ModelCalls(context, stream=config.stream)

    def streamed() -> bool:
        return calls.streamed

    async def ask(candidate: Candidate, call: CallContext) -> Fit:
        async def make(request: ChatRequest, own: CallContext) -> ChatResult:
            result = await calls.make(candidate.provider, request, own)
            if config.fallbacks and _is_filtered(result):
                raise PermanentError("content_filter", "the provider filtered all of its answer")
            return result

        return await fitting(
            candidate.request,
            call,
            repairs=_repairs(config),
            make=make,
            read=lambda result: _value(config, result),
            streamed=streamed,
        )

    candidates = _candidates(config, context.max_tokens)
    try:
        found = await first_answer(candidates, context.call, ask, streamed=streamed)
    except CallError as error:
        error.billed = StepOutcome(outputs={}, provider=config.provider, calls=tuple(calls.made))
        raise
    return _found(found, calls)


def _found(found: Found[Fit], calls: ModelCalls) -> StepOutcome:
    fit, result = found.answer, found.answer.result
    usage = total([call.usage for call in calls.made if call.usage is not None])
    tried = [miss.as_output() for miss in found.misses]
    return StepOutcome(
        outputs=_outputs(result, fit.value, usage, repairs=fit.repairs, tried=tried),
        usage=usage,
        provider=found.candidate.provider,
        model=result.model,
        asked_model=found.candidate.request.model,
        calls=tuple(calls.made) if len(calls.made) > 1 else (),
    )


def _is_filtered(result: ChatResult) -> bool:
    return result.finish_reason == "content_filter" and not result.text.strip() and not result.tool_calls


def _repairs(config: LlmConfig) -> int:
    if config.on_invalid is None or config.response_schema is None:
        return 0
    return config.on_invalid.repair_attempts


def _candidates(config: LlmConfig, default_limit: int | None) -> Sequence[Candidate]:
    """The step's model and its fallbacks, each model once: asked the same it would say the same."""
    first = Candidate(
        provider=config.provider, request=_request(config, config.model, config.max_tokens, default_limit)
    )
    known = {(config.provider, config.model): first}
    for number, named in enumerate(config.fallbacks or (), start=1):
        limit = named.max_tokens or config.max_tokens
        request = _request(config, named.model, limit, default_limit)
        further = Candidate(provider=named.provider, request=request, key=f":fallback{number}")
        known.setdefault((named.provider, named.model), further)
    return tuple(known.values())
