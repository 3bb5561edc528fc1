"""The most that calls to models can use, told before they are made.

A token stands for at least one byte of UTF-8 in every tokenizer of today's models (they split bytes or
characters and never make several tokens of one byte), so the bytes of what is sent are a bound on its
tokens, and a crude one: English text has some four bytes a token. Some tokenizers normalise text first
(NFKC), which may make it longer; the longer form counts. What chat formats add around messages, tools and
schemas is covered by constants far above what vendors add today. Output is bounded by the limit that is
sent with the call.

What has no bound is refused: pictures, sounds and files, whose tokens depend on what is in them, and tools
that the vendor runs itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from unicodedata import normalize

from app.ports.errors import PermanentError
from app.ports.models import ChatRequest

CALL_TOKENS: Final = 256
"""What a vendor may add to any call."""
MESSAGE_TOKENS: Final = 32
"""And to each message."""
TOOLS_TOKENS: Final = 2048
"""And where there are tools or a schema of the answer."""
TEXT_TOKENS: Final = 8
"""And to each text that is embedded or ranked."""
BYTES_A_TOKEN: Final = 4
"""Of ordinary English text: for estimates, never for bounds."""
LIMIT_KEYS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""How vendors call the bound on an answer; an author may pass theirs through."""
CHOICE_KEYS: Final = ("n", "best_of")
"""Answers that are asked for at once."""
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_OWN_TOOLS: Final = frozenset({None, "function", "custom"})
"""Tools whose results the caller brings, as messages of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBound:
    """The most that the calls of one attempt to one model can use together."""

    provider: str
    model: str
    input_tokens: int | None
    """None: it reads an answer that nothing bounds."""
    output_tokens: int | None
    """None: nothing bounds the answer."""
    input_estimate: int
    """What the input will come to, roughly."""
    calls: int = 1


def chat_bound(provider: str, request: ChatRequest) -> CallBound:
    """One completion. Raises `PermanentError` for what has no bound."""
    extra = [_json(part) for part in (request.tools, request.response_schema, request.extra) if part]
    texts = [*extra]
    for message in request.messages:
        texts += [_content(message.content), _json(message.extra) if message.extra else ""]
    _check_tools(request.tools or ())
    added = CALL_TOKENS + MESSAGE_TOKENS * len(request.messages) + (TOOLS_TOKENS if extra else 0)
    limits = [request.max_tokens, *(_whole(request.extra, key) for key in LIMIT_KEYS)]
    known = [limit for limit in limits if limit is not None]
    choices = max([1, *(_whole(request.extra, key) or 1 for key in CHOICE_KEYS)])
    return CallBound(
        provider=provider,
        model=request.model,
        input_tokens=added + sum(map(most_tokens, texts)),
        output_tokens=max(known) * choices if known else None,
        input_estimate=sum(map(likely_tokens, texts)),
    )


def texts_bound(provider: str, model: str, texts: Sequence[str], *, calls: int) -> CallBound:
    """Texts to embed, in so many calls at most."""
    return CallBound(
        provider=provider,
        model=model,
        input_tokens=CALL_TOKENS + sum(most_tokens(text) + TEXT_TOKENS for text in texts),
        output_tokens=0,
        input_estimate=sum(map(likely_tokens, texts)),
        calls=calls,
    )


def ranking_bound(provider: str, model: str, query: str, documents: Sequence[str]) -> CallBound:
    """Documents to rank: the query is read again with each of them."""
    count = len(documents)
    read = count * (most_tokens(query) + TEXT_TOKENS) + sum(map(most_tokens, documents))
    return CallBound(
        provider=provider,
        model=model,
        input_tokens=CALL_TOKENS + read,
        output_tokens=0,
        input_estimate=count * likely_tokens(query) + sum(map(likely_tokens, documents)),
    )


def limits_itself(extra: Mapping[str, Any]) -> bool:
    """Whether options that are passed through bound the answer already."""
    return any(extra.get(key) is not None for key in LIMIT_KEYS)


def most_tokens(text: str) -> int:
    """No tokenizer makes more tokens of a text."""
    if text.isascii():
        return len(text)
    plain = len(text.encode("utf-8", "surrogatepass"))
    return max(plain, len(normalize("NFKC", text).encode("utf-8", "surrogatepass")))


def likely_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_A_TOKEN)


def _content(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        kind = part.get("type")
        if kind not in _TEXT_PARTS:
            raise PermanentError(
                "invalid_config",
                f"a run with a budget sends text only, and a message has a part of type {kind!r}, "
                "whose tokens nobody knows before the call; leave it out, or run without a budget",
            )
    return _json(content)


def _check_tools(tools: Sequence[Mapping[str, Any]]) -> None:
    for tool in tools:
        kind = tool.get("type")
        if kind not in _OWN_TOOLS:
            raise PermanentError(
                "invalid_config",
                f"the tool {kind!r} runs at the vendor and reads what nobody knows before the call; "
                "leave it out, or run without a budget",
            )


def _whole(extra: Mapping[str, Any], key: str) -> int | None:
    value = extra.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PermanentError("invalid_config", f"{key!r} must be a whole number of at least 1 here")
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
