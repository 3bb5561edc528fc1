"""Texts and what is made of values as text: split, replace, template, to_json, digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from app.steps.fields import FilledText, Flag, Int, Text
from app.steps.kind import Templated
from app.steps.transforms.function import (
    MAX_SIZE,
    Parameters,
    alone,
    as_text,
    bounded,
    refuse,
    texts_of,
    too_large,
    within_items,
)
from app.steps.transforms.workbench import is_long


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


class Replacement(Parameters):
    """What is replaced by what."""

    search: Templated[FilledText]
    replacement: Templated[Text] = ""
    limit: Templated[Annotated[Int, Field(ge=1)]] | None = None


def replace(inputs: Sequence[Any], parameters: Replacement) -> Any:
    """A text with `replacement` for every `search`, or for the first `limit` of them; of a list, each text.

    Both are taken literally; patterns are the business of `regex`.
    """
    source = alone(inputs)
    texts = source if isinstance(source, list) else [source]
    left, results = MAX_SIZE, []
    for item in texts:
        text = as_text(item, function="replace")
        found = text.count(parameters.search)
        if parameters.limit is not None:
            found = min(found, parameters.limit)
        left -= len(text) + found * (len(parameters.replacement) - len(parameters.search))
        if left < 0:
            raise too_large()
        results.append(text.replace(parameters.search, parameters.replacement, found))
    return results if isinstance(source, list) else results[0]


class TemplateText(Parameters):
    """A template of the document, which is text by the time the function runs."""

    template: Text


def template(inputs: Sequence[Any], parameters: TemplateText) -> str:
    """The rendered `template`. Inputs are not in its scope: it names `inputs` and `steps` itself."""
    return bounded(parameters.template)


class Layout(Parameters):
    """How JSON is written."""

    indent: Templated[Flag] = False
    sort_keys: Templated[Flag] = False


def to_json(inputs: Sequence[Any], parameters: Layout) -> str:
    """The input as JSON text; several inputs as one list. `indent` puts two spaces a level."""
    value = bounded(alone(inputs))
    encoder = json.JSONEncoder(
        ensure_ascii=False,
        allow_nan=False,
        indent=2 if parameters.indent else None,
        sort_keys=parameters.sort_keys,
    )
    try:
        # Piece by piece is slower, and lets other threads in between.
        return "".join(encoder.iterencode(value)) if is_long(value) else encoder.encode(value)
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
