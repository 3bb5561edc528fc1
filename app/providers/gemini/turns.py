"""What the turns and tools of a document become for the Gemini API: contents, parts and declarations.

Google's roles are `user` and `model`; what the system says stands apart. Results of tools are parts of a
turn of the user, all results of one turn together, and name their function, which is looked up by the id
of the call. A part or tool of Google's own passes unchanged, but for the `type` that documents give it.

Models that think sign their calls, and want the signature back with the call. It travels as
`extra_content: {google: {thought_signature}}` of the call, as in Google's OpenAI-compatible answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from app.ports.models import Message
from app.providers.json_format import json_text, text
from app.providers.turns import (
    AskedCall,
    Unwritable,
    asked_calls,
    call_names,
    image_url,
    inline_data,
    model_call,
    part_text,
    parts,
)

IMAGE_TYPES: Final[Mapping[str, str]] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
}
"""Media types by the ending of a URL's path."""
MODES: Final[Mapping[str, str]] = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
"""How Google calls what documents say of the choice of tools."""
OWN_PARTS: Final = frozenset({"inlineData", "fileData", "executableCode", "codeExecutionResult"})


def contents(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation without what the system says. Raises `Unwritable` where nothing is left."""
    names = call_names(messages)
    spoken = [message for message in messages if message.role != "system"]
    made: list[dict[str, Any]] = []
    for is_results, turns in groupby(spoken, key=lambda message: message.role == "tool"):
        if is_results:
            made.append({"role": "user", "parts": [_result(turn, names) for turn in turns]})
        else:
            made.extend(_content(turn) for turn in turns)
    if not made:
        raise Unwritable(
            "Gemini answers to a turn of the user; give the step a 'prompt', or one in 'messages'"
        )
    return made


def system_instruction(messages: Sequence[Message]) -> dict[str, Any] | None:
    """What the system says, wherever in the conversation it stands."""
    said = [part for message in messages if message.role == "system" for part in parts(message.content)]
    if not said:
        return None
    return {"parts": [{"text": part_text(part)} for part in said]}


def function_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The functions together, then the tools that are Google's own."""
    functions = [tool["function"] for tool in tools if isinstance(tool.get("function"), Mapping)]
    own = [_own_tool(tool) for tool in tools if not isinstance(tool.get("function"), Mapping)]
    declared = [{"functionDeclarations": [_declaration(it) for it in functions]}] if functions else []
    return [*declared, *own]


def tool_config(choice: object) -> dict[str, Any]:
    """What `tool_choice` of a document asks for: a word, or one function."""
    if isinstance(choice, str) and choice in MODES:
        return {"functionCallingConfig": {"mode": MODES[choice]}}
    name = text(choice.get("function") if isinstance(choice, dict) else None, "name")
    if not name:
        raise Unwritable("write 'tool_choice' as auto, none, required or {type: function, function: {name}}")
    return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}}


def read_call(part: Mapping[str, Any], *, place: int) -> dict[str, Any] | None:
    """The call that a part of an answer asks for, if it does. Its id is of its place where it has none."""
    call = part.get("functionCall")
    if not isinstance(call, dict):
        return None
    made = model_call(text(call, "id") or f"call_{place}", text(call, "name"), json_text(call.get("args")))
    signature = text(part, "thoughtSignature")
    return {**made, "extra_content": {"google": {"thought_signature": signature}}} if signature else made


def _content(message: Message) -> dict[str, Any]:
    said = [_part(part) for part in parts(message.content)]
    if message.role != "assistant":
        return {"role": "user", "parts": said or [{"text": ""}]}
    calls = [_call(call) for call in asked_calls(message)]
    return {"role": "model", "parts": [*said, *calls] or [{"text": ""}]}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    match kind:
        case "text":
            return {"text": part_text(part)}
        case "image_url":
            return _media(image_url(part))
        case "input_audio":
            audio = part.get("input_audio")
            return {"inlineData": {"mimeType": f"audio/{text(audio, 'format')}", "data": text(audio, "data")}}
        case "file" if data := inline_data(text(part.get("file"), "file_data")):
            return {"inlineData": {"mimeType": data.mime_type, "data": data.data}}
    if OWN_PARTS.isdisjoint(part):
        known = ", ".join(["text", "image_url", "input_audio", "file (with file_data)"])
        raise Unwritable(f"Gemini takes no part of type {kind!r}; use {known}, or a part with 'fileData'")
    return {key: value for key, value in part.items() if key != "type"}


def _media(url: str) -> dict[str, Any]:
    data = inline_data(url)
    if data is not None:
        return {"inlineData": {"mimeType": data.mime_type, "data": data.data}}
    ending = urlsplit(url).path.rpartition(".")[2].lower()
    named = {"mimeType": IMAGE_TYPES[ending]} if ending in IMAGE_TYPES else {}
    return {"fileData": {**named, "fileUri": url}}


def _call(call: AskedCall) -> dict[str, Any]:
    function = {"name": call.name, "args": call.arguments}
    google = call.extra.get("extra_content", {})
    signature = text(google.get("google") if isinstance(google, Mapping) else None, "thought_signature")
    part: dict[str, Any] = {"functionCall": {"id": call.id, **function} if call.id else function}
    return {**part, "thoughtSignature": signature} if signature else part


def _result(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    call_id = str(message.extra.get("tool_call_id") or "")
    name = names.get(call_id) or message.extra.get("name")
    if not isinstance(name, str) or not name:
        raise Unwritable(
            f"the tool result {call_id!r} answers no call of the conversation; "
            "send the turn with its 'tool_calls' before it, or give the result a 'name'"
        )
    result = {"name": name, "response": _response(message)}
    return {"functionResponse": {"id": call_id, **result} if call_id else result}


def _response(message: Message) -> Mapping[str, Any]:
    """An object as it is; anything else under the key that Google reads results from."""
    said = "".join(part_text(part) for part in parts(message.content))
    try:
        value = orjson.loads(said)
    except orjson.JSONDecodeError:
        value = said
    return value if isinstance(value, dict) else {"output": value}


def _declaration(function: Mapping[str, Any]) -> dict[str, Any]:
    declared = {key: function[key] for key in ("name", "description") if function.get(key) is not None}
    schema = function.get("parameters")
    return declared if schema is None else {**declared, "parametersJsonSchema": schema}


def _own_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in tool.items() if key != "type"}
    if tool.get("type") in (None, "function") or not own:
        # without a type, a tool is taken for one that is answered by the caller and costs nothing
        raise Unwritable(
            "write tools as {type: function, function: {name, parameters}}, "
            "and those of Google with a type of their own, such as {type: googleSearch, googleSearch: {}}"
        )
    return own
