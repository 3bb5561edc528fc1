"""The bytes of OpenAI's chat completions: requests out, answers in. No I/O.

Follows OpenAI's OpenAPI document (API version 2.3), in the dialect of the server. Reading is lenient,
because many servers speak this format nearly right: unknown keys are ignored, missing counts are None.
What cannot be understood at all raises `Malformed`. What the model thought is no part of its answer's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.ports.models import ChatRequest, ChatResult, FinishReason, Message, Usage
from app.providers.json_format import Malformed, count, dump, json_text, objects, text
from app.providers.openai.dialect import Dialect
from app.providers.openai.schema import held_to

FINISH_REASONS: Final[Mapping[object, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
"""Those of OpenAI's document, and what other servers say for them."""
BROKEN_OFF: Final = frozenset({"abort", "error"})
"""Finish reasons of answers that are not whole, in the words of servers that give such."""
RESERVED: Final = frozenset({"model", "messages", "stream", "stream_options"})
"""Keys of a request that options of the author's cannot replace."""


def chat_body(request: ChatRequest, dialect: Dialect, *, stream: bool) -> bytes:
    """The body of `POST /chat/completions`. Raises `ValueError` for what JSON or the server cannot carry."""
    if request.extra:
        _check_options(request.extra, dialect)
    messages: Sequence[Message] = request.messages
    response_format = None
    if request.response_schema is not None:
        messages, response_format = held_to(request.response_schema, messages, dialect.structured_outputs)
    body: dict[str, Any] = {
        "model": dialect.names.get(request.model, request.model),
        "messages": list(map(dialect.turn, messages)),
    }
    options = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        dialect.limit_key(request.model): request.max_tokens,
        "stop": request.stop,
        dialect.seed_key: request.seed,
        "response_format": response_format,
        "tools": request.tools,
    }
    body |= {key: value for key, value in options.items() if value is not None}
    if request.extra:
        body |= _options(request.extra, dialect)
    if stream:
        body["stream"] = True
        if dialect.asks_for_usage:
            body["stream_options"] = {"include_usage": True}
    return dump(body)


def read_completion(answer: Mapping[str, Any], *, model: str) -> ChatResult:
    """A whole completion; `model` stands in where the server names none."""
    choice = first_choice(answer)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        # What is filtered out whole need not have a message.
        if choice is None or choice.get("finish_reason") != "content_filter":
            raise Malformed("it has no choice with a message")
        message = {}
    refusal = message.get("refusal")
    calls = message.get("tool_calls")
    return ChatResult(
        text=content_text(message.get("content")) or content_text(refusal),
        model=model_name(answer, model),
        finish_reason="content_filter" if refusal else read_finish_reason(choice.get("finish_reason")),
        usage=read_usage(answer.get("usage")),
        tool_calls=list(map(read_tool_call, objects(calls))) if calls else _old_call(message),
    )


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first choice of a completion."""
    return next(iter(objects(answer.get("choices"))), None)


def read_finish_reason(reason: object) -> FinishReason:
    """Why the model stopped, in our words. Raises `Malformed` where it did not come to its end."""
    known = FINISH_REASONS.get(reason) if isinstance(reason, str) else None
    if known is not None:
        return known
    if isinstance(reason, str) and reason in BROKEN_OFF:
        raise Malformed(f"the server broke it off (finish reason {reason!r})")
    return "unknown"


def read_tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call as documents get it: with an id and a type, and with arguments as JSON text."""
    function = call.get("function")
    read = {"id": "", "type": "function", **{key: value for key, value in call.items() if key != "index"}}
    read["id"], read["type"] = text(call, "id"), text(call, "type") or "function"
    if isinstance(function, dict):
        read["function"] = {
            "name": text(function, "name"),
            "arguments": arguments_text(function.get("arguments")),
        }
    return read


def arguments_text(value: object) -> str:
    """Arguments as the JSON text that most servers send; a few send the object itself."""
    return value if isinstance(value, str) else json_text(value)


def model_name(answer: Mapping[str, Any], otherwise: str) -> str:
    """The model that answered."""
    name = answer.get("model")
    return name if isinstance(name, str) and name else otherwise


def content_text(content: object) -> str:
    """The text of a turn, which some servers cut into parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return ""


def read_usage(usage: object) -> Usage:
    """Token counts; None for each that is missing or no count."""
    if not isinstance(usage, dict):
        return Usage()
    return Usage(
        input_tokens=count(usage, "prompt_tokens"),
        output_tokens=count(usage, "completion_tokens"),
        cached_tokens=count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _old_call(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The one call that there could be before there were tools; some servers still know nothing else."""
    call = message.get("function_call")
    return [read_tool_call({"function": call})] if isinstance(call, dict) else []


def _check_options(extra: Mapping[str, Any], dialect: Dialect) -> None:
    clash = sorted(RESERVED.intersection(extra))
    if clash:
        raise ValueError(f"remove {clash[0]!r} from the extra options: the service sets it")
    for option in extra:
        if (advice := dialect.refused.get(option)) is not None:
            raise ValueError(f"{option!r} is no option of {dialect.vendor}: {advice}")


def _options(extra: Mapping[str, Any], dialect: Dialect) -> Mapping[str, Any]:
    choice = extra.get("tool_choice")
    if isinstance(choice, str) and choice in dialect.tool_choices:
        return {**extra, "tool_choice": dialect.tool_choices[choice]}
    return extra
