"""Text to values and back: split, template, parse_json, to_json, digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import Field

from app.ports.errors import PermanentError
from app.steps.fields import FilledText, Flag, Int, Text
from app.steps.kind import Templated
from app.steps.structured import unfenced
from app.steps.transforms.function import (
    NoParameters,
    Parameters,
    alone,
    as_text,
    bounded,
    refuse,
    texts_of,
    within_items,
)


class Cut(Parameters):
    """Where and how texts are split."""

    separator: Templated[FilledText] = "\n"
    strip: Templated[Flag] = True
    keep_empty: Templated[Flag] = False
    limit: Templated[Annotated[Int, Field(ge=1)]] | None = None


def split(inputs: Sequence[Any], parameters: Cut) -> list[str]:
    """The parts of every text between `separator`, in order.

    `strip` takes white space off their ends, empty parts go unless `keep_empty`; with `limit` a text gives
    at most that many parts and the last one holds the rest.
    """
    parts: list[str] = []
    for text in texts_of(inputs, function="split"):
        within_items(text.count(parameters.separator) if parameters.limit is None else 0)
        found = text.split(parameters.separator, -1 if parameters.limit is None else parameters.limit - 1)
        parts.extend(part.strip() if parameters.strip else part for part in found)
        within_items(len(parts))
    return parts if parameters.keep_empty else [part for part in parts if part]


class TemplateText(Parameters):
    """A template of the document, which is text by the time the function runs."""

    template: Text


def template(inputs: Sequence[Any], parameters: TemplateText) -> str:
    """The rendered `template`. Inputs are not in its scope: it names `inputs` and `steps` itself."""
    return bounded(parameters.template)


def parse_json(inputs: Sequence[Any], parameters: NoParameters) -> Any:
    """The value that a JSON text holds; of a list of texts, the list of values.

    One Markdown code fence around a text is taken off. Raises `PermanentError("invalid_output")` for text
    that is no JSON: the same text parsed again is the same.
    """
    source = alone(inputs)
    if isinstance(source, list):
        return [_parsed(item) for item in source]
    return _parsed(source)


def _parsed(item: Any) -> Any:
    try:
        return orjson.loads(unfenced(as_text(item, function="parse_json")))
    except orjson.JSONDecodeError as error:
        raise PermanentError(
            "invalid_output",
            f"'parse_json' was given text that is no JSON ({error.msg}, position {error.pos})",
        ) from None


class Layout(Parameters):
    """How JSON is written."""

    indent: Templated[Flag] = False
    sort_keys: Templated[Flag] = False


def to_json(inputs: Sequence[Any], parameters: Layout) -> str:
    """The input as JSON text; several inputs as one list. `indent` puts two spaces a level."""
    try:
        return json.dumps(
            bounded(alone(inputs)),
            ensure_ascii=False,
            allow_nan=False,
            indent=2 if parameters.indent else None,
            sort_keys=parameters.sort_keys,
        )
    except ValueError:
        raise refuse("'to_json' was given a number that JSON cannot hold (infinite, or none)") from None


class Prefix(Parameters):
    """What digests start with."""

    prefix: Templated[Text] = ""


def digest(inputs: Sequence[Any], parameters: Prefix) -> Any:
    """A short name for content: `prefix` and 32 hexadecimal digits (128 bits) of its SHA-256.

    A list gives a list of digests, one an item: ids for `vector_upsert` that stay the same when the same
    document is ingested again. Anything else gives one digest.
    """
    source = alone(inputs)
    if isinstance(source, list):
        return bounded([_digest(item, parameters.prefix) for item in source])
    return _digest(source, parameters.prefix)


def _digest(value: Any, prefix: str) -> str:
    content = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return prefix + hashlib.sha256(content.encode()).hexdigest()[:32]
