"""A wanted shape put into words, for models whose vendor cannot hold an answer to a JSON Schema. Pure.

The words promise nothing: whoever asked checks the answer. What belongs to a vendor that has a mode of
its own for this does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.ports.models import Message
from app.providers.json_format import dump


def with_schema(messages: Sequence[Message], schema: Mapping[str, Any]) -> Sequence[Message]:
    """The same turns, with the schema at the end of the first system turn, or in one of its own before all.

    Turns are not changed in place. Raises `ValueError` for a schema that JSON cannot carry.
    """
    wish = _in_words(schema)
    for place, message in enumerate(messages):
        if message.role == "system":
            told = replace(message, content=_ending_with(message.content, wish))
            return [*messages[:place], told, *messages[place + 1 :]]
    return [Message(role="system", content=wish), *messages]


def _in_words(schema: Mapping[str, Any]) -> str:
    return (
        "Answer with one JSON value that is valid under this JSON Schema, and with nothing else: "
        f"no explanation, no code fence.\n{dump(schema).decode()}"
    )


def _ending_with(content: str | Sequence[Mapping[str, Any]], wish: str) -> str | Sequence[Mapping[str, Any]]:
    if isinstance(content, str):
        return f"{content}\n\n{wish}" if content else wish
    return [*content, {"type": "text", "text": wish}]
