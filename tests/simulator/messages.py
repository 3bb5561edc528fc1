"""The same vendor by Anthropic's Messages API: whole messages and their events as bytes.

`tests/providers/test_anthropic_spec.py` holds them against the types of Anthropic's own client.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson

from tests.simulator.answers import http

MESSAGE_ID = "msg_simulated"


def usage(output_tokens: int) -> dict[str, Any]:
    """Token counts as the vendor reports them."""
    return {
        "input_tokens": 10,
        "output_tokens": output_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _message(model: str, content: list[dict[str, Any]], reason: str | None, said: int) -> dict[str, Any]:
    return {
        "id": MESSAGE_ID,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage(said),
    }


@lru_cache(maxsize=4096)
def message(model: str, text: str) -> bytes:
    """The JSON of a whole message."""
    content = [{"type": "text", "text": text}]
    return orjson.dumps(_message(model, content, "end_turn", len(text.split())))


@lru_cache(maxsize=4096)
def message_http(model: str, text: str) -> bytes:
    """The same as a whole HTTP answer."""
    return http(200, message(model, text))


def stream_events(model: str, text: str) -> Iterator[bytes]:
    """The events of a streamed message, a delta a word."""

    def event(kind: str, **further: Any) -> bytes:
        data = orjson.dumps({"type": kind, **further})
        return f"event: {kind}\ndata: ".encode() + data + b"\n\n"

    yield event("message_start", message=_message(model, [], None, 0))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for number, word in enumerate(text.split()):
        said = word if number == 0 else f" {word}"
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": said})
    yield event("content_block_stop", index=0)
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=ended, usage={"output_tokens": len(text.split())})
    yield event("message_stop")
