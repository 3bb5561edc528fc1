"""The bytes of Ollama's own chat and embed: requests out, answers in. No I/O.

Follows Ollama's API reference (`POST /api/chat`, `POST /api/embed`). A streamed answer is a line of JSON a
piece, and each piece has the form of a whole answer. Ollama reads no images from the web, and passes over
options that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.ports.models import (
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbedRequest,
    EmbedResult,
    FinishReason,
    Message,
    Usage,
)
from app.providers.json_format import Malformed, VendorError, count, dump, json_text, objects, text, vectors
from app.providers.turns import (
    Unwritable,
    asked_calls,
    call_names,
    image_url,
    inline_data,
    model_call,
    part_text,
    parts,
)

RESERVED: Final = frozenset({"messages", "model", "stream", "tools"})
"""Keys of a request that options of the author's cannot replace."""
UNKNOWN: Final[Mapping[str, str]] = {
    "max_completion_tokens": "write 'max_tokens' beside 'model'",
    "max_output_tokens": "write 'max_tokens' beside 'model'",
    "response_format": "write 'response_schema' beside 'model'",
    "tool_choice": "remove it: the model chooses",
}
"""What other vendors know and Ollama would pass over without a word, and what to do."""
FINISH_REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}
"""What else there is (`load`, `unload`) ends no answer of a model."""


def chat_body(request: ChatRequest, *, stream: bool) -> bytes:
    """The body of `POST /api/chat`. Raises `ValueError` for what the format cannot carry."""
    clash = sorted(RESERVED.intersection(request.extra))
    if clash:
        raise Unwritable(f"remove {clash[0]!r} from the extra options: the service sets it")
    unknown = sorted(UNKNOWN.keys() & request.extra.keys())
    if unknown:
        raise Unwritable(f"Ollama does not know {unknown[0]!r}; {UNKNOWN[unknown[0]]}")
    names = call_names(request.messages)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_turn(turn, names) for turn in request.messages],
        "stream": stream,
    }
    if request.tools:
        body["tools"] = request.tools
    if request.response_schema is not None:
        body["format"] = request.response_schema
    body.update(request.extra)
    if options := _options(request):
        body["options"] = options
    return dump(body)


def embed_body(request: EmbedRequest) -> bytes:
    """The body of `POST /api/embed`. What texts are for is left out: Ollama's models take it as a prefix."""
    if not request.texts:
        raise Unwritable("there is no text to embed; give at least one")
    body: dict[str, Any] = {"model": request.model, "input": list(request.texts)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return dump(body)


def read_embeddings(answer: Mapping[str, Any], request: EmbedRequest) -> EmbedResult:
    """Vectors in the order of the texts."""
    found = answer.get("embeddings")
    values = found if isinstance(found, list) else []
    return EmbedResult(
        vectors=vectors(values, texts=len(request.texts), dimensions=request.dimensions),
        model=text(answer, "model") or request.model,
        usage=Usage(input_tokens=count(answer, "prompt_eval_count")),
    )


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    """The error an answer or a line holds: text under `error`."""
    error = answer.get("error")
    if isinstance(error, dict):  # some proxies in front of it
        error = text(error, "message") or "no reason was given"
    return VendorError(message=error) if isinstance(error, str) and error else None


class Assembly:
    """One answer in the making, of one piece or of many; `complete` once the server said it is done."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._texts: list[str] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._last: Mapping[str, Any] = {}

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, as against a connection that did."""
        return self._last.get("done") is True

    @property
    def ended(self) -> bool:
        """The last piece says so."""
        return self.complete

    def add(self, piece: Mapping[str, Any]) -> ChatDelta | None:
        """Take the next piece; the delta to show, if there is one. Thoughts are no part of the text."""
        self._last = piece
        self._model = text(piece, "model") or self._model
        message = piece.get("message")
        if not isinstance(message, dict):
            return None
        for call in objects(message.get("tool_calls")):
            self._tool_calls.append(_read_call(call, place=len(self._tool_calls)))
        said = text(message, "content")
        if not said:
            return None
        self._texts.append(said)
        return ChatDelta(text=said)

    def result(self) -> ChatResult:
        """The whole. Raises `Malformed` when nothing says that it is whole."""
        if not self.complete:
            raise Malformed("it is not done")
        reason = FINISH_REASONS.get(text(self._last, "done_reason"), "unknown")
        return ChatResult(
            text="".join(self._texts),
            model=self._model,
            finish_reason="tool_calls" if reason == "stop" and self._tool_calls else reason,
            usage=Usage(
                input_tokens=count(self._last, "prompt_eval_count"),
                output_tokens=count(self._last, "eval_count"),
            ),
            tool_calls=self._tool_calls,
        )


def _options(request: ChatRequest) -> dict[str, Any]:
    """The author's further options and the step's own, which win: budgets are counted by them."""
    further = request.extra.get("options") or {}
    if not isinstance(further, Mapping):
        raise Unwritable("'options' must be an object, such as {num_ctx: 8192}")
    options = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "num_predict": request.max_tokens,
        "stop": request.stop,
    }
    return {**further, **{key: value for key, value in options.items() if value is not None}}


def _turn(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    said, images = _content(parts(message.content))
    turn: dict[str, Any] = {**message.extra, "role": message.role, "content": said}
    if images:
        turn["images"] = images
    if calls := asked_calls(message):
        turn["tool_calls"] = [
            {**({"id": it.id} if it.id else {}), "function": {"name": it.name, "arguments": it.arguments}}
            for it in calls
        ]
    name = names.get(str(message.extra.get("tool_call_id")))
    return {**turn, "tool_name": name} if message.role == "tool" and name else turn


def _content(content: Sequence[Mapping[str, Any]]) -> tuple[str, list[str]]:
    """Text, its parts on lines of their own, and images in base64."""
    texts: list[str] = []
    images: list[str] = []
    for part in content:
        match part.get("type"):
            case "text":
                texts.append(part_text(part))
            case "image_url":
                image = inline_data(image_url(part))
                if image is None:
                    raise Unwritable("Ollama fetches no images; give them as data:image/png;base64,…")
                images.append(image.data)
            case kind:
                raise Unwritable(f"Ollama takes no part of type {kind!r}; use text or image_url")
    return "\n".join(texts), images


def _read_call(call: Mapping[str, Any], *, place: int) -> dict[str, Any]:
    """Its id is of its place where the server gives none, as older ones do not."""
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    return model_call(text(call, "id") or f"call_{place}", text(function, "name"), json_text(arguments))
