"""What a step kind is to the runner, and what it may use while it executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Protocol

from app.ports.errors import ErrorClass
from app.ports.http import HttpClient
from app.ports.models import CallContext, ChatModel, Embedder, Reranker, Usage
from app.ports.records import record
from app.ports.vectors import VectorStore


@record
class ModelCall:
    """One call to a model, of an attempt that may make several."""

    provider: str
    asked_model: str
    model: str | None = None
    """The model that answered."""
    usage: Usage | None = None
    """None where there was no answer: what was used then is not known."""
    error_class: ErrorClass | None = None
    """How it failed, where there was no answer."""
    unsent: bool = False
    """Whether it was refused before anything was sent."""


@record
class StepOutcome:
    """What an attempt produced.

    `outputs` maps the kind's own output names to JSON values. `emitted` are facts worth an event of
    their own (an action's notice). `usage` and `model` say what was billed.
    """

    outputs: Mapping[str, Any]
    usage: Usage | None = None
    provider: str | None = None
    model: str | None = None
    asked_model: str | None = None
    """The model that was asked for, where another name may have answered."""
    calls: tuple[ModelCall, ...] = ()
    """Every call of an attempt that made several, or met one without an answer, in order. What is billed
    then is what these say."""
    emitted: tuple[Mapping[str, Any], ...] = ()


class Emit(Protocol):
    """Hands a streamed piece of an answer to live listeners; it is not history."""

    def __call__(self, text: str) -> None: ...


class Services(Protocol):
    """The outside world as steps see it. Unknown names raise `PermanentError("unknown_provider")`."""

    http: HttpClient
    """For URLs of documents, under the egress policy."""
    operator_http: HttpClient
    """For URLs of the operator's configuration alone: no policy, no redirects."""
    action_webhook: str | None
    """Where actions without a built-in meaning are delivered; None: they are logged and recorded."""

    def chat(self, provider: str) -> ChatModel: ...

    def embedder(self, provider: str) -> Embedder: ...

    def reranker(self, provider: str) -> Reranker: ...

    def vectors(self, database: str) -> VectorStore: ...


@record
class StepContext:
    """One attempt's surroundings."""

    call: CallContext
    services: Services
    emit: Emit
    workflow: str
    tenant: str
    labels: Mapping[str, str] = field(default_factory=dict)
    max_tokens: int | None = None
    """Bounds answers for which the document names no bound; set where a run has a budget."""
    max_output_bytes: int | None = None
    """Outputs that are larger as JSON will be refused; for steps that can tell before they hold them."""
    embedding_model: str | None = None
    """What made the vectors that the step is given, where its document tells."""
