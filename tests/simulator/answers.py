"""What the simulated vendor says: complete HTTP answers as bytes, serialised once where possible.

The shapes are those of OpenAI's chat completions and embeddings; `tests/providers/test_openai_spec.py`
holds them against OpenAI's own document.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from array import array
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson

TEXT = "The simulated answer."
JSON_TEXT = '{"answer": "simulated"}'
DIMENSIONS = 64
"""Of an embedding for which the request names none."""
CREATED = 1_700_000_000
REASONS = {
    200: "OK",
    302: "Found",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def http(
    status: int,
    body: bytes,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """An answer with its length."""
    head = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}", f"content-type: {content_type}"]
    head += [f"{name}: {value}" for name, value in (headers or {}).items()]
    head += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """Token counts as the vendor reports them."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


@lru_cache(maxsize=4096)
def completion(model: str, text: str) -> bytes:
    """The JSON of a whole completion."""
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return orjson.dumps(
        {
            "id": "chatcmpl-simulated",
            "object": "chat.completion",
            "created": CREATED,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": usage(10, len(text.split())),
        }
    )


@lru_cache(maxsize=4096)
def completion_http(model: str, text: str) -> bytes:
    """The same as a whole HTTP answer."""
    return http(200, completion(model, text))


def stream_events(model: str, text: str) -> Iterator[bytes]:
    """The events of a streamed completion, one a word, with the usage last."""
    base = {"id": "chatcmpl-simulated", "object": "chat.completion.chunk", "created": CREATED, "model": model}

    def event(choices: list[dict[str, Any]], counts: dict[str, Any] | None = None) -> bytes:
        return b"data: " + orjson.dumps({**base, "choices": choices, "usage": counts}) + b"\n\n"

    def choice(delta: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]

    yield event(choice({"role": "assistant", "content": ""}))
    for number, word in enumerate(text.split()):
        yield event(choice({"content": word if number == 0 else f" {word}"}))
    yield event(choice({}, "stop"))
    yield event([], usage(10, len(text.split())))
    yield b"data: [DONE]\n\n"


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One piece in chunked transfer encoding."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def embeddings(request: Mapping[str, Any]) -> bytes:
    """The JSON answer to an embedding request; equal texts have equal vectors."""
    given = request.get("input", [])
    texts = [given] if isinstance(given, str) else given
    dimensions = int(request.get("dimensions") or DIMENSIONS)
    encoded = request.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _embedding(str(text), dimensions, encoded)}
        for index, text in enumerate(texts)
    ]
    counts = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return orjson.dumps({"object": "list", "data": data, "model": request.get("model"), "usage": counts})


@lru_cache(maxsize=4096)
def _embedding(text: str, dimensions: int, encoded: bool) -> str | list[float]:
    digest = hashlib.blake2b(text.encode(errors="replace")).digest()
    floats = array("f", [(digest[i % len(digest)] - 127.5) / 128 for i in range(dimensions)])
    return base64.b64encode(floats.tobytes()).decode() if encoded else floats.tolist()


def error(status: int, code: str | None, message: str, *, headers: Mapping[str, str] | None = None) -> bytes:
    """An error answer."""
    body = {"error": {"message": message, "type": "simulated_error", "param": None, "code": code}}
    return http(status, orjson.dumps(body), headers=headers)


@lru_cache(maxsize=1)
def gzip_bomb() -> bytes:
    """64 MiB of spaces in some 64 KiB."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    block = b" " * (1 << 20)
    body = b"".join(squeeze.compress(block) for _ in range(64)) + squeeze.flush()
    return http(200, body, headers={"content-encoding": "gzip"})
