"""The bytes of OpenAI's chat completions and embeddings: requests out, answers in. No I/O.

Follows OpenAI's OpenAPI document (API version 2.3). Reading is lenient, because many servers speak this
format nearly right: unknown keys are ignored, missing counts are None. What cannot be understood at all
raises `Malformed`.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Mapping
from typing import Any, Final, Literal

from app.ports.models import ChatRequest, ChatResult, EmbedRequest, EmbedResult, FinishReason, Message, Usage
from app.providers.json_format import Malformed, VendorError, count, dump, objects

FINISH_REASONS: Final[Mapping[object, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
RESERVED: Final = frozenset({"model", "messages", "stream", "stream_options"})
"""Keys of a request that options of the author's cannot replace."""
STRICT_KEYWORDS: Final = frozenset(
    {"$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "items"}
    | {"properties", "required", "title", "type"}
)
"""JSON Schema keywords that the strict mode is sure to take."""


def chat_body(
    request: ChatRequest, *, stream: bool, limit_key: Literal["max_tokens", "max_completion_tokens"]
) -> bytes:
    """The body of `POST /chat/completions`. Raises `ValueError` for what JSON cannot carry."""
    clash = sorted(RESERVED.intersection(request.extra))
    if clash:
        raise ValueError(f"remove {clash[0]!r} from the extra options: the service sets it")
    body: dict[str, Any] = {"model": request.model, "messages": [_turn(turn) for turn in request.messages]}
    options = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        limit_key: request.max_tokens,
        "stop": request.stop,
        "seed": request.seed,
        "response_format": _response_format(request.response_schema),
        "tools": request.tools,
    }
    body.update((key, value) for key, value in options.items() if value is not None)
    body.update(request.extra)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return dump(body)


def embed_body(request: EmbedRequest, encoding: Literal["base64", "float"]) -> bytes:
    """The body of `POST /embeddings`. Raises `ValueError` for what JSON cannot carry."""
    body: dict[str, Any] = {
        "model": request.model,
        "input": list(request.texts),
        "encoding_format": encoding,
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.input_type is not None:
        body["input_type"] = request.input_type
    return dump(body)


def read_completion(answer: Mapping[str, Any], *, model: str) -> ChatResult:
    """A whole completion; `model` stands in where the server names none."""
    choice = first_choice(answer)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        raise Malformed("it has no choice with a message")
    refusal = message.get("refusal")
    return ChatResult(
        text=content_text(message.get("content")) or content_text(refusal),
        model=model_name(answer, model),
        finish_reason="content_filter" if refusal else read_finish_reason(choice.get("finish_reason")),
        usage=read_usage(answer.get("usage")),
        tool_calls=objects(message.get("tool_calls")),
    )


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The first choice of a completion or of a piece of one."""
    return next(iter(objects(answer.get("choices"))), None)


def read_finish_reason(reason: object) -> FinishReason:
    """Why the model stopped, in our words."""
    return FINISH_REASONS.get(reason, "unknown") if isinstance(reason, str) else "unknown"


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


def read_embeddings(answer: Mapping[str, Any], request: EmbedRequest) -> EmbedResult:
    """Vectors in the order of the texts, whatever order they came in."""
    data = objects(answer.get("data"))
    if len(data) != len(request.texts):
        raise Malformed(f"it has {len(data)} embeddings for {len(request.texts)} texts")
    by_index = {str(item.get("index", place)): item for place, item in enumerate(data)}
    try:
        vectors = [_vector(by_index[str(place)].get("embedding")) for place in range(len(data))]
    except KeyError as error:
        raise Malformed(f"it has no embedding with index {error}") from None
    expected = request.dimensions or (len(vectors[0]) if vectors else 0)
    for vector in vectors:
        if not vector or len(vector) != expected:
            raise Malformed(f"an embedding has {len(vector)} dimensions instead of {expected}")
    return EmbedResult(
        vectors=vectors, model=model_name(answer, request.model), usage=read_usage(answer.get("usage"))
    )


def read_error(answer: object) -> VendorError | None:
    """The error an answer holds; servers put it under `error`, as an object or as text."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        code, kind, message = (error.get(key) for key in ("code", "type", "message"))
        return VendorError(
            code="" if code is None else str(code),
            type="" if kind is None else str(kind),
            message=str(message) if message else "no reason was given",
        )
    return VendorError(code="", type="", message=error) if isinstance(error, str) and error else None


def _turn(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, **message.extra}


def _response_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    named = {"name": "answer", "schema": schema}
    return {"type": "json_schema", "json_schema": {**named, "strict": True} if _is_strict(schema) else named}


def _is_strict(schema: object, *, root: bool = True) -> bool:
    """Whether the strict mode takes the schema: closed objects, every property required, simple keywords."""
    if not isinstance(schema, Mapping) or not STRICT_KEYWORDS.issuperset(schema):
        return False
    if root and schema.get("type") != "object":
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    definitions, choices = schema.get("$defs", {}), schema.get("anyOf", [])
    if not isinstance(properties, dict) or not isinstance(definitions, dict):
        return False
    if not isinstance(required, list) or not isinstance(choices, list):
        return False
    closed = schema.get("additionalProperties") is False and set(map(str, required)) == set(properties)
    if not closed and (schema.get("type") == "object" or properties):
        return False
    inner = [*properties.values(), *definitions.values(), *choices]
    if "items" in schema:
        inner.append(schema["items"])
    return all(_is_strict(part, root=False) for part in inner)


def _vector(embedding: object) -> list[float]:
    if isinstance(embedding, list) and all(type(value) in (float, int) for value in embedding):
        return embedding
    if isinstance(embedding, str):
        floats = array("f")
        try:
            floats.frombytes(base64.b64decode(embedding, validate=True))
        except (binascii.Error, ValueError):
            raise Malformed("an embedding is not base64 of 32-bit floats") from None
        if sys.byteorder == "big":
            floats.byteswap()
        return floats.tolist()
    raise Malformed("an embedding is neither a list of numbers nor base64")
