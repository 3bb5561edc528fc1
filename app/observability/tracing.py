"""Traces: request → run → step → provider call, exported by OTLP when the operator names an endpoint.

Callers see the small `Tracer` below. Without an endpoint they get `NullTracer`, which costs next to
nothing and loads nothing; the OpenTelemetry one lives in `app.observability.otel` and is imported only
when it is wanted, because its SDK takes a tenth of a second to load.

Spans carry names, ids, counts and error classes. Prompts, answers and error messages stay out of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Protocol

from app.observability.redaction import Redaction
from app.ports.models import Usage

if TYPE_CHECKING:
    from fastapi import FastAPI

Operation = Literal["chat", "embeddings", "rerank"]
VectorOperation = Literal["search", "upsert", "delete", "describe", "check"]


class CallSpan(Protocol):
    """A provider call under way."""

    def answered(
        self, *, model: str | None = None, finish_reason: str | None = None, usage: Usage | None = None
    ) -> None:
        """Note what came back; what is None stays unsaid."""
        ...


class Tracer(Protocol):
    """Opens spans. A span that is left by an exception is marked with its error class."""

    def run(self, run_id: str, workflow: str, *, parent: str | None = None) -> AbstractContextManager[object]:
        """The time a process drives a run. `parent` is a `traceparent`, kept from the request."""
        ...

    def step(self, path: str, step_type: str, attempt: int) -> AbstractContextManager[object]:
        """One attempt."""
        ...

    def call(self, operation: Operation, provider: str, model: str) -> AbstractContextManager[CallSpan]:
        """One call to a vendor, by the OpenTelemetry conventions for generative AI."""
        ...

    def vectors(
        self, operation: VectorOperation, database: str, index: str | None
    ) -> AbstractContextManager[object]:
        """One call to a vector database, by the OpenTelemetry conventions for databases."""
        ...

    def headers(self) -> Mapping[str, str]:
        """Headers that let the callee join the trace; empty without one."""
        ...

    def traceparent(self) -> str | None:
        """The current span in W3C form, to be handed to a later `run`."""
        ...

    def ids(self) -> Mapping[str, str]:
        """`trace_id` and `span_id` of the current span in hex; empty without one."""
        ...

    def instrument(self, app: FastAPI) -> None:
        """Open a span for every request of `app`, except the probes. Call it before the app serves."""
        ...

    def close(self) -> None:
        """Send what waits. It may block for seconds: call it in a thread."""
        ...


NOTHING: Final[Mapping[str, str]] = {}


class _NullSpan:
    """A span, and its own context manager, that notes nothing."""

    __slots__ = ()

    def __enter__(self) -> _NullSpan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def answered(
        self, *, model: str | None = None, finish_reason: str | None = None, usage: Usage | None = None
    ) -> None:
        """Nothing."""


class NullTracer:
    """Traces nothing."""

    __slots__ = ("_span",)

    def __init__(self) -> None:
        self._span = _NullSpan()

    def run(self, run_id: str, workflow: str, *, parent: str | None = None) -> AbstractContextManager[object]:
        """No span."""
        return self._span

    def step(self, path: str, step_type: str, attempt: int) -> AbstractContextManager[object]:
        """No span."""
        return self._span

    def call(self, operation: Operation, provider: str, model: str) -> AbstractContextManager[CallSpan]:
        """No span."""
        return self._span

    def vectors(
        self, operation: VectorOperation, database: str, index: str | None
    ) -> AbstractContextManager[object]:
        """No span."""
        return self._span

    def headers(self) -> Mapping[str, str]:
        """None."""
        return NOTHING

    def traceparent(self) -> str | None:
        """None."""
        return None

    def ids(self) -> Mapping[str, str]:
        """None."""
        return NOTHING

    def instrument(self, app: FastAPI) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def make_tracer(
    *,
    endpoint: str | None,
    redaction: Redaction,
    headers: Mapping[str, str] | None = None,
    service_name: str = "llm-orchestrator",
    service_version: str = "",
) -> Tracer:
    """A tracer that exports to an OTLP/HTTP collector (`http://collector:4318`), or a null one without.

    `headers` go with every export (a vendor's key). The standard `OTEL_*` variables for sampling and
    resource attributes are honoured by the SDK.
    """
    if not endpoint:
        return NullTracer()
    from app.observability.otel import exporting_tracer  # noqa: PLC0415  the SDK is slow to load

    return exporting_tracer(
        endpoint=endpoint,
        redaction=redaction,
        headers=headers or {},
        service_name=service_name,
        service_version=service_version,
    )
