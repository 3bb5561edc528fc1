"""Conversations and tools in Anthropic's blocks. Shapes of OpenAI's are translated, others passed on.

Workflow documents write turns, pictures, tools and tool calls in OpenAI's shape, or in Anthropic's own.
Everything here raises `Unwritable` and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.ports.models import Message
from app.providers.turns import Unwritable, asked_call, image_url, inline_data

CACHED: Final = {"type": "ephemeral"}
"""Marks what comes up to here as worth keeping in the vendor's cache."""
TOOL_CHOICES: Final[Mapping[str, Mapping[str, str]]] = {
    "auto": {"type": "auto"},
    "none": {"type": "none"},
    "required": {"type": "any"},
}
_WEB_URL: Final = re.compile(r"https?://", re.IGNORECASE)


def system_prompt(messages: Sequence[Message], *, cached: bool) -> str | list[dict[str, Any]] | None:
    """The system turns as one prompt; text where it needs no blocks, None for none."""
    blocks: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system" and (said := _blocks(message.content)):
            blocks += [*said[:-1], {**said[-1], **message.extra}]
    if cached and blocks:
        blocks[-1] = {"cache_control": CACHED, **blocks[-1]}
    if all(block.keys() == {"type", "text"} for block in blocks):
        return "\n\n".join(str(block["text"]) for block in blocks) or None
    return blocks


def conversation(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The turns but those of the system; results of tools that follow each other are one user turn."""
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] | None = None
    for message in messages:
        match message.role:
            case "system":
                continue
            case "tool":
                if results is None:
                    results = []
                    turns.append({"role": "user", "content": results})
                results.append(_tool_result(message))
                continue
            case "assistant" if message.extra.get("tool_calls"):
                turns.append(_calling_turn(message))
            case _:
                content = _content(message.content)
                further = _without(message.extra, "name", "tool_calls")
                turns.append({"role": message.role, "content": content, **further})
        results = None
    return turns


def tool(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A function that the model may ask for."""
    function = given.get("function")
    if given.get("type") != "function" or not isinstance(function, Mapping):
        return given
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    named = {key: function[key] for key in ("name", "description", "strict") if function.get(key) is not None}
    return {**named, "input_schema": schema, **_without(given, "type", "function")}


def tool_choice(given: Any) -> Any:
    """Whether and which tool the model has to use."""
    if isinstance(given, str):
        return TOOL_CHOICES.get(given, given)
    function = given.get("function") if isinstance(given, Mapping) else None
    if isinstance(function, Mapping) and given.get("type") == "function":
        return {"type": "tool", "name": function.get("name")}
    return given


def _content(content: str | Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else _blocks(content)


def _blocks(content: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []  # the vendor refuses empty blocks
    return [_image(part) if part.get("type") == "image_url" else dict(part) for part in content]


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    url = image_url(part)
    data = inline_data(url)
    if data is not None:
        source = {"type": "base64", "media_type": data.mime_type.lower(), "data": data.data}
    elif _WEB_URL.match(url):
        source = {"type": "url", "url": url}
    else:
        raise Unwritable("the URL of an 'image_url' part must begin with https:// or data:<type>;base64,")
    return {"type": "image", "source": source, **_without(part, "type", "image_url")}


def _tool_result(message: Message) -> dict[str, Any]:
    call_id = message.extra.get("tool_call_id")
    if not isinstance(call_id, str) or not call_id:
        raise Unwritable("a turn with the role 'tool' needs the 'tool_call_id' that it answers")
    result = {"type": "tool_result", "tool_use_id": call_id, "content": _content(message.content)}
    return {**result, **_without(message.extra, "tool_call_id", "name")}


def _calling_turn(message: Message) -> dict[str, Any]:
    calls = message.extra["tool_calls"]
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise Unwritable("'tool_calls' of a turn must be a list of calls")
    blocks = [*_blocks(message.content), *map(_tool_use, calls)]
    return {"role": "assistant", "content": blocks, **_without(message.extra, "tool_calls")}


def _tool_use(call: Any) -> dict[str, Any]:
    if isinstance(call, Mapping) and call.get("type") == "tool_use":
        return dict(call)
    asked = asked_call(call)
    return {"type": "tool_use", "id": asked.id, "name": asked.name, "input": asked.arguments}


def _without(given: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in keys}
