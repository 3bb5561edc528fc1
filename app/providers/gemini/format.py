"""The bytes of Google's Gemini API: requests out, embeddings and errors in. No I/O.

Follows the reference of the Gemini API, version v1beta (`generateContent`, `batchEmbedContents`). How the
pieces of an answer are read is in `stream`, what the turns of a document become in `turns`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from app.ports.models import ChatRequest, EmbedRequest, EmbedResult, Usage
from app.providers.failures import parse_duration
from app.providers.gemini.turns import contents, function_tools, system_instruction, tool_config
from app.providers.json_format import VendorError, count, dump, objects, text, vectors
from app.providers.turns import Unwritable

RESERVED: Final = frozenset({"contents", "model", "systemInstruction", "tools"})
"""Keys of a request that options of the author's cannot replace."""
CONFIG: Final = "generationConfig"
CHOICE: Final = "tool_choice"
"""What documents call the choice of tools for any vendor."""
COLLECTIONS: Final = ("models", "tunedModels")
"""What a model's resource name can start with; a bare name is one of the first."""
TASK_TYPES: Final[Mapping[str, str]] = {
    "query": "RETRIEVAL_QUERY",
    "search_query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "search_document": "RETRIEVAL_DOCUMENT",
    "similarity": "SEMANTIC_SIMILARITY",
}
"""What texts are for, in words that other vendors share; Google's own names do as well."""
OWN_TASK_TYPES: Final = frozenset(
    {"RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY", "CLASSIFICATION", "CLUSTERING"}
    | {"QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY"}
)
REFUSALS: Final[Mapping[str, str]] = {
    "MISSING_THOUGHT_SIGNATURE": "send the 'extra_content' of earlier tool calls back with them"
}
"""Ends of an answer that are the request's fault, and what to do."""

_DAILY: Final = re.compile("PerDay", re.IGNORECASE)


def model_path(model: str) -> str:
    """The path of a model, quoted: `/models/gemini-2.5-flash`."""
    collection, slash, name = model.partition("/")
    if not slash or collection not in COLLECTIONS:
        collection, name = COLLECTIONS[0], model
    return f"/{collection}/{quote(name, safe='')}"


def chat_body(request: ChatRequest) -> bytes:
    """The body of `:generateContent`. Raises `ValueError` for what the format cannot carry."""
    clash = sorted(RESERVED.intersection(request.extra))
    if clash:
        raise Unwritable(f"remove {clash[0]!r} from the extra options: the service sets it")
    body: dict[str, Any] = {"contents": contents(request.messages)}
    if instruction := system_instruction(request.messages):
        body["systemInstruction"] = instruction
    if request.tools:
        body["tools"] = function_tools(request.tools)
    body.update((key, value) for key, value in request.extra.items() if key != CHOICE)
    if request.extra.get(CHOICE) is not None:
        own = body.get("toolConfig")
        chosen = tool_config(request.extra[CHOICE])
        body["toolConfig"] = {**own, **chosen} if isinstance(own, Mapping) else chosen
    if config := _generation_config(request):
        body[CONFIG] = config
    return dump(body)


def embed_body(request: EmbedRequest) -> bytes:
    """The body of `:batchEmbedContents`. Raises `ValueError` for a purpose that Google has no name for."""
    if not request.texts:
        raise Unwritable("there is no text to embed; give at least one")
    options: dict[str, Any] = {"model": model_path(request.model)[1:]}
    if request.input_type is not None:
        options["taskType"] = _task_type(request.input_type)
    if request.dimensions is not None:
        options["outputDimensionality"] = request.dimensions
    return dump({"requests": [{**options, "content": {"parts": [{"text": it}]}} for it in request.texts]})


def read_embeddings(answer: Mapping[str, Any], request: EmbedRequest) -> EmbedResult:
    """Vectors in the order of the texts."""
    found = [item.get("values") for item in objects(answer.get("embeddings"))]
    return EmbedResult(
        vectors=vectors(found, texts=len(request.texts), dimensions=request.dimensions),
        model=request.model,
        usage=Usage(input_tokens=count(answer.get("usageMetadata"), "promptTokenCount")),
    )


def read_usage(usage: object) -> Usage:
    """Token counts. Zeros are left out on the wire; thoughts are billed as output."""
    prompt = count(usage, "promptTokenCount")
    if prompt is None:
        return Usage()
    thoughts = count(usage, "thoughtsTokenCount")
    return Usage(
        input_tokens=prompt + (count(usage, "toolUsePromptTokenCount") or 0),
        output_tokens=(count(usage, "candidatesTokenCount") or 0) + (thoughts or 0),
        cached_tokens=count(usage, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    """The error an answer holds: its own, or that of a prompt that was blocked."""
    error = answer.get("error")
    if isinstance(error, dict):
        return _error(error)
    blocked = text(answer.get("promptFeedback"), "blockReason")
    if blocked:
        return VendorError(code="400", type="PROMPT_BLOCKED", message=f"the prompt was blocked ({blocked})")
    reasons = [text(candidate, "finishReason") for candidate in objects(answer.get("candidates"))]
    refused = next((reason for reason in reasons if reason in REFUSALS), None)
    return None if refused is None else VendorError(code="400", type=refused, message=REFUSALS[refused])


def _error(error: Mapping[str, Any]) -> VendorError:
    """`google.rpc.Status`: its details know more than its status."""
    details = objects(error.get("details"))
    reasons = [text(detail, "reason") for detail in details]
    quotas = [text(violation, "quotaId") for it in details for violation in objects(it.get("violations"))]
    exhausted = "DAILY_QUOTA" if any(map(_DAILY.search, quotas)) else ""
    delays = [parse_duration(text(detail, "retryDelay")) for detail in details]
    code = error.get("code")
    return VendorError(
        code=str(code) if type(code) is int else "",
        type=next(filter(None, [exhausted, *reasons]), text(error, "status")),
        message=text(error, "message") or "no reason was given",
        retry_after=next((delay for delay in delays if delay is not None), None),
    )


def _generation_config(request: ChatRequest) -> dict[str, Any]:
    """The author's further options and the step's own, which win: budgets are counted by them."""
    further = request.extra.get(CONFIG) or {}
    if not isinstance(further, Mapping):
        raise Unwritable(f"{CONFIG!r} must be an object, such as {{topK: 40}}")
    if further.get("candidateCount") not in (None, 1):
        raise Unwritable("remove 'candidateCount': one answer is read")
    schema = request.response_schema
    options = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "maxOutputTokens": request.max_tokens,
        "stopSequences": request.stop,
        "seed": request.seed,
        "responseMimeType": None if schema is None else "application/json",
        "responseJsonSchema": schema,
    }
    return {**further, **{key: value for key, value in options.items() if value is not None}}


def _task_type(input_type: str) -> str:
    name = TASK_TYPES.get(input_type.lower(), input_type.upper())
    if name not in OWN_TASK_TYPES:
        known = ", ".join(sorted({*TASK_TYPES, *(own.lower() for own in OWN_TASK_TYPES)}))
        raise Unwritable(f"Gemini has no input_type {input_type!r}; use one of: {known}")
    return name
