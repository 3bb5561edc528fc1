"""How servers that speak OpenAI's format differ from one another: data, fixed when an instance is made.

A vendor or a setting changes a `Dialect`; the format and the calls only follow it. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.ports.models import Message
from app.providers.openai.errors import classify, read_error
from app.providers.vendor_api import Classify, ReadError

StructuredOutputs = Literal["json_schema", "json_object", "prompt", "none"]
"""Who holds answers to a schema: the server; the server to JSON and the prompt to the schema; the prompt;
nobody but the step that asked."""
EmbeddingFormat = Literal["base64", "float"]
Operation = Literal["/chat/completions", "/embeddings"]


def plain_path(operation: Operation, model: str) -> str:
    """The operation stands right below the base URL."""
    del model
    return operation


def plain_turn(message: Message) -> dict[str, Any]:
    """A turn as documents write it."""
    return {"role": message.role, "content": message.content, **message.extra}


def plain_limit_key(model: str) -> str:
    """What most servers call the bound on an answer."""
    del model
    return "max_tokens"


def limit_key_of(setting: str | None, otherwise: Callable[[str], str]) -> Callable[[str], str]:
    """The key that an operator set, whatever the model; else another rule."""
    return otherwise if setting is None else lambda _: setting


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSizes:
    """Dimensions of a model's vectors: at most `most`; without a `choice`, always as many."""

    most: int
    choice: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One way to speak the format. The defaults are what most servers understand."""

    vendor: str = "the server"
    """What messages to authors call it."""
    needs_key: bool = False
    path: Callable[[Operation, str], str] = plain_path
    """What stands below the base URL for an operation with a model."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the server calls a model, where documents call it otherwise."""
    turn: Callable[[Message], dict[str, Any]] = plain_turn
    limit_key: Callable[[str], str] = plain_limit_key
    """By the model: what bounds its answer."""
    seed_key: str = "seed"
    tool_choices: Mapping[str, str] = field(default_factory=dict)
    """The server's words for a `tool_choice`."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Options that the server is known to refuse, and what to do instead."""
    structured_outputs: StructuredOutputs = "json_schema"
    asks_for_usage: bool = True
    """Whether a stream counts its tokens only if it is told to."""
    max_batch: int = 2048
    """Texts embedded in one call."""
    max_batch_tokens: int | None = None
    """And their tokens together; None where there is no bound on these."""
    embedding_format: EmbeddingFormat = "base64"
    dimensions_key: str = "dimensions"
    takes_input_type: bool = True
    """Whether the server knows `input_type`; its own vendor does not."""
    takes_empty_texts: bool = True
    vector_sizes: Mapping[str, VectorSizes] = field(default_factory=dict)
    """By the model, where they are known."""
    read_error: ReadError = read_error
    classify: Classify = classify
