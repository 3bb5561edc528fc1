"""The bytes of Cohere's v2 chat and embed: requests out, answers in. No I/O.

Follows Cohere's OpenAPI document (v2). Turns, tools and tool calls have the shape that documents write
them in (`{type: function, function: {…}}`), which is nearly Cohere's own. What Cohere is known to refuse
is a `ValueError` before any call. Plans and thoughts are no part of an answer's text. A wanted shape is
always asked for in words, and where Cohere can hold the answer to it, in its own way too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.ports.models import ChatRequest, ChatResult, EmbedRequest, EmbedResult, FinishReason, Message, Usage
from app.providers.json_format import Malformed, VendorError, dump, objects, text, vectors
from app.providers.prompted_schema import with_schema

FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}
FAILURES: Final[Mapping[str, VendorError]] = {
    "ERROR": VendorError(code="500", type="ERROR", message="the generation failed"),
    "TIMEOUT": VendorError(code="504", type="TIMEOUT", message="the generation took too long"),
}
"""Finish reasons of answers that are none, and the statuses they would have deserved."""
RESERVED: Final = frozenset({"model", "messages", "stream"})
"""Keys of a request that options of the author's cannot replace."""
PARTS: Final[Mapping[str, Sequence[str]]] = {
    "system": ("text",),
    "user": ("text", "image_url"),
    "assistant": ("text", "thinking"),
    "tool": ("text", "document"),
}
"""What the content of a turn can consist of, by its role."""
INPUT_TYPES: Final[Mapping[str, str]] = {
    "query": "search_query",
    "document": "search_document",
    **{name: name for name in ("search_query", "search_document", "classification", "clustering")},
}
"""What documents may call the purpose of texts; the first two are for documents that fit any vendor."""
FIXED_DIMENSIONS: Final[Mapping[str, int]] = {
    "embed-english-v3.0": 1024,
    "embed-multilingual-v3.0": 1024,
    "embed-english-light-v3.0": 384,
    "embed-multilingual-light-v3.0": 384,
}
"""Models that give no choice."""
MOST_STOPS: Final = 5
SMALLEST_SHARE: Final = 0.01
LARGEST_SHARE: Final = 0.99


def chat_body(request: ChatRequest, *, stream: bool) -> bytes:
    """The body of `POST /v2/chat`. Raises `ValueError` for what JSON or Cohere cannot carry."""
    clash = sorted(RESERVED.intersection(request.extra))
    if clash:
        raise ValueError(f"remove {clash[0]!r} from the extra options: the service sets it")
    _check_options(request)
    schema, turns = request.response_schema, request.messages
    if schema is not None:
        turns = with_schema(turns, schema)  # the mode for JSON wants to be asked in words as well
    body: dict[str, Any] = {"model": request.model, "messages": [_turn(turn) for turn in turns]}
    options = {
        "temperature": request.temperature,
        # Cohere's own way to say that every word may be chosen is 0.99.
        "p": None if request.top_p is None else min(max(request.top_p, SMALLEST_SHARE), LARGEST_SHARE),
        "max_tokens": request.max_tokens,
        "stop_sequences": request.stop,
        "seed": request.seed,
        "response_format": _response_format(request),
        "tools": [_tool(tool) for tool in request.tools] if request.tools else None,
        "strict_tools": _all_strict(request.tools) or None,
    }
    body.update((key, value) for key, value in options.items() if value is not None)
    body.update(request.extra)
    if stream:
        body["stream"] = True
    return dump(body)


def embed_body(request: EmbedRequest, *, input_type: str, truncate: str) -> bytes:
    """The body of `POST /v2/embed`; `input_type` holds where the request names none.

    Raises `ValueError` for what JSON cannot carry, an unknown purpose, and dimensions that the model
    cannot have.
    """
    purpose = INPUT_TYPES.get(request.input_type or input_type)
    if purpose is None:
        known = "query, document, classification or clustering"
        raise ValueError(f"input_type {request.input_type!r} is unknown to Cohere; use {known}")
    body: dict[str, Any] = {
        "model": request.model,
        "texts": list(request.texts),
        "input_type": purpose,
        "embedding_types": ["float"],
        "truncate": truncate,
    }
    fixed = FIXED_DIMENSIONS.get(request.model)
    if request.dimensions is not None and fixed is None:
        body["output_dimension"] = request.dimensions
    elif request.dimensions not in (None, fixed):
        raise ValueError(f"vectors of {request.model!r} have {fixed} dimensions; leave 'dimensions' out")
    return dump(body)


def read_completion(answer: Mapping[str, Any], *, model: str) -> ChatResult:
    """A whole answer. Cohere does not name the model: it is the one that was asked, `model`."""
    message = answer.get("message")
    if not isinstance(message, dict):
        raise Malformed("it has no message")
    return ChatResult(
        text="".join(text(part, "text") for part in objects(message.get("content"))),
        model=model,
        finish_reason=read_finish_reason(answer.get("finish_reason")),
        usage=read_usage(answer.get("usage")),
        tool_calls=objects(message.get("tool_calls")),
    )


def read_finish_reason(reason: object) -> FinishReason:
    """Why the model stopped, in our words."""
    return FINISH_REASONS.get(reason, "unknown") if isinstance(reason, str) else "unknown"


def read_usage(usage: object) -> Usage:
    """What is billed, so that costs are those of the bill; what was used where nothing is said of that.

    Cohere does not bill the tokens of its own instructions, which can be many times the author's.
    """
    if not isinstance(usage, dict):
        return Usage()
    billed, used = usage.get("billed_units"), usage.get("tokens")
    return Usage(
        input_tokens=_count(billed, "input_tokens", _count(used, "input_tokens")),
        output_tokens=_count(billed, "output_tokens", _count(used, "output_tokens")),
        cached_tokens=_count(usage, "cached_tokens"),
    )


def read_embeddings(answer: Mapping[str, Any], request: EmbedRequest) -> EmbedResult:
    """Vectors in the order of the texts."""
    embeddings = answer.get("embeddings")
    found = embeddings.get("float") if isinstance(embeddings, dict) else None
    return EmbedResult(
        vectors=vectors(
            found if isinstance(found, list) else [], texts=len(request.texts), dimensions=request.dimensions
        ),
        model=request.model,
        usage=read_usage(answer.get("meta")),
    )


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    """The error an answer or an event holds: `message` as text, or the end of a generation that failed."""
    if message := text(answer, "message"):
        return VendorError(message=message)
    delta = answer.get("delta")
    failure = FAILURES.get(text(delta, "finish_reason") or text(answer, "finish_reason"))
    if failure is None:
        return None
    said = text(delta, "error")
    return VendorError(code=failure.code, type=failure.type, message=said) if said else failure


def _check_options(request: ChatRequest) -> None:
    if request.temperature is not None and request.temperature > 1:
        raise ValueError(f"Cohere takes a temperature from 0 to 1; lower {request.temperature}")
    if request.seed is not None and request.seed < 0:
        raise ValueError(f"Cohere takes seeds from 0 up; change {request.seed}")
    if request.stop is not None and len(request.stop) > MOST_STOPS:
        raise ValueError(f"Cohere takes at most {MOST_STOPS} texts in 'stop'; remove some")


def _turn(message: Message) -> dict[str, Any]:
    """One turn. Names of speakers are left out: Cohere knows none."""
    if not isinstance(message.content, str):
        _check_parts(message)
    if message.role == "tool" and not message.extra.get("tool_call_id"):
        raise ValueError("a turn of role 'tool' answers a call; give it the call's 'tool_call_id'")
    turn = {"role": message.role, "content": message.content, **message.extra}
    turn.pop("name", None)
    if not message.content and turn.get("tool_calls"):
        del turn["content"]
    return turn


def _check_parts(message: Message) -> None:
    for part in message.content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in PARTS[message.role]:
            known = " or ".join(PARTS[message.role])
            raise ValueError(
                f"Cohere takes no part of type {kind!r} in a turn of role {message.role!r}; use {known}"
            )


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, Mapping) or not function.get("name"):
        raise ValueError("Cohere takes tools of the form {type: function, function: {name, parameters}} only")
    known = {key: value for key, value in function.items() if key != "strict"}
    known.setdefault("parameters", {"type": "object", "properties": {}})
    return {"type": "function", "function": known}


def _all_strict(tools: Sequence[Mapping[str, Any]] | None) -> bool:
    """Cohere is strict about all tools of a request or about none."""
    return bool(tools) and all(tool["function"].get("strict") is True for tool in tools or ())


def _response_format(request: ChatRequest) -> dict[str, Any] | None:
    """Cohere's mode for JSON, which knows objects only, and neither tools nor documents beside it."""
    schema = request.response_schema
    if schema is None or schema.get("type") != "object" or request.tools or request.extra.get("documents"):
        return None
    return {"type": "json_object", "json_schema": schema}


def _count(counts: object, key: str, otherwise: int | None = None) -> int | None:
    """A count, which Cohere's document allows to be written as a float."""
    value = counts.get(key) if isinstance(counts, dict) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else otherwise
