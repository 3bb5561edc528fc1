"""Turns as documents write them, for vendors whose own form is another. No I/O, no vendor.

Documents write content parts, tools and tool calls in the form of OpenAI's chat completions, and get tool
calls back in it; `model_call` makes one. Reading is strict, because what is wrong here is the author's:
`Unwritable` says what to do.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from app.ports.models import Message

_DATA: Final = "data:"
_BASE64: Final = ";base64"


class Unwritable(ValueError):
    """The document asks for what the vendor's form cannot carry; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineData:
    """What a data URL holds: `data` is base64, as it stood there."""

    mime_type: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCall:
    """A call of a function that an earlier turn of the conversation asked for."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the call, such as a vendor's signature of it."""


def parts(content: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The parts of a turn; text is one part, and no text none."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def part_text(part: Mapping[str, Any]) -> str:
    """The text of a part of type `text`."""
    value = part.get("text")
    if not isinstance(value, str):
        raise Unwritable("give every part of type 'text' a 'text'")
    return value


def image_url(part: Mapping[str, Any]) -> str:
    """The URL of a part of type `image_url`."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str) or not url:
        raise Unwritable("give every part of type 'image_url' the form {image_url: {url}}")
    return url


def inline_data(url: str) -> InlineData | None:
    """What a data URL holds; None for any other URL."""
    if url[: len(_DATA)].lower() != _DATA:
        return None
    head, comma, data = url[len(_DATA) :].partition(",")
    mime_type = head.partition(";")[0]
    if not comma or not head.lower().endswith(_BASE64) or not mime_type:
        raise Unwritable("write data URLs as data:<media type>;base64,<data>")
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Unwritable("the data of a data URL must be base64") from None
    return InlineData(mime_type=mime_type, data=data)


def asked_calls(message: Message) -> list[AskedCall]:
    """The calls that a turn of the assistant asks for, in order."""
    calls = message.extra.get("tool_calls") or []
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise Unwritable("'tool_calls' must be a list")
    return [asked_call(call) for call in calls]


def asked_call(call: object) -> AskedCall:
    """A call as documents write it, or as an adapter gave it."""
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(name, str):
        raise Unwritable("write every tool call as {id, type: function, function: {name, arguments}}")
    return AskedCall(
        id=str(call.get("id") or ""),
        name=name,
        arguments=_arguments(name, function.get("arguments")),
        extra={key: value for key, value in call.items() if key not in {"id", "type", "function"}},
    )


def call_names(messages: Iterable[Message]) -> dict[str, str]:
    """The function of every call in a conversation, by the call's id."""
    asked = (call for message in messages if message.role == "assistant" for call in asked_calls(message))
    return {call.id: call.name for call in asked}


def model_call(id: str, name: str, arguments: str) -> dict[str, Any]:
    """A call that a model asks for, as documents get it. Its arguments are JSON text, as models write it."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _arguments(name: str, given: object) -> Mapping[str, Any]:
    arguments = given or {}
    if isinstance(given, str) and given:
        try:
            arguments = orjson.loads(given)
        except orjson.JSONDecodeError:
            arguments = None
    if not isinstance(arguments, Mapping):
        raise Unwritable(f"the arguments of the tool call of {name!r} must be a JSON object")
    return arguments
